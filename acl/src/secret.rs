//! The secret of an installation, and what it makes of the keys of tokens.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::hex;
use crate::token::{NoRandomness, TokenKey};

/// Bytes of a [`Secret`].
pub const SECRET_BYTES: usize = 32;

/// Characters of a token's key that open it together with its number (special authorization).
pub const PREFIX_CHARS: usize = 16;

/// What the keys of all tokens are hidden under. Who has it and the rows has the keys; who has the
/// rows alone has nothing.
#[derive(Clone)]
pub struct Secret {
    bytes: [u8; SECRET_BYTES],
    whole: hmac::Key,
    prefix: hmac::Key,
    sealing: [u8; 32],
    /// Of what is no key of a token.
    others: [u8; 32],
}

impl Secret {
    /// A fresh secret from the randomness of the operating system.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(NoRandomness::new)?;
        Ok(Self::from_bytes(bytes))
    }

    /// The secret that was kept as these bytes.
    pub fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        // One key for each use, so that an answer to one question says nothing about another.
        let root = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        let derive = |purpose: &str| digest(&root, purpose.as_bytes());
        Self {
            bytes,
            whole: hmac::Key::new(hmac::HMAC_SHA256, &derive("longshore token key")),
            prefix: hmac::Key::new(hmac::HMAC_SHA256, &derive("longshore token prefix")),
            sealing: derive("longshore token seal"),
            others: derive("longshore seal"),
        }
    }

    /// The secret itself, for the file it is kept in.
    pub fn expose(&self) -> &[u8; SECRET_BYTES] {
        &self.bytes
    }

    /// What stands for `key` in the index.
    pub(crate) fn digest_of(&self, key: &[u8]) -> [u8; 32] {
        digest(&self.whole, key)
    }

    /// Seals a text that is to be kept, as text. Who opens it has to say what it is of, in the same
    /// words: one that was moved elsewhere does not open.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub fn seal(&self, of: &str, text: &str) -> Result<String, NoRandomness> {
        seal(&self.others, of, text.as_bytes()).map(|sealed| hex::encode(&sealed))
    }

    /// What [`Secret::seal`] has sealed; `None` when that was under another secret, or of something
    /// else.
    pub fn unseal(&self, of: &str, sealed: &str) -> Option<String> {
        String::from_utf8(open(&self.others, of, &hex::decode(sealed)?)?).ok()
    }
}

fn cipher(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key).ok().map(LessSafeKey::new)
}

fn digest(key: &hmac::Key, data: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(key, data);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A token's key as it is stored: two digests to know it by, and itself, sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    #[serde(with = "hex::array")]
    digest: [u8; 32],
    #[serde(with = "hex::array")]
    prefix: [u8; 32],
    #[serde(with = "hex::bytes")]
    sealed: Box<[u8]>,
}

impl KeyRecord {
    /// A fresh key and its record.
    pub fn generate(secret: &Secret) -> Result<(TokenKey, Self), NoRandomness> {
        let key = TokenKey::generate()?;
        let record = Self::new(secret, &key)?;
        Ok((key, record))
    }

    /// The record of a key that is there already.
    pub fn new(secret: &Secret, key: &TokenKey) -> Result<Self, NoRandomness> {
        let text = key.expose().as_bytes();
        Ok(Self {
            digest: secret.digest_of(text),
            prefix: digest(&secret.prefix, &text[..PREFIX_CHARS]),
            sealed: seal(&secret.sealing, "", text)?.into(),
        })
    }

    /// The key itself; `None` when this record was made under another secret.
    pub fn open(&self, secret: &Secret) -> Option<TokenKey> {
        let text = open(&secret.sealing, "", &self.sealed)?;
        std::str::from_utf8(&text).ok()?.parse().ok()
    }

    /// Whether this is the record of `key`, in a time that does not depend on its content.
    pub fn matches(&self, secret: &Secret, key: &[u8]) -> bool {
        self.has_digest(&secret.digest_of(key))
    }

