//! A collector that records requests and responds as a test configures it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A received request.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Reaction of the collector to a request.
pub(super) enum Answer {
    Say {
        status: u16,
        content_type: &'static str,
        body: Bytes,
    },
    /// Headers of a response, without a body that ends.
    HangAfterHead {
        status: u16,
    },
    /// Headers, a part of the body, and the end of the connection.
    BreakOff {
        status: u16,
    },
    /// End of the connection without a response.
    Close,
}

pub(super) struct Collector {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<Recorded>>>,
    connections: Arc<AtomicUsize>,
}

type Behaviour = dyn Fn(usize, &Recorded) -> Answer + Send + Sync;
type AnswerBody = UnsyncBoxBody<Bytes, io::Error>;

// === impl Collector ===

impl Collector {
    /// Starts a collector. `behaviour` gets the number of the request, from zero, and the request.
    pub(super) async fn start(
        behaviour: impl Fn(usize, &Recorded) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), None, behaviour)
    }

    pub(super) fn on(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        behaviour: impl Fn(usize, &Recorded) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let (recorded, counter) = (Arc::clone(&requests), Arc::clone(&connections));
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
                let (recorded, behaviour, tls) = (Arc::clone(&recorded), Arc::clone(&behaviour), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(tcp, recorded, behaviour).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(tcp).await else { return };
                            serve(stream, recorded, behaviour).await;
                        }
                    }
                });
            }
        });
        Self { address, requests, connections }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn bodies(&self) -> Vec<String> {
        self.requests().iter().map(|request| String::from_utf8(request.body.to_vec()).unwrap()).collect()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

// === impl Answer ===

impl Answer {
    pub(super) fn ok() -> Self {
        Self::json(200, "{}")
    }

    pub(super) fn json(status: u16, body: &'static str) -> Self {
        Self::Say { status, content_type: "application/json", body: Bytes::from_static(body.as_bytes()) }
    }

    fn into_response(self) -> Result<Response<AnswerBody>, io::Error> {
        let head =
            |status: u16| Response::builder().status(status).header("content-type", "application/json");
        let part = stream::iter([Ok(Frame::data(Bytes::from_static(b"{\"partial")))]);
        let response = match self {
            Self::Say { status, content_type, body } => Response::builder()
                .status(status)
                .header("content-type", content_type)
                .body(Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync()),
            Self::HangAfterHead { status } => {
                head(status).body(StreamBody::new(part.chain(stream::pending())).boxed_unsync())
            }
            Self::BreakOff { status } => {
                // The server flushes when the body is pending.
                let end = stream::once(async {
                    tokio::task::yield_now().await;
                    Err(io::Error::other("broken off"))
                });
                head(status).body(StreamBody::new(part.chain(end)).boxed_unsync())
            }
            Self::Close => return Err(io::Error::other("closed")),
        };
        Ok(response.unwrap())
    }
}

async fn serve<IO>(stream: IO, recorded: Arc<Mutex<Vec<Recorded>>>, behaviour: Arc<Behaviour>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (recorded, behaviour) = (Arc::clone(&recorded), Arc::clone(&behaviour));
        async move {
            let request = record(request).await;
            let number = {
                let mut recorded = recorded.lock().unwrap();
                recorded.push(request.clone());
                recorded.len() - 1
            };
            behaviour(number, &request).into_response()
        }
    });
    // A response that closes the connection ends it with an error.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

#[allow(clippy::disallowed_methods)] // the test itself sent the body
async fn record(request: Request<Incoming>) -> Recorded {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Recorded {
        method: head.method,
        path: head.uri.to_string(),
        version: head.version,
        headers: head.headers,
        body,
    }
}
