//! What the broker itself publishes: it alone may under `flespi/`, in the name of any account.

use bytes::Bytes;
use longshore_acl::BROKER_CLASS;
use longshore_codec::{QoS, topic};
use tracing::warn;

use super::deliver::Outgoing;
use super::{Shard, Step, Task};
use crate::cache::Route;
use crate::clock::{Now, Wall};
use crate::form::Source;
use crate::message::Parts;
use crate::output::COPY_MAX;
use crate::parties::Party;
use crate::retained::{Found, Read};
use crate::session::SessionId;
use crate::stamp::of_broker;

/// Messages that are published in one slice.
const SLICE: usize = 64;
/// Steps of work after which a slice ends.
const SLICE_WORK: usize = 4_096;
/// Retained messages that are visited in one slice.
const VISITS: usize = 128;

/// A message of the broker's own.
#[derive(Clone, Debug)]
pub(crate) struct OwnMessage {
    /// In whose topics it is published: whoever sees those of the account sees it.
    account: u64,
    topic: String,
    /// Empty and retained, it takes away what was retained.
    payload: Bytes,
    /// `cid` and `timestamp`, and what else is said of it.
    properties: Bytes,
    qos: QoS,
    retain: bool,
    /// Whether the journal is told what is retained.
    lasts: bool,
    /// The only session that gets it.
    only: Option<SessionId>,
}

impl OwnMessage {
    /// A message of QoS 0 about something that happened at that time.
    pub(crate) fn new(account: u64, topic: String, payload: impl Into<Bytes>, at: Wall) -> Self {
        Self::saying(account, topic, payload.into(), of_broker(account, at).into())
    }

    /// The same with properties that others have, too: `cid` and `timestamp`.
    pub(crate) fn saying(account: u64, topic: String, payload: Bytes, properties: Bytes) -> Self {
        let qos = QoS::AtMostOnce;
        let (retain, lasts, only) = (false, false, None);
        Self { account, topic, payload, properties, qos, retain, lasts, only }
    }

    /// Bytes of memory, roughly.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.topic.len() + self.payload.len() + self.properties.len()
    }

    /// The same with further properties, which stand before what the broker says of it.
    pub(crate) fn answering(self, mut properties: Vec<u8>, qos: QoS) -> Self {
        properties.extend_from_slice(&self.properties);
        Self { properties: properties.into(), qos, ..self }
    }

    /// The same for a session of the shard that publishes it, and nobody else.
    pub(crate) fn only_for(self, session: SessionId) -> Self {
        Self { only: Some(session), ..self }
    }

    /// The same at QoS 1: who was away gets it when it comes back.
    pub(crate) fn kept(self) -> Self {
        Self { qos: QoS::AtLeastOnce, ..self }
    }

    /// The same, retained, and at QoS 1.
    pub(crate) fn retained(self) -> Self {
        Self { retain: true, lasts: true, ..self.kept() }
    }

    /// The same, retained as long as this process lasts: it is not worth a write.
    pub(crate) fn shown(self) -> Self {
        Self { retain: true, ..self }
    }
}

/// Publishes these, in order, and says so of each.
pub(crate) fn publish_all(
    messages: Vec<OwnMessage>,
    mut is_done: impl FnMut(&OwnMessage) + Send + 'static,
) -> Task {
    let mut left = messages.into_iter();
    Box::new(move |shard, now| {
        let work = shard.work;
        for message in left.by_ref().take(SLICE) {
            shard.publish_own(&message, now);
            is_done(&message);
            // Each may reach many.
            if shard.work - work > SLICE_WORK {
                break;
            }
        }
        if left.len() == 0 { Step::Done } else { Step::More }
    })
}

/// Works until that comes to something, and says what when all that was written down is durable;
/// never if that fails.
pub(crate) fn durably<T: Send + 'static>(
    mut work: impl FnMut(&mut Shard, Now) -> Option<T> + Send + 'static,
    say: impl FnOnce(T) + Send + 'static,
) -> Task {
    let (mut done, mut say) = (None, Some(say));
    Box::new(move |shard, now| {
        if let Some(done) = done.take() {
            if let Some(say) = say.take() {
                say(done);
            }
            return Step::Done;
        }
        done = work(shard, now);
        if done.is_some() { Step::Durable } else { Step::More }
    })
}

impl Shard {
    /// Publishes a message of the broker's own; what cannot be, the log hears of.
    pub(crate) fn publish_own(&mut self, message: &OwnMessage, now: Now) {
        if let Err(cause) = self.try_publish_own(message, now) {
            warn!(topic = message.topic, cause, "a message of the broker was not published");
        }
    }

    fn try_publish_own(&mut self, message: &OwnMessage, now: Now) -> Result<(), &'static str> {
        let OwnMessage { account, payload, properties, qos, retain, lasts, .. } = message;
        let name = message.topic.as_bytes();
        // Limits on topics are for those of clients.
        if !topic::is_valid(&message.topic) {
            return Err("it is no topic name");
        }
        let shared = (payload.len() > COPY_MAX).then_some(payload);
        let parts = Parts { topic: name, properties, payload, shared };
        let source = Source { parts, expiry: None, packet: None };
        let mut outgoing = Outgoing::new(source, *qos, *retain, None);
        outgoing.account = *account;
        if *retain {
            if let Some(cause) = self.refused_work().filter(|_| *lasts) {
                return Err(cause);
            }
            let full = "limits.retained_messages or limits.retained_bytes is reached";
            self.retain(&mut outgoing, now.wall).map_err(|_| full)?;
            outgoing.sequence = outgoing.sequence.filter(|_| *lasts);
        }
        let route = self.route_own(*account, &message.topic, message.only);
        self.distribute(&route, &mut outgoing, now);
        self.write_down(&mut outgoing);
        Ok(())
    }

    /// Goes on with a read of what is retained, a slice of topics and payloads. Whether it is
    /// through.
    pub(crate) fn visit_retained(
        &mut self,
        read: &mut Read,
        now: Now,
        mut visit: impl FnMut(&str, &[u8]),
    ) -> bool {
        let mut slice = std::mem::take(&mut self.slice);
        let is_through = read.next(now.wall, VISITS, |item| slice.take(item, VISITS, usize::MAX));
        let mut visit = |parts: Parts<'_>| {
            if let Ok(topic) = std::str::from_utf8(parts.topic) {
                visit(topic, parts.payload);
            }
        };
        for (_, found) in slice.iter() {
            match found {
                Found::Small { parts, .. } => visit(parts),
                Found::Large(kept) => {
                    let message = self.load_retained(kept);
                    message.iter().for_each(|message| visit(message.parts()));
                }
            }
        }
        slice.clear();
        self.slice = slice;
        is_through
    }

    /// Where it goes. Such topics are many and each is seldom seen again: they are not to drive
    /// those of clients out of the cache.
    fn route_own(&mut self, account: u64, name: &str, only: Option<SessionId>) -> Route {
        let from = Party { account, class: BROKER_CLASS };
        // Mail says by which epoch it was routed.
        self.cache.enter(self.commons.epoch());
        self.matches.clear();
        self.commons.matches(from, name, &mut self.matches);
        self.work += self.matches.work();
        if let Some(only) = only {
            self.matches.subscribers.retain(|it| it.session == only);
            self.matches.groups.clear();
        }
        Route::new(self.number, name.as_bytes(), &mut self.matches)
    }
}
