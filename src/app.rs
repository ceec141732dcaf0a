//! Composition root: builds, runs and drains the relay.
//!
//! In: a [`Config`] and a future that completes when the relay should stop. Out: a running relay, until it has drained.
//! Promises: whatever cannot work (addresses, certificates) fails before the first request; the drain ends within
//! [`DRAIN_TIME`], with as much delivered as that allows.

mod announce;

mod certificates;

mod descriptors;

mod drain;

mod files;

#[cfg(feature = "kafka")]
mod kafka;

mod self_tracing;

mod setting;

mod queue;

mod rejects;

mod reload;

mod start_error;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, Receiver, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::announce::{Addresses, announce};
pub(crate) use self::certificates::certificate_paths;
use self::descriptors::TELEMETRY_CONNECTIONS;
use self::drain::{DRAIN_TIME, FINISH_REQUESTS};
use self::files::ClientFiles;
pub(crate) use self::files::unusable_files;
#[cfg(feature = "kafka")]
pub(crate) use self::kafka::unreachable;
use self::rejects::KeepRejects;
use self::reload::Reloads;
use self::self_tracing::SelfTracing;
use self::setting::setting;
pub use self::start_error::StartError;
use crate::budget::Budget;
use crate::config::{Config, QueueConfig, ServerConfig};
use crate::event::Transport;
use crate::exporter::{Export, Exporter, RejectSink};
use crate::processor::{self, Settling, SpanEvents, Work};
use crate::queue::Queue;
use crate::receiver::{self, Limits};
use crate::rejected::RejectedLines;
use crate::relay::{Instance, Privacy, RateLimit, Relay};
use crate::server::{Admin, Pages, RouteState, Shutdown, Terms, Tls, serve, stack};
use crate::steps::{LookupStop, StepLookups};
use crate::telemetry::Metrics;
use crate::telemetry::inspect::page::Reach;

/// A relay bound to its addresses.
pub struct App {
    config: Config,
    front_door: TcpListener,
    telemetry: TcpListener,
    tls: Option<Arc<Tls>>,
    exporter: Exporter,
    queue: Queue,
    /// The queue that several relays share, if it is that one.
    #[cfg(feature = "kafka")]
    shared: Option<kafka::SharedQueue>,
    rejected: Arc<RejectedLines>,
    steps: StepLookups,
    self_tracing: Option<SelfTracing>,
    exporter_files: ClientFiles,
    self_tracing_files: ClientFiles,
    metrics: Metrics,
    max_connections: usize,
}

/// Running tasks and the means to [stop](drain) them.
struct Running {
    reloads: Reloads,
    relay: Arc<Relay>,
    feeder: JoinHandle<()>,
    steps: JoinHandle<()>,
    front_door: JoinHandle<()>,
    processor: JoinHandle<()>,
    exporter: JoinHandle<()>,
    telemetry: JoinHandle<()>,
    self_tracing: Option<JoinHandle<()>>,
    stop: StopTokens,
}

/// Cancellation tokens, one for each step of the drain.
#[derive(Clone, Default)]
struct StopTokens {
    accepting: CancellationToken,
    lookups: LookupStop,
    processing: CancellationToken,
    delivering: CancellationToken,
    telemetry: CancellationToken,
    tracing: CancellationToken,
}

// === impl App ===

