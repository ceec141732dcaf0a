//! Summaries of export requests for the page.
//!
//! In: OTLP/JSON that the relay wrote or validated. Out: spans, events and log records within the bounds below.
//! Unexpected shapes are ignored.

use bytes::Bytes;
use serde_json::Value;

use super::excerpt::visible;
use super::view::{Attribute, ContentsView, Departure, EventView, ExportView, LogView, SpanView, Values};
use crate::event::Signal;

/// Maximum number of spans or log records per document.
const MAX_ITEMS: usize = 20;
/// Maximum number of events per span.
const MAX_EVENTS: usize = 20;
/// Maximum number of attributes per span, event or log record.
const MAX_ATTRIBUTES: usize = 48;
/// Maximum length of a name or a key, in characters.
const MAX_NAME: usize = 120;
/// Maximum length of a value, in characters.
const MAX_VALUE: usize = 240;
/// Maximum size of a document that is parsed for the page.
const MAX_BYTES: usize = 256 * 1024;
/// Maximum number of records named per export.
const MAX_RECORDS: usize = 64;

/// Summarises an export for the page.
pub(super) fn export(at_ms: u64, departure: &Departure<'_>, values: Values) -> ExportView {
    let mut records: Vec<u64> = departure.records.iter().map(|record| record.0).collect();
    records.sort_unstable();
    records.dedup();
    records.truncate(MAX_RECORDS);
    let contents = match departure.bytes.len() {
        0..=MAX_BYTES => contents(departure.signal, &(departure.json)(), values),
        _ => ContentsView::default(),
    };
    ExportView {
        at_ms,
        signal: departure.signal.as_str(),
        items: departure.items,
        size_bytes: departure.bytes.len(),
        records,
        contents,
    }
}

/// Returns the spans or log records of a request for one signal.
pub(super) fn contents(signal: Signal, json: &Bytes, values: Values) -> ContentsView {
    let mut contents = ContentsView::default();
    if json.len() > MAX_BYTES || signal == Signal::Metrics {
        return contents;
    }
    let Ok(request) = serde_json::from_slice::<Value>(json) else { return contents };
    let (resources, scopes, items) = match signal {
        Signal::Traces => ("resourceSpans", "scopeSpans", "spans"),
        Signal::Logs => ("resourceLogs", "scopeLogs", "logRecords"),
        Signal::Metrics => ("resourceMetrics", "scopeMetrics", "metrics"),
    };
    for resource in list(&request, resources) {
        let of_resource =
            resource.get("resource").map(|resource| attributes(resource, values)).unwrap_or_default();
        let service = service_name(resource);
        for item in list(resource, scopes).iter().flat_map(|scope| list(scope, items)) {
            if contents.spans.len() + contents.logs.len() == MAX_ITEMS {
                contents.more += 1;
            } else if signal == Signal::Traces {
                contents
                    .spans
                    .push(SpanView { service: service.clone(), ..span(item, &of_resource, values) });
            } else {
                contents.logs.push(log(item, &of_resource, values));
            }
        }
    }
    contents
}

fn span(span: &Value, of_resource: &[Attribute], values: Values) -> SpanView {
    let events = list(span, "events");
    let code = span.get("status").and_then(|status| status.get("code"));
    SpanView {
        trace: text(span, "traceId").unwrap_or_default().to_ascii_lowercase(),
        span: text(span, "spanId").unwrap_or_default().to_ascii_lowercase(),
        parent: text(span, "parentSpanId").map(|parent| parent.to_ascii_lowercase()),
        service: String::new(),
        name: text(span, "name").unwrap_or_default(),
        kind: span.get("kind").and_then(kind),
        start: nanoseconds(span, "startTimeUnixNano"),
        end: nanoseconds(span, "endTimeUnixNano"),
        is_error: code.is_some_and(|code| code == 2 || code == "STATUS_CODE_ERROR"),
        attributes: with_resource(of_resource, span, values),
        events: events.iter().take(MAX_EVENTS).map(|event| self::event(event, values)).collect(),
        more_events: events.len().saturating_sub(MAX_EVENTS),
    }
}

fn service_name(resource: &Value) -> String {
    let attributes =
        resource.get("resource").map(|resource| list(resource, "attributes")).unwrap_or_default();
    let service = attributes.iter().find(|pair| pair.get("key").is_some_and(|key| key == "service.name"));
    service.and_then(|pair| text(pair.get("value")?, "stringValue")).unwrap_or_default()
}

fn event(event: &Value, values: Values) -> EventView {
    EventView {
        name: text(event, "name").unwrap_or_default(),
        time: nanoseconds(event, "timeUnixNano"),
        attributes: attributes(event, values),
    }
}

fn log(log: &Value, of_resource: &[Attribute], values: Values) -> LogView {
    let body = log.get("body").filter(|_| values == Values::Shown).map(any_value);
    LogView {
        trace: text(log, "traceId").map(|id| id.to_ascii_lowercase()),
        span: text(log, "spanId").map(|id| id.to_ascii_lowercase()),
        name: text(log, "eventName").or(body),
        time: nanoseconds(log, "timeUnixNano").or_else(|| nanoseconds(log, "observedTimeUnixNano")),
        severity: text(log, "severityText"),
        attributes: with_resource(of_resource, log, values),
    }
}

fn with_resource(of_resource: &[Attribute], item: &Value, values: Values) -> Vec<Attribute> {
    let mut all = of_resource.to_vec();
    all.extend(attributes(item, values));
    all.truncate(MAX_ATTRIBUTES);
    all
}

