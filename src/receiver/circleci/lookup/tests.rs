//! Lookups with the documented responses of each API, and with responses of every other kind.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::config::Secret;

const TOKEN: &str = "api-token-Wd2k";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-fixtures/circleci/github-oauth-job")
}

fn file(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

fn event() -> String {
    String::from_utf8(file("request.json")).unwrap()
}

fn begin(event: &str, commands: bool) -> Option<Lookup> {
    let api = CircleCiApiConfig { token: Secret::new(TOKEN), commands, ..CircleCiApiConfig::default() };
    Lookup::new(&Bytes::copy_from_slice(event.as_bytes()), "circleci", &api)
}

fn lookup() -> Lookup {
    begin(&event(), false).unwrap()
}

/// Continues with a response that another request follows.
fn further(lookup: Lookup, status: u16, body: &[u8]) -> Lookup {
    match lookup.respond(Some((status, body))) {
        (_, Looked::Further(lookup)) => *lookup,
        other => panic!("{other:?}"),
    }
}

fn found(lookup: Lookup, response: Option<(u16, &[u8])>) -> FoundSteps {
    match lookup.respond(response) {
        (_, Looked::Found(found)) => found,
        other => panic!("{other:?}"),
    }
}

fn text(found: &FoundSteps) -> String {
    String::from_utf8(found.request.as_ref().unwrap().to_vec()).unwrap()
}

/// Compares with a file of expected spans.
fn assert_expected(name: &str, found: &FoundSteps) {
    let value: Value = serde_json::from_str(&text(found)).unwrap();
    let expected: Value = serde_json::from_slice(&file(name)).unwrap();
    assert_eq!(value, expected, "{name}");
}

#[test]
fn the_steps_of_v3_come_with_the_time_of_queueing_of_v2() {
    let lookup = lookup();
    let request = lookup.request();
    assert_eq!(
        (request.api, request.path.as_str()),
        ("v3", "/api/v3/jobs/79b8e7b5-f308-48cc-849a-bf804eb08389")
    );
    assert_eq!(request.headers["authorization"], format!("Bearer {TOKEN}"));
    let lookup = further(lookup, 200, &file("steps.v3.json"));
    let request = lookup.request();
    assert_eq!((request.api, request.path.as_str()), ("v2", "/api/v2/project/github/acme/shop/job/9001"));
    assert_eq!(request.headers["circle-token"], TOKEN);
    let found = found(lookup, Some((200, &file("steps.v2.json"))));
    assert!(found.is_final);
    assert_expected("expected.steps.v3.json", &found);
}

#[test]
fn circleci_server_is_asked_by_project_and_number() {
    let lookup = further(lookup(), 404, b"{\"message\":\"Not found\"}");
    let request = lookup.request();
    assert_eq!((request.api, request.path.as_str()), ("v1.1", "/api/v1.1/project/github/acme/shop/9001"));
    assert_eq!(request.headers["circle-token"], TOKEN);
    let found = found(lookup, Some((200, &file("steps.v1.1.json"))));
    assert!(found.is_final);
    assert_expected("expected.steps.v1.1.json", &found);
}

#[test]
fn steps_do_not_depend_on_the_time_of_queueing() {
    let whole = found(further(lookup(), 200, &file("steps.v3.json")), Some((200, &file("steps.v2.json"))));
    let names = |found: &FoundSteps| {
        let request: Value = serde_json::from_str(&text(found)).unwrap();
        let spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
        spans.iter().map(|span| (span["name"].clone(), span["spanId"].clone())).collect::<Vec<_>>()
    };
    for response in
        [None, Some((404, &b""[..])), Some((500, b"{}")), Some((200, b"garbage")), Some((200, b"{}"))]
    {
        let without = found(further(lookup(), 200, &file("steps.v3.json")), response);
        assert!(without.is_final);
        let rest: Vec<_> = names(&whole).into_iter().filter(|(name, _)| name != "queued: test").collect();
        assert_eq!(names(&without), rest);
    }
}

#[test]
fn commands_are_exported_only_on_request() {
    for (file_name, status) in [("steps.v3.json", 200), ("steps.v1.1.json", 404)] {
        for commands in [false, true] {
            let lookup = begin(&event(), commands).unwrap();
            let found = match status {
                200 => found(further(lookup, 200, &file(file_name)), None),
                _ => found(further(lookup, 404, b""), Some((200, &file(file_name)))),
            };
            let text = text(&found);
            assert_eq!(text.contains("hunter2"), commands, "{text}");
            assert!(!text.contains("output.example") && !text.contains("carl@acme.example"), "{text}");
            assert!(!text.contains(TOKEN));
        }
    }
}

#[test]
fn a_job_that_has_not_ended_is_incomplete_and_its_steps_are_there() {
    let running = String::from_utf8(file("steps.v3.json")).unwrap();
    for (from, to) in [
        ("\"phase\": \"ended\",\n      \"outcome\"", "\"phase\": \"started\",\n      \"outcome\""),
        ("\"num\": 102, \"phase\": \"ended\"", "\"num\": 102, \"phase\": \"started\""),
    ] {
        let running = running.replacen(from, to, 1);
        let (outcome, looked) = lookup().respond(Some((200, running.as_bytes())));
        let Looked::Found(found) = looked else { panic!("{looked:?}") };
        assert_eq!((outcome, found.is_final), (ApiOutcome::Incomplete, false));
        assert!(text(&found).contains("Unit tests"));
    }
    let running = String::from_utf8(file("steps.v1.1.json")).unwrap();
    for (from, to) in
        [("\"finished\"", "\"running\""), ("\"status\": \"timedout\"", "\"status\": \"running\"")]
    {
        let running = running.replacen(from, to, 1);
        let found = found(further(lookup(), 404, b""), Some((200, running.as_bytes())));
        assert!(!found.is_final);
    }
}

#[test]
fn other_responses_fail_with_their_meaning() {
    for (status, body, expected) in [
        (401, "{\"message\":\"Invalid token\"}", ApiOutcome::Unauthorized),
        (403, "", ApiOutcome::Unauthorized),
        (429, "", ApiOutcome::Throttled),
        (500, "<html>", ApiOutcome::Unavailable),
        (503, "", ApiOutcome::Unavailable),
        (302, "", ApiOutcome::Unexpected),
        (400, "{}", ApiOutcome::Unexpected),
        (204, "", ApiOutcome::Unexpected),
        (200, "", ApiOutcome::Unexpected),
        (200, "<html>maintenance</html>", ApiOutcome::Unexpected),
        (200, "[]", ApiOutcome::Unexpected),
        (200, "{}", ApiOutcome::Unexpected),
        (200, "{\"data\":null}", ApiOutcome::Unexpected),
        (200, "{\"data\":{\"attributes\":7}}", ApiOutcome::Unexpected),
        (200, "{\"data\":{\"attributes\":{\"phase\":\"ended\"", ApiOutcome::Unexpected),
    ] {
        let (outcome, looked) = lookup().respond(Some((status, body.as_bytes())));
        assert!(
            outcome == expected && matches!(looked, Looked::Failed),
            "{status} {body}: {outcome:?} {looked:?}"
        );
    }
    assert!(matches!(lookup().respond(None), (ApiOutcome::Unavailable, Looked::Failed)));
    for (status, body, expected) in [
        (404, "", ApiOutcome::NotFound),
        (401, "", ApiOutcome::Unauthorized),
        (200, "{\"message\":\"no\"}", ApiOutcome::Unexpected),
    ] {
        let (outcome, looked) = further(lookup(), 404, b"").respond(Some((status, body.as_bytes())));
        assert!(
            outcome == expected && matches!(looked, Looked::Failed),
            "{status} {body}: {outcome:?} {looked:?}"
        );
    }
}

#[test]
fn a_job_without_project_or_number_has_no_other_path() {
    for (from, to) in [("\"number\":9001", "\"number\":null"), ("github/acme/shop\"}", "\"}")] {
        let event = event().replace(from, to);
        let lookup = begin(&event, false).unwrap();
        assert!(matches!(lookup.respond(Some((404, b""))), (ApiOutcome::NotFound, Looked::Failed)));
        let found = found(begin(&event, false).unwrap(), Some((200, &file("steps.v3.json"))));
        assert!(found.is_final);
    }
}

#[test]
fn only_jobs_with_a_span_are_looked_up() {
    for (from, to) in [
        ("job-completed", "workflow-completed"),
        ("job-completed", "ping"),
        ("79b8e7b5-f308-48cc-849a-bf804eb08389", "not-a-uuid"),
        ("bf967aa2-9eb6-4bd5-88af-d8acc9062849", "79b8e7b5-f308-48cc-849a-bf804eb08389"),
    ] {
        assert!(begin(&event().replace(from, to), false).is_none(), "{to}");
    }
    for body in ["", "not json", "{}", "[]"] {
        assert!(begin(body, false).is_none(), "{body}");
    }
}

#[test]
fn a_slug_cannot_lead_to_another_path() {
    let path = |slug: &str| {
        let event = event().replace("github/acme/shop\"}", &format!("{}\"}}", slug.replace('"', "\\\"")));
        further_path(&event)
    };
    for (slug, expected) in [
        ("gh/acme/shop", "/api/v1.1/project/github/acme/shop/9001"),
        ("bb/acme/shop", "/api/v1.1/project/bitbucket/acme/shop/9001"),
        (
            "circleci/9YytKzouJxzu4TjCRFqAoD/44n9wujWcTnVZ2b5S8Fnat",
            "/api/v1.1/project/circleci/9YytKzouJxzu4TjCRFqAoD/44n9wujWcTnVZ2b5S8Fnat/9001",
        ),
        ("gh/acme/a shop?x=1#y", "/api/v1.1/project/github/acme/a%20shop%3Fx%3D1%23y/9001"),
        ("gh/acmé/%2e%2e", "/api/v1.1/project/github/acm%C3%A9/%252e%252e/9001"),
    ] {
        assert_eq!(path(slug).as_deref(), Some(expected), "{slug}");
    }
    for slug in
        ["gh/acme", "gh/acme/shop/9001", "gh/../me", "../../me", "gh//shop", "/gh/acme/shop", "gh/./shop", ""]
    {
        assert_eq!(path(slug), None, "{slug}");
    }
}

/// Returns the path of API v1.1 for an event.
fn further_path(event: &str) -> Option<String> {
    match begin(event, false).unwrap().respond(Some((404, b""))) {
        (_, Looked::Further(lookup)) => Some(lookup.request().path),
        _ => None,
    }
}

proptest::proptest! {
    #[test]
    fn any_response_is_read_without_a_panic(
        status in proptest::sample::select(vec![200_u16, 200, 200, 404, 429, 500]),
        body in "\\PC{0,60}",
        cut in 0_usize..3000,
        by in proptest::arbitrary::any::<u8>(),
    ) {
        let mut bytes = file("steps.v3.json");
        let at = cut % bytes.len();
        bytes[at] = by;
        for body in [body.as_bytes(), &bytes, &bytes[..at]] {
            if let (_, Looked::Further(lookup)) = lookup().respond(Some((status, body))) {
                drop(lookup.respond(Some((200, body))));
            }
        }
    }
}
