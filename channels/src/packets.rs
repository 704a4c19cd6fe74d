//! What devices and the hub have really said, byte for byte, for whoever looks for the fault of a
//! device (R3.17).
//!
//! It is a log, and nothing waits for it: what went over is put aside here, and goes to the disk
//! with the next commit of messages, or within a second. What finds no room is left out. A channel
//! keeps none unless its owner gives `packets_ttl`.
//!
//! The key of a packet is of the one sequence of the hub, as those of messages are, so what is too
//! old and what comes first stand at the front of the table. A second table says by ident what
//! there is.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use longshore_storage::{Rows, Table, Tables, TablesError};
use tracing::warn;

use crate::buffer::{Slice, merged, number, row_key};
use crate::live::Live;
use crate::message::{Ident, Message};

mod log;

pub(crate) use log::Log;

/// Bytes of one packet that are kept.
const DATA_BYTES_MAX: usize = 64 << 10;
/// Bytes of packets that wait for the next commit.
const WAITING_BYTES: usize = 8 << 20;
/// Bytes that a packet takes beside its value: keys and ident in both tables.
const ROW_BYTES: u64 = 96;
/// Devices that one read is kept for, where it speaks of several: each has it in full.
const IDENTS_MAX: usize = 8;

/// Who has said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Side {
    Device = 0,
    Hub = 1,
}

/// How it went over, by the number that what a device said has as its type. What the hub said has
/// the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Transport {
    Tcp = 2,
    Mqtt = 34,
    Http = 66,
    Udp = 130,
}

/// Where it went over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) transport: Transport,
    /// Number of the connection; 0 where there is none.
    pub(crate) connection: u64,
    /// Where the device is.
    pub(crate) peer: &'a str,
}

/// What went over at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) by: Side,
    /// The devices that it is kept for.
    pub(crate) idents: &'a [Ident],
    pub(crate) way: Way<'a>,
    /// The bytes, one piece after the other.
    pub(crate) pieces: &'a [&'a [u8]],
}

/// A packet as it is on the disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    /// That of its transport and side.
    pub(crate) kind: u8,
    /// Bytes that went over; there may be fewer in `data`.
    pub(crate) size: u32,
    pub(crate) connection: u64,
    pub(crate) ident: &'a str,
    pub(crate) peer: &'a str,
    pub(crate) data: &'a [u8],
}

/// What the table of heads has of a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// No packet has a smaller key.
    low: u64,
    /// Bytes of all packets.
    size: u64,
    newest: u64,
}

/// A packet on its way to the disk.
#[derive(Debug)]
struct Row {
    live: Arc<Live>,
    ident: Ident,
    key: u64,
    value: Vec<u8>,
    data_bytes: u32,
}

#[derive(Debug, Default)]
struct Waiting {
    rows: Vec<Row>,
    bytes: usize,
}

/// The packets of all channels.
#[derive(Debug)]
pub(crate) struct Packets {
    /// Number of the channel and key: a packet.
    rows: Table,
    /// Number of the channel, ident, a zero and key: bytes of the data of the packet.
    idents: Table,
    /// Number of the channel: its head.
    heads: Table,
    /// Those that were there when the hub began.
    known: HashMap<u64, Head>,
    /// Bytes that a channel keeps.
    bytes_max: u64,
    waiting: Mutex<Waiting>,
    /// Whether it has been said that some are left out.
    is_short: AtomicBool,
}

impl Packets {
    pub(crate) fn open(tables: &Tables, bytes_max: u64) -> Result<Self, TablesError> {
        let table = |name| tables.table(name);
        let heads = table("channels_packet_heads")?;
        let mut known = HashMap::new();
        for row in heads.range(..) {
            let (key, value) = row?;
            if let (Some(id), Some(head)) = (number(&key, 0), Head::read(&value)) {
                known.insert(id, head);
            }
        }
        Ok(Self {
            rows: table("channels_packets")?,
            idents: table("channels_packet_idents")?,
            heads,
            known,
            bytes_max,
            waiting: Mutex::default(),
            is_short: AtomicBool::new(false),
        })
    }

    /// The greatest key of all.
    pub(crate) fn newest(&self) -> u64 {
        self.known.values().map(|head| head.newest).max().unwrap_or(0)
    }

    /// Channels that had packets when the hub began.
    pub(crate) fn channels(&self) -> impl Iterator<Item = u64> {
        self.known.keys().copied()
    }

