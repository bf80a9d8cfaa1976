//! TLS towards Postgres, with libpq's meaning of `sslmode`: up to `require` a certificate is looked at only if there
//! is a root certificate to hold it against; `verify-ca` wants a chain to a root, `verify-full` the host's name too.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate;
use crate::postgres::PostgresError;
use crate::postgres::conninfo::{Conninfo, Roots, SslMode};

/// A handshake's outcome: the stream, and what SCRAM may bind to.
pub(super) struct Secured {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) binding: Option<Vec<u8>>,
}

/// Reads the files anew each time, so that renewed certificates need no restart.
pub(super) async fn secure(
    conninfo: &Conninfo,
    host: &str,
    address: &str,
    stream: TcpStream,
) -> Result<Secured, PostgresError> {
    let failed = |problem: String| PostgresError::Tls { address: address.to_owned(), problem };
    let config = client_config(conninfo)?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| failed(format!("{host:?} is not a name that a certificate can have")))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = connected.map_err(|error| match tls_problem(&error) {
        Some(problem) => failed(problem),
        None => PostgresError::Connect { address: address.to_owned(), source: error },
    })?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let binding = certificates.first().and_then(|end_entity| certificate::end_point_hash(end_entity));
    Ok(Secured { stream, binding })
}

/// What TLS itself has to say of an error, as against the network.
pub(in crate::postgres) fn tls_problem(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(reason) => of_certificate(reason),
        rustls::Error::General(problem) => problem.clone(),
        rustls::Error::AlertReceived(alert) => {
            format!("the server refused the handshake ({alert:?}); look at sslcert and sslkey, and its log")
        }
        other => other.to_string(),
    })
}

/// What is wrong with the server's certificate, and what to do about that.
fn of_certificate(reason: &CertificateError) -> String {
    match reason {
        CertificateError::UnknownIssuer => {
            "the server's certificate is not signed by a root in sslrootcert; put the root it was signed by there".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "the server's certificate is for another host ({reason}); verify-full needs the host's name among its subject \
             alternative names, sslmode=verify-ca does not"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the server's certificate has expired ({reason}); renew it")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the server's certificate is not valid yet ({reason}); look at the clocks")
        }
        CertificateError::BadSignature => "the server does not have its certificate's key, or the certificate's signature \
            is wrong".to_owned(),
        other => format!("the server's certificate cannot be used: {other}"),
    }
}

const VERSION_1: &str = "the server's certificate is one of X.509 version 1, which the relay takes for sslmode=require \
    without sslrootcert, and for verify-ca where sslrootcert is that very certificate; for more, make one of version 3 \
    (openssl req -x509 -addext subjectAltName=DNS:HOST, or openssl x509 -req -extfile)";

fn client_config(conninfo: &Conninfo) -> Result<ClientConfig, PostgresError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(conninfo, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| PostgresError::TlsSettings(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let files = conninfo.client_certificate.as_ref();
    let files = files.filter(|files| !files.is_optional || files.certificate.exists());
    let Some(files) = files else { return Ok(builder.with_no_client_auth()) };
    check_key_permissions(&files.key)?;
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unreadable(&files.key, &error))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| PostgresError::TlsSettings(format!("sslcert and sslkey do not fit: {error}")))
}

/// libpq's rule: nobody but the owner, or root's group where root owns it.
fn check_key_permissions(key: &Path) -> Result<(), PostgresError> {
    let metadata = fs::metadata(key).map_err(|error| unreadable(key, &error))?;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        let text = format!("others may read the key {}; chmod it to 0600", key.display());
        return Err(PostgresError::TlsSettings(text));
    }
    Ok(())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, PostgresError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(file, &error))?;
    if certificates.is_empty() {
        return Err(unreadable(file, &"it holds no certificate"));
    }
    Ok(certificates)
}

fn unreadable(file: &Path, error: &dyn std::fmt::Display) -> PostgresError {
    PostgresError::TlsSettings(format!("cannot use {}: {error}", file.display()))
}

/// How much of a server's certificate is looked at.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// None: nothing is verified, only encrypted.
    trust: Option<Trust>,
    checks_name: bool,
}

#[derive(Debug)]
struct Trust {
    roots: RootCertStore,
    /// The roots as they stand in the file: a self-signed certificate that serves as its own root is trusted by
    /// being there. Such certificates mostly are marked as authorities, which a chain must not end in.
    pinned: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(conninfo: &Conninfo, provider: Arc<CryptoProvider>) -> Result<Verifier, PostgresError> {
        let must_verify = conninfo.ssl_mode >= SslMode::VerifyCa;
        let trust = match &conninfo.root_certificates {
            Roots::File(file) if must_verify || file.exists() => Some(Trust::new(certificates(file)?)?),
            Roots::System => {
                let found = rustls_native_certs::load_native_certs();
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    let text = "sslrootcert=system: the operating system has no root certificates";
                    return Err(PostgresError::TlsSettings(text.to_owned()));
                }
                Some(Trust { roots, pinned: Vec::new() })
            }
            Roots::None if must_verify => {
                let text = "sslmode=verify-ca and verify-full need sslrootcert";
                return Err(PostgresError::TlsSettings(text.to_owned()));
            }
            Roots::File(_) | Roots::None => None,
        };
        Ok(Verifier { provider, trust, checks_name: conninfo.ssl_mode == SslMode::VerifyFull })
    }
}

impl Trust {
    fn new(pinned: Vec<CertificateDer<'static>>) -> Result<Trust, PostgresError> {
        let mut roots = RootCertStore::empty();
        for certificate in &pinned {
            roots
                .add(certificate.clone())
                .map_err(|error| PostgresError::TlsSettings(format!("sslrootcert: {error}")))?;
        }
        Ok(Trust { roots, pinned })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(trust) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        let is_pinned = trust.pinned.contains(end_entity);
        if certificate::is_version_1(end_entity) {
            return match is_pinned && !self.checks_name {
                true => Ok(ServerCertVerified::assertion()),
                false => Err(rustls::Error::General(VERSION_1.to_owned())),
            };
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        if !is_pinned {
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &trust.roots,
                intermediates,
                now,
                algorithms,
            )?;
        }
        if self.checks_name {
            match (verify_server_name(&certificate, server_name), server_name) {
                // As libpq does: an address may stand among the names as text.
                (Err(_), &ServerName::IpAddress(address))
                    if certificate::has_dns_name(end_entity, &IpAddr::from(address).to_string()) => {}
                (verified, _) => verified?,
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        if certificate::is_version_1(certificate) {
            return verify_by_key(message, certificate, signed, algorithms);
        }
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        if certificate::is_version_1(certificate) {
            return verify_by_key(message, certificate, signed, algorithms);
        }
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Proves that the server has the key of a certificate that the library cannot read.
fn verify_by_key(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    supported: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let (algorithm, key) = certificate::public_key(certificate).ok_or(CertificateError::BadEncoding)?;
    let fitting = supported
        .mapping
        .iter()
        .filter(|(scheme, _)| *scheme == signed.scheme)
        .flat_map(|(_, algorithms)| algorithms.iter())
        .find(|candidate| candidate.public_key_alg_id().as_ref() == algorithm);
    let Some(fitting) = fitting else { return Err(rustls::Error::General(VERSION_1.to_owned())) };
    fitting
        .verify_signature(key, message, signed.signature())
        .map(|()| HandshakeSignatureValid::assertion())
        .map_err(|_| CertificateError::BadSignature.into())
}
