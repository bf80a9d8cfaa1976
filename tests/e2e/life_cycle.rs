//! What a database with campfire in it goes through: dumped and restored, its package gone, the extension dropped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use campfire_tests::cluster::{self, Options};
use campfire_tests::relay::Settings;
use campfire_tests::seed::{DATABASE, Seed};
use campfire_tests::socket::Vsn;
use campfire_tests::{Cluster, ORGANIZATION, chat, layout};
use serde_json::json;
use tokio_postgres::error::SqlState;

use crate::scene::{Scene, contents, numbered};

/// What a database holds after some months: rows of every kind and age, a second installation that belongs to a role of
/// the application, tables of the application's own, and what its DBA made and changed.
const LIFE: &str = "
    set client_min_messages = warning;
    create role app nologin;
    grant create on database campfire to app;
    create schema chat authorization app;
    select campfire.install('chat');
    do $$
    declare
      relation regclass;
    begin
      for relation in select oid from pg_class where relnamespace = 'chat'::regnamespace and relkind = 'r' loop
        execute format('alter table %s owner to app', relation);
      end loop;
    end
    $$;
    insert into chat.organizations (id, name) select id, name from organizations;
    insert into chat.conversations (organization_id, customer_name, tags) select id, 'Sam', '{a,b}' from organizations;

    insert into conversations (organization_id, customer_name, customer_email, customer_ip, status, priority, assignee_id,
        assignment_metadata, customer, metadata, ai_metadata, tags, created_at, updated_at)
    select a.organization_id, 'Customer ' || n, case when n % 3 > 0 then n || '@example.com' end, '2001:db8::1'::inet + n,
        (enum_range(null::conversation_status))[1 + n % 4], (enum_range(null::conversation_priority))[1 + n % 4],
        case when n % 2 = 0 then a.user_id end, jsonb_build_object('n', n), '{\"plan\": \"pro\"}', '{}', '{\"a\": [1, null]}',
        array['ü', 'a,\"b\"', n::text], '2020-01-01 00:00+00'::timestamptz + n * interval '1 day',
        '2020-06-01 00:00+00'::timestamptz + n * interval '1 day 1 microsecond'
    from agents as a cross join generate_series(1, 50) as n;
    -- Later than the conversation's, so that a trigger that ran once more would move it.
    alter table messages disable trigger user;
    insert into messages (conversation_id, organization_id, content, sender_type, sender_name, metadata, attachments, created_at)
    select c.id, c.organization_id, repeat('text ' || n, n * 200), (array['visitor', 'agent', 'ai', 'system'])[n],
        c.customer_name, '{\"k\": 1}', '[{\"name\": \"f\"}]', c.updated_at + n * interval '1 hour'
    from conversations as c cross join generate_series(1, 4) as n;
    alter table messages enable trigger user;
    insert into read_receipts (conversation_id, organization_id, reader_type, reader_id, last_read_message_id, read_at)
    select m.conversation_id, m.organization_id, 'visitor', m.conversation_id, m.id, m.created_at
    from messages as m where m.sender_type = 'agent';

    -- The DBA's, on tables that campfire made.
    alter table conversations add column region text collate \"C\" default 'eu';
    create index conversations_by_tag on conversations using gin (tags);
    create index messages_by_sender on messages (lower(sender_name)) where sender_type <> 'system';
    create policy conversations_of_eu on conversations as restrictive for select to authenticated using (region = 'eu');
    create table audit (at timestamptz not null, what text not null);
    create function note_change() returns trigger language plpgsql as
        $$begin insert into public.audit values (now(), tg_op); return null; end$$;
    create trigger audit_conversations after update on conversations for each statement execute function note_change();
    alter table conversations add constraint named check (customer_name <> '') not valid;
    comment on column conversations.region is 'ours';
    grant select on conversations to app;
    revoke delete on agents from service_role;

    -- The application's own, made live.
    create table \"Bestellungen\" (id int primary key, shop int not null, \"Größe\" text, detail jsonb);
    insert into \"Bestellungen\" select n, n % 3, 'größe ' || n, '{}' from generate_series(1, 20) as n;
    select campfire.publish('campfire', '\"Bestellungen\"', '{id,shop}');
    select campfire.add_route('\"Bestellungen\"', 'INSERT', 'shop:{shop}', 'order:created', snapshot_by => 'shop');
    select campfire.enable_route((select id from campfire.routes where event = 'message:deleted' and schema_name = 'public' limit 1));
    update campfire.settings set value = 'app_metadata.org_id' where name = 'claim_organization';
    update campfire.settings set value = '131072' where name = 'broadcast_organization_bytes_max';
    update campfire.settings set value = 'org_id' where name = 'claim_organization';
    select campfire.create_publication('second', '{chat.messages}');

    -- Private channels, with the application's policies, a grant and an index of its own.
    select campfire.install_supabase_api();
    create policy members on realtime.messages for select to authenticated using (realtime.topic() = topic);
    create policy speakers on realtime.messages for insert to authenticated with check (realtime.topic() like 'room:%');
    create index messages_by_event on realtime.messages (event);
    grant select on realtime.messages to app;
    select campfire.install_private_channels();
    create policy shops on campfire.private_channels for select to authenticated using (campfire.topic() = 'shop:' || campfire.claim('shop'));
    select realtime.send('{\"n\": 1}', 'e', 'room:7'), realtime.send_binary('\\xdead', 'e', 'room:7');
    -- Of this cluster: no dump may carry them.
    insert into campfire.slots values ('campfire', '1', 1, '{campfire}', '{1}', '{1}');
    insert into campfire.slot_events values (now(), 'campfire', 'dropped', '0/1', null, 2, 1)";

