//! TLS with certificates made for the test: an authority, a server's leaf for `localhost`, a client's leaf.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use campfire_relay::postgres::{self, PostgresError};
use campfire_relay::wal::{self, WalConfig, WalError};
use tokio_postgres::Client;

use crate::cluster::{Cluster, as_postgres, eventually_free};
use crate::reader::Reader;
use crate::wait::eventually;

const SETUP: &str = "create table notes (id int primary key);
    create publication campfire for table notes;
    create role relay superuser login password 'se cret';
    create role certified superuser login;";

const RULES: &str = "hostssl all certified 127.0.0.1/32 cert
    hostssl all relay 127.0.0.1/32 scram-sha-256";

struct Tls {
    cluster: Cluster,
    sql: Client,
    /// Where the certificates are.
    directory: PathBuf,
}

fn openssl(directory: &Path, arguments: &str) {
    let status = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.is_ok_and(|status| status.success()), "openssl {arguments}");
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";

/// `NAME.crt`, which signs itself, as `openssl req -x509` makes them: marked as an authority.
fn authority(directory: &Path, name: &str) {
    openssl(
        directory,
        &format!(
            "req -x509 {KEY} -keyout {name}.key -out {name}.crt -subj /CN=localhost -addext \
             subjectAltName=DNS:localhost"
        ),
    );
}

fn leaf(directory: &Path, name: &str, subject: &str) {
    fs::write(directory.join("ext"), "basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost\n")
        .expect("ext");
    openssl(directory, &format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={subject}"));
    openssl(
        directory,
        &format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out {name}.crt"
        ),
    );
}

impl Tls {
    /// A server that shows `certificate`.
    async fn boot(certificate: &str) -> Tls {
        let (cluster, sql) = Cluster::boot(SETUP).await;
        let directory = cluster.directory().join("tls");
        fs::create_dir(&directory).expect("made");
        authority(&directory, "ca");
        authority(&directory, "other");
        leaf(&directory, "server", "localhost");
        version_1(&directory, "v1");
        address(&directory, "address");
        signed_with(&directory, "ed25519", "-newkey ed25519");
        signed_with(
            &directory,
            "pss",
            "-newkey rsa:2048 -sha384 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1",
        );
        leaf(&directory, "client", "certified");
        let shown = directory.display();
        as_postgres_may_read(&directory);
        for setting in [
            format!("ssl_cert_file = '{shown}/{certificate}.crt'"),
            format!("ssl_key_file = '{shown}/{certificate}.key'"),
            format!("ssl_ca_file = '{shown}/ca.crt'"),
            "ssl = on".to_owned(),
        ] {
            sql.batch_execute(&format!("alter system set {setting}")).await.expect("set");
        }
        cluster.authenticate_tcp(RULES);
        let tls = Tls { cluster, sql, directory };
        tls.await_tls().await;
        tls
    }

    /// A reload is carried out some time after it was asked for.
    async fn await_tls(&self) {
        eventually("ssl is on", async || {
            let row = self.sql.query_one("show ssl", &[]).await.expect("a setting");
            (row.get::<_, &str>(0) == "on").then_some(())
        })
        .await;
    }

    fn config(&self, user: &str, parameters: &str) -> WalConfig {
        let directory = self.directory.to_str().expect("UTF-8");
        let parameters = parameters.replace("DIR", directory);
        let database = self.cluster.tcp_with(user, &format!("password='se cret' {parameters}"));
        WalConfig { database, ..self.cluster.wal(&["campfire"]) }
    }

    /// Both connections get in; gives whether the replicating one is encrypted.
    async fn check(&self, parameters: &str) -> bool {
        self.check_as("relay", parameters).await
    }

    async fn check_as(&self, user: &str, parameters: &str) -> bool {
        let config = self.config(user, parameters);
        let sql =
            postgres::connect(&config.database).await.unwrap_or_else(|error| panic!("{parameters}: {error}"));
        let reader = Reader::attach(&config, &sql).await;
        let query = "select bool_and(ssl) from pg_stat_ssl join pg_stat_replication using (pid)";
        let is_encrypted = self.sql.query_one(query, &[]).await.expect("our walsender").get(0);
        reader.stream.close().await;
        eventually_free(&self.sql).await;
        is_encrypted
    }

    /// Both connections are refused for the same reason.
    async fn refusal(&self, user: &str, parameters: &str) -> WalError {
        let config = self.config(user, parameters);
        let ordinary = postgres::connect(&config.database).await.err();
        let error = wal::attach(&config, &self.sql).await.err();
        let error = error.unwrap_or_else(|| panic!("{parameters} passes"));
        let ordinary = ordinary.unwrap_or_else(|| panic!("{parameters} passes for SQL"));
        assert!(!error.is_retryable() && !ordinary.is_retryable(), "{error} / {ordinary}");
        error
    }
}

