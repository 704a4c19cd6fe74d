//! The one table of standard parameters: what `GET /gw/message-parameters` lists, and what decides
//! whether a name that a device sends is known (R1.8, R1.10, R1.11).

use serde_json::{Value, json};

/// What a parameter means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its number in lists. It never changes, and is not given again.
    pub id: u16,
    /// Its name: tags with dots between them.
    pub name: &'static str,
    /// What it is, in a few words.
    pub info: &'static str,
    /// The unit of its value, or nothing.
    pub unit: &'static str,
    kind: Kind,
    /// Whether there may be several: `name.1`, `name.2`.
    pub is_numbered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Flag,
    /// A number or text that the hub itself sets; what comes from outside is left out (R10.3).
    HubNumber,
    HubText,
}

const fn row(
    id: u16,
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    info: &'static str,
) -> Parameter {
    Parameter { id, name, info, unit, kind, is_numbered: false }
}

const fn rows(
    id: u16,
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    info: &'static str,
) -> Parameter {
    Parameter { id, name, info, unit, kind, is_numbered: true }
}

use Kind::{Flag, HubNumber, HubText, Number, Text};

/// All of them, in ascending order of their names.
pub const PARAMETERS: [Parameter; 73] = [
    rows(1, "ain", Number, "V", "Analog input"),
    row(2, "alarm.event", Flag, "", "Alarm: somebody asks for help"),
    row(3, "battery.charging.status", Flag, "", "Whether the device's battery is charged"),
    row(4, "battery.current", Number, "A", "Current of the device's battery"),
    row(5, "battery.level", Number, "%", "Charge of the device's battery"),
    row(6, "battery.voltage", Number, "V", "Voltage of the device's battery"),
    row(7, "can.engine.coolant.temperature", Number, "C", "Coolant temperature, by the bus"),
    row(8, "can.engine.rpm", Number, "rpm", "Engine speed, by the bus"),
    row(9, "can.fuel.consumed", Number, "l", "Fuel used so far, by the bus"),
    row(10, "can.fuel.level", Number, "%", "Fuel level, by the bus"),
    row(11, "can.throttle.pedal.level", Number, "%", "Accelerator pedal, by the bus"),
    row(12, "can.vehicle.mileage", Number, "km", "Distance driven so far, by the bus"),
    row(13, "can.vehicle.speed", Number, "km/h", "Speed, by the bus"),
    row(14, "channel.id", HubNumber, "", "Channel that took the message"),
    row(15, "device.id", HubNumber, "", "Device that the message is of"),
    row(16, "device.name", HubText, "", "Name of the device"),
    row(17, "device.type.id", HubNumber, "", "Type of the device"),
    rows(18, "din", Number, "", "Digital inputs as bits; numbered, whether one input is on"),
    rows(19, "dout", Number, "", "Digital outputs as bits; numbered, whether one output is on"),
    row(20, "driver.message", Text, "", "What the driver wrote"),
    row(21, "engine.coolant.temperature", Number, "C", "Coolant temperature"),
    row(22, "engine.ignition.status", Flag, "", "Whether the ignition is on"),
    row(23, "engine.load.level", Number, "%", "Load of the engine"),
    row(24, "engine.motorhours", Number, "h", "Time the engine has run so far"),
    row(25, "engine.rpm", Number, "rpm", "Engine speed"),
    row(26, "event.enum", Number, "", "What made the device send: its own number for it"),
    row(27, "event.priority.enum", Number, "", "How urgent that is: its own number for it"),
    row(28, "external.powersource.status", Flag, "", "Whether there is power from outside"),
    row(29, "external.powersource.voltage", Number, "V", "Voltage of the power from outside"),
    row(30, "fuel.consumption", Number, "l/h", "Fuel used in a time"),
    row(31, "fuel.level", Number, "%", "Fuel level"),
    row(32, "fuel.volume", Number, "l", "Fuel in the tank"),
    row(33, "gnss.state.enum", Number, "", "State of the receiver: the device's own number for it"),
    row(34, "gnss.status", Flag, "", "Whether the receiver of positions is on"),
    rows(35, "gsm.cellid", Number, "", "Cell of the mobile network"),
    rows(36, "gsm.lac", Number, "", "Location area of the mobile network"),
    rows(37, "gsm.mcc", Number, "", "Country of the mobile network"),
    rows(38, "gsm.mnc", Number, "", "Mobile network within its country"),
    row(39, "gsm.operator.code", Text, "", "Country and network in one"),
    rows(40, "gsm.signal.dbm", Number, "dBm", "Signal of the mobile network"),
    row(41, "gsm.signal.level", Number, "%", "Signal of the mobile network"),
    row(42, "humidity", Number, "%", "Relative humidity"),
    row(43, "ibutton.code", Text, "", "Key that was shown to the device, hexadecimal"),
    row(44, "ident", HubText, "", "Name that the device gives itself"),
    row(45, "message.type", Text, "", "Kind of message, in the words of the protocol"),
    row(46, "movement.status", Flag, "", "Whether it moves"),
    row(47, "peer", HubText, "", "Address and port of the sender"),
    row(48, "position.accuracy", Number, "m", "Radius that the position is good for"),
    row(49, "position.altitude", Number, "m", "Height above the sea"),
    row(50, "position.direction", Number, "deg", "Course, clockwise from north"),
    row(51, "position.hdop", Number, "", "Horizontal dilution of precision"),
    row(52, "position.latitude", Number, "deg", "Latitude, north of the equator"),
    row(53, "position.longitude", Number, "deg", "Longitude, east of Greenwich"),
    row(54, "position.pdop", Number, "", "Dilution of precision"),
    row(55, "position.satellites", Number, "", "Satellites that the position is from"),
    row(56, "position.speed", Number, "km/h", "Speed over ground"),
    row(57, "position.valid", Flag, "", "Whether the position is of this moment"),
    row(58, "position.vdop", Number, "", "Vertical dilution of precision"),
    row(59, "protocol.id", HubNumber, "", "Protocol of the channel"),
    row(60, "segment.vehicle.mileage", Number, "km", "Distance driven on this trip"),
    row(61, "server.timestamp", HubNumber, "s", "When the message came in, UNIX time"),
    rows(62, "temperature", Number, "C", "Temperature"),
    row(63, "timestamp", HubNumber, "s", "When it was so, UNIX time by the device's clock"),
    row(64, "vehicle.mileage", Number, "km", "Distance driven so far"),
    row(65, "vehicle.registration.number", Text, "", "Number on the plate"),
    row(66, "vehicle.vin", Text, "", "Vehicle identification number"),
    row(67, "vendor.code", Text, "", "Maker of the device, in the words of the protocol"),
    row(68, "wheel.speed", Number, "km/h", "Speed by the wheels"),
    row(69, "x.acceleration", Number, "g", "Acceleration forwards"),
    row(70, "y.acceleration", Number, "g", "Acceleration sideways"),
    row(71, "z.acceleration", Number, "g", "Acceleration upwards"),
    row(72, "zone.id", Number, "", "Zone that the device is in: its own number for it"),
    row(73, "zone.name", Text, "", "Name of that zone"),
];

