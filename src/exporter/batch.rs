//! Exports of one signal become one request, and a request that was refused becomes two.
//!
//! In: [`Export`]s as they arrive, and the time. Out: [`Batch`]es within the limits. Promises: nothing is parsed
//! into a model or printed again; a merged body is the concatenated elements of the exports' arrays, byte for byte.
//! Leaves to others: the clock, compression, sending.

use std::time::Duration;
use std::{fmt, iter};

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::Export;
use crate::config::BatchConfig;
use crate::otlp::Signal;
use crate::queue::RecordId;
use crate::telemetry::traces::Cause;

/// `{"resourceMetrics":[` and `]}`, the longest that stands around merged elements.
const ENVELOPE_BYTES: u64 = 22;
/// When `timeout` is beyond what a clock can count; a batch is full long before.
const FAR_FUTURE: Duration = Duration::from_secs(365 * 86_400);

/// Exports of one signal that leave in one request.
#[derive(Debug)]
pub(super) struct Batch {
    /// Apart from the others: a batch is never empty, and one that is a single export needs no list.
    first: Event,
    others: Vec<Event>,
}

/// What a batch is split down to: one line or webhook.
#[derive(Debug)]
struct Event {
    export: Export,
    /// The elements of its array, without the brackets; a slice of its JSON. Empty where nothing is merged.
    elements: Bytes,
}

/// Collects exports until a limit is reached.
pub(super) struct Batcher {
    limits: BatchConfig,
    open: [Option<Open>; Signal::ALL.len()],
}

/// A batch that is being filled.
struct Open {
    batch: Batch,
    items: usize,
    /// Of the merged request.
    bytes: u64,
    due: Instant,
}

// === impl Batch ===

impl Batch {
    /// A request of its own.
    pub(super) fn single(export: Export) -> Self {
        Self::of(Event { export, elements: Bytes::new() })
    }

    fn of(first: Event) -> Self {
        Self { first, others: Vec::new() }
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        iter::once(&self.first).chain(&self.others)
    }

    pub(super) fn signal(&self) -> Signal {
        self.first.export.signal
    }

    pub(super) fn items(&self) -> u64 {
        self.events().map(|event| u64::from(event.export.items)).sum()
    }

    /// What the inspector knows its exports by.
    pub(super) fn identities(&self) -> impl Iterator<Item = (Option<RecordId>, &Bytes)> {
        self.events().map(|event| event.export.identity())
    }

    /// The requests whose data is in it.
    pub(super) fn causes(&self) -> impl Iterator<Item = Cause> {
        self.events().flat_map(|event| event.export.causes())
    }

    pub(super) fn exports(self) -> impl Iterator<Item = Export> {
        iter::once(self.first).chain(self.others).map(|event| event.export)
    }

    /// The two halves, or the batch itself when it is one event.
    pub(super) fn split(mut self) -> Result<[Self; 2], Self> {
        let mut second = self.others.split_off(self.others.len() / 2).into_iter();
        match second.next() {
            None => Err(self),
            Some(first) => Ok([self, Self { first, others: second.collect() }]),
        }
    }

    /// The request as JSON: an export that is alone leaves as the bytes that it is.
    pub(super) fn json(&self) -> Bytes {
        if self.others.is_empty() {
            return self.first.export.json.clone();
        }
        let elements_bytes: usize = self.events().map(|event| event.elements.len() + 1).sum();
        let mut json = BytesMut::with_capacity(elements_bytes + ENVELOPE_BYTES as usize);
        json.put_slice(b"{\"");
        json.put_slice(array_key(self.signal()).as_bytes());
        json.put_slice(b"\":[");
        let mut separator: &[u8] = b"";
        for event in self.events().filter(|event| !event.elements.is_empty()) {
            json.put_slice(separator);
            json.put_slice(&event.elements);
            separator = b",";
        }
        json.put_slice(b"]}");
        json.freeze()
    }
}

// === impl Batcher ===

impl Batcher {
    pub(super) fn new(limits: BatchConfig) -> Self {
        Self { limits, open: [const { None }; Signal::ALL.len()] }
    }

