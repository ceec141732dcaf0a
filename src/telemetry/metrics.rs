//! All metrics of the relay, by name. Metrics that exist in the Collector have its names and meanings. Label values
//! come from enums and from the configuration, so that no input can create a series.

mod kafka;

mod openmetrics;

mod process;

mod steps;

mod zeroes;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use self::kafka::KafkaMetrics;
use self::process::ProcessMetrics;
use self::steps::StepMetrics;
use super::certificates::Certificates;
use super::traces::{OwnSpanCounts, SelfTraces};
use super::{Flow, Inspector};
use crate::event::{
    ExportOutcome, LogEventOutcome, QueueState, RequestOutcome, Settled, Signal, UnitOutcome, WebhookEvent,
};

/// The `receiver` label of requests that reached no receiver. No receiver has this id, because receiver ids begin with
/// the receiver's kind.
const NO_RECEIVER: &str = "none";
/// Outcome of an event that a later one replaced.
const SUPERSEDED: &str = "superseded";
/// Buckets in seconds, from a loopback response to the longest sensible timeout.
const EXPORT_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Outcomes with their values of the label `outcome`.
const OUTCOMES: [(Settled, &str); 5] = [
    (Settled::Delivered, "delivered"),
    (Settled::Attached, "attached"),
    (Settled::Rejected, "rejected"),
    (Settled::Dropped, "dropped"),
    (Settled::Superseded, SUPERSEDED),
];

/// The live metrics. Clones share the series.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    started: Instant,
    /// Inspector, passed along with the metrics because it shows what they count.
    pub(crate) inspector: Inspector,
    /// Flow of data to the downstream, which the inspector shows.
    pub(crate) flow: Flow,
    /// Self-tracing, passed along in the same way.
    pub(crate) traces: SelfTraces,
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
    /// Attempts per outcome.
    export_requests: PerSignal<[IntCounter; ExportOutcome::ALL.len()]>,
    export_duration: PerSignal<Histogram>,
    exporter_blocked: IntGaugeVec,
    /// Number of spans that are held for their log events.
    pub(crate) held_spans: IntGauge,
    /// Memory of held spans and log records, in bytes.
    pub(crate) held_bytes: IntGauge,
    /// Items per outcome.
    settled: PerSignal<[IntCounter; OUTCOMES.len()]>,
    recovered: IntCounterVec,
    queue_size: IntGauge,
    queue_capacity: IntGauge,
    queue_oldest_seconds: Gauge,
    queue_damaged: IntCounterVec,
    /// Rejected input that was not kept.
    pub(crate) rejected_discarded: IntCounter,
    own_spans: IntCounterVec,
    /// Counts of the queue that several relays share.
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "a build without the queue shows zeroes"))]
    pub(crate) kafka: KafkaMetrics,
    /// Counts of the lookups of steps.
    pub(crate) steps: StepMetrics,
    queue_probe: Arc<OnceLock<QueueProbe>>,
    uptime: Gauge,
    process: ProcessMetrics,
    reload_successful: IntGauge,
    reload_time: Gauge,
    certificates: Certificates,
}

