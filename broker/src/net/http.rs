//! HTTP: the way up to WebSocket on every path, two pages and REST beside it.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use longshore_acl::{Authenticate, Credentials};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tracing::warn;

use super::counts::Counts;
use super::metrics;
use super::request_line::Encoding;
use crate::clock::{Clock, Mono};
use crate::connection::Peer;
use crate::journal::Taking;
use crate::rest::Api;
use crate::rest::answer::Body;
use crate::store::Store;
use crate::totals::Totals;

/// Seconds that an answer, or the next piece of one, may take to be read, so that no connection is
/// held for ever.
const ANSWER_SECS: u64 = 60;
/// Seconds between two looks at that.
const PATIENCE_SECS: u64 = 5;
/// Bytes of a request's head.
const HEAD_MAX: usize = 16 << 10;
/// The same where there is REST: a selector may list 10,000 numbers.
const REST_HEAD_MAX: usize = 96 << 10;
/// Header fields of a request.
const FIELDS_MAX: usize = 64;

/// What the WebSocket is agreed to carry; the names of all versions, newest first.
const SUB_PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// Bytes that are still taken from a client which sends on although it has its answer: closed at
/// once, the system would tell it that the connection broke, and the answer be lost.
const LINGER_BYTES: usize = 1 << 20;
const LINGER_TIME: Duration = Duration::from_secs(2);

type Page = Response<Body>;

/// One connection's HTTP.
pub(super) struct Http<T> {
    pub(super) peer: Peer,
    /// Whether there are pages, or nothing but WebSocket.
    pub(super) has_pages: bool,
    pub(super) authenticate: Arc<dyn Authenticate>,
    pub(super) totals: Totals,
    pub(super) counts: Arc<Counts>,
    /// The journal, of a broker that has one.
    pub(super) store: Option<Arc<Store>>,
    /// Given back as soon as this turns out to be no handshake.
    pub(super) turn: Cell<Option<T>>,
    pub(super) is_upgraded: Cell<bool>,
    /// Whether a request line is to come.
    pub(super) in_line: Rc<Cell<bool>>,
    /// REST, of a broker that has accounts.
    pub(super) api: Option<Arc<Api>>,
    pub(super) patience: Rc<Patience>,
}

/// Until when a client is waited for.
pub(super) struct Patience {
    clock: Clock,
    until: Cell<Mono>,
    /// Whether a request was answered: what the client then fails to send was no handshake.
    has_answered: Cell<bool>,
}

impl Patience {
    pub(super) fn new(clock: Clock) -> Rc<Self> {
        Rc::new(Self { clock, until: Cell::default(), has_answered: Cell::default() })
    }

    fn wait(&self, secs: u64) {
        self.until.set(self.clock.mono().plus_secs(secs));
    }

    /// It is not the client that is waited for.
    fn suspend(&self) {
        self.until.set(self.clock.mono().plus_secs(u64::from(u32::MAX)));
    }

    /// Ends when the client was waited for too long.
    async fn end(&self) {
        while self.clock.mono() < self.until.get() {
            // It may be moved either way meanwhile.
            let look = self.clock.mono().plus_secs(PATIENCE_SECS).min(self.until.get());
            tokio::time::sleep_until(self.clock.instant(look).into()).await;
        }
    }
}

