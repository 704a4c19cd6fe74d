//! Who waits for messages, as it stands in their records, and what many of them share.

use super::reader::Reader;
use super::{AGAIN, IDENTIFIED, NUMBER_MAX, RETAIN, Ref, SENT, Unreadable, VIA_GROUP};
use crate::session::PAGE_LEN;

impl Ref {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let identifiers = self.identifiers.as_slice();
        let mut flags = self.qos as u8;
        flags |= if self.retain { RETAIN } else { 0 };
        flags |= if self.packet_id.is_some() { SENT } else { 0 };
        flags |= if self.group != 0 { VIA_GROUP } else { 0 };
        flags |= if identifiers.is_empty() { 0 } else { IDENTIFIED };
        flags |= if self.again { AGAIN } else { 0 };
        out.extend_from_slice(&self.holder.to_le_bytes());
        out.push(flags);
        if let Some(id) = self.packet_id {
            out.extend_from_slice(&id.get().to_le_bytes());
        }
        if self.group != 0 {
            out.extend_from_slice(&self.group.to_le_bytes());
        }
        if !identifiers.is_empty() {
            out.extend_from_slice(&(identifiers.len() as u16).to_le_bytes());
            identifiers.iter().for_each(|id| out.extend_from_slice(&id.get().to_le_bytes()));
        }
    }
}

/// Who waits for a message, as it is to be written down.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Encoded<'a> {
    Here(&'a [u8]),
    /// Those of the list with this number.
    Listed(u64),
}

/// Who waits for a message, as its record tells.
#[derive(Debug)]
pub(crate) enum Refs<'a> {
    Here(RefsHere<'a>),
    /// Those of the list with this number.
    Listed(u64),
}

impl Refs<'_> {
    /// Whether nobody waits for it, as far as its record tells.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Here(refs) if refs.0.0.is_empty())
    }
}

/// Refs one behind another.
#[derive(Debug)]
pub(crate) struct RefsHere<'a>(Reader<'a>);

impl<'a> RefsHere<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(Reader(bytes))
    }

    /// The next one: `None` at the end, an error inside when it cannot be read.
    pub(crate) fn next(&mut self) -> Option<Result<Ref, Unreadable>> {
        (!self.0.0.is_empty()).then(|| self.0.to().ok_or(Unreadable))
    }
}

/// Appends the record of a page: these messages wait one behind another.
pub(crate) fn encode_page(page: u64, numbers: impl Iterator<Item = u64>, out: &mut Vec<u8>) {
    out.extend_from_slice(&page.to_le_bytes());
    numbers.for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

/// Reads the record of a page: its number, and those of its messages.
pub(crate) fn decode_page(body: &[u8]) -> Option<(u64, impl Iterator<Item = u64>)> {
    let mut reader = Reader(body);
    let page = reader.number()?;
    let (numbers, rest) = reader.0.as_chunks::<8>();
    let numbers = numbers.iter().map(|number| u64::from_le_bytes(*number));
    let is_sound = rest.is_empty() && (1..=PAGE_LEN).contains(&numbers.len());
    (is_sound && numbers.clone().all(|number| number <= NUMBER_MAX)).then_some((page, numbers))
}

/// Appends the record of a list of refs.
pub(crate) fn encode_list(list: u64, refs: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&list.to_le_bytes());
    out.extend_from_slice(refs);
}

/// Reads the record of a list: its number and its refs.
pub(crate) fn decode_list(body: &[u8]) -> Option<(u64, RefsHere<'_>)> {
    let mut reader = Reader(body);
    Some((reader.number()?, RefsHere(reader)))
}
