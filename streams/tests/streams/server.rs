//! A server of HTTP that answers as it is told and remembers what it was asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use ::http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) connection: usize,
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers the requests in turn with these statuses, then with 200.
    pub(crate) async fn start(statuses: &[u16]) -> Self {
        Self::start_with(statuses, None).await
    }

    /// The same over TLS.
    pub(crate) async fn start_with(
        statuses: &[u16],
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), statuses, tls)
    }

    /// The same where somebody listens already.
    pub(crate) fn start_on(
        listener: TcpListener,
        statuses: &[u16],
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let server = Self { address, asked: Arc::default() };
        let statuses = Arc::new(Mutex::new(VecDeque::from(statuses.to_vec())));
        let shared = server.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (shared, statuses) = (shared.clone(), Arc::clone(&statuses));
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => shared.serve(stream, connection, &statuses).await,
                        Some(tls) => {
                            let accepted = tokio_rustls::TlsAcceptor::from(tls).accept(stream);
                            if let Ok(stream) = accepted.await {
                                shared.serve(stream, connection, &statuses).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        connection: usize,
        statuses: &Mutex<VecDeque<u16>>,
    ) {
        let answer = service_fn(async |request: Request<Incoming>| {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes().to_vec();
            let path = head.uri.to_string();
            let asked =
                Asked { method: head.method, path, headers: head.headers, body, connection };
            self.asked.lock().unwrap().push(asked);
            let status = statuses.lock().unwrap().pop_front().unwrap_or(200);
            let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert("location", "/elsewhere".parse().unwrap());
            Ok::<_, Infallible>(response)
        });
        let builder = hyper::server::conn::http1::Builder::new();
        // A client that goes away is none of its concern.
        let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}
