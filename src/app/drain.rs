//! The drain: the tasks of a relay stop in the order of the data flow.
//!
//! In: the running tasks and a deadline. Promises: each task has its complete input before it stops; what is not delivered by the
//! deadline stays in a queue on disk; lookups that no queue keeps may end first, in the time for requests in progress.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::Running;

/// Time from the signal to stop to the end of the process, but for the last commits of a shared queue.
pub(super) const DRAIN_TIME: Duration = Duration::from_secs(10);
/// Part of the drain time for requests in progress; the rest is for delivery.
pub(super) const FINISH_REQUESTS: Duration = Duration::from_secs(5);
/// End of the drain time that is reserved for self-tracing, if enabled: the spans of the drain are exported in it.
const FLUSH_SELF_TRACES: Duration = Duration::from_secs(1);

// === impl Running ===

impl Running {
    /// Stops the tasks in the order of the data flow, so that each has its complete input.
    pub(super) async fn drain(self, deadline: Instant) {
        let Self {
            reloads: _,
            relay,
            feeder,
            mut steps,
            front_door,
            processor,
            exporter,
            telemetry,
            self_tracing,
            stop,
        } = self;
        let end = deadline;
        let deadline = if self_tracing.is_some() { end - FLUSH_SELF_TRACES } else { end };
        let requests_end = deadline.min(Instant::now() + FINISH_REQUESTS);
        // Records that are only on disk stay there for the next start.
        feeder.abort();
        stop.accepting.cancel();
        if relay.keeps_events() {
            stop.lookups.now.cancel();
        }
        ended("front door", timeout_at(deadline, front_door).await);
        // No further event can arrive.
        stop.lookups.last.cancel();
        if let Ok(result) = timeout_at(requests_end, &mut steps).await {
            ended("step lookups", Ok(result));
        } else {
            stop.lookups.now.cancel();
            ended("step lookups", timeout_at(deadline, steps).await);
        }
        stop.processing.cancel();
        ended("processor", timeout_at(deadline, processor).await);
        let mut exporter = exporter;
        if let Ok(result) = timeout_at(deadline, &mut exporter).await {
            ended("exporter", Ok(result));
            info!("drained");
        } else {
            warn!(
                drain_seconds = DRAIN_TIME.as_secs(),
                "drain timed out; undelivered data is kept only in an on-disk queue"
            );
            stop.delivering.cancel();
            ended("exporter", Ok(exporter.await));
        }
        relay.close().await;
        if let Some(self_tracing) = self_tracing {
            stop.tracing.cancel();
            flush(self_tracing, end).await;
        }
        stop.telemetry.cancel();
        ended("telemetry endpoint", Ok(telemetry.await));
    }
}

/// Waits for the last self-tracing spans until `end`. Later ones are counted as dropped.
async fn flush(mut self_tracing: JoinHandle<()>, end: Instant) {
    let end = end.min(Instant::now() + FLUSH_SELF_TRACES);
    if let Ok(result) = timeout_at(end, &mut self_tracing).await {
        ended("self-tracing", Ok(result));
    } else {
        self_tracing.abort();
        warn!(key = "telemetry.traces.endpoint", "self-trace flush timed out; remaining spans dropped");
    }
}

/// Logs a task that panicked or timed out. It must not keep the others from draining.
fn ended(part: &str, result: Result<Result<(), tokio::task::JoinError>, tokio::time::error::Elapsed>) {
    match result {
        Ok(Ok(())) => {}
        Ok(Err(_)) => warn!(part, "task panicked"),
        Err(_) => warn!(part, "task did not stop within the drain time"),
    }
}
