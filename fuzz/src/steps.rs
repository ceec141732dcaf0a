//! Responses of CircleCI's API: any bytes make the spans that a naive reading of them describes, without any text of a command,
//! and their ids follow from the job, the execution and the step.
//!
//! The input: words up to the first line feed (`v1.1`, `commands`, `bare`), then the response of v3 or v1.1. The response of v2
//! may follow, after a line `---`.

mod naive;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use spanrelay::internals::{LookedUp, Receiver, look_up};

use self::naive::{Described, Seen, Step};
use super::forwarded::{check_reading, spans};
use super::json::Json;
use super::receivers;

const TOKEN: &str = "api-token-Wd2k";

const WORKFLOW: &str = "cedf175c-c537-49f8-9b5c-95892f0b2407";
const JOB: &str = "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34";

/// Maximum number of steps that are read of one job.
const MAX_STEPS: usize = 10_000;
/// Maximum length of a step's name.
const MAX_NAME_BYTES: usize = 1024;

/// Attributes that a span may have.
const KEYS: [&str; 14] = [
    "circleci.kind",
    "cicd.pipeline.name",
    "cicd.pipeline.run.id",
    "cicd.pipeline.task.name",
    "cicd.pipeline.task.run.id",
    "com.circleci.job.number",
    "com.circleci.task.index",
    "com.circleci.step.num",
    "com.circleci.step.rerun",
    "com.circleci.step.type",
    "com.circleci.step.outcome",
    "com.circleci.step.exit_code",
    "com.circleci.step.background",
    "error.type",
];
const COMMAND: &str = "com.circleci.step.command";

/// Form of an input.
#[derive(Debug, Clone, Copy)]
struct Words {
    is_v3: bool,
    commands: bool,
    /// The event of the job has no times but that of its end.
    is_bare: bool,
}

