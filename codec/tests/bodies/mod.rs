//! What must hold for any input. Property tests and fuzz targets run the same bodies.

pub(crate) mod source;

use longshore_codec::{Error, Packet, Properties, Version, decode, encode, filter, frame, topic};
use source::{Source, with_packet};

/// Bytes of the largest packet that a body decodes; a fuzzer's input is smaller.
const LIMIT: usize = 1 << 20;

/// No bytes make the decoder panic, and what it accepts means the same after encoding.
///
/// The first byte chooses the version, the rest is the input.
pub(crate) fn decodes_or_refuses(data: &[u8]) {
    let Some((choice, input)) = data.split_first() else { return };
    let version = Version::ALL[usize::from(*choice) % 3];
    match decode_first(version, input) {
        None => {}
        Some(Err(error)) => {
            assert!(error.reason().is_error());
            assert!(!error.to_string().is_empty());
        }
        Some(Ok(packet)) => {
            look_at(&packet);
            encodes_to_itself(version, &packet);
        }
    }
}

/// A packet built from `data` is the same after encoding and decoding, in every version.
pub(crate) fn survives_the_round_trip(data: &[u8]) {
    for version in Version::ALL {
        with_packet(version, &mut Source::new(data), &mut |packet| {
            look_at(packet);
            encodes_to_itself(version, packet);
        });
    }
}

/// A valid packet with some bytes changed, added or lost is decoded or refused.
pub(crate) fn survives_mutation(data: &[u8]) {
    let mut source = Source::new(data);
    let version = Version::ALL[source.below(3)];
    // The level, modulo three, chooses the same version again.
    let mut bytes = vec![version as u8];
    with_packet(version, &mut source, &mut |packet| encode(version, packet, &mut bytes));
    for _ in 0..=source.below(4) {
        let at = 1 + source.below(bytes.len() - 1);
        match source.below(4) {
            0 => bytes[at] ^= 1 << source.below(8),
            1 => bytes[at] = source.byte(),
            2 => bytes.insert(at, source.byte()),
            _ if bytes.len() > 2 => drop(bytes.remove(at)),
            _ => {}
        }
    }
    // The length is put right, so that the change is seen behind the fixed header too.
    if bytes.len() < 130 {
        let remaining = bytes.len() as u8;
        bytes.splice(2..3.min(bytes.len()), [remaining.saturating_sub(3)]);
    }
    decodes_or_refuses(&bytes);
}

/// A stream is cut into the same packets however it arrives, and the fixed header is never judged
/// in two ways.
pub(crate) fn frames_the_same_under_any_split(data: &[u8]) {
    let mut source = Source::new(data);
    let version = Version::ALL[source.below(3)];
    let (mut stream, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..=source.below(6) {
        with_packet(version, &mut source, &mut |packet| encode(version, packet, &mut stream));
        ends.push(stream.len());
    }
    let (mut arrived, mut start, mut found) = (0, 0, Vec::new());
    while arrived < stream.len() {
        arrived = stream.len().min(arrived + 1 + source.below(40));
        while let Ok(Some(packet)) = frame(&stream[start..arrived], LIMIT) {
            assert!(packet.is_minimal());
            if start + packet.total() > arrived {
                break;
            }
            start += packet.total();
            found.push(start);
        }
    }
    assert_eq!(found, ends);
    judges_prefixes_alike(data);
}

/// More input never changes a frame, and never turns an error into anything else.
fn judges_prefixes_alike(input: &[u8]) {
    for limit in [2, 64, 16_384, usize::MAX] {
        let mut before = Ok(None);
        for len in 0..=input.len().min(8) {
            let now = frame(&input[..len], limit);
            match (before, now) {
                (Ok(None), _) => {}
                (Ok(Some(_)), _) => assert_eq!(now, before),
                (Err(Error::PacketTooLarge { size, .. }), Err(error)) => {
                    let larger =
                        matches!(error, Error::PacketTooLarge { size: s, .. } if s >= size);
                    assert!(larger || error == longshore_codec::Malformed::RemainingLength.into());
                }
                (Err(_), _) => assert_eq!(now, before),
            }
            before = now;
        }
    }
}

/// A filter is legal or not by the rules said in other words, and matches as a naive matcher does.
///
/// `data` is a filter and a topic with a byte 0xff between them, which is in no string.
pub(crate) fn judges_filters_as_a_naive_matcher(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0xff);
    let filter = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let name = parts.next().unwrap_or_default();
    let parsed = filter::parse(&filter);
    assert_eq!(parsed.is_ok(), naive::is_filter(&filter), "{filter:?}: {parsed:?}");
    let (Ok(parsed), Ok(name)) = (parsed, topic::validate(name)) else { return };
    assert!(filter.ends_with(parsed.inner));
    let want = naive::matches(parsed.inner, name);
    assert_eq!(filter::matches(parsed.inner, name), want, "{filter:?} and {name:?}");
    let want = naive::matches_selectors(parsed.inner, name);
    assert_eq!(filter::matches_selectors(parsed.inner, name), want, "{filter:?} and {name:?}");
    assert!(filter::matches(name, name), "a name matches itself");
    assert_eq!(filter::matches("#", name), !name.starts_with('$'));
}

