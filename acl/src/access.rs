//! What a token may do, as its owner wrote it (broker specification, 4.6 and 4.9).

use std::hash::Hash;

use longshore_codec::filter;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::invalid::Invalid;
use crate::json::{self, Json};

/// Entries an access may list.
pub const ACL_ENTRIES_MAX: usize = 1_000;
/// Bytes of the topic filter of an entry.
pub const ACL_TOPIC_BYTES_MAX: usize = 1_024;
/// Numbers of objects an entry may list.
pub const ACL_IDS_MAX: usize = 10_000;
/// Bytes of all of an access as JSON.
pub const ACCESS_BYTES_MAX: usize = 1 << 20;

/// The methods of a mask, from the lowest bit on.
const MASK: [Method; 4] = [Method::Get, Method::Post, Method::Put, Method::Delete];

/// The uri of the entries that open topics and the calls of the broker itself.
pub(crate) const MQTT: &str = "mqtt";

/// What kind of token it is; the number is what stands in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Kind {
    /// Everything in its account but the platform: no accounts, no tokens, no limits.
    #[default]
    Standard = 0,
    /// Everything.
    Master = 1,
    /// What its entries list and nothing else.
    Acl = 2,
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        kind as Self
    }
}

impl TryFrom<u8> for Kind {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        match number {
            0 => Ok(Self::Standard),
            1 => Ok(Self::Master),
            2 => Ok(Self::Acl),
            _ => Err("not 0 (standard), 1 (master) or 2 (acl)"),
        }
    }
}

/// A method of REST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates.
    Post,
    /// Replaces the given fields.
    Put,
    /// Merges.
    Patch,
    /// Removes.
    Delete,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// Its name in capitals.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// The method of this name in capitals.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}

/// A set of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Methods(u8);

impl Methods {
    /// Whether `method` is in it.
    pub const fn contains(self, method: Method) -> bool {
        self.0 & 1 << method as u8 != 0
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Method> for Methods {
    fn from_iter<T: IntoIterator<Item = Method>>(methods: T) -> Self {
        Self(methods.into_iter().fold(0, |set, method| set | 1 << method as u8))
    }
}

/// The objects an entry speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ids {
    /// All of the account. An entry that says nothing means all.
    All,
    /// Those in groups the token may see. Nobody here knows groups, so it opens nothing.
    InGroups,
    /// These, in ascending order.
    Listed(Box<[u64]>),
}

/// One entry of an access, as far as it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ace {
    /// What part of the API it opens, `gw/devices`. Unknown ones are kept: a module may come.
    pub uri: String,
    /// The methods on the objects themselves.
    pub methods: Methods,
    /// The objects.
    pub ids: Ids,
    /// The parts of an object with the methods on them, which are not inherited.
    pub submodules: Vec<(String, Methods)>,
    /// A topic filter, for the uri `mqtt` only.
    pub topic: Option<String>,
    /// May publish to what `topic` matches.
    pub publish: bool,
    /// May subscribe to what `topic` matches.
    pub subscribe: bool,
}

/// What a token may do. Holds the text it was given and so gives back what it does not understand;
/// equal texts are equal rights.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Access {
    #[serde(rename = "type")]
    kind: Kind,
    /// The whole object; null when there is nothing in it but its type.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    whole: Json,
}

impl Access {
    /// Access of this kind without entries.
    pub fn new(kind: Kind) -> Self {
        Self { kind, whole: Json::default() }
    }

    /// Reads `access` of a token: `{"type": 2, "acl": [...]}`. Fails naming the field, as
    /// `access.acl[2].topic`.
    pub fn from_json(value: &Value) -> Result<Self, Invalid> {
        let fields = value.as_object().ok_or_else(|| Invalid::new("access", "not an object"))?;
        let kind = kind_of("access.type", fields.get("type"))?;
        match fields.get("acl") {
            Some(acl) => drop(entries("access.acl", acl)?),
            None if kind == Kind::Acl => return Err(Invalid::new("access.acl", "missing")),
            None => {}
        }
        if fields.keys().all(|key| key == "type") {
            return Ok(Self::new(kind));
        }
        let mut fields = fields.clone();
        fields.insert("type".to_owned(), u8::from(kind).into());
        fields.get_mut("acl").into_iter().for_each(list_methods);
        let whole = json::bounded("access", &Value::Object(fields), ACCESS_BYTES_MAX)?;
        Ok(Self { kind, whole })
    }

