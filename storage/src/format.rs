//! The bytes of the journal's files, as the crate's documentation draws them.

use std::fmt;

/// First bytes of every segment.
const MAGIC: [u8; 8] = *b"LSJOURNL";
/// The version that is written. All versions from 1 to this one are read.
pub(crate) const VERSION: u32 = 1;

/// What a medium writes as a whole, in bytes; commits begin and end with one.
pub(crate) const SECTOR: u32 = 512;
/// Where the fragments of a segment begin: they share no sector with the segment's header.
pub(crate) const SEGMENT_START: u32 = SECTOR;
/// Bytes of the header of a segment, and where in the first sector it stands.
const SEGMENT_HEADER: usize = 32;
const SEGMENT_HEADERS_AT: [usize; 2] = [0, 256];

/// Bytes of the header of a fragment.
pub(crate) const FRAGMENT_HEADER: u32 = 12;
/// Bytes of a [`Part::Barrier`] or [`Part::Restart`]: the header and an epoch.
pub(crate) const BARRIER: u32 = FRAGMENT_HEADER + 4;

/// Least and largest size of a segment. The largest keeps offsets and lengths far from 32 bits.
pub(crate) const SEGMENT_BYTES: std::ops::RangeInclusive<u32> = 4096..=1 << 30;

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u32,
    /// Size of the file.
    pub(crate) bytes: u32,
    /// What the checksums of its fragments are mixed with, so that no client can forge one.
    pub(crate) salt: u32,
}

/// Why the header of a segment is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// A version that this program does not know yet.
    Version(u32),
    Damaged,
}

impl SegmentHeader {
    /// What checksums are stamped with after `epoch` restarts.
    pub(crate) fn stamp(&self, epoch: u8) -> Stamp {
        Stamp { number: self.number, salt: self.salt, epoch }
    }

    /// The first sector of the file.
    pub(crate) fn encode(&self) -> [u8; SECTOR as usize] {
        let mut header = [0; SEGMENT_HEADER];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[16..20].copy_from_slice(&self.number.to_le_bytes());
        header[20..24].copy_from_slice(&self.bytes.to_le_bytes());
        header[24..28].copy_from_slice(&self.salt.to_le_bytes());
        let checksum = header_checksum(&header);
        header[12..16].copy_from_slice(&checksum.to_le_bytes());
        let mut sector = [0; SECTOR as usize];
        for at in SEGMENT_HEADERS_AT {
            sector[at..at + SEGMENT_HEADER].copy_from_slice(&header);
        }
        sector
    }

    /// The header in the first sector of a file, from whichever of its copies is sound.
    pub(crate) fn decode(sector: &[u8; SECTOR as usize]) -> Result<Self, HeaderFault> {
        let mut fault = HeaderFault::Damaged;
        for at in SEGMENT_HEADERS_AT {
            let header = sector[at..at + SEGMENT_HEADER].try_into().expect("the length is right");
            match Self::decode_copy(header) {
                Ok(header) => return Ok(header),
                Err(HeaderFault::Version(version)) => fault = HeaderFault::Version(version),
                Err(HeaderFault::Damaged) => {}
            }
        }
        Err(fault)
    }

    fn decode_copy(header: &[u8; SEGMENT_HEADER]) -> Result<Self, HeaderFault> {
        // Magic, version and checksum stand in the same place in all versions to come.
        if header[..8] != MAGIC || u32_at(header, 12) != header_checksum(header) {
            return Err(HeaderFault::Damaged);
        }
        let version = u32_at(header, 8);
        if version == 0 || version > VERSION {
            return Err(HeaderFault::Version(version));
        }
        let (number, bytes, salt) = (u32_at(header, 16), u32_at(header, 20), u32_at(header, 24));
        if number == 0 || !is_segment_size(bytes) {
            return Err(HeaderFault::Damaged);
        }
        Ok(Self { number, bytes, salt })
    }
}

/// Whether a segment may have this size: within the bounds, and whole sectors.
pub(crate) fn is_segment_size(bytes: u32) -> bool {
    SEGMENT_BYTES.contains(&bytes) && bytes.is_multiple_of(SECTOR)
}

fn header_checksum(header: &[u8; SEGMENT_HEADER]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..])
}

/// What a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Part {
    /// A record.
    Whole = 1,
    /// The beginning of a record that goes on in the next segment.
    First = 2,
    /// More of it.
    Middle = 3,
    /// Its end.
    Last = 4,
    /// All before it was durable when it was written. Its body is the epoch.
    Barrier = 5,
    /// A barrier that an opening wrote: a record unfinished before it is void.
    Restart = 6,
    /// Nothing; its body is not looked at.
    Pad = 7,
    /// Where a repair has found something unreadable; its body is not looked at. A record
    /// unfinished before it, and the rest of one after it, are void.
    Lost = 8,
}

