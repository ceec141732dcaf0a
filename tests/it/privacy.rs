//! Attributes that are removed, hashed or truncated: the original value is nowhere.
//!
//! The real program gets a value of its own in each place that can hold an attribute, by each receiver, while the downstream is
//! away. Then everything that it wrote is searched for the values: the files of the queue, the rejected lines, the inspector's
//! data, the log, and at last what is exported after a restart.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::github::{event, run};
use super::harness::otlp::encoded;
use super::harness::{
    Ask, Child, Collector, Ended, Reserved, TRACE, eventually, logs_only, request_of, span_with, spanrelay,
};

const RULES: &str = "{ drop: [p.drop, client.address, url.path, vcs.ref.head.name], hash: [p.hash], truncate_ip: [p.ip], \
                     rename: { p.old: p.new } }";

/// Values that must be nowhere, each with the place that it was in.
#[derive(Default)]
pub(super) struct Planted {
    values: Vec<(String, String)>,
    kept: usize,
}

/// Everything that a relay wrote, by place.
pub(super) type Written = BTreeMap<String, Vec<u8>>;

// === impl Planted ===

impl Planted {
    /// Returns a value of its own for a place.
    pub(super) fn value(&mut self, place: &str) -> String {
        let value = format!(
            "planted-{}-{:08x}",
            self.values.len(),
            0x9e37_79b1_u32.wrapping_mul(self.values.len() as u32 + 1)
        );
        self.values.push((place.to_owned(), value.clone()));
        value
    }

    /// Returns an address of its own for a place.
    fn address(&mut self, place: &str) -> String {
        let number = self.values.len();
        let value = format!("10.{}.{}.{}", 100 + number / 100, 100 + number % 100, 100 + number % 99);
        self.values.push((place.to_owned(), value.clone()));
        value
    }

    /// Returns a list with an attribute for each rule, at each depth, and one that is kept.
    fn attributes(&mut self, place: &str) -> Value {
        let text = |key: &str, text: String| json!({ "key": key, "value": { "stringValue": text } });
        self.kept += 1;
        let inner = json!([text("p.drop", self.value(place)), text("p.hash", self.value(place))]);
        json!([
            text("p.drop", self.value(place)),
            text("kept", format!("kept-{}", self.kept)),
            text("p.hash", self.value(place)),
            text("p.ip", self.address(place)),
            text("p.ip.not", "10.0.0.1".to_owned()),
            text("p.old", "renamed".to_owned()),
            { "key": "map", "value": { "kvlistValue": { "values": inner.clone() } } },
            { "key": "list", "value": { "arrayValue": { "values": [{ "kvlistValue": { "values": inner } }] } } },
            { "key": "gone", "value": { "kvlistValue": { "values": [text("p.ip", self.value(place))] } } },
        ])
    }

