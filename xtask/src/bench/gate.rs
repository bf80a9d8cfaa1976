//! What a gate costs: rows of tables that are alike, each on a private channel of its own with the same thousand members.
//!
//! The floor is the table whose routes have no gate. The gates of two tables let every member see every row, once by
//! claims that all have in common, once by claims that are each member's own, so that the relay writes the same frames as
//! for the floor. The last table's rows are each for one member.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use campfire_tests::Cluster;
use campfire_tests::relay::{Relay, Settings};
use campfire_tests::socket::{Socket, Vsn, default_config};
use campfire_tests::token;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::step;

const MEMBERS: usize = 1_000;

/// Rows of each round.
const ROWS: usize = 200;

/// Tables, with their gates. Nobody is the seller of a row but in the last.
const TABLES: [(&str, Option<&str>); 4] = [
    ("plain", None),
    ("common", Some("claims.role = 'authenticated' and seller is not null")),
    ("different", Some("seller <> claims.sub")),
    ("own", Some("seller = claims.sub or note = 'last'")),
];

async fn make(database: &Client) -> Result<()> {
    database
        .batch_execute(
            "select campfire.install_private_channels();
             create policy shops on campfire.private_channels for select to authenticated
               using (extension = 'broadcast' and campfire.topic() like '%:7')",
        )
        .await?;
    for (table, gate) in TABLES {
        let gate = gate.map_or("null".to_owned(), |gate| format!("'{}'", gate.replace('\'', "''")));
        let make = format!(
            "create table {table} (id int primary key, shop int not null, seller uuid, note text not null);
             alter table {table} replica identity full;
             select campfire.publish('campfire', '{table}');
             select campfire.add_route('{table}', 'INSERT', '{table}:{{shop}}', 'row:created', gate => {gate})"
        );
        database.batch_execute(&make).await?;
    }
    Ok(())
}

/// Reads until the last row of a table. Returns how many came.
async fn read(mut socket: Socket, table: &'static str) -> Result<(Socket, usize)> {
    let channel = format!("{table}:7");
    for count in 1.. {
        let event = socket.next_event().await?;
        ensure!(event.channel == channel, "{event:?}");
        if event.payload["note"] == "last" {
            return Ok((socket, count));
        }
    }
    Ok((socket, 0))
}

struct Round {
    cpu: Duration,
    delivered: usize,
}

/// Rows of one table, each a transaction's worth of a hundred, read by all members.
async fn round(
    relay: &Relay,
    database: &Client,
    sockets: &mut Vec<Socket>,
    table: &'static str,
    sellers: &[Uuid],
    number: usize,
) -> Result<Round> {
    let mut reading = JoinSet::new();
    for socket in sockets.drain(..) {
        reading.spawn(read(socket, table));
    }
    let cpu = relay.cpu_time()?;
    let first = number * (ROWS + 1);
    let insert = format!(
        "insert into {table} select $1::int + n, 7, ($2::uuid[])[1 + ($1 + n) % cardinality($2)], 'row' from generate_series(0, 99) n"
    );
    let insert = database.prepare(&insert).await?;
    for batch in 0..ROWS / 100 {
        let id = i32::try_from(first + batch * 100)?;
        database.execute(&insert, &[&id, &sellers]).await?;
    }
    let last = format!("insert into {table} values ({}, 7, '{}', 'last')", first + ROWS, Uuid::nil());
    database.batch_execute(&last).await?;
    let mut delivered = 0;
    while let Some(read) = reading.join_next().await {
        let (socket, count) = read??;
        sockets.push(socket);
        delivered += count;
    }
    Ok(Round { cpu: relay.cpu_time()? - cpu, delivered })
}

/// Runs the scenario once.
pub(super) async fn measure(relay: &Path) -> Result<Value> {
    let cluster = Cluster::boot()?;
    let database = cluster.connect().await?;
    make(&database).await?;
    let settings = Settings::of(&cluster)?.binary(relay).env("CAMPFIRE_LOG", "warn");
    let relay = settings.env("CAMPFIRE_MAX_SOCKETS", &(MEMBERS + 100).to_string()).start().await?;
    let members: Vec<Uuid> = (0..MEMBERS).map(|_| Uuid::new_v4()).collect();
    let mut sockets = Vec::with_capacity(MEMBERS);
    for _ in &members {
        sockets.push(Socket::connect(&relay, &cluster.credentials.api_key, Vsn::V2).await?);
    }
    let mut config = default_config();
    config["private"] = true.into();
    for (table, _) in TABLES {
        let channel = format!("{table}:7");
        let joins = sockets.iter_mut().zip(&members).map(async |(socket, sub)| {
            let claims = json!({"role": "authenticated", "sub": sub, "exp": token::in_an_hour()});
            let token = token::mint(&cluster.credentials.jwt_secret, &claims);
            let reply = socket.try_join(&channel, Some(&token), config.clone()).await?;
            ensure!(reply.is_ok(), "{reply:?}");
            Ok(())
        });
        try_join_all(joins).await?;
    }

    step::announce(&format!("{ROWS} rows to {MEMBERS} members, by gates of four kinds"));
    let strangers = [Uuid::new_v4()];
    let mut costs = [Duration::ZERO; TABLES.len()];
    let mut delivered = [0; TABLES.len()];
    // The first round warms up; then they take turns, so that a busy machine changes all.
    for number in 0..4 {
        for (index, (table, _)) in TABLES.into_iter().enumerate() {
            let sellers = if table == "own" { members.as_slice() } else { &strangers };
            let round = round(&relay, &database, &mut sockets, table, sellers, number).await?;
            if number > 0 {
                costs[index] += round.cpu;
            }
            delivered[index] = round.delivered;
        }
    }
    let all = MEMBERS * (ROWS + 1);
    ensure!(delivered[..3].iter().all(|count| *count == all), "{delivered:?}");
    ensure!(delivered[3] == ROWS + MEMBERS, "{delivered:?}");
    let nanos = |index: usize| (costs[index].as_secs_f64() * 1e9 / (3 * all) as f64).round();
    let ratio = |index: usize| (costs[index].as_secs_f64() / costs[0].as_secs_f64() * 100.0).round() / 100.0;
    Ok(json!({
        "scenario": "gate",
        "members": MEMBERS,
        "rows": ROWS,
        "floor: cpu without a gate, ns": nanos(0),
        "a gate that all share, ns": nanos(1),
        "a gate that all share, ratio": ratio(1),
        "claims of each member, ns": nanos(2),
        "claims of each member, ratio": ratio(2),
        "each row for one member, ns": nanos(3),
        "each row for one member, ratio": ratio(3),
    }))
}
