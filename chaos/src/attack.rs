//! What a customer who means harm can do with his own rights: an API key, tokens of his own organization, and as many
//! connections as he likes. None of it may cost others more than a little time, nor the relay more than a little memory.

mod assault;
mod means;

use std::time::Duration;

use anyhow::Result;
use campfire_tests::{chat, cluster, http};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

pub use self::assault::{Figures, carry_out};
pub use self::means::Ground;
use self::means::{ATTACKER, drain, filler, join_config, push, push_text};

/// How long a connection that waits for nothing is kept.
const HOLD: Duration = Duration::from_secs(6);

/// A kind of attack. Each is one connection's doing, by many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    Silent,
    Deaf,
    Unfinished,
    PresenceFlood,
    PresenceKeys,
    EventNames,
    BigFrames,
    Snapshots,
    Resumes,
    OverRate,
    Policies,
    SqlMessages,
}

impl Attack {
    pub const ALL: [Self; 12] = [
        Self::Silent,
        Self::Deaf,
        Self::Unfinished,
        Self::PresenceFlood,
        Self::PresenceKeys,
        Self::EventNames,
        Self::BigFrames,
        Self::Snapshots,
        Self::Resumes,
        Self::OverRate,
        Self::Policies,
        Self::SqlMessages,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Deaf => "deaf",
            Self::Unfinished => "unfinished",
            Self::PresenceFlood => "presence-flood",
            Self::PresenceKeys => "presence-keys",
            Self::EventNames => "event-names",
            Self::BigFrames => "big-frames",
            Self::Snapshots => "snapshots",
            Self::Resumes => "resumes",
            Self::OverRate => "over-rate",
            Self::Policies => "policies",
            Self::SqlMessages => "sql-messages",
        }
    }

    /// What it does, for people.
    pub fn description(self) -> &'static str {
        match self {
            Self::Silent => {
                "connections that say nothing, a header byte by byte, or a request without its body"
            }
            Self::Deaf => "sockets that read nothing on a channel with 60 kB broadcasts",
            Self::Unfinished => "WebSocket messages of 4.8 MB that never end",
            Self::PresenceFlood => "tracks of 60 kB, as many as are allowed, in one room",
            Self::PresenceKeys => "joins whose presence key has 1 MB, with the API key alone",
            Self::EventNames => "broadcasts whose event name has 1.5 MB, over sockets and HTTP",
            Self::BigFrames => "broadcasts of 2.9 MB to sockets that read nothing",
            Self::Snapshots => "joins with a snapshot of 100 rows, over and over",
            Self::Resumes => "joins with a replay of 1,000 events that is not read, over and over",
            Self::OverRate => "heartbeats, joins, tokens and leaves as fast as they can be sent",
            Self::Policies => "private channels by random names, with headers of 40 kB",
            Self::SqlMessages => {
                "logical messages under our prefix, by any role: thousands unsigned, one of 20 MB"
            }
        }
    }

    /// How many connections do it at once.
    fn workers(self) -> usize {
        match self {
            Self::Silent => 600,
            Self::Deaf | Self::Resumes => 150,
            Self::BigFrames => 120,
            Self::Unfinished => 60,
            Self::PresenceFlood => 30,
            Self::PresenceKeys => 20,
            Self::EventNames | Self::Snapshots | Self::OverRate | Self::Policies => 10,
            Self::SqlMessages => 1,
        }
    }

    /// Whether the organization needs a history first.
    fn needs_history(self) -> bool {
        matches!(self, Self::Snapshots | Self::Resumes)
    }

    /// One connection, from its beginning to its end. An error is what an attack is for.
    pub async fn once(self, ground: &Ground, number: usize, rng: &mut StdRng) -> Result<()> {
        match self {
            Self::Silent => silent(ground, number).await,
            Self::Deaf => deaf(ground, number, &ground.conversation(), 60_000).await,
            Self::Unfinished => unfinished(ground, number).await,
            Self::PresenceFlood => presence_flood(ground, number).await,
            Self::PresenceKeys => presence_keys(ground).await,
            Self::EventNames => event_names(ground, number).await,
            Self::BigFrames => deaf(ground, number, &ground.hostile.den(), 2_900_000).await,
            Self::Snapshots => snapshots(ground).await,
            Self::Resumes => resumes(ground).await,
            Self::OverRate => over_rate(ground).await,
            Self::Policies => policies(ground, number, rng).await,
            Self::SqlMessages => sql_messages(ground, rng).await,
        }
    }
}

