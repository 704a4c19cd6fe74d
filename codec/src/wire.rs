//! The data types of the wire: integers, strings, binary data and variable byte integers
//! (MQTT 5.0, 1.5).
//!
//! Every read names the [`Field`] it is after, so that an error says where. A string is UTF-8
//! without encoded surrogates [MQTT-1.5.4-1] and without U+0000 [MQTT-1.5.4-2]. Control characters
//! and non-characters are accepted: the standard only advises against them (MQTT 5.0, 1.5.4), and
//! clients use them. U+FEFF is a character like any other and is kept [MQTT-1.5.4-3].

use crate::error::{Error, Field, Malformed, Offence};
use crate::packet::{PacketId, PacketType};

/// The largest variable byte integer, hence the largest Remaining Length (MQTT 5.0, 1.5.5).
pub const VARINT_MAX: u32 = 268_435_455;

/// Bytes that `value` takes as a variable byte integer: 1 to 4 (MQTT 5.0, 1.5.5).
///
/// `value` is at most [`VARINT_MAX`]; above it the answer is 4 and means nothing.
#[inline]
pub const fn varint_len(value: u32) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

/// Appends `value` as a variable byte integer in its shortest form [MQTT-1.5.5-1].
///
/// `value` is at most [`VARINT_MAX`].
#[inline]
pub fn put_varint(out: &mut Vec<u8>, value: u32) {
    debug_assert!(value <= VARINT_MAX, "{value} does not fit a variable byte integer");
    let mut rest = value;
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends a two byte integer, most significant byte first (MQTT 5.0, 1.5.2).
#[inline]
pub fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a four byte integer, most significant byte first (MQTT 5.0, 1.5.3).
#[inline]
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a string or binary data: a two byte length, then the bytes (MQTT 5.0, 1.5.4 and 1.5.6).
///
/// `bytes` is at most 65,535 bytes long; the caller vouches that a string is one.
#[inline]
pub fn put_str(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() <= usize::from(u16::MAX), "{} bytes in a string", bytes.len());
    put_u16(out, bytes.len() as u16);
    out.extend_from_slice(bytes);
}

/// The bytes as an MQTT string, found in `field`.
///
/// Fails with [`Malformed::Utf8`] or [`Malformed::Nul`].
#[inline]
pub(crate) fn text(bytes: &[u8], field: Field) -> Result<&str, Error> {
    let text = core::str::from_utf8(bytes).map_err(|_| Malformed::Utf8(field))?;
    // Every byte is looked at, since a loop without a way out is done many bytes at a time.
    if bytes.iter().fold(false, |found, byte| found | (*byte == 0)) {
        return Err(Malformed::Nul(field).into());
    }
    Ok(text)
}

