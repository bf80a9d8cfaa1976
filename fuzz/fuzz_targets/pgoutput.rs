//! A stream of pgoutput messages, decoded and routed. Whatever the server might send: no panic, payloads that are JSON
//! objects, changes numbered as they come, and nothing outside a transaction.
#![no_main]

use bytes::Bytes;
use campfire_relay::decode::{Decoded, Decoder, Domains, Message, excerpt};
use campfire_relay::route::{Operation, Route, Router, Template};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Enough of a table that the corpus describes: a key, a text, a boolean, a number, a time.
const COLUMNS: [&str; 5] = ["id", "organization_id", "a", "b", "c"];

fn routes() -> Vec<Route> {
    let operations = [Operation::Insert, Operation::Update, Operation::Delete];
    let channels = ["org:{organization_id}", "org:{organization_id}:conv:{id}", "t:{a}"];
    let mut routes = Vec::new();
    for operation in operations {
        for channel in channels {
            routes.push(Route {
                id: routes.len() as i64,
                schema: "public".to_owned(),
                table: "t".to_owned(),
                relation: None,
                operation,
                on_move: operation != Operation::Update,
                channel: Template::parse(channel).expect("a template"),
                event: "e".to_owned(),
                columns: COLUMNS.map(str::to_owned).to_vec(),
                when_changed: (operation == Operation::Update).then(|| vec!["a".to_owned()]),
                public: false,
                snapshot_by: None,
                gate: None,
            });
        }
    }
    routes
}

fuzz_target!(|data: &[u8]| {
    let mut decoder = Decoder::new();
    let mut router = Router::new(routes(), vec!["public".to_owned()], Domains::default());
    let mut rest = data;
    let mut expected_index = 0;
    // Each message behind its length, so that a mutation of one leaves the others whole.
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len());
        let (message, behind) = behind.split_at(length);
        rest = behind;
        // As if it went on for long: what stands for it is a message as well.
        if let Some(excerpt) = excerpt(message, message.len() << 20) {
            assert!(matches!(Message::parse(excerpt), Ok(Message::Logical { .. })));
        }
        match decoder.decode(Bytes::copy_from_slice(message)) {
            // The relay drops the connection.
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
            Ok(Decoded::Begin(_)) => expected_index = 0,
            Ok(Decoded::Change(change)) => {
                assert!(decoder.in_transaction());
                assert_eq!(change.index, expected_index);
                expected_index += 1;
                for event in router.route(&change).events {
                    let payload: Value = serde_json::from_slice(&event.payload).expect("JSON");
                    assert!(payload.is_object());
                }
            }
            Ok(Decoded::Commit { .. }) => assert!(!decoder.in_transaction()),
            Ok(Decoded::Relation(relation)) => {
                router.new_misfits(&relation);
            }
            Ok(Decoded::NonTransactionalMessage { .. } | Decoded::Nothing) => {}
        }
    }
});
