//! What REST has of streams beside what all objects have: links, subscriptions, messages and the
//! protocols there are.

use std::sync::Arc;
use std::time::Duration;

use longshore_acl::{Method, TopicGrant};
use longshore_broker::module::{Item, Paths};
use longshore_broker::rest::{
    Answer, Call, Code, Fault, Field, Gate, Handler, Kind, NUMBER, Object, Outcome, Route,
    Selector, Takes,
};
use longshore_storage::TablesError;
use serde_json::{Map, Value, json};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::sources::{Meant, Wanted};
use super::deed::Deed;
use super::links::{LINKS_MAX, Link, Source, Step};
use super::stream::{BLOCKED_BY_STORAGE, Stream};
use super::{Streams, now};
use crate::{ENTRY_BYTES_MAX, Protocol, QueueError};

mod packets;
mod sources;

/// Links that one request makes or changes.
const CHANGES_MAX: usize = 10_000;
/// How long a link may wait for the broker to hear its messages.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);

static PROTOCOL: Object = Object {
    name: "StreamProtocol",
    fields: &[
        Field::new("id", Kind::Whole, "Its number: `protocol_id` of streams"),
        Field::new("name", Kind::Text, "Its name: `configuration.protocol` of streams"),
        Field::new("title", Kind::Text, "Its name for people"),
        Field::new("description", Kind::Text, "What it does"),
        Field::new("configuration", Kind::Object, "JSON schema of the configuration of streams"),
    ],
    is_open: false,
};

static SUBSCRIPTION: Object = Object {
    name: "StreamSubscription",
    fields: &[
        Field::new("id", Kind::Whole, "Its number"),
        Field::new("stream_id", Kind::Whole, "The stream that gets messages"),
        Field::new("channel_id", Kind::Whole, "The channel they are of; 0 for a device").set(),
        Field::new("device_id", Kind::Whole, "The device they are of; 0 for a channel").set(),
    ],
    is_open: false,
};

static CHANNEL_LINK: Object = Object {
    name: "StreamChannel",
    fields: &[
        Field::new("stream_id", Kind::Whole, "The stream that gets messages"),
        Field::new("channel_id", Kind::Whole, "The channel they are of"),
    ],
    is_open: false,
};

static DEVICE_LINK: Object = Object {
    name: "StreamDevice",
    fields: &[
        Field::new("stream_id", Kind::Whole, "The stream that gets messages"),
        Field::new("device_id", Kind::Whole, "The device they are of"),
    ],
    is_open: false,
};

static INJECTED: Object = Object {
    name: "StreamMessages",
    fields: &[
        Field::new("id", Kind::Whole, "The number of the stream"),
        Field::new("messages", Kind::Whole, "Messages that are in its queue now"),
    ],
    is_open: false,
};

static MESSAGE: Object = Object { name: "StreamMessage", fields: &[], is_open: true };

/// How links are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Channels,
    Devices,
    Subscriptions,
}

impl Form {
    fn object(self) -> &'static Object {
        match self {
            Self::Channels => &CHANNEL_LINK,
            Self::Devices => &DEVICE_LINK,
            Self::Subscriptions => &SUBSCRIPTION,
        }
    }

    fn has(self, source: Source) -> bool {
        match self {
            Self::Channels => matches!(source, Source::Channel(_)),
            Self::Devices => matches!(source, Source::Device(_)),
            Self::Subscriptions => true,
        }
    }

    /// The number by which the path means a link.
    fn number(self, link: &Link) -> u64 {
        match (self, link.source) {
            (Self::Subscriptions, _) => link.id,
            (_, Source::Channel(number) | Source::Device(number)) => number,
        }
    }

    fn show(self, link: &Link) -> Map<String, Value> {
        let shown = match (self, link.source) {
            (Self::Channels | Self::Devices, Source::Channel(number)) => {
                json!({"stream_id": link.stream, "channel_id": number})
            }
            (Self::Channels | Self::Devices, Source::Device(number)) => {
                json!({"stream_id": link.stream, "device_id": number})
            }
            (Self::Subscriptions, source) => {
                let (channel, device) = match source {
                    Source::Channel(number) => (number, 0),
                    Source::Device(number) => (0, number),
                };
                json!({"id": link.id, "stream_id": link.stream, "channel_id": channel,
                    "device_id": device})
            }
        };
        match shown {
            Value::Object(shown) => shown,
            _ => Map::new(),
        }
    }
}

