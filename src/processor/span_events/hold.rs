//! Where spans and log records wait for each other.
//!
//! In: the spans or the logs of one line. Out: the same, when they are asked for, oldest first.
//! Promises: a record meets the oldest span with its ids that waits here, whichever of the two came first. No step
//! looks at more than the entries that it is about, however many are held.
//! Leaves to others: how long they wait, and where they go.

use super::arrivals::{Arrivals, Position};
use super::entry::{Entry, WaitingLogs, WaitingSpans};
use super::index::{Index, Place};

/// Waiting entries in the order of arrival, and the way from ids to them. Under one key there are only spans or only
/// records: where both meet, the records become events.
#[derive(Debug)]
pub(super) struct Hold {
    arrivals: Arrivals<Entry>,
    spans: Index,
    records: Index,
    /// What the entries cost, without their places in the line and in the indexes.
    entry_bytes: usize,
    span_count: usize,
}

/// What the arrival of spans has brought about.
#[derive(Debug)]
pub(super) struct Met {
    /// Where the spans wait now.
    pub(super) position: Position,
    /// Log records that became events of them.
    pub(super) attached: u32,
    /// Logs that have nothing left to wait for, and are not held any more.
    pub(super) decided: Vec<WaitingLogs>,
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

    /// Spans arrive: they take the records that waited for them, and wait for more.
    pub(super) fn keep_spans(&mut self, mut spans: WaitingSpans) -> Met {
        let position = self.arrivals.next_position();
        let mut awaited = Vec::new();
        for (element, key) in spans.keys().enumerate() {
            awaited.extend(self.records.take(&key).map(|places| (element, places)));
            self.spans.add(key, Place { position, element });
        }
        let mut met = Met { position, attached: 0, decided: Vec::new() };
        for (span, places) in awaited {
            for record in places {
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

    /// Logs arrive: makes events of the records whose spans wait here, and says how many those are.
    pub(super) fn attach(&mut self, logs: &mut WaitingLogs) -> u32 {
        let mut attached = 0;
        for record in 0..logs.fates.len() {
            let Some(span) = logs.wanted_by(record).and_then(|key| self.spans.first(&key)) else { continue };
            let Some(Entry::Spans(spans)) = self.arrivals.get_mut(span.position) else { continue };
            self.entry_bytes += spans.attach(span.element, logs, record);
            attached += 1;
        }
        attached
    }

    /// Lets logs wait for the spans that have not come.
    pub(super) fn keep_logs(&mut self, logs: WaitingLogs) {
        let position = self.arrivals.next_position();
        for (element, key) in logs.wanted() {
            self.records.add(key, Place { position, element });
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

    /// Spans that wait.
    pub(super) fn span_count(&self) -> usize {
        self.span_count
    }

    /// What all this costs, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.entry_bytes + self.arrivals.bytes() + self.spans.bytes() + self.records.bytes()
    }

    /// How often a place of what is held was touched.
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
            Entry::Logs(logs) => logs.wanted().for_each(|(_, key)| self.records.forget(&key, is_held)),
        }
    }
}
