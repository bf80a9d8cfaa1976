//! Binary frames of serialization 2.0.0. Kind 3 comes from clients, kind 4 goes to them; both carry a broadcast.
//!
//! Lengths are single bytes, so each field of a header has at most 255 bytes. Kinds 0, 1 and 2 are never sent: the
//! JavaScript client chokes on them.

use std::borrow::Cow;

use bytes::Bytes;

use super::broadcast::Encoding;
use super::reference::Ref;

const PUSH: u8 = 3;
const BROADCAST: u8 = 4;

const ENCODING_BINARY: u8 = 0;
const ENCODING_JSON: u8 = 1;

/// A broadcast as a kind 3 frame has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Push {
    pub(super) join_ref: Ref,
    pub(super) reference: Ref,
    pub(super) topic: String,
    pub(super) event: String,
    pub(super) encoding: Encoding,
    /// Whatever the encoding, not looked at.
    pub(super) payload: Bytes,
}

/// Decodes a kind 3 frame: `03 J R T E M encoding`, the five fields, then the payload to the end. None for a frame of
/// another kind, or one that is cut off.
pub(super) fn decode_push(frame: &Bytes) -> Option<Push> {
    let (&[PUSH, join_ref, reference, topic, event, metadata, encoding], mut rest) =
        frame.split_first_chunk()?
    else {
        return None;
    };
    let mut field = |length: u8| -> Option<&[u8]> {
        let (field, behind) = rest.split_at_checked(length.into())?;
        rest = behind;
        Some(field)
    };
    let (join_ref, reference) = (field(join_ref)?, field(reference)?);
    let (topic, event) = (field(topic)?, field(event)?);
    // What clients put here (`persist`) asks for a store that the reference server does not have either.
    field(metadata)?;
    Some(Push {
        join_ref: Ref::from_text(&header_text(join_ref)),
        reference: Ref::from_text(&header_text(reference)),
        topic: header_text(topic).into_owned(),
        event: header_text(event).into_owned(),
        encoding: if encoding == ENCODING_BINARY { Encoding::Binary } else { Encoding::Json },
        payload: frame.slice(frame.len() - rest.len()..),
    })
}

/// JavaScript clients before 2.110.4 wrote one byte for each UTF-16 unit. That is Latin-1 for all they could express,
/// and it is no UTF-8 as soon as it is not ASCII either.
fn header_text(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    }
}