/// Who may read what is said of streams by messages.
pub(super) fn grants() -> Vec<TopicGrant> {
    let grant = |filter: &str, submodule: Option<&str>| TopicGrant {
        filter: filter.to_owned(),
        uri: Stream::URI.to_owned(),
        submodule: submodule.map(str::to_owned),
        method: Method::Get,
    };
    vec![
        grant("flespi/state/gw/streams/{id}", None),
        grant("flespi/state/gw/streams/{id}/#", None),
        grant("flespi/log/gw/streams/{id}/#", Some("logs")),
    ]
}

pub(super) fn routes(streams: &Arc<Streams>) -> Vec<Route> {
    let modern =
        Paths { all: "/gw/streams", some: "/gw/streams/{sel}", logs: "/gw/streams/{sel}/logs" };
    let of_2018 = Paths {
        all: "/registry/streams",
        some: "/registry/streams/{sel}",
        logs: "/registry/streams/{sel}/logs",
    };
    let mut routes = streams.objects.routes(modern);
    routes.extend(streams.objects.routes(of_2018));
    let forms = [
        (Form::Channels, "/gw/streams/{sel}/channels/{channels}"),
        (Form::Devices, "/gw/streams/{sel}/devices/{devices}"),
        (Form::Channels, "/registry/streams/{sel}/channels/{channels}"),
        (Form::Devices, "/registry/streams/{sel}/devices/{devices}"),
    ];
    for (form, path) in forms {
        routes.push(making(streams, Method::Post, path, form));
        routes.push(making(streams, Method::Put, path, form));
        routes.push(reading(streams, path, form));
        routes.push(removing(streams, path, form));
    }
    let subscriptions = [
        ("/gw/streams/{sel}/subscriptions", "/gw/streams/{sel}/subscriptions/{subscriptions}"),
        (
            "/registry/streams/{sel}/subscriptions",
            "/registry/streams/{sel}/subscriptions/{subscriptions}",
        ),
    ];
    for (all, some) in subscriptions {
        routes.push(making(streams, Method::Post, all, Form::Subscriptions));
        routes.push(changing(streams, some));
        routes.push(reading(streams, some, Form::Subscriptions));
        routes.push(removing(streams, some, Form::Subscriptions));
    }
    for path in ["/gw/streams/{sel}/messages", "/registry/streams/{sel}/messages"] {
        routes.extend(messages(streams, path));
    }
    for path in ["/gw/streams/{sel}/packets", "/registry/streams/{sel}/packets"] {
        routes.push(packets::reading(streams, path));
    }
    for path in ["/gw/stream-protocols/{sel}", "/registry/stream-protocols/{sel}"] {
        routes.push(Route {
            method: Method::Get,
            path,
            about: "Read which protocols streams have",
            gate: Gate::Token,
            takes: Takes::Nothing,
            gives: Some(&PROTOCOL),
            handler: Handler::blocking(protocols),
        });
    }
    routes.extend([Route::document("/gw/api.json"), Route::document("/registry/api.json")]);
    routes
}

fn gate(form: Form) -> Gate {
    Gate::Sub(
        Stream::URI,
        match form {
            Form::Channels => "channels",
            Form::Devices => "devices",
            Form::Subscriptions => "subscriptions",
        },
    )
}

fn making(streams: &Arc<Streams>, method: Method, path: &'static str, form: Form) -> Route {
    let streams = Arc::clone(streams);
    let takes = match form {
        Form::Subscriptions => Takes::Many(&SUBSCRIPTION),
        _ => Takes::Nothing,
    };
    Route {
        method,
        path,
        about: "Link streams to sources; what is linked already stays so",
        gate: gate(form),
        takes,
        gives: Some(form.object()),
        handler: Handler::waiting(move |call| {
            let streams = Arc::clone(&streams);
            Box::pin(async move {
                streams.listen().await?;
                let sources = sources::wanted(&call, form).await?;
                blocking(move || make(&streams, &call, form, sources)).await
            })
        }),
    }
}

