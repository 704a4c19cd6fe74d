//! What happened in a run: the last events for who reads of a failure, a hash of all for who
//! compares two runs.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

/// Events kept for the report of a failure.
const LAST: usize = 120;

/// A record of events, shared by all that add to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Rc<RefCell<Events>>);

#[derive(Debug, Default)]
struct Events {
    last: VecDeque<String>,
    count: u64,
    hash: u64,
    /// Printed as they happen, for a run that ends without a report.
    aloud: bool,
}

impl Trace {
    pub(crate) fn new() -> Self {
        let trace = Self::default();
        trace.0.borrow_mut().aloud = std::env::var_os("LONGSHORE_TRACE").is_some();
        trace
    }

    pub(crate) fn note(&self, event: fmt::Arguments<'_>) {
        let event = event.to_string();
        let mut events = self.0.borrow_mut();
        if events.aloud {
            println!("{:6} {event}", events.count);
        }
        for byte in event.bytes() {
            // FNV-1a.
            events.hash = (events.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        events.count += 1;
        if events.last.len() == LAST {
            events.last.pop_front();
        }
        events.last.push_back(event);
    }

    /// A number that two runs share if their events do.
    pub(crate) fn hash(&self) -> (u64, u64) {
        let events = self.0.borrow();
        (events.count, events.hash)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.0.borrow();
        let first = events.count - events.last.len() as u64;
        for (event, number) in events.last.iter().zip(first..) {
            writeln!(f, "{number:6} {event}")?;
        }
        Ok(())
    }
}
