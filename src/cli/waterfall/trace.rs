//! Spans, read from export requests and grouped by trace.
//!
//! Keeps only what is drawn, and only for a limited number of traces; the rest is counted.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// Maximum number of attributes kept per event.
const KEPT_ATTRIBUTES: usize = 6;
/// Maximum length kept of one attribute's value, in characters.
const KEPT_VALUE_CHARS: usize = 120;
/// Maximum number of events kept per span; the others are counted.
const KEPT_EVENTS: usize = 20;

/// Traces, in order of first appearance.
#[derive(Debug)]
pub(crate) struct TraceSet {
    kept: Vec<Trace>,
    by_id: HashMap<String, usize>,
    limit: usize,
    beyond: HashSet<String>,
    spans: usize,
    events: usize,
}

/// All spans with one trace id.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(super) id: String,
    pub(super) spans: Vec<TraceSpan>,
}

#[derive(Debug, Default)]
pub(super) struct TraceSpan {
    /// Lower-case hex; empty when there is none.
    pub(super) id: String,
    pub(super) parent: Option<String>,
    pub(super) name: String,
    /// Empty when the resource has no `service.name`.
    pub(super) service: String,
    /// Unix nanoseconds; OTLP defines zero as unknown.
    pub(super) start: Option<u64>,
    pub(super) end: Option<u64>,
    /// Description of the error, if the status is one; may be empty.
    pub(super) error: Option<String>,
    /// First [`KEPT_EVENTS`] events, in the order of the request.
    pub(super) events: Vec<TraceEvent>,
    pub(super) more_events: usize,
}

#[derive(Debug)]
pub(super) struct TraceEvent {
    pub(super) name: String,
    pub(super) time: Option<u64>,
    /// Severity of the log record that became the event (`INFO`, `WARN`), if it had one.
    pub(super) severity: Option<String>,
    pub(super) attributes: Vec<(String, String)>,
}

// === impl TraceSet ===

impl TraceSet {
    /// Keeps the spans of at most `limit` traces.
    pub(crate) fn new(limit: usize) -> Self {
        Self { kept: Vec::new(), by_id: HashMap::new(), limit, beyond: HashSet::new(), spans: 0, events: 0 }
    }

    /// Adds the spans of one export request. Parts that are not OTLP/JSON are ignored.
    pub(crate) fn add(&mut self, request: &Value) {
        for resource in list(request, "resourceSpans") {
            let service = resource.get("resource").and_then(|resource| attribute(resource, "service.name"));
            for span in list(resource, "scopeSpans").iter().flat_map(|scope| list(scope, "spans")) {
                self.add_span(span, service.as_deref().unwrap_or_default());
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Trace> {
        self.kept.iter()
    }

    /// Number of traces seen but not kept.
    pub(crate) fn beyond(&self) -> usize {
        self.beyond.len()
    }

    /// Number of spans seen, of all traces.
    pub(crate) fn span_count(&self) -> usize {
        self.spans
    }

    /// Number of span events seen, of all traces.
    pub(crate) fn event_count(&self) -> usize {
        self.events
    }

    fn add_span(&mut self, span: &Value, service: &str) {
        self.spans += 1;
        self.events += list(span, "events").len();
        let id = id(span, "traceId");
        let position = match self.by_id.get(&id) {
            Some(&position) => position,
            None if self.kept.len() < self.limit => {
                self.by_id.insert(id.clone(), self.kept.len());
                self.kept.push(Trace { id, spans: Vec::new() });
                self.kept.len() - 1
            }
            None => {
                self.beyond.insert(id);
                return;
            }
        };
        self.kept[position].spans.push(TraceSpan::read(span, service));
    }
}

// === impl Trace ===

impl Trace {
    /// Returns the trace id in lower case; empty when the spans have none.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

// === impl TraceSpan ===

impl TraceSpan {
    fn read(span: &Value, service: &str) -> Self {
        let events = list(span, "events");
        Self {
            id: id(span, "spanId"),
            parent: Some(id(span, "parentSpanId")).filter(|parent| !parent.is_empty()),
            name: string(span, "name"),
            service: service.to_owned(),
            start: nanoseconds(span, "startTimeUnixNano"),
            end: nanoseconds(span, "endTimeUnixNano"),
            error: error(span),
            events: events.iter().take(KEPT_EVENTS).map(TraceEvent::read).collect(),
            more_events: events.len().saturating_sub(KEPT_EVENTS),
        }
    }
}

// === impl TraceEvent ===

impl TraceEvent {
    fn read(event: &Value) -> Self {
        let attributes = list(event, "attributes").iter();
        let mut attributes: Vec<(String, String)> = attributes
            .take(KEPT_ATTRIBUTES)
            .map(|pair| (string(pair, "key"), pair.get("value").map(any_value).unwrap_or_default()))
            .collect();
        // The severity that the relay adds reads better as one word, and the number repeats it.
        let severity = attributes.iter().position(|(key, _)| key == "log.severity_text");
        let severity = severity.map(|position| attributes.remove(position).1);
        if severity.is_some() {
            attributes.retain(|(key, _)| key != "log.severity_number");
        }
        Self { name: string(event, "name"), time: nanoseconds(event, "timeUnixNano"), severity, attributes }
    }
}

/// Returns the description of an error status, if it is one. Status 2 is ERROR; OTLP/JSON does not allow the name of
/// the enum value, but some clients write it.
fn error(span: &Value) -> Option<String> {
    let status = span.get("status")?;
    let code = status.get("code")?;
    if code.as_u64() != Some(2) && code.as_str() != Some("STATUS_CODE_ERROR") {
        return None;
    }
    let message = string(status, "message");
    Some(if message.is_empty() { attribute(span, "error.type").unwrap_or_default() } else { message })
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn string(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().chars().take(KEPT_VALUE_CHARS).collect()
}

fn id(value: &Value, key: &str) -> String {
    string(value, key).to_ascii_lowercase()
}

fn attribute(holder: &Value, key: &str) -> Option<String> {
    let pair = list(holder, "attributes").iter().find(|pair| pair.get("key").is_some_and(|k| k == key))?;
    pair.get("value").map(any_value)
}

/// Reads a 64-bit number, given as a string or as a number. Zero means that the time is unknown.
fn nanoseconds(value: &Value, key: &str) -> Option<u64> {
    let number = value.get(key)?;
    let nanoseconds = match number {
        Value::String(digits) => digits.parse().ok(),
        _ => number.as_u64(),
    };
    nanoseconds.filter(|&nanoseconds| nanoseconds > 0)
}

/// Formats an attribute's value as short text: scalars as they are, lists and maps by their size.
fn any_value(value: &Value) -> String {
    let Some((kind, inner)) = value.as_object().and_then(|object| object.iter().next()) else {
        return String::new();
    };
    match inner {
        Value::String(text) => text.chars().take(KEPT_VALUE_CHARS).collect(),
        Value::Array(_) | Value::Object(_) => {
            let length = list(inner, "values").len();
            if kind == "kvlistValue" { format!("{{{length} keys}}") } else { format!("[{length} values]") }
        }
        simple => simple.to_string(),
    }
}
