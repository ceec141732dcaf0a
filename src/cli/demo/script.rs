//! The demonstration's requests: samples as Fastly and CircleCI write them, shifted to now, and the expected spans.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::collector::ReceivedExport;
use crate::event::Signal;
use crate::receiver::sign;

/// A batch of lines as a Fastly service writes them.
const FASTLY: &str = include_str!("fastly.ndjson");
/// Webhooks, one per line, in the order in which CircleCI would send them.
const CIRCLECI: &str = include_str!("circleci.ndjson");
/// Descriptions of the lines of the batch.
pub(super) const FASTLY_LINES: [&str; 6] = [
    "two log events of the edge's span, which follows in line 4",
    "the shield's span, a child of the edge's",
    "two log events of the shield's span",
    "the edge's span",
    "a span with the legacy key and bare-number timestamps of Fastly's VCL article, which a Collector silently drops",
    "a cut-off line",
];
/// Latest time in the samples.
const SAMPLES_END: Timestamp = Timestamp::constant(1_767_225_600, 0);
/// Upper bound for the time between the earliest and the latest time in the samples.
const SAMPLES_SECONDS: u64 = 3600;
/// Secret that signs the demonstration's webhooks; it protects nothing.
pub(super) const SECRET: &str = "spanrelay demo";

/// Ids of the spans that must arrive, each with its number of events.
const EXPECTED_FASTLY: [(&str, usize); 3] =
    [("eee19b7ec3c1b174", 2), ("0b2c9d1f4a6e8357", 2), ("3f9a1c5e7b2d4860", 0)];

/// All requests of the demonstration.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) batch: Bytes,
    pub(super) webhooks: Vec<SignedWebhook>,
    /// Ids of the spans that must arrive, each with its number of events.
    expected: BTreeMap<String, usize>,
}

/// A signed webhook.
#[derive(Debug)]
pub(super) struct SignedWebhook {
    pub(super) event: String,
    /// Name and status of the job or the workflow.
    pub(super) about: String,
    pub(super) body: Bytes,
    /// Value of the header `circleci-signature`.
    pub(super) signature: String,
}

// === impl Script ===

impl Script {
    /// Returns the samples, shifted to end at `now`.
    pub(super) fn ending_at(now: Timestamp) -> Self {
        let later = now.duration_since(SAMPLES_END);
        let webhooks: Vec<SignedWebhook> =
            CIRCLECI.lines().map(|line| SignedWebhook::new(&move_dates(line, later))).collect();
        let jobs_and_workflow = CIRCLECI.lines().map(|line| (span_id_of(line), 0));
        let fastly = EXPECTED_FASTLY.map(|(id, events)| (id.to_owned(), events));
        Self {
            batch: Bytes::from(move_nanoseconds(FASTLY, later)),
            expected: fastly.into_iter().chain(jobs_and_workflow).collect(),
            webhooks,
        }
    }

    /// Returns the position of a trace in the order of the requests; the batch comes first.
    pub(super) fn position_of(trace_id: &str) -> usize {
        FASTLY.find(trace_id).unwrap_or(usize::MAX)
    }

    /// Describes each span or event that has not arrived.
    pub(super) fn missing(&self, received: &[ReceivedExport]) -> Vec<String> {
        let mut arrived = BTreeMap::new();
        for request in received.iter().filter(|request| request.signal == Signal::Traces) {
            for_each_span(&request.json, |span| {
                let id = span["spanId"].as_str().unwrap_or_default().to_owned();
                arrived.insert(id, span["events"].as_array().map_or(0, Vec::len));
            });
        }
        self.expected
            .iter()
            .filter_map(|(id, &events)| match arrived.get(id) {
                None => Some(format!("span {id}")),
                Some(&found) if found < events => Some(format!("{} events of span {id}", events - found)),
                Some(_) => None,
            })
            .collect()
    }
}

// === impl SignedWebhook ===

impl SignedWebhook {
    fn new(body: &str) -> Self {
        let json: Value = serde_json::from_str(body).unwrap_or_default();
        let subject = if json["job"].is_object() { &json["job"] } else { &json["workflow"] };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            event: text(&json["type"]),
            about: format!("{}: {}", text(&subject["name"]), text(&subject["status"])),
            body: Bytes::copy_from_slice(body.as_bytes()),
            signature: format!("v1={}", sign(SECRET.as_bytes(), body.as_bytes())),
        }
    }
}

/// Returns the first 8 bytes of the UUID of the job, or else of the workflow.
fn span_id_of(webhook: &str) -> String {
    let json: Value = serde_json::from_str(webhook).unwrap_or_default();
    let subject = if json["job"].is_object() { &json["job"] } else { &json["workflow"] };
    let digits = subject["id"].as_str().unwrap_or_default().chars().filter(char::is_ascii_hexdigit);
    digits.take(16).collect()
}

fn for_each_span(request: &Value, mut visit: impl FnMut(&Value)) {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    for resource in list(request, "resourceSpans") {
        for scope in list(&resource, "scopeSpans") {
            list(&scope, "spans").iter().for_each(&mut visit);
        }
    }
}