/// The application's own tables behind projections: partitions of several levels and schemas, made before and after and
/// attached; triggers that are not as they were made; types with a length. One statement each: procedures commit.
const PROJECTED: &[&str] = &[
    "create table measurements (id int, region text, unit char(3), detail jsonb, primary key (id, region)) partition by list (region);
     create table measurements_a partition of measurements for values in ('a');
     create table measurements_b partition of measurements for values in ('b', 'c') partition by list (region);
     create table measurements_b_b partition of measurements_b for values in ('b');
     insert into measurements values (1, 'a', 'kWh', '{}'), (2, 'b', 'm', '{}')",
    "call campfire.create_projection('measurements')",
    "create table chat.measurements_early partition of measurements for values in ('early');
     create table measurements_b_c partition of measurements_b for values in ('c');
     create table measurements_z (id int not null, region text not null, unit char(3), detail jsonb, primary key (id, region));
     alter table measurements attach partition measurements_z for values in ('z');
     insert into measurements values (3, 'c', 'EUR', '{}'), (4, 'z', 'USD', '{}'), (5, 'early', null, '{}');
     alter table measurements disable trigger sync_realtime_measurements_trigger;
     alter table measurements enable always trigger sync_realtime_measurements_trigger;
     alter table measurements enable always trigger sync_realtime_measurements_truncate_trigger;
     call campfire.alter_projection('measurements', dropped_partitions => 'delete');
     select campfire.publish('campfire', 'realtime_measurements');
     select campfire.add_route('realtime_measurements', 'INSERT', 'region:{region}', 'measured')",
    "create table sales (id int primary key, shop int, note text, tags text[]); insert into sales values (1, 7, 'n', '{a}')",
    "call campfire.make_live('sales', channel => 'shop:{shop}', event => 'sale', snapshot_by => 'id')",
    "create domain currency as char(3);
     create table prices (currency currency primary key, amount numeric(8, 2), s text, customer jsonb);
     insert into prices values ('EUR', 1.5, 'note', '{\"plan\": \"pro\"}')",
    "call campfire.create_projection('prices', array['currency', 'amount', 's', 'customer ->> ''plan'' as plan'])",
];

