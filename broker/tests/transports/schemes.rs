//! The six schemes: what every client does works on each.

use longshore_broker::{Broker, Scheme, StartError};

use super::certificates::Authority;
use super::client::{
    CONNACK, SUBACK, Stream, address, ask, connect, expect, limits, open, publish, subscribe, tcp,
    tls, try_all, websocket,
};

const SCHEMES: [Scheme; 6] =
    [Scheme::Mqtt, Scheme::Mqtts, Scheme::Ws, Scheme::Wss, Scheme::Http, Scheme::Https];

/// A broker on all schemes.
fn broker(authority: &Authority, change: impl FnOnce(&mut longshore_broker::Limits)) -> Broker {
    let mut builder = open().limits(limits(change)).tls(authority.server(None));
    for scheme in SCHEMES {
        builder = builder.listen(format!("{}://127.0.0.1:0", scheme.name()));
    }
    builder.start().unwrap()
}

/// A stream as clients of `scheme` open it.
fn dial(broker: &Broker, authority: &Authority, scheme: Scheme) -> Box<dyn Stream> {
    let address = address(broker, scheme);
    match scheme {
        Scheme::Mqtt => Box::new(tcp(address)),
        Scheme::Mqtts => Box::new(tls(address, &authority.client(None, &["mqtt"])).unwrap()),
        Scheme::Ws | Scheme::Http => Box::new(websocket(tcp(address), "/mqtt")),
        _ => {
            let stream = tls(address, &authority.client(None, &["h2", "http/1.1"])).unwrap();
            Box::new(websocket(stream, "/mqtt"))
        }
    }
}

/// [MQTT-4.2.0-1], [MQTT-7.1.1-1 v3.1.1].
#[test]
fn clients_of_every_scheme_connect_subscribe_and_get_messages() {
    let authority = Authority::new("ours");
    let broker = broker(&authority, |_| {});
    for scheme in SCHEMES {
        try_all(&mut *dial(&broker, &authority, scheme), scheme.name());
    }
    assert_eq!(broker.addresses().len(), SCHEMES.len());
}

#[test]
fn a_message_reaches_the_subscribers_of_all_schemes() {
    let authority = Authority::new("ours");
    let broker = broker(&authority, |_| {});
    let mut all = SCHEMES.map(|scheme| dial(&broker, &authority, scheme));
    for (stream, scheme) in all.iter_mut().zip(SCHEMES) {
        ask(&mut **stream, &connect(scheme.name()), &CONNACK);
        ask(&mut **stream, &subscribe("all"), &SUBACK);
    }
    let message = publish("all", b"to you all");
    for publisher in 0..SCHEMES.len() {
        all[publisher].write_all(&message).unwrap();
        all[publisher].flush().unwrap();
        for stream in &mut all {
            expect(&mut **stream, &message);
        }
    }
}

/// Larger than every buffer between the two ends.
#[test]
fn a_large_message_passes_every_scheme() {
    let authority = Authority::new("ours");
    let broker = broker(&authority, |limits| {
        limits.packet_bytes = 32 << 20;
        limits.output_bytes = 64 << 20;
    });
    let payload: Vec<u8> = (0..24_u32 << 20).map(|at| (at % 251) as u8).collect();
    let message = publish("large", &payload);
    for scheme in SCHEMES {
        let mut subscriber = dial(&broker, &authority, scheme);
        ask(&mut *subscriber, &connect("subscriber"), &CONNACK);
        ask(&mut *subscriber, &subscribe("large"), &SUBACK);
        let mut publisher = dial(&broker, &authority, scheme);
        ask(&mut *publisher, &connect("publisher"), &CONNACK);
        publisher.write_all(&message).unwrap();
        publisher.flush().unwrap();
        expect(&mut *subscriber, &message);
    }
}

/// The receiver pauses with more on its way than any layer may hold.
#[test]
fn what_a_slow_reader_gets_is_whole_packets_in_order() {
    let authority = Authority::new("ours");
    let broker = broker(&authority, |limits| limits.output_bytes = 64 << 20);
    for scheme in SCHEMES {
        let mut subscriber = dial(&broker, &authority, scheme);
        ask(&mut *subscriber, &connect("subscriber"), &CONNACK);
        ask(&mut *subscriber, &subscribe("much/+"), &SUBACK);
        let mut publisher = dial(&broker, &authority, scheme);
        ask(&mut *publisher, &connect("publisher"), &CONNACK);
        let sizes = [10, 900, 70_000, 1_030, 1, 2_000_000, 16_384];
        let messages: Vec<_> = (0..42_usize)
            .map(|at| publish(&format!("much/{at}"), &vec![at as u8; sizes[at % sizes.len()]]))
            .collect();
        for message in &messages {
            publisher.write_all(message).unwrap();
        }
        // The answer tells that the broker has dealt with all of them.
        ask(&mut *publisher, &super::client::PINGREQ, &super::client::PINGRESP);
        for message in &messages {
            expect(&mut *subscriber, message);
        }
    }
}

#[test]
fn a_first_packet_longer_than_allowed_ends_the_connection() {
    let authority = Authority::new("ours");
    let broker = broker(&authority, |limits| limits.connect_bytes = 1024);
    for scheme in SCHEMES {
        let mut stream = dial(&broker, &authority, scheme);
        let _ = stream.write_all(&connect(&"x".repeat(2_000)));
        let _ = stream.flush();
        assert!(super::client::is_closed(&mut *stream), "{scheme:?}");
    }
    assert_eq!(broker.stats().refused_total.get(), SCHEMES.len() as u64);
}

#[test]
fn a_secure_listener_needs_certificates() {
    for scheme in SCHEMES.iter().filter(|scheme| scheme.is_secure()) {
        let started = open().listen(format!("{}://127.0.0.1:0", scheme.name())).start();
        assert!(matches!(started, Err(StartError::NoTls(listen)) if listen.scheme == *scheme));
    }
}

#[test]
fn a_stop_reaches_clients_of_every_scheme() {
    let authority = Authority::new("ours");
    let broker = broker(&authority, |_| {});
    let mut all = SCHEMES.map(|scheme| dial(&broker, &authority, scheme));
    for (stream, scheme) in all.iter_mut().zip(SCHEMES) {
        ask(&mut **stream, &connect(scheme.name()), &CONNACK);
    }
    broker.shutdown();
    for stream in &mut all {
        assert!(super::client::is_closed(&mut **stream));
    }
    assert_eq!(broker.wait(), Ok(()));
}
