//! Devices that send requests of HTTP: each is answered once what it says is kept.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, CONTENT_TYPE, HeaderName, HeaderValue,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Open;
use super::stream::{Ending, Traffic};
use crate::buffer::NotKept;
use crate::connections::Peer;
use crate::hub::Origin;
use crate::live::source;
use crate::packets::{Side, Transport, Way};
use crate::protocol::{self, BODY_BYTES_MAX, CloseCode, Intake};

/// How long a body may take to come.
const BODY: Duration = Duration::from_secs(60);
/// Bytes of the head of a request.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// What is said of an answer. A page of any origin may read it: whoever reaches the port may send.
const ANSWER: [(HeaderName, &str); 2] =
    [(CONTENT_TYPE, "text/plain; charset=utf-8"), (ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
/// What a browser asks before it lets a page send JSON.
const PREFLIGHT: [(HeaderName, &str); 4] = [
    (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
    (ACCESS_CONTROL_ALLOW_HEADERS, "*"),
    (ACCESS_CONTROL_MAX_AGE, "86400"),
];

/// Serves a client until one of both sides ends it.
pub(crate) async fn serve(
    open: &Rc<Open>,
    peer: &Arc<Peer>,
    stream: TcpStream,
    traffic: &mut Traffic,
) -> Ending {
    let counted = Rc::new(RefCell::new(Traffic::default()));
    let stream = Counted { open: Rc::clone(open), stream, traffic: Rc::clone(&counted) };
    let service = service_fn(|request| {
        let (open, peer, traffic) = (Rc::clone(open), Arc::clone(peer), Rc::clone(&counted));
        async move { Ok::<_, Infallible>(answer(&open, &peer, &traffic, request).await) }
    });
    let idle = Duration::from_secs(open.hub.options.idle_secs);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ending = loop {
        tokio::select! {
            biased;
            () = peer.bell.notified() => if let Some(code) = peer.closing() {
                break Ending::of(code);
            },
            done = &mut connection => break ended(done.err()),
        }
    };
    *traffic = std::mem::take(&mut *counted.borrow_mut());
    ending
}

fn ended(error: Option<hyper::Error>) -> Ending {
    let Some(error) = error else { return Ending::of(CloseCode::Processed) };
    let code = match () {
        () if error.is_timeout() => CloseCode::Inactivity,
        () if error.is_parse() => CloseCode::Parse,
        () => CloseCode::ByDevice,
    };
    Ending { code, text: error.to_string() }
}

async fn answer(
    open: &Open,
    peer: &Peer,
    traffic: &RefCell<Traffic>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    if request.method() == Method::OPTIONS {
        return respond(StatusCode::NO_CONTENT, Vec::new(), &PREFLIGHT);
    }
    match take(open, peer, traffic, request).await {
        Ok(reply) => respond(StatusCode::OK, reply, &ANSWER),
        Err((status, text)) => respond(status, text.into_bytes(), &ANSWER),
    }
}

fn respond(
    status: StatusCode,
    body: Vec<u8>,
    headers: &[(HeaderName, &'static str)],
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    for (name, value) in headers {
        response.headers_mut().insert(name.clone(), HeaderValue::from_static(value));
    }
    response
}

/// Gives what a request says to the hub.
async fn take(
    open: &Open,
    peer: &Peer,
    traffic: &RefCell<Traffic>,
    request: Request<Incoming>,
) -> Result<Vec<u8>, (StatusCode, String)> {
    let Some(Intake::Requests(requests)) = &open.channel.intake else {
        return Err((StatusCode::NOT_FOUND, String::new()));
    };
    let (head, body) = request.into_parts();
    let body = Body::read(open, body).await?;
    let named = |(name, value): (&HeaderName, &HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    let headers: Vec<(String, String)> = head.headers.iter().filter_map(named).collect();
    let headers: Vec<_> = headers.iter().map(|(name, it)| (name.as_str(), it.as_str())).collect();
    let step = requests.request(&protocol::Request {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &headers,
        body: &body.bytes,
    });
    let step = step.map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;
    let count = step.messages.len() as u64;
    let source = source(peer.address);
    // Headers say nothing of the device, and may hold what is secret.
    let line = format!("{} {} {:?}\r\n\r\n", head.method, head.uri, head.version);
    let way = Way { transport: Transport::Http, connection: peer.id, peer: &source };
    let idents = open.note_step(way, &step, &[line.as_bytes(), &body.bytes]);
    let origin = Origin { channel: &open.channel, peer: &source };
    let later = |why| match why {
        NotKept::TooLarge => (StatusCode::BAD_REQUEST, "a message is too large\n".to_owned()),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "not now: send it again\n".to_owned()),
    };
    let kept = open.hub.accept(origin, step.messages, Vec::new()).await.map_err(later);
    if !idents.is_empty() {
        let (status, text) = match &kept {
            Ok(()) => (StatusCode::OK, &step.reply[..]),
            Err((status, text)) => (*status, text.as_bytes()),
        };
        let line = format!("HTTP/1.1 {status}\r\n\r\n");
        open.note(Side::Hub, &idents, way, &[line.as_bytes(), text]);
    }
    kept?;
    traffic.borrow_mut().messages += count;
    Ok(step.reply)
}

/// The body of a request, and the room it takes.
struct Body<'a> {
    open: &'a Open,
    bytes: Bytes,
}

impl<'a> Body<'a> {
    async fn read(open: &'a Open, body: Incoming) -> Result<Self, (StatusCode, String)> {
        let mut whole = Self { open, bytes: Bytes::new() };
        let mut bytes = Vec::new();
        let mut body = Limited::new(body, BODY_BYTES_MAX);
        let reading = async {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| match error.is::<LengthLimitError>() {
                    true => StatusCode::PAYLOAD_TOO_LARGE,
                    false => StatusCode::BAD_REQUEST,
                })?;
                let Ok(piece) = frame.into_data() else { continue };
                let before = bytes.len();
                bytes.extend_from_slice(&piece);
                if !open.hub.hold(before, bytes.len()) {
                    return Err(StatusCode::SERVICE_UNAVAILABLE);
                }
            }
            Ok(())
        };
        let read = timeout(BODY, reading).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT));
        // What is held is given back when this is dropped.
        whole.bytes = bytes.into();
        match read {
            Ok(()) => Ok(whole),
            Err(status) => Err((status, format!("{status}\n"))),
        }
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        self.open.hub.hold(self.bytes.len(), 0);
    }
}

/// A stream whose bytes are counted.
struct Counted {
    open: Rc<Open>,
    stream: TcpStream,
    traffic: Rc<RefCell<Traffic>>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let count = buffer.filled().len() - before;
        self.traffic.borrow_mut().received += count as u64;
        self.open.hub.count(&self.open.channel, 0, count);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.traffic.borrow_mut().sent += *count as u64;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
