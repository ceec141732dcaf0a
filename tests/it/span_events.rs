//! Log events become events of their spans.

use serde_json::{Value, json};

use super::harness::{
    Answer, Ask, Ended, Gate, House, Recorded, TRACE, log, logs_only, names, request_of, span, span_with,
    spanrelay,
};

/// Longer than any test, so that data is exported only because of matching or draining.
const HOLDS: &str = "processors.span_events.wait: 1h";

/// Returns the sorted names in all of these requests.
fn all_names(requests: &[Recorded]) -> Vec<String> {
    let mut names: Vec<String> = requests.iter().flat_map(names).collect();
    names.sort();
    names
}

async fn log_events(house: &House) -> [f64; 4] {
    let samples = house.relay.metrics().await;
    ["attached", "forwarded", "carrier", "dropped"]
        .map(|outcome| samples.sum("spanrelay_log_events_total", &[("outcome", outcome)]))
}

// --- matching ---

#[tokio::test]
async fn a_span_and_a_log_match_in_one_line_and_in_one_batch_in_either_order() {
    let house = House::open("").await;
    let one_line = {
        let mut line: Value = serde_json::from_str(&span(1, "a")).unwrap();
        let log: Value = serde_json::from_str(&log(1, "event")).unwrap();
        line["resourceLogs"] = log["resourceLogs"].clone();
        line.to_string()
    };
    for body in [
        one_line,
        request_of(&[span(1, "a"), log(1, "event")]),
        request_of(&[log(1, "event"), span(1, "a")]),
        format!("[{},{}]", log(1, "event"), span(1, "a")),
    ] {
        house.batch(body.clone()).await;
        let left = house.left_one().await;
        assert_eq!((left.path.as_str(), names(&left)), ("/v1/traces", vec!["a: event".to_owned()]), "{body}");
    }
    assert_eq!(log_events(&house).await, [4.0, 0.0, 0.0, 0.0]);
    house.close().await;
}

#[tokio::test]
async fn a_span_and_a_log_match_across_batches_and_connections_in_either_order() {
    let house = House::open(HOLDS).await;
    // Every batch has its own connection.
    house.batch(span(1, "span first")).await;
    house.batch(log(1, "later")).await;
    house.batch(log(2, "before")).await;
    house.batch(span(2, "log first")).await;
    house.awaits_metric("spanrelay_log_events_total", &[("outcome", "attached")], 2.0).await;
    assert_eq!(house.metric("spanrelay_held_spans", &[]).await, 2.0);
    assert!(house.metric("spanrelay_held_bytes", &[]).await > 0.0);
    let left = house.drained().await;
    assert_eq!(all_names(&left), ["log first: before", "span first: later"]);
}

#[tokio::test]
async fn a_span_and_a_log_match_across_receivers_of_one_relay() {
    let house = House::open(&format!("{HOLDS}\nreceivers: {{fastly: , fastly/www: }}")).await;
    house.batch(span(1, "a")).await;
    assert_eq!(house.ask(Ask::post("/fastly/www", log(1, "event"))).await.status, 204);
    house.awaits_metric("spanrelay_log_events_total", &[("outcome", "attached")], 1.0).await;
    assert_eq!(all_names(&house.drained().await), ["a: event"]);
}

#[tokio::test]
async fn only_the_same_trace_and_span_match() {
    let house = House::open("").await;
    let other_trace = log(1, "other trace").replace(TRACE, "11111111111111111111111111111111");
    house.batch(request_of(&[span(1, "a"), log(2, "other span"), other_trace])).await;
    assert_eq!(house.left_names(3).await, ["a", "log other span", "log other trace"]);
    house.close().await;
}

#[tokio::test]
async fn a_span_is_held_for_its_wait_and_then_exported() {
    let house = House::open("processors.span_events.wait: 30ms").await;
    house.batch(span(1, "a")).await;
    assert_eq!(names(&house.left_one().await), ["a"]);
    house.batch(log(1, "too late")).await;
    assert_eq!(names(&house.left_one().await), ["log too late"]);
    house.close().await;
}

#[tokio::test]
async fn without_a_wait_only_one_request_is_matched_and_nothing_is_held() {
    let house = House::open("processors.span_events.wait: 0s").await;
    house.batch(span(1, "a")).await;
    assert_eq!(names(&house.left_one().await), ["a"]);
    house.batch(log(1, "event")).await;
    assert_eq!(names(&house.left_one().await), ["log event"]);
    assert_eq!(house.metric("spanrelay_held_bytes", &[]).await, 0.0);
    house.close().await;
}

