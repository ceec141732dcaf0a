//! Accepting into a queue that several relays share.
//!
//! In: a reading. Out: one [`TopicMessage`] for each trace and signal of each unit, spans before log records, and the answer once
//! all of them are acknowledged. Promises: a unit with a message that is too large is rejected alone, before anything of it
//! is written; the cost is linear in the body.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::observer::RequestObserver;
use super::{Answer, Arrival, Relay};
use crate::event::{RejectCode, Signal};
use crate::otlp::{ExportRequest, TraceId};
use crate::queue::{EncodedHeaders, Headers, KafkaQueue, OfferError, TopicMessage, WriteError};
use crate::receiver::{Item, Passage, Reading, Rejected, Scope, Supersede};

/// The messages of a unit may take this many times its own size, because each repeats its resource and scope. A unit that
/// would take more is not divided.
const MAX_GROWTH: usize = 16;
/// A small unit may grow to this size in any case.
const SMALL: usize = 64 * 1024;

/// Messages, and what each holds.
#[derive(Default)]
struct Outbox {
    messages: Vec<TopicMessage>,
    contents: Vec<MessageContent>,
    /// Headers of the messages, which differ by signal and passage.
    encoded: Vec<(Signal, Passage, Arc<EncodedHeaders>)>,
}

/// Items of a message.
#[derive(Clone, Copy)]
struct MessageContent {
    /// Index of the unit in the reading.
    unit: usize,
    signal: Signal,
    items: u32,
}

impl Relay {
    /// Writes what was read of a body to the shared queue, and answers when it is acknowledged.
    pub(super) async fn share(
        self: &Arc<Self>,
        queue: &KafkaQueue,
        arrival: Arrival,
        mut reading: Reading,
        observer: &mut RequestObserver<'_>,
    ) -> Answer {
        // The body counts against the bound of all bodies until it is written.
        let Arrival { index, received, body, span, charge: _charge, .. } = arrival;
        let headers = Headers {
            receiver: self.receiver(index).id().to_owned(),
            signal: Signal::Traces,
            received,
            event_id: reading.event_id.take(),
            bypasses_matching: false,
            supersede: reading.supersede.as_ref().map(Supersede::to_text),
        };
        let (outbox, too_large) = Outbox::of(&reading.items, &headers, queue.max_message_bytes());
        reject_units(
            &mut reading,
            &too_large,
            &body.bytes,
            "the record is larger than queue.kafka.producer.max_message_bytes",
        );
        let Outbox { messages, contents, .. } = outbox;
        let offer = self.metrics.traces.part_of(&span, "queue offer");
        let failures = queue.write(&messages).await;
        offer.end();
        let is_too_large = |(_, failure): &&(usize, WriteError)| *failure == WriteError::TooLarge;
        if let Some((_, WriteError::Unavailable(reason))) =
            failures.iter().find(|failure| !is_too_large(failure))
        {
            let refusal = OfferError::Unwritable { reason: Arc::clone(reason) };
            offer.failed(refusal.kind(), &refusal.to_string());
            self.written_in_part(observer, &contents, &failures);
            return self.unavailable(index, &refusal);
        }
        let mut late: Vec<usize> = failures.iter().map(|(message, _)| contents[*message].unit).collect();
        late.sort_unstable();
        late.dedup();
        reject_units(
            &mut reading,
            &late,
            &body.bytes,
            "the record is larger than max.message.bytes of the topic",
        );
        self.keep_rejected(index, received, &body, &reading).await;
        observer.reread(&reading);
        let accepted = reading.items.len();
        if accepted == 0 {
            return Answer::Unusable { rejected: reading.rejected };
        }
        match reading.rejected.is_empty() {
            true => Answer::Accepted,
            false => Answer::Partial { accepted, rejected: reading.rejected },
        }
    }

    /// Counts a body that was not written as a whole. What was written of it is delivered, and counts as accepted.
    fn written_in_part(
        &self,
        observer: &mut RequestObserver<'_>,
        contents: &[MessageContent],
        failures: &[(usize, WriteError)],
    ) {
        let mut written = vec![true; contents.len()];
        failures.iter().for_each(|(message, _)| written[*message] = false);
        if failures.len() < contents.len() {
            self.metrics.kafka.partial_bodies.inc();
        }
        let items = contents.iter().zip(written);
        observer.queued_in_part(items.map(|(content, written)| (content.signal, content.items, written)));
    }
}

