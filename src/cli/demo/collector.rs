//! The demonstration's collector: accepts OTLP/JSON and keeps it in memory.
//!
//! In:  POSTs to `/v1/traces`, `/v1/logs` and `/v1/metrics` on a loopback port of its own.
//! Out: the requests, in order, and a way to wait for them.
//! Promises: keeps at most [`MAX_KEPT_BYTES`] and responds with 503 beyond that. Stops when it is dropped.
//! Leaves to others: the interpretation of the requests.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::cli::http::{BodyError, read_bounded};
use crate::event::Signal;

/// Maximum size of all requests together, before they are parsed.
const MAX_KEPT_BYTES: usize = 16 << 20;
/// Pause after a failed `accept`, which usually means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running collector.
pub(super) struct Collector {
    address: SocketAddr,
    kept: watch::Receiver<KeptExports>,
    _server: AbortOnDropHandle<()>,
}

/// Requests received so far.
#[derive(Debug, Default)]
pub(super) struct KeptExports {
    pub(super) requests: Vec<ReceivedExport>,
    bytes: usize,
}

/// One export request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReceivedExport {
    pub(super) signal: Signal,
    pub(super) json: Value,
}

// === impl Collector ===

impl Collector {
    /// Listens on a free loopback port.
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (keep, kept) = watch::channel(KeptExports::default());
        let server = tokio::spawn(serve(listener, Arc::new(keep)));
        Ok(Self { address, kept, _server: AbortOnDropHandle::new(server) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the received requests satisfy the condition, or until the timeout. Returns the requests received by
    /// then in either case.
    pub(super) async fn wait_for(
        &self,
        condition: impl FnMut(&KeptExports) -> bool,
        timeout: Duration,
    ) -> Vec<ReceivedExport> {
        let mut kept = self.kept.clone();
        // The caller sees from the requests that the condition does not hold.
        drop(tokio::time::timeout(timeout, kept.wait_for(condition)).await);
        self.kept.borrow().requests.clone()
    }
}

async fn serve(listener: TcpListener, keep: Arc<watch::Sender<KeptExports>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&keep)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, keep: Arc<watch::Sender<KeptExports>>) {
    let service = service_fn(move |request| {
        let keep = Arc::clone(&keep);
        async move { Ok::<_, Infallible>(respond(request, &keep).await) }
    });
    // The client reports a broken connection.
    drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
}

async fn respond(request: Request<Incoming>, keep: &watch::Sender<KeptExports>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let Some(signal) = Signal::ALL.into_iter().find(|signal| path == format!("/v1/{signal}")) else {
        return reply(StatusCode::NOT_FOUND);
    };
    if request.method() != Method::POST {
        return reply(StatusCode::METHOD_NOT_ALLOWED);
    }
    let body = match read_bounded(request.into_body(), MAX_KEPT_BYTES).await {
        Ok(body) => body,
        Err(BodyError::TooLarge) => return reply(StatusCode::PAYLOAD_TOO_LARGE),
        Err(BodyError::Broken(_)) => return reply(StatusCode::BAD_REQUEST),
    };
    let Ok(json) = serde_json::from_slice(&body) else { return reply(StatusCode::BAD_REQUEST) };
    let taken = keep.send_if_modified(|kept| {
        let fits = kept.bytes + body.len() <= MAX_KEPT_BYTES;
        if fits {
            kept.bytes += body.len();
            kept.requests.push(ReceivedExport { signal, json });
        }
        fits
    });
    reply(if taken { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE })
}

fn reply(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::http::Client;

    const TIMEOUT: Duration = Duration::from_secs(10);

    async fn status(collector: &Collector, method: Method, path: &str, body: &str) -> u16 {
        let client = Client::new(collector.address());
        client.send(method, path, &[], Bytes::copy_from_slice(body.as_bytes())).await.unwrap().status.as_u16()
    }

    #[tokio::test]
    async fn keeps_requests_in_order_and_by_signal() {
        let collector = Collector::start().await.unwrap();
        assert_eq!(status(&collector, Method::POST, "/v1/traces", r#"{"resourceSpans":[]}"#).await, 200);
        assert_eq!(status(&collector, Method::POST, "/v1/logs", r#"{"resourceLogs":[]}"#).await, 200);
        let kept = collector.wait_for(|kept| kept.requests.len() == 2, TIMEOUT).await;
        assert_eq!(
            kept,
            [
                ReceivedExport { signal: Signal::Traces, json: serde_json::json!({"resourceSpans": []}) },
                ReceivedExport { signal: Signal::Logs, json: serde_json::json!({"resourceLogs": []}) },
            ]
        );
    }

    #[tokio::test]
    async fn rejects_requests_that_are_not_otlp_json_and_keeps_none_of_them() {
        let collector = Collector::start().await.unwrap();
        assert_eq!(status(&collector, Method::POST, "/v1/traces", "{").await, 400);
        assert_eq!(status(&collector, Method::GET, "/v1/traces", "").await, 405);
        assert_eq!(status(&collector, Method::POST, "/v1/profiles", "{}").await, 404);
        assert!(collector.wait_for(|_| true, TIMEOUT).await.is_empty());
    }

    #[tokio::test]
    async fn responds_with_503_beyond_its_bound() {
        let collector = Collector::start().await.unwrap();
        let half = format!("\"{}\"", "x".repeat(MAX_KEPT_BYTES / 2 + 1));
        assert_eq!(status(&collector, Method::POST, "/v1/traces", &half).await, 200);
        assert_eq!(status(&collector, Method::POST, "/v1/traces", &half).await, 503);
        let whole = "x".repeat(MAX_KEPT_BYTES + 1);
        assert_eq!(status(&collector, Method::POST, "/v1/traces", &whole).await, 413);
    }

    #[tokio::test]
    async fn waiting_ends_at_the_timeout() {
        let collector = Collector::start().await.unwrap();
        assert!(collector.wait_for(|_| false, Duration::ZERO).await.is_empty());
    }
}
