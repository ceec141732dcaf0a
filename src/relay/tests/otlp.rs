//! OTLP requests, from the receiver to the export.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;

use super::super::*;
use crate::config::SpanEventsConfig;
use crate::event::Signal;
use crate::exporter::{Carried, Export};
use crate::otlp::protobuf::encode;
use crate::processor::SpanEvents;
use crate::queue::MemoryQueue;
use crate::receiver::fastly::Fastly;
use crate::receiver::fastly::FastlyConfig;
use crate::receiver::otlp::Otlp;
use crate::receiver::otlp::OtlpConfig;

const IDS: &str = r#""traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331""#;

/// A relay whose processor is driven by hand.
struct Bench {
    relay: Arc<Relay>,
    work: UnboundedReceiver<Vec<Work>>,
    processor: SpanEvents,
    metrics: Metrics,
    directory: tempfile::TempDir,
}

fn traces() -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{IDS},"name":"s"}}]}}]}}]}}"#)
}

fn logs() -> String {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{IDS}}},{{"eventName":"e"}}]}}]}}]}}"#)
}

fn points() -> String {
    r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{"asInt":"0"}]}}]}]}]}"#
        .to_owned()
}

// === impl Bench ===

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "nobody else sends here")]
    fn new(queue_bytes: u64) -> Self {
        let metrics = Metrics::new();
        let mut receivers = Vec::from(Signal::ALL.map(|signal| Instance {
            receiver: Arc::new(Otlp::new(&OtlpConfig::default(), signal, 1 << 20)),
            rate_limit: None,
        }));
        let fastly = FastlyConfig::default();
        let receiver = Arc::new(Fastly::new(&fastly, 1 << 20));
        receivers.push(Instance { receiver, rate_limit: None });
        let (sender, work) = tokio::sync::mpsc::unbounded_channel();
        let queue = Queue::Memory(MemoryQueue::new(queue_bytes, metrics.clone()));
        let directory = tempfile::tempdir().unwrap();
        let rejected = Arc::new(RejectedLines::new(directory.path(), 1 << 20, Metrics::new()));
        let relay =
            Arc::new(Relay::new(receivers, queue, rejected, sender, metrics.clone(), Budget::new(u64::MAX)));
        let config = SpanEventsConfig { wait: Duration::from_secs(10), ..SpanEventsConfig::default() };
        Self { relay, work, processor: SpanEvents::new(&config, metrics.clone()), metrics, directory }
    }

    async fn post(&self, signal: Signal, encoding: Encoding, body: impl Into<Bytes>) -> Answer {
        let receiver = self.relay.receiver_at(&format!("/v1/{signal}")).unwrap();
        self.relay
            .receive(receiver, encoding.into(), &HeaderMap::new(), body.into().into(), &OwnSpan::Off)
            .await
    }

    /// Returns the exports of accepted requests, without any waiting.
    fn leaving(&mut self) -> Vec<Export> {
        let mut out = Vec::new();
        while let Ok(work) = self.work.try_recv() {
            self.processor.accept(Instant::now(), work, &mut out);
        }
        assert_eq!((self.processor.held_spans(), self.processor.next_deadline()), (0, None));
        out
    }

    fn metric(&self, name: &str) -> u32 {
        let series = format!("{name}{{receiver=\"otlp\",transport=\"http\"}} ");
        let text = String::from_utf8(self.metrics.render()).unwrap();
        text.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |value| value.parse().unwrap())
    }
}

