//! Types of devices, by the protocols that they speak (R3.20).

use longshore_acl::Method;
use longshore_broker::rest::{
    Answer, Call, Field, Gate, Handler, Kind, Object, Outcome, Route, Selector, Takes,
};
use serde_json::{Value, json};

use crate::device_type::{OBJECT, TYPES};

/// What is known here of a protocol.
static PROTOCOL: Object = Object {
    name: "DeviceProtocol",
    fields: &[
        Field::new("id", Kind::Whole, "Its number"),
        Field::new("name", Kind::Text, "Its name"),
    ],
    is_open: false,
};

pub(super) fn routes() -> [Route; 2] {
    let paths = [
        "/gw/channel-protocols/{sel}/device-types/{types}",
        "/gw/protocols/{sel}/device-types/{types}",
    ];
    paths.map(|path| Route {
        method: Method::Get,
        path,
        about: "Read types of devices",
        gate: Gate::Token,
        takes: Takes::Nothing,
        gives: Some(&OBJECT),
        handler: Handler::blocking(types),
    })
}

/// Those of the protocols that the first selector means which the second one means.
fn types(call: &Call) -> Outcome {
    let fields = call.fields()?;
    let mut protocols: Vec<Value> = Vec::new();
    for it in &TYPES {
        let protocol = json!({"id": it.protocol_id, "name": it.protocol_name});
        if !protocols.contains(&protocol) {
            protocols.push(protocol);
        }
    }
    let (protocols, mut faults) = Selector::pick(call.parameter(0), &PROTOCOL, protocols)?;
    let is_of = |id: u64| protocols.iter().any(|it| it["id"] == id);
    let types = TYPES.iter().filter(|it| is_of(it.protocol_id));
    let types = types.map(|it| Value::Object(it.describe()));
    let (found, missing) = Selector::pick(call.parameter(1), &OBJECT, types)?;
    faults.extend(missing);
    Ok(Answer::partly(found.into_iter().map(|it| fields.of(it)).collect(), faults))
}
