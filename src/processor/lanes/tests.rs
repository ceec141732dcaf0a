use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::config::Unmatched;
use crate::event::{RecordId, Signal};
use crate::exporter::Carried;
use crate::otlp::LineReader;
use crate::queue::Ledger;

/// Time of the first record, in milliseconds since 1970.
const BEGIN: i64 = 1_700_000_000_000;

/// Lanes between records of partitions and a list of exports.
struct Bench {
    lanes: Lanes,
    queue: Arc<Queue>,
    rejects: Arc<Rejects>,
    /// Offset of the next record of each partition.
    next: BTreeMap<i32, u64>,
    out: Vec<Export>,
}

/// A queue that only counts.
#[derive(Default)]
struct Queue(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    acknowledged: u32,
    released: u32,
    settled: BTreeMap<Settled, u32>,
}

#[derive(Default)]
struct Rejects(Mutex<Vec<String>>);

impl RejectSink for Rejects {
    fn reject(&self, export: RejectedExport<'_>) {
        self.0.lock().unwrap().push(String::from_utf8_lossy(export.json).into_owned());
    }
}

impl Ledger for Queue {
    fn settled(&self, _: RecordId, _: Signal, items: Range<u32>, outcome: Settled) {
        *self.0.lock().unwrap().settled.entry(outcome).or_default() += items.end - items.start;
    }

    fn acknowledge(&self, _: RecordId, _: u64) {
        self.0.lock().unwrap().acknowledged += 1;
    }

    fn release(&self, _: RecordId, _: u64) {
        self.0.lock().unwrap().released += 1;
    }
}

fn span(number: u32) -> (Signal, String) {
    let span = json!({ "traceId": format!("{number:032x}"), "spanId": format!("{number:016x}"), "name": format!("span-{number}") });
    (Signal::Traces, json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [span] }] }] }).to_string())
}

