//! A record of Wialon IPS: fields with semicolons between them (R11.3, R11.4, R11.8, R11.12).

use std::fmt;

use jiff::civil;
use serde_json::Value;

use crate::message::{Ident, Message, Parameters, Timestamp};
use crate::protocol::position::is_place;

pub(super) const PARAMETERS: &[&str] = &[
    "position.latitude",
    "position.longitude",
    "position.speed",
    "position.direction",
    "position.altitude",
    "position.satellites",
    "position.hdop",
    "din",
    "dout",
    "ain",
    "ibutton.code",
    "driver.message",
    "alarm.event",
    "gsm.mcc",
    "gsm.mnc",
    "gsm.lac",
    "gsm.cellid",
];

/// Which fields a record has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Time, place and motion: 10.
    Short,
    /// These, and six more.
    Full,
}

/// What is wrong with a record: the first thing found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    Structure,
    Time,
    Coordinates,
    Motion,
    Satellites,
    Inputs,
    Analog,
    Parameters,
}

const SHORT_FIELDS: usize = 10;
const FULL_FIELDS: usize = 16;

/// Reads a record; its number of fields says which layout it has where that is not known.
pub(super) fn read(text: &str, layout: Option<Layout>, ident: &Ident) -> Result<Message, Flaw> {
    // Texts of parameters may have semicolons; nothing before them can.
    let (mut fields, mut count, mut rest) = ([""; FULL_FIELDS], 1, text);
    while count < FULL_FIELDS
        && let Some((field, more)) = cut(rest, b';')
    {
        fields[count - 1] = field;
        (count, rest) = (count + 1, more);
    }
    fields[count - 1] = rest;
    let is_full = layout.map_or(count > SHORT_FIELDS, |it| it == Layout::Full);
    if count != if is_full { FULL_FIELDS } else { SHORT_FIELDS } {
        return Err(Flaw::Structure);
    }
    let [date, time, lat, north, lon, east, speed, course, height, sats, more @ ..] = fields;
    let [hdop, inputs, outputs, adc, key, texts] = more;
    let mut message = Message::new(ident.clone());
    message.timestamp = moment(date, time)?;
    let place = place([lat, north], [lon, east])?;
    let [speed, course, height] = [speed, course, height].map(|it| number(it, Flaw::Motion));
    let (speed, course, height) = (speed?, course?, height?);
    let (sats, hdop) = (number(sats, Flaw::Satellites)?, number(hdop, Flaw::Satellites)?);
    let (inputs, outputs) = (bits(inputs)?, bits(outputs)?);
    // In the order of their names, so that none has to make room for another.
    let parameters = &mut message.parameters;
    analog(parameters, adc)?;
    parameters.set("din", inputs);
    parameters.set("dout", outputs);
    if is_there(key) {
        parameters.set("ibutton.code", key);
    }
    parameters.set("position.altitude", height);
    parameters.set("position.direction", course);
    parameters.set("position.hdop", hdop);
    if let Some((latitude, longitude)) = place {
        parameters.set("position.latitude", latitude);
        parameters.set("position.longitude", longitude);
    }
    parameters.set("position.satellites", sats);
    parameters.set("position.speed", speed);
    if is_there(texts) {
        for text in split(texts, b',') {
            parameter(parameters, text).ok_or(Flaw::Parameters)?;
        }
    }
    Ok(message)
}

/// A text up to a separator, which is ASCII, and behind it. Fields are so short that a search as
/// `str` has it costs more than to look at each byte.
fn cut(text: &str, separator: u8) -> Option<(&str, &str)> {
    let end = text.bytes().position(|byte| byte == separator)?;
    Some((&text[..end], &text[end + 1..]))
}

/// What stands between separators.
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (piece, more) = cut(text, separator).unzip();
        rest = more;
        Some(piece.unwrap_or(text))
    })
}

/// `NA` is what a device has not got; some send nothing instead.
fn is_there(text: &str) -> bool {
    !matches!(text, "" | "NA")
}

/// A number; some devices write a comma in it (R11.8).
fn number(text: &str, flaw: Flaw) -> Result<Option<f64>, Flaw> {
    if !is_there(text) {
        return Ok(None);
    }
    decimal(text).map(Some).ok_or(flaw)
}

fn decimal(text: &str) -> Option<f64> {
    let number = text.parse().ok().or_else(|| text.replace(',', ".").parse().ok());
    number.filter(|number: &f64| number.is_finite())
}

fn bits(text: &str) -> Result<Option<u32>, Flaw> {
    if !is_there(text) {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Flaw::Inputs)
}

/// Volts, in the order of the inputs; there may be none.
fn analog(parameters: &mut Parameters, text: &str) -> Result<(), Flaw> {
    if !is_there(text) {
        return Ok(());
    }
    for (at, text) in split(text, b',').enumerate() {
        if is_there(text) {
            let volts = decimal(text).ok_or(Flaw::Analog)?;
            parameters.set_numbered("ain", at + 1, volts).map_err(|_| Flaw::Analog)?;
        }
    }
    Ok(())
}