/// As `openssl x509 -req` makes them without further words, before release 3.2 of it; later ones want `-x509v1`.
fn version_1(directory: &Path, name: &str) {
    let common = format!(
        "req -x509 {KEY} -keyout {name}.key -out {name}.crt -subj /CN=localhost -CA ca.crt -CAkey ca.key"
    );
    let tried = Command::new("openssl")
        .args(format!("{common} -x509v1").split_whitespace())
        .current_dir(directory)
        .output()
        .expect("openssl");
    if !tried.status.success() {
        openssl(directory, &format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN=localhost"));
        openssl(
            directory,
            &format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out {name}.crt"
            ),
        );
    }
    let shown = Command::new("openssl")
        .args(["x509", "-noout", "-text", "-in", &format!("{name}.crt")])
        .current_dir(directory)
        .output()
        .expect("openssl");
    assert!(String::from_utf8_lossy(&shown.stdout).contains("Version: 1 "), "not of version 1");
}

/// An address where a name should be.
fn address(directory: &Path, name: &str) {
    fs::write(directory.join("ext"), "basicConstraints=CA:FALSE\nsubjectAltName=DNS:db,DNS:127.0.0.1\n")
        .expect("ext");
    openssl(directory, &format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN=db"));
    openssl(
        directory,
        &format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out {name}.crt"
        ),
    );
}

/// A certificate that signs itself, with a key and a signature of this kind.
fn signed_with(directory: &Path, name: &str, kind: &str) {
    openssl(
        directory,
        &format!(
            "req -x509 {kind} -nodes -days 2 -keyout {name}.key -out {name}.crt -subj /CN=localhost -addext \
             subjectAltName=DNS:localhost"
        ),
    );
}

/// The server's key must be its own user's.
fn as_postgres_may_read(directory: &Path) {
    for file in ["server", "ca", "v1", "address", "ed25519", "pss"] {
        let key = directory.join(format!("{file}.key"));
        let copy = directory.join(format!("{file}.copy"));
        fs::copy(&key, &copy).expect("copied");
        fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("readable");
        fs::remove_file(&key).expect("removed");
        fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("open");
        let (copy, key) = (copy.to_str().expect("UTF-8"), key.to_str().expect("UTF-8"));
        as_postgres(&["cp", copy, key]);
        as_postgres(&["chmod", "600", key]);
        fs::remove_file(copy).expect("removed");
    }
}

