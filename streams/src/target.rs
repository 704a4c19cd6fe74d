//! Where a stream may connect to: not to the network of the host, unless allowed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::ConfigurationError;
use crate::failure::{FORBIDDEN, Failure, UNREACHABLE};

/// How long one address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses of a host that are tried, at most.
const ADDRESSES_MAX: usize = 8;

/// Networks of version 4 that are not the internet (IANA's registry of special purposes).
const CLOSED_V4: [Ipv4Net; 15] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];

/// The part of version 6 that is the internet, and the networks in it that lead elsewhere: those
/// of the registry, and those that carry an address of version 4 (Teredo, 6to4).
const OPEN_V6: Ipv6Net = v6([0x2000, 0], 3);
const CLOSED_V6: [Ipv6Net; 3] = [v6([0x2001, 0], 23), v6([0x2001, 0xdb8], 32), v6([0x2002, 0], 16)];

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([a, b]: [u16; 2], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length)
}

/// Targets that streams may reach beyond the internet: `streams.allow`. None by default.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    hosts: Vec<String>,
    networks: Vec<IpNet>,
}

impl Targets {
    /// Reads `streams.allow`: names of hosts, addresses, and networks as `10.1.0.0/16`. `0.0.0.0/0`
    /// and `::/0` together allow everything.
    ///
    /// # Errors
    /// An entry that is none of these.
    pub fn new<S: AsRef<str>>(
        allow: impl IntoIterator<Item = S>,
    ) -> Result<Self, ConfigurationError> {
        let mut targets = Self::default();
        for entry in allow {
            let entry = entry.as_ref().trim();
            if let Ok(network) = entry.parse::<IpNet>() {
                targets.networks.push(network);
            } else if let Ok(address) = entry.parse::<IpAddr>() {
                targets.networks.push(address.into());
            } else if !entry.contains('/') && is_host(entry) {
                targets.hosts.push(name(entry));
            } else {
                let text = format!(
                    "{entry:?} is no host, address or network; write `iot.example.com`, \
                     `10.1.2.3` or `10.1.0.0/16`"
                );
                return Err(ConfigurationError::new("streams.allow", text));
            }
        }
        Ok(targets)
    }

    /// Connects to a host. Its name is looked up once, and what was checked is what is connected
    /// to: an answer that changes in between (DNS rebinding) changes nothing.
    ///
    /// # Errors
    /// [`UNREACHABLE`] and [`FORBIDDEN`].
    pub async fn connect(&self, target: &Target) -> Result<TcpStream, Failure> {
        let found = lookup_host((target.host.as_str(), target.port)).await;
        let found = found.map_err(|error| {
            Failure::new(UNREACHABLE, format!("the host {} was not found: {error}", target.host))
        })?;
        let is_named = self.hosts.contains(&name(&target.host));
        let allowed = found.filter(|it| is_named || self.allows(it.ip()));
        let mut last = Failure::new(
            FORBIDDEN,
            format!(
                "{} is not on the internet; who runs this server may list it in `streams.allow`",
                target.host
            ),
        );
        for address in allowed.take(ADDRESSES_MAX) {
            match dial(address).await {
                Ok(stream) if is_named || !is_here(&stream) => return Ok(stream),
                // A public address of this very host leads to what listens here.
                Ok(stream) if stream.peer_addr().is_ok_and(|it| self.lists(it.ip())) => {
                    return Ok(stream);
                }
                Ok(_) => {}
                Err(text) => {
                    let text = format!("{target} cannot be reached: {text}");
                    last = Failure::new(UNREACHABLE, text);
                }
            }
        }
        Err(last)
    }

    fn allows(&self, address: IpAddr) -> bool {
        is_internet(address) || self.lists(address)
    }

    fn lists(&self, address: IpAddr) -> bool {
        // An address of version 4 in the clothes of version 6 is the one inside.
        let address = address.to_canonical();
        self.networks.iter().any(|it| it.contains(&address))
    }
}

async fn dial(address: SocketAddr) -> Result<TcpStream, String> {
    let dialled = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let stream = match dialled {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())),
    };
    // Small packets that each wait for an answer.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}

fn is_here(stream: &TcpStream) -> bool {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(local), Ok(peer)) => local.ip() == peer.ip(),
        _ => true,
    }
}

fn is_internet(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !CLOSED_V4.iter().any(|it| it.contains(&address)),
        IpAddr::V6(address) => {
            OPEN_V6.contains(&address) && !CLOSED_V6.iter().any(|it| it.contains(&address))
        }
    }
}

