//! The accept loop: serves HTTP/1.1 and HTTP/2 on a listener, plain or over TLS.
//!
//! In: connections. Out: calls of one tower service.
//! Promises: a bounded number of connections, beyond which the longest idle one is closed for the new one; a connection that does not complete its handshake or its request headers
//! in time, or idles for too long, is closed; no connection keeps others from being accepted; at shutdown, requests in
//! progress are finished within the grace period.
//! Leaves to others: requests and responses ([`stack`](mod@super::stack)).

mod idle;

pub(super) mod protocol;

mod pulse;

mod repoll;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{BoxError, Service, ServiceExt};
use tracing::{debug, warn};

use super::reply;
use super::tls::Tls;
use crate::telemetry::logging::chain;
use crate::telemetry::{LineLimit, Metrics};

use idle::IdleConnections;
use protocol::protocol;
pub(crate) use pulse::Busy;
use pulse::{Expired, Observed, Pulse};
use repoll::Repoll;

/// Idle timeout between requests. Longer than the 60 s of common load balancers, because the client should close first:
/// else a request can cross with the end of its connection and be lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Pause after a failed accept. Without it, the loop would spin while file descriptors are exhausted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Settings for every connection.
#[derive(Clone)]
pub(crate) struct Terms {
    /// Timeout from the first byte of a request, or the start of the connection, to the end of its headers.
    pub(crate) header_timeout: Duration,
    /// Timeout between requests.
    pub(crate) idle_timeout: Duration,
    /// Maximum number of connections.
    pub(crate) max_connections: usize,
    /// TLS, or `None` for plain HTTP.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Counter of responses to invalid HTTP, which no service sees; `None` counts none.
    pub(crate) metrics: Option<Metrics>,
}

/// Shutdown signal of a server.
#[derive(Debug, Clone)]
pub(crate) struct Shutdown {
    /// Once cancelled, the server accepts nothing more and finishes requests in progress.
    pub(crate) token: CancellationToken,
    /// Grace period for requests in progress; then their connections are dropped.
    pub(crate) grace: Duration,
}

/// Serves connections until `shutdown` and returns when the last one is closed.
pub(crate) async fn serve<S, B>(listener: TcpListener, service: S, terms: Terms, shutdown: Shutdown)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let Terms { header_timeout, idle_timeout, max_connections, tls, metrics } = terms;
    let protocol = protocol(header_timeout);
    let (slots, idle) = (Arc::new(Semaphore::new(max_connections)), Arc::<IdleConnections>::default());
    let connections = TaskTracker::new();
    let drop_all = CancellationToken::new();
    let address = listener.local_addr().ok();
    let mistaken = Arc::new(Mistaken { address, lines: LineLimit::default() });
    let (accept_failures, full) = (LineLimit::default(), LineLimit::default());

    let accept = async || {
        let (stream, _peer) = listener.accept().await?;
        if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
            return Ok((stream, slot));
        }
        if let Some(suppressed) = full.admit(Instant::now()) {
            let (address, suppressed) = (address.map(tracing::field::display), suppressed.shown());
            warn!(address, max_connections, suppressed, "connection limit reached; closing idle connections");
        }
        Ok((stream, idle.slot(&slots).await))
    };
    while let Some(accepted) = shutdown.token.run_until_cancelled(accept()).await {
        match accepted {
            Ok((stream, slot)) => {
                let talk = Talk {
                    protocol: protocol.clone(),
                    tls: tls.clone(),
                    pulse: Pulse::new(header_timeout, idle_timeout, &idle),
                    goodbye: shutdown.token.clone(),
                    drop_now: drop_all.clone(),
                    mistaken: Arc::clone(&mistaken),
                    metrics: metrics.clone(),
                };
                let service = service.clone();
                connections.spawn(async move {
                    talk.run(stream, service).await;
                    drop(slot);
                });
            }
            // The peer closed the connection before it was accepted, which is normal.
            Err(error) if is_of_the_peer(&error) => {
                debug!(error = %chain(&error), "connection was lost before it was accepted");
            }
            Err(error) => {
                if let Some(suppressed) = accept_failures.admit(Instant::now()) {
                    let suppressed = suppressed.shown();
                    warn!(error = %chain(&error), suppressed, "could not accept a connection");
                }
                // The usual cause is the limit on open files.
                idle.close_longest();
                shutdown.token.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
            }
        }
    }

    drop(listener);
    connections.close();
    if tokio::time::timeout(shutdown.grace, connections.wait()).await.is_err() {
        warn!(
            connections = connections.len(),
            "dropped connections that were still busy after the grace time"
        );
        drop_all.cancel();
        connections.wait().await;
    }
}

