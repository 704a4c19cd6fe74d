//! What limits a deletion by topic filter.

use super::put_text;
use super::reader::Reader;

// Flags. The first is of the filter by which it deletes: a level with `,` is a selector.
const SELECTS: u8 = 1;
const LISTED: u8 = 1 << 1;

/// Of which topics a deletion by topic filter deletes what matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Within<'a> {
    /// Of all: earlier versions deleted so.
    All,
    /// Of those that are not under `flespi/`.
    Users,
    /// Of those what any of these topic filters matches, whose levels with `,` are selectors.
    Listed(Vec<&'a str>),
}

impl<'a> Within<'a> {
    /// Appends it, with whether the filter of the deletion has selectors. Earlier versions said
    /// the one by the tag, and nothing of the other.
    pub(super) fn encode(&self, selectors: bool, out: &mut Vec<u8>) {
        let selects = if selectors { SELECTS } else { 0 };
        match self {
            Self::All => {}
            Self::Users => out.push(selects),
            Self::Listed(filters) => {
                out.push(selects | LISTED);
                out.extend_from_slice(&(filters.len() as u32).to_le_bytes());
                filters.iter().for_each(|filter| put_text(filter.as_bytes(), out));
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'a>) -> Option<(bool, Self)> {
        let flags = reader.u8()?;
        let selects = flags & SELECTS != 0;
        match flags & !SELECTS {
            0 => Some((selects, Self::Users)),
            LISTED => {
                let count = reader.u32()?;
                let filters = (0..count).map(|_| reader.str()).collect::<Option<_>>()?;
                Some((selects, Self::Listed(filters)))
            }
            _ => None,
        }
    }
}
