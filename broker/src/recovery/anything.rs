//! Shards that begin with whatever a journal may hold.
//!
//! Bytes say what stands in it: sound records in any order, damaged ones, and such that nobody
//! wrote. Nothing of it may make recovery panic, nor the shards that begin with it, nor a client
//! that comes back to them; and what they write down can be read. The unit tests run seeds, the
//! fuzz target `replay` runs bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_acl::Anonymous;
use longshore_codec::{Connect, Packet, Properties, Property, Version, encode};
use longshore_storage::{
    Ahead, Batch, Disk, Log, Options, Position, ReadError, SimulatedDisk, Ticket,
};

use super::Recovery;
use crate::clock::{Mono, Now, Wall};
use crate::connection::Peer;
use crate::journal::ReadRecords;
use crate::limits::Limits;
use crate::record::any::Source;
use crate::record::{EVENTS, Event};
use crate::shard::{Config, Shard};

/// Records of one run, so that it is quick.
const RECORDS_MAX: usize = 400;
const SEGMENT_BYTES: u32 = 64 << 10;

/// Lets shards begin with the journal that `data` tells of.
pub(crate) fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let (shards, grace, is_sound) = (1 + source.below(2), source.byte(), source.below(2) == 0);
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
    let (journal, _) = Journal::open(&disk);
    let mut batch = Batch::new();
    for _ in 0..RECORDS_MAX {
        if source.is_spent() {
            break;
        }
        let (kind, body) = if is_sound { source.record() } else { source.any_record() };
        batch.push(kind, &body);
    }
    journal.append(&mut batch);
    drop(journal);

    let (journal, recovery) = Journal::open(&disk);
    assert!(!is_sound || recovery.unreadable().is_none(), "what was written can be read");
    let mut world = World::begin(&journal, recovery, shards, u64::from(grace));
    world.turn();
    for client_id in ["a", "b", "\u{e9}"] {
        world.connect(client_id);
    }
    world.pass(1);
    world.pass(100_000);
    world.compact();
    drop(world);
    drop(journal);
    let (_, recovery) = Journal::open(&disk);
    let unreadable = recovery.unreadable();
    assert!(!is_sound || unreadable.is_none(), "the shards wrote what can be read: {unreadable:?}");
}

/// A log that is read while it is written.
#[derive(Debug)]
struct Journal(Mutex<Log>);

impl ReadRecords for Journal {
    fn read(&self, position: Position, _: &mut Ahead, body: &mut Vec<u8>) -> Result<(), ReadError> {
        self.log().read(position, body).map(drop)
    }
}

impl Journal {
    fn open(disk: &Arc<dyn Disk>) -> (Arc<Self>, Recovery) {
        let mut options = Options::default();
        (options.segment_bytes, options.seed) = (SEGMENT_BYTES, 1);
        let mut recovery = Recovery::new();
        let (log, _) = Log::open(Arc::clone(disk), &options, &mut recovery).expect("it is sound");
        (Arc::new(Self(Mutex::new(log))), recovery)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, batch: &mut Batch) -> Ticket {
        let mut log = self.log();
        loop {
            let appended = log.append(batch);
            log.commit().expect("the disk works");
            if let Ok(ticket) = appended {
                return ticket;
            }
        }
    }
}

/// The shards, their journal, and the time.
struct World {
    journal: Arc<Journal>,
    shards: Vec<Shard>,
    now: Now,
}

impl World {
    fn begin(journal: &Arc<Journal>, recovery: Recovery, shards: usize, grace: u64) -> Self {
        let now = Now { mono: Mono(1_000_000), wall: Wall(3_000_000) };
        let mut configs = Config::of(shards, Limits::default(), Arc::new(Anonymous::new()), 1);
        let reader: Arc<dyn ReadRecords> = Arc::clone(journal) as Arc<dyn ReadRecords>;
        recovery.apply(&mut configs, &reader, grace);
        let mut shards: Vec<_> = configs.into_iter().map(Shard::new).collect();
        shards.iter_mut().for_each(|shard| shard.restore(now));
        Self { journal: Arc::clone(journal), shards, now }
    }

