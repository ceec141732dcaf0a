//! One attempt after another until one says something about the data: cleared by the destination, given a slot on the
//! wire, measured, its response read and judged.
//!
//! In: a body. Out: an [`Outcome`], never an error: what the stack below fails with is an outcome too. Promises: an attempt
//! that the destination is at fault for is repeated, as [`destination`](super::destination) permits, until another outcome
//! comes; a status that came is what counts, whatever becomes of its body. A 200 whose body hangs or breaks off was
//! delivered; sending it again would deliver it twice.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use http::uri::Scheme;
use http::{Response, StatusCode, Version, header};
use http_body::Body;
use tokio::time::Instant;
use tower::{BoxError, Service};

use super::destination::Destination;
use super::fault::{self, Fault, Unanswered};
use super::otlp_http::host_and_port;
use super::outage::Outage;
use super::outcome::{Meaning, Outcome, meaning_of};
use super::remedy::{self, Remedies};
use super::response;
use super::retry::retry_after;
use super::slices::Slices;
use super::slots::Slots;
use super::stack::WatchedBody;
use super::tls_port::PlainPort;
use crate::config::{ExporterConfig, SignalExport};
use crate::otlp::Signal;
use crate::telemetry::Metrics;
use crate::telemetry::traces::{Attempts, OwnSpan};

/// The middleware.
#[derive(Clone)]
pub(super) struct Attempt<S> {
    inner: S,
    judge: Arc<Judge>,
    slots: Arc<Slots>,
}

/// Makes outcomes of a signal's responses, and counts them.
pub(super) struct Judge {
    signal: Signal,
    timeout: Duration,
    /// Present where plain HTTP is sent.
    port: Option<PlainPort>,
    /// Host and port.
    endpoint: String,
    permanent: Vec<u16>,
    remedies: Remedies,
    destination: Arc<Destination>,
    outage: Outage,
    metrics: Metrics,
    /// For `Retry-After` as a date.
    wall_clock: fn() -> SystemTime,
}

// === impl Attempt ===

impl<S> Attempt<S> {
    pub(super) fn new(inner: S, judge: Arc<Judge>, slots: Arc<Slots>) -> Self {
        Self { inner, judge, slots }
    }
}

impl<S, B> Attempt<S>
where
    S: Service<Slices, Response = Response<B>, Error = BoxError> + Clone,
    B: Body<Data = Bytes> + Unpin,
{
    async fn once(&mut self, request: &WatchedBody) -> Outcome {
        let WatchedBody { body, watch, attempts } = request;
        let judge = &*self.judge;
        let began = Instant::now();
        let span = judge.span(attempts, body.remaining());
        let outcome = match self.inner.call(body.clone()).await {
            Ok(response) => judge.answered(response, began, &span).await,
            Err(error) => judge.unanswered(error, &span).await,
        };
        let took = began.elapsed();
        judge.metrics.export_attempt(judge.signal, outcome.meaning().label(), took);
        judge.outage.note(&outcome);
        Judge::ended(&span, &outcome);
        watch.attempt(judge.signal, || outcome.as_attempt(took));
        outcome
    }
}

impl<S, B> Service<WatchedBody> for Attempt<S>
where
    S: Service<Slices, Response = Response<B>, Error = BoxError> + Clone + Send + Sync + 'static,
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
        let mut attempt = self.clone();
        Box::pin(async move {
            let (judge, slots) = (Arc::clone(&attempt.judge), Arc::clone(&attempt.slots));
            loop {
                let clearance = judge.destination.clearance().await;
                let _slot = slots.acquire(|| judge.outage.is_failing()).await;
                if !judge.destination.admits(&clearance) {
                    // It was blocked while this export waited for its slot.
                    continue;
                }
                let outcome = attempt.once(&request).await;
                judge.destination.ended(clearance, &outcome);
                if outcome.meaning() != Meaning::Blocked {
                    return Ok(outcome);
                }
            }
        })
    }
}

// === impl Judge ===

