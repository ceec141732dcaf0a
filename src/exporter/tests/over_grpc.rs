//! Tests of OTLP/gRPC against a server that records calls and responds as a test configures it.

use std::convert::Infallible;
use std::net::SocketAddr;

use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::net::TcpListener;

use super::collector::{Answer, Collector};
use super::over_sockets::OddPort;
use super::*;
use crate::config::Protocol;

const OK: Status = Status { code: 0, message: "" };

/// Status of a call.
#[derive(Clone, Copy)]
struct Status {
    code: u8,
    message: &'static str,
}

/// A received call.
struct Call {
    path: String,
    headers: HeaderMap,
    is_compressed: bool,
    message: Bytes,
}

struct Server {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
}

// === impl Server ===

impl Server {
    /// Starts a server. `behaviour` gets the number of the call, from zero, and its message.
    async fn start(behaviour: impl Fn(usize, &Bytes) -> Status + Send + Sync + 'static) -> Self {
        Self::responding(ExportTraceServiceResponse::default(), behaviour).await
    }

    async fn responding(
        response: ExportTraceServiceResponse,
        behaviour: impl Fn(usize, &Bytes) -> Status + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&calls);
        let behaviour = Arc::new(behaviour);
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (recorded, behaviour, response) =
                    (Arc::clone(&recorded), Arc::clone(&behaviour), response.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (recorded, behaviour, response) =
                        (Arc::clone(&recorded), Arc::clone(&behaviour), response.clone());
                    async move {
                        let call = call(request).await;
                        let number = recorded.lock().unwrap().len();
                        let status = behaviour(number, &call.message);
                        recorded.lock().unwrap().push(call);
                        Ok::<_, Infallible>(respond(status, &response))
                    }
                });
                let connection = http2::Builder::new(TokioExecutor::new());
                tokio::spawn(async move { connection.serve_connection(TokioIo::new(tcp), service).await });
            }
        });
        Self { address, calls }
    }

    fn config(&self) -> ExporterConfig {
        config_of(&format!("http://{}", self.address))
    }

    fn span_names(&self) -> Vec<String> {
        let names = |call: &Call| {
            let request = ExportTraceServiceRequest::decode(call.message.clone()).unwrap();
            let spans = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            spans.flat_map(|scope| scope.spans).map(|span| span.name).collect::<Vec<_>>()
        };
        let mut names: Vec<String> = self.calls.lock().unwrap().iter().flat_map(names).collect();
        names.sort();
        names
    }
}

fn config_of(url: &str) -> ExporterConfig {
    ExporterConfig { protocol: Protocol::Grpc, encoding: Encoding::Protobuf, ..config_for(url) }
}

#[allow(clippy::disallowed_methods)] // the test itself sent the body
async fn call(request: Request<Incoming>) -> Call {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    assert_eq!(body[1..5], u32::try_from(body.len() - 5).unwrap().to_be_bytes());
    let is_compressed = body[0] == 1;
    let message = if is_compressed { gunzipped(&body[5..]).into() } else { body.slice(5..) };
    Call { path: head.uri.path().to_owned(), headers: head.headers, is_compressed, message }
}

fn respond(
    status: Status,
    response: &ExportTraceServiceResponse,
) -> Response<impl http_body::Body<Data = Bytes, Error = Infallible> + use<>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(status.code)));
    trailers.insert("grpc-message", HeaderValue::from_static(status.message));
    let message = response.encode_to_vec();
    let prefix = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = Bytes::from([&[0][..], &prefix, &message].concat());
    let frames = [Frame::data(body), Frame::trailers(trailers)].map(Ok);
    Response::builder()
        .header("content-type", "application/grpc")
        .body(StreamBody::new(stream::iter(frames)))
        .unwrap()
}

#[tokio::test]
async fn every_export_is_one_call_of_the_method_of_its_signal() {
    for compression in [Compression::None, Compression::Gzip] {
        let server = Server::start(|_, _| OK).await;
        let mut config = server.config();
        config.settings.compression = compression;
        config.settings.headers.insert("x-tenant", HeaderValue::from_static("a"));
        let rig = Rig::start(&config);
        rig.traces("a");
        rig.export(Signal::Logs, r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}"#, 1);
        rig.export(
            Signal::Metrics,
            r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m"}]}]}]}"#,
            1,
        );
        assert_eq!(drained(rig).await.count(Settled::Delivered), 3);
        let calls = server.calls.lock().unwrap();
        let mut paths: Vec<&str> = calls.iter().map(|call| call.path.as_str()).collect();
        paths.sort();
        assert_eq!(paths, [Signal::Logs, Signal::Metrics, Signal::Traces].map(crate::grpc::method));
        for Call { headers, is_compressed, .. } in &*calls {
            assert_eq!(headers["content-type"], "application/grpc");
            assert_eq!([&headers["te"], &headers["x-tenant"]], ["trailers", "a"]);
            assert_eq!(*is_compressed, compression == Compression::Gzip);
            assert_eq!(headers.get("grpc-encoding").is_some(), *is_compressed);
        }
    }
}

