//! Accounts, tokens and limits at work: kept on the disk, asked at every CONNECT and request, and
//! in force for whoever is connected as soon as they change.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use dashmap::DashMap;
use hashbrown::HashMap;
use longshore_acl::{
    ANONYMOUS_CLASS, Account, Attempts, Authenticate, BROKER_CLASS, Credentials, Directory,
    FAILURES_PER_MINUTE, KeyRecord, Kind, MASTER_CLASS, MASTER_TOKEN, Principal, ROOT_ACCOUNT,
    Refusal, Rights, Row, Secret, Token, TokenKey, TopicGrant,
};
use longshore_storage::{Changes, Table, Tables, TablesError};
use serde_json::Value;

use crate::clock::{Wall, wall};
use crate::commons::Commons;
use crate::net::mailbox::Mailboxes;
use crate::notices::{Change, Notices};
use crate::shard::Step;
use crate::tally::Bounds;
pub use crate::tally::Usage;

mod changes;
mod counters;
mod error;
mod logs;
mod secret;
mod tell;

pub use self::changes::Sent;
pub(crate) use self::counters::NAMES as COUNTERS;
use self::counters::Told;
pub use self::error::{ChangeError, OpenError};
pub(crate) use self::logs::{Cursor, meets};
pub use self::logs::{LogQuery, LogReader, Logs};
pub use self::secret::NAME as SECRET_FILE;
pub use crate::notices::{CALL_TEXT_MAX, Call};

/// The folder of the tables, within the one that accounts are kept in.
pub const TABLES_FOLDER: &str = "tables";
/// The table that they are kept in.
const TABLE: &str = "accounts";
/// Classes up to this are given to nobody's token.
const CLASSES_KEPT: u32 = MASTER_CLASS + 16;
/// The class of sessions whose token is gone.
const NOBODY_CLASS: u32 = MASTER_CLASS + 1;
/// What a client is told of its token.
const TOLD: [&str; 7] = ["id", "cid", "info", "enabled", "expire", "ttl", "access"];
/// Seconds that a token is used before its row is written again.
const TOUCH_SECS: u64 = 60;

/// See the module. Clones of the `Arc` are the same accounts.
pub struct Accounts {
    directory: RwLock<Directory>,
    /// Changes come one after another; whoever reads does not wait for the disk.
    changing: Mutex<()>,
    kept: Option<(Tables, Table)>,
    /// The class of each token that was shown since the start.
    classes: DashMap<u64, u32>,
    last_class: AtomicU32,
    /// What the clients of tokens that are no more may do. Their classes stay known, for whoever
    /// is of one that nobody knows may do everything; so all have this one.
    nothing: Arc<Rights>,
    attempts: Mutex<Attempts>,
    options: Options,
    /// Topics of modules that tokens open.
    grants: Mutex<Vec<TopicGrant>>,
    written: Mutex<Written>,
    notices: Arc<Notices>,
    /// Bytes of records that are to be published.
    unpublished: Arc<AtomicUsize>,
    logs: Logs,
    /// What is retained of counters.
    counters: Told,
    broker: OnceLock<Attached>,
}

/// How the gate is to be.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Whether clients without valid credentials act as the root account. Default false.
    pub anonymous: bool,
    /// Whether the number of a token as user name and the first 16 characters of its key as
    /// password are enough. Default true.
    pub special: bool,
    /// Whether a client identifier is that of the token whose client has the session: another token
    /// of the account is refused, and does not take it over. Default false.
    pub bind_client_id: bool,
    /// Failed attempts of one address within a minute, after which it is refused unheard for one.
    /// Default 100.
    pub failures_per_minute: u32,
    /// Whether REST shows the keys of tokens to master tokens that ask for them, and not only when
    /// they are made. Default true.
    pub show_keys: bool,
    /// Seconds after which what has happened is forgotten by the log of an account. Default
    /// 604,800, a week.
    pub log_ttl_secs: u64,
    /// Records that the log of an account has at least before the oldest are forgotten. Default
    /// 10,000, of some 300 bytes each; where accounts are in memory, all have 100,000 together.
    pub log_events_per_account: u64,
    /// Seconds between two looks at what accounts use, after which counters that have changed are
    /// retained under `flespi/state/platform/customer/counters`; 0 for never. Default 10.
    pub counters_secs: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            anonymous: false,
            special: true,
            bind_client_id: false,
            failures_per_minute: FAILURES_PER_MINUTE,
            show_keys: true,
            log_ttl_secs: 7 * 86_400,
            log_events_per_account: 10_000,
            counters_secs: 10,
        }
    }
}

/// When tokens were used, as their rows say.
#[derive(Default)]
struct Written {
    /// When rows are written again, in unix seconds.
    due: u64,
    accessed: HashMap<u64, u64>,
}

