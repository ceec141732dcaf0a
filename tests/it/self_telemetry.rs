//! Self-tracing as its endpoint receives it: its content, excluded content, and that nothing waits for it.

use std::fs;

use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::harness::{
    Answer, Ask, Child, Collector, Ended, Gate, House, Recorded, Relay, Reply, Reserved, TRACE, names,
    request_of, span, spanrelay,
};

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const INTERNAL: i32 = 1;
const ERROR: i32 = 2;

/// Endpoint for self-tracing: a separate collector.
struct Sink(Collector);

/// Spans received until the end of the relay.
struct Own {
    requests: Vec<Recorded>,
    spans: Vec<Span>,
}

// === impl Sink ===

impl Sink {
    async fn open() -> Self {
        Self(Collector::start([]).await)
    }

    fn settings(&self, more: &str) -> String {
        format!("telemetry.traces.endpoint: {}/v1/traces\n{more}", self.0.url())
    }

    /// Returns everything received; the relay must have ended.
    fn close(self) -> Own {
        let requests = self.0.take_rest();
        self.0.finish();
        let spans = requests.iter().flat_map(spans_in).collect();
        Own { requests, spans }
    }
}

// === impl Own ===

impl Own {
    fn named(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    fn one(&self, name: &str) -> &Span {
        let found = self.named(name);
        assert_eq!(found.len(), 1, "{name}: {:#?}", self.spans);
        found[0]
    }

    /// Returns all requests as received.
    fn bytes(&self) -> Vec<u8> {
        self.requests.iter().flat_map(|request| request.body.clone()).collect()
    }
}

fn read(request: &Recorded) -> ExportTraceServiceRequest {
    assert_eq!(
        (request.path.as_str(), request.header("content-type")),
        ("/v1/traces", "application/x-protobuf")
    );
    ExportTraceServiceRequest::decode(request.body.clone()).unwrap()
}

fn spans_in(request: &Recorded) -> Vec<Span> {
    let scopes = read(request).resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

/// Formats attributes as `key=value`, sorted.
fn shown(attributes: &[KeyValue]) -> Vec<String> {
    let show = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => format!("{}={text}", attribute.key),
        Some(Value::IntValue(number)) => format!("{}={number}", attribute.key),
        other => panic!("{}: {other:?}", attribute.key),
    };
    let mut shown: Vec<String> = attributes.iter().map(show).collect();
    shown.sort();
    shown
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let prefix = format!("{key}=");
    shown(&span.attributes).iter().find_map(|shown| shown.strip_prefix(&prefix).map(str::to_owned))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the trace id of a request, from its `x-request-id`.
fn trace_of(reply: &Reply) -> String {
    reply.header("x-request-id").unwrap().replace('-', "")
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Writes the certificate and key of a server at `localhost`, and its authority's certificate.
fn install_certificates(directory: &TempDir) {
    let file = |name: &str| directory.path().join(name);
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    fs::write(file("ca.pem"), authority.pem()).unwrap();
    fs::write(file("cert.pem"), certificate.pem()).unwrap();
    fs::write(file("key.pem"), key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn a_request_is_a_trace_with_the_queue_and_every_export() {
    let sink = Sink::open().await;
    let house = House::open(&sink.settings("")).await;
    let body = request_of(&[span(1, "a"), "no line".to_owned(), span(2, "b")]);
    let size = body.len();
    let reply = house.ask(Ask::post("/fastly", body)).await;
    assert_eq!(reply.status, 200);
    let left: Vec<usize> = house.left(2).await.iter().map(|request| request.body.len()).collect();
    let downstream = house.collector.url();
    house.close().await;
    let own = sink.close();

    let request = own.one("POST /fastly");
    assert_eq!(
        hex(&request.trace_id),
        trace_of(&reply),
        "the trace is found by the id in logs and responses"
    );
    assert!(request.parent_span_id.is_empty() && request.links.is_empty());
    assert_eq!((request.kind, request.status.is_some()), (SERVER, false));
    assert_eq!(
        shown(&request.attributes),
        [
            format!("http.request.body.size={size}"),
            "http.request.method=POST".to_owned(),
            "http.response.status_code=200".to_owned(),
            "http.route=/fastly".to_owned(),
            "network.protocol.version=1.1".to_owned(),
            "spanrelay.lines.accepted=2".to_owned(),
            "spanrelay.lines.rejected=1".to_owned(),
            "spanrelay.receiver=fastly".to_owned(),
            "url.path=/fastly".to_owned(),
            "url.scheme=http".to_owned(),
        ]
    );
    let offer = own.one("queue offer");
    assert_eq!((offer.kind, offer.status.is_some()), (INTERNAL, false));
    let exports = own.named("export traces");
    let mut sizes = Vec::new();
    for export in &exports {
        assert_eq!((export.kind, export.status.is_some()), (CLIENT, false));
        assert_eq!(attribute(export, "http.request.method").as_deref(), Some("POST"));
        assert_eq!(attribute(export, "http.response.status_code").as_deref(), Some("200"));
        assert_eq!(attribute(export, "spanrelay.outcome").as_deref(), Some("sent"));
        let (host, port) = (attribute(export, "server.address"), attribute(export, "server.port"));
        assert_eq!(format!("http://{}:{}", host.unwrap(), port.unwrap()), downstream);
        assert_eq!(attribute(export, "http.request.resend_count"), None);
        sizes.push(attribute(export, "http.request.body.size").unwrap().parse::<usize>().unwrap());
    }
    sizes.sort_unstable();
    let mut left = left;
    left.sort_unstable();
    assert_eq!(sizes, left);
    for child in exports.iter().chain([&offer]) {
        assert_eq!((&child.trace_id, &child.parent_span_id), (&request.trace_id, &request.span_id));
    }
    for span in &own.spans {
        assert!(span.start_time_unix_nano > 0 && span.end_time_unix_nano >= span.start_time_unix_nano);
        assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
        assert_ne!(hex(&span.trace_id), TRACE, "not a trace id of the relayed data");
    }
    assert_eq!(own.spans.len(), 4, "no spans of the telemetry endpoint or of self-tracing");
}

#[tokio::test]
async fn the_resource_is_the_relay_regardless_of_the_environment() {
    let sink = Sink::open().await;
    let downstream = Collector::start([]).await;
    let url = downstream.url();
    let relay = Child::deployed(
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-vendor=vendor-token"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-vendor-traces=vendor-token"),
            ("OTEL_SERVICE_NAME", "from-the-environment"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=from-the-environment"),
            ("OTEL_TRACES_SAMPLER", "always_off"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ],
        &[
            "--set",
            &format!("telemetry.traces.endpoint={}/v1/traces", sink.0.url()),
            "--set",
            "telemetry.traces.headers={ x-own: own-token }",
            "--set",
            "processors.span_events.wait=0s",
        ],
    )
    .await;
    assert_eq!(relay.ask(Ask::post("/fastly", span(1, "a"))).await.status, 204);
    let relayed = downstream.take(1).await.remove(0);
    assert_eq!(relayed.header("x-vendor-traces"), "vendor-token");
    assert!(!relayed.headers.contains_key("x-own"));
    let first = sink.0.take(1).await.remove(0);
    drop(relay);
    downstream.finish();

    assert_eq!(first.header("x-own"), "own-token");
    assert!(first.header("user-agent").starts_with("spanrelay/"));
    let carries_token = |headers: &HeaderMap| headers.values().any(|value| value == "vendor-token");
    assert!(!carries_token(&first.headers), "{:?}", first.headers);
    let resource = read(&first).resource_spans.remove(0).resource.unwrap();
    let (instance, named): (Vec<String>, Vec<String>) =
        shown(&resource.attributes).into_iter().partition(|shown| shown.starts_with("service.instance.id="));
    assert_eq!(instance.len(), 1);
    assert_eq!(
        named,
        ["service.name=spanrelay".to_owned(), format!("service.version={}", env!("CARGO_PKG_VERSION"))]
    );
    sink.0.take_rest();
    sink.0.finish();
}

#[tokio::test]
async fn each_attempt_is_a_span_with_the_reason_of_its_failure() {
    let sink = Sink::open().await;
    let answers = [Answer::status(503), Answer::Close, Answer::json(200, "{}")];
    let house = House::with_answers(&sink.settings(""), answers).await;
    house.batch(span(1, "a")).await;
    house.left(3).await;
    house.close().await;
    let own = sink.close();

    let mut attempts = own.named("export traces");
    attempts.sort_by_key(|span| span.start_time_unix_nano);
    let told: Vec<[Option<String>; 4]> = attempts
        .iter()
        .map(|span| {
            let keys =
                ["http.request.resend_count", "http.response.status_code", "error.type", "spanrelay.outcome"];
            keys.map(|key| attribute(span, key))
        })
        .collect();
    let said = |values: [&str; 4]| values.map(|value| (!value.is_empty()).then(|| value.to_owned()));
    assert_eq!(
        told,
        [
            said(["", "503", "503", "retryable"]),
            said(["1", "", "no_answer", "retryable"]),
            said(["2", "200", "", "sent"]),
        ]
    );
    let failed: Vec<bool> =
        attempts.iter().map(|span| span.status.as_ref().is_some_and(|status| status.code == ERROR)).collect();
    assert_eq!(failed, [true, true, false]);
    assert!(attempts[0].status.as_ref().unwrap().message.contains("503"));
    assert!(attempts.iter().all(|span| span.trace_id == attempts[0].trace_id));
}

#[tokio::test]
async fn an_export_of_several_requests_is_linked_to_each_of_them() {
    let sink = Sink::open().await;
    let batches = "exporters.otlp_http.delivery: batch\nexporters.otlp_http.batch.max_events: 2\n\
                   exporters.otlp_http.batch.timeout: 1h";
    let house = House::open(&sink.settings(batches)).await;
    let mut requests = Vec::new();
    for name in ["a", "b"] {
        requests.push(trace_of(&house.ask(Ask::post("/fastly", span(1, name))).await));
    }
    assert_eq!(names(&house.left_one().await), ["a", "b"]);
    house.close().await;
    let own = sink.close();

    let export = own.one("export traces");
    assert!(export.parent_span_id.is_empty());
    let mut linked: Vec<String> = export.links.iter().map(|link| hex(&link.trace_id)).collect();
    linked.sort();
    assert!(!requests.contains(&hex(&export.trace_id)));
    let spans: Vec<&[u8]> = own.named("POST /fastly").iter().map(|span| span.span_id.as_slice()).collect();
    assert!(export.links.iter().all(|link| spans.contains(&link.span_id.as_slice())));
    requests.sort();
    assert_eq!(linked, requests);
}

#[tokio::test]
async fn the_clients_traceparent_becomes_a_link_and_nothing_else_of_the_client_is_exported() {
    let sink = Sink::open().await;
    let house = House::open(&sink.settings("")).await;
    let traceparent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let ask = Ask::post("/fastly?token=confided-query", "confided-body")
        .with("traceparent", &traceparent)
        .with("tracestate", "confided-state")
        .with("authorization", "confided-header")
        .with("user-agent", "confided-agent")
        .with("x-request-id", "confided-id");
    let joined = house.ask(ask).await;
    house.ask(Ask::post("/confided-path", "")).await;
    house.ask(Ask::get("/traceparent/confided-workflow/confided-job")).await;
    house.close().await;
    let own = sink.close();

    let request = own.one("POST /fastly");
    assert_eq!(hex(&request.trace_id), trace_of(&joined));
    let links: Vec<(String, String)> =
        request.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect();
    assert_eq!(links, [(TRACE.to_owned(), "b7ad6b7169203331".to_owned())]);
    assert_eq!(attribute(request, "http.response.status_code").as_deref(), Some("400"));
    assert!(request.status.is_none(), "client errors are not errors of the relay");
    let unknown = own.one("POST");
    assert_eq!(attribute(unknown, "url.path"), None);
    assert_eq!(attribute(unknown, "http.response.status_code").as_deref(), Some("404"));
    own.one("GET /traceparent/{workflow}/{job}");
    assert!(contains(&own.bytes(), b"spanrelay"));
    assert!(!contains(&own.bytes(), b"confided"), "{:#?}", own.spans);
}

#[tokio::test]
async fn the_span_of_a_request_refused_by_the_queue_has_failed() {
    let sink = Sink::open().await;
    let house = House::open(&sink.settings("queue.max_size: 1")).await;
    assert_eq!(house.ask(Ask::post("/fastly", span(1, "a"))).await.status, 413);
    house.close().await;
    let own = sink.close();
    let offer = own.one("queue offer");
    assert_eq!(offer.status.as_ref().map(|status| status.code), Some(ERROR));
    assert_eq!(attribute(offer, "error.type").as_deref(), Some("too_large"));
    assert_eq!(attribute(own.one("POST /fastly"), "spanrelay.lines.accepted"), None);
}

#[tokio::test]
async fn unsampled_requests_export_no_span() {
    let sink = Sink::open().await;
    let house = House::open(&sink.settings("telemetry.traces.sampling_ratio: 0")).await;
    house.batch(request_of(&[span(1, "a"), span(2, "b")])).await;
    house.left(2).await;
    assert_eq!(house.metric("spanrelay_own_spans_total", &[]).await, 0.0);
    house.close().await;
    assert!(sink.close().requests.is_empty());
}

#[tokio::test]
async fn an_unreachable_or_unresponsive_endpoint_costs_only_the_spans() {
    let reserved = Reserved::on_loopback();
    let dead = format!("http://{}/v1/traces", reserved.address);
    let gate = Gate::new();
    let hanging = Collector::judging({
        let gate = gate.clone();
        move |_| Answer::WaitAt(gate.clone())
    })
    .await;
    let silent = format!("{}/v1/traces", hanging.url());
    for endpoint in [dead, silent] {
        let downstream = Collector::start([]).await;
        let set = format!("telemetry.traces.endpoint={endpoint}");
        let mut relay = Child::start(&House::configuration(&downstream.url()), &["--set", &set]).await;
        for id in 1..=3 {
            assert_eq!(relay.ask(Ask::post("/fastly", span(id, "a"))).await.status, 204);
        }
        assert_eq!(downstream.take(3).await.len(), 3);
        relay.signal("TERM").await;
        assert_eq!(relay.ended().await, Some(0));
        assert!(relay.log().contains("\"drained\""), "{}", relay.log());
        let told = relay.log().matches("self-trace export failing").count()
            + relay.log().matches("self-trace flush timed out").count();
        assert!((1..=2).contains(&told), "{}", relay.log());
        downstream.finish();
    }
    gate.open();
    hanging.take_rest();
    hanging.finish();
}

#[tokio::test]
async fn self_tracing_is_never_exported_to_the_relay_itself() {
    // Nothing is bound: each of these is refused before.
    let port = Reserved::on_loopback().address.port();
    for (server, telemetry, endpoint) in [
        (format!("127.0.0.1:{port}"), "127.0.0.1:0".to_owned(), format!("http://localhost:{port}/v1/traces")),
        (format!("0.0.0.0:{port}"), "127.0.0.1:0".to_owned(), format!("https://[::1]:{port}/v1/traces")),
        ("127.0.0.1:0".to_owned(), format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}/v1/traces")),
    ] {
        let sets = [
            format!("server.endpoint={server}"),
            format!("telemetry.endpoint={telemetry}"),
            format!("telemetry.traces.endpoint={endpoint}"),
        ];
        for (command, code) in [("validate", 1), ("run", 64)] {
            let mut arguments = vec![command];
            sets.iter().for_each(|set| arguments.extend(["--set", set.as_str()]));
            let ended = Ended::of(&mut spanrelay(&arguments)).await;
            assert_eq!(ended.code, Some(code), "{ended:?}");
            let said = ended.out + &ended.err;
            assert!(said.contains("telemetry.traces.endpoint"), "{said}");
            assert!(said.contains("cannot be exported to the relay itself"), "{said}");
        }
    }
}

#[tokio::test]
async fn an_authority_and_a_token_of_self_tracing_change_without_a_restart_or_a_signal() {
    let (served, trusted) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    install_certificates(&served);
    // The relay trusts another authority at first, and has another token.
    install_certificates(&trusted);
    let (ca, token) = (trusted.path().join("ca.pem"), trusted.path().join("token"));
    fs::write(&token, "old").unwrap();

    let (sink, behind, downstream) =
        (Sink::open().await, Collector::start([]).await, Collector::start([]).await);
    let secure = format!(
        "server.tls: {{ cert_file: {at}/cert.pem, key_file: {at}/key.pem }}\nreceivers.otlp.auth: {{ values: [new] }}",
        at = served.path().display()
    );
    let other = Relay::start(&House::configuration(&behind.url()), &sink.settings(&secure)).await;
    let traces = format!(
        "telemetry.traces={{ endpoint: 'https://localhost:{}/v1/traces', headers: {{ authorization: '${{file:{}}}' }}, tls: {{ ca_file: {} }} }}",
        other.address.port(),
        token.display(),
        ca.display()
    );
    let mut relay = Child::start(&House::configuration(&downstream.url()), &["--set", &traces]).await;
    assert_eq!(relay.ask(Ask::post("/fastly", span(1, "a"))).await.status, 204);
    relay.logged("self-trace export failing; relaying is unaffected").await;

    fs::write(&token, "new").unwrap();
    fs::copy(served.path().join("ca.pem"), &ca).unwrap();
    relay.logged("self-tracing headers and certificates reloaded").await;
    assert!(!behind.take(1).await.is_empty(), "spans arrive");
    fs::write(&ca, "no certificate").unwrap();
    relay.logged("new certificates of self-tracing are invalid; keeping the current ones").await;

    downstream.take_rest();
    relay.signal("TERM").await;
    assert_eq!(relay.ended().await, Some(0));
    other.stopped().await;
    for collector in [behind, downstream] {
        collector.take_rest();
        collector.finish();
    }
    sink.close();
}

#[tokio::test]
async fn self_tracing_through_another_relay_over_tls_is_not_traced_there() {
    let directory = TempDir::new().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    install_certificates(&directory);

    let (sink, behind) = (Sink::open().await, Collector::start([]).await);
    let secure = format!(
        "server.tls: {{ cert_file: {}, key_file: {} }}\nreceivers.otlp.auth: {{ values: [own-token] }}",
        file("cert.pem"),
        file("key.pem")
    );
    let other = Relay::start(&House::configuration(&behind.url()), &sink.settings(&secure)).await;
    let own = format!(
        "telemetry.traces.endpoint: https://localhost:{}/v1/traces\n\
         telemetry.traces.headers: {{ authorization: own-token }}\n\
         telemetry.traces.tls.ca_file: {}",
        other.address.port(),
        file("ca.pem")
    );
    let house = House::open(&own).await;
    house.batch(span(1, "a")).await;
    house.left_one().await;
    house.close().await;
    // The first relay exported all of its spans before it ended.
    let told: Vec<String> = behind.take(1).await.iter().flat_map(names).collect();
    assert!(told.contains(&"POST /fastly".to_owned()), "{told:?}");
    other.stopped().await;
    behind.take_rest();
    behind.finish();
    assert!(sink.close().requests.is_empty(), "a request with self-tracing spans has no spans");
}

#[tokio::test]
async fn the_relay_exports_no_telemetry_of_its_own_work() {
    let house = House::open("").await;
    for id in 1..=5 {
        house.batch(span(id, "a")).await;
        house.ask(Ask::get("/none")).await;
    }
    for request in house.left(5).await {
        assert_eq!(names(&request), ["a"]);
        assert!(!request.headers.contains_key("traceparent"));
    }
    // Closing fails if there are further exports.
    house.close().await;
}
