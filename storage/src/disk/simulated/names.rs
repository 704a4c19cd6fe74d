//! The names of simulated files: as they are, and as they are on the medium.

use std::collections::BTreeMap;

use super::random::Random;

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    now: BTreeMap<String, u64>,
    medium: BTreeMap<String, u64>,
    /// Changes that are not on the medium yet, in order.
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Create { name: String, id: u64 },
    Rename { from: String, to: String },
    Remove { name: String },
}

impl Change {
    /// Makes the change to `names`, and says whether it could be made.
    fn apply(&self, names: &mut BTreeMap<String, u64>) -> bool {
        match self {
            Self::Create { name, id } => {
                names.insert(name.clone(), *id);
                true
            }
            Self::Rename { from, to } => match names.remove(from) {
                Some(id) => {
                    names.insert(to.clone(), id);
                    true
                }
                None => false,
            },
            Self::Remove { name } => names.remove(name).is_some(),
        }
    }
}

impl Names {
    pub(super) fn list(&self) -> Vec<String> {
        self.now.keys().cloned().collect()
    }

    pub(super) fn find(&self, name: &str) -> Option<u64> {
        self.now.get(name).copied()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.now.values().copied()
    }

    pub(super) fn create(&mut self, name: &str, id: u64) {
        self.change(Change::Create { name: name.to_owned(), id });
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> bool {
        self.change(Change::Rename { from: from.to_owned(), to: to.to_owned() })
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.change(Change::Remove { name: name.to_owned() })
    }

    fn change(&mut self, change: Change) -> bool {
        let is_made = change.apply(&mut self.now);
        if is_made {
            self.unsynced.push(change);
        }
        is_made
    }

    pub(super) fn put(&mut self, name: &str, id: u64) {
        self.now.insert(name.to_owned(), id);
        self.medium.insert(name.to_owned(), id);
    }

    pub(super) fn take_away(&mut self, name: &str) {
        self.now.remove(name);
        self.medium.remove(name);
    }

    pub(super) fn sync(&mut self) {
        self.medium = self.now.clone();
        self.unsynced.clear();
    }

    /// The names as a cut of the power leaves them.
    pub(super) fn survive(&self, random: &mut Random) -> Self {
        let odds = random.odds();
        let mut names = self.medium.clone();
        for change in &self.unsynced {
            if random.is_within(odds) {
                change.apply(&mut names);
            }
        }
        Self { now: names.clone(), medium: names, unsynced: Vec::new() }
    }
}
