//! Every metric of the relay, by name, in one place. Names and meanings are the Collector's where it has one
//! (contract section 8); label values come from enums and from the configuration, so that no input can make a
//! new series.

mod outcomes;

mod zeroes;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::StatusCode;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

pub(crate) use self::outcomes::{LineOutcome, LogEventOutcome, WebhookOutcome};
use super::Inspector;
use super::traces::{OwnSpanCounts, Traces};
use crate::event::{ExportOutcome, QueueState, Settled, Signal, WebhookEvent};

/// The `exporter` label of the Collector's exporter metrics.
const EXPORTER: &str = "otlp_http";
/// The `transport` label of the Collector's receiver metrics.
const TRANSPORT: &str = "http";
/// The `receiver` label of requests that reached no receiver. No receiver has this name: theirs begin with their kind.
const NO_RECEIVER: &str = "none";
/// Seconds; from a loopback answer to the longest sensible time-out.
const EXPORT_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Every fate, and its label.
const FATES: [(Settled, &str); 5] = [
    (Settled::Delivered, "delivered"),
    (Settled::Attached, "attached"),
    (Settled::Rejected, "rejected"),
    (Settled::Dropped, "dropped"),
    (Settled::Superseded, "superseded"),
];

/// The live metrics. Clones count into the same series.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    started: Instant,
    /// Goes wherever the metrics go: what is counted is what the page shows.
    pub(crate) inspector: Inspector,
    /// Goes along likewise.
    pub(crate) traces: Traces,
    requests: IntCounterVec,
    lines: IntCounterVec,
    log_events: IntCounterVec,
    webhooks: IntCounterVec,
    throttled: IntCounterVec,
    overloaded: IntCounterVec,
    receiver_accepted: PerSignal<IntCounterVec>,
    receiver_refused: PerSignal<IntCounterVec>,
    exporter_sent: PerSignal<IntCounter>,
    exporter_send_failed: PerSignal<IntCounter>,
    /// By outcome.
    export_requests: PerSignal<[IntCounter; ExportOutcome::ALL.len()]>,
    export_duration: PerSignal<Histogram>,
    exporter_blocked: IntGaugeVec,
    /// Spans that wait for their log events.
    pub(crate) held_spans: IntGauge,
    /// Memory that waiting spans and log events take, in bytes.
    pub(crate) held_bytes: IntGauge,
    /// By fate.
    settled: PerSignal<[IntCounter; FATES.len()]>,
    recovered: IntCounterVec,
    queue_size: IntGauge,
    queue_capacity: IntGauge,
    queue_oldest_seconds: Gauge,
    queue_damaged: IntCounterVec,
    /// Rejected input that was not kept.
    pub(crate) rejected_discarded: IntCounter,
    own_spans: IntCounterVec,
    queue_probe: Arc<OnceLock<QueueProbe>>,
    uptime: Gauge,
    memory_rss: IntGauge,
}

/// Asked whenever the metrics are.
type QueueProbe = Box<dyn Fn() -> QueueState + Send + Sync>;

#[derive(Clone)]
struct PerSignal<T> {
    traces: T,
    logs: T,
    metrics: T,
}

