//! A broker with channels, and clients of it: of REST, of MQTT and devices.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use longshore_acl::TokenKey;
use longshore_broker::module::MODULES_FOLDER;
use longshore_broker::{Broker, Context, Module, Storage, accounts};
use longshore_channels::{Channels, Options};
use longshore_storage::{Changes, Tables};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than anything takes on a machine with other work; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Ports of one rig: no two of this process share any.
const PORTS: u16 = 20;

/// What outlives a broker: its folder, its key and the ports of its channels.
pub(crate) struct House {
    folder: TempDir,
    key: TokenKey,
    options: Options,
}

/// A broker that runs.
pub(crate) struct Rig {
    pub(crate) broker: Broker,
    pub(crate) key: String,
    /// What the other modules of a hub have.
    pub(crate) context: Context,
}

/// A module that does nothing but to have a context.
struct Other(Context);

impl Module for Other {
    fn name(&self) -> &'static str {
        "other"
    }

    fn run(self: Arc<Self>) -> longshore_broker::module::Running {
        Box::pin(async move { self.0.stopped().await })
    }
}

impl House {
    pub(crate) fn new(change: impl FnOnce(&mut Options)) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let at = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut options = Options::default();
        "127.0.0.1".clone_into(&mut options.host);
        options.address = [127, 0, 0, 1].into();
        // Another run of these tests may be under way.
        let of_process = u16::try_from(std::process::id() % 9).unwrap() * 1_000;
        options.port_min = 20_000 + of_process + at * PORTS;
        options.port_max = options.port_min + PORTS - 1;
        change(&mut options);
        let (folder, key) = (tempfile::tempdir().unwrap(), TokenKey::generate().unwrap());
        Self { folder, key, options }
    }

    pub(crate) fn start(&self) -> Rig {
        let path = self.folder.path().to_owned();
        let options = self.options.clone();
        let context = Arc::new(Mutex::new(None));
        let given = Arc::clone(&context);
        let broker = Broker::builder()
            .storage(Storage::at(path.join("journal")))
            .accounts_in(path, self.key.clone(), accounts::Options::default())
            .module(move |context| Channels::open(context, options.clone()))
            .module(move |context| {
                *given.lock().unwrap() = Some(context.clone());
                Ok(Other(context))
            })
            .listen("http://127.0.0.1:0")
            .listen("mqtt://127.0.0.1:0")
            .start()
            .unwrap();
        let context = context.lock().unwrap().clone().unwrap();
        Rig { broker, key: self.key.expose().to_owned(), context }
    }

    /// Puts a row in place of that of a channel, while no broker runs; what it was.
    pub(crate) fn put_row(&self, channel: u64, row: &[u8]) -> Vec<u8> {
        let tables = Tables::open(&self.folder.path().join(MODULES_FOLDER)).unwrap();
        let (table, mut changes) = (tables.table("channels").unwrap(), Changes::new());
        let before = table.get(&channel.to_be_bytes()).unwrap().unwrap();
        changes.put(&table, &channel.to_be_bytes(), row);
        tables.commit(changes).unwrap();
        before
    }

    /// Files that have a text in them.
    pub(crate) fn files_with(&self, text: &str) -> Vec<String> {
        let (mut folders, mut found) = (vec![self.folder.path().to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(bytes) = std::fs::read(&path)
                    && bytes.windows(text.len()).any(|it| it == text.as_bytes())
                {
                    found.push(path.display().to_string());
                }
            }
        }
        found
    }
}

/// A channel as it was made.
pub(crate) struct Made {
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
}

impl Rig {
    pub(crate) fn new() -> (House, Self) {
        let house = House::new(|_| {});
        let rig = house.start();
        (house, rig)
    }

    /// Status and JSON of an answer, for whoever has this key.
    pub(crate) fn ask_with(&self, key: &str, request: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!("Authorization: FlespiToken {key}\r\n");
        let (status, text) = http(self.broker.addresses()[0].1, request, &head, body.as_bytes());
        let json = serde_json::from_str(&text);
        (status, json.unwrap_or_else(|error| panic!("{request}: {error}: {text}")))
    }

    pub(crate) fn ask(&self, request: &str, body: Value) -> (u16, Value) {
        self.ask_with(&self.key, request, &body)
    }

    /// The answer to what has to succeed.
    pub(crate) fn get(&self, request: &str, body: Value) -> Value {
        let (status, json) = self.ask(request, body);
        assert_eq!((status, json.get("errors")), (200, None), "{request}: {json}");
        json
    }

    pub(crate) fn result(&self, request: &str, body: Value) -> Vec<Value> {
        self.get(request, body)["result"].as_array().unwrap().clone()
    }

    /// Makes a channel with these fields over the usual ones.
    pub(crate) fn channel(&self, protocol: &str, fields: Value) -> Made {
        let mut body = json!({"name": "test", "protocol_name": protocol});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let made = &self.result("POST /gw/channels", json!([body]))[0];
        let address = made["uri"].as_str().map(|uri| uri.parse().unwrap());
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Made { id: made["id"].as_u64().unwrap(), address: address.unwrap_or(nowhere) }
    }

    /// All messages of a channel, and `next_key`.
    pub(crate) fn pull(&self, channel: u64, data: &Value) -> (Vec<Value>, u64) {
        let answer = self.get(&format!("GET /gw/channels/{channel}/messages"), data.clone());
        let messages = answer["result"].as_array().unwrap().clone();
        (messages, answer["next_key"].as_u64().unwrap())
    }

