//! Wialon Retranslator: every public vector both ways, and what is none (R13).

#[path = "bodies/device.rs"]
#[expect(dead_code, reason = "a protocol of bytes needs a part of it")]
mod device;

use device::{bytes, hear_at_every_split, object};
use longshore_channels::protocol::wialon_retranslator::{
    Block, BlockValue, PROTOCOL, Packet, encode_message,
};
use longshore_channels::protocol::{CloseCode, Connection, Transport};
use longshore_channels::{Parameters, Reception, Timestamp};
use serde_json::{Value, json};

const POSITION: &str = "0BBB000000270102706F73696E666F00";

/// A packet of the maker's documents.
const MAKERS: &str = "74000000333533393736303133343435343835004B0BFB70000000030BBB00000027010270\
                      6F73696E666F00A027AFDF5D9848403AC7253383DD4B400000000000805A40003601460B0B\
                      BB0000001200047077725F657874002B8716D9CE973B400BBB00000011010361766C5F696E\
                      707574730000000001";

const CHARGED: &str = "b90000003335323834383032383936313838320052af3f21000000030bbb00000027010270\
                       6f73696e666f0029ffffa4462d42404c3448c153484b400000000000406940001500890c0b\
                       bb000000150003626174746572795f63686172676500000000010bbb0000000f0003706172\
                       616d31373900000000000bbb0000000f0003706172616d31383000000000000bbb00000012\
                       00047077725f65787400e5d022dbf9de3b400bbb00000011010361766c5f696e7075747300\
                       00000001";

const SHMI: &str = "7e00000073686d6900552d3f49000000070bbb000000270102706f73696e666f001f090e4253\
                    8d3b40af8c20a82dfc4a400000000000000000006c0109ff0bbb0000000f0004616463310000\
                    00000000ca21400bbb00000011010361766c5f696e7075747300000000240bbb000000120103\
                    61766c5f6f7574707574730000000037";

/// What the receiver of the first years sent: no zero behind texts, no position.
const FORMER: &str = "5b000000313233340058d4e7a8000000010bbb0000001100036368616e6e656c2e69640000\
                      00005e0bbb000000190004706f736974696f6e2e7370656564000000000000004b400bbb00\
                      000012000170656572003132372e302e302e313a31";

fn open() -> Connection {
    device::open(&PROTOCOL, &json!({}))(Transport::Stream)
}

fn vectors() -> [(String, Value); 5] {
    let makers = json!({
        "ident": "353976013445485", "timestamp": 1_259_076_464, "position.longitude": 49.1903648,
        "position.latitude": 55.7305664, "position.altitude": 106, "position.speed": 54,
        "position.direction": 326, "position.satellites": 11,
        "external.powersource.voltage": 27.593, "din": 1,
    });
    let mut later = makers.clone();
    later["timestamp"] = json!(1_565_613_499);
    let charged = json!({
        "ident": "352848028961882", "timestamp": 1_387_216_673, "position.longitude": 36.3537184,
        "position.latitude": 54.565056, "position.altitude": 202, "position.speed": 21,
        "position.direction": 137, "position.satellites": 12, "custom.battery_charge": 1,
        "custom.param179": 0, "custom.param180": 0, "external.powersource.voltage": 27.871,
        "din": 1,
    });
    let shmi = json!({
        "ident": "shmi", "timestamp": 1_429_028_681, "position.longitude": 27.5520517,
        "position.latitude": 53.9701433, "position.altitude": 0, "position.speed": 108,
        "position.direction": 265, "position.satellites": 255, "ain.1": 8.89453125, "din": 36,
        "dout": 55,
    });
    // What the hub itself says of a message is left out: it says it anew (R10.3).
    let former = json!({"ident": "1234", "timestamp": 1_490_347_944, "position.speed": 54});
    [
        (MAKERS.to_owned(), makers),
        (MAKERS.replacen("4B0BFB70", "5D515DBB", 1), later),
        (CHARGED.to_owned(), charged),
        (SHMI.to_owned(), shmi),
        (FORMER.to_owned(), former),
    ]
}

