//! Numbers as people write them in settings: `300`, `5m`, `256MiB`, `50_000`, `on`.

use std::time::Duration;

/// Ten years. More is a mistake, and would overflow a clock.
const SECONDS_MAX: u64 = 10 * 365 * 86_400;

/// A time in whole seconds, with or without a unit.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    const FORMS: &str = "a number of seconds, or a number with s, m, h or d: 300, 300s, 5m";
    let (number, unit) = split(text, FORMS)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "s" | "sec" | "second" | "seconds" => 1,
        "m" | "min" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3_600,
        "d" | "day" | "days" => 86_400,
        "ms" => return Err(format!("it is counted in whole seconds; write {FORMS}")),
        _ => return Err(format!("{unit:?} is no unit of time; write {FORMS}")),
    };
    let seconds = number.checked_mul(factor).filter(|seconds| *seconds <= SECONDS_MAX);
    seconds.map(Duration::from_secs).ok_or_else(|| "at most ten years".to_owned())
}

/// [`seconds`], where none makes no sense.
pub(crate) fn some_seconds(text: &str) -> Result<Duration, String> {
    seconds(text)
        .and_then(|seconds| if seconds.is_zero() { Err("at least 1 s".to_owned()) } else { Ok(seconds) })
}

/// A number of bytes, with or without a unit.
pub(crate) fn bytes<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    const FORMS: &str = "a number of bytes, or a number with kB, MB or GB (powers of 1000), KiB, MiB or GiB (of 1024): 268435456, 256MiB";
    let (number, unit) = split(text, FORMS)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" | "byte" | "bytes" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "k" | "m" | "g" => return Err(format!("{unit:?} is no unit; write {FORMS}")),
        _ => return Err(format!("{unit:?} is no unit of size; write {FORMS}")),
    };
    let bytes = number.checked_mul(factor).and_then(|bytes| T::try_from(bytes).ok());
    bytes.ok_or_else(|| "larger than this machine can count".to_owned())
}

/// A whole number.
pub(crate) fn count<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    const FORMS: &str = "a whole number from 0 on, without a unit: 50000";
    let (number, unit) = split(text, FORMS)?;
    if !unit.is_empty() {
        return Err(format!("it has no unit; write {FORMS}"));
    }
    T::try_from(number).map_err(|_| "larger than it can be".to_owned())
}

/// [`count`], where none makes no sense.
pub(crate) fn some<T: TryFrom<u64> + Default + PartialEq>(text: &str) -> Result<T, String> {
    count(text)
        .and_then(|number| if number == T::default() { Err("at least 1".to_owned()) } else { Ok(number) })
}

/// Yes or no.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// The digits in front, and what follows them. Groups of digits may be set apart by `_`.
fn split<'t>(text: &'t str, forms: &str) -> Result<(u64, &'t str), String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("it is empty; leave it out for the default, or write {forms}"));
    }
    let end =
        text.find(|character: char| !character.is_ascii_digit() && character != '_').unwrap_or(text.len());
    let (number, unit) = (text[..end].replace('_', ""), text[end..].trim());
    if number.is_empty() {
        return Err(format!("write {forms}"));
    }
    if unit.starts_with(['.', ',']) {
        return Err(format!("it is a whole number; write {forms}"));
    }
    Ok((number.parse().map_err(|_| "larger than this machine can count".to_owned())?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, expected) in [
            ("300", 300),
            ("300s", 300),
            ("5m", 300),
            ("5 min", 300),
            ("2h", 7_200),
            ("1d", 86_400),
            ("0", 0),
            ("1_000", 1_000),
        ] {
            assert_eq!(seconds(text), Ok(Duration::from_secs(expected)), "{text}");
        }
        for (text, word) in [
            ("soon", "5m"),
            ("", "empty"),
            ("-1", "5m"),
            ("1.5", "whole"),
            ("1.5h", "whole"),
            ("5 fortnights", "fortnights"),
            ("100ms", "whole seconds"),
            ("99999999999999999999", "larger"),
            ("18446744073709551615", "ten years"),
            ("m", "5m"),
        ] {
            let error = seconds(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
        assert!(some_seconds("0").is_err() && some_seconds("1s") == Ok(Duration::from_secs(1)));
    }

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("3MB", 3_000_000),
            ("1GiB", 1 << 30),
            ("8 GB", 8_000_000_000),
            ("10B", 10),
        ] {
            assert_eq!(bytes::<u64>(text), Ok(expected), "{text}");
        }
        for (text, word) in [
            ("64K", "KiB"),
            ("64 pages", "pages"),
            ("", "empty"),
            ("1.5GiB", "whole"),
            ("99999999999GiB", "larger"),
        ] {
            let error = bytes::<u64>(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
        assert!(bytes::<u32>("8GiB").is_err());
    }

    #[test]
    fn counts_have_none() {
        assert_eq!((count::<usize>("50_000"), count::<u16>("65535")), (Ok(50_000), Ok(65_535)));
        for text in ["5m", "many", "", "-1", "1.0", "1e3"] {
            assert!(count::<usize>(text).is_err(), "{text}");
        }
        assert!(count::<u16>("65536").is_err() && some::<u16>("0").is_err());
    }

    #[test]
    fn switches_are_on_or_off() {
        assert!(["true", "on", "1", "YES"].iter().all(|text| switch(text) == Ok(true)));
        assert!(["false", "off", "0", "no"].iter().all(|text| switch(text) == Ok(false)));
        assert!(["", "maybe", "2"].iter().all(|text| switch(text).is_err()));
    }
}