#[tokio::test]
async fn above_the_limit_the_oldest_are_exported_at_once() {
    let house = House::open(&format!("{HOLDS}\nprocessors.span_events.max_held_bytes: 2KiB")).await;
    for id in 1..=20 {
        house.batch(span(id, &format!("{id:02} {}", "x".repeat(200)))).await;
    }
    let driven_out = house.left(10).await;
    let held = house.metric("spanrelay_held_spans", &[]).await;
    assert!(house.metric("spanrelay_held_bytes", &[]).await <= 2048.0 && held > 0.0);
    let first = driven_out.iter().flat_map(names).map(|name| name[..2].to_owned()).min().unwrap();
    assert_eq!(first, "01");
    let rest = house.drained().await;
    assert_eq!(driven_out.len() + rest.len(), 20);
    assert!(all_names(&rest).last().unwrap().starts_with("20"), "the last line is exported last");
}

// --- contents of an event ---

#[tokio::test]
async fn an_event_has_the_documented_members_of_its_record() {
    let house = House::open("").await;
    let ids = format!("\"traceId\":\"{TRACE}\",\"spanId\":\"0000000000000001\"");
    let text = |text: &str| json!({"stringValue": text});
    for (record, event) in [
        (
            r#""timeUnixNano":"7","eventName":"named","body":{"stringValue":"b"}"#,
            json!({"timeUnixNano": "7", "name": "named", "attributes": [{"key": "log.body", "value": text("b")}]}),
        ),
        (r#""timeUnixNano":"7","body":{"stringValue":"b"}"#, json!({"timeUnixNano": "7", "name": "b"})),
        (
            r#""observedTimeUnixNano":"9","body":{"intValue":"5"}"#,
            json!({"timeUnixNano": "9", "name": "log", "attributes": [{"key": "log.body", "value": {"intValue": "5"}}]}),
        ),
        (r#""timeUnixNano":"0","observedTimeUnixNano":"9""#, json!({"timeUnixNano": "9", "name": "log"})),
        (
            r#""timeUnixNano":1655990400123457001,"severityNumber":9,"severityText":"INFO","body":{"stringValue":"b"},"attributes":[{"key":"k","value":{"boolValue":true}}]"#,
            json!({"timeUnixNano": "1655990400123457001", "name": "b", "attributes": [
                {"key": "k", "value": {"boolValue": true}},
                {"key": "log.severity_number", "value": {"intValue": "9"}},
                {"key": "log.severity_text", "value": text("INFO")},
            ]}),
        ),
    ] {
        let mut line: Value = serde_json::from_str(&span(1, "a")).unwrap();
        let logs: Value = serde_json::from_str(&logs_only(&format!("{{{ids},{record}}}"))).unwrap();
        line["resourceLogs"] = logs["resourceLogs"].clone();
        house.batch(line.to_string()).await;
        let left = house.left_one().await.json();
        let span = &left["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["events"], json!([event]), "{record}");
    }
    house.close().await;
}

#[tokio::test]
async fn existing_events_are_kept_and_all_are_in_the_order_of_their_times() {
    let house = House::open("").await;
    let record = |time: u64, name: &str| {
        logs_only(&format!(
            "{{\"timeUnixNano\":\"{time}\",\"traceId\":\"{TRACE}\",\"spanId\":\"0000000000000001\",\"eventName\":\"{name}\"}}"
        ))
    };
    let with_events = span_with(
        TRACE,
        1,
        r#""name":"a","events":[{"timeUnixNano":"20","name":"second"},{"timeUnixNano":"40","name":"fourth"}]"#,
    );
    house
        .batch(request_of(&[record(50, "fifth"), with_events, record(30, "third"), record(10, "first")]))
        .await;
    assert_eq!(names(&house.left_one().await), ["a: first, second, third, fourth, fifth"]);
    house.close().await;
}

#[tokio::test]
async fn a_line_of_partly_matched_logs_is_a_request_only_for_the_others() {
    let house = House::open("").await;
    let record = |id: u64, name: &str| {
        format!("{{\"traceId\":\"{TRACE}\",\"spanId\":\"{id:016x}\",\"eventName\":\"{name}\"}}")
    };
    let nobody = r#"{"eventName":"of nobody"}"#;
    let logs = logs_only(
        &[&record(1, "of a"), nobody, &record(9, "of a span that never comes")].map(|r| r as &str).join(","),
    );
    house.batch(request_of(&[span(1, "a"), logs])).await;
    let left = house.left_by_signal(2).await;
    assert_eq!(names(&left[0]), ["a: of a"]);
    assert_eq!(names(&left[1]), ["log of nobody", "log of a span that never comes"]);
    assert_eq!(log_events(&house).await, [1.0, 1.0, 0.0, 0.0], "a log that names no span is not a log event");
    house.close().await;
}

// --- unmatched log events ---

#[tokio::test]
async fn an_unmatched_log_is_forwarded_as_a_log() {
    let house = House::open("processors.span_events.unmatched: forward_log").await;
    house.batch(log(1, "alone")).await;
    let left = house.left_one().await;
    assert_eq!((left.path.as_str(), left.text()), ("/v1/logs", log(1, "alone")));
    assert_eq!(log_events(&house).await, [0.0, 1.0, 0.0, 0.0]);
    house.close().await;
}

#[tokio::test]
async fn an_unmatched_log_is_an_event_of_a_zero_length_child_of_its_span() {
    let house = House::open("processors.span_events.unmatched: carrier_span").await;
    house.batch(log(1, "alone")).await;
    let left = house.left_one().await;
    assert_eq!((left.path.as_str(), names(&left)), ("/v1/traces", vec!["alone: alone".to_owned()]));
    let span = &left.json()["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!((&span["traceId"], &span["parentSpanId"]), (&json!(TRACE), &json!("0000000000000001")));
    assert_eq!(
        (&span["startTimeUnixNano"], &span["endTimeUnixNano"]),
        (&json!("1655990400123457000"), &json!("1655990400123457000"))
    );
    assert_eq!(log_events(&house).await, [0.0, 0.0, 1.0, 0.0]);
    // Accepted as a log, and settled as one.
    assert_eq!(
        house
            .at_rest()
            .await
            .sum("spanrelay_settled_items_total", &[("signal", "logs"), ("fate", "delivered")]),
        1.0
    );
    house.close().await;
}

#[tokio::test]
async fn an_unmatched_log_is_dropped_if_configured_and_counted() {
    let house = House::open("processors.span_events.unmatched: drop").await;
    house.batch(request_of(&[log(1, "alone"), logs_only(r#"{"body":{"stringValue":"of nobody"}}"#)])).await;
    assert_eq!(names(&house.left_one().await), ["log of nobody"]);
    assert_eq!(log_events(&house).await, [0.0, 0.0, 0.0, 1.0]);
    assert_eq!(house.at_rest().await.sum("spanrelay_settled_items_total", &[("fate", "dropped")]), 1.0);
    house.close().await;
}

#[tokio::test]
async fn with_keep_logs_an_attached_log_is_also_exported_as_a_log_and_counted_once() {
    let house = House::open("processors.span_events.keep_logs: true").await;
    house.batch(request_of(&[span(1, "a"), log(1, "event")])).await;
    let left = house.left_by_signal(2).await;
    assert_eq!(names(&left[0]), ["a: event"]);
    assert_eq!(left[1].text(), log(1, "event"));
    let samples = house.at_rest().await;
    assert_eq!(
        samples.sum("spanrelay_settled_items_total", &[("signal", "logs"), ("fate", "attached")]),
        1.0
    );
    assert_eq!(samples.sum("spanrelay_settled_items_total", &[("signal", "logs")]), 1.0);
    house.close().await;
}

#[tokio::test]
async fn an_event_is_settled_with_its_span() {
    let gate = Gate::new();
    let house = House::with_answers("", [Answer::WaitAt(gate.clone())]).await;
    house.batch(request_of(&[span(1, "a"), log(1, "event")])).await;
    house.left_one().await;
    assert_eq!(house.metric("spanrelay_settled_items_total", &[]).await, 0.0);
    assert!(house.metric("otelcol_exporter_queue_size", &[]).await > 0.0);
    gate.open();
    let samples = house.at_rest().await;
    assert_eq!(
        samples.sum("spanrelay_settled_items_total", &[("signal", "logs"), ("fate", "attached")]),
        1.0
    );
    house.close().await;
}

#[tokio::test]
async fn edge_and_shield_are_two_spans_and_each_keeps_its_own_event() {
    let house = House::open(HOLDS).await;
    let shield = span_with(TRACE, 2, r#""parentSpanId":"0000000000000001","name":"shield""#);
    house.batch(request_of(&[log(2, "at the shield"), span(1, "edge")])).await;
    house.batch(request_of(&[log(1, "at the edge"), shield])).await;
    house.awaits_metric("spanrelay_log_events_total", &[("outcome", "attached")], 2.0).await;
    assert_eq!(all_names(&house.drained().await), ["edge: at the edge", "shield: at the shield"]);
}

#[tokio::test]
async fn the_default_wait_is_longer_than_the_period_of_batches() {
    let ended = Ended::of(&mut spanrelay(&["validate", "--print"])).await;
    let wait = ended.out.lines().find_map(|line| line.trim().strip_prefix("wait: ")).unwrap();
    let seconds: u64 = wait.strip_suffix('s').unwrap().parse().unwrap();
    assert!(seconds >= 2 * 5, "Fastly's default period is 5 s: {wait}");
}

#[tokio::test]
async fn a_log_matches_its_own_span_and_not_the_first_of_its_line() {
    let house = House::open("").await;
    let ids = |id: u64| format!("{{\"traceId\":\"{TRACE}\",\"spanId\":\"{id:016x}\",\"name\":\"s{id}\"}}");
    let line = format!(
        "{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{}]}},{{\"spans\":[{},{}]}}]}}]}}",
        ids(1),
        ids(2),
        ids(3)
    );
    house.batch(request_of(&[log(3, "third"), line, log(2, "second")])).await;
    assert_eq!(names(&house.left_one().await), ["s1", "s2: second", "s3: third"]);
    house.close().await;
}
