//! Exact decimal numbers, in the order of Postgres's numeric.

use std::cmp::Ordering;

/// Longest number that is read, in bytes; Postgres takes every number of this length.
const BYTES_MAX: usize = 1_000;

/// In the order of Postgres: NaN equals itself and is greater than every other number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Number {
    NegativeInfinity,
    Finite(Decimal),
    Infinity,
    NaN,
}

/// Without needless zeros, so that equal numbers are equal texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Decimal {
    is_negative: bool,
    /// Empty if it is zero.
    whole: Box<str>,
    fraction: Box<str>,
}

impl Number {
    /// A value as Postgres prints it, of an integer type or of numeric.
    pub(crate) fn of_column(text: &str) -> Option<Self> {
        match text {
            "NaN" => Some(Self::NaN),
            "Infinity" => Some(Self::Infinity),
            "-Infinity" => Some(Self::NegativeInfinity),
            _ => Decimal::read(text).map(Self::Finite),
        }
    }

    /// A literal or a claim. None if it is not written with digits alone, such as `1e3`, or is too long.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        Decimal::read(text).map(Self::Finite)
    }

    /// As a constant of SQL; integers as bigint where they fit, so that an index on an integer column serves.
    pub(crate) fn to_sql(&self) -> String {
        let kind = if self.is_bigint() { "bigint" } else { "numeric" };
        format!("'{}'::{kind}", self.digits())
    }

    pub(crate) fn is_bigint(&self) -> bool {
        match self {
            Self::Finite(decimal) => decimal.fraction.is_empty() && self.digits().parse::<i64>().is_ok(),
            _ => false,
        }
    }

    fn digits(&self) -> String {
        let decimal = match self {
            Self::NaN => return "NaN".to_owned(),
            Self::Infinity => return "Infinity".to_owned(),
            Self::NegativeInfinity => return "-Infinity".to_owned(),
            Self::Finite(decimal) => decimal,
        };
        let sign = if decimal.is_negative { "-" } else { "" };
        let whole = if decimal.whole.is_empty() { "0" } else { &decimal.whole };
        let point = if decimal.fraction.is_empty() { "" } else { "." };
        format!("{sign}{whole}{point}{}", decimal.fraction)
    }
}

impl Decimal {
    fn read(text: &str) -> Option<Self> {
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (digits, ""),
        };
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Self { is_negative: is_negative && !is_zero, whole: whole.into(), fraction: fraction.into() })
    }

    /// Memory of its digits, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.whole.len() + self.fraction.len()
    }

    fn magnitude(&self) -> (usize, &str, &str) {
        (self.whole.len(), &self.whole, &self.fraction)
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.is_negative, other.is_negative) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => self.magnitude().cmp(&other.magnitude()),
            (true, true) => other.magnitude().cmp(&self.magnitude()),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Number {
        Number::of_column(text).expect(text)
    }

    #[test]
    fn numbers_are_in_order() {
        let ascending = [
            "-Infinity",
            "-10",
            "-9.5",
            "-9.25",
            "-0.01",
            "0",
            "0.009",
            "0.01",
            "0.1",
            "1",
            "1.5",
            "2",
            "10",
        ];
        for (at, text) in ascending.iter().enumerate() {
            for (other_at, other) in ascending.iter().enumerate() {
                assert_eq!(number(text).cmp(&number(other)), at.cmp(&other_at), "{text} {other}");
            }
            assert!(number(text) < number("Infinity") && number("Infinity") < number("NaN"));
        }
        assert_eq!(number("NaN"), number("NaN"));
        for same in [["1", "001.00"], ["0", "-0.0"], ["-2.50", "-2.5"]] {
            assert_eq!(number(same[0]), number(same[1]));
        }
    }

    #[test]
    fn what_is_no_plain_number_is_none() {
        for text in
            ["", "-", ".5", "5.", "1e3", "+1", " 1", "0x10", "1_000", "NaN", "Infinity", "--1", "1.2.3"]
        {
            assert_eq!(Number::of_text(text), None, "{text:?}");
        }
        assert_eq!(Number::of_text(&"1".repeat(BYTES_MAX + 1)), None);
        assert!(Number::of_text(&"1".repeat(BYTES_MAX)).is_some());
    }

    #[test]
    fn integers_are_constants_of_bigint() {
        let sql = |text| number(text).to_sql();
        assert_eq!(sql("-7.0"), "'-7'::bigint");
        assert_eq!(sql("9223372036854775807"), "'9223372036854775807'::bigint");
        assert_eq!(sql("9223372036854775808"), "'9223372036854775808'::numeric");
        assert_eq!(sql("0.50"), "'0.5'::numeric");
    }

    proptest! {
        #[test]
        fn integers_compare_as_integers(left: i64, right: i64) {
            prop_assert_eq!(number(&left.to_string()).cmp(&number(&right.to_string())), left.cmp(&right));
        }

        #[test]
        fn fractions_compare_as_scaled_integers(left in -99_999_i64..99_999, right in -99_999_i64..99_999) {
            let text = |value: i64| {
                let sign = if value < 0 { "-" } else { "" };
                format!("{sign}{}.{:03}", value.abs() / 1_000, value.abs() % 1_000)
            };
            prop_assert_eq!(number(&text(left)).cmp(&number(&text(right))), left.cmp(&right));
        }
    }
}
