//! Merges exports of one signal into one request, and splits a request whose data was condemned in two.
//!
//! In: [`Export`]s as they arrive, and the time. Out: [`Batch`]es within the limits. Promises: nothing is parsed again, and
//! only short slices are copied; a merged body consists of the elements of the exports' lists, one after another, byte for
//! byte. Leaves to others: the clock, compression, sending.

use std::iter;

use bytes::Bytes;
use tokio::time::Instant;

use super::Export;
use super::slices::{Gather, Slices};
use crate::config::BatchConfig;
use crate::event::{RecordId, Signal};
use crate::otlp::ExportRequest;
use crate::telemetry::traces::Cause;

/// Length of `{"resourceMetrics":[` and `]}`, the longest text around merged elements.
const ENVELOPE_BYTES: u64 = 22;

/// Exports of one signal that are sent in one request.
#[derive(Debug)]
pub(super) struct Batch {
    /// Separate from the others: a batch is never empty, and a single export needs no list.
    first: Export,
    others: Vec<Export>,
}

/// Collects exports until a limit is reached.
pub(super) struct Batcher {
    limits: BatchConfig,
    open: [Option<OpenBatch>; Signal::ALL.len()],
}

/// A batch that is being filled.
struct OpenBatch {
    batch: Batch,
    items: usize,
    /// Size of the merged request.
    bytes: u64,
    due: Instant,
}

// === impl Batch ===

impl Batch {
    /// Returns a batch of one export.
    pub(super) fn single(first: Export) -> Self {
        Self { first, others: Vec::new() }
    }

    fn events(&self) -> impl Iterator<Item = &Export> {
        iter::once(&self.first).chain(&self.others)
    }

    pub(super) fn signal(&self) -> Signal {
        self.first.signal
    }

    pub(super) fn items(&self) -> u64 {
        self.events().map(|event| u64::from(event.items)).sum()
    }

    /// Returns the identities of its exports in the inspector.
    pub(super) fn identities(&self) -> impl Iterator<Item = (Option<RecordId>, &Bytes)> {
        self.events().map(|event| event.identity())
    }

    /// Returns the self-tracing causes of the requests whose data is in the batch.
    pub(super) fn causes(&self) -> impl Iterator<Item = Cause> {
        self.events().flat_map(|event| event.causes())
    }

    pub(super) fn exports(self) -> impl Iterator<Item = Export> {
        iter::once(self.first).chain(self.others)
    }

    /// Splits the batch in two, by exports or, if it is a single export, by items. Returns the batch itself if it is a
    /// single item.
    pub(super) fn split(mut self) -> Result<[Self; 2], Self> {
        let mut second = self.others.split_off(self.others.len() / 2).into_iter();
        match second.next() {
            None => {
                let half = self.first.items / 2;
                self.first.split_at(half).map(|halves| halves.map(Self::single)).map_err(Self::single)
            }
            Some(first) => Ok([self, Self { first, others: second.collect() }]),
        }
    }

    /// Returns the request as JSON: a single export is sent unchanged.
    pub(super) fn json(&self) -> Slices {
        if self.others.is_empty() {
            return self.first.request.json().into_owned().into();
        }
        let mut json = Gather::with_capacity(self.others.len() + 1);
        json.text(match self.signal() {
            Signal::Traces => "{\"resourceSpans\":[",
            Signal::Logs => "{\"resourceLogs\":[",
            Signal::Metrics => "{\"resourceMetrics\":[",
        });
        let mut separator = "";
        for elements in self.events().map(|event| event.request.elements()) {
            if !elements.is_empty() {
                json.text(separator);
                json.slice(&elements);
                separator = ",";
            }
        }
        json.text("]}");
        json.into_slices()
    }

    /// Returns the requests of its exports, one after another.
    pub(super) fn requests(&self) -> impl Iterator<Item = &ExportRequest> {
        self.events().map(|event| &event.request)
    }
}

// === impl Batcher ===

impl Batcher {
    pub(super) fn new(limits: BatchConfig) -> Self {
        Self { limits, open: [const { None }; Signal::ALL.len()] }
    }

