//! What a client shows to be let in.

use std::fmt;

/// Both fields may carry the token bare or after this word, as the Authorization header does.
const PREFIX: &[u8] = b"FlespiToken ";

/// User name and password of a CONNECT, or the token of an HTTP request as the user name.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// The user name, `None` when its flag was not set.
    pub username: Option<&'a str>,
    /// The password, any bytes, `None` when its flag was not set.
    pub password: Option<&'a [u8]>,
}

impl<'a> Credentials<'a> {
    /// Whether nothing was shown: no password, and no user name or an empty one.
    pub fn is_empty(&self) -> bool {
        self.username.is_none_or(str::is_empty) && self.password.is_none_or(<[u8]>::is_empty)
    }

    /// The texts that may be a token, in the order they are tried: the user name, then the
    /// password, each without its prefix.
    pub fn candidates(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        [self.username.map(str::as_bytes), self.password]
            .into_iter()
            .flatten()
            .map(|text| text.strip_prefix(PREFIX).unwrap_or(text))
    }
}

/// Says which fields are there; either may hold a secret.
impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |there: bool| if there { "hidden" } else { "none" };
        f.debug_struct("Credentials")
            .field("username", &shown(self.username.is_some()))
            .field("password", &shown(self.password.is_some()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_taken_off_once_and_only_at_the_start() {
        let rows: [(&str, &[u8]); 6] = [
            ("abc", b"abc"),
            ("FlespiToken abc", b"abc"),
            ("FlespiToken FlespiToken abc", b"FlespiToken abc"),
            ("FlespiTokenabc", b"FlespiTokenabc"),
            ("abc FlespiToken ", b"abc FlespiToken "),
            ("FlespiToken ", b""),
        ];
        for (text, want) in rows {
            let by_name = Credentials { username: Some(text), password: None };
            let by_password = Credentials { username: None, password: Some(text.as_bytes()) };
            assert_eq!(by_name.candidates().collect::<Vec<_>>(), [want]);
            assert_eq!(by_password.candidates().collect::<Vec<_>>(), [want]);
        }
    }

    #[test]
    fn an_empty_user_name_counts_as_none() {
        let empty = Credentials { username: Some(""), password: None };
        let password = Credentials { username: Some(""), password: Some(b"x") };
        assert!(empty.is_empty() && Credentials::default().is_empty());
        assert!(!password.is_empty());
    }

    #[test]
    fn debug_never_prints_a_field() {
        let shown = Credentials { username: Some("alpha"), password: Some(b"beta") };
        let text = format!("{shown:?}");
        assert!(!text.contains("alpha") && !text.contains("beta"), "{text}");
    }
}
