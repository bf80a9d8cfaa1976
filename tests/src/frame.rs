//! Frames of Phoenix's two serializations, written apart from the relay's own
//! codec: a mistake that both ends share would be invisible to every test.

use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::socket::Vsn;

/// One message, whichever way it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub join_ref: Option<String>,
    pub reference: Option<String>,
    pub topic: String,
    pub event: String,
    pub payload: Value,
    /// It came as a binary frame (kind 4).
    pub is_binary: bool,
    pub received_at: SystemTime,
}

impl Frame {
    /// A frame to be sent.
    pub fn push(
        join_ref: Option<&str>,
        reference: Option<&str>,
        topic: &str,
        event: &str,
        payload: Value,
    ) -> Self {
        Self {
            join_ref: join_ref.map(str::to_owned),
            reference: reference.map(str::to_owned),
            topic: topic.to_owned(),
            event: event.to_owned(),
            payload,
            is_binary: false,
            received_at: SystemTime::now(),
        }
    }
}

/// The Phoenix topic of a channel.
pub fn topic(channel: &str) -> String {
    format!("realtime:{channel}")
}

/// A text frame, as the stock client writes it.
pub fn encode(frame: &Frame, vsn: Vsn) -> Message {
    let text = match vsn {
        Vsn::V1 => {
            let mut object = json!({
                "topic": frame.topic,
                "event": frame.event,
                "payload": frame.payload,
                "ref": frame.reference,
            });
            // The JS client leaves the key out where there is nothing to say.
            if let Some(join_ref) = &frame.join_ref {
                object["join_ref"] = join_ref.as_str().into();
            }
            object.to_string()
        }
        Vsn::V2 => {
            json!([frame.join_ref, frame.reference, frame.topic, frame.event, frame.payload]).to_string()
        }
    };
    Message::text(text)
}

