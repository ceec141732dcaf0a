//! The receiver as a whole: every folder of `proto-fixtures/circleci`, and arbitrary bodies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::config::{ReceiverEndpoint, Secret};
use crate::event::RejectCode;
use crate::receiver::{Item, Rejected, Scope};

/// One folder: a request of CircleCI, and the expected result.
#[derive(Debug)]
struct Fixture {
    name: String,
    request: Bytes,
    headers: HeaderMap,
    /// Expected export request, if there is one.
    traces: Option<String>,
    /// Expected status of the response, if nothing is exported.
    status: Option<u64>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-fixtures/circleci")
}

fn fixtures() -> Vec<Fixture> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders.iter().map(|folder| Fixture::load(folder)).collect()
}

fn fixture(name: &str) -> Fixture {
    Fixture::load(&root().join(name))
}

fn receiver() -> CircleCi {
    CircleCi::new(&CircleCiConfig {
        endpoint: ReceiverEndpoint::of("circleci/app"),
        secrets: vec![Secret::new("fixture-secret")],
        ..CircleCiConfig::default()
    })
}

fn read(body: &str) -> Reading {
    receiver().read(&Bytes::copy_from_slice(body.as_bytes()))
}

/// Returns the export request of an accepted webhook.
fn exported(reading: Reading) -> String {
    let [item] = <[Item; 1]>::try_from(reading.items).unwrap();
    String::from_utf8(item.traces.unwrap().into_json().to_vec()).unwrap()
}

/// Returns the same JSON without white space between its tokens.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |byte: &char| {
        let blank = !in_string && byte.is_ascii_whitespace();
        in_string ^= *byte == '"' && !escaped;
        escaped = in_string && *byte == '\\' && !escaped;
        !blank
    };
    json.chars().filter(keep).collect()
}

// === impl Fixture ===

