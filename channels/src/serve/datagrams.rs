//! Devices over UDP: each datagram is a packet of its own, and its sender is no connection (R3.6).

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::UdpSocket;
use tokio::task::spawn_local;
use tracing::debug;

use super::Open;
use crate::hub::Origin;
use crate::live::source;
use crate::message::Ident;
use crate::packets::{self, Side, Way};
use crate::protocol::{Intake, Step, Transport};

/// No datagram has more bytes.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Takes datagrams. Several wait for the disk together; while too many do, the system keeps what
/// comes, and then drops it, as datagrams are.
pub(crate) async fn receive(open: Rc<Open>, socket: UdpSocket) {
    let socket = Rc::new(socket);
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // An error is what a router says of an earlier answer.
        let Ok((count, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let Some(Intake::Bytes(decoder)) = &open.channel.intake else { return };
        open.hub.count(&open.channel, 0, count);
        let step = match decoder(Transport::Datagram).packet(&buffer[..count]) {
            Ok(step) => step,
            Err(error) => {
                debug!(channel = open.channel.id(), %peer, %error, "a datagram came to nothing");
                continue;
            }
        };
        let from = source(peer);
        let idents = open.note_step(way(&from), &step, &[&buffer[..count]]);
        let Ok(_free) = open.hub.turns.acquire().await else { return };
        spawn_local(accept(Rc::clone(&open), Rc::clone(&socket), (peer, from), step, idents));
    }
}

async fn accept(
    open: Rc<Open>,
    socket: Rc<UdpSocket>,
    (peer, source): (SocketAddr, String),
    step: Step,
    idents: Vec<Ident>,
) {
    let Ok(_turn) = open.hub.turns.acquire().await else { return };
    let from = Origin { channel: &open.channel, peer: &source };
    let reply = match open.hub.accept(from, step.messages, Vec::new()).await {
        Ok(()) => step.reply,
        Err(_) => step.refusal,
    };
    if !reply.is_empty() {
        // It may be lost on its way, too; the device sends again.
        if socket.try_send_to(&reply, peer).is_ok() {
            open.note(Side::Hub, &idents, way(&source), &[&reply]);
        }
    }
}

fn way(peer: &str) -> Way<'_> {
    Way { transport: packets::Transport::Udp, connection: 0, peer }
}