    /// Reads the form of 2018: `flags` and `acl` of the token itself.
    pub fn from_flags(flags: Option<&Value>, acl: Option<&Value>) -> Result<Self, Invalid> {
        let kind = kind_of("flags", flags)?;
        let mut fields = Map::new();
        fields.insert("type".to_owned(), u8::from(kind).into());
        match acl {
            Some(acl) => {
                entries("acl", acl)?;
                fields.insert("acl".to_owned(), acl.clone());
            }
            None if kind == Kind::Acl => return Err(Invalid::new("acl", "missing")),
            None => {}
        }
        Self::from_json(&Value::Object(fields))
    }

    /// What [`Access::from_json`] read, fields and entries nobody here knows included.
    pub fn to_json(&self) -> Value {
        if self.whole.is_null() {
            return serde_json::json!({ "type": u8::from(self.kind) });
        }
        self.whole.value()
    }

    /// What kind of token it makes.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its entries, read anew: who needs them often compiles them into `Rights`.
    pub fn entries(&self) -> Vec<Ace> {
        let whole = self.whole.value();
        // It was read without a fault when it came in.
        whole.get("acl").and_then(|acl| entries("acl", acl).ok()).unwrap_or_default()
    }
}

fn kind_of(field: &str, value: Option<&Value>) -> Result<Kind, Invalid> {
    let Some(value) = value else { return Ok(Kind::default()) };
    let number = json::number(field, value)?;
    Kind::try_from(u8::try_from(number).unwrap_or(u8::MAX))
        .map_err(|reason| Invalid::new(field, reason))
}

fn entries(field: &str, value: &Value) -> Result<Vec<Ace>, Invalid> {
    let list = value.as_array().ok_or_else(|| Invalid::new(field, "not an array"))?;
    if list.len() > ACL_ENTRIES_MAX {
        return Err(Invalid::new(field, format!("over {ACL_ENTRIES_MAX} entries")));
    }
    list.iter().enumerate().map(|(at, entry)| ace(&format!("{field}[{at}]"), entry)).collect()
}

fn ace(field: &str, value: &Value) -> Result<Ace, Invalid> {
    let fields = value.as_object().ok_or_else(|| Invalid::new(field, "not an object"))?;
    let at = |name: &str| format!("{field}.{name}");
    let uri = match fields.get("uri") {
        Some(Value::String(uri)) if !uri.is_empty() => uri.clone(),
        Some(_) => return Err(Invalid::new(at("uri"), "not a text")),
        None => return Err(Invalid::new(at("uri"), "missing")),
    };
    let methods = methods(&at("methods"), fields.get("methods"))?;
    let mut ace = Ace {
        uri,
        methods,
        ids: Ids::All,
        submodules: Vec::new(),
        topic: None,
        publish: false,
        subscribe: false,
    };
    if ace.uri == MQTT {
        ace.topic = fields.get("topic").map(|topic| filter_of(&at("topic"), topic)).transpose()?;
        (ace.publish, ace.subscribe) = actions(&at("actions"), fields.get("actions"))?;
        if ace.topic.is_none() && (ace.publish || ace.subscribe) {
            return Err(Invalid::new(at("topic"), "missing"));
        }
        return Ok(ace);
    }
    ace.ids = ids(&at("ids"), fields.get("ids"))?;
    ace.submodules = submodules(&at("submodules"), fields.get("submodules"))?;
    Ok(ace)
}

fn filter_of(field: &str, value: &Value) -> Result<String, Invalid> {
    let text = value.as_str().ok_or_else(|| Invalid::new(field, "not a string"))?;
    if text.is_empty() || text.len() > ACL_TOPIC_BYTES_MAX {
        return Err(Invalid::new(field, format!("not 1 to {ACL_TOPIC_BYTES_MAX} bytes")));
    }
    match filter::parse(text) {
        Ok(parsed) if parsed.share.is_none() => Ok(text.to_owned()),
        _ => Err(Invalid::new(field, "not a valid topic filter")),
    }
}

