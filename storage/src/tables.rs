//! Tables: ordered keys and values for what is not on the way of a message, such as accounts,
//! tokens and histories.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::ops::{Bound, RangeBounds};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Slice};

pub use self::error::TablesError;

mod error;

/// The file that is written last when the store is made.
const MARKER: &str = "version";

/// What follows the name of a folder while tables are made in it.
const DRAFT: &str = ".draft";

/// Bytes of the name of a table, of a key and of a value.
const NAME_MAX: usize = u8::MAX as usize;
const KEY_MAX: usize = u16::MAX as usize;
const VALUE_MAX: usize = u32::MAX as usize;

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// How much memory tables may take. Take [`TablesOptions::default`] and change what you need.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TablesOptions {
    /// Bytes of what was read from files and is kept for the next reader. Default 32 MiB.
    pub cache_bytes: u64,
    /// Bytes of changes kept in memory per table until they are sorted into files, for tables that
    /// are new. Default 16 MiB: what changes again within it is never sorted into any.
    pub unsorted_bytes: u64,
    /// Files that are kept open, at least 10. Default 64.
    pub files_max: usize,
}

impl Default for TablesOptions {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20, unsorted_bytes: 16 << 20, files_max: 64 }
    }
}

/// All tables of a folder. A clone is the same tables.
///
/// ```
/// use longshore_storage::{Changes, Tables};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("tables");
/// let tables = Tables::open(&path)?;
/// let (accounts, tokens) = (tables.table("accounts")?, tables.table("tokens")?);
/// let mut changes = Changes::new();
/// changes.put(&accounts, b"a", b"Ann");
/// changes.put(&tokens, b"a/1", b"secret");
/// tables.commit(changes)?;
/// assert_eq!(tokens.prefix(b"a/").count(), 1);
/// assert_eq!(accounts.get(b"a")?.as_deref(), Some(&b"Ann"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// All changes of a commit are there after any crash, over all tables, or none of them; and all of
/// them are on the medium when it returns. Commits of several threads come one after another.
/// Whoever reads several rows sees them as they were when it began.
///
/// They stand on an embedded store, fjall, which no other part of the program sees. What it has of
/// threads is one, for what nobody waits for.
///
/// # What is not promised
///
/// The store's own log is not as strict as the journal. A cut of the power that leaves a commit of
/// several sectors with a hole in it makes an opening fail ([`TablesError::Damaged`]), though that
/// commit never returned; and a damaged byte in front of others may be taken for the end, so that
/// later commits are gone without a word. Both concern what is not yet sorted into files; those
/// have checksums of their own. A backup is the remedy.
///
/// # One cut with the journal
///
/// A backup has to hold the journal and the tables as they were at one point. Only the process that
/// has both open can cut them there, and it does so without stopping anyone for long:
///
/// 1. It stops retiring segments of the journal.
/// 2. While it lets nothing be appended, it notes the ticket of the last batch and takes a
///    [`Snapshot`]. Neither touches the medium.
/// 3. It brings the journal up to that ticket to the medium, copies it with
///    [`backup_until`](crate::backup_until), and writes the snapshot with [`Snapshot::write_to`],
///    while all goes on.
/// 4. It retires segments again.
///
/// Where the journal alone refers to the tables it need not be one point: it is enough that the
/// tables are copied after the journal. They are the truth, and what the journal holds of a row
/// that they do not have is dropped when it is recovered. So a row is put into a table before
/// anything of it is appended to the journal. Accounts are backed up that way.
#[derive(Clone)]
pub struct Tables {
    database: Database,
    unsorted_bytes: u64,
}

