//! What stands between the relay and Postgres and is not Postgres. The poolers' words are those of PgBouncer 1.18 and
//! Pgpool-II 4.3, as seen on the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use campfire_relay::postgres::{self, PostgresError};
use campfire_relay::wal::{self, WalConfig, WalError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::{Cluster, conninfo};

const NOTES: &str = "create table notes (id int primary key, body text);
    create publication campfire for table notes;";

const ADVICE: &str = "put the address of Postgres itself into CAMPFIRE_DATABASE_URL";

/// One message of the protocol.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
    [&[tag][..], &length, body].concat()
}

fn error_response(code: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0C{code}\0M{text}\0\0").as_bytes())
}

/// A listener that answers each connection's startup packet, and then the first command, with these bytes.
async fn answering(startup: Vec<u8>, command: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            for answer in [&startup, &command] {
                if client.read(&mut buffer).await.is_ok_and(|count| count > 0) {
                    client.write_all(answer).await.ok();
                }
            }
        }
    });
    port
}

async fn refusal(cluster: &Cluster, sql: &tokio_postgres::Client, port: u16) -> WalError {
    let database =
        conninfo(&format!("hostaddr=127.0.0.1 port={port} user=relay dbname=postgres sslmode=disable"));
    let config = WalConfig { database, ..cluster.wal(&["campfire"]) };
    wal::attach(&config, sql).await.err().expect("refused")
}

#[tokio::test]
async fn a_pooler_that_does_not_know_our_startup_parameters_is_told_as_one() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    for text in [
        "unsupported startup parameter: options",
        "unsupported startup parameter: replication",
        "unsupported startup parameter in options: statement_timeout",
    ] {
        let port = answering(error_response("08P01", text), Vec::new()).await;
        let error = refusal(&cluster, &sql, port).await;
        assert!(
            matches!(&error, WalError::Postgres(PostgresError::Pooler(server)) if server.message == text),
            "{error}"
        );
        assert!(!error.is_retryable() && error.to_string().contains(ADVICE), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
        let database = conninfo(&format!("hostaddr=127.0.0.1 port={port} user=relay sslmode=disable"));
        let error = postgres::connect(&database).await.expect_err("refused");
        assert!(matches!(&error, PostgresError::Pooler(_)), "{error}");
    }
}

/// Such a one was told to pass over what it does not know, and opens ordinary sessions.
#[tokio::test]
async fn a_pooler_whose_sessions_do_not_replicate_is_told_as_one() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    // The real server, in an ordinary session: what the client asks beyond that is taken out of its startup packet.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let server_port = cluster.port();
    cluster.authenticate_tcp("host all all 127.0.0.1/32 trust");
    sql.batch_execute("create role relay superuser login").await.expect("made");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(("127.0.0.1", server_port)).await.expect("the server");
            let length = client.read_u32().await.expect("a startup packet");
            let mut packet = vec![0; length as usize - 4];
            client.read_exact(&mut packet).await.expect("a startup packet");
            let ordinary = [&196_608_u32.to_be_bytes()[..], b"user\0relay\0database\0postgres\0\0"].concat();
            server.write_u32(ordinary.len() as u32 + 4).await.expect("sent");
            server.write_all(&ordinary).await.expect("sent");
            tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
        }
    });
    let error = refusal(&cluster, &sql, port).await;
    assert!(
        matches!(&error, WalError::Postgres(PostgresError::Pooler(server)) if server.code == "42601"),
        "{error}"
    );
    assert!(!error.is_retryable() && error.to_string().contains(ADVICE), "{error}");
}

/// Pgpool-II takes START_REPLICATION, and keeps the answer to itself.
#[tokio::test]
async fn a_start_that_is_not_answered_is_given_up_and_says_what_may_stand_in_between() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    cluster.authenticate_tcp("host all all 127.0.0.1/32 trust");
    sql.batch_execute("create role relay superuser login").await.expect("made");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let server_port = cluster.port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", server_port)).await.expect("the server");
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let silent = Arc::new(AtomicBool::new(false));
            let is_silent = Arc::clone(&silent);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                    if !is_silent.load(Ordering::Relaxed) {
                        to_client.write_all(&buffer[..count]).await.ok();
                    }
                }
            });
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                if buffer[..count].windows(17).any(|text| text == b"START_REPLICATION") {
                    silent.store(true, Ordering::Relaxed);
                }
                to_server.write_all(&buffer[..count]).await.ok();
            }
        }
    });
    let error = refusal(&cluster, &sql, port).await;
    assert!(
        matches!(&error, WalError::Postgres(PostgresError::NoAnswer { what: "START_REPLICATION", .. })),
        "{error}"
    );
    assert!(error.is_retryable() && error.to_string().contains("a pooler (PgBouncer, Pgpool-II)"), "{error}");
}
