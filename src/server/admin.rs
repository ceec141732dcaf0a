//! The telemetry endpoint: liveness, readiness, metrics and the inspector.
//!
//! In: requests on an address that is not public. Out: `/` and `/healthz`, `/readyz`, `/metrics`, `/inspect`.
//! Left to others: connections (`server::serve`) and statuses (`server::reply`), both shared with the public port.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, Method, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tower::{BoxError, Service, service_fn};

use super::reply::{self, Reply};
use crate::telemetry::Metrics;
use crate::telemetry::inspect::page::{self, Reach};

/// Callback that returns an error with the reason while data cannot be accepted.
type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// State of the telemetry endpoint.
#[derive(Clone)]
pub(crate) struct Admin {
    metrics: Metrics,
    ready: Ready,
    reach: Reach,
}

// === impl Admin ===

impl Admin {
    pub(crate) fn new(
        metrics: Metrics,
        reach: Reach,
        ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { metrics, ready: Arc::new(ready), reach }
    }

    /// Returns the service for the telemetry endpoint.
    pub(crate) fn service(
        self,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<impl Body<Data = Bytes, Error = BoxError> + Send + 'static>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static {
        service_fn(move |request: Request<Incoming>| {
            let reply = self.reply(&request);
            let response = reply::for_method(request.method(), reply);
            async move { Ok(response) }
        })
    }

    fn reply<B>(&self, request: &Request<B>) -> Reply {
        let (method, path) = (request.method(), request.uri().path());
        let known = matches!(path, "/" | "/healthz" | "/readyz" | "/metrics" | page::PATH | page::DATA_PATH);
        if known && !matches!(*method, Method::GET | Method::HEAD) {
            return reply::method_not_allowed("GET, HEAD");
        }
        match path {
            // The Collector's health check responds at the root.
            "/" | "/healthz" => reply::text("ok\n"),
            "/readyz" => match (self.ready)() {
                Ok(()) => reply::text("ready\n"),
                Err(reason) => reply::not_ready(&reason),
            },
            "/metrics" if prefers_openmetrics(request.headers()) => {
                reply::openmetrics(self.metrics.render_openmetrics())
            }
            "/metrics" => reply::metrics(self.metrics.render()),
            page::PATH | page::DATA_PATH if !page::is_own_name(request, self.reach) => reply::misdirected(),
            page::PATH => reply::page(page::HTML, page::policy()),
            page::DATA_PATH => reply::data(page::data(&self.metrics, request.uri().query())),
            _ => reply::not_found_in_telemetry(),
        }
    }
}

/// Returns `true` if a client accepts OpenMetrics at least as gladly as the Prometheus text format.
fn prefers_openmetrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut quality = [0.0; 2];
    for range in accepted.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let q = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0_f32);
        match media_type.as_str() {
            "application/openmetrics-text" => quality[0] = q.max(quality[0]),
            "text/plain" | "text/*" => quality[1] = q.max(quality[1]),
            _ => {}
        }
    }
    quality[0] > 0.0 && quality[0] >= quality[1]
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::server::{Shutdown, Terms, serve};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    /// Returns the whole response, in lower case, of a telemetry endpoint that is or is not ready.
    async fn ask(request_line: &str, is_ready: &'static AtomicBool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let ready = || if is_ready.load(Ordering::SeqCst) { Ok(()) } else { Err("the queue is full".into()) };
        let service = Admin::new(Metrics::new(), Reach::Loopback, ready).service();
        let shutdown = Shutdown { token: CancellationToken::new(), grace: Duration::ZERO };
        tokio::spawn(serve(listener, service, Terms::plain(Duration::from_secs(60), 8), shutdown));
        let mut client = TcpStream::connect(addr).await.unwrap();
        let head = format!("{request_line} HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        response.to_ascii_lowercase()
    }

    static READY: AtomicBool = AtomicBool::new(true);
    static NOT_READY: AtomicBool = AtomicBool::new(false);

    #[tokio::test]
    async fn is_healthy_whether_or_not_it_is_ready() {
        for ready in [&READY, &NOT_READY] {
            for path in ["GET /healthz", "GET /", "HEAD /"] {
                assert!(ask(path, ready).await.starts_with("http/1.1 200 "), "{path}");
            }
        }
    }

    #[tokio::test]
    async fn the_response_has_the_reason_why_it_is_not_ready() {
        assert!(ask("GET /readyz?verbose", &READY).await.starts_with("http/1.1 200 "));
        let response = ask("GET /readyz", &NOT_READY).await;
        assert!(response.starts_with("http/1.1 503 "), "{response}");
        assert!(response.ends_with(r#"{"reason":"the queue is full"}"#), "{response}");
    }

    #[tokio::test]
    async fn shows_metrics_in_the_format_of_prometheus() {
        let response = ask("GET /metrics", &READY).await;
        assert!(response.contains("content-type: text/plain; version=0.0.4\r\n"), "{response}");
        assert!(response.contains("\notelcol_process_uptime "), "{response}");
    }

    #[test]
    fn openmetrics_is_a_matter_of_negotiation() {
        let prefers = |accept: &'static str| {
            prefers_openmetrics(&HeaderMap::from_iter([(ACCEPT, http::HeaderValue::from_static(accept))]))
        };
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        for accept in [prometheus, "application/openmetrics-text", "text/plain, Application/OpenMetrics-Text"]
        {
            assert!(prefers(accept), "{accept}");
        }
        for accept in [
            "*/*",
            "text/plain",
            "application/openmetrics-text;q=0",
            "text/plain;q=0.5,application/openmetrics-text;q=0.4",
        ] {
            assert!(!prefers(accept), "{accept}");
        }
        assert!(!prefers_openmetrics(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn openmetrics_is_labelled_as_such() {
        let request =
            "GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text; version=1.0.0\r\nx-unused: ";
        let response = ask(request, &READY).await;
        let expected = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
        assert!(response.contains(expected) && response.ends_with("# eof\n"), "{response}");
    }

    #[tokio::test]
    async fn head_has_no_body_and_other_methods_and_paths_are_rejected() {
        let response = ask("HEAD /metrics", &READY).await;
        assert!(response.starts_with("http/1.1 200 ") && response.ends_with("\r\n\r\n"), "{response}");
        let response = ask("POST /healthz", &READY).await;
        assert!(response.starts_with("http/1.1 405 ") && response.contains("\r\nallow: get, head\r\n"));
        for path in ["GET /fastly", "GET /health"] {
            let response = ask(path, &READY).await;
            assert!(response.starts_with("http/1.1 404 "), "{response}");
            assert!(response.contains("/inspect, /metrics, /healthz, /readyz"), "{response}");
        }
    }
}
