//! A collector whose behaviour changes on demand: it accepts, rejects, hangs, disconnects or does not listen.
//!
//! OTLP/HTTP and OTLP/gRPC share its port. A request counts as accepted once the collector begins a response with
//! 200: a relay that keeps running does not send it again.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::calls;
use crate::harness::{Recorded, Reserved, in_time, listen_again, names};

/// Word in data that is permanently rejected.
pub(super) const POISON: &str = "poison";
/// Header that identifies the process of the relay.
pub(super) const PROCESS: &str = "x-process";

type AnswerBody = UnsyncBoxBody<Bytes, io::Error>;

/// Behaviour towards requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Accepts everything except poison.
    Up,
    TakesPoison,
    /// Refuses connections.
    Down,
    /// Responds 429 with Retry-After: 1.
    Throttles,
    /// Responds 503.
    Overloaded,
    /// Responds to every request with this status, to a call as a proxy does.
    Status(u16),
    /// Responds to every call with this code of gRPC.
    Code(u8),
    /// Speaks TLS, and responds to plain HTTP with a 400.
    SpeaksTls,
    /// Reads the request and does not respond.
    Hangs,
    /// Reads the request and closes the connection.
    Closes,
    /// Accepts the request, and never ends its response.
    HangsInItsAnswer,
    /// Accepts the request, and closes the connection in its response; ends the response to a call without its status.
    BreaksOff,
    /// Hangs for requests with this word, and accepts the others.
    Withholds(&'static str),
}

/// An accepted item.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    /// Process of the relay that sent it.
    pub(super) process: String,
    /// Name of the item, see [`names`].
    pub(super) names: Vec<String>,
}

/// A collector on an address that stays its own while it does not listen.
pub(super) struct Downstream {
    reserved: Reserved,
    listening: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

struct Shared {
    mood: watch::Sender<Mood>,
    books: Mutex<Books>,
    changed: Notify,
}

#[derive(Default)]
struct Books {
    taken: Vec<Delivery>,
    /// Number of requests, whatever the response.
    seen: usize,
    /// Bodies of all requests.
    bodies: Vec<u8>,
    /// Names in the requests that got [`Mood::Status`] or [`Mood::Code`], and number of requests in [`Mood::SpeaksTls`].
    refused: Vec<Vec<String>>,
}

// === impl Downstream ===

impl Downstream {
    pub(super) async fn start(mood: Mood) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), mood).await
    }

    pub(super) async fn start_at(address: SocketAddr, mood: Mood) -> Self {
        let shared =
            Shared { mood: watch::Sender::new(Mood::Down), books: Mutex::default(), changed: Notify::new() };
        let downstream = Self {
            reserved: Reserved::at(address),
            listening: tokio::sync::Mutex::default(),
            shared: Arc::new(shared),
        };
        downstream.set(mood).await;
        downstream
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.reserved.address
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.reserved.address)
    }

    /// Changes the behaviour. Hanging responses end.
    pub(super) async fn set(&self, mood: Mood) {
        let mut listening = self.listening.lock().await;
        self.shared.mood.send_replace(mood);
        if mood == Mood::Down {
            if let Some(task) = listening.take() {
                task.abort();
                // The listener is closed.
                task.await.unwrap_err();
            }
        } else if listening.is_none() {
            let listener = listen_again(self.reserved.address).await;
            *listening = Some(tokio::spawn(accept(listener, Arc::clone(&self.shared))));
        }
    }

    /// Returns everything that was accepted so far, in the order of arrival.
    pub(super) fn taken(&self) -> Vec<Delivery> {
        self.shared.books().taken.clone()
    }

    /// Returns the names of everything that was accepted so far.
    pub(super) fn taken_names(&self) -> Vec<String> {
        self.taken().into_iter().flat_map(|delivery| delivery.names).collect()
    }

    /// Returns the names in each request that got [`Mood::Status`] or [`Mood::Code`]; no names for a request to a TLS port.
    pub(super) fn refused(&self) -> Vec<Vec<String>> {
        self.shared.books().refused.clone()
    }

    /// Returns the bodies of all requests, whatever the responses.
    pub(super) fn bodies(&self) -> Vec<u8> {
        self.shared.books().bodies.clone()
    }

    /// Waits until this many requests were rejected.
    pub(super) async fn has_refused(&self, requests: usize) {
        let enough = async {
            loop {
                let changed = self.shared.changed.notified();
                if self.shared.books().refused.len() >= requests {
                    return;
                }
                changed.await;
            }
        };
        in_time(&format!("{requests} requests are refused"), enough).await;
    }

    /// Waits until this many requests were received, whatever the response.
    pub(super) async fn has_seen(&self, requests: usize) {
        let enough = async {
            loop {
                let changed = self.shared.changed.notified();
                if self.shared.books().seen >= requests {
                    return;
                }
                changed.await;
            }
        };
        in_time(&format!("{requests} requests come downstream"), enough).await;
    }
}

