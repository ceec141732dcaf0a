//! Makes attempts until one has an outcome other than a blocked destination: each waits for clearance and a slot, is measured,
//! and has its response read and classified.
//!
//! In: a body. Out: an [`Outcome`], never an error: errors of the stack below become outcomes, too. Promises: an attempt that
//! fails because of the destination is repeated, as [`destination`](super::destination) permits, until another outcome
//! occurs; a received status counts, even if its body cannot be read. A 200 whose body hangs or breaks off was delivered;
//! sending it again would deliver it twice.

mod observer;

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
use super::fault::{self, ConnectionFault, NoResponse};
use super::otlp_http::host_and_port;
use super::outcome::{Outcome, classify_status};
use super::remedy::Remedies;
use super::response;
use super::retry::retry_after;
use super::slices::Slices;
use super::slots::Slots;
use super::stack::ExportBody;
use super::tls_port::PlainPort;
use crate::config::{ExporterConfig, Protocol, SignalExport};
use crate::event::{ExportOutcome, Signal};
use crate::telemetry::Metrics;

use observer::AttemptObserver;
pub(super) use observer::{ExportObserver, SignalObserver};

/// Middleware that turns attempts into outcomes.
#[derive(Clone)]
pub(super) struct Attempt<S> {
    inner: S,
    classifier: Arc<Classifier>,
    observer: Arc<SignalObserver>,
    slots: Arc<Slots>,
}

/// Turns the responses of one signal into outcomes.
pub(super) struct Classifier {
    timeout: Duration,
    /// `None` if the endpoint is https.
    port: Option<PlainPort>,
    /// Host and port.
    endpoint: String,
    /// Advice for a connection that was closed without a response.
    closed_advice: &'static str,
    permanent: Vec<u16>,
    remedies: Remedies,
    destination: Arc<Destination>,
    /// Clock for a `Retry-After` that is a date.
    wall_clock: fn() -> SystemTime,
}

// === impl Attempt ===

impl<S> Attempt<S> {
    pub(super) fn new(
        inner: S,
        classifier: Arc<Classifier>,
        observer: Arc<SignalObserver>,
        slots: Arc<Slots>,
    ) -> Self {
        Self { inner, classifier, observer, slots }
    }
}

impl<S, B> Service<ExportBody> for Attempt<S>
where
    S: Service<Slices, Response = Response<B>, Error = BoxError> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = Outcome;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Outcome, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The services below are always ready. Polling them here could return an error, which has no place in this type.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ExportBody) -> Self::Future {
        let Self { mut inner, classifier, observer, slots } = self.clone();
        Box::pin(async move {
            loop {
                let clearance = classifier.destination.clearance().await;
                let _slot = slots.acquire(|| observer.is_failing()).await;
                if !classifier.destination.admits(&clearance) {
                    // The destination was blocked while this export waited for its slot.
                    continue;
                }
                let outcome = once(&mut inner, &classifier, &observer, &request).await;
                classifier.destination.record(clearance, &outcome);
                if outcome.kind() != ExportOutcome::Blocked {
                    return Ok(outcome);
                }
            }
        })
    }
}

/// Makes one attempt.
async fn once<S, B>(
    inner: &mut S,
    classifier: &Classifier,
    observer: &SignalObserver,
    request: &ExportBody,
) -> Outcome
where
    S: Service<Slices, Response = Response<B>, Error = BoxError>,
    B: Body<Data = Bytes> + Unpin,
{
    let observer = observer.begin(&request.observer, request.body.remaining());
    let outcome = match inner.call(request.body.clone()).await {
        Ok(response) => classifier.responded(response, &observer).await,
        Err(error) => classifier.no_response(error, &observer).await,
    };
    observer.finish(&outcome);
    outcome
}

// === impl Classifier ===

impl Classifier {
    pub(super) fn new(
        signal: Signal,
        config: &ExporterConfig,
        metrics: Metrics,
        wall_clock: fn() -> SystemTime,
    ) -> Self {
        let export: SignalExport<'_> = config.of(signal);
        let endpoint = host_and_port(export.endpoint);
        let probe_interval = config.settings.retry_on_failure.max_interval;
        let destination = Destination::new(signal, endpoint.clone(), probe_interval, metrics);
        Self {
            timeout: export.timeout,
            port: (export.endpoint.scheme() == Some(&Scheme::HTTP))
                .then(|| PlainPort::new(export.endpoint.clone())),
            closed_advice: match export.protocol {
                Protocol::Http => "",
                Protocol::Grpc => "is this its OTLP/gRPC port (usually 4317)?",
            },
            endpoint,
            permanent: config.permanent_status_codes.clone(),
            remedies: Remedies::new(signal, &export),
            destination: Arc::new(destination),
            wall_clock,
        }
    }

