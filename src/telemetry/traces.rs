//! The relay's own traces: what it did with each request, for whoever configures `telemetry.traces`.
//!
//! In: reports of those who do the work: the front door, the relay, the exporter. Out: OTLP spans, to an endpoint of
//! their own.
//! Promises: while they are off a report costs one load of an atomic; nothing waits for them: what the bounded queue
//! has no room for is dropped and counted; no id of relayed data becomes one of theirs, and nothing that a sender chose
//! is in them but known words and the ids of a `traceparent` that they link to.
//! Leaves to others: the way to the endpoint ([`Deliver`]), which is the exporter's, and makes no spans.
//!
//! Not the OpenTelemetry SDK: that reads `OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_EXPORTER_OTLP_*` by
//! itself, and the latter configure the exporter of relayed data here: a vendor's token would go to another endpoint.
//! Neither are spans made of `tracing`'s, so that no HTTP client can report on the requests that carry them.
//!
//! - One trace for each request, and its id is the request's `x-request-id`. The `traceparent` of a sender is linked to
//!   and not joined: whoever can send must not choose the ids of the operator's traces, nor what is sampled.
//! - An attempt to export is a child of the request whose data it carries, or, when that is several requests, a trace of
//!   its own with links to them.
//! - A request that brings own spans of a relay makes none: else two relays, or one behind a load balancer, could keep
//!   each other busy for ever.

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

pub(crate) use self::sender::{Deliver, Sender, Undelivered};
use self::span::Beginning;
pub(crate) use self::span::{Kind, OwnSpan};

/// How requests that carry own spans name their sender, of any version.
const AGENT: (&str, &str) = ("spanrelay/", " (own traces)");
/// The same, of this version.
pub(crate) const USER_AGENT_OF_OWN: &str = concat!("spanrelay/", env!("CARGO_PKG_VERSION"), " (own traces)");
/// Spans that wait to be sent; the SDKs' usual number. Each takes about a kilobyte.
const MAX_WAITING: usize = 2048;
/// Of one span; the SDKs' usual number.
const MAX_LINKS: usize = 128;
/// As many bits of a trace id are random in all of UUID version 4, W3C's random flag and the specification's sampler.
const RANDOM_BITS: u32 = 56;

/// Where reports go. Clones report to the same endpoint.
#[derive(Clone, Default)]
pub(crate) struct Traces(Arc<OnceLock<Recorder>>);

/// What there is of own traces while they are on.
struct Recorder {
    /// Of 2^56 trace ids, so many are sampled.
    threshold: u64,
    ended: mpsc::Sender<Span>,
    counts: OwnSpanCounts,
}

/// How many spans were sent and how many were not.
#[derive(Clone)]
pub(crate) struct OwnSpanCounts {
    pub(crate) sent: IntCounter,
    pub(crate) dropped: IntCounter,
}

/// A span, as others refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanIds {
    trace: [u8; 16],
    span: [u8; 8],
}

/// What a piece of data came with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nothing is known: traces are off, or an earlier process took it.
    #[default]
    Unknown,
    /// A request that is not recorded, and so is nothing that follows from it.
    Unrecorded,
    /// The span of the request.
    Span(SpanIds),
}

/// One export, from attempt to attempt. Clones count the same attempts.
#[derive(Clone, Default)]
pub(crate) struct Attempts(Option<Arc<Export>>);

struct Export {
    traces: Traces,
    trace: [u8; 16],
    parent: Option<[u8; 8]>,
    links: Vec<SpanIds>,
    begun: AtomicU32,
}

// === impl Traces ===

impl Traces {
    /// From now on spans are recorded, this part of the traces. What ended comes out of the channel. The first call counts.
    pub(crate) fn start(&self, sampling_ratio: f64, counts: OwnSpanCounts) -> mpsc::Receiver<Span> {
        let (ended, spans) = mpsc::channel(MAX_WAITING);
        let all = (1_u64 << RANDOM_BITS) as f64;
        // Between 0 and 2^56, which a double holds exactly.
        let threshold = (sampling_ratio.clamp(0.0, 1.0) * all) as u64;
        drop(self.0.set(Recorder { threshold, ended, counts }));
        spans
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.get().is_some()
    }

    /// The span of a request to the front door. `id` is the request's, which becomes the trace's.
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
        self.begin(Beginning { trace, parent: None, links, name: name(), kind: Kind::Server })
    }

    /// A part of the work that was begun with `parent`.
    pub(crate) fn part_of(&self, parent: &OwnSpan, name: &'static str) -> OwnSpan {
        match parent.cause() {
            Cause::Span(SpanIds { trace, span }) => {
                let (name, links) = (name.to_owned(), Vec::new());
                self.begin(Beginning { trace, parent: Some(span), links, name, kind: Kind::Internal })
            }
            Cause::Unknown | Cause::Unrecorded => parent.clone(),
        }
    }

    /// An export that is about to be sent. `causes` of all that is in it are asked for only when traces are on.
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
            // What belongs to a request that is sampled is sampled.
            _ => (Uuid::new_v4().into_bytes(), None, spans),
        };
        let export = Export { traces: self.clone(), trace, parent, links, begun: AtomicU32::new(0) };
        Attempts(Some(Arc::new(export)))
    }

    fn begin(&self, beginning: Beginning) -> OwnSpan {
        OwnSpan::begin(self.clone(), beginning)
    }

    /// Never waits.
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

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").field("on", &self.is_on()).finish_non_exhaustive()
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
    /// The next attempt, and how many there were before it.
    pub(crate) fn begin(&self, name: impl FnOnce() -> String) -> (OwnSpan, u32) {
        let Some(export) = &self.0 else { return (OwnSpan::Unrecorded, 0) };
        let earlier = export.begun.fetch_add(1, Ordering::Relaxed);
        let span = export.traces.begin(Beginning {
            trace: export.trace,
            parent: export.parent,
            links: export.links.clone(),
            name: name(),
            kind: Kind::Client,
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
