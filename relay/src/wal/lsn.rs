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

/// A 32-bit transaction id. It wraps around; compare two only together with a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Xid(pub u32);

impl Xid {
    /// Whether it was given out before `other`, as Postgres compares ids that are less than 2^31 apart.
    pub fn precedes(self, other: Xid) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// The 64-bit id within 2^31 of `near` of which this is the lower half. Postgres lets no two transactions that matter
    /// to each other be further apart.
    pub fn widen(self, near: u64) -> u64 {
        const EPOCH: u64 = 1 << 32;
        let wide = (near & !(EPOCH - 1)) | u64::from(self.0);
        if wide > near.saturating_add(EPOCH / 2) && wide >= EPOCH {
            wide - EPOCH
        } else if wide.saturating_add(EPOCH / 2) < near {
            wide + EPOCH
        } else {
            wide
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
    fn transaction_ids_are_compared_around_the_wrap() {
        assert!(Xid(3).precedes(Xid(4)) && !Xid(4).precedes(Xid(3)) && !Xid(4).precedes(Xid(4)));
        assert!(Xid(u32::MAX).precedes(Xid(3)) && !Xid(3).precedes(Xid(u32::MAX)));
    }

    #[test]
    fn refuses_what_is_not_an_lsn() {
        for text in ["", "/", "0", "0/", "/0", "0/123456789", "0x1/0", "+1/0", "g/0"] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?}");
        }
    }
}
