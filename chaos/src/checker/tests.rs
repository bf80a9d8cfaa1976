//! Each violation alone, on journals written by hand.

use std::sync::Arc;

use campfire_tests::socket::Vsn;

use super::*;
use crate::pgoutput::{Change, Transaction};
use crate::plan::{ClientSpec, Manner};

const ORG: Uuid = Uuid::from_u128(1);
const USER: Uuid = Uuid::from_u128(2);
const CONV: Uuid = Uuid::from_u128(3);

fn channel() -> String {
    chat::conversation_channel(ORG, CONV)
}

fn at(lsn: u64) -> Position {
    Position { timeline: 1, commit_lsn: lsn, change: 0 }
}

/// One event of the channel at each of these LSNs, a microsecond a piece; at 55 one of another channel.
fn truth() -> Truth {
    let mut truth = Truth::default();
    for (lsn, on) in [(10, channel()), (20, channel()), (30, channel()), (40, channel()), (55, "room".into())]
    {
        let content = format!("v1 1 00\n{on}\nsaid\n{{\"n\":{lsn}}}");
        truth.apply(&Transaction {
            xid: 1,
            commit_lsn: lsn,
            end_lsn: lsn + 1,
            committed_at: lsn as i64,
            changes: vec![Change::Message { prefix: "campfire.broadcast".to_owned(), content }],
        });
    }
    truth
}

fn event(lsn: u64, replayed: bool) -> Record {
    Record::Event {
        position: at(lsn),
        name: "said".into(),
        payload: format!("{{\"n\":{lsn}}}").into(),
        committed_at: lsn as i64,
        replayed,
    }
}

fn live(lsns: &[u64]) -> Vec<Record> {
    lsns.iter().map(|lsn| event(*lsn, false)).collect()
}

fn stay(asked: Asked, reply: Option<Reply>, records: Vec<Record>) -> Stay {
    Stay {
        channel: channel().as_str().into(),
        asked,
        asked_at: 15,
        joined_at: 15,
        reply,
        records,
        end: End::Running,
    }
}

/// A stay after 10, with everything still to come live.
fn after_10(records: Vec<Record>) -> Stay {
    let reply = Reply { complete: true, position: at(10), count: 0 };
    stay(Asked::After(at(10)), Some(reply), records)
}

/// After a stay in which the client came to 10.
fn check_with(truth: &Truth, context: &Context, mut stays: Vec<Stay>, expected: &[Kind]) {
    let reply = Reply { complete: true, position: at(10), count: 0 };
    stays.insert(0, stay(Asked::PositionOnly, Some(reply), Vec::new()));
    let client = ClientSpec {
        number: 1,
        manner: Manner::Resuming,
        vsn: Vsn::V2,
        who: Who::Agent { organization: ORG, user: USER },
        channels: vec![channel()],
        seed: 0,
    };
    let journal = Journal { client, stays, scandals: Vec::new(), dropped: Vec::new(), sockets: 1 };
    let verdict = super::check(truth, &[journal], context);
    let found: Vec<Kind> = verdict.violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(found, expected, "{:#?}", verdict.violations);
}

fn context() -> Context {
    Context { losses: Vec::new(), starts: Vec::new(), window_micros: Some(1_000_000), last_event: "said" }
}

fn check(stays: Vec<Stay>, expected: &[Kind]) {
    check_with(&truth(), &context(), stays, expected);
}

#[test]
fn what_is_whole_and_in_order_is_right() {
    check(vec![after_10(live(&[20, 30, 40]))], &[]);
    let replayed = vec![event(20, true), event(30, true), event(40, false)];
    let reply = Reply { complete: true, position: at(30), count: 2 };
    check(vec![stay(Asked::After(at(10)), Some(reply), replayed)], &[]);
    let reply = Reply { complete: true, position: at(20), count: 0 };
    let second = stay(Asked::After(at(20)), Some(reply), live(&[30, 40]));
    check(vec![after_10(live(&[20])), second], &[]);
}

#[test]
fn a_missing_event_is_a_gap() {
    check(vec![after_10(live(&[20, 40]))], &[Kind::Gap]);
}

#[test]
fn a_heartbeat_that_runs_ahead_is_a_gap() {
    check(vec![after_10(vec![event(20, false), Record::Head(at(30)), event(30, false)])], &[Kind::Gap]);
}

