//! One attempt: measured, its answer read and judged.
//!
//! In: a request. Out: an [`Outcome`], never an error: what the stack below fails with is an outcome too. Promises: a
//! status that came is what counts, whatever becomes of its body. A 200 whose body hangs or breaks off was taken;
//! sending it again would make it twice.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Response, StatusCode, header};
use http_body::Body;
use tokio::time::Instant;
use tower::{BoxError, Service};

use super::fault;
use super::outage::Outage;
use super::outcome::{Outcome, meaning_of};
use super::response;
use super::retry::retry_after;
use super::stack::ExportRequest;
use crate::otlp::Signal;
use crate::telemetry::metrics::{ExportOutcome, Metrics};

/// The middleware.
#[derive(Clone)]
pub(super) struct Attempt<S> {
    inner: S,
    judge: Arc<Judge>,
}

/// Makes outcomes of answers, and counts them.
pub(super) struct Judge {
    timeout: Duration,
    outages: [Outage; Signal::ALL.len()],
    endpoints: [String; Signal::ALL.len()],
    metrics: Metrics,
    /// For `Retry-After` as a date.
    wall_clock: fn() -> SystemTime,
}

// === impl Attempt ===

impl<S> Attempt<S> {
    pub(super) fn new(inner: S, judge: Arc<Judge>) -> Self {
        Self { inner, judge }
    }
}

impl<S, B> Service<ExportRequest> for Attempt<S>
where
    S: Service<ExportRequest, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = Outcome;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Outcome, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // the services below are always ready, and one that is not would have an error to give away here
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ExportRequest) -> Self::Future {
        let began = Instant::now();
        let signal = request.signal;
        let watch = request.watch.clone();
        let judge = Arc::clone(&self.judge);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let outcome = match answer.await {
                Ok(response) => judge.answered(response, began).await,
                Err(error) => judge.unanswered(signal, &*error),
            };
            judge.metrics.export_attempt(signal, outcome.label(), began.elapsed());
            watch.attempt(signal, || outcome.as_attempt(began.elapsed()));
            judge.outages[signal as usize].note(&outcome);
            Ok(outcome)
        })
    }
}

// === impl Judge ===

impl Judge {
    pub(super) fn new(
        timeout: Duration,
        endpoints: [String; Signal::ALL.len()],
        metrics: Metrics,
        wall_clock: fn() -> SystemTime,
    ) -> Self {
        let outages = Signal::ALL.map(|signal| Outage::new(signal, endpoints[signal as usize].clone()));
        Self { timeout, outages, endpoints, metrics, wall_clock }
    }

    async fn answered<B>(&self, response: Response<B>, began: Instant) -> Outcome
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (head, body) = response.into_parts();
        let left = self.timeout.saturating_sub(began.elapsed());
        let body =
            tokio::time::timeout(left, response::read_body(body)).await.ok().flatten().unwrap_or_default();

        if meaning_of(head.status) == ExportOutcome::Sent {
            let partial = response::partial_success(&head.headers, &body);
            return Outcome::of_response(head.status, String::new(), None, partial);
        }
        let reason = refusal(head.status, &head.headers, &body);
        let retry_after = retry_after(&head.headers, (self.wall_clock)());
        Outcome::of_response(head.status, reason, retry_after, None)
    }

    /// No status came: nothing is known about the data, so it is sent again.
    fn unanswered(&self, signal: Signal, error: &(dyn std::error::Error + 'static)) -> Outcome {
        let reason = fault::describe(&self.endpoints[signal as usize], self.timeout, error);
        Outcome::Retryable { reason, retry_after: None }
    }
}

/// `downstream answered 400: <its message>`
fn refusal(status: StatusCode, headers: &http::HeaderMap, body: &[u8]) -> String {
    let code = status.as_u16();
    if status.is_redirection() {
        let location = if headers.contains_key(header::LOCATION) { "with" } else { "without" };
        return format!(
            "downstream answered {code} {location} a location: redirects are not followed, set the endpoint to \
             its final address"
        );
    }
    match response::error_message(headers, body) {
        Some(message) => format!("downstream answered {code}: {message}"),
        None => format!("downstream answered {code}"),
    }
}