/// Shifts every date between quotes (`2025-12-31T23:59:51.991Z`) and keeps its milliseconds.
fn move_dates(text: &str, later: SignedDuration) -> String {
    let moved = |piece: &str| {
        let date: Timestamp = piece.parse().ok()?;
        Some(date.checked_add(later).ok()?.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
    };
    let pieces = text.split('"').map(|piece| moved(piece).unwrap_or_else(|| piece.to_owned()));
    pieces.collect::<Vec<_>>().join("\"")
}

/// Shifts every number that is a time of the samples in nanoseconds, with or without quotes.
fn move_nanoseconds(text: &str, later: SignedDuration) -> String {
    let moved = |digits: &str| {
        let nanoseconds: u64 = digits.parse().ok()?;
        let before_end = (SAMPLES_END.as_nanosecond() as u64).checked_sub(nanoseconds)?;
        if before_end > SAMPLES_SECONDS * 1_000_000_000 {
            return None;
        }
        u64::try_from(i128::from(nanoseconds) + later.as_nanos()).ok()
    };
    let mut shifted = String::with_capacity(text.len());
    let mut digits = String::new();
    for character in text.chars().chain(['\0']) {
        if character.is_ascii_digit() {
            digits.push(character);
            continue;
        }
        if !digits.is_empty() {
            shifted.push_str(&moved(&digits).map_or_else(|| digits.clone(), |moved| moved.to_string()));
            digits.clear();
        }
        shifted.push(character);
    }
    shifted.pop();
    shifted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-08-22T10:20:30.456789Z".parse().unwrap()
    }

    #[test]
    fn every_line_of_the_samples_but_the_cut_off_one_is_json() {
        let broken: Vec<usize> = FASTLY
            .lines()
            .enumerate()
            .filter(|(_, line)| serde_json::from_str::<Value>(line).is_err())
            .map(|(position, _)| position + 1)
            .collect();
        assert_eq!(broken, [6]);
        assert_eq!(FASTLY.lines().count(), FASTLY_LINES.len());
        for webhook in CIRCLECI.lines() {
            serde_json::from_str::<Value>(webhook).unwrap();
        }
    }

    #[test]
    fn the_batch_matches_its_descriptions() {
        let lines: Vec<&str> = FASTLY.lines().collect();
        assert!(lines[4].contains(r#""instrumentationLibrarySpans""#));
        assert!(lines[4].contains(r#""startTimeUnixNano":17672255"#));
        assert_eq!(lines[4].matches(r#""fastly.server_role""#).count(), 2);
        assert!(lines[1].contains(r#""parentSpanId":"eee19b7ec3c1b174""#));
        assert_eq!(lines[0].matches(r#""spanId":"eee19b7ec3c1b174""#).count(), 2);
        assert_eq!(lines[2].matches(r#""spanId":"0b2c9d1f4a6e8357""#).count(), 2);
    }

    #[test]
    fn times_are_shifted_to_now_and_nothing_else_changes() {
        let script = Script::ending_at(now());
        let batch = std::str::from_utf8(&script.batch).unwrap();
        let earliest = now().as_nanosecond() - SAMPLES_END.as_nanosecond() + 1_767_225_598_000_000_000;
        assert!(batch.contains(&format!(r#""startTimeUnixNano":"{earliest}""#)), "{batch}");
        assert!(!batch.contains("17672255"));
        let unmoved = |text: &str| {
            text.split(|c: char| c.is_ascii_digit()).filter(|piece| !piece.is_empty()).collect::<String>()
        };
        assert_eq!(unmoved(batch), unmoved(FASTLY));

        let webhook = std::str::from_utf8(&script.webhooks[0].body).unwrap();
        assert!(webhook.contains(r#""happened_at":"2026-08-22T10:16:52.326Z""#), "{webhook}");
        assert!(!webhook.contains("2025-12-31"));
        assert!(webhook.contains(r#""revision":"1dc6aa69429bff4806ad6afe58d3d8f57e25973e""#));
    }

    #[test]
    fn webhooks_are_signed_over_the_bytes_sent() {
        assert_eq!(
            sign(b"secret", b"hello world"),
            "734cc62f32841568f45715aeb9f4d7891324e6d948e4c6c60c0621cdac48623a"
        );
        for webhook in Script::ending_at(now()).webhooks {
            assert_eq!(webhook.signature, format!("v1={}", sign(SECRET.as_bytes(), &webhook.body)));
        }
    }

    #[test]
    fn missing_spans_and_events_are_named() {
        let script = Script::ending_at(now());
        assert_eq!(script.missing(&[]).len(), 8);
        let span = |id: &str, events: usize| {
            let events = vec![Value::Null; events];
            serde_json::json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"spanId": id, "events": events}]}]}]})
        };
        let mut received: Vec<ReceivedExport> = script
            .expected
            .iter()
            .map(|(id, &events)| ReceivedExport { signal: Signal::Traces, json: span(id, events) })
            .collect();
        assert_eq!(script.missing(&received), [""; 0]);
        for request in &mut received {
            request.json = span(
                request.json["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["spanId"].as_str().unwrap(),
                1,
            );
        }
        assert_eq!(
            script.missing(&received),
            ["1 events of span 0b2c9d1f4a6e8357", "1 events of span eee19b7ec3c1b174"]
        );
        assert!(script.expected.contains_key("7c0d6e2f4b1a4f38"));
        assert!(script.expected.contains_key("3a7d1e9052c44b6f"));
    }
}