/// One connection.
struct Talk {
    protocol: auto::Builder<TokioExecutor>,
    tls: Option<Arc<Tls>>,
    pulse: Arc<Pulse>,
    goodbye: CancellationToken,
    drop_now: CancellationToken,
    mistaken: Arc<Mistaken>,
    metrics: Option<Metrics>,
}

/// Rate-limited log line about clients that speak TLS to a plain HTTP port: one a minute, because anyone can cause it.
struct Mistaken {
    /// Address of the port.
    address: Option<SocketAddr>,
    lines: LineLimit,
}

/// Stream of a connection, plain or TLS.
type Wire = Either<TcpStream, TlsStream<TcpStream>>;

// === impl Terms ===

impl Terms {
    /// Returns settings without TLS.
    pub(crate) fn plain(header_timeout: Duration, max_connections: usize) -> Self {
        Self { header_timeout, idle_timeout: IDLE_TIMEOUT, max_connections, tls: None, metrics: None }
    }
}

// === impl Talk ===

impl Talk {
    async fn run<S, B>(self, tcp: TcpStream, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        if let Err(error) = tcp.set_nodelay(true) {
            debug!(error = %chain(&error), "could not set TCP_NODELAY");
        }
        let Some(wire) = self.secure(tcp).await else { return };
        let pulse = Arc::clone(&self.pulse);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let busy = pulse.begin(request.version());
            // The body holds a clone: the connection is not idle while an unread body is drained.
            request.extensions_mut().insert(Arc::clone(&busy));
            let answer = service.clone().oneshot(request);
            async move {
                let answer = answer.await;
                drop(busy);
                answer
            }
        });
        let io = TokioIo::new(Observed::new(wire, Arc::clone(&self.pulse)));
        let mut connection = pin!(self.protocol.serve_connection(io, service));
        let repoll = Repoll::new();
        let mut silence = pin!(self.pulse.silence());
        let mut leaving = false;

        // Polled in this order, because activity of the connection moves the deadline.
        loop {
            tokio::select! {
                biased;
                ended = poll_fn(|cx| repoll.poll(connection.as_mut(), cx)) => {
                    if let Err(error) = ended {
                        debug!(error = %chain(error.as_ref()), "connection failed");
                        self.count(error.downcast_ref());
                    }
                    if self.tls.is_none() && self.pulse.begins_with_tls() {
                        self.mistaken.note();
                    }
                    return;
                }
                () = self.drop_now.cancelled() => return,
                () = self.pulse.evicted() => {
                    debug!("closing the longest idle connection for a new one");
                    // One poll lets h2 send its GOAWAY. The new connection does not wait for the client's response to it.
                    connection.as_mut().graceful_shutdown();
                    drop(connection.as_mut().now_or_never());
                    return;
                }
                () = self.goodbye.cancelled(), if !leaving => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                kind = silence.as_mut() => {
                    debug!(silence = kind.as_str(), "closing a silent connection");
                    if leaving || kind != Expired::Idle {
                        return;
                    }
                    // Between requests h2 sends GOAWAY first; the next timeout closes the connection.
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                    self.pulse.said_goodbye();
                    silence.set(self.pulse.silence());
                }
            }
        }
    }
}

impl Talk {
    /// Counts the response that hyper has written to what it could not parse.
    fn count(&self, error: Option<&hyper::Error>) {
        if let (Some(metrics), Some(status)) = (&self.metrics, error.and_then(reply::status_of_unparsed)) {
            metrics.request(None, status);
        }
    }

    /// Performs the TLS handshake, if configured. It shares the timeout of the first request.
    async fn secure(&self, tcp: TcpStream) -> Option<Wire> {
        let Some(tls) = &self.tls else { return Some(Either::Left(tcp)) };
        tokio::select! {
            biased;
            secured = tls.accept(tcp) => secured.map(Either::Right),
            () = self.drop_now.cancelled() => None,
            // No request was sent yet, so nothing is lost.
            () = self.goodbye.cancelled() => None,
            () = self.pulse.evicted() => None,
            _ = self.pulse.silence() => {
                debug!("closing a connection whose TLS handshake did not end");
                None
            }
        }
    }
}

// === impl Mistaken ===

impl Mistaken {
    fn note(&self) {
        let Some(suppressed) = self.lines.admit(Instant::now()) else { return };
        warn!(
            address = self.address.map(tracing::field::display),
            remedy = "set server.tls, or have clients use http:// here; the telemetry endpoint is always plain HTTP",
            suppressed = suppressed.shown(),
            "TLS handshake on a plain HTTP port"
        );
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
