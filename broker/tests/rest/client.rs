//! A broker with accounts, and a client that blocks and knows just enough HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use longshore_acl::TokenKey;
use longshore_broker::accounts::{Accounts, Options};
use longshore_broker::{Broker, Dialect, Limits, Storage};
use longshore_storage::SimulatedDisk;
use serde_json::{Value, json};

/// Longer than anything takes on a machine with other work; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A broker, and the key of its master token.
pub(crate) struct Rig {
    pub(crate) broker: Broker,
    pub(crate) key: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The objects of an answer that has nothing but these.
    pub(crate) fn result(&self) -> Vec<Value> {
        let json = self.json();
        assert_eq!((self.status, json.get("errors")), (200, None), "{self:?}");
        json["result"].as_array().unwrap().clone()
    }

    /// The numbers of the objects.
    pub(crate) fn ids(&self) -> Vec<u64> {
        let json = self.json();
        json["result"].as_array().unwrap().iter().map(|it| it["id"].as_u64().unwrap()).collect()
    }

    /// The numbers of what was removed.
    pub(crate) fn removed(&self) -> Vec<u64> {
        let json = self.json();
        json["result"].as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).collect()
    }

    /// Status and code of the first error.
    pub(crate) fn refusal(&self) -> (u16, u64) {
        let json = self.json();
        assert!(json["errors"][0]["reason"].is_string(), "{self:?}");
        assert!(json["result"].as_array().is_some_and(Vec::is_empty), "{self:?}");
        (self.status, json["errors"][0]["code"].as_u64().unwrap())
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(|_| {}, |_| {})
    }

    pub(crate) fn with(limit: impl FnOnce(&mut Limits), opt: impl FnOnce(&mut Options)) -> Self {
        let key = TokenKey::generate().unwrap();
        let (mut limits, mut options) = (Limits::default(), Options::default());
        limit(&mut limits);
        opt(&mut options);
        let accounts = Accounts::in_memory(&key, options).unwrap();
        Self::of(limits, Dialect::default(), Arc::new(accounts), key)
    }

    pub(crate) fn speaking(dialect: Dialect) -> Self {
        let key = TokenKey::generate().unwrap();
        let accounts = Accounts::in_memory(&key, Options::default()).unwrap();
        Self::of(Limits::default(), dialect, Arc::new(accounts), key)
    }

    pub(crate) fn of(
        limits: Limits,
        dialect: Dialect,
        accounts: Arc<Accounts>,
        key: TokenKey,
    ) -> Self {
        // With a journal, as users have it: what is answered when it is durable is answered.
        let disk = Arc::new(SimulatedDisk::new(1));
        let broker = Broker::builder()
            .limits(limits)
            .dialect(dialect)
            .storage_on(disk, Storage::at("simulated"))
            .accounts(accounts)
            .listen("http://127.0.0.1:0")
            .listen("mqtt://127.0.0.1:0")
            .start()
            .unwrap();
        Self { broker, key: key.expose().to_owned() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.broker.addresses()[0].1
    }

    pub(crate) fn open(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address()).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// A request with this field of authorization, and further fields.
    pub(crate) fn ask_as(
        &self,
        authorization: &str,
        request: &str,
        fields: &[&str],
        body: &str,
    ) -> Answer {
        let authorization = format!("Authorization: {authorization}");
        let fields = [&[authorization.as_str()], fields].concat();
        send(&mut self.open(), request, &fields, body.as_bytes())
    }

    /// A request with a key: `GET /path`.
    pub(crate) fn ask_with(&self, key: &str, request: &str, body: impl Into<Body>) -> Answer {
        self.ask_as(&format!("FlespiToken {key}"), request, &[], &body.into().0)
    }

    /// A request of the master.
    pub(crate) fn ask(&self, request: &str, body: impl Into<Body>) -> Answer {
        self.ask_with(&self.key, request, body)
    }

    /// The same for another account.
    pub(crate) fn ask_for(&self, cid: u64, request: &str, body: impl Into<Body>) -> Answer {
        let cid = format!("x-flespi-cid: {cid}");
        self.ask_as(&self.key, request, &[&cid], &body.into().0)
    }

    /// An account below `cid`.
    pub(crate) fn account(&self, cid: u64) -> u64 {
        self.ask_for(cid, "POST /platform/subaccounts", json!([{"name": "a"}])).ids()[0]
    }

    /// Number and key of a new token of `cid`.
    pub(crate) fn token(&self, cid: u64, access: &Value) -> (u64, String) {
        let body = json!([{"info": "t", "ttl": 600, "access": access}]);
        let made = self.ask_for(cid, "POST /platform/tokens", body).result();
        (made[0]["id"].as_u64().unwrap(), made[0]["key"].as_str().unwrap().to_owned())
    }

    /// The key of a new master token of `cid`.
    pub(crate) fn master(&self, cid: u64) -> String {
        self.token(cid, &json!({"type": 1})).1
    }
}

/// A body: a text, or JSON.
pub(crate) struct Body(String);

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        Self(value.to_string())
    }
}

/// Sends a request and reads the answer.
pub(crate) fn send(stream: &mut TcpStream, request: &str, fields: &[&str], body: &[u8]) -> Answer {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    let head = format!("{request} HTTP/1.1\r\nHost: localhost:80\r\n{length}{fields}\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    read(stream, request.starts_with("HEAD "))
}

/// Reads one answer.
pub(crate) fn read(stream: &mut TcpStream, is_head: bool) -> Answer {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "the answer ends in its head: {head}");
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let head = head.to_lowercase();
    let field = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().to_owned())
    };
    let mut body = Vec::new();
    if is_head {
    } else if let Some(length) = field("content-length:") {
        body.resize(length.parse().unwrap(), 0);
        reader.read_exact(&mut body).unwrap();
    } else if field("transfer-encoding:").is_some() {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let length = usize::from_str_radix(line.trim(), 16).unwrap();
            let at = body.len();
            body.resize(at + length, 0);
            reader.read_exact(&mut body[at..]).unwrap();
            reader.read_line(&mut line).unwrap();
            if length == 0 {
                break;
            }
        }
    }
    Answer { status, head, body: String::from_utf8(body).unwrap() }
}
