//! Keeps the published keys (a JWKS) current: from a file or a URL, read again every so often, and when a token names
//! a key that is not among them.
//!
//! Its hazard is a stranger who invents key ids: however many come, the set is read at most once in
//! [`RELOAD_INTERVAL_MIN`].

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HOST, LOCATION, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::auth::{KeySet, KeySetError, Keys};

/// The set is not read more often than this on behalf of tokens.
const RELOAD_INTERVAL_MIN: Duration = Duration::from_secs(10);

/// How long a source may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Largest set that is read.
const SET_BYTES_MAX: usize = 1 << 20;

/// Where the keys are published.
#[derive(Clone, PartialEq, Eq)]
pub enum JwksSource {
    File(PathBuf),
    Url(Uri),
}

/// Reads the set and publishes it to all who verify.
pub struct Jwks {
    source: JwksSource,
    keys: Keys,
    /// When the set was last read, or tried. Held while it is read, so that all who wait need one reading.
    read_at: Mutex<Option<Instant>>,
}

/// Why the set cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the server answers {0}")]
    Status(StatusCode),
    #[error("it is larger than {SET_BYTES_MAX} bytes, or cut off")]
    Body,
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("the operating system has no root certificates")]
    NoRoots,
    #[error("the host's name is not one that a certificate can have")]
    HostName,
    #[error(transparent)]
    Set(#[from] KeySetError),
    #[error("it is not UTF-8")]
    NotText,
}

impl FromStr for JwksSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("http://") || text.starts_with("https://") {
            let uri: Uri = text.parse().map_err(|_| "this is not a URL".to_owned())?;
            return match uri.authority() {
                // It would be sent nowhere, and be logged.
                Some(authority) if authority.as_str().contains('@') => {
                    Err("a URL of keys has no user name or password".to_owned())
                }
                Some(_) => Ok(Self::Url(uri)),
                None => Err("the URL has no host".to_owned()),
            };
        }
        if text.is_empty() {
            return Err("a path, or a URL that begins with https:// or http://".to_owned());
        }
        Ok(Self::File(text.into()))
    }
}

impl fmt::Debug for JwksSource {
    /// Without the query, which may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(uri) => {
                let scheme = uri.scheme_str().unwrap_or_default();
                write!(f, "{scheme}://{}{}", uri.authority().map_or("", |host| host.as_str()), uri.path())
            }
        }
    }
}

impl Jwks {
    pub fn new(source: JwksSource, keys: Keys) -> Self {
        Self { source, keys, read_at: Mutex::new(None) }
    }

    /// Reads the set for the first time. A file must be there; a URL may come later.
    pub async fn load_first(&self) -> Result<(), JwksError> {
        let mut read_at = self.read_at.lock().await;
        *read_at = Some(Instant::now());
        match (self.load().await, &self.source) {
            (Err(error), JwksSource::File(_)) => Err(error),
            (Err(error), JwksSource::Url(_)) => {
                warn!(source = ?self.source, %error, "cannot fetch the published keys yet; trying again");
                Ok(())
            }
            (Ok(()), _) => Ok(()),
        }
    }

    /// Reads the set every `interval` until stopped; sooner while it cannot be had.
    pub async fn run(self: Arc<Self>, interval: Duration, stop: CancellationToken) {
        let mut failed = !self.keys.has_published();
        loop {
            let pause = if failed { RELOAD_INTERVAL_MIN } else { interval };
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            let mut read_at = self.read_at.lock().await;
            *read_at = Some(Instant::now());
            let outcome = self.load().await;
            if let Err(error) = &outcome
                && !failed
            {
                warn!(source = ?self.source, %error, "cannot read the published keys; keeping the old ones");
            }
            failed = outcome.is_err();
        }
    }

