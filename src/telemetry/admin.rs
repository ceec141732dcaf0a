//! The telemetry endpoint: is the process alive, can it take data, what has it counted.
//!
//! In: requests on an address that is not public. Out: `/healthz`, `/readyz`, `/metrics`.
//! Leaves to others: the connections (`server::serve`) and the statuses (`server::reply`), which it shares with the
//! front door.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tower::{BoxError, Service, service_fn};

use super::Metrics;
use crate::server::reply::{self, Reply};

/// Whether data can be taken now, else why not.
type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the telemetry endpoint shows.
#[derive(Clone)]
pub(crate) struct Admin {
    metrics: Metrics,
    ready: Ready,
}

// === impl Admin ===

impl Admin {
    pub(crate) fn new(
        metrics: Metrics,
        ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { metrics, ready: Arc::new(ready) }
    }

    /// The service behind the telemetry port.
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
            let reply = self.reply(request.method(), request.uri().path());
            let response = reply::for_method(request.method(), reply);
            async move { Ok(response) }
        })
    }

    fn reply(&self, method: &Method, path: &str) -> Reply {
        let known = matches!(path, "/healthz" | "/readyz" | "/metrics");
        if known && !matches!(*method, Method::GET | Method::HEAD) {
            return reply::method_not_allowed("GET, HEAD");
        }
        match path {
            "/healthz" => reply::text("ok\n"),
            "/readyz" => match (self.ready)() {
                Ok(()) => reply::text("ready\n"),
                Err(reason) => reply::not_ready(&reason),
            },
            "/metrics" => reply::metrics(self.metrics.render()),
            _ => reply::not_found(),
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}
