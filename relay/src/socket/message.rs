//! Messages of a client, put together from the frames of WebSocket (RFC 6455) as their bytes come.
//!
//! Of a message that is not whole yet nothing is kept but the bytes that have come, and of one that is nothing at all:
//! a socket that is silent has no buffer.

use bytes::Bytes;

/// Frames that one message may be cut into. Clients cut large messages into pieces of many KiB, if at all.
const FRAMES_MAX: u32 = 4_096;

/// Longest payload of a ping, a pong or a close.
const CONTROL_BYTES_MAX: usize = 125;

/// How much memory a message begins with, unless it is shorter.
const FIRST_BYTES: usize = 4 * 1024;

/// What a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Text(String),
    Binary(Bytes),
    Ping(Vec<u8>),
    Pong,
    /// With the code that it gave, if any.
    Close(Option<u16>),
}

/// Why no more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    TooLarge,
    Protocol,
    NotUtf8,
}

/// Takes bytes, gives messages.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    header: Header,
    /// The frame whose payload is coming.
    frame: Option<Frame>,
    /// The payload of a ping, a pong or a close so far.
    control: Vec<u8>,
    message: Option<Partial>,
}

/// The bytes of a frame's header so far.
#[derive(Debug, Default)]
struct Header {
    bytes: [u8; 14],
    len: usize,
}

#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    is_final: bool,
    mask: [u8; 4],
    /// Bytes of payload that have yet to come.
    missing: usize,
    /// Bytes that have.
    come: usize,
}

