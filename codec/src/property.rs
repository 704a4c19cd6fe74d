//! Properties of MQTT 5.0: one table of identifiers, types and places drives decoding, encoding
//! and validation (MQTT 5.0, 2.2.2).

mod carrier;
mod kind;

use core::fmt;

use crate::error::{Error, Field, Malformed, Offence};
use crate::packet::QoS;
use crate::wire::Reader;
pub use carrier::Carrier;
use kind::{
    Binary, Flag, Kind, Long, LongAboveZero, QoSBelowTwo, Short, ShortAboveZero, Text, TopicName,
    VarintAboveZero,
};

/// Where a property may stand once, and where as often as it likes: sets of [`Carrier::bit`].
struct Places {
    once: u16,
    many: u16,
}

/// The pattern of a property of one value or two.
macro_rules! pattern {
    ($name:ident $value:ident) => {
        Self::$name($value)
    };
    ($name:ident $value:ident $second:ident $kind:ident) => {
        Self::$name($value, $second)
    };
}

/// Builds [`Property`], its reader and writer, the table of places, and the accessors of
/// [`Properties`] from one row per property.
macro_rules! properties {
    ($(
        $(#[$doc:meta])*
        $id:literal $name:ident($ty:ty: $kind:ident $(, $ty2:ty: $kind2:ident)?),
        once [$($once:ident)*], many [$($many:ident)*] $(, $accessor:ident)?;
    )+) => {
        /// One property: an identifier and a value (MQTT 5.0, table 2-4).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Property<'a> {
            $($(#[$doc])* $name($ty $(, $ty2)?),)+
        }

        impl<'a> Property<'a> {
            /// The identifier of the wire, below 0x80 (MQTT 5.0, table 2-4).
            pub const fn id(&self) -> u8 {
                match self { $(Self::$name(..) => $id,)+ }
            }

            #[inline]
            fn read(input: &mut Reader<'a>, id: u8) -> Result<Self, Error> {
                Ok(match id {
                    $($id => Self::$name(
                        $kind::read(input, id)? $(, $kind2::read(input, id)?)?
                    ),)+
                    _ => return Err(Malformed::UnknownProperty(id).into()),
                })
            }

            #[inline]
            fn skip(input: &mut Reader<'a>, id: u8) -> Result<(), Error> {
                match id {
                    $($id => {
                        $kind::skip(input, id)?;
                        $($kind2::skip(input, id)?;)?
                    })+
                    _ => return Err(Malformed::UnknownProperty(id).into()),
                }
                Ok(())
            }

            /// Appends the identifier and the value.
            ///
            /// The caller vouches for the value: strings of at most 65,535 bytes without U+0000, no
            /// zero where the standard forbids it, no wildcard in a response topic.
            pub fn append(&self, out: &mut Vec<u8>) {
                out.push(self.id());
                match *self {
                    $(pattern!($name value $(second $kind2)?) => {
                        $kind::put(value, out);
                        $($kind2::put(second, out);)?
                    })+
                }
            }
        }

        /// Where the property with this identifier may stand; none if there is no such property.
        const fn places(id: u8) -> Option<Places> {
            Some(match id {
                $($id => Places {
                    once: 0 $(| Carrier::$once.bit())*,
                    many: 0 $(| Carrier::$many.bit())*,
                },)+
                _ => return None,
            })
        }

        /// The first property of each kind, on a block that has been validated; on any other block
        /// an accessor may miss what stands behind a malformed property.
        impl<'a> Properties<'a> {
            $($(
                #[doc = concat!("The value of the first [`Property::", stringify!($name), "`].")]
                pub fn $accessor(&self) -> Option<$ty> {
                    self.find::<$kind>($id)
                }
            )?)+
        }

        /// Every identifier of the table, in ascending order.
        #[cfg(test)]
        const IDS: &[u8] = &[$($id),+];
    };
}

properties! {
    /// Whether the payload is UTF-8 text (MQTT 5.0, 3.3.2.3.2 and 3.1.3.2.3).
    0x01 PayloadFormatIndicator(bool: Flag),
        once [Publish Will], many [], payload_format_indicator;
    /// Lifetime of the message in seconds (MQTT 5.0, 3.3.2.3.3 and 3.1.3.2.4).
    0x02 MessageExpiryInterval(u32: Long),
        once [Publish Will], many [], message_expiry_interval;
    /// What the payload is, in the application's words (MQTT 5.0, 3.3.2.3.9 and 3.1.3.2.5).
    0x03 ContentType(&'a str: Text),
        once [Publish Will], many [], content_type;
    /// Topic name for a response: not empty, no wildcards [MQTT-3.3.2-14].
    0x08 ResponseTopic(&'a str: TopicName),
        once [Publish Will], many [], response_topic;
    /// Tells the requester which request a response answers (MQTT 5.0, 3.3.2.3.6 and 3.1.3.2.7).
    0x09 CorrelationData(&'a [u8]: Binary),
        once [Publish Will], many [], correlation_data;
    /// Identifier of a subscription, 1..=268,435,455 (MQTT 5.0, 3.3.2.3.8 and 3.8.2.1.2). A PUBLISH
    /// to a client carries one for each subscription that matched.
    0x0b SubscriptionIdentifier(u32: VarintAboveZero),
        once [Subscribe], many [Publish], subscription_identifier;
    /// Seconds that a session outlives its connection; `u32::MAX` is for ever
    /// (MQTT 5.0, 3.1.2.11.2, 3.2.2.3.2 and 3.14.2.2.2).
    0x11 SessionExpiryInterval(u32: Long),
        once [Connect Connack Disconnect], many [], session_expiry_interval;
    /// Client identifier chosen by the server (MQTT 5.0, 3.2.2.3.7).
    0x12 AssignedClientIdentifier(&'a str: Text),
        once [Connack], many [], assigned_client_identifier;
    /// Keep alive chosen by the server, in seconds; 0 turns it off (MQTT 5.0, 3.2.2.3.14).
    0x13 ServerKeepAlive(u16: Short),
        once [Connack], many [], server_keep_alive;
    /// Name of the authentication method (MQTT 5.0, 3.1.2.11.9, 3.2.2.3.17 and 3.15.2.2.2).
    0x15 AuthenticationMethod(&'a str: Text),
        once [Connect Connack Auth], many [], authentication_method;
    /// Data of the authentication method (MQTT 5.0, 3.1.2.11.10, 3.2.2.3.18 and 3.15.2.2.3).
    0x16 AuthenticationData(&'a [u8]: Binary),
        once [Connect Connack Auth], many [], authentication_data;
    /// Whether the server may send reason strings and user properties with any packet; absent
    /// means yes (MQTT 5.0, 3.1.2.11.7).
    0x17 RequestProblemInformation(bool: Flag),
        once [Connect], many [], request_problem_information;
    /// Seconds between the end of the connection and the will (MQTT 5.0, 3.1.3.2.2).
    0x18 WillDelayInterval(u32: Long),
        once [Will], many [], will_delay_interval;
    /// Whether the client asks for Response Information; absent means no (MQTT 5.0, 3.1.2.11.6).
    0x19 RequestResponseInformation(bool: Flag),
        once [Connect], many [], request_response_information;
    /// What to build response topics from (MQTT 5.0, 3.2.2.3.15).
    0x1a ResponseInformation(&'a str: Text),
        once [Connack], many [], response_information;
    /// Another server to use (MQTT 5.0, 3.2.2.3.16 and 3.14.2.2.5).
    0x1c ServerReference(&'a str: Text),
        once [Connack Disconnect], many [], server_reference;
    /// Words for a person who looks for the reason (MQTT 5.0, 3.2.2.3.9).
    0x1f ReasonString(&'a str: Text),
        once [Connack Puback Pubrec Pubrel Pubcomp Suback Unsuback Disconnect Auth], many [],
        reason_string;
    /// QoS 1 and 2 messages the sender of this takes unacknowledged at once, 1..=65,535; absent
    /// means 65,535 (MQTT 5.0, 3.1.2.11.3 and 3.2.2.3.3).
    0x21 ReceiveMaximum(u16: ShortAboveZero),
        once [Connect Connack], many [], receive_maximum;
    /// Topic aliases the sender of this takes; absent means none
    /// (MQTT 5.0, 3.1.2.11.5 and 3.2.2.3.8).
    0x22 TopicAliasMaximum(u16: Short),
        once [Connect Connack], many [], topic_alias_maximum;
    /// Number that stands for the topic name, 1..=65,535 (MQTT 5.0, 3.3.2.3.4). Zero is answered
    /// with reason code 0x94 [MQTT-3.3.2-8].
    0x23 TopicAlias(u16: ShortAboveZero),
        once [Publish], many [], topic_alias;
    /// The most the server grants, QoS 0 or 1; absent means 2 (MQTT 5.0, 3.2.2.3.4).
    0x24 MaximumQoS(QoS: QoSBelowTwo),
        once [Connack], many [], maximum_qos;
    /// Whether the server keeps retained messages; absent means yes (MQTT 5.0, 3.2.2.3.5).
    0x25 RetainAvailable(bool: Flag),
        once [Connack], many [], retain_available;
    /// A name and a value whose meaning is the application's; order is kept and names may repeat
    /// (MQTT 5.0, 3.3.2.3.7).
    0x26 UserProperty(&'a str: Text, &'a str: Text),
        once [], many [Connect Will Connack Publish Puback Pubrec Pubrel Pubcomp Subscribe Suback
            Unsubscribe Unsuback Disconnect Auth];
    /// Bytes of the largest packet the sender of this takes, 1..=4,294,967,295; absent means any
    /// (MQTT 5.0, 3.1.2.11.4 and 3.2.2.3.6).
    0x27 MaximumPacketSize(u32: LongAboveZero),
        once [Connect Connack], many [], maximum_packet_size;
    /// Whether the server takes wildcards; absent means yes (MQTT 5.0, 3.2.2.3.11).
    0x28 WildcardSubscriptionAvailable(bool: Flag),
        once [Connack], many [], wildcard_subscription_available;
    /// Whether the server takes subscription identifiers; absent means yes (MQTT 5.0, 3.2.2.3.12).
    0x29 SubscriptionIdentifierAvailable(bool: Flag),
        once [Connack], many [], subscription_identifier_available;
    /// Whether the server takes shared subscriptions; absent means yes (MQTT 5.0, 3.2.2.3.13).
    0x2a SharedSubscriptionAvailable(bool: Flag),
        once [Connack], many [], shared_subscription_available;
}

/// A property block without its length prefix. Before MQTT 5.0 it is empty.
///
/// In every packet but PUBLISH it is validated by [`decode`](crate::decode); in a PUBLISH it is
/// whatever the peer sent, until [`validate`](Self::validate) says it is in order.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties<'a>(&'a [u8]);

impl<'a> Properties<'a> {
    /// The empty block.
    pub const fn none() -> Self {
        Self(&[])
    }

    /// A block from its bytes, as [`Property::append`] writes them. Nothing is checked.
    #[inline]
    pub const fn from_raw(block: &'a [u8]) -> Self {
        Self(block)
    }

    /// The bytes of the block, at most 268,435,455.
    #[inline]
    pub const fn raw(&self) -> &'a [u8] {
        self.0
    }

    /// Whether there is no property.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks the whole block: identifiers, places, repetition, values, and that the last property
    /// ends where the block ends. Linear in the block; allocates nothing.
    ///
    /// Fails with [`Error::Malformed`] for what cannot be parsed, for an identifier the standard
    /// does not know and for one that does not belong in `carrier` (MQTT 5.0, 2.2.2.2); with
    /// [`Error::Protocol`] for a repetition or a forbidden value.
    pub fn validate(&self, carrier: Carrier) -> Result<(), Error> {
        const DATA: u64 = 1 << 0x16;
        const METHOD: u64 = 1 << 0x15;

        let mut input = Reader::new(self.0);
        let mut seen = 0_u64;
        while !input.is_empty() {
            let id = input.u8(Field::Properties)?;
            let Some(places) = places(id) else {
                return Err(Malformed::UnknownProperty(id).into());
            };
            // The table has no identifier above 63, so each has a bit of its own.
            let bit = 1_u64 << (id & 63);
            if places.many & carrier.bit() == 0 {
                if places.once & carrier.bit() == 0 {
                    return Err(Malformed::MisplacedProperty(id, carrier).into());
                }
                if seen & bit != 0 {
                    return Err(Offence::DuplicateProperty(id).into());
                }
            }
            seen |= bit;
            Property::read(&mut input, id)?;
        }
        if seen & DATA != 0 && seen & METHOD == 0 {
            return Err(Offence::DataWithoutMethod.into());
        }
        Ok(())
    }

    /// The properties in the order of the wire. The first error ends the iteration.
    pub const fn iter(&self) -> PropertyIter<'a> {
        PropertyIter { input: Reader::new(self.0) }
    }

    /// The user properties in the order of the wire, on a block that has been validated.
    pub const fn user_properties(&self) -> UserProperties<'a> {
        UserProperties(self.iter())
    }

    fn find<K: Kind>(&self, id: u8) -> Option<K::Value<'a>> {
        let mut input = Reader::new(self.0);
        while !input.is_empty() {
            let found = input.u8(Field::Properties).ok()?;
            if found == id {
                return K::read(&mut input, id).ok();
            }
            Property::skip(&mut input, found).ok()?;
        }
        None
    }
}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Properties<'a> {
    type Item = Result<Property<'a>, Error>;
    type IntoIter = PropertyIter<'a>;

    fn into_iter(self) -> PropertyIter<'a> {
        self.iter()
    }
}

/// Iterates over a property block. The first error ends the iteration.
#[derive(Debug, Clone)]
pub struct PropertyIter<'a> {
    input: Reader<'a>,
}

impl<'a> PropertyIter<'a> {
    /// The next property together with its bytes, identifier included, so that a block can be
    /// copied property by property.
    pub fn next_raw(&mut self) -> Option<Result<(Property<'a>, &'a [u8]), Error>> {
        let before = self.input.rest();
        if before.is_empty() {
            return None;
        }
        let read = self
            .input
            .u8(Field::Properties)
            .and_then(|id| Property::read(&mut self.input, id))
            .map(|property| (property, &before[..before.len() - self.input.rest().len()]));
        if read.is_err() {
            self.input = Reader::new(&[]);
        }
        Some(read)
    }

    /// The bytes not read yet; empty after an error.
    pub const fn rest(&self) -> &'a [u8] {
        self.input.rest()
    }
}

impl<'a> Iterator for PropertyIter<'a> {
    type Item = Result<Property<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_raw()?.map(|(property, _)| property))
    }
}

impl core::iter::FusedIterator for PropertyIter<'_> {}

/// Iterates over the user properties of a block: name and value, in the order of the wire.
#[derive(Debug, Clone)]
pub struct UserProperties<'a>(PropertyIter<'a>);

