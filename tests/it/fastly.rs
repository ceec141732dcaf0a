//! Batches of lines as Fastly sends them, and the result of each line.

use serde_json::{Value, json};

use super::harness::{Ask, House, TRACE, log, names, request_of, span, span_with, text::compact};

// --- forms of a body ---

#[tokio::test]
async fn a_batch_is_accepted_in_every_form_that_fastly_and_its_users_write() {
    let house = House::open("").await;
    let (a, b) = (span(1, "a"), span(2, "b"));
    let pretty =
        |line: &str| serde_json::to_string_pretty(&serde_json::from_str::<Value>(line).unwrap()).unwrap();
    for body in [
        format!("{a}\n{b}\n"),
        format!("{a}\n{b}"),
        format!("{a}\r\n{b}\r\n"),
        format!("\u{feff}\n\n{a}\n \t\n{b}\n\n"),
        format!("[{a},{b}]"),
        format!("[\n  {a},\n  {b}\n]\n"),
        format!("{a}{b}"),
        format!("{a} {b}"),
        format!("{a},\n{b},\n"),
        format!("{}\n{}\n", pretty(&a), pretty(&b)),
        format!(
            "<134>2016-07-04T22:37:26Z cache-sjc3128 LogTest[62959]: {a}\n<134>2016-07-04T22:37:26Z c t[1]: {b}\n"
        ),
        format!(
            "<134>1 2016-07-04T22:37:26Z cache fastly - - [tag@41058 tag=\"x\"] {a}\n<134>1 t h n - - - {b}\n"
        ),
        format!("999 <134>1 2016-07-04T22:37:26+00:00 host app - - {a}\n999 <134>1 t h a - - {b}"),
    ] {
        house.batch(body.clone()).await;
        assert_eq!(house.left_names(2).await, ["a", "b"], "{body}");
    }
    house.close().await;
}

#[tokio::test]
async fn an_empty_body_is_accepted_and_exports_nothing() {
    let house = House::open("").await;
    for body in ["", "\n", " \r\n", "[]", "\u{feff}"] {
        house.batch(body).await;
    }
    assert_eq!(house.metric("spanrelay_lines_total", &[]).await, 0.0);
    house.close().await;
}

#[tokio::test]
async fn any_method_and_content_type_of_a_sender_are_accepted() {
    let house = House::open("").await;
    for (method, content_type) in [
        ("POST", Some("application/json; charset=utf-8")),
        ("PUT", Some("text/plain")),
        ("POST", Some("application/x-protobuf")),
        ("PUT", Some("not a type at all")),
        ("POST", None),
        ("PUT", None),
    ] {
        let ask = Ask::new(method, "/fastly", span(1, "a"));
        let ask = match content_type {
            Some(content_type) => ask.with("content-type", content_type),
            None => ask,
        };
        assert_eq!(house.ask(ask).await.status, 204, "{method} {content_type:?}");
        let left = house.left_one().await;
        assert_eq!(
            left.header("content-type"),
            "application/json",
            "the client's content type is not exported"
        );
    }
    house.close().await;
}

#[tokio::test]
async fn a_line_may_have_any_number_of_resources_scopes_traces_and_signals() {
    let house = House::open("").await;
    let other_trace = "11111111111111111111111111111111";
    let spans = |trace: &str, ids: [u64; 2]| {
        json!({"scopeSpans": ids.map(|id| json!({"spans": [
            {"traceId": trace, "spanId": format!("{id:016x}"), "name": format!("s{id}")}
        ]}))})
    };
    let line = json!({
        "resourceSpans": [spans(TRACE, [1, 2]), spans(other_trace, [3, 4])],
        "resourceLogs": [{"scopeLogs": [{"logRecords": [
            {"traceId": other_trace, "spanId": format!("{:016x}", 4), "body": {"stringValue": "of the last span"}},
            {"body": {"stringValue": "of nobody"}},
        ]}]}],
        "resourceMetrics": [{"scopeMetrics": [{"metrics": [
            {"name": "m", "gauge": {"dataPoints": [{"asInt": "1"}, {"asInt": "2"}]}}
        ]}]}],
    });
    house.batch(line.to_string()).await;
    let left = house.left_by_signal(3).await;
    assert_eq!(names(&left[0]), ["s1", "s2", "s3", "s4: of the last span"]);
    assert_eq!(names(&left[1]), ["log of nobody"]);
    assert_eq!(names(&left[2]), ["metric m"]);
    assert_eq!(house.metric("otelcol_receiver_accepted_spans", &[("receiver", "fastly")]).await, 4.0);
    assert_eq!(house.metric("otelcol_receiver_accepted_metric_points", &[]).await, 2.0);
    house.close().await;
}

