//! Properties of every exported request.
//!
//! In: an exported request. Out: its meaning, or a panic: a strict reader rejects it, the relay itself would change it,
//! or its protobuf form differs.

use bytes::Bytes;
use spanrelay::internals::{ExportRequest, Item, LineReader, Logs, Reading, Signal, protobuf};

use super::body::count_lines;
use super::json::Json;
use super::{otlp, strict};

const NO_LIMIT: usize = usize::MAX;

/// A request of one signal.
#[derive(Debug)]
pub(super) struct Forwarded {
    pub(super) signal: Signal,
    pub(super) json: Bytes,
    pub(super) says: Json,
}

/// Returns the key of a signal's section.
pub(super) fn section_of(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "resourceSpans",
        Signal::Logs => "resourceLogs",
        Signal::Metrics => "resourceMetrics",
    }
}

/// Returns the path of a signal's requests.
pub(super) fn path_of(signal: Signal) -> String {
    format!("/v1/{signal}")
}

/// Checks an exported request.
pub(super) fn check(signal: Signal, json: &Bytes) -> Forwarded {
    let text = String::from_utf8_lossy(json);
    let says = Json::parse(json).unwrap_or_else(|| panic!("the export is not JSON: {text}"));
    let fields =
        strict::read(&says).unwrap_or_else(|refusal| panic!("the export is rejected: {refusal}: {text}"));
    let Json::Object(members) = &says else { unreachable!("the strict reader takes objects only") };
    for other in Signal::ALL.into_iter().filter(|other| *other != signal) {
        assert!(
            members.iter().all(|(key, _)| key != section_of(other)),
            "{other} exported as {signal}: {text}"
        );
    }
    is_a_fixed_point(signal, json);

    let path = path_of(signal);
    let encoded =
        protobuf::encode(signal, json).unwrap_or_else(|fault| panic!("no protobuf form: {fault:?}: {text}"));
    let read = otlp::reencoded(&path, &encoded);
    assert!(read == otlp::encoded(&path, &fields), "protobuf differs from {text}");
    let decoded =
        protobuf::decode(signal, &encoded, NO_LIMIT).unwrap_or_else(|error| panic!("{error}: {text}")).json;
    let again = protobuf::encode(signal, &decoded).unwrap_or_else(|fault| panic!("{fault:?}: {text}"));
    assert!(read == otlp::reencoded(&path, &again), "JSON decoded from protobuf differs from {text}");
    Forwarded { signal, json: json.clone(), says }
}

/// Checks that a second relay changes nothing.
fn is_a_fixed_point(signal: Signal, json: &Bytes) {
    let text = String::from_utf8_lossy(json);
    let line = LineReader::default()
        .read(json)
        .unwrap_or_else(|fault| panic!("not readable again: {fault:?}: {text}"));
    assert_eq!(
        (line.repairs.len(), line.dropped.len(), line.end),
        (0, 0, json.len()),
        "repaired again: {text}"
    );
    let again = match signal {
        Signal::Traces => line.traces.map(|traces| traces.into_request().into_json()),
        Signal::Logs => line.logs.and_then(|logs| logs.into_request(|_| true)).map(ExportRequest::into_json),
        Signal::Metrics => line.metrics.map(|metrics| metrics.into_request().into_json()),
    };
    assert!(again.as_ref() == Some(json), "changed again: {text}");
}

/// Checks an item of a receiver, and returns its exports.
pub(super) fn check_item(item: &Item) -> Vec<Forwarded> {
    let mut left = Vec::new();
    if let Some(traces) = &item.traces {
        let forwarded = check(Signal::Traces, &traces.clone().into_request().into_json());
        assert_eq!(spans(&forwarded.says).len(), traces.spans().len(), "spans are miscounted");
        left.push(forwarded);
    }
    if let Some(logs) = &item.logs {
        let json = logs.clone().into_request(|_| true).expect("logs have records").into_json();
        let forwarded = check(Signal::Logs, &json);
        check_events(logs, &forwarded.says);
        left.push(forwarded);
    }
    if let Some(metrics) = &item.metrics {
        let count = metrics.point_count() as usize;
        let forwarded = check(Signal::Metrics, &metrics.clone().into_request().into_json());
        assert_eq!(points(&forwarded.says), count, "metric points are miscounted");
        left.push(forwarded);
    }
    left
}

