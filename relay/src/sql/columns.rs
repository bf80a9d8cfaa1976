//! Columns of rows, read so that a null or another type is an error.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

/// The first two columns of each row.
pub(super) fn pairs<'a, A: FromSql<'a>, B: FromSql<'a>>(
    rows: &'a [Row],
) -> Result<Vec<(A, B)>, tokio_postgres::Error> {
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// A column's text on one line; nothing if it is null.
pub(super) fn line(row: &Row, column: usize) -> Result<String, tokio_postgres::Error> {
    let text: Option<String> = row.try_get(column)?;
    Ok(text.unwrap_or_default().replace('\n', " "))
}
