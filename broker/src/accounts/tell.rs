//! What others are told of accounts: the notices that become their logs, and the states of objects
//! that are retained under `flespi/state` (specification of the broker, 7.2, 7.3 and 20).

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use hashbrown::HashSet;
use longshore_acl::{Account, Limit, Token};
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::{Accounts, Attached};
use crate::clock::{Wall, wall};
use crate::module::{Renew, State};
use crate::notices::{Call, Change, Event, Kind, Notice, What, log_topic, state_topic};
use crate::parties::Party;
use crate::shard::{OwnMessage, Shard, Step, durably, publish_all};

/// All states that are retained, those of sessions included.
const STATES: &str = "flespi/state/mqtt,platform/#";
/// Bytes of records that wait to be published; what exceeds them is in the log alone.
const LIVE_BYTES: usize = 8 << 20;
/// States that one slice retains.
const SLICE: usize = 64;

impl Accounts {
    /// Something has become of a token.
    pub(super) fn tell_token(&self, token: &Token, change: Change) {
        let state = (!change.is_end()).then(|| token.to_json(None));
        self.tell((Kind::Token, token.id), token.account, change, state);
    }

    /// Something has become of an account, which those above it hear of. It stood below `parent`.
    pub(super) fn tell_account(&self, account: &Account, parent: u64, change: Change) {
        let object = (Kind::Account, account.id);
        if change == Change::Moved {
            self.retain_state(object, parent, None);
        }
        let state = (!change.is_end()).then(|| account.to_json());
        // The root is nobody's object, and its own log.
        let above = if account.parent == 0 { account.id } else { account.parent };
        self.tell(object, above, change, state.filter(|_| account.parent != 0));
    }

    /// Something has become of a limit.
    pub(super) fn tell_limit(&self, limit: &Limit, change: Change) {
        let state = (!change.is_end()).then(|| limit.to_json());
        self.tell((Kind::Limit, limit.id), limit.account, change, state);
    }

    fn tell(
        &self,
        (kind, id): (Kind, u64),
        account: u64,
        change: Change,
        state: Option<Map<String, Value>>,
    ) {
        self.retain_state((kind, id), account, state);
        self.notice(account, What::Object { kind, id, change });
    }

    /// A call of REST was answered in the name of an account.
    pub fn note_call(&self, account: u64, call: Call) {
        self.notice(account, What::Called(Box::new(call)));
    }

    /// A module has something to say of an object of its own.
    pub(crate) fn note_event(&self, account: u64, event: Event) {
        self.notice(account, What::Told(Box::new(event)));
    }

    /// Retains what modules say is the state of objects of an account, in this order.
    pub(crate) fn retain_all(&self, states: Vec<OwnMessage>) {
        if let Some(broker) = self.broker.get() {
            broker.mailboxes[broker.hub()].put_task(publish_all(states, |_| {}));
        }
    }

    /// The same, and says when that is durable; without a broker it never is.
    pub(crate) fn retain_durably(&self, states: Vec<OwnMessage>, done: oneshot::Sender<()>) {
        if let Some(broker) = self.broker.get() {
            // Whoever asked may have gone.
            let say = move |()| {
                let _ = done.send(());
            };
            let mut task = publish_all(states, |_| {});
            let work = move |shard: &mut Shard, now| (task(shard, now) == Step::Done).then_some(());
            broker.mailboxes[broker.hub()].put_task(durably(work, say));
        }
    }

    fn notice(&self, account: u64, what: What) {
        if self.broker.get().is_some() {
            self.notices.put(Notice { account, at: wall(), what });
        }
    }

    fn retain_state(
        &self,
        (kind, id): (Kind, u64),
        account: u64,
        state: Option<Map<String, Value>>,
    ) {
        let Some(broker) = self.broker.get() else { return };
        let payload = state.map(|state| Value::Object(state).to_string());
        let state = State { account, topic: state_topic(kind, id), payload, since: None };
        let messages = State::into_messages(vec![state]);
        broker.mailboxes[0].put_task(publish_all(messages, |_| {}));
    }

