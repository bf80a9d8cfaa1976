//! What the tests of both crates share.

use std::io::Write;
use std::process::Command;

/// Set by `cargo xtask test clients --every-client`.
pub fn environment(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test clients --every-client`"))
}

/// The relay's socket, as clients have to be told that append nothing to it.
pub fn socket() -> String {
    format!("{}/realtime/v1/websocket", environment("CAMPFIRE_RELAY").replacen("http", "ws", 1))
}

/// Runs SQL as superuser; returns what psql prints.
pub fn sql(script: &str) -> String {
    let output = Command::new(environment("CAMPFIRE_PSQL"))
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &environment("CAMPFIRE_DATABASE")])
        .args(["-c", script])
        .output()
        .expect("psql runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("psql prints UTF-8").trim().to_owned()
}

pub fn open_conversation() -> String {
    let organization = environment("CAMPFIRE_ORGANIZATION");
    sql(&format!("insert into conversations (organization_id) values ('{organization}') returning id"))
}

pub fn write(conversation: &str, content: &str) {
    sql(&format!(
        "insert into messages (organization_id, conversation_id, content, sender_type)
         select organization_id, id, '{content}', 'visitor' from conversations where id = '{conversation}'"
    ));
}

/// A name that no other test has.
pub fn room() -> String {
    format!("room:{}", sql("select gen_random_uuid()"))
}

/// Notes a row of the table in docs/clients.md: reached by what passed alone.
pub fn passed(client: &str, version: &str, vsn: &str, feature: &str) {
    let Ok(results) = std::env::var("CAMPFIRE_CONFORMANCE") else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(results).expect("results open");
    let line =
        format!(r#"{{"client":"{client}","version":"{version}","vsn":"{vsn}","feature":"{feature}"}}"#);
    writeln!(file, "{line}").expect("results are written");
}