/// Everything of a database that a dump must carry, one fact a line, without oids.
const FACTS: &str = r#"
    set search_path = pg_catalog;
    set timezone = 'UTC';
    with relation as (
      select c.* from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where n.nspname in ('public', 'chat', 'realtime')
    ), fact (line) as (
      select format('relation %s %s %s %s %s %s %s', oid::regclass, relkind, relowner::regrole, relrowsecurity,
        relforcerowsecurity, relreplident, obj_description(oid, 'pg_class')) from relation
      union all
      select format('privilege %s %s %s %s', r.oid::regclass, a.grantor::regrole, a.grantee::regrole, a.privilege_type)
      from relation as r cross join lateral aclexplode(coalesce(r.relacl, acldefault('r', r.relowner))) as a
      union all
      select format('column %s.%I %s %s %s %s %s', r.oid::regclass, a.attname, format_type(a.atttypid, a.atttypmod),
        a.attnotnull, a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid), col_description(r.oid, a.attnum))
      from relation as r join pg_attribute as a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
      left join pg_attrdef as d on d.adrelid = r.oid and d.adnum = a.attnum where r.relkind = 'r'
      union all
      select format('index %s %s %s', pg_get_indexdef(i.indexrelid), i.indisreplident, i.indisvalid)
      from pg_index as i join relation as r on r.oid = i.indrelid
      union all
      select format('constraint %s %I %s', r.oid::regclass, k.conname, pg_get_constraintdef(k.oid))
      from relation as r join pg_constraint as k on k.conrelid = r.oid
      union all
      select format('trigger %s %s', t.tgenabled, pg_get_triggerdef(t.oid))
      from relation as r join pg_trigger as t on t.tgrelid = r.oid where not t.tgisinternal
      union all
      select format('partition %s of %s %s', r.oid::regclass, i.inhparent::regclass, pg_get_expr(r.relpartbound, r.oid))
      from relation as r join pg_inherits as i on i.inhrelid = r.oid
      union all
      select format('function %s %s %s %s', pg_get_functiondef(p.oid), p.proowner::regrole,
        -- A dump leaves out what is granted by default.
        (select string_agg(a::text, ' ' order by a::text) from unnest(coalesce(p.proacl, acldefault('f', p.proowner))) as a),
        obj_description(p.oid, 'pg_proc'))
      from pg_proc as p where p.pronamespace = 'realtime'::regnamespace
      union all
      select format('policy %s', p) from pg_policies as p where p.schemaname in ('public', 'chat', 'realtime') or p.tablename = 'private_channels'
      union all
      select format('type %s %s', t.oid::regtype, string_agg(e.enumlabel, ',' order by e.enumsortorder))
      from pg_type as t join pg_enum as e on e.enumtypid = t.oid group by t.oid
      union all
      select format('schema %s %s %s', n.nspname, n.nspowner::regrole, n.nspacl) from pg_namespace as n
      where n.nspname in ('chat', 'campfire', 'realtime')
      union all
      select format('publication %s %s %s %s %s %s %s', pubname, puballtables, pubinsert, pubupdate, pubdelete,
        pubtruncate, pubviaroot) from pg_publication
      union all
      select format('published %s', p) from pg_publication_tables as p
      union all
      select format('problem of %s: %s', m.name, c.problem)
      from campfire.managed_publications as m cross join lateral campfire.check_publication(m.name) as c
      union all
      select format('extension %s %s', extname, extversion) from pg_extension
      union all
      select format('event trigger %s %s', evtname, evtenabled) from pg_event_trigger
      union all
      select format('managed %s', m) from campfire.managed_publications as m
      union all
      select format('installation %s', i) from campfire.installations as i
      union all
      select format('projection %s', p) from campfire.projections as p
      union all
      select format('route %s', r) from campfire.routes as r
      union all
      select format('live %s', l) from campfire.live_tables as l
      union all
      select format('setting %s %s', name, value) from campfire.settings
      union all
      select format('next route %s', last_value) from campfire.user_routes_id_seq
    )
    select line from fact order by line collate "C""#;

/// What a dump must carry, but for rows.
pub(crate) fn objects(cluster: &Cluster, database: &str) -> Result<Vec<String>> {
    Ok(cluster.psql(database, FACTS)?.lines().map(str::to_owned).collect())
}

/// The same with all rows of all tables.
pub(crate) fn facts(cluster: &Cluster, database: &str) -> Result<Vec<String>> {
    let mut lines = objects(cluster, database)?;
    let tables = "select format('%I.%I', schemaname, tablename) from pg_tables
        where schemaname in ('public', 'chat', 'realtime') order by 1";
    for table in cluster.psql(database, tables)?.lines() {
        let rows = format!(
            "set timezone = 'UTC'; select '{table} ' || t::text from {table} as t order by t::text collate \"C\""
        );
        lines.extend(cluster.psql(database, &rows)?.lines().map(str::to_owned));
    }
    Ok(lines)
}