fn event(number: u32) -> (Signal, String) {
    let record = json!({ "traceId": format!("{number:032x}"), "spanId": format!("{number:016x}"), "eventName": format!("event-{number}") });
    (Signal::Logs, json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": [record] }] }] }).to_string())
}

// === impl Bench ===

impl Bench {
    fn new(max_held_bytes: u64) -> Self {
        let config = SpanEventsConfig {
            wait: Duration::from_secs(10),
            max_held_bytes,
            unmatched: Unmatched::ForwardLog,
            keep_logs: false,
        };
        let rejects = Arc::<Rejects>::default();
        let lanes = Lanes::new(&config, Arc::clone(&rejects) as Arc<dyn RejectSink>, Metrics::new());
        Self { lanes, queue: Arc::default(), rejects, next: BTreeMap::new(), out: Vec::new() }
    }

    /// A record was read that was accepted so many seconds after the first.
    fn read(&mut self, partition: i32, seconds: i64, (signal, value): (Signal, String)) {
        self.read_event(partition, seconds, signal, value, None);
    }

    fn read_event(
        &mut self,
        partition: i32,
        seconds: i64,
        signal: Signal,
        value: String,
        event_id: Option<&str>,
    ) {
        let time = BEGIN + seconds * 1000;
        let headers = Headers {
            receiver: "fastly".to_owned(),
            signal,
            received: UNIX_EPOCH + Duration::from_millis(u64::try_from(time).unwrap()),
            event_id: event_id.map(str::to_owned),
            bypasses_matching: event_id.is_some(),
            supersede: None,
        };
        self.read_record(partition, time, Some(headers), value.into());
    }

    fn read_record(&mut self, partition: i32, time: i64, headers: Option<Headers>, value: Bytes) {
        let offset = self.next.entry(partition).or_default();
        let id = RecordId::in_partition(partition, *offset);
        *offset += 1;
        let taken = Taken::new(id, 1, Arc::clone(&self.queue) as Arc<dyn Ledger>);
        let progress = Progress::default();
        let contents = headers.zip(LineReader::default().read(&value).ok());
        let fetched = Fetched { partition, time, value, contents, taken, progress, is_redelivered: false };
        self.handle(ReaderEvent::Records(vec![fetched]));
    }

    fn handle(&mut self, event: ReaderEvent) {
        self.lanes.handle(event, &mut self.out);
        assert_eq!(self.lanes.held_bytes, self.lanes.held_in_lanes());
    }

    /// The partition was read to its end at this time.
    fn clock(&mut self, partition: i32, seconds: i64) {
        self.handle(ReaderEvent::Clock { partitions: vec![partition], time: BEGIN + seconds * 1000 });
    }

    fn give_back(&mut self, partition: i32) {
        let (done, given_back) = std::sync::mpsc::channel();
        self.handle(ReaderEvent::GiveBack { partitions: vec![partition], done });
        assert!(given_back.recv().is_err(), "the other side ends when that is done");
    }

    /// Names in the exports since the last call, which the downstream accepts.
    fn exported(&mut self) -> Vec<String> {
        let names = |export: Export| {
            let text = String::from_utf8(export.request.json().to_vec()).unwrap();
            let words =
                text.split('"').filter(|word| word.starts_with("span-") || word.starts_with("event-"));
            let words: Vec<String> = words.map(str::to_owned).collect();
            export.receipts.into_iter().for_each(Carried::settle);
            words.join("+")
        };
        self.out.drain(..).map(names).collect()
    }

    fn counts(&self) -> (u32, u32) {
        let counts = self.queue.0.lock().unwrap();
        (counts.acknowledged, counts.released)
    }
}

#[test]
fn an_outage_does_not_part_a_span_from_an_event_that_was_accepted_within_wait() {
    let mut bench = Bench::new(1 << 20);
    bench.read(0, 0, span(1));
    // However long nothing is read, its time stands still. Then the worker catches up.
    bench.read(0, 9, event(1));
    assert_eq!(bench.exported(), [""; 0]);
    bench.read(0, 3600, span(2));
    assert_eq!(bench.exported(), ["span-1+event-1"]);
    assert_eq!(bench.counts(), (2, 0));
}

#[test]
fn a_span_expires_by_its_own_partition_only() {
    let mut bench = Bench::new(1 << 20);
    bench.read(0, 0, span(1));
    bench.read(1, 0, span(2));
    bench.clock(1, 9);
    bench.read(1, 3600, span(3));
    assert_eq!(bench.exported(), ["span-2"]);
    // The end of the log was reached, and nothing came.
    bench.clock(0, 10);
    assert_eq!(bench.exported(), ["span-1"]);
    bench.clock(2, 10);
    assert_eq!(bench.exported(), [""; 0]);
}

#[test]
fn what_is_given_back_is_released_unresolved_and_its_next_owner_joins_it() {
    let mut bench = Bench::new(1 << 20);
    bench.read(0, 0, span(1));
    bench.read(1, 0, span(2));
    bench.give_back(0);
    assert_eq!((bench.exported(), bench.counts()), (Vec::new(), (0, 1)));
    // The same lanes are the next owner.
    bench.next.insert(0, 0);
    bench.read(0, 0, span(1));
    bench.read(0, 1, event(1));
    bench.read(1, 1, event(2));
    (0..2).for_each(|partition| bench.clock(partition, 11));
    assert_eq!(bench.exported(), ["span-1+event-1", "span-2+event-2"]);
    assert_eq!(bench.counts(), (4, 1));
}

#[test]
fn all_partitions_together_hold_no_more_than_the_bound() {
    const BOUND: u64 = 20_000;
    let mut bench = Bench::new(BOUND);
    for number in 1..=200_u32 {
        bench.read(i32::try_from(number % 7).unwrap(), 0, span(number));
        assert!(bench.lanes.held_bytes as u64 <= BOUND);
    }
    let early = bench.exported().len();
    assert!(early > 100, "{early} were released early");
    (0..7).for_each(|partition| bench.clock(partition, 10));
    assert_eq!(early + bench.exported().len(), 200);
    assert_eq!(bench.lanes.held_bytes, 0);
}

#[test]
fn an_event_that_comes_again_is_superseded_until_its_span_was_rejected() {
    let mut bench = Bench::new(1 << 20);
    let (signal, value) = span(1);
    bench.read_event(0, 0, signal, value.clone(), Some("a"));
    bench.read_event(0, 1, signal, value.clone(), Some("a"));
    bench.read_event(0, 2, signal, value.clone(), Some("b"));
    assert_eq!(bench.out.len(), 2);
    let settled = bench.queue.0.lock().unwrap().settled.clone();
    assert_eq!(settled, BTreeMap::from([(Settled::Superseded, 1)]));
    for export in bench.out.drain(..) {
        export.receipts.into_iter().for_each(|carried| carried.receipt.settle(Settled::Rejected));
    }
    bench.read_event(0, 3, signal, value, Some("a"));
    assert_eq!(bench.exported(), ["span-1"]);
}

#[test]
fn a_record_that_no_relay_wrote_is_kept_and_the_partition_goes_on() {
    let mut bench = Bench::new(1 << 20);
    bench.read_record(0, BEGIN, None, Bytes::from_static(b"{}"));
    bench.read_event(0, 0, Signal::Traces, "not OTLP".to_owned(), None);
    bench.read(0, 0, span(1));
    bench.clock(0, 10);
    assert_eq!(bench.exported(), ["span-1"]);
    assert_eq!(*bench.rejects.0.lock().unwrap(), ["{}", "not OTLP"]);
    assert_eq!(bench.counts(), (3, 0));
}

/// A time far from 1970 in either direction is the mistake of a writer.
#[test]
fn timestamps_of_another_age_harm_nothing() {
    let mut bench = Bench::new(1 << 20);
    let headers = |received: SystemTime| Headers {
        receiver: "fastly".to_owned(),
        signal: Signal::Traces,
        received,
        event_id: None,
        bypasses_matching: false,
        supersede: None,
    };
    for (number, time) in [(1, i64::MIN), (2, 0), (3, i64::MAX), (4, BEGIN)] {
        bench.read_record(0, time, Some(headers(UNIX_EPOCH)), span(number).1.into());
    }
    bench.give_back(0);
    assert_eq!(bench.counts().0 + bench.counts().1, u32::try_from(4 - bench.out.len()).unwrap());
}