    /// Adds an export; what is ready to leave because of it goes to `ready`.
    pub(super) fn add(&mut self, export: Export, now: Instant, mut ready: impl FnMut(Batch)) {
        let Some(elements) = elements_of(export.signal, &export.json) else {
            // not the plain request that could be merged: it is complete as it is
            return ready(Batch::single(export));
        };
        let items = (export.items as usize).max(1);
        let bytes = elements.len() as u64 + 1;
        let place = &mut self.open[export.signal as usize];
        let event = Event { export, elements };

        let mut open = match place.take() {
            Some(mut open) if open.has_room(&self.limits, items, bytes) => {
                open.batch.others.push(event);
                open
            }
            full => {
                full.into_iter().for_each(|open| ready(open.batch));
                let due = now.checked_add(self.limits.timeout).unwrap_or_else(|| now + FAR_FUTURE);
                Open { batch: Batch::of(event), items: 0, bytes: ENVELOPE_BYTES, due }
            }
        };
        open.items += items;
        open.bytes += bytes;
        if open.has_room(&self.limits, 1, 1) {
            *place = Some(open);
        } else {
            ready(open.batch);
        }
    }

    /// When the oldest batch has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.open.iter().flatten().map(|open| open.due).min()
    }

    /// The batches that have waited long enough.
    pub(super) fn take_due(&mut self, now: Instant, ready: impl FnMut(Batch)) {
        self.take_if(|open| open.due <= now, ready);
    }

    /// All batches, full or not.
    pub(super) fn flush(&mut self, ready: impl FnMut(Batch)) {
        self.take_if(|_| true, ready);
    }

    fn take_if(&mut self, condition: impl Fn(&Open) -> bool, ready: impl FnMut(Batch)) {
        self.open
            .iter_mut()
            .filter_map(|open| open.take_if(|open| condition(open)))
            .map(|open| open.batch)
            .for_each(ready);
    }
}

// === impl Open ===

impl Open {
    fn has_room(&self, limits: &BatchConfig, items: usize, bytes: u64) -> bool {
        self.items.saturating_add(items) <= limits.max_events && self.bytes + bytes <= limits.max_bytes
    }
}

fn array_key(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "resourceSpans",
        Signal::Logs => "resourceLogs",
        Signal::Metrics => "resourceMetrics",
    }
}

/// The elements of the request's one array, without the brackets. Nothing when the array is not there or there
/// twice. Other top-level keys mean nothing in OTLP and are left behind.
fn elements_of(signal: Signal, json: &Bytes) -> Option<Bytes> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let array = deserializer.deserialize_map(ArrayOf(array_key(signal))).ok()?;
    let elements = array.get().strip_prefix('[')?.strip_suffix(']')?.trim_ascii();
    deserializer.end().ok()?;
    Some(json.slice_ref(elements.as_bytes()))
}

