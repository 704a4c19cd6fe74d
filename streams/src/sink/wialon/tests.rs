//! Packets, byte for byte.

use serde_json::json;

use super::*;

/// The vectors of section 13, from the papers of Gurtam and two foreign implementations.
const GURTAM: &str = "74000000333533393736303133343435343835004B0BFB70000000030BBB000000270102706F\
    73696E666F00A027AFDF5D9848403AC7253383DD4B400000000000805A40003601460B0BBB0000001200047077725\
    F657874002B8716D9CE973B400BBB00000011010361766C5F696E707574730000000001";
const GURTAM_LATER: &str = "74000000333533393736303133343435343835005D515DBB000000030BBB0000002701\
    02706F73696E666F00A027AFDF5D9848403AC7253383DD4B400000000000805A40003601460B0BBB0000001200047\
    077725F657874002B8716D9CE973B400BBB00000011010361766C5F696E707574730000000001";
const WAYRECALL: &str = "b90000003335323834383032383936313838320052af3f21000000030bbb0000002701027\
    06f73696e666f0029ffffa4462d42404c3448c153484b400000000000406940001500890c0bbb0000001500036261\
    74746572795f63686172676500000000010bbb0000000f0003706172616d31373900000000000bbb0000000f00037\
    06172616d31383000000000000bbb0000001200047077725f65787400e5d022dbf9de3b400bbb0000001101036176\
    6c5f696e707574730000000001";
const GIST: &str = "7e00000073686d6900552d3f49000000070bbb000000270102706f73696e666f001f090e42538d\
    3b40af8c20a82dfc4a400000000000000000006c0109ff0bbb0000000f000461646331000000000000ca21400bbb0\
    0000011010361766c5f696e7075747300000000240bbb00000012010361766c5f6f7574707574730000000037";

const DRIVER_0F: &str = "0bbb00000010010161766c5f64726976657200306600";
const INPUTS_ALL: &str = "0bbb00000011010361766c5f696e7075747300ffffffff";

fn packet(ident: &str, message: &Value) -> Option<String> {
    let message = Message::new(message.as_object().unwrap().clone());
    let packet = encode(ident, &message)?;
    Some(packet.iter().map(|it| format!("{it:02x}")).collect())
}

/// R13.1 to R13.5, R13.8.
#[test]
fn published_packets_come_out_byte_for_byte() {
    let gurtam = |time: i64| {
        json!({
            "timestamp": time, "position.longitude": 49.1903648, "position.latitude": 55.7305664,
            "position.altitude": 106, "position.speed": 54, "position.direction": 326,
            "position.satellites": 11, "pwr_ext": 27.593, "din": 1,
        })
    };
    let rows = [
        (GURTAM, "353976013445485", gurtam(1_259_076_464)),
        (GURTAM_LATER, "353976013445485", gurtam(1_565_613_499)),
        (
            WAYRECALL,
            "352848028961882",
            json!({
                "ident": "left out", "timestamp": 1_387_216_673.9, "position.longitude": 36.3537184,
                "position.latitude": 54.565056, "position.altitude": 202, "position.speed": 21,
                "position.direction": 137, "position.satellites": 12, "battery_charge": true,
                "param179": 0, "param180": false, "pwr_ext": 27.871, "din": 1,
            }),
        ),
        (
            GIST,
            "shmi",
            json!({
                "timestamp": 1_429_028_681,
                "position.longitude": 27.552051666666667,
                "position.latitude": 53.97014333333333, "position.speed": 108,
                "position.direction": 265,
                "position.satellites": 255, "adc1": 8.89453125, "din": 36, "dout": 55,
            }),
        ),
    ];
    for (want, ident, message) in rows {
        assert_eq!(packet(ident, &message).unwrap(), want.to_lowercase(), "{ident}");
    }
}

/// R13.2, R13.3, R13.6, R13.8.
#[test]
fn each_kind_of_value_has_its_block() {
    let rows = [
        (json!({"a": 1}), "00", "0bbb000000080003610000000001"),
        (json!({"a": -1}), "00", "0bbb0000000800036100ffffffff"),
        (json!({"a": 4_294_967_296_i64}), "00", "0bbb0000000c000561000000000100000000"),
        (json!({"a": 1.5}), "00", "0bbb0000000c00046100000000000000f83f"),
        (json!({"a": "xy"}), "00", "0bbb0000000700016100787900"),
        (json!({"a": "x\u{0}y"}), "00", "0bbb0000000700016100787900"),
        (json!({"a": {"b": 1}, "c": [1], "d": null}), "00", ""),
        (json!({"alarm.event": true}), "10", ""),
        (json!({"alarm.event": false}), "00", ""),
        (json!({"ibutton.code": "0f"}), "20", DRIVER_0F),
        (json!({"din": 4_294_967_295_i64}), "02", INPUTS_ALL),
    ];
    for (mut message, flags, block) in rows {
        message["timestamp"] = json!(1);
        let size = 10 + block.len() / 2;
        let want = format!("{size:02x}000000310000000001000000{flags}{block}");
        assert_eq!(packet("1", &message).unwrap(), want, "{message}");
    }
}

/// R13.1, R13.4, R13.5.
#[test]
fn what_the_protocol_has_no_room_for_is_left_out() {
    let rows = [
        ("", json!({"timestamp": 1})),
        ("a\u{0}b", json!({"timestamp": 1})),
        ("a", json!({})),
        ("a", json!({"timestamp": -1})),
        ("a", json!({"timestamp": 2_147_483_648_i64})),
        ("a", json!({"timestamp": "1"})),
    ];
    for (ident, message) in rows {
        assert_eq!(packet(ident, &message), None, "{ident:?} {message}");
    }
    // Half a position is no position; its parts have blocks of their own.
    let half = packet("a", &json!({"timestamp": 1, "position.latitude": 54.5})).unwrap();
    assert!(half.contains(&hex("position.latitude")) && !half.contains(&hex("posinfo")));
    let long = "n".repeat(60);
    let cut = packet("a", &json!({"timestamp": 1, long: 1})).unwrap();
    assert!(
        cut.contains(&format!("{}00", hex(&"n".repeat(38))))
            && !cut.contains(&hex(&"n".repeat(39)))
    );
}

fn hex(text: &str) -> String {
    text.bytes().map(|it| format!("{it:02x}")).collect()
}