    /// For a token whose key is not known: reads the set, unless that was just done. Further calls
    /// while it is read wait for that reading.
    pub async fn reload_for_unknown_key(&self) {
        let mut read_at = self.read_at.lock().await;
        if read_at.is_some_and(|read_at| read_at.elapsed() < RELOAD_INTERVAL_MIN) {
            return;
        }
        *read_at = Some(Instant::now());
        if let Err(error) = self.load().await {
            debug!(source = ?self.source, %error, "the published keys cannot be read for an unknown one");
        }
    }

    async fn load(&self) -> Result<(), JwksError> {
        let text = match &self.source {
            JwksSource::File(path) => tokio::fs::read_to_string(path).await?,
            JwksSource::Url(uri) => {
                let text = tokio::time::timeout(TIMEOUT, fetch(uri)).await;
                text.map_err(|_| JwksError::Timeout)??
            }
        };
        let keys = KeySet::parse(&text)?;
        info!(source = ?self.source, ?keys, "published keys read");
        self.keys.publish(keys);
        Ok(())
    }
}

/// One GET. Redirects are not followed: keys come from where the operator said.
async fn fetch(uri: &Uri) -> Result<String, JwksError> {
    let is_tls = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await?;
    if is_tls {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| JwksError::HostName)?;
        let connector = TlsConnector::from(Arc::new(client_config()?));
        get(uri, connector.connect(name, stream).await?).await
    } else {
        get(uri, stream).await
    }
}

fn client_config() -> Result<ClientConfig, JwksError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(JwksError::NoRoots);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

async fn get<S>(uri: &Uri, stream: S) -> Result<String, JwksError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the request fails if this ends, and aborts it after the answer"
    )]
    let connection = tokio::spawn(connection);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(target)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("campfire-relay/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(std::io::Error::other)?;
    let response = requests.send_request(request).await?;
    let status = response.status();
    if status != StatusCode::OK {
        debug!(%status, location = ?response.headers().get(LOCATION), "no keys there");
        return Err(JwksError::Status(status));
    }
    let body =
        Limited::new(response.into_body(), SET_BYTES_MAX).collect().await.map_err(|_| JwksError::Body)?;
    connection.abort();
    String::from_utf8(body.to_bytes().into()).map_err(|_| JwksError::NotText)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const SET: &str =
        r#"{"keys":[{"kty":"oct","kid":"s","k":"aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjI"}]}"#;

    /// A server that answers every connection with this, and counts.
    async fn serve(answer: String) -> (Uri, Arc<std::sync::atomic::AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/keys?apikey=hunter2", listener.local_addr().unwrap());
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (uri.parse().unwrap(), asked)
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_set_is_fetched() {
        let (uri, _) = serve(ok(SET)).await;
        assert_eq!(fetch(&uri).await.unwrap(), SET);
    }

    #[tokio::test]
    async fn what_is_no_set_is_refused() {
        let (uri, _) =
            serve("HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".into()).await;
        assert!(matches!(fetch(&uri).await, Err(JwksError::Status(StatusCode::FOUND))));
        let (uri, _) = serve(ok(&"x".repeat(SET_BYTES_MAX + 1))).await;
        assert!(matches!(fetch(&uri).await, Err(JwksError::Body)));
    }

    #[tokio::test]
    async fn a_storm_of_unknown_keys_is_one_reading() {
        let (uri, asked) = serve(ok(SET)).await;
        let jwks = Arc::new(Jwks::new(JwksSource::Url(uri), Keys::default()));
        let reload = |_| {
            let jwks = Arc::clone(&jwks);
            tokio::spawn(async move { jwks.reload_for_unknown_key().await })
        };
        for task in (0..50).map(reload).collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
        assert!(jwks.keys.has_published());
    }

    #[test]
    fn sources_are_files_or_urls_and_their_queries_are_not_shown() {
        let parse = |text: &str| text.parse::<JwksSource>();
        assert_eq!(parse("/etc/keys.json"), Ok(JwksSource::File("/etc/keys.json".into())));
        let url = parse("https://id.example.com/keys?apikey=hunter2").unwrap();
        assert_eq!(format!("{url:?}"), "https://id.example.com/keys");
        for text in ["", "https://", "http://u:p@h/keys"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
