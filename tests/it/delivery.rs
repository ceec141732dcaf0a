//! Exports, and what the relay does on each response of the downstream.

use std::io::Read;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;

use super::harness::text::compact;
use super::harness::{
    Answer, Ask, Collector, Gate, House, Recorded, Reserved, TRACE, log, names, otlp, request_of, span,
    span_with,
};

const BATCH: &str = "exporters.otlp_http.delivery: batch";

fn metric(name: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"{name}","gauge":{{"dataPoints":[{{"asInt":"1"}}]}}}}]}}]}}]}}"#
    )
}

// --- exports ---

#[tokio::test]
async fn every_line_with_spans_is_one_request_with_the_same_bytes() {
    let house = House::open("").await;
    let odd = span_with(TRACE, 1, "  \"name\" :\t\"a\" , \"x\":{\"b\":1,\"a\":[ ]} ");
    house.batch(request_of(&[odd.clone(), span(2, "b"), log(9, "alone"), metric("m")])).await;
    let left = house.left_by_signal(4).await;
    let paths: Vec<&str> = left.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(paths, ["/v1/traces", "/v1/traces", "/v1/logs", "/v1/metrics"]);
    let mut spans = [left[0].text(), left[1].text()];
    spans.sort_by_key(|text| !text.contains('\t'));
    assert_eq!(spans, [odd, span(2, "b")]);
    assert_eq!((left[2].text(), left[3].text()), (log(9, "alone"), metric("m")));
    for request in &left {
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("content-length"), request.body.len().to_string());
        assert_eq!(request.header("user-agent"), concat!("spanrelay/", env!("CARGO_PKG_VERSION")));
        assert!(!request.headers.contains_key("content-encoding"));
    }
    house.close().await;
}

