//! Spans of steps, compared with a naive reading of the same responses.

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::receiver::circleci::job_details;
use crate::receiver::webhook::payload::{object, repair};

const WORKFLOW: &str = "cedf175c-c537-49f8-9b5c-95892f0b2407";
const JOB: &str = "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34";
/// 2026-03-02T09:00:00Z in seconds.
const START: u64 = 1_772_442_000;

/// Returns the event of a job that ran from 09:01:00 to 09:02:00, in a workflow that was created at 09:00:00.
fn event() -> String {
    format!(
        r#"{{"type":"job-completed","id":"1","happened_at":"2026-03-02T09:02:01Z","workflow":{{"id":"{WORKFLOW}","name":"w","created_at":"2026-03-02T09:00:00Z"}},"job":{{"id":"{JOB}","name":"j","number":7,"started_at":"2026-03-02T09:01:00Z","stopped_at":"2026-03-02T09:02:00Z"}}}}"#
    )
}

/// Returns the spans of a response of v3, or of v1.1.
fn spans_of(event: &str, response: &Value, is_v3: bool, commands: bool) -> Vec<Value> {
    spans_without(&[], event, response, is_v3, commands)
}

/// Returns the spans of a response while these attributes are withheld.
fn spans_without(keys: &[&str], event: &str, response: &Value, is_v3: bool, commands: bool) -> Vec<Value> {
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    let withheld = Withheld::new(keys.iter());
    let text = response.to_string();
    let text = repair(text.as_bytes());
    let object = object(&text).unwrap();
    let details = if is_v3 { job_details::v3(object) } else { job_details::v1_1(object) }.unwrap();
    let event = repair(event.as_bytes());
    let webhook = Webhook::read(&event).unwrap();
    let Some(request) = export_request(&webhook, &details, ("ci", &withheld), commands) else {
        return Vec::new();
    };
    let mut request: Value = serde_json::from_slice(&request).unwrap();
    request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array_mut().unwrap().drain(..).collect()
}

fn v3(executions: Value) -> Value {
    json!({ "data": { "attributes": { "phase": "ended", "parallel_executions": executions } } })
}

fn steps(spans: Vec<Value>) -> Vec<Value> {
    spans
        .into_iter()
        .filter(|span| attribute(span, "circleci.kind") == Some(json!({ "stringValue": "step" })))
        .collect()
}

/// Returns the spans of the steps of one execution.
fn of_steps(members: Value, commands: bool) -> Vec<Value> {
    steps(spans_of(&event(), &v3(json!([{ "steps": members }])), true, commands))
}

fn attribute(span: &Value, key: &str) -> Option<Value> {
    let attributes = span["attributes"].as_array()?;
    Some(attributes.iter().find(|attribute| attribute["key"] == key)?["value"].clone())
}

/// Returns start and end in seconds after 09:00.
fn seconds(span: &Value) -> (u64, u64) {
    let at = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap() / 1_000_000_000 - START;
    (at("startTimeUnixNano"), at("endTimeUnixNano"))
}

