//! CircleCI's webhooks: signatures, duplicates, ids. `proto-fixtures/circleci` has the resulting spans.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::harness::{Answer, Ask, Gate, House, SECRET, names, sign, span, trace_ids};

/// Returns a ping with this UUID.
fn ping(id: &str) -> String {
    format!(
        r#"{{"type":"ping","id":"{id}","happened_at":"2022-09-19T15:59:36.507435Z","webhook":{{"id":"{ONE}","name":"n"}}}}"#
    )
}

const ONE: &str = "92e0554a-837f-4086-913b-0dc7665d2a84";
const OTHER: &str = "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34";

async fn webhooks(house: &House, event: &str, outcome: &str) -> f64 {
    house.metric("spanrelay_webhooks_total", &[("event", event), ("outcome", outcome)]).await
}

#[tokio::test]
async fn a_signed_webhook_is_one_span_in_one_request() {
    let house = House::open("").await;
    let reply = house.ask(Ask::webhook(&ping(ONE))).await;
    assert_eq!((reply.status, reply.text().as_str()), (204, ""));
    let left = house.left_one().await;
    assert_eq!((left.path.as_str(), names(&left)), ("/v1/traces", vec!["ping".to_owned()]));
    assert_eq!(trace_ids(&left), ["92e0554a837f4086913b0dc7665d2a84"]);
    assert_eq!(webhooks(&house, "ping", "accepted").await, 1.0);
    assert_eq!(house.metric("otelcol_receiver_accepted_spans", &[("receiver", "circleci")]).await, 1.0);
    house.close().await;
}

#[tokio::test]
async fn a_missing_or_wrong_signature_is_401_and_never_a_span() {
    let house = House::open("").await;
    let body = ping(ONE);
    let right = sign(SECRET, body.as_bytes());
    let unsigned = house.ask(Ask::post("/circleci", body.clone())).await;
    assert_eq!(unsigned.status, 401);
    unsigned.reason();
    for signature in [
        sign("another-secret", body.as_bytes()),
        sign(SECRET, b"another body"),
        right.replace("v1=", "v2="),
        right.replace("v1=", "v1"),
        right[..right.len() - 1].to_owned(),
        format!("{right}0"),
        "v1=not-a-valid-signature".to_owned(),
        "v1=".to_owned(),
        "=".to_owned(),
        ",,,".to_owned(),
        String::new(),
    ] {
        let reply =
            house.ask(Ask::post("/circleci", body.clone()).with("circleci-signature", &signature)).await;
        assert_eq!(reply.status, 401, "{signature}");
        reply.reason();
    }
    assert_eq!(webhooks(&house, "unknown", "unauthorized").await, 12.0);
    house.close().await;
}

#[tokio::test]
async fn a_signature_may_be_padded_upper_case_and_one_of_several() {
    let house = House::open("").await;
    for (id, spell) in [
        (ONE, (|right: &str| format!("v2=abcd, {right}")) as fn(&str) -> String),
        (OTHER, |right: &str| format!(" v1=00,{} , x", right.to_uppercase().replace("V1", "v1"))),
    ] {
        let body = ping(id);
        let signature = spell(&sign(SECRET, body.as_bytes()));
        let reply = house.ask(Ask::post("/circleci", body).with("circleci-signature", &signature)).await;
        assert_eq!(reply.status, 204, "{signature}");
        house.left_one().await;
    }
    house.close().await;
}

#[tokio::test]
async fn the_signature_covers_the_raw_bytes_and_is_checked_first() {
    let house = House::open("").await;
    for body in ["not json", "{}", "", "[1]"] {
        let forged =
            Ask::post("/circleci", body).with("circleci-signature", &sign("another-secret", body.as_bytes()));
        assert_eq!(house.ask(forged).await.status, 401, "{body}");
    }
    // The compression of this body is invalid, which is noticed only with the right signature.
    let corrupt = b"\x1f\x8b not gzip".to_vec();
    let forged = Ask::post("/circleci", corrupt.clone()).with("content-encoding", "gzip");
    assert_eq!(house.ask(forged.with("circleci-signature", "v1=00")).await.status, 401);
    let signature = sign(SECRET, &corrupt);
    let signed = Ask::post("/circleci", corrupt).with("content-encoding", "gzip");
    assert_eq!(house.ask(signed.with("circleci-signature", &signature)).await.status, 400);
    // White space matters: bytes are signed, not values.
    let spaced = ping(ONE).replace(':', ": ");
    let signature = sign(SECRET, ping(ONE).as_bytes());
    assert_eq!(
        house.ask(Ask::post("/circleci", spaced).with("circleci-signature", &signature)).await.status,
        401
    );
    house.close().await;
}

