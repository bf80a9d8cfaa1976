//! The widget and the dashboard, as `web/` builds them into `relay/assets/`: embedded, so that the program is all that is
//! installed.
//!
//! A name with a hash in it (`dashboard-0123456789abcdef.js`: at least eight hexadecimal digits before the extension) never
//! changes its content, so browsers may keep it. They ask about every other one each time, and are told that it is the
//! same.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use ring::digest::{SHA256, digest};

use crate::config::units;

/// Whether agents get a page from the relay, and what it may do.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Dashboard")]
pub struct DashboardSettings {
    /// Whether the relay serves the agents' dashboard at `/dashboard/`.
    #[arg(id = "DASHBOARD", long = "dashboard", env = "CAMPFIRE_DASHBOARD", action = clap::ArgAction::Set, default_value = "off", value_parser = units::switch)]
    pub is_served: bool,

    /// Where the dashboard gets an agent's token: a URL of the application that answers `{"token": "…"}` to an agent who
    /// has logged in there. Without it agents paste a token.
    #[arg(id = "DASHBOARD_SESSION", long = "dashboard-session", env = "CAMPFIRE_DASHBOARD_SESSION", value_parser = session)]
    pub session: Option<Uri>,

    /// Origins of pages that may show the dashboard in a frame, comma-separated. None unless set.
    #[arg(id = "DASHBOARD_FRAME_ANCESTORS", long = "dashboard-frame-ancestors", env = "CAMPFIRE_DASHBOARD_FRAME_ANCESTORS", value_delimiter = ',', value_parser = origin)]
    pub frame_ancestors: Vec<String>,
}

fn session(text: &str) -> Result<Uri, String> {
    let form = "write a URL, https://app.example.com/session, or a path on the relay's own host, /session";
    let uri: Uri = text.parse().map_err(|_| form.to_owned())?;
    let is_known = matches!(uri.scheme_str(), None | Some("http" | "https"));
    if is_known && text.is_ascii() && uri.path().starts_with('/') { Ok(uri) } else { Err(form.to_owned()) }
}

fn origin(text: &str) -> Result<String, String> {
    let uri: Option<Uri> = text.trim().parse().ok();
    let named = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
    match named {
        Some((scheme @ ("http" | "https"), authority)) if !authority.as_str().contains(['@', ';', '\'']) => {
            Ok(format!("{scheme}://{authority}"))
        }
        _ => Err("write origins, https://app.example.com".to_owned()),
    }
}

#[derive(rust_embed::Embed)]
#[folder = "assets/"]
struct Embedded;

/// What is in a folder of `relay/assets/`, under its name in there.
struct Folder(BTreeMap<String, Asset>);

static WIDGET: LazyLock<Folder> = LazyLock::new(|| Folder::read("widget/"));
static DASHBOARD: LazyLock<Folder> = LazyLock::new(|| Folder::read("dashboard/"));

/// `/widget/…`, for pages of any origin.
pub(crate) fn widget<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route(
        "/widget/{*name}",
        get(async |Path(name): Path<String>, headers: HeaderMap| {
            // Also for pages that isolate themselves.
            let anywhere = [(HeaderName::from_static("cross-origin-resource-policy"), "cross-origin")];
            (AppendHeaders(anywhere), WIDGET.answer(&name, &headers)).into_response()
        }),
    )
}

/// `/dashboard/…`, or nothing if it is not to be served.
pub(crate) fn dashboard<S: Clone + Send + Sync + 'static>(settings: &DashboardSettings) -> Router<S> {
    if !settings.is_served {
        return Router::new();
    }
    let page = Arc::new(Page::new(settings));
    let same = Arc::clone(&page);
    Router::new()
        // Relative, since a proxy may have put something in front.
        .route(
            "/dashboard",
            get(async |uri: Uri| {
                let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
                (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, format!("dashboard/{query}"))])
            }),
        )
        .route("/dashboard/", get(async move |headers: HeaderMap| page.answer(&headers)))
        .route(
            "/dashboard/{*name}",
            get(async move |Path(name): Path<String>, headers: HeaderMap| match name.as_str() {
                INDEX => same.answer(&headers),
                name => DASHBOARD.answer(name, &headers),
            }),
        )
}

const INDEX: &str = "index.html";

/// Where the built page has the address of the session's endpoint.
const SESSION_META: &str = r#"<meta name="campfire-session" content="""#;

/// The dashboard's page.
struct Page {
    asset: Option<Asset>,
    policy: HeaderValue,
}

