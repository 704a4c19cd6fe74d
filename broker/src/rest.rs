//! The REST API on the listeners `http` and `https`: tokens, accounts and limits, and what tools
//! ask for (broker specification, 15).
//!
//! ```text
//! request --> route --> caller --> account --> body --> handler --> answer, in pieces
//!             404 405   401 403    403         413 408
//!                       429
//! ```
//!
//! Nothing of a body is read before it is known who sends it. A handler that changes something, or
//! looks at all there is, runs on a thread that may wait; one that asks shards waits on the thread
//! of sockets. Lists are written as the client takes them.
//!
//! | module | holds |
//! | --- | --- |
//! | `route` | the table of routes, and the router made of it |
//! | `call` | one request: who calls, for which account, what came along |
//! | `answer` | `result` and `errors`, whole or as they come |
//! | `fault` | the codes of errors |
//! | [`collection`] | what objects of all kinds have in common |
//! | `schema` | the fields of objects |
//! | `selector`, `query` | which objects; parameters and `data` |
//! | `intake` | bodies of requests, and the room for them |
//! | `openapi` | the documents, made of the table |
//! | `logs` | reading the logs of accounts |
//! | `messages` | calls that come as messages |
//! | `mqtt` | sessions, subscriptions, messages |
//! | `platform` | tokens, accounts and limits |
//! | `auth`, `constants`, `expressions` | what tools ask for |
//!
//! A new route is a row in the `ROUTES` of its module; a new module is a name in
//! `route::routes` and in `openapi::MODULES`.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use longshore_acl::Principal;
use tokio::task::spawn_blocking;
use tracing::{debug, info};

use crate::accounts::{self, Accounts, CALL_TEXT_MAX};
use crate::clock::wall;
use crate::commons::Commons;
use crate::connection::Peer;
use crate::dialect::Dialect;
use crate::journal::ReadRecords;
use crate::link::Opener;
use crate::net::listen::Listen;
use crate::net::mailbox::Mailboxes;
use crate::notices::cut;
use crate::shard::Config;

pub(crate) mod answer;
mod auth;
mod call;
pub mod collection;
mod constants;
mod expressions;
mod fault;
mod intake;
pub(crate) mod logs;
mod messages;
mod mqtt;
mod openapi;
mod platform;
mod query;
pub(crate) mod route;
mod schema;
mod selector;

pub use self::answer::{Answer, Items, Outcome, Part, Written};
pub use self::call::{Call, Caller};
pub use self::fault::{Code, Fault};
pub use self::route::{Answering, Gate, Handler, Route, Takes};
pub use self::schema::{Field, Fields, Kind, NUMBER, Object, Shown};
pub use self::selector::{Picked, Selector, Sieve};

use self::answer::Body;
use self::call::Origin;
pub(crate) use self::constants::Dictionary;
use self::intake::{Intake, Received};
pub(crate) use self::messages::Calls;
use self::query::{Query, decode};
use self::route::Router;

/// Fields of a request that a page of another origin may send (1.6).
const CORS_HEADERS: &str =
    "authorization, content-type, x-flespi-cid, x-flespi-app, x-flespi-trace";
const CORS_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// Seconds that a browser may remember what it was allowed.
const CORS_SECS: &str = "86400";
/// Bytes of a path that a line of the log holds.
const LOGGED_PATH_BYTES: usize = 200;

/// The API of one broker.
pub(crate) struct Api {
    pub(crate) accounts: Arc<Accounts>,
    /// What shards have in common.
    pub(crate) commons: Arc<Commons>,
    /// To each shard.
    pub(crate) mailboxes: Mailboxes,
    /// Lets clients of this process in.
    pub(crate) opener: Opener,
    /// What retained messages are read from that memory does not have.
    pub(crate) reader: Option<Arc<dyn ReadRecords>>,
    pub(crate) dialect: Dialect,
    /// Where the broker listens.
    pub(crate) addresses: Vec<(Listen, SocketAddr)>,
    dictionary: Dictionary,
    router: Router,
    intake: Intake,
}

