//! A real OpenTelemetry Collector as the downstream, and its handling of the same bytes without a relay.

use serde_json::Value;

use super::otel_cli::job_completed;
use super::{Program, items, kit, spans};
use crate::harness::{
    Answer, Ask, Child, Collector, Ended, Gate, House, Recorded, Relay, Reply, SECRET, TIME_LIMIT, names,
    otlp, sign,
};

/// Two lines about one request as Fastly's example VCL writes them (legacy key, null parent, times as bare numbers beyond
/// the precision of a double), and its log event.
const BATCH: &str = concat!(
    r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"www"}}]},"instrumentationLibrarySpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"00000000000000e1","parentSpanId":null,"name":"edge","kind":2,"startTimeUnixNano":1655990400123457001,"endTimeUnixNano":1655990400223457003,"attributes":[{"key":"http.response.status_code","value":{"intValue":"503"}},{"key":"ratio","value":{"doubleValue":0.25}}],"status":{"code":2}}]}]}]}"#,
    "\n",
    r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1655990400133457009","traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"00000000000000e1","severityNumber":17,"severityText":"ERROR","eventName":"fetch.error","attributes":[{"key":"backend","value":{"stringValue":"shop \"eu\""}}]}]}]}]}"#,
    "\n",
    r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"00000000000000e2","parentSpanId":"00000000000000e1","name":"shield","startTimeUnixNano":"1655990400143457001","endTimeUnixNano":"1655990400163457003"}]}]}]}"#,
    "\n",
);

const METRICS: &str = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"hits","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"timeUnixNano":"1655990400123457001","asInt":"9007199254740993"}]}}]}]}]}"#;

const LOG: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1655990400123457001","severityNumber":9,"body":{"stringValue":"no request of mine"}}]}]}]}"#;

/// One canonical line.
const CANONICAL: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"00000000000000e1","name":"edge"}]}]}]}"#;

/// Returns the relay's exports for the batch, as a recorder receives them.
async fn relayed(batch: &str, requests: usize) -> Vec<Recorded> {
    let house = House::open("").await;
    house.batch(batch.to_owned()).await;
    let left = house.left_by_signal(requests).await;
    house.close().await;
    left
}

/// Returns the exports of a Collector that receives the batch from the relay.
async fn collected(batch: &str, requests: usize, settings: &str) -> Vec<Recorded> {
    let sink = Collector::start([]).await;
    let collector = Program::collector(&sink.url()).await;
    let relay = Relay::start(&House::configuration(&collector.url()), settings).await;
    let reply = Ask::post("/fastly", batch.to_owned()).to(relay.address).await;
    assert_eq!(reply.status, 204, "{}", reply.text());
    let mut came = sink.take(requests).await;
    relay.stopped().await;
    sink.finish();
    came.sort_by_key(|request| {
        ["/v1/traces", "/v1/logs", "/v1/metrics"].iter().position(|path| *path == request.path)
    });
    came
}

/// Returns the data of requests independently of the encoding.
fn data(requests: &[Recorded]) -> Vec<Vec<u8>> {
    let data = |request: &Recorded| {
        let mut json = request.json();
        leave_out_empty_messages(&mut json);
        otlp::encoded(&request.path, &json)
    };
    let mut data: Vec<Vec<u8>> = requests.iter().map(data).collect();
    // Requests arrive over several connections in any order.
    data.sort();
    data
}

/// Removes empty messages: a Collector writes `"resource":{}` where there is none.
fn leave_out_empty_messages(json: &mut Value) {
    match json {
        Value::Array(elements) => elements.iter_mut().for_each(leave_out_empty_messages),
        Value::Object(members) => {
            members.retain(|_, value| *value != Value::Object(serde_json::Map::new()));
            members.values_mut().for_each(leave_out_empty_messages);
        }
        _ => {}
    }
}

