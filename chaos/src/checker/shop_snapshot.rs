//! Joins of a shop's channel that ask for rows: rows and events together make the table, and nothing is in both.

use std::collections::{HashMap, HashSet};

use super::{Kind, Walk};
use crate::journal::{Record, Reply, Stay};
use crate::position::Position;

impl Walk<'_> {
    /// Compares rows and events of a stay with the truth. Each write has a version of its own.
    pub(super) fn shop_snapshot(&mut self, stay: &Stay, reply: Reply, rows_max: usize, until: Position) {
        self.verdict.snapshots += 1;
        let mut shown = HashSet::new();
        let mut orders: HashMap<i64, i64> = HashMap::new();
        let (mut row_count, mut both) = (0, 0);
        // After a loss the client was told to fetch all anew, and may get again what it has.
        let sound = stay.records.iter().take_while(|record| !matches!(record, Record::Loss { .. }));
        for record in sound {
            match record {
                Record::Row { payload, .. } => {
                    let Some(Order { id, version }) = Order::of(payload) else {
                        self.report(Kind::WrongPayload, format!("no row of a shop: {payload:.300}"));
                        continue;
                    };
                    row_count += 1;
                    shown.insert((id, version));
                    if orders.insert(id, version).is_some() {
                        self.report(Kind::Duplicate, format!("order {id} is twice in the snapshot's rows"));
                    }
                }
                Record::Event { name, payload, .. } => {
                    let Some(Order { id, version }) = Order::of(payload) else { continue };
                    match &**name {
                        "order:deleted" => drop(orders.remove(&id)),
                        _ => {
                            both += usize::from(shown.contains(&(id, version)));
                            orders.insert(id, version);
                        }
                    }
                }
                Record::Head(_) | Record::Loss { .. } => {}
            }
        }
        if both > 0 {
            let what = format!("{both} writes are in the snapshot and come as events too");
            self.report(Kind::Duplicate, what);
        }
        let told = stay.records.iter().any(|record| matches!(record, Record::Loss { .. }));
        let is_cut = (stay.records.len() as u64) < reply.count;
        if !reply.complete || told || is_cut || row_count >= rows_max {
            return;
        }
        let until = until.min(self.last_known(stay).max(reply.position));
        let mut history: HashMap<i64, (Option<i64>, Vec<Option<i64>>)> = HashMap::new();
        for event in self.events {
            let Some(Order { id, version }) = Order::of(&event.payload) else { continue };
            let value = (event.name != "order:deleted").then_some(version);
            let (at_end, later) = history.entry(id).or_default();
            match event.position <= until {
                true => *at_end = value,
                // The rows may be ahead of the stream.
                false => later.push(value),
            }
        }
        let wrong: Vec<String> = history
            .iter()
            .filter(|(id, (at_end, later))| {
                let found = orders.get(id).copied();
                found != *at_end && !later.contains(&found)
            })
            .map(|(id, (at_end, _))| format!("order {id} is {:?} instead of {at_end:?}", orders.get(id)))
            .collect();
        if !wrong.is_empty() {
            let what = format!(
                "{} orders are not as {row_count} rows and the events up to {until} make them: {}",
                wrong.len(),
                wrong.iter().take(3).cloned().collect::<Vec<_>>().join(", ")
            );
            self.report(Kind::Gap, what);
        }
    }
}

struct Order {
    id: i64,
    version: i64,
}

impl Order {
    /// None for what else is said on the channel.
    fn of(payload: &str) -> Option<Self> {
        let payload: serde_json::Value = serde_json::from_str(payload).ok()?;
        Some(Self { id: payload["id"].as_i64()?, version: payload["version"].as_i64()? })
    }
}
