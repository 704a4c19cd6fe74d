//! Where to listen, said as a URL.

use std::fmt;
use std::str::FromStr;

/// What clients speak on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// MQTT over TCP.
    Mqtt,
}

/// A listener to be: `mqtt://127.0.0.1:1883`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listen {
    /// What clients speak.
    pub scheme: Scheme,
    /// Host name or address.
    pub host: String,
    /// Port; 0 takes a free one.
    pub port: u16,
}

/// The text is no URL of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidListen(String);

impl fmt::Display for InvalidListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidListen {}

impl FromStr for Listen {
    type Err = InvalidListen;

    fn from_str(url: &str) -> Result<Self, InvalidListen> {
        let rest = url
            .strip_prefix("mqtt://")
            .ok_or_else(|| InvalidListen(format!("{url}: not one of mqtt://")))?;
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "1883"));
        let port = port
            .parse()
            .map_err(|_| InvalidListen(format!("{url}: {port} is not a port (0 to 65535)")))?;
        Ok(Self { scheme: Scheme::Mqtt, host: host.to_owned(), port })
    }
}
