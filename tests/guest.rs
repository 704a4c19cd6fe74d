//! The library is a guest in its process: what breaks inside ends the broker and not its host, and
//! what a process has once is left to the host.
//!
//! One test alone looks at what the process has once, and nothing else here changes that.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use std::{fs, io};

use longshore::acl::{Anonymous, Authenticate, Credentials, Principal, Refusal};
use longshore::{Broker, Failed, Scheme, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// No step of these tests takes as long on a machine that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// CONNECT of MQTT 3.1.1 that starts clean, and what answers it.
const CONNECT: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c";
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

/// A fault of the host's own, in the middle of the broker.
struct Broken;

impl Authenticate for Broken {
    fn authenticate(&self, _: &Credentials<'_>, _: IpAddr) -> Result<Principal, Refusal> {
        panic!("a fault that was put here");
    }
}

fn start(auth: Arc<dyn Authenticate>, shards: usize) -> Broker {
    let builder = Broker::builder().auth(auth).shards(shards).listen("mqtt://127.0.0.1:0");
    builder.start().expect("a port is free")
}

fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the broker takes connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time above 0");
    stream
}

/// What answers CONNECT; nothing when the connection ends.
fn greet(stream: &mut (impl Read + Write)) -> io::Result<[u8; 4]> {
    stream.write_all(CONNECT)?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_panic_inside_ends_the_broker_and_not_its_host() {
    for shards in [1, 3] {
        let broker = start(Arc::new(Broken), shards);
        let address = broker.addresses()[0].1;
        let mut others: Vec<_> = (0..shards).map(|_| dial(address)).collect();
        assert!(greet(&mut dial(address)).is_err(), "nobody is let in");
        let (ended, outcome) = channel();
        thread::spawn(move || ended.send(broker.wait()));
        let outcome = outcome.recv_timeout(PATIENCE).expect("it ends");
        assert_eq!(outcome, Err(Failed), "{shards} shards");
        // All of it ended.
        for other in &mut others {
            assert_eq!(other.read(&mut [0]).unwrap_or(0), 0, "{shards} shards");
        }
        assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    }
    let broker = start(Arc::new(Anonymous::new()), 1);
    let address = broker.addresses()[0].1;
    assert_eq!(greet(&mut dial(address)).expect("another broker works"), CONNACK);
    broker.shutdown();
    broker.wait().expect("it stopped in order");
}

/// A certificate for localhost, its key, and what a client needs to believe it.
fn certificate() -> (Tls, RootCertStore) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
    let authority = authority.expect("a certificate");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a good name");
    let key = KeyPair::generate().expect("a key");
    let signed = params.signed_by(&key, &authority).expect("a certificate");
    let (cert, key) = (signed.pem(), key.serialize_pem());
    let tls = Tls::from_pem(cert.as_bytes(), key.as_bytes(), None).expect("good files");
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("a good certificate");
    (tls, roots)
}

/// The signals that this process ignores and catches, and the blocked ones of this thread.
fn signals() -> Vec<String> {
    let status = fs::read_to_string("/proc/thread-self/status").expect("a file of the system");
    let lines = status
        .lines()
        .filter(|line| ["SigBlk:", "SigIgn:", "SigCgt:"].iter().any(|name| line.starts_with(name)));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_broker_with_tls_takes_nothing_that_a_process_has_once() {
    let before = signals();
    assert_eq!(before.len(), 3, "{before:?}");
    let (tls, roots) = certificate();
    let builder = Broker::builder().auth(Arc::new(Anonymous::new())).tls(tls);
    let builder = builder.listen("mqtts://127.0.0.1:0").listen("wss://127.0.0.1:0");
    let broker = builder.start().expect("a port is free");
    let address = broker.addresses().iter().find(|(listen, _)| listen.scheme == Scheme::Mqtts);
    let address = address.expect("it listens").1;

    // A handshake, so that all of it was used.
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("it has some");
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let name = ServerName::try_from("localhost").expect("a good name");
    let client = ClientConnection::new(config, name).expect("a good configuration");
    let answer = greet(&mut StreamOwned::new(client, dial(address)));
    assert_eq!(answer.expect("the broker answers"), CONNACK);

    assert_eq!(signals(), before, "signals are for the host");
    assert!(CryptoProvider::get_default().is_none(), "cryptography is for the host to choose");
    aws_lc_rs::default_provider().install_default().expect("nobody was before us");
    let log = tracing_subscriber::registry();
    tracing::subscriber::set_global_default(log).expect("nobody was before us");
    assert_eq!(signals(), before);
    broker.shutdown();
    broker.wait().expect("it stopped in order");
    assert_eq!(signals(), before, "also after its end");
}