/// Finds the value of one key of an object, as text.
struct ArrayOf(&'static str);

impl<'a> Visitor<'a> for ArrayOf {
    type Value = &'a RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with {} once", self.0)
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<&'a RawValue, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'a, str>>()? {
            if *key != *self.0 {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value::<&RawValue>()?).is_some() {
                return Err(serde::de::Error::custom("the array is there twice"));
            }
        }
        found.ok_or_else(|| serde::de::Error::custom("the array is missing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(signal: Signal, json: &str, items: u32) -> Export {
        Export { signal, json: Bytes::copy_from_slice(json.as_bytes()), items, receipts: Vec::new() }
    }

    fn spans(name: &str) -> Export {
        export(Signal::Traces, &format!(r#"{{"resourceSpans":[{{"n":"{name}"}}]}}"#), 1)
    }

    fn limits() -> BatchConfig {
        BatchConfig { max_events: 3, max_bytes: 1000, timeout: Duration::from_millis(200) }
    }

    fn batched(limits: BatchConfig, exports: impl IntoIterator<Item = Export>) -> Vec<String> {
        let mut batcher = Batcher::new(limits);
        let mut bodies = Vec::new();
        let mut ready = |batch: Batch| bodies.push(String::from_utf8(batch.json().to_vec()).unwrap());
        let now = Instant::now();
        exports.into_iter().for_each(|export| batcher.add(export, now, &mut ready));
        batcher.flush(&mut ready);
        bodies
    }

    #[test]
    fn merges_by_concatenating_elements_byte_for_byte() {
        let odd = " {\n\"x\":{\"resourceSpans\":[9]}, \"resource\\u0053pans\" : [ {\"t\":18446744073709551615 , \
                   \"t\":1.50}\n,{} ] ,\"y\":1}\n";
        let bodies = batched(limits(), [spans("a"), export(Signal::Traces, odd, 1), spans("c")]);
        assert_eq!(
            bodies,
            [
                "{\"resourceSpans\":[{\"n\":\"a\"},{\"t\":18446744073709551615 , \"t\":1.50}\n,{},{\"n\":\"c\"}]}"
            ]
        );
    }

    #[test]
    fn an_empty_array_leaves_no_stray_comma() {
        let empty = || export(Signal::Logs, r#"{"resourceLogs":[ ]}"#, 0);
        let one = export(Signal::Logs, r#"{"resourceLogs":[1]}"#, 1);
        assert_eq!(batched(limits(), [empty(), one, empty()]), [r#"{"resourceLogs":[1]}"#]);
        assert_eq!(batched(limits(), [empty(), empty()]), [r#"{"resourceLogs":[]}"#]);
    }

    #[test]
    fn what_cannot_be_merged_leaves_alone_and_unchanged() {
        for text in [
            r#"{"resourceSpans":[1],"resourceSpans":[2]}"#,
            r#"{"resource_spans":[1]}"#,
            r#"{"resourceSpans":null}"#,
            r#"{"resourceSpans":[1]}{}"#,
            "not JSON",
        ] {
            let bodies = batched(limits(), [spans("a"), export(Signal::Traces, text, 1), spans("b")]);
            assert_eq!(
                bodies,
                [text, r#"{"resourceSpans":[{"n":"a"},{"n":"b"}]}"#],
                "the others are merged all the same"
            );
        }
    }

    #[test]
    fn signals_are_never_mixed() {
        let metrics = export(Signal::Metrics, r#"{"resourceMetrics":[2]}"#, 1);
        let bodies = batched(limits(), [spans("a"), metrics, spans("b")]);
        assert_eq!(bodies, [r#"{"resourceSpans":[{"n":"a"},{"n":"b"}]}"#, r#"{"resourceMetrics":[2]}"#]);
    }

    #[test]
    fn keeps_to_max_events_and_max_bytes() {
        let by_events = batched(limits(), (0..7).map(|n| spans(&n.to_string())));
        assert_eq!(by_events.len(), 3);
        let many_items = export(Signal::Traces, r#"{"resourceSpans":[1]}"#, 3);
        assert_eq!(batched(limits(), [spans("a"), many_items, spans("b")]).len(), 3);

        let max_bytes = 100;
        let narrow = BatchConfig { max_events: usize::MAX, max_bytes, ..limits() };
        let large = spans(&"x".repeat(500));
        let bodies = batched(narrow, (0..20).map(|n| spans(&n.to_string())).chain([large]));
        assert!(bodies.len() > 2);
        let (last, others) = bodies.split_last().unwrap();
        assert!(others.iter().all(|body| body.len() as u64 <= max_bytes), "{others:?}");
        assert!(last.len() > 500, "what is too large for a batch leaves alone");
    }

    #[tokio::test(start_paused = true)]
    async fn waits_no_longer_than_the_timeout_after_the_first_event() {
        let mut batcher = Batcher::new(limits());
        let mut ready = Vec::new();
        let began = Instant::now();
        assert_eq!(batcher.due(), None);
        batcher.add(spans("a"), began, |batch| ready.push(batch));
        batcher.add(spans("b"), began + Duration::from_millis(150), |batch| ready.push(batch));
        assert_eq!(batcher.due(), Some(began + limits().timeout));
        batcher.take_due(began + Duration::from_millis(199), |batch| ready.push(batch));
        assert!(ready.is_empty());
        batcher.take_due(began + Duration::from_millis(200), |batch| ready.push(batch));
        assert_eq!(ready.len(), 1);
        assert_eq!(batcher.due(), None);
    }

    #[test]
    fn halving_reaches_every_event() {
        let mut batcher = Batcher::new(BatchConfig { max_events: 7, ..limits() });
        let mut left = Vec::new();
        (0..7).for_each(|n| batcher.add(spans(&n.to_string()), Instant::now(), |batch| left.push(batch)));
        let mut alone = Vec::new();
        while let Some(batch) = left.pop() {
            match batch.split() {
                Ok([first, second]) => left.extend([second, first]),
                Err(single) => alone.push(single.json()),
            }
        }
        let expected: Vec<Bytes> = (0..7).map(|n| spans(&n.to_string()).json).collect();
        assert_eq!(alone, expected);
    }
}
