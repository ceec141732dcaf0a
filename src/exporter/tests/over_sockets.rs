//! Tests against a recording collector: bytes, headers and connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderName, HeaderValue, Method, Version};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::collector::{Answer, Collector};
use super::*;

#[tokio::test]
async fn every_export_is_one_post_with_exactly_its_bytes() {
    let collector = Collector::start(|_, _| Answer::ok()).await;
    let rig = Rig::start(&config_for(&collector.url()));
    let odd = "{ \"resourceSpans\" : [ {\"t\":1655990400123457000.0} ],\r\n\"x\":1}\n";
    rig.export(Signal::Traces, odd, 2);
    rig.export(Signal::Logs, NO_LOGS, 1);
    rig.export(Signal::Metrics, r#"{"resourceMetrics":[]}"#, 1);
    let ended = drained(rig).await;

    let mut requests = collector.requests();
    requests.sort_by(|a, b| b.path.cmp(&a.path));
    let paths: Vec<_> = requests.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(paths, ["/v1/traces", "/v1/metrics", "/v1/logs"]);
    assert_eq!(requests[0].body, odd);
    for request in &requests {
        assert_eq!((&request.method, request.version), (&Method::POST, Version::HTTP_11));
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.headers["host"], collector.address.to_string());
        assert_eq!(request.headers["user-agent"], concat!("spanrelay/", env!("CARGO_PKG_VERSION")));
        assert_eq!(request.headers["content-length"], request.body.len().to_string());
        assert!(!request.headers.contains_key("content-encoding"));
    }
    assert_eq!((ended.settled_receipts.len(), ended.sent_spans()), (3, 2));
}

#[tokio::test]
async fn carries_configured_headers_and_keeps_a_url_unchanged() {
    let collector = Collector::start(|_, _| Answer::ok()).await;
    let mut config = config_for(&collector.url());
    config.traces_endpoint = format!("{}/custom//path/?api=1", collector.url()).parse().unwrap();
    config.settings.headers.insert(HeaderName::from_static("x-tenant"), HeaderValue::from_static("all"));
    let rig = Rig::start(&config);
    rig.traces("a");
    drained(rig).await;
    let request = collector.requests().remove(0);
    assert_eq!(request.path, "/custom//path/?api=1");
    assert_eq!(request.headers["x-tenant"], "all");
    assert_eq!(request.headers["host"], collector.address.to_string());
}

#[tokio::test]
async fn each_signal_is_sent_with_its_own_settings() {
    let [shared, own] =
        [Collector::start(|_, _| Answer::ok()).await, Collector::start(|_, _| Answer::ok()).await];
    let mut config = config_for(&shared.url());
    config.settings.headers.insert(HeaderName::from_static("x-tenant"), HeaderValue::from_static("all"));
    config.logs_endpoint = format!("{}/ingest", own.url()).parse().unwrap();
    config.logs.encoding = Some(Encoding::Protobuf);
    config.logs.settings.compression = Some(Compression::Gzip);
    config
        .logs
        .settings
        .headers
        .insert(HeaderName::from_static("x-tenant"), HeaderValue::from_static("logs"));
    let rig = Rig::start(&config);
    rig.traces("a");
    rig.export(Signal::Logs, NO_LOGS, 1);
    drained(rig).await;

    let (traces, logs) = (shared.requests().remove(0), own.requests().remove(0));
    assert_eq!((traces.path.as_str(), logs.path.as_str()), ("/v1/traces", "/ingest"));
    assert_eq!(
        (&traces.headers["x-tenant"], &logs.headers["x-tenant"]),
        (&"all".parse().unwrap(), &"logs".parse().unwrap())
    );
    assert_eq!(traces.body, spans("a"));
    assert_eq!(traces.headers["content-type"], "application/json");
    assert!(!traces.headers.contains_key("content-encoding"));
    assert_eq!(gunzipped(&logs.body), b"", "a request without logs has no fields");
    assert_eq!(logs.headers["content-type"], "application/x-protobuf");
    assert_eq!(logs.headers["content-encoding"], "gzip");
}

