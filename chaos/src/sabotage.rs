//! A relay that errs on purpose, to see that the checker notices: between relay and clients, frames are dropped,
//! doubled, swapped, sent to others, changed. Nothing of it is in the product.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What goes wrong with one frame in so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    Drop,
    Duplicate,
    Swap,
    /// A frame of another channel, under this one's name.
    Leak,
    /// Another value in the payload.
    Corrupt,
    /// An id at which nothing happened.
    Invent,
    /// The end of a channel is kept from the client, and what others get comes all the same.
    OutstayCut,
    /// A loss that is not told.
    HushLoss,
    /// A loss that never was.
    CryWolf,
}

impl Sabotage {
    pub const ALL: [Self; 9] = [
        Self::Drop,
        Self::Duplicate,
        Self::Swap,
        Self::Leak,
        Self::Corrupt,
        Self::Invent,
        Self::OutstayCut,
        Self::HushLoss,
        Self::CryWolf,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Duplicate => "duplicate",
            Self::Swap => "swap",
            Self::Leak => "leak",
            Self::Corrupt => "corrupt",
            Self::Invent => "invent",
            Self::OutstayCut => "outstay-cut",
            Self::HushLoss => "hush-loss",
            Self::CryWolf => "cry-wolf",
        }
    }
}

/// Shared by all connections of a run.
pub struct Saboteur {
    kind: Sabotage,
    one_in: u64,
    seen: AtomicU64,
    /// How often it struck.
    pub struck: AtomicU64,
    /// The last broadcast seen on each topic.
    last: Mutex<HashMap<String, WsFrame>>,
}

impl Saboteur {
    pub fn new(kind: Sabotage, one_in: u64) -> Self {
        let (seen, struck) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { kind, one_in, seen, struck, last: Mutex::default() }
    }

    /// For one connection.
    pub fn line(self: Arc<Self>) -> Line {
        Line {
            saboteur: self,
            buffer: Vec::new(),
            upgraded: false,
            held: None,
            outstaying: Vec::new(),
            is_binary: false,
        }
    }

    fn strikes(&self) -> bool {
        let strikes = (self.seen.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(self.one_in);
        if strikes {
            self.struck.fetch_add(1, Ordering::Relaxed);
        }
        strikes
    }

    fn strike(&self) {
        self.struck.fetch_add(1, Ordering::Relaxed);
    }
}

/// One frame of the WebSocket protocol, as servers send them: not masked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct WsFrame {
    first: u8,
    payload: Vec<u8>,
}

impl WsFrame {
    /// Takes a whole frame from the front.
    fn take(buffer: &mut Vec<u8>) -> Option<Self> {
        let (&first, &short) = (buffer.first()?, buffer.get(1)?);
        let (header, length) = match short & 0x7f {
            126 => (4, u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?).into()),
            127 => (10, u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?) as usize),
            short => (2, short.into()),
        };
        let payload = buffer.get(header..header + length)?.to_vec();
        buffer.drain(..header + length);
        Some(Self { first, payload })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.first);
        match self.payload.len() {
            length @ ..126 => out.push(length as u8),
            length @ ..0x1_0000 => {
                out.push(126);
                out.extend((length as u16).to_be_bytes());
            }
            length => {
                out.push(127);
                out.extend((length as u64).to_be_bytes());
            }
        }
        out.extend(&self.payload);
    }

    fn is_binary(&self) -> bool {
        self.first & 0xf == 2
    }

    fn find(&self, text: &[u8]) -> Option<usize> {
        self.payload.windows(text.len()).position(|window| window == text)
    }

    fn has(&self, text: &str) -> bool {
        self.find(text.as_bytes()).is_some()
    }

    /// An event with an id.
    fn is_event(&self) -> bool {
        self.has(r#""id":""#) && self.has(r#""committed_at":""#) && !self.has("chaos:last")
    }

    /// The channel's topic on the wire, a uuid and all.
    fn topic(&self) -> Option<String> {
        let start = self.find(b"realtime:org:")?;
        let is_name =
            |byte: &&u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b':' | b'-');
        let length = if self.is_binary() {
            (*self.payload.get(1)?).into()
        } else {
            self.payload[start..].iter().take_while(is_name).count()
        };
        Some(String::from_utf8_lossy(self.payload.get(start..start + length)?).into_owned())
    }

    /// The same under another topic.
    fn under(&self, topic: &str) -> Option<Self> {
        let own = self.topic()?;
        let mut frame = self.replaced(own.as_bytes(), topic.as_bytes())?;
        if frame.is_binary() {
            frame.payload[1] = topic.len() as u8;
        }
        Some(frame)
    }

    fn replaced(&self, from: &[u8], to: &[u8]) -> Option<Self> {
        let at = self.find(from)?;
        let payload = [&self.payload[..at], to, &self.payload[at + from.len()..]].concat();
        Some(Self { first: self.first, payload })
    }
}

/// One connection's way from the relay to its client.
pub struct Line {
    saboteur: Arc<Saboteur>,
    buffer: Vec<u8>,
    /// The answer to the handshake has passed.
    upgraded: bool,
    /// To be sent after the next.
    held: Option<WsFrame>,
    /// Topics whose end was kept from the client.
    outstaying: Vec<String>,
    /// Whether this client gets its broadcasts in binary.
    is_binary: bool,
}