impl App {
    /// Builds the relay and binds its addresses, without serving yet.
    ///
    /// # Errors
    /// Returns the reason that the relay cannot start, with the configuration key.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let max_connections = descriptors::max_connections(&config);
        let metrics = Metrics::of_exporter(config.exporters.otlp_http.protocol.name());
        let QueueConfig { directory, rejected_max_size, .. } = &config.queue;
        let rejected = RejectedLines::new(directory, *rejected_max_size, metrics.clone());
        #[cfg(feature = "kafka")]
        let mut shared = kafka::SharedQueue::new(&config, metrics.clone())?;
        #[cfg(feature = "kafka")]
        let rejected = shared.as_ref().map_or(rejected, |shared| shared.rejected(&config, &metrics));
        let rejected = Arc::new(rejected);
        let sink: Arc<dyn RejectSink> = Arc::new(KeepRejects(Arc::clone(&rejected)));
        // Read before first use, so that a later change is never missed.
        let exporter_files = ClientFiles::of_exporter(&config);
        let self_tracing_files = ClientFiles::of_self_tracing(&config);
        let exporter =
            Exporter::new(&config.exporters.otlp_http, metrics.clone(), Arc::clone(&sink), wall_clock)?;
        // A part of the queue's memory, because pending lookups keep their records in it.
        let steps = StepLookups::new(
            &config,
            queue::memory_limits(&config).exporting_bytes / 8,
            metrics.clone(),
            wall_clock,
        )?;
        let tls = config.server.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
        let front_door = listen("server.endpoint", config.server.endpoint).await?;
        let telemetry = listen("telemetry.endpoint", config.telemetry.endpoint).await?;
        let bound = Addresses::of(&front_door, &telemetry);
        let self_tracing = SelfTracing::prepare(&config, bound).await?;
        // Last, because it sets damaged data aside, which a start that fails for another reason should not do.
        #[cfg(feature = "kafka")]
        if let Some(shared) = &mut shared {
            shared.open(&config).await?;
        }
        #[cfg(feature = "kafka")]
        let opened = shared.as_ref().map(kafka::SharedQueue::queue);
        #[cfg(not(feature = "kafka"))]
        let opened = None;
        let queue = match opened {
            Some(queue) => queue,
            None => queue::open(&config, metrics.clone()).await?,
        };
        Ok(Self {
            #[cfg(feature = "kafka")]
            shared,
            config,
            front_door,
            telemetry,
            tls,
            exporter,
            queue,
            rejected,
            steps,
            self_tracing,
            exporter_files,
            self_tracing_files,
            metrics,
            max_connections,
        })
    }

    /// Returns the address of the front door.
    ///
    /// # Panics
    /// Panics if the socket is no longer valid.
    pub fn local_addr(&self) -> SocketAddr {
        Addresses::of(&self.front_door, &self.telemetry).server
    }

    /// Returns the address of the telemetry endpoint.
    ///
    /// # Panics
    /// Panics if the socket is no longer valid.
    pub fn telemetry_addr(&self) -> SocketAddr {
        Addresses::of(&self.front_door, &self.telemetry).telemetry
    }

    /// Runs until `shutdown` completes, then drains: stops accepting, finishes requests in progress, releases held spans
    /// and exports what the drain time allows.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let (_, nothing) = mpsc::channel(1);
        self.run_reloading(shutdown, nothing).await;
    }

    /// Runs like [`run`](Self::run) and applies every configuration from `configs`, as far as a running relay can. `None` stands for
    /// one that was invalid.
    pub async fn run_reloading(
        self,
        shutdown: impl Future<Output = ()>,
        mut configs: Receiver<Option<Config>>,
    ) {
        announce(&self.config, Addresses::of(&self.front_door, &self.telemetry), self.max_connections);
        certificates::report(&self.config, &self.metrics, wall_clock);
        self.metrics.reloaded(Some(wall_clock()));
        let mut running = self.start();
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = shutdown.as_mut() => break,
                Some(config) = configs.recv() => running.reloads.reload(config.as_ref()).await,
            }
        }
        info!(drain_seconds = DRAIN_TIME.as_secs(), "draining");
        running.drain(Instant::now() + DRAIN_TIME).await;
    }

    fn start(self) -> Running {
        let Self {
            config,
            front_door,
            telemetry,
            tls,
            exporter,
            queue,
            #[cfg(feature = "kafka")]
            shared,
            rejected,
            steps,
            self_tracing,
            exporter_files,
            self_tracing_files,
            metrics,
            max_connections,
        } = self;
        let stop = StopTokens::default();
        let self_trace_exporter = self_tracing.as_ref().map(SelfTracing::exporter);
        let self_tracing =
            self_tracing.map(|self_tracing| self_tracing.start(&metrics, stop.tracing.clone()));
        let (work, incoming) = unbounded::<Vec<Work>>();
        let (exports, outgoing) = unbounded::<Vec<Export>>();

        let receivers = receivers(&config);
        metrics.expect(receivers.iter().map(|one| (one.receiver.id(), one.receiver.source().webhooks())));
        for one in receivers.iter().filter(|one| one.receiver.signal().is_some()) {
            metrics.expect_items([one.receiver.id(), Transport::Grpc.as_str()]);
        }
        let addresses = Addresses::of(&front_door, &telemetry);
        metrics.inspector.configure(setting(&config, addresses, &receivers), wall_clock());
        metrics.flow.observe_rejected({
            let rejected = Arc::clone(&rejected);
            move || rejected.state()
        });
        #[cfg(feature = "kafka")]
        let rejects: Arc<dyn RejectSink> = Arc::new(KeepRejects(Arc::clone(&rejected)));
        let inflight = Budget::new(config.server.max_inflight_bytes);
        let (lookups, due) = unbounded();
        let mut relay = Relay::new(receivers, queue, rejected, work, metrics.clone(), inflight.clone());
        if !steps.is_empty() {
            relay = relay.with_lookups(lookups);
        }
        let relay = Arc::new(relay);
        relay.set_privacy(Privacy::new(&config));
        let steps = tokio::spawn(steps.run(Arc::clone(&relay), due, stop.lookups.clone()));
        metrics.observe_queue({
            let relay = Arc::clone(&relay);
            move || relay.queue_state()
        });
        let inspector = metrics.inspector.clone();
        let reach = match telemetry.local_addr() {
            Ok(address) if address.ip().is_loopback() => Reach::Loopback,
            _ => Reach::Network,
        };
        let admin = Admin::new(metrics.clone(), reach, {
            let relay = Arc::clone(&relay);
            move || relay.ready()
        });
        let feeder = tokio::spawn(Arc::clone(&relay).feed());
        let (pages, reloaded_tls) = (Pages::new(&config.receivers), tls.clone());
        let state = RouteState {
            relay: Arc::clone(&relay),
            pages: pages.clone(),
            metrics: metrics.clone(),
            inflight,
        };
        let service = stack(state, &within(&config.server, max_connections));
        let shutdown = Shutdown { token: stop.accepting.clone(), grace: FINISH_REQUESTS };
        let admin_shutdown = Shutdown { token: stop.telemetry.clone(), grace: Duration::ZERO };
        let admin_terms = Terms::plain(config.server.header_timeout, TELEMETRY_CONNECTIONS);
        let terms = Terms { tls, metrics: Some(metrics.clone()), max_connections, ..admin_terms.clone() };
        let holds = {
            let relay = Arc::clone(&relay);
            move |bytes| relay.holds(bytes)
        };
        let unshared = |channels| {
            let settling = Settling::new(config.queue.storage, metrics.clone());
            let span_events = SpanEvents::new(&config.processors.span_events, metrics.clone());
            tokio::spawn(processor::run(
                settling,
                span_events,
                channels,
                inspector,
                holds,
                stop.processing.clone(),
            ))
        };
        #[cfg(feature = "kafka")]
        let processor = match shared {
            Some(shared) => {
                shared.start(&config, (incoming, exports), rejects, &metrics, stop.processing.clone())
            }
            None => unshared((incoming, exports)),
        };
        #[cfg(not(feature = "kafka"))]
        let processor = unshared((incoming, exports));
        Running {
            reloads: Reloads {
                config,
                relay: Arc::clone(&relay),
                pages,
                tls: reloaded_tls,
                exporter: Arc::new(exporter.settings()),
                exporter_files: Arc::new(exporter_files),
                self_trace_exporter,
                self_tracing_files: Arc::new(self_tracing_files),
                metrics,
            },
            relay,
            feeder,
            steps,
            front_door: tokio::spawn(serve(front_door, service, terms, shutdown)),
            processor,
            exporter: tokio::spawn(exporter.run(outgoing, stop.delivering.clone())),
            self_tracing,
            telemetry: tokio::spawn(serve(telemetry, admin.service(), admin_terms, admin_shutdown)),
            stop,
        }
    }
}

