use super::*;
use crate::postgres::Lsn;
use crate::route::{Event, RealtimeMessage};

const LIMITS: WindowLimits =
    WindowLimits { age_max: Duration::from_secs(300), bytes_max: 100_000, organization_bytes_max: 60_000 };

fn at(lsn: u64) -> Position {
    Position { timeline: 1, commit_lsn: Lsn(lsn), change: 0 }
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

fn topic(organization: u128) -> Topic {
    Topic::channel_organization(Uuid::from_u128(organization))
}

/// A window that began just before LSN 1.
fn window() -> Window {
    let mut window = Window::new(LIMITS);
    window.start_at(Position::before(1, Lsn(1)));
    window
}

const LARGER: WindowLimits = WindowLimits { bytes_max: 600_000, organization_bytes_max: 400_000, ..LIMITS };

fn larger_window() -> Window {
    let mut window = Window::new(LARGER);
    window.start_at(Position::before(1, Lsn(1)));
    window
}

/// A transaction that commits at second `lsn` with one event of a topic.
fn commit(window: &mut Window, lsn: u64, topic: &Topic, bytes: usize) {
    window.witness(Xid(lsn as u32));
    window.advance(at(lsn), seconds(lsn as i64));
    let payload = vec![b'x'; bytes].into();
    let event = Event {
        topic: topic.clone(),
        event: "e".into(),
        payload,
        private: false,
        sight: None,
        message: None,
    };
    let meta = "{}".into();
    window.keep(topic, Kept::new(at(lsn), Xid(lsn as u32), &event, &meta, 1));
}

fn lsns(window: &Window, topic: &Topic, after: Position) -> Vec<u64> {
    window.after(topic, after).map(|kept| kept.position.commit_lsn.0).collect()
}

#[test]
fn what_came_after_a_position_is_found() {
    let mut window = window();
    for lsn in 1..=6 {
        commit(&mut window, lsn, &topic(lsn as u128 % 2), 10);
    }
    assert_eq!(lsns(&window, &topic(1), at(0)), [1, 3, 5]);
    assert_eq!(lsns(&window, &topic(1), at(2)), [3, 5]);
    assert_eq!(lsns(&window, &topic(1), at(3)), [5]);
    assert_eq!(lsns(&window, &topic(1), at(5)), [0; 0]);
    assert_eq!(lsns(&window, &topic(7), at(0)), [0; 0]);
    assert_eq!(window.head(), at(6));
}

#[test]
fn only_positions_that_were_given_out_are_good_to_go_on_from() {
    let mut window = window();
    let start = window.head();
    assert_eq!(window.check(&topic(1), start), Ok(()));
    for lsn in [10, 20, 30] {
        commit(&mut window, lsn, &topic(1), 10);
    }
    for position in [start, at(10), at(20), at(30)] {
        assert_eq!(window.check(&topic(1), position), Ok(()), "{position:?}");
    }
    assert_eq!(window.check(&topic(1), at(15)), Err(Gap::UnknownCommit));
    assert_eq!(window.check(&topic(1), at(31)), Err(Gap::AboveHead));
    assert_eq!(window.check(&topic(1), Position::default()), Err(Gap::BelowFloor));
}

#[test]
fn a_position_of_a_history_that_was_left_is_unknown() {
    let on = |timeline, lsn| Position { timeline, ..at(lsn) };
    let mut window = window();
    window.advance(on(1, 50), seconds(50));
    window.advance(on(2, 100), seconds(100));
    assert_eq!(window.check(&topic(1), on(1, 50)), Ok(()));
    assert_eq!(window.check(&topic(1), on(2, 100)), Ok(()));
    assert_eq!(window.check(&topic(1), on(1, 100)), Err(Gap::UnknownCommit));
    assert_eq!(window.check(&topic(1), on(2, 50)), Err(Gap::UnknownCommit));
    // The floor is a position of one timeline too.
    window.advance(on(3, 500), seconds(500));
    window.expire(seconds(450));
    assert_eq!(window.check(&topic(1), on(2, 100)), Ok(()));
    window.start_at(on(2, 600));
    assert_eq!(window.check(&topic(1), on(2, 600)), Ok(()));
    window.advance(on(3, 700), seconds(700));
    assert_eq!(window.check(&topic(1), on(3, 600)), Err(Gap::UnknownCommit));
}

#[test]
fn a_transaction_without_events_is_a_position_too() {
    let mut window = window();
    commit(&mut window, 10, &topic(1), 10);
    window.advance(at(20), seconds(20));
    assert_eq!(window.head(), at(20));
    assert_eq!(window.check(&topic(1), at(20)), Ok(()));
}

#[test]
fn what_is_too_old_leaves_and_raises_the_floor() {
    let mut window = window();
    for lsn in [10, 20, 300, 310] {
        commit(&mut window, lsn, &topic(1), 10);
    }
    window.expire(seconds(310));
    assert_eq!(lsns(&window, &topic(1), at(0)), [10, 20, 300, 310]);
    window.expire(seconds(311));
    assert_eq!(lsns(&window, &topic(1), at(0)), [20, 300, 310]);
    assert_eq!(window.check(&topic(1), at(10)), Ok(()), "everything after it is still there");
    assert_eq!(window.check(&topic(1), Position::before(1, Lsn(1))), Err(Gap::BelowFloor));
    window.expire(seconds(10_000));
    assert_eq!((window.event_count(), window.bytes()), (0, 0));
    assert!(window.topics.is_empty() && window.organizations.is_empty() && window.by_rank.is_empty());
    assert_eq!(window.check(&topic(1), window.head()), Ok(()), "a quiet channel has a position too");
    assert_eq!(window.check(&topic(1), at(300)), Err(Gap::BelowFloor));
}

#[test]
fn one_organizations_import_evicts_its_own_history_only() {
    let mut window = window();
    commit(&mut window, 1, &topic(1), 1_000);
    for lsn in 2..200 {
        commit(&mut window, lsn, &topic(2), 1_000);
    }
    assert!(window.bytes() <= LIMITS.bytes_max);
    assert_eq!(lsns(&window, &topic(1), at(0)), [1]);
    assert_eq!(window.check(&topic(1), Position::before(1, Lsn(1))), Ok(()));
    assert_eq!(window.check(&topic(2), at(2)), Err(Gap::BelowFloor));
    assert_eq!(window.check(&topic(2), at(199)), Ok(()));
    let kept = lsns(&window, &topic(2), at(0));
    let (floor, first) = (window.floor_of(&topic(2)), kept[0]);
    assert_eq!(floor, at(first - 1));
    assert_eq!(kept, (first..200).collect::<Vec<_>>());
}

#[test]
fn the_largest_gives_way_when_all_is_full() {
    let mut window = window();
    let mut lsn = 0;
    let mut next = |window: &mut Window, organization: u128, bytes| {
        lsn += 1;
        commit(window, lsn, &topic(organization), bytes);
    };
    for _ in 0..20 {
        next(&mut window, 1, 2_000);
    }
    for _ in 0..24 {
        next(&mut window, 2, 1_000);
        next(&mut window, 3, 1_000);
    }
    assert!(window.bytes() <= LIMITS.bytes_max);
    assert_eq!(lsns(&window, &topic(2), at(0)).len(), 24);
    assert_eq!(lsns(&window, &topic(3), at(0)).len(), 24);
    assert!(lsns(&window, &topic(1), at(0)).len() < 20);
}

#[test]
fn topics_without_events_are_bounded_and_no_position_below_them_is_good() {
    let mut window = larger_window();
    let conversation =
        |number: u64| Topic::channel_conversation(Uuid::from_u128(7), Uuid::from_u128(number.into()));
    for lsn in 1..2_000 {
        commit(&mut window, lsn, &conversation(lsn), 10);
    }
    assert!(window.bytes() <= LARGER.bytes_max, "{}", window.bytes());
    assert!(window.event_count() > 250 && window.event_count() < 1_000, "{}", window.event_count());
    // Whatever is said to be whole is.
    for lsn in 1..2_000 {
        let is_kept = lsns(&window, &conversation(lsn), at(0)) == [lsn];
        if lsn > 1 {
            assert!(is_kept || window.check(&conversation(lsn), at(lsn - 1)).is_err(), "{lsn}");
        }
        assert_eq!(window.overtakes(&conversation(lsn), at(lsn - 1)), !is_kept, "{lsn}");
        let (start, complete) =
            window.since(&conversation(lsn), seconds(lsn as i64), 10, &mut Viewer::new(None));
        assert!(!complete || !lsns(&window, &conversation(lsn), start).is_empty(), "{lsn}");
    }
    assert_eq!(window.check(&conversation(1), window.head()), Ok(()));
    window.expire(seconds(1_000_000));
    assert_eq!((window.event_count(), window.bytes()), (0, 0));
    assert!(window.topics.is_empty() && window.organizations.is_empty() && window.by_quiet.is_empty());
}

#[test]
fn organizations_without_events_are_bounded_too() {
    let mut window = larger_window();
    for lsn in 1..2_000 {
        commit(&mut window, lsn, &topic(lsn.into()), 10);
    }
    assert!(window.bytes() <= LARGER.bytes_max, "{}", window.bytes());
    assert!(window.event_count() > 250 && window.event_count() < 1_000, "{}", window.event_count());
    for lsn in 2..2_000_u64 {
        let is_kept = lsns(&window, &topic(lsn.into()), at(0)) == [lsn];
        assert!(is_kept || window.check(&topic(lsn.into()), at(lsn - 1)).is_err(), "{lsn}");
    }
    // One that comes back has lost what it had.
    let is_gone = |lsn: &u64| lsns(&window, &topic(u128::from(*lsn)), at(0)).is_empty();
    let back = (2..2_000).find(is_gone).unwrap();
    commit(&mut window, 2_000, &topic(back.into()), 10);
    assert!(window.check(&topic(back.into()), at(back - 1)).is_err());
    assert_eq!(window.check(&topic(back.into()), at(1_999)), Ok(()));
    window.expire(seconds(1_000_000));
    assert_eq!((window.event_count(), window.bytes()), (0, 0));
    assert!(window.topics.is_empty() && window.organizations.is_empty() && window.by_quiet.is_empty());
}

#[test]
fn rows_are_found_where_they_are_and_serializations_counted() {
    let mut window = window();
    let topic = Topic::Other("room".into());
    let row = |number: u64| Uuid::from_u128(number.into());
    for lsn in 1..=600_u64 {
        window.advance(at(lsn), seconds(lsn as i64));
        let message = Some(RealtimeMessage { id: row(lsn % 500), binary: lsn % 3 == 0 });
        let payload = vec![b'x'; 10].into();
        let event =
            Event { topic: topic.clone(), event: "e".into(), payload, private: true, sight: None, message };
        let meta = "{}".into();
        window.keep(&topic, Kept::new(at(lsn), Xid(lsn as u32), &event, &meta, 1));
    }
    let kept = lsns(&window, &topic, at(0));
    let (first, floor) = (kept[0], window.floor_of(&topic));
    assert!(first > 250 && first < 500, "{first}");
    for number in 0..500 {
        let last = if number <= 100 { number + 500 } else { number };
        let expected = (at(last) > floor).then_some(at(last));
        assert_eq!(window.position_of(&topic, row(number)), expected, "{number}");
    }
    for after in [at(0), floor, at(first), at(first + 1), at(599), at(600)] {
        let events = || window.after(&topic, after);
        let of_v1 = events().filter(|kept| kept.encoding.is_for(Vsn::V1)).count();
        assert_eq!(window.count_after(&topic, after, Vsn::V1, &mut Viewer::new(None)), of_v1, "{after:?}");
        assert_eq!(window.count_after(&topic, after, Vsn::V2, &mut Viewer::new(None)), events().count());
    }
}

#[test]
fn clocks_that_go_back_hide_nothing() {
    let mut window = window();
    for (lsn, second) in [(10, 100), (20, 105), (30, 103), (40, 90), (50, 106), (60, 104)] {
        window.advance(at(lsn), seconds(second));
    }
    let check = |second, expected: u64| {
        let before = if expected == 0 { window.floor } else { at(expected) };
        assert_eq!(
            window.since(&topic(1), seconds(second), 10, &mut Viewer::new(None)).0,
            before,
            "{second}"
        );
    };
    for (second, expected) in [(90, 0), (100, 0), (101, 10), (105, 10), (106, 40), (107, 60)] {
        check(second, expected);
    }
}

#[test]
fn a_snapshot_is_complemented_from_where_it_may_lack_something() {
    let mut window = window();
    for (lsn, xid) in [(10, 10), (20, 12), (30, 11), (40, 15), (50, 14), (60, 16)] {
        window.advance(at(lsn), seconds(lsn as i64));
        let event = Event {
            topic: topic(1),
            event: "e".into(),
            payload: "{}".into(),
            private: false,
            sight: None,
            message: None,
        };
        window.keep(&topic(1), Kept::new(at(lsn), Xid(xid), &event, &"{}".into(), 1));
    }
    let check = |snapshot: &str, expected| {
        assert_eq!(window.shown_up_to(&topic(1), &snapshot.parse().unwrap()), expected, "{snapshot}");
    };
    let floor = window.floor_of(&topic(1));
    check("17:17:", at(60));
    check("16:16:", at(50));
    check("15:17:15", at(30));
    check("12:17:12,14", at(10));
    check("10:17:10", floor);
    check("10:10:", floor);
    assert_eq!(window.shown_up_to(&topic(2), &"17:17:".parse().unwrap()), floor);
}

#[test]
fn commits_without_events_are_bounded_too() {
    let mut window = window();
    commit(&mut window, 1, &topic(1), 10);
    for lsn in 2..20_000 {
        window.advance(at(lsn), seconds(1));
    }
    assert!(window.bytes() <= LIMITS.bytes_max, "{}", window.bytes());
}

#[test]
fn since_gives_the_newest_and_says_whether_that_is_all() {
    let mut window = window();
    for lsn in [10, 20, 30, 40] {
        commit(&mut window, lsn, &topic(1), 10);
    }
    let check = |since, limit, expected: &[u64], complete| {
        let (start, is_complete) = window.since(&topic(1), seconds(since), limit, &mut Viewer::new(None));
        assert_eq!(lsns(&window, &topic(1), start), expected, "since {since}, {limit}");
        assert_eq!(is_complete, complete, "since {since}, {limit}");
    };
    check(20, 10, &[20, 30, 40], true);
    check(20, 3, &[20, 30, 40], true);
    check(20, 2, &[30, 40], false);
    check(41, 10, &[], true);
    // Nobody knows what was before the window began.
    check(5, 10, &[10, 20, 30, 40], false);
    window.expire(seconds(311));
    let (start, complete) = window.since(&topic(1), seconds(15), 10, &mut Viewer::new(None));
    assert_eq!((lsns(&window, &topic(1), start), complete), (vec![20, 30, 40], true));
}

#[test]
fn since_is_not_complete_where_the_channel_has_lost_events() {
    let mut window = window();
    for lsn in 10..200 {
        commit(&mut window, lsn, &topic(1), 1_000);
    }
    window.advance(at(200), seconds(200));
    let floor = window.floor_of(&topic(1));
    assert!(floor > at(100), "{floor:?}");
    let check = |lsn: u64, expected: (Position, bool)| {
        assert_eq!(
            window.since(&topic(1), seconds(lsn as i64), 1_000, &mut Viewer::new(None)),
            expected,
            "since {lsn}"
        );
    };
    check(100, (floor, false));
    check(floor.commit_lsn.0, (floor, false));
    check(floor.commit_lsn.0 + 1, (floor, true));
    check(200, (at(199), true));
    // Another topic has lost nothing.
    assert_eq!(window.since(&topic(2), seconds(100), 10, &mut Viewer::new(None)), (at(99), true));
}

#[test]
fn a_snapshot_that_does_not_show_what_was_evicted_is_not_complemented() {
    let mut window = window();
    for lsn in 10..=20 {
        commit(&mut window, lsn, &topic(1), 10);
    }
    let complements =
        |window: &Window, snapshot: &str| window.complements(&snapshot.parse().unwrap(), &topic(1));
    assert!(complements(&window, "1:1:"), "nothing was evicted");
    window.expire(seconds(312));
    assert!(complements(&window, "21:21:"));
    assert!(complements(&window, "12:21:12,15"), "what it does not show is still here");
    assert!(!complements(&window, "11:21:11"), "the evicted one waits for a standby");
    assert!(!complements(&window, "11:11:"));
    assert!(complements(&window, "5:21:5"), "an old transaction that goes on is not one that was streamed");
    for lsn in 21..40_000 {
        commit(&mut window, lsn, &topic(1), 1_000);
    }
    assert!(complements(&window, "40000:40000:"));
    assert!(!complements(&window, "5:40000:5"), "it may be one of those that were forgotten");
}

#[test]
fn what_was_evicted_is_no_loss_however_many_transactions_came_since() {
    let mut window = window();
    for lsn in 10..40_000 {
        commit(&mut window, lsn, &topic(1), 1_000);
    }
    window.expire(seconds(100_000));
    let complements =
        |window: &Window, snapshot: &str| window.complements(&snapshot.parse().unwrap(), &topic(1));
    assert!(complements(&window, "40000:40000:"));
    for later in [1 << 31, (1 << 31) + 20_000, 1 << 32, 5 << 31, 1_u64 << 40] {
        let snapshot = format!("{0}:{0}:", later + 40_000);
        assert!(complements(&window, &snapshot), "{snapshot}");
        // And what is evicted then is looked at as before.
    }
}

#[test]
fn starting_over_forgets_everything() {
    let mut window = window();
    commit(&mut window, 10, &topic(1), 10);
    window.start_at(Position::before(1, Lsn(50)));
    assert_eq!(window.check(&topic(1), at(10)), Err(Gap::BelowFloor));
    assert_eq!((window.event_count(), window.bytes()), (0, 0));
}