#[tokio::test]
async fn a_body_that_is_not_json_is_400_and_an_ignored_one_202() {
    let house = House::open("").await;
    for body in ["not json", "{\"type\":", "[{}]", ""] {
        let reply = house.ask(Ask::webhook(body)).await;
        assert_eq!(reply.status, 400, "{body}");
        reply.reason();
    }
    for body in [
        r#"{"type":"job-reopened","id":"1"}"#,
        r#"{"type":"ping","happened_at":"2022-09-19T15:59:36Z"}"#,
        "{}",
    ] {
        let reply = house.ask(Ask::webhook(body)).await;
        assert_eq!(reply.status, 202, "{body}");
        reply.reason();
    }
    let kept = house.relay.rejected();
    assert_eq!(kept.len(), 7, "{kept:?}");
    assert_eq!(kept[4]["input"], r#"{"type":"job-reopened","id":"1"}"#);
    assert_eq!(webhooks(&house, "unknown", "rejected").await, 4.0);
    assert_eq!(webhooks(&house, "unknown", "ignored").await, 2.0);
    assert_eq!(webhooks(&house, "ping", "ignored").await, 1.0);
    house.close().await;
}

#[tokio::test]
async fn a_redelivered_event_is_accepted_and_not_exported_again() {
    let house = House::open("").await;
    for _ in 0..3 {
        assert_eq!(house.ask(Ask::webhook(&ping(ONE))).await.status, 204);
    }
    assert_eq!(house.ask(Ask::webhook(&ping(OTHER))).await.status, 204);
    let mut left = [trace_ids(&house.left_one().await), trace_ids(&house.left_one().await)].concat();
    left.sort();
    assert_eq!(left, ["3f6a7c4a0bb6463abd0c3d5e0b1b1d34", "92e0554a837f4086913b0dc7665d2a84"]);
    assert_eq!(
        (webhooks(&house, "ping", "accepted").await, webhooks(&house, "ping", "duplicate").await),
        (2.0, 2.0)
    );
    house.close().await;
}

#[tokio::test]
async fn an_event_that_the_queue_rejected_is_accepted_when_redelivered() {
    let gate = Gate::new();
    let size = span(1, &"x".repeat(400)).len();
    let house = House::with_answers(&format!("queue.max_size: {size}"), [Answer::WaitAt(gate.clone())]).await;
    house.batch(span(1, &"x".repeat(400))).await;
    let refused = house.ask(Ask::webhook(&ping(ONE))).await;
    assert_eq!(refused.status, 503);
    assert!(refused.retry_after() > 0);
    assert_eq!(webhooks(&house, "ping", "refused").await, 1.0);
    gate.open();
    house.left_one().await;
    house.at_rest().await;
    assert_eq!(house.ask(Ask::webhook(&ping(ONE))).await.status, 204);
    assert_eq!(names(&house.left_one().await), ["ping"]);
    assert_eq!(webhooks(&house, "ping", "duplicate").await, 0.0);
    house.close().await;
}

#[tokio::test]
async fn a_post_to_the_root_is_routed_by_its_headers() {
    let house = House::open("").await;
    let body = ping(ONE);
    let signed = Ask::post("/", body.clone()).with("circleci-signature", &sign(SECRET, body.as_bytes()));
    assert_eq!(house.ask(signed).await.status, 204);
    assert_eq!(names(&house.left_one().await), ["ping"]);
    // Its event type makes it a webhook, and as such it lacks a signature.
    assert_eq!(house.ask(Ask::post("/", span(1, "a")).with("circleci-event-type", "ping")).await.status, 401);
    assert_eq!(house.ask(Ask::post("/", span(1, "a line"))).await.status, 204);
    assert_eq!(names(&house.left_one().await), ["a line"]);
    house.close().await;
}

#[tokio::test]
async fn the_signed_event_type_is_used_and_not_the_header() {
    let house = House::open("").await;
    let ask = Ask::webhook(&ping(ONE)).with("circleci-event-type", "workflow-completed");
    assert_eq!(house.ask(ask).await.status, 204);
    assert_eq!(names(&house.left_one().await), ["ping"]);
    assert_eq!(webhooks(&house, "ping", "accepted").await, 1.0);
    house.close().await;
}

#[tokio::test]
async fn instances_have_their_own_secrets_and_accept_each_of_them() {
    let house = House::open(
        "receivers: {circleci/app: {secrets: [old, new], service_name: app}, circleci/lib: {secrets: [lib]}}",
    )
    .await;
    let send = async |path: &'static str, secret: &str, id: &str| {
        let body = ping(id);
        let signature = sign(secret, body.as_bytes());
        house.ask(Ask::post(path, body).with("circleci-signature", &signature)).await.status
    };
    assert_eq!(send("/circleci/app", "old", ONE).await, 204);
    assert_eq!(
        house.left_one().await.json()["resourceSpans"][0]["resource"]["attributes"][0]["value"]["stringValue"],
        "app"
    );
    assert_eq!(send("/circleci/app", "new", OTHER).await, 204);
    assert_eq!(send("/circleci/app", "lib", OTHER).await, 401);
    // The same id at another receiver is another event.
    assert_eq!(send("/circleci/lib", "lib", ONE).await, 204);
    house.left(2).await;
    house.close().await;
}

