//! Ordinary SQL sessions, over the same lines and with the same settings as the replicating connection.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{ChannelBinding as TheirBinding, SslMode as TheirMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding as BoundChannel, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config};
use tracing::{Instrument, debug, info_span};

use super::connection::{Attempt, Attempts, Duplex, Line, NO_HASH, in_time, tls_problem};
use super::conninfo::ChannelBinding;
use super::{Conninfo, PostgresError, Purpose, cause, settings};

/// Opens a session for the relay's own questions.
pub async fn connect(conninfo: &Conninfo) -> Result<Client, PostgresError> {
    connect_for(conninfo, Purpose::Control).await
}

/// Opens a session with the primary; it ends with the client's last handle.
pub async fn connect_for(conninfo: &Conninfo, purpose: Purpose) -> Result<Client, PostgresError> {
    let mut attempts = Attempts::new(conninfo).await;
    while let Some(attempt) = attempts.next() {
        match in_time(conninfo, &attempt, open(conninfo, &attempt, purpose).boxed()).await {
            Ok(client) => return Ok(client),
            Err(error) => attempts.failed(error)?,
        }
    }
    Err(attempts.into_error())
}

async fn open(conninfo: &Conninfo, attempt: &Attempt, purpose: Purpose) -> Result<Client, PostgresError> {
    let line = attempt.dial(conninfo).await?;
    if conninfo.channel_binding == ChannelBinding::Require {
        // The library's own text would not tell why.
        match (line.is_tls, &line.binding) {
            (true, Some(_)) => {}
            (true, None) => return Err(PostgresError::ChannelBinding(NO_HASH.to_owned())),
            (false, _) => return Err(PostgresError::ChannelBinding("there is no TLS to bind to".to_owned())),
        }
    }
    let mut config = Config::new();
    config
        .user(&conninfo.user)
        .dbname(&conninfo.database)
        .application_name(&conninfo.application_name)
        .options(settings::options(conninfo.options.as_deref(), purpose))
        // The line is as it shall be: no further request for TLS.
        .ssl_mode(if line.is_tls { TheirMode::Require } else { TheirMode::Disable })
        .ssl_negotiation(if line.is_tls { SslNegotiation::Direct } else { SslNegotiation::Postgres })
        .channel_binding(match conninfo.channel_binding {
            ChannelBinding::Disable => TheirBinding::Disable,
            ChannelBinding::Prefer => TheirBinding::Prefer,
            ChannelBinding::Require => TheirBinding::Require,
        });
    if let Some(password) = conninfo.password(&attempt.host) {
        config.password(password);
    }
    let Line { socket, binding, .. } = line;
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    let (client, connection) = config.connect_raw(socket, Established(binding)).await.map_err(|error| {
        // TLS 1.3 tells of a refused client certificate only now.
        match error.source().and_then(|source| source.downcast_ref()).and_then(tls_problem) {
            Some(problem) => PostgresError::Tls { address: attempt.to_string(), problem },
            None if conninfo.channel_binding == ChannelBinding::Require
                && cause(&error).contains("channel binding") =>
            {
                PostgresError::ChannelBinding("it does not offer SCRAM-SHA-256-PLUS".to_owned())
            }
            None => error.into(),
        }
    })?;
    let run = async {
        if let Err(error) = connection.await {
            debug!(error = cause(&error), "sql connection ended");
        }
    };
    #[expect(clippy::disallowed_methods, reason = "each query of the client fails once this has ended")]
    tokio::spawn(run.instrument(info_span!("sql")));
    client.batch_execute(settings::PIN_WHAT_THERE_IS).await?;
    if conninfo.hosts.len() > 1 {
        let row = client.query_one("select pg_catalog.pg_is_in_recovery()", &[]).await?;
        if row.try_get(0)? {
            return Err(PostgresError::Standby);
        }
    }
    Ok(client)
}

/// Stands where tokio-postgres would shake hands: that is done.
struct Established(Option<Vec<u8>>);

impl<S: Duplex> TlsConnect<S> for Established {
    type Stream = Secured<S>;
    type Error = Infallible;
    type Future = Ready<Result<Secured<S>, Infallible>>;

    fn connect(self, socket: S) -> Self::Future {
        ready(Ok(Secured { socket, binding: self.0 }))
    }
}

struct Secured<S> {
    socket: S,
    binding: Option<Vec<u8>>,
}

impl<S: Duplex> TlsStream for Secured<S> {
    fn channel_binding(&self) -> BoundChannel {
        self.binding.clone().map_or_else(BoundChannel::none, BoundChannel::tls_server_end_point)
    }
}

impl<S: Duplex> AsyncRead for Secured<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: Duplex> AsyncWrite for Secured<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
