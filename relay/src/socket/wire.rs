//! A connection on which messages of WebSocket come and go.
//!
//! What is written is the shared bytes of a frame, never a copy of them: a large broadcast to many sockets that do not
//! read is one broadcast in memory. What is read takes memory only while a message is not whole.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::message::{Assembler, Broken, Message};
use crate::protocol::Waiting;

/// Bytes read at once. What is left of them when a message is whole waits until the next one is asked for.
const READ_BYTES: usize = 4 * 1024;

/// Parts handed to the system in one go; a frame has two.
const SLICES: usize = 64;

/// Longest header that we write: the length has eight bytes, and there is no mask.
const HEADER_BYTES_MAX: usize = 10;

/// The connection, what of a message has come, and what is on its way out.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    assembler: Assembler,
    /// Read, and not looked at.
    unread: Vec<u8>,
    /// What goes out, in this order. Of the first some may be gone.
    frames: VecDeque<Waiting>,
    /// Bytes of the first frame that are gone, its header's included.
    gone: usize,
    /// Comes before the next frame, but never within one.
    control: Option<Control>,
    wrote_at: Instant,
}

/// An answer to a ping, or a goodbye, with its header.
#[derive(Debug)]
struct Control {
    bytes: Vec<u8>,
    gone: usize,
}

/// Why nothing more is to be had.
#[derive(Debug)]
pub(super) enum ReadError {
    Broken(Broken),
    /// The connection is gone, without a goodbye.
    Lost,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            assembler: Assembler::default(),
            unread: Vec::new(),
            frames: VecDeque::new(),
            gone: 0,
            control: None,
            wrote_at: Instant::now(),
        }
    }

    /// When bytes last left.
    pub(super) fn wrote_at(&self) -> Instant {
        self.wrote_at
    }

    /// Frames that are to go out: more are appended.
    pub(super) fn frames(&mut self) -> &mut VecDeque<Waiting> {
        &mut self.frames
    }

    /// Memory that a message takes which is not whole yet.
    pub(super) fn unfinished_bytes(&self) -> usize {
        self.assembler.bytes()
    }

    /// Whether more of a message is to come.
    pub(super) fn is_amid_message(&self) -> bool {
        self.assembler.is_amid()
    }

    /// The next message, which may have `limit` bytes. Nothing is lost if this is not asked again.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<Result<Message, ReadError>> {
        loop {
            if !self.unread.is_empty() {
                let mut rest = self.unread.as_slice();
                let message = self.assembler.take(&mut rest, limit).map_err(ReadError::Broken)?;
                self.unread = rest.to_vec();
                if let Some(message) = message {
                    return Poll::Ready(Ok(message));
                }
            }
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut space);
            if ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)).is_err() {
                return Poll::Ready(Err(ReadError::Lost));
            }
            let mut bytes = buffer.filled();
            if bytes.is_empty() {
                return Poll::Ready(Err(ReadError::Lost));
            }
            let message = self.assembler.take(&mut bytes, limit).map_err(ReadError::Broken)?;
            if let Some(message) = message {
                self.unread = bytes.to_vec();
                return Poll::Ready(Ok(message));
            }
        }
    }

    /// Has a ping answered. Of several only the last needs to be.
    pub(super) fn answer_ping(&mut self, payload: &[u8]) {
        if self.control.as_ref().is_none_or(|control| control.gone == 0) {
            self.control = Some(Control::new(0x8a, payload));
        }
    }

    /// Writes what is to go out; ready once it is gone.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // A frame that has begun goes first.
            let is_amid_frame = self.gone > 0;
            let count = if let (false, Some(control)) = (is_amid_frame, &self.control) {
                ready!(Pin::new(&mut self.stream).poll_write(cx, &control.bytes[control.gone..]))?
            } else if self.frames.is_empty() {
                return Pin::new(&mut self.stream).poll_flush(cx);
            } else {
                let frames = if self.control.is_some() { 1 } else { SLICES / 2 };
                ready!(self.poll_write_frames(cx, frames))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.wrote_at = Instant::now();
            match (is_amid_frame, &mut self.control) {
                (false, Some(control)) => {
                    control.gone += count;
                    if control.gone == control.bytes.len() {
                        self.control = None;
                    }
                }
                _ => self.note_written(count),
            }
        }
    }

    fn poll_write_frames(&mut self, cx: &mut Context<'_>, frames_max: usize) -> Poll<io::Result<usize>> {
        let mut headers = [[0; HEADER_BYTES_MAX]; SLICES / 2];
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        let mut gone = self.gone;
        for (frame, header) in self.frames.iter().take(frames_max).zip(&mut headers) {
            let length = header_of(frame, header);
            for part in [&header[..length], frame.payload().as_ref()] {
                let rest = &part[gone.min(part.len())..];
                gone -= part.len() - rest.len();
                if !rest.is_empty() {
                    slices[count] = IoSlice::new(rest);
                    count += 1;
                }
            }
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count])
    }

    /// So many bytes of the frames are gone.
    fn note_written(&mut self, count: usize) {
        self.gone += count;
        while let Some(frame) = self.frames.front() {
            let bytes = header_of(frame, &mut [0; HEADER_BYTES_MAX]) + frame.len();
            if self.gone < bytes {
                return;
            }
            self.gone -= bytes;
            self.frames.pop_front();
        }
        // A burst leaves no large buffer behind on a socket that is then idle.
        self.frames.shrink_to(16);
    }

    /// Whether some of a frame is gone, and the rest of it is not.
    pub(super) fn is_amid_frame(&self) -> bool {
        self.gone > 0
    }

    /// Forgets what waits, except for the rest of a frame that has begun, and what has come of a message.
    pub(super) fn forget(&mut self) {
        self.frames.truncate(usize::from(self.gone > 0));
        (self.assembler, self.unread) = (Assembler::default(), Vec::new());
    }

    /// Says goodbye, after what is on its way. If `is_cut_short` the client may still be sending: closing a connection
    /// with unread input takes back what the peer has not read yet, the goodbye included, so that is read first.
    pub(super) async fn close(
        &mut self,
        code: Option<u16>,
        reason: &str,
        is_cut_short: bool,
    ) -> io::Result<()> {
        poll_fn(|cx| self.poll_write(cx)).await?;
        let payload = code.map_or_else(Vec::new, |code| [&code.to_be_bytes(), reason.as_bytes()].concat());
        self.control = Some(Control::new(0x88, &payload));
        poll_fn(|cx| self.poll_write(cx)).await?;
        if is_cut_short {
            self.stream.shutdown().await?;
            let mut unread = vec![0; 16 * 1024];
            while self.stream.read(&mut unread).await? > 0 {}
        }
        Ok(())
    }
}

