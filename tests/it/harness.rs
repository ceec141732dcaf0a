//! Harness: a relay, a collector downstream of it, and a client.

pub(crate) mod api;

pub(crate) mod browser;

mod child;

mod client;

mod collector;

mod given;

mod house;

mod lines;

mod metrics;

pub(crate) mod otlp;

pub(crate) mod random;

mod relay;

mod sender;

pub(crate) mod text;

use std::io::Write;
use std::time::{Duration, Instant};

pub(crate) use child::{Child, Ended, process_id, signal_named, spanrelay};
pub(crate) use client::{Ask, Connection, Reply, sign};
pub(crate) use collector::{Answer, Collector, Gate, Recorded};
pub(crate) use house::{House, SECRET};
#[cfg(feature = "kafka")]
pub(crate) use lines::items_in;
pub(crate) use lines::{TRACE, log, logs_only, names, request_of, span, span_with, trace_ids};
pub(crate) use metrics::Samples;
pub(crate) use relay::Relay;
pub(crate) use sender::Sender;

/// Far longer than any test takes, so that a defect fails instead of hanging.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(180);

/// Interval for polling a condition that cannot be awaited.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Polls until there is a value.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < TIME_LIMIT, "timed out: {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Lets a random time pass, so that a fault happens at any moment. Never used to wait for something.
pub(crate) async fn any_moment_within(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Waits for something that must happen.
pub(crate) async fn in_time<T>(what: &str, coming: impl Future<Output = T>) -> T {
    match tokio::time::timeout(TIME_LIMIT, coming).await {
        Ok(came) => came,
        Err(_) => panic!("timed out: {what}"),
    }
}

/// Reports that a test is skipped for a program that is not installed. That is a failure if `required`, an environment
/// variable, is set.
pub(crate) fn skipped(test: &str, program: &str, required: &str) {
    assert!(std::env::var_os(required).is_none(), "{program} is not installed");
    // Not the macro, whose output is captured when a test passes.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "skipped: {test} ({program} is not installed)").unwrap();
}

/// An address of this test's own without a listener: connections are refused, and no other socket gets the port.
pub(crate) struct Reserved {
    pub(crate) address: std::net::SocketAddr,
    _bound: tokio::net::TcpSocket,
}

impl Reserved {
    /// Reserves an address; its port may be 0.
    pub(crate) fn at(address: std::net::SocketAddr) -> Self {
        use tokio::net::TcpSocket;
        let bound = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
        // The address can be bound again, as long as only one socket listens.
        bound.set_reuseaddr(true).unwrap();
        bound.bind(address).unwrap();
        Self { address: bound.local_addr().unwrap(), _bound: bound }
    }

    pub(crate) fn on_loopback() -> Self {
        Self::at(([127, 0, 0, 1], 0).into())
    }
}

/// Waits until nothing listens at the address. A starting child process has every listener of this process for a
/// moment, until it executes the other program.
pub(crate) async fn nobody_listens_at(address: std::net::SocketAddr) {
    eventually(&format!("nobody listens at {address}"), async || {
        tokio::net::TcpStream::connect(address).await.err().map(drop)
    })
    .await;
}

/// Binds an address that was used before, as soon as it is free: see [`nobody_listens_at`].
pub(crate) async fn listen_again(address: std::net::SocketAddr) -> tokio::net::TcpListener {
    let bound = async {
        loop {
            // With SO_REUSEADDR, which tokio sets, a socket that is bound and does not listen is no obstacle.
            match tokio::net::TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    };
    in_time(&format!("{address} is free"), bound).await
}
