//! Lines as Fastly sends them, and the contents of the resulting exports.

use serde_json::Value;

use super::Recorded;

/// Trace id of most lines.
pub(crate) const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Returns a canonical line with one span of [`TRACE`]. `id` is a small number for the span's id.
pub(crate) fn span(id: u64, name: &str) -> String {
    span_with(TRACE, id, &format!("\"name\":\"{name}\""))
}

/// Returns a canonical line with one span that has these members in addition to its ids.
pub(crate) fn span_with(trace: &str, id: u64, members: &str) -> String {
    format!(
        "{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{{\"traceId\":\"{trace}\",\"spanId\":\"{id:016x}\",{members}}}]}}]}}]}}"
    )
}

/// Returns a canonical line with one log event about that span of [`TRACE`].
pub(crate) fn log(id: u64, body: &str) -> String {
    logs_only(&format!(
        "{{\"timeUnixNano\":\"1655990400123457000\",\"traceId\":\"{TRACE}\",\"spanId\":\"{id:016x}\",\"body\":{{\"stringValue\":\"{body}\"}}}}"
    ))
}

/// Returns a canonical line with these log records.
pub(crate) fn logs_only(records: &str) -> String {
    format!("{{\"resourceLogs\":[{{\"scopeLogs\":[{{\"logRecords\":[{records}]}}]}}]}}")
}

/// Joins several lines to one body.
pub(crate) fn request_of(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

/// Returns the name of every span with the names of its events, `span: event, event`; the body or event name of every
/// log record; the name of every metric.
pub(crate) fn names(request: &Recorded) -> Vec<String> {
    let json = request.json();
    let mut names: Vec<String> = Vec::new();
    for span in leaves(&json, ["resourceSpans", "scopeSpans", "spans"]) {
        let events = span["events"].as_array().map(Vec::as_slice).unwrap_or_default();
        let events: Vec<&str> = events.iter().map(|event| event["name"].as_str().unwrap()).collect();
        let name = span["name"].as_str().unwrap_or_default();
        names.push(if events.is_empty() {
            name.to_owned()
        } else {
            format!("{name}: {}", events.join(", "))
        });
    }
    for record in leaves(&json, ["resourceLogs", "scopeLogs", "logRecords"]) {
        let name = record["eventName"].as_str().or(record["body"]["stringValue"].as_str());
        names.push(format!("log {}", name.unwrap_or_default()));
    }
    for metric in leaves(&json, ["resourceMetrics", "scopeMetrics", "metrics"]) {
        names.push(format!("metric {}", metric["name"].as_str().unwrap_or_default()));
    }
    names
}

/// Returns the number of spans and log records of an export request.
#[cfg(feature = "kafka")]
pub(crate) fn items_in(request: &Value) -> usize {
    let spans = leaves(request, ["resourceSpans", "scopeSpans", "spans"]);
    spans.len() + leaves(request, ["resourceLogs", "scopeLogs", "logRecords"]).len()
}

/// Returns the trace id of every span.
pub(crate) fn trace_ids(request: &Recorded) -> Vec<String> {
    let json = request.json();
    let spans = leaves(&json, ["resourceSpans", "scopeSpans", "spans"]);
    spans.iter().map(|span| span["traceId"].as_str().unwrap().to_owned()).collect()
}

fn leaves<'a>(request: &'a Value, [resources, scopes, leaf]: [&str; 3]) -> Vec<&'a Value> {
    let list = |value: &'a Value, key: &str| value[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let scopes = list(request, resources).iter().flat_map(|resource| list(resource, scopes));
    scopes.flat_map(|scope| list(scope, leaf)).collect()
}