impl Tables {
    /// Opens the tables in the folder at `path`, or makes them there if it is empty or not there.
    ///
    /// # Errors
    /// [`TablesError`].
    pub fn open(path: &Path) -> Result<Self, TablesError> {
        Self::open_with(path, &TablesOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// [`TablesError`].
    pub fn open_with(path: &Path, options: &TablesOptions) -> Result<Self, TablesError> {
        if !path.join(MARKER).try_exists().map_err(TablesError::io("open"))? {
            // A crash while the store makes its files would leave some that it cannot open.
            make(path, |draft| Self::open_database(draft, options).map(drop))?;
        }
        Self::open_database(path, options)
    }

    fn open_database(path: &Path, options: &TablesOptions) -> Result<Self, TablesError> {
        let database = Database::builder(path)
            .cache_size(options.cache_bytes)
            .max_cached_files(Some(options.files_max.max(10)))
            .worker_threads(1)
            // Nothing is written but by a commit, and that is synced.
            .manual_journal_persist(true)
            .open()
            .map_err(TablesError::of("open"))?;
        Ok(Self { database, unsorted_bytes: options.unsorted_bytes })
    }

    /// Gives the folder of tables that cannot be opened another name, and takes away what had that:
    /// for tables without which all else can go on.
    ///
    /// # Errors
    /// [`TablesError::Io`].
    pub fn put_aside(path: &Path, to: &Path) -> Result<(), TablesError> {
        remove(to).and_then(|()| fs::rename(path, to)).map_err(TablesError::io("put aside"))
    }

    /// The table of this name, which is made if it is not there.
    ///
    /// # Errors
    /// [`TablesError::Length`] of a name that is none; what the store says.
    pub fn table(&self, name: &str) -> Result<Table, TablesError> {
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(TablesError::Length("the name of a table"));
        }
        let options = || KeyspaceCreateOptions::default().max_memtable_size(self.unsorted_bytes);
        let keyspace = self.database.keyspace(name, options);
        let keyspace = keyspace.map_err(TablesError::of("make one of"))?;
        Ok(Table { database: self.database.clone(), keyspace })
    }

    /// Names of all tables, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let names = self.database.list_keyspace_names();
        let mut names: Vec<_> = names.iter().map(|it| it.to_string()).collect();
        names.sort();
        names
    }

    /// Makes all `changes`, or none. They are on the medium on return.
    ///
    /// # Errors
    /// [`TablesError::Length`], with nothing changed. After any other error they may be there or
    /// not when the tables are opened again, and nothing is taken before.
    pub fn commit(&self, changes: Changes) -> Result<(), TablesError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for (table, key, value) in changes.changes {
            if key.is_empty() || key.len() > KEY_MAX {
                return Err(TablesError::Length("a key"));
            }
            match value {
                Some(value) if value.len() > VALUE_MAX => {
                    return Err(TablesError::Length("a value"));
                }
                Some(value) => batch.insert(&table, key, value),
                None => batch.remove(&table, key),
            }
        }
        batch.commit().map_err(TablesError::of("write to"))
    }

    /// All tables as they are now. What is changed or removed later stays on the medium as long as
    /// this is held.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let snapshot = self.database.snapshot();
        Snapshot { tables: self.clone(), snapshot }
    }

    /// Writes all tables as they are now to the folder `to`, as [`Snapshot::write_to`] does.
    ///
    /// # Errors
    /// Those of [`Snapshot::write_to`].
    pub fn backup(&self, to: &Path) -> Result<(), TablesError> {
        self.snapshot().write_to(to)
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("names", &self.names()).finish_non_exhaustive()
    }
}

/// One of the tables: rows in the order of the bytes of their keys. A clone is the same table. The
/// tables stay open as long as there is one.
#[derive(Clone)]
pub struct Table {
    database: Database,
    keyspace: Keyspace,
}

impl Table {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.keyspace.name()
    }

    /// The value of a key.
    ///
    /// # Errors
    /// What the store says.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        get(&self.database.snapshot(), self, key)
    }

    /// Rows in the order of their keys, from either end.
    #[must_use]
    pub fn range<'a>(&self, range: impl RangeBounds<&'a [u8]>) -> Rows {
        Rows::within(&self.database.snapshot(), self, range)
    }

    /// Rows whose keys begin with `prefix`, in their order, from either end.
    #[must_use]
    pub fn prefix(&self, prefix: &[u8]) -> Rows {
        Rows(Some(self.database.snapshot().prefix(&self.keyspace, prefix)))
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&self.name()).finish()
    }
}

// The store shows a commit half way to whoever reads without a snapshot.
fn get(
    snapshot: &fjall::Snapshot,
    table: &Table,
    key: &[u8],
) -> Result<Option<Vec<u8>>, TablesError> {
    let value = snapshot.get(&table.keyspace, key).map_err(TablesError::of("read"))?;
    Ok(value.map(|value| value.to_vec()))
}

/// Rows as they were when the reading began. After an error there may be more.
pub struct Rows(Option<fjall::Iter>);

