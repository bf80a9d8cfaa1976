use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::route::Topic;

const GRACE: Duration = Duration::from_secs(5);

const LIMITS: PresenceLimits = PresenceLimits {
    grace: GRACE,
    calls_max: 0,
    calls_time: GRACE,
    payload_bytes_max: usize::MAX,
    room_bytes_max: usize::MAX,
    bytes_max: usize::MAX,
};

fn room() -> RoomKey {
    RoomKey { topic: Topic::parse("room").unwrap(), private: false }
}

/// A room of a roster, seen by a member that merges what it is told as clients do.
struct Watched {
    roster: Roster,
    now: Instant,
    seen: Map<String, Value>,
    told: usize,
}

impl Watched {
    fn new() -> Self {
        Self { roster: Roster::new(&LIMITS), now: Instant::now(), seen: Map::new(), told: 0 }
    }

    fn track(&mut self, held: Option<PresenceId>, key: &str, name: &str) -> PresenceId {
        let members = format!(r#""name":"{name}""#);
        self.roster.track(&room(), held, &key.into(), &members, self.now).unwrap()
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.roster.expire(self.now);
        while self.roster.tell_at().is_some() {
            self.now += COALESCE;
            for difference in self.roster.differences(self.now) {
                self.told += 1;
                self.merge(&difference);
            }
        }
    }

    /// As the JavaScript client does: joins are appended, then leaves are taken out by their refs.
    fn merge(&mut self, difference: &Difference) {
        let parse = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let metas = |value: &Value| value["metas"].as_array().unwrap().clone();
        for (key, joined) in parse(&difference.joins) {
            let known = self.seen.entry(key).or_insert_with(|| json!({"metas": []}));
            known["metas"].as_array_mut().unwrap().extend(metas(&joined));
        }
        for (key, left) in parse(&difference.leaves) {
            let gone: Vec<Value> = metas(&left).iter().map(|meta| meta["phx_ref"].clone()).collect();
            let known = self.seen[&key]["metas"].as_array_mut().expect("only who was told of leaves");
            let before = known.len();
            known.retain(|meta| !gone.contains(&meta["phx_ref"]));
            assert_eq!(known.len() + gone.len(), before, "only who was told of leaves");
            if known.is_empty() {
                self.seen.remove(&key);
            }
        }
    }

    fn state(&mut self) -> Map<String, Value> {
        let mut told = Map::new();
        let mut progress = None;
        loop {
            let Piece { metas, rest } = self.roster.state(&room(), progress);
            for (key, metas) in serde_json::from_str::<Map<String, Value>>(&metas).unwrap() {
                let known = told.entry(key).or_insert_with(|| json!({"metas": []}));
                known["metas"].as_array_mut().unwrap().extend(metas["metas"].as_array().unwrap().clone());
            }
            progress = rest;
            if progress.is_none() {
                return told;
            }
        }
    }

    /// `key: name name`, by key.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .seen
            .iter()
            .map(|(key, value)| {
                let metas = value["metas"].as_array().unwrap();
                let mut names: Vec<_> = metas.iter().map(|meta| meta["name"].as_str().unwrap()).collect();
                names.sort_unstable();
                format!("{key}: {}", names.join(" "))
            })
            .collect();
        names.sort_unstable();
        names
    }
}

#[test]
fn who_tracks_is_told_with_a_ref_and_who_tracks_the_same_again_is_not() {
    let mut watched = Watched::new();
    let ann = watched.track(None, "ann", "Ann");
    assert_eq!(watched.state(), Map::new(), "a joining member hears of it by the difference");
    watched.wait(Duration::ZERO);
    assert_eq!(watched.names(), ["ann: Ann"]);
    assert!(watched.seen["ann"]["metas"][0]["phx_ref"].is_string());
    assert_eq!(watched.state(), watched.seen);
    assert_eq!(watched.track(Some(ann), "ann", "Ann"), ann);
    watched.wait(Duration::ZERO);
    assert_eq!(watched.told, 1);
}

#[test]
fn a_change_is_one_difference_that_names_what_it_replaces() {
    let mut watched = Watched::new();
    let ann = watched.track(None, "ann", "Ann");
    watched.wait(Duration::ZERO);
    let before = watched.seen["ann"]["metas"][0]["phx_ref"].clone();
    watched.track(Some(ann), "ann", "Ann B");
    watched.track(Some(ann), "ann", "Ann C");
    watched.wait(Duration::ZERO);
    assert_eq!((watched.names(), watched.told), (vec!["ann: Ann C".to_owned()], 2));
    let meta = &watched.seen["ann"]["metas"][0];
    assert_eq!(meta["phx_ref_prev"], before);
    assert_ne!(meta["phx_ref"], before);
}

#[test]
fn who_comes_and_goes_in_a_moment_is_never_told() {
    let mut watched = Watched::new();
    let ann = watched.track(None, "ann", "Ann");
    watched.roster.untrack(&room(), ann, watched.now);
    watched.wait(Duration::ZERO);
    assert_eq!((watched.told, watched.roster.len()), (0, 0));
}

