//! An authority of our own, and the certificates that it signs.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// Files in PEM, gone at the end: `ca.pem`, and `NAME.pem` and `NAME.key` for `server`, which is
/// 127.0.0.1, localhost and flespi.io, for `client`, and for `stranger`, whom another authority
/// signed.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    pub(crate) fn new() -> Self {
        let made = Self(tempfile::tempdir().expect("a folder for certificates"));
        let ours = authority("ours");
        made.write("ca.pem", &ours.pem());
        made.sign("server", &["127.0.0.1", "localhost", "flespi.io"], &ours);
        made.sign("client", &["client"], &ours);
        made.sign("stranger", &["stranger"], &authority("another"));
        made
    }

    fn sign(&self, name: &str, names: &[&str], by: &CertifiedIssuer<'_, KeyPair>) {
        let names: Vec<_> = names.iter().map(|&it| it.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("good names");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, by).expect("a certificate");
        self.write(&format!("{name}.pem"), &signed.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("the folder is there");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path as one writes it in a command or a setting.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}
