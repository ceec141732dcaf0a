//! Minimal baselines: hyper in, hyper-util out, and as little as possible in between. They run as separate processes with
//! the relay's allocator and an equivalent runtime.
//!
//! [`Floor::Bare`] splits bodies at newlines and posts each line unchecked. [`Floor::Validate`] checks with serde_json
//! that each line is JSON, and forwards the valid ones in one POST per incoming POST. Both respond before they forward,
//! and keep nothing.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt as _};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::de::IgnoredAny;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;

/// Maximum number of concurrent requests, the same as the relay's `max_in_flight`.
const IN_FLIGHT: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Floor {
    Bare,
    Validate,
}

struct Forward {
    floor: Floor,
    client: Client<HttpConnector, Full<Bytes>>,
    to: Uri,
    in_flight: Semaphore,
}

// === impl Floor ===

impl Floor {
    pub(crate) const ALL: [Self; 2] = [Self::Bare, Self::Validate];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Validate => "validate",
        }
    }

    /// Runs the process: prints its address, and forwards to `downstream` until it is killed.
    pub(crate) fn run(self, downstream: SocketAddr) {
        let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
            println!("{}", listener.local_addr().expect("it is bound"));
            std::io::stdout().flush().expect("standard output is open");
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            let forward = Arc::new(Forward {
                floor: self,
                client: Client::builder(TokioExecutor::new()).build(connector),
                to: format!("http://{downstream}/v1/traces").parse().expect("it is an address"),
                in_flight: Semaphore::new(IN_FLIGHT),
            });
            while let Ok((connection, _)) = listener.accept().await {
                connection.set_nodelay(true).expect("a socket can be without delay");
                let forward = Arc::clone(&forward);
                let service = service_fn(move |request| Arc::clone(&forward).take(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
            }
        });
    }
}

// === impl Forward ===

impl Forward {
    async fn take(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
        let body = request.into_body().collect().await.expect("the sender stays").to_bytes();
        tokio::spawn(async move {
            match self.floor {
                Floor::Bare => {
                    let lines = split(&body).map(|line| self.post(line));
                    stream::iter(lines).for_each_concurrent(IN_FLIGHT, |post| post).await;
                }
                Floor::Validate => self.post(valid(&body)).await,
            }
        });
        let mut response = Response::new(Empty::new());
        *response.status_mut() = http::StatusCode::NO_CONTENT;
        Ok(response)
    }

    async fn post(&self, body: Bytes) {
        let _permit = self.in_flight.acquire().await.expect("it is never closed");
        let request = Request::post(self.to.clone())
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .expect("it is complete");
        let response = self.client.request(request).await.expect("the sink answers");
        response.into_body().collect().await.expect("the sink answers whole");
    }
}

fn split(body: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', body).chain([body.len()]);
    ends.filter_map(move |end| {
        let line = body.slice(start..end);
        start = end + 1;
        (!line.is_empty()).then_some(line)
    })
}

/// Returns the lines that are JSON, or the body itself if all are.
fn valid(body: &Bytes) -> Bytes {
    let (good, bad): (Vec<Bytes>, Vec<Bytes>) =
        split(body).partition(|line| serde_json::from_slice::<IgnoredAny>(line).is_ok());
    if bad.is_empty() {
        return body.clone();
    }
    let mut rest = BytesMut::with_capacity(body.len());
    for line in good {
        rest.extend_from_slice(&line);
        rest.extend_from_slice(b"\n");
    }
    rest.freeze()
}
