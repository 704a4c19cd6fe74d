//! The thread that writes for all queues: what comes while it writes is its next commit.

use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::{self, JoinHandle};

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
    thread: Arc<Mutex<Thread>>,
}

struct Thread {
    /// Nothing once it is to end.
    requests: Option<mpsc::Sender<Request>>,
    running: Option<JoinHandle<()>>,
}

/// The right to be the next. Who holds it knows that nothing is submitted in between.
pub(super) struct Order<'a>(MutexGuard<'a, Thread>);

/// Changes under way.
pub(super) struct Done(oneshot::Receiver<Result<(), QueueError>>);

impl Writer {
    /// Starts the thread. It ends when nobody can submit anything any more, and the last one waits
    /// for that: what is not in use has no tables open.
    pub(super) fn start(tables: Tables) -> Result<Self, QueueError> {
        let (sender, requests) = mpsc::channel();
        let thread = thread::Builder::new().name("longshore-queue".to_owned());
        let started = thread.spawn(move || write(&tables, &requests));
        let running = Some(started.map_err(|_| QueueError::Stopped)?);
        let thread = Thread { requests: Some(sender), running };
        Ok(Self { thread: Arc::new(Mutex::new(thread)) })
    }

    pub(super) fn order(&self) -> Order<'_> {
        Order(lock(&self.thread))
    }

    /// Ends the thread once what was submitted is written, and waits for that. What is submitted
    /// later is refused.
    pub(super) fn close(&self) {
        let (requests, running) = {
            let mut thread = lock(&self.thread);
            (thread.requests.take(), thread.running.take())
        };
        drop(Thread { requests, running });
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.requests = None;
        // One that has panicked has told whoever waited.
        let _ = self.running.take().map(JoinHandle::join);
    }
}

impl Order<'_> {
    pub(super) fn submit(self, changes: Changes) -> Done {
        let (done, waiting) = oneshot::channel();
        // A thread that is gone drops the request, and whoever waits is told.
        if let Some(requests) = &self.0.requests {
            let _ = requests.send(Request { changes, done });
        }
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
