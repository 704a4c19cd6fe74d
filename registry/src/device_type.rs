//! The types of devices: one for each protocol, as data.

use longshore_broker::rest::{Field, Kind, Object};
use serde_json::{Map, Value, json};

use crate::device;

/// What a device is.
#[derive(Debug)]
pub(crate) struct DeviceType {
    /// Its number. It never changes and is not given again. That of a protocol's generic type is
    /// the number of the protocol.
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    /// Its name for people.
    pub(crate) title: &'static str,
    /// The protocol that channels have to run for its devices, by the number that their messages
    /// have.
    pub(crate) protocol_id: u64,
    pub(crate) protocol_name: &'static str,
    pub(crate) commands: &'static [Command],
    pub(crate) settings: &'static [Setting],
}

/// What a device can be told.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// Names of its properties, which are texts, and one of which is given.
    pub(crate) properties: &'static [&'static str],
    /// What a call of it may look like: what it does, and its `text`.
    pub(crate) example: (&'static str, &'static str),
    /// Whether the device says anything to it. Otherwise it is executed once it is sent.
    pub(crate) is_answered: bool,
}

/// What a device can be set to: a value that it keeps, written and read by a `custom` command.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// The text that sets it, up to the value.
    pub(crate) write: &'static str,
    /// The text that asks for it.
    pub(crate) read: &'static str,
}

/// The command that carries settings.
pub(crate) const CUSTOM: &str = "custom";
/// What stands before the value in the answer to a [`Setting::read`].
pub(crate) const VALUE: &str = "Value:";

/// What devices of the original are called of which nothing is known.
const GENERIC: DeviceType = DeviceType {
    id: 0,
    name: "generic",
    title: "Generic",
    protocol_id: 0,
    protocol_name: "",
    commands: &[],
    settings: &[],
};

/// The property that is bytes, as digits.
const HEX: &str = "hex";
const TEXT_OR_HEX: &[&str] = &["text", HEX];

/// All types, in ascending order of their numbers.
pub(crate) static TYPES: [DeviceType; 6] = [
    DeviceType {
        id: 1,
        name: "http_generic",
        title: "HTTP generic",
        protocol_id: 1,
        protocol_name: "http",
        ..GENERIC
    },
    DeviceType {
        id: 2,
        name: "mqtt_generic",
        title: "MQTT generic",
        protocol_id: 2,
        protocol_name: "mqtt",
        ..GENERIC
    },
    DeviceType {
        id: 3,
        name: "osmand_generic",
        title: "OsmAnd generic",
        protocol_id: 3,
        protocol_name: "osmand",
        ..GENERIC
    },
    DeviceType {
        id: 4,
        name: "wialon_ips_generic",
        title: "Wialon IPS generic",
        protocol_id: 4,
        protocol_name: "wialon_ips",
        commands: &[
            Command {
                name: CUSTOM,
                title: "A line of text or bytes, as the device understands it",
                properties: TEXT_OR_HEX,
                example: ("Sends a line", "reboot"),
                is_answered: false,
            },
            Command {
                name: "driver_message",
                title: "A message to the driver",
                properties: &["text"],
                example: ("Says something", "Call the office"),
                is_answered: true,
            },
        ],
        ..GENERIC
    },
    DeviceType {
        id: 5,
        name: "wialon_retranslator_generic",
        title: "Wialon Retranslator generic",
        protocol_id: 5,
        protocol_name: "wialon_retranslator",
        ..GENERIC
    },
    DeviceType {
        id: 14,
        name: "teltonika_generic",
        title: "Teltonika generic",
        protocol_id: 14,
        protocol_name: "teltonika",
        commands: &[Command {
            name: CUSTOM,
            title: "Text or bytes, sent in codec 12",
            properties: TEXT_OR_HEX,
            example: ("Asks for the state of the device", "getinfo"),
            is_answered: true,
        }],
        settings: &[
            parameter("apn_name", "Name of the access point", "setparam 2001:", "getparam 2001"),
            parameter("apn_user", "User of the access point", "setparam 2002:", "getparam 2002"),
            parameter("server_host", "Host of the server", "setparam 2004:", "getparam 2004"),
            parameter("server_port", "Port of the server", "setparam 2005:", "getparam 2005"),
        ],
    },
];

const fn parameter(
    name: &'static str,
    title: &'static str,
    write: &'static str,
    read: &'static str,
) -> Setting {
    Setting { name, title, write, read }
}

