//! Looks at the first bytes of a connection, to tell an operator what they are where they are no HTTP: a proxy that is
//! set up wrongly otherwise gets 400 after 400 without a word.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::info;

use super::seldom::Seldom;

/// Notes what is spoken that the relay does not speak, each kind now and then.
pub(crate) struct Strangers {
    kinds: [Seldom; 3],
}

/// A connection whose first bytes are looked at.
pub(super) struct Opening<T> {
    stream: T,
    /// None once they have come.
    strangers: Option<Arc<Strangers>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    ProxyProtocol,
    Tls,
    Http2,
}

impl Default for Strangers {
    fn default() -> Self {
        Self { kinds: std::array::from_fn(|_| Seldom::every(Duration::from_secs(60))) }
    }
}

impl Strangers {
    fn look(&self, bytes: &[u8]) {
        let Some(speech) = Speech::of(bytes) else { return };
        let Some(others) = self.kinds[speech as usize].admit(Instant::now()) else { return };
        match speech {
            Speech::ProxyProtocol => info!(
                others,
                "a connection begins with the PROXY protocol, which the relay does not speak: switch it off in the proxy or load balancer (`send-proxy` of HAProxy, `proxy_protocol` of nginx and of cloud balancers), have it send X-Forwarded-For, and set CAMPFIRE_TRUSTED_PROXIES"
            ),
            Speech::Tls => info!(
                others,
                "a connection begins with TLS, which the relay does not speak: end TLS in a proxy that connects by http:// or ws://"
            ),
            Speech::Http2 => info!(
                others,
                "a connection begins with HTTP/2, which the relay does not speak: configure the proxy to use HTTP/1.1"
            ),
        }
    }
}

impl Speech {
    /// None: HTTP/1, or nonsense.
    fn of(bytes: &[u8]) -> Option<Self> {
        const PROXY_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
        let is_proxy_2 = bytes.len() > 4 && PROXY_2.starts_with(&bytes[..bytes.len().min(PROXY_2.len())]);
        if bytes.starts_with(b"PROXY ") || is_proxy_2 {
            Some(Self::ProxyProtocol)
        } else if bytes.starts_with(&[0x16, 3]) {
            Some(Self::Tls)
        } else if bytes.starts_with(b"PRI * HTTP/2") {
            Some(Self::Http2)
        } else {
            None
        }
    }
}

impl<T> Opening<T> {
    pub(super) fn new(stream: T, strangers: Arc<Strangers>) -> Self {
        Self { stream, strangers: Some(strangers) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Opening<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if let Some(strangers) = self.strangers.take() {
            strangers.look(&buffer.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Opening<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_http_1_is_known_by_its_first_bytes() {
        for (bytes, speech) in [
            (
                &b"PROXY TCP4 203.0.113.7 10.0.0.1 51234 80\r\nGET / HTTP/1.1\r\n"[..],
                Some(Speech::ProxyProtocol),
            ),
            (b"PROXY UNKNOWN\r\n", Some(Speech::ProxyProtocol)),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", Some(Speech::ProxyProtocol)),
            (b"\x16\x03\x01\x02\0\x01", Some(Speech::Tls)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Speech::Http2)),
            (b"GET / HTTP/1.1\r\n", None),
            (b"\r\n\r\nGET / HTTP/1.1\r\n", None),
            (b"\r\n\r\n", None),
            (b"", None),
        ] {
            assert_eq!(Speech::of(bytes), speech, "{bytes:?}");
        }
    }
}
