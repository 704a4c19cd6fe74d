//! The thread around a log: many append, one writes.
//!
//! Group commit without a timer: while one commit is written and synced, the next one fills; when
//! the first is done the second is taken, whatever is in it. So a single record waits for one
//! sync, and a flood makes commits as large as the disk is slow.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::error::{Failure, NotRetired, ReadError, Refused};
use crate::log::read::{Ahead, read, read_ahead};
use crate::log::table::Table;
use crate::log::tail::{Image, Tail};
use crate::log::writer::{NotAllocated, Writer};
use crate::log::{Log, SegmentInfo};
use crate::position::{Position, Ticket};

/// How often a segment that could not be allocated, or retired, is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the committing thread tells. It is told on that thread, which commits nothing meanwhile
/// and must not be waited for: no [`Committer::flush`], no [`Committer::stop`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Everything up to this ticket is durable.
    Durable(Ticket),
    /// A batch that was refused as [`Refused::Busy`] or [`Refused::Full`] may be tried again.
    Room,
    /// No segment can be allocated: from now on what is new is refused, until [`Event::Room`].
    Full(Arc<io::Error>),
    /// The log has failed: nothing more becomes durable.
    Failed(Failure),
}

/// A log that any thread may append to, and the thread that commits it.
///
/// Appending never waits for the disk: what does not fit into
/// [`Options::pending_bytes_max`](crate::Options::pending_bytes_max) is refused, and
/// [`Event::Room`] says when to try again.
pub struct Committer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes the thread.
    wake: Condvar,
    /// The ticket up to which everything is durable.
    durable: AtomicU64,
    table: Arc<Table>,
}

struct State {
    tail: Tail,
    /// What is being written, for readers.
    writing: Arc<Image>,
    /// Segments to be retired.
    retiring: Vec<u32>,
    /// The thread sleeps.
    is_idle: bool,
    /// A flush is asked for: write and sync whatever there is, and count it.
    flushes_wanted: u64,
    flushes_done: u64,
    /// Someone was refused and waits to hear of room.
    was_refused: bool,
    is_stopping: bool,
    is_stopped: bool,
}