#[tokio::test]
async fn only_the_data_of_a_request_is_exported() {
    let house = House::open("exporters.otlp_http.headers: {x-tenant: acme}").await;
    let ask = super::harness::Ask::post("/fastly", span(1, "a"))
        .with("content-type", "text/csv")
        .with("authorization", "Bearer inbound")
        .with("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .with("x-canary", "canary");
    assert_eq!(house.ask(ask).await.status, 204);
    let left = house.left_one().await;
    assert_eq!(left.header("x-tenant"), "acme");
    assert_eq!(left.header("content-type"), "application/json");
    for name in ["authorization", "traceparent", "x-canary"] {
        assert!(!left.headers.contains_key(name), "{name}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_base_endpoint_is_joined_with_one_slash_and_a_signal_s_own_is_unchanged() {
    for (endpoint, path) in
        [("", "/v1/traces"), ("/", "/v1/traces"), ("/base", "/base/v1/traces"), ("/base/", "/base/v1/traces")]
    {
        let collector = Collector::start([]).await;
        let settings = format!("exporters.otlp_http.endpoint: {}{endpoint}", collector.url());
        let house = House::before(collector, &settings).await;
        house.batch(span(1, "a")).await;
        assert_eq!(house.left_one().await.path, path, "{endpoint}");
        house.close().await;
    }
    let collector = Collector::start([]).await;
    let settings = format!("exporters.otlp_http.traces_endpoint: {}/custom//path/?api=1", collector.url());
    let house = House::before(collector, &settings).await;
    house.batch(request_of(&[span(1, "a"), log(9, "b")])).await;
    let mut paths: Vec<String> = house.left(2).await.into_iter().map(|request| request.path).collect();
    paths.sort();
    assert_eq!(paths, ["/custom//path/?api=1", "/v1/logs"]);
    house.close().await;
}

fn inflated(request: &Recorded) -> Vec<u8> {
    let mut plain = Vec::new();
    match request.header("content-encoding") {
        "gzip" => drop(flate2::read::MultiGzDecoder::new(&request.body[..]).read_to_end(&mut plain).unwrap()),
        "zstd" => plain = zstd::stream::decode_all(&request.body[..]).unwrap(),
        other => panic!("{other}"),
    }
    plain
}

#[tokio::test]
async fn compressed_requests_have_the_same_bytes() {
    for compression in ["gzip", "zstd"] {
        let house = House::open(&format!("exporters.otlp_http.compression: {compression}")).await;
        house.batch(span(1, "a")).await;
        assert_eq!(inflated(&house.left_one().await), span(1, "a").as_bytes());
        house.close().await;
    }
}

#[tokio::test]
async fn protobuf_has_the_same_data_of_every_signal() {
    let house = House::open("exporters.otlp_http.encoding: protobuf").await;
    let lines = [
        span_with(TRACE, 1, r#""name":"a","kind":2,"startTimeUnixNano":1655990400123457001"#),
        log(9, "alone"),
        metric("m"),
    ];
    house.batch(request_of(&lines)).await;
    let left = house.left_by_signal(3).await;
    for (request, line) in left.iter().zip(&lines) {
        assert_eq!(request.header("content-type"), "application/x-protobuf");
        let json = serde_json::from_str(line).unwrap();
        assert_eq!(
            otlp::reencoded(&request.path, &request.body),
            otlp::encoded(&request.path, &json),
            "{line}"
        );
    }
    house.close().await;
}

// --- responses ---

#[tokio::test]
async fn retryable_responses_are_retried_until_delivery() {
    let answers = [
        Answer::status(429),
        Answer::status(502),
        Answer::status(503),
        Answer::status(504),
        Answer::Close,
        Answer::status(200),
    ];
    let house = House::with_answers("", answers).await;
    house.batch(span(1, "a")).await;
    let left = house.left(6).await;
    assert!(left.iter().all(|request| request.text() == span(1, "a")));
    let samples = house.at_rest().await;
    let attempts = |outcome| {
        samples.sum("spanrelay_export_requests_total", &[("signal", "traces"), ("outcome", outcome)])
    };
    assert_eq!(
        (attempts("sent"), attempts("throttled"), attempts("retryable"), attempts("permanent")),
        (1.0, 1.0, 4.0, 0.0)
    );
    assert_eq!(samples.sum("otelcol_exporter_sent_spans", &[]), 1.0);
    house.close().await;
}

#[tokio::test]
async fn only_permanent_status_codes_reject_data_which_is_never_sent_again() {
    let more = "exporters.otlp_http.permanent_status_codes: [404, 501]";
    for (status, settings) in [(400, ""), (413, ""), (422, ""), (404, more), (501, more)] {
        let house = House::with_answers(settings, [Answer::status(status)]).await;
        house.batch(span(1, "a")).await;
        house.left_one().await;
        let samples = house.at_rest().await;
        assert_eq!(samples.sum("spanrelay_settled_items_total", &[("fate", "rejected")]), 1.0, "{status}");
        assert_eq!(samples.sum("otelcol_exporter_send_failed_spans", &[]), 1.0, "{status}");
        assert_eq!(samples.sum("otelcol_exporter_sent_spans", &[]), 0.0, "{status}");
        let kept = house.relay.rejected();
        assert_eq!((kept.len(), &kept[0]["input"]), (1, &span(1, "a").into()), "{status}");
        assert!(kept[0]["reason"].as_str().unwrap().contains(&status.to_string()), "{kept:?}");
        house.close().await;
    }
}

#[tokio::test]
async fn any_other_error_keeps_the_data_until_it_is_delivered() {
    let none = "exporters.otlp_http.permanent_status_codes: []";
    let destination =
        [301, 307, 401, 403, 404, 405, 407, 408, 415, 418, 451].map(|status| (status, "", "blocked"));
    let retried = [500, 501, 505, 599].map(|status| (status, "", "retryable"));
    let with_none = [400, 413, 422].map(|status| (status, none, "blocked"));
    for (status, settings, outcome) in destination.into_iter().chain(retried).chain(with_none) {
        let answers = [Answer::status(status), Answer::status(status), Answer::json(200, "{}")];
        let house = House::with_answers(settings, answers).await;
        house.batch(span(1, "a")).await;
        let left = house.left(3).await;
        assert!(left.iter().all(|request| request.text() == span(1, "a")), "{status}");
        let samples = house.at_rest().await;
        let attempts = samples.sum("spanrelay_export_requests_total", &[("outcome", outcome)]);
        assert_eq!(attempts, 2.0, "{status}");
        assert_eq!(samples.sum("otelcol_exporter_sent_spans", &[]), 1.0, "{status}");
        assert_eq!(samples.sum("spanrelay_exporter_blocked", &[]), 0.0, "{status}");
        assert!(house.relay.rejected().is_empty(), "{status}");
        house.close().await;
    }
}

#[tokio::test]
async fn a_2xx_with_any_body_is_a_delivery() {
    for answer in [
        Answer::json(200, "<html>garbage"),
        Answer::json(202, r#"{"partialSuccess":{"rejectedSpans":{}}}"#),
        Answer::status(204),
        Answer::typed(200, "application/x-protobuf", vec![0xff; 9]),
        Answer::typed(200, "text/plain", vec![b'x'; 5 << 20]),
        Answer::BreakOff,
    ] {
        let house = House::with_answers("", [answer.clone()]).await;
        house.batch(span(1, "a")).await;
        house.left_one().await;
        let samples = house.at_rest().await;
        assert_eq!(samples.sum("otelcol_exporter_sent_spans", &[]), 1.0);
        house.close().await;
    }
}

#[tokio::test]
async fn retry_after_is_a_lower_bound_in_seconds_and_as_a_date() {
    // A date has whole seconds, and the test itself takes time.
    let date = || httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3));
    for value in [|| "1".to_owned(), date] {
        let value = value();
        let house = House::with_answers("", [Answer::retry_after(503, &value)]).await;
        house.batch(span(1, "a")).await;
        house.left_one().await;
        let asked = Instant::now();
        house.left_one().await;
        assert!(asked.elapsed() > Duration::from_millis(500), "{value}: {:?}", asked.elapsed());
        house.close().await;
    }
}

#[tokio::test]
async fn a_partial_success_is_a_delivery_and_its_rejected_count_is_in_the_metrics() {
    let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "too old".into() };
    let protobuf = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    for answer in [
        Answer::json(200, r#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"too old"}}"#),
        Answer::json(200, r#"{"partialSuccess":{"rejectedSpans":1}}"#),
        Answer::typed(200, "application/x-protobuf", protobuf),
    ] {
        let house = House::with_answers("", [answer]).await;
        let two_spans = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"0000000000000001"},{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"0000000000000002"}]}]}]}"#;
        house.batch(two_spans).await;
        house.left_one().await;
        let samples = house.at_rest().await;
        assert_eq!(samples.sum("otelcol_exporter_sent_spans", &[]), 1.0);
        assert_eq!(samples.sum("otelcol_exporter_send_failed_spans", &[]), 1.0);
        assert_eq!(samples.sum("spanrelay_settled_items_total", &[("fate", "delivered")]), 2.0);
        house.close().await;
    }
}