/// An answer on its way.
pub(crate) struct Answered {
    pub(crate) response: Response<Body>,
    /// Whether the client is known: it may ask again on its connection.
    pub(crate) is_known: bool,
}

impl Api {
    pub(crate) fn new(
        accounts: &Arc<Accounts>,
        config: &Config,
        mailboxes: &Mailboxes,
        opener: Opener,
        addresses: &[(Listen, SocketAddr)],
        (router, dictionary): (Router, Dictionary),
    ) -> Arc<Self> {
        Arc::new(Self {
            accounts: Arc::clone(accounts),
            commons: Arc::clone(&config.commons),
            mailboxes: Arc::clone(mailboxes),
            opener,
            reader: config.storage.as_ref().map(|storage| Arc::clone(&storage.reader)),
            dialect: config.dialect,
            addresses: addresses.to_vec(),
            dictionary,
            router,
            intake: Intake::new(Arc::clone(&config.limits)),
        })
    }

    /// Answers a request.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> Answered {
        if *request.method() == Method::OPTIONS {
            return Answered { response: preflight(), is_known: false };
        }
        let (head, body) = request.into_parts();
        let mut trace = Trace::default();
        let came = Came { head: &head, peer, known: None };
        let outcome = self.serve(&came, Source::Http(body), &mut trace).await;
        let mut response = match outcome {
            Ok(answer) => {
                let status = answer.status();
                respond(status, answer.into_body())
            }
            Err(fault) => refuse(&fault),
        };
        if trace.spends.is_some() {
            let (api, trace) = (Arc::clone(self), trace.clone());
            response.body_mut().on_piece(move |bytes| api.spend(&trace, bytes));
        }
        self.note(&trace, &head, peer, response.status().as_u16());
        Answered { response, is_known: trace.token.is_some() }
    }

    async fn serve(self: &Arc<Self>, came: &Came<'_>, body: Source, trace: &mut Trace) -> Outcome {
        let Came { head, peer, .. } = *came;
        let found = self.router.find(&head.method, head.uri.path());
        let caller = self.caller(found.as_ref().ok().map(|(route, _)| &**route), came)?;
        if let Some(caller) = &caller {
            (trace.token, trace.account) = (Some(caller.token.id), caller.token.account);
        }
        let origin = Origin::of(&head.headers).map(|origin| trace.origin = origin);
        if let Some(caller) = &caller {
            let (now, account) = (wall(), caller.token.account);
            let counted = self.commons.tallies.count_call(account, now);
            counted.map_err(|spending| Fault::over(spending, now))?;
            trace.spends = Some(account);
        }
        // A call that makes no sense has been one.
        origin?;
        let (route, parameters) = found?;
        if let Some(caller) = &caller {
            caller.check(&route)?;
            trace.account = caller.account(self, &head.headers)?;
        }
        let parameters = parameters.iter().map(|text| decode(text)).collect::<Result<_, _>>()?;
        let query = Query::parse(head.uri.query().unwrap_or_default())?;
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.map(str::to_owned);
        let body = match &caller {
            Some(_) => {
                let body = match body {
                    Source::Http(body) => self.intake.read(body).await?,
                    Source::Held(body) => body?,
                };
                self.spend(trace, body.bytes.len());
                body
            }
            None => self.intake.nothing(),
        };
        let (account, is_secure) = (trace.account, peer.transport == "wss");
        let api = Arc::clone(self);
        let call = Call { api, route, caller, account, parameters, query, body, host, is_secure };
        run(call).await
    }

    /// Counts bytes of a body, of a call that was counted.
    fn spend(&self, trace: &Trace, bytes: usize) {
        if let Some(account) = trace.spends {
            self.commons.tallies.count_traffic(account, bytes as u64, wall());
        }
    }

    /// Who calls, where that is asked for. On a path that is not there nobody has to be known, but
    /// who is has called.
    fn caller(&self, route: Option<&Route>, came: &Came<'_>) -> Result<Option<Caller>, Fault> {
        let Came { head, peer, known } = came;
        let caller = || match known {
            None => Caller::of(self, &head.headers, peer.address.ip()),
            Some(principal) => Caller::known(self, principal, peer.address.ip()),
        };
        let is_shown = known.is_some() || head.headers.contains_key(header::AUTHORIZATION);
        match route {
            Some(route) if route.gate == Gate::Open => Ok(None),
            Some(_) => caller().map(Some),
            None if is_shown => Ok(caller().ok()),
            None => Ok(None),
        }
    }

    /// Tells the log of the broker of a call, and that of the account if it is known (15.1.8).
    fn note(&self, trace: &Trace, head: &Parts, peer: Peer, status: u16) {
        trace.log(&head.method, head.uri.path(), peer, status);
        let Some(token) = trace.token else { return };
        let path = head.uri.path_and_query().map_or("", |it| it.as_str());
        let made = accounts::Call {
            method: cut(head.method.as_str(), CALL_TEXT_MAX).to_owned(),
            uri: cut(path, CALL_TEXT_MAX).to_owned(),
            status,
            token,
            app: trace.origin.app.clone(),
            trace: trace.origin.trace.clone(),
            host: peer.address.ip().to_canonical().to_string(),
        };
        self.accounts.note_call(trace.account, made);
    }
}