impl Committer {
    /// Starts the thread. `listener` is called on it, after each commit and whenever something
    /// else happens.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(log: Log, listener: impl Fn(Event) + Send + 'static) -> io::Result<Self> {
        let durable = AtomicU64::new(log.durable().to_u64());
        let Log { tail, writer, .. } = log;
        // Opened while the disk is full: whoever is refused waits for room.
        let was_refused = tail.shortage.is_some();
        let state = State {
            tail,
            writing: Arc::default(),
            retiring: Vec::new(),
            is_idle: false,
            flushes_wanted: 0,
            flushes_done: 0,
            was_refused,
            is_stopping: false,
            is_stopped: false,
        };
        let table = Arc::clone(&writer.table);
        let shared =
            Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new(), durable, table });
        let worker = Worker {
            shared: Arc::clone(&shared),
            writer,
            listener: Box::new(listener),
            spare: Image::default(),
            deferred: Vec::new(),
            retry_at: None,
        };
        let thread = thread::Builder::new()
            .name("longshore-journal".to_owned())
            .spawn(move || worker.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Appends all records of `batch`, or none, with nothing of another thread between them, and
    /// says where in [`Batch::spans`]. They are durable once [`Event::Durable`] comes with this
    /// ticket or a later one.
    ///
    /// # Errors
    /// [`Refused`], with nothing changed.
    pub fn append(&self, batch: &mut Batch) -> Result<Ticket, Refused> {
        let mut state = self.shared.lock();
        if state.is_stopping {
            let error = io::Error::other("it is stopped");
            return Err(Refused::Failed(Failure::new("append to", "the log", error)));
        }
        match state.tail.append(batch) {
            Ok(ticket) => {
                if state.tail.promises_nothing() {
                    self.shared.durable.store(ticket.to_u64(), Ordering::Release);
                }
                let is_due = state.tail.is_due();
                self.shared.wake_if(state, is_due);
                Ok(ticket)
            }
            Err(refused) => {
                if matches!(refused, Refused::Busy | Refused::Full(_)) {
                    state.was_refused = true;
                    self.shared.wake_if(state, true);
                }
                Err(refused)
            }
        }
    }

    /// Up to which ticket everything is durable.
    #[must_use]
    pub fn durable(&self) -> Ticket {
        Ticket::from_u64(self.shared.durable.load(Ordering::Acquire))
    }

    /// Appends the body of the record that begins at `position` to `body`, and gives its kind. It
    /// need not be written yet.
    ///
    /// # Errors
    /// [`ReadError`]; `body` is as it was then.
    pub fn read(&self, position: Position, body: &mut Vec<u8>) -> Result<u8, ReadError> {
        let state = self.shared.lock();
        let writing = Arc::clone(&state.writing);
        if state.tail.pending().from(position).is_some() {
            return read(&self.shared.table, [state.tail.pending()], position, body);
        }
        // What was pending can only have moved on to the file, or to `writing` as it is here.
        drop(state);
        read(&self.shared.table, [&*writing], position, body)
    }

    /// As [`Committer::read`], for whoever reads many records in the order in which they stand:
    /// `ahead` keeps what was read with the last one.
    ///
    /// # Errors
    /// [`ReadError`]; `body` is as it was then.
    pub fn read_ahead(
        &self,
        position: Position,
        ahead: &mut Ahead,
        body: &mut Vec<u8>,
    ) -> Result<u8, ReadError> {
        match read_ahead(&self.shared.table, position, ahead, body) {
            Some(kind) => Ok(kind),
            None => self.read(position, body),
        }
    }

    /// Takes back a segment as [`Log::retire`] does, on the committing thread and soon. A full
    /// disk only delays it.
    ///
    /// # Errors
    /// [`NotRetired::NotFull`] when it is not there or still written to; [`NotRetired::Failed`].
    pub fn retire(&self, segment: u32) -> Result<(), NotRetired> {
        let mut state = self.shared.lock();
        if let Some(failure) = &state.tail.failure {
            return Err(NotRetired::Failed(failure.clone()));
        }
        if segment >= state.writing_segment() || self.shared.table.get(segment).is_none() {
            return Err(NotRetired::NotFull);
        }
        if !state.retiring.contains(&segment) {
            state.retiring.push(segment);
        }
        self.shared.wake_if(state, true);
        Ok(())
    }

    /// All segments, oldest first, those allocated ahead included.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shared.table.list()
    }

    /// The segment that is written to, or will be next. All before it are full.
    #[must_use]
    pub fn current(&self) -> u32 {
        self.shared.lock().writing_segment()
    }

    /// Bytes that can be appended before another segment has to be allocated.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.shared.lock().tail.room()
    }

    /// Whether so many bytes can be appended at once, for whoever has to leave room to others: on a
    /// disk that is full now there may be no other. If not, it is allocated, and [`Event::Room`]
    /// or [`Event::Full`] says what came of it.
    #[must_use]
    pub fn reserve(&self, bytes: u64) -> bool {
        let mut state = self.shared.lock();
        let has_room = state.tail.reserve(bytes);
        if !has_room {
            state.was_refused = true;
            self.shared.wake_if(state, true);
        }
        has_room
    }

    /// Bytes that wait to be written, those not counted that are being written.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.shared.lock().tail.pending().bytes.len()
    }

    /// Waits until everything that was appended is on the medium, whatever the level.
    ///
    /// # Errors
    /// [`Failure`] of the log.
    pub fn flush(&self) -> Result<(), Failure> {
        let mut state = self.shared.lock();
        state.flushes_wanted += 1;
        let number = state.flushes_wanted;
        self.shared.wake.notify_all();
        while state.flushes_done < number && !state.is_stopped && state.tail.failure.is_none() {
            state = self.shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.tail.failure.clone().map_or(Ok(()), Err)
    }

    /// Writes everything and ends the thread. Further batches are refused. Dropping does the same
    /// and keeps failures to itself.
    ///
    /// # Errors
    /// [`Failure`] of the log, now or before: then not everything was written.
    ///
    /// # Panics
    /// When the listener has panicked.
    pub fn stop(&self) -> Result<(), Failure> {
        self.shared.lock().is_stopping = true;
        self.shared.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            assert!(thread.join().is_ok(), "the committing thread has panicked");
        }
        self.shared.lock().tail.failure.clone().map_or(Ok(()), Err)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.lock().is_stopping = true;
        self.shared.wake.notify_all();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic in there has been reported by the runtime.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer").field("durable", &self.durable()).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Under it nothing panics but a broken invariant, and that has ended the thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread if it sleeps and there is something to do for it.
    fn wake_if(&self, mut state: MutexGuard<'_, State>, has_work: bool) {
        let wakes = has_work && std::mem::take(&mut state.is_idle);
        drop(state);
        if wakes {
            self.wake.notify_all();
        }
    }
}