#[tokio::test]
async fn consecutive_exports_share_one_connection() {
    let collector = Collector::start(|_, _| Answer::ok()).await;
    let mut config = config_for(&collector.url());
    config.settings.max_in_flight = 1;
    let rig = Rig::start(&config);
    (0..50).for_each(|n| rig.traces(&n.to_string()));
    drained(rig).await;
    assert_eq!((collector.requests().len(), collector.connections()), (50, 1));
}

#[tokio::test]
async fn a_partial_success_is_delivered_and_its_rejected_count_goes_to_the_metrics() {
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceResponse,
    };
    let partial = ExportTracePartialSuccess { rejected_spans: 3, error_message: "too old".into() };
    let protobuf = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    for (content_type, body) in [
        ("application/json", br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"x"}}"#.to_vec()),
        ("application/json", br#"{"partialSuccess":{"rejectedSpans":3}}"#.to_vec()),
        ("application/x-protobuf", protobuf),
    ] {
        let body = Bytes::from(body);
        let collector =
            Collector::start(move |_, _| Answer::Say { status: 200, content_type, body: body.clone() }).await;
        let rig = Rig::start(&config_for(&collector.url()));
        rig.export(Signal::Traces, &spans("a"), 10);
        let ended = drained(rig).await;
        assert_eq!(collector.requests().len(), 1, "a partial success is not sent again");
        assert_eq!((ended.sent_spans(), ended.failed_spans()), (7, 3));
        assert_eq!(ended.settled_receipts, [(Signal::Traces, Settled::Delivered, 10)]);
    }
}

