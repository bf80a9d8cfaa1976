//! Long logical messages, of which the rest is not worth reading. Any role may write one of up to a gigabyte, and the stream
//! brings it to every reader of the database.

use bytes::{BufMut, Bytes, BytesMut};

/// Our own messages begin with this, and only those are read.
const OUR_PREFIX: &[u8] = b"campfire.";

/// How long our own may be; the extension writes no longer ones (`extension/src/signing.rs`), with some room for what it
/// puts in front of the body.
const CONTENT_BYTES_MAX: usize = (16 << 20) + 4096;

/// Tag, flags and LSN.
const HEADER_BYTES: usize = 1 + 1 + 8;

/// What stands for a message whose first bytes are these and which has so many, if it need not be read whole: the same
/// with nothing in it, which counts as the same change and is believed by nobody. None for rows, and for what may be ours.
pub fn excerpt(head: &[u8], bytes: usize) -> Option<Bytes> {
    let (header, rest) = head.split_at_checked(HEADER_BYTES)?;
    let (tag, flags) = (header[0], header[1]);
    if tag != b'M' {
        return None;
    }
    // A prefix that does not end in time is none of ours.
    let prefix = rest.iter().position(|&byte| byte == 0).map_or(&[][..], |end| &rest[..end]);
    let is_transactional = flags & 1 != 0;
    if is_transactional && prefix.starts_with(OUR_PREFIX) && bytes <= CONTENT_BYTES_MAX {
        return None;
    }
    let mut message = BytesMut::with_capacity(HEADER_BYTES + prefix.len() + 1 + 4);
    message.put_slice(header);
    message.put_slice(prefix);
    message.put_u8(0);
    message.put_u32(0);
    Some(message.freeze())
}

#[cfg(test)]
mod tests {
    use super::super::Message;
    use super::super::testing::{any_message, encode};
    use super::*;
    use crate::postgres::Lsn;
    use proptest::prelude::*;

    fn logical(transactional: bool, prefix: &str) -> Message {
        let (prefix, content) = (Bytes::copy_from_slice(prefix.as_bytes()), Bytes::from_static(b"content"));
        Message::Logical { transactional, lsn: Lsn(7), prefix, content }
    }

    /// The prefix that is left of a message of so many bytes, of which the first hundred were seen.
    fn check(message: &Message, bytes: usize, expected: Option<&str>) {
        let encoded = encode(message);
        let head = &encoded[..encoded.len().min(100)];
        let parsed = excerpt(head, bytes).map(|excerpt| Message::parse(excerpt).expect("well-formed"));
        let Message::Logical { transactional, lsn, .. } = message else {
            return assert_eq!(parsed, None);
        };
        let expected = expected.map(|prefix| Message::Logical {
            transactional: *transactional,
            lsn: *lsn,
            prefix: Bytes::copy_from_slice(prefix.as_bytes()),
            content: Bytes::new(),
        });
        assert_eq!(parsed, expected);
    }

    #[test]
    fn only_what_may_be_ours_is_read() {
        let long = 200 << 20;
        check(&logical(true, "campfire.broadcast"), 1 << 20, None);
        check(&logical(true, "campfire.broadcast"), long, Some("campfire.broadcast"));
        check(&logical(false, "campfire.broadcast"), 1 << 20, Some("campfire.broadcast"));
        check(&logical(true, "theirs"), 1 << 20, Some("theirs"));
        check(&logical(true, ""), 1 << 20, Some(""));
        check(&logical(true, &"campfire.".repeat(50)), long, Some(""));
    }

    proptest! {
        #[test]
        fn rows_are_always_read(message in any_message()) {
            if !matches!(message, Message::Logical { .. }) {
                check(&message, 500 << 20, None);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..150), length in any::<usize>()) {
            if let Some(excerpt) = excerpt(&bytes, length) {
                prop_assert!(Message::parse(excerpt).is_ok());
            }
        }
    }
}