#[tokio::test]
async fn unsigned_webhooks_are_accepted_only_with_allow_unsigned() {
    let house = House::open("receivers.circleci: {allow_unsigned: true}").await;
    assert_eq!(house.ask(Ask::post("/circleci", ping(ONE))).await.status, 204);
    assert_eq!(names(&house.left_one().await), ["ping"]);
    house.close().await;
}

#[tokio::test]
async fn a_job_is_a_child_of_its_workflow_and_matches_traceparent() {
    let house = House::open("").await;
    let workflow = "cedf175c-c537-49f8-9b5c-95892f0b2407";
    let event = |kind: &str, id: &str| {
        format!(
            r#"{{"type":"{kind}","id":"{id}","happened_at":"2026-03-02T09:16:31Z","workflow":{{"id":"{workflow}","name":"build"}},"job":{{"id":"{OTHER}","name":"test"}}}}"#
        )
    };
    // In the order in which CircleCI often sends them.
    for (kind, id, name) in
        [("job-completed", "1", "job: test"), ("workflow-completed", "2", "workflow: build")]
    {
        assert_eq!(house.ask(Ask::webhook(&event(kind, id))).await.status, 204);
        let left = house.left_one().await;
        assert_eq!(names(&left), [name]);
        let span = &left.json()["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["traceId"], "cedf175cc53749f89b5c95892f0b2407");
        if kind == "job-completed" {
            assert_eq!(
                (&span["spanId"], &span["parentSpanId"]),
                (&"3f6a7c4a0bb6463a".into(), &"cedf175cc53749f8".into())
            );
        } else {
            assert_eq!((&span["spanId"], span.get("parentSpanId")), (&"cedf175cc53749f8".into(), None));
        }
    }
    let line = house.ask(Ask::get(&format!("/traceparent/{workflow}/{OTHER}"))).await.text();
    assert_eq!(line, "export TRACEPARENT=00-cedf175cc53749f89b5c95892f0b2407-3f6a7c4a0bb6463a-01\n");
    house.close().await;
}

#[tokio::test]
async fn an_event_delivered_several_times_at_once_is_exported_once() {
    for storage in ["memory", "disk"] {
        let house = House::open(&format!("queue.storage: {storage}")).await;
        let deliveries = (0..20).map(|_| house.ask(Ask::webhook(&ping(ONE))));
        for reply in futures_util::future::join_all(deliveries).await {
            assert_eq!(reply.status, 204);
        }
        assert_eq!(names(&house.left_one().await), ["ping"]);
        house.close().await;
    }
}

/// Returns `workflow-completed` of workflow `ONE`, which stopped at this second.
fn completed(id: &str, status: &str, second: u32) -> String {
    format!(
        r#"{{"type":"workflow-completed","id":"{id}","happened_at":"2026-03-02T09:01:{second:02}Z","workflow":{{"id":"{ONE}","name":"{id}","status":"{status}","created_at":"2026-03-02T09:00:00Z","stopped_at":"2026-03-02T09:01:{second:02}Z"}}}}"#
    )
}

#[tokio::test]
async fn a_cancelled_workflow_is_one_span_in_any_order_of_its_events() {
    for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
        let house = House::open("receivers.circleci.cancel_settle: 1h").await;
        for second in order {
            let event = completed(&format!("event {second}"), "canceled", second);
            assert_eq!(house.ask(Ask::webhook(&event)).await.status, 204);
        }
        house.awaits_metric("spanrelay_webhooks_total", &[("outcome", "superseded")], 2.0).await;
        house.awaits_metric("spanrelay_settled_items_total", &[("fate", "superseded")], 2.0).await;
        // Events of other workflows and of jobs do not affect it.
        let other = completed("other", "success", 4).replace(ONE, OTHER);
        assert_eq!(house.ask(Ask::webhook(&other)).await.status, 204);
        assert_eq!(names(&house.left_one().await), ["workflow: other"]);
        // A queue in memory is exported when the relay stops.
        let left = house.drained().await;
        assert_eq!(left.iter().flat_map(names).collect::<Vec<_>>(), ["workflow: event 3"], "{order:?}");
    }
}