/// Checks a receiver's reading of a body.
pub(super) fn check_reading(body: &[u8], reading: &Reading) -> Vec<Vec<Forwarded>> {
    let lines = count_lines(body);
    let is_line = |line: u32| (1..=lines).contains(&(line as usize));
    for rejected in &reading.rejected {
        assert!(is_line(rejected.line) && rejected.column > 0, "{rejected:?} is nowhere in {lines} lines");
        assert!(!rejected.reason.is_empty(), "{rejected:?}");
        // An empty body is not a webhook or a request, and there are no bytes to keep.
        assert_eq!(rejected.input.is_empty(), body.is_empty(), "{rejected:?}");
    }
    assert!(reading.rejected.is_sorted_by_key(|rejected| rejected.line), "{:?}", reading.rejected);
    assert!(reading.items.iter().all(|item| is_line(item.line)));
    assert!(reading.items.is_sorted_by_key(|item| item.line));
    reading.items.iter().map(check_item).collect()
}

/// Checks that every record makes an event that a strict reader accepts, with the documented name and time.
fn check_events(logs: &Logs, says: &Json) {
    let records = records(says);
    assert_eq!(records.len(), logs.records().len(), "log records are miscounted");
    for (place, record) in records.into_iter().enumerate() {
        let event = logs.event(place);
        let line = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","events":[{}]}}]}}]}}]}}"#,
            String::from_utf8_lossy(&event.json)
        );
        let Forwarded { says, .. } = check(Signal::Traces, &line.into());
        let [span] = spans(&says)[..] else { unreachable!("one span was written") };
        let [event_says] = span.list("events") else { panic!("not one event: {span:?}") };

        let texts = ["eventName"].iter().filter_map(|key| record.get(key)?.text());
        let body =
            record.get("body").filter(|body| matches!(body, Json::Object(members) if members.len() == 1));
        let body = body.and_then(|body| body.get("stringValue")?.text());
        let name = texts.chain(body).find(|text| !text.is_empty()).unwrap_or("log");
        assert_eq!(event_says.get("name").and_then(Json::text), Some(name), "{record:?}");

        let time = |json: &Json, key: &str| match json.get(key) {
            Some(Json::Text(digits) | Json::Number(digits)) => {
                digits.parse().expect("a strict reader accepted it")
            }
            _ => 0_u64,
        };
        let times = [time(record, "timeUnixNano"), time(record, "observedTimeUnixNano")];
        let wanted = times.into_iter().find(|time| *time != 0).unwrap_or(0);
        assert_eq!((event.time_unix_nano, time(event_says, "timeUnixNano")), (wanted, wanted), "{record:?}");

        // The attributes of the record, except for those that the event overrides.
        let is_kept = |attribute: &&Json| {
            !attribute.get("key").and_then(Json::text).unwrap_or_default().starts_with("log.")
        };
        let own: Vec<&Json> = record.list("attributes").iter().filter(is_kept).collect();
        let came: Vec<&Json> = event_says.list("attributes").iter().filter(is_kept).collect();
        assert_eq!(own, came);
    }
}

/// Returns the elements of all lists that `path` leads to.
fn all<'a>(json: &'a Json, path: &[&str]) -> Vec<&'a Json> {
    match path.split_first() {
        None => vec![json],
        Some((key, rest)) => json.list(key).iter().flat_map(|element| all(element, rest)).collect(),
    }
}

/// Returns all spans of a request or a line.
pub(super) fn spans(json: &Json) -> Vec<&Json> {
    all(json, &["resourceSpans", "scopeSpans", "spans"])
}

/// Returns all log records of a request or a line.
pub(super) fn records(json: &Json) -> Vec<&Json> {
    all(json, &["resourceLogs", "scopeLogs", "logRecords"])
}

/// Returns the number of data points of a request or a line; a metric without any counts as one.
pub(super) fn points(json: &Json) -> usize {
    const KINDS: [&str; 5] = ["gauge", "sum", "histogram", "exponentialHistogram", "summary"];
    let metrics = all(json, &["resourceMetrics", "scopeMetrics", "metrics"]);
    let of_one = |metric: &&Json| -> usize {
        KINDS.iter().filter_map(|kind| Some(metric.get(kind)?.list("dataPoints").len())).sum()
    };
    metrics.iter().map(|metric| of_one(metric).max(1)).sum()
}