#[tokio::test]
async fn a_2xx_with_any_body_is_a_delivery() {
    let answers: [fn() -> Answer; 8] = [
        || Answer::json(200, "<html>garbage"),
        || Answer::json(200, ""),
        || Answer::json(202, r#"{"partialSuccess":{"rejectedSpans":{}}}"#),
        || Answer::json(204, ""),
        || Answer::Say {
            status: 200,
            content_type: "application/x-protobuf",
            body: b"\xff\xff\xff"[..].into(),
        },
        || Answer::Say { status: 200, content_type: "text/plain", body: vec![b'x'; 5 << 20].into() },
        || Answer::HangAfterHead { status: 200 },
        || Answer::BreakOff { status: 200 },
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        let collector = Collector::start(move |_, _| answer()).await;
        let mut config = config_for(&collector.url());
        config.settings.timeout = Duration::from_millis(500);
        let rig = Rig::start(&config);
        rig.traces("a");
        let ended = drained(rig).await;
        assert_eq!((collector.requests().len(), ended.sent_spans()), (1, 1), "answer {number}");
    }
}

#[tokio::test]
async fn a_rejection_counts_even_if_its_body_never_arrives() {
    let collector = Collector::start(|number, _| match number {
        0 => Answer::HangAfterHead { status: 503 },
        1 => Answer::BreakOff { status: 502 },
        _ => Answer::HangAfterHead { status: 400 },
    })
    .await;
    let mut config = config_for(&collector.url());
    config.settings.timeout = Duration::from_millis(500);
    let rig = Rig::start(&config);
    rig.traces("a");
    let ended = drained(rig).await;
    assert_eq!(collector.requests().len(), 3);
    assert_eq!(ended.rejects, [(spans("a"), "downstream returned 400".to_owned())]);
}

#[tokio::test]
async fn an_export_whose_connection_closes_without_a_response_is_retried() {
    let collector = Collector::start(|number, _| if number < 3 { Answer::Close } else { Answer::ok() }).await;
    let rig = Rig::start(&config_for(&collector.url()));
    rig.traces("a");
    let ended = drained(rig).await;
    assert_eq!((ended.sent_spans(), ended.attempts("retryable")), (1, 3));
}

#[tokio::test]
async fn waits_for_a_collector_that_starts_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let rig = Rig::start(&config_for(&format!("http://{address}")));
    rig.traces("a");
    let refused = async {
        while Ended::new(&rig.seen, &rig.metrics).attempts("retryable") < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(MAX_WAIT, refused).await.expect("attempts fail while nobody listens");
    let collector = Collector::on(TcpListener::bind(address).await.unwrap(), None, |_, _| Answer::ok());
    assert_eq!(drained(rig).await.sent_spans(), 1);
    assert_eq!(collector.bodies(), [spans("a")]);
}

#[tokio::test]
async fn batches_carry_the_same_spans_in_fewer_requests() {
    let collector = Collector::start(|_, _| Answer::ok()).await;
    let mut config = config_for(&collector.url());
    config.settings.delivery = DeliveryMode::Batch;
    config.settings.batch.max_events = 10;
    let rig = Rig::start(&config);
    let names: Vec<String> = (0..25).map(|n| format!("span {n:02}")).collect();
    names.iter().for_each(|name| rig.traces(name));
    let ended = drained(rig).await;
    assert_eq!(
        (collector.requests().len(), ended.sent_spans(), ended.count(Settled::Delivered)),
        (3, 25, 25)
    );
    assert_eq!(span_names(&collector.bodies()), names);
}

#[tokio::test]
async fn a_rejected_batch_is_split_until_only_the_bad_export_is_rejected() {
    let collector = Collector::start(|_, request| {
        let poisoned = request.body.windows(6).any(|window| window == b"poison");
        if poisoned { Answer::json(400, r#"{"code":3,"message":"bad id"}"#) } else { Answer::ok() }
    })
    .await;
    let mut config = config_for(&collector.url());
    config.settings.delivery = DeliveryMode::Batch;
    let rig = Rig::start(&config);
    let name = |n: usize| if n == 11 { "poison".to_owned() } else { format!("span {n:02}") };
    (0..20).map(name).for_each(|name| rig.traces(&name));
    let ended = drained(rig).await;
    assert_eq!(ended.rejects, [(spans("poison"), "downstream returned 400: bad id".to_owned())]);
    assert_eq!((ended.count(Settled::Delivered), ended.count(Settled::Rejected)), (19, 1));
    assert_eq!((ended.sent_spans(), ended.failed_spans()), (19, 1), "halves are not counted as failed");
    let bodies = collector.bodies();
    let delivered: Vec<_> = bodies.into_iter().filter(|body| !body.contains("poison")).collect();
    let expected: Vec<_> = (0..20).map(name).filter(|name| name != "poison").collect();
    assert_eq!(span_names(&delivered), expected, "each good span arrives once");
}

#[tokio::test]
async fn bodies_are_compressed_as_configured_with_single_and_batch_delivery() {
    for (delivery, compression, encoding) in [
        (DeliveryMode::Single, Compression::Gzip, "gzip"),
        (DeliveryMode::Batch, Compression::Gzip, "gzip"),
        (DeliveryMode::Single, Compression::Zstd, "zstd"),
        (DeliveryMode::Batch, Compression::Zstd, "zstd"),
    ] {
        let collector = Collector::start(|_, _| Answer::ok()).await;
        let mut config = config_for(&collector.url());
        (config.settings.delivery, config.settings.compression) = (delivery, compression);
        let rig = Rig::start(&config);
        rig.traces("a");
        drained(rig).await;
        let request = collector.requests().remove(0);
        assert_eq!(request.headers["content-encoding"], encoding);
        let inflated = match compression {
            Compression::Zstd => zstd::stream::decode_all(request.body.as_ref()).unwrap(),
            _ => gunzipped(&request.body),
        };
        assert_eq!(inflated, spans("a").as_bytes());
    }
}

#[tokio::test]
async fn describes_a_closed_port_and_a_port_of_another_protocol() {
    let closing = Collector::start(|_, _| Answer::Close).await;
    let said = failure_of(&config_for(&closing.url())).await;
    assert_eq!(said, format!("{} closed the connection without a response", closing.address));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // The first bytes of an HTTP/2 server, such as a gRPC server.
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut request = [0; 1024];
        while tcp.read(&mut request).await.is_ok_and(|read| read > 0) {}
    });
    let said = failure_of(&config_for(&format!("http://{address}"))).await;
    assert!(said.contains("does not respond in HTTP/1.1") && said.contains("4318"), "{said}");

    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let said = failure_of(&config_for(&format!("http://{address}"))).await;
    assert_eq!(said, format!("connection refused by {address}: is a Collector listening there?"));
}

#[tokio::test]
async fn a_collector_that_restarts_between_exports_loses_no_data() {
    let closing = Arc::new(AtomicBool::new(false));
    let close = Arc::clone(&closing);
    // After every second response the connection ends unannounced.
    let collector = Collector::start(move |_, _| {
        if close.fetch_xor(true, Ordering::Relaxed) { Answer::BreakOff { status: 200 } } else { Answer::ok() }
    })
    .await;
    let rig = Rig::start(&config_for(&collector.url()));
    for n in 0..20 {
        rig.traces(&n.to_string());
        rig.settled(n + 1).await;
    }
    assert_eq!(drained(rig).await.sent_spans(), 20);
}

/// A port that does not respond to plain HTTP or HTTP/2 with the response to an export.
#[derive(Debug, Clone, Copy)]
pub(super) enum OddPort {
    /// TLS: a 400 in plain HTTP, as Go and nginx send it.
    TlsWith400,
    /// TLS: an alert.
    TlsWithAlert,
    /// TLS: the end of the connection.
    TlsThatCloses,
    /// Plain HTTP: a 400 and the end of the connection.
    PlainWith400,
}

impl OddPort {
    const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
    const REFUSAL: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nthis is not how it is done\n";

    fn answer(self, is_handshake: bool) -> &'static [u8] {
        match (self, is_handshake) {
            (Self::PlainWith400, _) | (Self::TlsWith400, false) => Self::REFUSAL,
            (_, true) | (Self::TlsWithAlert, false) => &Self::ALERT,
            (Self::TlsThatCloses, false) => b"",
        }
    }

    /// Returns its address, and the task that listens there until it is aborted.
    pub(super) async fn open(self) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listening = tokio::spawn(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                if tcp.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let _gone = tcp.write_all(self.answer(request[0] == 22)).await;
                }
            }
        });
        (address, listening)
    }
}

