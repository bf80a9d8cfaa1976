//! The messages of a line, read as they come.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dial::Duplex;
use crate::postgres::{PostgresError, ServerError};

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

pub(crate) struct Frames {
    socket: Box<dyn Duplex>,
    buffer: BytesMut,
    frame_bytes_max: usize,
    excerpt: Excerpt,
    /// Bytes to come that belong to a message of which an excerpt was taken.
    unwanted: usize,
}

/// One message of the server, without its header.
pub(crate) struct Frame {
    pub(crate) tag: u8,
    pub(crate) body: Bytes,
}

impl Frames {
    pub(super) fn new(socket: Box<dyn Duplex>, frame_bytes_max: usize, excerpt: Excerpt) -> Frames {
        Frames { socket, buffer: BytesMut::with_capacity(READ_BYTES), frame_bytes_max, excerpt, unwanted: 0 }
    }

    /// The next whole message that has been read already.
    pub(crate) fn buffered(&mut self) -> Result<Option<Frame>, PostgresError> {
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

    /// The next message, waiting for it.
    pub(super) async fn next(&mut self) -> Result<Frame, PostgresError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }
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
}
