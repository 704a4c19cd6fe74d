//! What a subscription asks of messages beyond their topic: `$filter/cid=7&payload=speed%3E50/a/#`.

use std::cell::OnceCell;
use std::sync::Arc;

use hashbrown::HashMap;
use longshore_codec::{Filter, Properties, filter};
use longshore_expression::{Budget, Expression, Parameters, Value};
use percent_encoding::percent_decode_str;

use crate::clock::Wall;
use crate::message::Parts;
use crate::stamp::{parse_time, time_of};

/// What a topic filter with conditions begins with.
const PREFIX: &str = "$filter/";
/// Bytes of a payload that is looked into. To read more takes too long for all who wait.
const PAYLOAD_MAX: usize = 64 << 10;
/// Steps that one expression may take.
const STEPS_MAX: u64 = 2_000;
/// Steps of an expression that cost one step of work of a turn.
const STEPS_PER_WORK: u64 = 2;
/// Bytes of JSON that cost one step of work to read.
const BYTES_PER_WORK: usize = 16;

/// A topic filter taken apart.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    /// The share name of a shared subscription.
    pub(crate) share: Option<&'a str>,
    pub(crate) condition: Option<Arc<Condition>>,
    /// What topics are matched against.
    pub(crate) inner: &'a str,
}

impl Asked<'_> {
    /// The only account that is asked for; 0 for all.
    pub(crate) fn only(&self) -> u64 {
        self.condition.as_ref().map_or(0, |condition| condition.only)
    }
}

/// The share name, the text of the conditions, and the rest of a topic filter; what is wrong with
/// it otherwise. Conditions are an extension, which not every broker `has`.
pub(crate) fn split(
    filter: &str,
    has: bool,
) -> Result<(Option<&str>, Option<&str>, &str), &'static str> {
    let Filter { share, inner, .. } =
        filter::parse(filter).map_err(|_| "not a valid topic filter")?;
    let Some(rest) = inner.strip_prefix(PREFIX).filter(|_| has) else {
        return Ok((share, None, inner));
    };
    let (conditions, inner) = rest.split_once('/').unwrap_or_default();
    if inner.is_empty() || inner.starts_with(PREFIX) || inner.starts_with("$share/") {
        return Err("no topic filter behind the conditions of $filter");
    }
    Ok((share, Some(conditions), inner))
}

/// See the module. All that is asked has to hold.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    /// The only account whose messages are wanted; 0 for all.
    pub(crate) only: u64,
    /// Of what is retained, only what is newer.
    pub(crate) since: Option<Wall>,
    /// Holds for the payload as JSON.
    payload: Option<Expression>,
    /// Holds for the message.
    message: Option<Expression>,
}

impl Condition {
    /// From the text between `$filter/` and the next `/`; what is wrong with it otherwise.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut condition = Self::default();
        for pair in text.split('&') {
            let is_sign = |byte: &u8| matches!(byte, b'=' | b'>');
            let at = pair.bytes().position(|byte| is_sign(&byte));
            let at = at.ok_or("a condition of $filter is a key, = and a value")?;
            let (key, value) = (&pair[..at], &pair[at + 1..]);
            if pair.as_bytes()[at] == b'>' && key != "modified_since" {
                return Err("a condition of $filter is a key, = and a value");
            }
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| "a condition of $filter is no text")?;
            condition.set(key, &value)?;
        }
        Ok(condition)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        let expression =
            || Expression::parse(value).map_err(|_| "an expression of $filter is none");
        match key {
            "cid" => {
                let only = value.parse().ok().filter(|only| *only != 0);
                self.only = only.ok_or("cid in $filter is the number of an account")?;
            }
            "modified_since" => {
                let since = parse_time(value);
                self.since = Some(since.ok_or("modified_since in $filter is a unix time")?);
            }
            "payload" => self.payload = Some(expression()?),
            "message" => self.message = Some(expression()?),
            _ => return Err("$filter knows cid, modified_since, payload and message"),
        }
        Ok(())
    }

    /// Whether it asks nothing of what a message says.
    pub(crate) fn is_plain(&self) -> bool {
        self.payload.is_none() && self.message.is_none()
    }

    /// Whether what is retained is new enough.
    pub(crate) fn is_modified(&self, parts: &Parts<'_>) -> bool {
        self.since.is_none_or(|since| is_newer(parts, since))
    }

    /// Whether the message is as it asks.
    pub(crate) fn holds(&self, view: &View<'_>) -> bool {
        let of_payload = |it: &Expression| match view.payload() {
            Some(payload) => view.is_true(it, payload),
            None => false,
        };
        self.payload.as_ref().is_none_or(of_payload)
            && self.message.as_ref().is_none_or(|it| view.is_true(it, view))
    }
}

