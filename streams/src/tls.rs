//! TLS to a target: whom we trust, and the certificate that we show.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::failure::{CERTIFICATE, Failure};
use crate::target::{Target, Targets};
use crate::{ConfigurationError, Secret};

/// A connection to a target, with TLS or without.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How connections to a target are made.
#[derive(Clone)]
pub(crate) struct Dialler {
    pub(crate) target: Target,
    pub(crate) targets: Targets,
    /// Nothing is plain TCP.
    pub(crate) tls: Option<Tls>,
}

impl Dialler {
    pub(crate) async fn dial(&self) -> Result<Box<dyn Stream>, Failure> {
        let stream = self.targets.connect(&self.target).await?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(self.target.host.clone());
        let name = name.map_err(|error| Failure::new(CERTIFICATE, format!("TLS: {error}")))?;
        let connector = TlsConnector::from(tls.config()?);
        let stream = connector.connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| Failure::of_io(&error))?))
    }
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialler").field("target", &self.target).finish_non_exhaustive()
    }
}

/// What TLS needs, read from PEM and made into a configuration at the first connection.
#[derive(Clone)]
pub(crate) struct Tls {
    roots: Option<Arc<RootCertStore>>,
    shown: Option<Arc<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>>,
    protocol: Option<&'static [u8]>,
    made: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl Tls {
    /// Reads the PEM of a configuration: `ca`, whom to trust instead of the authorities of the
    /// system, and `certificate` with `private_key`, which go together.
    pub(crate) fn read(
        ca: Option<&str>,
        certificate: Option<&Secret>,
        private_key: Option<&Secret>,
    ) -> Result<Self, ConfigurationError> {
        let roots = ca.map(read_roots).transpose()?;
        let shown = match (certificate, private_key) {
            (Some(certificate), Some(key)) => Some(Arc::new(read_shown(certificate, key)?)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigurationError::new(
                    "private_key",
                    "is missing: `certificate` is there",
                ));
            }
            (None, Some(_)) => {
                return Err(ConfigurationError::new(
                    "certificate",
                    "is missing: `private_key` is there",
                ));
            }
        };
        let tls = Self { roots, shown, protocol: None, made: Arc::default() };
        // That key and certificate belong together is known once they are put together.
        if tls.shown.is_some() {
            tls.make(Arc::new(RootCertStore::empty())).map_err(|error| {
                ConfigurationError::new(
                    "private_key",
                    format!("does not do with `certificate`: {error}"),
                )
            })?;
        }
        Ok(tls)
    }

    /// Asks for a protocol by ALPN.
    pub(crate) fn with_protocol(self, protocol: &'static [u8]) -> Self {
        Self { protocol: Some(protocol), ..self }
    }

    fn config(&self) -> Result<Arc<ClientConfig>, Failure> {
        if let Some(made) = self.made.get() {
            return Ok(Arc::clone(made));
        }
        let roots = match &self.roots {
            Some(roots) => Arc::clone(roots),
            None => system_roots()?,
        };
        let made = self.make(roots);
        let made = made.map_err(|error| Failure::new(CERTIFICATE, format!("TLS: {error}")))?;
        Ok(Arc::clone(self.made.get_or_init(|| Arc::new(made))))
    }

    fn make(&self, roots: Arc<RootCertStore>) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match self.shown.as_deref() {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.protocol.iter().map(|it| it.to_vec()).collect();
        Ok(config)
    }
}

fn read_roots(pem: &str) -> Result<Arc<RootCertStore>, ConfigurationError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain("ca", pem)? {
        let added = roots.add(certificate);
        added.map_err(|error| ConfigurationError::new("ca", format!("cannot be used: {error}")))?;
    }
    Ok(Arc::new(roots))
}

fn read_shown(
    certificate: &Secret,
    key: &Secret,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConfigurationError> {
    let chain = read_chain("certificate", certificate.reveal())?;
    // What the reader says of a key that it cannot read is not shown: it might quote it.
    let key = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes()).map_err(|_| {
        ConfigurationError::new("private_key", "is no PEM with `BEGIN ... PRIVATE KEY` in it")
    })?;
    Ok((chain, key))
}

fn read_chain(field: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, ConfigurationError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(ConfigurationError::new(field, "is no PEM with `BEGIN CERTIFICATE` in it")),
    }
}

/// The authorities that the system trusts, read once.
fn system_roots() -> Result<Arc<RootCertStore>, Failure> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // A system has the odd certificate that cannot be read; the others count.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        let text = "this system trusts no certificate authority; install `ca-certificates`, or \
                    give the stream a `ca`";
        return Err(Failure::new(CERTIFICATE, text));
    }
    Ok(Arc::clone(roots))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R6.22, R6.25.
    #[test]
    fn pem_is_read_when_it_is_configured_and_a_fault_names_its_field() {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["b".to_owned()]).unwrap();
        let certificate = Secret::new(made.cert.pem());
        let key = Secret::new(made.signing_key.serialize_pem());
        let other_key = Secret::new(other.signing_key.serialize_pem());
        let none = Secret::new("x".to_owned());
        let ca = made.cert.pem();
        let rows = [
            (Some(ca.as_str()), Some(&certificate), Some(&key), None),
            (None, None, None, None),
            (Some("x"), None, None, Some("ca")),
            (None, Some(&none), Some(&key), Some("certificate")),
            (None, Some(&certificate), Some(&none), Some("private_key")),
            (None, Some(&certificate), Some(&other_key), Some("private_key")),
            (None, Some(&certificate), None, Some("private_key")),
            (None, None, Some(&key), Some("certificate")),
        ];
        for (at, (ca, certificate, key, field)) in rows.into_iter().enumerate() {
            let error = Tls::read(ca, certificate, key).err();
            assert_eq!(error.map(|it| it.field).as_deref(), field, "row {at}");
        }
    }
}
