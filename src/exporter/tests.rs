//! Tests of the whole exporter: without sockets and in virtual time where waiting matters; against a recording collector on a
//! loopback port where bytes and connections matter.

mod at_fault;
mod collector;
mod in_protobuf;
mod in_virtual_time;
mod over_grpc;
mod over_sockets;
mod over_tls;
mod splitting;

use std::io::Read;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Buf;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tower::{Service, ServiceExt};

use super::otlp_http::host_and_port;
use super::slices::Slices;
use super::*;
use crate::config::{Compression, DeliveryMode, Encoding, TlsClientConfig};
use crate::event::RecordId;
use crate::queue::{Ledger, Taken};

/// Timeout of every wait, far longer than any test takes, so that a defect fails instead of hanging.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Wed, 21 Oct 2015 07:28:00 GMT
const NOW_UNIX_SECONDS: u64 = 1_445_412_480;

/// Returns the default configuration, with pauses short enough for a test.
pub(super) fn config_for(base: &str) -> ExporterConfig {
    let endpoint = |path: &str| format!("{base}{path}").parse().unwrap();
    let mut config = ExporterConfig {
        traces_endpoint: endpoint("/v1/traces"),
        logs_endpoint: endpoint("/v1/logs"),
        metrics_endpoint: endpoint("/v1/metrics"),
        ..ExporterConfig::default()
    };
    config.settings.retry_on_failure.initial_interval = Duration::from_millis(2);
    config.settings.retry_on_failure.max_interval = Duration::from_millis(10);
    config
}

fn wall_clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_UNIX_SECONDS)
}

const NO_LOGS: &str = r#"{"resourceLogs":[]}"#;

/// Returns a request with one span.
fn spans(name: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"name":"{name}"}}]}}]}}]}}"#)
}

async fn drained(rig: Rig) -> Ended {
    tokio::time::timeout(MAX_WAIT, rig.drained()).await.expect("the exporter drains")
}

fn gunzipped(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(body).read_to_end(&mut plain).unwrap();
    plain
}

/// Returns the description of the failure of a first attempt.
async fn failure_of(config: &ExporterConfig) -> String {
    let [mut post, ..] = otlp_http::posts(config).unwrap();
    let error = in_time(post.call(Bytes::from_static(b"{}").into())).await.unwrap_err();
    fault::describe(&host_and_port(&config.traces_endpoint), config.settings.timeout, &error)
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(MAX_WAIT, what).await.expect("it happens")
}

/// A running exporter, with a ledger instead of the queue.
struct Rig {
    exports: mpsc::UnboundedSender<Vec<Export>>,
    seen: Arc<Seen>,
    metrics: Metrics,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

/// Observed results of an exporter.
#[derive(Default)]
struct Seen {
    settled_receipts: watch::Sender<Vec<(Signal, Settled, u32)>>,
    rejects: Mutex<Vec<(String, String)>>,
    /// Size of the records that are not acknowledged.
    kept_bytes: AtomicU64,
}

// === impl Rig ===

impl Rig {
    fn start(config: &ExporterConfig) -> Self {
        Self::run(|seen, metrics, exports, stop| {
            let exporter = Exporter::new(config, metrics, seen, wall_clock).unwrap();
            tokio::spawn(exporter.run(exports, stop))
        })
    }

    /// Starts an exporter with a mock instead of the HTTP client, which receives each body as one slice.
    fn with_post<S, B>(config: &ExporterConfig, post: S) -> Self
    where
        S: Service<Bytes, Response = http::Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<tower::BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let config = config.clone();
        Self::run(|seen, metrics, exports, stop| {
            let posts = Signal::ALL
                .map(|_| post.clone().map_request(|mut body: Slices| body.copy_to_bytes(body.remaining())));
            let stacks = stack::stacks(&posts, &config, &metrics, wall_clock);
            let sender = Observe::new(stacks, &config, metrics, seen);
            tokio::spawn(async move { deliver(sender, &config, exports, stop).await })
        })
    }

    fn run(
        spawn: impl FnOnce(
            Arc<Seen>,
            Metrics,
            UnboundedReceiver<Vec<Export>>,
            CancellationToken,
        ) -> JoinHandle<()>,
    ) -> Self {
        let seen = Arc::new(Seen::default());
        #[allow(clippy::disallowed_methods)]
        // As in the relay: the queue's bound limits the channel.
        let (exports, receiver) = mpsc::unbounded_channel();
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let running = spawn(Arc::clone(&seen), metrics.clone(), receiver, stop.clone());
        Self { exports, seen, metrics, stop, running }
    }

    /// Sends one export, the only one of its record.
    fn export(&self, signal: Signal, json: &str, items: u32) {
        let request = ExportRequest::parse(signal, Bytes::copy_from_slice(json.as_bytes())).unwrap();
        self.send(signal, request, items);
    }

    fn send(&self, signal: Signal, request: ExportRequest, items: u32) {
        let bytes = request.bytes().len() as u64;
        self.seen.kept_bytes.fetch_add(bytes, Ordering::Relaxed);
        let taken = Taken::new(RecordId(0), bytes, Arc::clone(&self.seen) as Arc<dyn Ledger>);
        let receipts = taken.part(signal, 0..items).into_receipts();
        let receipts = Carried::in_order(receipts, Settled::Delivered).into_vec();
        taken.seal();
        self.exports.send(vec![Export { signal, request, items, receipts }]).unwrap();
    }