impl State {
    /// The oldest segment that is not written in full.
    fn writing_segment(&self) -> u32 {
        let first = |image: &Image| image.pieces.first().map(|piece| piece.at.segment);
        first(&self.writing)
            .or_else(|| first(self.tail.pending()))
            .unwrap_or(self.tail.at().segment)
    }

    /// Whether it is time to tell of room. Who is told waits no more.
    fn may_try_again(&mut self) -> bool {
        let has_room = self.tail.has_room();
        has_room && std::mem::take(&mut self.was_refused)
    }
}

/// The committing thread.
struct Worker {
    shared: Arc<Shared>,
    writer: Writer,
    listener: Box<dyn Fn(Event) + Send>,
    /// An image to be filled next.
    spare: Image,
    /// Segments that could not be retired yet.
    deferred: Vec<u32>,
    /// When to try again what the disk had no room for.
    retry_at: Option<Instant>,
}

/// Sees to it that nobody waits for a thread that is gone.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if !state.is_stopped {
            let error = io::Error::other("the committing thread has panicked");
            state.tail.failure = Some(Failure::new("write", "the log", error));
            state.is_stopped = true;
        }
        drop(state);
        self.0.wake.notify_all();
    }
}

/// What there is to do.
struct Work {
    image: Arc<Image>,
    is_synced: bool,
    flushes: u64,
    retiring: Vec<u32>,
    is_last: bool,
}

impl Worker {
    fn run(mut self) {
        let _ending = Ending(Arc::clone(&self.shared));
        loop {
            let work = self.wait();
            let (flushes, is_last) = (work.flushes, work.is_last);
            let done = self.commit(&work).and_then(|()| self.keep_house(work));
            let done = if is_last { done.and_then(|()| self.finish()) } else { done };
            let has_failed = done.is_err();
            if let Err(failure) = done {
                self.shared.lock().tail.failure = Some(failure.clone());
                (self.listener)(Event::Failed(failure));
            }
            let mut state = self.shared.lock();
            state.flushes_done = flushes;
            state.is_stopped = has_failed || is_last;
            if flushes > 0 || state.is_stopped {
                self.shared.wake.notify_all();
            }
            if state.is_stopped {
                return;
            }
        }
    }

