//! Entry points of the benchmarks (`benches/micro.rs`): one for each step of processing a line, and one for all steps
//! from a body to its exports, without sockets and without a queue.
//!
//! The tests in this module assert the number of allocations of each step.

pub mod lines;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::{Encoding, SpanEventsConfig, Unmatched};
use crate::event::{KeptHeaders, RecordId, Settled, Signal};
use crate::exporter::{Carried, Export};
use crate::otlp::{LineReader, protobuf};
use crate::processor::{SpanEvents, Work};
use crate::queue::{Ledger, Taken};
use crate::receiver::fastly::Fastly;
use crate::receiver::fastly::FastlyConfig;
use crate::receiver::otlp::Otlp;
use crate::receiver::otlp::OtlpConfig;
use crate::receiver::{Reading, Receiver};
use crate::telemetry::metrics::Metrics;

/// Default of the configuration.
const MAX_LINE_BYTES: usize = 1 << 20;
const MAX_BODY_BYTES: usize = 32 << 20;

/// The two receivers of telemetry.
pub struct Receivers {
    fastly: Fastly,
    otlp: Otlp,
}

/// Reading of a body.
#[derive(Debug)]
pub struct Read(Reading);

/// The processor, with a queue that keeps nothing.
pub struct Processor {
    processor: SpanEvents,
    ledger: Arc<dyn Ledger>,
    now: Instant,
    out: Vec<Export>,
}

/// Ledger that records nothing.
pub(super) struct NoLedger;

/// Reads lines that are already split, and returns the number of accepted ones.
pub fn read_lines(lines: &[Bytes]) -> usize {
    let mut reader = LineReader::default();
    lines.iter().filter(|line| reader.read(line).is_ok()).count()
}

/// Encodes an export request for `/v1/traces` as protobuf.
pub fn encode_protobuf(json: &[u8]) -> Option<Vec<u8>> {
    protobuf::encode(Signal::Traces, json).ok()
}

/// Decodes a protobuf request for `/v1/traces` to JSON.
pub fn decode_protobuf(request: &[u8]) -> Option<Vec<u8>> {
    protobuf::decode(Signal::Traces, request, MAX_BODY_BYTES).ok().map(|it| it.json)
}

// === impl Receivers ===

impl Receivers {
    /// Creates receivers with default settings.
    #[expect(clippy::new_without_default, reason = "benchmarks create it explicitly")]
    pub fn new() -> Self {
        let config = FastlyConfig::default();
        Self {
            fastly: Fastly::new(&config, MAX_LINE_BYTES),
            otlp: Otlp::new(&OtlpConfig::default(), Signal::Traces, MAX_BODY_BYTES),
        }
    }

    /// Splits and reads a batch as Fastly sends it.
    pub fn fastly(&self, body: &Bytes) -> Read {
        Read(self.fastly.read(body))
    }

    /// Decodes and reads a protobuf request for `/v1/traces`.
    pub fn otlp_protobuf(&self, body: &Bytes) -> Read {
        Read(self.otlp.receive(body, Encoding::Protobuf, &KeptHeaders::default()).reading)
    }
}

// === impl Read ===

impl Read {
    /// Returns the number of accepted lines.
    pub fn accepted(&self) -> usize {
        self.0.items.len()
    }

    /// Returns the number of repaired lines.
    pub fn repaired(&self) -> usize {
        self.0.items.iter().filter(|item| !item.repairs.is_empty()).count()
    }

    /// Returns the number of rejected lines.
    pub fn rejected(&self) -> usize {
        self.0.rejected.len()
    }
}

// === impl Processor ===

impl Processor {
    /// Creates a processor that holds spans for `wait`, without a limit on memory.
    pub fn new(wait: Duration) -> Self {
        let config = SpanEventsConfig {
            wait,
            max_held_bytes: u64::MAX,
            unmatched: Unmatched::ForwardLog,
            keep_logs: false,
        };
        Self {
            processor: SpanEvents::new(&config, Metrics::new()),
            ledger: Arc::new(NoLedger),
            now: Instant::now(),
            out: Vec::new(),
        }
    }

    /// Accepts the reading of one body, then advances the time by `then`. Calls `leave` for each export, and settles
    /// its receipts.
    pub fn accept(&mut self, read: Read, then: Duration, mut leave: impl FnMut(&Bytes)) {
        let taken = Taken::new(RecordId(0), 0, Arc::clone(&self.ledger));
        let request = Work::of(&taken, read.0.items);
        taken.seal();
        self.processor.accept(self.now, request, &mut self.out);
        self.now += then;
        for export in self.out.drain(..) {
            leave(export.request.json());
            export.receipts.into_iter().for_each(Carried::settle);
        }
    }

    /// Returns the number of held spans.
    pub fn held_spans(&self) -> usize {
        self.processor.held_spans()
    }

    /// Returns the memory that the processor counts for held data, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.processor.held_bytes()
    }
}

// === impl NoLedger ===

impl Ledger for NoLedger {
    fn settled(&self, _: RecordId, _: Signal, _: Range<u32>, _: Settled) {}

    fn acknowledge(&self, _: RecordId, _: u64) {}

    fn release(&self, _: RecordId, _: u64) {}
}