    /// Sends spans to which log records of their record were attached, each to the span with this index.
    fn spans_with_logs(&self, json: &str, items: u32, spans_of_logs: &[u32]) {
        let bytes = json.len() as u64;
        let request = ExportRequest::parse(Signal::Traces, Bytes::copy_from_slice(json.as_bytes())).unwrap();
        self.seen.kept_bytes.fetch_add(bytes, Ordering::Relaxed);
        let taken = Taken::new(RecordId(0), bytes, Arc::clone(&self.seen) as Arc<dyn Ledger>);
        let spans = taken.part(Signal::Traces, 0..items).into_receipts();
        let logs = taken.part(Signal::Logs, 0..u32::try_from(spans_of_logs.len()).unwrap());
        let attached = spans_of_logs.iter().enumerate().map(|(record, &at)| Carried {
            receipt: logs.receipt(record),
            outcome: Settled::Attached,
            at,
        });
        let receipts = Carried::in_order(spans, Settled::Delivered).into_iter().chain(attached).collect();
        logs.close();
        taken.seal();
        self.exports.send(vec![Export { signal: Signal::Traces, request, items, receipts }]).unwrap();
    }

    fn traces(&self, name: &str) {
        self.export(Signal::Traces, &spans(name), 1);
    }

    /// Closes the channel and waits until the exporter has nothing left to do. All records must be settled then.
    async fn drained(self) -> Ended {
        drop(self.exports);
        self.running.await.unwrap();
        assert_eq!(self.seen.kept_bytes(), 0, "a drained exporter has settled every receipt");
        Ended::new(&self.seen, &self.metrics)
    }

    /// Stops the exporter, and waits for its end.
    async fn stopped(&mut self) {
        self.stop.cancel();
        tokio::time::timeout(MAX_WAIT, &mut self.running).await.expect("the exporter stops").unwrap();
    }

    /// Waits until the destination of the traces is at fault.
    async fn blocked(&self) {
        let blocked = async {
            while !Ended::new(&self.seen, &self.metrics).blocked(Signal::Traces) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(MAX_WAIT, blocked).await.expect("it is blocked");
    }

    /// Waits until this many receipts are settled.
    async fn settled(&self, count: usize) {
        let mut settled_receipts = self.seen.settled_receipts.subscribe();
        let settled = settled_receipts.wait_for(|settled_receipts| settled_receipts.len() >= count);
        tokio::time::timeout(MAX_WAIT, settled).await.expect("they are settled").unwrap();
    }
}

/// Results of an exporter at its end.
struct Ended {
    settled_receipts: Vec<(Signal, Settled, u32)>,
    /// JSON and reason.
    rejects: Vec<(String, String)>,
    metrics: String,
}

// === impl Ended ===

impl Ended {
    fn new(seen: &Seen, metrics: &Metrics) -> Self {
        Self {
            settled_receipts: seen.settled_receipts.borrow().clone(),
            rejects: seen.rejects.lock().unwrap().clone(),
            metrics: String::from_utf8(metrics.render()).unwrap(),
        }
    }

    fn count(&self, outcome: Settled) -> usize {
        self.settled_receipts.iter().filter(|(_, settled, _)| *settled == outcome).count()
    }

    /// Returns the value of a metric.
    fn metric(&self, name_and_labels: &str) -> Option<u64> {
        let line = self.metrics.lines().find_map(|line| line.strip_prefix(name_and_labels))?;
        line.trim().parse().ok()
    }

    fn sent_spans(&self) -> u64 {
        self.metric(r#"otelcol_exporter_sent_spans{exporter="otlp_http"}"#).unwrap()
    }

    fn failed_spans(&self) -> u64 {
        self.metric(r#"otelcol_exporter_send_failed_spans{exporter="otlp_http"}"#).unwrap()
    }

    fn blocked(&self, signal: Signal) -> bool {
        let labels = format!(r#"spanrelay_exporter_blocked{{signal="{signal}"}}"#);
        self.metric(&labels) == Some(1)
    }

    fn attempts(&self, outcome: &str) -> u64 {
        let labels = format!(r#"spanrelay_export_requests_total{{outcome="{outcome}",signal="traces"}}"#);
        self.metric(&labels).unwrap_or(0)
    }
}

// === impl Seen ===

impl Seen {
    fn kept_bytes(&self) -> u64 {
        self.kept_bytes.load(Ordering::Relaxed)
    }
}

impl Ledger for Seen {
    fn settled(&self, _: RecordId, signal: Signal, items: Range<u32>, outcome: Settled) {
        self.settled_receipts.send_modify(|settled_receipts| {
            settled_receipts.push((signal, outcome, items.end - items.start))
        });
    }

    fn acknowledge(&self, _record: RecordId, bytes: u64) {
        self.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn release(&self, _: RecordId, _: u64) {}
}

impl RejectSink for Seen {
    fn reject(&self, export: RejectedExport<'_>) {
        let json = String::from_utf8(export.json.to_vec()).unwrap();
        self.rejects.lock().unwrap().push((json, export.reason.to_owned()));
    }
}
