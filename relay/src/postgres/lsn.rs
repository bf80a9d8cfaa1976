//! Positions in the write-ahead log, and the ids of transactions.

use std::fmt;
use std::str::FromStr;

/// A position in the write-ahead log (WAL), in bytes since the cluster was made. Prints as Postgres prints it:
/// `16/B374D848`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Postgres' invalid LSN. In a standby status update it means "no news": the slot stays where it is.
    pub const INVALID: Lsn = Lsn(0);

    /// Bytes of WAL from `earlier` to here; zero if `earlier` lies ahead.
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text was not an LSN as Postgres prints one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an LSN: {0:?}")]
pub struct ParseLsnError(String);

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let half = |digits: &str| {
            let well_formed =
                (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            well_formed.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Lsn(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| ParseLsnError(text.to_owned()))
    }
}

/// A 32-bit transaction id, as the stream has it. It wraps around: what is kept for long keeps the whole id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Xid(pub u32);

impl Xid {
    /// The 64-bit id within 2^31 of another of which this is the lower half. Postgres lets no two transactions that
    /// matter to each other be further apart.
    pub fn widen(self, near: u64) -> u64 {
        const EPOCH: u64 = 1 << 32;
        let id = (near & !(EPOCH - 1)) | u64::from(self.0);
        if id > near.saturating_add(EPOCH / 2) && id >= EPOCH {
            id - EPOCH
        } else if id.saturating_add(EPOCH / 2) < near {
            id.saturating_add(EPOCH)
        } else {
            id
        }
    }
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, value: u64) {
        assert_eq!(text.parse(), Ok(Lsn(value)));
        assert_eq!(Lsn(value).to_string(), text);
    }

    #[test]
    fn prints_and_parses_as_postgres_does() {
        check("0/0", 0);
        check("0/1942840", 0x194_2840);
        check("16/B374D848", 0x16_B374_D848);
        check("FFFFFFFF/FFFFFFFF", u64::MAX);
    }

    #[test]
    fn the_whole_id_is_the_one_nearby() {
        const EPOCH: u64 = 1 << 32;
        let check = |near: u64, id: u64| assert_eq!(Xid(id as u32).widen(near), id, "near {near}");
        check(10, 9);
        check(10, 1 << 31);
        // In the first epoch there is none before.
        check(10, EPOCH - 1);
        check(EPOCH + 2, EPOCH - 1);
        check(EPOCH - 2, EPOCH + 3);
        check(7 * EPOCH + 2, 7 * EPOCH - 1_000);
        check(7 * EPOCH - 2, 7 * EPOCH + 1_000);
        assert_eq!(Xid(3).widen(u64::MAX), u64::MAX);
    }

    #[test]
    fn refuses_what_is_not_an_lsn() {
        for text in ["", "/", "0", "0/", "/0", "0/123456789", "0x1/0", "+1/0", "g/0"] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?}");
        }
    }
}