impl Fixture {
    fn load(folder: &Path) -> Self {
        let text = |file: &str| fs::read_to_string(folder.join(file)).ok();
        let headers: BTreeMap<String, String> = serde_json::from_str(&text("headers.json").unwrap()).unwrap();
        let answer: Option<Value> =
            text("expected.answer.json").map(|answer| serde_json::from_str(&answer).unwrap());
        let fixture = Self {
            name: folder.file_name().unwrap().to_str().unwrap().to_owned(),
            request: fs::read(folder.join("request.json")).unwrap().into(),
            headers: headers
                .iter()
                .map(|(name, value)| {
                    (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
                })
                .collect(),
            traces: text("expected.traces.json"),
            status: answer.map(|answer| answer["status"].as_u64().unwrap()),
        };
        assert!(fixture.traces.is_some() != fixture.status.is_some(), "{}: one expectation", fixture.name);
        fixture
    }

    fn matches(&self, reading: Reading) {
        let Self { name, traces, status, .. } = self;
        match (traces, status) {
            (Some(expected), _) => {
                assert!(reading.event_id.is_some(), "{name}");
                assert_eq!(reading.items.len(), 1, "{name}");
                assert_eq!(reading.items[0].line, 1, "{name}");
                let json = exported(reading);
                let value: Value = serde_json::from_str(&json).unwrap();
                assert_eq!(value, serde_json::from_str::<Value>(expected).unwrap(), "{name}");
                assert_eq!(json, compact(expected), "{name}: same values, other bytes");
            }
            (None, Some(202)) => assert!(reading.ignored.is_some(), "{name}"),
            (None, Some(400)) => assert_eq!(reading.rejected.len(), 1, "{name}"),
            (None, status) => panic!("{name}: no test knows the status {status:?}"),
        }
    }
}

#[test]
fn every_fixture_is_exported_as_its_traces_expect() {
    let receiver = receiver();
    for fixture in fixtures() {
        let verified = receiver.verify(&fixture.headers, &fixture.request);
        assert_eq!(verified.is_ok(), fixture.status != Some(401), "{}", fixture.name);
        if verified.is_ok() {
            fixture.matches(receiver.read(&fixture.request));
        }
    }
}

#[test]
fn every_header_is_admitted_and_one_changed_byte_is_rejected() {
    let receiver = receiver();
    let Fixture { request, headers, .. } = fixture("ping");
    assert_eq!(receiver.admit(&HeaderMap::new()), Ok(()));
    assert!(receiver.verify(&headers, &[&request[..], b"\n"].concat()).is_err());
    assert!(receiver.verify(&headers, &request[1..]).is_err());
}

#[test]
fn has_its_configured_id_and_path() {
    assert_eq!((receiver().id(), receiver().path()), ("circleci/app", "/circleci/app"));
}

#[test]
fn a_redelivered_webhook_has_the_same_event_id_and_the_same_bytes() {
    let Fixture { request, .. } = fixture("github-oauth-job");
    let (first, second) = (receiver().read(&request), receiver().read(&request));
    assert!(first.event_id.is_some());
    assert_eq!(first.event_id, second.event_id);
    assert_eq!(exported(first), exported(second));
}

#[test]
fn the_event_in_the_body_is_used_and_its_kind_is_one_of_a_fixed_set() {
    for (name, event) in [
        ("github-oauth-workflow", webhook::WORKFLOW_COMPLETED),
        ("github-oauth-job", webhook::JOB_COMPLETED),
        ("ping", webhook::PING),
        ("unknown-event-type", WebhookEvent::UNKNOWN),
        ("not-json", WebhookEvent::UNKNOWN),
    ] {
        assert_eq!(receiver().read(&fixture(name).request).event, Some(event), "{name}");
    }
}

#[test]
fn an_event_without_usable_ids_is_ignored_and_an_unknown_type_keeps_its_own_reason() {
    for name in [
        "no-event-id",
        "no-workflow-id",
        "workflow-id-nil",
        "workflow-id-zero-prefix",
        "job-id-not-a-uuid",
        "ping-id-not-a-uuid",
    ] {
        assert_eq!(receiver().read(&fixture(name).request).ignored, Some(Ignored::NO_ID), "{name}");
    }
    for body in ["{}", r#"{"type":null,"id":"1"}"#, r#"{"type":"Ping","id":"1"}"#] {
        assert_eq!(read(body).ignored, Some(Ignored::UNKNOWN_EVENT_TYPE), "{body}");
    }
}

#[test]
fn a_rejection_has_position_and_reason_and_repeats_no_input() {
    let body = Bytes::from_static(b"{\"type\":\"ping\",\n\"s3cret\":s3cret}");
    let reading = receiver().read(&body);
    let expected = Rejected {
        scope: Scope::Unit,
        line: 2,
        column: 10,
        code: RejectCode::Other,
        at: 0,
        reason: "the body is not JSON: expected value".to_owned(),
        input: body,
        scrubbed: None,
    };
    assert_eq!(reading.rejected, [expected]);
}

#[test]
fn no_e_mail_address_and_no_credential_of_any_fixture_is_exported() {
    let mut addresses = 0;
    for fixture in fixtures() {
        let request = String::from_utf8_lossy(&fixture.request).into_owned();
        addresses += request.matches('@').count();
        for item in receiver().read(&fixture.request).items {
            let json = String::from_utf8(item.traces.unwrap().into_json().to_vec()).unwrap();
            for private in ["@", "acme.example\"", "Ann", "ann\"", "ghs_", "Sell blue lamps", "email"] {
                assert!(!json.contains(private), "{}: {private}", fixture.name);
            }
        }
    }
    assert!(addresses > 0, "the fixtures have addresses that could be exported");
}

#[test]
fn no_key_occurs_twice_and_no_value_is_null_empty_or_a_bare_integer() {
    for fixture in fixtures() {
        let Some(traces) = fixture.traces else { continue };
        let value: Value = serde_json::from_str(&traces).unwrap();
        let attributes =
            value["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"].as_array().unwrap();
        let mut keys: Vec<&str> = attributes.iter().map(|a| a["key"].as_str().unwrap()).collect();
        keys.sort_unstable();
        let count = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), count, "{}", fixture.name);
        for attribute in attributes {
            let value = attribute["value"].as_object().unwrap().values().next().unwrap();
            assert!(!value.as_str().unwrap().is_empty(), "{}: {attribute}", fixture.name);
        }
    }
}

/// Returns the paths in the payload that a field of a span may depend on.
fn sources(kind: &str, field: &str) -> &'static [&'static str] {
    let is_job = kind == "job-completed";
    match field {
        "traceId" | "spanId" | "parentSpanId" => &["type", "id", "workflow.id", "job.id"],
        "kind" | "circleci.kind" => &["type"],
        "name" if is_job => &["job.name"],
        "name" => &["workflow.name"],
        "startTimeUnixNano" | "endTimeUnixNano" => &[
            "happened_at",
            "job.started_at",
            "job.stopped_at",
            "workflow.created_at",
            "workflow.stopped_at",
            "pipeline.created_at",
        ],
        "status" | "error.type" if is_job => &["job.status"],
        "status" | "error.type" | "cicd.pipeline.result" => &["workflow.status"],
        "cicd.pipeline.task.run.result" => &["job.status"],
        "circleci.organization.id" | "com.circleci.org.id" => &["organization.id"],
        "circleci.organization.name" => &["organization.name"],
        "circleci.project.id" | "com.circleci.project.id" => &["project.id"],
        "circleci.project.name" => &["project.name"],
        "circleci.project.slug" => &["project.slug"],
        "circleci.pipeline.id" | "com.circleci.pipeline.id" => &["pipeline.id"],
        "circleci.pipeline.number" | "com.circleci.pipeline.number" => &["pipeline.number"],
        "circleci.pipeline.trigger.type" => &["pipeline.trigger.type"],
        "circleci.webhook.id" => &["webhook.id"],
        "circleci.workflow.id" | "com.circleci.workflow.id" | "cicd.pipeline.run.id" => &["workflow.id"],
        "circleci.workflow.name" | "com.circleci.workflow.name" | "cicd.pipeline.name" => &["workflow.name"],
        "circleci.workflow.url" | "cicd.pipeline.run.url.full" => &["workflow.url"],
        "circleci.workflow.status" | "com.circleci.workflow.status" => &["workflow.status"],
        "circleci.job.id" | "com.circleci.job.id" | "cicd.pipeline.task.run.id" => &["job.id"],
        "circleci.job.name" | "com.circleci.job.name" | "cicd.pipeline.task.name" => &["job.name"],
        "circleci.job.number" | "com.circleci.job.number" => &["job.number"],
        "circleci.job.status" | "com.circleci.job.status" => &["job.status"],
        vcs if vcs.starts_with("vcs.") => &["pipeline.vcs", "pipeline.trigger_parameters"],
        other => panic!("no source is known for {other}"),
    }
}