#[tokio::test]
async fn a_request_of_any_signal_and_encoding_is_exported_as_one_at_once() {
    let mut bench = Bench::new(1 << 20);
    for (signal, items, name, json) in [
        (Signal::Traces, 1, "otelcol_receiver_accepted_spans", traces()),
        (Signal::Logs, 2, "otelcol_receiver_accepted_log_records", logs()),
        (Signal::Metrics, 1, "otelcol_receiver_accepted_metric_points", points()),
    ] {
        let protobuf = encode(signal, json.as_bytes()).unwrap();
        for (encoding, body) in [(Encoding::Json, json.clone().into_bytes()), (Encoding::Protobuf, protobuf)]
        {
            assert_eq!(bench.post(signal, encoding, body).await, Answer::Accepted);
            assert_eq!(bench.relay.queue_state().kept_bytes, json.len() as u64, "the queue keeps JSON");
            let [export] = <[Export; 1]>::try_from(bench.leaving()).unwrap();
            assert_eq!(
                (export.signal, export.items, &export.request.json()[..]),
                (signal, items, json.as_bytes())
            );
            export.receipts.into_iter().for_each(Carried::settle);
            assert_eq!(bench.relay.queue_state().kept_bytes, 0);
        }
        assert_eq!(bench.metric(name), 2 * items);
    }
}

#[tokio::test]
async fn an_empty_request_is_accepted_and_not_queued() {
    let mut bench = Bench::new(0);
    assert_eq!(bench.post(Signal::Traces, Encoding::Json, "{}").await, Answer::Empty);
    assert_eq!(bench.post(Signal::Logs, Encoding::Protobuf, "").await, Answer::Empty);
    assert!(bench.leaving().is_empty());
}

#[tokio::test]
async fn a_full_queue_rejects_the_request_and_counts_its_items() {
    let mut bench = Bench::new(2 * logs().len() as u64 - 1);
    assert_eq!(bench.post(Signal::Logs, Encoding::Json, logs()).await, Answer::Accepted);
    let answer = bench.post(Signal::Logs, Encoding::Json, logs()).await;
    assert!(matches!(answer, Answer::Unavailable { .. }), "{answer:?}");
    assert_eq!(bench.metric("otelcol_receiver_refused_log_records"), 2);
    assert_eq!(bench.leaving().len(), 1);
}

