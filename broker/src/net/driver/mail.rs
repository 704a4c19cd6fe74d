//! What shards send one another, on its way.

use std::rc::Rc;

use super::{Driver, End, Socket};
use crate::net::mailbox::{Mailbox, Post};

impl Driver {
    /// Takes what other shards send, for ever.
    pub(crate) async fn take_mail(self: Rc<Self>) {
        let mailbox = &self.mailboxes[self.number];
        let mut post = Post::default();
        loop {
            if mailbox.take(&mut post).await {
                self.mailboxes.iter().for_each(Mailbox::wake);
            }
            for mail in post.mail.drain(..) {
                self.shard.borrow_mut().mail(mail, self.now());
            }
            for task in post.tasks.drain(..) {
                self.shard.borrow_mut().take_task(task, self.now());
            }
            for (moved, cargo) in post.moved.drain(..) {
                let peer = moved.peer();
                let transport = self.unload(cargo, peer);
                let id = self.shard.borrow_mut().accept_moved(moved, self.now());
                match transport {
                    Some(transport) => self.drive(id, transport),
                    None => self.shard.borrow_mut().closed(id, self.now()),
                }
            }
            post.reset();
            self.wake_writer();
        }
    }

    /// Sends this turn's mail, and has publishers wait for shards that have too much.
    pub(super) fn send_mail(&self) {
        if self.mailboxes.len() == 1 {
            return;
        }
        let mut outgoing = self.outgoing.borrow_mut();
        let mut shard = self.shard.borrow_mut();
        for (to, mail) in shard.take_mail() {
            outgoing[to].push(mail);
        }
        let mut full = 0;
        for (to, (mail, mailbox)) in outgoing.iter_mut().zip(&*self.mailboxes).enumerate() {
            if !mail.is_empty() {
                mailbox.put(mail);
            }
            full |= u64::from(mailbox.is_full() && to != self.number) << to;
        }
        if self.full.replace(full) != full {
            shard.set_full(full, self.now());
        }
    }

    /// Sends the connection to the shard where its client's session lives.
    pub(super) fn move_away(&self, socket: &Socket, to: usize) {
        let Some(transport) = socket.transport.take() else { return };
        match transport.load() {
            Ok(cargo) => {
                let moved = self.shard.borrow_mut().take_moved(socket.id);
                self.forget(socket);
                if let Some(moved) = moved {
                    self.mailboxes[to].put_moved(moved, cargo);
                }
            }
            // The system has lost it.
            Err(error) => self.remove(socket, &End::Failed(error)),
        }
    }
}