pub(crate) fn ensure_equal(source: &[String], restored: &[String]) -> Result<()> {
    let without = |lines: &[String], others: &[String]| {
        lines.iter().filter(|line| !others.contains(line)).take(20).cloned().collect::<Vec<_>>().join("\n  ")
    };
    ensure!(
        source == restored,
        "only in the source:\n  {}\nonly restored:\n  {}",
        without(source, restored),
        without(restored, source)
    );
    Ok(())
}

/// What stays behind.
fn ensure_nothing_of_the_cluster(cluster: &Cluster, source: &str, restored: &str) -> Result<()> {
    let left = "select (select count(*) from campfire.slots) + (select count(*) from campfire.slot_events)";
    ensure!(cluster.psql(restored, left)?.trim() == "0", "slots are in the dump");
    let keys = "select key from campfire.broadcast_keys";
    ensure!(cluster.psql(restored, keys)?.lines().count() == 1);
    ensure!(!cluster.psql(restored, keys)?.contains(source), "a key is in the dump");
    Ok(())
}

/// A program of the server's package, as whoever runs the tests.
pub(crate) fn program(cluster: &Cluster, name: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(cluster.server.program(name));
    let output = command.args(arguments).output().with_context(|| format!("cannot run {name}"))?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{name} {arguments:?}:\n{errors}");
    Ok(errors)
}

pub(crate) fn path(file: &Path) -> &str {
    file.to_str().expect("a temporary file's name is text")
}

/// A dump of the chat database, in a file of the cluster's directory.
pub(crate) fn dump(cluster: &Cluster, format: &str) -> Result<PathBuf> {
    let file = cluster.dir.join("campfire.dump");
    let url = cluster.superuser_url(DATABASE);
    let complaints = program(cluster, "pg_dump", &["-d", &url, "-F", format, "-f", path(&file)])?;
    ensure!(complaints.is_empty(), "{complaints}");
    Ok(file)
}

/// Gives the chat database a life.
pub(crate) fn live(cluster: &Cluster) -> Result<()> {
    cluster.psql(DATABASE, LIFE)?;
    for statement in PROJECTED {
        cluster.psql(DATABASE, statement)?;
    }
    Ok(())
}

/// A cluster with a life behind it, and its facts.
fn lived() -> Result<(Cluster, Vec<String>)> {
    let cluster = Cluster::boot()?;
    live(&cluster)?;
    let facts = facts(&cluster, DATABASE)?;
    for word in [
        "policy",
        "route",
        "published",
        "public.messages",
        "chat.realtime_conversations",
        "next route 8",
        "trigger O CREATE TRIGGER sync_realtime_measurements_truncate_trigger AFTER TRUNCATE ON chat.measurements_early",
        "partition realtime.messages_",
        "function CREATE OR REPLACE FUNCTION realtime.send(",
    ] {
        ensure!(facts.iter().any(|line| line.contains(word)), "no {word} in the source");
    }
    ensure!(!facts.iter().any(|line| line.starts_with("problem")), "{facts:?}");
    Ok((cluster, facts))
}

