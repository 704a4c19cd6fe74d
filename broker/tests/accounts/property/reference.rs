//! What accounts and tokens mean, said as plainly as can be and without any code of the broker.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Topics below this are the broker's own.
const RESERVED: &str = "flespi";

/// A message: account of its publisher, topic and payload.
pub(super) type Message = (u64, String, String);

/// What a token opens.
#[derive(Clone, Debug)]
pub(super) enum Access {
    Standard,
    Master,
    Listed(Vec<Entry>),
}

/// One rule of a token.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) topic: Option<String>,
    pub(super) actions: Vec<&'static str>,
    pub(super) methods: Vec<&'static str>,
}

impl Access {
    /// As REST takes it.
    pub(super) fn json(&self) -> Value {
        let entry = |it: &Entry| {
            let mut json = json!({"uri": "mqtt", "methods": it.methods});
            if let Some(topic) = &it.topic {
                json["topic"] = topic.as_str().into();
                json["actions"] = json!(it.actions);
            }
            json
        };
        match self {
            Self::Standard => json!({"type": 0}),
            Self::Master => json!({"type": 1}),
            Self::Listed(all) => {
                json!({"type": 2, "acl": all.iter().map(entry).collect::<Value>()})
            }
        }
    }

    fn lists(&self, action: &str, topic: &str) -> bool {
        let Self::Listed(all) = self else { return !is_reserved(topic) };
        let opens = |it: &Entry| it.topic.as_ref().is_some_and(|filter| matches(filter, topic));
        !is_reserved(topic) && all.iter().any(|it| it.actions.contains(&action) && opens(it))
    }

    /// Spec 4.7, 4.8, 5.1, 5.3.
    pub(super) fn publishes(&self, topic: &str) -> bool {
        self.lists("publish", topic)
    }

    /// Spec 4.7, 4.8, 4.12, 5.4.
    pub(super) fn reads(&self, topic: &str) -> bool {
        if !is_reserved(topic) {
            return self.lists("subscribe", topic);
        }
        let mut levels = topic.split('/').skip(1);
        let is_told = matches!(levels.next(), Some("log" | "state"));
        match (self, levels.next()) {
            (Self::Master, _) => true,
            (Self::Standard, module) => !(is_told && module == Some("platform")),
            (Self::Listed(_), module) => is_told && module == Some("mqtt") && self.calls("GET"),
        }
    }

    /// Whether it may call this method of `/mqtt`.
    pub(super) fn calls(&self, method: &str) -> bool {
        match self {
            Self::Standard | Self::Master => true,
            Self::Listed(all) => all.iter().any(|it| it.methods.contains(&method)),
        }
    }
}

pub(super) fn is_reserved(topic: &str) -> bool {
    topic.split('/').next() == Some(RESERVED)
}

/// Whether a topic filter takes a topic, with selectors (8.2).
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    fn walk(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            ([one, filter @ ..], [level, topic @ ..]) => {
                let is_in = one.contains(',') && one.split(',').any(|it| it == *level);
                (*one == "+" || one == level || is_in) && walk(filter, topic)
            }
            _ => false,
        }
    }
    let [filter, topic] = [filter, topic].map(|text| text.split('/').collect::<Vec<_>>());
    walk(&filter, &topic)
}

/// A subscription.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) inner: String,
    /// The only account that is asked for.
    pub(super) only: Option<u64>,
    pub(super) is_shared: bool,
}

/// A client: its token, and its subscriptions by the text they were made with.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) token: usize,
    pub(super) subscriptions: BTreeMap<String, Subscription>,
    pub(super) is_awake: bool,
    /// What waits for it while it is not, and whether it might read that when it was published.
    pub(super) waiting: Vec<(Message, bool)>,
}

/// A token: its account and what it opens.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) account: u64,
    pub(super) access: Access,
}

/// Everything there is.
#[derive(Debug, Default)]
pub(super) struct Reference {
    /// The account above each.
    pub(super) parents: BTreeMap<u64, u64>,
    pub(super) tokens: Vec<Token>,
    pub(super) readers: Vec<Reader>,
    /// Payloads by account and topic.
    pub(super) retained: BTreeMap<(u64, String), String>,
}

/// Who gets a message.
#[derive(Debug, Default)]
pub(super) struct Audience {
    /// Readers that get a copy.
    pub(super) plain: Vec<usize>,
    /// For each group that has some: members, one of which gets one more.
    pub(super) groups: Vec<Vec<usize>>,
}

impl Reference {
    /// Spec 6.3, 6.4.
    pub(super) fn is_within(&self, account: u64, top: u64) -> bool {
        account == top || self.parents.get(&account).is_some_and(|it| self.is_within(*it, top))
    }

    /// Whether a token may see what an account publishes to a topic.
    pub(super) fn may_see(&self, token: usize, account: u64, topic: &str) -> bool {
        let token = &self.tokens[token];
        self.is_within(account, token.account) && token.access.reads(topic)
    }

    pub(super) fn takes(it: &Subscription, account: u64, topic: &str) -> bool {
        it.only.is_none_or(|only| only == account) && matches(&it.inner, topic)
    }

    /// Who gets a message; it waits for those who are not there.
    pub(super) fn publish(&mut self, message: &Message) -> Audience {
        let (account, topic, _) = message;
        let mut audience = Audience::default();
        let mut groups: BTreeMap<(u64, &str), Vec<usize>> = BTreeMap::new();
        let mut waits = Vec::new();
        for (at, reader) in self.readers.iter().enumerate() {
            let sees = self.may_see(reader.token, *account, topic);
            let taking = reader.subscriptions.iter();
            let taking = taking.filter(|(_, it)| Self::takes(it, *account, topic));
            let (shared, plain): (Vec<_>, Vec<_>) = taking.partition(|(_, it)| it.is_shared);
            match (reader.is_awake, plain.is_empty()) {
                (false, false) => waits.push((at, sees)),
                (true, false) if sees => audience.plain.push(at),
                _ => {}
            }
            for (text, _) in shared.into_iter().filter(|_| sees) {
                let of = self.tokens[reader.token].account;
                groups.entry((of, text)).or_default().push(at);
            }
        }
        audience.groups = groups.into_values().collect();
        for (at, sees) in waits {
            self.readers[at].waiting.push((message.clone(), sees));
        }
        audience
    }

    /// What of retained messages a token reads through a subscription.
    pub(super) fn read(&self, token: usize, asked: &Subscription) -> Vec<Message> {
        let all = self.retained.iter().filter(|((account, topic), _)| {
            self.may_see(token, *account, topic) && Self::takes(asked, *account, topic)
        });
        all.map(|((account, topic), it)| (*account, topic.clone(), it.clone())).collect()
    }

    /// Takes away what an account retains below a filter, as far as a token may publish there
    /// (9.7).
    pub(super) fn clear(&mut self, token: usize, account: u64, filter: &str) {
        let access = self.tokens[token].access.clone();
        self.retained.retain(|(of, topic), _| {
            *of != account || !matches(filter, topic) || !access.publishes(topic)
        });
    }
}