impl Control {
    /// Of a payload of at most 125 bytes.
    fn new(first: u8, payload: &[u8]) -> Self {
        let length = payload.len().min(125);
        let bytes = [&[first, length as u8], &payload[..length]].concat();
        Self { bytes, gone: 0 }
    }
}

/// Writes a frame's header, and gives its length.
fn header_of(frame: &Waiting, header: &mut [u8; HEADER_BYTES_MAX]) -> usize {
    header[0] = if frame.is_text() { 0x81 } else { 0x82 };
    let length = frame.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => {
            header[1] = short;
            2
        }
        (_, Ok(medium)) => {
            header[1] = 126;
            header[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            10
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;
    use tokio_tungstenite::tungstenite::{self, Utf8Bytes};

    use super::*;
    use crate::protocol::{Account, Frame};

    const LIMIT: usize = 10_000_000;

    async fn read(wire: &mut Wire<tokio::io::DuplexStream>) -> Message {
        poll_fn(|cx| wire.poll_read(cx, LIMIT)).await.unwrap()
    }

    /// Another implementation reads and writes the other end, which takes so many bytes at a time.
    async fn pair(
        buffer: usize,
    ) -> (Wire<tokio::io::DuplexStream>, WebSocketStream<tokio::io::DuplexStream>) {
        let (ours, theirs) = tokio::io::duplex(buffer);
        (Wire::new(ours), WebSocketStream::from_raw_socket(theirs, Role::Client, None).await)
    }

    #[tokio::test]
    async fn frames_arrive_whole_and_in_order_and_pings_are_answered_between_them() {
        let account = Account::default();
        for buffer in [1, 7, 100, 100_000] {
            let (mut wire, mut peer) = pair(buffer).await;
            let sizes = [0, 1, 125, 126, 300, 65_535, 65_536, 70_000, 3];
            let frames: Vec<_> = sizes.iter().map(|size| Frame::text("x".repeat(*size))).collect();
            let binary = Frame::binary(vec![0xff; 200]);
            wire.frames().extend(frames.iter().chain([&binary]).map(|frame| frame.clone().wait(&account)));
            assert!(account.bytes() > 200_000);
            let writing = async {
                let mut rounds = 0;
                poll_fn(|cx| {
                    // Now and then, within frames and between them.
                    rounds += 1;
                    if rounds % 3 == 1 && rounds < 100 {
                        wire.answer_ping(b"still there?");
                    }
                    wire.poll_write(cx)
                })
                .await
                .unwrap();
            };
            let reading = async {
                let (mut told, mut pongs) = (Vec::new(), 0);
                while told.len() <= sizes.len() {
                    match peer.next().await.unwrap().unwrap() {
                        tungstenite::Message::Pong(payload) => {
                            assert_eq!(payload.as_ref(), b"still there?");
                            pongs += 1;
                        }
                        tungstenite::Message::Text(text) => told.push(text.len()),
                        tungstenite::Message::Binary(bytes) => told.push(bytes.len()),
                        other => panic!("{other:?}"),
                    }
                }
                (told, pongs)
            };
            let ((), (told, pongs)) = tokio::join!(writing, reading);
            assert_eq!(told[..sizes.len()], sizes);
            assert!(pongs > 0);
            assert_eq!(account.bytes(), 0, "what has gone out is not kept");
        }
    }

    #[tokio::test]
    async fn messages_are_read_and_nothing_is_kept_of_them() {
        let (mut wire, mut peer) = pair(1 << 20).await;
        let texts: Vec<String> = (0..100).map(|number| format!("message {number}")).collect();
        for text in &texts {
            peer.send(tungstenite::Message::Text(Utf8Bytes::from(text.as_str()))).await.unwrap();
        }
        peer.send(tungstenite::Message::binary(vec![7; 500_000])).await.unwrap();
        for text in texts {
            assert_eq!(read(&mut wire).await, Message::Text(text));
        }
        assert_eq!(read(&mut wire).await, Message::Binary(vec![7; 500_000].into()));
        assert!(wire.unread.capacity() == 0 && wire.unfinished_bytes() == 0 && !wire.is_amid_message());
        peer.close(None).await.unwrap();
        assert_eq!(read(&mut wire).await, Message::Close(None));
        drop(peer);
        let lost = poll_fn(|cx| wire.poll_read(cx, LIMIT)).await;
        assert!(matches!(lost, Err(ReadError::Lost)), "{lost:?}");
    }

    #[tokio::test]
    async fn a_goodbye_comes_after_what_has_begun() {
        let account = Account::default();
        let (mut wire, mut peer) = pair(50).await;
        let frames = [Frame::text("x".repeat(1_000)), Frame::text("never sent")];
        wire.frames().extend(frames.map(|frame| frame.wait(&account)));
        assert!(poll_fn(|cx| Poll::Ready(wire.poll_write(cx))).await.is_pending());
        wire.forget();
        assert_eq!(account.bytes(), 1_000);
        let closing = wire.close(Some(1013), "too slow", false);
        let reading = async {
            let first = peer.next().await.unwrap().unwrap();
            assert_eq!(first.into_data().len(), 1_000);
            let Some(Ok(tungstenite::Message::Close(Some(close)))) = peer.next().await else {
                panic!("no close")
            };
            (u16::from(close.code), close.reason.as_str().to_owned())
        };
        let (closed, told) = tokio::join!(closing, reading);
        closed.unwrap();
        assert_eq!(told, (1013, "too slow".to_owned()));
        assert_eq!(account.bytes(), 0);
    }
}