#[tokio::test]
async fn an_attempt_without_a_response_times_out_and_is_repeated() {
    let gate = Gate::new();
    let house =
        House::with_answers("exporters.otlp_http.timeout: 500ms", [Answer::WaitAt(gate.clone())]).await;
    house.batch(span(1, "a")).await;
    house.left(2).await;
    house.close().await;
    gate.open();
}

#[tokio::test]
async fn data_waits_for_a_collector_that_is_not_running_yet() {
    let reserved = Reserved::on_loopback();
    let address = reserved.address;
    let relay = super::harness::Relay::start(&House::configuration(&format!("http://{address}")), "").await;
    super::harness::Ask::post("/fastly", span(1, "patient")).to(relay.address).await;
    super::harness::eventually("the first attempt has failed", async || {
        let samples = relay.metrics().await;
        (samples.sum("spanrelay_export_requests_total", &[("outcome", "retryable")]) > 0.0).then_some(())
    })
    .await;
    let house = House { relay, collector: Collector::at(address).await };
    assert_eq!(names(&house.left_one().await), ["patient"]);
    house.close().await;
}

#[tokio::test]
async fn a_downstream_that_does_not_speak_http_costs_no_data() {
    let house = House::before(Collector::rude_at_first(3).await, "").await;
    house.batch(span(1, "a")).await;
    assert_eq!(names(&house.left_one().await), ["a"]);
    house.close().await;
}

