//! Startup and authentication.

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use tokio_postgres::Config;

use super::{Connection, Frame, parse_error, unexpected};
use crate::wal::WalError;

/// Values reach clients as the walsender prints them, so what decides the print is pinned here: an `ALTER ROLE … SET`
/// must not change it.
const PINNED_OPTIONS: &str =
    "-c datestyle=ISO -c intervalstyle=postgres -c timezone=UTC -c extra_float_digits=3 -c bytea_output=hex";
const APPLICATION_NAME: &str = "campfire";

// Codes of the Authentication message.
const OK: u32 = 0;
const CLEARTEXT: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

impl Connection {
    pub(super) async fn log_in(
        &mut self,
        config: &Config,
        user: &str,
        database: &str,
    ) -> Result<(), WalError> {
        let options = match config.get_options() {
            Some(theirs) => format!("{theirs} {PINNED_OPTIONS}"),
            None => PINNED_OPTIONS.to_owned(),
        };
        let parameters = [
            ("user", user),
            ("database", database),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", config.get_application_name().unwrap_or(APPLICATION_NAME)),
            ("options", &options),
        ];
        let mut message = BytesMut::new();
        frontend::startup_message(parameters, &mut message).map_err(protocol)?;
        self.send(&message).await?;
        self.authenticate(user, config.get_password()).await?;
        self.await_ready().await
    }

    async fn authenticate(&mut self, user: &str, password: Option<&[u8]>) -> Result<(), WalError> {
        let required = || password.ok_or_else(|| WalError::PasswordMissing { user: user.to_owned() });
        loop {
            let (code, mut body) = self.authentication().await?;
            let mut message = BytesMut::new();
            match code {
                OK => return Ok(()),
                CLEARTEXT => frontend::password_message(required()?, &mut message).map_err(protocol)?,
                MD5 => {
                    let mut salt = [0; 4];
                    body.try_copy_to_slice(&mut salt).map_err(protocol)?;
                    let hash = md5_hash(user.as_bytes(), required()?, salt);
                    frontend::password_message(hash.as_bytes(), &mut message).map_err(protocol)?;
                }
                SASL => {
                    let offered = body.split(|&byte| byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes());
                    if !offered {
                        return Err(WalError::AuthenticationMethod { method: "another SASL" });
                    }
                    self.scram(required()?).await?;
                    continue;
                }
                other => return Err(WalError::AuthenticationMethod { method: method_name(other) }),
            }
            self.send(&message).await?;
        }
    }

    /// Without TLS there is no channel to bind to.
    async fn scram(&mut self, password: &[u8]) -> Result<(), WalError> {
        let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
        let mut message = BytesMut::new();
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut message).map_err(protocol)?;
        self.send(&message).await?;

        let (code, body) = self.authentication().await?;
        if code != SASL_CONTINUE {
            return Err(unexpected(b'R', "SCRAM"));
        }
        scram.update(&body).map_err(protocol)?;
        message.clear();
        frontend::sasl_response(scram.message(), &mut message).map_err(protocol)?;
        self.send(&message).await?;

        let (code, body) = self.authentication().await?;
        if code != SASL_FINAL {
            return Err(unexpected(b'R', "SCRAM"));
        }
        // Fails if the server does not know our password either, and so is not the one we meant.
        scram.finish(&body).map_err(protocol)
    }

    /// The next Authentication message: its code, and what follows.
    async fn authentication(&mut self) -> Result<(u32, Bytes), WalError> {
        loop {
            let Frame { tag, mut body } = self.frame().await?;
            match tag {
                b'R' => return Ok((body.try_get_u32().map_err(protocol)?, body)),
                b'E' => return Err(parse_error(body)?.into()),
                b'N' | b'S' => {}
                other => return Err(unexpected(other, "authentication")),
            }
        }
    }

    async fn await_ready(&mut self) -> Result<(), WalError> {
        loop {
            let Frame { tag, mut body } = self.frame().await?;
            match tag {
                b'K' => self.pid = body.try_get_i32().map_err(protocol)?,
                b'Z' => return Ok(()),
                b'E' => return Err(parse_error(body)?.into()),
                b'N' | b'S' => {}
                other => return Err(unexpected(other, "startup")),
            }
        }
    }
}

fn method_name(code: u32) -> &'static str {
    match code {
        2 => "Kerberos",
        7 | 8 => "GSSAPI",
        9 => "SSPI",
        _ => "another",
    }
}

fn protocol(error: impl std::fmt::Display) -> WalError {
    WalError::Protocol(error.to_string())
}
