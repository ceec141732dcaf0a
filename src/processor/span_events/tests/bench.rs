//! Short notation for lines, and readable text for exports.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::SpanEvents;
use crate::config::{SpanEventsConfig, Unmatched};
use crate::event::{RecordId, Settled, Signal};
use crate::exporter::{Carried, Export};
use crate::otlp::{Logs, Metrics, Traces};
use crate::processor::Work;
use crate::queue::{Ledger, Taken};
use crate::receiver::{Item, Passage};
use crate::telemetry::metrics::Metrics as Telemetry;

/// Trace and span, each by a number: `(1, 2)` is span 0202020202020202 of trace 0101…
pub(super) type Ids = (u8, u8);

/// Contents of a line.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    pub(super) spans: Vec<(Ids, String)>,
    pub(super) records: Vec<(Option<Ids>, String)>,
    pub(super) points: bool,
    pub(super) passage: Passage,
}

/// A processor between a queue and a list of its exports.
pub(super) struct Bench {
    pub(super) processor: SpanEvents,
    pub(super) telemetry: Telemetry,
    queue: Arc<Queue>,
    start: Instant,
    /// Exports that are not delivered.
    pub(super) sent: Vec<Export>,
}

/// A queue that only counts.
#[derive(Default)]
struct Queue {
    taken: AtomicU64,
    acknowledged: AtomicU64,
    settled: Mutex<BTreeMap<(Signal, &'static str), u32>>,
}

pub(super) fn span(trace: u8, span: u8) -> Line {
    Line { spans: vec![((trace, span), format!("{trace}/{span}"))], ..Line::default() }
}

pub(super) fn log(trace: u8, span: u8, name: &str) -> Line {
    Line { records: vec![(Some((trace, span)), name.into())], ..Line::default() }
}

pub(super) fn plain_log(name: &str) -> Line {
    Line { records: vec![(None, name.into())], ..Line::default() }
}

pub(super) fn points() -> Line {
    Line { points: true, ..Line::default() }
}

pub(super) fn config() -> SpanEventsConfig {
    SpanEventsConfig {
        wait: Duration::from_secs(10),
        max_held_bytes: 64 << 20,
        unmatched: Unmatched::ForwardLog,
        keep_logs: false,
    }
}

// === impl Line ===

impl Line {
    /// Returns the line as read by a receiver whose items are not matched.
    pub(super) fn straight(self) -> Self {
        Self { passage: Passage::Straight, ..self }
    }

    pub(super) fn and(mut self, other: Self) -> Self {
        self.spans.extend(other.spans);
        self.records.extend(other.records);
        self.points |= other.points;
        self
    }

    pub(super) fn traces(&self) -> Option<Traces> {
        let spans = self.spans.iter().map(|((trace, span), name)| {
            json!({"traceId": hex(*trace, 16), "spanId": hex(*span, 8), "name": name,
                "startTimeUnixNano": "1655990400000000000", "endTimeUnixNano": "1655990400000000001"})
        });
        let text = nested(spans.collect(), ["resourceSpans", "scopeSpans", "spans"])?;
        Some(Traces::from_canonical(text).expect("canonical OTLP"))
    }

    pub(super) fn logs(&self) -> Option<Logs> {
        let records = self.records.iter().enumerate().map(|(index, (ids, name))| {
            let mut record = json!({"eventName": name, "body": {"stringValue": "said"},
                "timeUnixNano": (1_655_990_400_000_000_000 + index).to_string()});
            if let Some((trace, span)) = ids {
                record["traceId"] = hex(*trace, 16).into();
                record["spanId"] = hex(*span, 8).into();
            }
            record
        });
        let text = nested(records.collect(), ["resourceLogs", "scopeLogs", "logRecords"])?;
        Some(Logs::from_canonical(text).expect("canonical OTLP"))
    }

    fn item(self) -> Item {
        Item {
            line: 1,
            traces: self.traces(),
            logs: self.logs(),
            metrics: self.metrics(),
            protobuf: None,
            repairs: Vec::new(),
            passage: self.passage,
        }
    }

    fn metrics(&self) -> Option<Metrics> {
        let text = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "requests",
            "sum": {"dataPoints": [{"asInt": "1"}]}}]}]}]});
        self.points.then(|| Metrics::from_canonical(text.to_string().into()).expect("canonical OTLP"))
    }
}

/// An export request with two of these in each scope, and two scopes in each resource.
fn nested(leaves: Vec<Value>, [resources, scopes, leaf]: [&str; 3]) -> Option<Vec<u8>> {
    let scoped: Vec<Value> = leaves.chunks(2).map(|pair| json!({ leaf: pair })).collect();
    let resourced: Vec<Value> = scoped.chunks(2).map(|pair| json!({ scopes: pair })).collect();
    (!leaves.is_empty()).then(|| json!({ resources: resourced }).to_string().into_bytes())
}

fn hex(number: u8, bytes: usize) -> String {
    format!("{number:02x}").repeat(bytes)
}

// === impl Bench ===

impl Bench {
    pub(super) fn new(config: &SpanEventsConfig) -> Self {
        let telemetry = Telemetry::new();
        Self {
            processor: SpanEvents::new(config, telemetry.clone()),
            telemetry,
            queue: Arc::default(),
            start: Instant::now(),
            sent: Vec::new(),
        }
    }

