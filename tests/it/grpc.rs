//! OTLP/gRPC from one relay to another, by its exporter and the front door of the next; and the front door alone.

use std::io::Write;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;

use super::harness::{Answer, Ask, Gate, House, Relay, eventually, in_time, names, otlp, span};

/// A relay that exports to a house by gRPC.
async fn in_front_of(house: &House, settings: &str) -> Relay {
    let configuration = format!(
        "
        server: {{ endpoint: 127.0.0.1:0 }}
        receivers: {{ fastly: }}
        processors: {{ span_events: {{ wait: 0s }} }}
        queue: {{ storage: memory }}
        exporters:
          otlp_grpc:
            endpoint: http://{}
            retry_on_failure: {{ initial_interval: 1ms, max_interval: 5ms }}
        telemetry: {{ endpoint: 127.0.0.1:0 }}
        ",
        house.relay.address
    );
    Relay::start(&configuration, settings).await
}

#[tokio::test]
async fn spans_arrive_by_grpc_plain_compressed_single_or_in_batches() {
    for settings in [
        "",
        "exporters.otlp_grpc.compression: gzip",
        "exporters.otlp_grpc.compression: zstd",
        "exporters.otlp_grpc.delivery: batch",
    ] {
        let house = House::open("receivers.otlp: {}").await;
        let front = in_front_of(&house, settings).await;
        let body = format!("{}\n{}\n", span(1, "a"), span(2, "b"));
        assert_eq!(Ask::post("/fastly", body).to(front.address).await.status, 204);
        let by_grpc = [("exporter", "otlp_grpc")];
        eventually("both are exported", async || {
            (front.metrics().await.sum("otelcol_exporter_sent_spans", &by_grpc) == 2.0).then_some(())
        })
        .await;
        front.stopped().await;
        let mut left = Vec::new();
        while left.len() < 2 {
            left.extend(names(&house.left_one().await));
        }
        left.sort();
        assert_eq!(left, ["a", "b"], "{settings}");
        let from_calls = [("receiver", "otlp"), ("transport", "grpc")];
        assert_eq!(house.metric("otelcol_receiver_accepted_spans", &from_calls).await, 2.0);
        house.close().await;
    }
}

#[tokio::test]
async fn a_wrong_token_blocks_the_destination_and_loses_nothing() {
    let house = House::open("receivers.otlp: {auth: {values: [right]}}").await;
    let front = in_front_of(&house, "exporters.otlp_grpc.headers: {authorization: wrong}").await;
    assert_eq!(Ask::post("/fastly", span(1, "a")).to(front.address).await.status, 204);
    super::harness::eventually("the destination is blocked", async || {
        let blocked = front.metrics().await.sum("spanrelay_exporter_blocked", &[("signal", "traces")]);
        (blocked == 1.0).then_some(())
    })
    .await;
    assert!(front.metrics().await.sum("otelcol_exporter_queue_size", &[]) > 0.0);
    assert!(house.metric("spanrelay_requests_total", &[("receiver", "otlp"), ("code", "401")]).await >= 1.0);
    front.stopped().await;
    house.close().await;
}

#[tokio::test]
async fn a_message_above_the_limit_is_split_until_it_fits() {
    let house = House::open("receivers.otlp: {}\nserver.max_grpc_message_size: 2KiB").await;
    let front = in_front_of(&house, "exporters.otlp_grpc.delivery: batch").await;
    let body: String = (1..=40).map(|id| span(id, &"x".repeat(100)) + "\n").collect();
    assert_eq!(Ask::post("/fastly", body).to(front.address).await.status, 204);
    front.stopped().await;
    let mut left = 0;
    while left < 40 {
        left += names(&house.left_one().await).len();
    }
    house.close().await;
}

// --- the front door ---

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Status of a call.
#[derive(Debug, PartialEq)]
pub(super) struct Status {
    code: u16,
    message: String,
    /// Delay of a `RetryInfo`, in seconds.
    delay: Option<i64>,
}

