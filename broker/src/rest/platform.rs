//! `/platform`: tokens, accounts and limits, for master tokens (broker specification, 15.3).

use longshore_acl::{Account, Limit, Method, Token};

use super::logs;
use super::route::{Gate, Handler, Route, Takes};
use super::schema::NUMBER;

mod collection;
mod customer;
mod limits;
mod subaccounts;
mod tokens;

const GATE: Gate = Gate::Part("platform");

/// The routes of objects that are made, read, changed and removed.
macro_rules! routes_of {
    ($module:ident, $kind:ty: $all:literal, $some:literal, $name:literal) => {
        [
            Route {
                method: Method::Post,
                path: $all,
                about: concat!("Make ", $name),
                gate: GATE,
                takes: Takes::Many(&$module::OBJECT),
                gives: Some(&$module::OBJECT),
                handler: Handler::Blocking(collection::create::<$kind>),
            },
            Route {
                method: Method::Get,
                path: $some,
                about: concat!("Read ", $name),
                gate: GATE,
                takes: Takes::Nothing,
                gives: Some(&$module::OBJECT),
                handler: Handler::Blocking(collection::list::<$kind>),
            },
            Route {
                method: Method::Put,
                path: $some,
                about: concat!("Change the given fields of ", $name),
                gate: GATE,
                takes: Takes::One(&$module::OBJECT),
                gives: Some(&$module::OBJECT),
                handler: Handler::Blocking(collection::update::<$kind>),
            },
            Route {
                method: Method::Patch,
                path: $some,
                about: concat!("Merge the given fields into those of ", $name),
                gate: GATE,
                takes: Takes::One(&$module::OBJECT),
                gives: Some(&$module::OBJECT),
                handler: Handler::Blocking(collection::update::<$kind>),
            },
            Route {
                method: Method::Delete,
                path: $some,
                about: concat!("Remove ", $name, " for good"),
                gate: GATE,
                takes: Takes::Nothing,
                gives: Some(&NUMBER),
                handler: Handler::Blocking(collection::remove::<$kind>),
            },
        ]
    };
}

static TOKENS: [Route; 5] =
    routes_of!(tokens, Token: "/platform/tokens", "/platform/tokens/{sel}", "tokens");
/// Where tokens were until 2023.
static OLD_TOKENS: [Route; 5] = routes_of!(
    tokens, Token: "/platform/customer/tokens", "/platform/customer/tokens/{sel}", "tokens"
);
static SUBACCOUNTS: [Route; 5] = routes_of!(
    subaccounts, Account: "/platform/subaccounts", "/platform/subaccounts/{sel}", "accounts below"
);
static LIMITS: [Route; 5] = routes_of!(
    limits, Limit: "/platform/limits", "/platform/limits/{sel}", "limits of accounts below"
);
static CUSTOMER: [Route; 4] = [
    Route {
        method: Method::Get,
        path: "/platform/customer",
        about: "Read the account itself, what counts against its limits, and the limits",
        gate: GATE,
        takes: Takes::Nothing,
        gives: Some(&customer::OBJECT),
        handler: Handler::Blocking(customer::read),
    },
    Route {
        method: Method::Put,
        path: "/platform/customer",
        about: "Change the given fields of the account itself",
        gate: GATE,
        takes: Takes::One(&customer::OBJECT),
        gives: Some(&customer::OBJECT),
        handler: Handler::Blocking(customer::update),
    },
    Route {
        method: Method::Patch,
        path: "/platform/customer",
        about: "Merge the given fields into those of the account itself",
        gate: GATE,
        takes: Takes::One(&customer::OBJECT),
        gives: Some(&customer::OBJECT),
        handler: Handler::Blocking(customer::update),
    },
    Route {
        method: Method::Get,
        path: "/platform/customer/statistics",
        about: "Read what the account uses now",
        gate: GATE,
        takes: Takes::Data(&customer::COUNTING),
        gives: Some(&customer::STATISTICS),
        handler: Handler::Blocking(customer::statistics),
    },
];

/// A route of logs.
macro_rules! logs_of {
    ($path:literal, $name:literal, $handler:expr) => {
        Route {
            method: Method::Get,
            path: $path,
            about: concat!("Read what has become of ", $name),
            gate: GATE,
            takes: Takes::Data(&logs::READING),
            gives: Some(&logs::RECORD),
            handler: Handler::Waiting(|call| Box::pin($handler(call))),
        }
    };
}

static LOGS: [Route; 5] = [
    logs_of!("/platform/customer/logs", "the account and all it owns", customer::logs),
    logs_of!("/platform/tokens/{sel}/logs", "tokens", collection::logs::<Token>),
    logs_of!("/platform/customer/tokens/{sel}/logs", "tokens", collection::logs::<Token>),
    logs_of!("/platform/subaccounts/{sel}/logs", "accounts below", collection::logs::<Account>),
    logs_of!("/platform/limits/{sel}/logs", "limits", collection::logs::<Limit>),
];

/// The routes of this module.
pub(super) static ROUTES: &[&[Route]] =
    &[&TOKENS, &OLD_TOKENS, &SUBACCOUNTS, &LIMITS, &CUSTOMER, &LOGS];
