//! Self-tracing: spans for the requests that the relay handles, enabled by `telemetry.traces`.
//!
//! In: reports of the front door, the relay and the exporter. Out: OTLP spans, to a separate endpoint.
//! Promises: while disabled, a report costs one load of an atomic; nothing waits for self-tracing: spans that exceed the
//! bounded queue are dropped and counted; ids of relayed data are never used, and the only client-controlled content is
//! known words and the linked ids of a `traceparent`.
//! Leaves to others: the transport ([`Deliver`]), which belongs to the exporter and is not traced.
//!
//! The OpenTelemetry SDK is not used, because it reads `OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES` and
//! `OTEL_EXPORTER_OTLP_*` by itself. The latter configure the exporter of relayed data here, so a vendor's token would be
//! sent to another endpoint. Spans of `tracing` are not used either, so that no HTTP client can trace the requests that
//! carry self-tracing spans.
//!
//! - Each request is one trace, whose id is the request's `x-request-id`. The client's `traceparent` becomes a link and
//!   not the parent, because clients must not choose the ids or the sampling of the operator's traces.
//! - An export attempt is a child of the request whose data it carries, or, for data of several requests, a trace of its
//!   own with links to them.
//! - Requests that carry self-tracing spans of a relay are not traced: else two relays, or one behind a load balancer,
//!   could trace each other's requests forever.

mod sender;

mod span;

mod traceparent;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use http::header::USER_AGENT;
use opentelemetry_proto::tonic::trace::v1::Span;
use prometheus::IntCounter;
use tokio::sync::mpsc;
use uuid::Uuid;

pub(crate) use self::sender::{Deliver, SpanSender, Undelivered};
use self::span::SpanBeginning;
pub(crate) use self::span::{OwnSpan, OwnSpanKind};

/// Prefix and suffix of the user agent of self-tracing requests, of any version.
const AGENT: (&str, &str) = ("spanrelay/", " (own traces)");
/// User agent of self-tracing requests of this version.
pub(crate) const USER_AGENT_OF_OWN: &str = concat!("spanrelay/", env!("CARGO_PKG_VERSION"), " (own traces)");
/// Maximum number of spans in the queue, as in the SDKs. Each takes about a kilobyte.
const MAX_WAITING: usize = 2048;
/// Maximum number of links per span, as in the SDKs.
const MAX_LINKS: usize = 128;
/// Number of trace id bits that are random by UUID version 4, W3C's random flag and the specification's sampler alike.
const RANDOM_BITS: u32 = 56;

/// Recipient of reports. Clones report to the same endpoint.
#[derive(Clone, Default)]
pub(crate) struct SelfTraces(Arc<OnceLock<Recorder>>);

/// State of self-tracing while enabled.
struct Recorder {
    /// Number of sampled trace ids out of 2^56.
    threshold: u64,
    ended: mpsc::Sender<Span>,
    counts: OwnSpanCounts,
}

/// Counts of sent and dropped spans.
#[derive(Clone)]
pub(crate) struct OwnSpanCounts {
    pub(crate) sent: IntCounter,
    pub(crate) dropped: IntCounter,
}

/// Ids of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanIds {
    trace: [u8; 16],
    span: [u8; 8],
}

/// Origin of data, for the spans that follow from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Unknown: self-tracing is disabled, or an earlier process accepted the data.
    #[default]
    Unknown,
    /// Request that is not recorded, and neither is anything that follows from it.
    Unrecorded,
    /// Span of the request.
    Span(SpanIds),
}

/// Attempts of one export. Clones share the count.
#[derive(Clone, Default)]
pub(crate) struct Attempts(Option<Arc<ExportSpans>>);

struct ExportSpans {
    traces: SelfTraces,
    trace: [u8; 16],
    parent: Option<[u8; 8]>,
    links: Vec<SpanIds>,
    begun: AtomicU32,
}

// === impl SelfTraces ===

impl SelfTraces {
    /// Starts recording this fraction of the traces, and returns the channel of finished spans. Only the first call has an
    /// effect.
    pub(crate) fn start(&self, sampling_ratio: f64, counts: OwnSpanCounts) -> mpsc::Receiver<Span> {
        let (ended, spans) = mpsc::channel(MAX_WAITING);
        let all = (1_u64 << RANDOM_BITS) as f64;
        // Between 0 and 2^56, which an `f64` represents exactly.
        let threshold = (sampling_ratio.clamp(0.0, 1.0) * all) as u64;
        drop(self.0.set(Recorder { threshold, ended, counts }));
        spans
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.get().is_some()
    }

