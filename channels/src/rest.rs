//! What of REST the module answers, beside what all objects have.

use std::sync::Arc;

use longshore_acl::Method;
use longshore_broker::module::{Item, Paths};
use longshore_broker::rest::{Call, Gate, Handler, NUMBER, Outcome, Route, Takes};

use crate::channel::Channel;
use crate::channels::Channels;

mod connections;
mod lists;
mod messages;
mod packets;
mod slices;

const PATHS: Paths =
    Paths { all: "/gw/channels", some: "/gw/channels/{sel}", logs: "/gw/channels/{sel}/logs" };

pub(crate) fn routes(channels: &Arc<Channels>) -> Vec<Route> {
    let mut routes = channels.objects.routes(PATHS);
    routes.push(Route::document("/gw/api.json"));
    routes.extend(lists::routes());
    routes.extend(of_messages(channels));
    routes.extend(of_connections(channels));
    routes.extend(of_packets(channels));
    routes
}

fn of_messages(channels: &Arc<Channels>) -> [Route; 2] {
    let path = "/gw/channels/{sel}/messages";
    let gate = Gate::Sub(Channel::URI, "messages");
    let (reader, deleter) = (Arc::clone(channels), Arc::clone(channels));
    [
        Route {
            method: Method::Get,
            path,
            about: "Read messages: all that are newer than a key, or those of a time",
            gate,
            takes: Takes::Data(&messages::READING),
            gives: Some(&messages::MESSAGE),
            handler: Handler::waiting(move |call| {
                Box::pin(messages::read(Arc::clone(&reader), call))
            }),
        },
        Route {
            method: Method::Delete,
            path,
            about: "Delete the messages before a key",
            gate,
            takes: Takes::Data(&messages::DELETION),
            gives: Some(&NUMBER),
            handler: Handler::waiting(move |call| {
                Box::pin(messages::delete(Arc::clone(&deleter), call))
            }),
        },
    ]
}

fn of_connections(channels: &Arc<Channels>) -> [Route; 2] {
    let route = |method, about, gives, work: fn(&Channels, &Call) -> Outcome| {
        let channels = Arc::clone(channels);
        Route {
            method,
            path: "/gw/channels/{sel}/connections/{connections}",
            about,
            gate: Gate::Sub(Channel::URI, "connections"),
            takes: Takes::Nothing,
            gives: Some(gives),
            handler: Handler::blocking(move |call| work(&channels, call)),
        }
    };
    [
        route(Method::Get, "Read who is connected", &connections::CONNECTION, connections::list),
        route(Method::Delete, "Close connections", &NUMBER, connections::close),
    ]
}

/// Who may read the messages of a channel may read what they were made of.
fn of_packets(channels: &Arc<Channels>) -> [Route; 2] {
    let (lister, reader) = (Arc::clone(channels), Arc::clone(channels));
    let route = |path, about, takes, gives, handler| Route {
        method: Method::Get,
        path,
        about,
        gate: Gate::Sub(Channel::URI, "messages"),
        takes,
        gives: Some(gives),
        handler,
    };
    [
        route(
            "/gw/channels/{sel}/idents/{idents}",
            "Read whose raw traffic there is: an ident, or many by `*`",
            Takes::Nothing,
            &packets::IDENT,
            Handler::waiting(move |call| Box::pin(packets::list(Arc::clone(&lister), call))),
        ),
        route(
            "/gw/channels/{sel}/idents/{idents}/packets",
            "Read raw traffic of devices, as long as `packets_ttl` keeps it",
            Takes::Data(&packets::READING),
            &packets::PACKET,
            Handler::waiting(move |call| Box::pin(packets::read(Arc::clone(&reader), call))),
        ),
    ]
}
