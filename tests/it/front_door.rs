//! The routes of the relay with their statuses and bodies, and the telemetry endpoint.

use std::io::Write;

use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::harness::{Answer, Ask, Child, Collector, Gate, House, names, request_of, span};

const CHALLENGE: &str = "/.well-known/fastly/logging/challenge";

/// Much shorter than the defaults, and awaited rather than measured.
const SOON: &str = "20ms";

// --- routes ---

#[tokio::test]
async fn challenge_lists_the_digest_of_every_service_id_and_a_star() {
    let house = House::open("receivers.fastly.service_ids: [\"abc\", \"*\"]").await;
    for path in [CHALLENGE.to_owned(), format!("{CHALLENGE}?service_id=abc&x")] {
        let reply = house.ask(Ask::get(&path)).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/plain")));
        assert_eq!(reply.text(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n*\n");
    }
    let head = house.ask(Ask::new("HEAD", CHALLENGE, "")).await;
    assert_eq!((head.status, head.header("content-length"), head.text().as_str()), (200, Some("67"), ""));
    house.close().await;
}

#[tokio::test]
async fn challenge_needs_no_token_no_collector_and_no_room_in_the_queue() {
    let gate = Gate::new();
    let settings = "
        receivers.fastly.auth: {values: [\"Bearer x\"]}
        queue.max_size: 200
    ";
    let house = House::with_answers(settings, [Answer::WaitAt(gate.clone())]).await;
    let batch = span(1, "fills the queue");
    let (first, second) = (Ask::post("/fastly", batch.clone()), Ask::post("/fastly", batch));
    assert_eq!(house.ask(first.with("authorization", "Bearer x")).await.status, 204);
    assert_eq!(house.ask(second.with("authorization", "Bearer x")).await.status, 503);
    assert_eq!(house.ask(Ask::get(CHALLENGE)).await.text(), "*\n");
    gate.open();
    house.left_one().await;
    house.close().await;
}

#[tokio::test]
async fn index_is_one_line_naming_program_and_version() {
    let house = House::open("").await;
    let reply = house.ask(Ask::get("/")).await;
    assert_eq!((reply.status, reply.text()), (200, format!("spanrelay {}\n", env!("CARGO_PKG_VERSION"))));
    house.close().await;
}

#[tokio::test]
async fn other_paths_are_not_found_with_a_reason_in_json() {
    let house = House::open("").await;
    for (method, path) in [
        ("GET", "/none"),
        ("POST", "/none"),
        ("POST", "/fastly//"),
        ("POST", "//fastly"),
        ("POST", "/v1/profiles"),
        ("GET", "/metrics"),
        ("GET", "/healthz"),
        ("GET", "/.well-known/fastly/logging"),
    ] {
        let reply = house.ask(Ask::new(method, path, "")).await;
        assert_eq!(reply.status, 404, "{method} {path}");
        reply.reason();
    }
    house.close().await;
}

#[tokio::test]
async fn a_wrong_method_gets_the_allowed_ones() {
    let house = House::open("").await;
    for (method, path, allow) in [
        ("GET", "/fastly", "POST, PUT"),
        ("DELETE", "/fastly", "POST, PUT"),
        ("GET", "/circleci", "POST"),
        ("PUT", "/circleci", "POST"),
        ("POST", CHALLENGE, "GET, HEAD"),
        ("PATCH", "/", "GET, HEAD, POST"),
    ] {
        let reply = house.ask(Ask::new(method, path, "")).await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{method} {path}");
        reply.reason();
    }
    house.close().await;
}

#[tokio::test]
async fn a_receiver_that_is_not_configured_is_off() {
    let house = House::open("receivers: {fastly: }").await;
    let webhook = Ask::webhook("{}").to(house.relay.address).await;
    assert_eq!(webhook.status, 404);
    let root = Ask::post("/", "{}").with("circleci-event-type", "ping");
    assert_eq!(house.ask(root).await.status, 404);
    assert_eq!(house.ask(Ask::post("/v1/traces", span(1, "a"))).await.status, 404);
    let traceparent = house.ask(Ask::get(&format!("/traceparent/{WORKFLOW}/{JOB}"))).await;
    assert_eq!((traceparent.status, traceparent.text().as_str()), (404, ""));
    house.close().await;

    let house = House::open("receivers: {circleci: {allow_unsigned: true}}").await;
    for (method, path) in [("GET", CHALLENGE), ("POST", "/fastly"), ("POST", "/")] {
        assert_eq!(house.ask(Ask::new(method, path, span(1, "a"))).await.status, 404, "{method} {path}");
    }
    house.close().await;
}

const WORKFLOW: &str = "cedf175c-c537-49f8-9b5c-95892f0b2407";
const JOB: &str = "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34";

#[tokio::test]
async fn traceparent_is_a_line_for_a_shell_or_an_empty_body() {
    let house = House::open("").await;
    let reply = house.ask(Ask::get(&format!("/traceparent/{WORKFLOW}/{JOB}"))).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/plain")));
    assert_eq!(reply.text(), "export TRACEPARENT=00-cedf175cc53749f89b5c95892f0b2407-3f6a7c4a0bb6463a-01\n");
    for path in [
        format!("/traceparent/{WORKFLOW}"),
        format!("/traceparent/{WORKFLOW}/"),
        format!("/traceparent/{WORKFLOW}/x;id"),
        format!("/traceparent/{WORKFLOW}/{JOB}/{JOB}"),
        format!("/traceparent/{WORKFLOW}/00000000-0000-0000-0000-000000000000"),
        "/traceparent/%24(id)/x".to_owned(),
    ] {
        let reply = house.ask(Ask::get(&path)).await;
        assert_eq!((reply.status, reply.text().as_str()), (400, ""), "{path}");
    }
    house.close().await;
}

#[tokio::test]
async fn speaks_http_2_without_tls() {
    let house = House::open("").await;
    let stream = TcpStream::connect(house.relay.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://relay.test/fastly").version(Version::HTTP_2);
    let request = request.body(Full::new(bytes::Bytes::from(span(1, "over h2")))).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (Version::HTTP_2, 204));
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    assert_eq!(names(&house.left_one().await), ["over h2"]);
    house.close().await;
}

// --- bodies ---

/// Returns a body in every encoding, under every name that it may have.
fn encodings(plain: &[u8]) -> Vec<(Option<&'static str>, Vec<u8>)> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(plain).unwrap();
    let zstd = zstd::bulk::compress(plain, 1).unwrap();
    let mut framed = snap::write::FrameEncoder::new(Vec::new());
    framed.write_all(plain).unwrap();
    let framed = framed.into_inner().unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(plain).unwrap();
    let block = snap::raw::Encoder::new().compress_vec(plain).unwrap();
    vec![
        (Some("gzip"), gzip.clone()),
        (None, gzip),
        (Some("deflate"), zlib.finish().unwrap()),
        (Some("zstd"), zstd.clone()),
        (None, zstd),
        (Some("snappy"), framed.clone()),
        (None, framed),
        (Some("snappy"), block),
        (Some("lz4"), lz4.finish().unwrap()),
        (Some("identity"), plain.to_vec()),
    ]
}

fn encoded(path: &str, coding: Option<&'static str>, body: Vec<u8>) -> Ask {
    let ask = Ask::post(path, body);
    match coding {
        Some(coding) => ask.with("content-encoding", coding),
        None => ask,
    }
}

#[tokio::test]
async fn a_batch_may_be_compressed_with_or_without_a_header() {
    let house = House::open("").await;
    let line = span(1, "compressed");
    for (coding, body) in encodings(line.as_bytes()) {
        let reply = house.ask(encoded("/fastly", coding, body)).await;
        assert_eq!(reply.status, 204, "{coding:?}: {}", reply.text());
        assert_eq!(house.left_one().await.text(), line, "{coding:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_plain_body_that_is_announced_as_gzip_is_read_as_it_is_by_every_receiver() {
    let house = House::open("receivers.otlp: {}").await;
    let line = span(1, "plain");
    for path in ["/fastly", "/v1/traces"] {
        let ask = Ask::post(path, line.clone()).with("content-encoding", "gzip");
        let reply = house.ask(ask.with("content-type", "application/json")).await;
        assert!(matches!(reply.status, 200 | 204), "{path}: {}", reply.text());
        assert_eq!(names(&house.left_one().await), ["plain"]);
    }
    let ping =
        r#"{"type":"ping","id":"92e0554a-837f-4086-913b-0dc7665d2a84","happened_at":"2022-09-19T15:59:36Z"}"#;
    assert_eq!(house.ask(Ask::webhook(ping).with("content-encoding", "gzip")).await.status, 204);
    assert_eq!(names(&house.left_one().await), ["ping"]);
    let neither = Ask::post("/fastly", &b"\xff\xfe\x00 neither"[..]).with("content-encoding", "gzip");
    assert_eq!(house.ask(neither).await.status, 400);
    house.close().await;
}

#[tokio::test]
async fn corrupt_compression_is_400_and_unknown_compression_415() {
    let house = House::open("").await;
    for (coding, mut body) in encodings(span(1, "corrupt").as_bytes()) {
        if coding == Some("identity") {
            continue;
        }
        body.truncate(body.len() - 9);
        let reply = house.ask(encoded("/fastly", coding, body)).await;
        assert_eq!(reply.status, 400, "{coding:?}: {}", reply.text());
        reply.reason();
    }
    for coding in ["br", "compress", "gzip, br"] {
        let reply = house.ask(Ask::post("/fastly", "x").with("content-encoding", coding)).await;
        assert_eq!(reply.status, 415, "{coding}");
        reply.reason();
    }
    house.close().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_as_sent_and_as_decompressed() {
    let house = House::open("server.max_request_body_size: 10KiB\nserver.max_line_size: 1KiB").await;
    let large = vec![b' '; 10 * 1024 + 1];
    let declared = house.ask(Ask::post("/fastly", large.clone())).await;
    assert_eq!(declared.status, 413);
    declared.reason();
    for (coding, body) in encodings(&large) {
        let reply = house.ask(encoded("/fastly", coding, body)).await;
        assert_eq!(reply.status, 413, "{coding:?}");
        reply.reason();
    }
    let mut chunked = house.connect().await;
    chunked.write("POST /fastly HTTP/1.1\r\nhost: relay\r\ntransfer-encoding: chunked\r\n\r\n").await;
    chunked.write(format!("{:x}\r\n", large.len())).await;
    chunked.write(&large).await;
    assert_eq!(chunked.read().await.status, 413);
    drop(chunked);
    let webhook = house.ask(Ask::webhook(&" ".repeat(large.len()))).await;
    assert_eq!(webhook.status, 413);
    assert_eq!(house.ask(Ask::post("/fastly", large[1..].to_vec())).await.status, 204);
    house.close().await;
}

#[tokio::test]
async fn a_truncated_or_slow_body_is_408_and_nothing_of_it_is_kept() {
    let house = House::open(&format!("server.body_timeout: {SOON}")).await;
    let line = span(1, "never whole");
    let head = format!("POST /fastly HTTP/1.1\r\nhost: relay\r\ncontent-length: {}\r\n\r\n", line.len() + 10);
    for ends in [true, false] {
        let mut sender = house.connect().await;
        sender.write(format!("{head}{line}")).await;
        if ends {
            sender.end().await;
        }
        let reply = sender.read().await;
        assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
        reply.reason();
    }
    assert_eq!(house.metric("spanrelay_lines_total", &[]).await, 0.0);
    house.close().await;
}

#[tokio::test]
async fn request_headers_that_do_not_end_time_out() {
    let house = House::open(&format!("server.header_timeout: {SOON}")).await;
    let silent = house.connect().await;
    let mut slow = house.connect().await;
    slow.write("POST /fastly HTTP/1.1\r\nhost:").await;
    silent.closes().await;
    slow.closes().await;
    house.close().await;
}

// --- capacity ---

#[tokio::test]
async fn a_full_queue_is_503_with_retry_after_and_accepts_the_same_request_later() {
    let gate = Gate::new();
    let (first, second) = (span(1, "first"), span(2, "other"));
    let size = first.len();
    let house = House::with_answers(&format!("queue.max_size: {size}"), [Answer::WaitAt(gate.clone())]).await;
    assert_eq!(house.relay.telemetry("/readyz").await.status, 200);
    house.batch(first).await;

    let reply = house.ask(Ask::post("/fastly", second.clone())).await;
    assert_eq!(reply.status, 503);
    assert!(reply.retry_after() > 0);
    reply.reason();
    let ready = house.relay.telemetry("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.reason().contains("full"), "{}", ready.text());
    assert_eq!(house.relay.telemetry("/healthz").await.status, 200);
    assert_eq!(house.metric("otelcol_receiver_refused_spans", &[("receiver", "fastly")]).await, 1.0);

    gate.open();
    assert_eq!(names(&house.left_one().await), ["first"]);
    house.at_rest().await;
    house.batch(second).await;
    assert_eq!(names(&house.left_one().await), ["other"]);
    assert_eq!(house.relay.telemetry("/readyz").await.status, 200);
    house.close().await;
}

#[tokio::test]
async fn a_request_larger_than_the_queue_is_413_without_retry_after() {
    let house = House::open("queue.max_size: 10").await;
    let reply = house.ask(Ask::post("/fastly", span(1, "larger than ten bytes"))).await;
    assert_eq!((reply.status, reply.header("retry-after")), (413, None));
    reply.reason();
    house.close().await;
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_shed_before_its_body_and_the_challenge_is_not() {
    let house = House::open("server.max_concurrent_requests: 1").await;
    let line = span(1, "in progress");
    let mut first = house.connect().await;
    // 100 Continue shows that the request has its permit.
    let head = format!("expect: 100-continue\r\ncontent-length: {}\r\n\r\n", line.len());
    first.write(format!("POST /fastly HTTP/1.1\r\nhost: relay\r\n{head}")).await;
    assert_eq!(first.read().await.status, 100);

    let mut second = house.connect().await;
    second.write("POST /fastly HTTP/1.1\r\nhost: relay\r\ncontent-length: 9\r\n\r\n").await;
    let shed = second.read().await;
    assert_eq!(shed.status, 503);
    assert!(shed.retry_after() > 0);
    shed.reason();
    drop(second);
    assert_eq!(house.ask(Ask::get(CHALLENGE)).await.status, 200);

    first.write(line).await;
    assert_eq!(first.read().await.status, 204);
    assert_eq!(names(&house.left_one().await), ["in progress"]);
    house.close().await;
}

#[tokio::test]
async fn no_response_repeats_input() {
    let house = House::open("receivers.fastly.auth: {values: [\"Bearer expected-token\"]}").await;
    let marked = |path: &str| Ask::post(path, "canary-body").with("content-encoding", "canary-coding");
    for ask in [
        marked("/fastly?canary-query").with("authorization", "canary-token"),
        marked("/fastly").with("authorization", "Bearer expected-token"),
        Ask::post("/fastly", "canary {\"canary\":1}").with("authorization", "Bearer expected-token"),
        Ask::webhook("{\"canary\":canary}"),
        Ask::webhook("{\"type\":\"canary\",\"id\":\"canary\"}"),
        Ask::post("/circleci", "{}").with("circleci-signature", "v1=canary"),
        marked("/canary"),
        Ask::new("CANARY", "/fastly", ""),
    ] {
        let reply = house.ask(ask).await;
        let shown = format!("{:?} {}", reply.headers, reply.text());
        assert!(!shown.contains("canary") && !shown.contains("expected-token"), "{} {shown}", reply.status);
    }
    house.close().await;
}

// --- the telemetry endpoint ---

#[tokio::test]
async fn telemetry_serves_only_health_readiness_and_metrics() {
    let house = House::open("").await;
    for path in ["/", "/healthz", "/readyz", "/metrics"] {
        assert_eq!(house.relay.telemetry(path).await.status, 200, "{path}");
        let post = Ask::post(path, "").to(house.relay.telemetry).await;
        assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")), "{path}");
    }
    let metrics = house.relay.telemetry("/metrics").await;
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for path in ["/fastly", "/health", CHALLENGE] {
        assert_eq!(house.relay.telemetry(path).await.status, 404, "{path}");
    }
    house.close().await;
}

#[tokio::test]
async fn every_metric_of_the_table_exists_after_requests() {
    let gate = Gate::new();
    let house = House::with_answers(
        "queue.max_size: 1KiB\nprocessors.span_events.unmatched: drop",
        [Answer::status(400), Answer::WaitAt(gate.clone())],
    )
    .await;
    // One of each outcome: rejected downstream, accepted, rejected by the queue, attached, dropped; a webhook.
    house.batch(span(1, "refused downstream")).await;
    house.left_one().await;
    house.awaits_metric("otelcol_exporter_send_failed_spans", &[], 1.0).await;
    let metric = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"asInt":"1"}]}}]}]}]}"#;
    let lines =
        [span(2, "a"), super::harness::log(2, "event"), super::harness::log(9, "alone"), metric.to_owned()];
    house.batch(request_of(&lines)).await;
    house.left(2).await;
    let too_much = format!("{}\n{}", span(3, &"x".repeat(500)), super::harness::log(3, "y"));
    assert_eq!(house.ask(Ask::post("/fastly", too_much)).await.status, 503);
    gate.open();
    house.at_rest().await;
    let workflow =
        r#"{"type":"ping","id":"92e0554a-837f-4086-913b-0dc7665d2a84","happened_at":"2022-09-19T15:59:36Z"}"#;
    assert_eq!(house.ask(Ask::webhook(workflow)).await.status, 204);
    house.left_one().await;

    let samples = house.at_rest().await;
    for name in [
        "otelcol_receiver_accepted_spans",
        "otelcol_receiver_accepted_log_records",
        "otelcol_receiver_accepted_metric_points",
        "otelcol_receiver_refused_spans",
        "otelcol_receiver_refused_log_records",
        "otelcol_exporter_sent_spans",
        "otelcol_exporter_sent_log_records",
        "otelcol_exporter_sent_metric_points",
        "otelcol_exporter_send_failed_spans",
        "otelcol_exporter_send_failed_log_records",
        "otelcol_exporter_send_failed_metric_points",
        "otelcol_exporter_queue_size",
        "otelcol_exporter_queue_capacity",
        "otelcol_process_uptime",
        "otelcol_process_memory_rss",
        "spanrelay_build_info",
        "spanrelay_requests_total",
        "spanrelay_lines_total",
        "spanrelay_log_events_total",
        "spanrelay_webhooks_total",
        "spanrelay_held_spans",
        "spanrelay_held_bytes",
        "spanrelay_export_duration_seconds_count",
        "spanrelay_export_requests_total",
        "spanrelay_queue_oldest_seconds",
    ] {
        assert!(samples.holds(name), "{name}\n{samples}");
    }
    assert_eq!(samples.sum("otelcol_exporter_queue_capacity", &[]), 1024.0);
    house.close().await;
}

