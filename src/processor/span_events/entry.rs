//! The spans, or the log records, of one line while they wait for each other.
//!
//! In: a document and its receipt. Out: for spans their export request, for logs what [`LogExit`] makes of them.
//! Promises: a record that becomes an event takes a receipt along to the span, so it is settled with that span; with
//! `keep_logs` it is resolved when its log is settled too. A record of which one of the two was settled before a restart
//! leaves as the other only.
//! Leaves to others: who meets whom ([`Hold`]), and when an entry leaves.
//!
//! [`Hold`]: super::hold::Hold
//! [`LogExit`]: super::log_exit::LogExit

use std::time::Instant;

use smallvec::SmallVec;

use super::arrivals::Arrivals;
use super::index::{KEY_BYTES, Key};
use crate::event::{Settled, Signal};
use crate::exporter::{Carried, Export};
use crate::otlp::{Logs, SpanEvent, Traces};
use crate::queue::{Half, Part, Receipt};

/// What an attached event costs beside its text, in bytes; both lists that it is in double when they grow.
const EVENT_BYTES: usize = 2 * (size_of::<SpanEvent>() + size_of::<Carried>());

/// What waits.
#[derive(Debug)]
pub(super) enum Entry {
    Spans(Box<WaitingSpans>),
    Logs(Box<WaitingLogs>),
}

/// The spans of one line. They leave together.
#[derive(Debug)]
pub(super) struct WaitingSpans {
    pub(super) deadline: Instant,
    traces: Traces,
    /// Of the spans, then of every event that was attached.
    receipts: SmallVec<[Carried; 1]>,
    bytes: usize,
}

/// The log records of one line. What is left of them leaves together.
#[derive(Debug)]
pub(super) struct WaitingLogs {
    pub(super) deadline: Instant,
    pub(super) logs: Logs,
    /// Of all records; those that were attached have receipts already.
    pub(super) part: Part,
    /// One for every record.
    pub(super) fates: SmallVec<[Fate; 8]>,
    /// Records whose fate is [`Fate::Waits`].
    pub(super) waiting: u32,
    /// Records that are attached are exported as logs too.
    pub(super) keep_logs: bool,
    bytes: usize,
}

/// What became of a log record so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It names no span, or was an event before a restart: it goes on as a log.
    Log,
    /// Its span has not come.
    Waits,
    /// It is an event of its span.
    Attached,
}

// === impl Fate ===

impl Fate {
    fn of(key: Option<Key>, settled: Option<Half>) -> Self {
        match (key, settled) {
            (Some(_), None | Some(Half::Log)) => Self::Waits,
            (None, _) | (_, Some(Half::Event)) => Self::Log,
        }
    }
}

// === impl Entry ===

impl Entry {
    pub(super) fn deadline(&self) -> Instant {
        match self {
            Self::Spans(spans) => spans.deadline,
            Self::Logs(logs) => logs.deadline,
        }
    }

    /// What it costs beside its places in the line and in the index, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Spans(spans) => spans.bytes,
            Self::Logs(logs) => logs.bytes,
        }
    }
}

// === impl WaitingSpans ===

impl WaitingSpans {
    pub(super) fn new(traces: Traces, part: Part, deadline: Instant) -> Self {
        let bytes = size_of::<Self>() + traces.held_bytes();
        Self {
            deadline,
            traces,
            receipts: Carried::in_order(part.into_receipts(), Settled::Delivered),
            bytes,
        }
    }

    pub(super) fn keys(&self) -> impl ExactSizeIterator<Item = Key> + '_ {
        self.traces.spans()
    }

    pub(super) fn span_count(&self) -> u32 {
        self.traces.span_count()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What holding this costs in all, in bytes.
    pub(super) fn bytes_to_hold(&self) -> usize {
        self.bytes + self.keys().len() * KEY_BYTES + Arrivals::<Entry>::SLOT_BYTES
    }

    /// Makes a record an event of a span, and says what that costs in bytes.
    pub(super) fn attach(&mut self, span: usize, logs: &mut WaitingLogs, record: usize) -> usize {
        let (event, receipt) = logs.give_away(record);
        let bytes = EVENT_BYTES + event.json.len();
        self.bytes += bytes;
        self.traces.attach(span, event);
        let at = u32::try_from(span).unwrap_or(u32::MAX);
        self.receipts.push(Carried { receipt, outcome: Settled::Attached, at });
        bytes
    }

    pub(super) fn into_export(self) -> Export {
        let items = self.span_count();
        Export {
            signal: Signal::Traces,
            request: self.traces.into_request(),
            items,
            receipts: self.receipts.into_vec(),
        }
    }
}

// === impl WaitingLogs ===

impl WaitingLogs {
    pub(super) fn new(logs: Logs, part: Part, deadline: Instant) -> Self {
        let fates: SmallVec<[Fate; 8]> = logs
            .records()
            .enumerate()
            .map(|(record, key)| Fate::of(key, part.settled_half(record)))
            .collect();
        let waiting = fates.iter().filter(|&&fate| fate == Fate::Waits).count();
        let spilled = if fates.spilled() { fates.capacity() * size_of::<Fate>() } else { 0 };
        let bytes = size_of::<Self>() + logs.held_bytes() + spilled;
        let waiting = u32::try_from(waiting).expect("a line has fewer than 2^32 records");
        Self { deadline, logs, part, keep_logs: false, fates, waiting, bytes }
    }

    /// The records that wait, and what they wait for.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (usize, Key)> + '_ {
        self.logs
            .records()
            .zip(&self.fates)
            .enumerate()
            .filter(|(_, (_, fate))| **fate == Fate::Waits)
            .filter_map(|(record, (key, _))| Some((record, key?)))
    }

    /// What the record waits for, if it does.
    pub(super) fn wanted_by(&self, record: usize) -> Option<Key> {
        (self.fates.get(record) == Some(&Fate::Waits)).then(|| self.logs.ids(record))?
    }

    /// Whether nothing is left to wait for.
    pub(super) fn is_decided(&self) -> bool {
        self.waiting == 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What holding this costs in all, in bytes.
    pub(super) fn bytes_to_hold(&self) -> usize {
        self.bytes + self.waiting as usize * KEY_BYTES + Arrivals::<Entry>::SLOT_BYTES
    }

    fn give_away(&mut self, record: usize) -> (SpanEvent, Receipt) {
        debug_assert_eq!(self.fates[record], Fate::Waits, "a record becomes one event");
        self.fates[record] = Fate::Attached;
        self.waiting -= 1;
        if self.keep_logs {
            self.part.share(record);
        }
        (self.logs.event(record), self.part.receipt(record).of_events())
    }
}
