//! The journal of the broker.

#![forbid(unsafe_code)]

mod batch;
mod check;
mod committer;
mod disk;
mod error;
mod format;
mod log;
mod options;
mod position;

pub use batch::Batch;
pub use check::{Loss, Repaired, Report, repair, verify};
pub use committer::{Committer, Event};
pub use disk::{
    DirectoryLock, Disk, DiskFile, Fault, LOCK_FILE, LockError, Operation, SimulatedDisk,
    SystemDisk,
};
pub use error::{Damage, Failure, Flaw, NotRetired, OpenError, ReadError, Refused};
pub use format::Unsound;
pub use log::{Entry, Log, Recovered, Replay, SegmentInfo};
pub use options::{Level, Options};
pub use position::{Position, Span, Ticket};
