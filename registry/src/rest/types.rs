//! Types of devices, by the protocols that they speak (R3.20).

use longshore_acl::Method;
use longshore_broker::rest::{
    Answer, Call, Code, Fault, Field, Gate, Handler, Kind, Object, Outcome, Route, Selector, Takes,
};
use serde_json::{Map, Value, json};

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
    let mut protocols: Vec<Map<String, Value>> = Vec::new();
    for it in &TYPES {
        let Value::Object(protocol) = json!({"id": it.protocol_id, "name": it.protocol_name})
        else {
            continue;
        };
        if !protocols.contains(&protocol) {
            protocols.push(protocol);
        }
    }
    let (protocols, mut faults) = choose(protocols, call.parameter(0), &PROTOCOL)?;
    let is_of = |id: u64| protocols.iter().any(|it| it["id"] == id);
    let types = TYPES.iter().filter(|it| is_of(it.protocol_id)).map(|it| it.describe());
    let (found, missing) = choose(types.collect(), call.parameter(1), &OBJECT)?;
    faults.extend(missing);
    Ok(Answer::partly(found.into_iter().map(|it| fields.of(it)).collect(), faults))
}

/// What a selector means, and what of it is not there.
type Chosen = (Vec<Map<String, Value>>, Vec<Fault>);

/// Those that a selector means: one of all objects, or names.
fn choose(
    mut all: Vec<Map<String, Value>>,
    selector: &str,
    object: &Object,
) -> Result<Chosen, Fault> {
    let mut faults = Vec::new();
    let is_name = selector != "all" && selector.starts_with(|it: char| it.is_ascii_alphabetic());
    if is_name && !selector.contains(['=', '{', '<', '>']) {
        let names: Vec<&str> = selector.split(',').map(str::trim).collect();
        let missing = names.iter().filter(|name| all.iter().all(|it| it["name"] != **name));
        let fault = |name: &&str| Fault::new(Code::NotFound, format!("there is no {name:?}"));
        faults.extend(missing.map(fault));
        all.retain(|it| names.iter().any(|name| it["name"] == *name));
        return Ok((all, faults));
    }
    match Selector::parse(selector, object)? {
        Selector::All => {}
        Selector::Ids(ids) => {
            let missing = ids.iter().filter(|id| all.iter().all(|it| it["id"] != **id));
            faults.extend(missing.map(|id| Fault::not_found(*id)));
            all.retain(|it| ids.iter().any(|id| it["id"] == *id));
        }
        Selector::Where(mut sieve) => {
            let mut chosen = Vec::new();
            for it in all {
                if sieve.takes(&Value::Object(it.clone()))? {
                    chosen.push(it);
                }
            }
            all = chosen;
        }
    }
    Ok((all, faults))
}