#[derive(Debug)]
struct Partial {
    is_text: bool,
    bytes: Vec<u8>,
    frames: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn of(byte: u8) -> Option<Self> {
        match byte & 0x0f {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

impl Header {
    /// Takes bytes as far as they belong to the header. Gives its length in bytes once it is whole.
    fn fill(&mut self, bytes: &mut &[u8]) -> Option<usize> {
        loop {
            let wanted = match self.len {
                0 | 1 => 2,
                _ => self.size(),
            };
            if self.len == wanted {
                return Some(wanted);
            }
            let count = bytes.len().min(wanted - self.len);
            let (taken, rest) = bytes.split_at(count);
            self.bytes[self.len..self.len + count].copy_from_slice(taken);
            (self.len, *bytes) = (self.len + count, rest);
            if self.len < wanted {
                return None;
            }
        }
    }

    /// By its first two bytes.
    fn size(&self) -> usize {
        let length = match self.bytes[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.bytes[1] & 0x80 == 0 { 0 } else { 4 };
        2 + length + mask
    }

    /// What a whole header says.
    fn read(&self) -> Result<Frame, Broken> {
        let [first, second, ..] = self.bytes;
        let has_reserved_bits = first & 0x70 != 0;
        let is_masked = second & 0x80 != 0;
        let opcode = Opcode::of(first).filter(|_| is_masked && !has_reserved_bits).ok_or(Broken::Protocol)?;
        let (length, mask) = self.bytes[2..self.len].split_at(self.len - 6);
        let length = match second & 0x7f {
            short @ 0..=125 => u64::from(short),
            _ => length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        Ok(Frame {
            opcode,
            is_final: first & 0x80 != 0,
            mask: [mask[0], mask[1], mask[2], mask[3]],
            // What is longer than memory is longer than any limit.
            missing: usize::try_from(length).unwrap_or(usize::MAX),
            come: 0,
        })
    }
}

impl Assembler {
    /// Takes bytes until they make a message, and cuts off what it took. A message may have `limit` bytes.
    pub(super) fn take(&mut self, bytes: &mut &[u8], limit: usize) -> Result<Option<Message>, Broken> {
        loop {
            let frame = match &mut self.frame {
                Some(frame) => frame,
                None => {
                    if self.header.fill(bytes).is_none() {
                        return Ok(None);
                    }
                    let frame = self.header.read()?;
                    self.header = Header::default();
                    self.begin(&frame, limit)?;
                    self.frame.insert(frame)
                }
            };
            let count = bytes.len().min(frame.missing);
            let (payload, rest) = bytes.split_at(count);
            *bytes = rest;
            let target = match &mut self.message {
                Some(message) if !frame.opcode.is_control() => {
                    message.reserve(count, frame.missing);
                    &mut message.bytes
                }
                _ => &mut self.control,
            };
            append_unmasked(target, payload, frame.mask, frame.come);
            (frame.missing, frame.come) = (frame.missing - count, frame.come + count);
            if frame.missing > 0 {
                return Ok(None);
            }
            let (opcode, is_final) = (frame.opcode, frame.is_final);
            self.frame = None;
            if let Some(message) = self.end(opcode, is_final)? {
                return Ok(Some(message));
            }
        }
    }

    /// Memory that a message takes which is not whole yet.
    pub(super) fn bytes(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.bytes.capacity())
    }

    /// Whether more of a message is to come.
    pub(super) fn is_amid(&self) -> bool {
        self.message.is_some() || self.frame.is_some() || self.header.len > 0
    }

    /// Whether a frame may come now.
    fn begin(&mut self, frame: &Frame, limit: usize) -> Result<(), Broken> {
        match (frame.opcode, &mut self.message) {
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => {
                if frame.is_final && frame.missing <= CONTROL_BYTES_MAX {
                    Ok(())
                } else {
                    Err(Broken::Protocol)
                }
            }
            (Opcode::Continuation, Some(message)) => {
                message.frames += 1;
                let is_within = message.bytes.len().saturating_add(frame.missing) <= limit;
                if is_within && message.frames <= FRAMES_MAX { Ok(()) } else { Err(Broken::TooLarge) }
            }
            (Opcode::Text | Opcode::Binary, None) => {
                if frame.missing > limit {
                    return Err(Broken::TooLarge);
                }
                let is_text = frame.opcode == Opcode::Text;
                self.message = Some(Partial { is_text, bytes: Vec::new(), frames: 1 });
                Ok(())
            }
            (Opcode::Continuation, None) | (Opcode::Text | Opcode::Binary, Some(_)) => Err(Broken::Protocol),
        }
    }

    /// What has come with the end of a frame.
    fn end(&mut self, opcode: Opcode, is_final: bool) -> Result<Option<Message>, Broken> {
        if opcode.is_control() {
            let payload = std::mem::take(&mut self.control);
            return match opcode {
                Opcode::Ping => Ok(Some(Message::Ping(payload))),
                Opcode::Close => close_code(&payload).map(|code| Some(Message::Close(code))),
                _ => Ok(Some(Message::Pong)),
            };
        }
        let Some(message) = self.message.take_if(|_| is_final) else { return Ok(None) };
        match message.is_text {
            true => {
                String::from_utf8(message.bytes).map(Message::Text).map(Some).map_err(|_| Broken::NotUtf8)
            }
            false => Ok(Some(Message::Binary(message.bytes.into()))),
        }
    }
}

impl Partial {
    /// Makes room for so many bytes, of a frame that still has so many: by doubling, and never more than it needs.
    fn reserve(&mut self, count: usize, of: usize) {
        let (len, room) = (self.bytes.len(), self.bytes.capacity() - self.bytes.len());
        if count > room {
            self.bytes.reserve_exact(of.min(count.max(len).max(FIRST_BYTES)));
        }
    }
}

/// The code in the payload of a close, whose rest is text.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Broken> {
    match payload {
        [] => Ok(None),
        [_] => Err(Broken::Protocol),
        [high, low, reason @ ..] => {
            std::str::from_utf8(reason).map_err(|_| Broken::NotUtf8)?;
            Ok(Some(u16::from_be_bytes([*high, *low])))
        }
    }
}

/// Appends payload that was masked; `come` bytes of its frame came before.
fn append_unmasked(target: &mut Vec<u8>, payload: &[u8], mut mask: [u8; 4], come: usize) {
    mask.rotate_left(come % 4);
    let from = target.len();
    target.extend_from_slice(payload);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = target[from..].chunks_exact_mut(8);
    for word in &mut words {
        let masked =
            u64::from_ne_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]);
        word.copy_from_slice(&(masked ^ wide).to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read, Write};

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
    use tokio_tungstenite::tungstenite::{self, error};

    use super::*;

    const LIMIT: usize = 300;

    /// A frame of a client.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..=125 => bytes.push(0x80 | length as u8),
            length @ 126..=65_535 => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                bytes.push(0x80 | 127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// What comes of bytes that arrive in pieces of this size, until they break.
    fn assemble(bytes: &[u8], piece: usize) -> (Vec<Message>, Option<Broken>) {
        let mut assembler = Assembler::default();
        let mut messages = Vec::new();
        for mut piece in bytes.chunks(piece.max(1)) {
            while !piece.is_empty() {
                match assembler.take(&mut piece, LIMIT) {
                    Ok(message) => messages.extend(message),
                    Err(broken) => return (messages, Some(broken)),
                }
                if let Some(Message::Close(_)) = messages.last() {
                    return (messages, None);
                }
            }
        }
        (messages, None)
    }

    #[test]
    fn messages_come_whole_however_they_were_cut() {
        let large = "x".repeat(200);
        let bytes = [
            frame(0x81, b"one"),
            frame(0x01, b"tw"),
            frame(0x89, b"ping"),
            frame(0x80, b"o"),
            frame(0x82, &[0xff; 130]),
            frame(0x81, b""),
            frame(0x81, large.as_bytes()),
            frame(0x8a, b""),
            frame(0x88, b"\x03\xe8bye"),
        ]
        .concat();
        let expected = [
            Message::Text("one".into()),
            Message::Ping(b"ping".to_vec()),
            Message::Text("two".into()),
            Message::Binary(vec![0xff; 130].into()),
            Message::Text(String::new()),
            Message::Text(large),
            Message::Pong,
            Message::Close(Some(1000)),
        ];
        for piece in [1, 2, 3, 7, 64, 1_000] {
            assert_eq!(assemble(&bytes, piece), (expected.to_vec(), None), "in pieces of {piece}");
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        let check = |bytes: &[u8], broken| {
            for piece in [1, 1_000] {
                assert_eq!(assemble(bytes, piece).1, Some(broken), "{bytes:02x?}");
            }
        };
        check(&[0x81, 0x01, b'x'], Broken::Protocol);
        check(&frame(0xc1, b"reserved bit"), Broken::Protocol);
        check(&frame(0x83, b"reserved opcode"), Broken::Protocol);
        check(&frame(0x80, b"nothing to go on with"), Broken::Protocol);
        check(&[frame(0x01, b"a"), frame(0x81, b"b")].concat(), Broken::Protocol);
        check(&frame(0x09, b"a ping in pieces"), Broken::Protocol);
        check(&frame(0x89, &[0; 126]), Broken::Protocol);
        check(&frame(0x88, b"\x03"), Broken::Protocol);
        check(&frame(0x88, b"\x03\xe8\xff"), Broken::NotUtf8);
        check(&frame(0x81, b"\xff"), Broken::NotUtf8);
        check(&frame(0x81, &[b'x'; LIMIT + 1]), Broken::TooLarge);
        check(&[frame(0x01, &[b'x'; LIMIT]), frame(0x80, b"x")].concat(), Broken::TooLarge);
        check(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], Broken::TooLarge);
        let many: Vec<_> = (0..5_000).map(|number| frame(if number == 0 { 1 } else { 0 }, b"")).collect();
        check(&many.concat(), Broken::TooLarge);
    }

    #[test]
    fn a_message_takes_no_more_memory_than_has_come_of_it() {
        let mut assembler = Assembler::default();
        let message = frame(0x82, &vec![7; 3_000_000]);
        let mut head = &message[..100];
        assert_eq!(assembler.take(&mut head, usize::MAX), Ok(None));
        assert!(assembler.is_amid() && assembler.bytes() <= FIRST_BYTES, "{}", assembler.bytes());
        let mut half = &message[100..1_500_000];
        assert_eq!(assembler.take(&mut half, usize::MAX), Ok(None));
        assert!(assembler.bytes() <= 3_000_000, "{}", assembler.bytes());
        let mut rest = &message[1_500_000..];
        let Ok(Some(Message::Binary(bytes))) = assembler.take(&mut rest, usize::MAX) else {
            panic!("no message")
        };
        assert!(bytes.len() == 3_000_000 && bytes.iter().all(|byte| *byte == 7));
        assert!(!assembler.is_amid() && assembler.bytes() == 0);
    }

    /// Bytes that are all there is to read, and a place for what is answered.
    struct Pipe(Cursor<Vec<u8>>);

    impl Read for Pipe {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The same by another implementation.
    fn assemble_otherwise(bytes: Vec<u8>) -> (Vec<Message>, Option<Broken>) {
        let config = WebSocketConfig::default().max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT));
        let mut socket = WebSocket::from_raw_socket(Pipe(Cursor::new(bytes)), Role::Server, Some(config));
        let mut messages = Vec::new();
        loop {
            match socket.read() {
                Ok(tungstenite::Message::Text(text)) => {
                    messages.push(Message::Text(text.as_str().to_owned()))
                }
                Ok(tungstenite::Message::Binary(bytes)) => messages.push(Message::Binary(bytes)),
                Ok(tungstenite::Message::Ping(bytes)) => messages.push(Message::Ping(bytes.to_vec())),
                Ok(tungstenite::Message::Pong(_)) => messages.push(Message::Pong),
                Ok(tungstenite::Message::Close(_)) => {
                    messages.push(Message::Close(None));
                    return (messages, None);
                }
                Ok(tungstenite::Message::Frame(_)) => {}
                Err(tungstenite::Error::Capacity(_)) => return (messages, Some(Broken::TooLarge)),
                Err(tungstenite::Error::Utf8(_)) => return (messages, Some(Broken::NotUtf8)),
                Err(tungstenite::Error::Protocol(error::ProtocolError::ResetWithoutClosingHandshake)) => {
                    return (messages, None);
                }
                Err(_) => return (messages, Some(Broken::Protocol)),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn another_implementation_reads_the_same(
            frames in prop::collection::vec(
                (prop_oneof![8 => prop::sample::select(vec![0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a, 0x88]), 1 => any::<u8>()],
                 prop_oneof![4 => "[a-zäöü€]{0,40}".prop_map(String::into_bytes), 1 => prop::collection::vec(any::<u8>(), 0..160)]),
                0..12,
            ),
            cut in any::<prop::sample::Index>(),
            is_cut: bool,
            piece in 1..40_usize,
        ) {
            let mut bytes = frames.iter().map(|(first, payload)| frame(*first, payload)).collect::<Vec<_>>().concat();
            if is_cut && !bytes.is_empty() {
                bytes.truncate(cut.index(bytes.len()));
            }
            let (mut messages, broken) = assemble(&bytes, piece);
            for message in &mut messages {
                if let Message::Close(code) = message {
                    *code = None;
                }
            }
            let (expected, expected_broken) = assemble_otherwise(bytes);
            if expected_broken == Some(Broken::NotUtf8) {
                // A text in pieces that is not UTF-8 is refused at its end, by the other with its piece.
                prop_assert!(messages.starts_with(&expected));
            } else if is_cut && expected_broken.is_none() {
                // A frame that may not come is refused by its header, by the other when it has come whole.
                prop_assert_eq!(messages, expected);
            } else {
                prop_assert_eq!((messages, broken), (expected, expected_broken));
            }
        }
    }
}
