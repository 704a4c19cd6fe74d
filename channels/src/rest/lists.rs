//! What the hub speaks and says: protocols and parameters (R1.11, R3.20), by their older paths, too
//! (R0.5).

use longshore_acl::Method;
use longshore_broker::rest::{
    Answer, Call, Field, Gate, Handler, Kind, Object, Outcome, Route, Selector, Takes,
};
use serde_json::Value;

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
    let (found, faults) =
        Selector::pick(call.parameter(0), &PROTOCOL, PROTOCOLS.map(Protocol::describe))?;
    Ok(Answer::partly(found.into_iter().map(|it| fields.of(it)).collect(), faults))
}

fn commands(call: &Call) -> Outcome {
    let (found, faults) =
        Selector::pick(call.parameter(0), &PROTOCOL, PROTOCOLS.map(Protocol::describe))?;
    let (fields, wanted) = (call.fields()?, call.parameter(1));
    let commands = found.iter().filter_map(|it| it["commands"].as_array()).flatten();
    let is_wanted = |it: &&Value| {
        wanted == "all"
            || wanted.split(',').any(|name| it["name"] == name.trim_start_matches("name="))
    };
    let commands = commands.filter(is_wanted).filter_map(Value::as_object).cloned();
    Ok(Answer::partly(commands.map(|it| fields.of(it)).collect(), faults))
}

fn parameters(call: &Call) -> Outcome {
    let fields = call.fields()?;
    let all = PARAMETERS.iter().map(|it| it.describe());
    let (found, faults) = Selector::pick(call.parameter(0), &PARAMETER, all)?;
    Ok(Answer::partly(found.into_iter().map(|it| fields.of(it)).collect(), faults))
}
