//! Reason codes, what they mean to a 3.1.1 client, and which packet may carry which
//! (MQTT 5.0, 2.4).

use core::fmt;

use crate::packet::PacketType;

/// Builds [`ReasonCode`] from rows of value, name and words.
macro_rules! reason_codes {
    ($($value:literal $name:ident $words:literal)+) => {
        /// The result of an operation (MQTT 5.0, table 2-6). Values from 0x80 up are failures.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum ReasonCode {
            $(#[doc = concat!($words, ", `", stringify!($value), "`.")] $name = $value,)+
        }

        impl ReasonCode {
            /// The code with this value; none if the standard gives it no meaning.
            #[inline]
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// The words of the standard, without a stop.
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)+
                }
            }
        }
    };
}

reason_codes! {
    0x00 Success "Success"
    0x01 GrantedQoS1 "Granted QoS 1"
    0x02 GrantedQoS2 "Granted QoS 2"
    0x04 DisconnectWithWill "Disconnect with Will Message"
    0x10 NoMatchingSubscribers "No matching subscribers"
    0x11 NoSubscriptionExisted "No subscription existed"
    0x18 ContinueAuthentication "Continue authentication"
    0x19 ReAuthenticate "Re-authenticate"
    0x80 UnspecifiedError "Unspecified error"
    0x81 MalformedPacket "Malformed Packet"
    0x82 ProtocolError "Protocol Error"
    0x83 ImplementationSpecificError "Implementation specific error"
    0x84 UnsupportedProtocolVersion "Unsupported Protocol Version"
    0x85 ClientIdentifierNotValid "Client Identifier not valid"
    0x86 BadUserNameOrPassword "Bad User Name or Password"
    0x87 NotAuthorized "Not authorized"
    0x88 ServerUnavailable "Server unavailable"
    0x89 ServerBusy "Server busy"
    0x8a Banned "Banned"
    0x8b ServerShuttingDown "Server shutting down"
    0x8c BadAuthenticationMethod "Bad authentication method"
    0x8d KeepAliveTimeout "Keep Alive timeout"
    0x8e SessionTakenOver "Session taken over"
    0x8f TopicFilterInvalid "Topic Filter invalid"
    0x90 TopicNameInvalid "Topic Name invalid"
    0x91 PacketIdentifierInUse "Packet Identifier in use"
    0x92 PacketIdentifierNotFound "Packet Identifier not found"
    0x93 ReceiveMaximumExceeded "Receive Maximum exceeded"
    0x94 TopicAliasInvalid "Topic Alias invalid"
    0x95 PacketTooLarge "Packet too large"
    0x96 MessageRateTooHigh "Message rate too high"
    0x97 QuotaExceeded "Quota exceeded"
    0x98 AdministrativeAction "Administrative action"
    0x99 PayloadFormatInvalid "Payload format invalid"
    0x9a RetainNotSupported "Retain not supported"
    0x9b QoSNotSupported "QoS not supported"
    0x9c UseAnotherServer "Use another server"
    0x9d ServerMoved "Server moved"
    0x9e SharedSubscriptionsNotSupported "Shared Subscriptions not supported"
    0x9f ConnectionRateExceeded "Connection rate exceeded"
    0xa0 MaximumConnectTime "Maximum connect time"
    0xa1 SubscriptionIdentifiersNotSupported "Subscription Identifiers not supported"
    0xa2 WildcardSubscriptionsNotSupported "Wildcard Subscriptions not supported"
}

impl ReasonCode {
    /// The byte of the wire.
    #[inline]
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// Whether the operation failed, that is whether the value is 0x80 or more.
    #[inline]
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The CONNACK return code that says the same before MQTT 5.0: 0 to 5 (MQTT 3.1.1, 3.2.2.3).
    ///
    /// What the older table has no word for is 3, server unavailable: the client may try again.
    pub const fn connect_return_code(self) -> u8 {
        match self {
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::BadUserNameOrPassword => 4,
            Self::NotAuthorized | Self::Banned | Self::BadAuthenticationMethod => 5,
            failure if failure.is_error() => 3,
            _ => 0,
        }
    }