fn changing(streams: &Arc<Streams>, path: &'static str) -> Route {
    let streams = Arc::clone(streams);
    Route {
        method: Method::Put,
        path,
        about: "Give subscriptions another source",
        gate: gate(Form::Subscriptions),
        takes: Takes::One(&SUBSCRIPTION),
        gives: Some(&SUBSCRIPTION),
        handler: Handler::waiting(move |call| {
            let streams = Arc::clone(&streams);
            Box::pin(async move {
                let source = sources::one(&call).await?;
                blocking(move || change(&streams, &call, source)).await
            })
        }),
    }
}

fn reading(streams: &Arc<Streams>, path: &'static str, form: Form) -> Route {
    Route {
        method: Method::Get,
        path,
        about: "Read what streams are linked to",
        gate: gate(form),
        takes: Takes::Nothing,
        gives: Some(form.object()),
        handler: of_links(streams, form, false, |_, _, links| Ok(links)),
    }
}

/// Subscriptions have numbers to answer with, as 2018 (R2.19); the links of today have none.
fn removing(streams: &Arc<Streams>, path: &'static str, form: Form) -> Route {
    let is_numbered = form == Form::Subscriptions;
    Route {
        method: Method::Delete,
        path,
        about: "Unlink streams",
        gate: gate(form),
        takes: Takes::Nothing,
        gives: Some(if is_numbered { &NUMBER } else { form.object() }),
        handler: of_links(streams, form, is_numbered, |streams, call, links| {
            let steps = streams.links.remove(&links).map_err(unkept)?;
            streams.tell_links(&steps, call);
            Ok(steps.into_iter().filter_map(|(before, _)| before).collect())
        }),
    }
}

/// What is done with links that a call means; those that it gives are shown, or their numbers.
type OnLinks = fn(&Streams, &Call, Vec<Link>) -> Result<Vec<Link>, Fault>;

fn of_links(streams: &Arc<Streams>, form: Form, is_numbered: bool, work: OnLinks) -> Handler {
    let streams = Arc::clone(streams);
    Handler::waiting(move |call| {
        let streams = Arc::clone(&streams);
        Box::pin(async move {
            let meant = sources::meant(&call, form).await?;
            blocking(move || {
                let fields = if is_numbered { None } else { Some(call.fields()?) };
                let (links, faults) = chosen(&streams, &call, form, meant)?;
                let links = work(&streams, &call, links)?;
                let shown = links.iter().map(|link| match &fields {
                    Some(fields) => fields.of(form.show(link)),
                    None => link.id.into(),
                });
                Ok(Answer::partly(shown.collect(), faults))
            })
            .await
        })
    })
}

fn messages(streams: &Arc<Streams>, path: &'static str) -> [Route; 2] {
    let (adding, purging) = (Arc::clone(streams), Arc::clone(streams));
    let gate = Gate::Sub(Stream::URI, "messages");
    let post = Route {
        method: Method::Post,
        path,
        about: "Put messages in the queues of streams",
        gate,
        takes: Takes::Many(&MESSAGE),
        gives: Some(&INJECTED),
        handler: Handler::waiting(move |call| {
            let streams = Arc::clone(&adding);
            Box::pin(async move { inject(&streams, &call).await })
        }),
    };
    let delete = Route {
        method: Method::Delete,
        path,
        about: "Take all messages out of the queues of streams",
        gate,
        takes: Takes::Nothing,
        gives: Some(&INJECTED),
        handler: Handler::waiting(move |call| {
            let streams = Arc::clone(&purging);
            Box::pin(async move { purge(&streams, &call).await })
        }),
    };
    [post, delete]
}

fn protocols(call: &Call) -> Outcome {
    let fields = call.fields()?;
    let mut selector = Selector::parse(call.parameter(0), &PROTOCOL)?;
    let mut shown = Vec::new();
    for protocol in Protocol::ALL {
        let object = protocol.describe();
        let is_meant = match &mut selector {
            Selector::All => true,
            Selector::Ids(ids) => ids.contains(&protocol.id()),
            Selector::Where(sieve) => sieve.takes(&object)?,
        };
        if let (true, Value::Object(object)) = (is_meant, object) {
            shown.push(fields.of(object));
        }
    }
    let faults = match selector {
        Selector::Ids(ids) => {
            let is_known = |id: &u64| Protocol::ALL.iter().any(|it| it.id() == *id);
            ids.into_iter().filter(|id| !is_known(id)).map(Fault::not_found).collect()
        }
        _ => Vec::new(),
    };
    Ok(Answer::partly(shown, faults))
}