#[test]
fn the_time_before_the_job_is_next_to_it() {
    let with = |queued: Value, event: &str| {
        let response = json!({ "build_num": 7, "queued_at": queued });
        let spans = spans_of(event, &response, false, false);
        spans
            .iter()
            .map(|span| (span["name"].as_str().unwrap().to_owned(), seconds(span)))
            .collect::<Vec<_>>()
    };
    let (waiting, queued) = ("waiting: j".to_owned(), "queued: j".to_owned());
    let event = event();
    let whole = with(json!("2026-03-02T09:00:40Z"), &event);
    assert_eq!(whole, [(waiting.clone(), (0, 40)), (queued.clone(), (40, 60))]);
    // Times that are missing or impossible make no spans.
    assert_eq!(with(Value::Null, &event), [(waiting.clone(), (0, 60))]);
    assert_eq!(with(json!("2026-03-02T09:01:30Z"), &event), [(waiting, (0, 60))]);
    let no_workflow = event.replace(r#","created_at":"2026-03-02T09:00:00Z""#, "");
    assert_eq!(with(json!("2026-03-02T09:00:40Z"), &no_workflow), [(queued, (40, 60))]);
    let not_started = event.replace(r#""started_at":"2026-03-02T09:01:00Z","#, "");
    assert_eq!(with(json!("2026-03-02T09:00:40Z"), &not_started), []);
    let spans =
        spans_of(&event, &json!({ "build_num": 7, "queued_at": "2026-03-02T09:00:40Z" }), false, false);
    for span in spans {
        assert_eq!(span["parentSpanId"], "cedf175cc53749f8");
        assert_eq!(span.get("status"), None);
    }
}

#[test]
fn the_status_follows_from_the_outcome() {
    for (outcome, is_error) in [
        ("succeeded", false),
        ("success", false),
        ("canceled", false),
        ("not_run", false),
        ("retried", false),
        ("something-new", false),
        ("failed", true),
        ("errored", true),
        ("infrastructure_fail", true),
        ("timedout", true),
        ("unauthorized", true),
    ] {
        let [span] = of_steps(json!([{ "name": "a", "outcome": outcome }]), false).try_into().unwrap();
        let expected = is_error.then(|| json!({ "code": 2 }));
        assert_eq!(span.get("status"), expected.as_ref(), "{outcome}");
        assert_eq!(attribute(&span, "error.type"), is_error.then(|| json!({ "stringValue": outcome })));
    }
}

#[test]
fn a_name_that_was_made_of_the_command_is_hidden() {
    let long = format!("echo {}", "a".repeat(3000));
    for (name, command, shown) in [
        ("Unit tests", "make check", "Unit tests"),
        ("make check", "#!/bin/bash -eo pipefail\nmake check", "run"),
        ("make  check ", "make check", "run"),
        ("make check", "make check --token hunter2", "run"),
        ("make che…", "make check", "run"),
        ("make che...", "#!/bin/sh\nmake check", "run"),
        ("set -e make check", "#!/bin/sh\nset -e\nmake check", "run"),
        ("make check", "set -e\n  make check\n", "run"),
        ("make", "make", "run"),
        // A word that begins the command names a program at most.
        ("make", "make check", "make"),
        ("build", "build.sh --prod", "build"),
        ("check make", "make check", "check make"),
        ("…", "make", "…"),
        ("Unit tests", "", "Unit tests"),
        (&long, &long, "run"),
    ] {
        let members = json!([{ "name": name, "type": "run", "command": command }]);
        let [span] = of_steps(members.clone(), false).try_into().unwrap();
        assert_eq!(span["name"], shown, "{name} of {command}");
        let [span] = of_steps(members, true).try_into().unwrap();
        assert!(name.starts_with(span["name"].as_str().unwrap().trim_end_matches('…')));
        assert_eq!(
            attribute(&span, "com.circleci.step.command"),
            (!command.is_empty()).then(|| json!({ "stringValue": command }))
        );
    }
}

#[test]
fn what_is_withheld_is_in_no_name() {
    let names = |keys: &[&str], job: &str, name: &str| -> Vec<String> {
        let step = json!({ "name": name, "type": "run", "command": "make check" });
        let event = event().replace(r#""name":"j""#, &format!(r#""name":"{job}""#));
        let spans = spans_without(keys, &event, &v3(json!([{ "steps": [step] }])), true, true);
        spans.iter().map(|span| span["name"].as_str().unwrap().to_owned()).collect()
    };
    let long = "j".repeat(MAX_REPEATED_BYTES + 1);
    for (keys, job, name, expected) in [
        (&[][..], "j", "make check", ["waiting: j", "make check"]),
        (&[COMMAND], "j", "make check", ["waiting: j", "run"]),
        (&[COMMAND, TYPE], "j", "make check", ["waiting: j", "step"]),
        (&[TYPE], "j", "", ["waiting: j", "step"]),
        (&["cicd.pipeline.task.name"], "j", "a", ["waiting", "a"]),
        (&["cicd.pipeline.task.name"], &long, "a", ["waiting", "a"]),
    ] {
        assert_eq!(names(keys, job, name), expected, "{keys:?}");
    }
}

#[test]
fn a_long_name_is_cut_at_a_character() {
    for name in ["é".repeat(2000), "a".repeat(2000), format!("a{}", "€".repeat(2000))] {
        let [span] = of_steps(json!([{ "name": name }]), false).try_into().unwrap();
        let shown = span["name"].as_str().unwrap();
        assert!(shown.len() <= MAX_NAME_BYTES + '…'.len_utf8() && shown.len() > MAX_NAME_BYTES - 4);
        assert!(name.starts_with(shown.strip_suffix('…').unwrap()));
    }
    let name = "a".repeat(MAX_NAME_BYTES);
    assert_eq!(of_steps(json!([{ "name": name }]), false)[0]["name"], name);
}

#[test]
fn the_number_of_steps_is_limited() {
    let execution = json!({ "steps": vec![json!({}); job_details::MAX_STEPS / 2 + 1] });
    let spans = steps(spans_of(&event(), &v3(json!([execution, execution])), true, false));
    assert_eq!(spans.len(), job_details::MAX_STEPS);
    assert_eq!(ids(&spans).len(), spans.len());
}

fn ids(spans: &[Value]) -> HashSet<&str> {
    spans.iter().map(|span| span["spanId"].as_str().unwrap()).collect()
}

/// Returns a member that is right, missing, or of another type.
fn odd(right: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    let wrong = prop_oneof![
        Just(Value::Null),
        Just(json!("")),
        Just(json!([1, "x"])),
        Just(json!({ "a": 1 })),
        Just(json!(true)),
        Just(json!(1.5)),
    ];
    prop_oneof![6 => right.prop_map(Some), 1 => Just(None), 1 => wrong.prop_map(Some)].boxed()
}

fn words(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    proptest::sample::select(words).prop_map(|word| json!(word))
}

const NAMES: &[&str] = &["Checkout code", "make check", "make", "echo a…", "Unit tests"];
const COMMANDS: &[&str] =
    &["#!/bin/bash -eo pipefail\nmake check", "make", "echo a b", "npm test\necho \"$SECRET\""];
const OUTCOMES: &[&str] = &["succeeded", "success", "failed", "errored", "timedout", "canceled", "new-word"];

fn time_at() -> impl Strategy<Value = Value> {
    (0_u64..3600).prop_map(|second| json!(format!("2026-03-02T09:{:02}:{:02}Z", second / 60, second % 60)))
}

fn whole(range: std::ops::Range<i64>) -> impl Strategy<Value = Value> {
    prop_oneof![range.clone().prop_map(|n| json!(n)), range.prop_map(|n| json!(n.to_string()))]
}

/// Returns a step with the members of v3 under the names of both APIs.
fn any_step() -> impl Strategy<Value = Value> {
    let members = (
        odd(words(NAMES)),
        odd(words(&["run", "checkout", "test"])),
        odd(whole(0..4)),
        odd(words(OUTCOMES)),
        odd(whole(0..256)),
        odd(words(COMMANDS)),
        odd(time_at()),
        odd(time_at()),
        odd(whole(0..3)),
        odd(whole(0..2)),
    );
    members.prop_map(|(name, kind, num, outcome, exit, command, start, end, index, rerun)| {
        let mut step = serde_json::Map::new();
        let mut put = |keys: &[&str], value: &Option<Value>| {
            for key in keys {
                step.extend(value.clone().map(|value| ((*key).to_owned(), value)));
            }
        };
        put(&["name"], &name);
        put(&["type"], &kind);
        put(&["num", "step"], &num);
        put(&["outcome", "status"], &outcome);
        put(&["exit_code"], &exit);
        put(&["command", "bash_command"], &command);
        put(&["started_at", "start_time"], &start);
        put(&["ended_at", "end_time"], &end);
        put(&["index"], &index);
        put(&["auto_rerun_number"], &rerun);
        Value::Object(step)
    })
}

/// Expectation of the naive reading for a step's span, as far as a single step determines it.
#[derive(Debug, PartialEq)]
struct Expected {
    name: String,
    times: (u64, u64),
    index: i64,
    exit_code: Option<i64>,
    outcome: Option<String>,
    is_error: bool,
    command: Option<String>,
}

fn naive_text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn naive_number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn naive_second(value: &Value) -> Option<u64> {
    let (_, clock) = value.as_str()?.strip_suffix('Z')?.split_once('T')?;
    let mut parts = clock.split(':').map(|part| part.parse::<u64>().unwrap());
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    Some((hour - 9) * 3600 + minute * 60 + second)
}

/// Decides by the text alone, on every beginning of the command and of its lines.
fn naive_is_made_of(name: &str, command: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut texts: Vec<String> = command.lines().map(squeeze).collect();
    texts.push(squeeze(command));
    texts.push(squeeze(&command.lines().skip(1).collect::<Vec<_>>().join("\n")));
    match name.strip_suffix('…') {
        Some(cut) => texts.iter().any(|text| text.starts_with(&squeeze(cut))),
        None if squeeze(name).contains(' ') => texts.iter().any(|text| text.starts_with(&squeeze(name))),
        None => texts.contains(&squeeze(name)),
    }
}

fn naive(step: &Value, index: i64, is_v3: bool, commands: bool) -> Expected {
    let key = |v3: &'static str, v1: &'static str| &step[if is_v3 { v3 } else { v1 }];
    let command = naive_text(key("command", "bash_command"));
    let kind = naive_text(&step["type"]);
    let name = naive_text(&step["name"])
        .filter(|name| commands || !command.as_ref().is_some_and(|command| naive_is_made_of(name, command)));
    let (start, end) =
        (naive_second(key("started_at", "start_time")), naive_second(key("ended_at", "end_time")));
    // Without times, the step is where the job ended.
    let end_or = end.or(start).unwrap_or(120);
    let start_or = start.unwrap_or(end_or);
    let outcome = naive_text(key("outcome", "status"));
    Expected {
        name: name.or(kind).unwrap_or_else(|| "step".to_owned()),
        times: (start_or, end_or.max(start_or)),
        index,
        exit_code: naive_number(&step["exit_code"]),
        is_error: outcome.as_deref().is_some_and(|word| ["failed", "errored", "timedout"].contains(&word)),
        outcome,
        command: command.filter(|_| commands),
    }
}

fn shown(span: &Value) -> Expected {
    let text =
        |key: &str| attribute(span, key).map(|value| value["stringValue"].as_str().unwrap().to_owned());
    let number =
        |key: &str| attribute(span, key).map(|value| value["intValue"].as_str().unwrap().parse().unwrap());
    Expected {
        name: span["name"].as_str().unwrap().to_owned(),
        times: seconds(span),
        index: number("com.circleci.task.index").unwrap(),
        exit_code: number("com.circleci.step.exit_code"),
        outcome: text("com.circleci.step.outcome"),
        is_error: span.get("status").is_some(),
        command: text("com.circleci.step.command"),
    }
}

proptest! {
    #[test]
    fn any_steps_are_the_spans_of_a_naive_reading(
        executions in proptest::collection::vec(proptest::collection::vec(any_step(), 0..6), 0..4),
        commands: bool,
    ) {
        let in_v3: Vec<Value> = executions.iter().map(|steps| json!({ "steps": steps })).collect();
        let groups: Vec<Value> = executions.iter().map(|steps| json!({ "actions": steps })).collect();
        let v1_1 = json!({ "build_num": 7, "steps": groups });
        for (response, is_v3) in [(v3(Value::Array(in_v3)), true), (v1_1, false)] {
            let mut expected = Vec::new();
            for (execution, steps) in (0..).zip(&executions) {
                for step in steps {
                    let index = if is_v3 { execution } else { naive_number(&step["index"]).unwrap_or(0) };
                    expected.push(naive(step, index, is_v3, commands));
                }
            }
            let spans = steps(spans_of(&event(), &response, is_v3, commands));
            prop_assert_eq!(spans.iter().map(shown).collect::<Vec<_>>(), expected);
            prop_assert_eq!(ids(&spans).len(), spans.len(), "each span has an id of its own");
            for span in &spans {
                prop_assert_eq!(&span["parentSpanId"], "3f6a7c4a0bb6463a");
                prop_assert_eq!(&span["traceId"], "cedf175cc53749f89b5c95892f0b2407");
            }
            let again = steps(spans_of(&event(), &response, is_v3, commands));
            prop_assert_eq!(&again, &spans, "a redelivery");
            let text = serde_json::to_string(&spans).unwrap();
            prop_assert!(commands || !text.contains("SECRET"), "{}", text);
        }
    }
}