    /// Returns a request of each signal with attributes in every place, with its path.
    pub(super) fn requests(&mut self, by: &str) -> [(&'static str, Value); 3] {
        let mut list = |place: &str| self.attributes(&format!("{by}: {place}"));
        let traces = json!({ "resourceSpans": [{
            "resource": { "attributes": list("resource of spans") },
            "scopeSpans": [{
                "scope": { "name": "s", "attributes": list("scope of spans") },
                "spans": [{
                    "traceId": TRACE, "spanId": "00000000000000a1", "name": "span", "attributes": list("span"),
                    "events": [{ "timeUnixNano": "1", "name": "e", "attributes": list("event") }],
                    "links": [{ "traceId": TRACE, "spanId": "00000000000000a2", "attributes": list("link") }],
                }],
            }],
        }] });
        let logs = json!({ "resourceLogs": [{
            "resource": { "attributes": list("resource of logs") },
            "scopeLogs": [{
                "scope": { "name": "s", "attributes": list("scope of logs") },
                "logRecords": [{
                    "timeUnixNano": "1", "body": { "kvlistValue": { "values": list("body") } }, "attributes": list("record"),
                }],
            }],
        }] });
        let exemplar = json!([{ "timeUnixNano": "1", "asInt": "1", "filteredAttributes": list("exemplar") }]);
        let metrics = json!({ "resourceMetrics": [{
            "resource": { "attributes": list("resource of metrics") },
            "scopeMetrics": [{
                "scope": { "name": "s", "attributes": list("scope of metrics") },
                "metrics": [
                    { "name": "gauge", "metadata": list("metadata"),
                      "gauge": { "dataPoints": [{ "asInt": "1", "attributes": list("point"), "exemplars": exemplar }] } },
                    { "name": "histogram",
                      "histogram": { "dataPoints": [{ "count": "1", "attributes": list("histogram's point") }] } },
                    { "name": "summary",
                      "summary": { "dataPoints": [{ "count": "1", "attributes": list("summary's point") }] } },
                ],
            }],
        }] });
        [("/v1/traces", traces), ("/v1/logs", logs), ("/v1/metrics", metrics)]
    }

    /// Returns bodies for the path of Fastly, accepted and rejected ones, with their status.
    pub(super) fn fastly(&mut self) -> Vec<(u16, String)> {
        let pair =
            |key: &str, value: &str| format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#);
        let mut bodies: Vec<(u16, String)> =
            self.requests("fastly").into_iter().map(|(_, request)| (204, request.to_string())).collect();
        let mut add = |status: u16, place: &str, body: &dyn Fn(&str) -> String| {
            let value = self.value(place);
            bodies.push((status, body(&value)));
        };
        let spans = |id: u64, attributes: &str| {
            span_with(TRACE, id, &format!("\"name\":\"n\",\"attributes\":[{attributes}]"))
        };
        add(204, "escaped key", &|value| spans(1, &pair(r"p\u002edrop", value)));
        add(204, "repeated key", &|value| {
            spans(2, &format!("{},{}", pair("p.drop", value), pair("p.drop", "x")))
        });
        add(204, "repaired line", &|value| spans(3, &format!("{},", pair("p.drop", value))));
        add(204, "pretty-printed", &|value| {
            let line: Value = serde_json::from_str(&spans(4, &pair("p.drop", value))).unwrap();
            format!("{line:#}")
        });
        add(204, "old names", &|value| {
            spans(5, &pair("p.drop", value)).replace("scopeSpans", "instrumentationLibrarySpans")
        });
        add(204, "unknown member", &|value| {
            spans(6, "").replacen('{', &format!("{{\"someday\":[{}],", pair("p.drop", value)), 1)
        });
        add(204, "log event of a span", &|value| {
            let ids = format!(r#""traceId":"{TRACE}","spanId":"0000000000000006""#);
            logs_only(&format!(
                r#"{{{ids},"body":{{"stringValue":"b"}},"attributes":[{}]}}"#,
                pair("p.drop", value)
            ))
        });
        add(400, "rejected span", &|value| spans(7, &pair("p.drop", value)).replace(TRACE, "00"));
        add(200, "rejected span and another", &|value| {
            let line = spans(8, &pair("p.drop", value)).replace(TRACE, "00");
            request_of(&[line, spans(9, &pair("kept", "k"))])
        });
        add(400, "attributes as an object", &|value| {
            spans(7, "").replace("\"attributes\":[]", &format!("\"attributes\":{{\"p.drop\":\"{value}\"}}"))
        });
        add(400, "JSON of another kind", &|value| format!(r#"{{"hello":[{{"p.drop":"{value}"}}]}}"#));
        add(400, "access log without the receiver's section", &|value| {
            format!(r#"{{"client_ip":"{value}","request_method":"GET"}}"#)
        });
        add(400, "NCSA", &|value| {
            format!(r#"{value} - - [28/Nov/2026:10:11:12 +0000] "GET / HTTP/1.1" 200 1"#)
        });
        add(400, "cut-off line", &|value| spans(10, &pair("other", value))[..140 + value.len()].to_owned());
        add(400, "plain text", &|value| format!("client {value} was here"));
        add(200, "plain text before a span", &|value| {
            request_of(&[format!("{value} was here"), spans(11, "")])
        });
        add(400, "control character", &|value| format!("\u{1}\"{value}"));
        bodies
    }

    /// Returns lines for a receiver that converts access logs.
    pub(super) fn access_logs(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for field in ["client_ip", "network.client.ip", "from", "client.address"] {
            lines.push(format!(
                r#"{{"timestamp":"2026-11-28T10:11:12Z","{field}":"{}","method":"GET"}}"#,
                self.value(field)
            ));
        }
        for field in ["url", "request_url", "http.url"] {
            lines.push(format!(
                r#"{{"timestamp":"2026-11-28T10:11:12Z","method":"GET","{field}":"/{}?q=1"}}"#,
                self.value(field)
            ));
        }
        for (opening, closing) in [
            (r#""client_ip":{"v4":""#, r#""}"#),
            (r#""hops":[{"client_ip":""#, r#""}]"#),
            (r#""p":{"drop":{"a":""#, r#""}}"#),
            (r#""p":[{"drop":""#, r#""}]"#),
        ] {
            lines.push(format!(
                r#"{{"timestamp":"2026-11-28T10:11:12Z","method":"GET",{opening}{}{closing}}}"#,
                self.value(opening)
            ));
        }
        let twice = format!(
            r#"{{"dt":"2026-11-28T10:11:12Z","method":"GET","url":"/{}","request_url":"/{}"}}"#,
            self.value("url"),
            self.value("other url")
        );
        lines.push(twice);
        let request =
            format!(r#"[28/Nov/2026:10:11:12 +0000] "GET /{} HTTP/1.1" 200 1"#, self.value("NCSA request"));
        lines.push(format!("{} - - {request}", self.value("NCSA client")));
        lines
    }

    /// Checks that no text holds a value, plain or in a form that the start of every value shows.
    pub(super) fn assert_nowhere(&self, written: &Written) {
        let mut searched: Vec<(&str, &[u8])> =
            self.values.iter().map(|(place, value)| (place.as_str(), value.as_bytes())).collect();
        let forms: [(&str, &[u8]); 5] = [
            ("escaped", br"\u0070lanted-"),
            ("in hexadecimal", b"706c616e7465642d"),
            ("in base64", b"cGxhbnRlZC"),
            ("in base64", b"wbGFudGVkL"),
            ("in base64", b"BsYW50ZWQt"),
        ];
        searched.extend(forms);
        for (place, value) in searched {
            for (name, bytes) in written {
                let Some(at) = memchr::memmem::find(bytes, value) else { continue };
                let around = &bytes[at.saturating_sub(200)..bytes.len().min(at + 200)];
                panic!("a value ({place}) is in {name}: {}", String::from_utf8_lossy(around));
            }
        }
    }
}

pub(super) fn configuration(endpoint: &str, keep_unparsed: bool) -> String {
    format!(
        "
        server: {{ endpoint: 127.0.0.1:0 }}
        receivers:
          fastly:
          fastly/logs: {{ path: /logs, access_logs: {{ as: both, map: {{ client.address: from }} }} }}
          circleci: {{ secrets: [fixture-secret], cancel_settle: 0s }}
          github: {{ secrets: [fixture-secret] }}
          otlp:
        processors:
          span_events: {{ wait: 0s }}
          attributes: {RULES}
        queue: {{ storage: disk, keep_unparsed: {keep_unparsed} }}
        exporters:
          otlp_http:
            endpoint: {endpoint}
            retry_on_failure: {{ initial_interval: 1ms, max_interval: 5ms }}
        telemetry: {{ endpoint: 127.0.0.1:0, inspect: {{ show_values: true }}, logs: {{ level: trace }} }}
        "
    )
}

fn files(directory: &Path, into: &mut Written) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, into),
            false => match fs::read(&path) {
                Ok(bytes) => drop(into.insert(path.display().to_string(), bytes)),
                // The queue has renamed or removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return files(directory, into),
                Err(error) => panic!("{}: {error}", path.display()),
            },
        }
    }
}

async fn inspected(relay: &Child) -> Vec<u8> {
    let reply = Ask::get("/inspect/data?since=0").with("host", "localhost").to(relay.telemetry).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.body.to_vec()
}

pub(super) async fn written(relay: &Child, directory: &Path) -> Written {
    let mut written = Written::new();
    files(directory, &mut written);
    written.insert("the log".to_owned(), relay.log().into_bytes());
    written.insert("the inspector".to_owned(), inspected(relay).await);
    written
}

pub(super) fn workflow(branch: &str, id: &str, kind: &str) -> String {
    json!({
        "type": kind, "id": id, "happened_at": "2026-03-02T09:07:00Z",
        "workflow": {
            "id": "655d7c3b-42b3-4eea-b204-3d05fee47e5b", "name": "w", "status": "success",
            "created_at": "2026-03-02T09:00:00Z", "stopped_at": "2026-03-02T09:06:00Z",
        },
        "pipeline": { "id": "1958717a-e2af-4917-8911-3329f87817c2", "number": 5, "vcs": { "branch": branch, "provider_name": "github" } },
    })
    .to_string()
}

#[tokio::test]
async fn a_value_with_a_rule_is_stored_shown_logged_and_exported_nowhere() {
    let directory = TempDir::new().unwrap();
    let queue = format!("queue.directory={}", directory.path().display());
    let arguments = ["--set", &queue];
    let away = Reserved::on_loopback();
    let relay = Child::start(&configuration(&format!("http://{}", away.address), false), &arguments).await;
    inspected(&relay).await;
    let mut planted = Planted::default();
    let mut searched = Vec::new();

    for (status, body) in planted.fastly() {
        // A short body is not compressed in the queue.
        assert!(body.len() < 8000, "{}", body.len());
        let reply = relay.ask(Ask::post("/fastly", body.clone())).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
        searched.push(inspected(&relay).await);
    }
    for body in planted.access_logs() {
        let reply = relay.ask(Ask::post("/logs", body.clone())).await;
        assert_eq!(reply.status, 204, "{body}: {}", reply.text());
        searched.push(inspected(&relay).await);
    }
    for (path, request) in planted.requests("otlp") {
        let json = Ask::post(path, request.to_string()).with("content-type", "application/json");
        assert_eq!(relay.ask(json).await.status, 200);
        let protobuf =
            Ask::post(path, encoded(path, &request)).with("content-type", "application/x-protobuf");
        assert_eq!(relay.ask(protobuf).await.status, 200);
        let elsewhere = if path == "/v1/logs" { "/v1/traces" } else { "/v1/logs" };
        let foreign = Ask::post(elsewhere, request.to_string()).with("content-type", "application/json");
        assert_eq!(relay.ask(foreign).await.status, 200, "with a warning");
        let damaged = encoded(path, &request)[1..].to_vec();
        let damaged = Ask::post(path, damaged).with("content-type", "application/x-protobuf");
        assert!(matches!(relay.ask(damaged).await.status, 200 | 400));
        searched.push(inspected(&relay).await);
    }
    let branch = planted.value("branch of a workflow");
    assert_eq!(relay.ask(Ask::webhook(&workflow(&branch, "1", "workflow-completed"))).await.status, 204);
    assert_eq!(
        relay.ask(Ask::webhook(&workflow(&branch, "1", "workflow-completed"))).await.status,
        204,
        "a duplicate"
    );
    assert_eq!(relay.ask(Ask::webhook(&workflow(&branch, "2", "someday-completed"))).await.status, 202);
    assert_eq!(relay.ask(Ask::webhook(&workflow(&branch, "3", "ping")[1..])).await.status, 400);
    let mut of_run: Value = serde_json::from_str(&run(7)).unwrap();
    of_run["workflow_run"]["head_branch"] = planted.value("branch of a run").into();
    assert_eq!(relay.ask(event("workflow_run", "d", &of_run.to_string())).await.status, 204);
    assert_eq!(relay.ask(event("someday", "e", &of_run.to_string())).await.status, 202);
    searched.push(inspected(&relay).await);

    let mut all = written(&relay, directory.path()).await;
    all.extend(
        searched.into_iter().enumerate().map(|(step, data)| (format!("the inspector, step {step}"), data)),
    );
    planted.assert_nowhere(&all);
    let queued: Vec<u8> =
        all.iter().filter(|(name, _)| name.contains('/')).flat_map(|(_, bytes)| bytes.clone()).collect();
    for kept in 1..=planted.kept {
        let kept = format!("kept-{kept}\"");
        assert!(memchr::memmem::find(&queued, kept.as_bytes()).is_some(), "{kept} is not in the queue");
    }
    relay.kill().await;

    // Everything is exported without the values, and a redelivery is recognized.
    let collector = Collector::start([]).await;
    let relay = Child::start(&configuration(&collector.url(), false), &arguments).await;
    eventually("all is exported", async || {
        let metrics = relay.metrics().await;
        (metrics.sum("otelcol_exporter_queue_size", &[]) == 0.0).then_some(())
    })
    .await;
    let redelivery = relay.ask(Ask::webhook(&workflow(&branch, "1", "workflow-completed"))).await;
    assert_eq!(redelivery.status, 204);
    let duplicates = [("event", "workflow-completed"), ("outcome", "duplicate")];
    assert_eq!(relay.metrics().await.sum("spanrelay_webhooks_total", &duplicates), 1.0);
    let exported = collector.take_rest();
    let mut texts = Written::new();
    texts.insert(
        "the exports".to_owned(),
        exported.iter().flat_map(|request| request.body.to_vec()).collect(),
    );
    planted.assert_nowhere(&texts);
    let text = String::from_utf8_lossy(&texts["the exports"]).into_owned();
    for kept in 1..=planted.kept {
        assert!(text.contains(&format!("kept-{kept}\"")), "kept-{kept} is not exported");
    }
    assert!(text.contains("p.new") && !text.contains("\"p.old\""));
    planted.assert_nowhere(&written(&relay, directory.path()).await);
    relay.kill().await;
    collector.finish();
}

#[tokio::test]
async fn input_that_cannot_be_parsed_is_kept_only_if_configured() {
    let directory = TempDir::new().unwrap();
    let queue = format!("queue.directory={}", directory.path().display());
    let away = Reserved::on_loopback();
    let text = "plain text of 198.51.100.7";
    let mut entries = Vec::new();
    for keep_unparsed in [true, false] {
        let configuration = configuration(&format!("http://{}", away.address), keep_unparsed);
        let relay = Child::start(&configuration, &["--set", &queue]).await;
        assert_eq!(relay.ask(Ask::post("/fastly", text)).await.status, 400);
        let file = fs::read_to_string(directory.path().join("rejected.ndjson")).unwrap();
        entries.push(serde_json::from_str::<Value>(file.lines().last().unwrap()).unwrap());
        relay.kill().await;
    }
    let [kept, withheld] = &entries[..] else { panic!() };
    assert_eq!((&kept["input"], &kept["length"]), (&text.into(), &Value::Null));
    assert_eq!((&withheld["input"], &withheld["length"]), (&Value::Null, &text.len().into()));
    for member in ["receiver", "line", "column", "reason"] {
        assert_eq!(kept[member], withheld[member]);
    }
    // An entry without bytes cannot be sent, and the report says so.
    let file = directory.path().join("withheld.ndjson");
    fs::write(&file, withheld.to_string()).unwrap();
    let ended = Ended::of(&mut spanrelay(&["replay", file.to_str().unwrap()])).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.out.contains("it holds no bytes"), "{}", ended.out);
}

#[tokio::test]
async fn rules_apply_after_a_reload_and_to_what_was_queued_before() {
    let directory = TempDir::new().unwrap();
    let queue = format!("queue.directory={}", directory.path().display());
    let arguments = ["--set", &queue];
    let line = |id: u64, value: &str| {
        let attribute = format!(r#"{{"key":"p.drop","value":{{"stringValue":"{value}"}}}}"#);
        span_with(TRACE, id, &format!("\"name\":\"n\",\"attributes\":[{attribute}]"))
    };
    let away = Reserved::on_loopback();
    let with_rules = |endpoint: &str| configuration(endpoint, false);
    let without_rules = |endpoint: &str| {
        with_rules(endpoint).replace(RULES, "{}").replace("keep_unparsed: false", "keep_unparsed: true")
    };
    let endpoint = format!("http://{}", away.address);
    let relay = Child::start(&without_rules(&endpoint), &arguments).await;
    assert_eq!(relay.ask(Ask::post("/fastly", line(1, "queued-before"))).await.status, 204);
    relay.configure(&with_rules(&endpoint));
    relay.signal("HUP").await;
    let reloaded = relay.logged("configuration reloaded").await;
    assert_eq!(reloaded["attributes.changed"], true);
    assert_eq!(relay.ask(Ask::post("/fastly", line(2, "after-the-reload"))).await.status, 204);
    let access_log = r#"{"timestamp":"2026-11-28T10:11:12Z","method":"GET","url":"/after-the-reload"}"#;
    assert_eq!(relay.ask(Ask::post("/logs", access_log)).await.status, 204);
    let mut stored = Written::new();
    files(directory.path(), &mut stored);
    let holds =
        |value: &str| stored.values().any(|bytes| memchr::memmem::find(bytes, value.as_bytes()).is_some());
    assert!(holds("queued-before") && !holds("after-the-reload"));
    relay.kill().await;

    let collector = Collector::start([]).await;
    let relay = Child::start(&with_rules(&collector.url()), &arguments).await;
    let exported = collector.take(4).await;
    for request in &exported {
        let text = request.text();
        assert!(!text.contains("queued-before") && !text.contains("after-the-reload"), "{text}");
    }
    relay.kill().await;
    collector.finish();
}

#[tokio::test]
async fn protobuf_for_a_downstream_of_protobuf_is_scrubbed_on_arrival_and_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let queue = format!("queue.directory={}", directory.path().display());
    let arguments = ["--set", &queue, "--set", "exporters.otlp_http.encoding=protobuf"];
    let path = "/v1/traces";
    let request = |planted: &str, kept: &str| {
        let pair = |key: &str, text: &str| json!({ "key": key, "value": { "stringValue": text } });
        let span = json!({
            "traceId": TRACE, "spanId": "00000000000000a1", "name": "n",
            "attributes": [pair("p.drop", planted), pair("kept", kept)],
        });
        let request = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [span] }] }] });
        Ask::post(path, encoded(path, &request)).with("content-type", "application/x-protobuf")
    };
    let away = Reserved::on_loopback();
    let endpoint = format!("http://{}", away.address);
    let with_rules = |endpoint: &str| configuration(endpoint, true);
    let without_rules = with_rules(&endpoint).replace(RULES, "{}");
    let relay = Child::start(&without_rules, &arguments).await;
    assert_eq!(relay.ask(request("planted-before", "kept-before")).await.status, 200);
    relay.configure(&with_rules(&endpoint));
    relay.signal("HUP").await;
    relay.logged("configuration reloaded").await;
    assert_eq!(relay.ask(request("planted-after", "kept-after")).await.status, 200);
    let stored = written(&relay, directory.path()).await;
    let is_stored =
        |value: &str| stored.values().any(|bytes| memchr::memmem::find(bytes, value.as_bytes()).is_some());
    assert!(is_stored("planted-before") && is_stored("kept-after") && !is_stored("planted-after"));
    relay.kill().await;

    let collector = Collector::start([]).await;
    let relay = Child::start(&with_rules(&collector.url()), &arguments).await;
    let exported: Vec<Vec<u8>> =
        collector.take(2).await.into_iter().map(|request| request.body.to_vec()).collect();
    let exports = |value: &str| {
        exported.iter().filter(|body| memchr::memmem::find(body, value.as_bytes()).is_some()).count()
    };
    assert_eq!(["kept-before", "kept-after"].map(exports), [1, 1]);
    assert_eq!(["planted-before", "planted-after"].map(exports), [0, 0]);
    relay.kill().await;
    collector.finish();
}
