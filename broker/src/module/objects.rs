//! Objects of a module: kept in a table and in memory, made and changed by REST, told of in logs
//! and retained states.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};

use hashbrown::{HashMap, HashSet};
use longshore_acl::Method;
use longshore_storage::{Changes, Table};
use serde_json::{Map, Value};

use self::row::{place, read_all, row};
use super::{Context, Event, ModuleError, Renew, State};
use crate::accounts::Sent;
use crate::rest::collection::{self, Chosen, Each};
use crate::rest::{
    Call, Caller, Code, Fault, Field, Gate, Handler, Kind, NUMBER, Object, Outcome, Route, Shown,
    Takes,
};

mod row;
mod shelf;

/// What has become of an object, in its log.
const CREATED: (&str, u64) = ("created", 1);
const UPDATED: (&str, u64) = ("updated", 2);
const DELETED: (&str, u64) = ("deleted", 3);

/// The row that says which number was given last; objects have numbers from 1 on.
const LAST: [u8; 8] = [0; 8];

/// Whose an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number, which no other of its kind ever has.
    pub id: u64,
    /// The account that owns it.
    pub account: u64,
}

/// An object that a module keeps.
pub trait Item: Send + Sync + Sized + 'static {
    /// The part of REST that they are, `gw/channels`: so begin their paths, and their topics behind
    /// `flespi/state/` and `flespi/log/`.
    const URI: &'static str;
    /// Their fields. Those that whoever sends an object may set have to be marked; others of these
    /// are ignored where they are sent, and all else is refused.
    const OBJECT: &'static Object;
    /// What they are in logs: `origin_type`.
    const ORIGIN: u64;
    /// Those of the fields they are [kept](Item::kept) by that are written down sealed: secrets,
    /// which [`Item::shown`] leaves out.
    const SEALED: &'static [&'static str] = &[];

    /// Makes one of all its fields as they were sent or kept. `before` is the object that it takes
    /// the place of, if it does.
    ///
    /// # Errors
    /// What is wrong with a field.
    fn read(head: Head, fields: Map<String, Value>, before: Option<&Self>) -> Result<Self, Fault>;

    /// Makes one of what is kept at the start and is not valid, as another version wrote it: it
    /// does nothing until it is changed to what is valid, and says why it does not. Where there is
    /// no such object its row is left as it is, and nobody sees it.
    fn invalid(_head: Head, _kept: Map<String, Value>) -> Option<Self> {
        None
    }

    /// Whose it is.
    fn head(&self) -> Head;

    /// The fields that it is made of again at the next start, without `id` and `cid`.
    fn kept(&self) -> Map<String, Value>;

    /// Its fields as anybody may see them who may see it, without `id` and `cid`: no secrets, and
    /// what the module knows of it now.
    fn shown(&self) -> Map<String, Value> {
        self.kept()
    }

    /// One of the fields that are only shown when asked for; the module itself retains its state.
    fn asked(&self, _: &str) -> Option<Value> {
        None
    }
}

/// An object that was made, changed or removed, as the module is told once that is on the medium.
#[derive(Debug)]
pub struct Change<'a, T> {
    /// What it was; none if it is new.
    pub before: Option<&'a Arc<T>>,
    /// What it is; none if it is gone.
    pub after: Option<&'a Arc<T>>,
}

/// Where the routes of objects are.
#[derive(Clone, Copy, Debug)]
pub struct Paths {
    /// Of all: `/gw/channels`.
    pub all: &'static str,
    /// Of some: `/gw/channels/{sel}`.
    pub some: &'static str,
    /// Of their logs: `/gw/channels/{sel}/logs`.
    pub logs: &'static str,
}

/// All objects of one kind.
pub struct Objects<T> {
    context: Context,
    table: Table,
    items: RwLock<Items<T>>,
    /// How many an account has at most.
    per_account: usize,
    /// Changes come one after another, and so does what the module is told of them.
    changing: Mutex<()>,
    changed: OnChange<T>,
}

