//! The thread that writes for all queues: what comes while it writes is its next commit.

use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;

use longshore_storage::{Changes, Tables};
use tokio::sync::oneshot;

use super::{QueueError, lock};

/// Bytes and requests of a commit are bounded by who waits: whoever has submitted something waits
/// for it, and so has one request here.
struct Request {
    changes: Changes,
    done: oneshot::Sender<Result<(), QueueError>>,
}

#[derive(Clone)]
pub(super) struct Writer {
    requests: Arc<Mutex<mpsc::Sender<Request>>>,
}

/// The right to be the next. Who holds it knows that nothing is submitted in between.
pub(super) struct Order<'a>(MutexGuard<'a, mpsc::Sender<Request>>);

/// Changes under way.
pub(super) struct Done(oneshot::Receiver<Result<(), QueueError>>);

impl Writer {
    /// Starts the thread. It ends when nobody can submit anything any more.
    pub(super) fn start(tables: Tables) -> Result<Self, QueueError> {
        let (sender, requests) = mpsc::channel();
        let thread = thread::Builder::new().name("longshore-queue".to_owned());
        let started = thread.spawn(move || write(&tables, &requests));
        started.map_err(|_| QueueError::Stopped)?;
        Ok(Self { requests: Arc::new(Mutex::new(sender)) })
    }

    pub(super) fn order(&self) -> Order<'_> {
        Order(lock(&self.requests))
    }
}

impl Order<'_> {
    pub(super) fn submit(self, changes: Changes) -> Done {
        let (done, waiting) = oneshot::channel();
        // A thread that is gone drops the request, and whoever waits is told.
        let _ = self.0.send(Request { changes, done });
        Done(waiting)
    }
}

impl Done {
    /// Waits until the changes are on the medium.
    pub(super) async fn wait(self) -> Result<(), QueueError> {
        self.0.await.unwrap_or(Err(QueueError::Stopped))
    }
}

fn write(tables: &Tables, requests: &mpsc::Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let mut changes = Changes::new();
        let mut waiting = Vec::new();
        for request in std::iter::once(first).chain(requests.try_iter()) {
            changes.append(request.changes);
            waiting.push(request.done);
        }
        let written = match changes.is_empty() {
            true => Ok(()),
            false => tables.commit(changes).map_err(QueueError::from),
        };
        for done in waiting {
            // Whoever no longer waits does not want to know.
            let _ = done.send(written.clone());
        }
    }
}
