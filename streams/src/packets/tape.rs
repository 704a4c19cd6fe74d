//! What a sink notes packets on, and the form in which they are kept.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{DATA_BYTES_MAX, Packets};

/// Who has said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Side {
    Platform = 0,
    Hub = 1,
}

/// How it goes over, by the number that what a platform says has as its type. What the hub says has
/// the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Transport {
    Tcp = 2,
    Mqtt = 34,
    Http = 66,
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
    transport: Transport,
    /// Host and port of the platform.
    peer: String,
    /// Number of the connection; 0 before the first one.
    connection: AtomicU64,
}

/// A packet as it is on the disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    /// That of its transport and side.
    pub(crate) kind: u8,
    /// Number of its connection.
    pub(crate) connection: u64,
    /// Bytes that went over; there may be fewer in `data`.
    pub(crate) size: u32,
    pub(crate) tag: Tag<'a>,
    pub(crate) peer: &'a str,
    pub(crate) data: &'a [u8],
}

impl Tape {
    /// One that notes packets of this stream, and what it sends to `peer`.
    pub(crate) fn new(
        packets: Arc<Packets>,
        stream: u64,
        transport: Transport,
        peer: String,
    ) -> Self {
        let connection = AtomicU64::new(0);
        Self(Some(Arc::new(Recording { packets, stream, transport, peer, connection })))
    }

    /// Whether anything is noted.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// There is a new connection; what is noted from now on went over it.
    pub(crate) fn begin(&self) {
        if let Some(it) = &self.0 {
            it.connection.store(it.packets.next_key(), Ordering::Relaxed);
        }
    }

    /// Notes what went over at once.
    pub(crate) fn note(&self, by: Side, tag: Tag<'_>, data: &[u8]) {
        if let Some(it) = &self.0 {
            let (kind, size) = (it.transport as u8 + by as u8, data.len());
            let packet = Packet {
                kind,
                connection: it.connection.load(Ordering::Relaxed),
                size: u32::try_from(size).unwrap_or(u32::MAX),
                tag,
                peer: &it.peer,
                data: &data[..size.min(DATA_BYTES_MAX)],
            };
            it.packets.note(it.stream, packet.row());
        }
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape").field("is_on", &self.is_on()).finish_non_exhaustive()
    }
}

impl<'a> Packet<'a> {
    fn row(&self) -> Vec<u8> {
        let Self { kind, connection, size, tag, peer, data } = *self;
        let mut row = vec![kind];
        row.extend(connection.to_be_bytes());
        row.extend(size.to_be_bytes());
        // 0 is no packet id of MQTT, no status of HTTP and no length of a topic.
        row.extend([tag.packet_id, tag.status].map(|it| it.unwrap_or(0).to_be_bytes()).concat());
        for text in [tag.topic.unwrap_or_default(), peer] {
            // A topic has up to 65,535 bytes, and a host fewer.
            let length = u16::try_from(text.len()).unwrap_or(0);
            row.extend(length.to_be_bytes());
            row.extend(&text.as_bytes()[..length.into()]);
        }
        row.extend(data);
        row
    }

    pub(crate) fn read(row: &'a [u8]) -> Option<Self> {
        let (kind, rest) = row.split_first()?;
        let (connection, rest) = rest.split_first_chunk()?;
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
        let (connection, size) = (u64::from_be_bytes(*connection), u32::from_be_bytes(*size));
        Some(Self { kind: *kind, connection, size, tag, peer, data })
    }

    /// Whether the hub has said it.
    pub(crate) fn is_of_hub(&self) -> bool {
        self.kind % 2 == Side::Hub as u8
    }
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use longshore_storage::Tables;

    use super::*;

    #[test]
    fn a_packet_is_read_as_it_was_noted_and_a_long_one_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::open(&folder.path().join("tables")).unwrap();
        let packets = Arc::new(Packets::open(&tables, u64::MAX, || 5).unwrap());
        let peer = "a.example:80".to_owned();
        let tape = Tape::new(Arc::clone(&packets), 1, Transport::Http, peer.clone());
        let tag = Tag { topic: Some("a/b"), packet_id: Some(7), status: None };
        let answer = Tag { status: Some(503), ..Tag::default() };
        let long = vec![7; DATA_BYTES_MAX + 2];
        tape.begin();
        tape.note(Side::Hub, tag, &long);
        tape.note(Side::Platform, answer, b"");
        packets.keep(|_| 60);
        let rows = packets.read(&mut vec![1], &(0..u64::MAX), false).unwrap();
        let read: Vec<_> = rows.iter().filter_map(|it| Packet::read(&it.2)).collect();
        let (size, data) = (long.len() as u32, &long[2..]);
        let sent = Packet { kind: 67, connection: 5, size, tag, peer: &peer, data };
        let received = Packet { kind: 66, size: 0, tag: answer, data: b"", ..sent };
        assert_eq!(read, [sent, received]);
        assert_eq!((read[0].is_of_hub(), read[1].is_of_hub()), (true, false));
        assert_eq!(Packet::read(&rows[0].2[..20]), None);
    }
}