impl Judge {
    pub(super) fn new(
        signal: Signal,
        config: &ExporterConfig,
        metrics: Metrics,
        wall_clock: fn() -> SystemTime,
    ) -> Self {
        let export: SignalExport<'_> = config.of(signal);
        let endpoint = host_and_port(export.endpoint);
        let probe_interval = config.retry_on_failure.max_interval;
        let destination = Destination::new(signal, endpoint.clone(), probe_interval, metrics.clone());
        Self {
            signal,
            timeout: export.timeout,
            port: (export.endpoint.scheme() == Some(&Scheme::HTTP))
                .then(|| PlainPort::new(export.endpoint.clone())),
            outage: Outage::new(signal, endpoint.clone()),
            endpoint,
            permanent: config.permanent_status_codes.clone(),
            remedies: Remedies::new(signal, &export),
            destination: Arc::new(destination),
            metrics,
            wall_clock,
        }
    }

    /// Of one attempt.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn destination(&self) -> Arc<Destination> {
        Arc::clone(&self.destination)
    }

    async fn answered<B>(&self, response: Response<B>, began: Instant, span: &OwnSpan) -> Outcome
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (head, body) = response.into_parts();
        let status = head.status;
        span.number("http.response.status_code", status.as_u16());
        let left = self.timeout.saturating_sub(began.elapsed());
        let body =
            tokio::time::timeout(left, response::read_body(body)).await.ok().flatten().unwrap_or_default();

        let meaning = meaning_of(status, &self.permanent);
        if meaning == Meaning::Sent {
            self.port.iter().for_each(PlainPort::answered);
            return Outcome::Sent { partial: response::partial_success(&head.headers, &body) };
        }
        let reason = response::refusal("downstream", status, &head.headers, &body);
        span.failed(status.as_str(), &reason);
        let retry_after = || retry_after(&head.headers, (self.wall_clock)());
        match meaning {
            Meaning::Permanent if self.port.is_some() && closes(&head) => {
                self.doubtful(status, reason, began).await
            }
            Meaning::Permanent => Outcome::Permanent { reason },
            Meaning::Throttled => Outcome::Throttled { reason, retry_after: retry_after() },
            Meaning::Blocked => {
                Outcome::Blocked { reason, status: Some(status), remedy: self.remedies.of(status) }
            }
            Meaning::Sent | Meaning::Retryable => Outcome::Retryable { reason, retry_after: retry_after() },
        }
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
        span.text("spanrelay.outcome", outcome.meaning().label().as_str());
        span.end();
    }

    /// No status came: nothing is known about the data.
    async fn unanswered(&self, error: BoxError, span: &OwnSpan) -> Outcome {
        let Unanswered { fault, reason, advice } = fault::examine(&self.endpoint, self.timeout, &*error);
        drop(error);
        span.failed("no_answer", &reason);
        let remedy = match fault {
            Fault::Tls if advice.is_empty() => remedy::TLS,
            Fault::Tls | Fault::NotHttp => advice,
            Fault::Closed if self.is_at_tls_port().await => remedy::TLS_PORT,
            Fault::Closed | Fault::Timeout | Fault::Refused | Fault::Unreachable => {
                let reason = if advice.is_empty() { reason } else { format!("{reason}: {advice}") };
                return Outcome::Retryable { reason, retry_after: None };
            }
        };
        Outcome::Blocked { reason, status: None, remedy: remedy.to_owned() }
    }

    /// The outcome of a response that condemns the data, if it is not from a TLS port that could not read the request.
    async fn doubtful(&self, status: StatusCode, reason: String, began: Instant) -> Outcome {
        if self.is_at_tls_port().await {
            let remedy = remedy::TLS_PORT.to_owned();
            return Outcome::Blocked { reason, status: Some(status), remedy };
        }
        if self.port.as_ref().is_some_and(|port| port.was_plain(began)) {
            return Outcome::Permanent { reason };
        }
        // The port may have been one for TLS until a moment ago.
        Outcome::Retryable { reason, retry_after: None }
    }

    /// Plain HTTP is sent to a port that speaks TLS.
    async fn is_at_tls_port(&self) -> bool {
        match &self.port {
            Some(port) => port.speaks_tls().await,
            None => false,
        }
    }
}

/// Reports whether the connection ends with this response, as it does at a TLS port that got plain HTTP.
fn closes(head: &http::response::Parts) -> bool {
    let connection = head.headers.get_all(header::CONNECTION);
    let is_close = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"close");
    head.version < Version::HTTP_11 || connection.iter().any(is_close)
}
