//! Timestamps as events carry them: RFC 3339, UTC, microseconds.

/// Microseconds since 1970, or `None` where the text is not of that form.
pub fn micros(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').or(text.strip_suffix("+00:00"))?;
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    if fraction.is_empty() || fraction.len() > 6 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction: i64 = format!("{fraction:0<6}").parse().ok()?;
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(seconds * 1_000_000 + fraction)
}

/// Counts from March, so that the leap day is a year's last (Hinnant's algorithm).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_read() {
        let known = [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.5Z", 500_000),
            ("2000-02-29T12:34:56.000001+00:00", 951_827_696_000_001),
            ("2026-11-22T21:48:08.123456Z", 1_795_384_088_123_456),
        ];
        for (text, wanted) in known {
            assert_eq!(micros(text), Some(wanted), "{text}");
        }
    }

    #[test]
    fn other_forms_are_not_guessed() {
        for text in ["2026-11-22 21:48:08Z", "2026-11-22T21:48:08", "2026-11-22T21:48:08+02:00", ""] {
            assert_eq!(micros(text), None, "{text}");
        }
    }
}
