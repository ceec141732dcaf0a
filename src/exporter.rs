//! Exports data downstream: export requests become POSTs, and receipts are settled by the responses.
//!
//! In: [`Export`]s. Out: one OTLP/HTTP request for each, or one for many with `delivery: batch`.
//! Promises: every export ends once, delivered or rejected, unless the process stops first; then its receipts stay
//! unsettled and the queue keeps its data. Only the responses in `permanent_status_codes` reject data, and item by
//! item. At most `max_in_flight` requests are on the wire.
//!
//! The path of an export: [`delivery`] receives it from the channel and, with `delivery: batch`, merges it with others
//! ([`batch`]) without copying them ([`slices`]). Then the tower [`stack`] of its signal, outermost first:
//!
//! 1. [`observe`]: counts the outcome of an export once and settles its receipts, regardless of the number of attempts; splits
//!    a request whose data was condemned in two; logs rejected data ([`losses`])
//! 2. [`retry`]: retries, with growing pauses, what was not accepted for reasons other than the data
//! 3. [`attempt`]: waits until the [`destination`] admits it and for one of the [`slots`] on the wire, measures the attempt and
//!    turns its response ([`response`]) or [`fault`] into an [`outcome`]; repeats it when the destination is at fault
//!    ([`remedy`], [`tls_port`])
//! 4. the timeout of one attempt
//! 5. the POST ([`otlp_http`]) on a pooled connection ([`client`]), which may go through a [`proxy`], in the framing of gRPC
//!    ([`grpc`]) where that is the protocol
//!
//! Requests to the API of a sender ([`api`]) use only the client. Self-traces ([`self_trace`]) and the rejected exports that `spanrelay replay` resends ([`resend`]) bypass the stack and use
//! only the POST.

mod delivery;

mod batch;

mod slices;

mod encode;

mod compress;

mod observe;

mod losses;

mod stack;

mod otlp_http;

mod grpc;

mod client;

mod proxy;

mod api;

mod self_trace;

mod resend;

mod retry;

mod attempt;

mod destination;

mod remedy;

mod tls_port;

mod slots;

mod outcome;

mod response;

mod fault;

mod outage;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use crate::config::{DeliveryMode, ExporterConfig};
use crate::event::{RecordId, Settled, Signal};
use crate::otlp::ExportRequest;
use crate::queue::Receipt;
use crate::telemetry::Metrics;
use crate::telemetry::inspect::view::Departure;
use crate::telemetry::traces::Cause;

pub(crate) use api::{ApiClient, ApiError};
use batch::Batcher;
use client::ClientTlsError;
use delivery::Delivery;
use observe::Observe;
use otlp_http::Post;
pub(crate) use resend::{Resender, Resent};
pub(crate) use self_trace::{SelfTraceExporter, SelfTraceExporterError};
use stack::SendExports;

/// One export request.
#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) signal: Signal,
    pub(crate) request: ExportRequest,
    /// Number of spans, log records or metric points.
    pub(crate) items: u32,
    /// Receipts of the items, and of the log records attached to them as events.
    pub(crate) receipts: Vec<Carried>,
}

/// A receipt that travels with an export.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) receipt: Receipt,
    /// Outcome of the receipt once the downstream accepts the export. If the export is rejected, so are all receipts.
    pub(crate) outcome: Settled,
    /// Index of the export item that covers the first item of the receipt. The next export items cover its other items.
    pub(crate) at: u32,
}

/// An export that will never be delivered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RejectedExport<'a> {
    pub(crate) signal: Signal,
    pub(crate) items: u32,
    pub(crate) json: &'a Bytes,
    /// Reason in one line that is safe to log: `downstream returned 400: <its message>`.
    pub(crate) reason: &'a str,
}

/// Store of rejected exports. Called once for each, before its receipts are settled, on the task that sent it, so it must
/// not block.
pub(crate) trait RejectSink: Send + Sync {
    fn reject(&self, export: RejectedExport<'_>);
}

/// Reason that the exporter cannot be built from its configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExporterError {
    #[error("{section}: the endpoint for {signal} must be http:// or https:// and a host")]
    Address { section: &'static str, signal: Signal },
    #[error("{section}: TLS for {signal} cannot be set up")]
    Tls {
        section: &'static str,
        signal: Signal,
        #[source]
        source: ClientTlsError,
    },
}

/// Returns the problems of the files of `tls`, without building an exporter.
pub(crate) fn tls_problems(config: &ExporterConfig) -> Vec<ExporterError> {
    client::tls_problems(&Signal::ALL.map(|signal| config.of(signal)))
}

/// Sends exports until the channel closes.
pub(crate) struct Exporter {
    config: ExporterConfig,
    posts: [Post; Signal::ALL.len()],
    metrics: Metrics,
    rejects: Arc<dyn RejectSink>,
    wall_clock: fn() -> SystemTime,
}

/// Settings of an exporter that can be replaced while it runs.
pub(crate) struct ExporterSettings([Post; Signal::ALL.len()]);

// === impl ExporterSettings ===

impl ExporterSettings {
    /// Reads the certificates again, and uses them and the headers of `config` for all later requests.
    pub(crate) fn reload(&self, config: &ExporterConfig) -> Result<(), ExporterError> {
        let new = otlp_http::posts(config)?;
        self.0.iter().zip(&new).for_each(|(post, new)| post.replace(new));
        Ok(())
    }
}

// === impl Carried ===

impl Carried {
    /// Assigns receipts to the items of an export, in order from the first item.
    pub(crate) fn in_order(receipts: SmallVec<[Receipt; 1]>, outcome: Settled) -> SmallVec<[Self; 1]> {
        let mut next = 0;
        receipts
            .into_iter()
            .map(|receipt| {
                let at = next;
                next += receipt.items();
                Self { receipt, outcome, at }
            })
            .collect()
    }

