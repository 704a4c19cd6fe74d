//! Who a message is from. An ident is a level of topics, so it has only what may stand in one.

use std::fmt;
use std::sync::Arc;

/// The name a device gives itself: often its IMEI. 1..=255 characters, none of them `#`, `+`, `/`
/// or one that is not printed. Each message of a device has it, and a copy is one more reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ident(Arc<str>);

/// Why a text is no ident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentError {
    /// It has no characters.
    Empty,
    /// It has more than [`Ident::CHARACTERS_MAX`] characters: so many.
    TooLong(usize),
    /// This character cannot stand in a level of a topic.
    Character(char),
}

impl Ident {
    /// Characters that an ident has at most.
    pub const CHARACTERS_MAX: usize = 255;

    /// The ident of these characters.
    ///
    /// # Errors
    ///
    /// If they are none, too many, or there is one among them that no ident has.
    pub fn new(text: &str) -> Result<Self, IdentError> {
        let is_forbidden = |c: &char| matches!(c, '#' | '+' | '/') || c.is_control();
        let characters = text.chars().count();
        if characters > Self::CHARACTERS_MAX {
            return Err(IdentError::TooLong(characters));
        }
        match text.chars().find(is_forbidden) {
            Some(character) => Err(IdentError::Character(character)),
            None if text.is_empty() => Err(IdentError::Empty),
            None => Ok(Self(text.into())),
        }
    }

    /// Its characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for IdentError {}

impl fmt::Display for IdentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the ident is empty"),
            Self::TooLong(characters) => {
                let most = Ident::CHARACTERS_MAX;
                write!(f, "the ident has {characters} characters, and may have {most}")
            }
            Self::Character(character) => {
                write!(f, "the ident has {character:?}, which cannot stand in a topic")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R1.7.
    #[test]
    fn an_ident_is_what_may_be_a_level_of_a_topic() {
        let long = "\u{e9}".repeat(256);
        let table: [(&str, Result<(), IdentError>); 9] = [
            ("352625333222111", Ok(())),
            ("nodejs-fetch-example", Ok(())),
            ("a b$\u{e9}", Ok(())),
            (&long[2..], Ok(())),
            (&long, Err(IdentError::TooLong(256))),
            ("", Err(IdentError::Empty)),
            ("a/b", Err(IdentError::Character('/'))),
            ("+1", Err(IdentError::Character('+'))),
            ("a\x7f", Err(IdentError::Character('\x7f'))),
        ];
        for (text, want) in table {
            assert_eq!(Ident::new(text).map(|ident| assert_eq!(ident.as_str(), text)), want);
        }
    }
}
