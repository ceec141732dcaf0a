//! Held spans and log records, matched with each other by their ids.
//!
//! In: the spans or the logs of one line. Out: the same, on request, oldest first.
//! Promises: a record is matched with the oldest held span that has its ids, whichever of the two arrived first. The
//! cost of each operation depends only on the entries that it is about, however many are held.
//! Left to others: how long entries are held, and how they are exported.

use std::time::{Duration, Instant};

use super::arrivals::{Arrivals, Position};
use super::entry::{HeldEntry, HeldLogs, HeldSpans};
use super::index::{HeldDocuments, Location, SpanIndex, SpanKey};

/// Held entries in the order of arrival, with indexes from ids to entries. A key has only spans or only records,
/// because records whose span is held become events.
#[derive(Debug)]
pub(super) struct Hold {
    arrivals: Arrivals<HeldEntry>,
    /// The first deadline, from which the others are counted.
    first_deadline: Option<Instant>,
    spans: SpanIndex,
    records: SpanIndex,
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
            first_deadline: None,
            spans: SpanIndex::new(),
            records: SpanIndex::new(),
            entry_bytes: 0,
            span_count: 0,
        }
    }

    /// Holds spans: attaches the records that were held for them, and keeps the spans for later records.
    pub(super) fn keep_spans(&mut self, mut spans: HeldSpans, deadline: Instant) -> Matched {
        spans.deadline = self.compact(deadline);
        self.entry_bytes += spans.bytes();
        self.span_count += spans.span_count() as usize;
        let position = self.arrivals.push(HeldEntry::Spans(Box::new(spans)));
        let mut matches = Vec::new();
        if let Some(HeldEntry::Spans(spans)) = self.arrivals.get(position) {
            for (element, key) in (0..).zip(spans.keys()) {
                let locations = self.records.take(&key, &self.arrivals);
                matches.extend(locations.map(|locations| (element, locations)));
                self.spans.add(key, Location { position, element }, &self.arrivals);
            }
        }
        let mut met = Matched { position, attached: 0, decided: Vec::new() };
        for (element, locations) in matches {
            for record in locations {
                if self.attach_one(Location { position, element }, record) {
                    met.attached += 1;
                }
                if let Some(HeldEntry::Logs(logs)) = self.arrivals.get(record.position)
                    && logs.is_decided()
                    && let Some(HeldEntry::Logs(logs)) = self.take(record.position)
                {
                    met.decided.push(*logs);
                }
            }
        }
        met
    }

    /// Makes a held record an event of a held span. Returns whether both are held.
    fn attach_one(&mut self, span: Location, record: Location) -> bool {
        let Some(HeldEntry::Logs(logs)) = self.arrivals.get_mut(record.position) else { return false };
        let (event, receipt) = logs.take_event(record.element as usize);
        let Some(HeldEntry::Spans(spans)) = self.arrivals.get_mut(span.position) else { return false };
        self.entry_bytes += spans.attach(span.element as usize, event, receipt);
        true
    }

    /// Attaches the records whose spans are held, and returns their number.
    pub(super) fn attach(&mut self, logs: &mut HeldLogs) -> u32 {
        let mut attached = 0;
        for record in 0..logs.states.len() {
            let span = logs.pending_key(record).and_then(|key| self.spans.first(&key, &self.arrivals));
            let Some(span) = span else { continue };
            let Some(HeldEntry::Spans(spans)) = self.arrivals.get_mut(span.position) else { continue };
            let (event, receipt) = logs.take_event(record);
            self.entry_bytes += spans.attach(span.element as usize, event, receipt);
            attached += 1;
        }
        attached
    }

    /// Holds logs whose spans have not arrived.
    pub(super) fn keep_logs(&mut self, mut logs: HeldLogs, deadline: Instant) {
        logs.deadline = self.compact(deadline);
        self.entry_bytes += logs.bytes();
        let position = self.arrivals.push(HeldEntry::Logs(Box::new(logs)));
        if let Some(HeldEntry::Logs(logs)) = self.arrivals.get(position) {
            for (element, key) in logs.pending() {
                self.records.add(key, Location { position, element }, &self.arrivals);
            }
        }
    }

    /// Returns the deadline of the oldest entry.
    pub(super) fn oldest_deadline(&self) -> Option<Instant> {
        let nanos = self.arrivals.oldest()?.deadline();
        let distance = Duration::from_nanos(nanos.unsigned_abs());
        self.first_deadline.and_then(|first| {
            if nanos < 0 { first.checked_sub(distance) } else { first.checked_add(distance) }
        })
    }

    /// Returns a deadline in half the memory of an [`Instant`]: the nanoseconds after the first deadline.
    fn compact(&mut self, deadline: Instant) -> i64 {
        let first = *self.first_deadline.get_or_insert(deadline);
        let nanos = |distance: Duration| i64::try_from(distance.as_nanos()).unwrap_or(i64::MAX);
        match deadline.checked_duration_since(first) {
            Some(after) => nanos(after),
            None => -nanos(first.duration_since(deadline)),
        }
    }

    pub(super) fn take_oldest(&mut self) -> Option<HeldEntry> {
        let (position, entry) = self.arrivals.take_oldest()?;
        self.forget(position, &entry);
        Some(entry)
    }

    pub(super) fn take(&mut self, position: Position) -> Option<HeldEntry> {
        let entry = self.arrivals.take(position)?;
        self.forget(position, &entry);
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

    /// Forgets an entry that was just released.
    fn forget(&mut self, position: Position, entry: &HeldEntry) {
        self.entry_bytes -= entry.bytes();
        match entry {
            HeldEntry::Spans(spans) => {
                self.span_count -= spans.span_count() as usize;
                let keys = (0..).zip(spans.keys());
                self.spans.forget(position, spans.span_count(), keys, &self.arrivals);
            }
            HeldEntry::Logs(logs) => {
                self.records.forget(position, logs.pending, logs.pending(), &self.arrivals);
            }
        }
    }
}

// === impl Arrivals ===

impl HeldDocuments for Arrivals<HeldEntry> {
    fn key(&self, location: Location) -> Option<SpanKey> {
        match self.get(location.position)? {
            HeldEntry::Spans(spans) => spans.key(location.element as usize),
            HeldEntry::Logs(logs) => logs.logs.ids(location.element as usize),
        }
    }

    fn is_held(&self, position: Position) -> bool {
        self.holds(position)
    }
}
