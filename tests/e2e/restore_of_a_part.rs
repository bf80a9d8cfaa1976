//! Some tables come back from a dump, beside everything that is there: writes go on, the check says what is not in
//! order, and one call mends it.

use anyhow::{Result, ensure};
use campfire_tests::Cluster;
use campfire_tests::seed::DATABASE;
use campfire_tests::wait::eventually;

use crate::life_cycle::{path, program};

/// The chat's tables with a conversation, and a projected table of the application with a column that was renamed.
fn lived() -> Result<Cluster> {
    let cluster = Cluster::boot()?;
    for statement in [
        "insert into conversations (organization_id, customer_name) select id, 'Sam' from organizations",
        "create table orders (id int primary key, state text, customer jsonb);
         insert into orders values (1, 'new', '{\"plan\": \"pro\"}')",
        "call campfire.create_projection('orders', array['id', 'state', 'customer ->> ''plan'' as plan'])",
        "alter table orders rename column state to status;
         select campfire.publish('campfire', 'realtime_orders')",
    ] {
        cluster.psql(DATABASE, statement)?;
    }
    Ok(cluster)
}

/// As the application writes. No write may fail.
fn write(cluster: &Cluster, number: u32) -> Result<()> {
    cluster.psql(
        DATABASE,
        &format!(
            "insert into orders values ({number}, 'new', '{{\"plan\": \"plan {number}\"}}');
             update conversations set customer_name = 'Sam {number}';
             insert into messages (organization_id, conversation_id, content, sender_type)
             select organization_id, id, 'hello', 'agent' from conversations"
        ),
    )?;
    Ok(())
}

/// What the check names, a problem and its mend a line.
fn problems(cluster: &Cluster) -> Result<String> {
    cluster.psql(DATABASE, "select problem, fix from campfire.check_publication('campfire') order by problem")
}

/// Both mirrors hold what their tables hold, rows that come now included, and nothing is named any more.
fn ensure_in_order(cluster: &Cluster, number: u32) -> Result<()> {
    ensure!(problems(cluster)?.is_empty(), "{}", problems(cluster)?);
    write(cluster, number)?;
    let differences = cluster.psql(DATABASE, DIFFERENCES)?;
    ensure!(differences.is_empty(), "{differences}");
    let plan = cluster.psql(DATABASE, &format!("select plan from realtime_orders where id = {number}"))?;
    ensure!(plan.trim() == format!("plan {number}"), "{plan}");
    let made = "select definitions from campfire.projections where source = 'orders'::regclass";
    ensure!(cluster.psql(DATABASE, made)?.contains("{id,status,"));
    Ok(())
}

/// Runs the mends that the check offers, each by itself.
fn mend(cluster: &Cluster) -> Result<()> {
    let fixes = "select distinct fix from campfire.check_publication('campfire')";
    for fixes in cluster.psql(DATABASE, fixes)?.lines() {
        for fix in fixes.split_inclusive(';') {
            cluster.psql(DATABASE, fix)?;
        }
    }
    Ok(())
}

fn dump(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let file = cluster.dir.join("part.dump");
    let url = cluster.superuser_url(DATABASE);
    program(cluster, "pg_dump", &[&["-d", &url, "-f", path(&file)], arguments].concat())?;
    Ok(path(&file).to_owned())
}

fn pg_restore(cluster: &Cluster, file: &str, arguments: &[&str]) -> Result<()> {
    let url = cluster.superuser_url(DATABASE);
    program(cluster, "pg_restore", &[&["--exit-on-error", "-d", &url, file], arguments].concat())?;
    Ok(())
}

#[test]
fn a_schema_that_comes_back_is_named_and_mended() -> Result<()> {
    let cluster = lived()?;
    let file = dump(&cluster, &["-F", "custom"])?;
    write(&cluster, 2)?;
    let ways: [&[&str]; 3] = [
        &["--clean", "--if-exists", "-n", "public"],
        &["--clean", "--if-exists", "-n", "public", "--single-transaction"],
        &["--clean", "--if-exists", "-n", "public", "--jobs", "4"],
    ];
    for (number, arguments) in (3..).step_by(10).zip(ways) {
        pg_restore(&cluster, &file, arguments)?;
        write(&cluster, number)?;
        let named = problems(&cluster)?;
        for table in ["orders", "conversations"] {
            ensure!(named.contains(&format!("call campfire.repair_projection('public.{table}')")), "{named}");
        }
        mend(&cluster)?;
        ensure_in_order(&cluster, number + 1)?;
    }
    Ok(())
}

