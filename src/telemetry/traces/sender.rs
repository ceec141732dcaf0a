//! Sends finished spans in batches.
//!
//! In: spans from the bounded queue. Out: OTLP requests, one at a time. Promises: a batch that fails for now is retried
//! while the queue fills up to its bound; every span is counted once, as sent or as dropped; an outage of the endpoint
//! is logged once, and its recovery once.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::OwnSpanCounts;
use crate::event::ExportOutcome;

/// Maximum number of spans per request, as in the SDKs.
const MAX_BATCH: usize = 512;
/// Maximum delay of the first span of a batch.
const MAX_DELAY: Duration = Duration::from_secs(1);
/// Initial retry interval; it doubles with each retry.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Maximum retry interval.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Minimum interval between log lines about an endpoint that fails and recovers repeatedly.
const REMINDER: Duration = Duration::from_secs(60);

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Transport to the endpoint.
pub(crate) trait Deliver: Send + Sync + 'static {
    /// Posts an OTLP request in protobuf.
    fn deliver(&self, body: Bytes) -> impl Future<Output = Result<(), Undelivered>> + Send;

    /// Returns host and port, for the log.
    fn endpoint(&self) -> &str;
}

/// Reason that the endpoint did not accept a request, for the log.
#[derive(Debug)]
pub(crate) struct Undelivered {
    pub(crate) outcome: ExportOutcome,
    pub(crate) reason: String,
}

/// Sends spans until stopped, then the remaining ones.
pub(crate) struct SpanSender<D> {
    deliver: D,
    spans: mpsc::Receiver<Span>,
    counts: OwnSpanCounts,
    resource: Resource,
    stop: CancellationToken,
    outage: LoggedOutage,
}

/// Outage of the endpoint as logged.
#[derive(Default)]
struct LoggedOutage {
    announced: bool,
    last_line: Option<Instant>,
    dropped_before: u64,
}

// === impl SpanSender ===

impl<D: Deliver> SpanSender<D> {
    pub(crate) fn new(
        deliver: D,
        spans: mpsc::Receiver<Span>,
        counts: OwnSpanCounts,
        stop: CancellationToken,
    ) -> Self {
        Self { deliver, spans, counts, resource: resource(), stop, outage: LoggedOutage::default() }
    }

    /// Runs until `stop`, then sends the remaining spans; the caller bounds the time for that.
    pub(crate) async fn run(mut self) {
        while let Some(batch) = self.gather().await {
            self.send(batch).await;
        }
    }

    /// Collects the next batch. Returns `None` once the queue is closed and empty.
    async fn gather(&mut self) -> Option<Vec<Span>> {
        let (mut batch, mut due) = (Vec::new(), None);
        while batch.len() < MAX_BATCH {
            let room = MAX_BATCH - batch.len();
            tokio::select! {
                biased;
                // A closed channel first returns its remaining spans.
                () = self.stop.cancelled(), if !self.spans.is_closed() => self.spans.close(),
                count = self.spans.recv_many(&mut batch, room) => {
                    if count == 0 {
                        break;
                    }
                    due.get_or_insert_with(|| Instant::now() + MAX_DELAY);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => break,
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    async fn send(&mut self, batch: Vec<Span>) {
        let spans = InHand { count: batch.len() as u64, counts: self.counts.clone() };
        let body = self.body(batch);
        let mut pause = FIRST_PAUSE;
        loop {
            let reason = match self.deliver.deliver(body.clone()).await {
                Ok(()) => {
                    spans.sent();
                    return self.outage.over(self.deliver.endpoint(), &self.counts);
                }
                Err(Undelivered { outcome: ExportOutcome::Throttled | ExportOutcome::Retryable, reason }) => {
                    reason
                }
                Err(Undelivered { reason, .. }) => {
                    drop(spans);
                    return self.outage.goes_on(self.deliver.endpoint(), &reason, &self.counts);
                }
            };
            self.outage.goes_on(self.deliver.endpoint(), &reason, &self.counts);
            // After `stop` there is one more attempt, without the rest of the pause.
            if self.stop.is_cancelled() || self.stop.run_until_cancelled(sleep(pause)).await.is_none() {
                if self.spans.is_closed() {
                    return;
                }
                self.spans.close();
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn body(&self, spans: Vec<Span>) -> Bytes {
        let scope = InstrumentationScope {
            name: NAME.to_owned(),
            version: VERSION.to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
        let resource = Some(self.resource.clone());
        let resource_spans = vec![ResourceSpans { resource, scope_spans, schema_url: String::new() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
    }
}

impl<D> Drop for SpanSender<D> {
    /// Counts the remaining spans as dropped.
    fn drop(&mut self) {
        self.spans.close();
        while self.spans.try_recv().is_ok() {
            self.counts.dropped.inc();
        }
    }
}

impl<D> fmt::Debug for SpanSender<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanSender").finish_non_exhaustive()
    }
}

/// Returns the resource. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` are deliberately not read.
fn resource() -> Resource {
    let instance = Uuid::new_v4().to_string();
    let attributes =
        [("service.name", NAME), ("service.version", VERSION), ("service.instance.id", instance.as_str())];
    let attribute = |(key, value): (&str, &str)| {
        let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
        KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
    };
    Resource { attributes: attributes.map(attribute).into(), ..Resource::default() }
}

/// Spans taken from the queue; counted as dropped unless they are sent.
struct InHand {
    count: u64,
    counts: OwnSpanCounts,
}

// === impl InHand ===

impl InHand {
    fn sent(mut self) {
        self.counts.sent.inc_by(self.count);
        self.count = 0;
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.counts.dropped.inc_by(self.count);
    }
}

// === impl LoggedOutage ===

impl LoggedOutage {
    fn goes_on(&mut self, endpoint: &str, reason: &str, counts: &OwnSpanCounts) {
        if self.announced || self.last_line.is_some_and(|last| last.elapsed() < REMINDER) {
            return;
        }
        (self.announced, self.last_line) = (true, Some(Instant::now()));
        self.dropped_before = counts.dropped.get();
        warn!(endpoint, reason, "self-trace export failing; relaying is unaffected");
    }

    fn over(&mut self, endpoint: &str, counts: &OwnSpanCounts) {
        if std::mem::take(&mut self.announced) {
            let dropped = counts.dropped.get() - self.dropped_before;
            info!(endpoint, dropped, "self-trace export recovered");
        }
    }
}

#[cfg(test)]
mod tests;
