//! CircleCI webhooks: an authentic body is one span, one rejection or one ignored event, and its ids follow from
//! CircleCI's own.

use bytes::Bytes;
use spanrelay::internals::{Ignored, Reading};

use super::forwarded::{check_reading, spans};
use super::json::Json;
use super::receivers;

/// Statuses that are failures of the job.
const ERRORS: [&str; 5] = ["failed", "error", "unauthorized", "infrastructure_fail", "timedout"];

/// A receiver whose service needs escapes in JSON.
const CONFIGURATION: &str =
    r#"receivers: {circleci: {allow_unsigned: true, service_name: "service \"1\"\u0001é"}}"#;

/// Checks the body of a webhook.
pub fn webhook(input: &[u8]) {
    let body = Bytes::copy_from_slice(input);
    let receiver = receivers::one(CONFIGURATION);
    let reading = receiver.read(&body);
    let outcomes = reading.items.len() + reading.rejected.len() + usize::from(reading.ignored.is_some());
    assert_eq!(outcomes, 1, "{reading:?}");
    let left = check_reading(&body, &reading);
    let event = Json::parse(&body);
    if !matches!(event, Some(Json::Object(_))) {
        // An unpaired surrogate is valid JSON for readers that do not decode the string.
        return assert!(reading.items.is_empty() || event.is_none(), "{reading:?}");
    }
    let Some(event) = event else { return };
    assert!(reading.rejected.is_empty(), "a JSON object is rejected: {reading:?}");
    let [requests] = &left[..] else { return ignored(&event, &reading) };
    let [request] = &requests[..] else { panic!("not one request: {requests:?}") };
    let [span] = spans(&request.says)[..] else { panic!("not one span: {request:?}") };
    is_of(span, &event, &reading);

    let again = check_reading(&body, &receiver.read(&body));
    assert_eq!(again[0][0].says, request.says, "a redelivery results in another span");
}

/// Returns a string that is not empty.
fn text<'a>(event: &'a Json, path: &[&str]) -> Option<&'a str> {
    let leaf = path.iter().try_fold(event, |json, key| json.get(key))?;
    leaf.text().filter(|text| !text.is_empty())
}

fn ignored(event: &Json, reading: &Reading) {
    let is_known = matches!(text(event, &["type"]), Some("workflow-completed" | "job-completed" | "ping"));
    assert_eq!(reading.ignored, Some(if is_known { Ignored::NO_ID } else { Ignored::UNKNOWN_EVENT_TYPE }));
    if !is_known {
        return;
    }
    let has_ids = text(event, &["id"]).is_some_and(|id| id.len() <= 256)
        && match text(event, &["type"]) {
            Some("ping") => trace_and_span(text(event, &["id"])).is_some(),
            Some("job-completed") => {
                let workflow = trace_and_span(text(event, &["workflow", "id"]));
                let job = trace_and_span(text(event, &["job", "id"]));
                // A job that would be its own parent has none.
                workflow.zip(job).is_some_and(|((_, parent), (_, span))| parent != span)
            }
            _ => trace_and_span(text(event, &["workflow", "id"])).is_some(),
        };
    assert!(!has_ids, "an event with all of its ids is ignored");
}

/// Returns both ids that follow from a UUID, with or without hyphens. Neither may be zero.
fn trace_and_span(uuid: Option<&str>) -> Option<(String, String)> {
    let uuid = uuid?;
    let parts: Vec<&str> = uuid.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let has_form = matches!(&lengths[..], [8, 4, 4, 4, 12] | [32]);
    let digits = parts.concat().to_ascii_lowercase();
    if !has_form || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let (span, _) = digits.split_at(16);
    (!span.trim_start_matches('0').is_empty()).then(|| (digits.clone(), span.to_owned()))
}

fn is_of(span: &Json, event: &Json, reading: &Reading) {
    assert_eq!(reading.event_id.as_deref(), text(event, &["id"]));
    let kind = text(event, &["type"]);
    let workflow = trace_and_span(text(event, &["workflow", "id"]));
    let job = trace_and_span(text(event, &["job", "id"]));
    let ids = match kind {
        Some("ping") => trace_and_span(text(event, &["id"])).map(|(trace, span)| (trace, span, None)),
        Some("job-completed") => {
            workflow.zip(job).map(|((trace, parent), (_, span))| (trace, span, Some(parent)))
        }
        _ => workflow.map(|(trace, span)| (trace, span, None)),
    };
    let (trace, id, parent) = ids.unwrap_or_else(|| panic!("a span without ids: {event:?}"));
    let says = |key| text(span, &[key]);
    assert_eq!((says("traceId"), says("spanId")), (Some(&*trace), Some(&*id)));
    assert_eq!(says("parentSpanId"), parent.as_deref());

    let named = |what: &str, place: &str| {
        text(event, &[place, "name"]).map_or_else(|| what.to_owned(), |name| format!("{what}: {name}"))
    };
    let (name, status) = match kind {
        Some("job-completed") => (named("job", "job"), text(event, &["job", "status"])),
        Some("workflow-completed") => (named("workflow", "workflow"), text(event, &["workflow", "status"])),
        _ => ("ping".to_owned(), None),
    };
    assert_eq!(says("name"), Some(&*name));
    let is_error = status.is_some_and(|status| ERRORS.contains(&status));
    assert_eq!(span.get("status").is_some(), is_error, "{status:?}");

    let time =
        |key| says(key).map_or(0, |digits| digits.parse::<u64>().expect("a strict reader accepted it"));
    assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"), "{span:?}");
    for person in ["author", "committer"] {
        let Some(email) = text(event, &["pipeline", "vcs", "commit", person, "email"]) else { continue };
        let is_value = |attribute: &Json| text(attribute, &["value", "stringValue"]) == Some(email);
        let is_elsewhere = format!("{event:?}").matches(&format!("{email:?}")).count() > 1;
        assert!(is_elsewhere || !span.list("attributes").iter().any(is_value), "an address is exported");
    }
}
