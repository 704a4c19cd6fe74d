//! What the tests of the log share: small logs on simulated disks.

#![allow(dead_code, reason = "each test needs another part of it")]

use std::sync::Arc;

use longshore_storage::{
    Batch, Disk, Entry, Level, Log, OpenError, Options, Refused, SimulatedDisk, Span, Ticket,
};

pub(crate) const SEGMENT_BYTES: u32 = 4096;

/// Options of a small log.
pub(crate) fn options() -> Options {
    let mut options = Options::default();
    options.segment_bytes = SEGMENT_BYTES;
    options.seed = 9;
    options
}

pub(crate) fn at_level(level: Level) -> Options {
    let mut options = options();
    options.level = level;
    options
}

/// Kind and body of a record.
pub(crate) type Record = (u8, Vec<u8>);

/// Opens a log and gives what it holds.
pub(crate) fn open_with(
    disk: &SimulatedDisk,
    options: &Options,
) -> Result<(Log, Vec<Record>), OpenError> {
    let mut found = Vec::new();
    let mut replay = |entry: Entry<'_>| found.push((entry.kind, entry.body.to_vec()));
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (log, _) = Log::open(disk, options, &mut replay)?;
    Ok((log, found))
}

pub(crate) fn open(disk: &SimulatedDisk) -> (Log, Vec<Record>) {
    open_with(disk, &options()).unwrap_or_else(|error| panic!("{error}"))
}

/// What a log holds, as a restart finds it.
pub(crate) fn contents(disk: &SimulatedDisk) -> Vec<Record> {
    open(&disk.restart_after_kill()).1
}

/// A record that is told from others by its number.
pub(crate) fn record(number: usize, length: usize) -> Record {
    (number as u8, (0..length).map(|at| (number * 7 + at) as u8).collect())
}

pub(crate) fn records(count: usize, length: usize) -> Vec<Record> {
    (0..count).map(|number| record(number, length)).collect()
}

pub(crate) fn batch(records: &[Record]) -> Batch {
    let mut batch = Batch::new();
    records.iter().for_each(|(kind, body)| batch.push(*kind, body));
    batch
}

/// Appends records as one batch.
pub(crate) fn append(log: &mut Log, records: &[Record]) -> Result<(Ticket, Vec<Span>), Refused> {
    let mut batch = batch(records);
    let ticket = log.append(&mut batch)?;
    Ok((ticket, batch.spans().to_vec()))
}

/// Appends and commits each record by itself.
pub(crate) fn commit_each(log: &mut Log, records: &[Record]) -> Vec<Span> {
    let mut spans = Vec::new();
    for record in records {
        let one = std::slice::from_ref(record);
        let (ticket, span) = append(log, one).unwrap_or_else(|_| {
            // More than is allocated ahead: that is known at the next commit.
            log.commit().expect("the disk is sound");
            append(log, one).expect("there is room")
        });
        spans.extend(span);
        assert!(log.commit().expect("the disk is sound") >= ticket);
    }
    spans
}

/// Name of the file of a segment.
pub(crate) fn segment(number: u32) -> String {
    format!("{number:010}.segment")
}
