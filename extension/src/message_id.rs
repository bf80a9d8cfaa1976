//! Ids of messages that a client may send again.

use pgrx::prelude::*;
use sha1::{Digest, Sha1};

/// The UUIDv5 (RFC 9562) of a client's key, as text in lower case, in the namespace of the conversation's id: a message
/// sent again is the same row, and nobody can choose an id that another conversation has.
#[pg_extern(sql = r#"
create function campfire.message_id(conversation_id uuid, client_key uuid) returns uuid
language c immutable strict parallel safe
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn message_id(conversation_id: pgrx::Uuid, client_key: pgrx::Uuid) -> pgrx::Uuid {
    let name = format!("{client_key}");
    let digest = Sha1::new().chain_update(conversation_id.as_bytes()).chain_update(name).finalize();
    let mut id = *digest.first_chunk::<16>().expect("SHA-1 has 20 bytes");
    id[6] = id[6] & 0x0f | 0x50;
    id[8] = id[8] & 0x3f | 0x80;
    pgrx::Uuid::from_bytes(id)
}
