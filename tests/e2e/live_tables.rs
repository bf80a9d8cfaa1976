//! Tables of the application's own: one call makes their changes events, for those whom the suggested policy admits; and
//! what the application's own roles send.

use anyhow::{Context, Result, ensure};
use campfire_tests::cluster::{Cluster, Options, connect};
use campfire_tests::relay::{Relay, Settings};
use campfire_tests::seed::Seed;
use campfire_tests::socket::{Reply, Vsn, default_config};
use campfire_tests::{AGENT, Socket, token};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::policies::silent;
use crate::scene::{Scene, scene_test};

/// A shop's table as applications have them, of an ordinary owner, with rows from before.
const SHOP: &str = "
    set client_min_messages = warning;
    create role shop_owner;
    grant create, usage on schema public to shop_owner;
    set role shop_owner;
    create type order_state as enum ('new', 'paid');
    create table orders (
      id int, shop_id int, state order_state not null default 'new', total numeric(8, 2), tags text[] not null default '{}',
      customer jsonb not null default '{}', primary key (id, shop_id)
    ) partition by range (shop_id);
    create table orders_low partition of orders for values from (0) to (10);
    create table orders_high partition of orders for values from (10) to (20);
    insert into orders (id, shop_id) select n, 7 from generate_series(1, 2500) as n;
    reset role;";

async fn run(database: &Client, statements: &[&str]) -> Result<()> {
    for statement in statements {
        database.batch_execute(statement).await.with_context(|| (*statement).to_owned())?;
    }
    Ok(())
}

/// As who works in a shop; the policy that is suggested goes by the claim `shop_id`.
fn seller(secret: &str, shop: u32) -> String {
    let claims = json!({"role": "authenticated", "sub": AGENT, "shop_id": shop.to_string(), "exp": token::in_an_hour()});
    token::mint(secret, &claims)
}

async fn try_join(relay: &Relay, cluster: &Cluster, shop: u32, channel: &str) -> Result<(Socket, Reply)> {
    let mut socket = Socket::connect(relay, &cluster.credentials.api_key, Vsn::V2).await?;
    let mut config = default_config();
    config["private"] = true.into();
    let token = seller(&cluster.credentials.jwt_secret, shop);
    let reply = socket.try_join(channel, Some(&token), config).await?;
    Ok((socket, reply))
}

async fn join(relay: &Relay, cluster: &Cluster, shop: u32) -> Result<Socket> {
    let (socket, reply) = try_join(relay, cluster, shop, &format!("shop:{shop}")).await?;
    ensure!(reply.is_ok(), "{reply:?}");
    Ok(socket)
}

/// What `make_live()` and `check()` tell to paste.
async fn paste_policy(database: &Client, channel: &str) -> Result<()> {
    let row = database.query_one("select campfire.suggested_policy($1)", &[&channel]).await?;
    run(database, &[row.get(0)]).await
}

async fn is_next(socket: &mut Socket, name: &str, payload: Value) -> Result<()> {
    let event = socket.next_event().await?;
    ensure!(event.name == name && event.payload == payload, "{name} {payload}, and not {event:?}");
    ensure!(!event.id().is_empty());
    Ok(())
}

