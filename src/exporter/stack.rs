//! The tower stacks of the exporter, one for each signal, below `observe`, which has the receipts.
//!
//! In: bodies. Out: a final [`Outcome`] for each. Promises: over all signals at most `max_in_flight`
//! requests are on the wire.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use tower::{BoxError, Service, ServiceBuilder};

use super::attempt::{Attempt, Classifier, ExportObserver, SignalObserver};
use super::otlp_http::host_and_port;
use super::outcome::Outcome;
use super::retry::Backoff;
use super::slices::Slices;
use super::slots::Slots;
use crate::config::{ExporterConfig, RetryConfig};
use crate::event::Signal;
use crate::telemetry::Metrics;

/// Encoded body of an export with its observer; clones share the body.
#[derive(Debug, Clone)]
pub(super) struct ExportBody {
    pub(super) body: Slices,
    pub(super) observer: ExportObserver,
}

/// Service that sends a body, with retries, until it has a final outcome.
pub(super) trait SendExports:
    Service<ExportBody, Response = Outcome, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> SendExports for S where
    S: Service<ExportBody, Response = Outcome, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Returns the stack of each signal.
pub(super) fn stacks<S, B>(
    posts: &[S; Signal::ALL.len()],
    config: &ExporterConfig,
    metrics: &Metrics,
    wall_clock: fn() -> SystemTime,
) -> [impl SendExports; Signal::ALL.len()]
where
    S: Service<Slices, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let slots = Slots::for_all_signals(config.settings.max_in_flight);
    Signal::ALL.map(|signal| {
        let classifier = Classifier::new(signal, config, metrics.clone(), wall_clock);
        let endpoint = host_and_port(config.of(signal).endpoint);
        let observer = SignalObserver::new(signal, endpoint, metrics.clone());
        let post = posts[signal as usize].clone();
        let slots = Arc::clone(&slots[signal as usize]);
        stack(post, classifier, observer, config.settings.retry_on_failure.clone(), slots)
    })
}

/// Builds the stack of one signal, outermost layer first.
fn stack<S, B>(
    post: S,
    classifier: Classifier,
    observer: SignalObserver,
    retry: RetryConfig,
    slots: Arc<Slots>,
) -> impl SendExports
where
    S: Service<Slices, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let timeout = classifier.timeout();
    let (classifier, observer) = (Arc::new(classifier), Arc::new(observer));

    ServiceBuilder::new()
        // Above everything that can fail: retries until an attempt has a final outcome.
        .retry(Backoff::new(retry, classifier.destination()))
        // Below retry, so that an export holds no slot during a pause; above the timeout, whose error is an outcome, too, so
        // that the wait for a slot does not count as part of an attempt.
        .layer_fn(move |inner| {
            Attempt::new(inner, Arc::clone(&classifier), Arc::clone(&observer), Arc::clone(&slots))
        })
        // Limits one attempt up to the headers of its response: connecting, sending, waiting.
        .timeout(timeout)
        .service(post)
}
