//! Properties that hold for any input; the bodies are those of the fuzz targets.

mod bodies;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_oneof, proptest};
use proptest::sample::select;
use proptest::strategy::Strategy;

/// Pieces of these texts in a row, with some bytes of chance between them.
fn pieces(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        9 => select(texts).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..3),
    ];
    vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

/// The data of a frame as a device would send it, or with one byte changed.
fn records() -> impl Strategy<Value = Vec<u8>> {
    let codec = select(vec![0x08_u8, 0x8e, 0x10]);
    // Elements by the bytes of their values, and those of any length.
    let element = |size: usize| vec((any::<u16>(), vec(any::<u8>(), size)), 0..3);
    let groups = (element(1), element(2), element(4), element(8), element(5));
    let record = (vec(any::<u8>(), 24), groups).prop_map(|(head, (a, b, c, d, any))| {
        let total = a.len() + b.len() + c.len() + d.len() + any.len();
        (head, total, [a, b, c, d, any])
    });
    (codec, vec(record, 0..4), any::<[u8; 4]>()).prop_map(|(codec, records, chance)| {
        let number = |value: u16, is_wide: bool, data: &mut Vec<u8>| {
            let bytes = value.to_be_bytes();
            data.extend(&bytes[usize::from(!is_wide)..]);
        };
        let (wide_ids, wide_counts) = (codec != 0x08, codec == 0x8e);
        let mut data = vec![codec, records.len() as u8];
        for (head, total, groups) in &records {
            data.extend(head);
            number(7, wide_ids, &mut data);
            data.extend((codec == 0x10).then_some(5));
            number(*total as u16, wide_counts, &mut data);
            for (at, group) in groups.iter().enumerate().take(if wide_counts { 5 } else { 4 }) {
                number(group.len() as u16, wide_counts, &mut data);
                for (id, value) in group {
                    number(*id, wide_ids, &mut data);
                    data.extend((at == 4).then_some([0, 5]).into_iter().flatten());
                    data.extend(value);
                }
            }
        }
        data.push(records.len() as u8);
        if chance[0] % 4 == 0 {
            let at = usize::from(u16::from_be_bytes([chance[1], chance[2]])) % data.len();
            data[at] = chance[3];
        }
        data
    })
}

/// The body of a packet: an ident, a time, flags, and blocks.
fn blocks() -> impl Strategy<Value = Vec<u8>> {
    let name = select(vec!["posinfo", "avl_inputs", "avl_driver", "adc2", "peer", "x", "a/b"]);
    let value = prop_oneof![
        vec(any::<u8>(), 4),
        vec(any::<u8>(), 8),
        vec(any::<u8>(), 29),
        vec(any::<u8>(), 0..9),
    ];
    let block = (any::<bool>(), 1_u8..8, name, value).prop_map(|(hidden, kind, name, value)| {
        let size = (2 + name.len() + 1 + value.len()) as u32;
        let head = [&[0x0b, 0xbb], &size.to_be_bytes()[..], &[u8::from(hidden), kind]].concat();
        [&head, name.as_bytes(), &[0], &value].concat()
    });
    (vec(any::<u8>(), 8), vec(block, 0..6), 0_usize..4).prop_map(|(head, blocks, cut)| {
        let mut body = [&b"imei\0"[..], &head, &blocks.concat()].concat();
        body.truncate(body.len() - if cut == 0 { 1 } else { 0 });
        body
    })
}

const LINES: &[&str] = &[
    "#L#",
    "#SD#",
    "#D#",
    "#B#",
    "#M#",
    "#I#",
    "#P#",
    "\r\n",
    "\r\n",
    ";",
    ";",
    ";",
    "NA",
    "NA;NA;NA;NA;NA;NA;",
    "270413;205601;5544.6025;N;03739.6834;E;1;2;3;4",
    "1.1;3;0;14.77,0.02;NA;count1:1:564,SOS:1:1,text:3:a",
    "|",
    ",",
    ":",
    "12",
    "2.0;",
    "\u{e9}",
];

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "[",
    "]",
    ",",
    ",",
    ":",
    "\"ident\":\"a\"",
    "\"timestamp\":1.5e9",
    "\"a\":",
    "\"b\":",
    "\"id\":7",
    "1",
    "-0.0",
    "1e400",
    "null",
    "true",
    "\"\\u0000/\"",
    "{\"ident\":\"b\"}",
    "\"path\":",
    "\"text\":",
    "\"topics\":[\"a\"]",
    "\"hex\":\"0g\"",
    "\"location\":{\"coords\":{",
    "\"latitude\":1",
    "\"longitude\":2",
    "\"extras\":{",
];

const QUERIES: &[&str] = &[
    "id=",
    "a",
    "&",
    "&",
    "=",
    "lat=",
    "lon=",
    "speed=",
    "1.5",
    "-2",
    "timestamp=",
    "1377177267",
    "location=1,2",
    "cell=1,2,3,4",
    "wifi=a,-1",
    "%",
    "+",
    "%2f",
    "valid=1",
    "x=",
    "007",
    "nan",
    "2013-08-22T13:14:27Z",
];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 5_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_heard_the_same_at_any_split(data in vec(any::<u8>(), 0..80)) {
        bodies::teltonika(&data);
        bodies::wialon_ips(&data);
        bodies::wialon_retranslator(&data);
        bodies::json_objects(&data);
        bodies::osmand(&data);
    }

    #[test]
    fn any_records_of_teltonika_are_read_or_refused(data in records()) {
        bodies::teltonika(&data);
    }

    #[test]
    fn any_lines_of_wialon_ips_are_read_or_refused(data in pieces(LINES)) {
        bodies::wialon_ips(&data);
    }

    #[test]
    fn any_blocks_of_a_retranslator_are_read_or_refused(data in blocks()) {
        bodies::wialon_retranslator(&data);
    }

    #[test]
    fn any_json_is_read_or_refused(data in pieces(JSON)) {
        bodies::json_objects(&data);
        bodies::osmand(&[&[0xff], &data[..]].concat());
        bodies::configurations(&data);
    }

    #[test]
    fn any_query_is_read_or_refused(data in pieces(QUERIES)) {
        bodies::osmand(&data);
    }
}