#[tokio::test]
async fn data_is_given_up_only_if_a_limit_is_set() {
    let answers = vec![Answer::status(503); 1000];
    let house =
        House::with_answers("exporters.otlp_http.retry_on_failure.max_elapsed_time: 20ms", answers).await;
    house.batch(span(1, "a")).await;
    let samples = house.at_rest().await;
    assert_eq!(samples.sum("spanrelay_settled_items_total", &[("fate", "rejected")]), 1.0);
    let tried = house.collector.forget_answers();
    assert!(tried > 0);
    house.close().await;
}

#[tokio::test]
async fn at_most_max_in_flight_requests_are_in_flight() {
    let gate = Gate::new();
    let answers = vec![Answer::WaitAt(gate.clone()); 6];
    let house = House::with_answers("exporters.otlp_http.max_in_flight: 2", answers).await;
    let lines: Vec<String> = (1..=6).map(|id| span(id, "a")).collect();
    house.batch(request_of(&lines)).await;
    // Two requests are in flight, and each response makes room for one more.
    house.left(2).await;
    for _ in 0..4 {
        assert_eq!(house.collector.waiting(), 0);
        gate.let_one_pass();
        house.left_one().await;
    }
    gate.open();
    house.close().await;
}

#[tokio::test]
async fn a_failing_signal_does_not_block_the_others() {
    let gate = Gate::new();
    let down = vec![Answer::WaitAt(gate.clone()); 3];
    let traces = Collector::start(down).await;
    let collector = Collector::start([]).await;
    let settings = format!(
        "exporters.otlp_http.max_in_flight: 4\nexporters.otlp_http.traces_endpoint: {}/v1/traces",
        traces.url()
    );
    let house = House::before(collector, &settings).await;
    let spans: Vec<String> = (1..=3).map(|id| span(id, "held up")).collect();
    house.batch(request_of(&spans)).await;
    house.batch(request_of(&[log(9, "passes"), metric("passes too")])).await;
    assert_eq!(house.left_names(2).await, ["log passes", "metric passes too"]);
    gate.open();
    traces.take(3).await;
    house.close().await;
    traces.finish();
}

// --- batches ---

#[tokio::test]
async fn a_batch_has_the_same_spans_in_fewer_requests() {
    let house =
        House::open(&format!("{BATCH}\nexporters.otlp_http.batch: {{max_events: 10, timeout: 1h}}")).await;
    let lines: Vec<String> = (1..=20).map(|id| span(id, &format!("{id:02}"))).collect();
    house.batch(request_of(&lines)).await;
    let left = house.left(2).await;
    assert!(left.iter().all(|request| names(request).len() == 10 && request.path == "/v1/traces"));
    let mut all: Vec<String> = left.iter().flat_map(names).collect();
    all.sort();
    assert_eq!(all, (1..=20).map(|id| format!("{id:02}")).collect::<Vec<_>>());
    house.close().await;
}

#[tokio::test]
async fn a_batch_is_exported_after_its_timeout_and_signals_are_never_mixed() {
    let house = House::open(&format!("{BATCH}\nexporters.otlp_http.batch.timeout: 200ms")).await;
    house
        .batch(request_of(&[span(1, "a"), span(2, "b"), log(8, "c"), log(9, "d"), metric("e"), metric("f")]))
        .await;
    let left = house.left_by_signal(3).await;
    let held: Vec<Vec<String>> = left.iter().map(names).collect();
    assert_eq!(held, [["a", "b"], ["log c", "log d"], ["metric e", "metric f"]]);
    house.close().await;
}

#[tokio::test]
async fn a_rejected_batch_is_split_until_the_bad_event_is_alone() {
    let bad = |request: &Recorded| names(request).contains(&"bad".to_owned());
    let collector =
        Collector::judging(
            move |request| if bad(request) { Answer::status(400) } else { Answer::json(200, "{}") },
        )
        .await;
    let house = House::before(
        collector,
        &format!("{BATCH}\nexporters.otlp_http.batch: {{max_events: 8, timeout: 1h}}"),
    )
    .await;
    let lines: Vec<String> = (1..=8).map(|id| span(id, if id == 3 { "bad" } else { "good" })).collect();
    house.batch(request_of(&lines)).await;
    let samples = house.at_rest().await;
    assert_eq!(samples.sum("spanrelay_settled_items_total", &[("fate", "delivered")]), 7.0);
    assert_eq!(samples.sum("spanrelay_settled_items_total", &[("fate", "rejected")]), 1.0);
    let requests = house.collector.take_rest();
    let delivered: usize =
        requests.iter().filter(|request| !bad(request)).map(|request| names(request).len()).sum();
    assert_eq!(delivered, 7, "each good event once");
    house.close().await;
}

