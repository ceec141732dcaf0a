//! One span, from its start to its end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, status::StatusCode as Verdict};
use uuid::Uuid;

use super::{Cause, MAX_LINKS, SelfTraces, SpanIds};

/// Flags of a sampled span with a local parent: `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK` of `trace.proto`, and W3C's flag.
const FLAGS: u32 = 0x101;

/// A span of the relay's own work. Clones share the span, which ends at the latest when the last one is dropped.
#[derive(Clone, Default)]
pub(crate) enum OwnSpan {
    /// Self-tracing is disabled.
    #[default]
    Off,
    /// Not sampled.
    Unrecorded,
    /// Queued for export when it ends.
    Recorded(Arc<Recording>),
}

/// `SPAN_KIND_…`
#[derive(Debug, Clone, Copy)]
pub(crate) enum OwnSpanKind {
    Internal,
    Server,
    Client,
}

pub(super) struct SpanBeginning {
    pub(super) trace: [u8; 16],
    pub(super) parent: Option<[u8; 8]>,
    pub(super) links: Vec<SpanIds>,
    pub(super) name: String,
    pub(super) kind: OwnSpanKind,
}

/// A span in progress.
pub(crate) struct Recording {
    traces: SelfTraces,
    ids: SpanIds,
    began: Instant,
    span: Mutex<Span>,
}

// === impl OwnSpan ===

impl OwnSpan {
    pub(super) fn begin(traces: SelfTraces, beginning: SpanBeginning) -> Self {
        let SpanBeginning { trace, parent, links, name, kind } = beginning;
        let kind = match kind {
            OwnSpanKind::Internal => SpanKind::Internal,
            OwnSpanKind::Server => SpanKind::Server,
            OwnSpanKind::Client => SpanKind::Client,
        };
        let ids = SpanIds { trace, span: new_span_id() };
        let dropped_links = links.len().saturating_sub(MAX_LINKS);
        let span = Span {
            trace_id: trace.into(),
            span_id: ids.span.into(),
            parent_span_id: parent.map_or_else(Vec::new, Into::into),
            flags: FLAGS,
            name,
            kind: kind.into(),
            start_time_unix_nano: now_unix_nanos(),
            links: links.into_iter().take(MAX_LINKS).map(link).collect(),
            dropped_links_count: u32::try_from(dropped_links).unwrap_or(u32::MAX),
            ..Span::default()
        };
        Self::Recorded(Arc::new(Recording { traces, ids, began: Instant::now(), span: Mutex::new(span) }))
    }

    pub(crate) fn is_recorded(&self) -> bool {
        matches!(self, Self::Recorded(_))
    }

    /// Returns this span as the origin of later spans.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Off => Cause::Unknown,
            Self::Unrecorded => Cause::Unrecorded,
            Self::Recorded(recording) => Cause::Span(recording.ids),
        }
    }

    /// Adds an attribute. The key must be new to the span.
    pub(crate) fn text(&self, key: &'static str, value: &str) {
        self.attribute(key, || Value::StringValue(value.to_owned()));
    }

    /// Adds an attribute. The key must be new to the span.
    pub(crate) fn number(&self, key: &'static str, value: impl TryInto<i64>) {
        self.attribute(key, || Value::IntValue(value.try_into().unwrap_or(i64::MAX)));
    }

    /// Marks the span as failed, with `error.type` and an optional message.
    pub(crate) fn failed(&self, error_type: &str, message: &str) {
        let Self::Recorded(recording) = self else { return };
        self.text("error.type", error_type);
        recording.lock().status = Some(failure(message));
    }

    /// Ends the span now instead of when the last clone is dropped.
    pub(crate) fn end(&self) {
        if let Self::Recorded(recording) = self {
            recording.end(&mut recording.lock());
        }
    }

    fn attribute(&self, key: &'static str, value: impl FnOnce() -> Value) {
        let Self::Recorded(recording) = self else { return };
        let value = Some(AnyValue { value: Some(value()) });
        recording.lock().attributes.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }
}

// === impl Recording ===

impl Recording {
    fn lock(&self) -> MutexGuard<'_, Span> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the span; only the first call has an effect. Uses the monotonic clock, because the wall clock may be adjusted.
    fn end(&self, span: &mut Span) {
        if span.end_time_unix_nano == 0 {
            let took = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            span.end_time_unix_nano = span.start_time_unix_nano.saturating_add(took);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let mut span = std::mem::take(&mut *self.lock());
        self.end(&mut span);
        if std::thread::panicking() && span.status.is_none() {
            span.status = Some(failure("panicked"));
        }
        self.traces.ended(span);
    }
}

fn failure(message: &str) -> Status {
    Status { message: message.to_owned(), code: Verdict::Error.into() }
}

fn link(ids: SpanIds) -> Link {
    Link { trace_id: ids.trace.into(), span_id: ids.span.into(), ..Link::default() }
}

/// Returns the half of a UUID that has 62 random bits and is never zero.
fn new_span_id() -> [u8; 8] {
    let [.., a, b, c, d, e, f, g, h] = Uuid::new_v4().into_bytes();
    [a, b, c, d, e, f, g, h]
}

#[expect(clippy::disallowed_methods, reason = "the only wall clock of self-tracing")]
fn now_unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
