//! Where to listen and what is spoken there, said as a URL.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// What is spoken behind a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// MQTT over TCP.
    Mqtt,
    /// MQTT over TLS.
    Mqtts,
    /// MQTT over WebSocket.
    Ws,
    /// MQTT over WebSocket over TLS.
    Wss,
    /// HTTP, which upgrades to MQTT over WebSocket.
    Http,
    /// HTTP over TLS, likewise.
    Https,
}

/// With the name and the port of each.
const SCHEMES: [(Scheme, &str, u16); 6] = [
    (Scheme::Mqtt, "mqtt", 1883),
    (Scheme::Mqtts, "mqtts", 8883),
    (Scheme::Ws, "ws", 80),
    (Scheme::Wss, "wss", 443),
    (Scheme::Http, "http", 80),
    (Scheme::Https, "https", 443),
];

impl Scheme {
    /// Whether TLS is spoken.
    #[must_use]
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss | Self::Https)
    }

    /// The part of the URL before `://`.
    #[must_use]
    pub fn name(self) -> &'static str {
        SCHEMES.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A listener to be: `mqtt://127.0.0.1:1883`, `wss://[::]?proxy=v2&trusted=10.0.0.0/8`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Listen {
    /// What is spoken.
    pub scheme: Scheme,
    /// An IP address without brackets, or a host name.
    pub host: String,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// Whether a proxy in front says who the client is (PROXY protocol, version 1 or 2).
    pub proxy: bool,
    /// The proxies that are believed.
    pub trusted: Vec<Network>,
}

impl Listen {
    /// The addresses to bind: one, or all that a host name stands for.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(found)
    }

    /// Whether there is nothing to do at its entrance but to accept.
    pub(crate) fn is_plain(&self) -> bool {
        self.scheme == Scheme::Mqtt && !self.proxy
    }

    /// Finds fault with what no parser sees.
    pub(crate) fn check(&self) -> Result<(), InvalidListen> {
        if self.proxy && self.trusted.is_empty() {
            let what = "expects a proxy and trusts none: every connection would be refused";
            return Err(InvalidListen(format!("{self} {what}")));
        }
        Ok(())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.scheme.name();
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{name}://{open}{}{close}:{}", self.host, self.port)?;
        if self.proxy { f.write_str("?proxy=v2") } else { Ok(()) }
    }
}

/// The text is no URL of a listener, or names no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidListen(String);

impl fmt::Display for InvalidListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidListen {}

/// `scheme://host[:port][/][?proxy=v2[&trusted=network,...]]`
impl FromStr for Listen {
    type Err = InvalidListen;

    fn from_str(url: &str) -> Result<Self, InvalidListen> {
        let wrong = |what: &str| InvalidListen(format!("{url:?} is no listener: {what}"));
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| wrong("it takes the form mqtt://0.0.0.0:1883, the scheme first"))?;
        let (scheme, _, default_port) =
            *SCHEMES.iter().find(|row| row.1.eq_ignore_ascii_case(scheme)).ok_or_else(|| {
                let names = SCHEMES.map(|row| row.1).join(", ");
                wrong(&format!("the scheme is one of {names}"))
            })?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !path.is_empty() {
            return Err(wrong("leave the path out, every path is served"));
        }
        if authority.contains('@') {
            return Err(wrong("leave user and password out, credentials are under [auth]"));
        }
        let (host, port) = split_port(authority).map_err(wrong)?;
        let port = match port {
            Some(port) => port.parse().map_err(|_| wrong("the port is from 0 to 65535"))?,
            None => default_port,
        };
        let mut listen =
            Self { scheme, host: host.to_owned(), port, proxy: false, trusted: vec![] };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("proxy", "v2")) => listen.proxy = true,
                Some(("trusted", names)) => {
                    for name in split_list(names) {
                        listen
                            .trusted
                            .push(name.parse().map_err(|what: InvalidListen| wrong(&what.0))?);
                    }
                }
                _ => return Err(wrong(&format!("unknown option {pair:?}, there is ?proxy=v2"))),
            }
        }
        Ok(listen)
    }
}