impl Line {
    /// What is to go on of what came.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.buffer.extend_from_slice(bytes);
        let mut out = Vec::new();
        if !self.upgraded {
            let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
                return out;
            };
            out.extend(self.buffer.drain(..end + 4));
            self.upgraded = true;
        }
        while let Some(frame) = WsFrame::take(&mut self.buffer) {
            for frame in self.spoil(frame) {
                frame.write(&mut out);
            }
        }
        out
    }

    fn spoil(&mut self, frame: WsFrame) -> Vec<WsFrame> {
        let saboteur = Arc::clone(&self.saboteur);
        match saboteur.kind {
            Sabotage::OutstayCut => return self.outstay(frame),
            Sabotage::HushLoss => {
                if frame.has("ReplayIncomplete") {
                    saboteur.strike();
                    return Vec::new();
                }
                let hushed = frame.replaced(br#""complete":false"#, br#""complete":true"#);
                if hushed.is_some() {
                    saboteur.strike();
                }
                return vec![hushed.unwrap_or(frame)];
            }
            Sabotage::CryWolf => {
                let cried = frame
                    .replaced(br#""complete":true"#, br#""complete":false"#)
                    .filter(|_| saboteur.strikes());
                return vec![cried.unwrap_or(frame)];
            }
            _ => {}
        }
        if !frame.is_event() {
            return self.held.take().into_iter().chain([frame]).collect();
        }
        if let Some(held) = self.held.take() {
            return vec![frame, held];
        }
        let topic = frame.topic();
        if let Some(topic) = &topic {
            let mut last = saboteur.last.lock().unwrap_or_else(PoisonError::into_inner);
            last.insert(format!("{}{topic}", frame.is_binary()), frame.clone());
        }
        if !saboteur.strikes() {
            return vec![frame];
        }
        match saboteur.kind {
            Sabotage::Drop => Vec::new(),
            Sabotage::Duplicate => vec![frame.clone(), frame],
            Sabotage::Swap => {
                self.held = Some(frame);
                Vec::new()
            }
            Sabotage::Leak => {
                let leaked = topic.and_then(|topic| self.of_another(&topic, &frame));
                [Some(frame), leaked].into_iter().flatten().collect()
            }
            Sabotage::Corrupt => {
                let organization = frame.replaced(br#""organization_id":""#, br#""organization_ix":""#);
                let other =
                    organization.or_else(|| frame.replaced(br#""reader_type":""#, br#""reader_typo":""#));
                vec![other.unwrap_or(frame)]
            }
            Sabotage::Invent => {
                // The change number ends the id: one that no transaction reaches.
                let id = frame.find(br#""id":""#);
                let mut frame = frame;
                let ids: Vec<usize> = frame
                    .payload
                    .windows(10)
                    .enumerate()
                    .filter(|(_, window)| window[0] == b'.' && window[9] == b'"')
                    .map(|(at, _)| at)
                    .collect();
                if let (Some(_), Some(at)) = (id, ids.first()) {
                    frame.payload[at + 1] = b'7';
                }
                vec![frame]
            }
            Sabotage::OutstayCut | Sabotage::HushLoss | Sabotage::CryWolf => vec![frame],
        }
    }

    fn of_another(&self, topic: &str, like: &WsFrame) -> Option<WsFrame> {
        let last = self.saboteur.last.lock().unwrap_or_else(PoisonError::into_inner);
        let organization = topic.get(..50)?;
        let foreign = last.iter().find(|(key, frame)| {
            frame.is_binary() == like.is_binary()
                && frame.first == like.first
                && frame.payload.first() == like.payload.first()
                && !key.contains(organization)
        });
        foreign?.1.under(topic)
    }

    /// Keeps system errors and closes back, and then sends what the topic's other subscribers get.
    fn outstay(&mut self, frame: WsFrame) -> Vec<WsFrame> {
        let topic = frame.topic();
        if frame.has("no longer active") {
            self.outstaying.extend(topic);
            self.saboteur.strike();
            return Vec::new();
        }
        if frame.has("phx_close") && topic.as_ref().is_some_and(|topic| self.outstaying.contains(topic)) {
            return Vec::new();
        }
        let mut out = Vec::new();
        let mut last = self.saboteur.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let (true, Some(topic)) = (frame.is_event(), &topic) {
            last.insert(format!("{}{topic}", frame.is_binary()), frame.clone());
        }
        if !frame.is_binary() {
            // 2.0.0 writes arrays, and its broadcasts in binary.
            self.is_binary = frame.payload.first() == Some(&b'[');
        }
        out.push(frame);
        let binary = self.is_binary;
        out.extend(self.outstaying.iter().filter_map(|topic| last.get(&format!("{binary}{topic}")).cloned()));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> WsFrame {
        WsFrame { first: 0x81, payload: text.as_bytes().to_vec() }
    }

    #[test]
    fn frames_of_every_length_read_back_from_any_split() {
        for length in [0, 125, 126, 65_535, 65_536, 200_000] {
            let frame = WsFrame { first: 0x82, payload: vec![7; length] };
            let mut bytes = Vec::new();
            frame.write(&mut bytes);
            let mut part = bytes[..bytes.len() - 1].to_vec();
            assert_eq!(WsFrame::take(&mut part), None);
            part.push(*bytes.last().unwrap());
            assert_eq!(WsFrame::take(&mut part), Some(frame));
            assert!(part.is_empty());
        }
    }

    #[test]
    fn a_frame_goes_under_another_topic() {
        let text = r#"[null,null,"realtime:org:00000000-0000-4000-8000-0000000000a0:conv:1","broadcast",{}]"#;
        let moved = frame(text).under("realtime:org:x").unwrap();
        assert_eq!(moved, frame(r#"[null,null,"realtime:org:x","broadcast",{}]"#));
    }
}