/// Encodes a kind 4 frame: `04 T E M encoding`, the three fields, then the payload. None if a field is too long.
pub(super) fn encode_broadcast(
    topic: &str,
    event: &str,
    metadata: &[u8],
    encoding: Encoding,
    payload: &[u8],
) -> Option<Bytes> {
    let lengths = [topic.len(), event.len(), metadata.len()];
    let [Ok(topic_length), Ok(event_length), Ok(metadata_length)] = lengths.map(u8::try_from) else {
        return None;
    };
    let encoding = match encoding {
        Encoding::Json => ENCODING_JSON,
        Encoding::Binary => ENCODING_BINARY,
    };
    let header = [BROADCAST, topic_length, event_length, metadata_length, encoding];
    let mut frame = Vec::with_capacity(header.len() + lengths.iter().sum::<usize>() + payload.len());
    for part in [&header, topic.as_bytes(), event.as_bytes(), metadata, payload] {
        frame.extend_from_slice(part);
    }
    Some(frame.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Bytes {
        let hex: Vec<_> = hex.split_whitespace().filter(|word| *word != "|").collect();
        hex.iter().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    const TOPIC: &str = "72 65 61 6c 74 69 6d 65 3a 72 6f 6f 6d 3a 37";

    fn check_decodes(hex: &str, reference: &str, event: &str, encoding: Encoding, payload: &[u8]) {
        let push = decode_push(&bytes(hex)).unwrap();
        assert_eq!((push.join_ref.as_json(), push.reference.as_json()), (r#""4""#, reference));
        assert_eq!((push.topic.as_str(), push.event.as_str()), ("realtime:room:7", event));
        assert_eq!((push.encoding, &push.payload[..]), (encoding, payload));
    }

    #[test]
    fn pushes_of_the_specification_decode() {
        let json =
            format!("03 01 01 0f 06 00 01 | 34 | 39 | {TOPIC} | 63 75 72 73 6f 72 | 7b 22 78 22 3a 33 7d");
        check_decodes(&json, r#""9""#, "cursor", Encoding::Json, br#"{"x":3}"#);
        let binary = format!("03 01 02 0f 04 00 00 | 34 | 31 30 | {TOPIC} | 62 6c 6f 62 | de ad 00");
        check_decodes(&binary, r#""10""#, "blob", Encoding::Binary, b"\xde\xad\x00");
    }

    #[test]
    fn metadata_of_a_push_is_ignored() {
        let frame = format!("03 01 01 0f 04 02 07 | 34 | 39 | {TOPIC} | 62 6c 6f 62 | 7b 7d | 31");
        check_decodes(&frame, r#""9""#, "blob", Encoding::Json, b"1");
    }

    #[test]
    fn pushes_of_old_clients_keep_their_accents() {
        let push = decode_push(&bytes("03 00 00 01 04 00 01 | 78 | 63 61 66 e9 | 31")).unwrap();
        assert_eq!(push.event, "café");
    }

    #[test]
    fn undecodable_pushes_are_refused() {
        for hex in [
            "",
            "03",
            "03 01 01 0f 06 00",
            "03 00 00 00 01 00 01",
            "00 00 00 01 01 78 79",
            "04 01 01 00 01 78 79 31",
        ] {
            assert_eq!(decode_push(&bytes(hex)), None, "{hex}");
        }
    }

    fn check_encodes(event: &str, metadata: &[u8], encoding: Encoding, payload: &[u8], hex: &str) {
        let frame = encode_broadcast("realtime:room:7", event, metadata, encoding, payload).unwrap();
        assert_eq!(frame, bytes(hex));
    }

    #[test]
    fn broadcasts_encode_as_the_specification_has_them() {
        let json = format!("04 0f 06 00 01 | {TOPIC} | 63 75 72 73 6f 72 | 7b 22 78 22 3a 33 7d");
        check_encodes("cursor", b"", Encoding::Json, br#"{"x":3}"#, &json);
        let metadata = "7b 22 69 64 22 3a 22 61 31 22 7d";
        let binary = format!("04 0f 04 0b 00 | {TOPIC} | 62 6c 6f 62 | {metadata} | de ad 00");
        check_encodes("blob", br#"{"id":"a1"}"#, Encoding::Binary, b"\xde\xad\x00", &binary);
    }

    #[test]
    fn a_field_of_256_bytes_does_not_fit() {
        let encode = |topic: usize, event: usize, metadata: usize| {
            let event = "e".repeat(event);
            encode_broadcast(&"t".repeat(topic), &event, &b"m".repeat(metadata), Encoding::Json, b"1")
        };
        assert!(encode(255, 255, 255).is_some());
        for (topic, event, metadata) in [(256, 1, 1), (1, 256, 1), (1, 1, 256)] {
            assert!(encode(topic, event, metadata).is_none());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut frame: Vec<u8>, kind in 0_u8..6) {
            let _ = decode_push(&frame.clone().into());
            if let Some(first) = frame.first_mut() {
                *first = kind;
            }
            let _ = decode_push(&frame.into());
        }

        #[test]
        fn encode_then_decode_is_identity(
            reference in "[0-9]{0,9}", topic in "\\PC{0,60}", event in "\\PC{0,60}", binary: bool, payload: Vec<u8>,
        ) {
            let (encoding, payload) = if binary {
                (ENCODING_BINARY, payload)
            } else {
                (ENCODING_JSON, serde_json::to_vec(&payload).unwrap())
            };
            let lengths = [reference.len(), reference.len(), topic.len(), event.len(), 0].map(|length| length as u8);
            let frame = [
                &[PUSH][..], &lengths, &[encoding], reference.as_bytes(), reference.as_bytes(), topic.as_bytes(),
                event.as_bytes(), &payload,
            ].concat();
            let push = decode_push(&frame.into()).unwrap();
            let expected = Push {
                join_ref: Ref::from_text(&reference),
                reference: Ref::from_text(&reference),
                topic,
                event,
                encoding: if binary { Encoding::Binary } else { Encoding::Json },
                payload: payload.into(),
            };
            prop_assert_eq!(push, expected);
        }
    }
}
