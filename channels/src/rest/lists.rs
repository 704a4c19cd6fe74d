//! What the hub speaks and says: protocols and parameters (R1.11, R3.20), by their older paths, too
//! (R0.5).

use longshore_acl::Method;
use longshore_broker::rest::{
    Answer, Call, Code, Fault, Field, Gate, Handler, Kind, Object, Outcome, Route, Selector, Takes,
};
use serde_json::{Map, Value};

use crate::parameter::PARAMETERS;
use crate::protocol::{PROTOCOLS, Protocol};

static PROTOCOL: Object = Object {
    name: "ChannelProtocol",
    fields: &[
        Field::new("id", Kind::Whole, "Its number"),
        Field::new("name", Kind::Text, "Its name"),
        Field::new("title", Kind::Text, "Its name for people"),
        Field::new("description", Kind::Text, "What it is"),
        Field::new("features", Kind::Object, "How devices reach it, and what it can do"),
        Field::new("commands", Kind::List, "What devices can be told"),
        Field::new("message_parameters", Kind::List, "What messages say"),
        Field::new("configuration", Kind::Object, "JSON schema of what a channel is told"),
    ],
    is_open: false,
};

static PARAMETER: Object = Object {
    name: "MessageParameter",
    fields: &[
        Field::new("id", Kind::Whole, "Its number"),
        Field::new("name", Kind::Text, "Its name"),
        Field::new("info", Kind::Text, "What it says"),
        Field::new("unit", Kind::Text, "Its unit"),
        Field::new("type", Kind::Text, "number, string or boolean"),
    ],
    is_open: false,
};

static COMMAND: Object = Object {
    name: "Command",
    fields: &[Field::new("name", Kind::Text, "Its name")],
    is_open: true,
};

pub(super) fn routes() -> Vec<Route> {
    let route = |path, about, gives: &'static Object, work: fn(&Call) -> Outcome| Route {
        method: Method::Get,
        path,
        about,
        gate: Gate::Token,
        takes: Takes::Nothing,
        gives: Some(gives),
        handler: Handler::Blocking(work),
    };
    let mut routes = Vec::new();
    for path in ["/gw/channel-protocols/{sel}", "/gw/protocols/{sel}"] {
        routes.push(route(path, "Read the protocols that channels have", &PROTOCOL, protocols));
    }
    let path = "/gw/protocols/{sel}/commands/{commands}";
    routes.push(route(path, "Read what devices can be told", &COMMAND, commands));
    let path = "/gw/message-parameters/{sel}";
    routes.push(route(path, "Read the standard parameters", &PARAMETER, parameters));
    routes
}

fn protocols(call: &Call) -> Outcome {
    let fields = call.fields()?;
    let (found, faults) = choose(PROTOCOLS.map(Protocol::describe), call.parameter(0), &PROTOCOL)?;
    Ok(Answer::partly(found.into_iter().map(|it| fields.of(it)).collect(), faults))
}

fn commands(call: &Call) -> Outcome {
    let (found, faults) = choose(PROTOCOLS.map(Protocol::describe), call.parameter(0), &PROTOCOL)?;
    let wanted = call.parameter(1);
    let commands = found.iter().filter_map(|it| it["commands"].as_array()).flatten();
    let is_wanted = |it: &&Value| {
        wanted == "all"
            || wanted.split(',').any(|name| it["name"] == name.trim_start_matches("name="))
    };
    Ok(Answer::partly(commands.filter(is_wanted).cloned().collect(), faults))
}

fn parameters(call: &Call) -> Outcome {
    let fields = call.fields()?;
    let all = PARAMETERS.iter().map(|it| it.describe());
    let (found, faults) = choose(all, call.parameter(0), &PARAMETER)?;
    Ok(Answer::partly(found.into_iter().map(|it| fields.of(it)).collect(), faults))
}

/// What a selector means, and what of it is not there.
type Chosen = (Vec<Map<String, Value>>, Vec<Fault>);

/// Those that a selector means: one of all objects, or names.
fn choose(
    all: impl IntoIterator<Item = Value>,
    selector: &str,
    object: &Object,
) -> Result<Chosen, Fault> {
    let all = all.into_iter().filter_map(|it| match it {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    let mut all: Vec<_> = all.collect();
    let is_name = selector != "all" && selector.starts_with(|it: char| it.is_ascii_alphabetic());
    if is_name && !selector.contains(['=', '{']) {
        let names: Vec<&str> = selector.split(',').map(str::trim).collect();
        let named = |name: &str| all.iter().find(|it| it["name"] == name).cloned();
        let missing = names.iter().filter(|name| named(name).is_none());
        let fault = |name: &&str| Fault::new(Code::NotFound, format!("there is no {name:?}"));
        let faults = missing.map(fault).collect();
        return Ok((names.iter().filter_map(|name| named(name)).collect(), faults));
    }
    let mut faults = Vec::new();
    match Selector::parse(selector, object)? {
        Selector::All => {}
        Selector::Ids(ids) => {
            let has = |it: &Map<String, Value>, id: u64| it["id"].as_u64() == Some(id);
            let missing = ids.iter().filter(|id| all.iter().all(|it| !has(it, **id)));
            faults.extend(missing.map(|id| Fault::not_found(*id)));
            all.retain(|it| ids.iter().any(|id| has(it, *id)));
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
