//! Converted bodies: what the queue keeps of a body that must not be stored as it was sent.
//!
//! In: the items of a reading. Out: their documents, one after the other, each with a line end; and [`Units`], from which the
//! same items are read again. Promises: nothing of the body is kept but the documents; [`convert`] returns the items as
//! [`read`] does, so that a restart changes nothing.
//!
//! | what | bytes |
//! |---|---|
//! | length of the event's id; zero if there is none | 4 |
//! | the event's id | n |
//! | length of the rule by which it supersedes others; zero if there is none | 4 |
//! | trace id, a space, and the rule | n |
//! | for each unit: its line | 4 |
//! | 1 if its items bypass matching | 1 |
//! | lengths of its spans, log records and metrics | 12 |
//!
//! Integers are little-endian.

use bytes::{Buf, Bytes};

use crate::event::{RejectCode, Repair, Signal};
use crate::otlp::json::Fault;
use crate::otlp::{Line, LineReader, Logs, Metrics, TraceId, Traces};
use crate::receiver::{Item, Passage, Reading, Rejected, Scope, Supersede, SupersedeKey};

/// Documents of an item, one for each signal.
pub(super) type Documents = [Option<Bytes>; Signal::ALL.len()];

/// Description of a converted body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Units(Bytes);

/// One unit of a converted body.
struct ConvertedUnit {
    line: u32,
    passage: Passage,
    lengths: [usize; Signal::ALL.len()],
}

/// Length of a unit in the description.
const UNIT_BYTES: usize = 17;

/// Takes the documents of an item.
pub(super) fn documents(item: &mut Item) -> Documents {
    let mut documents = [
        item.traces.take().map(Traces::into_json),
        item.logs.take().and_then(|logs| logs.into_json(|_| true)),
        item.metrics.take().map(|metrics| metrics.into_request().into_json()),
    ];
    if let Some(request) = item.protobuf.take() {
        documents[request.signal() as usize] = Some(request.to_json().into());
    }
    documents
}

/// Replaces the documents of an item. One that cannot be read is left out.
pub(super) fn replace(item: &mut Item, documents: Documents) {
    let mut lines = LineReader::default();
    let documents = documents.map(|document| document.and_then(|text| lines.read(&text).ok()));
    let [traces, logs, metrics] = documents.map(Option::unwrap_or_default);
    (item.traces, item.logs, item.metrics) = (traces.traces, logs.logs, metrics.metrics);
}

/// Converts the body of a reading, whose items become those of their documents. `scrubbed` takes the documents of an item.
pub(super) fn convert(
    receiver: &str,
    mut reading: Reading,
    scrubbed: impl Fn(&mut Item) -> Documents,
) -> (Bytes, Units, Reading) {
    let mut repairs: Vec<Vec<Repair>> = Vec::with_capacity(reading.items.len());
    let (mut body, mut units) = (Vec::new(), Vec::new());
    push_text(&mut units, reading.event_id.as_deref().unwrap_or_default());
    let supersede = reading.supersede.as_ref();
    let rule = supersede.map(|supersede| format!("{} {}", supersede.key.trace_id, supersede.to_text()));
    push_text(&mut units, rule.as_deref().unwrap_or_default());
    for mut item in reading.items.drain(..) {
        repairs.push(std::mem::take(&mut item.repairs));
        units.extend_from_slice(&item.line.to_le_bytes());
        units.push(u8::from(item.passage == Passage::Straight));
        for document in scrubbed(&mut item) {
            let document = document.unwrap_or_default();
            units.extend_from_slice(&length(document.len()).to_le_bytes());
            if !document.is_empty() {
                body.extend_from_slice(&document);
                body.push(b'\n');
            }
        }
    }
    // Both are queued.
    body.shrink_to_fit();
    units.shrink_to_fit();
    let (body, units) = (Bytes::from(body), Units(units.into()));
    let mut converted = read(receiver, &body, &units);
    if converted.items.len() == repairs.len() {
        converted.items.iter_mut().zip(repairs).for_each(|(item, repairs)| item.repairs = repairs);
    }
    reading.items = converted.items;
    reading.rejected.extend(converted.rejected);
    reading.rejected.sort_by_key(|part| (part.scope == Scope::Section, part.line));
    (body, units, reading)
}