#[tokio::test]
async fn a_rejected_unit_is_split_until_the_bad_item_is_alone_and_logs_follow_their_span() {
    for settings in ["", BATCH, "exporters.otlp_http.compression: gzip"] {
        let bad = |request: &Recorded| {
            let body = if request.headers.contains_key("content-encoding") {
                inflated(request)
            } else {
                request.body.to_vec()
            };
            String::from_utf8(body).unwrap().contains("bad")
        };
        let collector =
            Collector::judging(
                move |request| {
                    if bad(request) { Answer::status(400) } else { Answer::json(200, "{}") }
                },
            )
            .await;
        let house = House::before(collector, settings).await;
        let spans: Vec<String> = (1..=16)
            .map(|id| {
                let name = if id == 11 { "bad" } else { "good" };
                format!(r#"{{"traceId":"{TRACE}","spanId":"{id:016x}","name":"{name}"}}"#)
            })
            .collect();
        let unit = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans.join(","));
        house.batch(request_of(&[unit, log(3, "of a good one"), log(11, "of the other")])).await;
        let samples = house.at_rest().await;
        let settled = |signal, fate| {
            samples.sum("spanrelay_settled_items_total", &[("signal", signal), ("fate", fate)])
        };
        assert_eq!(
            (settled("traces", "delivered"), settled("traces", "rejected")),
            (15.0, 1.0),
            "{settings}"
        );
        assert_eq!((settled("logs", "attached"), settled("logs", "rejected")), (1.0, 1.0), "{settings}");
        assert_eq!(samples.sum("otelcol_exporter_send_failed_spans", &[]), 1.0);
        let requests = house.collector.take_rest();
        assert_eq!(requests.len(), 9, "{settings}");
        let [kept] = &house.relay.rejected()[..] else { panic!("one entry") };
        let kept = kept["input"].as_str().unwrap();
        assert!(kept.contains("bad") && kept.contains("of the other") && !kept.contains("good"), "{kept}");
        house.close().await;
    }
}

