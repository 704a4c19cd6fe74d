//! A store of a value per key on a log, which moves what is still needed to the end of the log and
//! retires what it stood in: whatever is lost or comes back shows.

use std::collections::BTreeMap;

use longshore_storage::{Batch, Log, Refused, Span};

/// A key and its value from then on; none when it is deleted.
pub(crate) type Change = (u8, Option<u64>);

pub(crate) fn apply(keys: &mut BTreeMap<u8, u64>, (key, value): Change) {
    match value {
        Some(value) => drop(keys.insert(key, value)),
        None => drop(keys.remove(&key)),
    }
}

const KEYS: u64 = 24;

/// Segments before the oldest is emptied.
const SEGMENTS_MAX: u32 = 12;

/// Numbers that a seed gives.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % bound
    }
}

pub(crate) struct Store {
    log: Log,
    random: Random,
    /// The last record of each key that has a value, and where it is.
    keys: BTreeMap<u8, (usize, Span)>,
    /// All records that are in the log, by number, with their keys.
    places: BTreeMap<usize, (u8, Span)>,
    pub(crate) history: Vec<Change>,
    /// Records that are durable.
    pub(crate) durable: usize,
    pub(crate) padding_max: u64,
}

impl Store {
    pub(crate) fn new(log: Log, seed: u64) -> Self {
        let (keys, places, history) = <_>::default();
        Self { log, random: Random(!seed), keys, places, history, durable: 0, padding_max: 600 }
    }

    /// Writes a little, and moves and retires what should go.
    pub(crate) fn turn(&mut self) {
        let mut changes = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            // Some keys change often and some hardly ever.
            let key = (self.random.below(KEYS) * self.random.below(KEYS) / KEYS) as u8;
            let is_deleted = self.random.below(5) == 0;
            changes.push((key, (!is_deleted).then_some(self.history.len() as u64)));
        }
        self.append(&changes);
        if self.random.below(3) > 0 {
            self.commit();
        }
        if self.random.below(8) == 0 {
            self.retire_superseded();
        }
        while self.log.current() > self.log.segments()[0].number + SEGMENTS_MAX {
            self.compact();
        }
    }

    fn append(&mut self, changes: &[Change]) {
        let first = self.history.len();
        let mut batch = Batch::new();
        for (number, (key, value)) in (first..).zip(changes) {
            let mut body = (number as u64).to_le_bytes().to_vec();
            body.extend(value.unwrap_or(u64::MAX).to_le_bytes());
            body.resize(16 + self.random.below(self.padding_max) as usize, *key);
            batch.push(*key, &body);
        }
        while let Err(refused) = self.log.append(&mut batch) {
            assert!(matches!(refused, Refused::Busy), "{refused}");
            self.commit();
        }
        self.history.extend(changes);
        for ((number, change), span) in (first..).zip(changes).zip(batch.spans()) {
            self.places.insert(number, (change.0, *span));
            match change.1 {
                Some(_) => drop(self.keys.insert(change.0, (number, *span))),
                None => drop(self.keys.remove(&change.0)),
            }
        }
    }

    fn commit(&mut self) {
        self.log.commit().expect("the disk is sound");
        self.durable = self.history.len();
    }

    /// Moves what is needed out of the oldest segment, and retires it.
    fn compact(&mut self) {
        let oldest = self.log.segments()[0].number;
        let held = self.keys.iter().filter(|(_, (_, span))| span.segments().contains(&oldest));
        let moved: Vec<Change> =
            held.map(|(key, (number, _))| (*key, self.history[*number].1)).collect();
        self.append(&moved);
        self.commit();
        self.retire(oldest);
    }

    fn retire(&mut self, number: u32) {
        self.log.retire(number).expect("it is full");
        self.places.retain(|_, (_, span)| !span.segments().contains(&number));
    }

    /// Retires a segment amid others, all of whose records are superseded in later ones.
    fn retire_superseded(&mut self) {
        self.commit();
        let is_superseded = |number: u32| {
            let mut held = self.places.values().filter(|it| it.1.segments().contains(&number));
            held.all(|(key, span)| {
                let mut others = self.places.values();
                others.any(|(other, it)| other == key && it.start.segment > span.end.segment)
            })
        };
        let segments = self.log.segments();
        let amid = segments.iter().skip(1).map(|it| it.number);
        let mut amid = amid.take_while(|number| *number < self.log.current());
        if let Some(number) = amid.find(|number| is_superseded(*number)) {
            self.retire(number);
        }
    }
}
