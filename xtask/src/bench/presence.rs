//! Members of a room change what they track, all at once and again when they are told of it, in a room of 250 and in one
//! of 1,000.
//!
//! Everybody has to be told of every change, and one difference tells of many: so a round should cost in proportion to
//! the members, and far less than a frame for each change and member. The floor is the small room of the same run.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use campfire_tests::Cluster;
use campfire_tests::relay::{Relay, Settings};
use campfire_tests::socket::{Socket, Vsn, default_config};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::step;

const SMALL: usize = 250;
const LARGE: usize = 1_000;

/// Times that every one of the changers changes.
const ROUNDS: usize = 100;

/// Members that change, the same number in both rooms.
const CHANGERS: usize = 20;

struct Cost {
    cpu: Duration,
    differences: f64,
}

async fn track(socket: &mut Socket, room: &str, number: usize) -> Result<()> {
    let call = json!({"type": "presence", "event": "track", "payload": {"number": number}});
    let reply = socket.request(room, "presence", call).await?;
    ensure!(reply.is_ok(), "{reply:?}");
    Ok(())
}

/// Reads until a member has been told of this change of this key.
async fn see(socket: &mut Socket, key: &str, number: usize) -> Result<()> {
    let tells = |payload: &Value| {
        let metas = payload["joins"][key]["metas"].as_array();
        metas.is_some_and(|metas| metas.iter().any(|meta| meta["number"] == number))
    };
    loop {
        let frame = socket.next_frame().await?;
        if frame.event == "presence_diff" && tells(&frame.payload) {
            return Ok(());
        }
    }
}

async fn room(relay: &Relay, api_key: &str, members: usize) -> Result<Cost> {
    let room = format!("hall of {members}");
    let mut sockets = Vec::with_capacity(members);
    for number in 0..members {
        let mut socket = Socket::connect(relay, api_key, Vsn::V2).await?;
        let mut config = default_config();
        config["presence"] = json!({"key": format!("user {number}"), "enabled": true});
        let reply = socket.try_join(&room, None, config).await?;
        ensure!(reply.is_ok(), "{reply:?}");
        sockets.push(socket);
    }
    // Everybody is there, and knows of the last who came.
    for (number, socket) in sockets.iter_mut().enumerate() {
        track(socket, &room, 0).await.with_context(|| format!("member {number}"))?;
    }
    let last = format!("user {}", members - 1);
    try_join_all(sockets.iter_mut().map(|socket| see(socket, &last, 0))).await?;

    let metric = "campfire_presence_differences_total";
    let (cpu, told) = (relay.cpu_time()?, relay.metric(metric).await?.unwrap_or_default());
    // They read all the while: who does not is cut off.
    let mut watching = JoinSet::new();
    for mut socket in sockets.split_off(CHANGERS) {
        watching.spawn(async move { see(&mut socket, "user 0", ROUNDS + 1).await.map(|()| socket) });
    }
    for round in 1..=ROUNDS {
        try_join_all(sockets.iter_mut().map(|socket| track(socket, &room, round))).await?;
        see(&mut sockets[0], "user 0", round).await?;
    }
    // Told of a change that came after all others, everybody was told of all.
    track(&mut sockets[0], &room, ROUNDS + 1).await?;
    while let Some(watched) = watching.join_next().await {
        watched??;
    }
    let differences = relay.metric(metric).await?.unwrap_or_default() - told;
    Ok(Cost { cpu: relay.cpu_time()? - cpu, differences })
}

/// Runs the scenario once.
pub(super) async fn measure(relay: &Path) -> Result<Value> {
    let cluster = Cluster::boot()?;
    let settings = Settings::of(&cluster)?.binary(relay).env("CAMPFIRE_LOG", "warn");
    let settings = settings.env("CAMPFIRE_PUBLIC_CHANNELS", "allow").env("CAMPFIRE_PRESENCE_CALLS", "0");
    let settings = settings.env("CAMPFIRE_CLIENT_MESSAGES_PER_SECOND", "0");
    let relay = settings.env("CAMPFIRE_MAX_SOCKETS", &(SMALL + LARGE + 100).to_string()).start().await?;
    let api_key = &cluster.credentials.api_key;
    step::announce(&format!("{CHANGERS} of {SMALL} members, then of {LARGE}, change {ROUNDS} times each"));
    let small = room(&relay, api_key, SMALL).await?;
    let large = room(&relay, api_key, LARGE).await?;
    let changes = (CHANGERS * ROUNDS + 1) as f64;
    let micros = |cost: &Cost| (cost.cpu.as_secs_f64() * 1e6 / ROUNDS as f64).round();
    let frames = |cost: &Cost| (cost.differences / changes * 1000.0).round() / 1000.0;
    let ratio = large.cpu.as_secs_f64() / small.cpu.as_secs_f64();
    Ok(json!({
        "scenario": "presence",
        "changes": changes,
        "members, small and large": [SMALL, LARGE],
        "differences told": [small.differences, large.differences],
        "frames a change and member": [frames(&small), frames(&large)],
        "floor: cpu of a round, small, µs": micros(&small),
        "cpu of a round, large, µs": micros(&large),
        "ratio for four times the members": (ratio * 100.0).round() / 100.0,
    }))
}