/// R13.1 to R13.7, R13.9.
#[test]
fn a_packet_is_a_message_and_acknowledged_with_one_byte() {
    for (packet, want) in vectors() {
        let heard = hear_at_every_split(&open, &bytes(&packet));
        assert_eq!((&heard.error, heard.steps.len()), (&None, 1), "{packet}");
        let step = &heard.steps[0];
        assert_eq!((&step.reply[..], &step.ident), (&[0x11][..], &None));
        let found = object(&step.messages[0]);
        for (name, want) in want.as_object().unwrap() {
            let is_close = |found: f64| (found - want.as_f64().unwrap()).abs() < 1e-7;
            let is_same = found[name] == *want || found[name].as_f64().is_some_and(is_close);
            assert!(is_same, "{name} is {} and not {want}", found[name]);
        }
        assert_eq!(found.as_object().unwrap().len(), want.as_object().unwrap().len(), "{found}");
    }
}

#[test]
fn packets_of_many_devices_may_come_together() {
    let stream: String = vectors().iter().map(|(packet, _)| packet.as_str()).collect();
    let heard = hear_at_every_split(&open, &bytes(&stream));
    let idents: Vec<_> = heard.messages().map(|message| message.ident.as_str()).collect();
    assert_eq!(idents, ["353976013445485", "353976013445485", "352848028961882", "shmi", "1234"]);
    assert_eq!(heard.replies(), [0x11; 5]);
}

/// R13.3 to R13.6. Only texts without a zero come back otherwise: with one.
#[test]
fn what_was_decoded_is_encoded_to_the_same_bytes() {
    for (packet, _) in vectors() {
        let want = if packet == FORMER {
            let longer = packet.replace("5b000000", "5c000000").replace("120001", "130001");
            bytes(&format!("{longer}00"))
        } else {
            bytes(&packet)
        };
        let body = &bytes(&packet)[4..];
        let mut found = vec![];
        Packet::decode(body).unwrap().encode(&mut found);
        assert_eq!(found, want, "{packet}");
    }
}

/// The flat object of a message.
fn parameters(members: Value) -> Parameters {
    let mut parameters = Parameters::new();
    for (name, value) in members.as_object().expect("an object") {
        parameters.set_other(name, value.clone()).expect("few parameters");
    }
    parameters
}

/// R13.4, R13.8: a message that came in goes out as it came.
#[test]
fn a_message_is_encoded_as_the_maker_has_it() {
    for (packet, _) in vectors().into_iter().filter(|(packet, _)| {
        [MAKERS, SHMI].contains(&packet.as_str()) || packet.contains("5D515DBB")
    }) {
        let heard = hear_at_every_split(&open, &bytes(&packet));
        let message = heard.messages().next().unwrap().clone();
        let ident = message.ident.clone();
        let at = Timestamp::from_seconds(2e9).unwrap();
        let reception = Reception { at, channel_id: 1, protocol_id: 5, peer: "1.2.3.4:5" };
        let complete = message.complete(&reception);
        let mut found = vec![];
        encode_message(ident.as_str(), &complete, &mut found);
        let decoded = Packet::decode(&found[4..]).unwrap();
        // What the hub has added stands between the position and the hidden blocks at the end.
        let hub = ["channel.id", "peer", "protocol.id", "server.timestamp"];
        let (added, blocks): (Vec<_>, Vec<_>) =
            decoded.blocks.clone().into_iter().partition(|block| hub.contains(&&*block.name));
        assert_eq!(added.len(), hub.len());
        let mut found = vec![];
        Packet { blocks, ..decoded }.encode(&mut found);
        assert_eq!(found, bytes(&packet));
    }
}

