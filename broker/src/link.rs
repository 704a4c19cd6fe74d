//! The in-process client: publish to a broker and subscribe, without a socket.
//!
//! A [`Link`] speaks MQTT 5 with the shard over memory, so it passes the same gates, limits and
//! quotas as every client, and a message published through it gets the same answer. Its futures
//! need no runtime: any executor will do, from tokio to a thread that parks. One alone waits by the
//! clock of tokio: [`Link::publish_surely`], which is for modules.
//!
//! Publishing and each subscription are connections of their own, with windows of their own: a
//! subscription whose owner is slow fills its own window and nothing else.

use std::borrow::Borrow;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_acl::Principal;
use longshore_codec::{QoS, ReasonCode, SubscribeOptions, filter};
use tokio::time::sleep;

mod client;
mod inbox;
mod message;

use client::Client;
pub use inbox::{Batch, Inbox};
pub use message::Message;

use crate::net::pipe::Pipe;

/// How long to wait until what a full inbox has refused is published again.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// Hands the shard's end of a new pipe to the shard.
pub(crate) type Opener = Arc<dyn Fn(Pipe) + Send + Sync>;

/// What the broker made of a published message: what PUBACK, or PUBREC, carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// [`ReasonCode::Success`], [`ReasonCode::NoMatchingSubscribers`], or why it was refused. At
    /// QoS 0 nothing is answered and this is always success.
    pub reason: ReasonCode,
}

/// Why a link does not work, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// The broker closed the connection, with this reason if it gave one.
    Closed(Option<ReasonCode>),
    /// The subscription was refused.
    Refused(ReasonCode),
    /// A topic name or topic filter is not valid, or a message is larger than MQTT can carry.
    Invalid,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(Some(reason)) => write!(f, "the broker closed the link: {reason}"),
            Self::Closed(None) => f.write_str("the broker has stopped"),
            Self::Refused(reason) => write!(f, "the broker refused the subscription: {reason}"),
            Self::Invalid => f.write_str("not a valid topic name, topic filter or message"),
        }
    }
}

impl std::error::Error for LinkError {}

/// A client in the broker's own process. Cloning is cheap and shares the connection.
#[derive(Clone)]
pub struct Link {
    connection: Arc<Connection>,
    opener: Opener,
    client_id: Arc<str>,
    subscriptions: Arc<AtomicU64>,
}

/// A connection that closes with its last owner here; the broker holds the client, too.
struct Connection {
    client: Mutex<Arc<Client>>,
    /// Whether there is to be another one where the broker has closed it.
    reopens: bool,
}

impl Connection {
    fn lock(&self) -> MutexGuard<'_, Arc<Client>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.lock().close();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// Hands pipes over as those of clients that act as this principal.
pub(crate) fn acting_as(opener: &Opener, principal: Principal) -> Opener {
    let opener = Arc::clone(opener);
    Arc::new(move |pipe| opener(pipe.acting_as(principal)))
}

impl Link {
    /// One that no other of the same name takes over.
    pub(crate) fn open_once(opener: Opener, client_id: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::open(opener, &format!("{client_id}-{number}"))
    }

    /// One that opens its connection again where the broker has closed it, once it is used again:
    /// for who acts whoever is let in.
    pub(crate) fn open_lasting(opener: Opener, client_id: &str) -> Self {
        Self::new(opener, client_id, true)
    }

    pub(crate) fn open(opener: Opener, client_id: &str) -> Self {
        Self::new(opener, client_id, false)
    }

    fn new(opener: Opener, client_id: &str, reopens: bool) -> Self {
        let client = Mutex::new(Client::open(&opener, client_id, false));
        let connection = Arc::new(Connection { client, reopens });
        Self { connection, opener, client_id: client_id.into(), subscriptions: Arc::default() }
    }

    /// The connection as it is now.
    fn client(&self) -> Arc<Client> {
        let mut client = self.connection.lock();
        if self.connection.reopens && client.is_closed() {
            *client = Client::open(&self.opener, &self.client_id, false);
        }
        Arc::clone(&client)
    }

    /// Publishes a message, and waits for the broker's answer at QoS 1 and 2. At QoS 0 it is done
    /// once the message is on its way.
    ///
    /// Waits while the broker has too much to do: that is its back-pressure.
    ///
    /// # Errors
    /// [`LinkError::Invalid`] for a topic with wildcards, [`LinkError::Closed`] when the broker
    /// has closed the link; a refused message is an [`Outcome`], not an error.
    pub async fn publish(&self, message: Message) -> Result<Outcome, LinkError> {
        message.check()?;
        self.clear(message).await
    }

