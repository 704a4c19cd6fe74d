//! `/const`: dictionaries that tools read (broker specification, 7.4).

use longshore_acl::Method;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Outcome};
use super::call::Call;
use super::fault::Fault;
use super::route::{Gate, Handler, Route, Takes};

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

/// Topics under `flespi/`, and what comes there (7.2 and 7.3).
const TOPICS: [(&str, &str); 11] = [
    ("flespi/log/mqtt/sessions/{client_id}/{event}", "what happens to an MQTT session"),
    ("flespi/log/platform/customer/{event}", "what happens to the account"),
    ("flespi/log/platform/tokens/{token_id}/{event}", "what happens to a token"),
    ("flespi/log/platform/subaccounts/{subaccount_id}/{event}", "what happens to an account below"),
    ("flespi/log/platform/limits/{limit_id}/{event}", "what happens to a limit"),
    ("flespi/state/mqtt/sessions/{session_id}", "an MQTT session"),
    ("flespi/state/mqtt/sessions/{session_id}/{property}", "a property of an MQTT session"),
    ("flespi/state/platform/customer/counters/{counter}", "a counter of the account"),
    ("flespi/state/platform/tokens/{token_id}", "a token"),
    ("flespi/state/platform/subaccounts/{subaccount_id}", "an account below"),
    ("flespi/state/platform/limits/{limit_id}", "a limit"),
];

/// Codes of events in logs (20.4 and 20.5).
const CODES: [(u16, &str); 18] = [
    (1, "created"),
    (2, "updated"),
    (3, "deleted"),
    (4, "moved to another account"),
    (20, "blocked"),
    (21, "unblocked"),
    (500, "session connection accepted"),
    (501, "session connection blocked"),
    (502, "session connection rejected"),
    (503, "session connection closed"),
    (504, "persistent session overflowed and deleted"),
    (510, "subscription created via REST"),
    (511, "subscription updated via REST"),
    (512, "subscription deleted via REST"),
    (520, "session subscribed"),
    (521, "session unsubscribed"),
    (600, "token expired and deleted"),
    (1000, "REST request"),
];

fn values(call: &Call) -> Outcome {
    let names = call.query.get("names").unwrap_or_default();
    let mut found = Map::new();
    for name in names.split(',').map(str::trim) {
        let value = match name {
            "toolbox/topics" => json!({"topics": described(TOPICS)}),
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
