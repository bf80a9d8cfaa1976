//! What the database says of routes, and templates: whatever is signed is understood or refused, never a panic; what
//! is not signed is never believed.
#![no_main]

use campfire_relay::route::{MessageKeys, SignedMessage, Template};
use libfuzzer_sys::fuzz_target;
use ring::hmac;

const KEY: [u8; 32] = [7; 32];

fuzz_target!(|data: &[u8]| {
    let Some((&mode, body)) = data.split_first() else { return };
    if let Ok(text) = str::from_utf8(body)
        && let Ok(template) = Template::parse(text)
    {
        assert!(!template.pieces().is_empty());
    }
    let keys = MessageKeys::new(5, [(3, KEY.to_vec())]);
    let prefix: &[u8] = if mode & 1 == 0 { b"campfire.routes" } else { b"campfire.broadcast" };
    // As it is: nobody signed it.
    assert!(!matches!(keys.open(9, prefix, body), Ok(Some(_))));
    assert!(matches!(keys.open(9, b"campfire.other", body), Ok(None)));
    let mut signed = prefix.to_vec();
    signed.extend_from_slice(b"\n5\n9\n");
    signed.extend_from_slice(body);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &KEY), &signed);
    let mut content = b"v1 3 ".to_vec();
    content.extend(tag.as_ref().iter().flat_map(|byte| format!("{byte:02x}").into_bytes()));
    content.push(b'\n');
    content.extend_from_slice(body);
    if let Ok(Some(SignedMessage::Broadcast(event))) = keys.open(9, prefix, &content) {
        assert!(body.ends_with(&event.payload));
    }
    // In another transaction it is a copy, also where the lower half of the id is the same.
    assert!(!matches!(keys.open(9 + (1 << 32), prefix, &content), Ok(Some(_))));
    assert!(!matches!(keys.open(10, prefix, &content), Ok(Some(_))));
});
