//! `osmand`: what OsmAnd and the Traccar Client send, one position a request (R10.8 to R10.10).
//!
//! Parameters are in the query, in a form, or in JSON.

use serde_json::Value;

use crate::message::{Ident, Message, Parameters, Timestamp};
use crate::protocol::fields::{Field, FieldError, Kind, Values};
use crate::protocol::objects::timestamp;
use crate::protocol::position::{self, converted};
use crate::protocol::{Error, Intake, Protocol, Request, Requests, Step};

/// The row of this protocol.
pub static PROTOCOL: Protocol = Protocol {
    id: 3,
    name: "osmand",
    title: "OsmAnd",
    description: "Positions in the query, in a form or as JSON, as OsmAnd and the Traccar Client \
                  send them",
    transports: &["http"],
    fields: &[Field::new(
        "speed_unit",
        Kind::Choice(&["knots", "km/h", "m/s"]),
        "Unit of `speed` in a query or a form",
    )],
    parameters: &[
        "position.latitude",
        "position.longitude",
        "position.altitude",
        "position.speed",
        "position.direction",
        "position.accuracy",
        "position.hdop",
        "position.valid",
        "battery.level",
        "battery.charging.status",
        "movement.status",
        "vehicle.mileage",
        "gsm.mcc",
        "gsm.mnc",
        "gsm.lac",
        "gsm.cellid",
        "gsm.signal.dbm",
    ],
    commands: &[],
    intake,
};

/// Kilometres an hour in a knot.
const KNOT: f64 = 1.852;
/// Kilometres an hour in a metre a second.
const METRE_A_SECOND: f64 = 3.6;

/// Numbers from here on are times in milliseconds.
const SECONDS_END: f64 = 2_147_483_647.0;

fn intake(values: &Values) -> Result<Intake, FieldError> {
    let speed_factor = match values.text("speed_unit") {
        Some("km/h") => 1.0,
        Some("m/s") => METRE_A_SECOND,
        _ => KNOT,
    };
    Ok(Intake::Requests(Box::new(OsmAnd { speed_factor })))
}

struct OsmAnd {
    /// What makes km/h of a speed.
    speed_factor: f64,
}

impl Requests for OsmAnd {
    fn request(&self, request: &Request<'_>) -> Result<Step, Error> {
        if !matches!(request.method, "GET" | "POST") {
            return Err(Error::violation("positions are sent with GET or POST"));
        }
        let kind = request.header("content-type").unwrap_or_default().trim();
        let is_json = kind.get(..16).is_some_and(|it| it.eq_ignore_ascii_case("application/json"))
            || request.body.first() == Some(&b'{');
        let message = if is_json { read_json(request.body)? } else { self.read_form(request)? };
        Ok(Step::telling(vec![message], ""))
    }
}

/// What a form has said so far.
#[derive(Default)]
struct Form {
    ident: Option<Ident>,
    timestamp: Option<Timestamp>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    cells: usize,
    networks: usize,
    parameters: Parameters,
}

impl OsmAnd {
    fn read_form(&self, request: &Request<'_>) -> Result<Message, Error> {
        let mut form = Form::default();
        for text in [request.query.as_bytes(), request.body] {
            for (name, value) in form_urlencoded::parse(text) {
                form.take(&name, &value, self.speed_factor)?;
            }
        }
        form.finish()
    }
}

impl Form {
    fn take(&mut self, name: &str, value: &str, speed_factor: f64) -> Result<(), Error> {
        let number = || number(name, value);
        let parameters = &mut self.parameters;
        match name {
            "id" | "deviceid" => self.ident = Some(Ident::new(value)?),
            "timestamp" => self.timestamp = Some(moment(value)?),
            "lat" => self.latitude = Some(number()?),
            "lon" => self.longitude = Some(number()?),
            "location" => {
                let (latitude, longitude) = value
                    .split_once(',')
                    .ok_or_else(|| Error::parse("`location` is not latitude,longitude"))?;
                self.latitude = Some(self::number(name, latitude)?);
                self.longitude = Some(self::number(name, longitude)?);
            }
            "speed" => parameters.set("position.speed", converted(number()?, speed_factor)),
            "bearing" | "heading" => parameters.set("position.direction", number()?),
            "altitude" => parameters.set("position.altitude", number()?),
            "accuracy" => parameters.set("position.accuracy", number()?),
            "hdop" => parameters.set("position.hdop", number()?),
            "batt" => parameters.set("battery.level", number()?),
            "valid" => parameters.set("position.valid", matches!(value, "true" | "1")),
            "cell" => self.cell(value)?,
            "wifi" => self.network(value)?,
            "driverUniqueId" => parameters.set_other(name, value)?,
            _ => parameters.set_other(name, typed(value))?,
        }
        Ok(())
    }

    /// `mcc,mnc,lac,cid[,rssi]`, once for each cell in sight: the first is the one it is in.
    fn cell(&mut self, value: &str) -> Result<(), Error> {
        const NAMES: [&str; 5] = ["gsm.mcc", "gsm.mnc", "gsm.lac", "gsm.cellid", "gsm.signal.dbm"];
        self.cells += 1;
        for (name, part) in NAMES.into_iter().zip(value.split(',')) {
            let part: i64 =
                part.trim().parse().map_err(|_| Error::parse("`cell` is not mcc,mnc,lac,cid"))?;
            match self.cells {
                1 => self.parameters.set(name, part),
                number => self.parameters.set_numbered(name, number, part)?,
            }
        }
        Ok(())
    }

