//! Items of a record on their way to a processor, each document with its part of the record.
//!
//! In: what was read of a record, all of it. Out: [`Work`] for what is not resolved. Promises: items are numbered over the
//! whole record in the order of the body, so that the same reading gives the same ordinals; an item that was resolved
//! before is left out.

use crate::event::{Settled, Signal};
use crate::otlp::{Logs, Metrics, Traces};
use crate::queue::{Part, Taken};
use crate::receiver::{Item, Passage, Supersede};

/// One accepted unit, each of its documents with the part that covers exactly the items in it: spans, log records or data
/// points.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) traces: Option<(Traces, Part)>,
    pub(crate) logs: Option<(Logs, Part)>,
    pub(crate) metrics: Option<(Metrics, Part)>,
    pub(crate) passage: Passage,
    /// How it replaces other work, for events that have competitors.
    pub(crate) supersede: Option<Supersede>,
}

/// Gives items their ordinals.
struct Numbering<'a> {
    record: &'a Taken,
    next: [u32; Signal::ALL.len()],
}

// === impl Work ===

impl Work {
    /// The unresolved items of a record. To be called once, with everything that was read of it.
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
                passage: item.passage,
                supersede: None,
            })
            .filter(|work| work.traces.is_some() || work.logs.is_some() || work.metrics.is_some())
            .collect()
    }

    /// Memory that its spans and log records take, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.traces.as_ref().map_or(0, |(traces, _)| traces.held_bytes())
            + self.logs.as_ref().map_or(0, |(logs, _)| logs.held_bytes())
    }

    /// Resolves every item in it.
    pub(super) fn settle(self, outcome: Settled) {
        let parts = [
            self.traces.map(|(_, part)| part),
            self.logs.map(|(_, part)| part),
            self.metrics.map(|(_, part)| part),
        ];
        let receipts = parts.into_iter().flatten().flat_map(Part::into_receipts);
        receipts.for_each(|receipt| receipt.settle(outcome));
    }

    /// Spans, log records and data points in it.
    pub(crate) fn items(&self) -> [(Signal, u32); Signal::ALL.len()] {
        let items = |part: Option<&Part>| part.map_or(0, Part::items);
        [
            (Signal::Traces, items(self.traces.as_ref().map(|(_, part)| part))),
            (Signal::Logs, items(self.logs.as_ref().map(|(_, part)| part))),
            (Signal::Metrics, items(self.metrics.as_ref().map(|(_, part)| part))),
        ]
    }
}

// === impl Numbering ===

impl Numbering<'_> {
    /// The document without its resolved items, and its part; nothing when all of them are resolved.
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
                debug_assert!(left.is_some(), "a document that was read cannot be divided");
                // Without a document the part is dropped, which keeps the record.
                left.map(|document| (document, part))
            }
        }
    }
}
