//! 10,000 idle clients, who then all reconnect at once, while two others talk and must not notice.

// What is shared with tests/clients.rs, and not all of it needed here.
#[allow(dead_code, reason = "each user of these needs another part of them")]
mod clients {
    mod broker;
    mod files;
    mod pair;
    mod process;
    mod wire;

    pub(crate) use broker::Broker;
    pub(crate) use files::raise_file_limit;
    pub(crate) use pair::Pair;
    pub(crate) use process::PATIENCE;
    pub(crate) use wire::{DISCONNECT, Inbox, Seen, ack, connect, first, publish, subscribe};
}

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use clients::{Broker, Inbox, Pair, Seen};
use longshore::codec::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Clients that the storm is made of.
const FLEET: usize = 10_000;

/// Connects on their way at the same time.
const AT_ONCE: usize = 1_000;

/// Files that the test and the broker need beside the connections of the fleet.
const OTHER_FILES: usize = 256;

/// The topic that the whole fleet listens to.
const TO_ALL: &str = "fleet/all";

/// One client of the fleet. Its session outlives its connections.
struct Member {
    number: usize,
    stream: TcpStream,
    inbox: Inbox,
}

impl Member {
    /// Connects; `resumes` says whether the broker must know it.
    async fn connect(address: SocketAddr, number: usize, resumes: bool) -> Self {
        let version = if number.is_multiple_of(2) { Version::V5 } else { Version::V3_1_1 };
        // Several addresses, for one has too few ports for those who come and those who went.
        let from = Ipv4Addr::new(127, 0, 1, 1 + (number % 8) as u8);
        let socket = TcpSocket::new_v4().expect("a file is left");
        socket.bind((from, 0).into()).expect("a port is left");
        let stream = socket.connect(address).await.expect("the broker takes connections");
        let mut member = Self { number, stream, inbox: Inbox::new(version) };
        member.send(&clients::connect(version, &format!("fleet-{number}"), false)).await;
        assert_eq!(member.next().await, Some(Seen::Connack(0, resumes)), "client {number}");
        if !resumes {
            member.send(&clients::subscribe(version, 1, TO_ALL, 1)).await;
            assert_eq!(member.next().await, Some(Seen::Suback), "client {number}");
        }
        member
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the connection holds");
    }

    /// The next packet; none when the broker closed.
    async fn next(&mut self) -> Option<Seen> {
        let mut scratch = [0; 512];
        loop {
            if let Some(seen) = self.inbox.next() {
                return Some(seen);
            }
            match timeout(clients::PATIENCE, self.stream.read(&mut scratch)).await {
                Ok(Ok(0)) => return None,
                Ok(Ok(count)) => self.inbox.push(&scratch[..count]),
                Ok(Err(error)) => panic!("client {}: {error}", self.number),
                Err(_) => panic!("client {} waited in vain", self.number),
            }
        }
    }

    /// Goes the way its number has for it; one who stays is given back.
    async fn leave(mut self) -> Option<Self> {
        match self.number % 4 {
            // The network breaks.
            0 => self.stream.set_zero_linger().expect("an option of TCP"),
            // The process ends.
            1 => {}
            2 => self.send(&clients::DISCONNECT).await,
            _ => return Some(self),
        }
        None
    }

    /// Sees how the broker ends it, for another connection took its session over.
    async fn end(mut self) {
        let mut last = None;
        while let Some(seen) = self.next().await {
            last = Some(seen);
        }
        let is_v5 = self.number.is_multiple_of(2);
        assert_eq!(last, is_v5.then_some(Seen::Disconnect(0x8e)), "client {}", self.number);
    }

    /// Gets the one message to all, and nothing before it.
    async fn hear(mut self, payload: &[u8]) {
        match self.next().await {
            Some(Seen::Publish { qos: 1, id, topic, payload: got }) => {
                assert_eq!((topic.as_str(), got.as_slice()), (TO_ALL, payload));
                self.send(&clients::ack(clients::first::PUBACK, id)).await;
            }
            other => panic!("client {} got {other:?}", self.number),
        }
    }
}

/// Raises the limit of open files of this process and those it starts, and says how many clients
/// the fleet can have.
fn fleet_size() -> usize {
    // While sessions are taken over, a quarter of the fleet has two connections.
    let files = |fleet: usize| fleet + fleet / 4 + OTHER_FILES;
    let wanted = files(FLEET) as u64;
    let limit = clients::raise_file_limit(wanted);
    let fleet = (0..=FLEET).rev().find(|&fleet| files(fleet) as u64 <= limit);
    let fleet = fleet.unwrap_or_else(|| panic!("no fleet with {limit} open files"));
    if fleet < FLEET {
        println!(
            "ATTENTION: {fleet} clients instead of {FLEET}, for only {limit} files may be open; \
             `ulimit -Hn {wanted}` before the test allows all"
        );
    }
    fleet
}

/// Runs `task` for each of `all`, [`AT_ONCE`] at a time.
async fn each<I, T, F>(all: impl IntoIterator<Item = I>, mut task: impl FnMut(I) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for one in all {
        let permit = Arc::clone(&room).acquire_owned().await.expect("it is never closed");
        let work = task(one);
        tasks.spawn(async move {
            let done = work.await;
            drop(permit);
            done
        });
    }
    tasks.join_all().await
}

async fn storm(address: SocketAddr, fleet: usize, pair: &Pair) {
    let begun = Instant::now();
    let members = each(0..fleet, |number| Member::connect(address, number, false)).await;
    println!("{fleet} clients connected and subscribed in {:.1?}", begun.elapsed());
    pair.hear(1_000);

    let begun = Instant::now();
    let stayed: Vec<Member> = each(members, Member::leave).await.into_iter().flatten().collect();
    let members = each(0..fleet, |number| Member::connect(address, number, true)).await;
    println!("{fleet} clients reconnected in {:.1?}", begun.elapsed());
    each(stayed, Member::end).await;
    pair.hear(1_000);

    let mut publisher = Member::connect(address, fleet, false).await;
    let payload = b"you are all here";
    let version = if fleet.is_multiple_of(2) { Version::V5 } else { Version::V3_1_1 };
    let message = clients::publish(version, TO_ALL, 1, 1, payload);
    let begun = Instant::now();
    publisher.send(&message).await;
    each(members, |member| member.hear(payload)).await;
    println!("{fleet} clients heard one message in {:.1?}", begun.elapsed());
    publisher.hear(payload).await;
}

#[test]
fn a_storm_of_reconnects_goes_unnoticed_by_a_pair_that_talks() {
    let fleet = fleet_size();
    let mut broker = Broker::start(&["mqtt"], &[]);
    let address = broker.address("mqtt");
    let pair = Pair::start(address, "pair");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(storm(address, fleet, &pair));
    println!("beside it: {}", pair.stop());
    assert!(broker.process().is_running(), "{}", broker.process().story());
}
