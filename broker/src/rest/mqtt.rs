//! `/mqtt`: sessions, their subscriptions, messages and what is retained (broker specification,
//! 15.2).

use longshore_acl::Method;

use super::logs;
use super::route::{Gate, Handler, Route, Takes};
use super::schema::NUMBER;

mod explain;
mod messages;
mod sessions;
mod subscriptions;

const GATE: Gate = Gate::Part("mqtt");

/// A handler that asks shards.
macro_rules! waiting {
    ($handler:path) => {
        Handler::Waiting(|call| Box::pin($handler(call)))
    };
}

static SESSIONS: [Route; 3] = [
    Route {
        method: Method::Post,
        path: "/mqtt/sessions",
        about: "Make sessions that last, for clients that are yet to come",
        gate: GATE,
        takes: Takes::Many(&sessions::OBJECT),
        gives: Some(&sessions::OBJECT),
        handler: waiting!(sessions::create),
    },
    Route {
        method: Method::Get,
        path: "/mqtt/sessions/{sel}",
        about: "Read sessions",
        gate: GATE,
        takes: Takes::Nothing,
        gives: Some(&sessions::OBJECT),
        handler: waiting!(sessions::list),
    },
    Route {
        method: Method::Delete,
        path: "/mqtt/sessions/{sel}",
        about: "End sessions, with their connections",
        gate: GATE,
        takes: Takes::Nothing,
        gives: Some(&NUMBER),
        handler: waiting!(sessions::remove),
    },
];

static SUBSCRIPTIONS: [Route; 4] = [
    Route {
        method: Method::Post,
        path: "/mqtt/sessions/{sel}/subscriptions",
        about: "Subscribe for sessions",
        gate: GATE,
        takes: Takes::Many(&subscriptions::OBJECT),
        gives: Some(&subscriptions::OBJECT),
        handler: waiting!(subscriptions::create),
    },
    Route {
        method: Method::Get,
        path: "/mqtt/sessions/{sel}/subscriptions/{sel2}",
        about: "Read subscriptions of sessions",
        gate: GATE,
        takes: Takes::Nothing,
        gives: Some(&subscriptions::OBJECT),
        handler: waiting!(subscriptions::list),
    },
    Route {
        method: Method::Put,
        path: "/mqtt/sessions/{sel}/subscriptions/{sel2}",
        about: "Change the given fields of subscriptions of sessions",
        gate: GATE,
        takes: Takes::One(&subscriptions::OBJECT),
        gives: Some(&subscriptions::OBJECT),
        handler: waiting!(subscriptions::update),
    },
    Route {
        method: Method::Delete,
        path: "/mqtt/sessions/{sel}/subscriptions/{sel2}",
        about: "Take subscriptions of sessions away",
        gate: GATE,
        takes: Takes::Nothing,
        gives: Some(&NUMBER),
        handler: waiting!(subscriptions::remove),
    },
];

static MESSAGES: [Route; 3] = [
    Route {
        method: Method::Post,
        path: "/mqtt/messages",
        about: "Publish messages",
        gate: GATE,
        takes: Takes::Many(&messages::PUBLISHED),
        gives: Some(&messages::PUBLISHED),
        handler: waiting!(messages::publish),
    },
    Route {
        method: Method::Get,
        path: "/mqtt/messages/{sel}",
        about: "Read what is retained, by topic filter",
        gate: GATE,
        takes: Takes::Data(&messages::READING),
        gives: Some(&messages::RETAINED),
        handler: waiting!(messages::list),
    },
    Route {
        method: Method::Delete,
        path: "/mqtt/messages/{sel}",
        about: "Remove what is retained, by topic filter",
        gate: GATE,
        takes: Takes::Nothing,
        gives: Some(&messages::RETAINED),
        handler: waiting!(messages::remove),
    },
];

static EXPLAIN: [Route; 1] = [Route {
    method: Method::Get,
    path: "/mqtt/explain",
    about: "Whether and why a message on a topic would reach a session now",
    gate: GATE,
    takes: Takes::Nothing,
    gives: None,
    handler: waiting!(explain::read),
}];

static LOGS: [Route; 1] = [Route {
    method: Method::Get,
    path: "/mqtt/logs",
    about: "Read what has happened to sessions and their subscriptions",
    gate: GATE,
    takes: Takes::Data(&logs::READING),
    gives: Some(&logs::RECORD),
    handler: waiting!(logs::of_mqtt),
}];

/// The routes of this module.
pub(super) static ROUTES: &[&[Route]] = &[&SESSIONS, &SUBSCRIPTIONS, &MESSAGES, &EXPLAIN, &LOGS];
