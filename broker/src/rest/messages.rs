//! REST over MQTT (broker specification, 16): calls that come as messages go the way of all others,
//! and are answered by a message.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use hashbrown::HashMap;
use http_body_util::{BodyExt, Limited};
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Method, Request};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{LocalSet, spawn_local};

use super::call::{APP, CID, TRACE};
use super::fault::{Code, Fault};
use super::intake::Received;
use super::{Api, Came, Source, Trace};
use crate::called::{Answering, Called, TakeCalls};
use crate::clock::wall;
use crate::shard::publish_all;

/// Calls that wait or are under way, and how many of them one account has.
const CALLS_MAX: usize = 256;
const OF_ACCOUNT: usize = 32;
/// Calls under way at once.
const AT_ONCE: usize = 16;
/// Bytes of an answer: it is one message.
const ANSWER_BYTES: usize = 1 << 20;

/// A call with its body, which takes its room.
struct Waiting {
    called: Called,
    body: Result<Received, Fault>,
    _turn: Turn,
}

/// Calls of each account.
type Open = Arc<Mutex<HashMap<u64, usize>>>;

/// The place of a call among those of its account.
struct Turn {
    open: Open,
    account: u64,
}

impl Turn {
    fn take(open: &Open, account: u64) -> Option<Self> {
        // Nobody panics under the lock.
        let mut of_accounts = open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = of_accounts.entry(account).or_insert(0);
        if *count >= OF_ACCOUNT {
            return None;
        }
        *count += 1;
        Some(Self { open: Arc::clone(open), account })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut of_accounts = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = of_accounts.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                of_accounts.remove(&self.account);
            }
        }
    }
}

/// Where shards hand calls over.
struct Door {
    /// Which has what shards have in common, and so this.
    api: Weak<Api>,
    open: Open,
    to: mpsc::Sender<Waiting>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

impl TakeCalls for Door {
    fn take(&self, mut called: Called) -> bool {
        let Some(turn) = Turn::take(&self.open, called.principal.account) else { return false };
        let Some(api) = self.api.upgrade() else { return false };
        let body = api.intake.hold(std::mem::take(&mut called.body));
        if body.as_ref().is_err_and(|fault| fault.code == Code::Unavailable) {
            return false;
        }
        self.to.try_send(Waiting { called, body, _turn: turn }).is_ok()
    }
}

/// Calls on their way to who answers them.
pub(crate) struct Calls(mpsc::Receiver<Waiting>);

impl Calls {
    /// From now on shards hand over calls.
    pub(crate) fn begin(api: &Arc<Api>) -> Self {
        let (to, from) = mpsc::channel(CALLS_MAX);
        let door = Door { api: Arc::downgrade(api), open: Arc::default(), to };
        api.commons.set_calls(Arc::new(door));
        Self(from)
    }

    /// Answers calls until the broker stops.
    pub(crate) fn run(
        mut self,
        runtime: &Runtime,
        api: &Arc<Api>,
        mut stopped: watch::Receiver<bool>,
    ) {
        LocalSet::new().block_on(runtime, async {
            let turns = Arc::new(Semaphore::new(AT_ONCE));
            let stop = stopped.wait_for(|stop| *stop);
            tokio::pin!(stop);
            loop {
                let waiting = tokio::select! {
                    _ = &mut stop => break,
                    waiting = self.0.recv() => waiting,
                };
                let Some(waiting) = waiting else { break };
                let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { break };
                let api = Arc::clone(api);
                spawn_local(async move {
                    api.answer_message(waiting).await;
                    drop(turn);
                });
            }
        });
    }
}

impl Api {
    async fn answer_message(self: &Arc<Self>, waiting: Waiting) {
        let Waiting { called, body, _turn } = waiting;
        let Called { principal, peer, path, named, answer, .. } = called;
        let mut trace = Trace::default();
        let (status, bytes) = match head(&path, &named) {
            Err(fault) => refusal(&fault),
            Ok(head) => {
                let came = Came { head: &head, peer, known: Some(principal) };
                let outcome = self.serve(&came, Source::Held(body), &mut trace).await;
                let answered = match outcome {
                    Err(fault) => refusal(&fault),
                    Ok(answer) => {
                        let status = answer.status().as_u16();
                        match Limited::new(answer.into_body(), ANSWER_BYTES).collect().await {
                            Ok(whole) => (status, whole.to_bytes()),
                            Err(_) => refusal(&too_large()),
                        }
                    }
                };
                self.spend(&trace, answered.1.len());
                self.note(&trace, &head, peer, answered.0);
                answered
            }
        };
        self.publish_answer(answer, status, bytes);
    }

    fn publish_answer(&self, answer: Answering, status: u16, bytes: Bytes) {
        let Some(mailbox) = self.mailboxes.get(answer.session.shard()) else { return };
        mailbox.put_task(publish_all(vec![answer.message(status, bytes, wall())], |_| {}));
    }
}

fn refusal(fault: &Fault) -> (u16, Bytes) {
    (fault.code.status().as_u16(), Bytes::from(fault.to_body()))
}

fn too_large() -> Fault {
    let reason = format!(
        "the answer has more than {ANSWER_BYTES} bytes: ask for less by fields, limit or count"
    );
    Fault::new(Code::TooLarge, reason)
}

/// The head that the same call would have over HTTP.
fn head(path: &str, named: &[(String, String)]) -> Result<Parts, Fault> {
    let (method, path) = path.split_once('/').unwrap_or((path, ""));
    let wrong = |_| Fault::bad_request("the topic is flespi/rest/{method}/{path}?{query}");
    let method = Method::from_bytes(method.to_uppercase().as_bytes());
    let method = method.map_err(|_| wrong(()))?;
    let request = Request::builder().method(method).uri(format!("/{path}")).body(());
    let mut head = request.map_err(|_| wrong(()))?.into_parts().0;
    for known in [CID, APP, TRACE] {
        let value = named.iter().find(|(name, _)| name.eq_ignore_ascii_case(known));
        if let Some((_, value)) = value {
            let value = HeaderValue::from_str(value);
            let fault = |_| Fault::new(Code::Format, format!("{known} has ASCII alone"));
            head.headers.insert(known, value.map_err(fault)?);
        }
    }
    Ok(head)
}
