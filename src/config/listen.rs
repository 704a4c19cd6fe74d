//! A listener as its URL describes it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use super::place::Place;

/// What is spoken behind a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
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
    pub(crate) fn is_secure(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss | Self::Https)
    }

    /// The part of the URL before `://`.
    pub(crate) fn name(self) -> &'static str {
        SCHEMES.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }
}

/// One `[[listen]]`.
#[derive(Debug, Clone)]
pub(crate) struct Listen {
    /// What is spoken.
    pub(crate) scheme: Scheme,
    /// An IP address without brackets, or a host name.
    pub(crate) host: String,
    /// The port; 0 takes a free one.
    pub(crate) port: u16,
    /// Whether a proxy in front says who the client is (PROXY protocol, version 1 or 2).
    pub(crate) proxy: bool,
    /// The proxies that are believed.
    pub(crate) trusted: Vec<Network>,
    /// Where it was configured; `None` for a default.
    pub(super) place: Option<Place>,
}

impl Listen {
    /// Where it was configured.
    pub(crate) fn place(&self) -> Place {
        self.place.clone().unwrap_or(Place::Everywhere)
    }

    /// The addresses to bind: one, or all that a host name stands for.
    pub(crate) fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(found)
    }

    /// What is wrong with it beside the `earlier` ones.
    pub(super) fn check(&self, earlier: &[Self]) -> Option<String> {
        if self.proxy && self.trusted.is_empty() {
            return Some(format!(
                "{self} believes no proxy: name yours, as in trusted = [\"10.0.0.0/8\"]"
            ));
        }
        if !self.proxy && !self.trusted.is_empty() {
            return Some(format!(
                "{self} trusts a proxy but expects none: add ?proxy=v2 to the url"
            ));
        }
        let same = |it: &&Self| it.host == self.host && it.port == self.port && self.port != 0;
        let twin = earlier.iter().find(same)?;
        Some(format!("{self} takes the port of {twin}: give one of them another"))
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

/// `scheme://host[:port][/][?proxy=v2[&trusted=network,...]]`
impl FromStr for Listen {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{url:?} is no listener: {what}");
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
        let mut listen = Self {
            scheme,
            host: host.to_owned(),
            port,
            proxy: false,
            trusted: vec![],
            place: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("proxy", "v2")) => listen.proxy = true,
                Some(("trusted", names)) => {
                    for name in split_list(names) {
                        listen.trusted.push(name.parse().map_err(|what: String| wrong(&what))?);
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
pub(super) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).filter(|item| !item.is_empty())
}

/// An IP address, or all that share its first `prefix` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    /// Any address of it.
    pub(crate) address: IpAddr,
    /// How many bits count.
    pub(crate) prefix: u8,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("takes addresses as 10.0.0.7 or 10.0.0.0/8, not {text:?}");
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
            let error = url.parse::<Listen>().unwrap_err();
            assert!(error.contains(want), "{url}: {error}");
        }
    }

    #[test]
    fn a_name_resolves_to_what_it_stands_for() {
        let listen: Listen = "mqtt://localhost:1883".parse().unwrap();
        assert!(listen.resolve().unwrap().iter().all(|address| address.ip().is_loopback()));
    }
}
