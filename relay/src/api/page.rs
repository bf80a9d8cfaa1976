//! Lists in pages: a page ends at a row, and the next one goes on after it, whatever was written meanwhile.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::error::ApiError;
use crate::postgres::Timestamp;

pub(super) const LIMIT_DEFAULT: u32 = 50;
pub(super) const LIMIT_MAX: u32 = 200;

/// Contents of all messages of a page, in bytes; the first is always there. As many pages may wait to be read as there
/// are connections.
pub(super) const CONTENT_BYTES_MAX: i64 = 256 << 10;

/// 4714-11-24 BC, the first day that Postgres knows, and the year 294277, where it ends.
const TIME_MIN: i64 = -211_813_488_000_000_000;
const TIME_END: i64 = 9_223_371_331_200_000_000;

/// Which page of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Most rows of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub(super) limit: Option<u32>,
    /// `cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{32}$")]
    pub(super) cursor: Option<String>,
}

/// The row at which a page ended: its time, and its id among those of that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) time: Timestamp,
    pub(super) id: Uuid,
}

/// What stands behind `?`.
pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|Query(query)| query).map_err(|error| ApiError::invalid(error.body_text()))
}

impl PageQuery {
    pub(super) fn limit(&self) -> Result<u32, ApiError> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if (1..=LIMIT_MAX).contains(&limit) {
            Ok(limit)
        } else {
            Err(ApiError::invalid(format!("`limit` is from 1 to {LIMIT_MAX}")))
        }
    }

    pub(super) fn cursor(&self) -> Result<Option<Cursor>, ApiError> {
        let unknown = || ApiError::invalid("`cursor` is not one that was given out");
        self.cursor.as_deref().map(|text| Cursor::read(text).ok_or_else(unknown)).transpose()
    }
}

impl Cursor {
    /// After all rows.
    pub(super) const END: Self = Self { time: Timestamp(i64::MAX), id: Uuid::max() };

    fn read(text: &str) -> Option<Self> {
        let bytes: [u8; 24] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (time, id) = bytes.split_at(8);
        // Postgres knows no others between these and infinity.
        let time = match i64::from_be_bytes(time.try_into().ok()?) {
            ..TIME_MIN => i64::MIN,
            TIME_END.. => i64::MAX,
            time => time,
        };
        let time = Timestamp(time);
        Some(Self { time, id: Uuid::from_slice(id).ok()? })
    }

    /// As clients get it: opaque.
    pub(super) fn to_text(self) -> String {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.time.0.to_be_bytes());
        bytes[8..].copy_from_slice(self.id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_what_was_given_out_or_nothing() {
        let bounds = [i64::MAX, i64::MIN, TIME_MIN, TIME_END - 1];
        for time in bounds.into_iter().chain([0, -1, 848_699_511_123_456]) {
            let cursor = Cursor { time: Timestamp(time), id: Uuid::from_u128(7) };
            assert_eq!(Cursor::read(&cursor.to_text()), Some(cursor));
        }
        let read = |time| Cursor::read(&Cursor { time: Timestamp(time), id: Uuid::nil() }.to_text());
        assert_eq!(read(TIME_END).map(|cursor| cursor.time), Some(Timestamp(i64::MAX)));
        assert_eq!(read(TIME_MIN - 1).map(|cursor| cursor.time), Some(Timestamp(i64::MIN)));
        let whole = Cursor { time: Timestamp(1), id: Uuid::nil() }.to_text();
        for text in ["", "a", &whole[1..], &format!("{whole}A"), "é", &"*".repeat(32)] {
            assert_eq!(Cursor::read(text), None, "{text}");
        }
    }

    #[test]
    fn limits_are_bounded() {
        let limit = |limit| PageQuery { limit, cursor: None }.limit();
        assert_eq!((limit(None), limit(Some(200))), (Ok(50), Ok(200)));
        assert!(limit(Some(0)).is_err() && limit(Some(201)).is_err());
    }
}