    /// `mac,rssi`, once for each network in sight.
    fn network(&mut self, value: &str) -> Result<(), Error> {
        self.networks += 1;
        let (mac, rssi) = value.split_once(',').unwrap_or((value, ""));
        self.parameters.set_other(&format!("wifi.{}.mac", self.networks), mac)?;
        if let Ok(rssi) = rssi.trim().parse::<i64>() {
            self.parameters.set_other(&format!("wifi.{}.rssi", self.networks), rssi)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Message, Error> {
        let ident = self.ident.ok_or_else(|| Error::parse("there is no `id`"))?;
        let mut parameters = self.parameters;
        if let (Some(latitude), Some(longitude)) = (self.latitude, self.longitude) {
            place(&mut parameters, latitude, longitude)?;
        }
        Ok(Message { ident, timestamp: self.timestamp, parameters })
    }
}

fn place(parameters: &mut Parameters, latitude: f64, longitude: f64) -> Result<(), Error> {
    let is_place = position::set(parameters, latitude, longitude);
    is_place.then_some(()).ok_or_else(|| {
        Error::parse(format!("{latitude} and {longitude} are no latitude and longitude"))
    })
}

fn number(name: &str, text: &str) -> Result<f64, Error> {
    let number = text.trim().parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| Error::parse(format!("`{name}` is no number")))
}

/// UNIX time in seconds or milliseconds, or ISO 8601.
fn moment(text: &str) -> Result<Timestamp, Error> {
    let found = match text.parse::<f64>() {
        Ok(seconds) if seconds < SECONDS_END => Timestamp::from_seconds(seconds),
        Ok(millis) => Timestamp::from_seconds(millis / 1e3),
        Err(_) => Timestamp::parse(text),
    };
    found.ok_or_else(|| Error::parse("`timestamp` is neither UNIX time nor ISO 8601"))
}

/// A value that came as text: a number or a boolean only if it is written as one would be, so that
/// no zeros at the front and no digits at the end get lost.
fn typed(text: &str) -> Value {
    match text {
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    if let Ok(whole) = text.parse::<i64>()
        && whole.to_string() == text
    {
        return Value::from(whole);
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits.len() <= 16
        && digits.split_once('.').is_some_and(|(whole, fraction)| {
            let is_digits =
                |it: &str| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit());
            is_digits(whole) && is_digits(fraction) && (whole == "0" || !whole.starts_with('0'))
        });
    match text.parse::<f64>() {
        Ok(number) if is_plain => Value::from(number),
        _ => Value::from(text),
    }
}

/// The form of the Traccar Client since its version 9 (R10.10).
fn read_json(body: &[u8]) -> Result<Message, Error> {
    if super::objects::room(body) > JSON_ROOM_BYTES_MAX {
        return Err(Error::violation("the JSON has too many values for one position"));
    }
    let json: Value = serde_json::from_slice(body)
        .map_err(|error| Error::parse(format!("the JSON cannot be read: {error}")))?;
    let ident = match &json["device_id"] {
        Value::String(text) => Ident::new(text)?,
        Value::Number(number) if !number.is_f64() => Ident::new(&number.to_string())?,
        _ => return Err(Error::parse("there is no `device_id`")),
    };
    let mut message = Message::new(ident);
    let (location, parameters) = (&json["location"], &mut message.parameters);
    if !location["timestamp"].is_null() {
        message.timestamp = Some(timestamp(&location["timestamp"])?);
    }
    let coords = &location["coords"];
    if let (Some(latitude), Some(longitude)) =
        (coords["latitude"].as_f64(), coords["longitude"].as_f64())
    {
        place(parameters, latitude, longitude)?;
    }
    // What is not known is negative; only heights may be.
    for (name, value, factor) in [
        ("position.accuracy", &coords["accuracy"], 1.0),
        ("position.speed", &coords["speed"], METRE_A_SECOND),
        ("position.direction", &coords["heading"], 1.0),
        ("vehicle.mileage", &location["odometer"], 1e-3),
        ("battery.level", &location["battery"]["level"], 100.0),
    ] {
        if let Some(value) = value.as_f64().filter(|value| *value >= 0.0) {
            parameters.set(name, converted(value, factor));
        }
    }
    parameters.set("position.altitude", coords["altitude"].as_f64());
    parameters.set("movement.status", location["is_moving"].as_bool());
    parameters.set("battery.charging.status", location["battery"]["is_charging"].as_bool());
    for (name, value) in
        [("event", &location["event"]), ("activity.type", &location["activity"]["type"])]
    {
        parameters.set_other(name, value.clone())?;
    }
    for (name, value) in location["extras"].as_object().into_iter().flatten() {
        parameters.set_other(name, value.clone())?;
    }
    Ok(message)
}

/// Bytes of memory that the values of one position may take.
const JSON_ROOM_BYTES_MAX: usize = 1 << 20;