/// Reads a converted body.
pub(super) fn read(receiver: &str, body: &Bytes, units: &Units) -> Reading {
    let mut reading = Reading::default();
    let mut units = units.0.clone();
    reading.event_id = text(&mut units).filter(|id| !id.is_empty());
    reading.supersede = text(&mut units).and_then(|rule| supersede(receiver, &rule));
    let (mut lines, mut at) = (LineReader::default(), 0);
    while let Some(unit) = ConvertedUnit::take(&mut units) {
        let from = at;
        match unit.read(&mut lines, body, &mut at) {
            Ok(item) => reading.items.push(item),
            Err(fault) => reading.rejected.push(unit.reject(fault, body.slice(from.min(at)..at))),
        }
    }
    reading
}

fn supersede(receiver: &str, rule: &str) -> Option<Supersede> {
    let (trace_id, rule) = rule.split_once(' ')?;
    let trace_id = TraceId::from_hex(trace_id.as_bytes())?;
    Supersede::from_text(rule, SupersedeKey { receiver: receiver.to_owned(), trace_id })
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&length(text.len()).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

fn text(bytes: &mut Bytes) -> Option<String> {
    let len = bytes.try_get_u32_le().ok()? as usize;
    let text = (len <= bytes.len()).then(|| bytes.split_to(len))?;
    String::from_utf8(text.into()).ok()
}

/// Returns a length as it is stored. A body of more than 4 GiB is not accepted.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

// === impl Units ===

impl Units {
    pub(super) fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

// === impl ConvertedUnit ===

impl ConvertedUnit {
    fn take(units: &mut Bytes) -> Option<Self> {
        if units.len() < UNIT_BYTES {
            return None;
        }
        let line = units.get_u32_le();
        let passage = if units.get_u8() == 1 { Passage::Straight } else { Passage::Joined };
        let lengths = std::array::from_fn(|_| units.get_u32_le() as usize);
        Some(Self { line, passage, lengths })
    }

    /// Reads the unit that begins at `at`, and moves `at` to its end.
    fn read(&self, lines: &mut LineReader, body: &Bytes, at: &mut usize) -> Result<Item, Fault> {
        let mut documents: [Option<Result<Line, Fault>>; Signal::ALL.len()] = [const { None }; 3];
        for (document, length) in documents.iter_mut().zip(self.lengths).filter(|(_, length)| *length > 0) {
            let end = at.saturating_add(length).min(body.len());
            *document = Some(lines.read(&body.slice(*at..end)));
            *at = (end + 1).min(body.len());
        }
        let [traces, logs, metrics] = documents.map(Option::transpose);
        let traces: Option<Traces> = traces?.and_then(|line| line.traces);
        let logs: Option<Logs> = logs?.and_then(|line| line.logs);
        let metrics: Option<Metrics> = metrics?.and_then(|line| line.metrics);
        let (line, passage) = (self.line, self.passage);
        Ok(Item { line, traces, logs, metrics, protobuf: None, repairs: Vec::new(), passage })
    }

    fn reject(&self, fault: Fault, input: bytes::Bytes) -> Rejected {
        Rejected {
            scope: Scope::Unit,
            line: self.line,
            column: 1,
            code: RejectCode::Other,
            at: 0,
            reason: fault.reason.into_owned(),
            input,
            scrubbed: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::receiver::Receiver;
    use crate::receiver::fastly::{Fastly, FastlyConfig};
    use crate::relay::acceptance::{Acceptance, BodyForm};

    const SPAN: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"00000000000000000000000000000001","spanId":"0000000000000001"}]}]}]}"#;
    const LOG: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"b"}}]}]}]}"#;
    const POINT: &str = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"asInt":"1"}]}}]}]}]}"#;
    const EMPTY: &str = r#"{"resourceSpans":[]}"#;

    fn reading(body: &str) -> Reading {
        Fastly::new(&FastlyConfig::default(), 1 << 20).read(&Bytes::copy_from_slice(body.as_bytes()))
    }

    fn contents(reading: &mut Reading) -> Vec<(u32, Documents)> {
        reading.items.iter_mut().map(|item| (item.line, documents(item))).collect()
    }

    fn all_of_it() -> String {
        let [span, log, point] = [SPAN, LOG, POINT].map(|line| line.trim_start_matches('{').to_owned());
        let open = |line: String| line.strip_suffix('}').unwrap().to_owned();
        format!("{{{},{},{}", open(span), open(log), point)
    }

    proptest! {
        #[test]
        fn a_converted_body_has_the_items_of_the_body(
            lines in proptest::collection::vec(
                proptest::sample::select(vec![SPAN.to_owned(), LOG.to_owned(), POINT.to_owned(), EMPTY.to_owned(), all_of_it(),
                    SPAN.replace("}]}]}]}", "},]}]}]}"), "rejected".to_owned(), String::new()]),
                0..8,
            ),
        ) {
            let body = lines.join("\n");
            let expected = contents(&mut reading(&body));
            let repairs: Vec<Vec<Repair>> = reading(&body).items.into_iter().map(|item| item.repairs).collect();
            let (converted, units, mut live) = convert("fastly", reading(&body), documents);
            prop_assert_eq!(live.items.iter().map(|item| item.repairs.clone()).collect::<Vec<_>>(), repairs);
            prop_assert_eq!(live.rejected.len(), reading(&body).rejected.len());
            let acceptance = Acceptance::new(BodyForm::Converted(units), &live);
            prop_assert_eq!(contents(&mut live), expected.clone());
            let stored = Acceptance::decode(acceptance.encode());
            prop_assert_eq!(stored.as_ref(), Some(&acceptance));
            let Some(Acceptance { form: BodyForm::Converted(units), fingerprint, .. }) = stored else { panic!() };
            let mut again = read("fastly", &converted, &units);
            prop_assert_eq!(Acceptance::new(BodyForm::Converted(units), &again).fingerprint, fingerprint);
            prop_assert_eq!(contents(&mut again), expected);
        }

        #[test]
        fn no_damage_causes_a_panic(body in any::<Vec<u8>>(), units in any::<Vec<u8>>(), cut in 0_usize..400) {
            let (converted, good, _) = convert("fastly", reading(&format!("{SPAN}\n{LOG}")), documents);
            read("fastly", &converted.slice(..cut.min(converted.len())), &good);
            read("fastly", &body.into(), &good);
            read("fastly", &converted, &Units(units.into()));
        }
    }

    #[test]
    fn the_id_of_an_event_and_its_rule_are_kept() {
        let trace_id = TraceId::from_hex(b"00000000000000000000000000000001").unwrap();
        let supersede = Supersede {
            event: crate::event::WebhookEvent::UNKNOWN,
            key: SupersedeKey { receiver: "circleci/app".to_owned(), trace_id },
            rank: (1, 2),
            hold: Duration::from_secs(60),
            begins_hold: true,
        };
        let known =
            crate::receiver::SOURCES.iter().filter_map(|source| source.webhooks()).flatten().next().unwrap();
        let supersede = Supersede { event: *known, ..supersede };
        let mut event = reading(SPAN);
        event.event_id = Some("id".to_owned());
        event.supersede = Some(supersede.clone());
        let (body, units, _) = convert("circleci/app", event, documents);
        let again = read("circleci/app", &body, &units);
        assert_eq!((again.event_id.as_deref(), again.supersede), (Some("id"), Some(supersede)));
        assert_eq!(again.items.len(), 1);
    }
}
