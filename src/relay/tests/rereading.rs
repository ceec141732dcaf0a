//! Records that are reread after a restart, compared with a naive model: every item is resolved exactly once, whatever
//! was resolved before and however the configuration changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;

use super::super::*;
use crate::config::{QueueConfig, ReceiverEndpoint, SpanEventsConfig, Storage, Sync, Unmatched};
use crate::event::{Settled, Signal};
use crate::exporter::{Carried, Export};
use crate::otlp::protobuf::encode;
use crate::processor::SpanEvents;
use crate::queue::MemoryLimits;
use crate::receiver::Identity;
use crate::receiver::fastly::Fastly;
use crate::receiver::fastly::FastlyConfig;
use crate::receiver::otlp::{Otlp, OtlpConfig};

/// Far longer than any step takes, so that a defect fails instead of hanging.
const DEADLINE: Duration = Duration::from_secs(30);

/// A queue directory, and the process that uses it.
struct Bench {
    runtime: Runtime,
    directory: TempDir,
    span_events: SpanEventsConfig,
    process: Option<Process>,
    /// Resolved items of all processes that have ended.
    resolved: BTreeMap<(Signal, &'static str), u32>,
}

/// A relay whose processor is driven by hand.
struct Process {
    relay: Arc<Relay>,
    feed: tokio::task::JoinHandle<()>,
    work: UnboundedReceiver<Vec<Work>>,
    processor: SpanEvents,
    metrics: Metrics,
    exports: Vec<Export>,
}

/// A receiver that does not store its parameters: with another configuration it reads differently, as another version
/// would.
struct Forgetful(Fastly);

// === impl Forgetful ===

impl Receiver for Forgetful {
    fn identity(&self) -> &Identity {
        self.0.identity()
    }

    fn read(&self, body: &Bytes) -> Reading {
        self.0.read(body)
    }
}

/// A receiver that reads a body only if it came with the header `x-kind: lines`.
struct ByHeader(Fastly);

// === impl ByHeader ===

impl Receiver for ByHeader {
    fn identity(&self) -> &Identity {
        self.0.identity()
    }

    fn kept_headers(&self) -> &'static [&'static str] {
        &["x-kind", "x-absent"]
    }

    fn read(&self, _: &Bytes) -> Reading {
        Reading::default()
    }

    fn read_as(&self, body: &Bytes, _: &[u8], headers: &KeptHeaders) -> Reading {
        match headers.get("x-kind") {
            Some("lines") => self.0.read(body),
            _ => self.read(body),
        }
    }
}

fn fastly(repair: bool, max_line_bytes: usize) -> Fastly {
    Fastly::new(&FastlyConfig { repair, ..FastlyConfig::default() }, max_line_bytes)
}

