//! The routes of devices, under `/gw/devices` and, for clients of 2017, `/registry/devices`
//! (R0.2).

use std::sync::Arc;

use longshore_acl::Method;
use longshore_broker::module::Paths;
use longshore_broker::rest::{
    Answer, Answering, Call, Code, Fault, Field, Fields, Gate, Handler, Items, Kind, NUMBER,
    Object, Outcome, Route, Takes, Written,
};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::{spawn_blocking, spawn_local};

use crate::Registry;
use crate::device::{Device, URI};
use crate::reading::{MESSAGE, READING, separate};
use crate::{command, settings};

mod commands;
mod connections;
mod messages;
mod packets;
mod shadow;
mod types;

/// Pieces of JSON that wait until they are read.
const WAITING: usize = 2;
/// Bytes after which a piece ends.
const PIECE_BYTES: usize = 64 << 10;

/// What comes next as JSON, parted by commas; none at the end. It may wait for the disk.
type Pieces = Box<dyn FnMut() -> Result<Option<String>, Fault> + Send>;

/// Says what is to be read of these devices.
type Begin<B> = fn(&Arc<Registry>, &Call, Vec<Arc<Device>>) -> Result<B, Fault>;

/// What is to be read of devices.
struct Begun {
    pieces: Pieces,
    /// What was named and is not there.
    missing: Vec<Fault>,
    /// Whether nothing is there of what was named.
    is_none: bool,
}

impl From<Pieces> for Begun {
    fn from(pieces: Pieces) -> Self {
        Self { pieces, missing: Vec::new(), is_none: false }
    }
}

/// A path, and its alias.
macro_rules! both {
    ($rest:literal) => {
        [concat!("/gw/devices", $rest), concat!("/registry/devices", $rest)]
    };
}

static TELEMETRY: Object = Object {
    name: "DeviceTelemetry",
    fields: &[
        Field::new("id", Kind::Whole, "The device"),
        Field::new("telemetry", Kind::Object, "ts and value of each parameter"),
    ],
    is_open: false,
};