    /// Returns the timeout of one attempt.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn destination(&self) -> Arc<Destination> {
        Arc::clone(&self.destination)
    }

    async fn responded<B>(&self, response: Response<B>, observer: &AttemptObserver<'_>) -> Outcome
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (parts, body) = response.into_parts();
        let status = parts.status;
        observer.responded(status);
        let left = self.timeout.saturating_sub(observer.began().elapsed());
        let body =
            tokio::time::timeout(left, response::read_body(body)).await.ok().flatten().unwrap_or_default();

        let kind = classify_status(status, &self.permanent);
        if kind == ExportOutcome::Sent {
            self.port.iter().for_each(PlainPort::accepted_plain_http);
            return Outcome::Sent { partial: response::partial_success(&parts.headers, &body) };
        }
        let reason = response::failure_reason("downstream", &parts, &body);
        observer.failed(status.as_str(), &reason);
        let retry_after = || retry_after(&parts.headers, (self.wall_clock)());
        match kind {
            ExportOutcome::Permanent if self.port.is_some() && closes(&parts) => {
                self.doubtful(status, reason, observer.began()).await
            }
            ExportOutcome::Permanent => Outcome::Permanent { reason },
            ExportOutcome::Throttled => Outcome::Throttled { reason, retry_after: retry_after() },
            ExportOutcome::Blocked => {
                Outcome::Blocked { reason, status: Some(status), remedy: self.remedies.of(status) }
            }
            ExportOutcome::Sent | ExportOutcome::Retryable => {
                Outcome::Retryable { reason, retry_after: retry_after() }
            }
        }
    }

    /// Returns the outcome of an attempt without a status: nothing is known about the data.
    async fn no_response(&self, error: BoxError, observer: &AttemptObserver<'_>) -> Outcome {
        let NoResponse { fault, reason, advice } = fault::classify(&self.endpoint, self.timeout, &*error);
        drop(error);
        observer.failed("no_answer", &reason);
        let remedy = match fault {
            ConnectionFault::Tls if advice.is_empty() => self.remedies.tls(),
            ConnectionFault::Closed | ConnectionFault::NotHttp2 if self.is_at_tls_port().await => {
                self.remedies.tls_port()
            }
            ConnectionFault::Tls | ConnectionFault::NotHttp | ConnectionFault::NotHttp2 => advice.to_owned(),
            ConnectionFault::Closed
            | ConnectionFault::Timeout
            | ConnectionFault::Refused
            | ConnectionFault::Unreachable => {
                let advice = if fault == ConnectionFault::Closed && advice.is_empty() {
                    self.closed_advice
                } else {
                    advice
                };
                let reason = if advice.is_empty() { reason } else { format!("{reason}: {advice}") };
                return Outcome::Retryable { reason, retry_after: None };
            }
        };
        Outcome::Blocked { reason, status: None, remedy }
    }

    /// Returns the outcome of a response that condemns the data, unless it is from a TLS port that could not read the request.
    async fn doubtful(&self, status: StatusCode, reason: String, began: Instant) -> Outcome {
        if self.is_at_tls_port().await {
            let remedy = self.remedies.tls_port();
            return Outcome::Blocked { reason, status: Some(status), remedy };
        }
        if self.port.as_ref().is_some_and(|port| port.was_plain(began)) {
            return Outcome::Permanent { reason };
        }
        // The port may have been a TLS port until a moment ago.
        Outcome::Retryable { reason, retry_after: None }
    }

    /// Reports whether plain HTTP is sent to a port that speaks TLS.
    async fn is_at_tls_port(&self) -> bool {
        match &self.port {
            Some(port) => port.speaks_tls().await,
            None => false,
        }
    }
}

/// Reports whether the connection ends with this response, as at a TLS port that received plain HTTP.
fn closes(parts: &http::response::Parts) -> bool {
    let connection = parts.headers.get_all(header::CONNECTION);
    let is_close = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"close");
    parts.version < Version::HTTP_11 || connection.iter().any(is_close)
}
