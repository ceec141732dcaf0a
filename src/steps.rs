//! Step spans: looks up the steps of finished jobs in CircleCI's API.
//!
//! In: a [`PendingLookup`] for each event of a job. Out: its spans, which the relay accepts as a record of their own.
//! Promises: failures of the API cost only the steps, and are retried until [`RETRY_FOR`] after the event arrived, across restarts;
//! lookups are bounded in bytes, and in concurrent requests to each API, so that neither a slow API nor a flood of jobs delays
//! anything else; after a 429, nothing is sent to that API until its `Retry-After` is over; no log line contains a part of a response.
//! Left to others: which requests to send and what the responses mean ([`Lookup`](crate::receiver::Lookup)).

mod api;

mod search;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::api::Api;
pub(crate) use self::api::MAX_IN_FLIGHT;
use self::search::{Pace, Search};
use crate::budget::{Budget, Charge};
use crate::config::Config;
use crate::event::LookupOutcome;
use crate::exporter::ApiError;
use crate::receiver::CircleCiConfig;
use crate::relay::{PendingLookup, Relay};
use crate::telemetry::LineLimit;
use crate::telemetry::Metrics;
use crate::telemetry::logging::chain;

/// Time after the arrival of an event in which failed requests are retried.
const RETRY_FOR: Duration = Duration::from_secs(10 * 60);
/// Minimum of that time after a restart.
const RETRY_AT_LEAST: Duration = Duration::from_secs(60);
/// Memory of a pending lookup in addition to its event, estimated.
const LOOKUP_BYTES: u64 = 2 * 1024;

/// The APIs of all receivers that have one.
pub(crate) struct StepLookups {
    /// Clients by the id of their receiver.
    apis: HashMap<String, Arc<Api>>,
    room: Budget,
    pace: Pace,
    metrics: Metrics,
    full: LineLimit,
}

/// Cancellation tokens of the end of the lookups.
#[derive(Clone, Default)]
pub(crate) struct LookupStop {
    /// No further event arrives: lookups end when those that are pending have ended.
    pub(crate) last: CancellationToken,
    /// Pending lookups are interrupted.
    pub(crate) now: CancellationToken,
}

/// Reason that the API of a receiver cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("receivers.{receiver}.api")]
pub(crate) struct StepsError {
    receiver: String,
    #[source]
    source: ApiError,
}

/// Builds the client of each API that is configured.
fn apis(config: &Config, wall_clock: fn() -> SystemTime) -> impl Iterator<Item = Result<Api, StepsError>> {
    let receivers = config.receivers.all::<CircleCiConfig>().into_iter();
    receivers.filter_map(move |receiver| {
        let proxy = &config.exporters.otlp_http.proxy;
        let api = Api::new(&receiver.endpoint.id, receiver.api.as_ref()?, proxy, wall_clock);
        Some(api.map_err(|source| StepsError { receiver: receiver.endpoint.id.clone(), source }))
    })
}

/// Result of trying an API.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    Works,
    /// The API cannot be used as it is configured.
    Fails(String),
    /// The response says nothing about the lookups.
    Unclear(String),
}

/// Asks each API for the user of its token.
pub(crate) async fn try_apis(config: &Config, wall_clock: fn() -> SystemTime) -> Vec<Tried> {
    let mut tried = Vec::new();
    for receiver in config.receivers.all::<CircleCiConfig>() {
        let Some(settings) = &receiver.api else { continue };
        let key = format!("receivers.{}.api", receiver.endpoint.id);
        let proxy = &config.exporters.otlp_http.proxy;
        tried.push(match Api::new(&receiver.endpoint.id, settings, proxy, wall_clock) {
            Ok(api) => api.try_token(settings, &key).await,
            Err(error) => Tried::Fails(format!("{key}: {}", chain(&error))),
        });
    }
    tried
}

/// Returns the problems of the files of each API's `tls`, without connecting.
pub(crate) fn api_problems(config: &Config, wall_clock: fn() -> SystemTime) -> Vec<StepsError> {
    apis(config, wall_clock).filter_map(Result::err).collect()
}

// === impl StepLookups ===

impl StepLookups {
    /// Builds the client of each API. Reads certificates, without connecting. Pending lookups may take `memory_bytes`.
    pub(crate) fn new(
        config: &Config,
        memory_bytes: u64,
        metrics: Metrics,
        wall_clock: fn() -> SystemTime,
    ) -> Result<Self, StepsError> {
        let apis = apis(config, wall_clock).map(|api| {
            let api = api?;
            Ok((api.receiver.clone(), Arc::new(api)))
        });
        let apis = apis.collect::<Result<_, StepsError>>()?;
        let (room, full) = (Budget::new(memory_bytes), LineLimit::default());
        Ok(Self { apis, room, pace: Pace::default(), metrics, full })
    }

    /// Returns `true` if no receiver has an API.
    pub(crate) fn is_empty(&self) -> bool {
        self.apis.is_empty()
    }