/// Host without brackets, and port if one is written.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("the bracket [ is not closed")?;
            host.parse::<Ipv6Addr>().map_err(|_| "brackets hold an IPv6 address")?;
            (host, rest.strip_prefix(':').or(if rest.is_empty() { None } else { Some("?") }))
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address goes in brackets, as in [::]:1883");
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if host.is_empty() {
        return Err("the address is missing; 0.0.0.0 stands for every IPv4 address");
    }
    if !host.bytes().all(legal) {
        return Err("the address is an IP address or a host name");
    }
    Ok((host, port))
}

/// The items of a list written in one text, divided by commas or spaces.
fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).filter(|item| !item.is_empty())
}

/// An IP address, or all that share its first `prefix` bits: `10.0.0.7`, `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Network {
    /// Any address of it.
    pub address: IpAddr,
    /// How many bits count.
    pub prefix: u8,
}

impl Network {
    /// Whether `address` belongs to it. An IPv4 address counts as such in its IPv6 dress too.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => {
                let mapped = if self.address.is_ipv6() { 96 } else { 0 };
                let prefix = self.prefix.saturating_sub(mapped);
                let differing = u32::from(ours) ^ u32::from(other);
                differing.checked_shr(32 - u32::from(prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(other)) => {
                let differing = u128::from(ours) ^ u128::from(other);
                differing.checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidListen;

    fn from_str(text: &str) -> Result<Self, InvalidListen> {
        let wrong =
            || InvalidListen(format!("takes addresses as 10.0.0.7 or 10.0.0.0/8, not {text:?}"));
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(wrong)?,
            None => most,
        };
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_parse_with_the_ports_of_their_schemes() {
        let rows = [
            ("mqtt://0.0.0.0", "mqtt://0.0.0.0:1883"),
            ("mqtts://0.0.0.0", "mqtts://0.0.0.0:8883"),
            ("ws://localhost/", "ws://localhost:80"),
            ("wss://[::1]", "wss://[::1]:443"),
            ("HTTP://[::]:0", "http://[::]:0"),
            ("https://broker.example:8443", "https://broker.example:8443"),
            ("mqtt://10.0.0.1:1?proxy=v2&trusted=10.0.0.0/8,::1", "mqtt://10.0.0.1:1?proxy=v2"),
        ];
        for (url, want) in rows {
            assert_eq!(url.parse::<Listen>().unwrap().to_string(), want, "{url}");
        }
        let listen: Listen = rows[6].0.parse().unwrap();
        let trusted: Vec<_> = listen.trusted.iter().map(Network::to_string).collect();
        assert_eq!(trusted, ["10.0.0.0/8", "::1/128"]);
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        let rows = [
            ("1883", "the scheme first"),
            ("tcp://0.0.0.0:1883", "the scheme is one of mqtt, mqtts"),
            ("mqtt://", "the address is missing"),
            ("mqtt://:1883", "the address is missing"),
            ("mqtt://::1:1883", "goes in brackets"),
            ("mqtt://[::1", "not closed"),
            ("mqtt://[::1]x", "the port is from 0 to 65535"),
            ("mqtt://[localhost]:1", "brackets hold an IPv6"),
            ("mqtt://0.0.0.0:65536", "the port is from 0 to 65535"),
            ("mqtt://0.0.0.0:", "the port is from 0 to 65535"),
            ("ws://0.0.0.0/mqtt", "leave the path out"),
            ("mqtt://me:secret@host", "leave user and password out"),
            ("mqtt://a b:1", "an IP address or a host name"),
            ("mqtt://0.0.0.0?proxy=v1", "unknown option \"proxy=v1\""),
            ("mqtt://0.0.0.0?proxy=v2&trusted=10.0.0.0/33", "takes addresses as"),
        ];
        for (url, want) in rows {
            let error = url.parse::<Listen>().unwrap_err().to_string();
            assert!(error.contains(want), "{url}: {error}");
        }
    }

    #[test]
    fn a_network_holds_the_addresses_that_share_its_prefix() {
        let rows = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "11.1.2.3", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe00::1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
        ];
        for (network, address, want) in rows {
            let holds = network.parse::<Network>().unwrap().contains(address.parse().unwrap());
            assert_eq!(holds, want, "{network} {address}");
        }
    }

    #[test]
    fn a_name_resolves_to_what_it_stands_for() {
        let listen: Listen = "mqtt://localhost:1883".parse().unwrap();
        assert!(listen.resolve().unwrap().iter().all(|address| address.ip().is_loopback()));
    }
}