/// `google.rpc.Status`
#[derive(prost::Message)]
struct Details {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`
#[derive(prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Duration>,
}

/// `google.protobuf.Duration`
#[derive(prost::Message)]
struct Duration {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

/// Calls a method with this message, which has its header already.
pub(super) async fn call(
    address: SocketAddr,
    method: &str,
    framed: Vec<u8>,
    headers: &[(&str, &str)],
) -> Status {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://{address}{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(framed))).unwrap();
    let response = in_time("the call ends", sender.send_request(request)).await.unwrap();
    assert_eq!(response.status(), 200);
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let status = body.trailers().unwrap_or(&head.headers);
    let text = |name: &str| status.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let details = text("grpc-status-details-bin");
    let details = STANDARD_NO_PAD.decode(details.trim_end_matches('=')).unwrap();
    let details = Details::decode(&*details).unwrap();
    let info = details.details.iter().find(|any| any.type_url == "type.googleapis.com/google.rpc.RetryInfo");
    let info = info.map(|any| RetryInfo::decode(&*any.value).unwrap());
    Status {
        code: text("grpc-status").parse().unwrap(),
        message: text("grpc-message"),
        delay: info.map(|info| info.delay.unwrap().seconds),
    }
}

pub(super) fn framed(message: &[u8], is_compressed: bool) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[u8::from(is_compressed)], &length.to_be_bytes()[..], message].concat()
}

/// Returns a message with one span.
fn message(name: &str) -> Vec<u8> {
    otlp::encoded("/v1/traces", &serde_json::from_str(&span(1, name)).unwrap())
}

#[tokio::test]
async fn every_error_of_a_call_has_its_status() {
    let house = House::open("receivers.otlp: {auth: {values: [right]}}").await;
    let right = ("authorization", "right");
    let whole = framed(&message("a"), false);
    let cut = whole[..whole.len() - 1].to_vec();
    let status = async |method: &str, body: &[u8], headers: &[(&str, &str)]| {
        call(house.relay.address, method, body.to_vec(), headers).await
    };
    for (code, method, body, headers) in [
        (0, TRACES, &whole, &[right][..]),
        (16, TRACES, &whole, &[]),
        (16, TRACES, &whole, &[("authorization", "wrong")]),
        (3, TRACES, &cut, &[right]),
        (3, TRACES, &framed(b"\xff", false), &[right]),
        (3, TRACES, &framed(b"no gzip", true), &[right, ("grpc-encoding", "gzip")]),
        (12, TRACES, &framed(&message("a"), true), &[right, ("grpc-encoding", "br")]),
        (12, "/grpc.health.v1.Health/Check", &whole, &[]),
        (12, &TRACES.replace("/Export", "/Import"), &whole, &[right]),
    ] {
        let found = status(method, body, headers).await;
        assert_eq!((found.code, found.delay), (code, None), "{method} {headers:?}: {found:?}");
        assert_eq!(found.message.is_empty(), code == 0, "{found:?}");
    }
    assert_eq!(names(&house.left_one().await), ["a"]);
    house.close().await;
}

#[tokio::test]
async fn a_full_queue_exhausts_the_resource_for_a_while() {
    let gate = Gate::new();
    let house =
        House::with_answers("receivers.otlp: {}\nqueue.max_size: 1KiB", [Answer::WaitAt(gate.clone())]).await;
    let send = async |name: &str| {
        call(house.relay.address, TRACES, framed(&message(&name.repeat(600)), false), &[]).await
    };
    assert_eq!(send("a").await.code, 0);
    let full = send("b").await;
    assert_eq!(full.code, 8, "{full:?}");
    assert!(full.delay.is_some_and(|seconds| seconds >= 1) && full.message.contains("full"), "{full:?}");
    gate.open();
    house.at_rest().await;
    assert_eq!(send("b").await.code, 0);
    assert_eq!(house.left_names(2).await, ["a".repeat(600), "b".repeat(600)]);
    house.close().await;
}

#[tokio::test]
async fn a_message_has_at_most_four_mebibytes_unless_its_limit_is_another() {
    for (settings, limit) in [("", 4 << 20), ("server.max_grpc_message_size: 1MiB", 1 << 20)] {
        let house = House::open(&format!("receivers.otlp: {{}}\n{settings}")).await;
        // Longer names have longer lengths.
        let overhead = message(&"x".repeat(limit / 2)).len() - limit / 2;
        let of_length = |length: usize| message(&"x".repeat(length - overhead));
        let (most, more) = (of_length(limit), of_length(limit + 1));
        assert_eq!((most.len(), more.len()), (limit, limit + 1));
        let gzip = [("grpc-encoding", "gzip")];
        let bomb = gzipped(&more);
        for (body, headers, code) in [
            (framed(&most, false), &[][..], 0),
            (framed(&gzipped(&most), true), &gzip, 0),
            (framed(&more, false), &[], 8),
            (framed(&bomb, true), &gzip, 8),
        ] {
            let status = call(house.relay.address, TRACES, body, headers).await;
            assert_eq!((status.code, status.delay), (code, None), "{limit}: {status:?}");
            // The words by which clients, such as this relay, know that a smaller message is accepted.
            assert_eq!(status.message.contains("larger than max"), code == 8, "{status:?}");
        }
        assert_eq!(house.left(2).await.len(), 2);
        house.close().await;
    }
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