impl Page {
    fn new(settings: &DashboardSettings) -> Self {
        let built = Embedded::get("dashboard/index.html").map(|file| file.data);
        let asset = built.map(|page| {
            let page = String::from_utf8_lossy(&page);
            let session =
                settings.session.as_ref().map_or_else(String::new, |uri| attribute(&uri.to_string()));
            let named = &SESSION_META[..SESSION_META.len() - 1];
            Asset::new(INDEX, Bytes::from(page.replacen(SESSION_META, &format!("{named}{session}\""), 1)))
        });
        Self { asset, policy: policy(settings) }
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let Some(asset) = &self.asset else { return StatusCode::NOT_FOUND.into_response() };
        let mut response = asset.answer(asked);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        let opener = HeaderName::from_static("cross-origin-opener-policy");
        headers.insert(opener, HeaderValue::from_static("same-origin"));
        response
    }
}

/// Only the page's own files run and show, it talks to this relay and to where its tokens come from, and text never
/// becomes markup or script.
fn policy(settings: &DashboardSettings) -> HeaderValue {
    let session = settings.session.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
    let session = session.map_or_else(String::new, |(scheme, authority)| format!(" {scheme}://{authority}"));
    let ancestors = match settings.frame_ancestors.join(" ") {
        none if none.is_empty() => "'none'".to_owned(),
        some => some,
    };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{session}; \
         base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    );
    HeaderValue::try_from(policy).expect("origins are visible ASCII")
}

/// Text between the quotes of an attribute.
fn attribute(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Folder {
    fn read(prefix: &str) -> Self {
        let asset = |path: Cow<'static, str>| {
            let name = path.strip_prefix(prefix)?.to_owned();
            let bytes = match Embedded::get(&path)?.data {
                Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                Cow::Owned(bytes) => Bytes::from(bytes),
            };
            let asset = Asset::new(&name, bytes);
            Some((name, asset))
        };
        Self(Embedded::iter().filter_map(asset).collect())
    }

    fn answer(&self, name: &str, asked: &HeaderMap) -> Response {
        self.0.get(name).map_or_else(|| StatusCode::NOT_FOUND.into_response(), |asset| asset.answer(asked))
    }
}

/// A file, as it is sent.
struct Asset {
    content_type: &'static str,
    cache: &'static str,
    plain: Encoded,
    /// If it is shorter so.
    gzip: Option<Encoded>,
}

struct Encoded {
    bytes: Bytes,
    etag: String,
}

impl Asset {
    fn new(name: &str, bytes: Bytes) -> Self {
        let (content_type, is_text) = content_type(name);
        let cache = if is_hashed(name) { "public, max-age=31536000, immutable" } else { "no-cache" };
        let mut hash = String::with_capacity(32);
        for byte in &digest(&SHA256, &bytes).as_ref()[..16] {
            write!(hash, "{byte:02x}").expect("a string takes all");
        }
        let gzip = Some(&bytes).filter(|_| is_text).map(compress).filter(|short| short.len() < bytes.len());
        Self {
            content_type,
            cache,
            gzip: gzip.map(|bytes| Encoded { bytes, etag: format!("\"{hash}-gzip\"") }),
            plain: Encoded { bytes, etag: format!("\"{hash}\"") },
        }
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let gzip = self.gzip.as_ref().filter(|_| takes_gzip(asked));
        let Encoded { bytes, etag } = gzip.unwrap_or(&self.plain);
        let about = [
            (header::ETAG, etag.as_str()),
            (header::CACHE_CONTROL, self.cache),
            (header::VARY, "accept-encoding"),
        ];
        if has(asked, etag) {
            return (StatusCode::NOT_MODIFIED, about).into_response();
        }
        let form = [(header::CONTENT_TYPE, self.content_type), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
        let encoding = gzip.map(|_| [(header::CONTENT_ENCODING, "gzip")]);
        (about, form, encoding.map(AppendHeaders), bytes.clone()).into_response()
    }
}

/// What the file is, and whether compressing it is worth it.
fn content_type(name: &str) -> (&'static str, bool) {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => ("text/html; charset=utf-8", true),
        "js" => ("text/javascript; charset=utf-8", true),
        "css" => ("text/css; charset=utf-8", true),
        "json" | "map" => ("application/json", true),
        "svg" => ("image/svg+xml", true),
        "txt" => ("text/plain; charset=utf-8", true),
        "woff2" => ("font/woff2", false),
        "png" => ("image/png", false),
        "webp" => ("image/webp", false),
        "mp3" => ("audio/mpeg", false),
        "ogg" => ("audio/ogg", false),
        _ => ("application/octet-stream", false),
    }
}

/// Whether the name changes with the content.
fn is_hashed(name: &str) -> bool {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let last = stem.rsplit(['-', '.', '/']).next().unwrap_or_default();
    last.len() >= 8 && last.len() < stem.len() && last.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// At the first request, rather than in the repository: compressed bytes differ between releases of compressors.
fn compress(bytes: &Bytes) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes all").into()
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    let lists = asked.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight != Some(0.0)
    })
}

