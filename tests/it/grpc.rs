//! OTLP/gRPC from one relay to another: its exporter, and the front door of the next.

use super::harness::{Ask, House, Relay, names, span};

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
        front.stopped().await;
        let mut left = Vec::new();
        while left.len() < 2 {
            left.extend(names(&house.left_one().await));
        }
        left.sort();
        assert_eq!(left, ["a", "b"], "{settings}");
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