/// Checks the spans of responses.
pub fn steps(input: &[u8]) {
    const SEPARATOR: &[u8] = b"\n---\n";
    let (words, body) = input.split_at(memchr::memchr(b'\n', input).unwrap_or(input.len()));
    let body = body.strip_prefix(b"\n").unwrap_or_default();
    let end = memchr::memmem::find(body, SEPARATOR).unwrap_or(body.len());
    let (body, of_v2) = (&body[..end], body.get(end + SEPARATOR.len()..).unwrap_or_default());
    let has = |word: &str| memchr::memmem::find(words, word.as_bytes()).is_some();
    let words = Words { is_v3: !has("v1.1"), commands: has("commands"), is_bare: has("bare") };

    let commands = words.commands;
    let receiver = receivers::one(&format!(
        "receivers: {{circleci: {{allow_unsigned: true, api: {{token: {TOKEN}, commands: {commands}}}}}}}"
    ));
    let event = event(words.is_bare, "");
    let found = answered(&*receiver, &event, words, body, of_v2);
    let described = Json::parse(body).map(|response| match words.is_v3 {
        true => naive::v3(&response),
        false => naive::v1_1(&response),
    });
    let Some(found) = found else {
        // A body that is not JSON as it is may be repaired, or not.
        return assert!(
            !matches!(described, Some(Some(_))),
            "a description of a job is not read: {described:?}"
        );
    };
    let made = found.request.as_ref().map_or_else(Vec::new, |request| made(&*receiver, request, commands));
    if let Some(described) = described {
        let described = described.unwrap_or_else(|| panic!("spans of something else: {found:?}"));
        assert_eq!(found.is_final, described.is_final, "{described:?}");
        is_of(&made, &described, of_v2, words);
    }
    let envelope = self::event(words.is_bare, r#","someday":{"a":[null]}"#);
    let again = answered(&*receiver, &envelope, words, body, of_v2);
    assert_eq!(again.map(|found| found.request), Some(found.request), "a redelivery makes other spans");
}

/// Returns the event of a job from 09:01 to 09:02, in a workflow of 09:00.
fn event(is_bare: bool, further: &str) -> Bytes {
    let (created, started) = match is_bare {
        true => ("", ""),
        false => (r#""created_at":"2026-03-02T09:00:00Z","#, r#""started_at":"2026-03-02T09:01:00Z","#),
    };
    format!(
        r#"{{"type":"job-completed","id":"1","happened_at":"2026-03-02T09:02:01Z","workflow":{{{created}"id":"{WORKFLOW}","name":"a \"w\""}},"job":{{{started}"id":"{JOB}","name":"a \"j\"","number":7,"stopped_at":"2026-03-02T09:02:00Z"}},"project":{{"slug":"gh/acme/shop"}}{further}}}"#
    )
    .into()
}

/// Looks up the steps with these responses.
fn answered(
    receiver: &dyn Receiver,
    event: &Bytes,
    words: Words,
    body: &[u8],
    of_v2: &[u8],
) -> Option<LookedUp> {
    look_up(receiver, event, |api| match api {
        "v3" if words.is_v3 => (200, body),
        "v3" => (404, b""),
        "v1.1" => (200, body),
        "v2" => (200, of_v2),
        other => panic!("the relay asks {other}"),
    })
}

/// A span as it is exported.
#[derive(Debug)]
struct Made {
    name: String,
    id: String,
    parent: String,
    times: (u64, u64),
    is_error: bool,
    attributes: BTreeMap<String, String>,
}

/// Checks what holds for the spans of any response, and returns them.
fn made(receiver: &dyn Receiver, request: &Bytes, commands: bool) -> Vec<Made> {
    let text = String::from_utf8_lossy(request);
    assert!(!text.contains(TOKEN), "the token is exported");
    let reading = receiver.read_as(request, &receiver.lookup_parameters(), &Default::default());
    assert!(reading.rejected.is_empty() && reading.ignored.is_none(), "{reading:?}");
    let [exported] = &check_reading(request, &reading)[..] else { panic!("not one unit: {reading:?}") };
    let [exported] = &exported[..] else { panic!("not one request: {exported:?}") };
    assert_eq!(exported.json, request, "the queue's form of the spans differs");

    let trace = WORKFLOW.replace('-', "");
    let made: Vec<Made> = spans(&exported.says).into_iter().map(|span| one(span, &trace)).collect();
    let ids: BTreeSet<&str> = made.iter().map(|span| &*span.id).collect();
    assert_eq!(ids.len(), made.len(), "two spans have one id");
    for span in &made {
        assert!(span.times.0 <= span.times.1, "{span:?}");
        assert_eq!(span.is_error, span.attributes.contains_key("error.type"), "{span:?}");
        let is_known = |key: &String| KEYS.contains(&&**key) || (commands && key == COMMAND);
        assert!(span.attributes.keys().all(is_known), "{span:?}");
        let is_step = span.attributes["circleci.kind"] == "step";
        assert_eq!(span.parent, id_of(if is_step { JOB } else { WORKFLOW }), "{span:?}");
    }
    made
}

fn one(span: &Json, trace: &str) -> Made {
    let text = |key: &str| span.get(key).and_then(Json::text).unwrap_or_default().to_owned();
    let time = |key: &str| match &*text(key) {
        "" => 0,
        digits => digits.parse().expect("a strict reader accepted it"),
    };
    let attribute = |attribute: &Json| {
        let value = attribute.get("value").expect("it has a value");
        let Json::Object(members) = value else { panic!("not a value: {value:?}") };
        let value = match &members[0].1 {
            Json::Text(text) => text.clone(),
            Json::Bool(flag) => flag.to_string(),
            other => panic!("neither a text nor a flag: {other:?}"),
        };
        (attribute.get("key").and_then(Json::text).unwrap_or_default().to_owned(), value)
    };
    assert_eq!(text("traceId"), trace);
    Made {
        name: text("name"),
        id: text("spanId"),
        parent: text("parentSpanId"),
        times: (time("startTimeUnixNano"), time("endTimeUnixNano")),
        is_error: span.get("status").is_some(),
        attributes: span.list("attributes").iter().map(attribute).collect(),
    }
}

/// Returns the span id that follows from a UUID.
fn id_of(uuid: &str) -> String {
    uuid.replace('-', "").chars().take(16).collect()
}

/// Compares the spans with the naive reading.
fn is_of(made: &[Made], described: &Described, of_v2: &[u8], words: Words) {
    let (before, steps) = made.split_at(made.iter().take_while(|span| kind(span) != "step").count());
    let times = naive::before_the_job(described, of_v2, words.is_v3, words.is_bare);
    if let Some(times) = times {
        let found: Vec<(&str, (u64, u64))> = before.iter().map(|span| (kind(span), span.times)).collect();
        assert_eq!(found, times, "{described:?}");
    }
    for span in before {
        assert_eq!(span.name, format!("{}: a \"j\"", kind(span)));
        assert_eq!(span.id, hashed(kind(span)));
    }
    let expected = &described.steps[..described.steps.len().min(MAX_STEPS)];
    assert_eq!(steps.len(), expected.len(), "each step is one span");
    for (span, step) in steps.iter().zip(expected) {
        is_of_step(span, step, words);
    }
    if let Some(ids) = ids(expected) {
        assert_eq!(steps.iter().map(|span| span.id.clone()).collect::<Vec<_>>(), ids);
    }
}

fn kind(span: &Made) -> &str {
    &span.attributes["circleci.kind"]
}

fn is_of_step(span: &Made, step: &Step, words: Words) {
    let command = step.command.as_deref();
    let is_shown =
        |name: &&str| words.commands || !command.is_some_and(|command| naive::is_made_of(name, command));
    let name = step.name.as_deref().filter(is_shown).or(step.kind.as_deref()).unwrap_or("step");
    if name.len() <= MAX_NAME_BYTES {
        assert_eq!(span.name, name, "{step:?}");
    } else {
        let kept = span.name.strip_suffix('…').expect("it is marked as cut");
        assert!(name.starts_with(kept) && (MAX_NAME_BYTES - 3..=MAX_NAME_BYTES).contains(&kept.len()));
    }
    // A step without times is where the job ended.
    if let (Some(start), Some(end)) = (step.start.known(), step.end.known()) {
        let end = end.or(start).unwrap_or(naive::JOB_ENDED);
        let start = start.unwrap_or(end);
        assert_eq!(span.times, (start, end.max(start)), "{step:?}");
    }
    const ERRORS: [&str; 6] =
        ["failed", "error", "errored", "unauthorized", "infrastructure_fail", "timedout"];
    let error = step.outcome.as_deref().filter(|outcome| ERRORS.contains(outcome));
    let number = |number: &Seen<i64>| match number {
        Seen::Is(number) => Some(Some(number.to_string())),
        Seen::Absent => Some(None),
        Seen::Unclear => None,
    };
    let text = |text: Option<&str>| Some(text.map(str::to_owned));
    let rerun = if step.rerun == Seen::Is(0) { Seen::Absent } else { step.rerun };
    for (key, expected) in [
        ("cicd.pipeline.name", text(Some("a \"w\""))),
        ("cicd.pipeline.run.id", text(Some(WORKFLOW))),
        ("cicd.pipeline.task.name", text(Some("a \"j\""))),
        ("cicd.pipeline.task.run.id", text(Some(JOB))),
        ("com.circleci.job.number", text(Some("7"))),
        ("com.circleci.task.index", number(&step.execution)),
        ("com.circleci.step.num", number(&step.number)),
        ("com.circleci.step.rerun", number(&rerun)),
        ("com.circleci.step.type", text(step.kind.as_deref())),
        ("com.circleci.step.outcome", text(step.outcome.as_deref())),
        ("com.circleci.step.exit_code", number(&step.exit_code)),
        ("com.circleci.step.background", Some(step.background.map(|flag| flag.to_string()))),
        ("error.type", text(error)),
        (COMMAND, text(command.filter(|_| words.commands))),
    ] {
        if let Some(expected) = expected {
            assert_eq!(span.attributes.get(key), expected.as_ref(), "{key} of {step:?}");
        }
    }
}

/// Returns the ids of steps; `None` if a number of one of them is in an unusual form.
fn ids(steps: &[Step]) -> Option<Vec<String>> {
    let mut seen: Vec<String> = Vec::new();
    let mut ids = Vec::new();
    for (position, step) in (1..).zip(steps) {
        let execution = step.execution.known()?.unwrap_or(0);
        let number = match step.number.known()? {
            Some(number) => number.to_string(),
            None => format!("@{position}"),
        };
        let rerun = match step.rerun.known()?.unwrap_or(0) {
            0 => String::new(),
            rerun => format!("/rerun/{rerun}"),
        };
        let name = format!("{execution}/{number}{rerun}");
        seen.push(name.clone());
        ids.push(match seen.iter().filter(|other| **other == name).count() {
            1 => hashed(&name),
            occurrence => hashed(&format!("{name}/{occurrence}")),
        });
    }
    Some(ids)
}

/// Returns the id of one of the job's spans.
fn hashed(name: &str) -> String {
    let digest = Sha256::digest(format!("circleci/{JOB}/{name}"));
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
