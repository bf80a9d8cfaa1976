//! Names of channels. One spelling each: what is understood prints as a name that leads back to it, and what begins with
//! org, in any case, is one of the four forms or refused.
#![no_main]

use campfire_relay::route::{Topic, strip_wire_prefix};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let name = strip_wire_prefix(text).unwrap_or(text);
    let Ok(topic) = Topic::parse(name) else { return };
    let printed = topic.to_string();
    assert_eq!(Topic::parse(&printed), Ok(topic.clone()));
    let first = printed.split(':').next().unwrap_or_default();
    match topic {
        Topic::Other(_) => assert!(!first.eq_ignore_ascii_case("org")),
        _ => {
            assert!(topic.organization().is_some() && topic.scope().is_some());
            assert_eq!(name.strip_prefix("bcast:").unwrap_or(name), printed);
            assert_eq!(printed, printed.to_lowercase());
            // Of a conversation, two channels; each is the other's.
            if let Some(sibling) = topic.sibling() {
                assert_eq!(sibling.sibling(), Some(topic));
            }
        }
    }
});
