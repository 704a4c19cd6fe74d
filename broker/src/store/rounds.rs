//! When the journal is compacted, and what is retired then.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_storage::Ticket;
use tracing::{info, warn};

use super::Store;
use crate::clock::Mono;
use crate::journal::Taking;
use crate::shard::SLICE_BYTES;

/// The journal is compacted when it has more than twice the bytes of what lives, and these many
/// segments.
const SEGMENTS_MIN: u64 = 4;
/// From how many times what lives on, and with twice as many segments, a round has to end before
/// clients come in: more than any that ends lets it grow to.
const OVERDUE_TIMES: u64 = 3;
/// Microseconds between two looks at the size of the journal.
const LOOK_MICROS: u64 = 100_000;
/// Microseconds between two looks at what lives, while the disk is full.
pub(crate) const LIVE_MICROS: u64 = 500_000;
/// Bytes that are to be left when all that lives is written down.
const LIVE_SPARE: u64 = 4 << 10;

/// Rounds of compaction, one after another.
#[derive(Debug)]
pub(super) struct Rounds(Mutex<State>);

#[derive(Debug)]
struct State {
    /// How many have begun.
    begun: u64,
    running: Option<Running>,
    /// Bytes that lived when the last round ended, or the journal was opened.
    live_bytes: u64,
    next_look: Mono,
    /// Where the last round has begun.
    base: u32,
}

#[derive(Debug)]
struct Running {
    /// The segment before which everything is retired at the end.
    base: u32,
    /// What was retained up to here is copied, or not retained any more.
    sequence: u64,
    /// Shards that are not through.
    left: usize,
    /// The last number of a message, of all shards that are through.
    messages: u64,
    /// Everything is written down when this ticket is durable.
    end: Option<Ticket>,
}

/// What the journal is told at the end of a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundEnd {
    /// What was retained up to here is copied, or not retained any more.
    pub(crate) sequence: u64,
    /// The last number of a message.
    pub(crate) messages: u64,
}

impl State {
    fn completed(&self) -> u64 {
        self.begun - u64::from(self.running.is_some())
    }
}

impl Rounds {
    /// None yet, of a journal in which so many bytes live.
    pub(super) fn new(live_bytes: u64) -> Self {
        let (next_look, base) = (Mono(0), 0);
        Self(Mutex::new(State { begun: 0, running: None, live_bytes, next_look, base }))
    }

