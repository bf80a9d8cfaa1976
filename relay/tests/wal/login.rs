//! Who gets in, and what the others are told.

use std::process::Command;

use campfire_relay::postgres::{self, Conninfo, PostgresError};
use campfire_relay::wal::{self, WalConfig, WalError};
use tokio_postgres::Client;

use crate::cluster::{Cluster, conninfo, program};
use crate::reader::Reader;

const ROLES: &str = "create table notes (id int primary key);
    create publication campfire for table notes;
    create role scram login replication password 'se cret';
    set password_encryption = 'md5';
    create role md5 login replication password 'se cret';
    create role clear login replication password 'se cret';
    create role plain login;
    grant usage on schema campfire to plain;";

const RULES: &str = "host all scram 127.0.0.1/32 scram-sha-256
    host all md5 127.0.0.1/32 md5
    host all clear 127.0.0.1/32 password
    host all plain 127.0.0.1/32 trust";

async fn boot() -> (Cluster, Client) {
    let (cluster, sql) = Cluster::boot(ROLES).await;
    cluster.authenticate_tcp(RULES);
    (cluster, sql)
}

fn with(cluster: &Cluster, database: Conninfo) -> WalConfig {
    WalConfig { database, ..cluster.wal(&["campfire"]) }
}

#[tokio::test]
async fn every_password_method_lets_the_right_password_in() {
    let (cluster, sql) = boot().await;
    for user in ["scram", "md5", "clear"] {
        let mut config = with(&cluster, cluster.tcp(user, Some("se cret")));
        config.settings.slot_name = format!("campfire_{user}");
        let reader = Reader::attach(&config, &sql).await;
        reader.stream.close().await;
    }
}

/// As it stands in the URL, and as `psql` takes it or does not.
#[tokio::test]
async fn reserved_characters_in_a_url_are_read_as_psql_reads_them() {
    let (cluster, sql) = boot().await;
    sql.batch_execute("reset password_encryption").await.expect("reset");
    let mut taken = 0;
    for password in [
        "plain", "pa?ss", "pa:ss", "pa#ss", "pa&ss", "pa=ss", "pa+ss", "pa,ss", "pa;ss", "pa[ss", "pa]ss",
        "pa ss", "pa!ss", "pa/ss", "pa@ss", "pa%ss", "pa%20ss", "100%", "?", "@", "/", ":", "a?b@c", "a/b?c",
        "ü",
    ] {
        let alter = format!("alter role scram password '{password}'");
        sql.batch_execute(&alter).await.expect("altered");
        let url = format!(
            "postgres://scram:{password}@127.0.0.1:{}/postgres?sslmode=disable&connect_timeout=120",
            cluster.port()
        );
        let psql = Command::new(program("psql"))
            .args(["-X", "-w", "-c", "select 1", "-d", &url])
            .output()
            .expect("psql");
        let ours = match Conninfo::parse(&url, |_| None) {
            Ok(database) => postgres::connect(&database).await.map(drop).map_err(|error| error.to_string()),
            Err(problem) => Err(problem),
        };
        assert_eq!(ours.is_ok(), psql.status.success(), "{password}: {ours:?}");
        taken += usize::from(ours.is_ok());
        if let Err(problem) = ours {
            assert!(!problem.contains("ss@") && !problem.contains(&url), "{problem}");
        }
    }
    assert!(taken > 10, "psql takes most of them");
}

#[tokio::test]
async fn a_wrong_password_is_final_and_not_repeated_in_the_error() {
    let (cluster, sql) = boot().await;
    for user in ["scram", "md5", "clear"] {
        let error = wal::attach(&with(&cluster, cluster.tcp(user, Some("wr ong"))), &sql)
            .await
            .err()
            .expect("refused");
        assert_eq!(
            error.to_string(),
            format!(
                "password authentication failed for user \"{user}\" (SQLSTATE 28P01); \
                 check user and password in CAMPFIRE_DATABASE_URL, and pg_hba.conf"
            )
        );
        assert!(matches!(error, WalError::Postgres(PostgresError::Authentication(_))));
        assert!(!error.is_retryable());
        assert!(!format!("{error:?}").contains("wr ong"));
    }
}

/// The relay's ordinary session comes first, so this is the error that people see.
#[tokio::test]
async fn an_ordinary_session_is_refused_in_the_same_words() {
    let (cluster, _sql) = boot().await;
    let refused = postgres::connect(&cluster.tcp("scram", Some("wrong"))).await.expect_err("refused");
    assert!(matches!(refused, PostgresError::Authentication(_)));
    let missing = postgres::connect(&cluster.tcp("scram", None)).await.expect_err("refused");
    assert_eq!(missing.to_string(), "SQL session: invalid configuration: password missing");
    assert!(!missing.is_retryable());
    cluster.stop("fast");
    let gone = postgres::connect(&cluster.tcp("scram", Some("x"))).await.expect_err("refused");
    assert!(gone.is_retryable(), "{gone}");
}

#[tokio::test]
async fn a_missing_password_is_told() {
    let (cluster, sql) = boot().await;
    let error = wal::attach(&with(&cluster, cluster.tcp("scram", None)), &sql).await.err().expect("refused");
    assert!(
        matches!(&error, WalError::Postgres(PostgresError::PasswordMissing { user }) if user == "scram"),
        "{error}"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_host_that_pg_hba_does_not_know_is_told() {
    let (cluster, sql) = boot().await;
    let error =
        wal::attach(&with(&cluster, cluster.tcp("postgres", None)), &sql).await.err().expect("refused");
    assert!(
        matches!(&error, WalError::Postgres(PostgresError::Authentication(server)) if server.code == "28000"),
        "{error}"
    );
    assert!(error.to_string().contains("no pg_hba.conf entry"), "{error}");
}

#[tokio::test]
async fn a_role_without_replication_is_told_how_to_get_it() {
    let (cluster, _sql) = boot().await;
    let config = with(&cluster, cluster.tcp("plain", None));
    let plain = postgres::connect(&config.database).await.expect("a session");
    let error = wal::attach(&config, &plain).await.err().expect("refused");
    assert_eq!(error.to_string(), "user \"plain\" may not replicate; run: alter role \"plain\" replication");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_worth_another_attempt() {
    let (cluster, sql) = boot().await;
    let nowhere = conninfo("host=127.0.0.1 port=1 user=postgres");
    let error = wal::attach(&with(&cluster, nowhere), &sql).await.err().expect("refused");
    assert!(
        matches!(&error, WalError::Postgres(PostgresError::Connect { address, .. }) if address == "127.0.0.1:1"),
        "{error}"
    );
    assert!(error.is_retryable());
    let port = cluster.port();
    let second = conninfo(&format!(
        "host=127.0.0.1,127.0.0.1 port=1,{port} user=scram password='se cret' dbname=postgres"
    ));
    Reader::attach(&with(&cluster, second), &sql).await;
}