impl Part {
    fn decode(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Whole,
            2 => Self::First,
            3 => Self::Middle,
            4 => Self::Last,
            5 => Self::Barrier,
            6 => Self::Restart,
            7 => Self::Pad,
            8 => Self::Lost,
            _ => return None,
        })
    }

    /// Whether the checksum covers the body.
    fn has_body(self) -> bool {
        !matches!(self, Self::Pad | Self::Lost)
    }

    pub(crate) fn is_barrier(self) -> bool {
        matches!(self, Self::Barrier | Self::Restart)
    }
}

/// What is wrong with a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsound {
    /// The checksum is not that of these bytes at this place.
    Checksum,
    /// The length reaches beyond the segment.
    Length,
    /// Nothing begins with such a byte.
    Part,
    /// The file ends before the segment does.
    FileEnd,
    /// A record goes on that has not begun.
    NotBegun,
    /// A record has not ended before the next begins.
    NotEnded,
    /// A record is larger than `Options::record_bytes_max`.
    TooLarge,
}

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checksum => "the checksum is wrong",
            Self::Length => "a length reaches beyond the segment",
            Self::Part => "there is no record",
            Self::FileEnd => "the file is too short",
            Self::NotBegun => "a record goes on that has not begun",
            Self::NotEnded => "a record has no end",
            Self::TooLarge => "a record is larger than records may be",
        })
    }
}

/// The header of a fragment, as far as it can be judged without the body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FragmentHeader {
    checksum: u32,
    /// Bytes of the body.
    pub(crate) length: u32,
    pub(crate) part: Part,
    pub(crate) kind: u8,
}

impl FragmentHeader {
    /// Judges the 12 bytes at the start of `bytes`, of a fragment that has `room` bytes at most.
    #[inline]
    pub(crate) fn decode(bytes: &[u8], room: u32) -> Result<Self, Unsound> {
        let bytes: &[u8; FRAGMENT_HEADER as usize] =
            bytes[..FRAGMENT_HEADER as usize].try_into().expect("the length is right");
        let part = Part::decode(bytes[8]).ok_or(Unsound::Part)?;
        if bytes[10..12] != [0, 0] {
            return Err(Unsound::Part);
        }
        let length = u32_at(bytes, 4);
        let is_barrier = length == BARRIER - FRAGMENT_HEADER;
        if length > room.saturating_sub(FRAGMENT_HEADER) || (part.is_barrier() && !is_barrier) {
            return Err(Unsound::Length);
        }
        Ok(Self { checksum: u32_at(bytes, 0), length, part, kind: bytes[9] })
    }

    /// Whether `fragment`, which begins with this header and is whole, stands at `offset`.
    #[inline]
    pub(crate) fn is_sound(&self, stamp: Stamp, offset: u32, fragment: &[u8]) -> bool {
        let body = &fragment[FRAGMENT_HEADER as usize..];
        let body_checksum = if self.part.has_body() { crc32c::crc32c(body) } else { 0 };
        let rest = fragment[4..12].try_into().expect("the length is right");
        stamp.checksum(offset, rest, body_checksum) == self.checksum
    }
}

/// What the checksums of a stretch of a segment have in common. What was written there in
/// another use of the file, or before the last restart, has another stamp and is not sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) number: u32,
    pub(crate) salt: u32,
    pub(crate) epoch: u8,
}

