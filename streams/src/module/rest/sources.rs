//! What streams are linked to: channels and devices, which are another module's. That is asked by
//! REST which there are; where there is no such module, streams believe what is said.

use std::collections::BTreeSet;

use longshore_acl::{Method, Scope};
use longshore_broker::rest::{Call, Code, Fault, Items, Object, Selector};
use serde_json::{Map, Value};

use super::Form;
use crate::module::links::Source;

/// Sources that are to be linked, and why others are not.
pub(super) type Wanted = (Vec<Source>, Vec<Fault>);

/// What the path means of links.
pub(super) enum Meant {
    /// Those that this takes.
    Links(Selector),
    /// Those to these sources.
    Sources(BTreeSet<u64>),
}

/// What selectors here are told apart by: fields are the other module's.
static ANY: Object = Object { name: "Source", fields: &[], is_open: true };

type Kind = fn(u64) -> Source;

/// The part of REST that a source is of, the path of its objects, and its number.
fn place(source: Source) -> (&'static str, &'static str, u64) {
    match source {
        Source::Channel(id) => ("gw/channels", "/gw/channels/{sel}", id),
        Source::Device(id) => ("gw/devices", "/gw/devices/{sel}", id),
    }
}

/// The sources that are to be linked.
pub(super) async fn wanted(call: &Call, form: Form) -> Result<Wanted, Fault> {
    let kind: Kind = match form {
        Form::Channels => Source::Channel,
        Form::Devices => Source::Device,
        Form::Subscriptions => return sent(call).await,
    };
    let selector = call.parameter(1);
    let parsed = Selector::parse(selector, &ANY)?;
    match (known(call, kind, selector).await?, parsed) {
        (known, Selector::Ids(ids)) => {
            let is_there = |id: &u64| known.as_ref().is_none_or(|known| known.contains(id));
            let (there, missing): (Vec<u64>, Vec<u64>) = ids.into_iter().partition(is_there);
            let missing = missing.into_iter().map(Fault::not_found).collect();
            Ok((there.into_iter().map(kind).collect(), missing))
        }
        (Some(known), _) => {
            let mut known: Vec<_> = known.into_iter().map(kind).collect();
            // Of all there are, those are meant that may be linked.
            known.retain(|source| check(call, *source).is_ok());
            Ok((known, Vec::new()))
        }
        (None, _) => Err(Fault::bad_request("name what to link to by number: 1,2,3")),
    }
}

/// Those in the body, in the form of 2018.
async fn sent(call: &Call) -> Result<Wanted, Fault> {
    let read = |(at, object): (usize, &Value)| read(object).map_err(|it| it.at(at));
    let sources: Vec<Source> =
        call.objects()?.iter().enumerate().map(read).collect::<Result<_, _>>()?;
    let missing = missing(call, &sources).await?;
    let (mut there, mut faults) = (Vec::new(), Vec::new());
    for (at, source) in sources.into_iter().enumerate() {
        match missing.contains(&source) {
            true => faults.push(Fault::not_found(place(source).2).at(at)),
            false => there.push(source),
        }
    }
    Ok((there, faults))
}

/// The one in the body, in the form of 2018.
pub(super) async fn one(call: &Call) -> Result<Source, Fault> {
    let source = read(&Value::Object(call.object()?))?;
    match missing(call, &[source]).await?.is_empty() {
        true => Ok(source),
        false => Err(Fault::not_found(place(source).2)),
    }
}

fn read(object: &Value) -> Result<Source, Fault> {
    let number = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value.as_u64().ok_or_else(|| {
            Fault::new(Code::Format, format!("{name} is a whole number from 0 on")).field(name)
        }),
    };
    match (number("channel_id")?, number("device_id")?) {
        (channel, 0) if channel > 0 => Ok(Source::Channel(channel)),
        (0, device) if device > 0 => Ok(Source::Device(device)),
        _ => Err(Fault::new(Code::Format, "give either channel_id or device_id")),
    }
}

/// The links that the path means: by what links have, or by what their sources have.
pub(super) async fn meant(call: &Call, form: Form) -> Result<Meant, Fault> {
    let kind: Kind = match form {
        Form::Channels => Source::Channel,
        Form::Devices => Source::Device,
        Form::Subscriptions => {
            return Selector::parse(call.parameter(1), form.object()).map(Meant::Links);
        }
    };
    let of_links = Selector::parse(call.parameter(1), form.object());
    if of_links.is_ok() || Selector::parse(call.parameter(1), &ANY).is_err() {
        return of_links.map(Meant::Links);
    }
    match known(call, kind, call.parameter(1)).await? {
        Some(known) => Ok(Meant::Sources(known)),
        None => of_links.map(Meant::Links),
    }
}

/// Which of these are not there.
async fn missing(call: &Call, sources: &[Source]) -> Result<BTreeSet<Source>, Fault> {
    let mut missing: BTreeSet<Source> = sources.iter().copied().collect();
    for kind in [Source::Channel as Kind, Source::Device] {
        let of_kind = missing.iter().filter(|it| kind(place(**it).2) == **it);
        let ids: Vec<_> = of_kind.map(|it| place(*it).2.to_string()).collect();
        if ids.is_empty() {
            continue;
        }
        let known = known(call, kind, &ids.join(",")).await?;
        missing.retain(|source| {
            let id = place(*source).2;
            kind(id) != *source || known.as_ref().is_some_and(|known| !known.contains(&id))
        });
    }
    Ok(missing)
}

/// The numbers of those that a selector means, of what the account of the call has; none where no
/// module has such objects.
async fn known(call: &Call, kind: Kind, selector: &str) -> Result<Option<BTreeSet<u64>>, Fault> {
    let path = place(kind(0)).1;
    let answer = match call.ask(call.account, path, vec![selector.to_owned()], Map::new()).await {
        Err(fault) if fault.code == Code::NotFound => return Ok(None),
        answer => answer?,
    };
    match answer.into_parts().0 {
        Items::Made(items) => Ok(Some(items.filter_map(|it| it.get("id")?.as_u64()).collect())),
        _ => Err(Fault::new(Code::Internal, "objects are listed as they are at hand")),
    }
}

/// Whether whoever calls may read the messages of a source: a stream gets no more than that.
pub(super) fn check(call: &Call, source: Source) -> Result<(), Fault> {
    let (uri, _, id) = place(source);
    let is_open = match call.caller()?.rights.scope(Method::Get, uri, Some("messages")) {
        Scope::All => true,
        Scope::Listed(ids) => ids.binary_search(&id).is_ok(),
        Scope::None => false,
    };
    let reason = || format!("the token does not open GET messages of {uri}");
    if is_open { Ok(()) } else { Err(Fault::new(Code::Forbidden, reason()).about(id)) }
}
