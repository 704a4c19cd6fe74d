//! `/auth`: whose token it is, and where else the broker is to be found (broker specification, 1.8
//! and 15.3.2).

use std::net::{IpAddr, SocketAddr};

use longshore_acl::Method;
use serde_json::{Value, json};

use super::answer::{Answer, Outcome};
use super::call::Call;
use super::route::{Gate, Handler, Route, Takes};
use super::schema::{Field, Kind, Object};
use crate::net::listen::Scheme;

static INFO: Object = Object {
    name: "AuthInfo",
    fields: &[
        Field::new("id", Kind::Whole, "The number of the token"),
        Field::new("info", Kind::Text, "What its owner says of it"),
        Field::new("enabled", Kind::Flag, "Whether it is switched on"),
        Field::new("expire", Kind::Whole, "Valid until then, in unix seconds; 0: unused"),
        Field::new("ttl", Kind::Whole, "Valid for so many seconds after it was used; 0: unused"),
        Field::new("created", Kind::Whole, "When it was made, in unix seconds"),
        Field::new("accessed", Kind::Whole, "When it was last used, in unix seconds"),
        Field::new("cid", Kind::Whole, "The account it opens"),
        Field::new("ips", Kind::Text, "Masks of addresses it may be shown from"),
        Field::new("access", Kind::Object, "What it opens: type, and acl for type 2"),
        Field::new("metadata", Kind::Object, "What its owner keeps with it"),
        Field::new("origins", Kind::Any, "Where it came from"),
    ],
    is_open: false,
};

static REGION: Object = Object {
    name: "Region",
    fields: &[
        Field::new("region", Kind::Text, "Its name"),
        Field::new("default", Kind::Flag, "Whether tools take it unasked"),
        Field::new("rest", Kind::Text, "The URL of REST"),
        Field::new("gw", Kind::Text, "The host of channels"),
        Field::new("cdn", Kind::Text, "The URL of files"),
        Field::new("mqtt", Kind::Text, "Host and port of MQTT"),
        Field::new("mqtt-ws", Kind::Text, "Host and port of MQTT over WebSocket"),
    ],
    is_open: false,
};

/// The routes of this module.
pub(super) static ROUTES: &[&[Route]] = &[&[
    Route {
        method: Method::Get,
        path: "/auth/info",
        about: "Read the token that is shown",
        gate: Gate::Token,
        takes: Takes::Nothing,
        gives: Some(&INFO),
        handler: Handler::Blocking(info),
    },
    Route {
        method: Method::Get,
        path: "/auth/regions",
        about: "Read where the broker is to be found",
        gate: Gate::Open,
        takes: Takes::Nothing,
        gives: Some(&REGION),
        handler: Handler::Blocking(regions),
    },
]];

fn info(call: &Call) -> Outcome {
    let shown = call.caller()?.token.to_json(None);
    Ok(Answer::of([call.fields()?.of(shown)]))
}

/// One region: this broker, under the name that the client has for it.
fn regions(call: &Call) -> Outcome {
    let own = call.host.as_deref().filter(|host| is_host(host)).unwrap_or("localhost");
    let host = without_port(own);
    // What is secure goes before what is not.
    let place = |schemes: &[Scheme]| {
        let of = |scheme: &Scheme| address_of(call, *scheme);
        let address = schemes.iter().find_map(of);
        address.map_or(String::new(), |address| format!("{host}:{}", address.port()))
    };
    let scheme = if call.is_secure { "https" } else { "http" };
    let rest = format!("{scheme}://{own}");
    let mqtt = place(&[Scheme::Mqtts, Scheme::Mqtt]);
    let websocket = place(&[Scheme::Wss, Scheme::Https, Scheme::Ws, Scheme::Http]);
    let region = json!({
        "region": "local", "default": true, "rest": rest, "gw": host, "cdn": rest, "mqtt": mqtt,
        "mqtt-ws": websocket,
    });
    let Value::Object(region) = region else { return Ok(Answer::of([])) };
    Ok(Answer::of([call.fields()?.of(region)]))
}

/// A listener of this scheme, rather one that others can reach.
fn address_of(call: &Call, scheme: Scheme) -> Option<SocketAddr> {
    let of_scheme = call.api.addresses.iter().filter(|(listen, _)| listen.scheme == scheme);
    let addresses = of_scheme.map(|(_, address)| *address);
    addresses.min_by_key(|address| is_local(address.ip()))
}

fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback()
}

/// Whether this could be a host with a port: what is sent back must not be anything at all.
fn is_host(text: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(is_known)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_from_its_port() {
        let rows = [
            ("localhost", "localhost"),
            ("localhost:8080", "localhost"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[::1]:8080", "[::1]"),
            ("[::1]", "[::1]"),
        ];
        for (text, want) in rows {
            assert!(is_host(text));
            assert_eq!(without_port(text), want);
        }
        for text in ["", "a b", "a/b", "<a>", "\"", &"a".repeat(256)] {
            assert!(!is_host(text), "{text}");
        }
    }
}