/// Posts to a Collector without a relay; returns the response and the names of the exported spans.
async fn straight(content_type: &str, body: &str) -> (Reply, Vec<String>) {
    let sink = Collector::start([]).await;
    let collector = Program::collector(&sink.url()).await;
    let ask = Ask::post("/v1/traces", body.to_owned()).with("content-type", content_type);
    let reply = ask.to(collector.address).await;
    // Its exporter has no queue, so it exports before it responds.
    let came = sink.take_rest();
    sink.finish();
    let names = came.iter().flat_map(|request| {
        let json = request.json();
        spans(&json).iter().map(|span| span["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    });
    (reply, names.collect())
}

#[tokio::test]
#[ignore = "needs a Collector: .ci/steps.d/50-stack"]
async fn a_fastly_batch_arrives_completely_at_a_collector() {
    let came = collected(BATCH, 2, "").await;
    let documents: Vec<Value> = came.iter().map(Recorded::json).collect();
    let edge = documents.iter().flat_map(spans).find(|span| span["name"] == "edge").unwrap();
    assert_eq!(edge["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(edge["spanId"], "00000000000000e1");
    assert!(edge.get("parentSpanId").is_none_or(|parent| parent == ""), "{edge}");
    assert_eq!(edge["startTimeUnixNano"], "1655990400123457001");
    assert_eq!(edge["endTimeUnixNano"], "1655990400223457003");
    assert_eq!(edge["attributes"][0]["value"]["intValue"], "503");
    let event = &edge["events"][0];
    assert_eq!(event["name"], "fetch.error");
    assert_eq!(event["timeUnixNano"], "1655990400133457009");
    assert_eq!(event["attributes"][0]["value"]["stringValue"], "shop \"eu\"");
    let shield = documents.iter().flat_map(spans).find(|span| span["name"] == "shield").unwrap();
    assert_eq!(shield["parentSpanId"], "00000000000000e1");
    // Nothing else differs from the relay's export.
    assert_eq!(data(&came), data(&relayed(BATCH, 2).await));
}

#[tokio::test]
#[ignore = "needs a Collector: .ci/steps.d/50-stack"]
async fn a_collector_reads_the_same_from_protobuf() {
    for compression in ["none", "gzip", "zstd"] {
        let settings =
            format!("exporters.otlp_http.encoding: protobuf\nexporters.otlp_http.compression: {compression}");
        let came = collected(BATCH, 2, &settings).await;
        assert_eq!(data(&came), data(&relayed(BATCH, 2).await), "{compression}");
    }
}

#[tokio::test]
#[ignore = "needs a Collector: .ci/steps.d/50-stack"]
async fn metrics_and_logs_arrive_completely_too() {
    let batch = format!("{METRICS}\n{LOG}\n");
    let came = collected(&batch, 2, "").await;
    let [logs, metrics] = &came[..] else { panic!("{came:#?}") };
    let (logs, metrics) = (logs.json(), metrics.json());
    let record = items(&logs, ["resourceLogs", "scopeLogs", "logRecords"])[0];
    assert_eq!(record["body"]["stringValue"], "no request of mine");
    let metric = items(&metrics, ["resourceMetrics", "scopeMetrics", "metrics"])[0];
    assert_eq!(metric["sum"]["dataPoints"][0]["asInt"], "9007199254740993");
    assert_eq!(data(&came), data(&relayed(&batch, 2).await));
}

/// Posts a request to a Collector. The response is that of the relay behind it.
async fn posted(collector: &Program, path: &str, body: &str) -> u16 {
    let ask = Ask::post(path, body.to_owned()).with("content-type", "application/json");
    ask.to(collector.address).await.status
}

#[tokio::test]
#[ignore = "needs a Collector: .ci/steps.d/50-stack"]
async fn a_collector_exports_into_the_relay_by_grpc_compressed_or_not() {
    for compression in ["none", "gzip", "zstd"] {
        let house = House::open("receivers.otlp: {}").await;
        let collector = Program::collector_by_grpc(house.relay.address, compression).await;
        for (path, body) in [("/v1/traces", CANONICAL), ("/v1/logs", LOG), ("/v1/metrics", METRICS)] {
            assert_eq!(posted(&collector, path, body).await, 200, "{compression}: {path}");
        }
        let came = house.left_by_signal(3).await;
        let expected: Vec<Vec<u8>> = [("/v1/traces", CANONICAL), ("/v1/logs", LOG), ("/v1/metrics", METRICS)]
            .iter()
            .map(|(path, body)| otlp::encoded(path, &serde_json::from_str(body).unwrap()))
            .collect();
        let mut expected = expected;
        expected.sort();
        assert_eq!(data(&came), expected, "{compression}");
        house.close().await;
    }
}

#[tokio::test]
#[ignore = "needs a Collector: .ci/steps.d/50-stack"]
async fn a_collector_repeats_by_grpc_what_a_full_queue_did_not_accept() {
    let gate = Gate::new();
    let full = "receivers.otlp: {}\nqueue.max_size: 1KiB";
    let house = House::with_answers(full, [Answer::WaitAt(gate.clone())]).await;
    let collector = Program::collector_by_grpc(house.relay.address, "gzip").await;
    let named = |name: &str| CANONICAL.replace("edge", name);
    assert_eq!(posted(&collector, "/v1/traces", &named(&"a".repeat(600))).await, 200);
    let later = tokio::spawn(async move { posted(&collector, "/v1/traces", &named(&"b".repeat(600))).await });
    let refused = [("receiver", "otlp"), ("code", "503")];
    house.awaits_metric("spanrelay_requests_total", &refused, 1.0).await;
    gate.open();
    assert_eq!(later.await.unwrap(), 200);
    let left: Vec<String> = house.left(2).await.iter().flat_map(names).collect();
    assert_eq!(left, ["a".repeat(600), "b".repeat(600)]);
    house.close().await;
}

/// Port of OTLP/gRPC, by which the relay recognizes it. Addresses of loopback are many, so that it is free on one of them.
const GRPC_PORT: u16 = 4317;

#[tokio::test]
#[ignore = "needs a Collector: .ci/steps.d/50-stack"]
async fn the_environment_of_circleci_hook_reaches_the_grpc_port_of_a_collector() {
    let sink = Collector::start([]).await;
    let [one, two, three, four] = std::process::id().to_be_bytes();
    let address = ([127, one ^ two, three, four], GRPC_PORT).into();
    let collector = Program::collector_at(address, "grpc", &sink.url()).await;
    let environment = [
        ("CIRCLECI_HOOK_SECRET", SECRET),
        ("CIRCLECI_HOOK_SERVICE", "builds"),
        ("CIRCLECI_OTLP_ENDPOINT", &collector.url()),
        ("CIRCLECI_OTLP_X_TEAM", "a"),
    ];
    let mut relay = Child::deployed(&environment, &[]).await;
    let event = job_completed();
    // circleci-hook has one route.
    let webhook = Ask::post("/", event.clone())
        .with("circleci-event-type", "job-completed")
        .with("circleci-signature", &sign(SECRET, event.as_bytes()));
    assert_eq!(relay.ask(webhook).await.status, 204);
    let came = sink.take(1).await.remove(0);
    assert_eq!(names(&came), ["job: test"]);
    let resource = &came.json()["resourceSpans"][0]["resource"]["attributes"][0];
    assert_eq!(resource["value"]["stringValue"], "builds");
    relay.signal("TERM").await;
    assert_eq!(relay.ended().await, Some(0), "{}", relay.log());
    sink.finish();
}

#[tokio::test]
#[ignore = "needs a Collector: .ci/steps.d/50-stack"]
async fn a_collector_accepts_self_tracing() {
    let sink = Collector::start([]).await;
    let collector = Program::collector(&sink.url()).await;
    let house =
        House::open(&format!("telemetry.traces.endpoint: http://{}/v1/traces", collector.address)).await;
    house.batch(CANONICAL).await;
    house.left_one().await;
    house.close().await;
    // The Collector had exported everything before it responded to the relay's last request.
    let documents: Vec<Value> = sink.take_rest().iter().map(Recorded::json).collect();
    sink.finish();
    let resource = &documents[0]["resourceSpans"][0]["resource"]["attributes"];
    assert_eq!(resource[0]["value"]["stringValue"], "spanrelay");
    let spans: Vec<&Value> = documents.iter().flat_map(spans).collect();
    let named = |name: &str| *spans.iter().find(|span| span["name"] == name).unwrap();
    let request = named("POST /fastly");
    assert_eq!(request["kind"], 2);
    for child in [named("queue offer"), named("export traces")] {
        assert_eq!((&child["traceId"], &child["parentSpanId"]), (&request["traceId"], &request["spanId"]));
    }
}

// The README's statements about a Collector without a relay.

#[tokio::test]
#[ignore = "needs a Collector: .ci/steps.d/50-stack"]
async fn a_collector_alone_ingests_the_first_line_and_silently_drops_the_rest() {
    let second = CANONICAL.replace("edge", "shield");
    let (reply, spans) = straight("application/json", &format!("{CANONICAL}\n{second}\n")).await;
    assert_eq!((reply.status, spans), (200, vec!["edge".to_owned()]), "{}", reply.text());
    assert_eq!(reply.json(), serde_json::json!({"partialSuccess": {}}));
}

#[tokio::test]
#[ignore = "needs a Collector: .ci/steps.d/50-stack"]
async fn a_collector_alone_rejects_any_other_content_type() {
    let (reply, spans) = straight("application/x-ndjson", CANONICAL).await;
    assert_eq!((reply.status, spans.len()), (415, 0), "{}", reply.text());
}

#[tokio::test]
#[ignore = "needs a Collector: .ci/steps.d/50-stack"]
async fn a_collector_alone_keeps_no_span_of_the_batch_that_the_relay_delivers() {
    let (reply, spans) = straight("application/json", BATCH).await;
    assert_eq!((reply.status, spans.len()), (200, 0), "{}", reply.text());
}

#[tokio::test]
#[ignore = "needs a Collector: .ci/steps.d/50-stack"]
async fn a_collector_alone_silently_drops_data_under_legacy_keys() {
    let line = CANONICAL.replace("scopeSpans", "instrumentationLibrarySpans");
    let (reply, spans) = straight("application/json", &line).await;
    assert_eq!((reply.status, spans.len()), (200, 0), "{}", reply.text());
}

#[tokio::test]
#[ignore = "needs a Collector: .ci/steps.d/50-stack"]
async fn a_collector_alone_rejects_a_whole_document_because_of_one_null_parent() {
    let line = CANONICAL.replace("\"name\"", "\"parentSpanId\":null,\"name\"");
    let (reply, spans) = straight("application/json", &line).await;
    assert_eq!((reply.status, spans.len()), (400, 0), "{}", reply.text());
}

#[tokio::test]
#[ignore = "needs a Collector: .ci/steps.d/50-stack"]
async fn a_collector_alone_fails_the_challenge() {
    let sink = Collector::start([]).await;
    let collector = Program::collector(&sink.url()).await;
    let reply = Ask::get("/.well-known/fastly/logging/challenge").to(collector.address).await;
    assert_eq!(reply.status, 404);
    sink.finish();
}

#[tokio::test]
#[ignore = "needs a Collector: .ci/steps.d/50-stack"]
async fn the_collector_of_the_compose_file_accepts_its_configuration() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/otel-collector.yaml");
    let mut validate = tokio::process::Command::new(super::program::path("otelcol"));
    validate.args(["validate", "--config", file]);
    let ended = tokio::time::timeout(TIME_LIMIT, Ended::of(&mut validate)).await.unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(kit("docker-compose.yml").contains("otel-collector.yaml"));
}