#[tokio::test]
async fn ten_thousand_lines_at_once_are_all_exported() {
    let house = House::open("exporters.otlp_http.delivery: batch").await;
    let lines: Vec<String> = (1..=10_000).map(|id| span(id, &format!("line {id}"))).collect();
    house.batch(request_of(&lines)).await;
    house.at_rest().await;
    let mut left: Vec<String> = house.collector.take_rest().iter().flat_map(names).collect();
    left.sort();
    let mut expected: Vec<String> = (1..=10_000).map(|id| format!("line {id}")).collect();
    expected.sort();
    assert!(left == expected, "{} of 10000 arrived", left.len());
    house.close().await;
}

// --- the report ---

#[tokio::test]
async fn a_batch_with_bad_lines_gets_a_report_and_its_good_lines_are_accepted() {
    let house = House::open("").await;
    let cut_off = &span(3, "cut")[..60];
    let body =
        request_of(&[span(1, "a"), "plain text".into(), cut_off.into(), span(2, "b"), "{\"x\":1}".into()]);
    let reply = house.ask(Ask::post("/fastly", body)).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    assert_eq!(
        reply.json(),
        json!({"accepted": 2, "rejected": 3, "errors": [
            {"line": 2, "column": 1, "reason": "not a JSON object"},
            {"line": 3, "column": 61, "reason": "the line ends too early, expected '\"' at the end of a string"},
            {"line": 5, "column": 1, "reason": "neither resourceSpans nor resourceLogs nor resourceMetrics"},
        ]})
    );
    assert_eq!(house.left_names(2).await, ["a", "b"]);
    for (outcome, lines) in [("accepted", 2.0), ("repaired", 0.0), ("rejected", 3.0)] {
        let labels = [("receiver", "fastly"), ("outcome", outcome)];
        assert_eq!(house.metric("spanrelay_lines_total", &labels).await, lines, "{outcome}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_batch_of_bad_lines_only_is_400_and_twenty_of_them_are_described() {
    let house = House::open("").await;
    let reply = house.ask(Ask::post("/fastly", "canary\n".repeat(50))).await;
    assert_eq!(reply.status, 400);
    reply.reason();
    let report = reply.json();
    assert_eq!((&report["accepted"], &report["rejected"]), (&json!(0), &json!(50)));
    assert_eq!(report["errors"].as_array().unwrap().len(), 20);
    assert_eq!(report["errors"][19]["line"], 20);
    assert!(!reply.text().contains("canary"));
    assert_eq!(house.metric("spanrelay_lines_total", &[("outcome", "rejected")]).await, 50.0);
    house.close().await;
}

#[tokio::test]
async fn a_bad_span_is_rejected_and_its_neighbours_are_not() {
    let house = House::open("").await;
    let line = format!(
        "{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{{\"traceId\":\"{TRACE}\",\"spanId\":\"0000000000000001\",\"name\":\"a\"}},\
         {{\"traceId\":\"{TRACE}\",\"spanId\":\"too short\",\"name\":\"bad\"}},\
         {{\"traceId\":\"00000000000000000000000000000000\",\"spanId\":\"0000000000000003\",\"name\":\"bad\"}},\
         {{\"traceId\":\"{TRACE}\",\"spanId\":\"0000000000000004\",\"name\":\"b\"}}]}}]}}]}}"
    );
    let reply = house.ask(Ask::post("/fastly", line)).await;
    let report = reply.json();
    // The unit is accepted; the report counts units, and its errors name the rejected span.
    assert_eq!(
        (reply.status, &report["accepted"], &report["rejected"]),
        (200, &json!(1), &json!(0)),
        "{report}"
    );
    assert_eq!(report["errors"].as_array().unwrap().len(), 2, "{report}");
    assert_eq!(names(&house.left_one().await), ["a", "b"]);
    assert_eq!(house.metric("otelcol_receiver_accepted_spans", &[]).await, 2.0);
    house.close().await;
}

#[tokio::test]
async fn a_line_longer_than_allowed_is_rejected_and_its_neighbours_are_not() {
    let house = House::open("server.max_line_size: 1KiB").await;
    let body = request_of(&[span(1, "a"), span(2, &"x".repeat(1024)), span(3, "b")]);
    let reply = house.ask(Ask::post("/fastly", body)).await;
    assert_eq!((reply.status, &reply.json()["errors"][0]["line"]), (200, &json!(2)), "{}", reply.text());
    assert_eq!(house.left_names(2).await, ["a", "b"]);
    house.close().await;
}

#[tokio::test]
async fn rejected_input_is_kept_with_its_position_and_bytes() {
    let house = House::open("").await;
    let mut body = request_of(&[span(1, "a"), "plain \"text\"".into()]).into_bytes();
    body.extend(b"not \xff utf-8\n");
    assert_eq!(house.ask(Ask::post("/fastly", body)).await.status, 200);
    house.left_one().await;
    let kept = house.relay.rejected();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert_eq!(
        (&kept[0]["receiver"], &kept[0]["line"], &kept[0]["column"]),
        (&json!("fastly"), &json!(2), &json!(1))
    );
    assert_eq!(
        (&kept[0]["reason"], &kept[0]["input"]),
        (&json!("not a JSON object"), &json!("plain \"text\""))
    );
    assert_eq!(kept[1]["input_base64"], "bm90IP8gdXRmLTg=");
    assert!(kept.iter().all(|entry| entry["time"].as_str().is_some_and(|time| time.contains('T'))));
    house.close().await;
}

// --- the table of inputs ---

/// Members of a span as received, and as exported.
const MEMBERS: [(&str, &str); 17] = [
    // Canonical: byte for byte.
    (
        r#""name":"x","startTimeUnixNano":"1655990400123457000","future":{"b":[1,2.50,1e3],"a":null}"#,
        r#""name":"x","startTimeUnixNano":"1655990400123457000","future":{"b":[1,2.50,1e3],"a":null}"#,
    ),
    // Bare numbers above 2^53.
    (r#""startTimeUnixNano":1655990400123457001"#, r#""startTimeUnixNano":"1655990400123457001""#),
    (r#""endTimeUnixNano":1.655990400123457E18"#, r#""endTimeUnixNano":"1655990400123457000""#),
    // Invalid parents.
    (r#""parentSpanId":null,"name":"x""#, r#""name":"x""#),
    (r#""parentSpanId":"","name":"x""#, r#""name":"x""#),
    (r#""parentSpanId":"abc","name":"x""#, r#""name":"x""#),
    (r#""parentSpanId":"0000000000000000","name":"x""#, r#""name":"x""#),
    (r#""parentSpanId":"0000000000000001","name":"x""#, r#""name":"x""#),
    (r#""parentSpanId":"(null)","name":"x""#, r#""name":"x""#),
    // Upper case.
    (r#""parentSpanId":"00000000000000AB""#, r#""parentSpanId":"00000000000000ab""#),
    // Repeated keys: the last one.
    (
        r#""attributes":[{"key":"k","value":{"stringValue":"1"}},{"key":"o","value":{}},{"key":"k","value":{"stringValue":"2"}}]"#,
        r#""attributes":[{"key":"o","value":{}},{"key":"k","value":{"stringValue":"2"}}]"#,
    ),
    // Repairs.
    (
        r#""attributes":[{"key":"k","value":{"stringValue":"1",},},],"#,
        r#""attributes":[{"key":"k","value":{"stringValue":"1"}}]"#,
    ),
    ("\"name\":\"a\u{1}\tb\"", r#""name":"a\u0001\tb""#),
    (r#""name":"caf\xc3\xa9""#, r#""name":"café""#),
    (r#""parentSpanId":(null),"name":"x""#, r#""name":"x""#),
    (r#""name":"a "quoted" word""#, r#""name":"a \"quoted\" word""#),
    // NaN of a JavaScript sender: no value means the default.
    (
        r#""attributes":[{"key":"k","value":{"doubleValue":null}}]"#,
        r#""attributes":[{"key":"k","value":{}}]"#,
    ),
];

#[tokio::test]
async fn every_odd_form_of_a_member_is_exported_as_documented() {
    let house = House::open("").await;
    for (comes, leaves) in MEMBERS {
        house.batch(span_with(TRACE, 1, comes)).await;
        assert_eq!(compact(&house.left_one().await.text()), span_with(TRACE, 1, leaves), "{comes}");
    }
    house.close().await;
}

#[tokio::test]
async fn names_of_earlier_versions_are_renamed_and_yield_to_todays_names() {
    let house = House::open("").await;
    let ids = format!("\"traceId\":\"{TRACE}\",\"spanId\":\"0000000000000001\"");
    for (comes, leaves) in [
        (
            format!("{{\"resourceSpans\":[{{\"instrumentationLibrarySpans\":[{{\"instrumentationLibrary\":{{\"name\":\"n\"}},\"spans\":[{{{ids}}}]}}]}}]}}"),
            format!("{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"scope\":{{\"name\":\"n\"}},\"spans\":[{{{ids}}}]}}]}}]}}"),
        ),
        (
            format!("{{\"resourceSpans\":[{{\"instrumentationLibrarySpans\":[],\"scopeSpans\":[{{\"spans\":[{{{ids}}}]}}]}}]}}"),
            format!("{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{{{ids}}}]}}]}}]}}"),
        ),
        (
            r#"{"resourceLogs":[{"instrumentationLibraryLogs":[{"logs":[{"body":{"stringValue":"b"}}]}]}]}"#.into(),
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"b"}}]}]}]}"#.into(),
        ),
        (
            r#"{"resourceMetrics":[{"instrumentationLibraryMetrics":[{"metrics":[{"name":"m","sum":{"dataPoints":[{}]}}]}]}]}"#.into(),
            r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","sum":{"dataPoints":[{}]}}]}]}]}"#.into(),
        ),
    ] {
        house.batch(comes.clone()).await;
        assert_eq!(house.left_one().await.text(), leaves, "{comes}");
    }
    house.close().await;
}

#[tokio::test]
async fn invalid_utf_8_is_repaired_in_its_own_line() {
    let house = House::open("").await;
    let mut body = request_of(&[span(1, "fine é"), span(2, "bad ?")]).into_bytes();
    let bad = body.iter().rposition(|byte| *byte == b'?').unwrap();
    body[bad] = 0xe9;
    house.batch(body).await;
    assert_eq!(house.left_names(2).await, ["bad \u{fffd}", "fine é"]);
    house.close().await;
}

#[tokio::test]
async fn repaired_lines_are_counted_as_repaired_and_rejected_where_repair_is_off() {
    let house = House::open("").await;
    let broken = span_with(TRACE, 1, "\"name\":\"x\",");
    house.batch(format!("{broken}\n{}", span(2, "whole"))).await;
    house.left(2).await;
    for (outcome, lines) in [("accepted", 1.0), ("repaired", 1.0), ("rejected", 0.0)] {
        assert_eq!(house.metric("spanrelay_lines_total", &[("outcome", outcome)]).await, lines, "{outcome}");
    }
    house.close().await;

    let house = House::open("receivers.fastly.repair: false").await;
    let reply = house.ask(Ask::post("/fastly", broken)).await;
    assert_eq!((reply.status, &reply.json()["rejected"]), (400, &json!(1)));
    // Legacy names and other exact forms are not damage.
    house.batch(span_with(TRACE, 1, "\"parentSpanId\":null,\"startTimeUnixNano\":1655990400123457001")).await;
    let leaves = span_with(TRACE, 1, "\"startTimeUnixNano\":\"1655990400123457001\"");
    assert_eq!(house.left_one().await.text(), leaves);
    house.close().await;
}

#[tokio::test]
async fn an_unescaped_quote_with_two_readings_is_never_repaired() {
    let house = House::open("").await;
    let injected = r#""attributes":[{"key":"ua","value":{"stringValue":"x"}},{"key":"http.status_code","value":{"stringValue":"200"}}]"#;
    // A user agent that closes its string and opens an attribute is valid JSON: the last attribute wins.
    house.batch(span_with(TRACE, 1, injected)).await;
    house.left_one().await;
    let ambiguous = r#""attributes":[{"key":"ua","value":{"stringValue":"say "a","b":"c" d"}}]"#;
    let reply = house.ask(Ask::post("/fastly", span_with(TRACE, 1, ambiguous))).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    house.close().await;
}

// --- instances ---

#[tokio::test]
async fn named_instances_have_their_own_path_ids_and_token() {
    let house = House::open(
        "receivers: {fastly/www: {service_ids: [abc], auth: {header: x-token, values: [one, two]}}, fastly/api: {path: /api, service_ids: [abc, def]}}",
    )
    .await;
    let www = |token: Option<&str>| {
        let ask = Ask::post("/fastly/www", span(1, "www"));
        token.map_or_else(|| Ask::post("/fastly/www", span(1, "www")), |token| ask.with("x-token", token))
    };
    for token in [None, Some("three"), Some("ONE"), Some("on"), Some("one, two"), Some("")] {
        let reply = house.ask(www(token)).await;
        assert_eq!(reply.status, 401, "{token:?}");
        reply.reason();
        assert!(reply.header("www-authenticate").is_some());
    }
    for token in ["one", "two"] {
        assert_eq!(house.ask(www(Some(token))).await.status, 204);
    }
    assert_eq!(house.ask(Ask::post("/api", span(2, "api"))).await.status, 204);
    assert_eq!(house.ask(Ask::post("/fastly", span(2, "api"))).await.status, 404);
    house.left(3).await;

    let challenge = house.ask(Ask::get("/.well-known/fastly/logging/challenge")).await.text();
    assert_eq!(challenge.lines().count(), 2, "each id once: {challenge}");
    for (receiver, lines) in [("fastly/www", 2.0), ("fastly/api", 1.0)] {
        assert_eq!(house.metric("spanrelay_lines_total", &[("receiver", receiver)]).await, lines);
    }
    house.close().await;
}

#[tokio::test]
async fn a_wrong_token_is_rejected_before_the_body_arrives() {
    let house = House::open("receivers.fastly.auth: {values: [\"Bearer x\"]}").await;
    let mut sender = house.connect().await;
    sender.write("POST /fastly HTTP/1.1\r\nhost: relay\r\ncontent-length: 100\r\n\r\n").await;
    let reply = sender.read().await;
    assert_eq!(reply.status, 401);
    reply.reason();
    drop(sender);
    house.close().await;
}

#[tokio::test]
async fn a_client_that_disconnects_after_its_last_byte_loses_nothing() {
    let house = House::open("").await;
    let line = span(1, "sent and gone");
    let mut sender = house.connect().await;
    sender
        .write(format!(
            "POST /fastly HTTP/1.1\r\nhost: relay\r\ncontent-length: {}\r\n\r\n{line}",
            line.len()
        ))
        .await;
    drop(sender);
    assert_eq!(house.left_one().await.text(), line);
    house.close().await;
}

#[tokio::test]
async fn logs_without_a_span_are_exported_as_logs() {
    let house = House::open("").await;
    house.batch(log(1, "alone")).await;
    let left = house.left_one().await;
    assert_eq!((left.path.as_str(), left.text()), ("/v1/logs", log(1, "alone")));
    house.close().await;
}

// --- access logs ---

#[tokio::test]
async fn access_logs_are_rejected_by_default_and_accepted_with_the_setting() {
    const LINES: &str = include_str!("../../proto-fixtures/fastly/access-logs.txt");
    let house = House::open("").await;
    let reply = house.ask(Ask::post("/fastly", LINES)).await;
    assert_eq!(reply.status, 400);
    house.close().await;

    let house = House::open("receivers.fastly.access_logs: {as: both}").await;
    house.batch(LINES).await;
    let left = house.left_by_signal(2 * LINES.lines().count()).await;
    let (spans, records) = left.split_at(LINES.lines().count());
    assert!(spans.iter().all(|request| request.path == "/v1/traces"));
    assert!(records.iter().all(|request| request.path == "/v1/logs"));
    house.close().await;
}

#[tokio::test]
async fn a_log_event_joins_the_span_of_an_access_log() {
    let house = House::open("receivers.fastly.access_logs: {as: spans}").await;
    let line = r#"{"timestamp":"2026-11-28T10:11:12Z","request_method":"GET","url":"/"}"#;
    house.batch(line).await;
    let ids = |request: &Value| {
        let span = &request["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        ["traceId", "spanId"].map(|id| span[id].as_str().unwrap().to_owned())
    };
    let [trace, span] = ids(&house.left_one().await.json());
    let record = format!(r#"{{"traceId":"{trace}","spanId":"{span}","body":{{"stringValue":"happened"}}}}"#);
    house.batch(format!("{}\n{line}\n", super::harness::logs_only(&record))).await;
    let again = house.left_one().await.json();
    assert_eq!(ids(&again), [trace, span]);
    let event = &again["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["events"][0];
    assert_eq!(event["name"], "happened");
    house.close().await;
}

#[tokio::test]
async fn attributes_injected_by_a_user_agent_never_replace_those_of_the_vcl() {
    let house = House::open("").await;
    let line =
        std::fs::read_to_string(fixture("fastly/vcl-user-agent-injects-attribute/request.ndjson")).unwrap();
    house.batch(line).await;
    let json = house.left_one().await.json();
    let codes: Vec<Value> =
        attributes(&json).into_iter().filter(|a| a["key"] == "http.status_code").collect();
    assert_eq!(codes.len(), 1);
    assert_eq!(codes[0]["value"]["stringValue"], "200", "the one that VCL wrote after it");
    house.close().await;
}

#[tokio::test]
async fn bare_numbers_beyond_two_to_the_53_stay_exact() {
    let house = House::open("").await;
    for (written, exact) in [
        ("1655990400123457001", "\"1655990400123457001\""),
        ("\"1655990400123457001\"", "\"1655990400123457001\""),
        ("18446744073709551615", "\"18446744073709551615\""),
        ("9007199254740993", "\"9007199254740993\""),
        ("1.5e18", "\"1500000000000000000\""),
    ] {
        house.batch(span_with(TRACE, 1, &format!("\"startTimeUnixNano\":{written}"))).await;
        let exact = span_with(TRACE, 1, &format!("\"startTimeUnixNano\":{exact}"));
        assert_eq!(house.left_one().await.text(), exact);
    }
    house.close().await;
}

#[tokio::test]
async fn of_a_duplicate_attribute_the_last_is_kept() {
    let house = House::open("").await;
    let line = std::fs::read_to_string(fixture("fastly/vcl-edge/request.ndjson")).unwrap();
    assert_eq!(line.matches("fastly.server_role").count(), 2);
    house.batch(line.replacen("\"edge\"", "\"first\"", 1)).await;
    let left = house.left_one().await;
    let json = left.json();
    let roles: Vec<Value> =
        attributes(&json).into_iter().filter(|a| a["key"] == "fastly.server_role").collect();
    assert_eq!(roles.len(), 1);
    assert_eq!(roles[0]["value"]["stringValue"], "edge");
    house.close().await;
}

#[tokio::test]
async fn values_kind_and_status_stay_as_the_vcl_wrote_them() {
    let house = House::open("").await;
    let members = r#""kind":1,"attributes":[{"key":"http.status_code","value":{"stringValue":"503"}}],"status":{"code":0}"#;
    house.batch(span_with(TRACE, 1, members)).await;
    assert_eq!(house.left_one().await.text(), span_with(TRACE, 1, members));
    house.close().await;
}

#[tokio::test]
async fn nothing_after_the_first_value_is_silently_lost() {
    let house = House::open("").await;
    house.batch(request_of(&[span(1, "a"), span(2, "b"), span(3, "c")])).await;
    assert_eq!(house.left_names(3).await, ["a", "b", "c"]);
    let reply = house.ask(Ask::post("/fastly", format!("{} garbage", span(1, "a")))).await;
    assert_eq!((reply.status, &reply.json()["rejected"]), (200, &1.into()));
    house.left_one().await;
    for nothing in ["{}", r#"{"":{"resourceSpans":[]}}"#, r#"{"someday":[]}"#] {
        let reply = house.ask(Ask::post("/fastly", nothing)).await;
        assert_eq!(reply.status, 400, "{nothing}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_line_of_more_than_64_kib_is_exported_completely() {
    let house = House::open("").await;
    let long = "x".repeat(300_000);
    house.batch(request_of(&[span(1, &long), span(2, "behind it")])).await;
    assert_eq!(house.left_names(2).await, ["behind it", &long]);
    house.close().await;
}

fn fixture(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-fixtures").join(path)
}

fn attributes(request: &Value) -> Vec<Value> {
    request["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"].as_array().unwrap().clone()
}
