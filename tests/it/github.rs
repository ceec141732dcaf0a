//! GitHub Actions webhooks: signature, events, redeliveries, routes. What each event becomes is in `proto-fixtures/github`.

use serde_json::{Value, json};

use super::harness::{Answer, Ask, Gate, House, Relay, SECRET, names, sign, span};

const ON: &str = "receivers.github: {secrets: [fixture-secret]}";

/// The value of `x-hub-signature-256` for a body.
pub(super) fn signature(secret: &str, body: &str) -> String {
    sign(secret, body.as_bytes()).replace("v1=", "sha256=")
}

/// An event as GitHub sends it.
pub(super) fn event(kind: &str, delivery: &str, body: &str) -> Ask {
    Ask::post("/github", body.to_owned())
        .with("x-github-event", kind)
        .with("x-github-delivery", delivery)
        .with("x-hub-signature-256", &signature(SECRET, body))
}

pub(super) fn run(id: u64) -> String {
    json!({"action": "completed", "workflow_run": {
        "id": id, "run_attempt": 1, "name": "CI", "conclusion": "success",
        "run_started_at": "2026-03-02T09:00:00Z", "updated_at": "2026-03-02T09:07:00Z",
    }})
    .to_string()
}

fn job(run: u64, id: u64) -> String {
    json!({"action": "completed", "workflow_job": {
        "id": id, "run_id": run, "run_attempt": 1, "name": "test", "conclusion": "failure",
        "created_at": "2026-03-02T09:00:01Z", "started_at": "2026-03-02T09:00:09Z", "completed_at": "2026-03-02T09:06:00Z",
        "steps": [{"number": 1, "name": "make", "conclusion": "failure",
            "started_at": "2026-03-02T09:00:10Z", "completed_at": "2026-03-02T09:05:00Z"}],
    }})
    .to_string()
}

async fn webhooks(house: &House, event: &str, outcome: &str) -> f64 {
    house.metric("spanrelay_webhooks_total", &[("event", event), ("outcome", outcome)]).await
}

#[tokio::test]
async fn a_job_with_its_steps_is_one_request_and_agrees_with_traceparent() {
    let house = House::open(ON).await;
    assert_eq!(house.ask(event("workflow_job", "1", &job(7, 71))).await.status, 204);
    let left = house.left_one().await;
    assert_eq!(names(&left), ["job: test", "queued: test", "make"]);
    assert_eq!(house.ask(event("workflow_run", "2", &run(7))).await.status, 204);
    let root = house.left_one().await.json();
    let span =
        |request: &Value, index: usize| request["resourceSpans"][0]["scopeSpans"][0]["spans"][index].clone();
    let (root, of_job, step) = (span(&root, 0), span(&left.json(), 0), span(&left.json(), 2));
    assert_eq!((&of_job["traceId"], &of_job["parentSpanId"]), (&root["traceId"], &root["spanId"]));
    assert_eq!((&step["parentSpanId"], &step["status"]["code"]), (&of_job["spanId"], &2.into()));

    let line = house.ask(Ask::get("/traceparent/github/7/1/71")).await;
    let ids = format!("{}-{}", of_job["traceId"].as_str().unwrap(), of_job["spanId"].as_str().unwrap());
    assert_eq!((line.status, line.text()), (200, format!("export TRACEPARENT=00-{ids}-01\n")));
    assert_eq!(webhooks(&house, "workflow_job", "accepted").await, 1.0);
    assert_eq!(house.metric("otelcol_receiver_accepted_spans", &[("receiver", "github")]).await, 4.0);
    house.close().await;
}