/// A relay on the restored database: attaches, and delivers what is written there.
pub(crate) async fn ensure_live(cluster: Cluster, database: &str) -> Result<()> {
    let url = cluster.relay_url().replace(&format!("/{DATABASE}"), &format!("/{database}"));
    let settings =
        Settings::of(&cluster)?.env("CAMPFIRE_DATABASE_URL", &url).env("CAMPFIRE_SLOT", "campfire_restored");
    let relay = settings.start().await?;
    let session = cluster::connect(&cluster.superuser_url(database)).await?;
    let scene = Scene { relay, database: session, cluster };
    let conversation = scene.conversation().await?;
    let channel = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&channel]).await?;
    scene.write_messages(conversation, &numbered("after the restore", 2)).await?;
    let events = dashboard.next_events(2).await?;
    ensure!(contents(&events) == numbered("after the restore", 2), "{events:?}");

    // Schema realtime is as it was, with the messages from before.
    let replay = json!({"private": true, "broadcast": {"replay": {"since": 1}}});
    let reply = dashboard.try_join("room:7", Some(&scene.agent()), replay).await?;
    ensure!(reply.is_ok() && reply.response["replay"]["count"] == 2, "{reply:?}");
    dashboard.next_events(2).await?;
    scene.database.batch_execute("select realtime.send('{\"n\": 2}', 'e', 'room:7')").await?;
    ensure!(dashboard.expect("room:7", "e").await?.payload["n"] == 2);
    scene.database.batch_execute("select campfire.install_supabase_api(), realtime.maintain()").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_dump_restores_into_another_database() -> Result<()> {
    let (cluster, source) = lived()?;
    let file = dump(&cluster, "plain")?;
    cluster.psql("postgres", "create database restored")?;
    let url = cluster.superuser_url("restored");
    let complaints =
        program(&cluster, "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &url, "-f", path(&file)])?;
    ensure!(!complaints.contains("WARNING"), "{complaints}");
    ensure_equal(&source, &facts(&cluster, "restored")?)?;
    let key = cluster.psql(DATABASE, "select key from campfire.broadcast_keys")?;
    ensure_nothing_of_the_cluster(&cluster, key.trim(), "restored")?;
    ensure_live(cluster, "restored").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_dump_restores_into_another_cluster() -> Result<()> {
    let (cluster, source) = lived()?;
    let file = dump(&cluster, "custom")?;
    let roles = cluster.dir.join("roles.sql");
    program(
        &cluster,
        "pg_dumpall",
        &["--globals-only", "-d", &cluster.superuser_url("postgres"), "-f", path(&roles)],
    )?;
    // Roles are made as they were, but for the one we log in as, which is there.
    let script: String = std::fs::read_to_string(&roles)?
        .lines()
        .filter(|line| !line.contains(" ROLE postgres"))
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(&roles, script)?;

    let mut target = Cluster::boot_with(Options { seed: Seed::Bare, ..Options::default() })?;
    let url = target.superuser_url("postgres");
    program(&target, "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &url, "-f", path(&roles)])?;
    target.psql("postgres", "create database restored")?;
    let url = target.superuser_url("restored");
    let complaints = program(&target, "pg_restore", &["--exit-on-error", "-d", &url, path(&file)])?;
    ensure!(complaints.is_empty(), "{complaints}");
    ensure_equal(&source, &facts(&target, "restored")?)?;
    let key = cluster.psql(DATABASE, "select key from campfire.broadcast_keys")?;
    ensure_nothing_of_the_cluster(&target, key.trim(), "restored")?;
    target.credentials.relay_password = cluster.credentials.relay_password.clone();
    ensure_live(target, "restored").await
}

/// Tables, keys and publications come in any order then; the guard may warn, and must not refuse.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parallel_restore_gives_the_same() -> Result<()> {
    let (cluster, source) = lived()?;
    let file = dump(&cluster, "custom")?;
    for round in 0..3 {
        let database = format!("restored_{round}");
        cluster.psql("postgres", &format!("create database {database}"))?;
        let url = cluster.superuser_url(&database);
        program(&cluster, "pg_restore", &["--exit-on-error", "--jobs", "4", "-d", &url, path(&file)])?;
        ensure_equal(&source, &facts(&cluster, &database)?)?;
    }
    Ok(())
}

/// All or nothing, by both programs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_in_one_transaction_gives_the_same() -> Result<()> {
    let (cluster, source) = lived()?;
    let plain = dump(&cluster, "plain")?;
    cluster.psql("postgres", "create database restored_plain")?;
    let url = cluster.superuser_url("restored_plain");
    program(
        &cluster,
        "psql",
        &["-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-d", &url, "-f", path(&plain)],
    )?;
    ensure_equal(&source, &facts(&cluster, "restored_plain")?)?;

    let custom = dump(&cluster, "custom")?;
    cluster.psql("postgres", "create database restored_custom")?;
    let url = cluster.superuser_url("restored_custom");
    program(&cluster, "pg_restore", &["--exit-on-error", "--single-transaction", "-d", &url, path(&custom)])?;
    ensure_equal(&source, &facts(&cluster, "restored_custom")?)
}

/// Over what is there, as it was and changed since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_with_clean_gives_the_same() -> Result<()> {
    let (cluster, source) = lived()?;
    let file = dump(&cluster, "custom")?;
    cluster.psql(
        DATABASE,
        "insert into measurements values (6, 'b', 'new', '{}'); delete from prices; drop table measurements_b_b;
         delete from messages; select campfire.drop_route(1)",
    )?;
    let url = cluster.superuser_url(DATABASE);
    for _ in 0..2 {
        let output = Command::new(cluster.server.program("pg_restore"))
            .args(["--clean", "--if-exists", "-d", &url, path(&file)])
            .output()?;
        // Postgres itself cannot drop the key of a partition before its table, and goes on.
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let other = errors
            .lines()
            .find(|line| line.contains("error:") && !line.contains("cannot drop inherited constraint"));
        ensure!(other.is_none(), "{errors}");
        ensure_equal(&source, &facts(&cluster, DATABASE)?)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schema_realtime_survives_a_restore_that_leaves_things_out() -> Result<()> {
    let (cluster, _) = lived()?;
    let file = dump(&cluster, "c")?;
    let check = "select problem || ' -> ' || fix from campfire.check_supabase_api()";
    // What is left out, and whether the schema has to be mended then.
    let cases: [(&[&str], bool); 3] = [
        (&["--no-comments"], false),
        (&["--no-comments", "--no-owner"], false),
        (&["--no-comments", "--no-owner", "--no-acl"], true),
    ];
    for (number, (options, is_damaged)) in cases.into_iter().enumerate() {
        let database = format!("restored_{number}");
        cluster.psql("postgres", &format!("create database {database}"))?;
        let url = cluster.superuser_url(&database);
        program(&cluster, "pg_restore", &[options, &["--exit-on-error", "-d", &url, path(&file)]].concat())?;
        ensure!(cluster.psql(&database, "select campfire.has_supabase_api()")?.trim() == "t", "{options:?}");
        let found = cluster.psql(&database, check)?;
        ensure!(found.trim().is_empty() != is_damaged, "{options:?}: {found}");
        cluster.psql(&database, "select campfire.install_supabase_api()")?;
        let found = cluster.psql(&database, check)?;
        ensure!(found.trim().is_empty(), "{options:?}: {found}");
        cluster
            .psql(&database, "set role campfire_relay; select campfire.realtime_probe('r', '{broadcast}')")?;
    }
    Ok(())
}

/// The extension goes, and the tables are kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_leaves_every_row_and_nothing_else() -> Result<()> {
    let cluster = Cluster::boot()?;
    cluster.psql(DATABASE, LIFE)?;
    let database = cluster.connect().await?;
    database.batch_execute("select pg_create_logical_replication_slot('campfire', 'pgoutput')").await?;
    let count = async || {
        let query = "select (select count(*) from conversations), (select count(*) from messages),
            (select count(*) from realtime_conversations), (select count(*) from chat.conversations)";
        let row = database.query_one(query, &[]).await?;
        anyhow::Ok([0, 1, 2, 3].map(|column| row.get::<_, i64>(column)))
    };
    let before = count().await?;
    ensure!(before.iter().all(|count| *count > 0), "{before:?}");
    for statement in [
        "set client_min_messages = warning",
        "drop publication campfire, campfire_control",
        "drop publication second, second_control",
        "drop extension campfire cascade",
        "select pg_drop_replication_slot('campfire')",
    ] {
        database.batch_execute(statement).await.context(statement)?;
    }
    ensure!(count().await? == before);
    database.batch_execute(WRITE).await?;
    let left = "select (select count(*) from pg_namespace where nspname = 'campfire')
        + (select count(*) from pg_publication) + (select count(*) from pg_replication_slots)
        + (select count(*) from pg_event_trigger) + (select count(*) from pg_proc where probin like '%campfire%')";
    ensure!(database.query_one(left, &[]).await?.get::<_, i64>(0) == 0);
    Ok(())
}

/// The library cannot be found, as after the removal of the package: the servers of other tests keep theirs.
fn without_library(cluster: &mut Cluster) -> Result<()> {
    cluster.set("dynamic_library_path", "/nonexistent");
    cluster.restart("fast").map(drop)
}

const WRITE: &str = "insert into conversations (organization_id, customer_name)
    select id, 'Nina' from organizations returning id";

/// What docs/extension.md says of a package that was removed too early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_package_gone_writes_fail_until_one_of_the_ways_out_is_taken() -> Result<()> {
    let mut cluster = Cluster::boot()?;
    cluster.psql(DATABASE, WRITE)?;
    without_library(&mut cluster)?;
    let database = cluster.connect().await?;
    let error = database.batch_execute(WRITE).await.expect_err("nobody keeps the mirror");
    ensure!(error.code() == Some(&SqlState::UNDEFINED_FILE), "{error:?}");
    // Reading as the owner of the tables, and tables without triggers, do without the library.
    ensure!(database.query("select from conversations", &[]).await?.len() == 1);
    database.batch_execute("insert into organizations (name) values ('Other')").await?;
    // Visitors and agents do not: their policies ask it for claims.
    let error = database.batch_execute("set role authenticated; select from conversations").await;
    ensure!(error.is_err_and(|error| error.code() == Some(&SqlState::UNDEFINED_FILE)));
    database.batch_execute("reset role").await?;

    // One way: write on without the mirror, and mend it when the package is back.
    let triggers = |what: &str| {
        format!("alter table conversations {what} trigger user; alter table messages {what} trigger user")
    };
    database.batch_execute(&triggers("disable")).await?;
    database.batch_execute(WRITE).await?;
    drop(database);
    cluster.set("dynamic_library_path", "$libdir");
    cluster.restart("fast")?;
    let database = cluster.connect().await?;
    database.batch_execute(&triggers("enable")).await?;
    database.batch_execute(WRITE).await?;
    let mirrored = "select count(*) from conversations as c join realtime_conversations as r using (id)";
    let count = async |query: &str| anyhow::Ok(database.query_one(query, &[]).await?.get::<_, i64>(0));
    // Two organizations: three rows were mirrored, the two from in between were not.
    ensure!(count("select count(*) from conversations").await? == 5 && count(mirrored).await? == 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_package_gone_the_extension_can_still_be_dropped_and_no_row_goes() -> Result<()> {
    let mut cluster = Cluster::boot()?;
    cluster.psql(DATABASE, WRITE)?;
    without_library(&mut cluster)?;
    let database = cluster.connect().await?;
    let error = database.batch_execute("drop extension campfire").await.expect_err("tables use it");
    ensure!(error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST), "{error:?}");
    database.batch_execute("set client_min_messages = warning; drop extension campfire cascade").await?;
    database.batch_execute(WRITE).await?;
    ensure!(database.query("select from conversations", &[]).await?.len() == 2);
    ensure!(database.query("select from realtime_conversations", &[]).await?.len() == 1);
    let closed = "set role authenticated; select from conversations";
    ensure!(
        database
            .simple_query(closed)
            .await?
            .iter()
            .all(|message| { !matches!(message, tokio_postgres::SimpleQueryMessage::Row(_)) })
    );
    Ok(())
}

/// A server that preloads the library does not start without it; its log says which line to take out.
#[test]
fn with_the_package_gone_a_server_that_preloads_it_does_not_start() -> Result<()> {
    let preload = ("shared_preload_libraries".into(), "campfire".into());
    let mut cluster = Cluster::boot_with(Options { settings: vec![preload], ..Options::default() })?;
    cluster.stop("fast")?;
    cluster.set("dynamic_library_path", "/nonexistent");
    let error = cluster.start().expect_err("it is told to load what is not there");
    ensure!(format!("{error:#}").contains("could not access file \"campfire\""), "{error:#}");
    cluster.set("shared_preload_libraries", "");
    cluster.start()?;
    Ok(())
}

/// What a database and its cluster hold beside what initdb made.
const BELONGINGS: &str = "
    select format('schema %s', nspname) from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'
    union all select format('%s %s', c.relkind, c.oid::regclass) from pg_class as c where c.oid >= 16384 and c.relnamespace <> 'pg_toast'::regnamespace
    union all select format('function %s', oid::regprocedure) from pg_proc where oid >= 16384
    union all select format('type %s', oid::regtype) from pg_type where oid >= 16384
    union all select format('trigger %s', tgname) from pg_trigger where oid >= 16384
    union all select format('policy %s', polname) from pg_policy
    union all select format('event trigger %s', evtname) from pg_event_trigger
    union all select format('publication %s', pubname) from pg_publication
    union all select format('extension %s', extname) from pg_extension
    union all select format('slot %s', slot_name) from pg_replication_slots
    union all select format('role %s', rolname) from pg_roles where oid >= 16384
    union all select format('setting %s', setconfig) from pg_db_role_setting
    union all select format('privileges of %s', n.nspname || n.nspacl::text) from pg_namespace as n where n.nspname = 'public'
    order by 1";

/// Everything that campfire can make, beside a table of the application's own.
const EVERYTHING: &str = "
    set client_min_messages = warning;
    select campfire.install(), campfire.install('chat');
    select campfire.install_supabase_api();
    create policy members on realtime.messages for select to authenticated using (realtime.topic() = topic);
    select realtime.send('{}', 'e', 'room:7');
    insert into organizations (name) values ('Example');
    insert into conversations (organization_id) select id from organizations;
    select campfire.create_publication('second', '{chat.messages}');
    select campfire.publish('campfire', 'realtime_orders');
    select campfire.add_route('realtime_orders', 'INSERT', 'shop:{shop}', 'order:created');
    update campfire.settings set value = '131072' where name = 'broadcast_organization_bytes_max';
    select campfire.broadcast('news', 'e', '{}')";

/// The SQL blocks of a section of the documentation.
fn documented(section: &str) -> Result<Vec<String>> {
    let path = layout::repository().join("docs/extension.md");
    let text = std::fs::read_to_string(path)?;
    let text = text.split(&format!("\n## {section}\n")).nth(1).context("no such section")?;
    let text = text.split("\n## ").next().unwrap_or_default().split("\n### ").next().unwrap_or_default();
    Ok(text
        .split("```sql\n")
        .skip(1)
        .filter_map(|block| Some(block.split("```").next()?.to_owned()))
        .collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_removal_that_is_documented_leaves_nothing_of_campfire() -> Result<()> {
    let cluster = Cluster::boot_with(Options { seed: Seed::Bare, ..Options::default() })?;
    let own = "create schema chat; create table orders (id int primary key, shop int, detail jsonb); insert into orders values (1, 7, '{}')";
    cluster.psql("postgres", "create database app")?;
    cluster.psql("app", own)?;
    let before = cluster.psql("app", BELONGINGS)?;
    cluster.psql("app", "create extension campfire")?;
    cluster.psql("app", "call campfire.create_projection('orders', '{id,shop}')")?;
    for slot in ["campfire", "campfire_two"] {
        cluster.psql("app", &format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')"))?;
    }
    cluster.psql("app", EVERYTHING)?;
    ensure!(cluster.psql("app", BELONGINGS)?.lines().count() > before.lines().count() + 100);
    let blocks = documented("Removal")?;
    ensure!(blocks.len() == 2, "{} blocks", blocks.len());
    // Step by step, as it is pasted.
    for step in blocks.iter().flat_map(|block| block.split("\n\n")) {
        cluster.psql("app", step)?;
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    ensure_equal(&lines(&before), &lines(&cluster.psql("app", BELONGINGS)?))?;
    ensure!(cluster.psql("app", "select count(*) from orders")?.trim() == "1");
    // All of it may come back.
    cluster.psql("app", "create extension campfire; select campfire.install()")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chat_tables_can_be_kept_when_all_else_is_removed() -> Result<()> {
    let cluster = Cluster::boot_with(Options { seed: Seed::Bare, ..Options::default() })?;
    cluster.psql("postgres", "create database app")?;
    cluster.psql("app", "create extension campfire; select campfire.install()")?;
    cluster.psql("app", WRITE_ONE)?;
    let block = documented("Removal")?.remove(0);
    let (head, rest) = block.split_once("-- 5.").context("step 5")?;
    let (_, tail) = rest.split_once("-- 6.").context("step 6")?;
    let tail = tail.replace("drop extension campfire;", "drop extension campfire cascade;");
    cluster.psql("app", &format!("{head}-- 6.{tail}"))?;
    cluster.psql("app", WRITE_ONE)?;
    let rows = "select count(*) from conversations as c join messages as m on m.conversation_id = c.id";
    ensure!(cluster.psql("app", rows)?.trim() == "2");
    let left = "select count(*) from pg_namespace where nspname in ('campfire', 'realtime')";
    ensure!(cluster.psql("app", left)?.trim() == "0");
    Ok(())
}

/// A conversation with a message.
const WRITE_ONE: &str = "
    with founded as (insert into organizations (name) values ('Example') returning id),
      opened as (insert into conversations (organization_id) select id from founded returning id, organization_id)
    insert into messages (conversation_id, organization_id, content, sender_type)
    select id, organization_id, 'Hello?', 'visitor' from opened";