fn name(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// Whether this may be the name of a host (R6.24), or an address of version 4.
fn is_host(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= 253 && text.chars().all(is_part)
}

/// A host and a port: `iot.example.com:1883`, `[2001:db8::1]:1883`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or address, without brackets.
    pub host: String,
    /// 1 to 65,535.
    pub port: u16,
}

impl Target {
    /// Reads `host:port`, or `host` if there is a port to take then. Nothing if it is neither.
    #[must_use]
    pub fn parse(text: &str, port: Option<u16>) -> Option<Self> {
        if let Some((host, rest)) = text.strip_prefix('[').and_then(|it| it.split_once(']')) {
            host.parse::<Ipv6Addr>().ok()?;
            let port = if rest.is_empty() { port } else { port_of(rest.strip_prefix(':')?) };
            return Some(Self { host: host.to_owned(), port: port? });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port_of(port)),
            None => (text, port),
        };
        is_host(host).then_some(())?;
        Some(Self { host: host.to_owned(), port: port? })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

fn port_of(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|it| it.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port != 0)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_the_internet_is_open_without_being_listed() {
        let rows = [
            ("8.8.8.8", true),
            ("2a00:1450:4001::1", true),
            ("127.0.0.1", false),
            ("127.8.8.8", false),
            ("0.0.0.0", false),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("172.32.0.1", true),
            ("192.168.1.1", false),
            ("100.64.0.1", false),
            ("169.254.169.254", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("ff02::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::7f00:1", false),
            ("2002:7f00:1::", false),
            ("2001:0:7f00:1::", false),
        ];
        for (address, is_open) in rows {
            assert_eq!(Targets::default().allows(address.parse().unwrap()), is_open, "{address}");
        }
    }

    #[test]
    fn addresses_and_networks_can_be_listed() {
        let targets = Targets::new(["10.1.0.0/16", "192.168.7.7", "::1", "a.example"]).unwrap();
        let rows = [
            ("10.1.200.3", true),
            ("::ffff:10.1.200.3", true),
            ("10.2.0.1", false),
            ("192.168.7.7", true),
            ("192.168.7.8", false),
            ("::1", true),
            ("127.0.0.1", false),
        ];
        for (address, is_open) in rows {
            assert_eq!(targets.allows(address.parse().unwrap()), is_open, "{address}");
        }
        for wrong in ["", "10.0.0.0/33", "a b", "http://x", "*"] {
            let error = Targets::new([wrong]).unwrap_err();
            assert_eq!(error.field, "streams.allow", "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn a_host_is_refused_by_its_address_and_allowed_by_name_or_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // 2130706433 and 0x7f.1 are spellings of 127.0.0.1 that resolvers understand.
        for host in ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "127.1"] {
            let target = Target { host: host.to_owned(), port };
            let failure = Targets::default().connect(&target).await.unwrap_err();
            assert!([FORBIDDEN, UNREACHABLE].contains(&failure.code), "{host}: {failure}");
        }
        let target = Target { host: "localhost".to_owned(), port };
        let failure = Targets::default().connect(&target).await.unwrap_err();
        assert_eq!(failure.code, FORBIDDEN);
        for allow in ["localhost", "LOCALHOST.", "127.0.0.0/8"] {
            let targets = Targets::new([allow]).unwrap();
            targets.connect(&target).await.unwrap();
        }
        drop(listener);
        let failure = Targets::new(["localhost"]).unwrap().connect(&target).await.unwrap_err();
        assert_eq!(failure.code, UNREACHABLE);
    }

    #[test]
    fn a_target_is_a_host_and_a_port() {
        let rows = [
            ("iot.example.com:1883", Some(("iot.example.com", 1883))),
            ("iot.example.com", Some(("iot.example.com", 8883))),
            ("[2001:db8::1]:80", Some(("2001:db8::1", 80))),
            ("[2001:db8::1]", Some(("2001:db8::1", 8883))),
            ("2001:db8::1", None),
            ("host:", None),
            ("host:0", None),
            ("host:65536", None),
            ("host:+80", None),
            ("user@host:80", None),
            ("mqtt://host:80", None),
            (":80", None),
            ("[x]:80", None),
            ("", None),
        ];
        for (text, want) in rows {
            let found = Target::parse(text, Some(8883));
            let found = found.as_ref().map(|it| (it.host.as_str(), it.port));
            assert_eq!(found, want, "{text}");
        }
        assert_eq!(Target::parse("host", None), None);
    }
}