    /// Whether the key begins with these 16 characters, in a time that does not depend on them.
    pub fn matches_prefix(&self, secret: &Secret, prefix: &[u8]) -> bool {
        prefix.len() == PREFIX_CHARS && self.prefix.ct_eq(&digest(&secret.prefix, prefix)).into()
    }

    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    pub(crate) fn has_digest(&self, digest: &[u8; 32]) -> bool {
        self.digest.ct_eq(digest).into()
    }
}

/// Nonce, ciphertext, tag.
fn seal(key: &[u8; 32], of: &str, text: &[u8]) -> Result<Vec<u8>, NoRandomness> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(NoRandomness::new)?;
    let mut sealed = text.to_vec();
    let cipher = cipher(key).ok_or_else(NoRandomness::of_cipher)?;
    cipher
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(of.as_bytes()),
            &mut sealed,
        )
        .map_err(|_| NoRandomness::of_cipher())?;
    Ok(nonce.iter().copied().chain(sealed).collect())
}

fn open(key: &[u8; 32], of: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    let open = cipher(key)?.open_in_place(nonce, Aad::from(of.as_bytes()), &mut text).ok()?;
    Some(open.to_vec())
}

impl fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRecord(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_record_and_comes_back_from_it() {
        let secret = Secret::generate().unwrap();
        let (key, record) = KeyRecord::generate(&secret).unwrap();
        let text = key.expose();
        assert!(record.matches(&secret, text.as_bytes()));
        assert!(!record.matches(&secret, &text.as_bytes()[..63]));
        assert!(record.matches_prefix(&secret, &text.as_bytes()[..16]));
        assert!(!record.matches_prefix(&secret, &text.as_bytes()[..15]));
        assert!(!record.matches_prefix(&secret, &text.as_bytes()[1..17]));
        assert_eq!(record.open(&secret).unwrap().expose(), text);
        let kept = Secret::from_bytes(*secret.expose());
        assert_eq!(record.open(&kept).unwrap().expose(), text);
    }

    #[test]
    fn another_secret_knows_and_opens_nothing() {
        let (key, record) = KeyRecord::generate(&Secret::generate().unwrap()).unwrap();
        let other = Secret::generate().unwrap();
        assert!(!record.matches(&other, key.expose().as_bytes()));
        assert!(!record.matches_prefix(&other, &key.expose().as_bytes()[..16]));
        assert!(record.open(&other).is_none());
    }

    #[test]
    fn a_record_survives_its_text_and_a_changed_seal_does_not_open() {
        let secret = Secret::generate().unwrap();
        let (_, record) = KeyRecord::generate(&secret).unwrap();
        let text = serde_json::to_string(&record).unwrap();
        let mut back: KeyRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(back, record);
        *back.sealed.last_mut().unwrap() ^= 1;
        assert!(back.open(&secret).is_none());
        back.sealed = Box::from([1, 2]);
        assert!(back.open(&secret).is_none());
    }

    #[test]
    fn a_sealed_text_opens_only_under_its_secret_and_where_it_belongs() {
        let secret = Secret::generate().unwrap();
        let sealed = secret.seal("gw/streams/7", "pa\u{df}word").unwrap();
        assert!(!sealed.contains("word"));
        assert_eq!(secret.unseal("gw/streams/7", &sealed).as_deref(), Some("pa\u{df}word"));
        assert_eq!(secret.unseal("gw/streams/8", &sealed), None);
        assert_eq!(Secret::generate().unwrap().unseal("gw/streams/7", &sealed), None);
        for bad in ["", "00", "zz", &sealed[2..]] {
            assert_eq!(secret.unseal("gw/streams/7", bad), None, "{bad}");
        }
    }

    #[test]
    fn debug_prints_no_secret_and_no_key() {
        let secret = Secret::from_bytes([0xab; 32]);
        let (_, record) = KeyRecord::generate(&secret).unwrap();
        assert_eq!(format!("{secret:?} {record:?}"), "Secret(hidden) KeyRecord(hidden)");
    }
}