/// Reads fields from the front of a slice; never past its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    #[inline]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads what is left.
    #[inline]
    pub(crate) const fn take_rest(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.rest = &[];
        rest
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends the reading of a packet: fails with [`Malformed::TrailingBytes`] if bytes are left.
    #[inline]
    pub(crate) fn finish(&self, packet: PacketType) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::TrailingBytes(packet).into()) }
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: Field) -> Result<[u8; N], Error> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated(field))?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn slice(&mut self, len: usize, field: Field) -> Result<&'a [u8], Error> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Truncated(field))?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    pub(crate) fn u8(&mut self, field: Field) -> Result<u8, Error> {
        Ok(self.array::<1>(field)?[0])
    }

    #[inline]
    pub(crate) fn u16(&mut self, field: Field) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(self.array(field)?))
    }

    #[inline]
    pub(crate) fn u32(&mut self, field: Field) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.array(field)?))
    }

    /// A variable byte integer of at most four bytes in its shortest form [MQTT-1.5.5-1].
    #[inline]
    pub(crate) fn varint(&mut self, field: Field) -> Result<u32, Error> {
        match self.rest {
            [byte @ 0..=0x7f, rest @ ..] => {
                self.rest = rest;
                Ok(u32::from(*byte))
            }
            _ => self.long_varint(field),
        }
    }

    fn long_varint(&mut self, field: Field) -> Result<u32, Error> {
        let mut value = 0;
        for place in 0..4 {
            let byte = self.u8(field)?;
            value |= u32::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                if place > 0 && byte == 0 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(Malformed::Varint(field).into())
    }

    /// Binary data: a two byte length, then that many bytes (MQTT 5.0, 1.5.6).
    #[inline]
    pub(crate) fn bytes(&mut self, field: Field) -> Result<&'a [u8], Error> {
        let len = self.u16(field)?;
        self.slice(usize::from(len), field)
    }

    /// A UTF-8 encoded string (MQTT 5.0, 1.5.4).
    #[inline]
    pub(crate) fn text(&mut self, field: Field) -> Result<&'a str, Error> {
        text(self.bytes(field)?, field)
    }

    /// A packet identifier, which is never zero [MQTT-2.2.1-3].
    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, Error> {
        let id = self.u16(Field::PacketId)?;
        PacketId::new(id).ok_or(Error::Protocol(Offence::PacketIdZero))
    }

    /// A property block without its length prefix (MQTT 5.0, 2.2.2); its content is not looked at.
    #[inline]
    pub(crate) fn block(&mut self, field: Field) -> Result<&'a [u8], Error> {
        let len = self.varint(field)?;
        self.slice(len as usize, field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELD: Field = Field::Properties;

    /// [MQTT-1.5.5-1], and MQTT 5.0, table 1-1.
    #[test]
    fn a_varint_is_at_most_four_bytes_in_its_shortest_form() {
        let check = |bytes: &[u8], want: Result<u32, Malformed>| {
            let got = Reader::new(bytes).varint(FIELD);
            assert_eq!(got, want.map_err(Error::from), "{bytes:02x?}");
        };
        let (short, bad) = (Malformed::Truncated(FIELD), Malformed::Varint(FIELD));
        check(&[], Err(short));
        check(&[0x00], Ok(0));
        check(&[0x7f], Ok(127));
        check(&[0x80], Err(short));
        check(&[0x80, 0x00], Err(bad));
        check(&[0x80, 0x01], Ok(128));
        check(&[0xff, 0x7f], Ok(16_383));
        check(&[0xff, 0xff], Err(short));
        check(&[0x80, 0x80, 0x00], Err(bad));
        check(&[0x80, 0x80, 0x01], Ok(16_384));
        check(&[0xff, 0xff, 0x7f], Ok(2_097_151));
        check(&[0xff, 0xff, 0xff], Err(short));
        check(&[0x80, 0x80, 0x80, 0x00], Err(bad));
        check(&[0x80, 0x80, 0x80, 0x01], Ok(2_097_152));
        check(&[0xff, 0xff, 0xff, 0x7f], Ok(VARINT_MAX));
        check(&[0xff, 0xff, 0xff, 0xff], Err(bad));
        check(&[0x80, 0x80, 0x80, 0x80, 0x01], Err(bad));
        check(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01], Err(bad));
    }

    #[test]
    fn a_varint_is_written_as_it_is_read() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, VARINT_MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            let mut input = Reader::new(&out);
            assert_eq!(input.varint(FIELD), Ok(value));
            assert!(input.is_empty(), "{value}");
        }
    }

    /// [MQTT-1.5.4-1], [MQTT-1.5.4-2], [MQTT-1.5.4-3], [MQTT-1.5.7-1].
    #[test]
    fn a_string_is_utf_8_without_surrogates_and_nul() {
        let check = |bytes: &[u8], want: Result<&str, Malformed>| {
            assert_eq!(text(bytes, FIELD), want.map_err(Error::from), "{bytes:02x?}");
        };
        let (utf8, nul) = (Err(Malformed::Utf8(FIELD)), Err(Malformed::Nul(FIELD)));
        check(b"", Ok(""));
        check(b"a/b", Ok("a/b"));
        check(b"A\xf0\xaa\x9b\x94", Ok("A\u{2a6d4}"));
        check(b"\xef\xbb\xbfa", Ok("\u{feff}a"));
        check(b"\xed\x9f\xbf", Ok("\u{d7ff}"));
        check(b"\xed\xa0\x80", utf8);
        check(b"\xed\xbf\xbf", utf8);
        check(b"\xee\x80\x80", Ok("\u{e000}"));
        check(b"\x00", nul);
        check(b"a\x00b", nul);
        check(b"\xc0\x80", utf8);
        check(b"\x80", utf8);
        check(b"\xff", utf8);
        check(b"\xc3", utf8);
        check(b"\xf4\x90\x80\x80", utf8);
        // Control characters and non-characters are accepted on purpose.
        check(b"\x01\x1f\x7f", Ok("\u{1}\u{1f}\u{7f}"));
        check(b"\xc2\x80\xef\xbf\xbf", Ok("\u{80}\u{ffff}"));
    }

    #[test]
    fn a_string_that_is_cut_short_names_its_field() {
        let whole = b"\x00\x03abc";
        for end in 0..whole.len() {
            let got = Reader::new(&whole[..end]).text(FIELD);
            assert_eq!(got, Err(Malformed::Truncated(FIELD).into()), "{end} bytes");
        }
        assert_eq!(Reader::new(whole).text(FIELD), Ok("abc"));
    }

    /// [MQTT-2.2.1-3], [MQTT-2.2.1-4].
    #[test]
    fn a_packet_identifier_is_never_zero() {
        let check = |bytes: &[u8], want: Result<u16, Error>| {
            assert_eq!(Reader::new(bytes).packet_id().map(PacketId::get), want);
        };
        check(&[0, 0], Err(Offence::PacketIdZero.into()));
        check(&[0, 1], Ok(1));
        check(&[0xff, 0xff], Ok(65_535));
        check(&[1], Err(Malformed::Truncated(Field::PacketId).into()));
    }

    #[test]
    fn integers_are_written_most_significant_byte_first() {
        let mut out = Vec::new();
        put_u16(&mut out, 0x0102);
        put_u32(&mut out, 0x0304_0506);
        put_str(&mut out, b"a");
        assert_eq!(out, [1, 2, 3, 4, 5, 6, 0, 1, b'a']);
    }
}
