//! What a token may do, compiled: asked for every subscriber a message goes to.

use std::sync::Arc;

use crate::access::{Access, Ace, Ids, Kind, MQTT, Method, Methods};
use crate::filters::{TopicFilters, without};
use crate::topics::{COUNTERS, Level, RESERVED, Topics, levels_of};

/// The part of the API that is for master tokens only (broker specification, 15.3.1).
const PLATFORM: &str = "platform";

/// Where the number of an object stands in the filter of a grant.
const ID: &str = "{id}";

/// The grants of the broker itself: topics, and the uri that a token must be able to read.
const BUILT_IN: [(&str, &str); 4] = [
    ("flespi/log/mqtt/#", MQTT),
    ("flespi/state/mqtt/#", MQTT),
    ("flespi/log/platform/#", PLATFORM),
    ("flespi/state/platform/#", PLATFORM),
];

/// What a client does with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publishes to it.
    Publish,
    /// Receives what others publish to it.
    Subscribe,
}

/// How much of what a topic filter matches is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coverage {
    /// Every topic, for certain.
    All,
    /// Some topics and others not, or nobody looked closely enough to say.
    Some,
    /// No topic, for certain.
    None,
}

/// Topics under `flespi/` that a token with access to certain objects may subscribe to. A module
/// registers these for its own objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicGrant {
    /// A topic filter under `flespi/`, with `{id}` as the level where the number of the object
    /// stands, if any does.
    pub filter: String,
    /// The part of the API the objects belong to, `gw/devices`.
    pub uri: String,
    /// The part of the object, `messages`.
    pub submodule: Option<String>,
    /// The method a token needs there.
    pub method: Method,
}

/// The objects that a token may call a method on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of the account.
    All,
    /// These, in ascending order; never empty.
    Listed(Vec<u64>),
    /// None.
    None,
}

/// What a token may do. Immutable: a change of access makes new rights.
#[derive(Debug, Clone)]
pub struct Rights {
    publish: Rules,
    subscribe: Rules,
    rest: Rest,
}

/// Topics for one action.
#[derive(Debug, Clone)]
enum Rules {
    /// These and no others.
    Open(Topics),
    /// What these filters match and no others.
    Listed(Arc<TopicFilters>),
    /// All but these.
    Closed(Topics),
}

#[derive(Debug, Clone)]
enum Rest {
    All,
    AllButPlatform,
    Listed(Box<[RestRule]>),
}

#[derive(Debug, Clone)]
struct RestRule {
    uri: Box<str>,
    methods: Methods,
    ids: Ids,
    submodules: Box<[(String, Methods)]>,
}

impl Rights {
    /// Compiles `access`. `grants` are those of the modules; the broker's own are built in.
    ///
    /// # Panics
    ///
    /// If the filter of a grant is not under `flespi/`: grants open nothing else.
    pub fn compile(access: &Access, grants: &[TopicGrant]) -> Self {
        let built_in = BUILT_IN.map(|(filter, uri)| TopicGrant {
            filter: filter.to_owned(),
            uri: uri.to_owned(),
            submodule: None,
            method: Method::Get,
        });
        let grants = || built_in.iter().chain(grants);
        for grant in grants() {
            let (first, _) = grant.filter.split_once('/').unwrap_or_default();
            assert_eq!(first, RESERVED, "a grant opens what is reserved: {}", grant.filter);
        }
        match access.kind() {
            Kind::Master => Self::all_but([], Rest::All),
            Kind::Standard => {
                let rest = Rest::AllButPlatform;
                let is_closed = |grant: &&TopicGrant| rest.scope_of(grant) == Scope::None;
                let closed: Vec<_> =
                    grants().filter(is_closed).map(|grant| opened(grant, &Scope::All)).collect();
                Self::all_but(closed, rest)
            }
            Kind::Acl => Self::listed(&access.entries(), grants()),
        }
    }

    /// Everything, but for receiving from these, and publishing what is reserved (5.3).
    fn all_but(closed: impl IntoIterator<Item = Vec<Level>>, rest: Rest) -> Self {
        let reserved = [Level::OneOf(vec![RESERVED.into(), COUNTERS.into()]), Level::Rest];
        let publish = Rules::Closed(Topics::of([reserved]));
        Self { publish, subscribe: Rules::Closed(Topics::of(closed)), rest }
    }

