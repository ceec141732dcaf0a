//! The tower stacks of the way out, one for each signal, below `observe`, which stands where the receipts are.
//!
//! In: bodies. Out: for each an [`Outcome`] that is final. Promises: over all signals at most `max_in_flight`
//! requests are on the wire.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use tower::{BoxError, Service, ServiceBuilder};

use super::attempt::{Attempt, Judge};
use super::outcome::Outcome;
use super::retry::Backoff;
use super::slices::Slices;
use super::slots::Slots;
use crate::config::{ExporterConfig, RetryConfig};
use crate::otlp::Signal;
use crate::telemetry::Metrics;
use crate::telemetry::inspect::Watch;
use crate::telemetry::traces::Attempts;

/// One export, ready to be sent as often as it takes: clones share the body.
#[derive(Debug, Clone)]
pub(super) struct WatchedBody {
    pub(super) body: Slices,
    /// Told of every attempt.
    pub(super) watch: Watch,
    /// Makes a span of every attempt.
    pub(super) attempts: Attempts,
}

/// What a stack is to those above it: every body, sent as often as it takes, ends in an outcome.
pub(super) trait SendExports:
    Service<WatchedBody, Response = Outcome, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> SendExports for S where
    S: Service<WatchedBody, Response = Outcome, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// One stack for each signal.
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
    let slots = Slots::for_all_signals(config.max_in_flight);
    Signal::ALL.map(|signal| {
        let judge = Judge::new(signal, config, metrics.clone(), wall_clock);
        let post = posts[signal as usize].clone();
        stack(post, judge, config.retry_on_failure.clone(), Arc::clone(&slots[signal as usize]))
    })
}

/// Outermost first.
fn stack<S, B>(post: S, judge: Judge, retry: RetryConfig, slots: Arc<Slots>) -> impl SendExports
where
    S: Service<Slices, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let timeout = judge.timeout();
    let judge = Arc::new(judge);

    ServiceBuilder::new()
        // above all that can fail: sends again until an attempt ends for good
        .retry(Backoff::new(retry, judge.destination()))
        // below retry: an export that pauses between attempts takes no slot from another; above the
        // timeout, whose error is an outcome too, and so waiting for a slot is no part of an attempt's time
        .layer_fn(move |inner| Attempt::new(inner, Arc::clone(&judge), Arc::clone(&slots)))
        // bounds one attempt up to the head of its answer: connecting, sending, waiting
        .timeout(timeout)
        .service(post)
}