// === impl Shared ===

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<AnswerBody>, io::Error> {
        let is_call = calls::is_call(request.headers());
        let Read { request, body } = read(request).await?;
        let has = |word: &str| memchr::memmem::find(&body, word.as_bytes()).is_some();
        {
            let mut books = self.books();
            books.seen += 1;
            books.bodies.extend(&body);
        }
        self.changed.notify_waiters();
        let mood = *self.mood.borrow();
        match mood {
            Mood::Down | Mood::Closes => Err(io::Error::other("closed")),
            Mood::Status(code) => {
                self.refuse(names(&request));
                Ok(status(code, None))
            }
            // A connection from before the change: a TLS port has no plain ones.
            Mood::SpeaksTls => Err(io::Error::other("closed")),
            Mood::Code(code) => {
                self.refuse(names(&request));
                Ok(calls::failed(code))
            }
            Mood::Throttles if is_call => Ok(calls::throttled()),
            Mood::Throttles => Ok(status(429, Some("1"))),
            Mood::Overloaded if is_call => Ok(calls::failed(calls::UNAVAILABLE)),
            Mood::Overloaded => Ok(status(503, None)),
            Mood::Hangs => self.hang_in(mood).await,
            Mood::Withholds(word) if has(word) => self.hang_in(mood).await,
            _ if mood != Mood::TakesPoison && has(POISON) => Ok(match is_call {
                true => calls::failed(calls::INVALID_ARGUMENT),
                false => status(400, None),
            }),
            Mood::Up | Mood::TakesPoison | Mood::Withholds(_) => {
                self.take(&request);
                Ok(if is_call { calls::accepted() } else { Response::new(whole("{}")) })
            }
            Mood::HangsInItsAnswer | Mood::BreaksOff => {
                self.take(&request);
                let broken = Err(io::Error::other("broken off"));
                Ok(match is_call {
                    // Ends without its status: a reset would discard the message with it if that was not written yet.
                    true => calls::with_body(self.torn(mood, calls::EMPTY_RESPONSE, None)),
                    false => Response::new(self.torn(mood, b"{\"partialSu", Some(broken))),
                })
            }
        }
    }

    fn take(&self, request: &Recorded) {
        let process = request.headers.get(PROCESS).map_or("", |value| value.to_str().unwrap()).to_owned();
        self.books().taken.push(Delivery { process, names: names(request) });
    }

    fn refuse(&self, names: Vec<String>) {
        self.books().refused.push(names);
        self.changed.notify_waiters();
    }

    async fn hang_in<T>(&self, mood: Mood) -> Result<T, io::Error> {
        self.other_than(mood).await;
        Err(io::Error::other("hung"))
    }

    async fn other_than(&self, mood: Mood) {
        self.mood.subscribe().wait_for(|now| *now != mood).await.expect("the sender is in self");
    }

    /// Begins a body with this part, and ends it at once or when the behaviour changes.
    fn torn(
        self: &Arc<Self>,
        mood: Mood,
        part: &'static [u8],
        end: Option<io::Result<Frame<Bytes>>>,
    ) -> AnswerBody {
        let shared = Arc::clone(self);
        let part = stream::iter([Ok(Frame::data(Bytes::from_static(part)))]);
        let end = stream::once(async move {
            // The server writes its buffered data while the body has none, and discards it if the body fails at once.
            tokio::task::yield_now().await;
            if mood == Mood::HangsInItsAnswer {
                shared.other_than(mood).await;
            }
            stream::iter(end)
        });
        StreamBody::new(part.chain(end.flatten())).boxed_unsync()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(serve(stream, Arc::clone(&shared)));
    }
}