    /// How many have begun and ended.
    pub(super) fn completed(&self) -> u64 {
        self.lock().completed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked with it ends the broker.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// How many rounds have begun.
    pub(crate) fn rounds(&self) -> u64 {
        self.status.rounds()
    }

    /// Where the last one has begun.
    pub(crate) fn base(&self) -> u32 {
        self.rounds.lock().base
    }

    /// Whether a round waits for the disk to end.
    pub(crate) fn is_retiring(&self) -> bool {
        self.status.is_retiring()
    }

    /// Begins a round if one is due, and ends one that is through. True when one has begun.
    pub(crate) fn look(&self, now: Mono) -> bool {
        let mut state = self.rounds.lock();
        if state.running.is_some() {
            self.end_round(&mut state);
            return false;
        }
        if now < state.next_look {
            return false;
        }
        state.next_look = Mono(now.0 + LOOK_MICROS);
        let is_due = match self.status.taking() {
            Taking::All => self.is_due(state.live_bytes),
            // What was refused waits for it.
            Taking::Relief => self.fits(),
            Taking::Nothing => false,
        };
        if !is_due {
            return false;
        }
        let (base, sequence) = (self.committer.current(), self.commons.retained.last_sequence());
        let left = self.status.shards();
        state.running = Some(Running { base, sequence, left, messages: 0, end: None });
        state.begun += 1;
        state.base = base;
        self.status.set_rounds(state.begun);
        true
    }

    /// Whether a shard is to say what lives in it: while the disk is full, from time to time.
    pub(crate) fn wants_live(&self, shard: usize, now: Mono) -> bool {
        let at = self.status.live[shard].at.load(Ordering::Relaxed);
        self.status.taking() == Taking::Relief && (at == 0 || now.0 > at + LIVE_MICROS)
    }

    /// A shard says how many bytes live in it.
    pub(crate) fn report_live(&self, shard: usize, bytes: u64, now: Mono) {
        let live = &self.status.live[shard];
        live.bytes.store(bytes, Ordering::Relaxed);
        live.at.store(now.0.max(1), Ordering::Release);
    }

    /// Whether all that lives has room where segments are allocated, with some to spare: a full
    /// disk gives no more, and what does not fit would hold up all that is to come behind it.
    pub(crate) fn fits(&self) -> bool {
        let live = &self.status.live;
        let bytes: u64 = live.iter().map(|live| live.bytes.load(Ordering::Relaxed)).sum();
        let is_known = live.iter().all(|live| live.at.load(Ordering::Acquire) > 0);
        is_known && bytes + bytes / 2 + LIVE_SPARE < self.committer.room()
    }

    /// Whether what is copied now leaves room where segments are allocated for what clients have
    /// been read to say before anybody knows that the disk is full: else that would never be
    /// acknowledged, and the round that makes room never end. Shards are woken when there is.
    pub(crate) fn has_spare(&self) -> bool {
        let slices = self.status.shards() as u64 * SLICE_BYTES as u64;
        self.committer.reserve(u64::from(self.segment_bytes) / 2 + slices)
    }

    fn is_due(&self, live_bytes: u64) -> bool {
        let used: u64 = self.used().map(|it| u64::from(it.bytes)).sum();
        used > 2 * live_bytes + SEGMENTS_MIN * u64::from(self.segment_bytes)
    }

    /// Whether the first round has to end before clients come in. A round is of its process: of a
    /// broker that is killed again and again none might end under load, and the journal, and with
    /// it the next start, would grow each time.
    pub(crate) fn is_overdue(&self) -> bool {
        let takes_all = self.status.taking() == Taking::All;
        let state = self.rounds.lock();
        // No round retires the current one.
        let current = self.committer.current();
        let old = self.used().filter(|it| it.number != current);
        let old: u64 = old.map(|it| u64::from(it.bytes)).sum();
        let allowed = OVERDUE_TIMES * state.live_bytes;
        let allowed = allowed + 2 * SEGMENTS_MIN * u64::from(self.segment_bytes);
        takes_all && state.completed() == 0 && old > allowed
    }

    /// A shard is through, and what it wrote down is appended. For the last one: what is to be
    /// noted at the end, and then said by [`Store::end_round_at`].
    pub(crate) fn finish_round(&self, last_message: u64) -> Option<RoundEnd> {
        let mut state = self.rounds.lock();
        let running = state.running.as_mut()?;
        running.left -= 1;
        running.messages = running.messages.max(last_message);
        let Running { left, sequence, messages, .. } = *running;
        (left == 0).then_some(RoundEnd { sequence, messages })
    }

    /// The end of the round is noted, and durable when `ticket` is.
    pub(crate) fn end_round_at(&self, ticket: Ticket) {
        if let Some(running) = &mut self.rounds.lock().running {
            running.end = Some(ticket);
        }
        self.status.set_retiring(true);
    }

    /// Retires what the round has made superfluous, once it is durable.
    fn end_round(&self, state: &mut State) {
        let Some(Running { base, end: Some(end), .. }) = state.running else { return };
        if self.committer.durable() < end {
            return;
        }
        let segments = self.committer.segments();
        let old = segments.iter().filter(|it| it.number < base);
        let mut retired = 0;
        for segment in old {
            if let Err(cause) = self.committer.retire(segment.number) {
                warn!(%cause, segment = segment.number, "a segment cannot be retired");
            }
            retired += 1;
        }
        let (segment, offset) = (end.segment(), end.to_u64() & u64::from(u32::MAX));
        state.live_bytes = u64::from(segment - base) * u64::from(self.segment_bytes) + offset;
        state.running = None;
        self.status.set_retiring(false);
        info!(retired, live_mib = state.live_bytes >> 20, "journal compacted");
    }
}