/// Whether a message was published after a time, as far as it says so.
pub(crate) fn is_newer(parts: &Parts<'_>, since: Wall) -> bool {
    time_of(parts.properties).is_none_or(|time| time > since)
}

/// A message as expressions see it. What is asked twice is found once.
pub(crate) struct View<'a> {
    parts: Parts<'a>,
    account: u64,
    now: Wall,
    payload: OnceCell<Option<serde_json::Value>>,
    user_properties: OnceCell<serde_json::Value>,
    answers: std::cell::RefCell<HashMap<usize, bool>>,
    work: std::cell::Cell<usize>,
}

impl<'a> View<'a> {
    pub(crate) fn new(parts: Parts<'a>, account: u64, now: Wall) -> Self {
        Self {
            parts,
            account,
            now,
            payload: OnceCell::new(),
            user_properties: OnceCell::new(),
            answers: std::cell::RefCell::default(),
            work: std::cell::Cell::new(0),
        }
    }

    /// Whether the condition holds, which many may share.
    pub(crate) fn meets(&self, condition: &Arc<Condition>) -> bool {
        if condition.is_plain() {
            return true;
        }
        let key = Arc::as_ptr(condition) as usize;
        if let Some(known) = self.answers.borrow().get(&key) {
            return *known;
        }
        let holds = condition.holds(self);
        self.answers.borrow_mut().insert(key, holds);
        holds
    }

    /// What it took, in steps of the work of a turn.
    pub(crate) fn work(&self) -> usize {
        self.work.get()
    }

    fn is_true(&self, expression: &Expression, input: &dyn Parameters) -> bool {
        let mut budget = Budget::new(STEPS_MAX).at(self.now.0 as f64 / 1e6);
        let is_true = expression.is_true(input, &mut budget);
        let steps = (STEPS_MAX - budget.steps().min(STEPS_MAX)) / STEPS_PER_WORK;
        self.work.set(self.work.get() + 1 + steps as usize);
        is_true
    }

    /// The payload as JSON; `None` where it is none, or longer than is looked into.
    fn payload(&self) -> Option<&serde_json::Value> {
        let read = || {
            let payload = self.parts.payload;
            if payload.len() > PAYLOAD_MAX {
                return None;
            }
            self.work.set(self.work.get() + payload.len() / BYTES_PER_WORK);
            serde_json::from_slice(payload).ok()
        };
        self.payload.get_or_init(read).as_ref()
    }

    fn user_properties(&self) -> &serde_json::Value {
        self.user_properties.get_or_init(|| {
            let named = Properties::from_raw(self.parts.properties).user_properties();
            let fields = named.map(|(name, value)| (name.to_owned(), value.into()));
            serde_json::Value::Object(fields.collect())
        })
    }
}

