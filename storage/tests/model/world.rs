//! A log, the disk under it, and a list of what must be in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_storage::{
    Batch, Disk, Entry, Failure, Level, Log, NotRetired, OpenError, Options, Refused,
    SimulatedDisk, Span, Ticket,
};

use crate::random::Random;

pub(crate) const SEGMENT_BYTES: u32 = 4096;

pub(crate) fn options(level: Level) -> Options {
    let mut options = Options::default();
    options.level = level;
    options.segment_bytes = SEGMENT_BYTES;
    options.record_bytes_max = 20_000;
    options.pending_bytes_max = 30_000;
    options.spares_max = 1;
    options
}

/// A record that was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) span: Span,
    pub(crate) kind: u8,
    pub(crate) body: Vec<u8>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    PowerCut,
    Kill,
    Either,
}

pub(crate) struct World {
    pub(crate) disk: SimulatedDisk,
    pub(crate) log: Option<Log>,
    pub(crate) random: Random,
    /// What run this is, for whoever has to find it again.
    pub(crate) run: String,
    level: Level,
    /// All that was appended and is not known to be lost or retired.
    records: Vec<Record>,
    /// How many of them have been called durable.
    durable: usize,
    /// How many of them are on the medium for sure.
    on_medium: usize,
    /// Segments whose retirement was interrupted.
    maybe_retired: BTreeSet<u32>,
}

impl World {
    pub(crate) fn new(seed: u64, level: Level) -> Self {
        Self {
            disk: SimulatedDisk::new(seed),
            log: None,
            random: Random::new(seed),
            run: format!("seed {seed}"),
            level,
            records: Vec::new(),
            durable: 0,
            on_medium: 0,
            maybe_retired: BTreeSet::new(),
        }
    }