/// Hears of changes.
type OnChange<T> = Box<dyn Fn(&Change<'_, T>) + Send + Sync>;

/// What an object was, and what it is.
type Step<'a, T> = (Option<&'a Arc<T>>, Option<&'a Arc<T>>);

struct Items<T> {
    by_id: BTreeMap<u64, Arc<T>>,
    by_account: HashMap<u64, HashSet<u64>>,
    /// Those that have a row and nothing else: it could not be read.
    unread: BTreeSet<u64>,
    last: u64,
}

impl<T: Item> Items<T> {
    fn put(&mut self, item: Arc<T>) {
        let Head { id, account } = item.head();
        self.by_account.entry(account).or_default().insert(id);
        self.by_id.insert(id, item);
    }

    fn take(&mut self, id: u64) {
        let Some(item) = self.by_id.remove(&id) else { return };
        let account = item.head().account;
        if let Some(ids) = self.by_account.get_mut(&account) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_account.remove(&account);
            }
        }
    }
}

impl<T> fmt::Debug for Objects<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("table", &self.table).finish_non_exhaustive()
    }
}

impl<T: Item> Objects<T> {
    /// Those in the table of this name, without what accounts own that are gone. `changed` is told
    /// of each that is there, and then of each change, one after another: it must not change any
    /// itself, and whoever asked waits for it.
    ///
    /// A row that is no such object does not keep the others from their work: the object is
    /// [`Item::invalid`], or its row is left as it is, and an error in the log says which it is.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn open(
        context: &Context,
        table: &str,
        changed: impl Fn(&Change<'_, T>) + Send + Sync + 'static,
    ) -> Result<Self, ModuleError> {
        let table = context.tables().table(table)?;
        let items = read_all::<T>(context, &table)?;
        for item in items.by_id.values() {
            changed(&Change { before: None, after: Some(item) });
        }
        let (changing, changed) = (Mutex::default(), Box::new(changed));
        let (context, items) = (context.clone(), RwLock::new(items));
        Ok(Self { context, table, items, per_account: usize::MAX, changing, changed })
    }

    /// The same, of which an account has so many at most: who asks for more gets none of them.
    #[must_use]
    pub fn at_most(self, per_account: usize) -> Self {
        Self { per_account, ..self }
    }

    fn items(&self) -> RwLockReadGuard<'_, Items<T>> {
        // Under it nothing panics but a broken invariant.
        self.items.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one of this number.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Arc<T>> {
        self.items().by_id.get(&id).cloned()
    }

    /// Whether there is one of this number, or a row of it that could not be read: what is kept
    /// with it must stay.
    #[must_use]
    pub fn has_row(&self, id: u64) -> bool {
        let items = self.items();
        items.by_id.contains_key(&id) || items.unread.contains(&id)
    }

