//! Work: the items of a record on their way to a processor, each document with its part of the record.
//!
//! In: all items that were read from a record. Out: [`Work`] for the items that are not resolved. Promises: items are
//! numbered over the whole record in the order of the body, so that the same reading gives the same ordinals; an item
//! that was resolved earlier is left out.

use crate::event::{Settled, Signal};
use crate::otlp::{Logs, Metrics, ProtobufRequest, Traces};
use crate::queue::{Part, Taken};
use crate::receiver::{Item, Passage, Supersede};

/// One accepted unit: each of its documents, with the part that covers exactly the spans, log records or data points in
/// it.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) traces: Option<(Traces, Part)>,
    pub(crate) logs: Option<(Logs, Part)>,
    pub(crate) metrics: Option<(Metrics, Part)>,
    /// A request that is exported as it is.
    pub(crate) protobuf: Option<(ProtobufRequest, Part)>,
    pub(crate) passage: Passage,
    /// Rule by which the work replaces other work, for events that supersede each other.
    pub(crate) supersede: Option<Supersede>,
}

/// Assigns ordinals to items.
struct Numbering<'a> {
    record: &'a Taken,
    next: [u32; Signal::ALL.len()],
}

// === impl Work ===

impl Work {
    /// Returns the unresolved items of a record. Must be called once, with everything that was read from the record.
    pub(crate) fn of(record: &Taken, items: Vec<Item>) -> Vec<Self> {
        let mut numbering = Numbering { record, next: [0; Signal::ALL.len()] };
        items
            .into_iter()
            .map(|item| Self {
                traces: item.traces.and_then(|traces| {
                    numbering.part(Signal::Traces, traces.span_count(), traces, Traces::select)
                }),
                logs: item
                    .logs
                    .and_then(|logs| numbering.part(Signal::Logs, logs.record_count(), logs, Logs::select)),
                metrics: item.metrics.and_then(|metrics| {
                    numbering.part(Signal::Metrics, metrics.point_count(), metrics, Metrics::select)
                }),
                protobuf: item.protobuf.and_then(|request| {
                    let select = |request: ProtobufRequest, keep: &dyn Fn(u32) -> bool| request.select(keep);
                    numbering.part(request.signal(), request.item_count(), request, select)
                }),
                passage: item.passage,
                supersede: None,
            })
            .filter(|work| work.parts().any(|(_, part)| part.is_some()))
            .collect()
    }

    /// Returns the memory that the spans and log records take, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.traces.as_ref().map_or(0, |(traces, _)| traces.held_bytes())
            + self.logs.as_ref().map_or(0, |(logs, _)| logs.held_bytes())
    }

    /// Resolves every item in the work.
    pub(super) fn settle(self, outcome: Settled) {
        let parts = [
            self.traces.map(|(_, part)| part),
            self.logs.map(|(_, part)| part),
            self.metrics.map(|(_, part)| part),
            self.protobuf.map(|(_, part)| part),
        ];
        let receipts = parts.into_iter().flatten().flat_map(Part::into_receipts);
        receipts.for_each(|receipt| receipt.settle(outcome));
    }

    /// Returns the number of spans, log records and data points.
    pub(crate) fn items(&self) -> impl Iterator<Item = (Signal, u32)> {
        self.parts().filter_map(|(signal, part)| part.map(|part| (signal, part.items())))
    }

    fn parts(&self) -> impl Iterator<Item = (Signal, Option<&Part>)> {
        let protobuf = self.protobuf.as_ref();
        [
            (Signal::Traces, self.traces.as_ref().map(|(_, part)| part)),
            (Signal::Logs, self.logs.as_ref().map(|(_, part)| part)),
            (Signal::Metrics, self.metrics.as_ref().map(|(_, part)| part)),
            (
                protobuf.map_or(Signal::Traces, |(request, _)| request.signal()),
                protobuf.map(|(_, part)| part),
            ),
        ]
        .into_iter()
    }
}

// === impl Numbering ===

impl Numbering<'_> {
    /// Returns the document without its resolved items, and its part; `None` when all items are resolved.
    fn part<D>(
        &mut self,
        signal: Signal,
        items: u32,
        document: D,
        select: impl FnOnce(D, &dyn Fn(u32) -> bool) -> Option<D>,
    ) -> Option<(D, Part)> {
        let next = &mut self.next[signal as usize];
        let first = *next;
        *next = first.saturating_add(items);
        let part = self.record.part(signal, first..*next);
        match part.items() {
            open if open == items => Some((document, part)),
            0 => {
                part.close();
                None
            }
            _ => {
                let left = select(document, &|index| part.contains(first + index));
                debug_assert!(left.is_some(), "a document was not divided");
                // Without its document, the part is dropped, which keeps the record in the queue.
                left.map(|document| (document, part))
            }
        }
    }
}
