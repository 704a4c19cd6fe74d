//! A record of Wialon IPS: fields with semicolons between them (R11.3, R11.4, R11.8, R11.12).

use std::fmt;

use jiff::civil;
use serde_json::Value;

use crate::message::{Ident, Message, Parameters, Timestamp};
use crate::protocol::position;

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

impl Layout {
    /// The layout of a record that does not say it.
    pub(super) fn of(text: &str) -> Self {
        let fields = text.split(';').take(SHORT_FIELDS + 1).count();
        if fields > SHORT_FIELDS { Self::Full } else { Self::Short }
    }
}

pub(super) fn read(text: &str, layout: Layout, ident: &Ident) -> Result<Message, Flaw> {
    let count = if layout == Layout::Short { SHORT_FIELDS } else { FULL_FIELDS };
    // Texts of parameters may have semicolons; nothing before them can.
    let fields: Vec<&str> = text.splitn(count, ';').collect();
    let [date, time, lat, north, lon, east, speed, course, height, sats, ref more @ ..] =
        fields[..]
    else {
        return Err(Flaw::Structure);
    };
    if fields.len() != count || layout == Layout::Short && sats.contains(';') {
        return Err(Flaw::Structure);
    }
    let mut message = Message::new(ident.clone());
    message.timestamp = moment(date, time)?;
    let parameters = &mut message.parameters;
    if is_there(lat) || is_there(lon) {
        let latitude = degrees(lat, north, "N", "S").ok_or(Flaw::Coordinates)?;
        let longitude = degrees(lon, east, "E", "W").ok_or(Flaw::Coordinates)?;
        if !position::set(parameters, latitude, longitude) {
            return Err(Flaw::Coordinates);
        }
    }
    for (name, text, flaw) in [
        ("position.speed", speed, Flaw::Motion),
        ("position.direction", course, Flaw::Motion),
        ("position.altitude", height, Flaw::Motion),
        ("position.satellites", sats, Flaw::Satellites),
    ] {
        parameters.set(name, number(text, flaw)?);
    }
    if let [hdop, inputs, outputs, adc, key, texts] = *more {
        parameters.set("position.hdop", number(hdop, Flaw::Satellites)?);
        parameters.set("din", bits(inputs)?);
        parameters.set("dout", bits(outputs)?);
        analog(parameters, adc)?;
        if is_there(key) {
            parameters.set("ibutton.code", key);
        }
        if is_there(texts) {
            for text in texts.split(',') {
                parameter(parameters, text).ok_or(Flaw::Parameters)?;
            }
        }
    }
    Ok(message)
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
    let number = if text.contains(',') { text.replace(',', ".").parse() } else { text.parse() };
    number.ok().filter(|number: &f64| number.is_finite())
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
    for (at, text) in text.split(',').enumerate() {
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
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let ([day, month, year], [hour, minute, second]) = (pairs(date)?, pairs(time)?);
    if !(1..=9).contains(&fraction.len()) || !fraction.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse().ok()?;
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

/// Degrees and minutes in one, and the hemisphere: `5544.6025` and `N` (R11.8).
fn degrees(text: &str, hemisphere: &str, positive: &str, negative: &str) -> Option<f64> {
    let point = text.find(['.', ',']).unwrap_or(text.len());
    let (degrees, minutes) = text.split_at_checked(point.checked_sub(2)?)?;
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let minutes = minutes.replace(',', ".");
    if !is_digits(degrees) || !is_digits(&minutes) {
        return None;
    }
    let degrees: f64 = if degrees.is_empty() { 0.0 } else { degrees.parse().ok()? };
    let minutes: f64 = minutes.parse().ok().filter(|minutes| *minutes < 60.0)?;
    let value = degrees + minutes / 60.0;
    match hemisphere {
        _ if hemisphere == positive => Some(value),
        _ if hemisphere == negative => Some(-value),
        _ => None,
    }
}

/// `name:type:value`; the type is 1 for whole numbers, 2 for others and 3 for texts (R11.5).
fn parameter(parameters: &mut Parameters, text: &str) -> Option<()> {
    let mut parts = text.splitn(3, ':');
    let (name, kind, text) = (parts.next()?, parts.next()?, parts.next()?);
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
    let (stem, number) = match name.find(|c: char| c.is_ascii_digit()) {
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