#[tokio::test]
async fn plain_http_to_a_tls_port_keeps_the_data_until_it_is_fixed() {
    for port in [OddPort::TlsWith400, OddPort::TlsWithAlert, OddPort::TlsThatCloses] {
        let (address, listening) = port.open().await;
        let rig = Rig::start(&config_for(&format!("http://{address}")));
        rig.traces("a");
        rig.traces("b");
        rig.blocked().await;
        listening.abort();
        listening.await.unwrap_err();
        let collector = Collector::on(TcpListener::bind(address).await.unwrap(), None, |_, _| Answer::ok());
        let ended = drained(rig).await;
        assert_eq!((ended.sent_spans(), ended.rejects.len()), (2, 0), "{port:?}");
        assert_eq!(span_names(&collector.bodies()), ["a", "b"]);
    }
}

#[tokio::test]
async fn a_400_of_a_plain_port_that_closes_the_connection_condemns_the_data() {
    let (address, listening) = OddPort::PlainWith400.open().await;
    let rig = Rig::start(&config_for(&format!("http://{address}")));
    rig.traces("a");
    let ended = drained(rig).await;
    assert_eq!(ended.rejects.len(), 1);
    listening.abort();
}

/// Returns the sorted names of all spans in these requests.
fn span_names(bodies: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    for body in bodies {
        let request: serde_json::Value = serde_json::from_str(body).unwrap();
        for resource in request["resourceSpans"].as_array().unwrap() {
            let name = resource["scopeSpans"][0]["spans"][0]["name"].as_str().unwrap();
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    names
}