/// A route of a submodule, at its path and the alias of that.
struct Part {
    method: Method,
    paths: [&'static str; 2],
    submodule: &'static str,
    about: &'static str,
    takes: Takes,
    gives: &'static Object,
    handler: Handler,
}

/// All routes.
pub(crate) fn routes(registry: &Arc<Registry>) -> Vec<Route> {
    let mut routes = Vec::new();
    let of_objects = both!("").into_iter().zip(both!("/{sel}")).zip(both!("/{sel}/logs"));
    for ((all, some), logs) in of_objects {
        routes.extend(registry.objects.routes(Paths { all, some, logs }));
    }
    let parts = messages(registry).into_iter().chain(orders(registry)).chain(shadows(registry));
    routes.extend(parts.flat_map(|part| {
        let Part { method, paths, submodule, about, takes, gives, handler } = part;
        paths.map(|path| Route {
            method,
            path,
            about,
            gate: Gate::Sub(URI, submodule),
            takes,
            gives: Some(gives),
            handler: handler.clone(),
        })
    }));
    routes.extend(types::routes());
    routes.extend(["/gw/api.json", "/registry/api.json"].map(Route::document));
    routes
}

/// What devices have said.
fn messages(registry: &Arc<Registry>) -> Vec<Part> {
    let (data, gives) = (Takes::Data(&READING), &MESSAGE);
    let paths = both!("/{sel}/messages");
    vec![
        Part {
            method: Method::Get,
            paths,
            submodule: "messages",
            about: "Read what devices have said",
            takes: data,
            gives,
            handler: streamed(registry, messages::read),
        },
        Part {
            method: Method::Post,
            paths,
            submodule: "messages",
            about: "Have devices say something",
            takes: Takes::Many(&MESSAGE),
            gives,
            handler: waiting(registry, messages::post),
        },
        Part {
            method: Method::Delete,
            paths,
            submodule: "messages",
            about: "Remove what devices have said",
            takes: data,
            gives: &NUMBER,
            handler: waiting(registry, messages::remove),
        },
        telemetry(Method::Get, both!("/{sel}/telemetry"), streamed(registry, messages::telemetry)),
        telemetry(
            Method::Get,
            both!("/{sel}/telemetry/{parameters}"),
            streamed(registry, messages::telemetry),
        ),
        telemetry(
            Method::Delete,
            both!("/{sel}/telemetry/{parameters}"),
            waiting(registry, messages::forget),
        ),
    ]
}

fn telemetry(method: Method, paths: [&'static str; 2], handler: Handler) -> Part {
    let (about, gives) = match method {
        Method::Delete => ("Forget parameters of devices", &NUMBER),
        _ => ("Read the latest of each parameter of devices", &TELEMETRY),
    };
    let (submodule, takes) = ("telemetry", Takes::Nothing);
    Part { method, paths, submodule, about, takes, gives, handler }
}

/// Commands.
fn orders(registry: &Arc<Registry>) -> Vec<Part> {
    let part = |method, paths, submodule, about, takes, handler| Part {
        method,
        paths,
        submodule,
        about,
        takes,
        gives: &command::OBJECT,
        handler,
    };
    let (nothing, many) = (Takes::Nothing, Takes::Many(&command::OBJECT));
    let (now, queue, result) = ("commands", "commands-queue", "commands-result");
    vec![
        part(
            Method::Post,
            both!("/{sel}/commands"),
            now,
            "Tell devices something and wait for what they say",
            many,
            waiting(registry, commands::ask),
        ),
        part(
            Method::Post,
            both!("/{sel}/commands-queue"),
            queue,
            "Tell devices something once they are connected",
            many,
            waiting(registry, commands::enqueue),
        ),
        part(
            Method::Get,
            both!("/{sel}/commands-queue/{commands}"),
            queue,
            "Read commands that wait for devices",
            nothing,
            streamed(registry, commands::queue),
        ),
        Part {
            method: Method::Delete,
            paths: both!("/{sel}/commands-queue/{commands}"),
            submodule: queue,
            about: "Cancel commands that wait for devices",
            takes: nothing,
            gives: &NUMBER,
            handler: waiting(registry, commands::cancel),
        },
        part(
            Method::Get,
            both!("/{sel}/commands-result"),
            result,
            "Read what came of commands",
            Takes::Data(&commands::RESULT_READING),
            streamed(registry, commands::results),
        ),
        part(
            Method::Get,
            both!("/{sel}/commands-result/{commands}"),
            result,
            "Read what came of commands",
            Takes::Data(&commands::RESULT_READING),
            streamed(registry, commands::results),
        ),
    ]
}

/// Settings and connections.
fn shadows(registry: &Arc<Registry>) -> Vec<Part> {
    let part = |method, about, takes, handler| Part {
        method,
        paths: both!("/{sel}/settings/{settings}"),
        submodule: "settings",
        about,
        takes,
        gives: &settings::OBJECT,
        handler,
    };
    let get = Method::Get;
    let of_connections = |method, about, gives, handler| Part {
        method,
        paths: both!("/{sel}/connections/{connections}"),
        submodule: "connections",
        about,
        takes: Takes::Nothing,
        gives,
        handler,
    };
    let packets = Part {
        method: get,
        paths: both!("/{sel}/packets"),
        submodule: "packets",
        about: "Read raw traffic, as long as channels keep it",
        takes: Takes::Data(&packets::READING),
        gives: &packets::PACKET,
        handler: waiting(registry, packets::read),
    };
    vec![
        packets,
        part(get, "Read settings", Takes::Nothing, streamed(registry, shadow::read)),
        part(
            Method::Put,
            "Set something",
            Takes::One(&settings::OBJECT),
            waiting(registry, shadow::put),
        ),
        part(
            Method::Delete,
            "Ask the device for its value anew, or take back what waits for it",
            Takes::Data(&shadow::DELETING),
            waiting(registry, shadow::delete),
        ),
        of_connections(
            get,
            "Read how they are connected",
            &connections::CONNECTION,
            streamed(registry, connections::read),
        ),
        of_connections(
            Method::Delete,
            "Close connections",
            &NUMBER,
            waiting(registry, connections::end),
        ),
    ]
}

/// Does something on a thread that may wait for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    match spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Fault::new(Code::Unavailable, "the broker stops")),
    }
}