    /// Adds an export; passes batches that become ready because of it to `ready`.
    pub(super) fn add(&mut self, export: Export, now: Instant, mut ready: impl FnMut(Batch)) {
        let items = (export.items as usize).max(1);
        let bytes = export.request.elements_bytes() as u64 + 1;
        let slot = &mut self.open[export.signal as usize];

        let mut open = match slot.take() {
            Some(mut open) if open.has_room(&self.limits, items, bytes) => {
                open.batch.others.push(export);
                open
            }
            full => {
                full.into_iter().for_each(|open| ready(open.batch));
                let due = now + self.limits.timeout;
                OpenBatch { batch: Batch::single(export), items: 0, bytes: ENVELOPE_BYTES, due }
            }
        };
        open.items += items;
        open.bytes += bytes;
        if open.has_room(&self.limits, 1, 1) {
            *slot = Some(open);
        } else {
            ready(open.batch);
        }
    }

    /// Returns the time at which the next batch is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.open.iter().flatten().map(|open| open.due).min()
    }

    /// Takes the batches that are due.
    pub(super) fn take_due(&mut self, now: Instant, ready: impl FnMut(Batch)) {
        self.take_if(|open| open.due <= now, ready);
    }

    /// Takes all batches, full or not.
    pub(super) fn flush(&mut self, ready: impl FnMut(Batch)) {
        self.take_if(|_| true, ready);
    }

    fn take_if(&mut self, condition: impl Fn(&OpenBatch) -> bool, ready: impl FnMut(Batch)) {
        self.open
            .iter_mut()
            .filter_map(|open| open.take_if(|open| condition(open)))
            .map(|open| open.batch)
            .for_each(ready);
    }
}

// === impl OpenBatch ===

impl OpenBatch {
    fn has_room(&self, limits: &BatchConfig, items: usize, bytes: u64) -> bool {
        self.items.saturating_add(items) <= limits.max_events && self.bytes + bytes <= limits.max_bytes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn export(signal: Signal, json: &str, items: u32) -> Export {
        let request = ExportRequest::parse(signal, Bytes::copy_from_slice(json.as_bytes())).unwrap();
        Export { signal, request, items, receipts: Vec::new() }
    }

    fn spans(name: &str) -> Export {
        export(Signal::Traces, &format!(r#"{{"resourceSpans":[{{"n":"{name}"}}]}}"#), 1)
    }

    fn text_of(body: &Slices) -> String {
        body.iter().map(|piece| std::str::from_utf8(piece).unwrap()).collect()
    }

    fn limits() -> BatchConfig {
        BatchConfig { max_events: 3, max_bytes: 1000, timeout: Duration::from_millis(200) }
    }

    fn batched(limits: BatchConfig, exports: impl IntoIterator<Item = Export>) -> Vec<String> {
        let mut batcher = Batcher::new(limits);
        let mut bodies = Vec::new();
        let mut ready = |batch: Batch| bodies.push(text_of(&batch.json()));
        let now = Instant::now();
        exports.into_iter().for_each(|export| batcher.add(export, now, &mut ready));
        batcher.flush(&mut ready);
        bodies
    }

    #[test]
    fn merges_by_concatenating_elements_byte_for_byte() {
        let odd = "{\n\"x\":{\"resourceSpans\":[9]}, \"resourceSpans\" : [ {\"t\":18446744073709551615 , \
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
    fn signals_are_never_mixed() {
        let metrics = export(Signal::Metrics, r#"{"resourceMetrics":[2]}"#, 1);
        let bodies = batched(limits(), [spans("a"), metrics, spans("b")]);
        assert_eq!(bodies, [r#"{"resourceSpans":[{"n":"a"},{"n":"b"}]}"#, r#"{"resourceMetrics":[2]}"#]);
    }

    #[test]
    fn respects_max_events_and_max_bytes() {
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
        assert!(last.len() > 500, "an export that is too large for a batch is sent alone");
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
    fn splitting_reaches_every_export() {
        let mut batcher = Batcher::new(BatchConfig { max_events: 7, ..limits() });
        let mut left = Vec::new();
        (0..7).for_each(|n| batcher.add(spans(&n.to_string()), Instant::now(), |batch| left.push(batch)));
        let mut alone = Vec::new();
        while let Some(batch) = left.pop() {
            match batch.split() {
                Ok([first, second]) => left.extend([second, first]),
                Err(single) => alone.push(text_of(&single.json())),
            }
        }
        let expected: Vec<_> =
            (0..7).map(|n| text_of(&spans(&n.to_string()).request.into_json().into())).collect();
        assert_eq!(alone, expected);
    }
}