    /// All there are, by number.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<T>> {
        self.items().by_id.values().cloned().collect()
    }

    /// The routes that make, read, change and remove them, and read their logs.
    #[must_use]
    pub fn routes(self: &Arc<Self>, paths: Paths) -> Vec<Route> {
        let route = |method, path, about, takes, work: fn(&Arc<Self>, &Call) -> Outcome| {
            let objects = Arc::clone(self);
            let handler = Handler::blocking(move |call| work(&objects, call));
            let gate = Gate::Part(T::URI);
            let gives = Some(if method == Method::Delete { &NUMBER } else { T::OBJECT });
            Route { method, path, about, gate, takes, gives, handler }
        };
        let (one, many) = (Takes::One(T::OBJECT), Takes::Many(T::OBJECT));
        let Paths { all, some, logs } = paths;
        let objects = Arc::clone(self);
        vec![
            route(Method::Post, all, "Make objects", many, collection::create),
            route(Method::Get, some, "Read objects", Takes::Nothing, |it, call| {
                collection::list(it, call)
            }),
            route(Method::Put, some, "Change the given fields of objects", one, |it, call| {
                collection::update(it, call)
            }),
            route(Method::Patch, some, "Merge the given fields into objects", one, |it, call| {
                collection::update(it, call)
            }),
            route(Method::Delete, some, "Remove objects for good", Takes::Nothing, |it, call| {
                collection::remove(it, call)
            }),
            Route {
                method: Method::Get,
                path: logs,
                about: "Read what has become of objects",
                gate: Gate::Sub(T::URI, "logs"),
                takes: Takes::Data(&crate::rest::logs::READING),
                gives: Some(&crate::rest::logs::RECORD),
                handler: Handler::waiting(move |call| {
                    let objects = Arc::clone(&objects);
                    Box::pin(collection::read_logs(move |_| objects, call))
                }),
            },
        ]
    }

    /// The topics of their states and of what is said of all objects, for [`Module::topics`], and
    /// those that the module has beside them.
    ///
    /// [`Module::topics`]: super::Module::topics
    #[must_use]
    pub fn topics(&self, beside: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
        let (uri, state) = (T::URI, state_topic::<T>());
        let kind = uri.rsplit('/').next().unwrap_or(uri);
        let one = format!("{{{}-id}}", kind.strip_suffix('s').unwrap_or(kind));
        let mut topics = vec![(format!("{state}/{one}"), "all fields of the object")];
        let fields = T::OBJECT.fields.iter().filter(|field| field.shown == Shown::Always);
        topics.extend(fields.map(|it| (format!("{state}/{one}/{}", it.name), it.about)));
        topics.push((format!("{state}/{one}/deleted"), "true as the object is removed"));
        let log = |(what, _): (&str, u64)| format!("flespi/log/{uri}/{one}/{what}");
        topics.push((log(CREATED), "the object was made"));
        topics.push((log(UPDATED), "the object was changed"));
        topics.push((log(DELETED), "the object was removed"));
        topics.extend(beside.iter().map(|(topic, about)| ((*topic).to_owned(), *about)));
        topics
    }

    /// Those that the first parameter of the path means and the token opens, for other routes.
    ///
    /// # Errors
    /// When it is no selector.
    pub fn choose(self: &Arc<Self>, call: &Call) -> Result<Chosen<T>, Fault> {
        collection::choose(self, call)
    }

    /// Makes objects of an account: each that was sent, or why there is none of it.
    pub fn create(&self, account: u64, sent: &[Value], by: Option<&Caller>) -> Each<Arc<T>, Fault> {
        let _one_by_one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let owned = self.items().by_account.get(&account).map_or(0, HashSet::len);
        if owned.saturating_add(sent.len()) > self.per_account {
            let reason = format!("an account has up to {} of {}", self.per_account, T::URI);
            return sent.iter().map(|_| Err(Fault::new(Code::Quota, reason.clone()))).collect();
        }
        let mut last = self.items().last;
        let mut make = |sent: &Value| {
            let fields = settable::<T>(Sent::Whole(sent), Map::new())?;
            let head = Head { id: last + 1, account };
            let item = Arc::new(T::read(head, fields, None)?);
            last += 1;
            Ok(item)
        };
        let made: Each<Arc<T>, Fault> = sent.iter().map(&mut make).collect();
        let new = || made.iter().flatten().map(|item| (None, Some(item)));
        let mut changes = Changes::new();
        changes.put(&self.table, &LAST, &last.to_be_bytes());
        match self.keep(changes, new().collect(), by) {
            Ok(()) => made,
            Err(cause) => sent.iter().map(|_| Err(unkept(&cause))).collect(),
        }
    }

    /// Changes the fields that were sent of all these objects.
    pub fn update(&self, ids: &[u64], sent: Sent<'_>, by: Option<&Caller>) -> Each<Arc<T>, Fault> {
        let _one_by_one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let change = |id: &u64| {
            let before = self.get(*id).ok_or_else(|| Fault::not_found(*id))?;
            let fields = settable::<T>(sent, before.kept())?;
            let after = Arc::new(T::read(before.head(), fields, Some(&before))?);
            Ok((before, after))
        };
        let changed: Each<_, Fault> = ids.iter().map(change).collect();
        let both = changed.iter().flatten().map(|(before, after)| (Some(before), Some(after)));
        match self.keep(Changes::new(), both.collect(), by) {
            Ok(()) => changed.into_iter().map(|it| it.map(|(_, after)| after)).collect(),
            Err(cause) => ids.iter().map(|_| Err(unkept(&cause))).collect(),
        }
    }

    /// Removes all these objects.
    pub fn remove(&self, ids: &[u64], by: Option<&Caller>) -> Each<(), Fault> {
        let _one_by_one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let found: Each<Arc<T>, Fault> =
            ids.iter().map(|id| self.get(*id).ok_or_else(|| Fault::not_found(*id))).collect();
        let gone = found.iter().flatten().map(|before| (Some(before), None));
        match self.keep(Changes::new(), gone.collect(), by) {
            Ok(()) => found.into_iter().map(|it| it.map(drop)).collect(),
            Err(cause) => ids.iter().map(|_| Err(unkept(&cause))).collect(),
        }
    }

    /// Removes those whose accounts are gone: to be called now and then.
    pub fn sweep(&self) {
        let gone: Vec<u64> = {
            let (items, directory) = (self.items(), self.context.accounts().read());
            let gone = items.by_account.iter().filter(|(id, _)| directory.account(**id).is_none());
            gone.flat_map(|(_, ids)| ids.iter().copied()).collect()
        };
        if !gone.is_empty() {
            self.remove(&gone, None);
        }
    }

    /// Writes changes down, puts them in force and tells of them.
    fn keep(
        &self,
        mut changes: Changes,
        steps: Vec<Step<'_, T>>,
        by: Option<&Caller>,
    ) -> Result<(), ModuleError> {
        if steps.is_empty() {
            return Ok(());
        }
        let mut last = 0;
        for (before, after) in &steps {
            match (before, after) {
                (_, Some(after)) => {
                    last = last.max(after.head().id);
                    let row = row(&self.context, &***after)?;
                    changes.put(&self.table, &after.head().id.to_be_bytes(), &row);
                }
                (Some(before), None) => {
                    changes.remove(&self.table, &before.head().id.to_be_bytes());
                }
                (None, None) => {}
            }
        }
        self.context.tables().commit(changes)?;
        let mut items = self.items.write().unwrap_or_else(PoisonError::into_inner);
        items.last = items.last.max(last);
        for (before, after) in &steps {
            match (before, after) {
                (_, Some(after)) => items.put(Arc::clone(after)),
                (Some(before), None) => items.take(before.head().id),
                (None, None) => {}
            }
        }
        drop(items);
        for (before, after) in steps {
            let old = before.map(|it| whole(&**it));
            (self.changed)(&Change { before, after });
            self.tell(before, after, old, by);
        }
        Ok(())
    }

    /// Says in the log and in what is retained what has become of an object.
    fn tell(
        &self,
        before: Option<&Arc<T>>,
        after: Option<&Arc<T>>,
        old: Option<Map<String, Value>>,
        by: Option<&Caller>,
    ) {
        let Some(Head { id, account }) = after.or(before).map(|item| item.head()) else { return };
        let new = after.map(|item| whole(&**item));
        let (text, code) = match (before, after) {
            (None, _) => CREATED,
            (Some(_), Some(_)) => UPDATED,
            (Some(_), None) => DELETED,
        };
        let mut fields = Map::new();
        let data = new.clone().or_else(|| old.clone()).map(Value::Object);
        let said = [
            ("item_data", data),
            ("new", new.clone().map(Value::Object)),
            ("old", old.clone().map(Value::Object)),
            ("token_id", by.map(|caller| caller.token.id.into())),
            ("host", by.map(|caller| caller.host.to_string().into())),
        ];
        for (name, value) in said {
            value.and_then(|value| fields.insert(name.to_owned(), value));
        }
        let (origin, text) = (place::<T>(id), text.to_owned());
        let origin_type = T::ORIGIN;
        self.context
            .tell(account, Event { origin, origin_type, origin_id: id, text, code, fields });
        let states = states::<T>(Head { id, account }, old.as_ref(), new.as_ref());
        match after {
            Some(_) => self.context.retain(states),
            None => self.context.retire(states),
        }
    }

    /// Retains anew the state of an object, and of those of its fields that are not as they were:
    /// for what the module itself has changed of it. `before` is what was [`Item::shown`] then.
    pub fn renew(&self, id: u64, before: &Map<String, Value>) {
        // Under the lock: of one that is changed or removed meanwhile more is told, and later.
        let items = self.items();
        let Some(item) = items.by_id.get(&id) else { return };
        self.context.retain(states::<T>(item.head(), Some(before), Some(&whole(&**item))));
    }

    /// Brings what is retained of all of them up to date: a process that was killed may have left
    /// what is no longer so. To be called once, when the module begins to run.
    pub fn renew_all(self: &Arc<Self>) {
        let left = self.list().iter().map(|item| item.head().id).collect();
        let renewal = Renewal { objects: Arc::downgrade(self), right: HashMap::new(), left };
        self.context.renew(&format!("{}/#", state_topic::<T>()), Box::new(renewal));
    }
}

