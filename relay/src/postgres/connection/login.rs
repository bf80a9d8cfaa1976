//! Startup and authentication.

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::frontend;

use super::frames::{Frame, Frames, parse_error, unexpected};
use crate::postgres::conninfo::{ChannelBinding, Conninfo};
use crate::postgres::{PostgresError, Purpose, settings};

// Codes of the Authentication message.
const OK: u32 = 0;
const CLEARTEXT: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// With what somebody logs in.
pub(super) struct Login<'a> {
    pub(super) conninfo: &'a Conninfo,
    pub(super) password: Option<String>,
    pub(super) is_tls: bool,
    pub(super) binding: Option<Vec<u8>>,
}

impl Login<'_> {
    /// Gives the pid of the server process that serves us.
    pub(super) async fn run(&self, frames: &mut Frames) -> Result<i32, PostgresError> {
        let options = settings::options(self.conninfo.options.as_deref(), Purpose::Control);
        let parameters = [
            ("user", self.conninfo.user.as_str()),
            ("database", self.conninfo.database.as_str()),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", self.conninfo.application_name.as_str()),
            ("options", &options),
        ];
        let mut message = BytesMut::new();
        frontend::startup_message(parameters, &mut message).map_err(protocol)?;
        frames.send(&message).await?;
        self.authenticate(frames).await?;
        await_ready(frames).await
    }

    async fn authenticate(&self, frames: &mut Frames) -> Result<(), PostgresError> {
        let user = self.conninfo.user.as_str();
        let required = || {
            let password = self.password.as_deref().map(str::as_bytes);
            password.ok_or_else(|| PostgresError::PasswordMissing { user: user.to_owned() })
        };
        let must_bind = self.conninfo.channel_binding == ChannelBinding::Require;
        let mut is_bound = false;
        loop {
            let (code, mut body) = authentication(frames).await?;
            let mut message = BytesMut::new();
            if must_bind && !is_bound && code != SASL {
                let method = method_name(code);
                return Err(PostgresError::ChannelBinding(format!(
                    "it asks for {method} authentication instead"
                )));
            }
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
                    let (mechanism, binding) = self.mechanism(&body)?;
                    is_bound = mechanism == SCRAM_SHA_256_PLUS;
                    scram(frames, required()?, mechanism, binding).await?;
                    continue;
                }
                other => return Err(PostgresError::AuthenticationMethod { method: method_name(other) }),
            }
            frames.send(&message).await?;
        }
    }

    /// The best mechanism that both sides know, and what SCRAM says of the channel.
    fn mechanism(&self, offered: &[u8]) -> Result<(&'static str, sasl::ChannelBinding), PostgresError> {
        let offers = |name: &str| offered.split(|&byte| byte == 0).any(|offer| offer == name.as_bytes());
        let setting = self.conninfo.channel_binding;
        let binding = self.binding.clone().filter(|_| setting != ChannelBinding::Disable);
        match binding {
            Some(hash) if offers(SCRAM_SHA_256_PLUS) => {
                Ok((SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(hash)))
            }
            _ if setting == ChannelBinding::Require => Err(PostgresError::ChannelBinding(
                match (self.is_tls, &self.binding) {
                    (false, _) => "there is no TLS to bind to",
                    (true, None) => NO_HASH,
                    (true, Some(_)) => "it does not offer SCRAM-SHA-256-PLUS",
                }
                .to_owned(),
            )),
            _ if !offers(SCRAM_SHA_256) => {
                Err(PostgresError::AuthenticationMethod { method: "another SASL" })
            }
            // "We could have": a server that offered it after all then knows that somebody took the offer away.
            Some(_) => Ok((SCRAM_SHA_256, sasl::ChannelBinding::unrequested())),
            None => Ok((SCRAM_SHA_256, sasl::ChannelBinding::unsupported())),
        }
    }
}

async fn scram(
    frames: &mut Frames,
    password: &[u8],
    mechanism: &str,
    binding: sasl::ChannelBinding,
) -> Result<(), PostgresError> {
    let mut scram = ScramSha256::new(password, binding);
    let mut message = BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut message).map_err(protocol)?;
    frames.send(&message).await?;

    let (code, body) = authentication(frames).await?;
    if code != SASL_CONTINUE {
        return Err(unexpected(b'R', "SCRAM"));
    }
    scram.update(&body).map_err(protocol)?;
    message.clear();
    frontend::sasl_response(scram.message(), &mut message).map_err(protocol)?;
    frames.send(&message).await?;

    let (code, body) = authentication(frames).await?;
    if code != SASL_FINAL {
        return Err(unexpected(b'R', "SCRAM"));
    }
    // Fails if the server does not know our password either, and so is not the one we meant.
    scram.finish(&body).map_err(protocol)
}

/// The next Authentication message: its code, and what follows.
async fn authentication(frames: &mut Frames) -> Result<(u32, Bytes), PostgresError> {
    loop {
        let Frame { tag, mut body } = frames.next().await?;
        match tag {
            b'R' => return Ok((body.try_get_u32().map_err(protocol)?, body)),
            b'E' => return Err(parse_error(body)?.into()),
            b'N' | b'S' => {}
            other => return Err(unexpected(other, "authentication")),
        }
    }
}

async fn await_ready(frames: &mut Frames) -> Result<i32, PostgresError> {
    let mut pid = 0;
    loop {
        let Frame { tag, mut body } = frames.next().await?;
        match tag {
            b'K' => pid = body.try_get_i32().map_err(protocol)?,
            b'Z' => return Ok(pid),
            b'E' => return Err(parse_error(body)?.into()),
            b'N' | b'S' => {}
            other => return Err(unexpected(other, "startup")),
        }
    }
}

/// Of Ed25519, and of hashes that nobody should use.
pub(in crate::postgres) const NO_HASH: &str = "the signature of its certificate has no hash to bind to; give the server one \
    that is signed with ECDSA or RSA and SHA-2, or verify it by sslmode=verify-full without channel_binding";

fn method_name(code: u32) -> &'static str {
    match code {
        OK => "no",
        CLEARTEXT => "password",
        MD5 => "md5",
        2 => "Kerberos",
        7 | 8 => "GSSAPI",
        9 => "SSPI",
        _ => "another",
    }
}

fn protocol(error: impl std::fmt::Display) -> PostgresError {
    PostgresError::Protocol(error.to_string())
}
