//! `teltonika`: codecs 8, 8 extended and 16 over TCP and UDP, commands in codec 12 (R12).
//!
//! Over TCP a device begins with its IMEI, and then sends frames that are acknowledged by the
//! number of their records. What is not acknowledged it sends again, so a frame with a wrong
//! checksum gets no answer (R12.5).

mod records;

use records::Codec;

use crate::message::Ident;
use crate::protocol::command::{Answer, Command, CommandError, CommandKind, Order};
use crate::protocol::fields::{Field, Kind};
use crate::protocol::reader::Reader;
use crate::protocol::{Decoder, Error, Intake, Protocol, Step, Transport, crc16};

/// The row of this protocol.
pub static PROTOCOL: Protocol = Protocol {
    id: 14,
    name: "teltonika",
    title: "Teltonika",
    description: "Trackers of Teltonika: codecs 8, 8 extended and 16, commands in codec 12",
    transports: &["tcp", "udp"],
    fields: &[],
    parameters: records::PARAMETERS,
    commands: &[CommandKind {
        name: CUSTOM,
        title: "Text or bytes, sent in codec 12",
        fields: &[
            Field::new("text", Kind::Text(COMMAND_BYTES_MAX), "What to send, as text"),
            Field::new("hex", Kind::Text(2 * COMMAND_BYTES_MAX), "What to send, as digits"),
        ],
        example: ("Asks for the state of the device", r#"{"text": "getinfo"}"#),
    }],
    intake: |_| {
        Ok(Intake::Bytes(Box::new(|transport| Box::new(Teltonika { transport, ident: None }))))
    },
};

const CUSTOM: &str = "custom";

/// Bytes of a command at most. The maker allows fewer; it is bounded for our sake.
const COMMAND_BYTES_MAX: usize = 4_096;

/// Bytes of the longest name a device may have: an IMEI has 15 digits, a serial number may be
/// longer.
const IMEI_BYTES_MAX: usize = 64;

/// Bytes of the data of a frame. The maker promises 1,280 and devices with long elements exceed it.
const DATA_BYTES_MAX: usize = 64 << 10;

/// Preamble and length in front of the data, checksum behind it.
const HEAD_BYTES: usize = 8;
const TAIL_BYTES: usize = 4;

/// A lone byte with which devices keep their connection. It is not in the maker's documents, but
/// in the field. \[inferred\]
const PING: u8 = 0xff;

const CODEC_12: u8 = 0x0c;
const COMMAND: u8 = 0x05;
const RESPONSE: u8 = 0x06;

struct Teltonika {
    transport: Transport,
    ident: Option<Ident>,
}

impl Decoder for Teltonika {
    fn frame(&self, input: &[u8], _seen: usize) -> Result<Option<usize>, Error> {
        let length = if self.ident.is_none() {
            let Some(head) = input.first_chunk() else { return Ok(None) };
            let imei = usize::from(u16::from_be_bytes(*head));
            if !(1..=IMEI_BYTES_MAX).contains(&imei) {
                let text =
                    format!("a connection begins with an IMEI, not with one of {imei} bytes");
                return Err(Error::misaligned(text));
            }
            2 + imei
        } else if input[0] == PING {
            1
        } else {
            if input.iter().take(4).any(|byte| *byte != 0) {
                return Err(Error::misaligned("a frame begins with four zeros"));
            }
            let Some(head) = input.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
            let data = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            if !(3..=DATA_BYTES_MAX).contains(&data) {
                let text = format!("a frame has 3 to {DATA_BYTES_MAX} bytes of data, not {data}");
                return Err(Error::violation(text));
            }
            HEAD_BYTES + data + TAIL_BYTES
        };
        Ok((input.len() >= length).then_some(length))
    }

    fn packet(&mut self, packet: &[u8]) -> Result<Step, Error> {
        if self.transport == Transport::Datagram {
            return datagram(packet);
        }
        let Some(ident) = &self.ident else {
            let step = login(&packet[2..])?;
            self.ident.clone_from(&step.ident);
            return Ok(step);
        };
        if packet[0] == PING {
            return Ok(Step::default());
        }
        let (data, sum) = packet[HEAD_BYTES..].split_at(packet.len() - HEAD_BYTES - TAIL_BYTES);
        if u32::from(crc16(data)) != Reader::new(sum).u32("checksum")? {
            return Ok(Step::faulty(Error::parse("the checksum of a frame is wrong"), ""));
        }
        if data[0] == CODEC_12 {
            return Ok(response(data).unwrap_or_else(|error| Step::faulty(error, "")));
        }
        let count = u32::from(data[1]).to_be_bytes();
        // A frame that cannot be read is as good as one that was torn: the device sends it again.
        match records::decode(data, Codec::of(data[0])?, ident) {
            Ok(messages) => Ok(Step::telling(messages, count)),
            Err(error) => Ok(Step::faulty(error, "")),
        }
    }

    fn command(&self, command: &Command) -> Result<Order, CommandError> {
        if self.transport == Transport::Datagram {
            return Err(CommandError::Datagrams);
        }
        if self.ident.is_none() {
            return Err(CommandError::NotIdentified);
        }
        Ok(Order { bytes: encode_command(&command.text_or_hex()?), is_answered: true })
    }
}

/// The IMEI, answered with a byte (R12.1).
fn login(imei: &[u8]) -> Result<Step, Error> {
    let text = str::from_utf8(imei).map_err(|_| Error::parse("the IMEI is no text"))?;
    let ident = Ident::new(text).map_err(|error| Error::from(error).with_farewell([0]))?;
    Ok(Step { ident: Some(ident), refusal: vec![0], ..Step::answering([1]) })
}

/// What the device says to a command in codec 12 (R12.7).
fn response(data: &[u8]) -> Result<Step, Error> {
    let mut reader = Reader::new(data);
    let (_, count, kind) = (reader.u8("codec")?, reader.u8("count")?, reader.u8("type")?);
    if (count, kind) != (1, RESPONSE) {
        return Err(Error::unsupported(format!("codec 12 with {count} texts of type {kind}")));
    }
    let size = reader.u32("size of the text")? as usize;
    let text = String::from_utf8_lossy(reader.bytes(size, "text")?).into_owned();
    let answer = Answer { command: CUSTOM, is_executed: true, text };
    Ok(Step { answers: vec![answer], ..Step::default() })
}

/// A command in codec 12. That requests are of type 5 is known from the maker's wiki.
fn encode_command(text: &[u8]) -> Vec<u8> {
    let mut data = vec![CODEC_12, 1, COMMAND];
    data.extend((text.len() as u32).to_be_bytes());
    data.extend(text);
    data.push(1);
    let mut frame = vec![0; 4];
    frame.extend((data.len() as u32).to_be_bytes());
    frame.extend(u32::from(crc16(&data)).to_be_bytes());
    frame.splice(HEAD_BYTES..HEAD_BYTES, data);
    frame
}

/// A datagram has all of it: who sends, what, and a number for the answer (R12.6).
fn datagram(datagram: &[u8]) -> Result<Step, Error> {
    let mut reader = Reader::new(datagram);
    let length = usize::from(reader.u16("length")?);
    if length != datagram.len() - 2 {
        return Err(Error::parse(format!("the datagram is not {length} bytes long, as it says")));
    }
    let packet_id = reader.u16("packet id")?.to_be_bytes();
    let (usage, avl_id) = (reader.u8("packet type")?, reader.u8("AVL packet id")?);
    let imei = usize::from(reader.u16("length of the IMEI")?);
    let imei = str::from_utf8(reader.bytes(imei, "IMEI")?)
        .map_err(|_| Error::parse("the IMEI is no text"))?;
    let ident = Ident::new(imei)?;
    let data = reader.rest();
    let [codec, count, ..] = *data else {
        return Err(Error::parse("the datagram has no records"));
    };
    let messages = records::decode(data, Codec::of(codec)?, &ident)?;
    let mut reply = vec![0, 5];
    reply.extend(packet_id);
    reply.extend([usage, avl_id, count]);
    Ok(Step { ident: Some(ident), ..Step::telling(messages, reply) })
}