/// One span has an id that is none, and the downstream condemns another one. Every tenth span has a log event, the
/// condemned one too.
#[tokio::test]
async fn of_200_spans_all_but_two_bad_ones_are_delivered_and_each_item_is_counted_once_with_keep_logs() {
    let is_bad = |request: &Recorded| names(request).iter().any(|name| name.starts_with("condemned"));
    for settings in ["", BATCH, "queue.storage: disk"] {
        let judge = move |request: &Recorded| {
            if is_bad(request) { Answer::status(400) } else { Answer::json(200, "{}") }
        };
        let collector = Collector::judging(judge).await;
        let settings = format!("{settings}\nprocessors.span_events.keep_logs: true");
        let house = House::before(collector, &settings).await;
        let name = |id: u64| match id {
            77 => "of a bad id".to_owned(),
            140 => "condemned".to_owned(),
            id => format!("good {id:03}"),
        };
        let spans: Vec<String> = (1..=200)
            .map(|id| {
                let span_id = if id == 77 { "zz".to_owned() } else { format!("{id:016x}") };
                format!(r#"{{"traceId":"{TRACE}","spanId":"{span_id}","name":"{}"}}"#, name(id))
            })
            .collect();
        let unit = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans.join(","));
        let with_log = |id: &u64| id.is_multiple_of(10);
        let logs = (1..=200).filter(with_log).map(|id| log(id, &format!("log of {id:03}")));
        let body = request_of(&std::iter::once(unit).chain(logs).collect::<Vec<_>>());
        assert!(house.ask(Ask::post("/fastly", body)).await.status < 300);

        let samples = house.at_rest().await;
        let settled = |signal, fate| {
            samples.sum("spanrelay_settled_items_total", &[("signal", signal), ("fate", fate)])
        };
        assert_eq!(samples.sum("otelcol_receiver_accepted_spans", &[]), 199.0, "{samples}");
        assert_eq!(samples.sum("otelcol_receiver_refused_spans", &[]), 1.0, "{samples}");
        assert_eq!(
            [settled("traces", "delivered"), settled("traces", "rejected")],
            [198.0, 1.0],
            "{samples}"
        );
        // The log of the condemned span is delivered as a log.
        assert_eq!(settled("logs", "attached") + settled("logs", "delivered"), 20.0, "{samples}");

        let requests = house.collector.take_rest();
        let mut delivered: Vec<String> =
            requests.iter().filter(|request| !is_bad(request)).flat_map(names).collect();
        delivered.sort();
        let span = |id: u64| match with_log(&id) {
            true => format!("{}: log of {id:03}", name(id)),
            false => name(id),
        };
        let mut expected: Vec<String> = (1..=200).filter(|id| ![77, 140].contains(id)).map(span).collect();
        expected.extend((1..=200).filter(with_log).map(|id| format!("log log of {id:03}")));
        expected.sort();
        assert_eq!(delivered, expected, "{settings}");

        let mut kept: Vec<String> =
            house.relay.rejected().iter().map(|entry| entry["input"].as_str().unwrap().to_owned()).collect();
        kept.sort_by_key(|input| input.contains("condemned"));
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert!(kept[0].contains("of a bad id") && kept[1].contains("condemned"), "{kept:?}");
        assert!(!kept.iter().any(|input| input.contains("good")), "{kept:?}");
        house.close().await;
    }
}

#[tokio::test]
async fn a_throttled_batch_is_retried_unchanged() {
    let settings = format!("{BATCH}\nexporters.otlp_http.batch: {{max_events: 3, timeout: 1h}}");
    let house = House::with_answers(&settings, [Answer::status(429), Answer::json(200, "{}")]).await;
    house.batch(request_of(&[span(1, "a"), span(2, "b"), span(3, "c")])).await;
    let left = house.left(2).await;
    assert_eq!(left[0].body, left[1].body);
    house.close().await;
}

#[tokio::test]
async fn a_large_batch_is_exported_in_requests_that_a_collector_accepts() {
    let settings = "exporters.otlp_http.delivery: batch\nexporters.otlp_http.batch.max_bytes: 64KiB";
    let house = House::open(settings).await;
    let lines: Vec<String> = (1..=1000).map(|id| span(id, &"x".repeat(500))).collect();
    house.batch(request_of(&lines)).await;
    house.at_rest().await;
    let left = house.collector.take_rest();
    assert_eq!(left.iter().map(|request| names(request).len()).sum::<usize>(), 1000);
    assert!(left.iter().all(|request| request.body.len() <= 64 * 1024));
    house.close().await;
}

#[tokio::test]
async fn ids_are_exported_in_lower_case_large_numbers_as_text_and_enums_as_numbers() {
    let house = House::open("").await;
    let line = span_with(&TRACE.to_uppercase(), 0xab, r#""kind":"SPAN_KIND_SERVER","endTimeUnixNano":1655990400123457001,"status":{"code":"STATUS_CODE_ERROR"}"#)
        .replace("00000000000000ab", "00000000000000AB");
    house.batch(line).await;
    let leaves =
        span_with(TRACE, 0xab, r#""kind":2,"endTimeUnixNano":"1655990400123457001","status":{"code":2}"#);
    assert_eq!(compact(&house.left_one().await.text()), leaves);
    house.close().await;
}

#[tokio::test]
async fn a_collector_that_hangs_does_not_stall_the_senders() {
    let gate = Gate::new();
    let house =
        House::with_answers("exporters.otlp_http.max_in_flight: 1", [Answer::WaitAt(gate.clone())]).await;
    for id in 1..=100 {
        house.batch(span(id, "a")).await;
    }
    assert!(house.metric("spanrelay_queue_oldest_seconds", &[]).await > 0.0, "it shows");
    gate.open();
    house.left(100).await;
    house.close().await;
}