/// Links of the streams that the path means, of those that it means.
fn chosen(
    streams: &Streams,
    call: &Call,
    form: Form,
    mut selector: Meant,
) -> Result<(Vec<Link>, Vec<Fault>), Fault> {
    let (found, mut faults) = streams.objects.choose(call)?;
    let index = streams.links.read();
    let all = found.iter().flat_map(|stream| index.of(stream.head().id));
    let all: Vec<Link> = all.filter(|link| form.has(link.source)).collect();
    drop(index);
    let mut links = Vec::new();
    for link in &all {
        let is_meant = match &mut selector {
            Meant::Links(Selector::All) => true,
            Meant::Links(Selector::Ids(ids)) => ids.contains(&form.number(link)),
            Meant::Links(Selector::Where(sieve)) => sieve.takes(&Value::Object(form.show(link)))?,
            Meant::Sources(numbers) => numbers.contains(&form.number(link)),
        };
        if is_meant {
            links.push(*link);
        }
    }
    if let Meant::Links(Selector::Ids(ids)) = selector {
        let is_known = |id: &u64| links.iter().any(|link| form.number(link) == *id);
        faults.extend(ids.into_iter().filter(|id| !is_known(id)).map(Fault::not_found));
    }
    Ok((links, faults))
}

fn make(streams: &Streams, call: &Call, form: Form, (sources, missing): Wanted) -> Outcome {
    let fields = call.fields()?;
    let (found, mut faults) = streams.objects.choose(call)?;
    faults.extend(missing);
    if found.len().saturating_mul(sources.len()) > CHANGES_MAX {
        let reason = format!("more than {CHANGES_MAX} links at once");
        return Err(Fault::new(Code::TooLarge, reason));
    }
    let mut pairs = Vec::new();
    for source in sources {
        match sources::check(call, source) {
            Ok(()) => pairs.extend(found.iter().map(|stream| (stream.head().id, source))),
            Err(fault) => faults.push(fault),
        }
    }
    let steps = streams.links.make(&pairs).map_err(unkept)?;
    let mut shown = Vec::new();
    for ((stream, _), step) in pairs.iter().zip(&steps) {
        match step {
            Some((_, Some(link))) => shown.push(fields.of(form.show(link))),
            _ => {
                let reason = format!("a stream has at most {LINKS_MAX} links");
                faults.push(Fault::new(Code::Quota, reason).about(*stream));
            }
        }
    }
    let made: Vec<Step> = steps.into_iter().flatten().collect();
    streams.tell_links(&made, call);
    Ok(Answer::partly(shown, faults))
}

fn change(streams: &Streams, call: &Call, source: Source) -> Outcome {
    let (fields, form) = (call.fields()?, Form::Subscriptions);
    sources::check(call, source)?;
    let selector = Selector::parse(call.parameter(1), form.object())?;
    let (links, mut faults) = chosen(streams, call, form, Meant::Links(selector))?;
    let ids: Vec<u64> = links.iter().map(|link| link.id).collect();
    let steps = streams.links.update(&ids, source).map_err(unkept)?;
    let mut shown = Vec::new();
    for (before, after) in &steps {
        match (before, after) {
            (_, Some(after)) => shown.push(fields.of(form.show(after))),
            (before, None) => {
                let reason = "the stream is linked to that already, so this one is removed";
                let fault = Fault::new(Code::BadRequest, reason);
                faults.push(fault.about(before.map_or(0, |link| link.id)));
            }
        }
    }
    streams.tell_links(&steps, call);
    Ok(Answer::partly(shown, faults))
}