// === impl Metrics ===

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let counter_vec = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let counter = |name: &str, help: &str| {
            register(
                &registry,
                IntCounter::with_opts(Opts::new(name, help).const_label("exporter", EXPORTER)),
            )
        };
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::with_opts(Opts::new(name, help)));
        let exporter_gauge = |name: &str, help: &str| {
            register(&registry, IntGauge::with_opts(Opts::new(name, help).const_label("exporter", EXPORTER)))
        };
        let seconds = |name: &str, help: &str| register(&registry, Gauge::with_opts(Opts::new(name, help)));
        let duration = HistogramOpts::new(
            "spanrelay_export_duration_seconds",
            "Time from the start of an export request to its answer, one attempt.",
        )
        .buckets(EXPORT_BUCKETS.to_vec());

        let export_requests = counter_vec(
            "spanrelay_export_requests_total",
            "Attempts to export, by how they ended.",
            &["signal", "outcome"],
        );
        let export_duration = register(&registry, HistogramVec::new(duration, &["signal"]));
        let settled = counter_vec(
            "spanrelay_settled_items_total",
            "Accepted items by what became of them in the end; what is in none of these is still queued.",
            &["signal", "fate"],
        );

        build_info(&registry);

        Self {
            started: Instant::now(),
            inspector: Inspector::new(),
            traces: Traces::default(),
            requests: counter_vec(
                "spanrelay_requests_total",
                "Responses on server.endpoint, by receiver (none: the request reached none) and status code.",
                &["receiver", "code"],
            ),
            lines: counter_vec(
                "spanrelay_lines_total",
                "Lines of Fastly bodies, and OTLP requests, by what became of them at the door.",
                &["receiver", "outcome"],
            ),
            log_events: counter_vec(
                "spanrelay_log_events_total",
                "Log records that name a span, by what became of them.",
                &["outcome"],
            ),
            throttled: counter_vec(
                "spanrelay_throttled_requests_total",
                "Requests rejected with 429 because they exceeded the rate_limit of their receiver.",
                &["receiver"],
            ),
            overloaded: counter_vec(
                "spanrelay_overloaded_requests_total",
                "Requests rejected with 503 because max_concurrent_requests was reached, by receiver.",
                &["receiver"],
            ),
            webhooks: counter_vec(
                "spanrelay_webhooks_total",
                "CircleCI webhooks by event and by what became of them.",
                &["event", "outcome"],
            ),
            receiver_accepted: PerSignal::new(|signal| {
                counter_vec(
                    &format!("otelcol_receiver_accepted_{}", items_of(signal)),
                    "Items accepted.",
                    &["receiver", "transport"],
                )
            }),
            receiver_refused: PerSignal::new(|signal| {
                counter_vec(
                    &format!("otelcol_receiver_refused_{}", items_of(signal)),
                    "Items refused because the queue was full or could not write, and items rejected from units that were accepted otherwise.",
                    &["receiver", "transport"],
                )
            }),
            exporter_sent: PerSignal::new(|signal| {
                counter(
                    &format!("otelcol_exporter_sent_{}", items_of(signal)),
                    "Items exported successfully.",
                )
            }),
            exporter_send_failed: PerSignal::new(|signal| {
                counter(
                    &format!("otelcol_exporter_send_failed_{}", items_of(signal)),
                    "Items that the downstream rejected for good.",
                )
            }),
            // Counted once for each event: found once, here.
            export_requests: PerSignal::new(|signal| {
                ExportOutcome::ALL
                    .map(|outcome| export_requests.with_label_values(&[signal.as_str(), outcome.as_str()]))
            }),
            export_duration: PerSignal::new(|signal| export_duration.with_label_values(&[signal.as_str()])),
            exporter_blocked: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new(
                        "spanrelay_exporter_blocked",
                        "1 while the destination is at fault and its data stays in the queue, else 0.",
                    ),
                    &["signal"],
                ),
            ),
            held_spans: gauge("spanrelay_held_spans", "Spans held for their log events."),
            held_bytes: gauge("spanrelay_held_bytes", "Memory of held spans and log events, in bytes."),
            settled: PerSignal::new(|signal| {
                FATES.map(|(_, fate)| settled.with_label_values(&[signal.as_str(), fate]))
            }),
            recovered: counter_vec(
                "spanrelay_recovered_items_total",
                "Items that an earlier process had accepted and this one found in the queue.",
                &["signal"],
            ),
            queue_damaged: counter_vec(
                "spanrelay_queue_damaged_total",
                "Damaged parts of queue files, and damaged records.",
                &["what"],
            ),
            rejected_discarded: register(
                &registry,
                IntCounter::new(
                    "spanrelay_rejected_discarded_total",
                    "Rejected entries that were not kept: the rejected-lines file was full, or the disk refused them.",
                ),
            ),
            own_spans: counter_vec(
                "spanrelay_own_spans_total",
                "Spans of the relay's own traces, by whether they were sent to telemetry.traces.endpoint.",
                &["outcome"],
            ),
            queue_probe: Arc::default(),
            queue_size: exporter_gauge("otelcol_exporter_queue_size", "Size of the queue, in bytes."),
            queue_capacity: exporter_gauge(
                "otelcol_exporter_queue_capacity",
                "Capacity of the queue, in bytes.",
            ),
            queue_oldest_seconds: seconds(
                "spanrelay_queue_oldest_seconds",
                "Age of the oldest record that is not settled.",
            ),
            uptime: seconds("otelcol_process_uptime", "Seconds since the process started."),
            memory_rss: gauge("otelcol_process_memory_rss", "Resident memory of the process, in bytes."),
            registry,
        }
    }

    /// Counts a response on the front port. `code` is one of this program's own.
    pub(crate) fn request(&self, receiver: Option<&str>, code: StatusCode) {
        self.requests.with_label_values(&[receiver.unwrap_or(NO_RECEIVER), code.as_str()]).inc();
    }

    pub(crate) fn lines(&self, receiver: &str, outcome: LineOutcome, count: usize) {
        self.lines.with_label_values(&[receiver, outcome.as_str()]).inc_by(count as u64);
    }

    pub(crate) fn log_events(&self, outcome: LogEventOutcome, count: u32) {
        self.log_events.with_label_values(&[outcome.as_str()]).inc_by(u64::from(count));
    }

    pub(crate) fn webhook(&self, event: WebhookEvent, outcome: WebhookOutcome) {
        self.webhooks.with_label_values(&[event.as_str(), outcome.as_str()]).inc();
    }

    /// Counts a request beyond the rate limit of its receiver.
    pub(crate) fn throttled(&self, receiver: &str) {
        self.throttled.with_label_values(&[receiver]).inc();
    }

    /// Counts a request that was shed.
    pub(crate) fn overloaded(&self, receiver: &str) {
        self.overloaded.with_label_values(&[receiver]).inc();
    }

    pub(crate) fn accepted(&self, receiver: &str, signal: Signal, items: u32) {
        self.receiver_accepted.of(signal).with_label_values(&[receiver, TRANSPORT]).inc_by(u64::from(items));
    }

    pub(crate) fn refused(&self, receiver: &str, signal: Signal, items: u32) {
        self.receiver_refused.of(signal).with_label_values(&[receiver, TRANSPORT]).inc_by(u64::from(items));
    }

    pub(crate) fn sent(&self, signal: Signal, items: u32) {
        self.exporter_sent.of(signal).inc_by(u64::from(items));
    }

    pub(crate) fn send_failed(&self, signal: Signal, items: u32) {
        self.exporter_send_failed.of(signal).inc_by(u64::from(items));
    }

    /// Accepted items have met their fate.
    pub(crate) fn settled(&self, signal: Signal, fate: Settled, items: u32) {
        let place = FATES.iter().position(|(other, _)| *other == fate).expect("the table has every fate");
        self.settled.of(signal)[place].inc_by(u64::from(items));
    }

    /// Items of an earlier process were found in the queue.
    pub(crate) fn recovered(&self, signal: Signal, items: u32) {
        self.recovered.with_label_values(&[signal.as_str()]).inc_by(u64::from(items));
    }

    /// Counts a damaged part of a queue file.
    pub(crate) fn damaged_file(&self) {
        self.queue_damaged.with_label_values(&["file"]).inc();
    }

    /// Counts a damaged or missing record of the queue.
    pub(crate) fn damaged_record(&self) {
        self.queue_damaged.with_label_values(&["record"]).inc();
    }

    /// The series of own spans; they are there from now on.
    pub(crate) fn own_spans(&self) -> OwnSpanCounts {
        let of = |outcome| self.own_spans.with_label_values(&[outcome]);
        OwnSpanCounts { sent: of("sent"), dropped: of("dropped") }
    }

    /// Whom to ask for the state of the queue; the first one stays.
    pub(crate) fn observe_queue(&self, probe: impl Fn() -> QueueState + Send + Sync + 'static) {
        drop(self.queue_probe.set(Box::new(probe)));
    }

    /// One attempt to export has ended.
    pub(crate) fn export_attempt(&self, signal: Signal, outcome: ExportOutcome, took: Duration) {
        self.export_requests.of(signal)[outcome as usize].inc();
        self.export_duration.of(signal).observe(took.as_secs_f64());
    }

    /// The destination of a signal is at fault, or no longer.
    pub(crate) fn exporter_blocked(&self, signal: Signal, is_blocked: bool) {
        self.exporter_blocked.with_label_values(&[signal.as_str()]).set(i64::from(is_blocked));
    }

    /// How full the queue is, when somebody said whom to ask.
    pub(super) fn queue_state(&self) -> Option<QueueState> {
        self.queue_probe.get().map(|probe| probe())
    }

    /// The Prometheus text exposition format, version 0.0.4.
    pub(crate) fn render(&self) -> Vec<u8> {
        self.uptime.set(self.started.elapsed().as_secs_f64());
        if let Some(bytes) = resident_bytes() {
            self.memory_rss.set(bytes);
        }
        if let Some(QueueState { kept_bytes, capacity_bytes, oldest, .. }) = self.queue_state() {
            self.queue_size.set(i64::try_from(kept_bytes).unwrap_or(i64::MAX));
            self.queue_capacity.set(i64::try_from(capacity_bytes).unwrap_or(i64::MAX));
            self.queue_oldest_seconds.set(oldest.as_secs_f64());
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("writing to memory cannot fail");
        text
    }
}

/// A constant 1 whose labels tell which program this is.
fn build_info(registry: &Registry) {
    let opts = Opts::new("spanrelay_build_info", "Build information; the value is always 1.");
    let info = IntGauge::with_opts(opts.const_label("version", env!("CARGO_PKG_VERSION")));
    register(registry, info).set(1);
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("metric names and labels are constants");
    registry.register(Box::new(metric.clone())).expect("metric names are unique");
    metric
}

/// Resident memory, as Linux tells it; nothing elsewhere.
fn resident_bytes() -> Option<i64> {
    const PAGE_BYTES: i64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

/// The Collector's word for what a signal consists of.
fn items_of(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "spans",
        Signal::Logs => "log_records",
        Signal::Metrics => "metric_points",
    }
}

// === impl PerSignal ===

impl<T> PerSignal<T> {
    fn new(make: impl Fn(Signal) -> T) -> Self {
        Self { traces: make(Signal::Traces), logs: make(Signal::Logs), metrics: make(Signal::Metrics) }
    }

    fn of(&self, signal: Signal) -> &T {
        match signal {
            Signal::Traces => &self.traces,
            Signal::Logs => &self.logs,
            Signal::Metrics => &self.metrics,
        }
    }
}
