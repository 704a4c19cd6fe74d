//! Which sources a stream is linked to: channels and devices, by number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use longshore_storage::{Changes, Table, Tables, TablesError};

/// Links of one stream, at most.
pub(super) const LINKS_MAX: usize = 100_000;

/// The row that says which number was given last; links have numbers from 1 on.
const LAST: [u8; 8] = [0; 8];

/// What messages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Source {
    Channel(u64),
    Device(u64),
}

/// One stream gets the messages of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) id: u64,
    pub(super) stream: u64,
    pub(super) source: Source,
}

impl Link {
    fn row(&self) -> Vec<u8> {
        let (kind, number) = match self.source {
            Source::Channel(number) => (0, number),
            Source::Device(number) => (1, number),
        };
        [&self.stream.to_be_bytes()[..], &[kind], &number.to_be_bytes()].concat()
    }

    fn read(key: &[u8], row: &[u8]) -> Option<Self> {
        let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
        let number_of = number(row.get(9..)?)?;
        let source = match row.get(8)? {
            0 => Source::Channel(number_of),
            _ => Source::Device(number_of),
        };
        Some(Self { id: number(key)?, stream: number(row.get(..8)?)?, source })
    }
}

/// All links, in a table and in memory.
pub(super) struct Links {
    tables: Tables,
    table: Table,
    index: RwLock<Index>,
    changing: Mutex<()>,
}

/// Links by what they are looked for.
#[derive(Default)]
pub(super) struct Index {
    by_id: BTreeMap<u64, Link>,
    streams: HashMap<Source, BTreeSet<u64>>,
    sources: HashMap<u64, BTreeMap<Source, u64>>,
    last: u64,
    device_links: u64,
}

/// What became of a link: none if it was not there, or is no longer.
pub(super) type Step = (Option<Link>, Option<Link>);

impl Index {
    /// The streams that are linked to a source.
    pub(super) fn streams(&self, source: Source) -> impl Iterator<Item = u64> {
        self.streams.get(&source).into_iter().flatten().copied()
    }

    pub(super) fn is_linked(&self, stream: u64, source: Source) -> bool {
        self.streams.get(&source).is_some_and(|streams| streams.contains(&stream))
    }

    /// Whether a stream is linked to any device.
    pub(super) fn has_devices(&self, stream: u64) -> bool {
        let devices = (Bound::Included(Source::Device(0)), Bound::Unbounded);
        self.sources.get(&stream).is_some_and(|all| all.range(devices).next().is_some())
    }

    /// The links of a stream, by source.
    pub(super) fn of(&self, stream: u64) -> impl Iterator<Item = Link> {
        let all = self.sources.get(&stream).into_iter().flatten();
        all.map(move |(source, id)| Link { id: *id, stream, source: *source })
    }

    /// How many links to devices have been made since the start.
    pub(super) fn device_links(&self) -> u64 {
        self.device_links
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    fn put(&mut self, link: Link) {
        self.device_links += u64::from(matches!(link.source, Source::Device(_)));
        self.by_id.insert(link.id, link);
        self.streams.entry(link.source).or_default().insert(link.stream);
        self.sources.entry(link.stream).or_default().insert(link.source, link.id);
    }

    fn take(&mut self, link: Link) {
        self.by_id.remove(&link.id);
        if let Some(streams) = self.streams.get_mut(&link.source) {
            streams.remove(&link.stream);
            if streams.is_empty() {
                self.streams.remove(&link.source);
            }
        }
        if let Some(sources) = self.sources.get_mut(&link.stream) {
            sources.remove(&link.source);
            if sources.is_empty() {
                self.sources.remove(&link.stream);
            }
        }
    }
}

impl Links {
    /// Those in their table.
    pub(super) fn open(tables: &Tables) -> Result<Self, TablesError> {
        let table = tables.table("stream links")?;
        let mut index = Index::default();
        for row in table.prefix(b"") {
            let (key, value) = row?;
            if key == LAST {
                index.last = value.try_into().map(u64::from_be_bytes).unwrap_or_default();
            } else if let Some(link) = Link::read(&key, &value) {
                index.put(link);
            }
        }
        let (index, changing) = (RwLock::new(index), Mutex::default());
        Ok(Self { tables: tables.clone(), table, index, changing })
    }

