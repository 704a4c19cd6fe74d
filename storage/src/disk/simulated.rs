//! A disk in memory, for tests: its power can be cut, it fills up, it fails on demand.
//!
//! It is as mean as a real one may be. What was written since the last sync of a file survives a
//! cut in any subset of its sectors; what was done to names since the last sync of the directory
//! survives or not, name by name; after a failed sync the file can still be read as it was
//! written, but what was not on the medium then will never be.
//!
//! ```
//! use longshore_storage::{Disk, DiskFile, SimulatedDisk};
//!
//! let disk = SimulatedDisk::new(7);
//! let file = disk.create("a", 4096)?;
//! file.sync()?;
//! disk.sync()?;
//! file.write_at(b"lost or not", 0)?;
//! disk.cut_power();
//! assert!(file.sync().is_err());
//! let restarted = disk.restart();
//! assert_eq!(restarted.open("a")?.bytes()?, 4096);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::content::Content;
use self::names::Names;
use self::random::Random;
use super::{DirectoryLock, Disk, DiskFile, LockError};

mod content;
mod names;
mod random;

/// A kind of operation that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// [`Disk::list`].
    List,
    /// [`Disk::create`].
    Create,
    /// [`Disk::open`].
    Open,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::sync`].
    SyncNames,
    /// [`DiskFile::read_at`].
    Read,
    /// [`DiskFile::write_at`].
    Write,
    /// [`DiskFile::sync`].
    Sync,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::List,
        Self::Create,
        Self::Open,
        Self::Rename,
        Self::Remove,
        Self::SyncNames,
        Self::Read,
        Self::Write,
        Self::Sync,
    ];

    /// Whether it only looks. Such operations are not counted.
    fn is_harmless(self) -> bool {
        matches!(self, Self::List | Self::Open | Self::Read)
    }
}

/// An error to come.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What fails.
    pub operation: Operation,
    /// How many operations of this kind succeed before.
    pub after: u64,
    /// Whether all further ones fail too, or only the one.
    pub for_ever: bool,
}

/// A disk in memory, for tests. A clone is the same disk.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    names: Names,
    contents: BTreeMap<u64, Content>,
    next_content: u64,
    random: Random,
    /// Operations that changed something, so far.
    operations: u64,
    cut_at: Option<u64>,
    is_cut: bool,
    is_read_only: bool,
    is_locked: bool,
    faults: Vec<Fault>,
    /// Bytes that all files may have together.
    budget: u64,
}

impl SimulatedDisk {
    /// An empty disk. All it leaves to chance comes from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(Names::default(), BTreeMap::new(), Random::new(seed))
    }

    fn with(names: Names, contents: BTreeMap<u64, Content>, random: Random) -> Self {
        let next_content = contents.keys().last().map_or(0, |last| last + 1);
        let state = State {
            names,
            contents,
            next_content,
            random,
            operations: 0,
            cut_at: None,
            is_cut: false,
            is_read_only: false,
            is_locked: false,
            faults: Vec::new(),
            budget: u64::MAX,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere says more than the poison.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations so far that changed something: each is a point at which the power can be cut.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Cuts the power during the operation with this number, counted as in
    /// [`SimulatedDisk::operations`]. That operation and all later ones fail.
    pub fn cut_power_at(&self, operation: u64) {
        self.state().cut_at = Some(operation);
    }

    /// Cuts the power now.
    pub fn cut_power(&self) {
        self.state().is_cut = true;
    }

    /// Whether the power is cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.state().is_cut
    }

    /// The disk as a restart after a cut of the power finds it; another one each time it is asked.
    /// Faults, limits and the lock are gone.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut state = self.state();
        let mut random = state.random.fork();
        let names = state.names.survive(&mut random);
        let mut contents = BTreeMap::new();
        for id in names.ids() {
            contents.insert(id, state.contents[&id].survive(&mut random));
        }
        Self::with(names, contents, random)
    }

    /// The disk as the next process finds it when this one was killed: all is as it was written.
    #[must_use]
    pub fn restart_after_kill(&self) -> Self {
        let mut state = self.state();
        let (names, contents) = (state.names.clone(), state.contents.clone());
        Self::with(names, contents, state.random.fork())
    }

    /// Makes operations fail with EIO.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Takes back all [`SimulatedDisk::fail`].
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Bytes that all files may have together: creating more fails with ENOSPC.
    pub fn set_budget(&self, bytes: u64) {
        self.state().budget = bytes;
    }

    /// Makes whatever changes something fail with EROFS, or no longer.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.state().is_read_only = is_read_only;
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// What is in a file, written or synced.
    ///
    /// # Panics
    /// When there is no such file.
    #[must_use]
    pub fn contents(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        let id = state.names.find(name).unwrap_or_else(|| panic!("{name} is not there"));
        state.contents[&id].now().to_vec()
    }

    /// Puts `bytes` into the file of this name, on the medium at once and whatever is set to fail.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        let id = state.next_content;
        state.next_content += 1;
        state.contents.insert(id, Content::on_medium(bytes));
        state.names.put(name, id);
    }

    /// Takes a file away, from the medium at once and whatever is set to fail.
    pub fn take_away(&self, name: &str) {
        self.state().names.take_away(name);
    }
}

impl State {
    /// Counts an operation, and says whether it happens: not at all, with an error; or with
    /// `Ok(true)` as the last before the power is gone, so that it may or may not have happened.
    fn begin(&mut self, operation: Operation) -> io::Result<bool> {
        if self.is_cut {
            return Err(power_is_cut());
        }
        if !operation.is_harmless() {
            if self.is_read_only {
                return Err(ErrorKind::ReadOnlyFilesystem.into());
            }
            let number = self.operations;
            self.operations += 1;
            if self.cut_at == Some(number) {
                self.is_cut = true;
                return Ok(true);
            }
        }
        let mut fails = false;
        self.faults.retain_mut(|fault| {
            if fault.operation != operation {
                return true;
            }
            let is_due = fault.after == 0;
            fails |= is_due;
            fault.after = fault.after.saturating_sub(1);
            !is_due || fault.for_ever
        });
        if fails { Err(input_output_error()) } else { Ok(false) }
    }

    fn used_bytes(&self) -> u64 {
        self.names.ids().map(|id| self.contents[&id].now().len() as u64).sum()
    }

    fn content(&mut self, id: u64) -> &mut Content {
        self.contents.get_mut(&id).expect("contents are never dropped")
    }
}

/// What an operation answers during which the power was cut.
fn answer(is_cut: bool) -> io::Result<()> {
    if is_cut { Err(power_is_cut()) } else { Ok(()) }
}

fn power_is_cut() -> io::Error {
    io::Error::other("the power is cut")
}

fn input_output_error() -> io::Error {
    const EIO: i32 = 5;
    io::Error::from_raw_os_error(EIO)
}

fn missing() -> io::Error {
    ErrorKind::NotFound.into()
}

impl Disk for SimulatedDisk {
    fn lock(&self) -> Result<DirectoryLock, LockError> {
        let mut state = self.state();
        if state.is_locked {
            return Err(LockError::Held { pid: Some(std::process::id()) });
        }
        if state.is_read_only {
            return Err(LockError::Io(ErrorKind::ReadOnlyFilesystem.into()));
        }
        state.is_locked = true;
        Ok(DirectoryLock::new(Held { state: Arc::clone(&self.state) }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.begin(Operation::List)?;
        Ok(state.names.list())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let is_cut = state.begin(Operation::Create)?;
        if state.names.find(name).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if state.used_bytes().saturating_add(bytes) > state.budget {
            return Err(ErrorKind::StorageFull.into());
        }
        let id = state.next_content;
        state.next_content += 1;
        state.contents.insert(id, Content::new(bytes));
        state.names.create(name, id);
        answer(is_cut)?;
        Ok(self.file(id))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.begin(Operation::Open)?;
        let id = state.names.find(name).ok_or_else(missing)?;
        Ok(self.file(id))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let is_cut = state.begin(Operation::Rename)?;
        if !state.names.rename(from, to) {
            return Err(missing());
        }
        answer(is_cut)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let is_cut = state.begin(Operation::Remove)?;
        if !state.names.remove(name) {
            return Err(missing());
        }
        answer(is_cut)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        let is_cut = state.begin(Operation::SyncNames)?;
        answer(is_cut)?;
        state.names.sync();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        Ok(state.budget.saturating_sub(state.used_bytes()))
    }
}

impl SimulatedDisk {
    fn file(&self, id: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimulatedFile { disk: self.clone(), id })
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    id: u64,
}

impl DiskFile for SimulatedFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.state().content(self.id).now().len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.begin(Operation::Read)?;
        let bytes = state.content(self.id).now();
        let start = usize::try_from(offset).map_or(bytes.len(), |it| it.min(bytes.len()));
        let count = buffer.len().min(bytes.len() - start);
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        match state.begin(Operation::Write) {
            Ok(is_cut) => {
                state.content(self.id).write(bytes, offset);
                answer(is_cut)
            }
            Err(error) => {
                // A write that fails may have written something all the same.
                if !state.is_cut && !state.is_read_only {
                    let part = state.random.below(bytes.len() as u64 + 1) as usize;
                    state.content(self.id).write(&bytes[..part], offset);
                }
                Err(error)
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        match state.begin(Operation::Sync) {
            Ok(is_cut) => {
                answer(is_cut)?;
                state.content(self.id).sync();
                Ok(())
            }
            Err(error) => {
                if !state.is_cut && !state.is_read_only {
                    let mut random = state.random.fork();
                    state.content(self.id).fail_to_sync(&mut random);
                }
                Err(error)
            }
        }
    }
}

/// The lock of a simulated directory.
struct Held {
    state: Arc<Mutex<State>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_locked = false;
    }
}
