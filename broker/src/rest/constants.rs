//! `/const`: dictionaries that tools read (broker specification, 7.4).

use longshore_acl::Method;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Outcome};
use super::call::Call;
use super::fault::Fault;
use super::route::{Gate, Handler, Route, Takes};
use crate::notices::dictionary::{CODES, COUNTERS, REST_ANSWERS, SESSION_STATES, TOPICS};

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

/// Topics that this broker publishes to, as it is set up.
fn topics(call: &Call) -> impl Iterator<Item = (&'static str, &'static str)> {
    let dialect = call.api.dialect;
    let has_counters = call.api.accounts.tells_counters();
    TOPICS.into_iter().filter(move |(topic, _)| match *topic {
        SESSION_STATES => dialect.session_state,
        REST_ANSWERS => dialect.rest_over_mqtt,
        COUNTERS => has_counters,
        _ => true,
    })
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
            "toolbox/topics" => json!({"topics": described(topics(call))}),
            "toolbox/codes" => described(CODES.map(|(code, about)| (code.to_string(), about))),
            _ => return Err(Fault::bad_request("names lists toolbox/topics and toolbox/codes")),
        };
        found.insert(name.to_owned(), value);
    }
    Ok(Answer::of([Value::Object(found)]))
}

fn described(rows: impl IntoIterator<Item = (impl Into<String>, &'static str)>) -> Value {
    let entry = |(name, about)| (Into::<String>::into(name), json!({"description": about}));
    Value::Object(rows.into_iter().map(entry).collect())
}