/// Callback that returns the state of the queue when metrics are rendered.
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
        Self::of_exporter("otlp_http")
    }

    /// Creates the metrics of a relay with this exporter.
    pub(crate) fn of_exporter(exporter: &str) -> Self {
        let registry = Registry::new();
        let counter_vec = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let counter = |name: &str, help: &str| {
            register(
                &registry,
                IntCounter::with_opts(Opts::new(name, help).const_label("exporter", exporter)),
            )
        };
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::with_opts(Opts::new(name, help)));
        let exporter_gauge = |name: &str, help: &str| {
            register(&registry, IntGauge::with_opts(Opts::new(name, help).const_label("exporter", exporter)))
        };
        let seconds = |name: &str, help: &str| register(&registry, Gauge::with_opts(Opts::new(name, help)));
        let duration = HistogramOpts::new(
            "spanrelay_export_duration_seconds",
            "Duration of one export attempt, in seconds.",
        )
        .buckets(EXPORT_BUCKETS.to_vec());

        let export_requests = counter_vec(
            "spanrelay_export_requests_total",
            "Export attempts, by outcome.",
            &["signal", "outcome"],
        );
        let export_duration = register(&registry, HistogramVec::new(duration, &["signal"]));
        let settled = counter_vec(
            "spanrelay_settled_items_total",
            "Accepted items by outcome; items without an outcome are still queued.",
            &["signal", "fate"],
        );

        build_info(&registry);

        Self {
            started: Instant::now(),
            inspector: Inspector::new(),
            flow: Flow::new(),
            traces: SelfTraces::default(),
            requests: counter_vec(
                "spanrelay_requests_total",
                "Responses on server.endpoint, by receiver (none: no receiver was reached) and status code.",
                &["receiver", "code"],
            ),
            lines: counter_vec(
                "spanrelay_lines_total",
                "Units of Fastly bodies, and OTLP requests, by outcome.",
                &["receiver", "outcome"],
            ),
            log_events: counter_vec(
                "spanrelay_log_events_total",
                "Log records that name a span, by outcome.",
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
                "Webhooks, by event and outcome.",
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
                    "Items refused because the queue was full or unwritable, and items rejected from units that were otherwise accepted.",
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
                    "Items permanently rejected by the downstream.",
                )
            }),
            // Looked up once, because they are counted for each export.
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
                        "1 while the destination or its configuration is at fault and data stays in the queue, else 0.",
                    ),
                    &["signal"],
                ),
            ),
            held_spans: gauge("spanrelay_held_spans", "Spans held for their log events."),
            held_bytes: gauge("spanrelay_held_bytes", "Memory of held spans and log records, in bytes."),
            settled: PerSignal::new(|signal| {
                OUTCOMES.map(|(_, outcome)| settled.with_label_values(&[signal.as_str(), outcome]))
            }),
            recovered: counter_vec(
                "spanrelay_recovered_items_total",
                "Items that an earlier process accepted and this process found in the queue.",
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
                    "Rejected entries that were not kept because the rejected-lines file was full or unwritable.",
                ),
            ),
            own_spans: counter_vec(
                "spanrelay_own_spans_total",
                "Self-tracing spans, by whether they were sent to telemetry.traces.endpoint or dropped.",
                &["outcome"],
            ),
            kafka: KafkaMetrics::new(&registry),
            steps: StepMetrics::new(&registry),
            queue_probe: Arc::default(),
            queue_size: exporter_gauge("otelcol_exporter_queue_size", "Size of the queue, in bytes."),
            queue_capacity: exporter_gauge(
                "otelcol_exporter_queue_capacity",
                "Capacity of the queue, in bytes.",
            ),
            queue_oldest_seconds: seconds(
                "spanrelay_queue_oldest_seconds",
                "Age of the oldest unsettled record, in seconds.",
            ),
            uptime: seconds("otelcol_process_uptime", "Seconds since the process started."),
            process: ProcessMetrics::new(&registry),
            reload_successful: gauge(
                "spanrelay_config_last_reload_successful",
                "1 if the last reload of the configuration succeeded, or there was none; else 0.",
            ),
            reload_time: seconds(
                "spanrelay_config_last_reload_success_timestamp_seconds",
                "Unix time of the last successful reload of the configuration, or of the start.",
            ),
            certificates: Certificates::new(&registry),
            registry,
        }
    }

    /// Counts a response on `server.endpoint`. `code` is one of this program's own.
    pub(crate) fn request(&self, receiver: Option<&str>, code: StatusCode) {
        self.requests.with_label_values(&[receiver.unwrap_or(NO_RECEIVER), code.as_str()]).inc();
    }

    pub(crate) fn lines(&self, receiver: &str, outcome: UnitOutcome, count: u64) {
        self.lines.with_label_values(&[receiver, outcome.as_str()]).inc_by(count);
    }

    pub(crate) fn log_events(&self, outcome: LogEventOutcome, count: u32) {
        self.log_events.with_label_values(&[outcome.as_str()]).inc_by(u64::from(count));
    }

    pub(crate) fn webhook(&self, event: WebhookEvent, outcome: RequestOutcome) {
        self.webhooks.with_label_values(&[event.as_str(), outcome.as_str()]).inc();
    }

    /// Counts a webhook that was accepted, and replaced by a later event for the same span.
    pub(crate) fn webhook_superseded(&self, event: WebhookEvent) {
        self.webhooks.with_label_values(&[event.as_str(), SUPERSEDED]).inc();
    }

    /// Counts a request beyond the rate limit of its receiver.
    pub(crate) fn throttled(&self, receiver: &str) {
        self.throttled.with_label_values(&[receiver]).inc();
    }

    /// Counts a request that was shed.
    pub(crate) fn overloaded(&self, receiver: &str) {
        self.overloaded.with_label_values(&[receiver]).inc();
    }

    /// Counts items of a receiver and the transport that they came by.
    pub(crate) fn accepted(&self, origin: [&str; 2], signal: Signal, items: u32) {
        self.receiver_accepted.of(signal).with_label_values(&origin).inc_by(u64::from(items));
    }

    pub(crate) fn refused(&self, origin: [&str; 2], signal: Signal, items: u32) {
        self.receiver_refused.of(signal).with_label_values(&origin).inc_by(u64::from(items));
    }

    pub(crate) fn sent(&self, signal: Signal, items: u32) {
        self.exporter_sent.of(signal).inc_by(u64::from(items));
    }

    pub(crate) fn send_failed(&self, signal: Signal, items: u32) {
        self.exporter_send_failed.of(signal).inc_by(u64::from(items));
    }

    /// Counts accepted items with their outcome.
    pub(crate) fn settled(&self, signal: Signal, outcome: Settled, items: u32) {
        let index =
            OUTCOMES.iter().position(|(other, _)| *other == outcome).expect("the table has every outcome");
        self.settled.of(signal)[index].inc_by(u64::from(items));
    }

    /// Counts items of an earlier process that were found in the queue.
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

    /// Creates and returns the series of self-tracing spans.
    pub(crate) fn own_spans(&self) -> OwnSpanCounts {
        let of = |outcome| self.own_spans.with_label_values(&[outcome]);
        OwnSpanCounts { sent: of("sent"), dropped: of("dropped") }
    }

    /// Sets the source of the queue's state; only the first call has an effect.
    pub(crate) fn observe_queue(&self, probe: impl Fn() -> QueueState + Send + Sync + 'static) {
        drop(self.queue_probe.set(Box::new(probe)));
    }

    /// Counts an export attempt.
    pub(crate) fn export_attempt(&self, signal: Signal, outcome: ExportOutcome, took: Duration) {
        self.export_requests.of(signal)[outcome as usize].inc();
        self.export_duration.of(signal).observe(took.as_secs_f64());
    }

    /// Sets whether the destination of a signal is at fault.
    pub(crate) fn exporter_blocked(&self, signal: Signal, is_blocked: bool) {
        self.exporter_blocked.with_label_values(&[signal.as_str()]).set(i64::from(is_blocked));
    }

    /// Records the start, or a reload of the configuration and its time; `None` for one that failed.
    pub(crate) fn reloaded(&self, at: Option<SystemTime>) {
        self.reload_successful.set(i64::from(at.is_some()));
        if let Some(age) = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
            self.reload_time.set(age.as_secs_f64());
        }
    }

    /// Returns the certificates whose expiry is reported.
    pub(crate) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Returns the state of the queue, if its source is set.
    pub(super) fn queue_state(&self) -> Option<QueueState> {
        let state = self.queue_probe.get().map(|probe| probe())?;
        self.flow.queue(state.accepts());
        Some(state)
    }

    /// Renders the metrics in the Prometheus text exposition format, version 0.0.4.
    pub(crate) fn render(&self) -> Vec<u8> {
        self.uptime.set(self.started.elapsed().as_secs_f64());
        self.process.observe();
        self.certificates.observe();
        if let Some(QueueState { kept_bytes, capacity_bytes, oldest, .. }) = self.queue_state() {
            self.queue_size.set(i64::try_from(kept_bytes).unwrap_or(i64::MAX));
            self.queue_capacity.set(i64::try_from(capacity_bytes).unwrap_or(i64::MAX));
            self.queue_oldest_seconds.set(oldest.as_secs_f64());
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("writing to memory cannot fail");
        text
    }

    /// Renders the OpenMetrics text format, version 1.0.
    pub(crate) fn render_openmetrics(&self) -> Vec<u8> {
        let text = String::from_utf8(self.render()).expect("names, labels and help texts are UTF-8");
        openmetrics::from_prometheus(&text).into_bytes()
    }
}

/// Registers a constant 1 whose labels identify the build.
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

/// Returns the Collector's word for the items of a signal.
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