async fn inject(streams: &Streams, call: &Call) -> Outcome {
    let fields = call.fields()?;
    let messages = call.objects()?;
    for (at, message) in messages.iter().enumerate() {
        if !message.is_object() {
            return Err(Fault::new(Code::Format, "a message is an object").at(at));
        }
    }
    let texts: Vec<String> = messages.iter().map(Value::to_string).collect();
    if let Some(at) = texts.iter().position(|text| text.len() > ENTRY_BYTES_MAX) {
        let reason = format!("a message has up to {ENTRY_BYTES_MAX} bytes");
        return Err(Fault::new(Code::TooLarge, reason).at(at));
    }
    let slices: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    let (found, mut faults) = streams.objects.choose(call)?;
    let mut queues = Vec::new();
    for stream in found {
        if stream.running().is_some() {
            queues.push((streams.queue(&stream).map_err(unqueued)?, stream));
        } else {
            let reason = "the stream is not enabled, is invalid, or its queue_ttl is 0";
            faults.push(Fault::bad_request(reason).about(stream.head().id));
        }
    }
    let pairs: Vec<_> = queues.iter().map(|(queue, _)| (queue, &slices[..])).collect();
    let appended = streams.queues.append(&pairs, now()).await.map_err(unqueued)?;
    let mut shown = Vec::new();
    for ((_, stream), appended) in queues.iter().zip(appended) {
        let id = stream.head().id;
        if appended.has_blocked {
            streams.tell_blocked(stream, BLOCKED_BY_STORAGE);
        }
        if appended.refused > 0 {
            let reason = format!("the queue is full: {} messages are not in it", appended.refused);
            faults.push(Fault::new(Code::Quota, reason).about(id));
        }
        if let Value::Object(object) = json!({"id": id, "messages": appended.taken}) {
            shown.push(fields.of(object));
        }
    }
    Ok(Answer::partly(shown, faults))
}

async fn purge(streams: &Streams, call: &Call) -> Outcome {
    let fields = call.fields()?;
    let (found, faults) = streams.objects.choose(call)?;
    let mut shown = Vec::new();
    for stream in found {
        let queue = streams.queue(&stream).map_err(unqueued)?;
        queue.clear().await.map_err(unqueued)?;
        let left = queue.status().messages;
        if let Value::Object(object) = json!({"id": stream.head().id, "messages": left}) {
            shown.push(fields.of(object));
        }
    }
    Ok(Answer::partly(shown, faults))
}

impl Streams {
    /// Waits until what links are made for is heard.
    async fn listen(&self) -> Result<(), Fault> {
        let mut listens = self.listens.subscribe();
        self.wanted.notify_one();
        let heard = timeout(LISTEN_TIMEOUT, listens.wait_for(|listens| *listens)).await;
        let fault = || Fault::new(Code::Unavailable, "streams hear nothing now; try again later");
        heard.map_or_else(|_| Err(fault()), |heard| heard.map(drop).map_err(|_| fault()))
    }

    /// Says in the logs of streams what has become of their links (R8.7).
    fn tell_links(&self, steps: &[Step], call: &Call) {
        for (before, after) in steps.iter().filter(|(before, after)| before != after) {
            let deed = match (before, after) {
                (None, _) => Deed::Linked,
                (_, Some(_)) => Deed::Relinked,
                (_, None) => Deed::Unlinked,
            };
            let Some(link) = after.or(*before) else { continue };
            let Some(stream) = self.objects.get(link.stream) else { continue };
            let mut fields = Form::Subscriptions.show(&link);
            fields.remove("stream_id");
            fields.remove("id");
            fields.insert("subscription_id".to_owned(), link.id.into());
            if let Some(caller) = &call.caller {
                fields.insert("token_id".to_owned(), caller.token.id.into());
            }
            let of = format!("subscriptions/{}/", link.id);
            self.tell_of(stream.head(), &of, deed, fields);
        }
    }
}

async fn blocking(work: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    let failed = |_| Err(Fault::new(Code::Internal, "it failed"));
    spawn_blocking(work).await.unwrap_or_else(failed)
}

fn unkept(error: TablesError) -> Fault {
    Fault::new(Code::Unavailable, format!("it cannot be kept: {error}"))
}

fn unqueued(error: QueueError) -> Fault {
    Fault::new(Code::Unavailable, error.to_string())
}
