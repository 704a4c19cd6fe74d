//! Where a packet ends: the fixed header, over any split of the input (MQTT 5.0, 2.1).

use crate::error::{Error, Malformed};
use crate::packet::PacketType;
use crate::wire::varint_len;

/// The fixed header of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Packet type in the high four bits, flags in the low four.
    pub first: u8,
    /// Bytes of the fixed header, 2..=5.
    pub header: usize,
    /// Bytes that follow the fixed header, at most 268,435,455.
    pub remaining: usize,
}

impl Frame {
    /// Bytes of the whole packet.
    #[inline]
    pub const fn total(&self) -> usize {
        self.header + self.remaining
    }

    /// What the packet is.
    #[inline]
    pub const fn packet_type(&self) -> PacketType {
        match PacketType::from_first_byte(self.first) {
            Some(packet_type) => packet_type,
            // Only a frame that `frame` did not make has type 0, and such a frame is of no packet.
            None => PacketType::Auth,
        }
    }

    /// Whether the Remaining Length is in its shortest form, as MQTT 5.0 demands [MQTT-1.5.5-1].
    ///
    /// The older standards do not, and the fixed header does not tell the version, so it is for
    /// the receiver to refuse on a 5.0 connection what is not minimal.
    #[inline]
    pub const fn is_minimal(&self) -> bool {
        self.header == 1 + varint_len(self.remaining as u32)
    }
}

/// Fixed header flags that some version allows, for each packet type: bit `f` stands for flags `f`.
///
/// Flags of type 0 are all refused. A PUBLISH may have any but QoS 3 [MQTT-3.3.1-4]. MQTT 3.1
/// repeats PUBREL, SUBSCRIBE and UNSUBSCRIBE with DUP set (MQTT 3.1, 2.1), and clients of it send
/// the latter two with QoS 0; whether the version at hand allows that is for
/// [`decode`](crate::decode) to say.
const FLAGS: [u16; 16] = {
    const NONE: u16 = 1 << 0b0000;
    const ONE_OR_DUP: u16 = 1 << 0b0010 | 1 << 0b1010;
    const ANY_OF_V3_1: u16 = ONE_OR_DUP | 1 << 0b0000 | 1 << 0b1000;
    const PUBLISH: u16 = 0b0011_1111_0011_1111;
    [
        0,
        NONE,
        NONE,
        PUBLISH,
        NONE,
        NONE,
        ONE_OR_DUP,
        NONE,
        ANY_OF_V3_1,
        NONE,
        ANY_OF_V3_1,
        NONE,
        NONE,
        NONE,
        NONE,
        NONE,
    ]
};

/// Reads the fixed header at the start of `input`; none if it is not whole yet.
///
/// Nothing behind the fixed header is looked at. More input turns none into a frame or an error; a
/// frame stays the same, and an error stays an error. `limit` is the largest whole packet allowed,
/// in bytes.
///
/// Fails as early as the bytes allow: with [`Malformed::PacketType`] and
/// [`Malformed::FixedHeaderFlags`] after the first byte, with [`Malformed::RemainingLength`] when
/// the fourth byte of the length asks for a fifth, and with [`Error::PacketTooLarge`] as soon as
/// the length, whole or in part, is too large. A Remaining Length that is longer than it need be is
/// accepted: see [`Frame::is_minimal`].
#[inline]
pub fn frame(input: &[u8], limit: usize) -> Result<Option<Frame>, Error> {
    let Some(&first) = input.first() else {
        return Ok(None);
    };
    if FLAGS[usize::from(first >> 4)] >> (first & 0x0f) & 1 == 0 {
        return Err(refusal(first));
    }
    if let [_, length @ 0..=0x7f, ..] = *input {
        let frame = Frame { first, header: 2, remaining: usize::from(length) };
        return within(frame, limit).map(Some);
    }
    long_frame(first, &input[1..], limit)
}

/// [`frame`] for a length that takes more than one byte, or is not there yet.
fn long_frame(first: u8, length: &[u8], limit: usize) -> Result<Option<Frame>, Error> {
    let mut remaining = 0;
    for (place, byte) in length.iter().take(4).enumerate() {
        remaining |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return within(Frame { first, header: place + 2, remaining }, limit).map(Some);
        }
    }
    if length.len() >= 4 {
        return Err(Malformed::RemainingLength.into());
    }
    // The part of the length that is here bounds the whole from below, and a byte of it is missing.
    within(Frame { first, header: length.len() + 2, remaining }, limit)?;
    Ok(None)
}

#[inline]
fn within(frame: Frame, limit: usize) -> Result<Frame, Error> {
    let size = frame.total();
    if size > limit { Err(Error::PacketTooLarge { size, limit }) } else { Ok(frame) }
}

