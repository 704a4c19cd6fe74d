//! What was wrong with what a device sent, and the close code that says so.

use std::borrow::Cow;
use std::fmt;

use crate::message::{IdentError, TooMany};

/// Why a connection ends, or a packet of it came to nothing. It is the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    code: CloseCode,
    text: Cow<'static, str>,
    farewell: Vec<u8>,
}

macro_rules! close_codes {
    ($($(#[$about:meta])+ $name:ident = $value:literal,)+) => {
        /// Why a connection was closed, as the log of its channel has it (R8.8).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum CloseCode {
            $($(#[$about])+ $name = $value,)+
        }

        impl CloseCode {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

close_codes! {
    /// The device closed it.
    ByDevice = 2,
    /// What was sent has been processed, and the connection was for that alone.
    Processed = 3,
    /// The bytes can be read, but say what the protocol forbids.
    ProtocolViolation = 4,
    /// Our own fault.
    Internal = 5,
    /// The bytes cannot be read.
    Parse = 6,
    /// The hub stops.
    Restart = 7,
    /// The hub has another version of the protocol now.
    ProtocolUpdated = 8,
    /// The channel was changed.
    ChannelChanged = 9,
    /// A user asked for it.
    ByUser = 10,
    /// A connection that we open could not be opened.
    OutgoingFailed = 11,
    /// The same ident came in on another connection.
    IdentCollision = 12,
    /// Nothing was sent for too long.
    Inactivity = 17,
    /// It uses something that we do not have.
    Unsupported = 18,
    /// Packets do not begin where they should: the stream is of another protocol, or torn.
    Misaligned = 19,
    /// The channel is blocked.
    ChannelBlocked = 21,
    /// The device is disabled.
    DeviceDisabled = 23,
}

impl CloseCode {
    /// The number in the log.
    pub const fn value(self) -> u8 {
        self as u8
    }
}

impl Error {
    /// An error of any kind.
    pub fn new(code: CloseCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into(), farewell: vec![] }
    }

    /// The bytes say what the protocol forbids.
    pub fn violation(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(CloseCode::ProtocolViolation, text)
    }

    /// The bytes cannot be read.
    pub fn parse(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(CloseCode::Parse, text)
    }

    /// They use something that we do not have.
    pub fn unsupported(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(CloseCode::Unsupported, text)
    }

    /// No packet of this protocol begins so.
    pub fn misaligned(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(CloseCode::Misaligned, text)
    }

    /// With these bytes as the last that the device gets.
    pub fn with_farewell(self, farewell: impl Into<Vec<u8>>) -> Self {
        Self { farewell: farewell.into(), ..self }
    }

    /// For the log.
    pub const fn code(&self) -> CloseCode {
        self.code
    }

    /// What to send before the connection is closed; often nothing.
    pub fn farewell(&self) -> &[u8] {
        &self.farewell
    }
}

impl From<IdentError> for Error {
    fn from(error: IdentError) -> Self {
        Self::violation(error.to_string())
    }
}

impl From<TooMany> for Error {
    fn from(error: TooMany) -> Self {
        Self::violation(error.to_string())
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