/// Families of which there are more members than anyone lists: names that begin so are known, too
/// (R1.10).
const FAMILIES: [Parameter; 3] = [
    row(74, "can.*", Number, "", "What the bus of the vehicle says"),
    row(75, "engine.*", Number, "", "What the engine says"),
    row(76, "fuel.*", Number, "", "What is known of fuel"),
];

/// The parameter of this name. `ain.2` is one of `ain`, and `can.axle.weight`, which is not listed,
/// is one of the family `can.*`.
pub fn find(name: &str) -> Option<Parameter> {
    let listed = |name: &str| {
        let at = PARAMETERS.binary_search_by(|row| row.name.cmp(name)).ok()?;
        Some(PARAMETERS[at])
    };
    if let Some(found) = listed(name) {
        return Some(found);
    }
    if let Some((stem, number)) = name.rsplit_once('.')
        && (1..=4).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && let Some(found) = listed(stem).filter(|row| row.is_numbered)
    {
        return Some(found);
    }
    let is_name = |name: &str| {
        name.len() <= crate::Parameters::NAME_BYTES_MAX
            && name.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-'))
    };
    let family = FAMILIES.iter().find(|family| name.starts_with(family.name.trim_end_matches('*')));
    family.filter(|_| is_name(name)).copied()
}

impl Parameter {
    /// The type of its value: `number`, `string` or `boolean`.
    pub const fn type_name(&self) -> &'static str {
        match self.kind {
            Number | HubNumber => "number",
            Text | HubText => "string",
            Flag => "boolean",
        }
    }

    /// Whether it is either so or not.
    pub(crate) const fn is_flag(&self) -> bool {
        matches!(self.kind, Flag)
    }

    /// Whether only the hub says it.
    pub(crate) const fn is_of_the_hub(&self) -> bool {
        matches!(self.kind, HubNumber | HubText)
    }

    /// As REST lists it (R1.11).
    pub fn describe(&self) -> Value {
        let Self { id, name, info, unit, .. } = self;
        json!({"id": id, "name": name, "info": info, "unit": unit, "type": self.type_name()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_numbers_are_given_once() {
        assert!(PARAMETERS.is_sorted_by(|a, b| a.name < b.name));
        let mut ids: Vec<u16> = PARAMETERS.iter().chain(&FAMILIES).map(|row| row.id).collect();
        ids.sort_unstable();
        let count = PARAMETERS.len() + FAMILIES.len();
        assert_eq!(ids, (1..=count as u16).collect::<Vec<_>>());
    }

    /// R1.10.
    #[test]
    fn the_table_has_what_the_hub_promises() {
        for (name, type_name, unit) in [
            ("position.latitude", "number", "deg"),
            ("position.altitude", "number", "m"),
            ("position.speed", "number", "km/h"),
            ("position.valid", "boolean", ""),
            ("din", "number", ""),
            ("ain.7", "number", "V"),
            ("battery.level", "number", "%"),
            ("external.powersource.voltage", "number", "V"),
            ("engine.ignition.status", "boolean", ""),
            ("vehicle.mileage", "number", "km"),
            ("gsm.operator.code", "string", ""),
            ("gnss.state.enum", "number", ""),
            ("ibutton.code", "string", ""),
            ("message.type", "string", ""),
        ] {
            let found = find(name).unwrap();
            assert_eq!((found.type_name(), found.unit), (type_name, unit), "{name}");
        }
        assert_eq!(find("can.axle.weight").unwrap().name, "can.*");
        assert_eq!(find("can./"), None);
        assert!(find("position.speed.1").is_none() && find("hw").is_none());
    }

    /// R1.11.
    #[test]
    fn a_parameter_is_listed_with_unit_and_type() {
        let want = json!({"id": 1, "name": "ain", "info": "Analog input", "unit": "V",
            "type": "number"});
        assert_eq!(find("ain").unwrap().describe(), want);
    }
}