    /// Sleeps until there is something to do, and takes it.
    fn wait(&mut self) -> Work {
        let spare = std::mem::take(&mut self.spare);
        let mut state = self.shared.lock();
        loop {
            let retries = self.retry_at.is_some_and(|at| at <= Instant::now());
            let has_work = state.tail.is_due()
                || state.flushes_wanted > state.flushes_done
                || state.is_stopping
                || retries
                || (self.retry_at.is_none() && state.tail.needs_segment())
                || !state.retiring.is_empty();
            if has_work {
                break;
            }
            state.is_idle = true;
            state = match self.retry_at {
                None => self.shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    let woken = self.shared.wake.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.is_idle = false;
        }
        let is_last = state.is_stopping;
        let flushes = state.flushes_wanted;
        let is_synced = state.tail.syncs() || is_last || flushes > state.flushes_done;
        let image = match state.tail.is_due() || is_synced {
            true => state.tail.close(spare, is_synced),
            false => spare,
        };
        let image = Arc::new(image);
        state.writing = Arc::clone(&image);
        let retiring = std::mem::take(&mut state.retiring);
        // Whoever was refused because of what waited need not wait until it is written.
        let may_try_again = state.may_try_again();
        drop(state);
        if may_try_again {
            (self.listener)(Event::Room);
        }
        Work { image, is_synced, flushes, retiring, is_last }
    }

    /// Writes and says so.
    fn commit(&mut self, work: &Work) -> Result<(), Failure> {
        self.writer.write(&work.image)?;
        if work.is_synced {
            self.writer.sync()?;
        }
        if let Some(end) = work.image.end {
            let ticket = Ticket::up_to(end);
            // Where nothing is promised, appending has said so already, and later tickets too.
            self.shared.durable.fetch_max(ticket.to_u64(), Ordering::AcqRel);
            (self.listener)(Event::Durable(ticket));
        }
        Ok(())
    }

    /// What nobody waits for: segments to come and to go.
    fn keep_house(&mut self, work: Work) -> Result<(), Failure> {
        let mut retiring = work.retiring;
        let is_tried_again = self.retry_at.is_none_or(|at| at <= Instant::now());
        if is_tried_again {
            self.retry_at = None;
            retiring.append(&mut self.deferred);
        }
        let mut has_retired = false;
        for segment in retiring {
            match self.writer.retire(segment) {
                Ok(()) => has_retired = true,
                Err(NotRetired::NotYet(_)) => self.deferred.push(segment),
                // It was asked for twice.
                Err(NotRetired::NotFull) => {}
                Err(NotRetired::Failed(failure)) => return Err(failure),
            }
        }
        if !self.deferred.is_empty() {
            self.retry_at = self.retry_at.or_else(|| Some(Instant::now() + RETRY));
        }
        if is_tried_again || has_retired {
            self.allocate()?;
        }
        let mut state = self.shared.lock();
        state.writing = Arc::default();
        let may_try_again = state.may_try_again();
        drop(state);
        // A reader may still have it; then a new one is made.
        let mut image = Arc::try_unwrap(work.image).unwrap_or_default();
        image.clear();
        self.spare = image;
        if may_try_again {
            (self.listener)(Event::Room);
        }
        Ok(())
    }

    /// Allocates what the tail needs, or notes that it cannot be.
    fn allocate(&mut self) -> Result<(), Failure> {
        while self.shared.lock().tail.needs_segment() {
            match self.writer.allocate() {
                Ok(header) => {
                    let mut state = self.shared.lock();
                    state.tail.add_following(header);
                    state.tail.shortage = None;
                }
                Err(NotAllocated::Failed(failure)) => return Err(failure),
                Err(NotAllocated::Yet(error)) => {
                    let error = Arc::new(error);
                    self.retry_at = Some(Instant::now() + RETRY);
                    let mut state = self.shared.lock();
                    let is_news = state.tail.shortage.replace(Arc::clone(&error)).is_none();
                    // Whoever is refused from now on waits for room.
                    state.was_refused = true;
                    drop(state);
                    if is_news {
                        (self.listener)(Event::Full(error));
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A barrier at the end, so that whatever is damaged later is known to have been whole.
    fn finish(&mut self) -> Result<(), Failure> {
        let last = self.shared.lock().tail.last_barrier();
        self.writer.write(&last)?;
        self.writer.sync()
    }
}