    /// Starts the span of a request to the front door. `id` is the request id, which becomes the trace id.
    pub(crate) fn request(
        &self,
        id: Option<&str>,
        headers: &HeaderMap,
        name: impl FnOnce() -> String,
    ) -> OwnSpan {
        let Some(recorder) = self.0.get() else { return OwnSpan::Off };
        let trace = id.and_then(|id| Uuid::try_parse(id).ok()).unwrap_or_else(Uuid::new_v4).into_bytes();
        if !recorder.samples(trace) || brings_own_spans(headers) {
            return OwnSpan::Unrecorded;
        }
        let links = traceparent::of(headers).into_iter().collect();
        self.begin(SpanBeginning { trace, parent: None, links, name: name(), kind: OwnSpanKind::Server })
    }

    /// Starts a child span of `parent`.
    pub(crate) fn part_of(&self, parent: &OwnSpan, name: &'static str) -> OwnSpan {
        match parent.cause() {
            Cause::Span(SpanIds { trace, span }) => {
                let (name, links) = (name.to_owned(), Vec::new());
                self.begin(SpanBeginning {
                    trace,
                    parent: Some(span),
                    links,
                    name,
                    kind: OwnSpanKind::Internal,
                })
            }
            Cause::Unknown | Cause::Unrecorded => parent.clone(),
        }
    }

    /// Starts an export. Calls `causes` only if self-tracing is enabled.
    pub(crate) fn export<I: Iterator<Item = Cause>>(&self, causes: impl FnOnce() -> I) -> Attempts {
        let Some(recorder) = self.0.get() else { return Attempts::default() };
        let (mut spans, mut unknown): (Vec<SpanIds>, bool) = (Vec::new(), false);
        for cause in causes() {
            match cause {
                Cause::Span(ids) if spans.last() != Some(&ids) && !spans.contains(&ids) => spans.push(ids),
                Cause::Span(_) | Cause::Unrecorded => {}
                Cause::Unknown => unknown = true,
            }
        }
        let (trace, parent, links) = match spans.as_slice() {
            [] => {
                let trace = Uuid::new_v4().into_bytes();
                if !unknown || !recorder.samples(trace) {
                    return Attempts::default();
                }
                (trace, None, spans)
            }
            [only] => (only.trace, Some(only.span), Vec::new()),
            // An export of a sampled request is sampled.
            _ => (Uuid::new_v4().into_bytes(), None, spans),
        };
        let export = ExportSpans { traces: self.clone(), trace, parent, links, begun: AtomicU32::new(0) };
        Attempts(Some(Arc::new(export)))
    }

    fn begin(&self, beginning: SpanBeginning) -> OwnSpan {
        OwnSpan::begin(self.clone(), beginning)
    }

    /// Queues a finished span without waiting.
    fn ended(&self, span: Span) {
        if let Some(recorder) = self.0.get()
            && recorder.ended.try_send(span).is_err()
        {
            recorder.counts.dropped.inc();
        }
    }
}

fn brings_own_spans(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    agent.starts_with(AGENT.0) && agent.ends_with(AGENT.1)
}

impl fmt::Debug for SelfTraces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelfTraces").field("on", &self.is_on()).finish_non_exhaustive()
    }
}

// === impl Recorder ===

impl Recorder {
    fn samples(&self, trace: [u8; 16]) -> bool {
        let [.., a, b, c, d, e, f, g] = trace;
        u64::from_be_bytes([0, a, b, c, d, e, f, g]) < self.threshold
    }
}

// === impl Attempts ===

impl Attempts {
    /// Starts the span of the next attempt, and returns the number of earlier ones.
    pub(crate) fn begin(&self, name: impl FnOnce() -> String) -> (OwnSpan, u32) {
        let Some(export) = &self.0 else { return (OwnSpan::Unrecorded, 0) };
        let earlier = export.begun.fetch_add(1, Ordering::Relaxed);
        let span = export.traces.begin(SpanBeginning {
            trace: export.trace,
            parent: export.parent,
            links: export.links.clone(),
            name: name(),
            kind: OwnSpanKind::Client,
        });
        (span, earlier)
    }
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts").field("recorded", &self.0.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