// === impl Bench ===

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
        Self {
            runtime: runtime.unwrap(),
            directory: tempfile::tempdir().unwrap(),
            span_events: SpanEventsConfig { wait: Duration::from_secs(10), ..SpanEventsConfig::default() },
            process: None,
            resolved: BTreeMap::new(),
        }
    }

    /// Starts the next process, after ending the previous one.
    fn start(&mut self, receiver: impl Receiver + 'static) {
        self.stop();
        self.process =
            Some(self.runtime.block_on(Process::start(self.directory.path(), &self.span_events, receiver)));
    }

    /// Ends the process: items that are not resolved stay in the queue.
    fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            for signal in Signal::ALL {
                for outcome in ["delivered", "attached", "rejected", "dropped"] {
                    *self.resolved.entry((signal, outcome)).or_default() += process.settled(signal, outcome);
                }
            }
            self.runtime.block_on(process.stop());
        }
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    fn post(&mut self, body: &str) -> Answer {
        self.post_with(&HeaderMap::new(), body)
    }

    /// Posts a request in protobuf to the receiver of traces.
    fn post_protobuf(&mut self, body: Vec<u8>) -> Answer {
        let relay = Arc::clone(&self.process().relay);
        let receiver = relay.receiver_at("/v1/traces").unwrap();
        let body = Bytes::from(body);
        let headers = HeaderMap::new();
        self.runtime.block_on(relay.receive(
            receiver,
            Encoding::Protobuf.into(),
            &headers,
            body.into(),
            &OwnSpan::Off,
        ))
    }

    fn post_with(&mut self, headers: &HeaderMap, body: &str) -> Answer {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let relay = Arc::clone(&self.process().relay);
        let receiver = relay.receiver_at("/fastly").unwrap();
        self.runtime.block_on(relay.receive(
            receiver,
            Encoding::Json.into(),
            headers,
            body.into(),
            &OwnSpan::Off,
        ))
    }

    /// Waits until `items` items have reached the processor since the start, and exports all of them.
    fn exported(&mut self, items: usize) {
        let Self { runtime, process, .. } = self;
        runtime.block_on(process.as_mut().unwrap().exported(items));
    }

    fn names(&mut self) -> BTreeSet<String> {
        let names: Vec<String> = self.process().exports.iter().flat_map(names).collect();
        let distinct: BTreeSet<String> = names.iter().cloned().collect();
        assert_eq!(distinct.len(), names.len(), "an item is exported twice: {names:?}");
        distinct
    }

    fn rejected(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("rejected.ndjson")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

// === impl Process ===

impl Process {
    #[expect(clippy::disallowed_methods, reason = "nobody else sends here")]
    async fn start(
        directory: &Path,
        span_events: &SpanEventsConfig,
        receiver: impl Receiver + 'static,
    ) -> Self {
        let metrics = Metrics::new();
        let config = QueueConfig {
            max_memory_bytes: 0,
            storage: Storage::Disk,
            directory: directory.to_owned(),
            max_size: 1 << 30,
            sync: Sync::Never,
            rejected_max_size: 1 << 30,
            keep_unparsed: true,
            kafka: None,
        };
        let queue = Queue::open(
            &config,
            MemoryLimits { all_bytes: 1 << 30, exporting_bytes: 1 << 30 },
            metrics.clone(),
        )
        .unwrap();
        let (sender, work) = tokio::sync::mpsc::unbounded_channel();
        let receivers = vec![Instance { receiver: Arc::new(receiver), rate_limit: None }];
        let rejected = Arc::new(RejectedLines::new(directory, 1 << 30, metrics.clone()));
        let relay =
            Arc::new(Relay::new(receivers, queue, rejected, sender, metrics.clone(), Budget::new(u64::MAX)));
        let feed = tokio::spawn(Arc::clone(&relay).feed());
        let processor = SpanEvents::new(span_events, metrics.clone());
        Self { relay, feed, work, processor, metrics, exports: Vec::new() }
    }

    async fn stop(self) {
        let Self { relay, feed, exports, processor, work, .. } = self;
        feed.abort();
        drop(feed.await);
        drop((exports, processor, work));
        relay.close().await;
    }

    async fn exported(&mut self, items: usize) {
        let mut found = 0;
        while found < items {
            let work = tokio::time::timeout(DEADLINE, self.work.recv()).await;
            let work = work.unwrap_or_else(|_| panic!("{found} of {items} items arrived")).unwrap();
            found += work.iter().flat_map(Work::items).map(|(_, items)| items as usize).sum::<usize>();
            self.processor.accept(Instant::now(), work, &mut self.exports);
        }
        assert_eq!(found, items, "other items arrive, too");
        self.processor.flush(&mut self.exports);
    }

    fn metric(&self, series: &str) -> u32 {
        let text = String::from_utf8(self.metrics.render()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or(0)
    }

    fn settled(&self, signal: Signal, outcome: &str) -> u32 {
        self.metric(&format!("spanrelay_settled_items_total{{fate=\"{outcome}\",signal=\"{signal}\"}}"))
    }
}

/// Returns the names of the items in an export; events are log records.
fn names(export: &Export) -> Vec<String> {
    let json: Value = serde_json::from_slice(&export.request.json()).unwrap();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let [resources, scopes, leaves] = match export.signal {
        Signal::Traces => ["resourceSpans", "scopeSpans", "spans"],
        Signal::Logs => ["resourceLogs", "scopeLogs", "logRecords"],
        Signal::Metrics => ["resourceMetrics", "scopeMetrics", "metrics"],
    };
    let leaves = list(&json, resources)
        .iter()
        .flat_map(|resource| list(resource, scopes))
        .flat_map(|scope| list(&scope, leaves))
        .collect::<Vec<_>>();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names = leaves.iter().flat_map(|leaf| match export.signal {
        Signal::Traces => {
            let events = list(leaf, "events");
            std::iter::once(text(&leaf["name"]))
                .chain(events.iter().map(|event| text(&event["name"])))
                .collect()
        }
        Signal::Logs => vec![text(&leaf["eventName"])],
        Signal::Metrics => {
            list(&leaf["gauge"], "dataPoints").iter().map(|point| text(&point["asInt"])).collect()
        }
    });
    names.collect()
}

/// A unit of a body: the span ids of its spans, the spans that its log records name, its data points.
#[derive(Debug, Clone)]
struct Unit {
    spans: Vec<u8>,
    records: Vec<Option<u8>>,
    points: usize,
}

/// Takes a part of one of the exports, or all of it when it cannot be split there.
fn take_part(exports: &mut Vec<Export>, export: usize, part: u32) -> Option<Export> {
    if exports.is_empty() {
        return None;
    }
    let export = exports.swap_remove(export % exports.len());
    Some(match export.split_at(part) {
        Ok([chosen, rest]) => {
            exports.push(rest);
            chosen
        }
        Err(whole) => whole,
    })
}

#[derive(Debug, Clone)]
enum Step {
    Post(Vec<Unit>),
    /// Settles one of the exports, or a part of it.
    Settle {
        export: usize,
        part: u32,
        outcome: Settled,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let unit = (
        proptest::collection::vec(0_u8..6, 0..4),
        proptest::collection::vec(proptest::option::weighted(0.8, 0_u8..6), 0..4),
        0_usize..3,
    )
        .prop_map(|(spans, records, points)| Unit { spans, records, points });
    let outcome = prop_oneof![Just(Settled::Delivered), Just(Settled::Rejected)];
    let step = prop_oneof![
        2 => proptest::collection::vec(unit, 1..4).prop_map(Step::Post),
        4 => (0_usize..20, 1_u32..5, outcome)
            .prop_map(|(export, part, outcome)| Step::Settle { export, part, outcome }),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..20)
}

/// Returns the unit as a line; every item gets a unique name.
fn line(unit: &Unit, next: &mut u32, names: &mut BTreeSet<String>) -> String {
    let mut name = || {
        *next += 1;
        names.insert(next.to_string());
        next.to_string()
    };
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let id = |span: u8| format!("{:016x}", u64::from(span) + 1);
    let spans: Vec<Value> = unit
        .spans
        .iter()
        .map(|span| json!({"traceId": trace, "spanId": id(*span), "name": name()}))
        .collect();
    let records: Vec<Value> = (unit.records.iter())
        .map(|span| match span {
            Some(span) => json!({"traceId": trace, "spanId": id(*span), "eventName": name()}),
            None => json!({"eventName": name()}),
        })
        .collect();
    let points: Vec<Value> = (0..unit.points).map(|_| json!({"asInt": name()})).collect();
    let mut line = json!({});
    if !spans.is_empty() {
        line["resourceSpans"] = json!([{"scopeSpans": [{"spans": spans}]}]);
    }
    if !records.is_empty() {
        line["resourceLogs"] = json!([{"scopeLogs": [{"logRecords": records}]}]);
    }
    if !points.is_empty() {
        line["resourceMetrics"] =
            json!([{"scopeMetrics": [{"metrics": [{"gauge": {"dataPoints": points}}]}]}]);
    }
    line.to_string()
}

/// Signal as which an item is exported, and its name.
type Exported = (Signal, String);

/// Open items by name, each with the signals as which it is exported and not settled.
#[derive(Default)]
struct Model {
    open: BTreeMap<String, BTreeSet<Signal>>,
    /// Outcomes of items of which one of two exports is settled.
    half: BTreeMap<String, Settled>,
    outcomes: BTreeMap<(Signal, &'static str), u32>,
    /// Signals as which items were accepted.
    accepted: BTreeMap<String, Signal>,
}

// === impl Model ===

impl Model {
    /// Compares the current exports with the model. Items of which nothing is settled may be exported as other signals
    /// than before a restart; of the others, exactly what is not settled is exported.
    fn check_exports(&mut self, exported_items: Vec<Exported>, unmatched: Unmatched) {
        let mut left: BTreeMap<String, BTreeSet<Signal>> = BTreeMap::new();
        for (signal, name) in exported_items {
            assert!(
                left.entry(name.clone()).or_default().insert(signal),
                "{name} is exported twice as {signal}"
            );
        }
        for (name, open) in std::mem::take(&mut self.open) {
            match left.remove(&name) {
                Some(found) => {
                    if self.half.contains_key(&name) {
                        assert_eq!(found, open, "exports of {name}");
                    }
                    self.open.insert(name, found);
                }
                None => {
                    assert_eq!(unmatched, Unmatched::Drop, "{name} is not exported");
                    assert!(!self.half.contains_key(&name), "{name} was an event or a log already");
                    *self.outcomes.entry((Signal::Logs, "dropped")).or_default() += 1;
                }
            }
        }
        assert!(left.is_empty(), "resolved before: {left:?}");
    }

    /// Adds the items of these units, whose names ascend in the order of the unit.
    fn accept(&mut self, units: &[Unit], names: BTreeSet<String>) {
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort_by_key(|name| name.parse::<u32>().unwrap());
        let signals = units.iter().flat_map(|unit| {
            let of = |signal, items| std::iter::repeat_n(signal, items);
            of(Signal::Traces, unit.spans.len())
                .chain(of(Signal::Logs, unit.records.len()))
                .chain(of(Signal::Metrics, unit.points))
        });
        for (name, signal) in names.into_iter().zip(signals) {
            self.open.insert(name.clone(), BTreeSet::new());
            self.accepted.insert(name, signal);
        }
    }

    fn settle(&mut self, (signal, name): &Exported, outcome: Settled) {
        let open = self.open.get_mut(name).unwrap_or_else(|| panic!("{name} is resolved twice"));
        assert!(open.remove(signal), "{name} as {signal} is settled twice");
        let outcome = self.half.remove(name).map_or(outcome, |other| other.max(outcome));
        if !open.is_empty() {
            self.half.insert(name.clone(), outcome);
            return;
        }
        self.open.remove(name);
        let word = match outcome {
            Settled::Attached => "attached",
            Settled::Delivered => "delivered",
            _ => "rejected",
        };
        *self.outcomes.entry((self.accepted[name], word)).or_default() += 1;
    }
}

/// Returns the items of an export, and the outcome of each when the export is accepted.
fn exported_items(export: &Export) -> Vec<(Exported, Settled)> {
    let one = |name: String, outcome| ((export.signal, name), outcome);
    if export.signal != Signal::Traces {
        return names(export).into_iter().map(|name| one(name, Settled::Delivered)).collect();
    }
    let json: Value = serde_json::from_slice(&export.request.json()).unwrap();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let scopes = list(&json, "resourceSpans").into_iter().flat_map(|resource| list(&resource, "scopeSpans"));
    let spans = scopes.flat_map(|scope| list(&scope, "spans"));
    spans
        .flat_map(|span| {
            // The only event of a carrier span is the log record that the span is named after.
            let events = if span["parentSpanId"].is_null() { list(&span, "events") } else { Vec::new() };
            let events = events.iter().map(|event| one(name(event), Settled::Attached)).collect::<Vec<_>>();
            std::iter::once(one(name(&span), Settled::Delivered)).chain(events).collect::<Vec<_>>()
        })
        .collect()
}

fn keep_logs(steps: Vec<Step>, unmatched: Unmatched) {
    let mut bench = Bench::new();
    bench.span_events = SpanEventsConfig { keep_logs: true, unmatched, ..bench.span_events };
    bench.start(fastly(true, 1 << 20));
    let (mut next, mut model) = (0, Model::default());
    for step in steps {
        match step {
            Step::Post(units) => {
                let mut items = BTreeSet::new();
                let body: Vec<String> = units.iter().map(|unit| line(unit, &mut next, &mut items)).collect();
                bench.post(&body.join("\n"));
                bench.exported(items.len());
                model.accept(&units, items);
            }
            Step::Settle { export, part, outcome } => {
                let exports = &mut bench.process().exports;
                let Some(chosen) = take_part(exports, export, part) else { continue };
                for (item, accepted) in exported_items(&chosen) {
                    let outcome = if outcome == Settled::Delivered { accepted } else { outcome };
                    model.settle(&item, outcome);
                }
                settle(chosen, outcome);
            }
            Step::Restart => {
                bench.start(fastly(true, 1 << 20));
                bench.exported(model.open.len());
            }
        }
        let left = bench.process().exports.iter().flat_map(exported_items).map(|(item, _)| item).collect();
        model.check_exports(left, unmatched);
    }
    for export in std::mem::take(&mut bench.process().exports) {
        exported_items(&export).iter().for_each(|(item, accepted)| model.settle(item, *accepted));
        settle(export, Settled::Delivered);
    }
    assert_eq!(bench.process().relay.queue_state().kept_bytes, 0);
    bench.stop();
    bench.resolved.retain(|_, items| *items > 0);
    assert_eq!(bench.resolved, model.outcomes, "every item counts once");
}

fn settle(export: Export, outcome: Settled) {
    export.receipts.into_iter().for_each(|carried| match outcome {
        Settled::Delivered => carried.settle(),
        outcome => carried.receipt.settle(outcome),
    });
}

fn run_story(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut bench = Bench::new();
    bench.start(fastly(true, 1 << 20));
    let (mut next, mut open) = (0, BTreeSet::new());
    for step in steps {
        match step {
            Step::Post(units) => {
                let before = open.len();
                let body: Vec<String> = units.iter().map(|unit| line(unit, &mut next, &mut open)).collect();
                bench.post(&body.join("\n"));
                bench.exported(open.len() - before);
            }
            Step::Settle { export, part, outcome } => {
                let exports = &mut bench.process().exports;
                let Some(chosen) = take_part(exports, export, part) else { continue };
                for name in names(&chosen) {
                    prop_assert!(open.remove(&name), "{name} is resolved twice");
                }
                settle(chosen, outcome);
            }
            Step::Restart => {
                bench.start(fastly(true, 1 << 20));
                bench.exported(open.len());
            }
        }
        prop_assert_eq!(&bench.names(), &open);
    }
    let process = bench.process();
    process.exports.drain(..).flat_map(|export| export.receipts).for_each(Carried::settle);
    prop_assert_eq!(process.relay.queue_state().kept_bytes, 0);
    bench.start(fastly(true, 1 << 20));
    prop_assert_eq!(bench.process().relay.queue_state().kept_bytes, 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_item_is_resolved_once_across_restarts(steps in steps()) {
        run_story(steps)?;
    }

    #[test]
    fn with_keep_logs_every_item_is_exported_once_per_signal_across_restarts(
        steps in steps(),
        unmatched in prop_oneof![Just(Unmatched::ForwardLog), Just(Unmatched::CarrierSpan), Just(Unmatched::Drop)],
    ) {
        keep_logs(steps, unmatched);
    }
}

fn span(name: &str) -> String {
    let unit = Unit { spans: vec![1], records: Vec::new(), points: 0 };
    line(&unit, &mut 0, &mut BTreeSet::new()).replace("\"name\":\"1\"", &format!("\"name\":\"{name}\""))
}

#[test]
fn units_repaired_at_acceptance_are_repaired_again_with_repair_off() {
    let mut bench = Bench::new();
    bench.start(fastly(true, 1 << 20));
    let body = format!("{}\nno JSON\n{}", span("a").replace("}]}]}]}", "},]}]}]}"), span(&"x".repeat(3000)));
    assert!(matches!(bench.post(&body), Answer::Partial { accepted: 2, .. }));
    bench.exported(2);
    let before = bench.names();
    for receiver in [fastly(false, 1 << 20), fastly(true, 1000), fastly(false, 1)] {
        bench.start(receiver);
        bench.exported(2);
        assert_eq!(bench.names(), before);
        assert_eq!(bench.rejected().len(), 1, "the rejected lines have no duplicates");
        assert_eq!(bench.process().metric("spanrelay_recovered_items_total{signal=\"traces\"}"), 2);
    }
}

#[test]
fn a_body_is_read_again_with_the_headers_that_it_came_with() {
    let mut bench = Bench::new();
    bench.start(ByHeader(fastly(true, 1 << 20)));
    let lines: HeaderMap =
        [(HeaderName::from_static("x-kind"), HeaderValue::from_static("lines"))].into_iter().collect();
    let mut twice = lines.clone();
    twice.append("x-kind", HeaderValue::from_static("lines"));
    // A header with two lines is ambiguous, so the receiver sees none.
    for nothing in [HeaderMap::new(), twice] {
        assert_eq!(bench.post_with(&nothing, &span("a")), Answer::Empty);
    }
    assert_eq!(bench.post_with(&lines, &span("b")), Answer::Accepted);
    for _ in 0..2 {
        bench.exported(1);
        assert_eq!(bench.names(), BTreeSet::from(["b".to_owned()]));
        bench.start(ByHeader(fastly(true, 1 << 20)));
    }
    assert_eq!(bench.rejected(), [Value::Null; 0]);
}

#[test]
fn units_that_a_later_version_reads_differently_are_delivered_or_kept() {
    let mut bench = Bench::new();
    bench.start(Forgetful(fastly(true, 1 << 20)));
    let broken = span("broken").replace("}]}]}]}", "},]}]}]}");
    let body = [span("a"), broken.clone(), "no JSON".to_owned(), span("b")].join("\n");
    assert!(matches!(bench.post(&body), Answer::Partial { accepted: 3, .. }));
    bench.exported(3);
    // The second item is delivered: in the next reading, its ordinal belongs to another item.
    let delivered = bench.process().exports.remove(1);
    assert_eq!(names(&delivered), ["broken"]);
    delivered.receipts.into_iter().for_each(Carried::settle);

    bench.start(Forgetful(fastly(false, 1 << 20)));
    bench.exported(2);
    assert_eq!(bench.names(), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    let recovered = "spanrelay_recovered_items_total{signal=\"traces\"}";
    assert_eq!(bench.process().metric(recovered), 3);
    assert_eq!(bench.process().settled(Signal::Traces, "rejected"), 1);

    // The next process does not keep or count it again.
    bench.start(Forgetful(fastly(false, 1 << 20)));
    bench.exported(2);
    let kept: Vec<Value> = bench.rejected().iter().map(|entry| entry["input"].clone()).collect();
    assert_eq!(kept, [Value::from("no JSON"), broken.into()]);
    let process = bench.process();
    process.exports.drain(..).flat_map(|export| export.receipts).for_each(Carried::settle);
    assert_eq!(process.metric(recovered), 2);
    let settled = ["delivered", "rejected"].map(|outcome| process.settled(Signal::Traces, outcome));
    assert_eq!((settled, process.relay.queue_state().kept_bytes), ([2, 0], 0));
}

#[test]
fn an_unreadable_record_is_kept_whole() {
    let mut bench = Bench::new();
    bench.start(Forgetful(fastly(true, 1 << 20)));
    let broken = span("a").replace("}]}]}]}", "},]}]}]}");
    assert_eq!(bench.post(&broken), Answer::Accepted);
    bench.start(Forgetful(fastly(false, 1 << 20)));
    let relay = Arc::clone(&bench.process().relay);
    bench.runtime.block_on(async {
        let settled = async {
            while relay.queue_state().kept_bytes > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, settled).await.expect("the record is resolved");
    });
    assert_eq!(bench.rejected().len(), 1);
    assert_eq!(bench.process().settled(Signal::Traces, "rejected"), 1);
}

#[test]
fn requests_of_a_removed_receiver_stay_until_it_is_configured_again() {
    let mut bench = Bench::new();
    bench.start(fastly(true, 1 << 20));
    bench.post(&span("a"));
    let endpoint = ReceiverEndpoint { path: "/fastly".to_owned(), ..ReceiverEndpoint::of("fastly/other") };
    let other = FastlyConfig { endpoint, ..FastlyConfig::default() };
    bench.start(Fastly::new(&other, 1 << 20));
    bench.post(&span("b"));
    bench.exported(1);
    bench.process().exports.drain(..).flat_map(|export| export.receipts).for_each(Carried::settle);
    let state = bench.process().relay.queue_state();
    assert!(state.kept_bytes > 0);
    assert!(state.oldest > Duration::ZERO, "a kept record has an age");
    bench.start(fastly(true, 1 << 20));
    bench.exported(1);
    assert_eq!(bench.names(), BTreeSet::from(["a".to_owned()]));
}

#[test]
fn a_bad_span_in_a_unit_with_a_good_one_is_counted_as_refused() {
    let mut bench = Bench::new();
    bench.start(fastly(true, 1 << 20));
    let unit = Unit { spans: vec![1, 2], records: Vec::new(), points: 0 };
    let bad = line(&unit, &mut 0, &mut BTreeSet::new()).replacen("0af7651916cd43dd8448eb211c80319c", "zz", 1);
    assert!(matches!(bench.post(&format!("{bad}\nno JSON")), Answer::Partial { accepted: 1, .. }));
    let process = bench.process();
    let of = |name: &str| process.metric(&format!("{name}{{receiver=\"fastly\",transport=\"http\"}}"));
    assert_eq!(
        ["otelcol_receiver_accepted_spans", "otelcol_receiver_refused_spans"].map(of),
        [1, 1],
        "a line that is not a unit has no spans"
    );
}

#[test]
fn protobuf_that_stayed_protobuf_is_reread_without_its_settled_items_for_any_downstream() {
    let otlp = |keeps_protobuf| {
        Otlp::new(&OtlpConfig::default(), Signal::Traces, 1 << 20).keeping_protobuf(keeps_protobuf)
    };
    let mut bench = Bench::new();
    bench.start(otlp(true));
    let spans: Vec<Value> = (1..=4)
        .map(|number| json!({"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": format!("{number:016x}"), "name": number.to_string()}))
        .collect();
    let json = json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).to_string();
    let body = encode(Signal::Traces, json.as_bytes()).unwrap();
    assert_eq!(bench.post_protobuf(body.clone()), Answer::Accepted);
    bench.exported(4);
    let export = bench.process().exports.pop().unwrap();
    assert_eq!(export.request.bytes()[..], body);
    let [first, rest] = export.split_at(1).unwrap();
    let [middle, last] = rest.split_at(2).unwrap();
    assert!(middle.request.protobuf().is_some());
    assert_eq!(names(&middle), ["2", "3"]);
    middle.receipts.into_iter().for_each(Carried::settle);
    drop((first, last));
    for keeps_protobuf in [true, false] {
        bench.start(otlp(keeps_protobuf));
        bench.exported(2);
        assert_eq!(bench.names(), BTreeSet::from(["1".to_owned(), "4".to_owned()]));
        let export = &bench.process().exports[0];
        assert_eq!(export.request.protobuf().is_some(), keeps_protobuf);
    }
    let exports = std::mem::take(&mut bench.process().exports);
    exports.into_iter().flat_map(|export| export.receipts).for_each(Carried::settle);
    bench.stop();
    assert_eq!(bench.resolved[&(Signal::Traces, "delivered")], 4);
    assert!(bench.rejected().is_empty());
}