#[tokio::test]
async fn every_response_is_counted_once() {
    let house = House::open("receivers.fastly.auth: {values: [\"Bearer x\"]}").await;
    let authorized = |body: String| Ask::post("/fastly", body).with("authorization", "Bearer x");
    let mut expected = 0.0;
    for (ask, code, receiver) in [
        (Ask::post("/fastly", "{}"), 401, "fastly"),
        (authorized(span(1, "a")), 204, "fastly"),
        (authorized(request_of(&[span(2, "b"), "no line".to_owned()])), 200, "fastly"),
        (authorized("no line".to_owned()), 400, "fastly"),
        (authorized(String::new()).with("content-encoding", "br"), 415, "fastly"),
        (Ask::webhook(r#"{"type":"other","id":"1"}"#), 202, "circleci"),
        (Ask::post("/circleci", "{}"), 401, "circleci"),
        (Ask::post("/none", "{}"), 404, "none"),
        (Ask::get("/fastly"), 405, "fastly"),
        (Ask::get("/"), 200, "none"),
    ] {
        assert_eq!(house.ask(ask).await.status, code);
        expected += 1.0;
        let labels = [("receiver", receiver), ("code", &code.to_string())];
        assert_eq!(house.metric("spanrelay_requests_total", &labels).await, 1.0, "{labels:?}");
        assert_eq!(house.metric("spanrelay_requests_total", &[]).await, expected);
    }
    house.left(2).await;
    house.close().await;
}

#[tokio::test]
async fn a_flood_of_rejected_requests_is_few_log_lines_and_accepted_ones_are_none() {
    let collector = Collector::start([]).await;
    let configuration = House::configuration(&collector.url());
    let relay =
        Child::start(&configuration, &["--set", "receivers.fastly.auth={values: [long-token]}"]).await;
    let quiet = relay.log().lines().count();
    let authorized = |body: String| Ask::post("/fastly", body).with("authorization", "long-token");
    for n in 0..50 {
        assert_eq!(relay.ask(Ask::post("/fastly", "{}")).await.status, 401);
        assert_eq!(relay.ask(Ask::post("/circleci", "{}")).await.status, 401);
        assert_eq!(relay.ask(Ask::post("/none", "{}")).await.status, 404);
        assert_eq!(relay.ask(Ask::get("/none")).await.status, 404);
        assert_eq!(relay.ask(authorized("no line".to_owned())).await.status, 400);
        assert_eq!(relay.ask(authorized(span(n + 1, "a"))).await.status, 204);
    }
    collector.take(50).await;
    collector.finish();
    relay.logged("rejected input lines").await;
    let log = relay.log();
    let lines: Vec<&str> = log.lines().skip(quiet).collect();
    let of = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
    assert_eq!(of("\"request rejected\""), 3, "{log}");
    assert_eq!((of("unauthorized"), of("unknown_path")), (2, 1), "{log}");
    assert_eq!((of("\"rejected input lines\""), lines.len()), (10, 13), "{log}");
    relay.kill().await;
}

#[tokio::test]
async fn no_input_creates_a_label_value() {
    let house = House::open("").await;
    for body in [r#"{"type":"canary","id":"1"}"#, r#"{"type":"ping","id":"canary"}"#] {
        house.ask(Ask::webhook(body)).await;
        house.ask(Ask::post("/circleci", body).with("circleci-event-type", "canary")).await;
    }
    house.ask(Ask::post("/fastly", "{\"canary\":1}")).await;
    house.ask(Ask::new("CANARY", "/canary", "")).await;
    let samples = house.relay.metrics().await;
    assert!(!samples.to_string().contains("canary"), "{samples}");
    let known = ["workflow-completed", "job-completed", "ping", "unknown"];
    let events = samples.values_of("spanrelay_webhooks_total", "event");
    assert!(events.iter().all(|event| known.contains(&event.as_str())), "{events:?}");
    house.close().await;
}
