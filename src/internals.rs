//! Entry points of the benchmarks (`bench`) and the fuzz targets (`fuzz`) into private modules.
//!
//! Not a stable interface: it changes with the modules that it shows, and nothing else may depend on it.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::Config;
pub use crate::config::Encoding;
pub use crate::event::{KeptHeaders, Signal};
use crate::exporter::{Carried, Export};
pub use crate::otlp::json::Fault;
pub use crate::otlp::{ExportRequest, Line, LineReader, Logs, ProtobufRequest, read_request, signal_of};
use crate::processor::{SpanEvents, Work};
use crate::queue::Taken;
pub use crate::queue::{Record, decode_frame, encode_frame};
pub use crate::receiver::fastly::frames;
pub use crate::receiver::{Ignored, Item, Passage, Reading, Received, Receiver, Rejected, Scope, sign};
use crate::receiver::{Limits, Looked, build};
use crate::telemetry::Metrics;

/// Conversion between the encodings of OTLP.
pub mod protobuf {
    pub use crate::otlp::protobuf::{decode, encode};
}

/// The processor `span_events`, for records of a queue that keeps nothing.
pub struct Processor {
    processor: SpanEvents,
    now: Instant,
    out: Vec<Export>,
}

/// Result of a lookup in CircleCI's API.
#[derive(Debug)]
pub struct LookedUp {
    /// Export request with the spans, if there are any.
    pub request: Option<Bytes>,
    /// The job and its steps have ended.
    pub is_final: bool,
}

/// Looks up the steps of an event's job. `respond` returns the status and the body of a version of the API. `None` if there is
/// nothing to look up, or if a response is of no use.
pub fn look_up<'a>(
    receiver: &dyn Receiver,
    event: &Bytes,
    mut respond: impl FnMut(&'static str) -> (u16, &'a [u8]),
) -> Option<LookedUp> {
    let mut lookup = receiver.lookup(event)?;
    loop {
        let response = respond(lookup.request().api);
        match lookup.respond(Some(response)).1 {
            Looked::Further(further) => lookup = *further,
            Looked::Found(found) => {
                return Some(LookedUp { request: found.request, is_final: found.is_final });
            }
            Looked::Failed => return None,
        }
    }
}

/// Creates every receiver of a configuration.
pub fn receivers(config: &Config) -> Vec<Arc<dyn Receiver>> {
    let limits = Limits::of(&config.server, &config.processors).keeping_protobuf(config.keeps_protobuf());
    config.receivers.iter().flat_map(|section| build(section, &limits)).collect()
}

// === impl Processor ===

impl Processor {
    /// Creates the processor of a configuration.
    pub fn new(config: &Config) -> Self {
        // Creating the many counters is slow, and nobody reads them.
        static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

        Self {
            processor: SpanEvents::new(&config.processors.span_events, METRICS.clone()),
            now: Instant::now(),
            out: Vec::new(),
        }
    }

    /// Accepts the items of one record, then advances the time by `then`. Calls `leave` with the signal, the number of items
    /// and the bytes of each export.
    pub fn accept(&mut self, items: Vec<Item>, then: Duration, mut leave: impl FnMut(Signal, u32, &Bytes)) {
        let taken = Taken::outside_queue();
        let work = Work::of(&taken, items);
        taken.seal();
        self.processor.accept(self.now, work, &mut self.out);
        self.now += then;
        for export in self.out.drain(..) {
            leave(export.signal, export.items, export.request.bytes());
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
