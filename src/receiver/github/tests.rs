//! The receiver as a whole: every folder of `proto-fixtures/github`, and whatever else a body may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::{ReceiverEndpoint, ReceiverSection, Secret};
use crate::otlp::{SpanId, TraceId};
use crate::receiver::{Item, kept_headers};

/// One folder: what GitHub sends, and what must be made of it.
struct Fixture {
    name: String,
    request: Bytes,
    headers: HeaderMap,
    /// The export request, if there is one.
    traces: Option<Value>,
    /// The status of the response, if nothing is exported.
    status: Option<u64>,
}

fn fixtures() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-fixtures/github");
    let mut folders: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders.iter().map(|folder| Fixture::load(folder)).collect()
}

fn fixture(name: &str) -> Fixture {
    fixtures().into_iter().find(|fixture| fixture.name == name).unwrap()
}

fn config() -> GithubConfig {
    GithubConfig {
        endpoint: ReceiverEndpoint::of("github/app"),
        secrets: vec![Secret::new("fixture-secret")],
        ..GithubConfig::default()
    }
}

fn receiver() -> Github {
    Github::new(&config())
}

/// Headers as the queue keeps them.
fn headers(kind: &str, delivery: &str) -> KeptHeaders {
    let mut headers = KeptHeaders::default();
    headers.keep(EVENT, kind);
    headers.keep(DELIVERY, delivery);
    headers
}

fn read(kind: &str, body: &[u8]) -> Reading {
    receiver().read_as(&Bytes::copy_from_slice(body), &[], &headers(kind, "d"))
}

/// The export request of an accepted event.
fn exported(reading: Reading) -> Value {
    let [item] = <[Item; 1]>::try_from(reading.items).unwrap();
    serde_json::from_slice(&item.traces.unwrap().into_json()).unwrap()
}

fn spans(request: &Value) -> &[Value] {
    request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap()
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a str> {
    let attribute = span["attributes"].as_array()?.iter().find(|attribute| attribute["key"] == key)?;
    attribute["value"].as_object()?.values().next()?.as_str()
}

// === impl Fixture ===

impl Fixture {
    fn load(folder: &Path) -> Self {
        let text = |file: &str| fs::read_to_string(folder.join(file)).ok();
        let json = |file: &str| text(file).map(|text| serde_json::from_str::<Value>(&text).unwrap());
        let headers: BTreeMap<String, String> = serde_json::from_str(&text("headers.json").unwrap()).unwrap();
        let headers = headers.iter().map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        });
        Self {
            name: folder.file_name().unwrap().to_str().unwrap().to_owned(),
            request: fs::read(folder.join("request.json")).unwrap().into(),
            headers: headers.collect(),
            traces: json("expected.traces.json"),
            status: json("expected.answer.json").map(|answer| answer["status"].as_u64().unwrap()),
        }
    }

    fn read(&self) -> Reading {
        let receiver = receiver();
        receiver.read_as(&self.request, &[], &kept_headers(&receiver, &self.headers))
    }

    fn kind(&self) -> &str {
        self.headers[EVENT].to_str().unwrap()
    }

    fn payload(&self) -> Value {
        serde_json::from_slice(&self.request).unwrap()
    }
}

#[test]
fn every_fixture_becomes_the_traces_in_its_folder() {
    for fixture in fixtures() {
        let name = &fixture.name;
        let verified = receiver().verify(&fixture.headers, &fixture.request);
        assert_eq!(verified.is_ok(), fixture.status != Some(401), "{name}");
        let reading = fixture.read();
        match (&fixture.traces, fixture.status) {
            (Some(expected), None) => {
                assert!(reading.event_id.is_some(), "{name}");
                assert_eq!(exported(reading), *expected, "{name}");
            }
            (None, Some(202)) => assert!(reading.ignored.is_some(), "{name}"),
            (None, Some(400)) => assert_eq!(reading.rejected.len(), 1, "{name}"),
            (None, Some(401)) => {}
            other => panic!("{name}: one expectation, not {other:?}"),
        }
    }
}

#[test]
fn events_count_under_the_name_in_the_header_if_it_is_known() {
    let body = fixture("workflow-run").request;
    for (header, event) in [
        ("workflow_run", "workflow_run"),
        ("workflow_job", "workflow_job"),
        ("ping", "ping"),
        ("push", "unknown"),
        ("Workflow_Run", "unknown"),
        ("unknown", "unknown"),
        ("", "unknown"),
    ] {
        assert_eq!(read(header, &body).event.unwrap().as_str(), event, "{header}");
    }
}