/// What is retained of objects, on its way to be as they are.
struct Renewal<T> {
    /// Who waits for it must not live as long as that.
    objects: Weak<Objects<T>>,
    /// How many states of each are as they are to be.
    right: HashMap<u64, usize>,
    /// Those that are left to be looked at, once all is read.
    left: Vec<u64>,
}

impl<T: Item> Renew for Renewal<T> {
    fn is_right(&mut self, account: u64, topic: &str, payload: &[u8]) -> bool {
        let Some(objects) = self.objects.upgrade() else { return true };
        let rest = topic.get(state_topic::<T>().len() + 1..).unwrap_or_default();
        let (id, field) = rest.split_once('/').map_or((rest, None), |(id, it)| (id, Some(it)));
        let item = id.parse().ok().and_then(|id| objects.get(id));
        let Some(item) = item.filter(|item| item.head().account == account) else { return false };
        let whole = whole(&*item);
        let want = match field {
            None => Some(Value::Object(whole)),
            // What is no field of theirs is the module's own.
            Some(name) if !T::OBJECT.has_state(name) => return true,
            Some(name) => whole.get(name).filter(|value| !value.is_null()).cloned(),
        };
        let is_right = want.is_some_and(|want| want.to_string().as_bytes() == payload);
        *self.right.entry(item.head().id).or_default() += usize::from(is_right);
        is_right
    }