    /// Runs lookups until they are to stop. What is interrupted stays in the queue, unless the queue does not keep it; what is
    /// being stored is stored first.
    pub(crate) async fn run(
        self,
        relay: Arc<Relay>,
        mut lookups: UnboundedReceiver<PendingLookup>,
        stop: LookupStop,
    ) {
        let mut running = JoinSet::new();
        let (mut are_last, mut interrupted) = (false, 0_u32);
        while !(are_last && lookups.is_empty() && running.is_empty()) {
            tokio::select! {
                () = stop.now.cancelled() => break,
                () = stop.last.cancelled(), if !are_last => are_last = true,
                Some(pending) = lookups.recv() => self.begin(&relay, pending, &stop.now, &mut running),
                Some(ended) = running.join_next() => interrupted += was_interrupted(ended),
            }
        }
        while let Ok(pending) = lookups.try_recv() {
            interrupted += 1;
            if !relay.keeps_events() {
                self.metrics.steps.ended(LookupOutcome::Dropped);
                pending.end();
            }
        }
        while let Some(ended) = running.join_next().await {
            interrupted += was_interrupted(ended);
        }
        match interrupted {
            0 => {}
            pending if relay.keeps_events() => {
                info!(pending, "step lookups stopped; the queue keeps them for the next start");
            }
            pending => warn!(pending, "step lookups stopped; steps of these jobs left out"),
        }
    }

    /// Starts a lookup if there is room for it.
    fn begin(
        &self,
        relay: &Arc<Relay>,
        pending: PendingLookup,
        stop: &CancellationToken,
        running: &mut JoinSet<bool>,
    ) {
        let receiver = relay.receiver_id(pending.receiver());
        let Some(api) = self.apis.get(&receiver) else { return pending.end() };
        let mut charge = self.room.charge();
        if charge.grow(pending.size_bytes() as u64 + LOOKUP_BYTES).is_err() {
            self.metrics.steps.ended(LookupOutcome::Dropped);
            if let Some(suppressed) = self.full.admit(std::time::Instant::now()) {
                warn!(
                    receiver,
                    suppressed = suppressed.shown(),
                    "too many step lookups pending; steps of a job left out"
                );
            }
            return pending.end();
        }
        let until = Instant::now() + RETRY_FOR.saturating_sub(pending.age()).max(RETRY_AT_LEAST);
        let search = Search {
            relay: Arc::clone(relay),
            api: Arc::clone(api),
            metrics: self.metrics.clone(),
            pace: self.pace,
            until,
        };
        running.spawn(run_one(search, pending, charge, stop.clone()));
    }
}

/// Runs one lookup to its end, or until `stop` is cancelled. Returns whether it was interrupted. The charge is that of the lookup.
async fn run_one(search: Search, pending: PendingLookup, charge: Charge, stop: CancellationToken) -> bool {
    let steps = &search.metrics.steps;
    steps.pending.inc();
    let end = found(&search, pending, &stop).await;
    let is_interrupted = matches!(end, Err((_, None)));
    match end {
        Ok(()) => steps.ended(LookupOutcome::Found),
        // The record stays in the queue for the next start.
        Err((pending, None)) if search.relay.keeps_events() => drop(pending),
        Err((pending, outcome)) => {
            steps.ended(outcome.unwrap_or(LookupOutcome::Dropped));
            pending.end();
        }
    }
    steps.pending.dec();
    drop(charge);
    is_interrupted
}

/// Looks up the spans and stores them. Without spans, returns the lookup with its outcome, which it does not have if it was
/// interrupted.
async fn found(
    search: &Search,
    mut pending: PendingLookup,
    stop: &CancellationToken,
) -> Result<(), (PendingLookup, Option<LookupOutcome>)> {
    let found = tokio::select! {
        found = search.run(&pending) => found,
        () = stop.cancelled() => return Err((pending, None)),
    };
    let request = match found {
        Ok(request) => request,
        Err(outcome) => return Err((pending, Some(outcome))),
    };
    loop {
        match search.relay.finish_lookup(pending, request.clone()).await {
            Ok(_) => return Ok(()),
            Err((again, refusal)) => {
                pending = again;
                if search.is_over() {
                    search.api.gave_up(&refusal.to_string(), None);
                    return Err((pending, Some(LookupOutcome::GivenUp)));
                }
            }
        }
        tokio::select! {
            () = sleep(search.pace.longest.min(RETRY_STORING)) => {}
            () = stop.cancelled() => return Err((pending, None)),
        }
    }
}

/// Pause before spans are offered to the queue again that it had no room for.
const RETRY_STORING: Duration = Duration::from_secs(5);

/// Returns 1 for a lookup that was interrupted. Logs one that panicked, whose record stays in the queue until the next start.
fn was_interrupted(ended: Result<bool, tokio::task::JoinError>) -> u32 {
    match ended {
        Ok(is_interrupted) => u32::from(is_interrupted),
        Err(failure) => {
            error!(error = %failure, "step lookup panicked");
            0
        }
    }
}