/// The rules of filters once more, without a thought to speed (MQTT 5.0, 4.7 and 4.8.2).
mod naive {
    pub(super) fn is_filter(filter: &str) -> bool {
        let inner = match filter.strip_prefix("$share/") {
            None => filter,
            Some(shared) => match shared.find('/') {
                Some(at) if at > 0 && !shared[..at].contains(['+', '#']) => &shared[at + 1..],
                _ => return false,
            },
        };
        let levels: Vec<&str> = inner.split('/').collect();
        let last = levels.len() - 1;
        let legal = |(at, level): (usize, &&str)| match *level {
            "+" => true,
            "#" => at == last,
            other => !other.contains(['+', '#', '\0']),
        };
        !inner.is_empty()
            && filter.len() <= 65_535
            && !filter.contains('\0')
            && levels.iter().enumerate().all(legal)
    }

    /// The same, after each selector has made its choice.
    pub(super) fn matches_selectors(filter: &str, name: &str) -> bool {
        let mut names = name.split('/');
        let choose = |level: &str| match names.next() {
            Some(name) if level.split(',').any(|member| member == name) => name.to_owned(),
            _ => level.to_owned(),
        };
        let chosen: Vec<String> = filter.split('/').map(choose).collect();
        matches(&chosen.join("/"), name)
    }

    pub(super) fn matches(filter: &str, name: &str) -> bool {
        let hidden = name.starts_with('$') && filter.starts_with(['+', '#']);
        let (filter, name): (Vec<_>, Vec<_>) =
            (filter.split('/').collect(), name.split('/').collect());
        !hidden && levels_match(&filter, &name)
    }

    fn levels_match(filter: &[&str], name: &[&str]) -> bool {
        match (filter, name) {
            ([], []) | (["#"], _) => true,
            (["+", filter @ ..], [_, name @ ..]) => levels_match(filter, name),
            ([level, filter @ ..], [other, name @ ..]) => {
                level == other && levels_match(filter, name)
            }
            _ => false,
        }
    }
}

/// The packet at the start of the input, if the whole of it is there.
pub(crate) fn decode_first(version: Version, input: &[u8]) -> Option<Result<Packet<'_>, Error>> {
    let found = match frame(input, LIMIT) {
        Ok(found) => found?,
        Err(error) => return Some(Err(error)),
    };
    let body = input.get(found.header..found.total())?;
    Some(decode(version, found.first, body))
}

fn encodes_to_itself(version: Version, packet: &Packet<'_>) {
    let mut bytes = Vec::new();
    encode(version, packet, &mut bytes);
    assert_eq!(decode_first(version, &bytes), Some(Ok(*packet)), "{version}");
}

/// Reads everything that is read on demand.
fn look_at(packet: &Packet<'_>) {
    match packet {
        Packet::Publish(publish) => {
            let _ = topic::validate(publish.topic);
            let valid = publish.properties.validate(longshore_codec::Carrier::Publish).is_ok();
            assert!(!valid || publish.properties.iter().all(|property| property.is_ok()));
            look_at_properties(&publish.properties);
        }
        Packet::Subscribe(subscribe) => {
            assert!(subscribe.filters.iter().count() > 0);
            for (filter, _) in subscribe.filters {
                let _ = filter::parse(filter);
            }
        }
        Packet::Unsubscribe(unsubscribe) => assert!(unsubscribe.filters.iter().count() > 0),
        Packet::Connect(connect) => look_at_properties(&connect.properties),
        _ => {}
    }
}

fn look_at_properties(properties: &Properties<'_>) {
    let mut items = properties.iter();
    let mut copy = Vec::new();
    while let Some(Ok((_, raw))) = items.next_raw() {
        copy.extend_from_slice(raw);
    }
    assert!(properties.raw().starts_with(&copy));
    let users = properties.user_properties().count();
    assert!(users <= properties.iter().count());
    let _ = (properties.topic_alias(), properties.shared_subscription_available());
}