/// A body whose reader is waited for from piece to piece.
struct Watched {
    body: Body,
    patience: Rc<Patience>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Ready(_) => self.patience.wait(ANSWER_SECS),
            Poll::Pending => self.patience.suspend(),
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<T> Http<T> {
    /// Answers one request. When that has become a WebSocket: its socket, and what has been read
    /// too far.
    pub(super) async fn serve<I>(&self, io: I, time: Duration) -> hyper::Result<Option<(I, Bytes)>>
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            Box::pin(async { Ok::<_, Infallible>(self.answer(request).await) })
        });
        let io = Encoding::new(io, Rc::clone(&self.in_line));
        let head = if self.api.is_some() { REST_HEAD_MAX } else { HEAD_MAX };
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(time)
            .half_close(true)
            .max_buf_size(head)
            .max_headers(FIELDS_MAX)
            .serve_connection(TokioIo::new(io), service);
        self.patience.wait(time.as_secs().saturating_add(ANSWER_SECS));
        tokio::select! {
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => match ended {
                Err(error) if error.is_timeout() && self.patience.has_answered.get() => {
                    return Ok(None);
                }
                ended => ended?,
            },
            () = self.patience.end() => return Ok(None),
        }
        let parts = connection.into_parts();
        let mut io = parts.io.into_inner().into_inner();
        if self.is_upgraded.get() {
            return Ok(Some((io, parts.read_buf)));
        }
        // Whether the client hears it is its own affair.
        let _ = tokio::time::timeout(time, io.shutdown()).await;
        let _ = tokio::time::timeout(LINGER_TIME, linger(&mut io)).await;
        Ok(None)
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Response<Watched> {
        let mut may_ask_again = false;
        let has_body = !request.body().is_end_stream();
        let page = if lists(request.headers(), &header::UPGRADE, "websocket") {
            for (name, value) in [(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade")] {
                // The handshake looks for its word where it stands alone.
                if lists(request.headers(), &name, value) {
                    request.headers_mut().insert(name, HeaderValue::from_static(value));
                }
            }
            self.upgrade(&request)
        } else {
            // Pages may take their time.
            self.turn.take();
            match (&self.api, self.page(&request)) {
                (Some(api), None) => {
                    // Its body has a time of its own, and what is done for it is not the client's.
                    self.patience.suspend();
                    let answered = Box::pin(api.answer(request, self.peer)).await;
                    may_ask_again = answered.is_known;
                    answered.response
                }
                (_, page) => page.unwrap_or_else(|| {
                    error(StatusCode::NOT_FOUND, "there is nothing at this path")
                }),
            }
        };
        self.patience.wait(ANSWER_SECS);
        self.patience.has_answered.set(true);
        self.in_line.set(!has_body);
        let page = match page.status() {
            StatusCode::SWITCHING_PROTOCOLS => page,
            // What would be read of a next request has no turn, and so no bound, but that of those
            // who have shown a token.
            _ if may_ask_again => page,
            _ => with(page, header::CONNECTION, "close"),
        };
        page.map(|body| Watched { body, patience: Rc::clone(&self.patience) })
    }

    fn upgrade(&self, request: &Request<Incoming>) -> Page {
        let mut page = match create_response_with_body(request, Body::default) {
            Ok(page) => page,
            Err(error) => {
                self.refuse(&error);
                return not_upgraded(&error);
            }
        };
        if let Some(name) = sub_protocol(request.headers()) {
            page.headers_mut()
                .insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
        }
        self.is_upgraded.set(true);
        page
    }

    /// The page, if there is one.
    fn page(&self, request: &Request<Incoming>) -> Option<Page> {
        if !self.has_pages {
            self.refuse(&"a request for no WebSocket");
            return Some(upgrade_required());
        }
        if *request.method() == Method::OPTIONS && self.api.is_some() {
            return None;
        }
        let page = match request.uri().path() {
            "/health" => |http: &Self, _: &HeaderMap| http.health(),
            "/metrics" => Self::metrics,
            _ => return None,
        };
        if *request.method() != Method::GET && *request.method() != Method::HEAD {
            let page = error(StatusCode::METHOD_NOT_ALLOWED, "this path is only read");
            return Some(with(page, header::ALLOW, "GET, HEAD"));
        }
        Some(page(self, request.headers()))
    }

    /// Whether this process serves as it should, for those that would start another instead.
    ///
    /// A disk that has failed is not used again before a start: 503 asks for that. A full one is
    /// no reason for it. It is used again as soon as it has room, until then everything is served
    /// that need not be written down, and the next process would find it as full, with all its
    /// clients gone: that is 200, and the text and the metrics say what is to be done.
    fn health(&self) -> Page {
        let taking = self.store.as_ref().map_or(Taking::All, |store| store.status().taking());
        let code = match taking {
            Taking::All | Taking::Relief => StatusCode::OK,
            Taking::Nothing => StatusCode::SERVICE_UNAVAILABLE,
        };
        let status = taking.trouble().unwrap_or("ok");
        text("application/json", code, format!("{{\"status\":\"{status}\"}}\n"))
    }

    fn metrics(&self, headers: &HeaderMap) -> Page {
        if !self.peer.address.ip().is_loopback() && !self.knows(headers) {
            self.refuse(&"metrics without a token");
            let page = error(StatusCode::UNAUTHORIZED, "metrics take a token: Authorization");
            return with(page, header::WWW_AUTHENTICATE, "Bearer");
        }
        let journal = self.store.as_ref().map(|store| store.figures());
        let metrics = metrics::render(&self.totals.sum(), &self.counts, journal.as_ref());
        text(metrics::CONTENT_TYPE, StatusCode::OK, metrics)
    }

    /// Whether the request shows a token. Who is let in without one is not known by that.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, token)) = shown.and_then(|value| value.split_once(' ')) else {
            return false;
        };
        if !["Bearer", "FlespiToken"].iter().any(|it| it.eq_ignore_ascii_case(scheme)) {
            return false;
        }
        let credentials = Credentials { username: Some(token.trim()), password: None };
        let principal = self.authenticate.authenticate(&credentials, self.peer.address.ip());
        principal.is_ok_and(|principal| !principal.anonymous)
    }

    fn refuse(&self, cause: &dyn std::fmt::Display) {
        warn!(peer = %self.peer.address, transport = self.peer.transport, %cause, "refused");
    }
}

