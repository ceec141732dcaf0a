//! The VCL of `config/fastly`, linted and executed by falco; its lines are sent through a relay.
//!
//! Limits of falco 1.0.0: `fastly.ff.visits_this_service` is always 0, and its `json.escape`, unlike Fastly's, does not
//! escape quotes, so these tests send none.

use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Program, items, program, spans};
use crate::harness::{Ask, Ended, House, in_time};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Outcome of a request to the simulated service.
struct Simulated {
    /// Request headers at the origin.
    traceparent: String,
    internal_headers: Vec<String>,
    /// Lines that the VCL logged, as the endpoint receives them.
    lines: Vec<String>,
}

/// Completes the VCL with a backend.
fn main_vcl(origin: &str) -> String {
    let (host, port) = origin.split_once(':').unwrap();
    format!(
        "backend F_origin {{\n  .host = \"{host}\";\n  .port = \"{port}\";\n  .ssl = false;\n}}\ninclude \"spanrelay\";\n"
    )
}

fn include() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/fastly"))
}

async fn simulate(ask: Ask, origin_says: u16) -> Simulated {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let main = main_vcl(&listener.local_addr().unwrap().to_string());
    let origin = tokio::spawn(origin(listener, origin_says));
    let falco = Program::falco(&main, include()).await;
    let report = ask.to(falco.address).await.json();
    assert_eq!(report["error"], Value::Null, "{report}");
    let head = in_time("the origin is asked", origin).await.unwrap();
    let fields: Vec<(String, &str)> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value))
        .collect();
    let traceparent = fields.iter().find(|(name, _)| name == "traceparent").unwrap().1.to_owned();
    let names = fields.iter().map(|(name, _)| name.clone());
    let internal_headers = names.filter(|name| name.starts_with("x-otel")).collect();
    let lines = report["logs"].as_array().unwrap().iter().map(|log| {
        let (before, line) = log["message"].as_str().unwrap().split_once(" :: ").unwrap();
        assert!(before.starts_with("syslog ") && before.ends_with(" spanrelay"), "{before}");
        line.to_owned()
    });
    Simulated { traceparent, internal_headers, lines: lines.collect() }
}

/// Responds to one request; returns its headers.
async fn origin(listener: TcpListener, status: u16) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let answer = format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
    // Closing a connection whose body is not read would reset it.
    stream.shutdown().await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    String::from_utf8(head).unwrap()
}

fn attribute<'json>(item: &'json Value, key: &str) -> Option<&'json Value> {
    let attributes = item["attributes"].as_array().unwrap();
    attributes.iter().find(|attribute| attribute["key"] == key).map(|attribute| &attribute["value"])
}

fn nanoseconds(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
#[ignore = "needs falco: .ci/steps.d/50-stack"]
async fn the_vcl_passes_the_linter() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("main.vcl");
    std::fs::write(&file, main_vcl("127.0.0.1:1")).unwrap();
    let mut lint = tokio::process::Command::new(program::path("falco"));
    lint.arg("lint").arg("-v").arg("-I").arg(include()).arg(&file);
    let ended = Ended::of(&mut lint).await;
    let said = ended.out + &ended.err;
    assert_eq!(ended.code, Some(0), "{said}");
    // The added backend is unused, because Fastly's boilerplate is not expanded here.
    assert!(said.contains("0 errors") && said.contains("1 warnings"), "{said}");
    assert!(said.contains("Unused backend \"F_origin\""), "{said}");
}