/// The extension does not belong to schema public, and stays.
#[test]
fn a_schema_that_was_dropped_comes_back_and_goes_on() -> Result<()> {
    let cluster = lived()?;
    let file = dump(&cluster, &["-F", "custom"])?;
    cluster.psql(
        DATABASE,
        "set client_min_messages = warning; drop schema public cascade; create schema public",
    )?;
    pg_restore(&cluster, &file, &["-n", "public"])?;
    write(&cluster, 2)?;
    cluster.psql(DATABASE, "select campfire.install()")?;
    ensure!(!problems(&cluster)?.contains("conversations"), "{}", problems(&cluster)?);
    cluster.psql(DATABASE, "call campfire.repair_projection('orders')")?;
    ensure_in_order(&cluster, 3)?;

    // The same where nothing noted what was lost.
    cluster.psql(
        DATABASE,
        "set client_min_messages = warning; alter event trigger campfire_projections_drop disable;
         drop schema public cascade; create schema public; alter event trigger campfire_projections_drop enable",
    )?;
    pg_restore(&cluster, &file, &["-n", "public"])?;
    write(&cluster, 4)?;
    mend(&cluster)?;
    ensure_in_order(&cluster, 5)
}

#[test]
fn a_table_that_comes_back_alone_is_named_and_mended() -> Result<()> {
    let cluster = lived()?;
    let whole = dump(&cluster, &["-F", "custom"])?;
    write(&cluster, 2)?;
    // pg_restore leaves keys and triggers of a single table out; pg_dump does not.
    for (table, number) in [("orders", 3), ("realtime_orders", 13)] {
        pg_restore(&cluster, &whole, &["--clean", "--if-exists", "-t", table])?;
        write(&cluster, number)?;
        ensure!(problems(&cluster)?.contains("call campfire.repair_projection('public.orders')"));
        mend(&cluster)?;
        if table == "realtime_orders" {
            cluster.psql(DATABASE, "select campfire.publish('campfire', 'realtime_orders')")?;
        }
        ensure_in_order(&cluster, number + 1)?;
    }
    for (tables, number) in [("orders", 23), ("realtime_orders", 33), ("*orders", 43), ("conversations", 53)]
    {
        let plain = dump(&cluster, &["--clean", "--if-exists", "-t", tables])?;
        write(&cluster, number)?;
        let url = cluster.superuser_url(DATABASE);
        let keeps_messages = tables == "conversations";
        if keeps_messages {
            // What refers to it is in the way of the drop, and is not in that dump.
            cluster.psql(
                DATABASE,
                "alter table messages drop constraint messages_organization_id_conversation_id_fkey;
                 alter table read_receipts drop constraint read_receipts_organization_id_conversation_id_fkey",
            )?;
        }
        program(&cluster, "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &url, "-f", &plain])?;
        write(&cluster, number + 1)?;
        mend(&cluster)?;
        ensure_in_order(&cluster, number + 2)?;
    }
    Ok(())
}

/// Into a database that has the extension and never had the tables.
#[test]
fn a_schema_that_goes_elsewhere_is_adopted() -> Result<()> {
    let cluster = lived()?;
    let file = dump(&cluster, &["-F", "custom", "--no-publications"])?;
    cluster.psql("postgres", "create database elsewhere")?;
    cluster.psql("elsewhere", "set client_min_messages = warning; create extension campfire")?;
    let url = cluster.superuser_url("elsewhere");
    program(
        &cluster,
        "pg_restore",
        &["--exit-on-error", "--no-publications", "-n", "public", "-d", &url, &file],
    )?;
    cluster.psql("elsewhere", "select campfire.install()")?;
    cluster.psql("elsewhere", "call campfire.repair_projection('orders')")?;
    let counts = "select (select count(*) from campfire.installations), (select count(*) from campfire.projections),
        (select count(*) from campfire.check_publication('campfire')), (select count(*) from campfire.check_publication('campfire_control')),
        (select count(*) from campfire.verify_projection('orders'))";
    let counts = cluster.psql("elsewhere", counts)?;
    ensure!(counts.trim() == "1|2|0|0|0", "{counts}");
    Ok(())
}

/// Differences between both tables of the chat and the application, and their mirrors.
const DIFFERENCES: &str = "select * from campfire.verify_projection('orders')
    union all select * from campfire.verify_projection('conversations')";

/// A database with the same tables, and no rows.
fn empty(cluster: &Cluster, database: &str) -> Result<()> {
    cluster.psql("postgres", &format!("create database {database}"))?;
    for statement in [
        "set client_min_messages = warning; create extension campfire; select campfire.install()",
        "create table orders (id int primary key, status text, customer jsonb)",
        "call campfire.create_projection('orders', array['id', 'status as state', 'customer ->> ''plan'' as plan'])",
    ] {
        cluster.psql(database, statement)?;
    }
    Ok(())
}

/// What docs/extension.md says of rows alone.
#[test]
fn sections_and_rows_alone_restore_as_documented() -> Result<()> {
    let cluster = lived()?;
    let file = dump(&cluster, &["-F", "custom"])?;
    cluster.psql("postgres", "create database sections")?;
    let url = cluster.superuser_url("sections");
    for section in ["pre-data", "data", "post-data"] {
        program(&cluster, "pg_restore", &["--exit-on-error", "--section", section, "-d", &url, &file])?;
    }
    ensure!(cluster.psql("sections", DIFFERENCES)?.is_empty());
    ensure!(
        cluster.psql("sections", "select problem from campfire.check_publication('campfire')")?.is_empty()
    );

    empty(&cluster, "rows")?;
    let url = cluster.superuser_url("rows");
    let load = ["--exit-on-error", "--section=data", "--disable-triggers", "-d", &url, &file];
    program(&cluster, "pg_restore", &[&load[..], &["-n", "public"]].concat())?;
    ensure!(cluster.psql("rows", "select count(*) from realtime_orders")?.trim() == "1");
    ensure!(cluster.psql("rows", DIFFERENCES)?.is_empty());

    empty(&cluster, "one_table")?;
    let url = cluster.superuser_url("one_table");
    let load = ["--exit-on-error", "--section=data", "--disable-triggers", "-d", &url, &file, "-t", "orders"];
    program(&cluster, "pg_restore", &load)?;
    ensure!(cluster.psql("one_table", DIFFERENCES)?.contains("missing"));
    cluster.psql("one_table", "call campfire.repair_projection('orders')")?;
    ensure!(cluster.psql("one_table", DIFFERENCES)?.is_empty());
    Ok(())
}

/// What docs/postgres.md says of a subscription into a projected table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_fills_the_mirror_if_its_trigger_always_fires() -> Result<()> {
    let cluster = lived()?;
    empty(&cluster, "subscriber")?;
    // In one cluster the slot must be there first.
    cluster.psql(DATABASE, "create publication rows_of_orders for table orders")?;
    cluster.psql(DATABASE, "select pg_create_logical_replication_slot('orders', 'pgoutput')")?;
    let url = cluster.superuser_url(DATABASE);
    cluster.psql(
        "subscriber",
        &format!("create subscription orders connection '{url}' publication rows_of_orders with (create_slot = false)"),
    )?;
    let arrives = async |query: &str, expected: &str| {
        eventually(query, async || {
            (cluster.psql("subscriber", query).ok()?.trim() == expected).then_some(())
        })
        .await;
    };
    arrives("select count(*) from orders", "1").await;
    ensure!(cluster.psql("subscriber", DIFFERENCES)?.contains("missing"));

    cluster.psql(
        "subscriber",
        "alter table orders enable always trigger sync_realtime_orders_trigger, enable always trigger sync_realtime_orders_truncate_trigger",
    )?;
    cluster.psql("subscriber", "call campfire.repair_projection('orders')")?;
    write(&cluster, 2)?;
    cluster.psql(DATABASE, "update orders set status = 'sent' where id = 1")?;
    arrives(
        "select string_agg(id || state || plan, ',' order by id) from realtime_orders",
        "1sentpro,2newplan 2",
    )
    .await;
    cluster.psql(DATABASE, "truncate orders")?;
    arrives("select count(*) from realtime_orders", "0").await;
    ensure!(cluster.psql("subscriber", DIFFERENCES)?.is_empty());
    ensure!(
        cluster.psql("subscriber", "select problem from campfire.check_publication('campfire')")?.is_empty()
    );
    cluster.psql("subscriber", "drop subscription orders")?;
    Ok(())
}