/// The first sub-protocol offered that is known here. A client that offers none gets none.
fn sub_protocol(headers: &HeaderMap) -> Option<&'static str> {
    list(headers, &header::SEC_WEBSOCKET_PROTOCOL)
        .find_map(|offer| SUB_PROTOCOLS.into_iter().find(|known| *known == offer))
}

/// Whether `word` is in a list, in whatever case.
fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    list(headers, name).any(|item| item.eq_ignore_ascii_case(word))
}

/// The items of a list, which may be divided by commas and over several fields.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let fields = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    fields.flat_map(|value| value.split(',')).map(str::trim)
}

/// Takes what is still sent, and lets it go.
async fn linger(io: &mut (impl AsyncRead + Unpin)) {
    let mut scratch = [0; 4 << 10];
    let mut taken = 0;
    while taken < LINGER_BYTES {
        match io.read(&mut scratch).await {
            Ok(0) | Err(_) => break,
            Ok(count) => taken += count,
        }
    }
}

fn not_upgraded(error: &Error) -> Page {
    if let Error::Protocol(ProtocolError::MissingSecWebSocketVersionHeader) = error {
        return with(upgrade_required(), header::SEC_WEBSOCKET_VERSION, "13");
    }
    self::error(StatusCode::BAD_REQUEST, "no valid WebSocket handshake (RFC 6455, 4.2.1)")
}

fn upgrade_required() -> Page {
    let page = error(StatusCode::UPGRADE_REQUIRED, "this port speaks MQTT over WebSocket");
    with(page, header::UPGRADE, "websocket")
}

/// `what` has no character that JSON would have escaped.
fn error(status: StatusCode, what: &'static str) -> Page {
    debug_assert!(what.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\'));
    text("application/json", status, format!("{{\"error\":\"{what}\"}}\n"))
}

fn text(content_type: &'static str, status: StatusCode, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Body::from(body));
    *page.status_mut() = status;
    with(page, header::CONTENT_TYPE, content_type)
}

fn with(mut page: Page, name: HeaderName, value: &'static str) -> Page {
    page.headers_mut().insert(name, HeaderValue::from_static(value));
    page
}
