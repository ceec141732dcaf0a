//! What every test starts from: a relay, a collector behind it, and a sender in front of it.

pub(crate) mod browser;

mod child;

mod client;

mod collector;

mod given;

mod house;

mod lines;

mod metrics;

pub(crate) mod otlp;

mod relay;

mod sender;

pub(crate) mod text;

use std::time::{Duration, Instant};

pub(crate) use child::{Child, Ended, spanrelay};
pub(crate) use client::{Ask, Connection, Reply, sign};
pub(crate) use collector::{Answer, Collector, Gate, Recorded};
pub(crate) use house::{House, SECRET};
pub(crate) use lines::{TRACE, log, logs_only, names, request_of, span, span_with, trace_ids};
pub(crate) use metrics::Samples;
pub(crate) use relay::Relay;
pub(crate) use sender::Sender;

/// Far beyond what any test takes; only so that a defect fails instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at something that can only be asked, not awaited.
const GLANCE: Duration = Duration::from_millis(2);

/// Asks until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(GLANCE).await;
    }
}

/// Lets time pass, where the moment of a fault is to be any moment. Never to wait for something.
pub(crate) async fn any_moment_within(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Waits for something that must come.
pub(crate) async fn in_time<T>(what: &str, coming: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, coming).await {
        Ok(came) => came,
        Err(_) => panic!("waited in vain: {what}"),
    }
}
