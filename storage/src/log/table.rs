//! The segments of a log, as all threads see them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::disk::DiskFile;
use crate::format::{SegmentHeader, Stamp};

/// A segment and its open file.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Offsets from which another epoch holds, in order.
    pub(crate) restarts: Vec<(u32, u8)>,
}

impl Segment {
    /// What the checksum of a fragment at `offset` is stamped with.
    pub(crate) fn stamp(&self, offset: u32) -> Stamp {
        let in_force = self.restarts.iter().rev().find(|(from, _)| *from <= offset);
        self.header.stamp(in_force.map_or(0, |(_, epoch)| *epoch))
    }
}

/// A segment as the layer above sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its number.
    pub number: u32,
    /// Bytes of its file, the greatest part of them allocated and not yet written when it is the
    /// current segment or one allocated ahead.
    pub bytes: u32,
}

/// All segments by number, those allocated ahead included.
#[derive(Debug, Default)]
pub(crate) struct Table {
    segments: RwLock<BTreeMap<u32, Arc<Segment>>>,
}

impl Table {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<u32, Arc<Segment>>> {
        // Nothing in here can panic half way.
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<u32, Arc<Segment>>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, number: u32) -> Option<Arc<Segment>> {
        self.read().get(&number).cloned()
    }

    pub(crate) fn insert(&self, segment: Segment) {
        self.write().insert(segment.header.number, Arc::new(segment));
    }

    pub(crate) fn remove(&self, number: u32) -> Option<Arc<Segment>> {
        self.write().remove(&number)
    }

    /// The lowest number.
    pub(crate) fn oldest(&self) -> Option<u32> {
        self.read().keys().next().copied()
    }

    pub(crate) fn list(&self) -> Vec<SegmentInfo> {
        let info =
            |it: &Arc<Segment>| SegmentInfo { number: it.header.number, bytes: it.header.bytes };
        self.read().values().map(info).collect()
    }
}
