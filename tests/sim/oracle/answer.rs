//! What the broker has to answer, packet by packet.

use longshore_codec::{ReasonCode, Version};

/// A packet that the broker owes in answer to another, or as its last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Connack { session_present: bool, reason: ReasonCode },
    Puback(u16, ReasonCode),
    Pubrec(u16, ReasonCode),
    Pubrel(u16, ReasonCode),
    Pubcomp(u16, ReasonCode),
    Suback(u16, Vec<u8>),
    Unsuback(u16, Vec<u8>),
    Pingresp,
    Disconnect(ReasonCode),
}

impl Answer {
    /// Bytes of the packet, without properties.
    pub(crate) fn packet_bytes(&self, version: Version) -> usize {
        let reasoned = |reason: ReasonCode| match reason {
            ReasonCode::Success => 4,
            _ => 5,
        };
        let listed = |codes: &[u8]| 4 + usize::from(version == Version::V5) + codes.len();
        match self {
            Self::Connack { .. } => 4 + usize::from(version == Version::V5),
            Self::Puback(_, reason)
            | Self::Pubrec(_, reason)
            | Self::Pubrel(_, reason)
            | Self::Pubcomp(_, reason) => reasoned(*reason),
            Self::Suback(_, codes) | Self::Unsuback(_, codes) => listed(codes),
            Self::Pingresp => 2,
            Self::Disconnect(reason) => reasoned(*reason) - 2,
        }
    }

    /// The same in the words of a version: before 5.0 there are few.
    pub(crate) fn in_version(self, version: Version) -> Self {
        if version == Version::V5 {
            return self;
        }
        let success = ReasonCode::Success;
        match self {
            Self::Puback(id, _) => Self::Puback(id, success),
            Self::Pubrec(id, _) => Self::Pubrec(id, success),
            Self::Pubrel(id, _) => Self::Pubrel(id, success),
            Self::Pubcomp(id, _) => Self::Pubcomp(id, success),
            Self::Suback(id, codes) => {
                Self::Suback(id, codes.iter().map(|code| (*code).min(0x80)).collect())
            }
            Self::Unsuback(id, _) => Self::Unsuback(id, Vec::new()),
            Self::Connack { session_present, reason } => Self::Connack {
                session_present: session_present && version > Version::V3_1,
                reason: nearest(reason),
            },
            Self::Pingresp | Self::Disconnect(_) => self,
        }
    }
}

/// What a CONNACK before 5.0 can say of a reason, as it is decoded again.
fn nearest(reason: ReasonCode) -> ReasonCode {
    match reason.connect_return_code() {
        0 => ReasonCode::Success,
        1 => ReasonCode::UnsupportedProtocolVersion,
        2 => ReasonCode::ClientIdentifierNotValid,
        3 => ReasonCode::ServerUnavailable,
        4 => ReasonCode::BadUserNameOrPassword,
        _ => ReasonCode::NotAuthorized,
    }
}
