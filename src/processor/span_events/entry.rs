//! Entries: the held spans, or the held log records, of one line.
//!
//! In: a document and its part of the record. Out: for spans their export request, for logs what [`LogExit`] makes of
//! them.
//! Promises: a record that becomes an event passes a receipt to the span, so that it is settled with that span; with
//! `keep_logs` it is resolved when its log is settled, too. A record of which one half was settled before a restart is
//! exported as the other half only.
//! Left to others: matching ([`Hold`]), and when an entry is released.
//!
//! [`Hold`]: super::hold::Hold
//! [`LogExit`]: super::log_exit::LogExit

use smallvec::SmallVec;

use super::arrivals::Arrivals;
use super::index::{KEY_BYTES, SpanKey};
use crate::event::{Settled, Signal};
use crate::exporter::{Carried, Export};
use crate::otlp::{Logs, SpanEvent, Traces};
use crate::queue::{Half, Part, Receipt};

/// Memory of a list that grows, for each byte in it: it doubles.
const GROWING: usize = 2;

/// A held entry.
#[derive(Debug)]
pub(super) enum HeldEntry {
    Spans(Box<HeldSpans>),
    Logs(Box<HeldLogs>),
}

/// The spans of one line, which are exported together.
#[derive(Debug)]
pub(super) struct HeldSpans {
    /// Deadline in the form of the [`Hold`].
    ///
    /// [`Hold`]: super::hold::Hold
    pub(super) deadline: i64,
    traces: Traces,
    /// Receipts of the spans, then of every attached event.
    receipts: SmallVec<[Carried; 1]>,
}

/// The log records of one line. Those that are not attached are exported together.
#[derive(Debug)]
pub(super) struct HeldLogs {
    /// Deadline in the form of the [`Hold`].
    ///
    /// [`Hold`]: super::hold::Hold
    pub(super) deadline: i64,
    pub(super) logs: Logs,
    /// The part of all records; attached ones already have receipts.
    pub(super) part: Part,
    /// State of every record.
    pub(super) states: SmallVec<[RecordState; 8]>,
    /// Number of records that are pending.
    pub(super) pending: u32,
    /// Attached records are exported as logs, too.
    pub(super) keep_logs: bool,
    bytes: usize,
}

/// State of a log record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordState {
    /// The record is exported as a log: it names no span, or was exported as an event before a restart.
    Log,
    /// The span of the record has not arrived.
    Pending,
    /// The record is an event of its span.
    Attached,
}

// === impl RecordState ===

impl RecordState {
    fn of(key: Option<SpanKey>, settled: Option<Half>) -> Self {
        match (key, settled) {
            (Some(_), None | Some(Half::Log)) => Self::Pending,
            (None, _) | (_, Some(Half::Event)) => Self::Log,
        }
    }
}

// === impl HeldEntry ===

impl HeldEntry {
    pub(super) fn deadline(&self) -> i64 {
        match self {
            Self::Spans(spans) => spans.deadline,
            Self::Logs(logs) => logs.deadline,
        }
    }

    /// Returns the memory that the entry takes in addition to its slots and index entries, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Spans(spans) => spans.bytes(),
            Self::Logs(logs) => logs.bytes,
        }
    }
}

// === impl HeldSpans ===

impl HeldSpans {
    pub(super) fn new(traces: Traces, part: Part) -> Self {
        let receipts = Carried::in_order(part.into_receipts(), Settled::Delivered);
        Self { deadline: 0, traces, receipts }
    }

    pub(super) fn keys(&self) -> impl ExactSizeIterator<Item = SpanKey> + '_ {
        self.traces.spans()
    }

    pub(super) fn span_count(&self) -> u32 {
        self.traces.span_count()
    }

    /// Returns the memory that the spans and their events take, in bytes, at a constant cost.
    pub(super) fn bytes(&self) -> usize {
        let receipts = if self.receipts.spilled() { GROWING * self.receipts.len() } else { 0 };
        size_of::<Self>() + self.traces.held_bytes() + receipts * size_of::<Carried>()
    }

    /// Returns the total memory for holding the spans, in bytes.
    pub(super) fn bytes_to_hold(&self) -> usize {
        self.bytes() + self.keys().len() * KEY_BYTES + Arrivals::<HeldEntry>::SLOT_BYTES
    }

    /// Returns the ids of one span.
    pub(super) fn key(&self, span: usize) -> Option<SpanKey> {
        self.traces.ids(span)
    }

    /// Adds an event to a span, and returns the memory that it takes, in bytes.
    pub(super) fn attach(&mut self, span: usize, event: SpanEvent, receipt: Receipt) -> usize {
        let before = self.bytes();
        self.traces.attach(span, event);
        let at = u32::try_from(span).unwrap_or(u32::MAX);
        self.receipts.push(Carried { receipt, outcome: Settled::Attached, at });
        self.bytes() - before
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

// === impl HeldLogs ===

impl HeldLogs {
    pub(super) fn new(logs: Logs, part: Part) -> Self {
        let states: SmallVec<[RecordState; 8]> = logs
            .records()
            .enumerate()
            .map(|(record, key)| RecordState::of(key, part.settled_half(record)))
            .collect();
        let pending = states.iter().filter(|&&state| state == RecordState::Pending).count();
        let spilled = if states.spilled() { states.capacity() * size_of::<RecordState>() } else { 0 };
        let bytes = size_of::<Self>() + logs.held_bytes() + spilled;
        let pending = u32::try_from(pending).expect("a line has fewer than 2^32 records");
        Self { deadline: 0, logs, part, keep_logs: false, states, pending, bytes }
    }

    /// Returns the pending records, and the ids of their spans.
    pub(super) fn pending(&self) -> impl Iterator<Item = (u32, SpanKey)> + '_ {
        (0..)
            .zip(self.logs.records().zip(&self.states))
            .filter(|(_, (_, state))| **state == RecordState::Pending)
            .filter_map(|(record, (key, _))| Some((record, key?)))
    }

    /// Returns the ids of the record's span, if the record is pending.
    pub(super) fn pending_key(&self, record: usize) -> Option<SpanKey> {
        (self.states.get(record) == Some(&RecordState::Pending)).then(|| self.logs.ids(record))?
    }

    /// Returns whether no record is pending.
    pub(super) fn is_decided(&self) -> bool {
        self.pending == 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the total memory for holding the logs, in bytes.
    pub(super) fn bytes_to_hold(&self) -> usize {
        self.bytes + self.pending as usize * KEY_BYTES + Arrivals::<HeldEntry>::SLOT_BYTES
    }

    /// Makes a pending record an event.
    pub(super) fn take_event(&mut self, record: usize) -> (SpanEvent, Receipt) {
        debug_assert_eq!(self.states[record], RecordState::Pending, "the record is an event already");
        self.states[record] = RecordState::Attached;
        self.pending -= 1;
        if self.keep_logs {
            self.part.share(record);
        }
        (self.logs.event(record), self.part.receipt(record).of_events())
    }
}
