//! One row as it came: a slice of the message, checked once, its values found by walking it.
//!
//! Rows are short, so a walk costs less than the allocation of a table of offsets would.

use bytes::Bytes;

use super::DecodeError;
use super::reader::Reader;

/// A column's value in text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column<'a> {
    Null,
    /// The server did not send it: a TOASTed value that the update did not touch, or a column outside the key of an
    /// old row. Not null, and not empty.
    Unchanged,
    Text(&'a [u8]),
}

/// A row. Holds a part of the message it came in, so keep it briefly or copy what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuple {
    values: Bytes,
    column_count: u16,
}

impl Tuple {
    pub(super) fn read(reader: &mut Reader) -> Result<Tuple, DecodeError> {
        let column_count = reader.u16("column count")?;
        let start = reader.peek();
        let mut rest = start;
        for column in 0..usize::from(column_count) {
            let (_, after) = split_value(rest, column)?;
            rest = after;
        }
        let length = start.len() - rest.len();
        let values = reader.bytes(length, "row")?;
        Ok(Tuple { values, column_count })
    }

    pub fn column_count(&self) -> usize {
        usize::from(self.column_count)
    }

    /// A column's value, by its place in the relation.
    pub fn get(&self, column: usize) -> Column<'_> {
        // The decoder has held the row against its relation, so a place that is not there was never sent.
        self.columns().nth(column).unwrap_or(Column::Unchanged)
    }

    /// All values, in the order of the relation's columns.
    pub fn columns(&self) -> Columns<'_> {
        Columns { rest: &self.values }
    }
}

/// Walks a row's values.
#[derive(Debug, Clone)]
pub struct Columns<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Columns<'a> {
    type Item = Column<'a>;

    fn next(&mut self) -> Option<Column<'a>> {
        // `Tuple::read` has walked the same bytes, so an error can only mean the end.
        let (value, rest) = split_value(self.rest, 0).ok()?;
        self.rest = rest;
        Some(value)
    }
}

fn split_value(bytes: &[u8], column: usize) -> Result<(Column<'_>, &[u8]), DecodeError> {
    const TRUNCATED: DecodeError = DecodeError::Truncated { field: "row" };
    let (&format, rest) = bytes.split_first().ok_or(TRUNCATED)?;
    match format {
        b'n' => Ok((Column::Null, rest)),
        b'u' => Ok((Column::Unchanged, rest)),
        b't' => {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or(TRUNCATED)?;
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| TRUNCATED)?;
            let (text, rest) = rest.split_at_checked(length).ok_or(TRUNCATED)?;
            Ok((Column::Text(text), rest))
        }
        b'b' => Err(DecodeError::BinaryValue { column }),
        other => Err(DecodeError::UnknownValue { field: "format of a column", value: char::from(other) }),
    }
}

/// What an update or delete says of the row as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OldTuple {
    /// Only what the replica identity of the row's own table covers are values; the other columns stand there as null
    /// and mean nothing. The columns of such an identity are never null, so a null always means that.
    Key(Tuple),
    /// The whole row, by `REPLICA IDENTITY FULL`.
    Full(Tuple),
}

impl OldTuple {
    /// A column's old value, as far as the server told it. Not by what the relation says of its replica identity: that
    /// is the partitioned table's, and the row was logged by its partition's.
    pub fn get(&self, column: usize) -> Column<'_> {
        match self {
            OldTuple::Full(tuple) => tuple.get(column),
            OldTuple::Key(tuple) => match tuple.get(column) {
                Column::Null => Column::Unchanged,
                value => value,
            },
        }
    }

    pub(super) fn tuple(&self) -> &Tuple {
        match self {
            OldTuple::Key(tuple) | OldTuple::Full(tuple) => tuple,
        }
    }
}