#[tokio::test]
async fn temporary_codes_are_retried_until_the_call_succeeds() {
    for code in [1, 2, 4, 8, 10, 11, 13, 14, 15] {
        let server =
            Server::start(move |number, _| if number == 0 { Status { code, message: "" } } else { OK }).await;
        let rig = Rig::start(&server.config());
        rig.traces("a");
        assert_eq!(drained(rig).await.count(Settled::Delivered), 1, "{code}");
        assert_eq!(server.span_names(), ["a", "a"]);
    }
}

#[tokio::test]
async fn a_batch_with_invalid_data_is_split_until_only_that_is_rejected() {
    for (code, message) in [(3, "bad%20span"), (8, "received message larger than max (9 vs. 8)")] {
        let is_bad = |message: &Bytes| message.windows(3).any(|name| name == b"bad");
        let server =
            Server::start(move |_, body| if is_bad(body) { Status { code, message } } else { OK }).await;
        let mut config = server.config();
        config.settings.delivery = DeliveryMode::Batch;
        let rig = Rig::start(&config);
        ["a", "bad", "c", "d"].into_iter().for_each(|name| rig.traces(name));
        let ended = drained(rig).await;
        assert_eq!((ended.count(Settled::Delivered), ended.count(Settled::Rejected)), (3, 1));
        let reason = &ended.rejects[0].1;
        let name = if code == 3 { "INVALID_ARGUMENT: bad span" } else { "RESOURCE_EXHAUSTED: received" };
        assert!(reason.starts_with(&format!("downstream returned {name}")), "{reason}");
    }
}

#[tokio::test]
async fn a_destination_at_fault_keeps_the_data_until_it_is_fixed() {
    for code in [5, 6, 7, 9, 12, 16] {
        let server =
            Server::start(move |number, _| if number < 3 { Status { code, message: "" } } else { OK }).await;
        let rig = Rig::start(&server.config());
        rig.traces("a");
        rig.traces("b");
        let ended = drained(rig).await;
        assert_eq!((ended.count(Settled::Delivered), ended.rejects.len()), (2, 0), "{code}");
        assert!(ended.attempts("blocked") >= 1, "{code}");
    }
}

#[tokio::test]
async fn a_partial_success_is_delivered_and_its_count_goes_to_the_metrics() {
    let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "no name".to_owned() };
    let response = ExportTraceServiceResponse { partial_success: Some(partial) };
    let server = Server::responding(response, |_, _| OK).await;
    let rig = Rig::start(&server.config());
    rig.traces("a");
    let ended = drained(rig).await;
    assert_eq!((ended.count(Settled::Delivered), ended.failed_spans()), (1, 1));
}

#[tokio::test]
async fn a_port_for_otlp_http_keeps_the_data() {
    let collector = Collector::start(|_, _| Answer::ok()).await;
    let mut rig = Rig::start(&config_of(&collector.url()));
    rig.traces("a");
    let failing = async {
        while Ended::new(&rig.seen, &rig.metrics).attempts("retryable")
            + Ended::new(&rig.seen, &rig.metrics).attempts("blocked")
            == 0
        {
            tokio::task::yield_now().await;
        }
    };
    in_time(failing).await;
    rig.stopped().await;
    assert!(rig.seen.rejects.lock().unwrap().is_empty());
    assert!(rig.seen.kept_bytes() > 0);
}

#[tokio::test]
async fn a_call_to_a_tls_port_blocks_the_destination_whatever_that_port_responds() {
    for port in [OddPort::TlsWith400, OddPort::TlsWithAlert, OddPort::TlsThatCloses] {
        let (address, listening) = port.open().await;
        let mut rig = Rig::start(&config_of(&format!("http://{address}")));
        rig.traces("a");
        rig.blocked().await;
        let attempts = |outcome| Ended::new(&rig.seen, &rig.metrics).attempts(outcome);
        assert_eq!(attempts("retryable"), 0, "{port:?}");
        rig.stopped().await;
        assert!(rig.seen.kept_bytes() > 0);
        listening.abort();
    }
}