impl Stamp {
    /// The checksum of a fragment at `offset`: of `rest`, which is its header without the
    /// checksum, and of its body, which is given as a checksum of its own.
    ///
    /// What it starts from differs between any two uses of the same offset of a file, unless 2^24
    /// segments lie between, and different starts give the same bytes different checksums.
    #[inline]
    pub(crate) fn checksum(self, offset: u32, rest: [u8; 8], body_checksum: u32) -> u32 {
        let start = (self.number << 8 | u32::from(self.epoch)) ^ offset;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&rest);
        bytes[8..12].copy_from_slice(&body_checksum.to_le_bytes());
        bytes[12..].copy_from_slice(&self.salt.to_le_bytes());
        crc32c::crc32c_append(start, &bytes)
    }

    /// Writes the header of a fragment at `offset` with this body.
    pub(crate) fn header(
        self,
        offset: u32,
        part: Part,
        kind: u8,
        body: &[u8],
    ) -> [u8; FRAGMENT_HEADER as usize] {
        let mut header = unstamped_header(part, kind, body);
        self.seal(offset, &mut header);
        header
    }

    /// Turns an unstamped header into that of a fragment at `offset`.
    #[inline]
    pub(crate) fn seal(self, offset: u32, header: &mut [u8]) {
        let rest = header[4..12].try_into().expect("the length is right");
        let checksum = self.checksum(offset, rest, u32_at(header, 0));
        header[..4].copy_from_slice(&checksum.to_le_bytes());
    }

    /// A barrier of this epoch at `offset`.
    pub(crate) fn barrier(self, offset: u32, part: Part) -> [u8; BARRIER as usize] {
        let body = u32::from(self.epoch).to_le_bytes();
        let mut barrier = [0; BARRIER as usize];
        barrier[..12].copy_from_slice(&self.header(offset, part, 0, &body));
        barrier[12..].copy_from_slice(&body);
        barrier
    }

    /// The stamp from the barrier in these bytes on; its own checksum is of it already. `None`
    /// when epochs went backwards: it is a leftover.
    pub(crate) fn after_barrier(self, body: &[u8]) -> Option<Self> {
        let epoch = u8::try_from(u32_at(body, 0)).ok()?;
        (epoch >= self.epoch).then_some(Self { epoch, ..self })
    }

    /// A pad, or a lost stretch, of `length` bytes without the header.
    pub(crate) fn gap(self, offset: u32, part: Part, length: u32) -> [u8; 12] {
        let mut header = [0; FRAGMENT_HEADER as usize];
        header[4..8].copy_from_slice(&length.to_le_bytes());
        header[8] = part as u8;
        self.seal(offset, &mut header);
        header
    }
}

/// A header that holds the checksum of the body alone, until its place is known.
#[inline]
pub(crate) fn unstamped_header(part: Part, kind: u8, body: &[u8]) -> [u8; 12] {
    let mut header = [0; FRAGMENT_HEADER as usize];
    header[..4].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    header[4..8].copy_from_slice(&(body.len() as u32).to_le_bytes());
    header[8] = part as u8;
    header[9] = kind;
    header
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the length is right"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { number: 3, salt: 0x1234_5678, epoch: 0 };

    fn is_sound(stamp: Stamp, offset: u32, fragment: &[u8]) -> bool {
        FragmentHeader::decode(fragment, fragment.len() as u32)
            .is_ok_and(|header| header.is_sound(stamp, offset, fragment))
    }

    #[test]
    fn a_fragment_is_sound_in_its_own_place_only() {
        let mut fragment = STAMP.header(512, Part::Whole, 7, b"body").to_vec();
        fragment.extend(b"body");
        assert!(is_sound(STAMP, 512, &fragment));
        assert!(!is_sound(STAMP, 513, &fragment));
        for other in
            [Stamp { number: 4, ..STAMP }, Stamp { salt: 0, ..STAMP }, Stamp { epoch: 1, ..STAMP }]
        {
            assert!(!is_sound(other, 512, &fragment), "{other:?}");
        }
    }

    #[test]
    fn any_flipped_bit_makes_a_fragment_unsound() {
        let mut fragment = STAMP.header(512, Part::Whole, 7, b"body").to_vec();
        fragment.extend(b"body");
        for bit in 0..fragment.len() * 8 {
            let mut flipped = fragment.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_sound(STAMP, 512, &flipped), "bit {bit}");
        }
    }

    #[test]
    fn a_segment_header_is_read_from_either_copy() {
        let header = SegmentHeader { number: 9, bytes: 4096, salt: 5 };
        let sector = header.encode();
        assert_eq!(SegmentHeader::decode(&sector), Ok(header));
        for at in 0..sector.len() {
            let mut damaged = sector;
            damaged[at] ^= 0x40;
            assert_eq!(SegmentHeader::decode(&damaged), Ok(header), "byte {at}");
        }
        assert_eq!(SegmentHeader::decode(&[0; 512]), Err(HeaderFault::Damaged));
    }

    #[test]
    fn a_segment_of_a_later_version_is_told_from_a_damaged_one() {
        let mut sector = SegmentHeader { number: 9, bytes: 4096, salt: 5 }.encode();
        for at in SEGMENT_HEADERS_AT {
            sector[at + 8] = 2;
            let header = sector[at..at + SEGMENT_HEADER].try_into().unwrap();
            let checksum = header_checksum(header);
            sector[at + 12..at + 16].copy_from_slice(&checksum.to_le_bytes());
        }
        assert_eq!(SegmentHeader::decode(&sector), Err(HeaderFault::Version(2)));
    }
}