    fn next(&mut self) -> Option<Vec<State>> {
        let (id, objects) = (self.left.pop()?, self.objects.upgrade()?);
        let Some(item) = objects.get(id) else { return Some(Vec::new()) };
        let states = states::<T>(item.head(), None, Some(&whole(&*item)));
        let right = self.right.get(&id).copied().unwrap_or(0);
        Some(if right == states.len() { Vec::new() } else { states })
    }
}

/// All fields of an object as they are shown.
fn whole<T: Item>(item: &T) -> Map<String, Value> {
    let (mut fields, Head { id, account }) = (item.shown(), item.head());
    fields.insert("id".to_owned(), id.into());
    fields.insert("cid".to_owned(), account.into());
    fields
}

/// The fields that an object is to have: those that may be set, over what it has.
fn settable<T: Item>(
    sent: Sent<'_>,
    known: Map<String, Value>,
) -> Result<Map<String, Value>, Fault> {
    let over = sent.over(|| known.clone());
    let Value::Object(over) = &*over else {
        return Err(Fault::new(Code::Format, "an object is expected"));
    };
    let mut fields = known;
    for (name, value) in over {
        let field = T::OBJECT.fields.iter().find(|field| field.name == name);
        match field {
            Some(field) if field.is_set => {
                check(field, value)?;
                fields.insert(name.clone(), value.clone());
            }
            Some(_) => {}
            None if T::OBJECT.is_open => drop(fields.insert(name.clone(), value.clone())),
            None => return Err(T::OBJECT.unknown(name)),
        }
    }
    Ok(fields)
}

/// Whether a value is of the kind of its field.
fn check(field: &Field, value: &Value) -> Result<(), Fault> {
    let (is_right, what) = match field.kind {
        Kind::Whole => (value.is_u64(), "a whole number from 0 on"),
        Kind::Bound => (value.is_u64() || *value == -1, "a whole number from 0 on, or -1"),
        Kind::Text => (value.is_string(), "a text"),
        Kind::Flag => (value.is_boolean(), "true or false"),
        Kind::Object => (value.is_object(), "an object"),
        Kind::List => (value.is_array(), "an array"),
        Kind::Any => (true, ""),
    };
    let wrong = || Fault::new(Code::Format, format!("{} is {what}", field.name));
    if is_right { Ok(()) } else { Err(wrong().field(field.name)) }
}

fn unkept(cause: &ModuleError) -> Fault {
    Fault::new(Code::Unavailable, format!("it cannot be kept: {cause}"))
}

/// Topics of states without the number.
fn state_topic<T: Item>() -> String {
    format!("flespi/state/{}", T::URI)
}

/// What is to be retained of an object and then of its fields, where that is not as it was.
fn states<T: Item>(
    Head { id, account }: Head,
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
) -> Vec<State> {
    if old == new {
        return Vec::new();
    }
    let topic = format!("{}/{id}", state_topic::<T>());
    let payload = new.map(|new| Value::Object(new.clone()).to_string());
    let mut states = vec![State { account, topic: topic.clone(), payload, since: None }];
    let names = old.into_iter().chain(new).flat_map(Map::keys).collect::<BTreeSet<_>>();
    for name in names {
        let value = |of: Option<&Map<String, Value>>| {
            of.and_then(|of| of.get(name)).filter(|value| !value.is_null()).cloned()
        };
        let (old, new) = (value(old), value(new));
        if old != new {
            let payload = new.map(|new| new.to_string());
            states.push(State { account, topic: format!("{topic}/{name}"), payload, since: None });
        }
    }
    states
}