/// The message itself, for `message` (specification of the broker, 14.1.5).
impl Parameters for View<'_> {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        let text = |bytes| std::str::from_utf8(bytes).ok().map(Value::from);
        match name {
            "topic" => text(self.parts.topic),
            "payload" if self.parts.payload.len() > PAYLOAD_MAX => None,
            "payload" => text(self.parts.payload),
            "cid" => Some(Value::Number(self.account as f64)),
            "timestamp" => {
                let time = time_of(self.parts.properties).unwrap_or(self.now);
                Some(Value::Number(time.0 as f64 / 1e6))
            }
            "user_properties" => Some(Value::from(self.user_properties())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_codec::Property;

    fn view<'a>(payload: &'a [u8], properties: &'a [u8]) -> View<'a> {
        let parts = Parts { topic: b"a/b", properties, payload, shared: None };
        View::new(parts, 7, Wall(1_700_000_000_000_000))
    }

    /// Spec 14.1.1 to 14.1.3.
    #[test]
    fn a_filter_begins_with_conditions_up_to_the_next_slash() {
        assert_eq!(split("a/b", true), Ok((None, None, "a/b")));
        assert_eq!(split("$filter/cid=7/a/#", true), Ok((None, Some("cid=7"), "a/#")));
        assert_eq!(split("$filter/cid=7//a", true), Ok((None, Some("cid=7"), "/a")));
        let shared = "$share/g/$filter/cid=7/a";
        assert_eq!(split(shared, true), Ok((Some("g"), Some("cid=7"), "a")));
        assert_eq!(split("$filter/cid=7/a", false), Ok((None, None, "$filter/cid=7/a")));
        let twice = "$filter/cid=7/$filter/cid=7/a";
        for wrong in ["$filter/", "$filter/cid=7", "$filter/cid=7/", twice, "$filter/a/b#"] {
            assert!(split(wrong, true).is_err(), "{wrong}");
        }
        assert!(split("$filter/cid=7/$share/g/a", true).is_err(), "$share comes first");
        let both =
            Condition::parse("cid=7&modified_since>1700000000&payload=a%3E1").expect("it is");
        assert_eq!((both.only, both.since), (7, Some(Wall(1_700_000_000_000_000))));
        for wrong in [
            "",
            "cid",
            "cid=",
            "cid=x",
            "cid>7",
            "since=1",
            "payload=a%3E",
            "payload=%ff",
            "message=",
        ] {
            assert!(Condition::parse(wrong).is_err(), "{wrong}");
        }
    }

    /// Spec 14.1.5, 14.1.6.
    #[test]
    fn a_condition_holds_for_the_messages_it_describes() {
        let mut properties = Vec::new();
        Property::UserProperty("timestamp", "1600000000.5").append(&mut properties);
        Property::UserProperty("unit", "km").append(&mut properties);
        let rows = [
            ("payload=speed%3E50", r#"{"speed":51}"#, true),
            ("payload=speed%3E50", r#"{"speed":50}"#, false),
            ("payload=speed%3E50", r#"{"other":51}"#, false),
            ("payload=position.speed%3E50", r#"{"position.speed":51}"#, true),
            ("payload=value%3E50", "51", true),
            ("payload=speed%3E50", "no JSON", false),
            ("payload=speed%3E50", "", false),
            ("message=tonumber(payload)%3E10", "11", true),
            ("message=tonumber(payload)%3E10", "9", false),
            ("message=topic%3D%3D%22a%2F*%22", "", true),
            ("message=topic%3D%3D%22b%2F*%22", "", false),
            ("message=cid%3D%3D7", "", true),
            ("message=timestamp%3D%3D1600000000.5", "", true),
            ("message=user_properties.unit%3D%3D%22km%22", "", true),
            ("message=user_properties.other%3D%3D%22km%22", "", false),
            ("payload=speed%3E50&message=cid%3D%3D8", r#"{"speed":51}"#, false),
        ];
        for (text, payload, want) in rows {
            let condition = Arc::new(Condition::parse(text).expect(text));
            let view = view(payload.as_bytes(), &properties);
            assert_eq!(view.meets(&condition), want, "{text} of {payload}");
            assert_eq!(view.meets(&condition), want, "asked again");
        }
    }

    #[test]
    fn a_payload_that_is_too_long_is_not_looked_into() {
        let condition = Arc::new(Condition::parse("payload=value%3D%3D%22*%22").expect("it is"));
        let text = |len| format!("\"{}\"", "x".repeat(len));
        assert!(view(text(PAYLOAD_MAX - 2).as_bytes(), &[]).meets(&condition));
        assert!(!view(text(PAYLOAD_MAX - 1).as_bytes(), &[]).meets(&condition));
    }
}