/// Types, for REST.
pub(crate) static OBJECT: Object = Object {
    name: "DeviceType",
    fields: &[
        Field::new("id", Kind::Whole, "Its number"),
        Field::new("name", Kind::Text, "Its name"),
        Field::new("title", Kind::Text, "Its name for people"),
        Field::new("device_type_name", Kind::Text, "Its name"),
        Field::new("protocol_id", Kind::Whole, "The protocol of its devices"),
        Field::new("protocol_name", Kind::Text, "Its name"),
        Field::new("commands", Kind::List, "What its devices can be told"),
        Field::new("settings", Kind::List, "What its devices can be set to"),
        Field::new("configuration", Kind::Object, "JSON schema of that of its devices"),
        Field::new("features", Kind::Object, "What else is known of it: nothing"),
    ],
    is_open: false,
};

/// The type of this number.
pub(crate) fn find(id: u64) -> Option<&'static DeviceType> {
    TYPES.iter().find(|it| it.id == id)
}

impl DeviceType {
    /// The command of this name.
    pub(crate) fn command(&self, name: &str) -> Option<&'static Command> {
        self.commands.iter().find(|it| it.name == name)
    }

    /// Its commands as REST lists them (R5.5).
    pub(crate) fn commands(&self) -> Value {
        self.commands.iter().map(Command::describe).collect()
    }

    /// All that is known of it (R3.20).
    pub(crate) fn describe(&self) -> Map<String, Value> {
        let settings = self.settings.iter().map(|it| json!({"name": it.name, "title": it.title}));
        let fields = [
            ("id", self.id.into()),
            ("name", self.name.into()),
            ("title", self.title.into()),
            ("device_type_name", self.name.into()),
            ("protocol_id", self.protocol_id.into()),
            ("protocol_name", self.protocol_name.into()),
            ("commands", self.commands()),
            ("settings", settings.collect()),
            ("configuration", device::configuration_schema()),
            ("features", json!({})),
        ];
        fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
    }
}

impl Command {
    fn describe(&self) -> Value {
        let (description, text) = self.example;
        let properties = self.properties.iter().map(|it| (*it, json!({"type": "string"})));
        let properties: Map<_, _> =
            properties.map(|(name, schema)| (name.to_owned(), schema)).collect();
        json!({
            "name": self.name, "title": self.title, "address": ["connection"],
            "examples": [{"description": description, "properties": {"text": text}}],
            "schema": {
                "type": "object", "properties": properties, "additionalProperties": false,
                "minProperties": 1, "maxProperties": 1,
            },
        })
    }

    /// Why it cannot be given these properties, if so (R5.5).
    pub(crate) fn check(&self, properties: &Map<String, Value>) -> Result<(), String> {
        let names = self.properties.join(", ");
        if let Some(name) = properties.keys().find(|it| !self.properties.contains(&it.as_str())) {
            return Err(format!("have no {name:?}: there are {names}"));
        }
        let mut given = properties.iter();
        let (Some((name, value)), None) = (given.next(), given.next()) else {
            return Err(format!("hold one of {names}"));
        };
        let text = value.as_str().filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| format!("hold {name} as a text that is not empty"))?;
        let is_hex = text.len() % 2 == 0 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if name == HEX && !is_hex {
            return Err(format!("hold {name} as pairs of hexadecimal digits"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R5.5.
    #[test]
    fn a_command_takes_one_of_its_properties_as_a_text() {
        let wialon = find(4).unwrap();
        let rows = [
            ("custom", json!({"text": "reboot"}), true),
            ("custom", json!({"hex": "0aFF"}), true),
            ("custom", json!({}), false),
            ("custom", json!({"text": "a", "hex": "0a"}), false),
            ("custom", json!({"txt": "a"}), false),
            ("custom", json!({"text": 1}), false),
            ("custom", json!({"text": ""}), false),
            ("custom", json!({"hex": "0a0"}), false),
            ("custom", json!({"hex": "0g"}), false),
            ("driver_message", json!({"text": "0g"}), true),
            ("driver_message", json!({"hex": "0a"}), false),
        ];
        for (name, properties, is_right) in rows {
            let checked = wialon.command(name).unwrap().check(properties.as_object().unwrap());
            assert_eq!(checked.is_ok(), is_right, "{name}: {properties}: {checked:?}");
        }
    }

    #[test]
    fn numbers_and_names_of_types_come_once_and_in_order() {
        assert!(TYPES.is_sorted_by(|a, b| a.id < b.id));
        for of_type in &TYPES {
            assert_eq!(TYPES.iter().filter(|it| it.name == of_type.name).count(), 1);
            assert_eq!(of_type.name, format!("{}_generic", of_type.protocol_name));
            let known: Vec<_> = OBJECT.fields.iter().map(|field| field.name).collect();
            assert!(of_type.describe().keys().all(|name| known.contains(&name.as_str())));
        }
    }
}
