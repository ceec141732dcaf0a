//! HTTP/1.1 pipelining: requests follow each other on a connection, and do not wait for the answers in between.
//!
//! In: bodies. Out: POSTs, and for each its answer. Promises: at most `max_pipelined` requests on a connection wait for
//! an answer; a request that nobody can have looked at is sent again at once, on another connection; every other one that
//! stays without an answer is an error. Leaves to others: whether that one is sent again ([`retry`](super::retry)).
//!
//! What it is for: with one request for each event, nearly all of the cost is system calls, one to send and one to
//! receive for each. Requests that follow each other share them.
//!
//! What it costs: an answer that takes its time holds up those behind it. HTTP advises against it for requests that may
//! not be repeated; whatever is here may be, since delivery is at least once (RFC 9112, section 9.3.2).

mod answer;
mod body;
mod connection;

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::{fmt, io};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, oneshot};
use tower::{Service, ServiceExt};

use super::client::Connector;
use super::slices::{Gather, Slices};

use body::AnswerBody;
use connection::{Connection, Job, refuse_all};

/// The innermost service: one POST, answered when the head of the response is there.
#[derive(Clone)]
pub(super) struct Pipelined {
    shared: Arc<Shared>,
}

struct Shared {
    connector: Connector,
    address: Uri,
    head: Head,
    max_pipelined: usize,
    max_connections: usize,
    /// Those that take requests.
    open: Mutex<Vec<Line>>,
}

/// The way to a connection.
struct Line {
    jobs: mpsc::Sender<Job>,
    load: Arc<Load>,
}

/// Requests that have chosen a connection and wait for their answers.
#[derive(Default)]
struct Load(AtomicUsize);

/// A request that has chosen a connection.
struct Ride<'a> {
    shared: &'a Shared,
    load: Arc<Load>,
    answered: bool,
}

/// What every request begins with, but for its length.
#[derive(Clone)]
pub(super) struct Head {
    up_to_length: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// Nobody can have looked at the request. Never leaves this module.
    NotSent,
    Connect(Arc<dyn Error + Send + Sync>),
    Io(Arc<io::Error>),
    /// The other side closed the connection.
    Closed,
    /// What came is no HTTP/1.1.
    Strange,
}

// === impl Pipelined ===

impl Pipelined {
    /// Enough connections for `max_in_flight` requests.
    pub(super) fn new(
        connector: Connector,
        address: Uri,
        head: Head,
        max_pipelined: usize,
        max_in_flight: usize,
    ) -> Self {
        let max_connections = max_in_flight.div_ceil(max_pipelined);
        let open = Mutex::new(Vec::with_capacity(max_connections));
        let shared = Shared { connector, address, head, max_pipelined, max_connections, open };
        Self { shared: Arc::new(shared) }
    }
}

impl Service<Slices> for Pipelined {
    type Response = Response<AnswerBody>;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Response<AnswerBody>, Failure>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, body: Slices) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            loop {
                match shared.send(body.clone()).await {
                    // Every connection that gives back a request so has answered another one: this ends.
                    Err(Failure::NotSent) => {}
                    end => return end,
                }
            }
        })
    }
}

// === impl Shared ===

impl Shared {
    /// Sends a request once.
    async fn send(&self, body: Slices) -> Result<Response<AnswerBody>, Failure> {
        let (reply, answer) = oneshot::channel();
        let mut ride = self.board(Job { body, reply });
        // A connection that died without a word took its requests with it.
        let answer = answer.await.unwrap_or(Err(Failure::Closed));
        ride.answered = true;
        answer
    }

    /// Gives a request to a connection: to one that has nothing to do, to a new one while there may be more, or to the
    /// one with the least to do.
    fn board(&self, mut job: Job) -> Ride<'_> {
        let mut open = self.open();
        open.retain(|line| !line.jobs.is_closed());
        if let Some(line) = open.iter().min_by_key(|line| line.load.get())
            && self.takes_one_more(line.load.get(), open.len())
        {
            match line.jobs.try_send(job) {
                Ok(()) => return Ride::on(self, line),
                Err(refused) => job = refused.into_inner(),
            }
        }
        let line = self.connect(job);
        let ride = Ride::on(self, &line);
        open.push(line);
        ride
    }

    fn takes_one_more(&self, load: usize, connections: usize) -> bool {
        load == 0 || (connections >= self.max_connections && load < self.max_pipelined)
    }

    /// Begins a connection for a request.
    fn connect(&self, first: Job) -> Line {
        let (jobs, mut coming) = mpsc::channel(self.max_pipelined);
        assert!(jobs.try_send(first).is_ok(), "a new channel has room");
        let (connector, address) = (self.connector.clone(), self.address.clone());
        let (head, max_pipelined) = (self.head.clone(), self.max_pipelined);
        tokio::spawn(async move {
            match connector.oneshot(address).await {
                Ok(stream) => {
                    Connection::new(TokioIo::new(stream), head, max_pipelined, coming).run().await;
                }
                Err(error) => refuse_all(&mut coming, &Failure::Connect(Arc::from(error))),
            }
        });
        Line { jobs, load: Arc::default() }
    }

    fn open(&self) -> MutexGuard<'_, Vec<Line>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Load ===

impl Load {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl Ride ===

impl<'a> Ride<'a> {
    fn on(shared: &'a Shared, line: &Line) -> Self {
        line.load.0.fetch_add(1, Ordering::Relaxed);
        Self { shared, load: Arc::clone(&line.load), answered: false }
    }
}

impl Drop for Ride<'_> {
    fn drop(&mut self) {
        self.load.0.fetch_sub(1, Ordering::Relaxed);
        // Whoever waited gave up, and what follows on that connection would wait behind the same answer.
        if !self.answered {
            self.shared.open().retain(|line| !Arc::ptr_eq(&line.load, &self.load));
        }
    }
}

// === impl Head ===

impl Head {
    /// Of a POST to this path with these headers.
    pub(super) fn new(address: &Uri, headers: &http::HeaderMap) -> Self {
        let path = address.path_and_query().map_or("/", |path| path.as_str());
        let mut head = BytesMut::new();
        for part in ["POST ", path, " HTTP/1.1\r\n"] {
            head.put_slice(part.as_bytes());
        }
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.put_slice(part);
            }
        }
        head.put_slice(b"content-length: ");
        Self { up_to_length: head.freeze() }
    }

    fn write_onto(&self, body_bytes: usize, out: &mut Gather) {
        out.slice(&self.up_to_length);
        out.number(body_bytes);
        out.text("\r\n\r\n");
    }
}

// === impl Failure ===

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "the request was not sent",
            Self::Connect(_) => "cannot connect",
            Self::Io(_) => "the connection failed",
            Self::Closed => "the connection was closed without an answer",
            Self::Strange => "the answer is no HTTP/1.1",
        })
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Connect(error) => Some(&**error),
            Self::Io(error) => Some(&**error),
            Self::NotSent | Self::Closed | Self::Strange => None,
        }
    }
}

#[cfg(test)]
mod tests;
