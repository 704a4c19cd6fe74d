//! A session with an MQTT broker that is only published to, at QoS 1.
//!
//! Packets are those of rumqttc. Its event loop is not used: it looks up the host itself, so what
//! was checked would not be what is connected to; and what it keeps to publish again is in the
//! queue of the stream already.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rumqttc::mqttbytes::Error;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Codec, Connect, ConnectReturnCode, Login, Packet, Publish};
use tokio::time::{Instant, sleep_until};
use tokio_util::codec::Framed;

use crate::failure::{Failure, PROTOCOL};
use crate::packets::{Side, Tag, Tape};
use crate::tls::Stream;

/// After so long without a PINGREQ there is one.
const PING_AFTER: Duration = Duration::from_secs(45);

/// What brokers are told (MQTT 3.1.1, 3.1.2.10); a batch may take its time until the next ping.
const KEEP_ALIVE_SECS: u16 = 60;

/// Bytes of a packet that comes in. A broker that nobody subscribes at has little to say.
const INCOMING_MAX: usize = 64 << 10;

/// Bytes of a packet that goes out: what the protocol has room for.
const OUTGOING_MAX: usize = 256 << 20;

/// A message for a topic.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    /// The first message of the batch that is in it.
    pub(super) place: usize,
    pub(super) topic: String,
    pub(super) payload: Bytes,
}

/// Who one is to a broker.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: crate::Secret,
}

pub(super) struct Session {
    framed: Framed<Box<dyn Stream>, Codec>,
    ping_at: Instant,
    is_ping_unanswered: bool,
}

impl Session {
    /// Says CONNECT and waits for CONNACK. Codes of failures are those of CONNACK (R6.23).
    pub(super) async fn open(
        stream: Box<dyn Stream>,
        client_id: &str,
        login: Option<&Credentials>,
    ) -> Result<Self, Failure> {
        let codec = Codec { max_incoming_size: INCOMING_MAX, max_outgoing_size: OUTGOING_MAX };
        let mut framed = Framed::new(stream, codec);
        let mut connect = Connect::new(client_id);
        connect.keep_alive = KEEP_ALIVE_SECS;
        connect.clean_session = true;
        connect.login =
            login.map(|it| Login::new(it.username.clone(), it.password.reveal().to_owned()));
        framed.send(Packet::Connect(connect)).await.map_err(failure)?;
        let mut session =
            Self { framed, ping_at: Instant::now() + PING_AFTER, is_ping_unanswered: false };
        match session.next().await? {
            Packet::ConnAck(it) if it.code == ConnectReturnCode::Success => Ok(session),
            Packet::ConnAck(it) => Err(Failure::new(it.code as i32, refusal(it.code))),
            _ => Err(Failure::new(PROTOCOL, "the broker did not answer CONNECT with CONNACK")),
        }
    }

    /// Publishes in order, at most `window` unacknowledged. Gives how many from the front have been
    /// acknowledged when it stopped, and why if not all have.
    pub(super) async fn publish(
        &mut self,
        publications: &[Publication],
        window: usize,
        tape: &Tape,
    ) -> Result<(), (usize, Failure)> {
        let mut is_acknowledged = vec![false; publications.len()];
        let (mut done, mut sent) = (0, 0);
        while done < publications.len() {
            let until = publications.len().min(done + window);
            for publication in publications.iter().take(until).skip(sent) {
                let packet = Packet::Publish(publish(publication, packet_id(sent)));
                self.framed.feed(packet).await.map_err(|it| (done, failure(it)))?;
                let (topic, packet_id) = (Some(&*publication.topic), Some(packet_id(sent)));
                let tag = Tag { topic, packet_id, status: None };
                tape.note(Side::Hub, tag, &publication.payload);
                sent += 1;
            }
            self.framed.flush().await.map_err(|it| (done, failure(it)))?;
            match self.next().await.map_err(|it| (done, it))? {
                Packet::PubAck(ack) => {
                    let tag = Tag { packet_id: Some(ack.pkid), ..Tag::default() };
                    tape.note(Side::Platform, tag, &puback(ack.pkid));
                    let Some(at) = (done..sent).find(|at| packet_id(*at) == ack.pkid) else {
                        let text = "the broker acknowledged what was not sent";
                        return Err((done, Failure::new(PROTOCOL, text)));
                    };
                    is_acknowledged[at] = true;
                    while is_acknowledged.get(done).is_some_and(|it| *it) {
                        done += 1;
                    }
                }
                _ => self.is_ping_unanswered = false,
            }
        }
        Ok(())
    }