    /// The reason for a CONNACK return code before MQTT 5.0; none if there is no such code.
    pub(crate) const fn from_connect_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }

    /// Whether a packet of this type may carry the code (MQTT 5.0, table 2-6).
    ///
    /// The direction is not considered: a code that only one side may send is allowed.
    pub const fn belongs_in(self, packet: PacketType) -> bool {
        let value = self as u8;
        match packet {
            PacketType::Connack => matches!(
                value,
                0x00 | 0x80..=0x8a | 0x8c | 0x90 | 0x95 | 0x97 | 0x99..=0x9d | 0x9f
            ),
            PacketType::Puback | PacketType::Pubrec => {
                matches!(value, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
            }
            PacketType::Pubrel | PacketType::Pubcomp => matches!(value, 0x00 | 0x92),
            PacketType::Suback => matches!(
                value,
                0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8f | 0x91 | 0x97 | 0x9e | 0xa1 | 0xa2
            ),
            PacketType::Unsuback => {
                matches!(value, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8f | 0x91)
            }
            PacketType::Disconnect => matches!(
                value,
                0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8b..=0x90 | 0x93..=0xa2
            ),
            PacketType::Auth => matches!(value, 0x00 | 0x18 | 0x19),
            _ => false,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MQTT 5.0, table 2-6: the codes each packet may carry.
    /// [MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1],
    /// [MQTT-3.9.3-2], [MQTT-3.11.3-2], [MQTT-3.14.2-1], [MQTT-3.15.2-1].
    const CARRIED: &[(PacketType, &[u8])] = &[
        (PacketType::Connect, &[]),
        (
            PacketType::Connack,
            &[
                0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90,
                0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
            ],
        ),
        (PacketType::Publish, &[]),
        (PacketType::Puback, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
        (PacketType::Pubrec, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
        (PacketType::Pubrel, &[0x00, 0x92]),
        (PacketType::Pubcomp, &[0x00, 0x92]),
        (PacketType::Subscribe, &[]),
        (
            PacketType::Suback,
            &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2],
        ),
        (PacketType::Unsubscribe, &[]),
        (PacketType::Unsuback, &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91]),
        (PacketType::Pingreq, &[]),
        (PacketType::Pingresp, &[]),
        (
            PacketType::Disconnect,
            &[
                0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90,
                0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0,
                0xa1, 0xa2,
            ],
        ),
        (PacketType::Auth, &[0x00, 0x18, 0x19]),
    ];

    #[test]
    fn a_packet_carries_the_codes_of_the_standard_and_no_other() {
        for (packet, codes) in CARRIED {
            let carried: Vec<u8> = (0..=u8::MAX)
                .filter_map(ReasonCode::from_u8)
                .filter(|reason| reason.belongs_in(*packet))
                .map(ReasonCode::value)
                .collect();
            assert_eq!(carried, *codes, "{packet}");
        }
    }

    #[test]
    fn a_value_is_a_code_if_the_standard_gives_it_a_name() {
        for value in 0..=u8::MAX {
            let known = CARRIED.iter().any(|(_, codes)| codes.contains(&value));
            let reason = ReasonCode::from_u8(value);
            assert_eq!(reason.is_some(), known, "{value:#04x}");
            if let Some(reason) = reason {
                assert_eq!(reason.value(), value);
                assert_eq!(reason.is_error(), value >= 0x80);
                assert!(!reason.to_string().is_empty());
            }
        }
    }

    /// MQTT 3.1.1, 3.2.2.3.
    #[test]
    fn a_return_code_survives_the_way_there_and_back() {
        for code in 0..=u8::MAX {
            let reason = ReasonCode::from_connect_return_code(code);
            assert_eq!(reason.map(ReasonCode::connect_return_code), (code <= 5).then_some(code));
        }
    }

    #[test]
    fn only_a_failure_has_a_return_code_above_zero() {
        for reason in (0..=u8::MAX).filter_map(ReasonCode::from_u8) {
            let code = reason.connect_return_code();
            assert!(code <= 5, "{reason}");
            assert_eq!(code > 0, reason.is_error(), "{reason}");
        }
        assert_eq!(ReasonCode::Banned.connect_return_code(), 5);
        assert_eq!(ReasonCode::ServerBusy.connect_return_code(), 3);
    }
}