/// R13.2, R13.5, R13.8.
#[test]
fn a_parameter_has_the_type_of_its_value() {
    let long = "custom.a.name.of.more.than.38.characters.is.cut";
    let complete = parameters(json!({
        "position.altitude": 12, "position.longitude": 1, "din": 4_294_967_295_u32, "dout": 2,
        "ibutton.code": "0A0B", "alarm.event": true, "engine.ignition.status": true,
        "movement.status": false, "battery.voltage": 4.1, "battery.level": 90, "ain.2": 1.5,
        "message.type": "a\0b", "custom.big": 4_294_967_296_i64, "custom.huge": u64::MAX,
        "custom.list": [1], long: 1,
    }));
    let mut found = vec![];
    encode_message("a\0b", &complete, &mut found);
    let packet = Packet::decode(&found[4..]).unwrap();
    assert_eq!((&*packet.uid, packet.time, packet.flags), ("ab", 0, 0x02 | 0x04 | 0x10 | 0x20));
    let shown = |name: &'static str, value| Block { is_hidden: false, name: name.into(), value };
    let hidden = |name: &'static str, value| Block { is_hidden: true, name: name.into(), value };
    let want = [
        shown("adc2", BlockValue::Double(1.5)),
        shown("battery", BlockValue::Int(90)),
        shown("pwr_int", BlockValue::Double(4.1)),
        shown("custom.a.name.of.more.than.38.characters.is.cut", BlockValue::Int(1)),
        shown("custom.big", BlockValue::Long(4_294_967_296)),
        shown("custom.huge", BlockValue::Double(u64::MAX as f64)),
        shown("ign", BlockValue::Int(1)),
        shown("message.type", BlockValue::Text("ab".into())),
        shown("movement.status", BlockValue::Int(0)),
        shown("position.altitude", BlockValue::Int(12)),
        shown("position.longitude", BlockValue::Int(1)),
        hidden("avl_inputs", BlockValue::Int(-1)),
        hidden("avl_outputs", BlockValue::Int(2)),
        hidden("avl_driver", BlockValue::Text("0A0B".into())),
    ];
    let want: Vec<_> = want
        .into_iter()
        .map(|block| Block {
            name: block.name[..block.name.len().min(38)].to_owned().into(),
            ..block
        })
        .collect();
    assert_eq!(packet.blocks, want);

    let mut back = device::open(&PROTOCOL, &json!({}))(Transport::Stream);
    let heard = device::hear(&mut back, [&found[..]]);
    let message = object(heard.messages().next().unwrap());
    for name in [
        "din",
        "dout",
        "ibutton.code",
        "alarm.event",
        "engine.ignition.status",
        "movement.status",
        "battery.level",
        "ain.2",
        "position.altitude",
    ] {
        assert_eq!(&message[name], complete.get(name).unwrap(), "{name}");
    }
}

#[test]
fn what_is_no_packet_ends_the_connection() {
    use CloseCode::{Parse, ProtocolViolation};
    let packet = |body: &str| format!("{:08X}{body}", (body.len() as u32 / 2).swap_bytes());
    let head = "3132000000000000000000";
    for (name, stream, code, want) in [
        (
            "4 GB",
            "FFFFFFFF".to_owned(),
            ProtocolViolation,
            "a packet has 10 to 1048576 bytes, and \
            not 4294967295",
        ),
        (
            "nothing",
            "00000000".to_owned(),
            ProtocolViolation,
            "a packet has 10 to 1048576 bytes, \
            and not 0",
        ),
        (
            "ident with a slash",
            packet("612F62000000000000000000"),
            ProtocolViolation,
            "the ident has '/', which cannot stand in a topic",
        ),
        ("endless ident", packet("31313131313131313131"), Parse, "no zero ends the ident"),
        (
            "no block",
            packet(&format!("{head}0BBC00000000")),
            Parse,
            "a block begins with 0x0bbb, not 0x0bbc",
        ),
        (
            "long block",
            packet(&format!("{head}0BBBFFFFFFFF0003")),
            Parse,
            "the packet ends inside the block",
        ),
        (
            "short block",
            packet(&format!("{head}0BBB0000000100")),
            Parse,
            "the packet ends inside the type",
        ),
        (
            "int of 2",
            packet(&format!("{head}0BBB00000006000361000001")),
            Parse,
            "`a` has 2 bytes, wrong for 3",
        ),
        (
            "short position",
            packet(&format!("{head}{}", POSITION.replace("00000027", "0000000A"))),
            Parse,
            "the packet ends inside the longitude",
        ),
    ] {
        let heard = hear_at_every_split(&open, &bytes(&stream));
        let error = heard.error.unwrap_or_else(|| panic!("{name}: {:?}", heard.steps));
        assert_eq!((error.code(), &*error.to_string()), (code, want), "{name}");
        assert!(heard.steps.is_empty());
    }
}

/// R13.9: a whole number may be of eight bytes. What is no place or no message is left out.
#[test]
fn what_is_read_may_be_more_than_what_is_written() {
    let wide = "0BBB0000000C000361000000000100000000";
    let nowhere = format!("{POSITION}{}{}", "000000000000F07F".repeat(3), "0001000203");
    let image = "0BBB00000006000663001234";
    let data = "0BBB000000060002620000FF";
    let body = format!("3132000000000000000000{wide}{nowhere}{image}{data}");
    let stream = format!("{:08X}{body}", (body.len() as u32 / 2).swap_bytes());
    let heard = hear_at_every_split(&open, &bytes(&stream));
    let want = json!({"ident": "12", "timestamp": null, "position.speed": 1,
        "position.direction": 2, "position.satellites": 3, "custom.a": 4_294_967_296_i64,
        "custom.b": "00FF"});
    assert_eq!((heard.error, object(&heard.steps[0].messages[0])), (None, want));
}