fn unreadable(cause: &longshore_storage::TablesError) -> Fault {
    Fault::new(Code::Unavailable, format!("it cannot be read: {cause}"))
}

fn unkept(cause: &longshore_storage::TablesError) -> Fault {
    Fault::new(Code::Unavailable, format!("it cannot be kept: {cause}"))
}

/// A handler with the registry.
fn waiting<F: Future<Output = Outcome> + 'static>(
    registry: &Arc<Registry>,
    work: fn(Arc<Registry>, Call) -> F,
) -> Handler {
    let registry = Arc::clone(registry);
    Handler::waiting(move |call| -> Answering { Box::pin(work(Arc::clone(&registry), call)) })
}

/// A handler that answers piece by piece: `begin` says what is to be read of the devices that the
/// call means. Nothing is held, and no thread, while a client does not read.
fn streamed<B: Into<Begun> + 'static>(registry: &Arc<Registry>, begin: Begin<B>) -> Handler {
    let registry = Arc::clone(registry);
    Handler::waiting(move |call| -> Answering {
        let registry = Arc::clone(&registry);
        Box::pin(async move {
            let work = move || {
                let (found, mut faults) = registry.objects.choose(&call)?;
                let is_none = found.is_empty();
                let begun: Begun = begin(&registry, &call, found)?.into();
                faults.extend(begun.missing);
                Ok::<_, Fault>((begun.pieces, is_none || begun.is_none, faults))
            };
            let (pieces, is_none, faults) = blocking(work).await??;
            if is_none && !faults.is_empty() {
                return Ok(Answer::partly(Vec::new(), faults));
            }
            let (to, from) = mpsc::channel(WAITING);
            spawn_local(send_all(pieces, to));
            Ok(Answer::objects(Items::Written(from)).with_faults(faults))
        })
    })
}

async fn send_all(mut pieces: Pieces, to: mpsc::Sender<Result<Written, Fault>>) {
    while !to.is_closed() {
        let next;
        (next, pieces) = match blocking(move || (pieces(), pieces)).await {
            Ok(next) => next,
            Err(_) => return,
        };
        let is_over = next.is_err();
        let Some(piece) = next.transpose() else { return };
        if piece.as_ref().is_ok_and(String::is_empty) {
            continue;
        }
        // Whoever asked may have gone.
        let piece = piece.map(|it| Written::Objects(it.into()));
        if to.send(piece).await.is_err() || is_over {
            return;
        }
    }
}

/// What `write` writes of each of these, many of them in one piece.
fn each<T: Send + 'static>(
    items: Vec<T>,
    mut write: impl FnMut(T, &mut String) -> Result<(), Fault> + Send + 'static,
) -> Pieces {
    let mut items = items.into_iter();
    Box::new(move || {
        let mut piece = String::new();
        while piece.len() < PIECE_BYTES {
            let Some(item) = items.next() else {
                return Ok(Some(piece).filter(|piece| !piece.is_empty()));
            };
            let at = piece.len();
            separate(&mut piece);
            let begin = piece.len();
            write(item, &mut piece)?;
            if piece.len() == begin {
                piece.truncate(at);
            }
        }
        Ok(Some(piece))
    })
}

/// An object with the fields that are wanted.
fn with_fields(fields: &Fields, object: Value) -> Value {
    match object {
        Value::Object(object) => fields.of(object),
        other => other,
    }
}