#[test]
fn a_position_that_was_not_reached_is_a_gap() {
    let reply = Reply { complete: true, position: at(30), count: 0 };
    check(vec![after_10(live(&[20])), stay(Asked::After(at(30)), Some(reply), live(&[40]))], &[Kind::Gap]);
}

#[test]
fn the_end_of_a_replay_without_all_of_it_is_a_gap() {
    let reply = Reply { complete: true, position: at(30), count: 1 };
    check(
        vec![stay(Asked::After(at(10)), Some(reply), vec![event(20, true), event(40, false)])],
        &[Kind::Gap],
    );
}

#[test]
fn stock_clients_miss_nothing_that_commits_after_they_joined() {
    check(vec![stay(Asked::Nothing, None, live(&[20, 30]))], &[]);
    check(vec![stay(Asked::Nothing, None, live(&[30]))], &[Kind::Gap]);
    check(vec![stay(Asked::Nothing, None, live(&[10, 20, 30]))], &[]);
}

#[test]
fn doubles_and_disorder_are_told_apart() {
    check(vec![after_10(live(&[20, 20, 30]))], &[Kind::Duplicate]);
    check(vec![after_10(live(&[20, 30, 40, 30]))], &[Kind::Reordered]);
    let reply = Reply { complete: true, position: at(20), count: 2 };
    let again = vec![event(10, true), event(20, true)];
    check(vec![stay(Asked::After(at(10)), Some(reply), again)], &[Kind::Duplicate]);
}