/// `DDMMYY` and `HHMMSS`, from version 2.1 on with a fraction; neither if the device has no clock.
fn moment(date: &str, time: &str) -> Result<Option<Timestamp>, Flaw> {
    if !is_there(date) && !is_there(time) {
        return Ok(None);
    }
    civil_moment(date, time).and_then(Timestamp::from_civil).map(Some).ok_or(Flaw::Time)
}

fn civil_moment(date: &str, time: &str) -> Option<civil::DateTime> {
    let (time, fraction) = cut(time, b'.').unwrap_or((time, "0"));
    let ([day, month, year], [hour, minute, second]) = (pairs(date)?, pairs(time)?);
    if !(1..=9).contains(&fraction.len()) || !fraction.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let nanos = fraction.parse::<i32>().ok()? * 10_i32.pow(9 - fraction.len() as u32);
    civil::DateTime::new(2_000 + i16::from(year), month, day, hour, minute, second, nanos).ok()
}

/// Three numbers of two digits each.
fn pairs(text: &str) -> Option<[i8; 3]> {
    if text.len() != 6 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let pair = |at: usize| text[at..at + 2].parse().ok();
    Some([pair(0)?, pair(2)?, pair(4)?])
}

/// Latitude and longitude, if the device knows where it is.
fn place(latitude: [&str; 2], longitude: [&str; 2]) -> Result<Option<(f64, f64)>, Flaw> {
    if !is_there(latitude[0]) && !is_there(longitude[0]) {
        return Ok(None);
    }
    let place = degrees(latitude, ["N", "S"]).zip(degrees(longitude, ["E", "W"]));
    place.filter(|it| is_place(it.0, it.1)).map(Some).ok_or(Flaw::Coordinates)
}

/// Degrees and minutes in one, and the hemisphere: `5544.6025` and `N` (R11.8).
fn degrees([text, hemisphere]: [&str; 2], [positive, negative]: [&str; 2]) -> Option<f64> {
    let is_point = |byte: u8| matches!(byte, b'.' | b',');
    if !text.bytes().all(|byte| byte.is_ascii_digit() || is_point(byte)) {
        return None;
    }
    let point = text.bytes().position(is_point).unwrap_or(text.len());
    let (degrees, minutes) = text.split_at(point.checked_sub(2)?);
    let degrees: f64 = if degrees.is_empty() { 0.0 } else { degrees.parse().ok()? };
    let minutes = decimal(minutes).filter(|minutes| *minutes < 60.0)?;
    let value = degrees + minutes / 60.0;
    match hemisphere {
        _ if hemisphere == positive => Some(value),
        _ if hemisphere == negative => Some(-value),
        _ => None,
    }
}

/// `name:type:value`; the type is 1 for whole numbers, 2 for others and 3 for texts (R11.5).
fn parameter(parameters: &mut Parameters, text: &str) -> Option<()> {
    let (name, rest) = cut(text, b':')?;
    let (kind, text) = cut(rest, b':')?;
    let value = match kind {
        "1" => text.parse::<i64>().map(Value::from).ok().or_else(|| decimal(text).map(Value::from)),
        "2" => decimal(text).map(Value::from),
        "3" => Some(Value::from(text)),
        _ => None,
    }?;
    if name.is_empty() {
        return None;
    }
    match name {
        "SOS" => parameters.set("alarm.event", value.as_f64().is_some_and(|alarm| alarm != 0.0)),
        "text" => parameters.set("driver.message", text),
        _ => match cell(name) {
            Some((name, None)) => parameters.set(name, value),
            Some((name, Some(number))) => parameters.set_numbered(name, number, value).ok()?,
            None => parameters.set_other(name, value).ok()?,
        },
    }
    Some(())
}

/// What is said of cells of the mobile network: `mcc` of the one it is in, `mcc2` of another.
fn cell(name: &str) -> Option<(&'static str, Option<usize>)> {
    let (stem, number) = match name.bytes().position(|byte| byte.is_ascii_digit()) {
        Some(at) => (&name[..at], Some(name[at..].parse().ok().filter(|it| *it < 1_000)?)),
        None => (name, None),
    };
    let known = match stem {
        "mcc" => "gsm.mcc",
        "mnc" => "gsm.mnc",
        "lac" => "gsm.lac",
        "cell_id" => "gsm.cellid",
        _ => return None,
    };
    Some((known, number))
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Structure => "not the fields of its type",
            Self::Time => "a date or a time that is none",
            Self::Coordinates => "a latitude or a longitude that is none",
            Self::Motion => "a speed, a course or a height that is no number",
            Self::Satellites => "a number of satellites or an hdop that is none",
            Self::Inputs => "inputs or outputs that are no bits",
            Self::Analog => "an analog input that is no number",
            Self::Parameters => "a parameter that is not name:type:value, or too many",
        })
    }
}
