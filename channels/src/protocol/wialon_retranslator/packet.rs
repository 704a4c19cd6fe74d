//! A packet on the wire (R13.1 to R13.6). Numbers have their most significant byte first, but for
//! the size of the packet and for doubles.

use std::borrow::Cow;

use crate::protocol::Error;
use crate::protocol::reader::Reader;

/// What every block begins with.
const BLOCK: u16 = 0x0bbb;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const INT: u8 = 3;
const DOUBLE: u8 = 4;
const LONG: u8 = 5;
const IMAGE: u8 = 6;

/// Flags of a packet: what it holds.
pub(super) mod flag {
    pub(in super::super) const POSITION: u32 = 0x01;
    pub(in super::super) const INPUTS: u32 = 0x02;
    pub(in super::super) const OUTPUTS: u32 = 0x04;
    pub(in super::super) const ALARM: u32 = 0x10;
    pub(in super::super) const DRIVER: u32 = 0x20;
}

/// One message of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet<'a> {
    /// Name of the device, without a zero.
    pub uid: Cow<'a, str>,
    /// UNIX time in seconds. The protocol has a signed number; one that is not lasts until 2106.
    pub time: u32,
    /// What it holds, as bits.
    pub flags: u32,
    /// What it says.
    pub blocks: Vec<Block<'a>>,
}

/// A parameter of a packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Block<'a> {
    /// Whether it is for the platform alone, and not shown to users.
    pub is_hidden: bool,
    /// Its name, without a zero.
    pub name: Cow<'a, str>,
    /// Its value.
    pub value: BlockValue<'a>,
}

/// The value of a block.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum BlockValue<'a> {
    /// Type 1, without a zero.
    Text(Cow<'a, str>),
    /// Type 2.
    Binary(Cow<'a, [u8]>),
    /// Type 3.
    Int(i32),
    /// Type 4.
    Double(f64),
    /// Type 5. Some send it as type 3 of eight bytes (R13.9), and that is read as this.
    Long(i64),
    /// Type 6: a picture as JPEG.
    Image(Cow<'a, [u8]>),
    /// A type that is not known, and its bytes.
    Other(u8, Cow<'a, [u8]>),
}

impl<'a> Packet<'a> {
    /// Reads a packet from behind its size.
    ///
    /// # Errors
    ///
    /// If it ends too early, or a block is none.
    pub fn decode(body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let uid = String::from_utf8_lossy(reader.until_zero("ident")?);
        let (time, flags) = (reader.u32("time")?, reader.u32("flags")?);
        let mut blocks = Vec::new();
        while !reader.is_empty() {
            let mark = reader.u16("mark of a block")?;
            if mark != BLOCK {
                return Err(Error::parse(format!("a block begins with 0x0bbb, not {mark:#06x}")));
            }
            let size = reader.u32("size of a block")? as usize;
            blocks.push(Block::decode(Reader::new(reader.bytes(size, "block")?))?);
        }
        Ok(Self { uid, time, flags, blocks })
    }

    /// Appends the packet with its size in front. A zero within a text would end it, so it is left
    /// out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; 4]);
        append_text(&self.uid, out);
        out.extend(self.time.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        for block in &self.blocks {
            block.encode(out);
        }
        let size = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&size.to_le_bytes());
    }
}

impl<'a> Block<'a> {
    fn decode(mut reader: Reader<'a>) -> Result<Self, Error> {
        let (is_hidden, kind) = (reader.u8("hidden")? != 0, reader.u8("type")?);
        let name = String::from_utf8_lossy(reader.until_zero("name of a block")?);
        let value = reader.rest();
        let wrong =
            || Error::parse(format!("`{name}` has {} bytes, wrong for {kind}", value.len()));
        let value = match (kind, value.len()) {
            (TEXT, _) => {
                // Some send no zero, some count it (R13.6).
                let text = value.strip_suffix(&[0]).unwrap_or(value);
                BlockValue::Text(String::from_utf8_lossy(text))
            }
            (BINARY, _) => BlockValue::Binary(value.into()),
            (INT, 4) => BlockValue::Int(reader.u32("value")? as i32),
            (LONG | INT, 8) => BlockValue::Long(reader.u64("value")? as i64),
            (DOUBLE, 8) => BlockValue::Double(reader.f64_little_endian("value")?),
            (IMAGE, _) => BlockValue::Image(value.into()),
            (INT | DOUBLE | LONG, _) => return Err(wrong()),
            _ => BlockValue::Other(kind, value.into()),
        };
        Ok(Self { is_hidden, name, value })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(BLOCK.to_be_bytes());
        let start = out.len();
        out.extend([0; 4]);
        out.push(u8::from(self.is_hidden));
        out.push(self.value.kind());
        append_text(&self.name, out);
        match &self.value {
            BlockValue::Text(text) => append_text(text, out),
            BlockValue::Int(int) => out.extend(int.to_be_bytes()),
            BlockValue::Double(double) => out.extend(double.to_le_bytes()),
            BlockValue::Long(long) => out.extend(long.to_be_bytes()),
            BlockValue::Binary(bytes) | BlockValue::Image(bytes) | BlockValue::Other(_, bytes) => {
                out.extend_from_slice(bytes)
            }
        }
        let size = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&size.to_be_bytes());
    }
}

impl BlockValue<'_> {
    const fn kind(&self) -> u8 {
        match self {
            Self::Text(_) => TEXT,
            Self::Binary(_) => BINARY,
            Self::Int(_) => INT,
            Self::Double(_) => DOUBLE,
            Self::Long(_) => LONG,
            Self::Image(_) => IMAGE,
            Self::Other(kind, _) => *kind,
        }
    }
}

fn append_text(text: &str, out: &mut Vec<u8>) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}