/// Returns every field of a span, attributes by their keys.
fn fields(span: &Value) -> BTreeMap<String, Value> {
    let mut fields: BTreeMap<String, Value> = span.as_object().unwrap().clone().into_iter().collect();
    if let Some(Value::Array(attributes)) = fields.remove("attributes") {
        fields.extend(
            attributes.into_iter().map(|a| (a["key"].as_str().unwrap().to_owned(), a["value"].clone())),
        );
    }
    fields
}

/// Returns the paths of all members, at every depth.
fn paths(tree: &Value, prefix: &[String]) -> Vec<Vec<String>> {
    let Value::Object(members) = tree else { return Vec::new() };
    let below = members.iter().flat_map(|(key, member)| {
        let path = [prefix, std::slice::from_ref(key)].concat();
        let mut found = paths(member, &path);
        found.push(path);
        found
    });
    below.collect()
}

fn is_within(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Reads `body` and compares it with the span of the payload before its member at `path` was changed.
fn only_dependent_fields_change(kind: &str, before: &Value, path: &str, body: &Value) {
    let reading = read(&body.to_string());
    assert!(reading.rejected.is_empty(), "{path}: {body}");
    let matters = |field: &str| {
        sources(kind, field).iter().any(|source| is_within(source, path) || is_within(path, source))
    };
    if reading.items.is_empty() {
        assert!(
            reading.ignored.is_some() && (matters("traceId") || matters("circleci.kind")),
            "{path}: {body}"
        );
        return;
    }
    let after: Value = serde_json::from_str(&exported(reading)).unwrap();
    let span = |request: &Value| fields(&request["resourceSpans"][0]["scopeSpans"][0]["spans"][0]);
    let (before, after) = (span(before), span(&after));
    for field in before.keys().chain(after.keys()) {
        if !matters(field) {
            assert_eq!(before.get(field), after.get(field), "{field} changed with {path}: {body}");
        }
    }
}

#[test]
fn a_missing_or_mistyped_member_affects_only_dependent_fields() {
    let wrong = ["null", "\"\"", "7", "-1.5", "true", "[]", "[null]", "{}", "\"\\ud83d\"", "\"text\""];
    let wrong = wrong.map(|json| serde_json::from_str::<Value>(json).unwrap_or(Value::Null));
    let mut tried = 0;
    for fixture in fixtures() {
        let Some(expected) = fixture.traces else { continue };
        let (expected, payload): (Value, Value) =
            (serde_json::from_str(&expected).unwrap(), serde_json::from_slice(&fixture.request).unwrap());
        let kind = payload["type"].as_str().unwrap();
        for path in paths(&payload, &[]) {
            let (last, parents) = path.split_last().unwrap();
            for replacement in wrong.iter().map(Some).chain([None]) {
                let mut body = payload.clone();
                let parent = parents.iter().fold(&mut body, |place, key| &mut place[key.as_str()]);
                match replacement {
                    Some(value) => parent[last.as_str()] = value.clone(),
                    None => drop(parent.as_object_mut().unwrap().remove(last)),
                }
                only_dependent_fields_change(kind, &expected, &path.join("."), &body);
                tried += 1;
            }
        }
    }
    assert!(tried > 1000, "the fixtures were tried: {tried}");
}

#[test]
fn faulty_bytes_anywhere_in_a_fixture_lose_no_event() {
    let faults: [&[u8]; 5] = [b"\t", b"\x00", b"\xff", b"\\ud83d", b"\xed\xa0\xbd"];
    for fixture in fixtures().into_iter().filter(|fixture| fixture.traces.is_some()) {
        let body = &fixture.request[..];
        let marked = [b"\xef\xbb\xbf", body].concat();
        fixture.matches(receiver().read(&marked.into()));
        // After the first letter of every string that no ids or kinds depend on.
        let text = std::str::from_utf8(body).unwrap();
        let strings = text.match_indices("\"name\"").chain(text.match_indices("\"subject\""));
        for (at, key) in strings {
            let value = at + key.len();
            let value = value + text.get(value..).unwrap().find(['"', ',', '}']).unwrap();
            if body[value] != b'"' {
                continue;
            }
            for fault in faults {
                let broken = [&body[..=value], fault, &body[value + 1..]].concat();
                let reading = receiver().read(&broken.into());
                assert_eq!(reading.items.len(), 1, "{}: {}", fixture.name, fault.escape_ascii());
                assert!(!reading.items[0].repairs.is_empty(), "{}", fixture.name);
            }
        }
    }
}

/// Generates bodies of many shapes: every value in every position, with the names of the payload.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[-+]?[0-9]{4,6}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,10})?(Z|[+-][0-9]{2}:[0-9]{2})"
            .prop_map(Value::from),
        "([0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})|[0-9a-f]{32}".prop_map(Value::from),
        prop_oneof![Just("ping"), Just("job-completed"), Just("workflow-completed")].prop_map(Value::from),
        "(https|ssh|git)?(://|:)?([a-z]{1,4}:?[a-z/]{0,4}@)?[a-z]{0,6}(:[0-9a-z]{0,5})?/?[a-z/.?#@]{0,8}"
            .prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "id",
            "type",
            "happened_at",
            "webhook",
            "organization",
            "project",
            "pipeline",
            "workflow",
            "job",
            "name",
            "slug",
            "number",
            "created_at",
            "started_at",
            "stopped_at",
            "url",
            "status",
            "trigger",
            "vcs",
            "trigger_parameters",
            "git",
            "gitlab",
            "github_app",
            "circleci",
            "branch",
            "tag",
            "ref",
            "revision",
            "checkout_url",
            "target_repository_url",
            "provider_name",
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..12)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Replaces the `nth` value of the tree, counted in its own order.
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