#[tokio::test]
#[ignore = "needs falco: .ci/steps.d/50-stack"]
async fn the_lines_of_the_vcl_are_exported_as_a_span_with_its_event() {
    let caller = format!("00-{TRACE}-{CALLER}-01");
    let ask = Ask::get("/cart/items?page=2&q=%22x%22").with("traceparent", &caller);
    let ask = ask.with("x-otel-trace", "evil").with("x-otel-parent", "evil");
    let simulated = simulate(ask.with("user-agent", "a\tb \u{e9}"), 503).await;
    let [log, span] = &simulated.lines[..] else { panic!("{:#?}", simulated.lines) };
    assert!(log.starts_with("{\"resourceLogs\":") && span.starts_with("{\"resourceSpans\":"));
    assert_eq!(simulated.internal_headers, [""; 0]);

    let house = House::open("").await;
    house.batch(simulated.lines.join("\n")).await;
    assert_eq!(
        house.metric("spanrelay_lines_total", &[("outcome", "accepted")]).await,
        2.0,
        "none was repaired"
    );
    let left = house.left_one().await.json();
    let span = spans(&left)[0];
    assert_eq!(span["traceId"], TRACE);
    assert_eq!(span["parentSpanId"], CALLER);
    // The origin continues from this span.
    assert_eq!(simulated.traceparent, format!("00-{TRACE}-{}-01", span["spanId"].as_str().unwrap()));
    assert_eq!(
        (&span["name"], &span["kind"], &span["status"]["code"]),
        (&"GET".into(), &2.into(), &2.into())
    );
    assert!(nanoseconds(&span["startTimeUnixNano"]) < nanoseconds(&span["endTimeUnixNano"]));
    let text = |key| attribute(span, key).unwrap()["stringValue"].as_str().unwrap();
    assert_eq!(text("url.path"), "/cart/items");
    assert_eq!(text("url.query"), "page=2&q=%22x%22");
    assert_eq!(text("user_agent.original"), "a\tb \u{e9}");
    assert_eq!(text("http.target"), "/cart/items?page=2&q=%22x%22");
    assert_eq!(text("error.type"), "503");
    assert_eq!(attribute(span, "http.response.status_code").unwrap()["intValue"], "503");
    let event = &span["events"][0];
    assert_eq!(event["name"], "fetch.error");
    assert_eq!(attribute(event, "fastly.backend").unwrap()["stringValue"], "F_origin");
    assert!(nanoseconds(&span["startTimeUnixNano"]) < nanoseconds(&event["timeUnixNano"]));
    house.close().await;
}

#[tokio::test]
#[ignore = "needs falco: .ci/steps.d/50-stack"]
async fn edge_and_shield_are_parent_and_child() {
    let edge = simulate(Ask::get("/"), 200).await;
    let shield = simulate(Ask::get("/").with("traceparent", &edge.traceparent), 200).await;
    let span = |simulated: &Simulated| -> Value {
        let line: Value = serde_json::from_str(&simulated.lines[1]).unwrap();
        spans(&line)[0].clone()
    };
    let (edge, shield) = (span(&edge), span(&shield));
    assert_eq!(edge.get("parentSpanId"), None);
    assert_eq!(shield["parentSpanId"], edge["spanId"]);
    assert_eq!(shield["traceId"], edge["traceId"]);
    assert_ne!(shield["spanId"], edge["spanId"]);
}

#[tokio::test]
#[ignore = "needs falco: .ci/steps.d/50-stack"]
async fn an_invalid_traceparent_starts_a_new_trace() {
    let zeros = format!("00-{}-{CALLER}-01", "0".repeat(32));
    let no_span = format!("00-{TRACE}-{}-01", "0".repeat(16));
    let upper = format!("00-{}-{CALLER}-01", TRACE.to_uppercase());
    for traceparent in [zeros.as_str(), &no_span, &upper, "00-1-2-01", "\"}{"] {
        let simulated = simulate(Ask::get("/").with("traceparent", traceparent), 200).await;
        let line: Value = serde_json::from_str(&simulated.lines[1]).unwrap();
        let span = spans(&line)[0];
        assert_eq!(span.get("parentSpanId"), None, "{traceparent}");
        assert_ne!(span["traceId"], TRACE, "{traceparent}");
        assert_eq!(span["traceId"].as_str().unwrap().len(), 32);
        assert_eq!(span["spanId"].as_str().unwrap().len(), 16);
    }
}

#[tokio::test]
#[ignore = "needs falco: .ci/steps.d/50-stack"]
async fn a_passed_request_is_traced_as_well() {
    let simulated = simulate(Ask::post("/form", "x=1"), 200).await;
    assert_eq!(simulated.internal_headers, [""; 0]);
    let log: Value = serde_json::from_str(&simulated.lines[0]).unwrap();
    let record = items(&log, ["resourceLogs", "scopeLogs", "logRecords"])[0];
    assert_eq!((&record["eventName"], &record["severityNumber"]), (&"fetch".into(), &9.into()));
    let line: Value = serde_json::from_str(&simulated.lines[1]).unwrap();
    assert_eq!(spans(&line)[0]["name"], "POST");
    assert_eq!(spans(&line)[0]["spanId"], record["spanId"]);
}
