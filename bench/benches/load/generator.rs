//! Load generator: connections that post batches, at a fixed rate or limited by a window.
//!
//! In: a [`Load`] and its target. Out: [`Sent`]. Promises: at a fixed rate each batch has a scheduled time regardless of
//! earlier ones, and latencies count from it; else at most the load's window is in flight. Ends when everything has
//! arrived, or when nothing has arrived for [`ARRIVAL_TIMEOUT`] plus the hold time.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memmem;

use super::batch::Batch;
use super::grpc;
use super::sink::{Sink, content_length};

/// Timeout without arrivals.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval between checks of the arrivals.
const POLL_INTERVAL: Duration = Duration::from_micros(200);

/// Rate, in spans.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Maximum speed, with at most `window` spans in flight.
    FlatOut {
        window: u64,
    },
    PerSecond(f64),
}

pub(crate) struct Load {
    pub(crate) batch: Batch,
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
    pub(crate) sending: Duration,
    /// Hold time of the contestant.
    pub(crate) held: Duration,
}

/// Result of a load.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Time from the first byte to the last arrival.
    pub(crate) took: Duration,
    /// Number of POSTs by response status; 0 for a broken connection, below 100 for an error of gRPC.
    pub(crate) answers: BTreeMap<u16, u64>,
}

// === impl Load ===

impl Load {
    pub(crate) fn run(&self, to: SocketAddr, sink: &Sink) -> Sent {
        let began = Instant::now();
        let slots = AtomicU64::new(0);
        let stuck = AtomicBool::new(false);
        let answers = Mutex::new(BTreeMap::new());
        thread::scope(|scope| {
            for _ in 0..self.connections {
                scope.spawn(|| {
                    let mut batch = self.batch.clone();
                    let mut connection = Connection::new(to, batch.is_call());
                    while let Some(at) = self.next(began, &slots, sink, &stuck) {
                        let first = sink.tally().send(batch.expectations(), at);
                        let request = batch.renumbered(first);
                        let status = connection.post(request).unwrap_or(0);
                        if !(200..300).contains(&status) {
                            sink.tally().refused(first, batch.expectations());
                        }
                        *answers.lock().expect("nobody panicked with it").entry(status).or_default() += 1;
                    }
                });
            }
        });
        let ended = self.all_arrived(sink);
        Sent { took: ended - began, answers: answers.into_inner().expect("nobody panicked with it") }
    }

    /// Waits until the next batch is due and returns its scheduled time; `None` at the end.
    fn next(&self, began: Instant, slots: &AtomicU64, sink: &Sink, stuck: &AtomicBool) -> Option<Instant> {
        let spans = self.batch.spans();
        let end = began + self.sending;
        match self.pace {
            Pace::PerSecond(rate) => {
                let slot = slots.fetch_add(1, Ordering::Relaxed);
                let at = began + Duration::from_secs_f64((slot * spans) as f64 / rate);
                // Before the pause: the next slot of a large batch may be hours away.
                if at >= end {
                    return None;
                }
                thread::sleep(at.saturating_duration_since(Instant::now()));
                Some(at)
            }
            Pace::FlatOut { window } => {
                let waits = Instant::now();
                while sink.tally().missing() + spans > window.max(spans) {
                    if stuck.load(Ordering::Relaxed) || waits.elapsed() > ARRIVAL_TIMEOUT + self.held {
                        stuck.store(true, Ordering::Relaxed);
                        return None;
                    }
                    thread::sleep(POLL_INTERVAL);
                }
                let now = Instant::now();
                (now < end).then_some(now)
            }
        }
    }

    /// Waits until everything has arrived; returns the time of the last arrival.
    fn all_arrived(&self, sink: &Sink) -> Instant {
        let mut last = (sink.tally().arrived(), Instant::now());
        loop {
            let (arrived, missing) = {
                let tally = sink.tally();
                (tally.arrived(), tally.missing())
            };
            if arrived != last.0 {
                last = (arrived, Instant::now());
            }
            if missing == 0 || last.1.elapsed() > ARRIVAL_TIMEOUT + self.held {
                return last.1;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Connection of the protocol that the batch needs.
enum Connection {
    Http(HttpConnection),
    Grpc(grpc::Connection),
}

/// A keep-alive connection that is reopened when it breaks.
struct HttpConnection {
    to: SocketAddr,
    stream: Option<TcpStream>,
    answer: Vec<u8>,
}

// === impl Connection ===

impl Connection {
    fn new(to: SocketAddr, is_call: bool) -> Self {
        match is_call {
            true => Self::Grpc(grpc::Connection::new(to)),
            false => Self::Http(HttpConnection::new(to)),
        }
    }

    /// Posts a batch and returns the status of the response.
    fn post(&mut self, request: &[u8]) -> io::Result<u16> {
        match self {
            Self::Http(connection) => connection.post(request),
            Self::Grpc(connection) => connection.call(request),
        }
    }
}

// === impl HttpConnection ===

impl HttpConnection {
    fn new(to: SocketAddr) -> Self {
        Self { to, stream: None, answer: Vec::new() }
    }

    /// Posts a batch and returns the status of the response.
    fn post(&mut self, request: &[u8]) -> io::Result<u16> {
        let result = self.exchange(request);
        if result.is_err() {
            self.stream = None;
        }
        result
    }

    fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.to)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(Duration::from_secs(30)))?;
                none.insert(stream)
            }
        };
        stream.write_all(request)?;
        self.answer.clear();
        let mut chunk = [0; 4096];
        loop {
            let read = stream.read(&mut chunk)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.answer.extend_from_slice(&chunk[..read]);
            let Some(head) = memmem::find(&self.answer, b"\r\n\r\n") else { continue };
            // A 204 has neither a body nor a length.
            let length = content_length(&self.answer[..head + 2]).unwrap_or(0);
            if self.answer.len() >= head + 4 + length {
                return status(&self.answer).ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
        }
    }
}

/// Parses a status line such as `HTTP/1.1 204 No Content`.
fn status(answer: &[u8]) -> Option<u16> {
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}