#[scene_test]
async fn a_table_made_live_tells_its_changes_and_moves_to_those_who_may_hear(
    scene: &mut Scene,
) -> Result<()> {
    run(
        &scene.database,
        &[
            SHOP,
            "call campfire.make_live('orders', channel => 'shop:{shop_id}', event => 'order',
           columns => array['state', 'total', 'customer->>''plan'' as plan'])",
        ],
    )
    .await?;
    paste_policy(&scene.database, "shop:{shop_id}").await?;
    let mut seven = join(&scene.relay, &scene.cluster, 7).await?;
    let mut twelve = join(&scene.relay, &scene.cluster, 12).await?;
    let (_, other) = try_join(&scene.relay, &scene.cluster, 12, "shop:7").await?;
    ensure!(!other.is_ok(), "{other:?}");

    // None of the rows from before is an event; nor is a change of what is not sent.
    run(
        &scene.database,
        &[
            "set role shop_owner",
            r#"insert into orders values (3000, 7, 'new', 12.5, '{a}', '{"plan": "gold"}')"#,
            "update orders set tags = '{b}' where id < 10",
            "update orders set state = 'paid' where id = 3000",
            "update orders set shop_id = 12 where id = 3000",
            "delete from orders where id = 3000",
            "delete from orders where id = 1",
            "reset role",
        ],
    )
    .await?;
    let order = |shop: u32, state: &str| json!({"id": 3000, "shop_id": shop, "state": state, "total": "12.50", "plan": "gold"});
    is_next(&mut seven, "order:created", order(7, "new")).await?;
    is_next(&mut seven, "order:updated", order(7, "paid")).await?;
    is_next(&mut seven, "order:deleted", json!({"id": 3000, "shop_id": 7})).await?;
    is_next(&mut seven, "order:deleted", json!({"id": 1, "shop_id": 7})).await?;
    is_next(&mut twelve, "order:created", order(12, "paid")).await?;
    is_next(&mut twelve, "order:deleted", json!({"id": 3000, "shop_id": 12})).await?;

    // Another column: 2,499 rows get its value, and nobody hears of that.
    run(
        &scene.database,
        &[
            "call campfire.make_live('orders', channel => 'shop:{shop_id}', event => 'order',
           columns => array['state', 'cardinality(tags) as tags'])",
            "insert into orders values (3001, 7)",
            "update orders set tags = '{a,b}' where id = 3001",
        ],
    )
    .await?;
    let tagged = |tags: u32| json!({"id": 3001, "shop_id": 7, "state": "new", "tags": tags});
    is_next(&mut seven, "order:created", tagged(0)).await?;
    is_next(&mut seven, "order:updated", tagged(2)).await?;
    let filled = "select count(*) from realtime_orders where tags = 1";
    ensure!(scene.database.query_one(filled, &[]).await?.get::<_, i64>(0) == 8, "those with ids from 2 to 9");

    run(
        &scene.database,
        &["select campfire.make_live_undo('orders')", "insert into orders values (3002, 7)"],
    )
    .await?;
    scene.settle().await?;
    silent(&mut seven).await?;
    silent(&mut twelve).await
}

/// Without chat tables, before or after the relay starts: its first publication is the one that `make_live()` makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_chat_tables_is_made_live_while_its_relay_waits() -> Result<()> {
    let cluster = Cluster::boot()?;
    cluster.psql("postgres", "create database shop")?;
    let database = connect(&cluster.superuser_url("shop")).await?;
    run(&database, &["set client_min_messages = warning; create extension campfire", SHOP]).await?;
    let url = cluster.url("relay", &cluster.credentials.relay_password, "shop");
    let mut relay = Settings::of(&cluster)?
        .env("CAMPFIRE_DATABASE_URL", &url)
        .env("CAMPFIRE_SLOT", "campfire_shop")
        .spawn()?;
    relay.expect_log("nothing is published yet");
    relay.wait_for_log("nothing is published yet").await;
    run(&database, &["call campfire.make_live('orders', channel => 'shop:{shop_id}', event => 'order', columns => '{state}')"])
        .await?;
    relay.wait_until_ready().await?;
    paste_policy(&database, "shop:{shop_id}").await?;
    let mut seven = join(&relay, &cluster, 7).await?;
    run(&database, &["update orders set state = 'paid' where id = 1"]).await?;
    is_next(&mut seven, "order:updated", json!({"id": 1, "shop_id": 7, "state": "paid"})).await?;
    let wrong = database.query("select problem from campfire.check()", &[]).await?;
    ensure!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