#[tokio::test]
async fn an_event_is_held_for_cancel_settle_and_not_at_all_without_it() {
    for (settle, exported) in [("100ms", 1), ("0s", 2)] {
        let house = House::open(&format!("receivers.circleci.cancel_settle: {settle}")).await;
        let mut left = Vec::new();
        for second in 0..exported {
            let event = completed(&second.to_string(), "canceled", second);
            assert_eq!(house.ask(Ask::webhook(&event)).await.status, 204);
            left.push(house.left_one().await);
        }
        house.close().await;
    }
}

#[tokio::test]
async fn an_end_without_cancellation_supersedes_a_held_one_or_is_exported_at_once() {
    let house = House::open("receivers.circleci.cancel_settle: 1h").await;
    for (id, status, second) in [("a", "failed", 1), ("b", "canceled", 2), ("c", "failed", 3)] {
        assert_eq!(house.ask(Ask::webhook(&completed(id, status, second))).await.status, 204);
    }
    assert_eq!(names(&house.left_one().await), ["workflow: a"]);
    house.awaits_metric("spanrelay_webhooks_total", &[("outcome", "superseded")], 1.0).await;
    let left = house.drained().await;
    assert_eq!(left.iter().flat_map(names).collect::<Vec<_>>(), ["workflow: c"]);
}

#[tokio::test]
async fn spans_of_webhooks_are_not_held_for_log_events() {
    let house = House::open("processors.span_events.wait: 1h").await;
    assert_eq!(house.ask(Ask::webhook(&ping(ONE))).await.status, 204);
    let left = house.left_one().await;
    assert_eq!(names(&left), ["ping"]);
    house.close().await;
}

#[tokio::test]
async fn a_redelivery_is_exported_again_only_if_the_downstream_rejected_the_span() {
    let refusal = Answer::Say { status: 400, headers: Vec::new(), body: "no".into() };
    let house = House::with_answers("", [refusal]).await;
    assert_eq!(house.ask(Ask::webhook(&ping(ONE))).await.status, 204);
    house.left_one().await;
    house.at_rest().await;
    for _ in 0..3 {
        assert_eq!(house.ask(Ask::webhook(&ping(ONE))).await.status, 204);
    }
    assert_eq!(names(&house.left_one().await), ["ping"]);
    assert_eq!(
        (webhooks(&house, "ping", "accepted").await, webhooks(&house, "ping", "duplicate").await),
        (2.0, 2.0)
    );
    house.close().await;
}

#[tokio::test]
async fn a_body_that_is_almost_json_is_repaired_after_its_signature_was_checked() {
    let house = House::open("").await;
    let broken = ping(ONE).replace("\"n\"", "\"n\t\u{1}\\ud83d\"");
    let broken = [&b"\xef\xbb\xbf"[..], broken.as_bytes()].concat();
    let broken = [&broken[..broken.len() - 3], b"\xff", &broken[broken.len() - 3..]].concat();
    let signature = sign(SECRET, &broken);
    let forged = Ask::post("/circleci", broken.clone()).with("circleci-signature", &sign("other", &broken));
    assert_eq!(house.ask(forged).await.status, 401);
    let genuine = Ask::post("/circleci", broken).with("circleci-signature", &signature);
    assert_eq!(house.ask(genuine).await.status, 204);
    assert_eq!(names(&house.left_one().await), ["ping"]);
    house.close().await;
}

