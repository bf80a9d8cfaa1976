//! Postgres' clock: microseconds since 2000-01-01 00:00 UTC.

use std::error::Error;
use std::fmt;

use bytes::BytesMut;
use serde::{Serialize, Serializer};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// From 0000-03-01, where the arithmetic below starts its years, to 2000-01-01.
const DAYS_TO_2000: i64 = 730_425;
/// The same from 1970-01-01.
const UNIX_SECONDS_AT_2000: i64 = 946_684_800;

/// A point in time, as Postgres stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// From milliseconds since 1970-01-01 00:00 UTC; what cannot be said in microseconds becomes the nearest that can.
    pub fn from_unix_millis(millis: i64) -> Timestamp {
        Timestamp(millis.saturating_mul(1000).saturating_sub(UNIX_SECONDS_AT_2000 * MICROS_PER_SECOND))
    }

    /// Microseconds since 1970-01-01 00:00 UTC.
    pub fn unix_micros(self) -> i64 {
        self.0.saturating_add(UNIX_SECONDS_AT_2000 * MICROS_PER_SECOND)
    }

    /// `2026-11-22T21:51:51.000000Z`: UTC, always six digits, so that such texts sort as the times do.
    pub fn to_rfc3339(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            i64::MAX => return f.write_str("infinity"),
            i64::MIN => return f.write_str("-infinity"),
            _ => {}
        }
        let seconds = self.0.div_euclid(MICROS_PER_SECOND);
        let micros = self.0.rem_euclid(MICROS_PER_SECOND);
        let days = seconds.div_euclid(SECONDS_PER_DAY);
        let second_of_day = seconds.rem_euclid(SECONDS_PER_DAY);
        let (year, month, day) = civil_from_days(days + DAYS_TO_2000);
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromSql<'_> for Timestamp {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(TIMESTAMPTZ);
}

impl ToSql for Timestamp {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

/// Year, month and day of a count of days since 0000-03-01 in the proleptic Gregorian calendar. Years that start in
/// March put the leap day last, which is what makes the division work (Howard Hinnant's algorithm).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(micros: i64, expected: &str) {
        assert_eq!(Timestamp(micros).to_rfc3339(), expected);
    }

    #[test]
    fn writes_six_digits_and_z() {
        check(0, "2000-01-01T00:00:00.000000Z");
        check(1, "2000-01-01T00:00:00.000001Z");
        check(-1, "1999-12-31T23:59:59.999999Z");
        check(848_699_511_123_456, "2026-11-22T21:51:51.123456Z");
        check(i64::MAX, "infinity");
        check(i64::MIN, "-infinity");
    }

    #[test]
    fn knows_leap_days() {
        const DAY: i64 = 86_400 * 1_000_000;
        check(59 * DAY, "2000-02-29T00:00:00.000000Z");
        check(60 * DAY, "2000-03-01T00:00:00.000000Z");
        check((366 + 365 * 3 + 59) * DAY, "2004-02-29T00:00:00.000000Z");
        check(-10957 * DAY, "1970-01-01T00:00:00.000000Z");
        check((36_525 + 58) * DAY, "2100-02-28T00:00:00.000000Z");
        check((36_525 + 59) * DAY, "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn agrees_with_the_unix_epoch() {
        assert_eq!(Timestamp::from_unix_millis(946_684_800_001), Timestamp(1000));
        assert_eq!(Timestamp(-UNIX_SECONDS_AT_2000 * MICROS_PER_SECOND).unix_micros(), 0);
    }

    #[test]
    fn extremes_do_not_panic() {
        for micros in [i64::MIN, i64::MIN + 1, i64::MAX] {
            let _ = Timestamp(micros).to_rfc3339();
        }
    }
}