    fn listed<'a>(entries: &[Ace], grants: impl Iterator<Item = &'a TopicGrant>) -> Self {
        let rest = Rest::Listed(entries.iter().map(RestRule::of).collect());
        let filters = |takes: fn(&Ace) -> bool| {
            let taken = entries.iter().filter(move |entry| takes(entry));
            taken.filter_map(|entry| entry.topic.as_deref())
        };
        let granted = grants.filter_map(|grant| {
            let scope = rest.scope_of(grant);
            let is_whole = scope == Scope::All || grant.filter.split('/').any(|it| it == ID);
            (scope != Scope::None && is_whole).then(|| opened(grant, &scope))
        });
        let read = filters(|entry| entry.subscribe);
        let read = read.filter_map(|filter| without(&[RESERVED], filter));
        let subscribe = Rules::Open(Topics::of(read.chain(granted)));
        let publish = Arc::new(TopicFilters::of(filters(|entry| entry.publish)));
        Self { publish: Rules::Listed(publish), subscribe, rest }
    }

    /// The rights of a master token.
    pub fn everything() -> Self {
        Self::compile(&Access::new(Kind::Master), &[])
    }

    /// No rights at all.
    pub fn nothing() -> Self {
        Self::compile(&Access::new(Kind::Acl), &[])
    }

    /// Whether `topic`, a legal topic name, is open to `action`. Allocates nothing.
    pub fn allows(&self, action: Action, topic: &str) -> bool {
        match self.rules(action) {
            Rules::Open(topics) => topics.contains(topic),
            Rules::Listed(filters) => filters.contains(topic),
            Rules::Closed(topics) => !topics.contains(topic),
        }
    }

    /// How much of what `filter` matches is open to `action`. The filter is legal and bare: no
    /// `$share/...` or `$filter/...` before it.
    pub fn coverage(&self, action: Action, filter: &str) -> Coverage {
        let compared = |topics: &Topics, is_open: bool| {
            let found = topics.compare(filter);
            if is_open { (found.inside, found.outside) } else { (found.outside, found.inside) }
        };
        let (open, closed) = match self.rules(action) {
            Rules::Open(topics) => compared(topics, true),
            Rules::Listed(filters) => compared(filters.topics(), true),
            Rules::Closed(topics) => compared(topics, false),
        };
        match (open, closed) {
            (true, false) => Coverage::All,
            (false, _) => Coverage::None,
            (true, true) => Coverage::Some,
        }
    }

    /// The topic filters that are open to publishing, where there is a list of them: without one
    /// everything is that is not reserved.
    pub fn published(&self) -> Option<&Arc<TopicFilters>> {
        match &self.publish {
            Rules::Listed(filters) => Some(filters),
            Rules::Open(_) | Rules::Closed(_) => None,
        }
    }

    fn rules(&self, action: Action) -> &Rules {
        match action {
            Action::Publish => &self.publish,
            Action::Subscribe => &self.subscribe,
        }
    }

    /// Whether `method` may be called on the object `id` of `uri`, or on its `submodule`. Without
    /// an `id` it is asked for all objects.
    pub fn allows_rest(
        &self,
        method: Method,
        uri: &str,
        submodule: Option<&str>,
        id: Option<u64>,
    ) -> bool {
        let Rest::Listed(rules) = &self.rest else {
            return self.rest.scope(method, uri, submodule) == Scope::All;
        };
        rules.iter().any(|rule| {
            rule.takes(method, uri, submodule)
                && match (&rule.ids, id) {
                    (Ids::All, _) => true,
                    (Ids::Listed(ids), Some(id)) => ids.binary_search(&id).is_ok(),
                    _ => false,
                }
        })
    }

    /// The objects of `uri` that `method` may be called on, or on their `submodule`.
    pub fn scope(&self, method: Method, uri: &str, submodule: Option<&str>) -> Scope {
        self.rest.scope(method, uri, submodule)
    }
}

impl Rest {
    fn scope(&self, method: Method, uri: &str, submodule: Option<&str>) -> Scope {
        let rules = match self {
            Self::All => return Scope::All,
            Self::AllButPlatform if is_platform(uri) => return Scope::None,
            Self::AllButPlatform => return Scope::All,
            Self::Listed(rules) => rules,
        };
        let mut listed = Vec::new();
        for rule in rules.iter().filter(|rule| rule.takes(method, uri, submodule)) {
            match &rule.ids {
                Ids::All => return Scope::All,
                Ids::InGroups => {}
                Ids::Listed(ids) => listed.extend_from_slice(ids),
            }
        }
        listed.sort_unstable();
        listed.dedup();
        if listed.is_empty() { Scope::None } else { Scope::Listed(listed) }
    }

    fn scope_of(&self, grant: &TopicGrant) -> Scope {
        self.scope(grant.method, &grant.uri, grant.submodule.as_deref())
    }
}

impl RestRule {
    fn of(entry: &Ace) -> Self {
        Self {
            uri: entry.uri.as_str().into(),
            methods: entry.methods,
            ids: entry.ids.clone(),
            submodules: entry.submodules.clone().into(),
        }
    }

    /// Whether it opens this for any object. No entry opens the platform.
    fn takes(&self, method: Method, uri: &str, submodule: Option<&str>) -> bool {
        if *self.uri != *uri || is_platform(uri) {
            return false;
        }
        let Some(submodule) = submodule.filter(|_| uri != MQTT) else {
            return self.methods.contains(method);
        };
        let mut submodules = self.submodules.iter();
        submodules.any(|(name, methods)| name == submodule && methods.contains(method))
    }
}

fn is_platform(uri: &str) -> bool {
    uri.strip_prefix(PLATFORM).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The topics a grant opens for these objects.
fn opened(grant: &TopicGrant, scope: &Scope) -> Vec<Level> {
    let id = || match scope {
        Scope::Listed(ids) => Level::OneOf(ids.iter().map(|id| id.to_string().into()).collect()),
        _ => Level::Any,
    };
    let is_id = |level: &Level| matches!(level, Level::OneOf(texts) if *texts == [ID.into()]);
    levels_of(&grant.filter).map(|level| if is_id(&level) { id() } else { level }).collect()
}

#[cfg(test)]
mod tests;