    /// Settles the receipt of an export that the downstream accepted.
    pub(crate) fn settle(self) {
        self.receipt.settle(self.outcome);
    }

    /// Splits the receipt into the part of the first `items` of the export and the part of the others.
    fn split_at(mut self, items: u32) -> (Option<Self>, Option<Self>) {
        match items.checked_sub(self.at) {
            None | Some(0) => {
                self.at -= items;
                (None, Some(self))
            }
            Some(kept) if kept >= self.receipt.items() => (Some(self), None),
            Some(kept) => {
                let rest = Self { receipt: self.receipt.split_at(kept), outcome: self.outcome, at: 0 };
                (Some(self), Some(rest))
            }
        }
    }
}

// === impl Export ===

impl Export {
    /// Splits the export after the first `items`, each part with its receipts. Returns the export itself if one part would
    /// be empty.
    pub(crate) fn split_at(self, items: u32) -> Result<[Self; 2], Self> {
        if items == 0 || items >= self.items {
            return Err(self);
        }
        let signal = self.signal;
        let first = self.request.select(signal, |item| item < items);
        let (Some(first), Some(second)) = (first, self.request.select(signal, |item| item >= items)) else {
            return Err(self);
        };
        let (mut kept, mut rest) = (Vec::new(), Vec::new());
        for carried in self.receipts {
            let (one, other) = carried.split_at(items);
            kept.extend(one);
            rest.extend(other);
        }
        let second = Self { signal, request: second, items: self.items - items, receipts: rest };
        Ok([Self { signal, request: first, items, receipts: kept }, second])
    }

    /// Returns the description for the inspector when the export leaves the processor.
    pub(crate) fn departure(&self) -> Departure<'_> {
        let records = self.receipts.iter().map(|carried| carried.receipt.record()).collect();
        let json = Box::new(|| self.request.json().into_owned());
        Departure { signal: self.signal, items: self.items, bytes: self.request.bytes(), json, records }
    }

    /// Returns the self-tracing causes of the requests whose data is in the export.
    fn causes(&self) -> impl Iterator<Item = Cause> {
        self.receipts.iter().map(|carried| carried.receipt.cause())
    }

    /// Returns the identity of the export in the inspector.
    fn identity(&self) -> (Option<RecordId>, &Bytes) {
        (self.receipts.first().map(|carried| carried.receipt.record()), self.request.bytes())
    }
}

// === impl Exporter ===

impl Exporter {
    /// Reads certificates, without connecting. `wall_clock` is used only for a `Retry-After` that is a date.
    pub(crate) fn new(
        config: &ExporterConfig,
        metrics: Metrics,
        rejects: Arc<dyn RejectSink>,
        wall_clock: fn() -> SystemTime,
    ) -> Result<Self, ExporterError> {
        let posts = otlp_http::posts(config)?;
        Ok(Self { config: config.clone(), posts, metrics, rejects, wall_clock })
    }

    /// Returns the settings that can be replaced while it runs.
    pub(crate) fn settings(&self) -> ExporterSettings {
        ExporterSettings(self.posts.clone())
    }

    /// Runs until the channel is closed and every export has ended, or until `stop` is cancelled: then attempts in flight are
    /// dropped and their receipts stay unsettled.
    ///
    /// Exports that become ready together arrive in one message. The channel needs no bound of its own: every export holds
    /// receipts, whose records count against the queue's bound until they are settled.
    pub(crate) async fn run(self, exports: UnboundedReceiver<Vec<Export>>, stop: CancellationToken) {
        let Self { config, posts, metrics, rejects, wall_clock } = self;
        let stacks = stack::stacks(&posts, &config, &metrics, wall_clock);
        deliver(Observe::new(stacks, &config, metrics, rejects), &config, exports, stop).await;
    }
}

async fn deliver<S: SendExports>(
    sender: Observe<S>,
    config: &ExporterConfig,
    exports: UnboundedReceiver<Vec<Export>>,
    stop: CancellationToken,
) {
    let batcher = match config.settings.delivery {
        DeliveryMode::Single => None,
        DeliveryMode::Batch => Some(Batcher::new(config.settings.batch.clone())),
    };
    Delivery::new(sender, batcher, config.settings.max_in_flight).run(exports, stop).await;
}
