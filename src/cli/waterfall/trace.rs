//! Spans, read from export requests and sorted into their traces.
//!
//! Only what is drawn is kept, and only of the first so many traces; the rest is counted.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// Attributes of an event that are kept for showing.
const KEPT_ATTRIBUTES: usize = 6;
/// Of one attribute's value, in characters.
const KEPT_VALUE_CHARS: usize = 120;
/// Events of a span that are kept for showing; the others are counted.
const KEPT_EVENTS: usize = 20;

/// Traces in the order in which they were first seen.
#[derive(Debug)]
pub(crate) struct Traces {
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
    pub(super) spans: Vec<Span>,
}

#[derive(Debug, Default)]
pub(super) struct Span {
    /// Lower-case; empty when there is none.
    pub(super) id: String,
    pub(super) parent: Option<String>,
    pub(super) name: String,
    /// Empty when the resource has no `service.name`.
    pub(super) service: String,
    /// Unix nanoseconds; zero counts as not known, as OTLP says.
    pub(super) start: Option<u64>,
    pub(super) end: Option<u64>,
    /// What is known about the error, if the status is one; may be empty.
    pub(super) error: Option<String>,
    /// The first ones, in the order of the request.
    pub(super) events: Vec<Event>,
    pub(super) more_events: usize,
}

#[derive(Debug)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) time: Option<u64>,
    /// `INFO`, `WARN`, if the event was a log record with one.
    pub(super) severity: Option<String>,
    pub(super) attributes: Vec<(String, String)>,
}

// === impl Traces ===

impl Traces {
    /// Keeps the spans of at most `limit` traces.
    pub(crate) fn new(limit: usize) -> Self {
        Self { kept: Vec::new(), by_id: HashMap::new(), limit, beyond: HashSet::new(), spans: 0, events: 0 }
    }

    /// Adds the spans of one export request. What is not shaped like OTLP/JSON is passed over.
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

    /// Traces that were seen and not kept.
    pub(crate) fn beyond(&self) -> usize {
        self.beyond.len()
    }

    /// Spans that were seen, of all traces.
    pub(crate) fn span_count(&self) -> usize {
        self.spans
    }

    /// Their events.
    pub(crate) fn event_count(&self) -> usize {
        self.events
    }

    fn add_span(&mut self, span: &Value, service: &str) {
        self.spans += 1;
        self.events += list(span, "events").len();
        let id = id(span, "traceId");
        let place = match self.by_id.get(&id) {
            Some(&place) => place,
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
        self.kept[place].spans.push(Span::read(span, service));
    }
}

// === impl Trace ===

impl Trace {
    /// In lower case; empty when its spans have none.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

// === impl Span ===

impl Span {
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
            events: events.iter().take(KEPT_EVENTS).map(Event::read).collect(),
            more_events: events.len().saturating_sub(KEPT_EVENTS),
        }
    }
}

// === impl Event ===

impl Event {
    fn read(event: &Value) -> Self {
        let attributes = list(event, "attributes").iter();
        let mut attributes: Vec<(String, String)> = attributes
            .take(KEPT_ATTRIBUTES)
            .map(|pair| (string(pair, "key"), pair.get("value").map(any_value).unwrap_or_default()))
            .collect();
        // What the relay adds for a log's severity reads better as one word; the number says it again.
        let severity = attributes.iter().position(|(key, _)| key == "log.severity_text");
        let severity = severity.map(|place| attributes.remove(place).1);
        if severity.is_some() {
            attributes.retain(|(key, _)| key != "log.severity_number");
        }
        Self { name: string(event, "name"), time: nanoseconds(event, "timeUnixNano"), severity, attributes }
    }
}

/// Status 2 is ERROR; the name of the enum is not allowed in OTLP/JSON, but some senders write it.
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

/// A 64-bit number, as a string or as a number. Zero means that the time is not known.
fn nanoseconds(value: &Value, key: &str) -> Option<u64> {
    let number = value.get(key)?;
    let nanoseconds = match number {
        Value::String(digits) => digits.parse().ok(),
        _ => number.as_u64(),
    };
    nanoseconds.filter(|&nanoseconds| nanoseconds > 0)
}

/// An attribute's value, as short text: the value itself for the simple kinds, the size of lists and maps.
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