    /// Opens the log and compares what it holds.
    pub(crate) fn open(&mut self) -> Result<(), OpenError> {
        let mut found = Vec::new();
        let mut replay = |entry: Entry<'_>| {
            let Entry { span, kind, body, .. } = entry;
            found.push(Record { span, kind, body: body.to_vec() });
        };
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        // Another seed in each process, as it is by default.
        let mut options = options(self.level);
        options.seed = self.random.next();
        let (log, _) = Log::open(disk, &options, &mut replay)?;
        self.compare(&found);
        self.on_medium = found.len();
        self.durable = found.len();
        self.records = found;
        self.maybe_retired.clear();
        self.log = Some(log);
        Ok(())
    }

    /// What is found must be what was appended, up to some point that is not before what was
    /// called durable; a segment whose retirement was interrupted is there or not.
    fn compare(&self, found: &[Record]) {
        let kept = |retired: &BTreeSet<u32>| {
            let is_there =
                |it: &&Record| !it.span.segments().any(|number| retired.contains(&number));
            let count = self.records[..self.durable].iter().filter(is_there).count();
            (self.records.iter().filter(is_there).cloned().collect::<Vec<_>>(), count)
        };
        let agrees = |retired: &BTreeSet<u32>| {
            let (kept, durable) = kept(retired);
            found.len() >= durable && kept.starts_with(found)
        };
        let is_right = agrees(&BTreeSet::new()) || agrees(&self.maybe_retired);
        assert!(
            is_right,
            "{}: appended {:?}, {} of them durable, {:?} perhaps retired; found {:?}",
            self.run,
            spans(&self.records),
            self.durable,
            self.maybe_retired,
            spans(found)
        );
    }

    /// Does something. An error is that of the disk.
    pub(crate) fn step(&mut self) -> Result<(), Failure> {
        match self.random.below(20) {
            0..10 => self.append(),
            10..16 => self.commit(),
            16 => self.flush(),
            17 => self.retire(),
            18 => {
                self.read();
                Ok(())
            }
            _ => self.reopen(),
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("the log is open")
    }

    pub(crate) fn batch(&mut self) -> (Batch, Vec<(u8, Vec<u8>)>) {
        let mut batch = Batch::new();
        let mut records = Vec::new();
        for _ in 0..=self.random.below(4) {
            let length = match self.random.below(40) {
                0 => self.random.below(15_000),
                1..4 => self.random.below(4096),
                4 => 0,
                _ => self.random.below(200),
            };
            let kind = self.random.next() as u8;
            let body = self.random.bytes(length as usize);
            if self.random.once_in(2) {
                let (start, end) = body.split_at(body.len() / 3);
                batch.push_pieces(kind, &[start, &[], end]);
            } else {
                batch.push(kind, &body);
            }
            records.push((kind, body));
        }
        (batch, records)
    }

    fn append(&mut self) -> Result<(), Failure> {
        let (mut batch, records) = self.batch();
        for _ in 0..3 {
            match self.log().append(&mut batch) {
                Ok(ticket) => {
                    self.note(&batch, records, ticket);
                    return Ok(());
                }
                Err(Refused::Busy) => self.commit()?,
                Err(Refused::Failed(failure)) => return Err(failure),
                // A disk without power takes no new segment either.
                Err(Refused::Full(_)) if self.disk.is_cut() => return Err(no_power()),
                Err(refused) => panic!("the disk is not full, and yet: {refused}"),
            }
        }
        panic!("{}: a batch is taken once what waited is written", self.run);
    }

    fn note(&mut self, batch: &Batch, records: Vec<(u8, Vec<u8>)>, ticket: Ticket) {
        assert_eq!(batch.spans().len(), records.len());
        for (span, (kind, body)) in batch.spans().iter().zip(records) {
            assert!(self.records.last().is_none_or(|last| last.span.end <= span.start));
            assert!(span.end.to_u64() <= ticket.to_u64());
            self.records.push(Record { span: *span, kind, body });
        }
    }

    pub(crate) fn commit(&mut self) -> Result<(), Failure> {
        let committed = self.log().commit();
        self.note_durable();
        committed.map(drop)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.log().flush();
        self.note_durable();
        flushed?;
        self.on_medium = self.records.len();
        Ok(())
    }

    fn note_durable(&mut self) {
        let durable = self.log().durable().to_u64();
        let count = self.records.iter().take_while(|it| it.span.end.to_u64() <= durable).count();
        assert!(count >= self.durable, "what was durable stays so");
        self.durable = count;
    }

    fn retire(&mut self) -> Result<(), Failure> {
        let current = self.log().current();
        let mut full: Vec<_> = self.log().segments().into_iter().map(|it| it.number).collect();
        full.retain(|number| *number < current);
        if full.is_empty() {
            return Ok(());
        }
        let pick = if self.random.once_in(2) { 0 } else { self.random.below(full.len() as u64) };
        let number = full[pick as usize];
        self.maybe_retired.insert(number);
        match self.log().retire(number) {
            Ok(()) => {
                self.maybe_retired.remove(&number);
                let gone = |it: &Record| it.span.segments().any(|segment| segment == number);
                self.durable -= self.records[..self.durable].iter().filter(|it| gone(it)).count();
                let on_medium = &self.records[..self.on_medium];
                self.on_medium -= on_medium.iter().filter(|it| gone(it)).count();
                self.records.retain(|it| !gone(it));
                Ok(())
            }
            Err(NotRetired::Failed(failure)) => Err(failure),
            Err(NotRetired::NotYet(_)) if self.disk.is_cut() => Err(no_power()),
            Err(refused) => panic!("{number} of {full:?}: {refused}"),
        }
    }

    fn read(&mut self) {
        if self.records.is_empty() {
            return;
        }
        let pick = self.random.below(self.records.len() as u64) as usize;
        let record = self.records[pick].clone();
        let mut body = b"before".to_vec();
        let kind = match self.log().read(record.span.start, &mut body) {
            Ok(kind) => kind,
            Err(error) => return assert!(self.disk.is_cut(), "{error}"),
        };
        assert_eq!((kind, &body[6..]), (record.kind, &record.body[..]));
    }

    /// Stops and starts, at times without a word.
    fn reopen(&mut self) -> Result<(), Failure> {
        let log = self.log.take().expect("the log is open");
        if self.random.once_in(2) {
            log.close()?;
            self.durable = self.records.len();
            self.on_medium = self.records.len();
        } else {
            drop(log);
            if self.level == Level::None {
                self.durable = self.durable.min(self.on_medium);
            }
        }
        match self.open() {
            Ok(()) => Ok(()),
            Err(OpenError::Io { doing, file, error }) => {
                Err(Failure { doing, file, error: Arc::new(error) })
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Ends the process and gives the disk to the next one.
    pub(crate) fn end(&mut self, ending: Ending) {
        self.log = None;
        self.disk = match ending {
            Ending::Either if self.random.once_in(2) => self.disk.restart_after_kill(),
            Ending::PowerCut | Ending::Either => self.disk.restart(),
            Ending::Kill => self.disk.restart_after_kill(),
        };
        match (self.level, ending) {
            (Level::Power, _) | (Level::Process, Ending::Kill) => {}
            _ => self.durable = self.on_medium.min(self.durable),
        }
    }
}

fn no_power() -> Failure {
    let error = Arc::new(std::io::Error::other("the power is cut"));
    Failure { doing: "append", file: String::new(), error }
}

fn spans(records: &[Record]) -> Vec<String> {
    let text = |it: &Record| format!("{}-{}", it.span.start, it.span.end);
    records.iter().map(text).collect()
}
