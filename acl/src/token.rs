//! The master token: the one secret of the root account.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;

/// Characters of a token: always 64 letters and digits.
pub const TOKEN_CHARS: usize = 64;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The token that opens everything under the root account: 64 ASCII letters and digits, about 381
/// bits when generated.
///
/// It is a secret: `Debug` hides it, there is no `Display`, and comparison takes the same time
/// wherever the first difference is. [`MasterToken::expose`] is the one way to read it.
#[derive(Clone)]
pub struct MasterToken(Box<str>);

/// The key of any token: all have the form of the master token.
pub type TokenKey = MasterToken;

impl MasterToken {
    /// A fresh token from the randomness of the operating system.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut token = String::with_capacity(TOKEN_CHARS);
        let mut noise = [0u8; 2 * TOKEN_CHARS];
        while token.len() < TOKEN_CHARS {
            getrandom::fill(&mut noise).map_err(NoRandomness::new)?;
            // A plain remainder would favour the first 8 characters; bytes past the last multiple
            // of 62 are thrown away instead.
            let fair = noise.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < 4 * 62);
            let missing = TOKEN_CHARS - token.len();
            token.extend(fair.take(missing).map(|byte| char::from(ALPHABET[byte % 62])));
        }
        assert_eq!(token.len(), TOKEN_CHARS);
        Ok(Self(token.into_boxed_str()))
    }

    /// The secret itself, for the file it is kept in and the one time it is shown.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is this token, in a time that does not depend on its content.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(candidate).into()
    }
}

impl FromStr for MasterToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        if let Some(at) = text.bytes().position(|byte| !byte.is_ascii_alphanumeric()) {
            return Err(InvalidToken::Character { position: at + 1 });
        }
        if text.len() != TOKEN_CHARS {
            return Err(InvalidToken::Length(text.len()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for MasterToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterToken(hidden)")
    }
}

/// Why a text is no token. Says where, never what: the text may be a mistyped secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidToken {
    /// It has this many characters instead of [`TOKEN_CHARS`].
    Length(usize),
    /// The byte at this position, counted from 1, is neither a letter nor a digit of ASCII.
    Character {
        /// Where the byte stands, counted from 1.
        position: usize,
    },
}

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a token has {TOKEN_CHARS} letters and digits, ")?;
        match self {
            Self::Length(length) => write!(f, "this one has {length}"),
            Self::Character { position } => {
                write!(f, "this one has another character at position {position}")
            }
        }
    }
}

impl Error for InvalidToken {}

/// Without random bytes of the operating system, or without its cipher, no secret is made.
#[derive(Debug, Clone, Copy)]
pub struct NoRandomness(Option<getrandom::Error>);

impl NoRandomness {
    pub(crate) fn new(error: getrandom::Error) -> Self {
        Self(Some(error))
    }

    /// The cipher refused to work, which it does only when it fails its own tests.
    pub(crate) fn of_cipher() -> Self {
        Self(None)
    }
}

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(error) => write!(f, "the operating system gave no random bytes: {error}"),
            None => f.write_str("the cipher for keys does not work"),
        }
    }
}

impl Error for NoRandomness {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_token_is_a_valid_one_and_never_the_same() {
        let (one, two) = (MasterToken::generate().unwrap(), MasterToken::generate().unwrap());
        assert!(one.matches(one.expose().parse::<MasterToken>().unwrap().expose().as_bytes()));
        assert!(!one.matches(two.expose().as_bytes()));
    }

    #[test]
    fn every_character_of_the_alphabet_is_drawn() {
        let drawn: String =
            (0..100).map(|_| MasterToken::generate().unwrap().expose().to_owned()).collect();
        assert!(ALPHABET.iter().all(|letter| drawn.contains(char::from(*letter))));
    }

    #[test]
    fn only_64_ascii_letters_and_digits_parse() {
        let rows = [
            ("", InvalidToken::Length(0)),
            (&"a".repeat(63), InvalidToken::Length(63)),
            (&"a".repeat(65), InvalidToken::Length(65)),
            (&format!("{}-", "a".repeat(63)), InvalidToken::Character { position: 64 }),
            (&format!(" {}", "a".repeat(64)), InvalidToken::Character { position: 1 }),
            (&"\u{e9}".repeat(32), InvalidToken::Character { position: 1 }),
        ];
        for (text, want) in rows {
            assert_eq!(text.parse::<MasterToken>().err(), Some(want), "{text:?}");
        }
    }

    #[test]
    fn debug_never_prints_the_secret() {
        let token = MasterToken::generate().unwrap();
        assert!(!format!("{token:?} {token:#?}").contains(token.expose()));
    }
}
