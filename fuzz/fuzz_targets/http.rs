//! What comes over a connection, as bytes, to the real server and its routes: headers, chains of proxies, bodies, and
//! what follows an upgrade. Every answer is one that clients know, none comes late, and nothing is done for somebody
//! without a key.
#![no_main]

use std::net::IpAddr;
use std::time::Duration;

use campfire_relay::app::{App, Door};
use campfire_relay::cli::{Cli, Command};
use campfire_relay::fanout::HubInput;
use campfire_relay::postgres::Lsn;
use campfire_relay::route::DatabaseTag;
use clap::Parser;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

const KEY: &str = "fuzz-key";

/// Whatever the machine is busy with.
const PATIENCE: Duration = Duration::from_secs(20);

/// After so many turns in which nothing came, nothing will.
const TURNS: u32 = 100;

/// Every answer that there is.
const STATUSES: [&str; 19] = [
    "100", "101", "200", "202", "204", "400", "401", "403", "404", "405", "408", "413", "414", "415", "422",
    "426", "429", "431", "503",
];

struct Relays {
    runtime: Runtime,
    /// One that clients reach directly, one behind two proxies, one behind a proxy that writes `Forwarded`.
    doors: [Door; 3],
}

thread_local! {
    static RELAYS: Relays = Relays::start();
}

fuzz_target!(|data: &[u8]| {
    let Some((&mode, data)) = data.split_first() else { return };
    RELAYS.with(|relays| {
        let door = &relays.doors[usize::from(mode) % relays.doors.len()];
        let addresses = [None, Some("127.0.0.1"), Some("203.0.113.9"), Some("2001:db8::1")];
        let address: Option<IpAddr> = addresses[usize::from(mode >> 4) % addresses.len()]
            .map(|address| address.parse().expect("an address"));
        let answer = relays.runtime.block_on(exchange(door, address, data));
        check(data, &answer);
    });
});

/// Says everything, hears what comes of it, and goes once nothing more does: hyper drops what is in the middle of an
/// answer when its client is gone.
async fn exchange(door: &Door, address: Option<IpAddr>, data: &[u8]) -> Vec<u8> {
    let (mut client, server) = tokio::io::duplex(data.len().max(1 << 16));
    client.write_all(data).await.expect("room for all");
    let (mut answer, mut quiet) = (Vec::new(), 0);
    let hear = async {
        let mut buffer = [0; 4096];
        loop {
            tokio::select! {
                biased;
                read = client.read(&mut buffer) => match read {
                    Ok(length @ 1..) => {
                        answer.extend_from_slice(&buffer[..length]);
                        quiet = 0;
                    }
                    _ => return,
                },
                // Everything that has something to do had its turn each time.
                () = tokio::task::yield_now(), if quiet < TURNS => quiet += 1,
            }
            if quiet == TURNS {
                client.shutdown().await.ok();
            }
        }
    };
    let all = async { tokio::join!(hear, door.serve(server, address)) };
    tokio::time::timeout(PATIENCE, all).await.expect("an end");
    answer
}

fn check(data: &[u8], answer: &[u8]) {
    if answer.is_empty() {
        return;
    }
    let head = String::from_utf8_lossy(&answer[..answer.len().min(15)]).into_owned();
    let status =
        head.strip_prefix("HTTP/1.1 ").or(head.strip_prefix("HTTP/1.0 ")).and_then(|rest| rest.get(..3));
    assert!(
        status.is_some_and(|status| STATUSES.contains(&status)),
        "{head:?} to {:?}",
        data.escape_ascii().to_string()
    );
    let says = |text: &str| find(answer, text.as_bytes());
    // Wherever it stands: an input that has it may have it in the right place.
    if ["HTTP/1.1 101 ", "HTTP/1.1 202 "].into_iter().any(says) {
        assert!(
            find(&decoded(data), KEY.as_bytes()),
            "served without a key: {:?}",
            data.escape_ascii().to_string()
        );
    }
}

fn find(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Percent-decoded, as a key in a URL may be.
fn decoded(data: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (mut decoded, mut rest) = (Vec::new(), data);
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, behind) {
            (b'%', &[high, low, ref behind @ ..]) if digit(high).is_some() && digit(low).is_some() => {
                decoded.push((digit(high).unwrap_or_default() << 4 | digit(low).unwrap_or_default()) as u8);
                rest = behind;
            }
            _ => decoded.push(byte),
        }
    }
    decoded
}

impl Relays {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let doors = runtime.block_on(async {
            [
                open(&["--client-messages-per-second", "0"]).await,
                open(&["--trusted-proxies", "2", "--public-channels", "allow"]).await,
                open(&[
                    "--trusted-proxies",
                    "1",
                    "--forwarded-header",
                    "forwarded",
                    "--public-channels",
                    "allow",
                ])
                .await,
            ]
        });
        Self { runtime, doors }
    }
}

/// A relay that believes that it is caught up.
async fn open(flags: &[&str]) -> Door {
    // Nobody knows the secret, so no token is a valid one. The policies have no database to ask.
    let secret = "as long as a secret has to be, and nobody's";
    let fixed = [
        "campfire-relay",
        "run",
        "--listen",
        "127.0.0.1:0",
        "--jwt-secret",
        secret,
        "--api-keys",
        KEY,
        "--database-url",
        "host=/nonexistent user=nobody",
    ];
    let Command::Run(config) = Cli::parse_from(fixed.iter().chain(flags)).command;
    let door = App::build(*config).await.expect("a relay").into_door();
    let attached = HubInput::Attached {
        loss: None,
        is_elsewhere: false,
        agents: Vec::new(),
        agent_names: Vec::new(),
        snapshot: Default::default(),
        tag: DatabaseTag::new(1, 2),
        timeline: 1,
        confirmed_flush_lsn: Lsn(1),
    };
    for input in [attached, HubInput::CaughtUp] {
        door.hub().send(input).await.expect("the hub runs");
    }
    while !door.is_ready() {
        tokio::task::yield_now().await;
    }
    door
}