    /// As they are now, for a moment.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Index> {
        // Under it nothing panics but a broken invariant.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Links each stream to each source. Says what there is now, and what has changed; `None` is a
    /// stream that has [`LINKS_MAX`].
    pub(super) fn make(&self, wanted: &[(u64, Source)]) -> Result<Vec<Option<Step>>, TablesError> {
        let _one_by_one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut steps = Vec::new();
        let mut made = HashMap::<u64, BTreeMap<Source, u64>>::new();
        {
            let index = self.read();
            let mut last = index.last;
            for (stream, source) in wanted {
                let known = index.sources.get(stream);
                let made = made.entry(*stream).or_default();
                let id = known.and_then(|it| it.get(source)).or_else(|| made.get(source)).copied();
                if let Some(id) = id {
                    let link = Link { id, stream: *stream, source: *source };
                    steps.push(Some((Some(link), Some(link))));
                } else if known.map_or(0, BTreeMap::len) + made.len() >= LINKS_MAX {
                    steps.push(None);
                } else {
                    last += 1;
                    made.insert(*source, last);
                    let link = Link { id: last, stream: *stream, source: *source };
                    steps.push(Some((None, Some(link))));
                }
            }
        }
        self.keep(&steps.iter().flatten().copied().collect::<Vec<_>>())?;
        Ok(steps)
    }

    /// Gives links other sources. What a stream is linked to already stays one link.
    pub(super) fn update(&self, ids: &[u64], source: Source) -> Result<Vec<Step>, TablesError> {
        let _one_by_one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut steps = Vec::new();
        let mut taken = BTreeSet::new();
        {
            let index = self.read();
            for before in ids.iter().filter_map(|id| index.by_id.get(id)) {
                let other = index.sources.get(&before.stream).and_then(|all| all.get(&source));
                let is_free = other.is_none_or(|id| *id == before.id);
                let after = Link { source, ..*before };
                let is_first = is_free && taken.insert(before.stream);
                steps.push((Some(*before), is_first.then_some(after)));
            }
        }
        self.keep(&steps)?;
        Ok(steps)
    }

    /// Takes links away.
    pub(super) fn remove(&self, links: &[Link]) -> Result<Vec<Step>, TablesError> {
        let _one_by_one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |link: &&Link| self.read().by_id.contains_key(&link.id);
        let there = links.iter().filter(known);
        let steps: Vec<Step> = there.map(|link| (Some(*link), None)).collect();
        self.keep(&steps)?;
        Ok(steps)
    }

    /// Takes away all links of a stream.
    pub(super) fn forget(&self, stream: u64) -> Result<(), TablesError> {
        let links: Vec<Link> = self.read().of(stream).collect();
        self.remove(&links).map(drop)
    }

    /// Takes away all links of streams that are gone.
    pub(super) fn retain(&self, is_there: impl Fn(u64) -> bool) -> Result<(), TablesError> {
        let gone = |link: &&Link| !is_there(link.stream);
        let gone: Vec<Link> = self.read().by_id.values().filter(gone).copied().collect();
        self.remove(&gone).map(drop)
    }

    fn keep(&self, steps: &[Step]) -> Result<(), TablesError> {
        let mut changes = Changes::new();
        let mut last = 0;
        for (before, after) in steps.iter().filter(|(before, after)| before != after) {
            match (before, after) {
                (_, Some(after)) => {
                    last = last.max(after.id);
                    changes.put(&self.table, &after.id.to_be_bytes(), &after.row());
                }
                (Some(before), None) => changes.remove(&self.table, &before.id.to_be_bytes()),
                (None, None) => {}
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        let last = last.max(self.read().last);
        changes.put(&self.table, &LAST, &last.to_be_bytes());
        self.tables.commit(changes)?;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.last = last;
        for (before, after) in steps.iter().filter(|(before, after)| before != after) {
            before.iter().for_each(|link| index.take(*link));
            after.iter().for_each(|link| index.put(*link));
        }
        Ok(())
    }
}
