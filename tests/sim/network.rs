//! The network: bytes on their way, in order, late, and in portions of any size.

use std::collections::VecDeque;

use longshore_broker::ConnectionId;
use longshore_broker::clock::Mono;

/// Names a line for the whole run.
pub(crate) type LineId = usize;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// Bytes, and when they are there.
    segments: VecDeque<(Mono, VecDeque<u8>)>,
    len: usize,
}

impl Pipe {
    /// Bytes on their way.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push(&mut self, bytes: &[u8], there: Mono) {
        if bytes.is_empty() {
            return;
        }
        // Nothing overtakes.
        let there = self.segments.back().map_or(there, |(last, _)| there.max(*last));
        self.len += bytes.len();
        match self.segments.back_mut() {
            Some((last, segment)) if *last == there => segment.extend(bytes),
            _ => self.segments.push_back((there, bytes.iter().copied().collect())),
        }
    }

    /// When the first byte is there.
    pub(crate) fn there(&self) -> Option<Mono> {
        self.segments.front().map(|(there, _)| *there)
    }

    pub(crate) fn is_ready(&self, now: Mono) -> bool {
        self.there().is_some_and(|there| there <= now)
    }

    /// Up to `max` bytes that are there.
    pub(crate) fn take(&mut self, max: usize, now: Mono) -> Vec<u8> {
        let mut taken = Vec::new();
        while let Some((there, segment)) = self.segments.front_mut() {
            if *there > now || taken.len() == max {
                break;
            }
            let count = segment.len().min(max - taken.len());
            taken.extend(segment.drain(..count));
            if segment.is_empty() {
                self.segments.pop_front();
            }
        }
        self.len -= taken.len();
        taken
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// One connection: two pipes, and what each end knows of it.
#[derive(Debug)]
pub(crate) struct Line {
    /// Its name at the broker; none once the broker has let it go.
    pub(crate) broker: Option<ConnectionId>,
    /// Whose it is; none once the client has let it go.
    pub(crate) client: Option<usize>,
    /// From the client to the broker.
    pub(crate) up: Pipe,
    /// From the broker to the client.
    pub(crate) down: Pipe,
    /// Bytes the way down holds; what the broker writes beyond, it has to write later.
    pub(crate) capacity: usize,
    /// Microseconds that bytes take.
    pub(crate) latency: u64,
    /// Bytes of the largest portion, either way.
    pub(crate) portion: usize,
    /// The broker could not write all, and waits until it can.
    pub(crate) blocked: bool,
    /// Bytes of the broker's output that were looked at and are not written yet.
    pub(crate) seen: usize,
    /// The client reads nothing at the moment.
    pub(crate) stalled: bool,
}

/// What may happen on a line next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Motion {
    /// The broker reads.
    Up,
    /// The client reads.
    Down,
    /// The broker goes on writing.
    Write,
    /// The broker notices that the client has closed.
    End,
}

impl Line {
    pub(crate) fn new(broker: ConnectionId, client: usize) -> Self {
        Self {
            broker: Some(broker),
            client: Some(client),
            up: Pipe::default(),
            down: Pipe::default(),
            capacity: usize::MAX,
            latency: 0,
            portion: usize::MAX,
            blocked: false,
            seen: 0,
            stalled: false,
        }
    }

    /// Bytes the way down takes now.
    pub(crate) fn free(&self) -> usize {
        self.capacity.saturating_sub(self.down.len())
    }

    /// What can happen on this line now, given whether the broker reads from it.
    pub(crate) fn motions(&self, is_read: bool, now: Mono) -> impl Iterator<Item = Motion> {
        let at_broker = self.broker.is_some();
        let up = at_broker && is_read && self.up.is_ready(now);
        let end = at_broker && self.client.is_none() && (self.up.is_empty() || !is_read);
        let down = self.client.is_some() && !self.stalled && self.down.is_ready(now);
        let gone = self.client.is_some() && !at_broker && self.down.is_empty();
        let write = at_broker && self.blocked && self.free() > 0;
        [
            up.then_some(Motion::Up),
            (down || gone).then_some(Motion::Down),
            write.then_some(Motion::Write),
            end.then_some(Motion::End),
        ]
        .into_iter()
        .flatten()
    }

    /// Whether both ends have let it go.
    pub(crate) fn is_over(&self) -> bool {
        self.broker.is_none() && self.client.is_none()
    }
}