/// Serves until the connection ends or the collector goes down; responses that have begun are completed.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    if *shared.mood.borrow() == Mood::SpeaksTls {
        return speak_tls(stream, &shared).await;
    }
    let mut start = [0; 1];
    // The preface of HTTP/2 begins with a method that no request has.
    match stream.peek(&mut start).await {
        Ok(1) if start == *b"P" && is_http2(&stream).await => serve_calls(stream, shared).await,
        _ => serve_requests(stream, shared).await,
    }
}

/// Returns whether the peer begins with the preface of HTTP/2.
async fn is_http2(stream: &TcpStream) -> bool {
    let mut start = [0; 3];
    loop {
        match stream.peek(&mut start).await {
            Ok(3) => return start == *b"PRI",
            Ok(1..) => tokio::task::yield_now().await,
            _ => return false,
        }
    }
}

/// Serves calls of gRPC like [`serve_requests`]. A port for TLS has no connections of another kind.
async fn serve_calls(stream: TcpStream, shared: Arc<Shared>) {
    let mut mood = shared.mood.subscribe();
    let change = async {
        let changed = mood.wait_for(|mood| matches!(mood, Mood::Down | Mood::SpeaksTls)).await;
        changed.is_ok_and(|mood| *mood == Mood::Down)
    };
    let service = service_fn(|request| Arc::clone(&shared).answer(request));
    let http2 = http2::Builder::new(TokioExecutor::new());
    let mut conversation = pin!(http2.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = conversation.as_mut() => {}
        is_down = change => if is_down {
            conversation.as_mut().graceful_shutdown();
            conversation.await.ok();
        }
    }
}

async fn serve_requests(stream: TcpStream, shared: Arc<Shared>) {
    let mut mood = shared.mood.subscribe();
    let down = async {
        mood.wait_for(|mood| *mood == Mood::Down).await.ok();
    };
    let service = service_fn(|request| Arc::clone(&shared).answer(request));
    let mut conversation = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    // A broken connection ends with an error.
    tokio::select! {
        _ = conversation.as_mut() => {}
        () = down => {
            conversation.as_mut().graceful_shutdown();
            conversation.await.ok();
        }
    }
}

/// Responds with an alert to a handshake, and as a TLS port does to plain HTTP.
async fn speak_tls(mut stream: TcpStream, shared: &Shared) {
    let mut beginning = [0; 16 * 1024];
    let Ok(1..) = stream.read(&mut beginning).await else { return };
    let is_handshake = beginning[0] == 22;
    let answer: &[u8] = match is_handshake {
        true => &[21, 3, 3, 0, 2, 2, 40],
        false => b"HTTP/1.0 400 Bad Request\r\n\r\nplain HTTP was sent to a port for TLS\n",
    };
    let written = stream.write_all(answer).await;
    if written.is_ok() && !is_handshake {
        shared.refuse(Vec::new());
    }
}

/// A request, and its body as it came.
struct Read {
    request: Recorded,
    body: Bytes,
}

/// Reads a request; fails for a truncated one, which is not recorded.
async fn read(request: Request<Incoming>) -> Result<Read, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let request = match head.headers[CONTENT_TYPE] == "application/json" {
        false => calls::as_request(head.uri.path(), head.headers, &body),
        true => {
            let path = head.uri.to_string();
            Recorded { method: head.method, path, headers: head.headers, body: body.clone() }
        }
    };
    Ok(Read { request, body })
}

fn whole(body: &'static str) -> AnswerBody {
    Full::from(body).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn status(status: u16, retry_after: Option<&str>) -> Response<AnswerBody> {
    let mut response = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    response.body(whole("")).unwrap()
}
