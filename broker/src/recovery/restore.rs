//! From what the records told to what sessions and groups keep.

use std::sync::Arc;

use hashbrown::HashMap;
use longshore_storage::DiskFile;

use super::state::{Held, Told};
use crate::message::{Entry, Kept};
use crate::record::Ref;
use crate::session::{self, Page, Pages, Pending, Queue};
use crate::share::Group;

type Restored = (Arc<Page<Arc<Entry>>>, Box<[u16]>);

/// Pages of one shard, as its sessions have them from now on.
pub(super) struct Restore {
    /// By the page that the journal tells of: the page with those of its messages that were found,
    /// and how many of them stand before each place.
    known: HashMap<*const Page<Told>, Restored>,
    pub(super) pages: Arc<Pages<Arc<Entry>>>,
}

impl Restore {
    /// Nothing yet. What takes more than `limit` bytes of memory goes to `file`.
    pub(super) fn new(file: Option<Arc<dyn DiskFile>>, limit: usize) -> Self {
        Self { known: HashMap::new(), pages: Arc::new(Pages::new(file, limit)) }
    }

    /// What waits for a session.
    pub(super) fn queue(
        &mut self,
        queue: &Queue<Told, Ref>,
        groups: &HashMap<u64, Arc<Group>>,
    ) -> Queue<Arc<Entry>, session::Manner> {
        let mut restored = Queue::default();
        for (span, to) in queue.spans() {
            let (page, found) = self.known.entry(Arc::as_ptr(&span.page)).or_insert_with(|| {
                let told = span.page.open();
                let (mut entries, mut found) = (Vec::new(), vec![0]);
                for told in told.entries() {
                    entries.extend(told.found());
                    found.push(entries.len() as u16);
                }
                (Page::new(entries, &self.pages), found.into())
            });
            let range = span.range();
            let found = found[usize::from(range.start)]..found[usize::from(range.end)];
            if !found.is_empty() {
                restored.push_span(page, found, manner(to.clone(), groups));
                // One that cannot leave stays: its shard says so.
                let _ = self.pages.relieve(2);
            }
        }
        restored
    }
}

impl Told {
    /// The message, if its record was found.
    fn found(&self) -> Option<Arc<Entry>> {
        self.entry.position().map(|_| Arc::clone(&self.entry))
    }
}

/// How a session or a group gets what waits for it so.
fn manner(to: Ref, groups: &HashMap<u64, Arc<Group>>) -> session::Manner {
    let Ref { holder, qos, retain, group, again, identifiers, .. } = to;
    let group = groups.get(&group).cloned();
    session::Manner { qos, retain, again, identifiers, group, holder }
}

impl Held {
    /// It as a session or a group keeps it, if the message was found.
    pub(super) fn pending(self, groups: &HashMap<u64, Arc<Group>>) -> Option<Pending> {
        let message = Kept::Disk(self.told.found()?);
        Some(Pending { message, manner: manner(self.to, groups) })
    }
}
