//! One connection in replication mode: frames, simple queries, and the way into CopyBoth.
//!
//! Ordinary clients do not know `replication=database` and the CopyBoth response, so this speaks the protocol itself;
//! it stays on version 3.0. Messages to the server and SCRAM come from `postgres-protocol`.

mod certificate;
mod dial;
mod login;
mod tls;

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use self::login::Login;
use super::{Conninfo, PostgresError, ServerError, settings};

pub(super) use self::dial::{Attempt, Attempts, Duplex, Line};
pub(super) use self::login::NO_HASH;
pub(super) use self::tls::tls_problem;

/// Read at once. Frames are slices of such a piece, so it stays in memory as long as one of them does.
const READ_BYTES: usize = 256 * 1024;
/// Below this much free space a new piece is begun.
const READ_BYTES_MIN: usize = 16 * 1024;
/// Tag and length.
const HEADER_BYTES: usize = 5;
/// CopyData above this is looked at before the rest of it is read.
const LONG_BYTES: usize = 64 * 1024;
/// What is looked at: the header of XLogData, and how the message in it begins.
const LONG_HEAD_BYTES: usize = XLOG_DATA_HEADER_BYTES + 128;
/// Of XLogData: tag, start, end, time.
pub(crate) const XLOG_DATA_HEADER_BYTES: usize = 1 + 8 + 8 + 8;

/// Told how a long message begins and how many bytes it has: what stands for it, if it need not be read whole. The rest
/// of it is thrown away as it comes.
pub type Excerpt = fn(head: &[u8], bytes: usize) -> Option<Bytes>;

pub(crate) struct Connection {
    socket: Box<dyn Duplex>,
    buffer: BytesMut,
    frame_bytes_max: usize,
    excerpt: Excerpt,
    /// Bytes to come that belong to a message of which an excerpt was taken.
    unwanted: usize,
    /// The server process that serves us.
    pub(crate) pid: i32,
}

/// One message of the server, without its header.
pub(crate) struct Frame {
    pub(crate) tag: u8,
    pub(crate) body: Bytes,
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
        let mut connection = Connection {
            socket,
            buffer: BytesMut::with_capacity(READ_BYTES),
            frame_bytes_max,
            excerpt,
            unwanted: 0,
            pid: 0,
        };
        let password = conninfo.password(&attempt.host);
        connection.log_in(&Login { conninfo, password, is_tls, binding }).await.map_err(
            |error| match &error {
                // TLS 1.3 tells of a refused client certificate only now.
                PostgresError::ConnectionLost(lost) => match tls_problem(lost) {
                    Some(problem) => PostgresError::Tls { address: attempt.to_string(), problem },
                    None => error,
                },
                _ => error,
            },
        )?;
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
            let frame = match self.frame().await {
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
    pub(crate) async fn start_copy_both(&mut self, command: &str) -> Result<(), PostgresError> {
        self.send_query(command).await?;
        loop {
            let frame = self.frame().await?;
            match frame.tag {
                b'W' => return Ok(()),
                b'E' => return Err(parse_error(frame.body)?.into()),
                b'N' | b'S' => {}
                other => return Err(unexpected(other, "the answer to START_REPLICATION")),
            }
        }
    }

    /// The next whole message that has been read already.
    pub(crate) fn buffered_frame(&mut self) -> Result<Option<Frame>, PostgresError> {
        let unwanted = self.unwanted.min(self.buffer.len());
        self.buffer.advance(unwanted);
        self.unwanted -= unwanted;
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [tag, length @ ..] = *header;
        // The length counts itself, but not the tag.
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length < 4 {
            return Err(PostgresError::Protocol(format!("a message of {length} bytes")));
        }
        if tag == b'd' && length > LONG_BYTES {
            let Some(head) = self.buffer.get(HEADER_BYTES..HEADER_BYTES + LONG_HEAD_BYTES) else {
                return Ok(None);
            };
            let (xlog_data, head) = head.split_at(XLOG_DATA_HEADER_BYTES);
            if let Some(excerpt) = (self.excerpt)(head, length - 4 - XLOG_DATA_HEADER_BYTES) {
                let body = [xlog_data, &excerpt].concat().into();
                self.unwanted = 1 + length;
                return Ok(Some(Frame { tag, body }));
            }
        }
        if length > self.frame_bytes_max {
            return Err(PostgresError::FrameTooLarge { bytes: length, limit: self.frame_bytes_max });
        }
        if self.buffer.len() < 1 + length {
            // So that a large message is not copied again each time the buffer grows.
            self.buffer.reserve(1 + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        Ok(Some(Frame { tag, body: self.buffer.split_to(length - 4).freeze() }))
    }

    /// Reads what has arrived, waiting for something. Safe to cancel: bytes go from the socket into the buffer or
    /// stay where they are.
    pub(crate) async fn fill(&mut self) -> Result<(), PostgresError> {
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES_MIN {
            self.buffer.reserve(READ_BYTES);
        }
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(0) => Err(PostgresError::ConnectionLost(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(error) => Err(PostgresError::ConnectionLost(error)),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), PostgresError> {
        let sent = async {
            self.socket.write_all(bytes).await?;
            self.socket.flush().await
        };
        sent.await.map_err(PostgresError::ConnectionLost)
    }

    async fn send_query(&mut self, command: &str) -> Result<(), PostgresError> {
        let mut message = BytesMut::new();
        frontend::query(command, &mut message).map_err(|error| PostgresError::Protocol(error.to_string()))?;
        self.send(&message).await
    }

    async fn frame(&mut self) -> Result<Frame, PostgresError> {
        loop {
            if let Some(frame) = self.buffered_frame()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
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

/// An ErrorResponse: pairs of a letter and a C string, ended by a zero byte.
pub(crate) fn parse_error(mut body: Bytes) -> Result<ServerError, PostgresError> {
    let mut error = ServerError { code: String::new(), message: String::new(), hint: None };
    while let Ok(field @ 1..) = body.try_get_u8() {
        let end = body
            .iter()
            .position(|&byte| byte == 0)
            .ok_or_else(|| PostgresError::Protocol("an ErrorResponse that does not end".to_owned()))?;
        let text = String::from_utf8_lossy(&body.split_to(end)).into_owned();
        body.advance(1);
        match field {
            b'C' => error.code = text,
            b'M' => error.message = text,
            b'H' => error.hint = Some(text),
            _ => {}
        }
    }
    Ok(error)
}

pub(crate) fn unexpected(tag: u8, place: &str) -> PostgresError {
    PostgresError::Protocol(format!("message {:?} in {place}", char::from(tag)))
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
    fn an_error_response_gives_sqlstate_message_and_hint() {
        let body = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0Htry again\0R auth\0\0";
        let error = parse_error(Bytes::from_static(body)).expect("well-formed");
        assert_eq!(
            error,
            ServerError {
                code: "28P01".to_owned(),
                message: "password authentication failed".to_owned(),
                hint: Some("try again".to_owned()),
            }
        );
    }

    #[test]
    fn an_error_response_that_does_not_end_is_refused() {
        assert!(parse_error(Bytes::from_static(b"C28P01")).is_err());
    }

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
