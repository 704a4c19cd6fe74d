//! Whom a channel trusts that is a client of another broker.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::protocol::Intake;
use crate::protocol::fields::FieldError;
use crate::protocol::mqtt::Source;

/// The authorities whose certificates these are, as PEM; without any, those of the system, which
/// may have none.
///
/// # Errors
/// If it is no PEM of certificates.
pub(crate) fn trusted(ca: Option<&str>) -> Result<RootCertStore, FieldError> {
    let mut roots = RootCertStore::empty();
    let Some(pem) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let wrong = || FieldError::new("ca", "is no PEM with `BEGIN CERTIFICATE` of authorities in it");
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|_| wrong())?).map_err(|_| wrong())?;
    }
    if roots.is_empty() { Err(wrong()) } else { Ok(roots) }
}

/// Checks what a configuration says of them.
pub(crate) fn check(intake: &Intake) -> Result<(), FieldError> {
    let Intake::Publications(publications) = intake else { return Ok(()) };
    match &publications.source {
        Source::Custom { ca: Some(ca), .. } => trusted(Some(ca)).map(drop),
        _ => Ok(()),
    }
}
