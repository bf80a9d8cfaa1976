//! What a snapshot of Postgres sees, told of the transactions of the stream. Arithmetic alone.
//!
//! The stream and the snapshot do not agree by themselves: a commit that waits for a synchronous standby is streamed
//! before any snapshot sees it, and one that need not be flushed is seen before it is streamed.

use std::str::FromStr;

use super::Xid;

/// A `pg_snapshot`, as `pg_current_snapshot()` prints it: `xmin:xmax:xip,…`, ids in 64 bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Every transaction below it has ended.
    xmin: u64,
    /// No transaction at or above it had ended.
    xmax: u64,
    /// Those in between that had not, in order. Top-level transactions only, as in the stream.
    in_progress: Vec<u64>,
}

/// The text was no snapshot.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a snapshot: {0:?}")]
pub struct ParseSnapshotError(String);

impl Snapshot {
    /// Whether the snapshot shows what a committed transaction of the stream did.
    pub fn shows(&self, xid: Xid) -> bool {
        self.shows_id(xid.widen(self.xmax))
    }

    /// The same of a whole id.
    pub fn shows_id(&self, xid: u64) -> bool {
        // Both are needed: a commit that waits for a synchronous standby may be xmax itself, and is then not listed.
        xid < self.xmax && self.in_progress.binary_search(&xid).is_err()
    }

    /// Whether it began at or after the oldest transaction that was in progress.
    pub fn is_recent(&self, xid: u64) -> bool {
        xid >= self.xmin
    }

    /// An id that was about to be given out when it was taken.
    pub fn xmax(&self) -> u64 {
        self.xmax
    }
}

impl FromStr for Snapshot {
    type Err = ParseSnapshotError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.split(':');
            let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let in_progress = match parts.next()? {
                "" => Vec::new(),
                list => list.split(',').map(|xid| xid.parse().ok()).collect::<Option<Vec<u64>>>()?,
            };
            let is_valid = parts.next().is_none()
                && xmin <= xmax
                && in_progress.is_sorted()
                && in_progress.iter().all(|xid| (xmin..xmax).contains(xid));
            is_valid.then_some(Self { xmin, xmax, in_progress })
        };
        parse().ok_or_else(|| ParseSnapshotError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(snapshot: &str, shown: &[u32], hidden: &[u32]) {
        let snapshot: Snapshot = snapshot.parse().unwrap();
        for xid in shown {
            assert!(snapshot.shows(Xid(*xid)), "{snapshot:?} does not show {xid}");
        }
        for xid in hidden {
            assert!(!snapshot.shows(Xid(*xid)), "{snapshot:?} shows {xid}");
        }
    }

    #[test]
    fn what_had_ended_is_shown() {
        check("10:20:10,14", &[3, 9, 11, 13, 19], &[10, 14, 20, 21, 4_000]);
        check("20:20:", &[19], &[20]);
    }

    #[test]
    fn ids_wrap_around_in_both_directions() {
        // xmax just above a multiple of 2^32: ids just below it are of the epoch before.
        let above = format!("{}:{}:", (5_u64 << 32) + 2, (5_u64 << 32) + 2);
        check(&above, &[1, u32::MAX, u32::MAX - 1_000], &[2, 3, 1_000_000]);
        // xmax just below one: small ids lie ahead.
        let xmax = (5_u64 << 32) - 2;
        check(
            &format!("{}:{xmax}:{}", xmax - 5, xmax - 5),
            &[u32::MAX - 2],
            &[u32::MAX - 6, u32::MAX, 3, 100],
        );
        // In the first epoch there is none before.
        check("10:20:", &[19], &[u32::MAX / 2, u32::MAX]);
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        for text in ["", "1", "1:2", "1:2:3:4", "2:1:", "1:9:9", "1:9:0", "1:9:5,4", "a:b:", "1:9:,", "-1:2:"]
        {
            assert!(text.parse::<Snapshot>().is_err(), "{text:?}");
        }
    }

    proptest! {
        /// Against 64-bit ids, which need no arithmetic.
        #[test]
        fn the_lower_half_of_an_id_decides_as_the_whole_would(
            xmin in (1_u64 << 31)..(1 << 50),
            length in 0_u64..1_000,
            picks in proptest::collection::btree_set(0_u64..1_000, 0..20),
            distance in -((1_i64 << 31) - 2_000)..((1_i64 << 31) - 2_000),
        ) {
            let xmax = xmin + length;
            let in_progress: Vec<u64> = picks.into_iter().filter(|pick| *pick < length).map(|pick| xmin + pick).collect();
            let list: Vec<String> = in_progress.iter().map(u64::to_string).collect();
            let snapshot: Snapshot = format!("{xmin}:{xmax}:{}", list.join(",")).parse().unwrap();
            let whole = xmin.checked_add_signed(distance).unwrap();
            let shown = whole < xmax && !in_progress.contains(&whole);
            prop_assert_eq!(snapshot.shows(Xid(whole as u32)), shown);
            prop_assert_eq!(snapshot.shows_id(whole), shown);
            prop_assert_eq!(snapshot.is_recent(whole), whole >= xmin);
            for running in in_progress {
                prop_assert!(!snapshot.shows(Xid(running as u32)));
            }
        }
    }
}