/// Moves units from what was accepted to what was rejected.
fn reject_units(reading: &mut Reading, units: &[usize], body: &Bytes, reason: &str) {
    if units.is_empty() {
        return;
    }
    let is_alone = reading.items.len() == 1 && reading.rejected.is_empty();
    let mut index = 0;
    let mut rejected = Vec::new();
    reading.items.retain(|item| {
        let stays = units.binary_search(&index).is_err();
        index += 1;
        if !stays {
            let input = if is_alone { body.clone() } else { text_of(item) };
            let reason = reason.to_owned();
            let (scope, code, line) = (Scope::Unit, RejectCode::Other, item.line);
            rejected.push(Rejected { scope, code, line, column: 1, at: 0, reason, input, scrubbed: None });
        }
        stays
    });
    reading.rejected.append(&mut rejected);
    reading.rejected.sort_by_key(|rejected| (rejected.scope == Scope::Section, rejected.line));
}

/// Returns the documents of a unit, one on each line.
fn text_of(item: &Item) -> Bytes {
    let mut texts = documents(item).map(|(_, request, _, _)| request.into_json());
    let (Some(first), second) = (texts.next(), texts.next()) else { return Bytes::new() };
    let Some(second) = second else { return first };
    let mut joined = first.to_vec();
    for text in std::iter::once(second).chain(texts) {
        joined.push(b'\n');
        joined.extend_from_slice(&text);
    }
    joined.into()
}

/// A document: its signal, its request, the number of its items, and the trace of each where items have one.
type Document = (Signal, ExportRequest, u32, Vec<Option<TraceId>>);

/// Returns the documents of a unit, spans first.
fn documents(item: &Item) -> impl Iterator<Item = Document> {
    let traces = item.traces.clone().map(|traces| {
        let ids = traces.spans().map(|(trace, _)| Some(trace)).collect();
        let items = traces.span_count();
        (Signal::Traces, traces.into_request(), items, ids)
    });
    let logs = item.logs.clone().and_then(|logs| {
        let ids = logs.records().map(|ids| ids.map(|(trace, _)| trace)).collect();
        let items = logs.record_count();
        Some((Signal::Logs, logs.into_request(|_| true)?, items, ids))
    });
    let metrics = item.metrics.clone().map(|metrics| {
        let items = metrics.point_count();
        (Signal::Metrics, metrics.into_request(), items, Vec::new())
    });
    let protobuf = item.protobuf.clone().map(|request| {
        let (signal, items) = (request.signal(), request.item_count());
        (signal, request.into(), items, Vec::new())
    });
    [traces, logs, metrics, protobuf].into_iter().flatten()
}

// === impl Outbox ===

impl Outbox {
    /// Returns the messages of the units that fit, and the units that do not.
    fn of(items: &[Item], headers: &Headers, max_bytes: usize) -> (Self, Vec<usize>) {
        let mut outbox = Self::default();
        let mut too_large = Vec::new();
        for (unit, item) in items.iter().enumerate() {
            let before = outbox.messages.len();
            for document in documents(item) {
                outbox.add(unit, document, item.passage, headers);
            }
            if outbox.messages[before..].iter().any(|message| message.size() > max_bytes) {
                outbox.messages.truncate(before);
                outbox.contents.truncate(before);
                too_large.push(unit);
            }
        }
        (outbox, too_large)
    }

    fn add(&mut self, unit: usize, document: Document, passage: Passage, headers: &Headers) {
        let (signal, request, items, traces) = document;
        let headers = self.encoded(signal, passage, headers);
        let mut push = |trace: Option<TraceId>, value: Bytes, items: u32| {
            let headers = Arc::clone(&headers);
            self.messages.push(TopicMessage { key: trace.map(|trace| trace.to_string()), headers, value });
            self.contents.push(MessageContent { unit, signal, items });
        };
        let first = traces.first().copied().flatten();
        if traces.iter().all(|trace| *trace == first) {
            return push(first, request.into_json(), items);
        }
        let (groups, known) = groups_of(&traces);
        let limit = request.json().len().saturating_mul(MAX_GROWTH).max(SMALL);
        match request.divide(signal, &groups, limit) {
            Some(parts) => {
                let mut counts = vec![0; known.len()];
                groups.iter().for_each(|group| counts[*group as usize] += 1);
                for ((trace, value), items) in known.into_iter().zip(parts).zip(counts) {
                    push(trace, value, items);
                }
            }
            None => push(first, request.into_json(), items),
        }
    }

