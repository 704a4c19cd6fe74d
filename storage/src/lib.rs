//! The journal: a crash-safe log of opaque records, in segments.
//!
//! Records go in as batches and come out in the same order, byte for byte, after any crash: all of
//! those that were called durable, and of the others those up to some point. What a record means
//! is the caller's business; it has a kind of one byte and a body.
//!
//! | module | holds |
//! | --- | --- |
//! | [`Log`] | the machine: append, commit, read, retire, recover; no thread, no clock |
//! | [`Committer`] | the thread around it: many append, one commits |
//! | [`backup`] | a copy of a log that is at work, cut at one point |
//! | [`verify`], [`repair`] | what a directory holds, and what can be kept of a damaged one |
//! | `Tables` | ordered tables for what is not on the way of a message, with the feature `tables` |
//! | [`Disk`] | the seam to the file system; [`SystemDisk`], and [`SimulatedDisk`] for tests |
//!
//! # What survives
//!
//! | [`Level`] | a ticket is durable when its records are | survives |
//! | --- | --- | --- |
//! | [`Power`](Level::Power) | written and synced | a cut of the power |
//! | [`Process`](Level::Process) | written | `kill -9`, running out of memory |
//! | [`None`](Level::None) | appended | a clean stop |
//!
//! A log of any level opens again after a cut of the power: a full segment is synced before the
//! next one is written to, so only the last one can be torn.
//!
//! The log is written to segments that are allocated ahead. When none can be, the disk is full:
//! then what is new is refused ([`Refused::Full`]), and what was taken before has its room. After
//! an error of a write or of a sync nothing is durable any more ([`Failure`]).
//!
//! # Files
//!
//! | name, with the number of a segment in ten digits | is |
//! | --- | --- |
//! | `0000000007.segment` | a segment |
//! | `0000000007.retired` | an empty file: that segment is retired, though an older one is not |
//! | `0000000007.spare` | a retired segment, to be used again under another number |
//! | `0000000007.damaged` | a segment as it was before a [`repair`]; nothing reads it |
//! | `draft` | a segment that is being made |
//! | `lock` | locked by the process that has the log open; holds its process id |
//!
//! Numbers begin at 1 and go up by one. A segment gets its name after its header is on the medium,
//! and is written to after its name is. One that is missing between others, and not said to be
//! retired, is damage.
//!
//! # Format, version 1
//!
//! All numbers are unsigned and little-endian; checksums are CRC-32C. A segment is a header,
//! fragments side by side, and whatever the file held before:
//!
//! ```text
//!      0      512                                                              size of the file
//!      +------+----------+----------+-----+---------+----------+- - - - - - - - +
//!      |header| fragment | fragment | ... | barrier | fragment |  not written   |
//!      +------+----------+----------+-----+---------+----------+- - - - - - - - +
//! ```
//!
//! The header stands twice in the first sector, at 0 and at 256; either copy will do:
//!
//! ```text
//!      0                       8           12          16          20          24          28
//!      +-----------------------+-----------+-----------+-----------+-----------+-----------+
//!      |       LSJOURNL        |  version  | checksum  |  number   |   bytes   |   salt    | 0000
//!      +-----------------------+-----------+-----------+-----------+-----------+-----------+
//! ```
//!
//! | field | is |
//! | --- | --- |
//! | version | 1 |
//! | checksum | of bytes 0 to 11 and 16 to 31 |
//! | number | that of the file's name |
//! | bytes | size of the file: 4 KiB to 1 GiB, in sectors of 512 |
//! | salt | drawn at random, so that no client can make a body that looks like a fragment |
//!
//! A fragment:
//!
//! ```text
//!      0           4           8     9     10       12           12 + length
//!      +-----------+-----------+-----+-----+--------+-- - - - - --+
//!      | checksum  |  length   |part |kind |  0  0  |    body     |
//!      +-----------+-----------+-----+-----+--------+-- - - - - --+
//! ```
//!
//! | part | is | body |
//! | --- | --- | --- |
//! | 1 | a whole record | that of the record |
//! | 2, 3, 4 | first, middle and last part of a record that lies in several segments | its part |
//! | 5 | a barrier: all before it was on the medium when it was written | epoch, 4 bytes |
//! | 6 | a restart: the barrier of an opening; a record without end before it is void | epoch |
//! | 7 | a pad | not looked at, nor checksummed |
//! | 8 | a stretch that a repair gave up; records that reach into it are void | the same |
//!
//! The checksum is that of 16 bytes: bytes 4 to 11 of the fragment, the checksum of its body (0
//! for parts 7 and 8), and the salt. It does not start from 0 but goes on from
//! `(256 * number + epoch) xor offset`, modulo 2^32, with the offset of the fragment in the file.
//! So what another use of the file left behind, or a commit that was torn, is sound nowhere.
//!
//! - The first fragment of a segment is a barrier of epoch 0, or a restart.
//! - A restart has an epoch one above that of what is before it; all after it has that epoch. After
//!   epoch 255 the rest of the segment is padded.
//! - A commit that is synced begins with a barrier and is padded to a whole sector: what is durable
//!   shares no sector with what is written later, and barriers stand at the start of a sector.
//! - A segment is full when less than 12 bytes are left. A record that does not fit is divided; its
//!   rest begins behind the barrier of the next segment.
//!
//! # Recovery
//!
//! Segments are read in the order of their numbers, and fragments from the first on. Where one is
//! not sound the log ends, if nothing says that it went on: no barrier behind it in its segment,
//! nothing in a later segment. Then it was torn, and a restart is written over it. Else something
//! was damaged that had been durable: that is an error ([`OpenError::Damaged`]). Segments after the
//! one in which the log ends get another salt, so that nothing in them can be taken for part of it.
//!
//! # Upgrades
//!
//! Magic, version and checksum of the header stay where they are. A program reads all versions up
//! to its own and writes its own: new segments, beside older ones. It leaves a directory alone in
//! which it finds a later one ([`OpenError::Version`]). `tests/golden` has a directory of each.

#![forbid(unsafe_code)]

mod backup;
mod batch;
mod check;
mod committer;
mod disk;
mod error;
mod format;
mod log;
mod options;
mod position;
#[cfg(feature = "tables")]
mod tables;

pub use backup::{backup, backup_until};
pub use batch::Batch;
pub use check::{Loss, Repaired, Report, repair, verify};
pub use committer::{Committer, Event};
pub use disk::{
    DirectoryLock, Disk, DiskFile, Fault, LOCK_FILE, LockError, Operation, SimulatedDisk,
    SystemDisk, read_up_to,
};
pub use error::{BackupError, Damage, Failure, Flaw, NotRetired, OpenError, ReadError, Refused};
pub use format::Unsound;
pub use log::{Ahead, Entry, Log, Recovered, Replay, SegmentInfo};
pub use options::{Level, Options};
pub use position::{Position, Span, Ticket};
#[cfg(feature = "tables")]
pub use tables::{Changes, Row, Rows, Snapshot, Table, Tables, TablesError, TablesOptions};
