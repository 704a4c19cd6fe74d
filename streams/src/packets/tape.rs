//! What a sink notes packets on, and the form in which they are kept.

use std::fmt;
use std::sync::Arc;

use super::{DATA_BYTES_MAX, Packets};

/// Who has said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Side {
    Hub = 0,
    Platform = 1,
}

/// What is known of a packet beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tag<'a> {
    /// Of a publication.
    pub(crate) topic: Option<&'a str>,
    /// Of a publication, and of what acknowledges it.
    pub(crate) packet_id: Option<u16>,
    /// Of an answer of HTTP.
    pub(crate) status: Option<u16>,
}

/// Notes the packets of a stream, or none. A clone is the same.
///
/// What opens a connection has secrets in it, as headers of HTTP have, and is never noted.
#[derive(Clone, Default)]
pub(crate) struct Tape(Option<Arc<Recording>>);

struct Recording {
    packets: Arc<Packets>,
    stream: u64,
    /// Host and port of the platform.
    peer: String,
}

/// A packet as it is on the disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) is_of_hub: bool,
    /// Bytes that went over; there may be fewer in `data`.
    pub(crate) size: u32,
    pub(crate) tag: Tag<'a>,
    pub(crate) peer: &'a str,
    pub(crate) data: &'a [u8],
}

impl Tape {
    /// One that notes packets of this stream, and what it sends to `peer`.
    pub(crate) fn new(packets: Arc<Packets>, stream: u64, peer: String) -> Self {
        Self(Some(Arc::new(Recording { packets, stream, peer })))
    }

    /// Whether anything is noted.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Notes what went over at once.
    pub(crate) fn note(&self, by: Side, tag: Tag<'_>, data: &[u8]) {
        if let Some(it) = &self.0 {
            it.packets.note(it.stream, row(by, tag, &it.peer, data));
        }
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape").field("is_on", &self.is_on()).finish_non_exhaustive()
    }
}

fn row(by: Side, tag: Tag<'_>, peer: &str, data: &[u8]) -> Vec<u8> {
    let kept = &data[..data.len().min(DATA_BYTES_MAX)];
    let mut row = vec![by as u8];
    row.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    // 0 is no packet id of MQTT, no status of HTTP and no length of a topic.
    row.extend([tag.packet_id, tag.status].map(|it| it.unwrap_or(0).to_be_bytes()).concat());
    for text in [tag.topic.unwrap_or_default(), peer] {
        // A topic has up to 65,535 bytes, and a host fewer.
        let length = u16::try_from(text.len()).unwrap_or(0);
        row.extend(length.to_be_bytes());
        row.extend(&text.as_bytes()[..length.into()]);
    }
    row.extend(kept);
    row
}

impl<'a> Packet<'a> {
    pub(crate) fn read(row: &'a [u8]) -> Option<Self> {
        let (side, rest) = row.split_first()?;
        let (size, rest) = rest.split_first_chunk()?;
        let (packet_id, rest) = rest.split_first_chunk()?;
        let (status, rest) = rest.split_first_chunk()?;
        let (topic, rest) = text(rest)?;
        let (peer, data) = text(rest)?;
        let known = |bytes: &[u8; 2]| Some(u16::from_be_bytes(*bytes)).filter(|it| *it > 0);
        let tag = Tag {
            topic: Some(topic).filter(|it| !it.is_empty()),
            packet_id: known(packet_id),
            status: known(status),
        };
        let (is_of_hub, size) = (*side == Side::Hub as u8, u32::from_be_bytes(*size));
        Some(Self { is_of_hub, size, tag, peer, data })
    }
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_as_it_was_written_and_a_long_one_is_cut() {
        let tag = Tag { topic: Some("a/b"), packet_id: Some(7), status: None };
        let long = vec![7; DATA_BYTES_MAX + 2];
        let written = row(Side::Hub, tag, "a.example:80", &long);
        let want = Packet {
            is_of_hub: true,
            size: long.len() as u32,
            tag,
            peer: "a.example:80",
            data: &long[2..],
        };
        assert_eq!(Packet::read(&written), Some(want));
        assert_eq!(Packet::read(&written[..20]), None);
        let answer = Tag { status: Some(503), ..Tag::default() };
        let written = row(Side::Platform, answer, "", b"");
        let read = Packet::read(&written).unwrap();
        assert_eq!((read.is_of_hub, read.size, read.tag), (false, 0, answer));
    }
}