/// Runs the handler where it may run, and answers with the part that was asked for.
async fn run(call: Call) -> Outcome {
    let (limit, offset) = match call.route.has_parts() {
        true => (call.query.number("limit")?, call.query.number("offset")?),
        false => (None, None),
    };
    let answer = handle(call).await?;
    let is_part = limit.is_some() || offset.is_some();
    Ok(if is_part { answer.cut(limit, offset.unwrap_or(0)) } else { answer })
}

async fn handle(call: Call) -> Outcome {
    match call.route.handler.clone() {
        Handler::Waiting(work) => work(call).await,
        Handler::WaitingWith(work) => work(call).await,
        Handler::Blocking(work) => blocking(move || work(&call)).await?,
        Handler::BlockingWith(work) => blocking(move || work(&call)).await?,
    }
}

/// Does something on a thread that may wait for the disk, and that may compute for a while.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    match spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Fault::new(Code::Unavailable, "the broker stops")),
    }
}

/// A request, but for its body.
struct Came<'a> {
    head: &'a Parts,
    peer: Peer,
    /// Whose it is, if that is known without a token in the head.
    known: Option<Principal>,
}

/// Where a body is.
enum Source {
    /// It is yet to come.
    Http(Incoming),
    /// It is here, or was too large.
    Held(Result<Received, Fault>),
}

/// What a line of the log says of a request.
#[derive(Clone, Debug, Default)]
struct Trace {
    token: Option<u64>,
    account: u64,
    /// The account that bytes of the answer count for.
    spends: Option<u64>,
    origin: Origin,
}

impl Trace {
    fn log(&self, method: &Method, path: &str, peer: Peer, status: u16) {
        let Self { token, account, origin, .. } = self;
        let token = token.unwrap_or_default();
        let (app, trace) = (origin.app.as_deref(), origin.trace.as_deref());
        let path = cut(path, LOGGED_PATH_BYTES);
        let peer = peer.address;
        if [Method::GET, Method::HEAD].contains(method) || status >= 400 {
            debug!(%peer, token, account, app, trace, %method, path, status, "REST");
        } else {
            info!(%peer, token, account, app, trace, %method, path, status, "REST");
        }
    }
}

fn respond(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    allow_origin(response)
}

fn refuse(fault: &Fault) -> Response<Body> {
    let mut response = respond(fault.code.status(), Body::from(fault.to_body()));
    if let Some((name, value)) = fault.header()
        && let Ok(value) = HeaderValue::from_str(value)
    {
        response.headers_mut().insert(name.clone(), value);
    }
    response
}

fn allow_origin(mut response: Response<Body>) -> Response<Body> {
    let any = HeaderValue::from_static("*");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    response
}

/// What a browser asks before it lets a page of another origin call (1.6).
fn preflight() -> Response<Body> {
    let mut response = allow_origin(Response::new(Body::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let fields: [(HeaderName, &'static str); 3] = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, CORS_METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, CORS_HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, CORS_SECS),
    ];
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
