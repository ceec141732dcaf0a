//! One attempt: given its place on the wire, measured, its answer read and judged.
//!
//! In: a body. Out: an [`Outcome`], never an error: what the stack below fails with is an outcome too. Promises: a
//! status that came is what counts, whatever becomes of its body. A 200 whose body hangs or breaks off was taken;
//! sending it again would make it twice.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use http::{Response, StatusCode, header};
use http_body::Body;
use tokio::time::Instant;
use tower::{BoxError, Service};

use super::concurrency::Concurrency;
use super::fault;
use super::otlp_http::host_and_port;
use super::outage::Outage;
use super::outcome::{Outcome, hints, meaning_of};
use super::response;
use super::retry::retry_after;
use super::slices::Slices;
use super::stack::WatchedBody;
use crate::config::SignalExport;
use crate::otlp::Signal;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::ExportOutcome;
use crate::telemetry::traces::{Attempts, OwnSpan};

/// The middleware.
#[derive(Clone)]
pub(super) struct Attempt<S> {
    inner: S,
    judge: Arc<Judge>,
    concurrency: Arc<Concurrency>,
}

/// Makes outcomes of a signal's answers, and counts them.
pub(super) struct Judge {
    signal: Signal,
    timeout: Duration,
    /// Host and port.
    endpoint: String,
    outage: Outage,
    metrics: Metrics,
    /// For `Retry-After` as a date.
    wall_clock: fn() -> SystemTime,
}

// === impl Attempt ===

impl<S> Attempt<S> {
    pub(super) fn new(inner: S, judge: Arc<Judge>, concurrency: Arc<Concurrency>) -> Self {
        Self { inner, judge, concurrency }
    }
}

impl<S, B> Service<WatchedBody> for Attempt<S>
where
    S: Service<Slices, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
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

    fn call(&mut self, request: WatchedBody) -> Self::Future {
        let WatchedBody { body, watch, attempts } = request;
        let judge = Arc::clone(&self.judge);
        let place = Arc::clone(&self.concurrency).place();
        let mut inner = self.inner.clone();
        Box::pin(async move {
            let place = place.await;
            let began = place.began();
            let span = judge.span(&attempts, body.remaining());
            let outcome = match inner.call(body).await {
                Ok(response) => judge.answered(response, began, &span).await,
                Err(error) => judge.unanswered(&*error, &span),
            };
            let took = began.elapsed();
            place.ended(outcome.label(), took);
            judge.metrics.export_attempt(judge.signal, outcome.label(), took);
            judge.outage.note(&outcome);
            Judge::ended(&span, &outcome);
            watch.attempt(judge.signal, || outcome.as_attempt(took));
            Ok(outcome)
        })
    }
}

// === impl Judge ===

impl Judge {
    pub(super) fn new(
        signal: Signal,
        export: &SignalExport<'_>,
        metrics: Metrics,
        wall_clock: fn() -> SystemTime,
    ) -> Self {
        let endpoint = host_and_port(export.endpoint);
        let outage = Outage::new(signal, endpoint.clone(), hints(signal, export));
        Self { signal, timeout: export.timeout, endpoint, outage, metrics, wall_clock }
    }

    /// Of one attempt.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    async fn answered<B>(&self, response: Response<B>, began: Instant, span: &OwnSpan) -> Outcome
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (head, body) = response.into_parts();
        span.number("http.response.status_code", head.status.as_u16());
        let left = self.timeout.saturating_sub(began.elapsed());
        let body =
            tokio::time::timeout(left, response::read_body(body)).await.ok().flatten().unwrap_or_default();

        if meaning_of(head.status) == ExportOutcome::Sent {
            let partial = response::partial_success(&head.headers, &body);
            return Outcome::of_response(head.status, String::new(), None, partial);
        }
        self.outage.refused(head.status);
        let reason = refusal(head.status, &head.headers, &body);
        span.failed(head.status.as_str(), &reason);
        let retry_after = retry_after(&head.headers, (self.wall_clock)());
        Outcome::of_response(head.status, reason, retry_after, None)
    }

    /// Without the path of the address, which may be a secret of the vendor's.
    fn span(&self, attempts: &Attempts, size_bytes: usize) -> OwnSpan {
        let (span, earlier) = attempts.begin(|| format!("export {}", self.signal));
        if span.is_recorded() {
            let (host, port) = self.endpoint.rsplit_once(':').unwrap_or((&self.endpoint, ""));
            span.text("http.request.method", "POST");
            span.text("server.address", host);
            span.number("server.port", port.parse::<u16>().unwrap_or_default());
            span.number("http.request.body.size", size_bytes);
            span.text("spanrelay.signal", self.signal.as_str());
            if earlier > 0 {
                span.number("http.request.resend_count", earlier);
            }
        }
        span
    }

    fn ended(span: &OwnSpan, outcome: &Outcome) {
        span.text("spanrelay.outcome", outcome.label().as_str());
        span.end();
    }

    /// No status came: nothing is known about the data, so it is sent again.
    fn unanswered(&self, error: &(dyn std::error::Error + 'static), span: &OwnSpan) -> Outcome {
        let reason = fault::describe(&self.endpoint, self.timeout, error);
        span.failed("no_answer", &reason);
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
