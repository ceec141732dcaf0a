use serde_json::Value;

use super::*;
use crate::otlp::{SpanId, TraceId};
use crate::receiver::webhook::payload::repair;

const EVENT: &str = "92e0554a-837f-4086-913b-0dc7665d2a84";
const WORKFLOW: &str = "cedf175c-c537-49f8-9b5c-95892f0b2407";
const JOB: &str = "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34";

fn span(body: &str) -> Option<Value> {
    let repaired = repair(body.as_bytes());
    let request = export_request(&Webhook::read(&repaired).unwrap(), "ci", &Withheld::default())?;
    let mut request: Value = serde_json::from_slice(&request).unwrap();
    Some(request["resourceSpans"][0]["scopeSpans"][0]["spans"][0].take())
}

/// Returns a job event with these members in `job`, and these at the top level.
fn job(members: &str, event: &str) -> Value {
    span(&format!(
        r#"{{"type":"job-completed","id":"{EVENT}"{event},"workflow":{{"id":"{WORKFLOW}"}},"job":{{"id":"{JOB}"{members}}}}}"#
    ))
    .unwrap()
}

fn workflow(members: &str, event: &str) -> Value {
    span(&format!(
        r#"{{"type":"workflow-completed","id":"{EVENT}"{event},"workflow":{{"id":"{WORKFLOW}"{members}}}}}"#
    ))
    .unwrap()
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a str> {
    let attribute = span["attributes"].as_array()?.iter().find(|attribute| attribute["key"] == key)?;
    attribute["value"].as_object()?.values().next()?.as_str()
}

/// Returns start and end, in whole seconds of 2026-03-02T09:00.
fn seconds(span: &Value) -> Option<(u64, u64)> {
    let seconds = |key: &str| {
        let nanoseconds: u64 = span[key].as_str()?.parse().unwrap();
        Some((nanoseconds - 1_772_442_000_000_000_000) / 1_000_000_000)
    };
    Some((seconds("startTimeUnixNano")?, seconds("endTimeUnixNano")?))
}

#[test]
fn ids_are_those_of_circleci_hook() {
    let workflow = workflow("", "");
    assert_eq!(workflow["traceId"], "cedf175cc53749f89b5c95892f0b2407");
    assert_eq!(workflow["spanId"], "cedf175cc53749f8");
    assert_eq!(workflow.get("parentSpanId"), None);
    let job = job("", "");
    assert_eq!(job["traceId"], workflow["traceId"]);
    assert_eq!(job["spanId"], "3f6a7c4a0bb6463a");
    assert_eq!(job["parentSpanId"], workflow["spanId"]);
    let ping = span(&format!(r#"{{"type":"ping","id":"{EVENT}"}}"#)).unwrap();
    assert_eq!(ping["traceId"], "92e0554a837f4086913b0dc7665d2a84");
    assert_eq!(ping["spanId"], "92e0554a837f4086");
    assert_eq!(ping.get("parentSpanId"), None);
}

#[test]
fn traceparent_has_the_span_id_of_the_job() {
    let job = job("", "");
    let line = traceparent::traceparent(WORKFLOW, JOB).unwrap();
    let mut fields = line.trim_end().split('-').skip(1);
    let trace = TraceId::from_hex(fields.next().unwrap().as_bytes()).unwrap();
    let span = SpanId::from_hex(fields.next().unwrap().as_bytes()).unwrap();
    assert_eq!(job["traceId"], trace.to_string());
    assert_eq!(job["spanId"], span.to_string());
}

#[test]
fn names_and_kinds_follow_the_event() {
    let named = workflow(r#","name":"deploy: eu""#, "");
    assert_eq!((&named["name"], &named["kind"]), (&"workflow: deploy: eu".into(), &2.into()));
    let named = job(r#","name":"test-1/4""#, "");
    assert_eq!((&named["name"], &named["kind"]), (&"job: test-1/4".into(), &1.into()));
    assert_eq!(workflow(r#","name":"""#, "")["name"], "workflow");
    assert_eq!(job(r#","name":null"#, "")["name"], "job");
}

#[test]
fn a_job_that_did_not_start_has_no_duration_and_without_an_end_it_ends_with_its_event() {
    const HAPPENED: &str = r#","happened_at":"2026-03-02T09:00:50Z""#;
    for (members, expected) in [
        (r#","started_at":"2026-03-02T09:00:10Z","stopped_at":"2026-03-02T09:00:40Z""#, (10, 40)),
        (r#","started_at":"2026-03-02T09:00:10Z","stopped_at":null"#, (10, 50)),
        (r#","started_at":"2026-03-02T09:00:10Z","stopped_at":"""#, (10, 50)),
        (r#","started_at":null,"stopped_at":"2026-03-02T09:00:40Z""#, (40, 40)),
        ("", (50, 50)),
        (r#","started_at":"2026-03-02T09:00:41Z","stopped_at":"2026-03-02T09:00:40Z""#, (41, 41)),
        (r#","started_at":"2026-03-02T09:00:59Z""#, (59, 59)),
        (r#","started_at":"soon","stopped_at":1772442040"#, (50, 50)),
    ] {
        assert_eq!(seconds(&job(members, HAPPENED)), Some(expected), "{members}");
    }
}

#[test]
fn a_workflow_starts_when_it_was_created_not_when_its_pipeline_was() {
    let pipeline =
        r#","happened_at":"2026-03-02T09:00:50Z","pipeline":{"created_at":"2026-01-02T09:00:00Z"}"#;
    let both = r#","created_at":"2026-03-02T09:00:10Z","stopped_at":"2026-03-02T09:00:40Z""#;
    assert_eq!(seconds(&workflow(both, pipeline)), Some((10, 40)));
    let running = r#","created_at":"2026-03-02T09:00:10Z","stopped_at":null"#;
    assert_eq!(seconds(&workflow(running, pipeline)), Some((10, 50)));
}

#[test]
fn an_event_without_its_own_times_has_any_other_or_unknown_ones() {
    let only_start = r#","started_at":"2026-03-02T09:00:10Z""#;
    assert_eq!(seconds(&job(only_start, "")), Some((10, 10)));
    let only_pipeline = r#","pipeline":{"created_at":"2026-03-02T09:00:05Z"}"#;
    assert_eq!(seconds(&job("", only_pipeline)), Some((5, 5)));
    let none = job("", r#","happened_at":"0001-01-01T00:00:00Z""#);
    assert_eq!((none.get("startTimeUnixNano"), none.get("endTimeUnixNano")), (None, None));
}

#[test]
fn every_status_has_its_result_and_failures_an_error_type() {
    for (status, result, is_error) in [
        ("success", "success", false),
        ("failed", "failure", true),
        ("failing", "failure", false),
        ("error", "error", true),
        ("unauthorized", "error", true),
        ("infrastructure_fail", "error", true),
        ("canceled", "cancellation", false),
        ("timedout", "timeout", true),
        ("not_run", "skip", false),
        ("on_hold", "on_hold", false),
        ("running", "running", false),
        ("terminated-unknown", "terminated-unknown", false),
        ("Failed", "Failed", false),
    ] {
        let members = format!(r#","status":"{status}""#);
        for (span, key) in [
            (workflow(&members, ""), "cicd.pipeline.result"),
            (job(&members, ""), "cicd.pipeline.task.run.result"),
        ] {
            assert_eq!(attribute(&span, key), Some(result), "{status}");
            assert_eq!(attribute(&span, "error.type"), is_error.then_some(status), "{status}");
            let code = span.get("status").map(|status| status["code"].as_u64().unwrap());
            assert_eq!(code, is_error.then_some(2), "{status}");
        }
    }
}

#[test]
fn an_event_without_a_status_has_no_result_not_even_that_of_its_workflow() {
    let span = workflow("", "");
    assert_eq!((attribute(&span, "cicd.pipeline.result"), span.get("status")), (None, None));
    let body = format!(
        r#"{{"type":"job-completed","id":"{EVENT}","workflow":{{"id":"{WORKFLOW}","status":"failed"}},"job":{{"id":"{JOB}","status":"success"}}}}"#
    );
    let span = self::span(&body).unwrap();
    assert_eq!(attribute(&span, "circleci.workflow.status"), Some("failed"));
    assert_eq!(attribute(&span, "cicd.pipeline.task.run.result"), Some("success"));
    assert_eq!((attribute(&span, "error.type"), span.get("status")), (None, None));
}

#[test]
fn ids_are_urns_in_the_older_vocabulary_and_plain_in_the_conventions() {
    let span = job(
        r#","number":7"#,
        r#","project":{"id":"3F6A7C4A0BB6463ABD0C3D5E0B1B1D34"},"organization":{"id":"acme"}"#,
    );
    for (key, value) in [
        ("circleci.workflow.id", "urn:uuid:cedf175c-c537-49f8-9b5c-95892f0b2407"),
        ("cicd.pipeline.run.id", WORKFLOW),
        ("com.circleci.workflow.id", WORKFLOW),
        ("circleci.job.id", "urn:uuid:3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34"),
        ("cicd.pipeline.task.run.id", JOB),
        ("com.circleci.job.id", JOB),
        ("circleci.project.id", "urn:uuid:3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34"),
        ("com.circleci.project.id", "3F6A7C4A0BB6463ABD0C3D5E0B1B1D34"),
        ("circleci.organization.id", "acme"),
        ("com.circleci.org.id", "acme"),
        ("circleci.job.number", "7"),
    ] {
        assert_eq!(attribute(&span, key), Some(value), "{key}");
    }
    assert_eq!(
        span["attributes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|a| a["value"].get("intValue").is_some())
            .count(),
        2
    );
}

#[test]
fn no_deprecated_name_is_used() {
    let vcs = r#","pipeline":{"vcs":{"branch":"main","revision":"1","target_repository_url":"https://h/r"}}"#;
    let span = job("", vcs);
    for key in ["vcs.ref.head.name", "vcs.ref.head.type", "vcs.ref.head.revision", "vcs.repository.url.full"]
    {
        assert!(attribute(&span, key).is_some(), "{key}");
    }
    let text = span.to_string();
    assert!(!text.contains("vcs.repository.ref") && !text.contains("vcs.repository.change"));
}

#[test]
fn an_event_without_the_ids_of_its_kind_has_no_span() {
    for body in [
        format!(r#"{{"type":"workflow-completed","workflow":{{"id":"{WORKFLOW}"}}}}"#),
        format!(r#"{{"type":"workflow-completed","id":"{EVENT}"}}"#),
        format!(r#"{{"type":"workflow-completed","id":"{EVENT}","workflow":{{"id":7}}}}"#),
        format!(
            r#"{{"type":"workflow-completed","id":"{EVENT}","workflow":{{"id":"urn:uuid:{WORKFLOW}"}}}}"#
        ),
        format!(r#"{{"type":"job-completed","id":"{EVENT}","workflow":{{"id":"{WORKFLOW}"}}}}"#),
        format!(r#"{{"type":"job-completed","id":"{EVENT}","job":{{"id":"{JOB}"}}}}"#),
        format!(
            r#"{{"type":"job-completed","id":"{EVENT}","workflow":{{"id":"{JOB}"}},"job":{{"id":"{JOB}"}}}}"#
        ),
        r#"{"type":"ping","id":"00000000-0000-0000-0000-000000000000"}"#.to_owned(),
        r#"{"type":"ping","id":"00000000-0000-0000-913b-0dc7665d2a84"}"#.to_owned(),
        r#"{"type":"ping","id":""}"#.to_owned(),
    ] {
        assert_eq!(span(&body), None, "{body}");
    }
}

#[test]
fn the_id_of_an_event_that_is_not_a_ping_is_opaque() {
    let body = format!(r#"{{"type":"workflow-completed","id":"evt_1","workflow":{{"id":"{WORKFLOW}"}}}}"#);
    assert!(span(&body).is_some());
}