#[tokio::test]
async fn every_sslmode_means_what_it_means_to_libpq() {
    let tls = Tls::boot("server").await;
    for parameters in [
        "",
        "sslmode=allow",
        "sslmode=prefer",
        "sslmode=require",
        "sslmode=require sslrootcert=DIR/ca.crt",
        "sslmode=require sslrootcert=DIR/missing.crt",
        "sslmode=verify-ca sslrootcert=DIR/ca.crt",
        "host=localhost sslmode=verify-full sslrootcert=DIR/ca.crt",
        "host=not.this.one sslmode=verify-ca sslrootcert=DIR/ca.crt",
        "sslmode=require channel_binding=require",
        "sslmode=require channel_binding=disable",
    ] {
        assert!(tls.check(parameters).await, "{parameters} is encrypted");
    }
    let refused = tls.refusal("relay", "sslmode=disable").await;
    assert!(
        matches!(&refused, WalError::Postgres(PostgresError::Authentication(server)) if server.code == "28000"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_wrong_name_and_a_wrong_authority_are_refused() {
    let tls = Tls::boot("server").await;
    for parameters in [
        "host=not.this.one sslmode=verify-full sslrootcert=DIR/ca.crt",
        "sslmode=verify-full sslrootcert=DIR/ca.crt",
        "sslmode=verify-ca sslrootcert=DIR/other.crt",
        "host=localhost sslmode=verify-full sslrootcert=DIR/other.crt",
        "sslmode=require sslrootcert=DIR/other.crt",
        "host=localhost sslrootcert=system",
    ] {
        let error = tls.refusal("relay", parameters).await;
        assert!(matches!(error, WalError::Postgres(PostgresError::Tls { .. })), "{parameters}: {error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    for parameters in ["sslmode=verify-ca", "sslmode=verify-full sslrootcert=DIR/missing.crt"] {
        let error = tls.refusal("relay", parameters).await;
        assert!(matches!(error, WalError::Postgres(PostgresError::TlsSettings(_))), "{parameters}: {error}");
    }
}

/// The certificate that most guides make signs itself and is marked as an authority.
#[tokio::test]
async fn a_self_signed_certificate_serves_require_and_as_its_own_root() {
    let tls = Tls::boot("ca").await;
    assert!(tls.check("sslmode=require").await);
    assert!(tls.check("sslmode=verify-ca sslrootcert=DIR/ca.crt").await);
    assert!(tls.check("host=localhost sslmode=verify-full sslrootcert=DIR/ca.crt").await);
    let error = tls.refusal("relay", "sslmode=verify-ca sslrootcert=DIR/other.crt").await;
    assert!(matches!(error, WalError::Postgres(PostgresError::Tls { .. })), "{error}");
}

#[tokio::test]
async fn a_certificate_of_version_1_serves_require_and_what_it_cannot_serve_is_told() {
    let tls = Tls::boot("v1").await;
    for parameters in [
        "",
        "sslmode=require",
        "sslmode=require channel_binding=require",
        "sslmode=verify-ca sslrootcert=DIR/v1.crt",
    ] {
        assert!(tls.check(parameters).await, "{parameters}");
    }
    for parameters in [
        "sslmode=verify-ca sslrootcert=DIR/ca.crt",
        "host=localhost sslmode=verify-full sslrootcert=DIR/v1.crt",
    ] {
        let error = tls.refusal("relay", parameters).await;
        assert!(
            matches!(&error, WalError::Postgres(PostgresError::Tls { problem, .. }) if problem.contains("X.509 version 1")),
            "{parameters}: {error}"
        );
        assert!(!error.to_string().contains("Error("), "a debug dump: {error}");
    }
    // Version 1.2 of TLS proves the key in another message.
    tls.sql.batch_execute("alter system set ssl_max_protocol_version = 'TLSv1.2'").await.expect("set");
    tls.sql.batch_execute("select pg_reload_conf()").await.expect("reloaded");
    eventually("TLS 1.2 is the newest", async || {
        let row = tls.sql.query_one("show ssl_max_protocol_version", &[]).await.expect("a setting");
        (row.get::<_, &str>(0) == "TLSv1.2").then_some(())
    })
    .await;
    assert!(tls.check("sslmode=require").await);
}

#[tokio::test]
async fn an_address_may_stand_among_the_names() {
    let tls = Tls::boot("address").await;
    assert!(tls.check("host=127.0.0.1 sslmode=verify-full sslrootcert=DIR/ca.crt").await);
    let error = tls.refusal("relay", "host=localhost sslmode=verify-full sslrootcert=DIR/ca.crt").await;
    assert!(error.to_string().contains("for another host"), "{error}");
}

#[tokio::test]
async fn channel_binding_takes_the_hash_of_pss_and_says_that_ed25519_has_none() {
    let tls = Tls::boot("pss").await;
    assert!(tls.check("sslmode=require channel_binding=require").await);
    let tls = Tls::boot("ed25519").await;
    assert!(tls.check("sslmode=require").await);
    let config = tls.config("relay", "sslmode=require channel_binding=require");
    let ordinary = postgres::connect(&config.database).await.err().map(WalError::from);
    for error in [ordinary, wal::attach(&config, &tls.sql).await.err()] {
        let error = error.expect("refused");
        let WalError::Postgres(PostgresError::ChannelBinding(why)) = &error else { panic!("{error}") };
        assert!(why.contains("has no hash to bind to") && !error.is_retryable(), "{error}");
    }
}

#[tokio::test]
async fn a_client_certificate_lets_its_owner_in_and_nobody_else() {
    let tls = Tls::boot("server").await;
    let certified = "sslmode=require sslcert=DIR/client.crt sslkey=DIR/client.key";
    assert!(tls.check_as("certified", certified).await);
    let error = tls.refusal("certified", "sslmode=require").await;
    assert!(error.to_string().contains("valid client certificate"), "{error}");
    let stranger =
        tls.refusal("certified", "sslmode=require sslcert=DIR/other.crt sslkey=DIR/other.key").await;
    assert!(
        matches!(
            stranger,
            WalError::Postgres(PostgresError::Tls { .. })
                | WalError::Postgres(PostgresError::Authentication(_))
        ),
        "{stranger}"
    );
    let key = tls.directory.join("client.key");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("readable");
    let error = tls.refusal("certified", certified).await;
    assert!(error.to_string().contains("chmod it to 0600"), "{error}");
}

#[tokio::test]
async fn channel_binding_is_not_to_be_had_without_tls_or_scram() {
    let tls = Tls::boot("server").await;
    tls.cluster.authenticate_tcp("host all relay 127.0.0.1/32 scram-sha-256");
    let config = tls.config("relay", "sslmode=disable channel_binding=require");
    let error = wal::attach(&config, &tls.sql).await.err().expect("refused");
    assert!(matches!(error, WalError::Postgres(PostgresError::ChannelBinding(_))), "{error}");
    assert!(postgres::connect(&config.database).await.is_err());
    let certified = "sslmode=require channel_binding=require sslcert=DIR/client.crt sslkey=DIR/client.key";
    tls.cluster.authenticate_tcp(RULES);
    let error = tls.refusal("certified", certified).await;
    assert!(matches!(error, WalError::Postgres(PostgresError::ChannelBinding(_))), "{error}");
}

#[tokio::test]
async fn a_server_without_tls_serves_prefer_and_is_refused_by_require() {
    let (cluster, sql) = Cluster::boot(SETUP).await;
    for (mode, passes) in [("prefer", true), ("allow", true), ("require", false)] {
        let database = cluster.tcp_with("postgres", &format!("sslmode={mode}"));
        let config = WalConfig { database, ..cluster.wal(&["campfire"]) };
        match wal::attach(&config, &sql).await {
            Ok((_, stream)) => {
                assert!(passes, "{mode}");
                stream.close().await;
                eventually_free(&sql).await;
            }
            Err(error) => {
                assert!(
                    !passes && matches!(error, WalError::Postgres(PostgresError::TlsUnavailable { .. })),
                    "{mode}: {error}"
                );
            }
        }
    }
}