    /// Takes notices into the logs, and publishes them where anybody asks for them.
    pub(crate) fn take_notices(&self, notices: Vec<Notice>) {
        let (mut messages, mut failed) = (Vec::new(), None);
        for notice in &notices {
            let record = Value::Object(notice.to_json()).to_string();
            failed = self.logs.add(notice, &record).err().or(failed);
            let topic = log_topic(notice);
            if let Some(broker) = self.broker.get()
                && broker.has_readers(notice.account, &topic)
            {
                let message = OwnMessage::new(notice.account, topic, record, notice.at);
                if self.unpublished.fetch_add(message.size(), Ordering::Relaxed) > LIVE_BYTES {
                    self.unpublished.fetch_sub(message.size(), Ordering::Relaxed);
                    self.notices.count_dropped();
                    continue;
                }
                messages.push(message);
            }
        }
        if let Some(cause) = failed {
            error!(%cause, "the logs of accounts cannot be kept");
        }
        if let (Some(broker), false) = (self.broker.get(), messages.is_empty()) {
            // All through one shard, so that they come in order.
            let unpublished = Arc::clone(&self.unpublished);
            broker.mailboxes[0].put_task(publish_all(messages, move |message| {
                unpublished.fetch_sub(message.size(), Ordering::Relaxed);
            }));
        }
    }

    /// Writes down what was taken into the logs, and removes what is too old.
    pub(crate) fn keep_logs(&self, dropped_before: u64) -> u64 {
        let kept = self.logs.keep().and_then(|()| {
            let is_there = |account| self.read().account(account).is_some();
            self.logs.sweep(is_there, wall())
        });
        if let Err(cause) = kept {
            error!(%cause, "the logs of accounts cannot be kept");
        }
        let dropped = self.notices.dropped();
        if dropped > dropped_before {
            let count = dropped - dropped_before;
            warn!(count, "more happened than the logs of accounts can take: this is left out");
        }
        dropped
    }

    /// Takes the last notices into the logs: the broker has stopped.
    pub(crate) fn end_logs(&self) {
        for notice in &self.notices.take() {
            let record = Value::Object(notice.to_json()).to_string();
            // What cannot be written is told below.
            let _ = self.logs.add(notice, &record);
        }
        self.keep_logs(u64::MAX);
    }

    /// Brings what is retained of objects and sessions up to date: a process that was killed may
    /// have left what is no longer so.
    pub(crate) fn renew_states(self: &Arc<Self>) {
        let directory = self.read();
        let tokens = directory.tokens().map(|token| (Kind::Token, token.id));
        let limits = directory.limits().map(|limit| (Kind::Limit, limit.id));
        let objects = directory.accounts().map(|account| (Kind::Account, account.id));
        let left = objects.chain(tokens).chain(limits).collect();
        drop(directory);
        let (accounts, right) = (Arc::downgrade(self), HashSet::new());
        let Some(broker) = self.broker.get() else { return };
        broker.renew(0, STATES, Box::new(Renewal { accounts, right, left }));
    }

    /// Brings what modules retain under topics that a filter matches up to date, in slices.
    pub(crate) fn renew(&self, filter: &str, renew: Box<dyn Renew>) {
        if let Some(broker) = self.broker.get() {
            broker.renew(broker.hub(), filter, renew);
        }
    }

    fn state_of(&self, (kind, id): (Kind, u64)) -> Option<(u64, Map<String, Value>)> {
        let directory = self.read();
        match kind {
            Kind::Token => directory.token(id).map(|it| (it.account, it.to_json(None))),
            Kind::Limit => directory.limit(id).map(|it| (it.account, it.to_json())),
            Kind::Account => {
                let account = directory.account(id).filter(|account| account.parent != 0);
                account.map(|it| (it.parent, it.to_json()))
            }
        }
    }
}

impl Attached {
    /// The shard that publishes what modules retain, so that it stays in order.
    fn hub(&self) -> usize {
        self.commons.hub().unwrap_or_default()
    }

