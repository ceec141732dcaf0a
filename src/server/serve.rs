//! The accept loop: a bound listener becomes conversations in HTTP/1.1 and HTTP/2, plain or over TLS.
//!
//! In: connections. Out: calls of one tower service.
//! Promises: at most so many at a time; a connection that does not complete its handshake and its request head in
//! time, or stays silent for too long, is closed; whatever one connection does, the others are accepted meanwhile; on shutdown requests in progress are finished, within the given grace.
//! Leaves to others: what is asked and answered ([`stack`](mod@super::stack)).

pub(super) mod protocol;

mod pulse;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

use protocol::protocol;
pub(crate) use pulse::Busy;
use pulse::{Pulse, Silence, Watched};

/// Open connections; more wait in the kernel's backlog. Far above `max_concurrent_requests`' default, so that a
/// sender that is shed still gets its 503, and below the usual limits on open files of a service.
const MAX_CONNECTIONS: usize = 8192;
/// Between requests. Longer than the 60 s after which the usual load balancers close theirs: the side that sends should
/// be the one that closes, else a request can cross with the end of its connection and be lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// After a failed accept. Out of file descriptors, the next try would fail at once and spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What holds for every connection.
#[derive(Clone)]
pub(crate) struct Terms {
    /// From the first byte of a request, or the start of the connection, to the end of its headers.
    pub(crate) header_timeout: Duration,
    /// Between requests.
    pub(crate) idle_timeout: Duration,
    /// At a time; more wait in the kernel's backlog.
    pub(crate) max_connections: usize,
    /// Absent: plain HTTP.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Counts the responses to what is no HTTP request, which no service sees. Absent: they are not counted.
    pub(crate) metrics: Option<Metrics>,
}

/// How a server is told to stop.
#[derive(Debug, Clone)]
pub(crate) struct Shutdown {
    /// Cancelled: accept nothing more, finish what is in progress.
    pub(crate) token: CancellationToken,
    /// How long requests in progress may take after that; then their connections are dropped.
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
    let slots = Arc::new(Semaphore::new(max_connections));
    let connections = TaskTracker::new();
    let drop_all = CancellationToken::new();
    let mistaken = Arc::new(Mistaken { address: listener.local_addr().ok(), lines: LineLimit::default() });
    let accept_failures = LineLimit::default();

    let accept = async || {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
        (slot, listener.accept().await)
    };
    while let Some((slot, accepted)) = shutdown.token.run_until_cancelled(accept()).await {
        match accepted {
            Ok((stream, _peer)) => {
                let talk = Talk {
                    protocol: protocol.clone(),
                    tls: tls.clone(),
                    pulse: Arc::new(Pulse::new(header_timeout, idle_timeout)),
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
            // The peer was gone before it was accepted; nothing is wrong here.
            Err(error) if is_of_the_peer(&error) => {
                debug!(error = %chain(&error), "connection was lost before it was accepted");
            }
            Err(error) => {
                if let Some(suppressed) = accept_failures.admit(Instant::now()) {
                    let suppressed = suppressed.shown();
                    warn!(error = %chain(&error), suppressed, "could not accept a connection");
                }
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

/// One connection's life.
struct Talk {
    protocol: auto::Builder<TokioExecutor>,
    tls: Option<Arc<Tls>>,
    pulse: Arc<Pulse>,
    goodbye: CancellationToken,
    drop_now: CancellationToken,
    mistaken: Arc<Mistaken>,
    metrics: Option<Metrics>,
}

/// Those who speak TLS to a port without it. For the log; one line a minute, for anyone can.
struct Mistaken {
    /// The port's own.
    address: Option<SocketAddr>,
    lines: LineLimit,
}

/// What a conversation is held over.
type Wire = Either<TcpStream, TlsStream<TcpStream>>;

// === impl Terms ===

impl Terms {
    /// Without TLS.
    pub(crate) fn plain(header_timeout: Duration) -> Self {
        Self {
            header_timeout,
            idle_timeout: IDLE_TIMEOUT,
            max_connections: MAX_CONNECTIONS,
            tls: None,
            metrics: None,
        }
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
            // The body takes a share of it: while an unread body is drained the connection is not idle.
            request.extensions_mut().insert(Arc::clone(&busy));
            let answer = service.clone().oneshot(request);
            async move {
                let answer = answer.await;
                drop(busy);
                answer
            }
        });
        let io = TokioIo::new(Watched::new(wire, Arc::clone(&self.pulse)));
        let mut connection = pin!(self.protocol.serve_connection(io, service));
        let mut silence = pin!(self.pulse.silence());
        let mut leaving = false;

        // In this order: what the connection just did decides what counts as silence.
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
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
                () = self.goodbye.cancelled(), if !leaving => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                kind = silence.as_mut() => {
                    debug!(silence = kind.as_str(), "closing a silent connection");
                    if leaving || kind != Silence::Idle {
                        return;
                    }
                    // Between requests: h2 says GOAWAY first. The next silence ends it.
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

    /// The handshake, where there is one. Its time is part of the time for the first request.
    async fn secure(&self, tcp: TcpStream) -> Option<Wire> {
        let Some(tls) = &self.tls else { return Some(Either::Left(tcp)) };
        tokio::select! {
            biased;
            secured = tls.accept(tcp) => secured.map(Either::Right),
            () = self.drop_now.cancelled() => None,
            // Nothing was asked yet, so that nothing is lost.
            () = self.goodbye.cancelled() => None,
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