/// The broker that acts by them.
struct Attached {
    commons: Arc<Commons>,
    mailboxes: Mailboxes,
}

impl Accounts {
    /// Those kept in a folder, in its `tables` and under its `secret`, which are made with the root
    /// account if they are not there. The key opens the first token of that account from now on.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(folder: &Path, master: &TokenKey, options: Options) -> Result<Self, OpenError> {
        let tables = folder.join(TABLES_FOLDER);
        let secret = secret::read_or_make(folder, tables.exists())?;
        let tables = Tables::open(&tables).map_err(OpenError::Tables)?;
        let table = tables.table(TABLE).map_err(OpenError::Tables)?;
        let mut rows = Vec::new();
        for row in table.range(..) {
            let (_, value) = row.map_err(OpenError::Tables)?;
            rows.push(Row::decode(&value).map_err(OpenError::Row)?);
        }
        let logs = Logs::open(folder, &options).map_err(OpenError::Tables)?;
        Self::of(secret, rows, master, (options, logs), Some((tables, table)))
    }

    /// Accounts that last as long as this process: the root account and a token of this key.
    ///
    /// # Errors
    /// [`OpenError::NoRandomness`].
    pub fn in_memory(master: &TokenKey, options: Options) -> Result<Self, OpenError> {
        let secret = Secret::generate().map_err(OpenError::NoRandomness)?;
        let logs = Logs::in_memory(&options);
        Self::of(secret, Vec::new(), master, (options, logs), None)
    }

    fn of(
        secret: Secret,
        rows: Vec<Row>,
        master: &TokenKey,
        (options, logs): (Options, Logs),
        kept: Option<(Tables, Table)>,
    ) -> Result<Self, OpenError> {
        let directory = Directory::load(secret, rows).map_err(OpenError::Row)?;
        let accounts = Self {
            directory: RwLock::new(directory),
            changing: Mutex::default(),
            kept,
            classes: DashMap::new(),
            last_class: AtomicU32::new(CLASSES_KEPT),
            nothing: Arc::new(Rights::nothing()),
            attempts: Mutex::new(Attempts::new(options.failures_per_minute)),
            options,
            grants: Mutex::default(),
            written: Mutex::default(),
            notices: Arc::default(),
            unpublished: Arc::default(),
            logs,
            counters: Told::default(),
            broker: OnceLock::new(),
        };
        accounts.begin(master)?;
        Ok(accounts)
    }

    /// Sees to it that the root account is there, and its token with the key that is to open it.
    fn begin(&self, master: &TokenKey) -> Result<(), OpenError> {
        let (mut rows, now) = (Vec::new(), secs(wall()));
        let directory = self.read();
        if directory.account(ROOT_ACCOUNT).is_none() {
            rows.push(Row::Account(Account::root(now)));
        }
        let known = directory.token(MASTER_TOKEN);
        let opens =
            |token: &Arc<Token>| token.key.matches(directory.secret(), master.expose().as_bytes());
        if !known.is_some_and(opens) {
            let key = KeyRecord::new(directory.secret(), master);
            rows.push(Row::Token(Token::first(key.map_err(OpenError::NoRandomness)?, now)));
        }
        drop(directory);
        self.keep(&rows, &[]).map_err(OpenError::Tables)?;
        let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            match row {
                Row::Account(account) => directory.put_account(account),
                Row::Token(token) => drop(directory.put_token(token)),
                Row::Limit(_) | Row::Greatest(_) => {}
            }
        }
        Ok(())
    }

    /// Topics that tokens open from now on, beside those that they open already: of clients that
    /// are yet to come.
    pub(crate) fn add_grants(&self, grants: Vec<TopicGrant>) {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner).extend(grants);
    }

    /// From now on this broker acts by them.
    pub(crate) fn attach(&self, commons: Arc<Commons>, mailboxes: Mailboxes) {
        for account in self.read().accounts().filter(|account| account.parent != 0) {
            commons.set_parent(account.id, Some(account.parent));
        }
        let directory = self.read();
        for account in directory.accounts().filter(|account| account.limit != 0) {
            commons.set_bounds(
                account.id,
                Bounds::of(directory.limit_for(account.id).map(|it| &**it)),
            );
        }
        drop(directory);
        commons.set_rights(NOBODY_CLASS, Arc::clone(&self.nothing));
        commons.set_notices(Arc::clone(&self.notices));
        let attached = self.broker.set(Attached { commons, mailboxes });
        assert!(attached.is_ok(), "accounts are those of one broker");
    }

    /// The tables that they are kept in, if they are kept: for a backup.
    #[must_use]
    pub fn tables(&self) -> Option<&Tables> {
        self.kept.as_ref().map(|(tables, _)| tables)
    }

    /// All there is, as it is now. Nothing changes meanwhile.
    pub fn read(&self) -> RwLockReadGuard<'_, Directory> {
        // Under it nothing panics but a broken invariant.
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The logs of all accounts.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// What waits to be taken into the logs.
    pub(crate) fn notices(&self) -> &Notices {
        &self.notices
    }

    fn write(&self, change: impl FnOnce(&mut Directory)) {
        change(&mut self.directory.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes rows down, and takes others away; they are on the medium on return.
    fn keep(&self, rows: &[Row], gone: &[[u8; 9]]) -> Result<(), TablesError> {
        let Some((tables, table)) = &self.kept else { return Ok(()) };
        if rows.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let mut changes = Changes::new();
        rows.iter().for_each(|row| changes.put(table, &row.key(), &row.encode()));
        gone.iter().for_each(|key| changes.remove(table, key));
        tables.commit(changes)
    }

    /// Whose token is shown from `peer`, and as whom its holder acts. Not where everybody is let
    /// in without one.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn token_of(
        &self,
        credentials: &Credentials<'_>,
        peer: IpAddr,
    ) -> Result<(Arc<Token>, Principal), Refusal> {
        let now = wall();
        let attempts = || self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts().check(peer, now.0)?;
        self.token_unheard(credentials, peer).inspect_err(|refusal| {
            if *refusal == Refusal::BadCredentials && !self.options.anonymous {
                attempts().failed(peer, now.0);
            }
        })
    }

    /// The same, however often `peer` has failed, and without counting that it has: for what shows
    /// the tokens of others.
    pub(crate) fn token_unheard(
        &self,
        credentials: &Credentials<'_>,
        peer: IpAddr,
    ) -> Result<(Arc<Token>, Principal), Refusal> {
        let now = secs(wall());
        let directory = self.read();
        let token = directory.authenticate(credentials, peer, self.options.special, now)?;
        Ok(self.shown(&directory, token, now))
    }

    /// A token that was shown now, and as whom its holder acts. The directory is held meanwhile: a
    /// change of the token comes before, or finds the class that it is to be in force for.
    fn shown(&self, _: &Directory, token: Arc<Token>, now: u64) -> (Arc<Token>, Principal) {
        token.touch(now);
        let principal = Principal::of_token(token.account, self.class_of(&token), token.id);
        (token, principal)
    }

    /// The token of a client that is there, if it still opens anything.
    pub(crate) fn token_known(
        &self,
        principal: &Principal,
        peer: IpAddr,
    ) -> Result<(Arc<Token>, Principal), Refusal> {
        let now = secs(wall());
        let directory = self.read();
        let token = principal.token.and_then(|token| directory.token(token));
        let token = Arc::clone(token.ok_or(Refusal::BadCredentials)?);
        directory.admit(&token, peer, now)?;
        Ok(self.shown(&directory, token, now))
    }

    /// The class of the clients that show this token, which the broker is told of if it is new.
    fn class_of(&self, token: &Token) -> u32 {
        if let Some(class) = self.classes.get(&token.id) {
            return *class;
        }
        *self.classes.entry(token.id).or_insert_with(|| {
            let class = self.last_class.fetch_add(1, Ordering::Relaxed) + 1;
            if token.access.kind() != Kind::Master {
                self.set_rights(class, Arc::new(self.rights(token)));
            }
            class
        })
    }

    /// What a token opens, as its clients have it already.
    pub(crate) fn rights_of(&self, token: &Token, principal: &Principal) -> Arc<Rights> {
        let known = |broker: &Attached| broker.commons.classes.of(principal.class);
        self.broker.get().and_then(known).unwrap_or_else(|| Arc::new(self.rights(token)))
    }

    /// Whether keys are shown after they were made.
    pub(crate) fn shows_keys(&self) -> bool {
        self.options.show_keys
    }

    /// What an account uses now, with all accounts below it.
    #[must_use]
    pub fn usage(&self, account: u64) -> Usage {
        self.broker
            .get()
            .map_or_else(Usage::default, |broker| broker.commons.tallies.usage(account, wall()))
    }

    /// What a token opens.
    #[must_use]
    pub fn rights(&self, token: &Token) -> Rights {
        Rights::compile(&token.access, &self.grants.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_rights(&self, class: u32, rights: Arc<Rights>) {
        if let Some(broker) = self.broker.get() {
            broker.commons.set_rights(class, rights);
        }
    }

    /// What has become of a token is in force for its clients before this returns; those that may
    /// not stay are told so soon after.
    fn enforce(&self, id: u64) {
        let Some(class) = self.classes.get(&id).map(|class| *class) else { return };
        let (token, now) = (self.read().token(id).cloned(), secs(wall()));
        let is_open = |token: &&Arc<Token>| token.enabled && token.is_valid_at(now);
        let rights = token.as_ref().filter(is_open).map(|token| Arc::new(self.rights(token)));
        self.set_rights(class, rights.unwrap_or_else(|| Arc::clone(&self.nothing)));
        self.turn_out(class, token);
    }

    /// A token is no more: what follows for its clients is in force, and nobody shows it again.
    fn forget(&self, id: u64) {
        self.enforce(id);
        self.classes.remove(&id);
    }

    /// Ends the connections of a token that may not stay.
    fn turn_out(&self, class: u32, token: Option<Arc<Token>>) {
        let Some(broker) = self.broker.get() else { return };
        let now = secs(wall());
        let directory = self.read();
        let token = token.filter(|token| {
            let mut line =
                directory.ancestors(token.account).filter_map(|id| directory.account(id));
            token.enabled && token.is_valid_at(now) && !line.any(|it| it.is_blocked_at(now))
        });
        drop(directory);
        for mailbox in broker.mailboxes.iter() {
            let token = token.clone();
            mailbox.put_task(Box::new(move |shard, now| {
                let may_stay = |ip| token.as_ref().is_some_and(|token| token.allows_ip(ip));
                shard.turn_out(class, may_stay, "the token does not open anything any more", now);
                Step::Done
            }));
        }
    }

    /// What time asks for, once a second: tokens that have come to their end go, those of clients
    /// that are there are in use. Tokens that went.
    ///
    /// # Errors
    /// When that cannot be written down; it is tried again.
    pub(crate) fn tick(&self) -> Result<Vec<Arc<Token>>, ChangeError> {
        let now = secs(wall());
        if let Some(broker) = self.broker.get() {
            let directory = self.read();
            for known in self.classes.iter().filter(|it| broker.commons.is_there(*it.value())) {
                directory.token(*known.key()).into_iter().for_each(|token| token.touch(now));
            }
        }
        self.keep_touched(now)?;
        self.block_exceeded(now)?;
        self.tell_counters(wall());
        let expired = self.read().expired(now);
        let ended = self.end_tokens(&expired, Change::Expired).into_iter();
        // Of those some may have been removed meanwhile, or last longer now.
        ended.filter(|it| !matches!(it, Err(ChangeError::NotFound))).collect()
    }

    /// Writes down which tokens were used since they were last written.
    fn keep_touched(&self, now: u64) -> Result<(), TablesError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if now < written.due {
            return Ok(());
        }
        written.due = now + TOUCH_SECS;
        let _changing = self.changing();
        let directory = self.read();
        let shown = self.classes.iter().filter_map(|it| directory.token(*it.key()).cloned());
        let known = |token: &Arc<Token>| written.accessed.get(&token.id) == Some(&token.accessed());
        let touched: Vec<_> = shown.filter(|token| !known(token)).collect();
        written.accessed.retain(|id, _| directory.token(*id).is_some());
        drop(directory);
        let rows: Vec<_> = touched.iter().map(|token| Row::Token((**token).clone())).collect();
        self.keep(&rows, &[])?;
        written.accessed.extend(touched.iter().map(|token| (token.id, token.accessed())));
        Ok(())
    }
}

impl Authenticate for Accounts {
    fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        peer: IpAddr,
    ) -> Result<Principal, Refusal> {
        match self.token_of(credentials, peer) {
            Ok((_, principal)) => Ok(principal),
            Err(Refusal::TooManyFailures) => Err(Refusal::TooManyFailures),
            Err(_) if self.options.anonymous => Ok(Principal::anonymous()),
            Err(refusal) => Err(refusal),
        }
    }

    fn class_of(&self, principal: &Principal) -> u32 {
        match principal.token {
            None if principal.anonymous => ANONYMOUS_CLASS,
            // Only this program shows nothing.
            None => BROKER_CLASS,
            Some(token) => {
                let directory = self.read();
                let token = directory.token(token);
                token.map_or(NOBODY_CLASS, |token| Accounts::class_of(self, token))
            }
        }
    }

    fn may_take_over(&self, of: &Principal, by: &Principal) -> bool {
        !self.options.bind_client_id || of.token == by.token
    }

    fn refused_of(&self, credentials: &Credentials<'_>) -> Option<(u64, bool)> {
        let directory = self.read();
        let account = directory.shown(credentials, self.options.special)?.account;
        let now = secs(wall());
        let mut line = directory.ancestors(account).filter_map(|id| directory.account(id));
        Some((account, line.any(|account| account.is_blocked_at(now))))
    }

    fn describe(&self, token: u64) -> Option<Value> {
        let token = self.read().token(token).cloned()?;
        let mut fields = token.to_json(None);
        fields.retain(|name, _| TOLD.contains(&name.as_str()));
        Some(Value::Object(fields))
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("options", &self.options).finish_non_exhaustive()
    }
}

fn secs(wall: Wall) -> u64 {
    wall.0 / 1_000_000
}
