//! What a channel does while it is open: tasks on the thread of the module, all of which end with
//! it.

use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use tokio::sync::watch;
use tokio::task::{AbortHandle, spawn_local};
use tracing::warn;

use crate::channel::Channel;
use crate::hub::Hub;
use crate::message::Ident;
use crate::packets::{self, Said, Side, Way};
use crate::protocol::{CloseCode, Intake, Step};

mod client;
mod datagrams;
mod device;
mod http;
mod stream;

/// A channel that is open, as its tasks share it.
pub(crate) struct Open {
    pub(crate) hub: Arc<Hub>,
    pub(crate) channel: Arc<Channel>,
    /// Why it closes, once it does.
    pub(crate) closing: watch::Sender<Option<CloseCode>>,
}

impl Open {
    /// Once the channel closes.
    pub(crate) async fn closed(&self) -> CloseCode {
        let mut closing = self.closing.subscribe();
        let code = closing.wait_for(Option::is_some).await.ok().and_then(|code| *code);
        code.unwrap_or(CloseCode::Restart)
    }

    /// Keeps what a device has said for the log of packets. Whose it is, if the channel has one.
    fn note_step(&self, way: Way<'_>, step: &Step, pieces: &[&[u8]]) -> Vec<Ident> {
        if self.channel.packets_ttl == 0 {
            return Vec::new();
        }
        let idents = packets::idents(step.ident.as_ref(), &step.messages);
        self.note(Side::Device, &idents, way, pieces);
        idents
    }

    /// Keeps what was said.
    fn note(&self, by: Side, idents: &[Ident], way: Way<'_>, pieces: &[&[u8]]) {
        self.hub.note(&self.channel, Said { by, idents, way, pieces });
    }
}

/// All channels that are open.
#[derive(Default)]
pub(crate) struct Opened {
    by_id: HashMap<u64, (Rc<Open>, Vec<AbortHandle>)>,
}

impl Opened {
    /// Opens a channel, in place of what it was before.
    pub(crate) fn open(&mut self, hub: &Arc<Hub>, channel: &Arc<Channel>) {
        self.close(channel.id(), CloseCode::ChannelChanged);
        if !channel.is_enabled || channel.intake.is_none() {
            return;
        }
        let (closing, _) = watch::channel(None);
        let open = Rc::new(Open { hub: Arc::clone(hub), channel: Arc::clone(channel), closing });
        let mut tasks = Vec::new();
        if channel.listens() {
            match listen(&open) {
                Ok(Some(listening)) => tasks = listening,
                // There is no port, which its state says.
                Ok(None) => return,
                Err(cause) => {
                    warn!(channel = channel.id(), %cause, "a channel cannot listen");
                    return;
                }
            }
        } else {
            spawn_local(client::run(Rc::clone(&open)));
        }
        self.by_id.insert(channel.id(), (open, tasks));
    }

    /// Closes it, with all its connections.
    pub(crate) fn close(&mut self, id: u64, code: CloseCode) {
        let Some((open, tasks)) = self.by_id.remove(&id) else { return };
        for task in tasks {
            task.abort();
        }
        open.closing.send_replace(Some(code));
        open.channel.live.close_all(code);
    }

    pub(crate) fn close_all(&mut self, code: CloseCode) {
        let ids: Vec<u64> = self.by_id.keys().copied().collect();
        for id in ids {
            self.close(id, code);
        }
    }

    pub(crate) fn has(&self, id: u64) -> bool {
        self.by_id.contains_key(&id)
    }
}

/// Listens on the port of a channel, with a copy of its sockets: they stay open while what it is
/// changes, and devices come back to the same port.
fn listen(open: &Rc<Open>) -> std::io::Result<Option<Vec<AbortHandle>>> {
    let (tcp, udp) = match &*open.channel.live.sockets() {
        Some(sockets) => (sockets.tcp.try_clone()?, sockets.udp.try_clone()?),
        None => return Ok(None),
    };
    let tcp = tokio::net::TcpListener::from_std(tcp)?;
    let accepting = spawn_local(stream::accept(Rc::clone(open), tcp)).abort_handle();
    let mut tasks = vec![accepting];
    if let Some(Intake::Bytes(_)) = open.channel.intake {
        let udp = tokio::net::UdpSocket::from_std(udp)?;
        tasks.push(spawn_local(datagrams::receive(Rc::clone(open), udp)).abort_handle());
    }
    Ok(Some(tasks))
}