async fn silent(ground: &Ground, number: usize) -> Result<()> {
    let mut tcp = TcpStream::connect(ground.address()).await?;
    let ends = Instant::now() + HOLD;
    match number % 3 {
        0 => {}
        1 => {
            let head = format!("GET /realtime/v1/websocket HTTP/1.1\r\nhost: x\r\nx-slow: {}", filler(100));
            for byte in head.bytes() {
                tcp.write_all(&[byte]).await?;
                sleep(HOLD / 20).await;
                if Instant::now() > ends {
                    break;
                }
            }
        }
        _ => {
            let head = format!(
                "POST /realtime/v1/api/broadcast HTTP/1.1\r\nhost: x\r\napikey: {}\r\ncontent-length: 1000000\r\n\
                 content-type: application/json\r\n{}: {}\r\n\r\n",
                ground.shared.api_key, ATTACKER.0, ATTACKER.1
            );
            tcp.write_all(head.as_bytes()).await?;
        }
    }
    tokio::time::timeout_at(ends, tcp.read(&mut [0; 1024])).await.ok();
    Ok(())
}

/// One in twenty talks; nobody reads.
async fn deaf(ground: &Ground, number: usize, channel: &str, bytes: usize) -> Result<()> {
    let mut socket = ground.narrow().await?;
    let token = ground.agent();
    socket.send_raw(push(1, channel, "phx_join", &join_config(channel, Some(&token), json!({})))).await?;
    // Joining a private channel may take a while where many do.
    let ends = Instant::now() + 3 * HOLD;
    if number.is_multiple_of(20) {
        let payload =
            format!(r#"{{"type":"broadcast","event":"noise","payload":{{"text":"{}"}}}}"#, filler(bytes));
        let say = push_text(2, channel, "broadcast", &payload);
        while Instant::now() < ends {
            socket.send_raw(say.clone()).await?;
            sleep(Duration::from_millis(25)).await;
        }
    }
    tokio::time::sleep_until(ends).await;
    Ok(())
}

async fn unfinished(ground: &Ground, number: usize) -> Result<()> {
    const PIECE: usize = 60_000;
    const PIECES: usize = 80;
    let mut socket = ground.connect().await?;
    let header = |first: u8, length: usize| {
        let mut bytes = vec![first, 0x80 | 127];
        bytes.extend((length as u64).to_be_bytes());
        bytes.extend([0; 4]);
        bytes
    };
    let is_one_frame = number.is_multiple_of(2);
    for piece in 0..PIECES {
        let head = match (piece, is_one_frame) {
            (0, true) => header(0x82, PIECE * (PIECES + 1)),
            (_, true) => Vec::new(),
            (0, false) => header(0x02, PIECE),
            (_, false) => header(0x00, PIECE),
        };
        socket.send_bytes(&[head, vec![b'x'; PIECE]].concat()).await?;
    }
    drain(&mut socket, HOLD).await
}

async fn presence_flood(ground: &Ground, number: usize) -> Result<()> {
    let mut socket = ground.connect().await?;
    let den = ground.hostile.den();
    let config = json!({"presence": {"enabled": true, "key": format!("p{number}")}});
    let join = join_config(&den, Some(&ground.agent()), config);
    socket.send_raw(push(1, &den, "phx_join", &join)).await?;
    let text = filler(60_000);
    for reference in 2..30 {
        let payload =
            format!(r#"{{"type":"presence","event":"track","payload":{{"n":{reference},"text":"{text}"}}}}"#);
        socket.send_raw(push_text(reference, &den, "presence", &payload)).await?;
        drain(&mut socket, Duration::from_millis(5)).await?;
    }
    if number.is_multiple_of(2) {
        return drain(&mut socket, HOLD).await;
    }
    sleep(HOLD).await;
    Ok(())
}

async fn presence_keys(ground: &Ground) -> Result<()> {
    let mut socket = ground.connect().await?;
    let key = filler(1_000_000);
    for number in 0..5 {
        let den = format!("{}:{number}", ground.hostile.den());
        let presence = format!(r#"{{"enabled":true,"key":"{key}"}}"#);
        let join = format!(r#"{{"config":{{"private":true,"presence":{presence}}}}}"#);
        socket.send_raw(push_text(1, &den, "phx_join", &join)).await?;
        let track = json!({"type": "presence", "event": "track", "payload": {}});
        socket.send_raw(push(2, &den, "presence", &track)).await?;
    }
    drain(&mut socket, HOLD).await
}

async fn event_names(ground: &Ground, number: usize) -> Result<()> {
    const NAME_BYTES: usize = 1_500_000;
    let channel = ground.conversation();
    let name = format!("typing:{}", filler(NAME_BYTES));
    if number.is_multiple_of(3) {
        let body = format!(r#"{{"messages":[{{"topic":"{channel}","event":"{name}","payload":{{}}}}]}}"#);
        let token = format!("Bearer {}", ground.agent());
        let headers = [("authorization", token.as_str()), ("content-type", "application/json"), ATTACKER];
        let path = "/realtime/v1/api/broadcast";
        http::request(&ground.address(), "POST", path, &headers, body.as_bytes()).await?;
        return Ok(());
    }
    let mut socket = ground.connect().await?;
    let config = join_config(&channel, Some(&ground.visitor()), json!({}));
    socket.send_raw(push(1, &channel, "phx_join", &config)).await?;
    let payload = format!(r#"{{"type":"broadcast","event":"{name}","payload":{{}}}}"#);
    let say = push_text(2, &channel, "broadcast", &payload);
    for _ in 0..18 {
        socket.send_raw(say.clone()).await?;
        drain(&mut socket, Duration::from_millis(20)).await?;
    }
    drain(&mut socket, HOLD / 4).await
}

async fn snapshots(ground: &Ground) -> Result<()> {
    let mut socket = ground.connect().await?;
    let (channel, token) = (ground.conversation(), ground.visitor());
    let config = json!({"broadcast": {"replay": {"snapshot": 100}}});
    let ends = Instant::now() + HOLD;
    for reference in 1.. {
        if Instant::now() > ends {
            break;
        }
        let join = join_config(&channel, Some(&token), config.clone());
        socket.send_raw(push(reference, &channel, "phx_join", &join)).await?;
        drain(&mut socket, Duration::from_millis(20)).await?;
    }
    Ok(())
}

async fn resumes(ground: &Ground) -> Result<()> {
    let mut socket = ground.narrow().await?;
    let token = ground.agent();
    let since = crate::journal::now() / 1000 - 250_000;
    let config = json!({"broadcast": {"replay": {"since": since, "limit": 1000}}});
    let list = chat::conversations_channel(ground.hostile.id);
    for channel in [ground.conversation(), list] {
        let join = join_config(&channel, Some(&token), config.clone());
        socket.send_raw(push(1, &channel, "phx_join", &join)).await?;
    }
    sleep(HOLD / 3).await;
    Ok(())
}

async fn over_rate(ground: &Ground) -> Result<()> {
    let mut socket = ground.connect().await?;
    let channel = ground.conversation();
    let token = filler(60_000);
    let ends = Instant::now() + HOLD;
    let join = join_config(&channel, Some(&token), json!({}));
    let renewal = json!({"access_token": ground.agent()});
    let messages = [
        push(1, &channel, "phx_join", &join),
        push(2, &channel, "access_token", &renewal),
        push(3, &channel, "phx_leave", &json!({})),
        push(4, "phoenix", "heartbeat", &json!({})),
    ];
    while Instant::now() < ends {
        for message in &messages {
            socket.send_raw(message.clone()).await?;
        }
        drain(&mut socket, Duration::ZERO).await?;
    }
    Ok(())
}

async fn policies(ground: &Ground, number: usize, rng: &mut StdRng) -> Result<()> {
    let address = ground.address();
    if number.is_multiple_of(2) {
        let headers = [("apikey", ground.shared.api_key.as_str()), ("x-filler", &filler(40_000)), ATTACKER];
        for _ in 0..20 {
            let topic: u64 = rng.random();
            let path = format!("/realtime/v1/api/broadcast/t{topic}/events/e?private=true");
            http::request(&address, "POST", &path, &headers, b"").await?;
        }
        return Ok(());
    }
    let mut socket = ground.connect().await?;
    for _ in 0..90 {
        let topic = format!("t{}", rng.random::<u64>());
        socket.send_raw(push(1, &topic, "phx_join", &join_config(&topic, None, json!({})))).await?;
        drain(&mut socket, Duration::from_millis(10)).await?;
    }
    Ok(())
}

async fn sql_messages(ground: &Ground, rng: &mut StdRng) -> Result<()> {
    let database = cluster::connect(&ground.url).await?;
    database.batch_execute("set role anon").await?;
    // Of a key that there is not: many lines, or one that is long.
    let message = if rng.random() {
        "'v1 99 00' || chr(10) || 'x') from generate_series(1, 3000)"
    } else {
        "'v1 99 00' || chr(10) || repeat('x', 20000000))"
    };
    database
        .batch_execute(&format!("select pg_logical_emit_message(true, 'campfire.broadcast', {message}"))
        .await?;
    sleep(Duration::from_millis(300)).await;
    Ok(())
}