#[test]
fn the_reason_of_an_ignored_event_tells_its_cause() {
    for (name, reason) in [
        ("workflow-job-in-progress", NOT_COMPLETED),
        ("workflow-run-requested", NOT_COMPLETED),
        ("push", Ignored::UNKNOWN_EVENT_TYPE),
        ("no-event-type", Ignored::UNKNOWN_EVENT_TYPE),
        ("no-job-id", Ignored::NO_ID),
        ("run-id-zero", Ignored::NO_ID),
    ] {
        assert_eq!(fixture(name).read().ignored, Some(reason), "{name}");
    }
    // An event under the name of another one has none of the members that its spans are made of.
    assert_eq!(read("workflow_job", &fixture("workflow-run").request).ignored, Some(Ignored::NO_ID));
    assert_eq!(read("workflow_run", &fixture("ping").request).ignored, Some(NOT_COMPLETED));
}

#[test]
fn a_form_is_rejected_with_the_setting_that_helps() {
    let rejected = fixture("a-form").read().rejected;
    assert_eq!(
        rejected[0].reason,
        "the body is a form: set the content type of the webhook to application/json"
    );
}

#[test]
fn the_spans_of_a_run_share_its_trace_and_agree_with_traceparent() {
    let run = fixture("workflow-run").traces.unwrap();
    let job = fixture("workflow-job").traces.unwrap();
    let (root, job) = (&spans(&run)[0], spans(&job));
    let [of_job, queued, steps @ ..] = job else { panic!("{job:?}") };
    assert!(root.get("parentSpanId").is_none());
    assert!(job.iter().all(|span| span["traceId"] == root["traceId"]));
    assert_eq!((&of_job["parentSpanId"], &queued["parentSpanId"]), (&root["spanId"], &root["spanId"]));
    assert!(steps.len() > 3 && steps.iter().all(|step| step["parentSpanId"] == of_job["spanId"]));
    let expected = format!(
        "export TRACEPARENT=00-{}-{}-01\n",
        of_job["traceId"].as_str().unwrap(),
        of_job["spanId"].as_str().unwrap()
    );
    assert_eq!(traceparent("13700000001/1/38200000017"), Some(expected));
}

#[test]
fn another_attempt_is_another_trace() {
    let (first, second) = (fixture("workflow-run"), fixture("workflow-run-second-attempt-failed"));
    let (first, second) = (first.traces.unwrap(), second.traces.unwrap());
    assert_ne!(spans(&first)[0]["traceId"], spans(&second)[0]["traceId"]);
    // An attempt without a number is the first.
    let mut payload = fixture("workflow-run").payload();
    payload["workflow_run"]["run_attempt"] = Value::Null;
    assert_eq!(exported(read("workflow_run", payload.to_string().as_bytes())), first);
}

#[test]
fn steps_without_a_number_of_their_own_have_ids_of_their_own() {
    let mut payload = fixture("workflow-job").payload();
    let step = json!({"name": "s", "conclusion": "success", "number": 2});
    payload["workflow_job"]["steps"] = json!([step, step, {"number": null}, {}, null, 7, {"number": 0}, "s"]);
    let request = exported(read("workflow_job", payload.to_string().as_bytes()));
    let ids: BTreeSet<&str> = spans(&request).iter().map(|span| span["spanId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 10, "{request}");
}

#[test]
fn the_number_of_steps_and_the_length_of_repeated_names_are_bounded() {
    let mut payload = fixture("workflow-job").payload();
    payload["workflow_job"]["steps"] = Value::from(vec![json!({}); 5000]);
    payload["workflow_job"]["name"] = Value::from("n".repeat(20_000));
    let body = payload.to_string();
    let request = exported(read("workflow_job", body.as_bytes()));
    assert_eq!(spans(&request).len(), 1002);
    assert_eq!(attribute(&spans(&request)[0], "cicd.pipeline.task.name").unwrap().len(), 20_000);
    assert!(request.to_string().len() < 20 * body.len(), "{}", request.to_string().len());
}

#[test]
fn a_body_without_headers_is_read_by_its_members() {
    for fixture in fixtures().into_iter().filter(|fixture| fixture.traces.is_some()) {
        let reading = receiver().read(&fixture.request);
        assert_eq!(reading.event.unwrap().as_str(), fixture.kind(), "{}", fixture.name);
        // The id of a ping is that of its delivery.
        if fixture.kind() != "ping" {
            assert_eq!(exported(reading), fixture.traces.unwrap(), "{}", fixture.name);
        }
    }
    for body in ["{}", "[]", "x", r#"{"zen":"z"}"#, r#"{"type":"ping","webhook":{},"happened_at":"2026"}"#] {
        assert_eq!(event::type_of(body.as_bytes()), None, "{body}");
    }
}

#[test]
fn a_resubmitted_body_is_authentic_and_read_as_the_same_event() {
    for fixture in fixtures().into_iter().filter(|fixture| fixture.traces.is_some()) {
        let resubmit = config().resubmit(&fixture.request);
        let headers = resubmit.headers.iter().map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        });
        let (receiver, headers): (_, HeaderMap) = (receiver(), headers.collect());
        assert_eq!(receiver.verify(&headers, &fixture.request), Ok(()), "{}", fixture.name);
        let reading = receiver.read_as(&fixture.request, &[], &kept_headers(&receiver, &headers));
        assert_eq!((reading.items.len(), reading.event_id), (1, None), "{}", fixture.name);
    }
}

