//! `/const`: dictionaries that tools read (broker specification, 7.4).

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_acl::Method;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Outcome};
use super::call::Call;
use super::fault::Fault;
use super::route::{Gate, Handler, Route, Takes};
use crate::accounts::COUNTERS;
use crate::module::Module;
use crate::notices::dictionary::{EVENTS, REST_ANSWERS, SESSION_STATES, TOPICS};
use crate::notices::{Detail, EventKind, Severity, counter_topic};

/// The routes of this module.
pub(super) static ROUTES: &[&[Route]] = &[&[Route {
    method: Method::Get,
    path: "/const/values",
    about: "Read dictionaries: names is a list of toolbox/topics and toolbox/codes",
    gate: Gate::Open,
    takes: Takes::Nothing,
    gives: None,
    handler: Handler::Blocking(values),
}]];

/// What the modules of a broker add to its own words.
pub(crate) struct Dictionary {
    /// Topics, and what comes there.
    topics: Vec<(String, &'static str)>,
    /// All events, those of the broker included, as they are answered.
    codes: Value,
}

impl Dictionary {
    pub(crate) fn of(modules: &[Arc<dyn Module>]) -> Self {
        let events = modules.iter().flat_map(|module| module.events());
        Self {
            topics: modules.iter().flat_map(|module| module.topics()).collect(),
            codes: codes(EVENTS.into_iter().chain(events)),
        }
    }
}

/// Topics that this broker publishes to, as it is set up.
fn topics(call: &Call) -> impl Iterator<Item = (String, &'static str)> {
    let dialect = call.api.dialect;
    let own = TOPICS.into_iter().filter(move |(topic, _)| match topic {
        _ if topic.starts_with(SESSION_STATES) => dialect.session_state,
        _ if topic.starts_with(REST_ANSWERS) => dialect.rest_over_mqtt,
        _ => true,
    });
    let own = own.map(|(topic, about)| (topic.to_owned(), about));
    let counters = COUNTERS.iter().filter(|_| call.api.accounts.tells_counters());
    let counters = counters.map(|name| (counter_topic(name), "what an account uses"));
    own.chain(counters).chain(call.api.dictionary.topics.iter().cloned())
}

fn values(call: &Call) -> Outcome {
    let names = call.query.get("names").unwrap_or_default();
    let mut found = Map::new();
    for name in names.split(',').map(str::trim) {
        // Everybody may ask, and each is made once however often it is named.
        if found.contains_key(name) {
            continue;
        }
        let value = match name {
            "toolbox/topics" => {
                let entry = |(topic, about)| (topic, json!({"description": about}));
                json!({"topics": topics(call).map(entry).collect::<Map<_, _>>()})
            }
            "toolbox/codes" => call.api.dictionary.codes.clone(),
            _ => return Err(Fault::bad_request("names lists toolbox/topics and toolbox/codes")),
        };
        found.insert(name.to_owned(), value);
    }
    Ok(Answer::of([Value::Object(found)]))
}

/// Events by their codes, and which of them happen to whom. Where several kinds of objects have the
/// same code, it is explained by the first, and what explains it further by all.
fn codes(events: impl Iterator<Item = (&'static str, &'static [EventKind])>) -> Value {
    let mut codes: BTreeMap<String, Value> = BTreeMap::new();
    let mut entities: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (entity, kinds) in events {
        for kind in kinds {
            entities.entry(entity).or_default().push(kind.code);
            let EventKind { code, severity, about, details } = *kind;
            let of_code =
                codes.entry(code.to_string()).or_insert_with(|| explain(code, severity, about));
            let Some((field, details)) = details else { continue };
            of_code["extra_name"] = field.into();
            for Detail { value, severity, about } in details {
                let explained = explain(*value, *severity, about);
                of_code["extra_codes"][value.to_string()] = explained;
            }
        }
    }
    json!({"codes": codes, "entities": entities})
}

fn explain(code: impl Into<Value>, severity: Severity, about: &str) -> Value {
    json!({"code": code.into(), "description": about, "severity": severity.name()})
}
