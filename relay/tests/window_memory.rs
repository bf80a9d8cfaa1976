//! What the replay window takes of the process's memory, against what it says that it takes and may take.
//!
//! Each case has a process of its own, so that none lives on what another has given back.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "rules for the relay; these are its surroundings"
)]

use std::process::Command;
use std::sync::Arc;

use campfire_relay::fanout::{Hub, HubChange, HubInput, HubMetrics, HubSettings, WindowLimits};
use campfire_relay::postgres::{Lsn, Timestamp, Xid};
use campfire_relay::protocol::Meta;
use campfire_relay::route::{DatabaseTag, Event, Position, RealtimeMessage, Routed, Topic};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

const WINDOW_BYTES: usize = 48 << 20;
const CASE: &str = "CAMPFIRE_TEST_CASE";

fn hub(metrics: HubMetrics) -> Hub {
    let defaults = HubSettings::default();
    let window =
        WindowLimits { bytes_max: WINDOW_BYTES, organization_bytes_max: WINDOW_BYTES, ..defaults.window };
    let settings = HubSettings { window, ..defaults };
    let (ready, _) = watch::channel(false);
    let (snapshots, _) = mpsc::channel(1);
    let mut hub = Hub::new(settings, metrics, snapshots, Arc::new(watch::Sender::new(Lsn(0))), ready);
    hub.apply(HubInput::Attached {
        loss: None,
        is_elsewhere: false,
        agents: Vec::new(),
        agent_names: Vec::new(),
        snapshot: Default::default(),
        tag: DatabaseTag::new(1, 2),
        timeline: 1,
        confirmed_flush_lsn: Lsn(1),
    });
    hub
}

/// The events of the n-th change: their topics, the row of `realtime.messages` that they are, and their payloads' length.
struct Case {
    name: &'static str,
    topics: fn(u64) -> Vec<Topic>,
    is_message: bool,
    payload_bytes: usize,
}

const ORG: Uuid = Uuid::from_u128(0xa);

fn conversation(number: u64) -> Vec<Topic> {
    let conversation = Uuid::from_u128(number.into());
    vec![
        Topic::channel_conversations(ORG),
        Topic::channel_conversation(ORG, conversation),
        Topic::channel_widget(ORG, conversation),
    ]
}

const CASES: [Case; 6] = [
    Case {
        name: "one channel",
        topics: |_| vec![Topic::channel_organization(ORG)],
        is_message: false,
        payload_bytes: 80,
    },
    Case { name: "a busy conversation", topics: |_| conversation(7), is_message: false, payload_bytes: 80 },
    Case { name: "new conversations", topics: conversation, is_message: false, payload_bytes: 80 },
    Case {
        name: "an organization each",
        topics: |n| vec![Topic::channel_organization(Uuid::from_u128(u128::from(n) << 64))],
        is_message: false,
        payload_bytes: 80,
    },
    Case {
        name: "messages of SQL",
        topics: |n| vec![Topic::Other(format!("room {}", n % 1000).into())],
        is_message: true,
        payload_bytes: 80,
    },
    Case {
        name: "large payloads",
        topics: |n| conversation(n % 100),
        is_message: false,
        payload_bytes: 3_000,
    },
];

fn change(case: &Case, number: u64) -> HubChange {
    let id = Uuid::from_u128(u128::from(number) << 32);
    let message = case.is_message.then_some(RealtimeMessage { id, binary: false });
    let shared: Arc<str> = "message:created".into();
    let event = |topic| Event {
        topic,
        event: if case.is_message { "message:created".into() } else { Arc::clone(&shared) },
        payload: vec![b'x'; case.payload_bytes].into_boxed_slice().into(),
        private: case.is_message,
        sight: None,
        message,
    };
    let committed_at = Timestamp::from_unix_millis(1_800_000_000_000 + number as i64);
    let position = format!("beef.00000001.{number:016x}.00000000");
    HubChange {
        position: Position { timeline: 1, commit_lsn: Lsn(number * 16), change: 0 },
        xid: Xid(number as u32),
        committed_at,
        meta: Meta::of_event(&position, committed_at, None),
        routed: Routed {
            events: (case.topics)(number).into_iter().map(event).collect(),
            ..Routed::default()
        },
    }
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024.0 * line.trim().trim_end_matches(" kB").parse::<f64>().unwrap()
}

/// Fills the window, goes on for as long again, and prints what it takes by the process's own account, and by its own.
fn measure(case: &Case) {
    let metrics = HubMetrics::default();
    let mut hub = hub(metrics.clone());
    let before = resident_bytes();
    let mut next = 1;
    let mut most = 0;
    let mut full_at = None;
    while full_at.is_none_or(|full_at| next < 2 * full_at) {
        let changes = (next..next + 100).map(|number| change(case, number)).collect();
        hub.apply(HubInput::Changes { changes, applied: None });
        next += 100;
        let bytes = metrics.window_bytes.get();
        if bytes <= most {
            full_at.get_or_insert(next);
        }
        most = most.max(bytes);
    }
    let taken = resident_bytes() - before;
    println!("{taken} {} {}", metrics.window_bytes.get(), metrics.window_events.get());
}

#[test]
fn a_full_window_takes_the_memory_that_it_may() {
    if let Ok(name) = std::env::var(CASE) {
        return measure(CASES.iter().find(|case| case.name == name).unwrap());
    }
    for case in &CASES {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "a_full_window_takes_the_memory_that_it_may", "--nocapture"])
            .env(CASE, case.name);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let numbers =
            |line: &str| -> Option<Vec<f64>> { line.split(' ').map(|part| part.parse().ok()).collect() };
        let found = text.lines().find_map(numbers);
        let Some([taken, said, events]) = found.as_deref() else { panic!("{}: {text}", case.name) };
        let ratio = taken / said;
        println!("{}: {events} events, {:.1} MiB said, {ratio:.2} of it taken", case.name, said / 1048576.0);
        assert!(*said <= WINDOW_BYTES as f64 && *said > 0.8 * WINDOW_BYTES as f64, "{}: {said}", case.name);
        assert!((0.7..1.2).contains(&ratio), "{}: {taken} bytes taken, {said} said", case.name);
    }
}