#[test]
fn a_redelivery_has_the_same_event_id_and_the_same_spans() {
    for name in ["workflow-run", "workflow-job", "ping"] {
        let (first, second) = (fixture(name).read(), fixture(name).read());
        assert_eq!(first.event_id, second.event_id);
        assert_eq!(exported(first), exported(second));
    }
}

#[test]
fn nothing_about_a_person_leaves() {
    let mut addresses = 0;
    for fixture in fixtures() {
        addresses += String::from_utf8_lossy(&fixture.request).matches("@acme.example").count();
        let Some(traces) = fixture.traces else { continue };
        let json = traces.to_string();
        for private in ["@acme", "mara", "Mara", "Retry the payment", "noreply", "email"] {
            assert!(!json.contains(private), "{}: {private}", fixture.name);
        }
    }
    assert!(addresses > 0, "the fixtures contain addresses that could be exported");
}

#[test]
fn only_a_ref_that_is_certain_has_a_type() {
    let typed = |branch: Value, trigger: Value, default: Value| {
        let mut payload = fixture("workflow-run").payload();
        payload["workflow_run"]["head_branch"] = branch;
        payload["workflow_run"]["event"] = trigger;
        payload["repository"]["default_branch"] = default;
        let request = exported(read("workflow_run", payload.to_string().as_bytes()));
        attribute(&spans(&request)[0], "vcs.ref.head.type").map(str::to_owned)
    };
    for (branch, trigger, default, expected) in [
        ("main", "push", "main", Some("branch")),
        ("v1", "push", "main", None),
        ("fix", "pull_request", "main", Some("branch")),
        ("v1", "release", "main", Some("tag")),
        ("fix", "workflow_dispatch", "", None),
    ] {
        assert_eq!(
            typed(branch.into(), trigger.into(), default.into()).as_deref(),
            expected,
            "{branch} {trigger}"
        );
    }
    assert_eq!(typed(Value::Null, "pull_request".into(), Value::Null), None);
}

/// Checks that a body has exactly one outcome, and that spans have ids of their own, valid parents and times in order.
fn has_one_outcome(kind: &str, body: &[u8]) -> Result<(), TestCaseError> {
    let reading = read(kind, body);
    let outcomes = reading.items.len() + reading.rejected.len() + usize::from(reading.ignored.is_some());
    prop_assert_eq!(outcomes, 1);
    prop_assert!(reading.event.is_some());
    if reading.items.is_empty() {
        return Ok(());
    }
    let request = exported(reading);
    let mut ids = BTreeSet::new();
    for span in spans(&request) {
        let text = |key: &str| span[key].as_str().unwrap();
        let time = |key: &str| span.get(key).map_or(0, |time| time.as_str().unwrap().parse::<u64>().unwrap());
        prop_assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"));
        prop_assert!(TraceId::from_hex(text("traceId").as_bytes()).is_some());
        prop_assert!(SpanId::from_hex(text("spanId").as_bytes()).is_some());
        prop_assert!(ids.insert(text("spanId").to_owned()), "two spans have one id");
        prop_assert!(span["parentSpanId"] != span["spanId"]);
    }
    Ok(())
}

