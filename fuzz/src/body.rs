//! Fastly bodies: whatever a body contains, the units before and after it are unharmed, and every unit has one outcome.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use spanrelay::internals::{Item, Processor, Reading, Receiver, Signal, signal_of};

use super::forwarded::{Forwarded, check, check_reading, points, records, spans};
use super::json::Json;
use super::receivers::{config, fastly};

/// Lines without special properties.
const NEIGHBOUR: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0123456789abcdef0123456789abcdef","spanId":"0123456789abcdef","name":"a neighbour"}]}]}]}"#;

/// Checks the body of a request.
pub fn body(input: &[u8]) {
    let body = Bytes::copy_from_slice(input);
    for repair in [false, true] {
        let receiver = fastly(&format!("repair: {repair}"));
        let receiver = &*receiver;
        let reading = receiver.read(&body);
        let left = check_reading(&body, &reading);
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',');
        let content = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body);
        // Each line may begin with a byte order mark.
        let text = String::from_utf8_lossy(&body).replace('\u{feff}', "");
        // A single bracket may be an empty array, or the end of none.
        let is_array = |byte: &u8| matches!(byte, b'[' | b']');
        let noted = reading.items.len() + reading.rejected.len();
        if content.iter().all(is_blank) {
            assert_eq!(noted, 0, "an empty body has units: {reading:?}");
        } else if !text.bytes().all(|byte| is_blank(&byte) || is_array(&byte)) {
            assert!(noted > 0, "a part of a body is neither accepted nor rejected");
        }
        let again: Vec<Json> = read_again(receiver, &left);
        let first: Vec<Json> = left.iter().flatten().map(|forwarded| forwarded.says.clone()).collect();
        assert_eq!(again, first, "a second relay changes the data");
        leaves_neighbours_alone(receiver, &body);
        every_item_has_one_outcome(reading, &left);
    }
}

/// Sends the exported requests to a relay as one body.
fn read_again(receiver: &dyn Receiver, left: &[Vec<Forwarded>]) -> Vec<Json> {
    let lines: Vec<Bytes> = left.iter().flatten().map(|forwarded| forwarded.json.clone()).collect();
    // A line that was printed over several lines still is one object.
    let reading = receiver.read(&Bytes::from(lines.join(&b'\n')));
    assert!(reading.rejected.is_empty(), "{:?}", reading.rejected);
    assert!(reading.items.iter().all(|item| item.repairs.is_empty()));
    check_reading(&lines.join(&b'\n'), &reading)
        .into_iter()
        .flatten()
        .map(|forwarded| forwarded.says)
        .collect()
}

/// Checks that good lines before and after the body are accepted whatever is between them.
fn leaves_neighbours_alone(receiver: &dyn Receiver, body: &[u8]) {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let all = Bytes::from([NEIGHBOUR.as_bytes(), b"\n", body, b"\n", NEIGHBOUR.as_bytes()].concat());
    let lines = u32::try_from(count_lines(&all)).unwrap_or(u32::MAX);
    let reading = receiver.read(&all);
    let is_neighbour = |item: &Item| {
        item.traces.as_ref().is_some_and(|traces| traces.clone().into_json() == NEIGHBOUR.as_bytes())
    };
    let first = reading.items.first().expect("the line before the body is lost");
    assert!(first.line == 1 && is_neighbour(first), "the line before the body changes: {first:?}");
    let last = reading.items.last().expect("there is a first one");
    assert!(
        last.line == lines && is_neighbour(last),
        "the line after a body is lost: {:?}",
        reading.rejected
    );
}

/// Returns the number of lines, which end in LF, CRLF or CR.
pub(super) fn count_lines(body: &[u8]) -> usize {
    let ends = memchr::memchr2_iter(b'\n', b'\r', body);
    1 + ends.filter(|end| body[*end] == b'\n' || body.get(end + 1) != Some(&b'\n')).count()
}

/// Checks with a processor that holds nothing: every span is exported once, every record as an event or as a log.
fn every_item_has_one_outcome(reading: Reading, left: &[Vec<Forwarded>]) {
    let documents = || left.iter().flatten().map(|forwarded| &forwarded.says);
    let ids = |json: &Json| {
        let id = |key| json.get(key).and_then(Json::text).map(str::to_owned);
        id("traceId").zip(id("spanId"))
    };
    let all_spans: Vec<&Json> = documents().flat_map(spans).collect();
    let all_records: Vec<&Json> = documents().flat_map(records).collect();
    let known: HashSet<(String, String)> = all_spans.iter().filter_map(|span| ids(span)).collect();
    let attached =
        all_records.iter().filter(|record| ids(record).is_some_and(|ids| known.contains(&ids))).count();
    let alone =
        all_records.iter().filter(|record| ids(record).is_some_and(|ids| !known.contains(&ids))).count();
    let events_before: usize = all_spans.iter().map(|span| span.list("events").len()).sum();

    let (unmatched, keep_logs) = match reading.items.len() % 3 {
        0 => ("forward_log", false),
        1 => ("forward_log", true),
        _ => ("carrier_span", false),
    };
    let carriers = if unmatched == "carrier_span" { alone } else { 0 };
    let out = process(reading.items, unmatched, keep_logs);
    let out_spans: Vec<&Json> = out.iter().flat_map(|forwarded| spans(&forwarded.says)).collect();
    assert_eq!(out_spans.len(), all_spans.len() + carriers, "spans");
    let events: usize = out_spans.iter().map(|span| span.list("events").len()).sum();
    assert_eq!(events, events_before + attached + carriers, "events");
    let out_records: usize = out.iter().map(|forwarded| records(&forwarded.says).len()).sum();
    let gone = if keep_logs { 0 } else { attached + carriers };
    assert_eq!(out_records, all_records.len() - gone, "log records");
}

fn process(items: Vec<Item>, unmatched: &str, keep_logs: bool) -> Vec<Forwarded> {
    let yaml = format!(
        "receivers: {{fastly: {{}}}}\n\
         processors: {{span_events: {{wait: 0s, unmatched: {unmatched}, keep_logs: {keep_logs}}}}}"
    );
    let mut processor = Processor::new(&config(&yaml));
    let mut out = Vec::new();
    processor.accept(items, Duration::ZERO, |signal, count, json| {
        assert_eq!(signal_of(json), Some(signal));
        let forwarded = check(signal, json);
        let items = match signal {
            Signal::Traces => spans(&forwarded.says).len(),
            Signal::Logs => records(&forwarded.says).len(),
            Signal::Metrics => points(&forwarded.says),
        };
        assert_eq!(items, count as usize, "{signal} are miscounted");
        out.push(forwarded);
    });
    assert_eq!(processor.held_spans(), 0, "a span is held although `wait` is zero");
    out
}
