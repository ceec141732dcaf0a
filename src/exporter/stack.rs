//! The tower stack of the way out, below `observe`, which stands where the receipts are.
//!
//! In: [`ExportRequest`]s. Out: for each an [`Outcome`] that is final.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use tokio::sync::Semaphore;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::{BoxError, Service, ServiceBuilder};

use super::attempt::{Attempt, Judge};
use super::outcome::Outcome;
use super::retry::Backoff;
use crate::config::ExporterConfig;
use crate::otlp::Signal;
use crate::telemetry::inspect::Watch;
use crate::telemetry::metrics::Metrics;

/// One request, ready to be sent as often as it takes: clones share the body.
#[derive(Debug, Clone)]
pub(super) struct ExportRequest {
    pub(super) signal: Signal,
    pub(super) body: Bytes,
    /// Told of every attempt.
    pub(super) watch: Watch,
}

/// What the stack is to those above it: every request ends in an outcome.
pub(super) trait SendExports:
    Service<ExportRequest, Response = Outcome, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> SendExports for S where
    S: Service<ExportRequest, Response = Outcome, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// Outermost first. `endpoints` (host and port) are for the log.
pub(super) fn stack<S, B>(
    post: S,
    endpoints: [String; Signal::ALL.len()],
    config: &ExporterConfig,
    metrics: Metrics,
    wall_clock: fn() -> SystemTime,
) -> impl SendExports
where
    S: Service<ExportRequest, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    // as in the Collector, no time-out is one that never comes
    let timeout = Some(config.timeout).filter(|timeout| !timeout.is_zero()).unwrap_or(Duration::MAX);
    let judge = Arc::new(Judge::new(timeout, endpoints, metrics, wall_clock));
    let on_the_wire = Arc::new(Semaphore::new(config.max_in_flight.clamp(1, Semaphore::MAX_PERMITS)));

    ServiceBuilder::new()
        // above all that can fail: sends again until an attempt ends for good
        .retry(Backoff::new(config.retry_on_failure.clone()))
        // below retry: an export that pauses between attempts takes no place on the wire from another signal
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(on_the_wire))
        // below the limit, so that waiting for a place is not measured; above the timeout, whose error is an outcome too
        .layer_fn(move |inner| Attempt::new(inner, Arc::clone(&judge)))
        // bounds one attempt up to the head of its answer: connecting, sending, waiting
        .timeout(timeout)
        .service(post)
}