#[tokio::test]
async fn a_missing_or_wrong_signature_is_401_and_never_a_span() {
    let house = House::open(ON).await;
    let body = run(1);
    let right = signature(SECRET, &body);
    let ask = || Ask::post("/github", body.clone()).with("x-github-event", "workflow_run");
    let unsigned = house.ask(ask()).await;
    assert_eq!(unsigned.status, 401);
    unsigned.reason();
    for signature in [
        signature("another-secret", &body),
        signature(SECRET, "another body"),
        right.replace("sha256=", "sha1="),
        right.replace("sha256=", ""),
        right.replace("sha256=", "v1="),
        right[..right.len() - 1].to_owned(),
        format!("{right}0"),
        format!("{right},{right}"),
        "sha256=".to_owned(),
        String::new(),
    ] {
        let reply = house.ask(ask().with("x-hub-signature-256", &signature)).await;
        assert_eq!(reply.status, 401, "{signature}");
        reply.reason();
    }
    // The old header proves nothing, and another source's signature neither.
    assert_eq!(house.ask(ask().with("x-hub-signature", &right.replace("sha256", "sha1"))).await.status, 401);
    assert_eq!(house.ask(ask().with("circleci-signature", &sign(SECRET, body.as_bytes()))).await.status, 401);
    // Nothing is parsed before the signature is verified.
    for body in ["not json", "{}", "", "[1]"] {
        let forged = Ask::post("/github", body).with("x-hub-signature-256", &right);
        assert_eq!(house.ask(forged).await.status, 401, "{body}");
    }
    assert_eq!(webhooks(&house, "unknown", "unauthorized").await, 17.0);
    house.close().await;
}