fn attributes(holder: &Value, values: Values) -> Vec<Attribute> {
    let attribute = |pair: &Value| Attribute {
        key: text(pair, "key").unwrap_or_default(),
        value: match values {
            Values::Hidden => None,
            Values::Shown => Some(pair.get("value").map(any_value).unwrap_or_default()),
        },
    };
    list(holder, "attributes").iter().take(MAX_ATTRIBUTES).map(attribute).collect()
}

/// Formats a value as short text: scalars as they are, lists and maps as JSON.
fn any_value(value: &Value) -> String {
    let inner = value.as_object().and_then(|object| object.values().next());
    match inner {
        Some(Value::String(text)) => short(text, MAX_VALUE),
        Some(other) => short(&other.to_string(), MAX_VALUE),
        None => String::new(),
    }
}

fn kind(kind: &Value) -> Option<&'static str> {
    let number = kind.as_u64();
    let is = |value: u64, name: &str| number == Some(value) || kind.as_str() == Some(name);
    [
        (1, "SPAN_KIND_INTERNAL", "internal"),
        (2, "SPAN_KIND_SERVER", "server"),
        (3, "SPAN_KIND_CLIENT", "client"),
        (4, "SPAN_KIND_PRODUCER", "producer"),
        (5, "SPAN_KIND_CONSUMER", "consumer"),
    ]
    .into_iter()
    .find_map(|(value, name, word)| is(value, name).then_some(word))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(|text| short(text, MAX_NAME))
}

/// Cuts text and makes every character visible.
fn short(text: &str, max_chars: usize) -> String {
    let end = text.char_indices().nth(max_chars).map(|(end, _)| end);
    match end {
        None => visible(text.as_bytes()),
        Some(end) => visible(text.as_bytes().get(..end).unwrap_or_default()) + "…",
    }
}

/// Reads a 64-bit number, given as a string or as a number. Zero means that the time is unknown.
fn nanoseconds(value: &Value, key: &str) -> Option<String> {
    let number = match value.get(key)? {
        Value::String(digits) => digits.parse().ok(),
        number => number.as_u64(),
    };
    number.filter(|&number: &u64| number > 0).map(|number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"edge"}}]},
        "scopeSpans":[{"spans":[{"traceId":"4BF92F3577B34DA6A3CE929D0E0E4736","spanId":"00f067aa0ba902b7","name":"GET <b>",
        "kind":2,"startTimeUnixNano":"1700000000000000001","endTimeUnixNano":1700000000000000009,"status":{"code":2},
        "attributes":[{"key":"http.status","value":{"intValue":"503"}}],
        "events":[{"name":"miss","timeUnixNano":"5","attributes":[{"key":"age","value":{"intValue":"7"}}]}]}]}]}]}"#;

    fn of(values: Values) -> SpanView {
        contents(Signal::Traces, &Bytes::from_static(REQUEST.as_bytes()), values).spans.remove(0)
    }

    #[test]
    fn a_span_keeps_its_ids_times_and_events_to_the_nanosecond() {
        let span = of(Values::Shown);
        assert_eq!(span.trace, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(span.start.as_deref(), Some("1700000000000000001"));
        assert_eq!(span.end.as_deref(), Some("1700000000000000009"));
        assert_eq!((span.kind, span.is_error, span.parent.as_deref()), (Some("server"), true, None));
        assert_eq!(span.service, "edge");
        assert_eq!((span.events[0].name.as_str(), span.events[0].time.as_deref()), ("miss", Some("5")));
    }

    #[test]
    fn values_are_present_only_if_shown() {
        let values = |span: &SpanView| -> Vec<Option<String>> {
            let events = span.events.iter().flat_map(|event| &event.attributes);
            span.attributes.iter().chain(events).map(|attribute| attribute.value.clone()).collect()
        };
        let some = |value: &str| Some(value.to_owned());
        assert_eq!(values(&of(Values::Shown)), [some("edge"), some("503"), some("7")]);
        assert_eq!(values(&of(Values::Hidden)), [None, None, None]);
        let keys: Vec<_> = of(Values::Hidden).attributes.into_iter().map(|attribute| attribute.key).collect();
        assert_eq!(keys, ["service.name", "http.status"]);
    }

    #[test]
    fn the_body_of_a_log_is_a_value_and_its_event_name_is_not() {
        let logs = |record: &str, values| {
            let json = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{record}]}}]}}]}}"#);
            contents(Signal::Logs, &Bytes::from(json), values).logs.remove(0).name
        };
        let body = r#"{"body":{"stringValue":"secret"}}"#;
        assert_eq!(logs(body, Values::Hidden), None);
        assert_eq!(logs(body, Values::Shown).as_deref(), Some("secret"));
        assert_eq!(logs(r#"{"eventName":"miss"}"#, Values::Hidden).as_deref(), Some("miss"));
    }

    #[test]
    fn large_or_unexpected_input_is_cut_or_ignored() {
        let many = r#"{"name":"x"},"#.repeat(MAX_ITEMS + 5);
        let json = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#,
            many.trim_end_matches(',')
        );
        let cut = contents(Signal::Traces, &Bytes::from(json), Values::Shown);
        assert_eq!((cut.spans.len(), cut.more), (MAX_ITEMS, 5));
        assert_eq!(short(&"ä".repeat(1000), 3), "äää…");
        for odd in
            ["", "[]", "{\"resourceSpans\":7}", "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[7]}]}]}"]
        {
            contents(Signal::Traces, &Bytes::from_static(odd.as_bytes()), Values::Shown);
        }
    }
}