/// Puts `value` in the place of the `nth` value of the tree, counted in its own order.
fn replace_nth(tree: &mut Value, nth: &mut usize, value: &Value) {
    if *nth == 0 {
        *tree = value.clone();
        *nth = usize::MAX;
        return;
    }
    *nth -= 1;
    match tree {
        Value::Array(elements) => elements.iter_mut().for_each(|element| replace_nth(element, nth, value)),
        Value::Object(members) => members.values_mut().for_each(|member| replace_nth(member, nth, value)),
        _ => {}
    }
}

fn count(tree: &Value) -> usize {
    1 + match tree {
        Value::Array(elements) => elements.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// Removes the `nth` member of the objects in the tree.
fn remove_nth(tree: &mut Value, nth: &mut usize) {
    let Value::Object(members) = tree else {
        if let Value::Array(elements) = tree {
            elements.iter_mut().for_each(|element| remove_nth(element, nth));
        }
        return;
    };
    let keys: Vec<String> = members.keys().cloned().collect();
    for key in keys {
        if *nth == 0 {
            members.remove(&key);
            *nth = usize::MAX;
            return;
        }
        *nth -= 1;
        remove_nth(&mut members[&key], nth);
    }
}

#[test]
fn a_member_that_is_missing_or_of_another_type_costs_no_event_unless_it_is_an_id() {
    let wrong = ["null", "\"\"", "7", "-1.5", "true", "[]", "[null]", "{}", "\"text\"", "1e400", "[{}]"];
    let wrong = wrong.map(|json| serde_json::from_str::<Value>(json).unwrap_or(Value::Null));
    for name in ["workflow-run", "workflow-job", "ping"] {
        let fixture = fixture(name);
        let payload = fixture.payload();
        let mut lost = 0;
        for nth in 1..count(&payload) {
            for replacement in wrong.iter().map(Some).chain([None]) {
                let mut body = payload.clone();
                match replacement {
                    Some(value) => replace_nth(&mut body, &mut nth.clone(), value),
                    None => remove_nth(&mut body, &mut (nth - 1)),
                }
                let reading = read(fixture.kind(), body.to_string().as_bytes());
                assert!(reading.rejected.is_empty(), "{body}");
                lost += usize::from(reading.items.is_empty());
            }
        }
        // The action, the run or the job, and its ids; each replacement may be of the right type.
        assert!(lost <= 5 * (wrong.len() + 1), "{name}: {lost} events were lost");
    }
}

proptest! {
    #[test]
    fn a_fixture_with_bytes_changed_or_removed_has_exactly_one_outcome(
        name in prop::sample::select(vec!["workflow-run", "workflow-job", "ping"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let fixture = fixture(name);
        let mut body = fixture.request.to_vec();
        for (place, byte) in changes {
            let place = place.index(body.len());
            body[place] = byte;
        }
        if cut {
            body.truncate(length.index(body.len()));
        }
        has_one_outcome(fixture.kind(), &body)?;
    }

    #[test]
    fn any_bytes_under_any_name_have_exactly_one_outcome(
        kind in "workflow_run|workflow_job|ping|[a-z_]{0,6}",
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        has_one_outcome(&kind, &body)?;
    }

    #[test]
    fn times_and_numbers_of_any_value_have_exactly_one_outcome(
        times in prop::collection::vec("[0-9]{4}-0[1-9]-[0-2][0-9]T[0-2][0-9]:00:00(\\.[0-9]{1,12})?(Z|[+-]0[0-9]:00)", 5),
        (run, attempt, job, step) in (any::<i64>(), any::<i64>(), any::<i64>(), any::<i64>()),
    ) {
        let step = json!({"number": step, "started_at": times[3], "completed_at": times[4]});
        let body = json!({"action": "completed", "workflow_job": {
            "id": job, "run_id": run, "run_attempt": attempt, "steps": [step, step],
            "created_at": times[0], "started_at": times[1], "completed_at": times[2],
        }});
        has_one_outcome("workflow_job", body.to_string().as_bytes())?;
        let is_read = !read("workflow_job", body.to_string().as_bytes()).items.is_empty();
        prop_assert_eq!(is_read, run > 0 && attempt > 0 && job > 0);
    }
}