/// A client's broadcast in 2.0.0: binary, kind 3, payload as JSON.
pub fn broadcast_push(
    join_ref: &str,
    reference: &str,
    topic: &str,
    event: &str,
    payload: &Value,
) -> Result<Vec<u8>> {
    let mut bytes = vec![3];
    for part in [join_ref, reference, topic, event] {
        bytes.push(u8::try_from(part.len()).context("a header field over 255 bytes")?);
    }
    bytes.extend([0, 1]); // no metadata; the payload is JSON
    for part in [join_ref, reference, topic, event] {
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes.extend_from_slice(payload.to_string().as_bytes());
    Ok(bytes)
}

/// Reads what the server sent, and insists on what the stock clients insist on.
pub fn decode(message: Message, vsn: Vsn) -> Result<Frame> {
    match (message, vsn) {
        (Message::Text(text), Vsn::V1) => decode_object(&text),
        (Message::Text(text), Vsn::V2) => decode_array(&text),
        (Message::Binary(bytes), Vsn::V2) => decode_broadcast(&bytes),
        (Message::Binary(_), Vsn::V1) => bail!("a binary frame on a 1.0.0 socket"),
        (other, _) => bail!("not a frame: {other:?}"),
    }
}

fn decode_object(text: &str) -> Result<Frame> {
    let mut value: Value = serde_json::from_str(text).with_context(|| text.to_owned())?;
    let object = value.as_object_mut().context("not an object")?;
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    ensure!(
        keys == ["event", "payload", "ref", "topic"],
        "a 1.0.0 frame has exactly topic, event, payload, ref: {text}"
    );
    build(
        Value::Null,
        value["ref"].take(),
        value["topic"].take(),
        value["event"].take(),
        value["payload"].take(),
    )
}

fn decode_array(text: &str) -> Result<Frame> {
    let value: Value = serde_json::from_str(text).with_context(|| text.to_owned())?;
    let Value::Array(parts) = value else {
        bail!("not an array: {text}");
    };
    let parts: [Value; 5] = parts.try_into().map_err(|parts| anyhow::anyhow!("not five parts: {parts:?}"))?;
    let [join_ref, reference, topic, event, payload] = parts;
    build(join_ref, reference, topic, event, payload)
}

fn build(join_ref: Value, reference: Value, topic: Value, event: Value, payload: Value) -> Result<Frame> {
    ensure!(payload.is_object(), "a payload must be an object: {payload}");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Ok(Frame {
        join_ref: text(&join_ref),
        reference: text(&reference),
        topic: text(&topic).context("a topic is text")?,
        event: text(&event).context("an event is text")?,
        payload,
        is_binary: false,
        received_at: SystemTime::now(),
    })
}

/// Kind 4: `04 T E M encoding`, then topic, event, metadata, payload.
fn decode_broadcast(bytes: &[u8]) -> Result<Frame> {
    let [4, topic, event, metadata, encoding, rest @ ..] = bytes else {
        bail!("only kind 4 may be sent to a client: {bytes:02x?}");
    };
    let mut rest = rest;
    let mut take = |length: u8| -> Result<&str> {
        let (part, after) =
            rest.split_at_checked(length.into()).context("a header length points past the end")?;
        rest = after;
        Ok(std::str::from_utf8(part)?)
    };
    let (topic, event, metadata) = (take(*topic)?, take(*event)?, take(*metadata)?);
    let payload = match encoding {
        1 => serde_json::from_slice(rest).context("the payload is not JSON")?,
        _ => json!({"bytes": rest}),
    };
    let mut body = json!({"type": "broadcast", "event": event, "payload": payload});
    if !metadata.is_empty() {
        body["meta"] = serde_json::from_str(metadata).context("the metadata is not JSON")?;
    }
    Ok(Frame { is_binary: true, ..Frame::push(None, None, topic, "broadcast", body) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    /// The bytes that the real client made, as seen on the wire.
    #[test]
    fn a_broadcast_is_pushed_as_the_real_client_pushes_it() {
        let wanted = unhex(
            "03 01 01 0f 06 00 01 34 39 72 65 61 6c 74 69 6d 65 3a 72 6f 6f 6d 3a 37 \
             63 75 72 73 6f 72 7b 22 78 22 3a 33 7d",
        );
        let bytes = broadcast_push("4", "9", "realtime:room:7", "cursor", &json!({"x": 3}));
        assert_eq!(bytes.unwrap(), wanted);
    }

    #[test]
    fn a_binary_broadcast_is_read_as_the_real_client_reads_it() {
        let bytes = unhex(
            "04 0f 06 0b 01 72 65 61 6c 74 69 6d 65 3a 72 6f 6f 6d 3a 37 63 75 72 73 6f 72 \
             7b 22 69 64 22 3a 22 61 31 22 7d 7b 22 78 22 3a 33 7d",
        );
        let frame = decode(Message::binary(bytes), Vsn::V2).unwrap();
        assert_eq!(frame.topic, "realtime:room:7");
        assert_eq!(
            frame.payload,
            json!({"type": "broadcast", "event": "cursor", "payload": {"x": 3}, "meta": {"id": "a1"}})
        );
        assert!(frame.is_binary);
    }

    #[test]
    fn frames_that_would_break_a_stock_client_are_errors() {
        let refused = [
            (Message::binary(vec![4, 0, 0, 0, 1]), Vsn::V1),
            (Message::binary(vec![1, 0, 0, 0, 0]), Vsn::V2),
            (Message::binary(vec![4, 9, 0, 0, 1, b'x']), Vsn::V2),
            (Message::text("[null,null,\"t\",\"e\"]"), Vsn::V2),
            (Message::text("[null,null,\"t\",\"e\",null]"), Vsn::V2),
            (Message::text(r#"{"topic":"t","event":"e","payload":{},"ref":null,"join_ref":"1"}"#), Vsn::V1),
        ];
        for (message, vsn) in refused {
            assert!(decode(message.clone(), vsn).is_err(), "{message:?}");
        }
    }
}
