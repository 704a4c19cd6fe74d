//! Properties that hold for any input; the bodies are those of the fuzz targets.

mod bodies;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};

/// Bytes that choose: enough for the longest packet a source makes.
fn choices() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..200)
}

/// Bytes that look like the start of a packet more often than chance has it.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        any::<u8>(),
        (1_u8..16, prop_oneof![Just(0_u8), Just(2)]).prop_map(|(kind, flags)| kind << 4 | flags),
    ];
    (any::<u8>(), first, vec(any::<u8>(), 0..60)).prop_map(|(version, first, mut body)| {
        let remaining = body.len() as u8;
        body.splice(0..0, [version, first, remaining]);
        body
    })
}

/// A filter and a topic of few letters, so that they often meet.
fn filters() -> impl Strategy<Value = Vec<u8>> {
    let letter = prop_oneof![
        4 => Just(&b"/"[..]),
        3 => Just(&b"a"[..]),
        1 => Just(&b"b"[..]),
        3 => Just(&b"+"[..]),
        2 => Just(&b"#"[..]),
        2 => Just(&b","[..]),
        1 => Just(&b"$"[..]),
        1 => Just(&b"$share/"[..]),
        1 => Just(&b"\xc3\xa9"[..]),
        1 => Just(&b"\0"[..]),
    ];
    let name = prop_oneof![8 => Just(&b"/"[..]), 8 => Just(&b"a"[..]), 2 => Just(&b"b"[..]),
        2 => Just(&b"$"[..]), 2 => Just(&b"\xc3\xa9"[..]), 1 => Just(&b","[..])];
    (vec(letter, 0..8), vec(name, 0..7))
        .prop_map(|(filter, name)| [filter.concat(), name.concat()].join(&0xff))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_decoded_or_refused(data in choices()) {
        bodies::decodes_or_refuses(&data);
    }

    #[test]
    fn bytes_behind_a_legal_header_are_decoded_or_refused(data in packets()) {
        bodies::decodes_or_refuses(&data);
    }

    #[test]
    fn a_packet_survives_the_round_trip_in_every_version(data in choices()) {
        bodies::survives_the_round_trip(&data);
    }

    #[test]
    fn a_damaged_packet_is_decoded_or_refused(data in choices()) {
        bodies::survives_mutation(&data);
    }

    #[test]
    fn a_stream_is_cut_into_the_same_packets_under_any_split(data in choices()) {
        bodies::frames_the_same_under_any_split(&data);
    }

    #[test]
    fn a_filter_is_judged_as_a_naive_matcher_does(data in filters()) {
        bodies::judges_filters_as_a_naive_matcher(&data);
    }
}
