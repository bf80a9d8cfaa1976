//! A frame ready to be written to sockets.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// One WebSocket message. Cloning shares the bytes: a broadcast is encoded once for all who speak alike.
#[derive(Clone, Debug)]
pub struct Frame(Arc<Encoded>);

#[derive(Debug)]
struct Encoded {
    is_text: bool,
    payload: Bytes,
    /// In how many places it waits to be written.
    waiting: AtomicUsize,
    /// Where its bytes are counted while it waits.
    account: OnceLock<Account>,
}

/// Bytes of all frames that wait to be written, each counted once, however many sockets it waits for.
#[derive(Clone, Debug, Default)]
pub struct Account(Arc<AtomicUsize>);

/// A frame that waits to be written, and is counted until it does no more.
#[derive(Debug)]
pub struct Waiting(Frame);

impl Frame {
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(true, text.into().into())
    }

    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::new(false, bytes.into())
    }

    /// Text that was put together as bytes; None if it is not UTF-8.
    pub(super) fn from_utf8(text: Vec<u8>) -> Option<Self> {
        String::from_utf8(text).ok().map(Self::text)
    }

    fn new(is_text: bool, payload: Bytes) -> Self {
        Self(Arc::new(Encoded { is_text, payload, waiting: AtomicUsize::new(0), account: OnceLock::new() }))
    }

    /// Whether its payload is UTF-8, and told to be.
    pub fn is_text(&self) -> bool {
        self.0.is_text
    }

    pub fn payload(&self) -> &Bytes {
        &self.0.payload
    }

    /// Bytes of payload, which an outbox counts.
    pub fn len(&self) -> usize {
        self.0.payload.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts its bytes in an account, unless they are because it waits elsewhere too. All have the same account.
    pub fn wait(self, account: &Account) -> Waiting {
        if self.0.waiting.fetch_add(1, Ordering::Relaxed) == 0 {
            self.0.account.get_or_init(|| account.clone()).0.fetch_add(self.len(), Ordering::Relaxed);
        }
        Waiting(self)
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.is_text() == other.is_text() && self.payload() == other.payload()
    }
}

impl Eq for Frame {}

impl Account {
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Deref for Waiting {
    type Target = Frame;

    fn deref(&self) -> &Frame {
        &self.0
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let encoded = &self.0.0;
        if encoded.waiting.fetch_sub(1, Ordering::Relaxed) == 1
            && let Some(account) = encoded.account.get()
        {
            account.0.fetch_sub(encoded.payload.len(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_counted_once_while_it_waits_anywhere() {
        let account = Account::default();
        let (frame, other) = (Frame::text("x".repeat(10)), Frame::binary(vec![0; 5]));
        let waiting: Vec<_> = (0..3).map(|_| frame.clone().wait(&account)).collect();
        let also = other.wait(&account);
        assert_eq!(account.bytes(), 15);
        drop(waiting);
        assert_eq!(account.bytes(), 5);
        // It may wait again.
        let again = frame.clone().wait(&account);
        assert_eq!(account.bytes(), 15);
        drop((again, also));
        assert_eq!(account.bytes(), 0);
    }
}