impl Rows {
    fn within<'a>(
        snapshot: &fjall::Snapshot,
        table: &Table,
        range: impl RangeBounds<&'a [u8]>,
    ) -> Self {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        // The store does not take bounds between which nothing can lie.
        let is_empty = match bounds {
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (Bound::Included(start), Bound::Excluded(end))
            | (Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => start >= end,
            _ => false,
        };
        Self((!is_empty).then(|| snapshot.range::<&[u8], _>(&table.keyspace, bounds)))
    }

    fn read(row: fjall::Guard) -> Result<Row, TablesError> {
        let (key, value) = row.into_inner().map_err(TablesError::of("read"))?;
        Ok((key.to_vec(), value.to_vec()))
    }
}

impl Iterator for Rows {
    type Item = Result<Row, TablesError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.as_mut()?.next().map(Self::read)
    }
}

impl DoubleEndedIterator for Rows {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.as_mut()?.next_back().map(Self::read)
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").finish_non_exhaustive()
    }
}

/// What a commit is to change, in any tables. Later changes go over earlier ones.
#[derive(Default)]
pub struct Changes {
    changes: Vec<(Keyspace, Slice, Option<Slice>)>,
}

impl Changes {
    /// No changes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `key` this value.
    pub fn put(&mut self, table: &Table, key: &[u8], value: &[u8]) {
        self.changes.push((table.keyspace.clone(), key.into(), Some(value.into())));
    }

    /// Takes `key` away, if it is there.
    pub fn remove(&mut self, table: &Table, key: &[u8]) {
        self.changes.push((table.keyspace.clone(), key.into(), None));
    }

    /// Adds others, which go over these.
    pub fn append(&mut self, later: Self) {
        self.changes.extend(later.changes);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// All tables as they were at one moment.
pub struct Snapshot {
    tables: Tables,
    snapshot: fjall::Snapshot,
}

impl Snapshot {
    /// The value of a key then.
    ///
    /// # Errors
    /// What the store says.
    pub fn get(&self, table: &Table, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        get(&self.snapshot, table, key)
    }

    /// Rows of then in the order of their keys, from either end.
    #[must_use]
    pub fn range<'a>(&self, table: &Table, range: impl RangeBounds<&'a [u8]>) -> Rows {
        Rows::within(&self.snapshot, table, range)
    }

    /// Writes all tables to the folder `to`, which must be empty or not be there, while writers go
    /// on. It is on the medium, and tables can be opened there, on return; before that, and after
    /// an error, there is nothing in it.
    ///
    /// # Errors
    /// [`TablesError::NotEmpty`]; what the store says.
    pub fn write_to(&self, to: &Path) -> Result<(), TablesError> {
        make(to, |draft| self.write_draft(draft))
    }

    fn write_draft(&self, draft: &Path) -> Result<(), TablesError> {
        let options =
            TablesOptions { unsorted_bytes: self.tables.unsorted_bytes, ..<_>::default() };
        let copy = Tables::open_database(draft, &options)?;
        // Those that were made since the snapshot have no rows in it.
        for name in self.tables.names() {
            let (from, to) = (self.tables.table(&name)?, copy.table(&name)?);
            let mut rows = to.keyspace.start_ingestion().map_err(TablesError::of("write"))?;
            for row in self.snapshot.iter(&from.keyspace) {
                let (key, value) = row.into_inner().map_err(TablesError::of("read"))?;
                rows.write(key, value).map_err(TablesError::of("write"))?;
            }
            rows.finish().map_err(TablesError::of("write"))?;
        }
        copy.database.persist(PersistMode::SyncAll).map_err(TablesError::of("write"))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

/// Makes the folder at `path` under another name, and gives it its own when it is finished: there
/// is all of it or nothing.
fn make(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), TablesError>,
) -> Result<(), TablesError> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(DRAFT);
    let draft = PathBuf::from(draft);
    let made = remove(&draft)
        .and_then(|()| DirBuilder::new().recursive(true).mode(0o700).create(&draft))
        .map_err(TablesError::io("make"))
        .and_then(|()| fill(&draft))
        .and_then(|()| publish(&draft, path));
    if made.is_err() {
        // The first error says more.
        let _ = remove(&draft);
    }
    made
}

fn publish(draft: &Path, path: &Path) -> Result<(), TablesError> {
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let renamed = fs::rename(draft, path).and_then(|()| File::open(parent)?.sync_all());
    renamed.map_err(|error| match error.kind() {
        ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory => TablesError::NotEmpty,
        _ => TablesError::Io { doing: "make", error },
    })
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
