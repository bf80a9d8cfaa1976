//! The position of a change: the id of the events that come of it.

use std::fmt;

use crate::postgres::Lsn;

/// Names the database that positions belong to: 16 bits of a hash of system identifier and database oid.
/// A position of another database is recognised as foreign with odds of 65,535 in 65,536.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseTag(u16);

impl DatabaseTag {
    pub fn new(system_identifier: u64, database_oid: u32) -> Self {
        // FNV-1a, because it is fixed for ever: the tag must be the same in every release.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in system_identifier.to_be_bytes().into_iter().chain(database_oid.to_be_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self((hash ^ (hash >> 16) ^ (hash >> 32) ^ (hash >> 48)) as u16)
    }
}

/// Where in the WAL a change stands: the commit of its transaction, and its place in it. Commits arrive in rising
/// order within a timeline, so positions sort in the order of delivery, as values and as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub timeline: u32,
    pub commit_lsn: Lsn,
    /// Inserts, updates, deletes, truncates and transactional messages since Begin, from 0.
    pub change: u32,
}

impl Position {
    /// The id as clients see it, opaque to them: `tag.timeline.commit_lsn.change`, all in hexadecimal.
    pub fn id(self, tag: DatabaseTag) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            write!(f, "{:04x}.{:08x}.{:016x}.{:08x}", tag.0, self.timeline, self.commit_lsn.0, self.change)
        })
    }

    /// Its transaction's commit. An LSN alone may be one of a history that was left.
    pub fn commit(self) -> (u32, Lsn) {
        (self.timeline, self.commit_lsn)
    }

    /// Just before every commit that a slot confirmed up to `lsn` still sends. One may begin exactly there.
    pub fn before(timeline: u32, lsn: Lsn) -> Self {
        Self { timeline, commit_lsn: Lsn(lsn.0.saturating_sub(1)), change: u32::MAX }
    }

    /// Reads an id, and the database that it is of.
    pub fn parse_id(id: &str) -> Option<(DatabaseTag, Self)> {
        let mut parts = id.split('.');
        let mut hex = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let well_formed = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            well_formed.then(|| u64::from_str_radix(part, 16).ok()).flatten()
        };
        let (tag, timeline, commit_lsn, change) = (hex(4)?, hex(8)?, hex(16)?, hex(8)?);
        if parts.next().is_some() {
            return None;
        }
        let tag = DatabaseTag(u16::try_from(tag).ok()?);
        let (timeline, change) = (u32::try_from(timeline).ok()?, u32::try_from(change).ok()?);
        Some((tag, Self { timeline, commit_lsn: Lsn(commit_lsn), change }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_have_fixed_width() {
        let position = Position { timeline: 1, commit_lsn: Lsn(0x194_2840), change: 7 };
        let id = position.id(DatabaseTag(0xbeef)).to_string();
        assert_eq!(id, "beef.00000001.0000000001942840.00000007");
    }

    #[test]
    fn ids_sort_as_positions_do() {
        let tag = DatabaseTag::new(1, 2);
        let mut positions = Vec::new();
        for timeline in [1, 0x10] {
            for lsn in [0xf, 0x10, u64::MAX] {
                positions.extend([0, 9, 10, u32::MAX].map(|change| Position {
                    timeline,
                    commit_lsn: Lsn(lsn),
                    change,
                }));
            }
        }
        assert!(positions.is_sorted());
        assert!(positions.iter().map(|position| position.id(tag).to_string()).is_sorted());
    }

    #[test]
    fn ids_read_back() {
        let tag = DatabaseTag::new(1, 2);
        let position = Position { timeline: 3, commit_lsn: Lsn(0x16_B374_D848), change: 42 };
        let id = position.id(tag).to_string();
        assert_eq!(Position::parse_id(&id), Some((tag, position)));
        for broken in [
            "",
            "x",
            &id[1..],
            &id.to_uppercase(),
            &format!("{id}.0"),
            &id.replace('.', "-"),
            &format!(" {id}"),
        ] {
            assert_eq!(Position::parse_id(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn tags_tell_databases_apart() {
        let tag = DatabaseTag::new(7_345_678_901_234_567_890, 16_384);
        assert_eq!(tag, DatabaseTag::new(7_345_678_901_234_567_890, 16_384));
        assert_ne!(tag, DatabaseTag::new(7_345_678_901_234_567_890, 16_385));
        assert_ne!(tag, DatabaseTag::new(7_345_678_901_234_567_891, 16_384));
    }

    proptest! {
        #[test]
        fn any_id_reads_back_and_no_text_panics(
            tag: u16, timeline: u32, lsn: u64, change: u32, text in "[0-9a-fx.]{0,50}|\\PC{0,50}"
        ) {
            let position = Position { timeline, commit_lsn: Lsn(lsn), change };
            let id = position.id(DatabaseTag(tag)).to_string();
            prop_assert_eq!(Position::parse_id(&id), Some((DatabaseTag(tag), position)));
            if let Some((tag, position)) = Position::parse_id(&text) {
                prop_assert_eq!(position.id(tag).to_string(), text);
            }
        }
    }
}