/// Returns every configured receiver, in the order of the configuration.
fn receivers(config: &Config) -> Vec<Instance> {
    if !config.queue.role().accepts() {
        return Vec::new();
    }
    let limits = Limits::of(&config.server, &config.processors).keeping_protobuf(config.keeps_protobuf());
    let instances = config.receivers.iter().flat_map(|section| {
        // Instances of one section share its rate limit.
        let rate_limit = section.rate_limit().map(|limit| Arc::new(RateLimit::new(limit)));
        let receivers = receiver::build(section, &limits).into_iter();
        receivers.map(move |receiver| Instance { receiver, rate_limit: rate_limit.clone() })
    });
    instances.collect()
}

/// Returns the limits of requests for this many connections: a quarter of the connections stays free of slow bodies, so that a
/// shed request still receives its 503, and Fastly its challenge.
fn within(server: &ServerConfig, max_connections: usize) -> ServerConfig {
    let most = (max_connections - max_connections / 4).max(1);
    ServerConfig { max_concurrent_requests: server.max_concurrent_requests.min(most), ..server.clone() }
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { key, address, source })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only wall clock of the exporter, for Retry-After with a date"
)]
pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "messages hold receipts, whose records count against the bound of the queue"
)]
fn unbounded<T>() -> (UnboundedSender<T>, UnboundedReceiver<T>) {
    mpsc::unbounded_channel()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::config::{Environment, LogFormat, Sources};
    use crate::receiver::RECEIVERS;
    use crate::telemetry::logging::tests::Captured;

    async fn relay(directory: &std::path::Path) -> App {
        let directory = format!("queue.directory={}", directory.display());
        let set = ["server.endpoint=127.0.0.1:0", "telemetry.endpoint=127.0.0.1:0", "queue.storage=memory"];
        let set = set.map(str::to_owned).into_iter().chain([directory]).collect();
        let loaded =
            Config::load(&Sources { files: Vec::new(), set, environment: Environment::empty() }, RECEIVERS)
                .unwrap();
        App::bind(loaded.config).await.unwrap()
    }

    #[tokio::test]
    async fn log_lines_about_a_request_carry_its_x_request_id() {
        let (captured, _guard) = Captured::start(tracing::Level::INFO, LogFormat::Json);
        let directory = tempfile::tempdir().unwrap();
        let app = relay(directory.path()).await;
        let address = app.local_addr();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(app.run(async { drop(stopped.await) }));
        let mut client = TcpStream::connect(address).await.unwrap();
        let request =
            "POST /fastly HTTP/1.1\r\nhost: relay\r\nconnection: close\r\ncontent-length: 4\r\n\r\ntext";
        client.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        let id = response.lines().find_map(|line| line.strip_prefix("x-request-id: ")).expect("an id");
        let text = captured.text();
        let line = text.lines().find(|line| line.contains("rejected input lines")).expect("a line about it");
        assert!(line.contains(id), "{line}");
        stop.send(()).unwrap();
        running.await.unwrap();
    }
}
