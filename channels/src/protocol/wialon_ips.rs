//! `wialon_ips`: the text protocol of Wialon, versions 1.1 and 2.x, over TCP and UDP (R11).
//!
//! A packet is `#TYPE#body` and a line end. A connection begins with a login, and the login says
//! the version: from 2.0 on a body ends in a checksum. In version 2 one packet may come compressed.

mod record;

use std::borrow::Cow;

use record::{Flaw, Layout};

use crate::message::{Ident, Message};
use crate::protocol::command::{Answer, Command, CommandError, CommandKind, Order, one_line};
use crate::protocol::fields::{Field, Kind, Values};
use crate::protocol::{Decoder, Error, Intake, Protocol, Step, Transport, crc16};

/// The row of this protocol.
pub static PROTOCOL: Protocol = Protocol {
    id: 4,
    name: "wialon_ips",
    title: "Wialon IPS",
    description: "The text protocol of Wialon, versions 1.1 and 2.0, over TCP and UDP",
    transports: &["tcp", "udp"],
    fields: &[Field::new(
        "password",
        Kind::Text(255),
        "Password that devices log in with. Datagrams have none, so they are refused then",
    )],
    parameters: record::PARAMETERS,
    commands: &[
        CommandKind {
            name: CUSTOM,
            title: "A line of text or bytes, as the device understands it; it does not answer",
            fields: &[
                Field::new("text", Kind::Text(COMMAND_BYTES_MAX), "What to send, as text"),
                Field::new("hex", Kind::Text(2 * COMMAND_BYTES_MAX), "What to send, as digits"),
            ],
            example: ("Sends a line", r#"{"text": "reboot"}"#),
        },
        CommandKind {
            name: DRIVER_MESSAGE,
            title: "A message to the driver",
            fields: &[Field::required("text", Kind::Text(COMMAND_BYTES_MAX), "What to say")],
            example: ("Says something", r#"{"text": "Call the office"}"#),
        },
    ],
    intake: |values: &Values| {
        let password = values.text("password").map(str::to_owned);
        Ok(Intake::Bytes(Box::new(move |transport| {
            Box::new(WialonIps { transport, password: password.clone(), device: None, skipped: 0 })
        })))
    },
};

const CUSTOM: &str = "custom";
const DRIVER_MESSAGE: &str = "driver_message";

/// Bytes of a command at most: as much as a text parameter may have (R11.5).
const COMMAND_BYTES_MAX: usize = 1_344;

/// Bytes of a packet at most, also of what a compressed one holds: 5,000 records of a black box.
pub const PACKET_BYTES_MAX: usize = 1 << 20;

/// Records of a black box at most (R11.6).
pub const RECORDS_MAX: usize = 5_000;

/// A compressed packet begins with this byte and two of length.
const COMPRESSED: u8 = 0xff;
const COMPRESSED_HEAD_BYTES: usize = 3;

struct WialonIps {
    transport: Transport,
    password: Option<String>,
    device: Option<Device>,
    /// Bytes that come next and are of a picture.
    skipped: usize,
}

#[derive(Debug, Clone)]
struct Device {
    ident: Ident,
    /// Whether bodies end in a checksum.
    has_checksums: bool,
}

/// The checksum of a body is wrong or missing.
struct BadChecksum;

impl Decoder for WialonIps {
    fn frame(&self, input: &[u8], seen: usize) -> Result<Option<usize>, Error> {
        let length = match input[0] {
            _ if self.skipped > 0 => return Ok(Some(input.len().min(self.skipped))),
            COMPRESSED => match input {
                [_, low, high, ..] => {
                    Some(COMPRESSED_HEAD_BYTES + usize::from(u16::from_le_bytes([*low, *high])))
                }
                _ => None,
            },
            b'#' => {
                let end = input[seen..].iter().position(|byte| *byte == b'\n');
                let length = end.map(|end| seen + end + 1);
                if length.unwrap_or(input.len()) > PACKET_BYTES_MAX {
                    let text = format!("a packet has at most {PACKET_BYTES_MAX} bytes");
                    return Err(Error::violation(text));
                }
                length
            }
            _ => return Err(Error::misaligned("a packet begins with # or is compressed")),
        };
        Ok(length.filter(|length| *length <= input.len()))
    }

    fn packet(&mut self, packet: &[u8]) -> Result<Step, Error> {
        if self.skipped > 0 {
            self.skipped -= packet.len();
            return Ok(Step::default());
        }
        if packet.first() != Some(&COMPRESSED) {
            return self.text(packet);
        }
        let container = packet.get(COMPRESSED_HEAD_BYTES..).unwrap_or_default();
        let inflate = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
        let text = inflate(container, PACKET_BYTES_MAX)
            .map_err(|error| Error::parse(format!("a packet cannot be unpacked: {error}")))?;
        self.text(&text)
    }

    fn command(&self, command: &Command) -> Result<Order, CommandError> {
        if self.transport == Transport::Datagram {
            return Err(CommandError::Datagrams);
        }
        let device = self.device.as_ref().ok_or(CommandError::NotIdentified)?;
        let (mut bytes, is_answered) = if command.name == DRIVER_MESSAGE {
            let mut body = command.line()?;
            if device.has_checksums {
                body.push(b';');
                body.extend(format!("{:04X}", crc16(&body)).bytes());
            }
            ([b"#M#", &body[..]].concat(), true)
        } else {
            (command.text_or_hex()?, false)
        };
        one_line(&bytes)?;
        bytes.extend(b"\r\n");
        Ok(Order { bytes, is_answered })
    }
}

impl WialonIps {
    fn text(&mut self, text: &[u8]) -> Result<Step, Error> {
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut parts = line.splitn(3, |byte| *byte == b'#');
        let (Some(prefix), Some(kind), Some(body)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::parse("a packet is not #TYPE#body"));
        };
        if self.transport == Transport::Datagram {
            let device = self.sender(prefix)?;
            let step = self.dispatch(kind, body, &device)?;
            return Ok(Step { ident: Some(device.ident), ..step });
        }
        if !prefix.is_empty() {
            return Err(Error::misaligned("a packet begins with # or is compressed"));
        }
        if kind == b"L" {
            return self.login(body);
        }
        let device = self.device.clone();
        let device = device.ok_or_else(|| Error::violation("a packet came before the login"))?;
        self.dispatch(kind, body, &device)
    }

    /// Who a datagram is of: `ident`, or `version;ident` (R11.10).
    fn sender(&self, prefix: &[u8]) -> Result<Device, Error> {
        if self.password.is_some() {
            return Err(Error::violation(
                "a datagram has no password, and the channel asks for one",
            ));
        }
        let text = String::from_utf8_lossy(prefix);
        let (ident, has_checksums) = match text.split_once(';') {
            Some((version, ident)) if version.contains('.') => (ident, true),
            Some(_) => return Err(Error::parse("a datagram does not begin with an ident")),
            None => (&*text, false),
        };
        Ok(Device { ident: Ident::new(ident)?, has_checksums })
    }

    /// `ident;password`, or `version;ident;password;checksum` (R11.2).
    fn login(&mut self, body: &[u8]) -> Result<Step, Error> {
        let is_newer = body.split(|byte| *byte == b';').next().is_some_and(|it| it.contains(&b'.'));
        let Ok(checked) = checked(body, b';', is_newer) else {
            return Ok(Step::faulty(
                Error::parse("the checksum of the login is wrong"),
                "#AL#10\r\n",
            ));
        };
        let text = String::from_utf8_lossy(checked);
        let mut fields = text.split(';').skip(usize::from(is_newer));
        let (ident, password) = (fields.next().unwrap_or_default(), fields.next().unwrap_or("NA"));
        if fields.next().is_some() {
            return Ok(Step::faulty(Error::parse("the login has too many fields"), "#AL#0\r\n"));
        }
        if self.password.as_deref().is_some_and(|wanted| wanted != password) {
            return Ok(Step::faulty(Error::violation("the password is wrong"), "#AL#01\r\n"));
        }
        let ident =
            Ident::new(ident).map_err(|error| Error::from(error).with_farewell("#AL#0\r\n"))?;
        if self.device.as_ref().is_some_and(|device| device.ident != ident) {
            return Err(Error::violation("a connection is of one device, and now logs in another"));
        }
        self.device = Some(Device { ident: ident.clone(), has_checksums: is_newer });
        let refusal = b"#AL#0\r\n".to_vec();
        Ok(Step { ident: Some(ident), refusal, ..Step::answering("#AL#1\r\n") })
    }

    fn dispatch(&mut self, kind: &[u8], body: &[u8], device: &Device) -> Result<Step, Error> {
        match kind {
            b"SD" => Ok(data(body, Layout::Short, device)),
            b"D" => Ok(data(body, Layout::Full, device)),
            b"B" => Ok(black_box(body, device)),
            b"P" => Ok(Step::answering("#AP#\r\n")),
            b"M" => Ok(from_driver(body, device)),
            b"AM" => {
                let text = String::from_utf8_lossy(body).into_owned();
                let is_executed = body.first() == Some(&b'1');
                let answer = Answer { command: DRIVER_MESSAGE, is_executed, text };
                Ok(Step { answers: vec![answer], ..Step::default() })
            }
            b"I" => self.picture(body),
            // The announcement of a file; who is told 0 sends none. \[inferred\]
            b"IT" => Ok(Step::faulty(Error::unsupported("files are not taken"), "#AIT#0\r\n")),
            // What follows such a packet may be binary, so nobody knows where the next one begins.
            _ => {
                let kind = String::from_utf8_lossy(kind);
                Err(Error::unsupported(format!("packets of type {kind:?} are not taken")))
            }
        }
    }

    /// A block of a picture: `size;number;...`, and so many bytes behind the line end (R11.7). They
    /// are skipped as they come, and the block is refused. \[inferred: the answer\]
    fn picture(&mut self, body: &[u8]) -> Result<Step, Error> {
        let text = String::from_utf8_lossy(body);
        let mut fields = text.split(';');
        let size = fields.next().and_then(|size| size.parse().ok());
        let number = fields.next().and_then(|number| number.parse::<u32>().ok());
        let (Some(size @ 0..=PACKET_BYTES_MAX), Some(number)) = (size, number) else {
            return Err(Error::unsupported("pictures are not taken, and this one has no size"));
        };
        if self.transport == Transport::Stream {
            self.skipped = size;
        }
        let reply = format!("#AI#{number};0\r\n");
        Ok(Step::faulty(Error::unsupported("pictures are not taken"), reply))
    }
}

/// One record (R11.3, R11.4).
fn data(body: &[u8], layout: Layout, device: &Device) -> Step {
    let (kind, bad_checksum) = match layout {
        Layout::Short => ("ASD", "13"),
        Layout::Full => ("AD", "16"),
    };
    let Ok(body) = checked(body, b';', device.has_checksums) else {
        let fault = Error::parse("the checksum of a packet is wrong");
        return Step::faulty(fault, format!("#{kind}#{bad_checksum}\r\n"));
    };
    match record::read(&characters(body), Some(layout), &device.ident) {
        Ok(message) => Step::telling(vec![message], format!("#{kind}#1\r\n")),
        Err(flaw) => {
            let fault = Error::parse(format!("a packet has {flaw}"));
            Step::faulty(fault, format!("#{kind}#{}\r\n", flaw.code()))
        }
    }
}

/// Many records, each of the one kind or the other (R11.6). The answer counts those that are good:
/// one that is not would be none on the next try, either.
fn black_box(body: &[u8], device: &Device) -> Step {
    let Ok(body) = checked(body, b'|', device.has_checksums) else {
        return Step::faulty(Error::parse("the checksum of a black box is wrong"), "#AB#\r\n");
    };
    let text = characters(body);
    let records = || text.split('|').filter(|record| !record.is_empty());
    if records().take(RECORDS_MAX + 1).count() > RECORDS_MAX {
        let fault = Error::violation(format!("a black box has more than {RECORDS_MAX} records"));
        return Step::faulty(fault, "#AB#0\r\n");
    }
    let mut step = Step::default();
    for (at, text) in records().enumerate() {
        match record::read(text, None, &device.ident) {
            Ok(message) => step.messages.push(message),
            Err(flaw) => {
                let fault = || Error::parse(format!("record {at} of a black box has {flaw}"));
                step.fault.get_or_insert_with(fault);
            }
        }
    }
    step.reply = format!("#AB#{}\r\n", step.messages.len()).into_bytes();
    step
}

/// A text that the driver wrote (R11.7).
fn from_driver(body: &[u8], device: &Device) -> Step {
    let Ok(body) = checked(body, b';', device.has_checksums) else {
        return Step::faulty(Error::parse("the checksum of a message is wrong"), "#AM#01\r\n");
    };
    let mut message = Message::new(device.ident.clone());
    message.parameters.set("driver.message", String::from_utf8_lossy(body));
    Step::telling(vec![message], "#AM#1\r\n")
}

/// The characters of records; what is none becomes one that stands for it. Nearly all have none but
/// good ones, which is found out faster alone.
fn characters(bytes: &[u8]) -> Cow<'_, str> {
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// A body without its checksum, if it has one: the checksum covers all in front of it, with the
/// separator. Devices leave out zeros at its front, so it is read as a number (R11.9).
fn checked(body: &[u8], separator: u8, has_checksum: bool) -> Result<&[u8], BadChecksum> {
    if !has_checksum {
        return Ok(body);
    }
    let end = body.iter().rposition(|byte| *byte == separator).ok_or(BadChecksum)?;
    let digits = str::from_utf8(&body[end + 1..]).map_err(|_| BadChecksum)?;
    let sum = u16::from_str_radix(digits, 16).map_err(|_| BadChecksum)?;
    if sum == crc16(&body[..=end]) { Ok(&body[..end]) } else { Err(BadChecksum) }
}

impl Flaw {
    /// What `#ASD#` and `#AD#` say of it.
    const fn code(self) -> &'static str {
        match self {
            Self::Structure => "-1",
            Self::Time => "0",
            Self::Coordinates => "10",
            Self::Motion => "11",
            Self::Satellites => "12",
            Self::Inputs => "13",
            Self::Analog => "14",
            Self::Parameters => "15",
        }
    }
}