#[tokio::test]
async fn a_span_without_ids_is_a_partial_success_unless_it_is_alone() {
    let mut bench = Bench::new(1 << 20);
    let mixed = traces().replace(r#""spans":["#, r#""spans":[{"name":"no ids"},"#);
    let answer = bench.post(Signal::Traces, Encoding::Json, mixed).await;
    assert!(matches!(&answer, Answer::Partial { rejected, .. } if rejected.len() == 1), "{answer:?}");
    assert_eq!(*bench.leaving()[0].request.json(), traces());
    let answer = bench.post(Signal::Traces, Encoding::Json, traces().replace(IDS, r#""spanId":"""#)).await;
    assert!(matches!(&answer, Answer::Unusable { rejected } if rejected.len() == 1), "{answer:?}");
    assert!(bench.leaving().is_empty());
}

/// Asserts that nothing of the request is exported, and that it is counted and kept with this reason.
fn assert_warning(bench: &mut Bench, answer: &Answer, reason: &str) {
    assert!(matches!(answer, Answer::Partial { accepted: 0, rejected } if rejected.len() == 1), "{answer:?}");
    assert!(bench.leaving().is_empty());
    let metrics = String::from_utf8(bench.metrics.render()).unwrap();
    assert!(metrics.contains("spanrelay_lines_total{outcome=\"rejected\",receiver=\"otlp\"} 1"), "{metrics}");
    let kept = std::fs::read_to_string(bench.directory.path().join("rejected.ndjson")).unwrap();
    assert!(kept.contains(reason), "{kept}");
}

#[tokio::test]
async fn a_request_of_another_signal_gets_a_warning_and_is_counted_and_kept() {
    let mut bench = Bench::new(1 << 20);
    let answer = bench.post(Signal::Traces, Encoding::Json, logs()).await;
    assert_warning(&mut bench, &answer, "no resourceSpans in a request for traces");
}

#[tokio::test]
async fn content_of_another_signal_in_a_section_gets_a_warning_and_is_counted_and_kept() {
    let mut bench = Bench::new(1 << 20);
    let answer =
        bench.post(Signal::Traces, Encoding::Json, logs().replace("resourceLogs", "resourceSpans")).await;
    assert_warning(&mut bench, &answer, "content that does not belong in a request for traces");
}

#[tokio::test]
async fn a_section_of_another_signal_is_kept_and_not_counted_as_a_line_or_span() {
    for (bad_span, refused) in [("", 0), (r#"{"name":"no ids"},"#, 1)] {
        let mut bench = Bench::new(1 << 20);
        let body = traces().replace(r#""spans":["#, &format!(r#""spans":[{bad_span}"#));
        let body = format!("{},{}", body.strip_suffix('}').unwrap(), logs().strip_prefix('{').unwrap());
        let answer = bench.post(Signal::Traces, Encoding::Json, body).await;
        let Answer::Partial { accepted: 1, rejected } = answer else { panic!("{answer:?}") };
        assert_eq!(rejected.len(), refused + 1);
        assert_eq!(*bench.leaving()[0].request.json(), traces());
        assert_eq!(bench.metric("otelcol_receiver_refused_spans") as usize, refused);
        let metrics = String::from_utf8(bench.metrics.render()).unwrap();
        for (outcome, lines) in [("accepted", 1), ("rejected", 0)] {
            let series =
                format!("spanrelay_lines_total{{outcome=\"{outcome}\",receiver=\"otlp\"}} {lines}\n");
            assert!(metrics.contains(&series), "{series} in {metrics}");
        }
        let kept = std::fs::read_to_string(bench.directory.path().join("rejected.ndjson")).unwrap();
        assert!(kept.contains("logs in a request for traces: send them to /v1/logs"), "{kept}");
    }
}

#[tokio::test]
async fn an_event_without_a_time_gets_the_time_of_arrival_of_its_record() {
    let mut bench = Bench::new(1 << 20);
    let both = traces().replace("]}]}]}", &format!("]}}]}}],{}", logs().strip_prefix('{').unwrap()));
    let fastly = bench.relay.receiver_at("/fastly").expect("fastly is configured");
    let before = unix_nanos(now());
    let answer = bench
        .relay
        .receive(fastly, Encoding::Json.into(), &HeaderMap::new(), both.into(), &OwnSpan::Off)
        .await;
    assert_eq!(answer, Answer::Accepted);
    let mut out = Vec::new();
    let work = bench.work.try_recv().unwrap();
    bench.processor.accept(Instant::now(), work, &mut out);
    bench.processor.flush(&mut out);
    let request = out.iter().find(|export| export.signal == Signal::Traces).expect("the span is exported");
    let json: serde_json::Value = serde_json::from_slice(&request.request.json()).unwrap();
    let event = &json["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["events"][0];
    let time: u128 = event["timeUnixNano"].as_str().expect("an event has a time").parse().unwrap();
    assert!((before..=unix_nanos(now())).contains(&time), "{event}");
}

fn unix_nanos(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()
}

#[tokio::test]
async fn a_large_request_is_read_on_a_blocking_thread() {
    let mut bench = Bench::new(10 << 20);
    let long = "x".repeat(READ_IN_PLACE_BYTES);
    let json = traces().replace("\"s\"", &format!("\"{long}\""));
    let protobuf = encode(Signal::Traces, json.as_bytes()).unwrap();
    assert_eq!(bench.post(Signal::Traces, Encoding::Protobuf, protobuf).await, Answer::Accepted);
    assert_eq!(*bench.leaving()[0].request.json(), json);
}

#[tokio::test]
async fn a_relay_whose_processor_has_ended_is_not_ready() {
    let mut bench = Bench::new(1000);
    assert_eq!(bench.relay.ready(), Ok(()));
    bench.work.close();
    assert!(bench.relay.ready().unwrap_err().contains("restart"));
}
