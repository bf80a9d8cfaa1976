//! The keys of what SQL says to the relay, as the stream goes on and keys are made.

use std::time::{Duration, Instant};

use super::catalog::Catalog;
use crate::decode::Transaction;
use crate::route::{MessageKeys, Refused, SignedMessage};
use crate::sql::SqlError;

/// How often a number that nobody announced may have the keys looked up. Any role can invent one, and the stream stands
/// still meanwhile.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Keyring<'a> {
    catalog: Catalog<'a>,
    keys: MessageKeys,
    looked_up_at: Option<Instant>,
    /// The highest 64-bit id of a transaction seen; the stream tells the lower halves.
    newest_xid: u64,
}

impl<'a> Keyring<'a> {
    /// `next_xid` is of about the time when the stream began.
    pub(super) fn new(catalog: Catalog<'a>, keys: MessageKeys, next_xid: u64) -> Self {
        Self { catalog, keys, looked_up_at: None, newest_xid: next_xid }
    }

    /// Reads a transactional logical message of this transaction. Not what is under other names, or not believed.
    pub(super) async fn open(
        &mut self,
        transaction: &Transaction,
        prefix: &[u8],
        content: &[u8],
    ) -> Result<Result<Option<SignedMessage>, Refused>, SqlError> {
        let xid = transaction.xid.widen(self.newest_xid);
        self.newest_xid = self.newest_xid.max(xid);
        match self.keys.open(xid, prefix, content) {
            // Looked up at once, so that no message under the new key comes too early.
            Ok(Some(SignedMessage::Keys)) => {
                self.look_up().await?;
                Ok(Ok(Some(SignedMessage::Keys)))
            }
            // Of one that was put there by hand, or made without one before it.
            Err(Refused::UnknownKey(_)) if self.may_look_up() => {
                self.look_up().await?;
                Ok(self.keys.open(xid, prefix, content))
            }
            opened => Ok(opened),
        }
    }

    fn may_look_up(&self) -> bool {
        self.looked_up_at.is_none_or(|looked_up_at| looked_up_at.elapsed() >= LOOK_UP_INTERVAL)
    }

    async fn look_up(&mut self) -> Result<(), SqlError> {
        self.keys = self.catalog.message_keys().await?;
        self.looked_up_at = Some(Instant::now());
        Ok(())
    }
}
