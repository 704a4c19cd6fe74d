//! Connections over TCP: let in, told of in the log, and left to what the protocol makes of them.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use longshore_codec::Property;
use serde_json::{Map, Value};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::Open;
use super::{device, http};
use crate::connections::Peer;
use crate::deed::Deed;
use crate::hub::{Hub, moment};
use crate::live::source;
use crate::message::Ident;
use crate::protocol::{CloseCode, Intake};

/// How long it takes until connections are accepted again after the system could not give one.
const RETRY: Duration = Duration::from_millis(200);

/// The property of what is published as a connection ends: how it has ended, as JSON.
const ENDED: &str = "ended";

/// How a connection has ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) code: CloseCode,
    /// What was wrong; empty where nothing was.
    pub(crate) text: String,
}

impl Ending {
    pub(crate) fn of(code: CloseCode) -> Self {
        Self { code, text: String::new() }
    }
}

/// What went over a connection.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) messages: u64,
    /// Bytes from the device.
    pub(crate) received: u64,
    /// Bytes to it.
    pub(crate) sent: u64,
}

/// Lets devices in.
pub(crate) async fn accept(open: Rc<Open>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => admit(&open, stream, address),
            // The device has gone again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                let channel = open.channel.id();
                warn!(channel, %error, "a channel cannot accept connections: are files left?");
                sleep(RETRY).await;
            }
        }
    }
}

/// What the channel has no room for is closed without a word: the log would be full of devices that
/// come again at once.
fn admit(open: &Rc<Open>, stream: TcpStream, address: SocketAddr) {
    let (hub, channel) = (&open.hub, &open.channel);
    if channel.live.is_blocked() {
        return;
    }
    let peer = {
        let mut connections = channel.live.connections();
        if connections.len() >= hub.options.connections {
            debug!(channel = channel.id(), "the channel has all connections that it may have");
            return;
        }
        let at = moment(hub.buffer.next_key(hub.micros()));
        let peer = Arc::new(Peer::new(address, "tcp", at));
        connections.add(Arc::clone(&peer));
        peer
    };
    // Replies are small, and a device waits for each.
    let _ = stream.set_nodelay(true);
    tell(hub, open, &peer, Deed::Accepted, Map::new());
    let open = Rc::clone(open);
    spawn_local(async move {
        let began = Instant::now();
        let mut traffic = Traffic::default();
        let ending = match &open.channel.intake {
            Some(Intake::Bytes(decoder)) => {
                let decoder = decoder(crate::protocol::Transport::Stream);
                Box::pin(device::serve(&open, &peer, stream, decoder, &mut traffic)).await
            }
            _ => Box::pin(http::serve(&open, &peer, stream, &mut traffic)).await,
        };
        end(&open, &peer, &ending, &traffic, began.elapsed()).await;
    });
}

/// Says how a connection has ended, in the log and in what is retained.
async fn end(open: &Open, peer: &Peer, ending: &Ending, traffic: &Traffic, lasted: Duration) {
    open.channel.live.connections().remove(peer);
    let mut fields = Map::new();
    fields.insert("close_code".to_owned(), ending.code.value().into());
    if !ending.text.is_empty() {
        fields.insert("error_text".to_owned(), ending.text.as_str().into());
    }
    fields.insert("duration".to_owned(), lasted.as_secs().into());
    fields.insert("msgs".to_owned(), traffic.messages.into());
    fields.insert("recv".to_owned(), traffic.received.into());
    fields.insert("send".to_owned(), traffic.sent.into());
    let ended = Value::from(fields.clone()).to_string();
    tell(&open.hub, open, peer, Deed::Closed, fields);
    if peer.ident().is_some() {
        let of = format!("connections/{}", peer.id);
        // Whoever follows connections hears how this one has ended together with that it has.
        let state = Hub::state(&open.channel, &of, None);
        open.hub.publish(state.property(Property::UserProperty(ENDED, &ended))).await;
    }
}

/// Adds to the log what has become of a connection (R8.4).
pub(crate) fn tell(
    hub: &Hub,
    open: &Open,
    peer: &Peer,
    deed: Deed,
    mut fields: Map<String, Value>,
) {
    let address = peer.address.ip().to_canonical().to_string();
    fields.insert("source".to_owned(), source(peer.address).into());
    fields.insert("transport".to_owned(), peer.transport.into());
    fields.insert("connection_id".to_owned(), peer.id.into());
    if let Some(ident) = peer.ident() {
        fields.insert("ident".to_owned(), Ident::as_str(ident).into());
    }
    hub.tell(&open.channel, Some(&address), deed, fields);
}
