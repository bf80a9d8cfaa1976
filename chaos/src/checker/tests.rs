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

/// Up to there events are missing, says the relay.
fn notice(up_to: u64) -> Record {
    Record::Loss { at: 16, up_to: at(up_to) }
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
    Context { window_micros: 1_000_000, last_event: "said", ..Context::default() }
}

/// A window that is short of memory.
fn small() -> Context {
    Context { is_window_small: true, ..context() }
}

/// The slot was lost, and with it what committed below 35.
fn lost() -> Context {
    Context { losses: vec![Loss { began_at: 5, ended_at: 16, up_to_lsn: 35 }], ..context() }
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
    // Off and on again, and what a relay sees that has lost the place of the first is the second.
    truth
        .agents
        .insert((ORG, USER), vec![(None, 0, true), (Some(at(25)), 25, false), (Some(at(33)), 33, true)]);
    let told = || vec![event(20, false), notice(30), event(40, false)];
    let until =
        |ended_at| Context { losses: vec![Loss { began_at: 5, ended_at, up_to_lsn: 31 }], ..context() };
    check_with(&truth, &until(35), vec![after_10(told())], &[]);
    check_with(&truth, &until(32), vec![after_10(told())], &[Kind::PastCut]);
    truth.agents.clear();
    // What ends a conversation's channel is still heard there.
    truth.gone.insert((ORG, CONV), vec![at(30)]);
    check_with(&truth, &context(), vec![after_10(live(&[20, 30]))], &[]);
    check_with(&truth, &context(), vec![after_10(live(&[20, 30, 40]))], &[Kind::PastCut]);
    // A relay that lost the place where it ended cannot know; one that told of it does.
    let told = vec![event(20, false), notice(34), event(40, false)];
    check_with(&truth, &lost(), vec![after_10(told)], &[]);
    check_with(&truth, &lost(), vec![after_10(live(&[20, 30, 40]))], &[Kind::PastCut]);
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
    check_listed(&[], rows, events, rows_max, expected);
}