    fn encoded(&mut self, signal: Signal, passage: Passage, headers: &Headers) -> Arc<EncodedHeaders> {
        let mut known = self.encoded.iter();
        if let Some((.., encoded)) = known.find(|(of, by, _)| (*of, *by) == (signal, passage)) {
            return Arc::clone(encoded);
        }
        let bypasses_matching = passage == Passage::Straight;
        let encoded = Arc::new(Headers { signal, bypasses_matching, ..headers.clone() }.encode());
        self.encoded.push((signal, passage, Arc::clone(&encoded)));
        encoded
    }
}

/// Numbers the traces in the order in which they appear. Returns the number of each item's trace, and the traces.
fn groups_of(traces: &[Option<TraceId>]) -> (Vec<u32>, Vec<Option<TraceId>>) {
    let mut numbers: HashMap<Option<TraceId>, u32> = HashMap::new();
    let mut known = Vec::new();
    let groups = traces.iter().map(|trace| {
        *numbers.entry(*trace).or_insert_with(|| {
            known.push(*trace);
            u32::try_from(known.len() - 1).unwrap_or(u32::MAX)
        })
    });
    (groups.collect(), known)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;
    use crate::otlp::LineReader;

    fn headers() -> Headers {
        Headers {
            receiver: "fastly".to_owned(),
            signal: Signal::Traces,
            received: UNIX_EPOCH,
            event_id: None,
            bypasses_matching: false,
            supersede: None,
        }
    }

    /// A unit with spans and log records of these traces; zero: a log record without ids.
    fn item(spans: &[u8], logs: &[u8]) -> Item {
        let ids = |trace: &u8| format!(r#""traceId":"{trace:032x}","spanId":"00000000000000aa""#);
        let spans: Vec<String> = spans.iter().map(|trace| format!("{{{}}}", ids(trace))).collect();
        let logs = logs.iter().map(|trace| match trace {
            0 => r#"{"eventName":"e"}"#.to_owned(),
            _ => format!(r#"{{{},"eventName":"e"}}"#, ids(trace)),
        });
        let (spans, logs) = (spans.join(","), logs.collect::<Vec<_>>().join(","));
        let text = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}],"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{logs}]}}]}}]}}"#
        );
        let line = LineReader::default().read(&text.into()).unwrap();
        let (traces, logs, metrics) = (line.traces, line.logs, line.metrics);
        Item { line: 1, traces, logs, metrics, protobuf: None, repairs: Vec::new(), passage: Passage::Joined }
    }

    proptest! {
        #[test]
        fn each_item_is_in_one_message_whose_key_is_its_trace(
            spans in proptest::collection::vec(1_u8..5, 1..12),
            logs in proptest::collection::vec(0_u8..5, 1..12),
        ) {
            let (outbox, too_large) = Outbox::of(&[item(&spans, &logs)], &headers(), 1_000_000);
            prop_assert!(too_large.is_empty());
            let mut found = (Vec::new(), Vec::new());
            let mut keys = BTreeSet::new();
            for (message, content) in outbox.messages.iter().zip(&outbox.contents) {
                let line = LineReader::default().read(&message.value).unwrap();
                let ids: Vec<Option<TraceId>> = match content.signal {
                    Signal::Traces => line.traces.unwrap().spans().map(|(trace, _)| Some(trace)).collect(),
                    _ => line.logs.unwrap().records().map(|ids| ids.map(|(trace, _)| trace)).collect(),
                };
                prop_assert_eq!(ids.len(), content.items as usize);
                prop_assert!(ids.iter().all(|id| id.map(|id| id.to_string()) == message.key));
                prop_assert!(keys.insert((content.signal.as_str(), message.key.clone())), "one for each trace and signal");
                let number = |id: Option<TraceId>| id.map_or(0, |id| u8::from_str_radix(&id.to_string(), 16).unwrap());
                let of_signal = if content.signal == Signal::Traces { &mut found.0 } else { &mut found.1 };
                of_signal.extend(ids.into_iter().map(number));
            }
            let sorted = |mut list: Vec<u8>| { list.sort_unstable(); list };
            prop_assert_eq!((sorted(found.0), sorted(found.1)), (sorted(spans), sorted(logs)));
            let signals: Vec<Signal> = outbox.contents.iter().map(|content| content.signal).collect();
            prop_assert!(signals.is_sorted(), "spans come first");
        }
    }

    #[test]
    fn a_unit_with_one_message_that_is_too_large_has_none() {
        let large = item(&[1; 400], &[2]);
        let (outbox, too_large) = Outbox::of(&[item(&[1], &[1]), large, item(&[3], &[3])], &headers(), 2000);
        assert_eq!(too_large, [1]);
        assert_eq!(outbox.contents.iter().map(|content| content.unit).collect::<Vec<_>>(), [0, 0, 2, 2]);
    }
}
