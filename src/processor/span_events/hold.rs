//! Held spans and log records, matched with each other by their ids.
//!
//! In: the spans or the logs of one line. Out: the same, on request, oldest first.
//! Promises: a record is matched with the oldest held span that has its ids, whichever of the two arrived first. The
//! cost of each operation depends only on the entries that it is about, however many are held.
//! Left to others: how long entries are held, and how they are exported.

use super::arrivals::{Arrivals, Position};
use super::entry::{Entry, HeldLogs, HeldSpans};
use super::index::{Index, Location};

/// Held entries in the order of arrival, with indexes from ids to entries. A key has only spans or only records,
/// because records whose span is held become events.
#[derive(Debug)]
pub(super) struct Hold {
    arrivals: Arrivals<Entry>,
    spans: Index,
    records: Index,
    /// Memory that the entries take, without their slots and index entries.
    entry_bytes: usize,
    span_count: usize,
}

/// Result of the arrival of spans.
#[derive(Debug)]
pub(super) struct Matched {
    /// Position at which the spans are held.
    pub(super) position: Position,
    /// Number of log records that became events of the spans.
    pub(super) attached: u32,
    /// Logs without pending records, which are no longer held.
    pub(super) decided: Vec<HeldLogs>,
}

// === impl Hold ===

impl Hold {
    pub(super) fn new() -> Self {
        Self {
            arrivals: Arrivals::new(),
            spans: Index::new(),
            records: Index::new(),
            entry_bytes: 0,
            span_count: 0,
        }
    }

    /// Holds spans: attaches the records that were held for them, and keeps the spans for later records.
    pub(super) fn keep_spans(&mut self, mut spans: HeldSpans) -> Matched {
        let position = self.arrivals.next_position();
        let mut matches = Vec::new();
        for (element, key) in spans.keys().enumerate() {
            matches.extend(self.records.take(&key).map(|locations| (element, locations)));
            self.spans.add(key, Location { position, element });
        }
        let mut met = Matched { position, attached: 0, decided: Vec::new() };
        for (span, locations) in matches {
            for record in locations {
                let Some(Entry::Logs(logs)) = self.arrivals.get_mut(record.position) else { continue };
                spans.attach(span, logs, record.element);
                met.attached += 1;
                if logs.is_decided()
                    && let Some(Entry::Logs(logs)) = self.take(record.position)
                {
                    met.decided.push(*logs);
                }
            }
        }
        self.entry_bytes += spans.bytes();
        self.span_count += spans.span_count() as usize;
        self.arrivals.push(Entry::Spans(Box::new(spans)));
        met
    }

    /// Attaches the records whose spans are held, and returns their number.
    pub(super) fn attach(&mut self, logs: &mut HeldLogs) -> u32 {
        let mut attached = 0;
        for record in 0..logs.states.len() {
            let Some(span) = logs.pending_key(record).and_then(|key| self.spans.first(&key)) else {
                continue;
            };
            let Some(Entry::Spans(spans)) = self.arrivals.get_mut(span.position) else { continue };
            self.entry_bytes += spans.attach(span.element, logs, record);
            attached += 1;
        }
        attached
    }

    /// Holds logs whose spans have not arrived.
    pub(super) fn keep_logs(&mut self, logs: HeldLogs) {
        let position = self.arrivals.next_position();
        for (element, key) in logs.pending() {
            self.records.add(key, Location { position, element });
        }
        self.entry_bytes += logs.bytes();
        self.arrivals.push(Entry::Logs(Box::new(logs)));
    }

    pub(super) fn oldest(&self) -> Option<&Entry> {
        self.arrivals.oldest()
    }

    pub(super) fn take_oldest(&mut self) -> Option<Entry> {
        let entry = self.arrivals.take_oldest()?;
        self.forget(&entry);
        Some(entry)
    }

    pub(super) fn take(&mut self, position: Position) -> Option<Entry> {
        let entry = self.arrivals.take(position)?;
        self.forget(&entry);
        Some(entry)
    }

    /// Returns the number of held spans.
    pub(super) fn span_count(&self) -> usize {
        self.span_count
    }

    /// Returns the memory that all this takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.entry_bytes + self.arrivals.bytes() + self.spans.bytes() + self.records.bytes()
    }

    /// Returns the number of accesses to held data.
    #[cfg(test)]
    pub(super) fn steps(&self) -> usize {
        [&self.arrivals.steps, &self.spans.steps, &self.records.steps].iter().map(|steps| steps.count()).sum()
    }

    fn forget(&mut self, entry: &Entry) {
        self.entry_bytes -= entry.bytes();
        let is_held = |position| self.arrivals.holds(position);
        match entry {
            Entry::Spans(spans) => {
                self.span_count -= spans.span_count() as usize;
                spans.keys().for_each(|key| self.spans.forget(&key, is_held));
            }
            Entry::Logs(logs) => logs.pending().for_each(|(_, key)| self.records.forget(&key, is_held)),
        }
    }
}