    /// Takes over what is known of a channel that was there before.
    pub(crate) fn attach(&self, live: &Live) {
        if let Some(head) = self.known.get(&live.id) {
            live.set_packets(*head);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether some wait for a commit.
    pub(crate) fn is_any_waiting(&self) -> bool {
        !self.waiting().rows.is_empty()
    }

    /// Puts a packet aside for the next commit; where too many wait, it is left out. `next_key` is
    /// asked in the order in which packets are written.
    pub(crate) fn note(&self, live: &Arc<Live>, said: Said<'_>, next_key: impl Fn() -> u64) {
        let mut waiting = self.waiting();
        for ident in said.idents {
            if waiting.bytes >= WAITING_BYTES {
                if !self.is_short.swap(true, Ordering::Relaxed) {
                    warn!("the disk is too slow for packets of channels: some are left out");
                }
                return;
            }
            let (value, data_bytes) = said.row(ident);
            waiting.bytes += value.len() + size_of::<Row>();
            let (live, ident, key) = (Arc::clone(live), ident.clone(), next_key());
            waiting.rows.push(Row { live, ident, key, value, data_bytes });
        }
    }

    /// What waits, for a commit.
    fn take(&self) -> Vec<Row> {
        let mut waiting = self.waiting();
        self.is_short.store(false, Ordering::Relaxed);
        waiting.bytes = 0;
        std::mem::take(&mut waiting.rows)
    }

    /// Whether a channel has a packet with a smaller key. It looks at one row.
    pub(crate) fn is_any_before(&self, live: &Live, below: u64) -> bool {
        let head = live.packets();
        head.size > 0 && self.range(live.id, head.low..below).next().is_some()
    }

    fn range(&self, id: u64, keys: Range<u64>) -> Rows {
        let (start, end) = (row_key(id, keys.start), row_key(id, keys.end));
        self.rows.range(&start[..]..&end[..])
    }

    /// Packets of these channels with keys in `range`: those of one ident, or all of them. May wait
    /// for the disk.
    pub(crate) fn read(
        &self,
        lives: &[Arc<Live>],
        ident: Option<&str>,
        range: &Range<u64>,
        slice: &Slice,
    ) -> Result<Vec<(u64, u64, Vec<u8>)>, TablesError> {
        let Some(ident) = ident else {
            let sources = lives.iter().map(|live| self.range(live.id, range.clone()));
            let rows = merged(sources, slice)?.into_iter();
            return Ok(rows.filter_map(|(key, it)| named(&key, it)).collect());
        };
        let sources = lives.iter().map(|live| {
            let [start, end] = [range.start, range.end].map(|key| ident_key(live.id, ident, key));
            self.idents.range(&start[..]..&end[..])
        });
        let (mut found, mut bytes) = (Vec::new(), 0);
        for (key, _) in merged(sources, slice)? {
            if bytes >= slice.bytes_max {
                break;
            }
            let Some((channel, key, _)) = named(&key, Vec::new()) else { continue };
            // It may have become too old just now; whoever reads goes on behind it.
            let value = self.rows.get(&row_key(channel, key))?.unwrap_or_default();
            bytes += value.len();
            found.push((channel, key, value));
        }
        Ok(found)
    }

    /// Rows of a channel by ident, from this key of the table on: each says whose it is and how
    /// many bytes its packet has.
    pub(crate) fn by_ident(&self, id: u64, from: Option<&[u8]>) -> Rows {
        let start = [&id.to_be_bytes()[..], from.unwrap_or_default()].concat();
        self.idents.range(&start[..]..&(id + 1).to_be_bytes()[..])
    }
}

/// Channel and key of a row, and its value.
fn named(key: &[u8], value: Vec<u8>) -> Option<(u64, u64, Vec<u8>)> {
    Some((number(key, 0)?, number(key, key.len().checked_sub(8)?)?, value))
}

/// What a row of [`Packets::by_ident`] says: where it stands in its channel, whose it is, and how
/// many bytes its packet has.
pub(crate) fn sized<'a>(key: &'a [u8], value: &[u8]) -> Option<(&'a [u8], &'a str, u64)> {
    let place = key.get(8..)?;
    let ident = place.get(..place.len().checked_sub(9)?)?;
    let size = u32::from_be_bytes(value.try_into().ok()?);
    Some((place, std::str::from_utf8(ident).ok()?, size.into()))
}

/// No ident has a zero, so those of one that begins with another one do not stand among its rows.
fn ident_key(id: u64, ident: &str, key: u64) -> Vec<u8> {
    [&id.to_be_bytes()[..], ident.as_bytes(), &[0], &key.to_be_bytes()].concat()
}

/// The devices that something is of: the one of the connection, or those of its messages.
pub(crate) fn idents(ident: Option<&Ident>, messages: &[Message]) -> Vec<Ident> {
    if let Some(ident) = ident {
        return vec![ident.clone()];
    }
    let mut idents: Vec<Ident> = Vec::new();
    for message in messages {
        if idents.len() < IDENTS_MAX && !idents.contains(&message.ident) {
            idents.push(message.ident.clone());
        }
    }
    idents
}

impl Said<'_> {
    /// The value of its row for this device, and how many bytes of it are data.
    fn row(&self, ident: &Ident) -> (Vec<u8>, u32) {
        let size: usize = self.pieces.iter().map(|piece| piece.len()).sum();
        let Way { transport, connection, peer } = self.way;
        let mut row = vec![transport as u8 + self.by as u8];
        row.extend(u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
        row.extend(connection.to_be_bytes());
        for text in [ident.as_str(), peer] {
            // Idents and addresses are short.
            let length = u16::try_from(text.len()).unwrap_or(0);
            row.extend(length.to_be_bytes());
            row.extend(&text.as_bytes()[..length.into()]);
        }
        let mut left = DATA_BYTES_MAX;
        for piece in self.pieces {
            let kept = &piece[..piece.len().min(left)];
            row.extend(kept);
            left -= kept.len();
        }
        (row, (DATA_BYTES_MAX - left) as u32)
    }
}

impl<'a> Packet<'a> {
    pub(crate) fn read(row: &'a [u8]) -> Option<Self> {
        let (kind, rest) = row.split_first()?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let (connection, rest) = rest.split_first_chunk::<8>()?;
        let (ident, rest) = text(rest)?;
        let (peer, data) = text(rest)?;
        let (size, connection) = (u32::from_be_bytes(*size), u64::from_be_bytes(*connection));
        Some(Self { kind: *kind, size, connection, ident, peer, data })
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

impl Head {
    fn read(value: &[u8]) -> Option<Self> {
        let [low, size, newest] = [0, 8, 16].map(|at| number(value, at));
        Some(Self { low: low?, size: size?, newest: newest? })
    }

    fn row(self) -> Vec<u8> {
        [self.low, self.size, self.newest].map(u64::to_be_bytes).concat()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn a_packet_is_read_as_it_was_written_and_a_long_one_is_cut() {
        let ident = Ident::new("a").unwrap_or_else(|error| panic!("{error}"));
        let long = vec![7; DATA_BYTES_MAX];
        let said = Said {
            by: Side::Hub,
            idents: &[],
            way: Way { transport: Transport::Tcp, connection: 5, peer: "1.2.3.4:5" },
            pieces: &[b"ab", &long],
        };
        let (row, data_bytes) = said.row(&ident);
        let packet = Packet::read(&row).unwrap_or_else(|| panic!("it is whole"));
        assert_eq!((packet.kind, packet.is_of_hub()), (3, true));
        assert_eq!((packet.ident, packet.peer, packet.connection), ("a", "1.2.3.4:5", 5));
        assert_eq!(packet.size as usize, DATA_BYTES_MAX + 2);
        assert_eq!((packet.data.len(), data_bytes as usize), (DATA_BYTES_MAX, DATA_BYTES_MAX));
        assert_eq!(&packet.data[..3], b"ab\x07");
        assert_eq!(Packet::read(&row[..20]), None);
    }

    #[test]
    fn what_waits_for_a_disk_that_is_too_slow_is_bounded_and_the_rest_left_out() {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let tables = Tables::open(&folder.path().join("tables"));
        let packets = Packets::open(&tables.unwrap_or_else(|error| panic!("{error}")), u64::MAX);
        let packets = packets.unwrap_or_else(|error| panic!("{error}"));
        let idents = ["a", "b"].map(|it| Ident::new(it).unwrap_or_else(|error| panic!("{error}")));
        let (live, data) = (Arc::new(Live::new(1)), vec![0; DATA_BYTES_MAX]);
        let way = Way { transport: Transport::Udp, connection: 0, peer: "" };
        let said = Said { by: Side::Device, idents: &idents, way, pieces: &[&data] };
        let keys = AtomicU64::new(0);
        let most = WAITING_BYTES / DATA_BYTES_MAX;
        for _ in 0..2 {
            let before = keys.load(Ordering::Relaxed);
            (0..most).for_each(|_| {
                packets.note(&live, said, || keys.fetch_add(1, Ordering::Relaxed));
            });
            let rows = packets.take();
            assert_eq!(rows.len(), most, "the last one exceeds it");
            let found = rows.iter().map(|row| row.key);
            assert!(found.eq(before..before + most as u64), "what is left out has no key");
            assert!(!packets.is_any_waiting(), "there is room again");
        }
    }
}