/// As the comment of `broadcast_changes()` and the documentation have it.
#[scene_test]
async fn a_tables_owner_sends_and_what_cannot_be_sent_breaks_no_write(scene: &mut Scene) -> Result<()> {
    run(&scene.database, &[
        SHOP,
        "select campfire.install_supabase_api()",
        "create role shop_app; grant select, insert, update, delete on orders to shop_app",
        "set role shop_owner",
        "create function order_changed() returns trigger language plpgsql security definer set search_path = '' as $f$
         begin
           perform realtime.broadcast_changes('shop:' || coalesce(new.shop_id, old.shop_id), tg_op, tg_op, tg_table_name,
             tg_table_schema, new, old);
           return null;
         end $f$;
         create trigger order_changed after insert or update or delete on orders for each row execute function order_changed()",
        // Nothing is granted yet: the row is written, and nobody hears of it.
        "set role shop_app",
        "insert into orders values (1, 12)",
        "reset role",
        "grant campfire_sender to shop_owner",
    ])
    .await?;
    paste_policy(&scene.database, "shop:{shop_id}").await?;
    let mut twelve = join(&scene.relay, &scene.cluster, 12).await?;
    run(
        &scene.database,
        &[
            "set role shop_app",
            r#"insert into orders values (2, 12, 'new', 1.50, '{a}', '{"plan": "gold"}')"#,
            "reset role",
            // Whatever is wrong.
            "alter table realtime.messages add constraint never check (topic = '') not valid",
            "set role shop_app",
            "insert into orders values (3, 12)",
            "reset role",
            "alter table realtime.messages drop constraint never",
            "set role shop_app",
            "delete from orders where id = 3 and shop_id = 12",
            "reset role",
        ],
    )
    .await?;
    let event = twelve.next_event().await?;
    ensure!(event.name == "INSERT" && event.payload["record"]["id"] == 2, "{event:?}");
    ensure!(event.payload["record"]["customer"] == json!({"plan": "gold"}), "{event:?}");
    let event = twelve.next_event().await?;
    ensure!(event.name == "DELETE" && event.payload["old_record"]["id"] == 3, "{event:?}");
    let written = "select count(*) from orders where shop_id = 12";
    ensure!(scene.database.query_one(written, &[]).await?.get::<_, i64>(0) == 2);
    Ok(())
}

/// What `make_live()` made comes back from a dump with the rest, is known as its own, and can be taken back there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_made_live_is_live_in_a_restored_database() -> Result<()> {
    let cluster = Cluster::boot_with(Options { seed: Seed::Chat, ..Options::default() })?;
    let make = "call campfire.make_live('orders', channel => 'shop:{shop_id}', event => 'order',
        columns => array['state', 'customer->>''plan'' as plan'], snapshot_by => 'id')";
    let source = cluster.connect().await?;
    run(&source, &[SHOP, make]).await?;
    paste_policy(&source, "shop:{shop_id}").await?;
    let file = crate::life_cycle::dump(&cluster, "plain")?;
    cluster.psql("postgres", "create database restored")?;
    let url = cluster.superuser_url("restored");
    let arguments = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &url, "-f", crate::life_cycle::path(&file)];
    crate::life_cycle::program(&cluster, "psql", &arguments)?;

    let restored = connect(&url).await?;
    let made = "select (select count(*) from campfire.routes where not builtin), (select coalesce(max(id), 0) from campfire.user_routes)";
    let count = async |database: &Client| -> Result<(i64, i64)> {
        let row = database.query_one(made, &[]).await?;
        Ok((row.get(0), row.get(1)))
    };
    run(&restored, &["set client_min_messages = warning", make]).await?;
    ensure!(count(&restored).await? == count(&source).await?, "it is known that all is made");
    let relay = Settings::of(&cluster)?
        .env("CAMPFIRE_DATABASE_URL", &cluster.url("relay", &cluster.credentials.relay_password, "restored"))
        .env("CAMPFIRE_SLOT", "campfire_restored")
        .start()
        .await?;
    let mut seven = join(&relay, &cluster, 7).await?;
    run(&restored, &["update orders set state = 'paid' where id = 1"]).await?;
    is_next(&mut seven, "order:updated", json!({"id": 1, "shop_id": 7, "state": "paid", "plan": null}))
        .await?;
    run(&restored, &["select campfire.make_live_undo('orders')"]).await?;
    let left = restored.query_one("select to_regclass('realtime_orders') is null", &[]).await?;
    ensure!(left.get::<_, bool>(0) && count(&restored).await?.0 == 0);
    let left = "select from pg_trigger where tgrelid = 'orders'::regclass and not tgisinternal";
    ensure!(restored.query_opt(left, &[]).await?.is_none());
    Ok(())
}