    pub(super) fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// Passes one request to the processor, and returns the exports that are ready.
    pub(super) fn accept(&mut self, seconds: u64, lines: impl IntoIterator<Item = Line>) -> Vec<String> {
        let taken = self.take();
        let request = Work::of(&taken, lines.into_iter().map(Line::item).collect());
        taken.seal();
        let now = self.at(seconds);
        self.run(|processor, out| processor.accept(now, request, out))
    }

    /// Adds a record to the queue, for its receipts.
    pub(super) fn take(&self) -> Taken {
        let id = self.queue.taken.fetch_add(1, Ordering::Relaxed);
        Taken::new(RecordId(id), 1, Arc::clone(&self.queue) as Arc<dyn Ledger>)
    }

    /// Returns the number of requests that are not acknowledged.
    pub(super) fn kept_requests(&self) -> u64 {
        self.queue.taken.load(Ordering::Relaxed) - self.queue.acknowledged.load(Ordering::Relaxed)
    }

    pub(super) fn expire(&mut self, seconds: u64) -> Vec<String> {
        let now = self.at(seconds);
        self.run(|processor, out| processor.expire(now, out))
    }

    pub(super) fn flush(&mut self) -> Vec<String> {
        self.run(SpanEvents::flush)
    }

    /// Has the downstream accept all exports.
    pub(super) fn deliver(&mut self) {
        self.sent.drain(..).flat_map(|export| export.receipts).for_each(Carried::settle);
    }

    /// Returns the number of items with this outcome.
    pub(super) fn settled(&self, signal: Signal, outcome: Settled) -> u32 {
        self.queue.settled.lock().unwrap().get(&(signal, word(outcome))).copied().unwrap_or(0)
    }

    /// Returns the number of log events that were counted with this outcome.
    pub(super) fn counted(&self, outcome: &str) -> u32 {
        self.metric(&format!("spanrelay_log_events_total{{outcome=\"{outcome}\"}}"))
    }

    pub(super) fn metric(&self, series: &str) -> u32 {
        let text = String::from_utf8(self.telemetry.render()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or(0)
    }

    fn run(&mut self, step: impl FnOnce(&mut SpanEvents, &mut Vec<Export>)) -> Vec<String> {
        let before = self.sent.len();
        step(&mut self.processor, &mut self.sent);
        self.sent[before..].iter().map(describe).collect()
    }
}

impl Ledger for Queue {
    fn settled(&self, _: RecordId, signal: Signal, items: Range<u32>, outcome: Settled) {
        let mut settled = self.settled.lock().unwrap();
        *settled.entry((signal, word(outcome))).or_default() += items.end - items.start;
    }

    fn acknowledge(&self, _record: RecordId, _bytes: u64) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    fn release(&self, _: RecordId, _: u64) {}
}

fn word(outcome: Settled) -> &'static str {
    match outcome {
        Settled::Delivered => "delivered",
        Settled::Attached => "attached",
        Settled::Rejected => "rejected",
        Settled::Dropped => "dropped",
        Settled::Superseded => "superseded",
    }
}

// === what leaves, as text ===

/// `traces edge[hit miss] shield[]`, `traces carrier of 1/2[hit]`, `logs hit miss`, `metrics`.
pub(super) fn describe(export: &Export) -> String {
    let json: Value = serde_json::from_slice(&export.request.json()).unwrap();
    let parts: Vec<String> = match export.signal {
        Signal::Traces => spans_of(&json).into_iter().map(describe_span).collect(),
        Signal::Logs => leaves(&json, ["resourceLogs", "scopeLogs", "logRecords"])
            .into_iter()
            .map(|record| record["eventName"].as_str().unwrap().to_owned())
            .collect(),
        Signal::Metrics => vec!["request count".into()],
    };
    let items = if export.signal == Signal::Metrics { 1 } else { parts.len() as u32 };
    assert_eq!(export.items, items, "the number of items in {json}");
    format!("{} {}", export.signal, parts.join(" "))
}

fn describe_span(span: &Value) -> String {
    let name = match span["parentSpanId"].as_str() {
        Some(parent) => format!("carrier of {}/{}", number(&span["traceId"]), number(&parent.into())),
        None => span["name"].as_str().unwrap().to_owned(),
    };
    format!("{name}[{}]", events_of(span).join(" "))
}

pub(super) fn spans_of(request: &Value) -> Vec<&Value> {
    leaves(request, ["resourceSpans", "scopeSpans", "spans"])
}

pub(super) fn events_of(span: &Value) -> Vec<String> {
    let events = span["events"].as_array().into_iter().flatten();
    events.map(|event| event["name"].as_str().unwrap().to_owned()).collect()
}

pub(super) fn ids_of(span: &Value, span_id: &str) -> Ids {
    (number(&span["traceId"]), number(&span[span_id]))
}

fn number(id: &Value) -> u8 {
    u8::from_str_radix(id.as_str().unwrap().get(..2).unwrap(), 16).unwrap()
}

fn leaves<'a>(request: &'a Value, [resources, scopes, leaf]: [&'a str; 3]) -> Vec<&'a Value> {
    let list = |value: &'a Value, key| value[key].as_array().into_iter().flatten();
    list(request, resources)
        .flat_map(|resource| list(resource, scopes))
        .flat_map(|scope| list(scope, leaf))
        .collect()
}
