//! Ids of events, read apart from the relay's own code.

use std::fmt;

/// Where a change stands: its transaction's commit, and its place in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub timeline: u32,
    pub commit_lsn: u64,
    pub change: u32,
}

impl Position {
    /// Reads `tag.timeline.commit_lsn.change`; the tag, which names the database, comes first.
    pub fn parse(id: &str) -> Option<(u16, Self)> {
        let mut parts = id.split('.');
        let mut hex = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            u64::from_str_radix(part, 16).ok()
        };
        let (tag, timeline, commit_lsn, change) = (hex(4)?, hex(8)?, hex(16)?, hex(8)?);
        let position = Self { timeline: timeline as u32, commit_lsn, change: change as u32 };
        parts.next().is_none().then_some((tag as u16, position))
    }

    /// The id of this position in the database of that tag.
    pub fn id(self, tag: u16) -> String {
        format!("{tag:04x}.{:08x}.{:016x}.{:08x}", self.timeline, self.commit_lsn, self.change)
    }

    /// Just before every change of a transaction.
    pub fn before(self) -> Self {
        Self { commit_lsn: self.commit_lsn.saturating_sub(1), change: u32::MAX, ..self }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { timeline, commit_lsn, change } = self;
        write!(f, "{timeline}/{:X}/{:X}#{change}", commit_lsn >> 32, commit_lsn & 0xffff_ffff)
    }
}

/// `16/B374D848` as a number.
pub fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some(u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_and_sort_as_positions_do() {
        let position = Position { timeline: 1, commit_lsn: 0x194_2840, change: 7 };
        assert_eq!(position.id(0xbeef), "beef.00000001.0000000001942840.00000007");
        assert_eq!(Position::parse(&position.id(0xbeef)), Some((0xbeef, position)));
        assert!(position.before() < Position { change: 0, ..position });
        for broken in ["", "beef.1.2.3", "beef.00000001.0000000001942840.00000007.0"] {
            assert_eq!(Position::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn lsns_are_read_as_postgres_writes_them() {
        assert_eq!(parse_lsn("16/B374D848"), Some(0x16_B374_D848));
        assert_eq!(parse_lsn("16"), None);
    }
}
