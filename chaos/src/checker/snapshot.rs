//! Joins that ask for rows: rows and events together are everything, and nothing is in both.

use std::collections::{BTreeSet, HashSet};

use uuid::Uuid;

use super::{Kind, Walk};
use crate::journal::{Record, Reply, Stay};
use crate::plan::Who;
use crate::position::Position;

impl Walk<'_> {
    /// Compares rows and events of a stay with the truth.
    pub(super) fn snapshot(&mut self, stay: &Stay, reply: Reply, rows_max: usize, until: Position) {
        self.verdict.snapshots += 1;
        let mut rows = BTreeSet::new();
        let mut events = HashSet::new();
        let mut row_count = 0;
        let mut conversations = HashSet::new();
        // After a loss the client was told to fetch all anew, and may get again what it has.
        let sound = stay.records.iter().take_while(|record| !matches!(record, Record::Loss { .. }));
        for record in sound {
            let (Record::Row { name, payload } | Record::Event { name, payload, .. }) = record else {
                continue;
            };
            if name.starts_with("conversation:") && matches!(record, Record::Row { .. }) {
                conversations.extend(conversation_of(payload));
            }
            if &**name != "message:created" {
                continue;
            }
            let Some(message) = Message::of(payload) else { continue };
            if matches!(record, Record::Row { .. }) {
                row_count += 1;
                rows.insert((message.created_at, message.id));
            } else {
                events.insert(message.id);
            }
        }
        let ids: HashSet<&String> = rows.iter().map(|(_, id)| id).collect();
        if ids.len() < row_count {
            self.report(
                Kind::Duplicate,
                format!("{} of the snapshot's rows come twice", row_count - ids.len()),
            );
        }
        let both = events.iter().filter(|id| ids.contains(id)).count();
        if both > 0 {
            self.report(
                Kind::Duplicate,
                format!("{both} messages are in the snapshot and come as events too"),
            );
        }
        // An agent who was switched off before the rows were read was shown none.
        let was_switched_off = self.switched_off(reply.position, stay.joined_at);
        let told = stay.records.iter().any(|record| matches!(record, Record::Loss { .. }));
        if !reply.complete || told || was_switched_off || (stay.records.len() as u64) < reply.count {
            return;
        }
        let oldest = (row_count >= rows_max).then(|| rows.first().cloned()).flatten();
        let until = until.min(self.last_known(stay).max(reply.position));
        let mut missing = Vec::new();
        for expected in self.events.iter().take_while(|event| event.position <= until) {
            if expected.name != "message:created" {
                continue;
            }
            let Some(message) = Message::of(&expected.payload) else { continue };
            let is_too_old = oldest
                .as_ref()
                .is_some_and(|oldest| (&message.created_at, &message.id) < (&oldest.0, &oldest.1));
            let came = ids.contains(&message.id) || events.contains(&message.id);
            let went = self.truth.deleted.contains(&message.id)
                || self.truth.gone.contains_key(&(message.organization, message.conversation));
            // Rows of an organization are those of the conversations that were updated last, of which there are no more.
            let is_beyond = conversations.len() >= rows_max
                && expected.position <= reply.position
                && !conversations.contains(&message.conversation);
            if !came && !went && !is_too_old && !is_beyond {
                missing.push(format!("{} {}", message.id, expected.position));
            }
        }
        if !missing.is_empty() {
            let some: Vec<String> = missing.iter().take(3).cloned().collect();
            let what = format!(
                "{} messages are neither in the snapshot's {row_count} rows nor among the events: {}",
                missing.len(),
                some.join(", ")
            );
            self.report(Kind::Gap, what);
        }
    }

    /// The last place that this stay certainly reached.
    pub(super) fn last_known(&self, stay: &Stay) -> Position {
        let reached = stay.records.iter().filter_map(|record| match record {
            Record::Event { position, .. } | Record::Head(position) => Some(*position),
            Record::Row { .. } | Record::Loss { .. } => None,
        });
        reached.max().unwrap_or_default()
    }

    /// Whether the agent was switched off after a position and before a time.
    fn switched_off(&self, after: Position, before: i64) -> bool {
        let Who::Agent { organization, user } = self.journal.client.who else { return false };
        let history = self.truth.agents.get(&(organization, user)).map_or(&[][..], Vec::as_slice);
        history.iter().any(|(position, at, active)| {
            !active && *at <= before && position.is_some_and(|position| position > after)
        })
    }
}

fn conversation_of(payload: &str) -> Option<Uuid> {
    let payload: serde_json::Value = serde_json::from_str(payload).ok()?;
    payload["id"].as_str()?.parse().ok()
}

/// What of a message tells it from others, and from its neighbours in time.
struct Message {
    id: String,
    created_at: String,
    organization: Uuid,
    conversation: Uuid,
}

impl Message {
    fn of(payload: &str) -> Option<Self> {
        let payload: serde_json::Value = serde_json::from_str(payload).ok()?;
        let text = |column: &str| payload[column].as_str().map(str::to_owned);
        Some(Self {
            id: text("id")?,
            created_at: text("created_at")?,
            organization: text("organization_id")?.parse().ok()?,
            conversation: text("conversation_id")?.parse().ok()?,
        })
    }
}
