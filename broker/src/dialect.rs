//! Where the broker does more than the standard asks for, each with a switch.

use longshore_codec::QoS;

/// The switches. A struct of plain values: take [`Dialect::default`] and change what you need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dialect {
    /// When a PUBLISH with an empty payload to a topic filter with wildcards deletes all retained
    /// messages that match it; otherwise it is refused with 0x90, as the standard has it. Default
    /// [`WildcardDelete::Any`].
    pub wildcard_delete: WildcardDelete,
    /// Whether messages of clients with a token get the user properties `timestamp`, `token_id` and
    /// `cid`. Default true.
    pub stamp: bool,
    /// Whether CONNACK tells clients with a token of it and of the session's subscriptions, in the
    /// user properties `token` and `subscriptions`. Default true.
    pub describe_session: bool,
    /// Whether a level of a topic filter that contains `,` is a selector: a list of which it
    /// matches any, beside itself. Otherwise it is a level like any other, as the standard has it.
    /// Default `true`.
    pub selectors: bool,
    /// Whether a share name that ends in `:from:count` or `:count` makes a group sticky: `count`
    /// levels of a topic, from the level `from` on, say which member gets it. Otherwise it is a
    /// name like any other, as the standard has it. Default `true`.
    pub sticky_groups: bool,
    /// Whether a topic filter may have conditions, `$filter/payload=speed%3E50/a/#`. Otherwise it
    /// is one like any other, as the standard has it. Default `true`.
    pub filters: bool,
    /// The greatest QoS that is granted to subscribers, and that clients of MQTT 5 are told. What
    /// is published with a greater one, a will too, is taken all the same, with all that its QoS
    /// asks for, though the standard has it refused with 0x9b [MQTT-3.2.2-11]: whoever ignores the
    /// maximum is to be served, too. Default [`QoS::ExactlyOnce`].
    pub max_qos: QoS,
    /// Whether the state of each session of a client with a token is retained under
    /// `flespi/state/mqtt/sessions/{id}`: what is retained takes memory for each session, and every
    /// CONNECT and its end a message more. Default `false`.
    pub session_state: bool,
    /// Whether a broker with accounts retains its counters under `$SYS/broker/...` of the root
    /// account, every 10 seconds those that have changed. Default `true`.
    pub sys_topics: bool,
    /// Whether a message to `flespi/rest/{method}/{path}` of a client with a token is a call of
    /// REST, answered by a message. Default `false`.
    pub rest_over_mqtt: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            wildcard_delete: WildcardDelete::default(),
            stamp: true,
            describe_session: true,
            selectors: true,
            sticky_groups: true,
            filters: true,
            max_qos: QoS::ExactlyOnce,
            session_state: false,
            sys_topics: true,
            rest_over_mqtt: false,
        }
    }
}

/// Which of them delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WildcardDelete {
    /// All.
    #[default]
    Any,
    /// Those with RETAIN.
    Retain,
    /// None.
    Off,
}

impl WildcardDelete {
    /// Whether one with or without RETAIN does.
    pub(crate) fn is_meant(self, retain: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Retain => retain,
            Self::Off => false,
        }
    }
}