    /// Brings what this shard retains under topics that a filter matches up to date, in slices.
    fn renew(&self, shard: usize, filter: &str, mut renew: Box<dyn Renew>) {
        let retained = &self.commons.retained;
        let read = |account| Some((account, retained.read(&[account], filter, true)?));
        let mut reads: VecDeque<_> = retained.holders().into_iter().filter_map(read).collect();
        self.mailboxes[shard].put_task(Box::new(move |shard, now| {
            let Some((account, mut read)) = reads.pop_front() else {
                for _ in 0..SLICE {
                    let Some(states) = renew.next() else {
                        renew.end(now.wall);
                        return Step::Done;
                    };
                    let messages = State::into_messages(states);
                    messages.iter().for_each(|message| shard.publish_own(message, now));
                }
                return Step::More;
            };
            let mut wrong = Vec::new();
            let is_through = shard.visit_retained(&mut read, now, |topic, payload| {
                if !renew.is_right(account, topic, payload) {
                    let topic = topic.to_owned();
                    wrong.push(State { account, topic, payload: None, since: None });
                }
            });
            // Whoever follows may have been given them already.
            let gone = State::into_messages(wrong);
            gone.iter().for_each(|message| shard.publish_own(message, now));
            if !is_through {
                reads.push_front((account, read));
            }
            Step::More
        }));
    }
}

impl Change {
    /// Whether there is nothing any more that has a state.
    fn is_end(self) -> bool {
        matches!(self, Self::Deleted | Self::Expired)
    }
}

impl Attached {
    /// Whether anybody gets what the broker publishes there.
    fn has_readers(&self, account: u64, topic: &str) -> bool {
        let from = Party { account, class: longshore_acl::BROKER_CLASS };
        let mut found = crate::index::Matches::default();
        self.commons.matches(from, topic, &mut found);
        !found.subscribers.is_empty() || !found.groups.is_empty()
    }
}

/// What is retained of tokens, accounts and limits, on its way to be as they are; then sessions.
struct Renewal {
    /// Who puts it in a mailbox must not live as long as that.
    accounts: Weak<Accounts>,
    /// Objects whose state is retained as it is.
    right: HashSet<(Kind, u64)>,
    /// Objects that are left to be looked at, once all is read.
    left: Vec<(Kind, u64)>,
}

impl Renew for Renewal {
    fn is_right(&mut self, account: u64, topic: &str, payload: &[u8]) -> bool {
        let Some(accounts) = self.accounts.upgrade() else { return true };
        let object = right_object(&accounts, account, topic, payload);
        self.right.extend(object);
        object.is_some()
    }

    fn next(&mut self) -> Option<Vec<State>> {
        let (object, accounts) = (self.left.pop()?, self.accounts.upgrade()?);
        let state = (!self.right.contains(&object)).then(|| accounts.state_of(object)).flatten();
        let state = state.map(|(account, state)| {
            let payload = Some(Value::Object(state).to_string());
            let topic = state_topic(object.0, object.1);
            State { account, topic, payload, since: None }
        });
        Some(state.into_iter().collect())
    }

    fn end(&mut self, now: Wall) {
        if let Some(accounts) = self.accounts.upgrade() {
            accounts.begin_counters(now);
            renew_sessions(&accounts);
        }
    }
}

/// The object whose state this is, if it is so.
fn right_object(
    accounts: &Accounts,
    account: u64,
    topic: &str,
    payload: &[u8],
) -> Option<(Kind, u64)> {
    let id: u64 = topic.rsplit_once('/')?.1.parse().ok()?;
    let kinds = [Kind::Token, Kind::Account, Kind::Limit].into_iter();
    let mut objects = kinds.map(|kind| (kind, id));
    let object = objects.find(|(kind, id)| state_topic(*kind, *id) == topic)?;
    let (of, state) = accounts.state_of(object)?;
    let is_so = of == account && Value::Object(state).to_string().as_bytes() == payload;
    is_so.then_some(object)
}

/// Every shard retains the states of its sessions, which were all taken away.
fn renew_sessions(accounts: &Accounts) {
    let Some(broker) = accounts.broker.get() else { return };
    for mailbox in broker.mailboxes.iter() {
        let mut left = None;
        mailbox.put_task(Box::new(move |shard, now| {
            let left = left.get_or_insert_with(|| shard.all_sessions());
            shard.renew_states(left, now)
        }));
    }
}