/// Checks that there is exactly one item, rejection or ignored event, and that an exported span has valid ids and
/// ordered times.
fn has_one_outcome(body: &[u8]) -> Result<(), TestCaseError> {
    let reading = receiver().read(&Bytes::copy_from_slice(body));
    let outcomes = reading.items.len() + reading.rejected.len() + usize::from(reading.ignored.is_some());
    prop_assert_eq!(outcomes, 1);
    prop_assert!(reading.event.is_some());
    for rejected in &reading.rejected {
        prop_assert!(rejected.line >= 1 && rejected.column >= 1);
        prop_assert_eq!(&rejected.input[..], body);
    }
    if reading.items.is_empty() {
        return Ok(());
    }
    let value: Value = serde_json::from_str(&exported(reading)).unwrap();
    let span = &value["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    let time = |key: &str| span.get(key).map_or(0, |time| time.as_str().unwrap().parse::<u64>().unwrap());
    prop_assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"));
    prop_assert!(crate::otlp::TraceId::from_hex(span["traceId"].as_str().unwrap().as_bytes()).is_some());
    prop_assert!(crate::otlp::SpanId::from_hex(span["spanId"].as_str().unwrap().as_bytes()).is_some());
    prop_assert!(span["parentSpanId"] != span["spanId"]);
    Ok(())
}

proptest! {
    #[test]
    fn any_json_value_has_exactly_one_outcome(value in any_json()) {
        has_one_outcome(value.to_string().as_bytes())?;
    }

    #[test]
    fn a_fixture_with_one_value_replaced_has_exactly_one_outcome(
        fixture in prop::sample::select(vec!["github-oauth-job", "github-app-job", "gitlab-workflow-failed", "ping"])
            .prop_map(fixture),
        nth in 0usize..90,
        value in any_json(),
    ) {
        let mut tree: Value = serde_json::from_slice(&fixture.request).unwrap();
        replace_nth(&mut tree, &mut nth.clone(), &value);
        has_one_outcome(tree.to_string().as_bytes())?;
    }

    #[test]
    fn a_fixture_with_bytes_changed_or_removed_has_exactly_one_outcome(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut body = fixture("github-oauth-job").request.to_vec();
        for (place, byte) in changes {
            let place = place.index(body.len());
            body[place] = byte;
        }
        if cut {
            body.truncate(length.index(body.len()));
        }
        has_one_outcome(&body)?;
    }

    #[test]
    fn any_bytes_have_exactly_one_outcome(body in prop::collection::vec(any::<u8>(), 0..64)) {
        has_one_outcome(&body)?;
    }
}
