//! Gates: which rows of a route a client may see, by its claims. The extension checks a gate when a route is added; the
//! relay evaluates it on each row, or hands it to Postgres as SQL.
//!
//! No I/O, no dependencies. The language is a part of SQL, with SQL's three-valued logic:
//!
//! ```text
//! seller_id = claims.sub or claims.role = 'manager'
//! shop_id = any (claims.shops) and not is_draft and total < claims.limits.total
//! ```
//!
//! The hazard is a gate that lets through what Postgres would not. So a comparison exists only between values that
//! compare alike here and there (uuids, booleans, exact numbers, text for equality), a claim of another form than its
//! place asks for is null, and a row whose columns are not all known passes no gate.

mod claim;
mod eval;
mod gate;
mod number;
mod parse;
mod sql;
#[cfg(test)]
mod tests;
mod token;

pub use claim::{Bound, Claim};
pub use eval::Row;
pub use gate::{Gate, Type};

/// Why a text is no gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateError {
    /// Where in the text, in characters from 1.
    pub at: usize,
    pub problem: String,
}

impl GateError {
    /// `offset`: in bytes.
    fn new(text: &str, offset: usize, problem: impl Into<String>) -> Self {
        let before = text.get(..offset).map_or(0, |before| before.chars().count());
        Self { at: before + 1, problem: problem.into() }
    }
}

impl std::fmt::Display for GateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, at character {}", self.problem, self.at)
    }
}

impl std::error::Error for GateError {}
