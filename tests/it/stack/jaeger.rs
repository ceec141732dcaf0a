//! A real Jaeger as the downstream; traces are read through its query API.

use serde_json::Value;

use super::otel_cli::{JOB_SPAN, TRACE, WORKFLOW_SPAN, configuration, job_completed, run_job};
use super::{Program, program, spans};
use crate::harness::{Ask, Relay, eventually};

/// Jaeger, and a relay in front of it.
struct Scene {
    _jaeger: Program,
    query: std::net::SocketAddr,
    relay: Relay,
}

// === impl Scene ===

impl Scene {
    async fn open() -> Self {
        let query = program::free_address();
        let jaeger = Program::jaeger(query).await;
        let relay = Relay::start(&configuration(&jaeger.url()), "").await;
        Self { _jaeger: jaeger, query, relay }
    }

    /// Waits until the trace has `count` spans; returns them sorted by name.
    async fn trace(&self, id: &str, count: usize) -> Vec<Value> {
        eventually("Jaeger shows the trace", async || {
            let reply = Ask::get(&format!("/api/v3/traces/{id}")).to(self.query).await;
            let found = reply.json();
            let mut found: Vec<Value> = spans(&found["result"]).into_iter().cloned().collect();
            found.sort_by_key(|span| span["name"].as_str().unwrap().to_owned());
            (found.len() == count).then_some(found)
        })
        .await
    }
}

#[tokio::test]
#[ignore = "needs Jaeger: .ci/steps.d/50-stack"]
async fn a_fastly_request_appears_unchanged_in_jaeger() {
    let scene = Scene::open().await;
    let lines = concat!(
        r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"www"}}]},"instrumentationLibrarySpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","parentSpanId":null,"name":"edge","kind":2,"startTimeUnixNano":1700000000000000123,"endTimeUnixNano":1700000000100000457,"attributes":[{"key":"big","value":{"intValue":"9007199254740993"}}]}]}]}]}"#,
        "\n",
        r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"www"}}]},"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b175","parentSpanId":"eee19b7ec3c1b174","name":"shield","kind":2,"startTimeUnixNano":"1700000000010000001","endTimeUnixNano":"1700000000090000003","status":{"code":2}}]}]}]}"#,
        "\n",
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1700000000040000789","eventName":"fetch.error","traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b175","attributes":[{"key":"backend","value":{"stringValue":"shop \"eu\""}}]}]}]}]}"#,
    );
    let reply = Ask::post("/fastly", lines).to(scene.relay.address).await;
    assert_eq!(reply.status, 204);
    let [edge, shield] = &scene.trace("5b8efff798038103d269b633813fc60c", 2).await[..] else { panic!() };
    assert_eq!(edge["spanId"], "eee19b7ec3c1b174");
    assert!(edge.get("parentSpanId").is_none_or(|parent| parent == ""), "{edge}");
    assert_eq!(edge["startTimeUnixNano"], "1700000000000000123");
    assert_eq!(edge["endTimeUnixNano"], "1700000000100000457");
    assert_eq!(edge["attributes"][0]["value"]["intValue"], "9007199254740993");
    assert_eq!(shield["parentSpanId"], "eee19b7ec3c1b174");
    assert_eq!(shield["status"]["code"], 2);
    let event = &shield["events"][0];
    assert_eq!(
        (&event["name"], &event["timeUnixNano"]),
        (&"fetch.error".into(), &"1700000000040000789".into())
    );
    assert_eq!(event["attributes"][0]["value"]["stringValue"], "shop \"eu\"");
    scene.relay.stopped().await;
}

#[tokio::test]
#[ignore = "needs Jaeger and otel-cli: .ci/steps.d/50-stack"]
async fn in_jaeger_the_span_of_a_step_is_a_child_of_its_jobs_span() {
    let scene = Scene::open().await;
    assert_eq!(run_job(scene.relay.address, "true").await, [Some(0), Some(0)]);
    assert_eq!(Ask::webhook(&job_completed()).to(scene.relay.address).await.status, 204);
    let [job, step] = &scene.trace(TRACE, 2).await[..] else { panic!() };
    assert_eq!((&job["name"], &job["spanId"]), (&"job: test".into(), &JOB_SPAN.into()));
    assert_eq!(job["parentSpanId"], WORKFLOW_SPAN);
    assert_eq!((&step["name"], &step["parentSpanId"]), (&"unit tests".into(), &JOB_SPAN.into()));
    scene.relay.stopped().await;
}