    /// Publishes a message, whose topic may have wildcards: one that removes what is retained.
    pub(crate) async fn clear(&self, message: Message) -> Result<Outcome, LinkError> {
        match self.client().send_all([Ok(message)]).await?.pop().flatten() {
            None => Ok(Outcome { reason: ReasonCode::Success }),
            Some(answer) => answer.outcome().await,
        }
    }

    /// Publishes many messages in order, waking the broker once, and waits for all answers, which
    /// come in the same order.
    ///
    /// # Errors
    /// As [`Link::publish`]; messages before the faulty one have been sent.
    pub async fn publish_all(
        &self,
        messages: impl IntoIterator<Item: Borrow<Message>>,
    ) -> Result<Vec<Outcome>, LinkError> {
        let checked = |message: _| Borrow::<Message>::borrow(&message).check().map(|()| message);
        let answers = self.client().send_all(messages.into_iter().map(checked)).await?;
        let mut outcomes = Vec::with_capacity(answers.len());
        for answer in answers {
            outcomes.push(match answer {
                None => Outcome { reason: ReasonCode::Success },
                Some(answer) => answer.outcome().await?,
            });
        }
        Ok(outcomes)
    }

    /// The same, and publishes again what was refused with [`Inbox::FULL`] until all is taken: as
    /// long as another module does not keep up with what it is to get, this waits, and with it who
    /// has more to say. Whatever else is refused is so. They stay in their order as long as nothing
    /// else is published by this link meanwhile. It needs tokio's time, as a module has it.
    ///
    /// # Errors
    /// As [`Link::publish_all`].
    pub async fn publish_surely(&self, messages: &[Message]) -> Result<Vec<Outcome>, LinkError> {
        let mut outcomes = self.publish_all(messages).await?;
        loop {
            let is_full = |at: &usize| outcomes[*at].reason == Inbox::FULL;
            let refused: Vec<usize> = (0..outcomes.len()).filter(is_full).collect();
            if refused.is_empty() {
                return Ok(outcomes);
            }
            sleep(FULL_PAUSE).await;
            let again = self.publish_all(refused.iter().map(|at| &messages[*at])).await?;
            for (at, outcome) in refused.into_iter().zip(again) {
                outcomes[at] = outcome;
            }
        }
    }

    /// Subscribes to a topic filter, a `$share` one included, with MQTT 5's options.
    ///
    /// # Errors
    /// [`LinkError::Invalid`] for a filter that is none, [`LinkError::Refused`] when the broker
    /// does not grant it.
    pub async fn subscribe(
        &self,
        name: &str,
        options: SubscribeOptions,
    ) -> Result<Subscription, LinkError> {
        filter::parse(name).map_err(|_| LinkError::Invalid)?;
        let number = self.subscriptions.fetch_add(1, Ordering::Relaxed);
        let client = Client::open(&self.opener, &format!("{}/{number}", self.client_id), false);
        let subscription = Subscription { client, unacknowledged: None };
        subscription.client.subscribe(name, options).await?;
        Ok(subscription)
    }

    /// A session that lasts, under a name of its own: see [`Inbox`].
    #[must_use]
    pub fn inbox(&self, name: &str) -> Inbox {
        Inbox::new(Client::open(&self.opener, &format!("{}/{name}", self.client_id), true))
    }
}

/// Messages of one subscription. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    client: Arc<Client>,
    /// The last message handed out, acknowledged when the next is asked for.
    unacknowledged: Option<(QoS, u16)>,
}

impl Subscription {
    /// The next message; none once the broker has stopped or closed the link.
    ///
    /// Asking for the next message acknowledges the one before. What is not asked for stays with
    /// the broker: at QoS 1 and 2 up to the limits of a session's queue, at QoS 0 up to those of a
    /// slow reader's output.
    pub async fn recv(&mut self) -> Option<Message> {
        if let Some((qos, id)) = self.unacknowledged.take() {
            self.client.acknowledge(qos, id);
        }
        let (message, id) = poll_fn(|cx| self.client.poll_message(cx)).await?;
        self.unacknowledged = id.map(|id| (message.qos, id));
        Some(message)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.client.close();
    }
}
