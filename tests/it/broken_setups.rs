//! Misconfigured clients and downstreams. In each case `spanrelay check`, one log line and the inspector name the cause,
//! so that an operator finds it without reading the source.

use serde_json::Value;

use crate::harness::{Answer, Ask, Child, Collector, Ended, House, TRACE, eventually, span_with, spanrelay};

/// A misconfigured client and the expected diagnosis.
struct Setup {
    what: &'static str,
    /// Path and header of the logging endpoint.
    path: &'static str,
    token: &'static str,
    /// Body of the request.
    body: String,
    /// Output of `check`; `None` if the body is valid.
    check: &'static [&'static str],
    /// Parts of one log line.
    log: &'static [&'static str],
    /// Text in the inspector's last request.
    inspector: &'static [&'static str],
}

const TOKEN: &str = "letmein";

fn line(attribute: &str) -> String {
    span_with(TRACE, 1, &format!("\"name\":\"GET /\",\"attributes\":[{attribute}]"))
}

fn attribute(value: &str) -> String {
    line(&format!("{{\"key\":\"user_agent.original\",\"value\":{{\"stringValue\":{value}}}}}"))
}

fn setups() -> Vec<Setup> {
    let good = attribute("\"curl\"");
    let setup = |what, body: String, named: &'static [&'static str]| Setup {
        what,
        path: "/fastly",
        token: TOKEN,
        body,
        check: named,
        log: named,
        inspector: named,
    };
    vec![
        setup(
            "a quote in a header that was not escaped, where two readings are possible",
            attribute("\"\"a\",\"b\":\"c\"\""),
            &["expected ", "json.escape"],
        ),
        setup(
            "a message_type of classic, in a form that is no syslog",
            format!("2026-11-23T10:00:00Z cache-fra19 otlp[62959]: {good}"),
            &["not a JSON object", "message_type to blank"],
        ),
        setup("a line that was cut off", good[..good.len() - 25].to_owned(), &["ends too early", "truncated"]),
        setup(
            "a trace id out of a header that is not set",
            good.replace(TRACE, "(null)"),
            &["traceId is not 32 hexadecimal digits", "randomstr(32"],
        ),
        setup(
            "Fastly's default format in JSON",
            r#"{"timestamp":"2026-11-28T10:11:12+0000","client_ip":"192.0.2.7","request_method":"GET","url":"/"}"#
                .to_owned(),
            &["neither resourceSpans", "this is an access log", "preset fastly"],
        ),
        setup(
            "Fastly's default format in text",
            r#"192.0.2.7 "-" "-" [23/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 42"#.to_owned(),
            &["not a JSON object", "this is an access log", "preset ncsa"],
        ),
        setup(
            "another logger on the same endpoint",
            "restart after vcl error in vcl_fetch".to_owned(),
            &["not a JSON object", "some other log statement"],
        ),
        setup(
            "a number out of a variable without a value",
            line("{\"key\":\"n\",\"value\":{\"intValue\":}}"),
            &["expected a value", "give it one"],
        ),
        Setup {
            token: "wrong",
            check: &["accepted"],
            log: &["unauthorized", "the token is wrong", "receivers.fastly.auth"],
            inspector: &["unauthorized", "the token is wrong", "receivers.fastly.auth"],
            ..setup("a token that was changed on one side only", good.clone(), &[])
        },
        Setup {
            path: "/fastly/logs",
            check: &["accepted"],
            log: &["no receiver has this path", "set the path in the URL"],
            inspector: &["POST /fastly/logs: no receiver has this path", "set the path in the URL"],
            ..setup("a path that no receiver has", good.clone(), &[])
        },
        Setup {
            check: &["accepted"],
            log: &[
                "request rejected",
                "the body is larger than 2097152 bytes",
                "server.max_request_body_size",
            ],
            inspector: &["the body is larger than 2097152 bytes", "raise server.max_request_body_size"],
            ..setup("more at once than the relay takes", vec![good; 10_000].join("\n"), &[])
        },
    ]
}

fn configuration() -> String {
    House::configuration("http://127.0.0.1:9").replace(
        "fastly:\n",
        &format!("fastly: {{ auth: {{ header: authorization, values: [{TOKEN}] }} }}\n"),
    )
}

/// A downstream that rejects exports, and the expected diagnosis.
struct Behind {
    what: &'static str,
    /// Response; `None` if nothing listens.
    status: Option<u16>,
    log: &'static [&'static str],
    /// Text in the inspector's attempts of the export.
    inspector: &'static [&'static str],
}