#[tokio::test]
async fn the_signature_covers_the_raw_bytes_and_the_size_is_limited_first() {
    let house = House::open("server.max_request_body_size: 2KiB\nserver.max_line_size: 1KiB").await;
    // Parsing and serialising this would result in other bytes.
    let odd = format!(" {}\r\n", ping(ONE).replace(',', " ,\t").replace("ping", "p\\u0069ng"));
    assert_eq!(house.ask(Ask::webhook(&odd)).await.status, 204);
    house.left_one().await;
    let large = format!("{}{}", ping(ONE), " ".repeat(2048));
    assert_eq!(
        house.ask(Ask::post("/circleci", large).with("circleci-signature", "v1=00")).await.status,
        413
    );
    house.close().await;
}

#[tokio::test]
async fn a_webhook_gets_its_response_while_the_collector_is_down() {
    let gate = Gate::new();
    let house = House::with_answers("", [Answer::WaitAt(gate.clone())]).await;
    assert_eq!(house.ask(Ask::webhook(&ping(ONE))).await.status, 204);
    house.left_one().await;
    // An event that could never be processed is accepted, too.
    assert_eq!(house.ask(Ask::webhook(r#"{"type":"job-reopened","id":"1"}"#)).await.status, 202);
    assert_eq!(house.ask(Ask::webhook(r#"{"type":"job-completed","id":"2"}"#)).await.status, 202);
    gate.open();
    house.close().await;
}

#[tokio::test]
async fn an_event_results_in_the_same_bytes_before_and_after_a_restart() {
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let house = House::open("").await;
        assert_eq!(house.ask(Ask::webhook(&ping(ONE))).await.status, 204);
        bodies.push(house.left_one().await.body);
        house.close().await;
    }
    assert_eq!(bodies[0], bodies[1]);
}

#[tokio::test]
async fn every_response_of_the_traceparent_route_is_safe_to_run() {
    let house = House::open("receivers: {circleci: {secrets: [fixture-secret]}, fastly: }").await;
    let (workflow, job) = ("cedf175c-c537-49f8-9b5c-95892f0b2407", "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34");
    for (method, path) in [
        ("GET", format!("/traceparent/{workflow}/{job}")),
        (
            "GET",
            format!("/traceparent/{workflow}/$(echo${{IFS}}canary)").replace('{', "%7B").replace('}', "%7D"),
        ),
        ("GET", "/traceparent/;echo%20canary;/x".to_owned()),
        ("GET", "/traceparent".to_owned()),
        ("POST", format!("/traceparent/{workflow}/{job}")),
    ] {
        let body = house.ask(Ask::new(method, &path, "")).await.text();
        let mut shell = Command::new("/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = shell.stdin.take().unwrap();
        stdin.write_all(format!("{body}echo \"[$TRACEPARENT]\"\n").as_bytes()).await.unwrap();
        drop(stdin);
        let ran = shell.wait_with_output().await.unwrap();
        let (out, err) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
        let succeeded = body.starts_with("export TRACEPARENT=00-");
        let expected =
            if succeeded { "[00-cedf175cc53749f89b5c95892f0b2407-3f6a7c4a0bb6463a-01]\n" } else { "[]\n" };
        assert_eq!((out.as_str(), err.as_str()), (expected, ""), "{method} {path}: {body}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_webhook_needs_no_content_type_and_may_name_a_charset() {
    let house = House::open("").await;
    let other = ping(OTHER);
    assert_eq!(house.ask(Ask::webhook(&ping(ONE))).await.status, 204);
    let with_charset = Ask::webhook(&other).with("content-type", "application/json; charset=utf-8");
    assert_eq!(house.ask(with_charset).await.status, 204);
    assert_eq!(house.left_names(2).await, ["ping", "ping"]);
    house.close().await;
}

#[tokio::test]
async fn a_webhook_of_more_than_64_kib_is_exported_completely() {
    let house = House::open("").await;
    let padding = format!("\"padding\":\"{}\",\"type\"", "x".repeat(300_000));
    assert_eq!(house.ask(Ask::webhook(&ping(ONE).replacen("\"type\"", &padding, 1))).await.status, 204);
    assert_eq!(names(&house.left_one().await), ["ping"]);
    house.close().await;
}