#[test]
fn events_of_nowhere_and_of_elsewhere_are_told_apart() {
    check(vec![after_10(live(&[20, 25, 30]))], &[Kind::Phantom]);
    check(vec![after_10(live(&[20, 30, 40, 55]))], &[Kind::Foreign]);
    let rolled_back = Record::Event {
        position: at(25),
        name: "message:created".into(),
        payload: format!(r#"{{"content":"{ROLLED_BACK} 1"}}"#).into(),
        committed_at: 25,
        replayed: false,
    };
    let records = vec![event(20, false), rolled_back, event(30, false)];
    check(vec![after_10(records)], &[Kind::RolledBack]);
}

#[test]
fn other_payloads_are_wrong() {
    let wrong = Record::Event {
        position: at(20),
        name: "said".into(),
        payload: r#"{"n":20,"secret":1}"#.into(),
        committed_at: 20,
        replayed: false,
    };
    check(vec![after_10(vec![wrong, event(30, false)])], &[Kind::WrongPayload]);
}

#[test]
fn a_replay_has_the_events_that_were_promised() {
    let reply = Reply { complete: true, position: at(30), count: 2 };
    let records = vec![event(20, true), event(30, false), event(40, true)];
    check(vec![stay(Asked::After(at(10)), Some(reply), records)], &[Kind::Count]);
    // What happens while a replay goes on is part of it.
    let records = vec![event(20, true), event(30, true), event(40, true)];
    check(vec![stay(Asked::After(at(10)), Some(reply), records)], &[]);
}

#[test]
fn nothing_comes_after_the_right_to_it_ended() {
    let mut truth = truth();
    let history = vec![(None, 0, true), (Some(at(25)), 25, false)];
    truth.agents.insert((ORG, USER), history);
    check_with(&truth, &context(), vec![after_10(live(&[20, 30]))], &[Kind::PastCut]);
    truth.agents.clear();
    // What ends a conversation's channel is still heard there.
    truth.gone.insert((ORG, CONV), vec![at(30)]);
    check_with(&truth, &context(), vec![after_10(live(&[20, 30]))], &[]);
    check_with(&truth, &context(), vec![after_10(live(&[20, 30, 40]))], &[Kind::PastCut]);
    // A relay that lost the place where it ended cannot know; one that told of it does.
    let loss = Loss { began_at: 5, ended_at: 16, up_to_lsn: 35 };
    let lost = Context { losses: vec![loss], ..context() };
    let told = vec![event(20, false), Record::Loss { at: 16 }, event(40, false)];
    check_with(&truth, &lost, vec![after_10(told)], &[]);
    check_with(&truth, &lost, vec![after_10(live(&[20, 30, 40]))], &[Kind::PastCut]);
}

fn message(id: u128, created_at: u32) -> Arc<str> {
    format!(
        r#"{{"conversation_id":"{CONV}","created_at":"{created_at}","id":"{}","organization_id":"{ORG}"}}"#,
        Uuid::from_u128(id)
    )
    .into()
}

/// Rows and events of one join, each a message by number; at LSN 10 times that number it committed.
fn check_snapshot(rows: &[u128], events: &[u128], rows_max: usize, expected: &[Kind]) {
    let mut truth = Truth::default();
    for id in 1..=4_u128 {
        let lsn = 10 * id as u64;
        let expected = Expected {
            position: at(lsn),
            name: "message:created".to_owned(),
            payload: message(id, id as u32).to_string(),
            committed_at: lsn as i64,
        };
        truth.positions.insert(at(lsn));
        truth.commits.push((at(lsn), lsn as i64));
        truth.channels.entry(channel()).or_default().push(expected);
    }
    let row = |id: &u128| Record::Row { name: "message:created".into(), payload: message(*id, *id as u32) };
    let event = |id: &u128| Record::Event {
        position: at(10 * *id as u64),
        name: "message:created".into(),
        payload: message(*id, *id as u32),
        committed_at: 10 * *id as i64,
        replayed: *id <= 3,
    };
    let records: Vec<Record> = rows.iter().map(row).chain(events.iter().map(event)).collect();
    let count =
        records.iter().filter(|record| !matches!(record, Record::Event { replayed: false, .. })).count();
    let reply = Reply { complete: true, position: at(30), count: count as u64 };
    let mut join = stay(Asked::Snapshot { rows: rows_max }, Some(reply), records);
    join.joined_at = 35;
    let context = Context { last_event: "message:created", ..context() };
    check_with(&truth, &context, vec![join], expected);
}

#[test]
fn a_snapshot_and_its_events_are_everything_and_nothing_twice() {
    check_snapshot(&[1, 2], &[3, 4], 10, &[]);
    // What committed later may be shown, and what committed earlier may not.
    check_snapshot(&[1, 3], &[2, 4], 10, &[]);
    check_snapshot(&[2, 3], &[4], 2, &[]);
    check_snapshot(&[1, 2], &[4], 10, &[Kind::Gap]);
    check_snapshot(&[1, 2, 3], &[3, 4], 10, &[Kind::Duplicate]);
    check_snapshot(&[1, 2, 2, 3], &[4], 10, &[Kind::Duplicate]);
}

#[test]
fn a_small_window_may_overtake_a_reader_and_must_say_so() {
    let small = Context { window_micros: None, ..context() };
    let reply = |complete| Some(Reply { complete, position: at(40), count: 3 });
    let read = |complete, records: Vec<Record>| stay(Asked::After(at(10)), reply(complete), records);
    let notice = || Record::Loss { at: 16 };
    let overtaken = vec![event(20, true), notice(), event(40, true)];
    check_with(&truth(), &small, vec![read(true, overtaken)], &[]);
    // The first notice after an incomplete answer is of the answer.
    let again = vec![notice(), event(20, true), notice(), event(40, false)];
    check_with(&truth(), &small, vec![read(false, again)], &[]);
    let once = vec![notice(), event(20, true), event(40, false)];
    check_with(&truth(), &small, vec![read(false, once)], &[Kind::Count, Kind::Gap]);
    let silent = vec![event(20, true), event(40, true)];
    check_with(&truth(), &small, vec![read(true, silent)], &[Kind::Gap]);
}

#[test]
fn who_is_not_active_is_not_admitted() {
    let mut truth = truth();
    truth.agents.insert((ORG, USER), vec![(None, 0, false)]);
    check_with(&truth, &context(), vec![after_10(live(&[20]))], &[Kind::Unauthorized, Kind::Unauthorized]);
    // Switched on in the meantime: the relay may know already.
    truth.agents.insert((ORG, USER), vec![(None, 0, false), (Some(at(12)), 12, true)]);
    check_with(&truth, &context(), vec![after_10(live(&[20]))], &[]);
}

#[test]
fn an_announced_loss_excuses_what_it_covers_and_needs_a_cause() {
    let loss = Loss { began_at: 5, ended_at: 16, up_to_lsn: 35 };
    let lost = Context { losses: vec![loss], ..context() };
    let told = vec![event(20, false), Record::Loss { at: 16 }, event(40, false)];
    check_with(&truth(), &lost, vec![after_10(told.clone())], &[]);
    check(vec![after_10(told)], &[Kind::FalseAlarm]);
    let reply = Reply { complete: false, position: at(30), count: 0 };
    let back = stay(Asked::After(at(10)), Some(reply), live(&[40]));
    check_with(&truth(), &lost, vec![back.clone()], &[]);
    check(vec![back], &[Kind::FalseAlarm]);
    // It covers what came before, and nothing later.
    let reply = Reply { complete: false, position: at(20), count: 0 };
    check_with(&truth(), &lost, vec![stay(Asked::After(at(10)), Some(reply), live(&[40]))], &[Kind::Gap]);
}

#[test]
fn a_relay_that_started_knows_no_routes_from_before_they_changed() {
    let mut truth = truth();
    truth.routes.push((at(12), 12));
    let reply = Reply { complete: false, position: at(30), count: 0 };
    let back = vec![stay(Asked::After(at(10)), Some(reply), live(&[40]))];
    check_with(&truth, &context(), back.clone(), &[Kind::FalseAlarm]);
    check_with(&truth, &Context { starts: vec![(13, 14)], ..context() }, back, &[]);
}

#[test]
fn who_never_gets_to_the_end_is_stuck() {
    let context = Context { last_event: "the end", ..context() };
    check_with(&truth(), &context, vec![after_10(live(&[20]))], &[Kind::Stuck]);
}

#[test]
fn an_excuse_lasts_until_the_next_event_whatever_heartbeats_say() {
    // The window was short of memory, and the socket's other channel is behind.
    let small = Context { window_micros: None, ..context() };
    let reply = Reply { complete: true, position: at(40), count: 3 };
    let told = vec![event(20, true), Record::Loss { at: 16 }, Record::Head(at(15)), event(40, true)];
    check_with(&truth(), &small, vec![stay(Asked::After(at(10)), Some(reply), told)], &[]);
    // The slot was lost.
    let loss = Loss { began_at: 5, ended_at: 16, up_to_lsn: 35 };
    let lost = Context { losses: vec![loss], ..context() };
    let told = vec![event(20, false), Record::Loss { at: 16 }, Record::Head(at(20)), event(40, false)];
    check_with(&truth(), &lost, vec![after_10(told)], &[]);
    // It lasts no longer than that.
    let mut truth = truth();
    truth.apply(&Transaction {
        xid: 1,
        commit_lsn: 60,
        end_lsn: 61,
        committed_at: 60,
        changes: vec![Change::Message {
            prefix: "campfire.broadcast".to_owned(),
            content: format!("v1 1 00\n{}\nsaid\n{{\"n\":60}}", channel()),
        }],
    });
    let told = vec![
        event(20, false),
        Record::Loss { at: 16 },
        Record::Head(at(20)),
        event(30, false),
        event(60, false),
    ];
    check_with(&truth, &lost, vec![after_10(told)], &[Kind::Gap]);
}

#[test]
fn the_notice_of_an_incomplete_answer_excuses_nothing_that_follows_it() {
    let loss = Loss { began_at: 5, ended_at: 16, up_to_lsn: 35 };
    let lost = Context { losses: vec![loss], ..context() };
    let reply = Reply { complete: false, position: at(20), count: 0 };
    let told = vec![Record::Loss { at: 16 }, event(40, false)];
    check_with(&truth(), &lost, vec![stay(Asked::After(at(10)), Some(reply), told)], &[Kind::Gap]);
}

#[test]
fn a_client_that_reads_and_is_closed_for_not_reading_is_a_violation() {
    let client = ClientSpec {
        number: 1,
        manner: Manner::Stock,
        vsn: Vsn::V1,
        who: Who::Agent { organization: ORG, user: USER },
        channels: Vec::new(),
        seed: 0,
    };
    let dropped = vec!["slow consumer".to_owned()];
    let journal = Journal { client, stays: Vec::new(), scandals: Vec::new(), dropped, sockets: 1 };
    let verdict = super::check(&truth(), &[journal], &context());
    let found: Vec<Kind> = verdict.violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(found, [Kind::Dropped]);
}