const BEHIND: [Behind; 3] = [
    Behind {
        what: "no Collector at the endpoint",
        status: None,
        log: &[
            "export failed, retrying",
            "connection refused by 127.0.0.1:9",
            "is a Collector listening there?",
        ],
        inspector: &["retrying", "connection refused by 127.0.0.1:9", "is a Collector listening there?"],
    },
    Behind {
        what: "a downstream that wants credentials and gets none",
        status: Some(401),
        log: &[
            "export blocked by downstream response",
            "401",
            "authentication required",
            "set exporters.otlp_http.headers",
        ],
        inspector: &["retrying", "downstream returned 401", "set exporters.otlp_http.headers"],
    },
    Behind {
        what: "an endpoint that already has the path of the signal",
        status: Some(404),
        log: &[
            "export blocked by downstream response",
            "404",
            "the path /v1/traces was not found",
            "check exporters.otlp_http.endpoint",
        ],
        inspector: &["retrying", "downstream returned 404", "check exporters.otlp_http.endpoint"],
    },
];

#[test]
fn there_are_fourteen_cases() {
    assert_eq!(setups().len() + BEHIND.len(), 14);
}

#[tokio::test]
async fn the_log_and_the_inspector_name_the_cause_for_each_downstream() {
    for Behind { what, status, log, inspector } in BEHIND {
        let collector = match status {
            Some(status) => Some(Collector::judging(move |_| Answer::status(status)).await),
            None => None,
        };
        let endpoint = collector.as_ref().map_or("http://127.0.0.1:9".to_owned(), Collector::url);
        let relay = Child::start(&House::configuration(&endpoint), &[]).await;
        let data = async || {
            let ask = Ask::get("/inspect/data?since=0").with("host", "localhost");
            ask.to(relay.telemetry).await.json()
        };
        data().await;
        let reply = relay.ask(Ask::post("/fastly", attribute("\"curl\""))).await;
        assert_eq!(reply.status, 204, "{what}: the response does not depend on the downstream");
        eventually(&format!("the inspector names the cause of {what}"), async || {
            let exports = data().await["exports"].to_string();
            inspector.iter().all(|named| exports.contains(named)).then_some(())
        })
        .await;
        eventually(&format!("the log names the cause of {what}"), async || {
            relay.log().lines().any(|line| log.iter().all(|named| line.contains(named))).then_some(())
        })
        .await;
        relay.kill().await;
        if let Some(collector) = collector {
            collector.take(1).await;
            // It stays in the queue, and is sent again and again.
            collector.take_rest();
            collector.finish();
        }
    }
}

#[tokio::test]
async fn check_names_the_cause_for_each_invalid_body() {
    for Setup { what, body, check, .. } in setups() {
        let ended = Ended::with_input(&mut spanrelay(&["check", "--from", "fastly"]), body.as_bytes()).await;
        for named in check {
            assert!(ended.out.contains(named), "{what}: {named}\n{}", ended.out);
        }
    }
}

#[tokio::test]
async fn the_log_and_the_inspector_name_the_cause_for_each_client() {
    let relay = Child::start(&configuration(), &["--set", "server.max_request_body_size=2MiB"]).await;
    let data = async |since: u64| {
        let ask = Ask::get(&format!("/inspect/data?since={since}")).with("host", "localhost");
        ask.to(relay.telemetry).await.json()
    };
    let mut cursor = data(0).await["cursor"].as_u64().unwrap();
    for Setup { what, path, token, body, log, inspector, .. } in setups() {
        let reply = Ask::post(path, body).with("authorization", token).to(relay.address).await;
        // 200 is a report: text before an object costs only itself.
        assert!(reply.status == 200 || reply.status >= 400, "{what}: {}", reply.status);

        let told: Value = data(cursor).await;
        cursor = told["cursor"].as_u64().unwrap();
        let [request] = told["requests"].as_array().unwrap().as_slice() else { panic!("{what}: {told:#}") };
        let shown = request.to_string();
        for named in inspector {
            assert!(shown.contains(named), "{what}: {named}\n{request:#}");
        }
        eventually(&format!("the log names the cause of {what}"), async || {
            relay.log().lines().any(|line| log.iter().all(|named| line.contains(named))).then_some(())
        })
        .await;
    }
}
