//! From channels to devices: messages come in batches, are written with one commit, published, and
//! done only then (R3.21, step 5).

use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;
use longshore_broker::module::{Context, Objects};
use longshore_broker::{Batch, Inbox, Link, LinkError};
use longshore_codec::{QoS, SubscribeOptions};
use longshore_storage::TablesError;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Duration, Instant, interval, sleep, sleep_until};
use tokio::{join, try_join};

use crate::courier::Courier;
use crate::device::Device;
use crate::writer::{Received, Work, Writer, Written, state_of};

/// What channels publish, of all accounts.
const OF_CHANNELS: &str = "flespi/message/gw/channels/+/+";
/// The session in which that waits.
const SESSION: &str = "messages";
/// Works that are done with one batch.
const WORKS_MAX: usize = 64;
/// How long a batch that is not full waits after the one before it has begun: of a fleet whose
/// trackers speak one by one, a commit, a publication and a wake-up for each would cost more than
/// all else that is done for them. After a pause a message waits for nothing.
const STEP: Duration = Duration::from_millis(5);
/// How long to wait after what could not be kept, or what the broker has refused or ended.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);
/// How often it is retained when devices were heard, and how large their histories are.
const TICK: Duration = Duration::from_secs(1);

/// Devices that were heard, or lost messages, since somebody looked.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<HashMap<u64, Arc<Device>>>);

impl Heard {
    fn add(&self, devices: HashMap<u64, Arc<Device>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(devices);
    }

    fn take(&self) -> HashMap<u64, Arc<Device>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Retains when devices were heard, once a second: they may be heard much more often (7).
    pub(crate) async fn tell(&self, objects: &Objects<Device>, context: &Context) {
        let mut tick = interval(TICK);
        loop {
            tick.tick().await;
            // Of one that is gone nothing is retained any more.
            let heard = self.take().into_iter().filter(|(id, _)| objects.get(*id).is_some());
            let states = heard.flat_map(|(_, device)| {
                let active = (device.live.last_active() / 1_000_000).to_string();
                let active = state_of(&device, "last_active", Some(active));
                let size = device.live.new_history_kb().map(|kb| kb.to_string());
                let size = size.map(|kb| state_of(&device, "messages_size", Some(kb)));
                [Some(active), size].into_iter().flatten()
            });
            // What is not published now is so when the device is heard again.
            if let Err(cause) = context.retain_durably(states.collect()).await {
                tracing::warn!(%cause, "it is not published when devices were heard");
            }
        }
    }
}

/// See the module.
pub(crate) struct Intake {
    pub(crate) context: Context,
    pub(crate) link: Link,
    pub(crate) works: mpsc::Receiver<Work>,
    pub(crate) heard: Arc<Heard>,
    pub(crate) courier: Arc<Courier>,
    pub(crate) batch_messages: usize,
}

impl Intake {
    /// Takes in what comes, for as long as anybody has work for it. The broker may refuse or end
    /// its session, on a full disk for one: what else there is to do goes on meanwhile.
    pub(crate) async fn run(mut self, mut writer: Writer) {
        let (mut inbox, mut retry) = (None, Instant::now());
        let mut next_step = retry;
        // What is written and is to be published, and the batch it is of.
        let mut kept: Option<(Written, Option<Batch>)> = None;
        loop {
            if inbox.is_none() && Instant::now() >= retry {
                inbox = self.listen().await;
                retry = Instant::now() + PAUSE;
                // What was given out before and not done comes again, whatever becomes of it here.
                writer.begin_again();
                kept = kept.map(|(written, _)| (written, None));
            }
            let (batch, mut works) = tokio::select! {
                biased;
                batch = receive(inbox.as_mut(), self.batch_messages, next_step) => match batch {
                    Some(batch) => {
                        if batch.messages.len() < self.batch_messages {
                            next_step = Instant::now() + STEP;
                        }
                        (Some(batch), Vec::new())
                    }
                    None => {
                        inbox = None;
                        continue;
                    }
                },
                work = self.works.recv() => match work {
                    Some(work) => (None, vec![work]),
                    None => return,
                },
                () = ready(()), if kept.is_some() => (None, Vec::new()),
                () = sleep_until(retry), if inbox.is_none() => continue,
            };
            while works.len() < WORKS_MAX
                && let Ok(work) = self.works.try_recv()
            {
                works.push(work);
            }
            // One batch is published while the next is written.
            let (written, batch_before) = kept.take().unwrap_or_default();
            let has_more = batch.is_some() || !works.is_empty();
            let keeping = async {
                match has_more {
                    true => keep(batch.as_ref(), works, writer).await,
                    false => (Written::default(), writer),
                }
            };
            let (published, next);
            (published, (next, writer)) = join!(self.publish(written), keeping);
            match published {
                Ok(()) => {
                    if let Some((inbox, batch)) = inbox.as_ref().zip(batch_before.as_ref()) {
                        inbox.done(batch);
                    }
                    kept = has_more.then_some((next, batch));
                }
                Err(cause) => {
                    tracing::warn!(%cause, "what devices say is not published, and is tried again");
                    inbox = None;
                }
            }
        }
    }

    async fn listen(&self) -> Option<Inbox> {
        let mut inbox = self.courier.link.inbox(SESSION);
        let options = SubscribeOptions::new(QoS::AtLeastOnce);
        match inbox.subscribe(OF_CHANNELS, options).await {
            Ok(()) => Some(inbox),
            Err(cause) => {
                tracing::warn!(%cause, "the registry does not hear channels, and tries again");
                None
            }
        }
    }

    async fn publish(&self, written: Written) -> Result<(), LinkError> {
        let states = self.context.retain_durably(written.states);
        let (outcomes, ()) = try_join!(self.link.publish_surely(&written.messages), states)?;
        for outcome in outcomes {
            if outcome.reason.is_error() {
                tracing::warn!(reason = %outcome.reason, "what a device says is not published");
            }
        }
        for (to, answer) in written.answers {
            // Whoever asked may have gone.
            let _ = to.send(answer);
        }
        written.heard.values().for_each(|device| self.courier.nudge_heard(device));
        self.heard.add(written.heard);
        self.heard.add(written.resized);
        Ok(())
    }
}

/// What comes next, not before that time; never anything where there is no session.
async fn receive(inbox: Option<&mut Inbox>, most: usize, at: Instant) -> Option<Batch> {
    let Some(inbox) = inbox else { return std::future::pending().await };
    if at > Instant::now() {
        sleep_until(at).await;
    }
    inbox.recv(most).await
}

/// Writes a batch, however often that takes; works that failed are not tried again.
async fn keep(batch: Option<&Batch>, works: Vec<Work>, mut writer: Writer) -> (Written, Writer) {
    let messages = batch.map_or(&[][..], |batch| &batch.messages).iter();
    let received = messages.filter_map(|message| {
        let text = std::str::from_utf8(&message.payload).ok()?.to_owned();
        Some(Received { account: message.account(), text })
    });
    let (received, mut works): (Arc<[_]>, _) = (received.collect(), Some(works));
    loop {
        let (received, works) = (Arc::clone(&received), works.take().unwrap_or_default());
        let step = move || -> (Result<Written, TablesError>, Writer) {
            let written = writer.write(&received, works);
            (written, writer)
        };
        let written;
        (written, writer) = match spawn_blocking(step).await {
            Ok(done) => done,
            // It is not cancelled: it panicked.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        match written {
            Ok(written) => return (written, writer),
            Err(cause) => tracing::error!(%cause, "messages of devices cannot be kept"),
        }
        sleep(PAUSE).await;
    }
}