    /// Everything that is to leave the shards leaves them.
    fn turn(&mut self) {
        for _ in 0..1_000 {
            let mut mail = Vec::new();
            for shard in &mut self.shards {
                shard.advance(self.now);
                if let Some(batch) = shard.batch() {
                    let ticket = self.journal.append(batch);
                    shard.appended(ticket);
                }
                mail.extend(shard.take_mail());
            }
            let is_done = mail.is_empty();
            for (to, mail) in mail {
                self.shards[to].mail(mail, self.now);
            }
            let durable = self.journal.log().durable();
            for shard in &mut self.shards {
                shard.durable(durable);
                write_all(shard, self.now);
            }
            if is_done {
                return;
            }
        }
        panic!("mail never ends");
    }

    fn pass(&mut self, secs: u64) {
        let Now { mono, wall } = self.now;
        self.now = Now { mono: mono.plus_secs(secs), wall: wall.plus_secs(secs) };
        self.turn();
    }

    /// A client comes back, and takes what waits for it.
    fn connect(&mut self, client_id: &str) {
        let mut properties = Vec::new();
        Property::SessionExpiryInterval(10).append(&mut properties);
        let connect = Connect {
            version: Version::V5,
            clean_start: false,
            keep_alive: 0,
            client_id,
            will: None,
            username: None,
            password: None,
            properties: Properties::from_raw(&properties),
        };
        let mut bytes = Vec::new();
        encode(Version::V5, &Packet::Connect(connect), &mut bytes);
        let peer = Peer { address: ([127, 0, 0, 1], 1).into(), transport: "tcp" };
        let mut id = self.shards[0].accept(peer, self.now).expect("there is room");
        self.shards[0].receive(id, &bytes, self.now);
        while let Some(to) = self.shards[id.shard()].moving(id) {
            let moved = self.shards[id.shard()].take_moved(id).expect("it is on its way");
            id = self.shards[to].accept_moved(moved, self.now);
        }
        self.turn();
        self.shards[id.shard()].closed(id, self.now);
        self.turn();
    }

    /// Everything that lives is written down anew.
    fn compact(&mut self) {
        // All that stands there so far lies in older segments.
        let (mut filler, mut batch) = (Vec::new(), Batch::new());
        while filler.len() <= SEGMENT_BYTES as usize {
            Event::NoWill { holder: 0 }.encode(&mut filler);
        }
        batch.push(EVENTS, &filler);
        self.journal.append(&mut batch);
        let (base, sequence) = (self.journal.log().current(), self.shards[0].retained_changes());
        self.shards.iter_mut().for_each(|shard| shard.compact(base));
        let mut messages = 0;
        for at in 0..self.shards.len() {
            for slice in 0.. {
                assert!(slice < 10_000, "a round never ends");
                let journal = &self.journal;
                let mut append = |batch: &mut Batch| Some(journal.append(batch));
                let is_through = self.shards[at].compact_slice(&mut append);
                self.turn();
                if is_through {
                    break;
                }
            }
            messages = messages.max(self.shards[at].last_message());
        }
        self.shards[0].note_compacted(sequence, messages);
        self.turn();
    }
}

fn write_all(shard: &mut Shard, now: Now) {
    let mut dirty = Vec::new();
    loop {
        shard.take_dirty(&mut dirty);
        if dirty.is_empty() {
            return;
        }
        for id in dirty.drain(..) {
            let mut count = 0;
            if let Some(output) = shard.output(id) {
                while !output.is_empty() {
                    let taken = output.front().len();
                    output.consume(taken);
                    count += taken;
                }
            }
            shard.wrote(id, count, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::any::bytes_of;

    #[test]
    fn shards_begin_with_whatever_stands_in_a_journal() {
        for seed in 0..3_000 {
            let data = bytes_of(seed, 64 << (seed % 6));
            let outcome = std::panic::catch_unwind(|| run(&data));
            assert!(outcome.is_ok(), "seed {seed}");
        }
    }
}
