//! TLS: certificates as PEM in, the configuration of listeners out.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};

/// Certificates and key of the listeners that speak TLS.
///
/// Cheap to clone. [`Broker::replace_tls`](crate::Broker::replace_tls) takes a new one at any time.
#[derive(Clone)]
pub struct Tls {
    /// For listeners that speak MQTT right behind TLS.
    pub(crate) mqtt: Arc<ServerConfig>,
    /// For those that speak HTTP, WebSocket included.
    pub(crate) http: Arc<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Why certificates or key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTls(String);

impl fmt::Display for InvalidTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidTls {}

impl Tls {
    /// From PEM: the certificate chain, leaf first; the leaf's private key (PKCS #8, PKCS #1 or
    /// SEC 1, not encrypted); and the authorities whose client certificates are believed, if
    /// clients may show some. A client that shows none is let in as far as TLS goes; one that
    /// shows another is not.
    ///
    /// # Errors
    /// When a text is not what it should be, or the key does not belong to the certificate.
    pub fn from_pem(cert: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<Self, InvalidTls> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates("the certificate", cert)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| InvalidTls(format!("the key: {}", describe(&error, "PRIVATE KEY"))))?;
        let verifier = client_ca.map(|roots| client_verifier(roots, &provider)).transpose()?;
        let config = |protocol: &[u8]| -> Result<Arc<ServerConfig>, rustls::Error> {
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()?;
            let builder = match &verifier {
                Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
                None => builder.with_no_client_auth(),
            };
            let mut config = builder.with_single_cert(chain.clone(), key.clone_key())?;
            config.alpn_protocols = vec![protocol.to_vec()];
            // Sessions are kept by the clients, sealed with keys that end with this configuration:
            // whoever was let in by an authority that is gone is not let in again.
            config.ticketer = aws_lc_rs::Ticketer::new()?;
            config.session_storage = Arc::new(NoServerSessionStorage {});
            Ok(Arc::new(config))
        };
        let unusable = |error| InvalidTls(format!("certificate and key cannot be used: {error}"));
        Ok(Self {
            mqtt: config(b"mqtt").map_err(unusable)?,
            http: config(b"http/1.1").map_err(unusable)?,
        })
    }
}

fn client_verifier(
    roots: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, InvalidTls> {
    let invalid = |error: &dyn fmt::Display| InvalidTls(format!("the client CA: {error}"));
    let mut store = RootCertStore::empty();
    for root in certificates("the client CA", roots)? {
        store.add(root).map_err(|error| invalid(&error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| invalid(&error))
}

fn certificates(what: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let invalid = |error| InvalidTls(format!("{what}: {}", describe(&error, "CERTIFICATE")));
    let chain = chain.map_err(invalid)?;
    if chain.is_empty() { Err(invalid(pem::Error::NoItemsFound)) } else { Ok(chain) }
}

fn describe(error: &pem::Error, label: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("there is no PEM block {label} in it"),
        error => error.to_string(),
    }
}