impl<'a> Iterator for UserProperties<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.find_map(|property| match property {
            Ok(Property::UserProperty(name, value)) => Some((name, value)),
            _ => None,
        })
    }
}

impl core::iter::FusedIterator for UserProperties<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// MQTT 5.0, table 2-4, in its order: identifier, a legal value, where it may stand.
    const TABLE: &[(u8, &[u8], &[Carrier])] = {
        use Carrier::*;
        &[
            (0x01, b"\x01", &[Publish, Will]),
            (0x02, b"\0\0\0\0", &[Publish, Will]),
            (0x03, b"\0\0", &[Publish, Will]),
            (0x08, b"\0\x01a", &[Publish, Will]),
            (0x09, b"\0\x02\xff\0", &[Publish, Will]),
            (0x0b, b"\xff\xff\xff\x7f", &[Publish, Subscribe]),
            (0x11, b"\xff\xff\xff\xff", &[Connect, Connack, Disconnect]),
            (0x12, b"\0\x01a", &[Connack]),
            (0x13, b"\0\0", &[Connack]),
            (0x15, b"\0\0", &[Connect, Connack, Auth]),
            (0x16, b"\0\x01\0", &[Connect, Connack, Auth]),
            (0x17, b"\0", &[Connect]),
            (0x18, b"\0\0\0\0", &[Will]),
            (0x19, b"\x01", &[Connect]),
            (0x1a, b"\0\0", &[Connack]),
            (0x1c, b"\0\0", &[Connack, Disconnect]),
            (
                0x1f,
                b"\0\x02ok",
                &[Connack, Puback, Pubrec, Pubrel, Pubcomp, Suback, Unsuback, Disconnect, Auth],
            ),
            (0x21, b"\0\x01", &[Connect, Connack]),
            (0x22, b"\0\0", &[Connect, Connack]),
            (0x23, b"\0\x01", &[Publish]),
            (0x24, b"\x01", &[Connack]),
            (0x25, b"\0", &[Connack]),
            (0x26, b"\0\x01k\0\x01v", &Carrier::ALL),
            (0x27, b"\0\0\0\x01", &[Connect, Connack]),
            (0x28, b"\x01", &[Connack]),
            (0x29, b"\x01", &[Connack]),
            (0x2a, b"\x01", &[Connack]),
        ]
    };

    fn block(items: &[(u8, &[u8])]) -> Vec<u8> {
        items.iter().flat_map(|(id, value)| [&[*id], *value].concat()).collect()
    }

    #[test]
    fn a_property_stands_where_the_standard_says_and_nowhere_else() {
        assert_eq!(IDS, TABLE.iter().map(|row| row.0).collect::<Vec<_>>());
        for (id, value, places) in TABLE {
            for carrier in Carrier::ALL {
                // Authentication data does not stand alone.
                let method: &[u8] = if *id == 0x16 { b"\x15\0\x01m" } else { b"" };
                let bytes = [&block(&[(*id, value)]), method].concat();
                let want = if places.contains(&carrier) {
                    Ok(())
                } else {
                    Err(Malformed::MisplacedProperty(*id, carrier).into())
                };
                assert_eq!(Properties::from_raw(&bytes).validate(carrier), want, "{id:#04x}");
            }
        }
    }

    #[test]
    fn an_identifier_without_a_property_is_malformed() {
        for id in (0..=u8::MAX).filter(|id| !IDS.contains(id)) {
            let bytes = [id, 0, 0, 0, 0];
            let properties = Properties::from_raw(&bytes);
            let want = Error::from(Malformed::UnknownProperty(id));
            assert_eq!(properties.validate(Carrier::Publish), Err(want));
            assert_eq!(properties.iter().collect::<Vec<_>>(), [Err(want)]);
        }
    }

    /// Only user properties, and in a PUBLISH subscription identifiers, may repeat.
    #[test]
    fn a_property_stands_once_unless_the_standard_says_otherwise() {
        for (id, value, places) in TABLE {
            for carrier in *places {
                let bytes = block(&[(0x26, b"\0\0\0\0"), (*id, value), (*id, value)]);
                let many = *id == 0x26 || (*id, *carrier) == (0x0b, Carrier::Publish);
                let want = if many { Ok(()) } else { Err(Offence::DuplicateProperty(*id).into()) };
                assert_eq!(Properties::from_raw(&bytes).validate(*carrier), want, "{id:#04x}");
            }
        }
    }

    #[test]
    fn a_property_cut_short_at_any_byte_is_malformed() {
        for (id, value, places) in TABLE {
            let bytes = block(&[(*id, value)]);
            for end in 1..bytes.len() {
                let got = Properties::from_raw(&bytes[..end]).validate(places[0]);
                let want = Err(Malformed::Truncated(Field::Property(*id)).into());
                assert_eq!(got, want, "{id:#04x} of {end} bytes");
            }
        }
    }

    /// MQTT 5.0, 3.1.2.11, 3.2.2.3, 3.3.2.3 and 3.8.2.1; [MQTT-3.3.2-8], [MQTT-3.3.2-14].
    #[test]
    fn a_forbidden_value_is_a_protocol_error() {
        let check = |id: u8, value: &[u8], carrier: Carrier| {
            let bytes = block(&[(id, value)]);
            let got = Properties::from_raw(&bytes).validate(carrier);
            assert_eq!(got, Err(Offence::PropertyValue(id).into()), "{id:#04x} {value:02x?}");
        };
        for (id, carrier) in [
            (0x01, Carrier::Publish),
            (0x17, Carrier::Connect),
            (0x19, Carrier::Connect),
            (0x24, Carrier::Connack),
            (0x25, Carrier::Connack),
            (0x28, Carrier::Connack),
            (0x29, Carrier::Connack),
            (0x2a, Carrier::Connack),
        ] {
            check(id, &[2], carrier);
            check(id, &[255], carrier);
        }
        check(0x21, b"\0\0", Carrier::Connect);
        check(0x23, b"\0\0", Carrier::Publish);
        check(0x27, b"\0\0\0\0", Carrier::Connack);
        check(0x0b, b"\0", Carrier::Subscribe);
        check(0x08, b"\0\0", Carrier::Will);
        check(0x08, b"\0\x03a/+", Carrier::Publish);
        check(0x08, b"\0\x01#", Carrier::Publish);
    }

    /// [MQTT-1.5.4-1], [MQTT-1.5.4-2], [MQTT-1.5.5-1], [MQTT-1.5.7-1], [MQTT-3.3.2-13],
    /// [MQTT-3.3.2-19].
    #[test]
    fn a_value_that_is_not_of_its_type_is_malformed() {
        let check = |id: u8, value: &[u8], want: Malformed| {
            let bytes = block(&[(id, value)]);
            let got = Properties::from_raw(&bytes).validate(Carrier::Publish);
            assert_eq!(got, Err(want.into()), "{id:#04x} {value:02x?}");
        };
        let field = Field::Property;
        check(0x03, b"\0\x02\xc3\x28", Malformed::Utf8(field(0x03)));
        check(0x08, b"\0\x03\xed\xa0\x80", Malformed::Utf8(field(0x08)));
        check(0x26, b"\0\x01\0\0\x01v", Malformed::Nul(field(0x26)));
        check(0x26, b"\0\x01k\0\x01\xff", Malformed::Utf8(field(0x26)));
        check(0x0b, b"\x81\x00", Malformed::Varint(field(0x0b)));
        check(0x0b, b"\xff\xff\xff\xff\x01", Malformed::Varint(field(0x0b)));
    }

    /// MQTT 5.0, 3.1.2.11.10.
    #[test]
    fn authentication_data_needs_a_method() {
        let check = |items: &[(u8, &[u8])], want: Result<(), Error>| {
            let bytes = block(items);
            assert_eq!(Properties::from_raw(&bytes).validate(Carrier::Connect), want);
        };
        check(&[(0x16, b"\0\0")], Err(Offence::DataWithoutMethod.into()));
        check(&[(0x16, b"\0\0"), (0x15, b"\0\x01m")], Ok(()));
    }

    #[test]
    fn a_block_is_copied_property_by_property() {
        let rows = TABLE.iter().map(|(id, value, _)| (*id, *value)).collect::<Vec<_>>();
        let bytes = block(&rows);
        let mut items = Properties::from_raw(&bytes).iter();
        let (mut raw, mut appended) = (Vec::new(), Vec::new());
        while let Some(item) = items.next_raw() {
            let (property, slice) = item.unwrap();
            assert_eq!(property.id(), slice[0]);
            raw.extend_from_slice(slice);
            property.append(&mut appended);
            assert_eq!(items.rest(), &bytes[raw.len()..]);
        }
        assert_eq!(raw, bytes);
        assert_eq!(appended, bytes);
    }

    #[test]
    fn an_accessor_finds_the_first_of_its_kind() {
        let rows = TABLE.iter().map(|(id, value, _)| (*id, *value)).collect::<Vec<_>>();
        let bytes = [block(&rows), block(&[(0x0b, b"\x05"), (0x26, b"\0\0\0\x01w")])].concat();
        let properties = Properties::from_raw(&bytes);
        assert_eq!(properties.payload_format_indicator(), Some(true));
        assert_eq!(properties.response_topic(), Some("a"));
        assert_eq!(properties.correlation_data(), Some(&b"\xff\0"[..]));
        assert_eq!(properties.subscription_identifier(), Some(268_435_455));
        assert_eq!(properties.session_expiry_interval(), Some(u32::MAX));
        assert_eq!(properties.reason_string(), Some("ok"));
        assert_eq!(properties.topic_alias(), Some(1));
        assert_eq!(properties.maximum_qos(), Some(QoS::AtLeastOnce));
        assert_eq!(properties.shared_subscription_available(), Some(true));
        assert_eq!(properties.user_properties().collect::<Vec<_>>(), [("k", "v"), ("", "w")]);
        assert_eq!(Properties::none().topic_alias(), None);
        assert_eq!(Properties::none().user_properties().next(), None);
    }
}