#[test]
fn several_devices_share_a_key_and_leave_one_by_one() {
    let mut watched = Watched::new();
    let phone = watched.track(None, "ann", "phone");
    watched.track(None, "ann", "desk");
    watched.wait(Duration::ZERO);
    assert_eq!(watched.names(), ["ann: desk phone"]);
    watched.roster.untrack(&room(), phone, watched.now);
    watched.wait(Duration::ZERO);
    assert_eq!(watched.names(), ["ann: desk"]);
}

#[test]
fn who_is_away_is_present_for_the_grace_and_no_longer() {
    let mut watched = Watched::new();
    let ann = watched.track(None, "ann", "Ann");
    watched.wait(Duration::ZERO);
    watched.roster.part(&room(), ann, watched.now);
    watched.wait(GRACE - Duration::from_secs(1));
    assert_eq!(watched.names(), ["ann: Ann"]);
    watched.wait(Duration::from_secs(2));
    assert_eq!(watched.names(), [""; 0]);
    assert_eq!(watched.roster.len(), 0);
}

#[test]
fn who_comes_back_in_time_never_left() {
    let mut watched = Watched::new();
    let phone = watched.track(None, "ann", "phone");
    let desk = watched.track(None, "ann", "desk");
    watched.wait(Duration::ZERO);
    for id in [phone, desk] {
        watched.roster.part(&room(), id, watched.now);
    }
    assert_eq!(watched.track(None, "ann", "desk"), desk, "the one with the same members");
    watched.wait(Duration::from_secs(1));
    assert_eq!(watched.told, 1);
    assert_eq!(watched.track(None, "ann", "phone again"), phone);
    watched.wait(GRACE * 2);
    assert_eq!((watched.names(), watched.told), (vec!["ann: desk phone again".to_owned()], 2));
}

#[test]
fn an_absence_that_ended_does_not_count_for_the_next() {
    let mut watched = Watched::new();
    let ann = watched.track(None, "ann", "Ann");
    watched.roster.part(&room(), ann, watched.now);
    watched.wait(Duration::from_secs(4));
    watched.track(None, "ann", "Ann");
    watched.roster.part(&room(), ann, watched.now);
    watched.wait(Duration::from_secs(4));
    assert_eq!(watched.names(), ["ann: Ann"]);
    watched.wait(Duration::from_secs(2));
    assert_eq!(watched.names(), [""; 0]);
}

#[test]
fn a_crowd_costs_few_differences_of_bounded_size() {
    let mut watched = Watched::new();
    let long = "x".repeat(1000);
    let ids: Vec<_> = (0..1000).map(|n| watched.track(None, &format!("user {n}"), &long)).collect();
    watched.now += COALESCE;
    let first = watched.roster.differences(watched.now).remove(0);
    assert!(first.joins.len() < 2 * PIECE_BYTES_MAX, "{}", first.joins.len());
    watched.merge(&first);
    watched.wait(Duration::ZERO);
    assert_eq!(watched.seen.len(), 1000);
    assert!(watched.told < 20, "{}", watched.told);
    assert_eq!(watched.state(), watched.seen);
    for id in ids {
        watched.roster.part(&room(), id, watched.now);
    }
    assert!(watched.roster.absences.capacity() >= 1000);
    watched.wait(GRACE);
    assert_eq!((watched.seen.len(), watched.roster.len(), watched.roster.bytes()), (0, 0, 0));
    assert_eq!(watched.roster.absences.capacity(), 0, "its memory is given back");
}

/// The order of metas means nothing.
fn sorted(mut state: Map<String, Value>) -> Map<String, Value> {
    for value in state.values_mut() {
        value["metas"].as_array_mut().unwrap().sort_by_key(|meta| meta["phx_ref"].to_string());
    }
    state
}

proptest! {
    /// However channels come and go, who merges the differences knows what a newcomer is told, and after the
    /// grace only those are present who still hold on.
    #[test]
    fn differences_add_up_to_the_state(steps in prop::collection::vec((0_usize..4, 0_u8..5, 0_u8..3, 0_u64..4000), 0..60)) {
        let mut watched = Watched::new();
        let mut held: [Option<PresenceId>; 4] = [None; 4];
        let key = |channel: usize| if channel < 2 { "shared" } else { "own" };
        let mut names: [Option<String>; 4] = [const { None }; 4];
        for (channel, action, name, millis) in steps {
            let name = format!("name {name}");
            match (action, held[channel]) {
                (0..3, id) => {
                    held[channel] = Some(watched.track(id, key(channel), &name));
                    names[channel] = Some(name);
                }
                (3, Some(id)) => {
                    watched.roster.untrack(&room(), id, watched.now);
                    (held[channel], names[channel]) = (None, None);
                }
                (_, Some(id)) => {
                    watched.roster.part(&room(), id, watched.now);
                    (held[channel], names[channel]) = (None, None);
                }
                (_, None) => watched.wait(Duration::from_millis(millis)),
            }
        }
        watched.wait(Duration::ZERO);
        prop_assert_eq!(sorted(watched.state()), sorted(watched.seen.clone()));
        watched.wait(GRACE);
        let count = watched.seen.values().map(|value| value["metas"].as_array().unwrap().len()).sum::<usize>();
        prop_assert_eq!(count, names.iter().flatten().count());
        prop_assert_eq!(sorted(watched.state()), sorted(watched.seen));
    }
}
