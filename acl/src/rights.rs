//! What a token may do, compiled: asked for every subscriber a message goes to.

use crate::access::{Access, Method};

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
    /// A topic filter, with `{id}` in the level where the number of the object stands, if any.
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
pub struct Rights {}

impl Rights {
    /// Compiles `access`. `grants` are those of the modules; the broker's own are built in.
    pub fn compile(access: &Access, grants: &[TopicGrant]) -> Self {
        unimplemented!()
    }

    /// The rights of a master token.
    pub fn everything() -> Self {
        unimplemented!()
    }

    /// No rights at all.
    pub fn nothing() -> Self {
        unimplemented!()
    }

    /// Whether `topic`, a legal topic name, is open to `action`. Allocates nothing.
    pub fn allows(&self, action: Action, topic: &str) -> bool {
        unimplemented!()
    }

    /// How much of what `filter` matches is open to `action`. The filter is legal and bare: no
    /// `$share/...` or `$filter/...` before it.
    pub fn coverage(&self, action: Action, filter: &str) -> Coverage {
        unimplemented!()
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
        unimplemented!()
    }

    /// The objects of `uri` that `method` may be called on, or on their `submodule`.
    pub fn scope(&self, method: Method, uri: &str, submodule: Option<&str>) -> Scope {
        unimplemented!()
    }
}
