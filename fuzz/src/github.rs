//! GitHub events: an authentic body makes the spans of one event, one rejection or one event that is ignored, and its ids
//! follow from GitHub's own.
//!
//! The input: the type of the event up to the first line feed, then the body.

use std::collections::BTreeSet;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use spanrelay::internals::{Ignored, KeptHeaders, Reading};

use super::forwarded::{check_reading, spans};
use super::json::Json;
use super::receivers;

const EVENTS: [&str; 3] = ["workflow_run", "workflow_job", "ping"];

/// The type of an event, and its body.
pub fn github(input: &[u8]) {
    let end = memchr::memchr(b'\n', input).unwrap_or(input.len());
    let (kind, body) = input.split_at(end);
    let Ok(kind) = std::str::from_utf8(kind) else { return };
    let body = Bytes::copy_from_slice(body.strip_prefix(b"\n").unwrap_or_default());
    let mut headers = KeptHeaders::default();
    headers.keep("x-github-event", kind);
    headers.keep("x-github-delivery", "delivery");
    let receiver = receivers::one("receivers: {github: {allow_unsigned: true}}");
    let reading = receiver.read_as(&body, &[], &headers);
    let outcomes = reading.items.len() + reading.rejected.len() + usize::from(reading.ignored.is_some());
    assert_eq!(outcomes, 1, "{reading:?}");
    assert_eq!(reading.event_id.as_deref(), Some("delivery"));
    let label = reading.event.expect("an event has a kind").as_str();
    assert_eq!(label, if EVENTS.contains(&kind) { kind } else { "unknown" });

    let left = check_reading(&body, &reading);
    let again = check_reading(&body, &receiver.read_as(&body, &[], &headers));
    let says = |left: &[Vec<super::forwarded::Forwarded>]| format!("{left:?}");
    assert_eq!(says(&left), says(&again), "a redelivery makes other spans");
    let Some(event) = Json::parse(&body).filter(|event| matches!(event, Json::Object(_))) else { return };
    assert!(reading.rejected.is_empty(), "a JSON object is rejected: {reading:?}");
    match &left[..] {
        [requests] => {
            let [request] = &requests[..] else { panic!("an event makes one request: {requests:?}") };
            are_of(&spans(&request.says), kind, &event);
        }
        _ => is_ignored(kind, &event, &reading),
    }
}

/// Returns a number that counts from 1 and is written in the usual form.
fn number<'a>(json: &'a Json, key: &str) -> Option<&'a str> {
    let Some(Json::Number(digits)) = json.get(key) else { return None };
    digits.parse::<i64>().is_ok_and(|number| number > 0 && number.to_string() == *digits).then_some(digits)
}

/// Checks that an event is ignored only for a reason.
fn is_ignored(kind: &str, event: &Json, reading: &Reading) {
    let is_completed = event.get("action").and_then(Json::text) == Some("completed");
    let known = EVENTS.contains(&kind);
    assert_eq!(reading.ignored == Some(Ignored::UNKNOWN_EVENT_TYPE), !known, "{reading:?}");
    if !known || !is_completed {
        return;
    }
    let empty = Json::Object(Vec::new());
    let of = event.get(kind).unwrap_or(&empty);
    let has_attempt = of.get("run_attempt").is_none() || number(of, "run_attempt").is_some();
    let has_ids = match kind {
        "workflow_run" => number(of, "id").is_some(),
        "workflow_job" => number(of, "id").is_some() && number(of, "run_id").is_some(),
        // The delivery has an id.
        _ => true,
    };
    assert!(!(has_ids && has_attempt), "an event with all of its ids is ignored: {reading:?}");
}

fn are_of(spans: &[&Json], kind: &str, event: &Json) {
    let text = |span: &Json, key: &str| span.get(key).and_then(Json::text).map(str::to_owned);
    let time = |span: &Json, key: &str| {
        text(span, key).map_or(0, |digits| digits.parse::<u64>().expect("a strict reader accepted it"))
    };
    let traces: BTreeSet<_> = spans.iter().map(|span| text(span, "traceId")).collect();
    assert_eq!(traces.len(), 1, "an event is part of one trace");
    let ids: BTreeSet<_> = spans.iter().map(|span| text(span, "spanId")).collect();
    assert_eq!(ids.len(), spans.len(), "two spans have one id");
    for span in spans {
        assert!(time(span, "startTimeUnixNano") <= time(span, "endTimeUnixNano"), "{span:?}");
        let error =
            span.list("attributes").iter().find(|one| text(one, "key").as_deref() == Some("error.type"));
        assert_eq!(span.get("status").is_some(), error.is_some(), "{span:?}");
    }
    let first = spans[0];
    let own = match kind {
        "ping" => Some("github/ping/delivery".to_owned()),
        _ => name(kind, event),
    };
    if let Some(own) = own {
        assert_eq!(text(first, "spanId"), Some(hex(&own, 8)), "{own}");
        let run = own.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        assert_eq!(text(first, "traceId"), Some(hex(&run, 16)), "{run}");
        let parent = (kind == "workflow_job").then(|| hex(&run, 8));
        assert_eq!(text(first, "parentSpanId"), parent, "{own}");
    }
    if kind == "workflow_job" {
        let steps = event.get("workflow_job").map_or(0, |job| job.list("steps").len());
        let children =
            spans.iter().skip(1).filter(|span| text(span, "parentSpanId") == text(first, "spanId"));
        assert_eq!(children.count(), steps.min(1000), "each step is a child of its job");
    } else {
        assert_eq!(spans.len(), 1);
    }
}

/// Returns the name of the first span of a run or a job, if the event has its ids in their usual form.
fn name(kind: &str, event: &Json) -> Option<String> {
    let of = event.get(kind)?;
    let attempt = if of.get("run_attempt").is_none() { "1" } else { number(of, "run_attempt")? };
    match kind {
        "workflow_run" => Some(format!("github/{}/{attempt}", number(of, "id")?)),
        _ => Some(format!("github/{}/{attempt}/{}", number(of, "run_id")?, number(of, "id")?)),
    }
}

/// Returns the first bytes of a SHA-256.
fn hex(text: &str, bytes: usize) -> String {
    Sha256::digest(text).iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}
