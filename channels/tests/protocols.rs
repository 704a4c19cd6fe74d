//! The table of protocols: what is shown of them is what they do.

#[path = "bodies/device.rs"]
#[expect(dead_code, reason = "a table needs a part of it")]
mod device;

use longshore_channels::parameter;
use longshore_channels::protocol::{Connection, Decoder, Error, PROTOCOLS, Step, teltonika};
use serde_json::{Value, json};

/// R3.20: numbers and names are forever.
#[test]
fn a_protocol_keeps_its_number_and_its_name() {
    let found: Vec<_> = PROTOCOLS.iter().map(|it| (it.name, it.id)).collect();
    let want = [
        ("http", 1),
        ("mqtt", 2),
        ("osmand", 3),
        ("teltonika", 14),
        ("wialon_ips", 4),
        ("wialon_retranslator", 5),
    ];
    assert_eq!(found, want);
}

/// R3.20, R5.5.
#[test]
fn what_is_shown_of_a_protocol_holds() {
    for protocol in PROTOCOLS {
        let shown = protocol.describe();
        for name in protocol.parameters {
            assert_eq!(parameter::find(name).map(|it| it.name), Some(*name), "{}", protocol.name);
        }
        let parameters = shown["message_parameters"].as_array().unwrap();
        assert_eq!(parameters.len(), protocol.parameters.len());
        assert_eq!(shown["configuration"]["type"], "object");
        for (kind, command) in protocol.commands.iter().zip(shown["commands"].as_array().unwrap()) {
            let properties = &command["examples"][0]["properties"];
            assert!(properties.is_object(), "{}", kind.name);
            assert!(protocol.command(kind.name, properties).is_ok(), "{}", kind.name);
        }
        assert!(protocol.command("none", &json!({})).is_err());
        let error = protocol.configure(&json!({"nonsense": 1})).unwrap_err().to_string();
        assert!(error.contains("nonsense") || error.contains("missing"), "{error}");
    }
}

/// The schema of a text of so many bytes at most.
fn text(most: u32, info: &str) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": most, "description": info})
}

#[test]
fn a_protocol_is_shown_whole() {
    let mut shown = teltonika::PROTOCOL.describe();
    let parameters = shown["message_parameters"].take();
    assert_eq!(parameters[0], parameter::find("position.latitude").unwrap().describe());
    let schema = |properties| {
        json!({"type": "object", "additionalProperties": false, "required": [],
            "properties": properties})
    };
    let want = json!({
        "id": 14, "name": "teltonika", "title": "Teltonika",
        "description": "Trackers of Teltonika: codecs 8, 8 extended and 16, commands in codec 12",
        "features": {"transports": ["tcp", "udp"], "commands": true},
        "commands": [{
            "name": "custom", "title": "Text or bytes, sent in codec 12",
            "address": ["connection"],
            "examples": [{"description": "Asks for the state of the device",
                "properties": {"text": "getinfo"}}],
            "schema": schema(json!({"text": text(4096, "What to send, as text"),
                "hex": text(8192, "What to send, as digits")})),
        }],
        "message_parameters": null,
        "configuration": schema(json!({})),
    });
    assert_eq!(shown, want);
}

/// A protocol of lines, as short as one can be.
struct Lines;

impl Decoder for Lines {
    fn frame(&self, input: &[u8], seen: usize) -> Result<Option<usize>, Error> {
        let end = input[seen..].iter().position(|byte| *byte == b'\n');
        Ok(end.map(|end| seen + end + 1))
    }

    fn packet(&mut self, packet: &[u8]) -> Result<Step, Error> {
        let mut step = Step::default();
        step.reply = packet.to_vec();
        Ok(step)
    }
}

/// A megabyte that comes byte by byte, and a packet only at its end: if each byte made the decoder
/// look at all again, this would take a week.
#[test]
fn what_was_looked_at_is_not_looked_at_again() {
    let mut connection = Connection::new(Box::new(Lines));
    let stream = [b"short\n", &[b'a'; 1 << 20][..], b"\nb"].concat();
    let heard = device::hear(&mut connection, stream.chunks(1));
    let lengths: Vec<_> = heard.steps.iter().map(|step| step.reply.len()).collect();
    assert_eq!((lengths, connection.pending()), (vec![6, (1 << 20) + 1], 1));
}