    /// Keeps the session alive. Returns when it is not.
    pub(super) async fn idle(&mut self) {
        loop {
            let ping_at = self.ping_at;
            tokio::select! {
                packet = self.next() => match packet {
                    Ok(_) => self.is_ping_unanswered = false,
                    Err(_) => return,
                },
                () = sleep_until(ping_at) => {
                    if self.is_ping_unanswered {
                        return;
                    }
                    self.ping_at = Instant::now() + PING_AFTER;
                    self.is_ping_unanswered = true;
                    if self.framed.send(Packet::PingReq).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn next(&mut self) -> Result<Packet, Failure> {
        match self.framed.next().await {
            Some(Ok(packet)) => Ok(packet),
            Some(Err(error)) => Err(failure(error)),
            None => Err(Failure::closed()),
        }
    }
}

/// Far more ids than a window has, so none is used twice at a time.
fn packet_id(at: usize) -> u16 {
    u16::try_from(at % usize::from(u16::MAX)).unwrap_or(0) + 1
}

fn publish(publication: &Publication, packet_id: u16) -> Publish {
    let mut packet = Publish::new(&publication.topic, QoS::AtLeastOnce, Vec::new());
    packet.payload = publication.payload.clone();
    packet.pkid = packet_id;
    packet
}

/// The bytes that PUBACK came as.
fn puback(packet_id: u16) -> [u8; 4] {
    let [high, low] = packet_id.to_be_bytes();
    [0x40, 2, high, low]
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Io(error) => Failure::of_io(&error),
        error => Failure::new(PROTOCOL, format!("the broker broke the protocol: {error}")),
    }
}

fn refusal(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::Success => "",
        ConnectReturnCode::RefusedProtocolVersion => "the broker does not speak MQTT 3.1.1",
        ConnectReturnCode::BadClientId => "the broker does not take this client identifier",
        ConnectReturnCode::ServiceUnavailable => "the broker is not available",
        ConnectReturnCode::BadUserNamePassword => {
            "the broker does not take this user name and password"
        }
        ConnectReturnCode::NotAuthorized => "the broker does not let this client in",
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    async fn session() -> (Session, DuplexStream) {
        let (stream, mut broker) = duplex(1_024);
        broker.write_all(&[0x20, 2, 0, 0]).await.unwrap();
        let session = Session::open(Box::new(stream), "c", None).await.unwrap();
        let mut connect = [0; 15];
        broker.read_exact(&mut connect).await.unwrap();
        (session, broker)
    }

    /// MQTT 3.1.1, 3.1.2.10: an idle session says so before the broker gives it up.
    #[tokio::test(start_paused = true)]
    async fn an_idle_session_is_kept_alive() {
        let (mut session, mut broker) = session().await;
        let begun = Instant::now();
        let pings = async {
            for _ in 0..10 {
                let mut ping = [0; 2];
                broker.read_exact(&mut ping).await.unwrap();
                assert_eq!(ping, [0xc0, 0]);
                broker.write_all(&[0xd0, 0]).await.unwrap();
            }
        };
        tokio::select! {
            () = session.idle() => panic!("the session was lost"),
            () = pings => {}
        }
        assert_eq!(begun.elapsed(), PING_AFTER * 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_answers_no_ping_is_lost() {
        let (mut session, _broker) = session().await;
        let begun = Instant::now();
        session.idle().await;
        assert_eq!(begun.elapsed(), PING_AFTER * 2);
    }
}