#[tokio::test]
async fn events_of_no_use_are_202_and_counted_and_kept_unless_they_are_routine() {
    let house = House::open(ON).await;
    let unfinished = job(1, 2).replace("completed\",\"workflow_job", "in_progress\",\"workflow_job");
    assert!(unfinished.contains("in_progress"), "{unfinished}");
    for (kind, body) in [
        ("push", run(1)),
        ("workflow_job", unfinished.clone()),
        ("workflow_run", r#"{"action":"completed","workflow_run":{"id":"x"}}"#.to_owned()),
        ("workflow_dispatch", "{}".to_owned()),
    ] {
        let reply = house.ask(event(kind, kind, &body)).await;
        assert_eq!(reply.status, 202, "{kind}");
        reply.reason();
    }
    let unnamed = Ask::post("/github", run(1)).with("x-hub-signature-256", &signature(SECRET, &run(1)));
    assert_eq!(house.ask(unnamed).await.status, 202);
    for body in ["not json", "[]", ""] {
        assert_eq!(house.ask(event("workflow_run", "bad", body)).await.status, 400, "{body}");
    }
    let kept = house.relay.rejected();
    assert_eq!((kept.len(), &kept[0]["receiver"]), (7, &"github".into()), "{kept:?}");
    assert!(kept.iter().all(|entry| entry["input"] != unfinished), "{kept:?}");
    assert_eq!(kept[0]["input"], run(1));
    let counted =
        [("unknown", "ignored", 3.0), ("workflow_job", "ignored", 1.0), ("workflow_run", "ignored", 1.0)];
    for (event, outcome, count) in counted {
        assert_eq!(webhooks(&house, event, outcome).await, count, "{event}");
    }
    assert_eq!(webhooks(&house, "workflow_run", "rejected").await, 3.0);
    house.close().await;
}

#[tokio::test]
async fn a_redelivery_is_accepted_and_not_exported_again() {
    let house = House::open(ON).await;
    for _ in 0..3 {
        assert_eq!(house.ask(event("workflow_run", "one", &run(1))).await.status, 204);
    }
    let first = house.left_one().await;
    assert_eq!(webhooks(&house, "workflow_run", "duplicate").await, 2.0);
    // Another delivery of the same event makes the same span.
    assert_eq!(house.ask(event("workflow_run", "two", &run(1))).await.status, 204);
    assert_eq!(house.left_one().await.text(), first.text());
    house.close().await;
}

#[tokio::test]
async fn a_delivery_that_the_queue_refused_is_accepted_later() {
    let gate = Gate::new();
    let size = span(1, &"x".repeat(400)).len();
    let house =
        House::with_answers(&format!("{ON}\nqueue.max_size: {size}"), [Answer::WaitAt(gate.clone())]).await;
    house.batch(span(1, &"x".repeat(400))).await;
    let refused = house.ask(event("workflow_run", "one", &run(1))).await;
    assert_eq!(refused.status, 503);
    assert!(refused.retry_after() > 0);
    gate.open();
    house.left_one().await;
    house.at_rest().await;
    assert_eq!(house.ask(event("workflow_run", "one", &run(1))).await.status, 204);
    assert_eq!(names(&house.left_one().await), ["workflow: CI"]);
    house.close().await;
}

#[tokio::test]
async fn a_post_to_the_root_with_the_event_header_goes_to_it() {
    let house = House::open(ON).await;
    let at_root = |body: &str| {
        Ask::post("/", body.to_owned())
            .with("x-github-event", "workflow_run")
            .with("x-hub-signature-256", &signature(SECRET, body))
    };
    assert_eq!(house.ask(at_root(&run(1))).await.status, 204);
    assert_eq!(names(&house.left_one().await), ["workflow: CI"]);
    // Only the event header leads there.
    let unnamed = Ask::post("/", span(1, "a line")).with("x-github-delivery", "one");
    assert_eq!(house.ask(unnamed).await.status, 204);
    assert_eq!(names(&house.left_one().await), ["a line"]);
    house.close().await;
}

#[tokio::test]
async fn without_its_section_every_route_of_it_is_404() {
    let house = House::open("").await;
    for ask in [
        event("workflow_run", "one", &run(1)),
        Ask::post("/", run(1)).with("x-github-event", "workflow_run"),
        Ask::get("/traceparent/github/7/1/71"),
    ] {
        assert_eq!(house.ask(ask).await.status, 404);
    }
    // CircleCI's own route is on.
    assert_eq!(house.ask(Ask::get("/traceparent/github/7")).await.status, 404);
    assert_eq!(house.ask(Ask::get("/traceparent/githubs/7")).await.status, 400);
    house.close().await;
    let alone = format!("receivers.github: {{secrets: [{SECRET}]}}");
    let configuration = House::configuration("http://127.0.0.1:9").replace("circleci: {", "circleci/x: {");
    let relay = Relay::start(&configuration, &alone).await;
    assert_eq!(Ask::get("/traceparent/github/7/1/71").to(relay.address).await.status, 200);
    relay.stopped().await;
}

#[tokio::test]
async fn traceparent_is_a_line_or_400_without_a_body() {
    let house = House::open(ON).await;
    for bad in [
        "",
        "/",
        "/7",
        "/7/1",
        "/7/1/",
        "/7/1/71/2",
        "/0/1/71",
        "/7/0/71",
        "/07/1/71",
        "/7/1/-1",
        "/7/1/x",
        "/7/1/%37",
        "/7//71",
        "/7/1/9223372036854775808",
        "/$(id)/1/1",
        "/7/1/71;id",
        "/7/1/71//",
    ] {
        let reply = house.ask(Ask::get(&format!("/traceparent/github{bad}"))).await;
        assert_eq!((reply.status, reply.text()), (400, String::new()), "{bad}");
    }
    for good in ["/7/1/71", "/7/1/71/", "/7/1/71?x=$(id)"] {
        let reply = house.ask(Ask::get(&format!("/traceparent/github{good}"))).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/plain")), "{good}");
    }
    let posted = house.ask(Ask::post("/traceparent/github/7/1/71", "")).await;
    assert_eq!(
        (posted.status, posted.header("allow"), posted.text()),
        (405, Some("GET, HEAD"), String::new())
    );
    house.close().await;
}

#[tokio::test]
async fn instances_have_their_own_secrets() {
    let settings = "receivers: {github/a: {secrets: [old, new], service_name: a}, github/b: {secrets: [b]}}";
    let house = House::open(settings).await;
    let send = async |path: &str, secret: &str| {
        let body = run(1);
        let ask = Ask::post(path, body.clone())
            .with("x-github-event", "workflow_run")
            .with("x-github-delivery", "1");
        house.ask(ask.with("x-hub-signature-256", &signature(secret, &body))).await.status
    };
    assert_eq!(send("/github/a", "new").await, 204);
    let resource = house.left_one().await.json()["resourceSpans"][0]["resource"].clone();
    assert_eq!(resource["attributes"][0]["value"]["stringValue"], "a");
    assert_eq!(send("/github/a", "b").await, 401);
    // The same delivery at another receiver is another event.
    assert_eq!(send("/github/b", "b").await, 204);
    house.left_one().await;
    house.close().await;
}