/// The texts of a list that may be missing, each with its path.
fn texts<'a>(field: &str, value: Option<&'a Value>) -> Result<Vec<(String, &'a str)>, Invalid> {
    let list = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(Invalid::new(field, "not an array")),
    };
    let text = |(at, item): (usize, &'a Value)| {
        let path = format!("{field}[{at}]");
        match item.as_str() {
            Some(text) => Ok((path, text)),
            None => Err(Invalid::new(path, "not a string")),
        }
    };
    list.iter().enumerate().map(text).collect()
}

fn methods(field: &str, value: Option<&Value>) -> Result<Methods, Invalid> {
    if let Some(mask @ Value::Number(_)) = value {
        let reason = "not GET 1, POST 2, PUT 4 and DELETE 8, added up";
        return methods_of(mask).ok_or_else(|| Invalid::new(field, reason));
    }
    let named = |(path, name): (String, &str)| {
        let reason = "not GET, POST, PUT, PATCH or DELETE";
        Method::named(name).ok_or_else(|| Invalid::new(path, reason))
    };
    texts(field, value)?.into_iter().map(named).collect()
}

/// The methods that a mask of 2018 means.
fn methods_of(mask: &Value) -> Option<Methods> {
    let mask = mask.as_u64().filter(|mask| *mask < 1 << MASK.len())?;
    Some(
        MASK.into_iter().enumerate().filter(|(at, _)| mask & 1 << at != 0).map(|it| it.1).collect(),
    )
}

/// Writes masks of methods as the lists that they mean, in entries that have been read.
fn list_methods(entries: &mut Value) {
    for entry in entries.as_array_mut().into_iter().flatten() {
        entry.get_mut("submodules").into_iter().for_each(list_methods);
        let Some(value) = entry.get_mut("methods") else { continue };
        if let Some(methods) = methods_of(value) {
            let methods = Method::ALL.into_iter().filter(|it| methods.contains(*it));
            *value = methods.map(Method::name).collect();
        }
    }
}

/// Whether publish and whether subscribe is in the list.
fn actions(field: &str, value: Option<&Value>) -> Result<(bool, bool), Invalid> {
    let mut found = (false, false);
    for (path, name) in texts(field, value)? {
        match name {
            "publish" => found.0 = true,
            "subscribe" => found.1 = true,
            _ => return Err(Invalid::new(path, "not publish or subscribe")),
        }
    }
    Ok(found)
}

fn ids(field: &str, value: Option<&Value>) -> Result<Ids, Invalid> {
    let list = match value {
        None => return Ok(Ids::All),
        Some(Value::String(word)) if word == "all" => return Ok(Ids::All),
        Some(Value::String(word)) if word == "in-groups" => return Ok(Ids::InGroups),
        Some(Value::Array(list)) => list,
        Some(_) => {
            return Err(Invalid::new(field, "not \"all\", \"in-groups\" or an array of numbers"));
        }
    };
    if list.len() > ACL_IDS_MAX {
        return Err(Invalid::new(field, format!("over {ACL_IDS_MAX} numbers")));
    }
    let id = |(at, item)| json::number(&format!("{field}[{at}]"), item);
    let mut ids = list.iter().enumerate().map(id).collect::<Result<Vec<u64>, _>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(Ids::Listed(ids.into()))
}

fn submodules(field: &str, value: Option<&Value>) -> Result<Vec<(String, Methods)>, Invalid> {
    let list = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(Invalid::new(field, "not an array")),
    };
    let submodule = |(at, item): (usize, &Value)| {
        let name = item.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| Invalid::new(format!("{field}[{at}].name"), "not a string"));
        let methods = methods(&format!("{field}[{at}].methods"), item.get("methods"));
        Ok((name?.to_owned(), methods?))
    };
    list.iter().enumerate().map(submodule).collect()
}

#[cfg(test)]
mod tests;
