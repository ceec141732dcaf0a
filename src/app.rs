//! The composition root: a configuration becomes parts that run.
//!
//! In: a [`Config`] and a future that says when to stop. Out: a relay on its addresses, until it has drained.
//! Promises: whatever cannot work is known before the first request (addresses, certificates); once told to stop it
//! ends within [`DRAIN_TIME`], with as much delivered as that allows.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Config, Storage};
use crate::exporter::{Export, Exporter, ExporterError, LogRejects};
use crate::otlp::Signal;
use crate::pipeline;
use crate::processor::{SpanEvents, Work};
use crate::queue::MemoryQueue;
use crate::receiver::circleci::{self, CircleCi};
use crate::receiver::fastly::{self, Fastly};
use crate::relay::{Instance, Relay};
use crate::server::{Doors, Shutdown, serve, stack};
use crate::telemetry::inspect::{Setting, view};
use crate::telemetry::{Admin, Metrics, Reach};

/// From the signal to stop to the end of the process.
const DRAIN_TIME: Duration = Duration::from_secs(10);
/// The part of it that requests in progress get; the rest is for delivery.
const FINISH_REQUESTS: Duration = Duration::from_secs(5);

/// A relay that is bound to its addresses.
pub struct App {
    config: Config,
    front_door: TcpListener,
    telemetry: TcpListener,
    exporter: Exporter,
    metrics: Metrics,
}

/// Why the relay could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("{key}: cannot listen on {address}")]
    Listen {
        /// The key of the configuration that names the address.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The way to the downstream cannot be built.
    #[error("{0}")]
    Exporter(String),
    /// A storage that this build does not have.
    #[error("queue.storage: disk is not available in this version; set it to memory")]
    NoDisk,
}

/// The parts between the doors, and how to stop them.
struct Running {
    front_door: JoinHandle<()>,
    pipeline: JoinHandle<()>,
    exporter: JoinHandle<()>,
    telemetry: JoinHandle<()>,
    stop: Stop,
}

/// One token for each step of the drain.
#[derive(Clone, Default)]
struct Stop {
    accepting: CancellationToken,
    processing: CancellationToken,
    delivering: CancellationToken,
    telemetry: CancellationToken,
}

// === impl App ===

impl App {
    /// Builds the relay and binds its addresses; nothing is served yet.
    ///
    /// # Errors
    /// What keeps it from starting, with the key of the configuration.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        if config.queue.storage == Storage::Disk {
            return Err(StartError::NoDisk);
        }
        let metrics = Metrics::new();
        let exporter = Exporter::new(&config.exporter, metrics.clone(), Arc::new(LogRejects), wall_clock)?;
        let front_door = listen("server.endpoint", config.server.endpoint).await?;
        let telemetry = listen("telemetry.endpoint", config.telemetry.endpoint).await?;
        Ok(Self { config, front_door, telemetry, exporter, metrics })
    }

    /// Where senders reach it.
    ///
    /// # Panics
    /// When the socket has been taken away from under the process.
    pub fn local_addr(&self) -> SocketAddr {
        self.front_door.local_addr().expect("the listener is bound")
    }

    /// Where health and metrics are.
    ///
    /// # Panics
    /// When the socket has been taken away from under the process.
    pub fn telemetry_addr(&self) -> SocketAddr {
        self.telemetry.local_addr().expect("the listener is bound")
    }

    /// Runs until `shutdown` resolves, then drains: stop accepting, finish requests in progress, let go of what is
    /// held, deliver what the time allows.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        self.announce();
        let running = self.start();
        let mut shutdown = pin!(shutdown);
        shutdown.as_mut().await;
        info!(drain_seconds = DRAIN_TIME.as_secs(), "draining");
        running.drain(Instant::now() + DRAIN_TIME).await;
    }

    fn start(self) -> Running {
        let Self { config, front_door, telemetry, exporter, metrics } = self;
        let stop = Stop::default();
        let (work, incoming) = unbounded::<Vec<Work>>();
        let (exports, outgoing) = unbounded::<Export>();

        let queue = MemoryQueue::new(config.queue.max_size, metrics.clone());
        let relay = Arc::new(Relay::new(receivers(&config), queue, work, metrics.clone()));
        metrics.observe_queue({
            let relay = Arc::clone(&relay);
            move || relay.queue_state()
        });
        metrics.inspector.configure(setting(&config));
        let inspector = metrics.inspector.clone();
        let reach = match telemetry.local_addr() {
            Ok(address) if address.ip().is_loopback() => Reach::Loopback,
            _ => Reach::Network,
        };
        let admin = Admin::new(metrics.clone(), reach, {
            let relay = Arc::clone(&relay);
            move || relay.ready()
        });
        let service = stack(doors(&config, relay), &config.server);
        let shutdown = Shutdown { token: stop.accepting.clone(), grace: FINISH_REQUESTS };
        let admin_shutdown = Shutdown { token: stop.telemetry.clone(), grace: Duration::ZERO };
        let header_timeout = config.server.header_timeout;
        let processor = SpanEvents::new(&config.span_events, metrics);
        Running {
            front_door: tokio::spawn(serve(front_door, service, header_timeout, shutdown)),
            pipeline: tokio::spawn(pipeline::run(
                processor,
                incoming,
                exports,
                inspector,
                stop.processing.clone(),
            )),
            exporter: tokio::spawn(exporter.run(outgoing, stop.delivering.clone())),
            telemetry: tokio::spawn(serve(telemetry, admin.service(), header_timeout, admin_shutdown)),
            stop,
        }
    }

    /// What is on, where, and what is insecure about it.
    fn announce(&self) {
        let Config { receivers, exporter, queue, .. } = &self.config;
        for fastly in &receivers.fastly {
            info!(receiver = fastly.id, path = fastly.path, token = fastly.auth.is_some(), "receiver is on");
            if fastly.auth.is_none() && !self.is_loopback() {
                warn!(receiver = fastly.id, "anyone who reaches this port can send lines: auth is not set");
            }
        }
        for circleci in &receivers.circleci {
            let secrets = circleci.secrets.len();
            info!(receiver = circleci.id, path = circleci.path, secrets, "receiver is on");
            if circleci.allow_unsigned {
                warn!(receiver = circleci.id, "unsigned webhooks are taken: allow_unsigned is true");
            }
        }
        if queue.storage == Storage::Memory {
            warn!("what is queued does not survive this process: queue.storage is memory");
        }
        let endpoint = self.local_addr();
        let telemetry = self.telemetry_addr();
        // Without its path, which may be a secret of the vendor's.
        let downstream = exporter.traces_endpoint.authority().map_or("", |authority| authority.as_str());
        info!(%endpoint, %telemetry, downstream, version = env!("CARGO_PKG_VERSION"), "relaying");
    }

    fn is_loopback(&self) -> bool {
        self.local_addr().ip().is_loopback()
    }
}

