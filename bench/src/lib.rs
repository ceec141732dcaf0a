//! Steps of processing for the benchmark `micro`: one for each step of processing a line, and one for all steps from a body to
//! its exports, without sockets and without a queue; and the [`lines`] that both benchmarks use.
//!
//! The tests assert the number of allocations of each step.

pub mod lines;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spanrelay::RECEIVERS;
use spanrelay::config::{Config, Environment};
use spanrelay::internals::{self, Encoding, KeptHeaders, LineReader, Reading, Receiver, Signal, protobuf};

const MAX_BODY_BYTES: usize = 32 << 20;

/// The two receivers of telemetry, with default settings.
pub struct Receivers {
    fastly: Arc<dyn Receiver>,
    otlp: Arc<dyn Receiver>,
    /// Receiver of requests that are exported as protobuf.
    otlp_protobuf: Arc<dyn Receiver>,
}

/// Reading of a body.
#[derive(Debug)]
pub struct Read(Reading);

/// The processor, with a queue that keeps nothing.
pub struct Processor(internals::Processor);

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

fn config(yaml: &str) -> Config {
    Config::from_yaml(yaml, &Environment::empty(), RECEIVERS).expect("the configuration is valid")
}

// === impl Receivers ===

impl Receivers {
    /// Creates the receivers.
    #[expect(clippy::new_without_default, reason = "benchmarks create it explicitly")]
    pub fn new() -> Self {
        let of = |signal, exporters| {
            let all = internals::receivers(&config(&format!(
                "receivers: {{fastly: {{}}, otlp: {{}}}}\n{exporters}"
            )));
            let found = all.into_iter().find(|receiver| receiver.signal() == signal);
            found.expect("the receiver is configured")
        };
        Self {
            fastly: of(None, ""),
            otlp: of(Some(Signal::Traces), ""),
            otlp_protobuf: of(Some(Signal::Traces), "exporters: {otlp_http: {encoding: protobuf}}"),
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

    /// Reads a protobuf request for `/v1/traces` that is exported as protobuf.
    pub fn otlp_protobuf_kept(&self, body: &Bytes) -> Read {
        Read(self.otlp_protobuf.receive(body, Encoding::Protobuf, &KeptHeaders::default()).reading)
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
    /// Creates a processor that holds spans for `wait`, with more memory than the benchmarks fill.
    pub fn new(wait: Duration) -> Self {
        let wait = wait.as_secs();
        Self(internals::Processor::new(&config(&format!(
            "receivers: {{fastly: {{}}}}\nprocessors: {{span_events: {{wait: {wait}s, max_held_bytes: 1024GiB}}}}"
        ))))
    }

    /// Accepts the reading of one body, then advances the time by `then`. Calls `leave` for each export.
    pub fn accept(&mut self, read: Read, then: Duration, mut leave: impl FnMut(&Bytes)) {
        self.0.accept(read.0.items, then, |_, _, json| leave(json));
    }

    /// Returns the number of held spans.
    pub fn held_spans(&self) -> usize {
        self.0.held_spans()
    }

    /// Returns the memory that the processor counts for held data, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.0.held_bytes()
    }
}
