//! A session of a link that lasts: what comes while nobody receives waits for it, over restarts.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use longshore_codec::{QoS, ReasonCode, SubscribeOptions, filter};

use super::client::Client;
use super::{LinkError, Message};
use crate::inboxes;

/// A session that outlives its link, and where the broker has a journal the process: messages of
/// QoS 1 and 2 wait there until they are done, in their order. What was given out and not done when
/// the process ended comes again.
///
/// What waits beyond some megabytes waits on the disk. It has the limits of any session on that; an
/// inbox of a module that has reached them loses nothing: messages for it are refused to their
/// publishers, with [`Inbox::FULL`], until a quarter of it has been taken. So those know it from a
/// limit of their account, 0x97, which trying again does not help against. The inbox of a user's
/// token loses messages as any client would (`limits.queue_overflow`).
#[derive(Debug)]
pub struct Inbox {
    client: Arc<Client>,
}

/// Messages that were given out together.
#[derive(Debug)]
pub struct Batch {
    /// In their order; at least one.
    pub messages: Vec<Message>,
    /// Those that are to be acknowledged.
    ids: Vec<(QoS, u16)>,
}

impl Inbox {
    /// The answer to a message that an inbox of a module has no room for. It is to be published
    /// again.
    pub const FULL: ReasonCode = inboxes::FULL;

    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client }
    }

    /// Asks for a topic filter, from now on or again.
    ///
    /// # Errors
    /// As [`Link::subscribe`](super::Link::subscribe).
    pub async fn subscribe(
        &mut self,
        name: &str,
        options: SubscribeOptions,
    ) -> Result<(), LinkError> {
        filter::parse(name).map_err(|_| LinkError::Invalid)?;
        self.client.subscribe(name, options).await
    }

    /// Gives a topic filter up.
    ///
    /// # Errors
    /// [`LinkError::Closed`].
    pub async fn unsubscribe(&mut self, name: &str) -> Result<(), LinkError> {
        filter::parse(name).map_err(|_| LinkError::Invalid)?;
        self.client.unsubscribe(name).await
    }

    /// The messages that are there, up to `most`, once there are any; none once the broker has
    /// stopped or closed the link.
    pub async fn recv(&mut self, most: usize) -> Option<Batch> {
        let (message, id) = poll_fn(|cx| self.client.poll_message(cx)).await?;
        let mut batch = Batch { messages: Vec::new(), ids: Vec::new() };
        batch.add(message, id);
        poll_fn(|cx| {
            while batch.messages.len() < most
                && let Poll::Ready(Some((message, id))) = self.client.poll_message(cx)
            {
                batch.add(message, id);
            }
            Poll::Ready(())
        })
        .await;
        Some(batch)
    }

    /// These messages are done: they do not come again.
    pub fn done(&self, batch: &Batch) {
        for (qos, id) in &batch.ids {
            self.client.acknowledge(*qos, *id);
        }
    }
}

impl Batch {
    fn add(&mut self, message: Message, id: Option<u16>) {
        self.ids.extend(id.map(|id| (message.qos, id)));
        self.messages.push(message);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.client.close();
    }
}
