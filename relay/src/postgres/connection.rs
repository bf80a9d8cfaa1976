//! One connection in replication mode: simple queries, and the way into CopyBoth.
//!
//! Ordinary clients do not know `replication=database` and the CopyBoth response, so this speaks the protocol itself;
//! it stays on version 3.0. Messages to the server and SCRAM come from `postgres-protocol`.

mod certificate;
mod dial;
mod frames;
mod login;
mod tls;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use postgres_protocol::message::frontend;
use tokio::time::timeout;

use self::login::Login;
use super::{Conninfo, PostgresError, settings};

pub(super) use self::dial::{Attempt, Attempts, Duplex, Line};
pub use self::frames::Excerpt;
pub(crate) use self::frames::{Frames, XLOG_DATA_HEADER_BYTES, parse_error, unexpected};
pub(super) use self::login::NO_HASH;
pub(super) use self::tls::tls_problem;

pub(crate) struct Connection {
    frames: Frames,
    /// The server process that serves us.
    pub(crate) pid: i32,
}

/// A row of a simple query, in text format.
pub(crate) type Row = Vec<Option<String>>;

impl Connection {
    /// Connects to the first host that is a primary and lets us in. A refusal of the password is final; hosts after
    /// it are not asked.
    pub(crate) async fn open(
        conninfo: &Conninfo,
        frame_bytes_max: usize,
        excerpt: Excerpt,
    ) -> Result<Connection, PostgresError> {
        let mut attempts = Attempts::new(conninfo).await;
        while let Some(attempt) = attempts.next() {
            let opening = Connection::open_one(conninfo, &attempt, frame_bytes_max, excerpt).boxed();
            match in_time(conninfo, &attempt, opening).await {
                Ok(connection) => return Ok(connection),
                Err(error) => attempts.failed(error)?,
            }
        }
        Err(attempts.into_error())
    }

    async fn open_one(
        conninfo: &Conninfo,
        attempt: &Attempt,
        frame_bytes_max: usize,
        excerpt: Excerpt,
    ) -> Result<Connection, PostgresError> {
        let Line { socket, is_tls, binding } = attempt.dial(conninfo).await?;
        let mut frames = Frames::new(socket, frame_bytes_max, excerpt);
        let password = conninfo.password(&attempt.host);
        let login = Login { conninfo, password, is_tls, binding };
        let pid = login.run(&mut frames).await.map_err(|error| match &error {
            // TLS 1.3 tells of a refused client certificate only now.
            PostgresError::ConnectionLost(lost) => match tls_problem(lost) {
                Some(problem) => PostgresError::Tls { address: attempt.to_string(), problem },
                None => error,
            },
            _ => error,
        })?;
        let mut connection = Connection { frames, pid };
        connection.query(settings::PIN_WHAT_THERE_IS).await?;
        if connection.query_value("select pg_catalog.pg_is_in_recovery()").await? == "t" {
            return Err(PostgresError::Standby);
        }
        // Such a database may hold bytes that are no UTF-8, and the server's check of them would end the stream for
        // ever; unchecked, `decode` replaces them. Any other encoding is converted as it should be.
        if connection.query_value("show server_encoding").await? == "SQL_ASCII" {
            connection.query("set client_encoding = 'SQL_ASCII'").await?;
        }
        Ok(connection)
    }

    /// Runs one command and collects its rows.
    pub(crate) async fn query(&mut self, command: &str) -> Result<Vec<Row>, PostgresError> {
        self.send_query(command).await?;
        let mut rows = Vec::new();
        let mut error = None;
        loop {
            let frame = match self.frames.next().await {
                Ok(frame) => frame,
                // After a fatal error the server hangs up; what it said before tells more.
                Err(lost) => return Err(error.unwrap_or(lost)),
            };
            match frame.tag {
                b'D' => rows.push(parse_row(frame.body)?),
                b'E' => error = Some(PostgresError::from(parse_error(frame.body)?)),
                b'Z' => return error.map_or(Ok(rows), Err),
                // Row description, completion, notices, parameters, an empty query.
                b'T' | b'C' | b'N' | b'S' | b'I' => {}
                other => return Err(unexpected(other, "the answer to a query")),
            }
        }
    }

    /// The only value of a query that has one.
    pub(crate) async fn query_value(&mut self, command: &str) -> Result<String, PostgresError> {
        let rows = self.query(command).await?;
        rows.into_iter()
            .next()
            .and_then(|row| row.into_iter().next().flatten())
            .ok_or_else(|| PostgresError::Protocol(format!("no value came for: {command}")))
    }

    /// Runs START_REPLICATION. From here on the server sends CopyData on its own.
    pub(crate) async fn start_copy_both(mut self, command: &str) -> Result<Frames, PostgresError> {
        self.send_query(command).await?;
        loop {
            let frame = self.frames.next().await?;
            match frame.tag {
                b'W' => return Ok(self.frames),
                b'E' => return Err(parse_error(frame.body)?.into()),
                b'N' | b'S' => {}
                other => return Err(unexpected(other, "the answer to START_REPLICATION")),
            }
        }
    }

    async fn send_query(&mut self, command: &str) -> Result<(), PostgresError> {
        let mut message = BytesMut::new();
        frontend::query(command, &mut message).map_err(|error| PostgresError::Protocol(error.to_string()))?;
        self.frames.send(&message).await
    }
}

/// Gives up a server that accepts and says nothing.
pub(super) async fn in_time<T>(
    conninfo: &Conninfo,
    attempt: &Attempt,
    opening: BoxFuture<'_, Result<T, PostgresError>>,
) -> Result<T, PostgresError> {
    let limit = conninfo.connect_timeout;
    let late = || PostgresError::ConnectTimeout { address: attempt.to_string(), timeout: limit };
    timeout(limit, opening).await.unwrap_or_else(|_| Err(late()))
}

fn parse_row(mut body: Bytes) -> Result<Row, PostgresError> {
    let truncated = || PostgresError::Protocol("a DataRow that ends early".to_owned());
    let column_count = body.try_get_u16().map_err(|_| truncated())?;
    (0..column_count)
        .map(|_| match body.try_get_i32().map_err(|_| truncated())? {
            ..0 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| truncated())?;
                if length > body.len() {
                    return Err(truncated());
                }
                Ok(Some(String::from_utf8_lossy(&body.split_to(length)).into_owned()))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_nulls_and_text() {
        let body = b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0";
        let row = parse_row(Bytes::from_static(body)).expect("well-formed");
        assert_eq!(row, [Some("ab".to_owned()), None, Some(String::new())]);
        for end in 0..body.len() {
            assert!(parse_row(Bytes::copy_from_slice(&body[..end])).is_err(), "cut at {end}");
        }
    }
}