    /// What holds in the end.
    pub(crate) fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The records of a channel with this code, once there are so many.
    pub(crate) fn log(&self, channel: u64, code: u64, count: usize) -> Vec<Value> {
        self.until(&format!("{count} records {code}"), |rig| {
            let log = rig.result(&format!("GET /gw/channels/{channel}/logs"), Value::Null);
            let of_code: Vec<_> =
                log.into_iter().filter(|record| record["event_code"] == code).collect();
            (of_code.len() >= count).then_some(of_code)
        })
    }

    /// The key of a token that opens this.
    pub(crate) fn token(&self, acl: &Value) -> String {
        let body = json!([{"ttl": 600, "access": {"type": 2, "acl": acl}}]);
        let made = self.result("POST /platform/tokens", body);
        made[0]["key"].as_str().unwrap().to_owned()
    }

    /// Subscribes as whoever has this key; what comes, as topic and payload.
    pub(crate) fn subscribe(&self, key: &str, filter: &str) -> Heard {
        let port = self.broker.addresses()[1].1.port();
        let mut options = rumqttc::MqttOptions::new(format!("t{filter}"), "127.0.0.1", port);
        options.set_credentials(key, "");
        let (client, mut connection) = rumqttc::Client::new(options, 10);
        client.subscribe(filter, rumqttc::QoS::AtLeastOnce).unwrap();
        let (to, messages) = mpsc::channel();
        let (granted, answer) = mpsc::channel();
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(rumqttc::Event::Incoming(rumqttc::Packet::Publish(it))) => {
                        let payload = String::from_utf8(it.payload.to_vec()).unwrap();
                        if to.send((it.topic, payload)).is_err() {
                            return;
                        }
                    }
                    Ok(rumqttc::Event::Incoming(rumqttc::Packet::SubAck(_))) => {
                        granted.send(()).unwrap();
                    }
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        });
        answer.recv_timeout(PATIENCE).unwrap();
        Heard { client, messages }
    }
}

/// What a subscriber hears.
pub(crate) struct Heard {
    pub(crate) client: rumqttc::Client,
    messages: mpsc::Receiver<(String, String)>,
}

impl Heard {
    pub(crate) fn next(&self) -> (String, String) {
        self.messages.recv_timeout(PATIENCE).unwrap()
    }

    /// The next one of this topic, whatever else comes.
    pub(crate) fn next_of(&self, topic: &str) -> Value {
        loop {
            let (of, payload) = self.next();
            if of == topic {
                return serde_json::from_str(&payload).unwrap_or(Value::Null);
            }
        }
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.messages.try_recv().is_err()
    }
}

/// A request whose answer ends with the connection.
pub(crate) fn http(to: SocketAddr, request: &str, head: &str, body: &[u8]) -> (u16, String) {
    answer(asked(to, request, head, body))
}

/// A connection on which a request has been sent.
pub(crate) fn asked(to: SocketAddr, request: &str, head: &str, body: &[u8]) -> TcpStream {
    let mut socket = connect(to);
    let length = body.len();
    let request = format!("{request} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n{head}");
    let request = format!("{request}Content-Length: {length}\r\n\r\n");
    socket.write_all(&[request.as_bytes(), body].concat()).unwrap();
    socket
}

/// Status and body of what it is answered.
pub(crate) fn answer(socket: TcpStream) -> (u16, String) {
    let mut reader = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "it ends in its head: {head}");
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut text = String::new();
    if head.to_lowercase().contains("transfer-encoding: chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut piece = vec![0; size + 2];
            reader.read_exact(&mut piece).unwrap();
            if size == 0 {
                break;
            }
            text.push_str(std::str::from_utf8(&piece[..size]).unwrap());
        }
    } else {
        reader.read_to_string(&mut text).unwrap();
    }
    (status, text)
}

/// A device over TCP.
pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(to).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// What a device is answered, as many bytes as are expected.
pub(crate) fn say(device: &mut TcpStream, bytes: &[u8], count: usize) -> Vec<u8> {
    device.write_all(bytes).unwrap();
    let mut answer = vec![0; count];
    device.read_exact(&mut answer).unwrap();
    answer
}

/// Whether the hub has closed the connection; what it said before that.
pub(crate) fn rest_of(device: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A connection that is closed with bytes unread is reset.
    if let Err(error) = device.read_to_end(&mut rest) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it is not closed");
    }
    rest
}

/// What a device over UDP is answered.
pub(crate) fn say_datagram(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(bytes, to).unwrap();
    let mut answer = vec![0; 2_048];
    let (count, _) = socket.recv_from(&mut answer).unwrap();
    answer.truncate(count);
    answer
}

/// The bytes of hexadecimal digits.
pub(crate) fn bytes(digits: &str) -> Vec<u8> {
    let pairs = (0..digits.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// What a Wialon IPS device says first, and a position of it.
pub(crate) fn login(ident: &str) -> String {
    format!("#L#{ident};NA\r\n")
}

pub(crate) const POSITION: &str = "#SD#270413;205601;5544.6025;N;03739.6834;E;1;2;3;4\r\n";

/// A Wialon IPS device that has said who it is.
pub(crate) fn device(to: SocketAddr, ident: &str) -> TcpStream {
    let mut device = connect(to);
    assert_eq!(say(&mut device, login(ident).as_bytes(), 7), b"#AL#1\r\n");
    device
}

/// It sends a position, and is answered.
pub(crate) fn position(device: &mut TcpStream) {
    assert_eq!(say(device, POSITION.as_bytes(), 8), b"#ASD#1\r\n");
}