/// The same with rows of conversations before.
fn check_listed(listed: &[Uuid], rows: &[u128], events: &[u128], rows_max: usize, expected: &[Kind]) {
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
    let conversation = |id: &Uuid| Record::Row {
        name: "conversation:updated".into(),
        payload: format!(r#"{{"id":"{id}"}}"#).into(),
    };
    let listed = listed.iter().map(conversation);
    let records: Vec<Record> = listed.chain(rows.iter().map(row)).chain(events.iter().map(event)).collect();
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
    // Of conversations that are not among the rows there are no messages either.
    check_listed(&[ORG], &[1], &[4], 1, &[]);
    check_listed(&[CONV], &[1], &[4], 1, &[Kind::Gap]);
    check_listed(&[ORG], &[1], &[], 1, &[Kind::Stuck]);
}

#[test]
fn a_small_window_may_overtake_a_reader_and_must_say_so() {
    let reply = |complete, count| Some(Reply { complete, position: at(40), count });
    let read = |complete, count, records| stay(Asked::After(at(10)), reply(complete, count), records);
    let check = |stay, expected: &[Kind]| check_with(&truth(), &small(), vec![stay], expected);
    check(read(true, 3, vec![event(20, true), notice(30), event(40, true)]), &[]);
    // The first notice after an incomplete answer is of the answer.
    check(read(false, 2, vec![notice(20), event(30, true), event(40, true)]), &[]);
    check(read(false, 2, vec![notice(20), notice(30), event(40, true)]), &[]);
    check(read(false, 2, vec![notice(20), event(40, false)]), &[Kind::Count, Kind::Gap]);
    check(read(true, 3, vec![event(20, true), event(40, true)]), &[Kind::Gap]);
    // It excuses what it names and no more.
    check(read(true, 3, vec![event(10, true), notice(20), event(40, true)]), &[Kind::Duplicate, Kind::Gap]);
    check(read(true, 3, vec![notice(30), event(30, true), event(40, true)]), &[Kind::Reordered]);
}

#[test]
fn a_small_window_raises_no_false_alarms() {
    let check = |stay, expected: &[Kind]| check_with(&truth(), &small(), vec![stay], expected);
    check(after_10(vec![event(20, false), notice(20), event(30, false)]), &[Kind::FalseAlarm]);
    check(after_10(vec![event(20, false), notice(25), event(30, false)]), &[Kind::FalseAlarm]);
    let reply = Some(Reply { complete: false, position: at(40), count: 3 });
    let all = || [20, 30, 40].map(|lsn| event(lsn, true));
    let told = [vec![notice(10)], all().to_vec()].concat();
    check(stay(Asked::After(at(10)), reply, told), &[Kind::FalseAlarm]);
    // Of the place only a transaction without an event of the channel has left.
    let reply_55 = Some(Reply { complete: false, position: at(55), count: 0 });
    let again = stay(Asked::After(at(40)), reply_55, vec![notice(55)]);
    check_with(&truth(), &small(), vec![after_10(live(&[20, 30, 40])), again], &[]);
    // What its rows show may have left it too.
    let mut join =
        stay(Asked::Snapshot { rows: 9 }, reply, [vec![notice(10), notice(20)], live(&[40])].concat());
    join.joined_at = 35;
    check(join, &[]);
}

#[test]
fn an_incomplete_answer_is_said_twice() {
    let reply = Reply { complete: false, position: at(30), count: 0 };
    let join = |records| stay(Asked::After(at(10)), Some(reply), records);
    check_with(&truth(), &lost(), vec![join(vec![notice(30), event(40, false)])], &[]);
    check_with(&truth(), &lost(), vec![join(live(&[40]))], &[Kind::Gap, Kind::Gap]);
    // Unless the socket went in between. Then the client goes on from the answer.
    let reply = Reply { complete: true, position: at(30), count: 0 };
    let second = stay(Asked::After(at(30)), Some(reply), live(&[40]));
    check_with(&truth(), &lost(), vec![join(Vec::new()), second], &[]);
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
    let told = vec![event(20, false), notice(34), event(40, false)];
    check_with(&truth(), &lost(), vec![after_10(told.clone())], &[]);
    check(vec![after_10(told)], &[Kind::FalseAlarm]);
    // More than was lost.
    check_with(&truth(), &lost(), vec![after_10(vec![event(20, false), notice(45)])], &[Kind::Gap]);
    // Less: what it does not name must come, whatever follows.
    let less = vec![event(20, false), notice(25), Record::Head(at(20)), event(40, false)];
    check_with(&truth(), &lost(), vec![after_10(less)], &[Kind::Gap]);
    let reply = Reply { complete: false, position: at(30), count: 0 };
    let back = stay(Asked::After(at(10)), Some(reply), [vec![notice(30)], live(&[40])].concat());
    check_with(&truth(), &lost(), vec![back.clone()], &[]);
    check(vec![back], &[Kind::FalseAlarm]);
}

#[test]
fn what_was_routed_by_guess_after_a_loss_is_announced_once_more() {
    let mut truth = truth();
    truth.routes.push((at(45), 16));
    let told = vec![event(20, false), notice(34), notice(45)];
    check_with(&truth, &lost(), vec![after_10(told)], &[]);
    // Who had come to a place before that cannot go on from there.
    let reply = Reply { complete: false, position: at(45), count: 0 };
    let back = stay(Asked::After(at(40)), Some(reply), vec![notice(45)]);
    let first = after_10(vec![event(20, false), notice(34), event(40, false)]);
    check_with(&truth, &lost(), vec![first, back], &[]);
}

#[test]
fn what_came_by_a_route_that_was_off_is_excused_by_the_notice_that_says_so() {
    let mut truth = truth();
    let off =
        Expected { position: at(36), name: "edited".to_owned(), payload: "{}".to_owned(), committed_at: 36 };
    truth.switched_off.entry(channel()).or_default().push(off);
    let guessed = |payload: &str| Record::Event {
        position: at(36),
        name: "edited".into(),
        payload: payload.into(),
        committed_at: 36,
        replayed: false,
    };
    let so_far = vec![event(20, false), notice(34), guessed("{}"), event(40, false)];
    let told = |more: &[Record]| vec![after_10([&so_far, more].concat())];
    // Nobody switched it on later.
    check_with(&truth, &lost(), told(&[]), &[Kind::Phantom]);
    truth.routes.push((at(45), 16));
    check_with(&truth, &lost(), told(&[notice(45)]), &[]);
    // The socket may break before it is told.
    check_with(&truth, &lost(), told(&[]), &[]);
    check_with(&truth, &lost(), told(&[Record::Head(at(50))]), &[Kind::Phantom]);
    check_with(&truth, &lost(), told(&[Record::Head(at(50)), notice(60)]), &[Kind::Phantom]);
    let wrong = vec![event(20, false), notice(34), guessed("{\"n\":1}"), event(40, false), notice(45)];
    check_with(&truth, &lost(), vec![after_10(wrong)], &[Kind::WrongPayload]);
    // Nothing was lost: the relay knew better.
    let back = [vec![event(20, false), event(30, false)], so_far[2..].to_vec()].concat();
    check_with(&truth, &context(), vec![after_10(back)], &[Kind::Phantom]);
}

#[test]
fn a_relay_that_started_knows_no_routes_from_before_they_changed() {
    let mut truth = truth();
    truth.routes.push((at(12), 12));
    let reply = Reply { complete: false, position: at(30), count: 0 };
    let told = [vec![notice(30)], live(&[40])].concat();
    let back = vec![stay(Asked::After(at(10)), Some(reply), told)];
    check_with(&truth, &context(), back.clone(), &[Kind::FalseAlarm]);
    check_with(&truth, &Context { starts: vec![(13, 14)], ..context() }, back, &[]);
}

#[test]
fn who_never_gets_to_the_end_is_stuck() {
    let context = Context { last_event: "the end", ..context() };
    check_with(&truth(), &context, vec![after_10(live(&[20]))], &[Kind::Stuck]);
}

#[test]
fn a_notice_excuses_the_same_whatever_heartbeats_say() {
    // The window was short of memory, and the socket's other channel is behind.
    let reply = Reply { complete: true, position: at(40), count: 3 };
    for beat in [5, 15, 20, 30] {
        let told = vec![event(20, true), notice(30), Record::Head(at(beat)), event(40, true)];
        check_with(&truth(), &small(), vec![stay(Asked::After(at(10)), Some(reply), told)], &[]);
        let told = vec![event(20, false), notice(34), Record::Head(at(beat)), event(40, false)];
        check_with(&truth(), &lost(), vec![after_10(told)], &[]);
        // What comes after the end of it is owed.
        let told = vec![event(20, false), notice(29), Record::Head(at(beat)), event(40, false)];
        check_with(&truth(), &lost(), vec![after_10(told)], &[Kind::Gap]);
    }
}

#[test]
fn the_notice_of_an_incomplete_answer_excuses_nothing_that_follows_it() {
    let reply = Reply { complete: false, position: at(20), count: 0 };
    let told = vec![notice(20), event(40, false)];
    check_with(&truth(), &lost(), vec![stay(Asked::After(at(10)), Some(reply), told)], &[Kind::Gap]);
}

#[test]
fn a_violation_tells_of_notices_and_of_what_was_around() {
    let reply = Reply { complete: true, position: at(10), count: 0 };
    let told = vec![event(20, false), notice(29), Record::Head(at(29)), event(40, false)];
    let stays = vec![stay(Asked::PositionOnly, Some(reply), Vec::new()), after_10(told)];
    let client = ClientSpec {
        number: 1,
        manner: Manner::Resuming,
        vsn: Vsn::V2,
        who: Who::Agent { organization: ORG, user: USER },
        channels: vec![channel()],
        seed: 0,
    };
    let journal = Journal { client, stays, scandals: Vec::new(), dropped: Vec::new(), sockets: 1 };
    let verdict = super::check(&truth(), &[journal], &lost());
    let [gap] = &verdict.violations[..] else { panic!("{:#?}", verdict.violations) };
    for part in ["notice up to 1/0/1D#0 at 16", "heartbeat 1/0/1D#0", "said 1/0/28#0", "1 notices of a loss"]
    {
        assert!(gap.what.contains(part), "{part}: {}", gap.what);
    }
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

/// A shop's channel: order 1 is made at 10, changed at 20, and deleted at 40; order 2 is made at 30. Of each write the
/// LSN is the version.
fn check_shop(rows: &[(i64, i64)], events: &[u64], expected: &[Kind]) {
    let shop = format!("shop:{ORG}");
    let order = |id: i64, version: u64| format!(r#"{{"id":{id},"version":{version}}}"#);
    let all = [
        (10, "order:created", order(1, 10)),
        (20, "order:updated", order(1, 20)),
        (30, "order:created", order(2, 30)),
        (40, "order:deleted", order(1, 20)),
        (50, "said", "{}".to_owned()),
    ];
    let mut truth = Truth::default();
    for (lsn, name, payload) in &all {
        let (name, payload, committed_at) = ((*name).to_owned(), payload.clone(), *lsn as i64);
        truth.positions.insert(at(*lsn));
        truth.commits.push((at(*lsn), committed_at));
        let expected = Expected { position: at(*lsn), name, payload, committed_at };
        truth.channels.entry(shop.clone()).or_default().push(expected);
    }
    let row = |(id, version): &(i64, i64)| Record::Row {
        name: "order:created".into(),
        payload: order(*id, *version as u64).into(),
    };
    let event = |lsn: &u64| {
        let (_, name, payload) = all.iter().find(|(at, ..)| at == lsn).expect("an event");
        let (name, payload, committed_at) = ((*name).into(), payload.as_str().into(), *lsn as i64);
        Record::Event { position: at(*lsn), name, payload, committed_at, replayed: *lsn <= 30 }
    };
    let records: Vec<Record> = rows.iter().map(row).chain(events.iter().map(event)).collect();
    let count = rows.len() + events.iter().filter(|lsn| **lsn <= 30).count();
    let reply = Reply { complete: true, position: at(30), count: count as u64 };
    let asked = Asked::Snapshot { rows: 10 };
    let stay = Stay { channel: shop.as_str().into(), joined_at: 35, ..stay(asked, Some(reply), records) };
    let client = ClientSpec {
        number: 1,
        manner: Manner::Snapshot,
        vsn: Vsn::V2,
        who: Who::Agent { organization: ORG, user: USER },
        channels: vec![shop],
        seed: 0,
    };
    let journal =
        Journal { client, stays: vec![stay], scandals: Vec::new(), dropped: Vec::new(), sockets: 1 };
    let verdict = super::check(&truth, &[journal], &context());
    let found: Vec<Kind> = verdict.violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(found, expected, "{:#?}", verdict.violations);
}

#[test]
fn a_shops_rows_and_events_make_its_table_and_nothing_comes_twice() {
    check_shop(&[(1, 20)], &[30, 40, 50], &[]);
    check_shop(&[(1, 10)], &[20, 30, 40, 50], &[]);
    // Rows may be ahead of the stream, and of each other.
    check_shop(&[(2, 30)], &[50], &[Kind::Gap]);
    check_shop(&[(1, 20), (2, 30)], &[40, 50], &[]);
    check_shop(&[(1, 20)], &[40, 50], &[Kind::Gap]);
    check_shop(&[(1, 20)], &[20, 30, 40, 50], &[Kind::Duplicate]);
    check_shop(&[(2, 30), (2, 30)], &[40, 50], &[Kind::Duplicate]);
}