#[cold]
fn refusal(first: u8) -> Error {
    match PacketType::from_first_byte(first) {
        None => Malformed::PacketType(first).into(),
        Some(_) => Malformed::FixedHeaderFlags(first).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &[u8], limit: usize, want: Result<Option<(usize, usize)>, Error>) {
        let got = frame(input, limit);
        let got = got.map(|found| found.map(|frame| (frame.header, frame.remaining)));
        assert_eq!(got, want, "{input:02x?} within {limit}");
    }

    #[test]
    fn the_fixed_header_tells_where_the_packet_ends() {
        let any = usize::MAX;
        check(&[], any, Ok(None));
        check(&[0xc0], any, Ok(None));
        check(&[0xc0, 0x00], any, Ok(Some((2, 0))));
        check(&[0x30, 0x7f], any, Ok(Some((2, 127))));
        check(&[0x30, 0x80], any, Ok(None));
        check(&[0x30, 0x80, 0x01, 0xff], any, Ok(Some((3, 128))));
        check(&[0x30, 0xff, 0xff], any, Ok(None));
        check(&[0x30, 0xff, 0xff, 0x7f], any, Ok(Some((4, 2_097_151))));
        check(&[0x30, 0xff, 0xff, 0xff, 0x7f], any, Ok(Some((5, 268_435_455))));
    }

    /// MQTT 5.0, 1.5.5 and 2.1.4.
    #[test]
    fn a_fifth_byte_of_length_is_refused_before_it_comes() {
        let want = Err(Malformed::RemainingLength.into());
        check(&[0x30, 0x80, 0x80, 0x80, 0x80], 9, want);
        check(&[0x30, 0xff, 0xff, 0xff, 0xff], usize::MAX, want);
        check(&[0x30, 0xff, 0xff, 0xff, 0xff, 0x01], usize::MAX, want);
    }

    /// [MQTT-1.5.5-1]: which versions forbid it is not known here.
    #[test]
    fn a_longer_length_than_need_be_is_accepted_and_told() {
        let rows: [(&[u8], bool); 6] = [
            (&[0x30, 0x02], true),
            (&[0x30, 0x82, 0x00], false),
            (&[0x30, 0x80, 0x01], true),
            (&[0x30, 0x82, 0x80, 0x80, 0x00], false),
            (&[0x30, 0xff, 0xff, 0x7f], true),
            (&[0x30, 0xff, 0xff, 0xff, 0x00], false),
        ];
        for (input, want) in rows {
            let found = frame(input, usize::MAX).unwrap().unwrap();
            assert_eq!(found.is_minimal(), want, "{input:02x?}");
        }
    }

    /// MQTT 5.0, 3.1.2.11.4.
    #[test]
    fn a_packet_over_the_limit_is_refused_as_soon_as_its_length_shows() {
        let large = |size, limit| Err(Error::PacketTooLarge { size, limit });
        check(&[0x30, 0x08], 10, Ok(Some((2, 8))));
        check(&[0x30, 0x09], 10, large(11, 10));
        check(&[0x30], 1, large(2, 1));
        check(&[0x30, 0x80], 2, large(3, 2));
        check(&[0x30, 0xff], 100, large(130, 100));
        check(&[0x30, 0xff, 0x01], 258, Ok(Some((3, 255))));
        check(&[0x30, 0xff, 0x01], 257, large(258, 257));
        check(&[0x30, 0x80, 0x80, 0x80], 5, Ok(None));
        check(&[0x30, 0xff, 0xff, 0xff, 0x7f], 268_435_459, large(268_435_460, 268_435_459));
    }

    /// [MQTT-2.1.3-1], [MQTT-3.3.1-4]; 3.1.1: [MQTT-2.2.2-1].
    #[test]
    fn each_packet_type_has_its_flags() {
        for first in 0..=u8::MAX {
            let (packet_type, flags) = (first >> 4, first & 0x0f);
            let want = match packet_type {
                0 => Err(Malformed::PacketType(first)),
                3 if flags & 0b0110 == 0b0110 => Err(Malformed::FixedHeaderFlags(first)),
                3 => Ok(()),
                // DUP and QoS 0 are for the decoder to judge, which knows the version.
                6 if flags & 0b0111 == 0b0010 => Ok(()),
                8 | 10 if flags & 0b0101 == 0 => Ok(()),
                6 | 8 | 10 => Err(Malformed::FixedHeaderFlags(first)),
                _ if flags == 0 => Ok(()),
                _ => Err(Malformed::FixedHeaderFlags(first)),
            };
            let found = frame(&[first], 9);
            assert_eq!(found, want.map(|()| None).map_err(Error::from), "{first:#04x}");
            if want.is_ok() {
                let found = frame(&[first, 0], 9).unwrap().unwrap();
                assert_eq!(found.packet_type() as u8, packet_type, "{first:#04x}");
                assert_eq!((found.first, found.total()), (first, 2));
            }
        }
    }
}
