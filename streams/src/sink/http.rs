//! The sink that posts a JSON array (R6.19 to R6.21).

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::ConfigurationError;
use crate::failure::{CLOSED, Failure, PROTOCOL};
use crate::mask::Mask;
use crate::message::Message;
use crate::packets::{Side, Tag, Tape};
use crate::protocol::HttpConfiguration;
use crate::sink::{Outcome, Sink};
use crate::target::{Target, Targets};
use crate::tls::{Dialler, Tls};

/// How long the body of an answer, of which nothing is wanted, is waited for, so that the
/// connection can be used again.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of that body, at most.
const BODY_MAX: usize = 64 << 10;

/// Bytes of a word of a header that is looked for in answers, at least: shorter ones are found
/// anywhere.
const SECRET_BYTES: usize = 4;

/// One POST a batch, one after another. Status 200 acknowledges, and nothing else does; a redirect
/// is not followed.
#[derive(Debug)]
pub struct HttpSink {
    pub(super) dialler: Dialler,
    pub(super) tape: Tape,
    uri: Uri,
    headers: HeaderMap,
    /// None where messages keep theirs.
    ident: Option<Mask>,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    requests: SendRequest<Full<Bytes>>,
    /// Moves the bytes.
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl HttpSink {
    /// A sink without a connection yet.
    ///
    /// # Errors
    /// `ca` cannot be used.
    pub fn new(
        configuration: &HttpConfiguration,
        targets: &Targets,
    ) -> Result<Self, ConfigurationError> {
        let error = |field: &str| ConfigurationError::new(field, "cannot be read");
        let uri: Uri = configuration.uri.parse().map_err(|_| error("uri"))?;
        let authority = uri.authority().ok_or_else(|| error("uri"))?.as_str();
        let is_https = uri.scheme_str() == Some("https");
        let port = if is_https { 443 } else { 80 };
        let target = Target::parse(authority, Some(port)).ok_or_else(|| error("uri"))?;
        let tls = Tls::read(configuration.ca.as_deref(), None, None)?;
        let mut headers = HeaderMap::new();
        headers.insert(HOST, authority.parse().map_err(|_| error("uri"))?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("longshore"));
        for (name, value) in &configuration.headers {
            let name: HeaderName = name.parse().map_err(|_| error("headers"))?;
            let mut value: HeaderValue = value.reveal().parse().map_err(|_| error("headers"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let dialler = Dialler { target, targets: targets.clone(), tls: is_https.then_some(tls) };
        let ident = Some(Mask::new(&configuration.ident)).filter(|it| !it.is_just("ident"));
        Ok(Self { dialler, tape: Tape::default(), uri, headers, ident, connection: None })
    }

    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        let path = self.uri.path_and_query().map_or("/", |it| it.as_str());
        *request.uri_mut() = path.parse().unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        request
    }

    fn body(&self, batch: &[Message]) -> Bytes {
        let length: usize = batch.iter().map(|it| it.length() + 1).sum();
        let mut body = String::with_capacity(length + 1);
        let mut before = '[';
        for message in batch {
            body.push(before);
            before = ',';
            match &self.ident {
                Some(mask) => {
                    let parameters = message.parameters();
                    let ident = mask.fill(&parameters).filter(|it| !it.is_empty());
                    parameters.write(ident.as_deref(), &mut body);
                }
                None => body.push_str(&message.json()),
            }
        }
        body.push(']');
        body.into()
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        let stream = self.dialler.dial().await?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await.map_err(failure)?;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer gets the error.
            let _ = connection.await;
        });
        self.connection = Some(Connection { requests, driver });
        self.tape.begin();
        Ok(())
    }

    /// Posts once, on the connection that is there or on a new one, and gives the status.
    async fn post(&mut self, body: Bytes) -> Result<StatusCode, Failure> {
        let request = self.request(body.clone());
        if let Some(connection) = &mut self.connection
            && connection.requests.ready().await.is_ok()
        {
            self.tape.note(Side::Hub, Tag::default(), &body);
            match connection.requests.send_request(request).await {
                Ok(response) => return Ok(self.finish(response).await),
                // The server may have closed it while it was idle, and that is no failure.
                Err(_) => self.close(),
            }
        }
        let request = self.request(body.clone());
        self.connect().await?;
        self.tape.note(Side::Hub, Tag::default(), &body);
        let Some(connection) = &mut self.connection else { return Err(Failure::closed()) };
        let sent = connection.requests.send_request(request).await;
        Ok(self.finish(sent.map_err(failure)?).await)
    }

    /// Reads the rest of an answer, or lets go of the connection.
    async fn finish(&mut self, response: http::Response<Incoming>) -> StatusCode {
        let status = response.status();
        let (is_noted, mut noted) = (self.tape.is_on(), Vec::new());
        let mut body = response.into_body();
        let read = timeout(BODY_TIMEOUT, async {
            let mut length = 0;
            while let Some(frame) = body.frame().await {
                let frame = frame.ok()?;
                let data = frame.data_ref().map_or(&[][..], Bytes::as_ref);
                length += data.len();
                (length <= BODY_MAX).then_some(())?;
                if is_noted {
                    noted.extend_from_slice(data);
                }
            }
            Some(())
        });
        if !matches!(read.await, Ok(Some(()))) {
            self.close();
        }
        if is_noted {
            self.blot(&mut noted);
            let tag = Tag { status: Some(status.as_u16()), ..Tag::default() };
            self.tape.note(Side::Platform, tag, &noted);
        }
        status
    }

    /// Makes secret headers unreadable that an answer repeats.
    fn blot(&self, answer: &mut [u8]) {
        let secrets = self.headers.values().filter(|it| it.is_sensitive());
        let words = secrets.flat_map(|it| it.as_bytes().split(|it| *it == b' '));
        for word in words.filter(|it| it.len() >= SECRET_BYTES) {
            let mut at = 0;
            while let Some(rest) = answer.get_mut(at..at + word.len()) {
                let is_secret = rest == word;
                if is_secret {
                    rest.fill(b'*');
                }
                at += if is_secret { word.len() } else { 1 };
            }
        }
    }
}

fn failure(error: hyper::Error) -> Failure {
    match std::error::Error::source(&error).and_then(|it| it.downcast_ref::<std::io::Error>()) {
        Some(error) => Failure::of_io(error),
        None if error.is_parse() => Failure::new(PROTOCOL, "the answer is not HTTP"),
        None => Failure::new(CLOSED, format!("the connection was lost: {error}")),
    }
}

impl Sink for HttpSink {
    async fn send(&mut self, batch: &[Message]) -> Outcome {
        let body = self.body(batch);
        match self.post(body).await {
            Ok(StatusCode::OK) => Outcome::accepted(batch.len()),
            Ok(status) => {
                let text = format!("the server answered {status}");
                Outcome::failed(Failure::new(status.as_u16().into(), text))
            }
            Err(failure) => Outcome::failed(failure),
        }
    }

    async fn idle(&mut self) {
        match &mut self.connection {
            // It ends when the server closes the connection.
            Some(connection) => drop((&mut connection.driver).await),
            None => std::future::pending().await,
        }
        self.connection = None;
    }

    fn is_connected(&self) -> bool {
        self.connection.as_ref().is_some_and(|it| !it.requests.is_closed())
    }

    fn close(&mut self) {
        self.connection = None;
    }
}