// === impl Running ===

impl Running {
    /// Stops the parts in the order of the data, so that each finds its input complete.
    async fn drain(self, deadline: Instant) {
        let Self { front_door, pipeline, exporter, telemetry, stop } = self;
        stop.accepting.cancel();
        ended("front door", timeout_at(deadline, front_door).await);
        stop.processing.cancel();
        ended("processor", timeout_at(deadline, pipeline).await);
        let mut exporter = exporter;
        if let Ok(result) = timeout_at(deadline, &mut exporter).await {
            ended("exporter", Ok(result));
            info!("drained");
        } else {
            warn!("the drain time is over: what was not delivered is not delivered by this process");
            stop.delivering.cancel();
            ended("exporter", Ok(exporter.await));
        }
        stop.telemetry.cancel();
        ended("telemetry endpoint", Ok(telemetry.await));
    }
}

/// A part that panicked or overran must not keep the others from draining.
fn ended(part: &str, result: Result<Result<(), tokio::task::JoinError>, tokio::time::error::Elapsed>) {
    match result {
        Ok(Ok(())) => {}
        Ok(Err(_)) => warn!(part, "died"),
        Err(_) => warn!(part, "did not end within the drain time"),
    }
}

// === impl StartError ===

impl From<ExporterError> for StartError {
    fn from(error: ExporterError) -> Self {
        Self::Exporter(crate::telemetry::logging::chain(&error).to_string())
    }
}

/// The registry: every configured receiver, in the order of the configuration.
fn receivers(config: &Config) -> Vec<Instance> {
    let max_line_bytes = usize::try_from(config.server.max_line_size).unwrap_or(usize::MAX);
    let fastly = config
        .receivers
        .fastly
        .iter()
        .map(|fastly| Instance { kind: "fastly", receiver: Box::new(Fastly::new(fastly, max_line_bytes)) });
    let circleci = config
        .receivers
        .circleci
        .iter()
        .map(|circleci| Instance { kind: "circleci", receiver: Box::new(CircleCi::new(circleci)) });
    fastly.chain(circleci).collect()
}

/// What the inspector shows of the configuration.
fn setting(config: &Config) -> Setting {
    let Config { receivers, exporter, telemetry, .. } = config;
    let fastly = receivers.fastly.iter().map(|fastly| (&fastly.id, &fastly.path));
    let circleci = receivers.circleci.iter().map(|circleci| (&circleci.id, &circleci.path));
    let receivers = fastly
        .chain(circleci)
        .map(|(id, path)| view::ReceiverSetting { id: id.clone(), path: path.clone() })
        .collect();
    let downstream = Signal::ALL.map(|signal| {
        let endpoint = exporter.of(signal).endpoint;
        view::Downstream { signal: signal.as_str(), endpoint: host_of(endpoint) }
    });
    let values = match telemetry.inspect.show_values {
        true => view::Values::Shown,
        false => view::Values::Hidden,
    };
    Setting { values, receivers, downstream: downstream.into() }
}

/// Without its path, its user and its password: they may be secrets.
fn host_of(endpoint: &http::Uri) -> String {
    let port = endpoint.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", endpoint.scheme_str().unwrap_or("http"), endpoint.host().unwrap_or_default())
}

fn doors(config: &Config, relay: Arc<Relay>) -> Doors<Arc<Relay>> {
    let receivers = &config.receivers;
    let service_ids = receivers.fastly.iter().flat_map(|fastly| &fastly.service_ids);
    Doors {
        ingest: relay,
        challenge: (!receivers.fastly.is_empty())
            .then(|| fastly::challenge(service_ids.map(String::as_str)).into()),
        traceparent: (!receivers.circleci.is_empty()).then_some(circleci::traceparent),
    }
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { key, address, source })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one wall clock of the way out, for Retry-After with a date"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "every message holds receipts, and their records count against the queue's bound"
)]
fn unbounded<T>() -> (UnboundedSender<T>, UnboundedReceiver<T>) {
    mpsc::unbounded_channel()
}