/// Whether the client has it already.
fn has(asked: &HeaderMap, etag: &str) -> bool {
    let lists = asked.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).any(|known| {
        // A proxy that compresses by itself weakens it.
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Result<DashboardSettings, clap::Error> {
        use clap::{Args, FromArgMatches};

        let command = DashboardSettings::augment_args(clap::Command::new("relay"));
        let command = command.mut_args(|argument| argument.env(clap::builder::Resettable::Reset));
        let matches = command.try_get_matches_from(["relay"].iter().chain(arguments))?;
        DashboardSettings::from_arg_matches(&matches)
    }

    fn asking(headers: &[(HeaderName, &str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn header(response: &Response, name: HeaderName) -> &str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn only_names_with_a_hash_are_kept() {
        for name in ["dashboard-0123456789abcdef.js", "a/b-deadbeef.css", "loader.0011aabb.js"] {
            assert!(is_hashed(name), "{name}");
        }
        for name in ["loader.js", "index.html", "deadbeef.js", "some-longname.js", "a-0123.js", "plain"] {
            assert!(!is_hashed(name), "{name}");
        }
        assert!(Asset::new("a-0123456789abcdef.js", Bytes::new()).cache.contains("immutable"));
        assert_eq!(Asset::new("loader.js", Bytes::new()).cache, "no-cache");
    }

    #[test]
    fn an_asset_is_sent_compressed_if_the_client_takes_that_and_it_is_shorter() {
        let long = Asset::new("long.js", Bytes::from("let campfire = 1\n".repeat(100)));
        for (accepted, encoding) in [
            ("gzip, deflate, br", "gzip"),
            ("br, GZIP;q=0.5", "gzip"),
            ("gzip;q=0", ""),
            ("br", ""),
            ("", ""),
        ] {
            let response = long.answer(&asking(&[(header::ACCEPT_ENCODING, accepted)]));
            assert_eq!(header(&response, header::CONTENT_ENCODING), encoding, "{accepted}");
            assert_eq!(header(&response, header::VARY), "accept-encoding");
            assert_eq!(header(&response, header::CONTENT_TYPE), "text/javascript; charset=utf-8");
            assert_eq!(header(&response, header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        }
        let short = Asset::new("short.js", Bytes::from("1"));
        let response = short.answer(&asking(&[(header::ACCEPT_ENCODING, "gzip")]));
        assert_eq!(header(&response, header::CONTENT_ENCODING), "");
    }

    #[test]
    fn an_asset_that_the_client_has_is_not_sent_again() {
        let asset = Asset::new("loader.js", Bytes::from("let campfire = 1\n".repeat(100)));
        let gzip = (header::ACCEPT_ENCODING, "gzip");
        let plain = header(&asset.answer(&HeaderMap::new()), header::ETAG).to_owned();
        let compressed = header(&asset.answer(&asking(std::slice::from_ref(&gzip))), header::ETAG).to_owned();
        assert_ne!(plain, compressed);
        let status = |known: &str| asset.answer(&asking(&[(header::IF_NONE_MATCH, known)])).status();
        for known in [plain.clone(), format!("\"other\", W/{plain}"), "*".to_owned()] {
            assert_eq!(status(&known), StatusCode::NOT_MODIFIED, "{known}");
        }
        assert_eq!(status(&compressed), StatusCode::OK, "the other form");
        let again = asset.answer(&asking(&[gzip, (header::IF_NONE_MATCH, &compressed)]));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        let other = Asset::new("loader.js", Bytes::from("let campfire = 2\n".repeat(100)));
        assert_ne!(header(&other.answer(&HeaderMap::new()), header::ETAG), plain);
    }

    #[test]
    fn the_dashboard_talks_to_the_relay_and_to_where_its_tokens_come_from() {
        let page = |arguments: &[&str]| policy(&settings(arguments).unwrap()).to_str().unwrap().to_owned();
        let strict = page(&[]);
        for directive in [
            "default-src 'none'",
            "script-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(strict.split("; ").any(|known| known == directive), "{directive}: {strict}");
        }
        assert!(!strict.contains("unsafe"));
        let open = page(&[
            "--dashboard-session=https://app.example.com:8443/session?for=campfire",
            "--dashboard-frame-ancestors=https://app.example.com,http://127.0.0.1:8090/",
        ]);
        assert!(open.contains("connect-src 'self' https://app.example.com:8443;"), "{open}");
        assert!(open.contains("frame-ancestors https://app.example.com http://127.0.0.1:8090;"), "{open}");
        assert!(page(&["--dashboard-session=/session"]).contains("connect-src 'self';"));
        for bad in [
            "--dashboard-session=session",
            "--dashboard-session=javascript:alert(1)",
            "--dashboard-session=ftp://example.com/",
            "--dashboard-frame-ancestors=example.com",
            "--dashboard-frame-ancestors=*",
            "--dashboard-frame-ancestors=https://a.example; script-src *",
        ] {
            assert!(settings(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn text_in_an_attribute_stays_in_it() {
        assert_eq!(attribute(r#"/a?b=1&c="><script>"#), "/a?b=1&amp;c=&quot;&gt;&lt;script&gt;");
    }
}
