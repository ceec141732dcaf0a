//! A collector that records requests, responds as configured, and reports unexpected ones.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use super::{in_time, listen_again};

/// A received request.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) method: Method,
    /// Path with the query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Behaviour of the collector for a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Say {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Bytes,
    },
    /// Responds `{}` once the gate lets it pass.
    WaitAt(Gate),
    /// Sends the headers of a 200 and a part of its body, then closes the connection.
    BreakOff,
    /// Closes the connection without a response.
    Close,
}

/// A gate that responses pass one by one; shows how many wait.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

/// A collector on a free port.
pub(crate) struct Collector {
    address: SocketAddr,
    state: Arc<State>,
    finished: bool,
}

#[derive(Default)]
struct State {
    books: Mutex<Books>,
    came: Notify,
}

#[derive(Default)]
struct Books {
    requests: VecDeque<Recorded>,
    answers: VecDeque<Answer>,
    /// Behaviour when no response was prepared.
    judge: Option<Arc<Judge>>,
    /// Requests that do not look like an export at all.
    strange: Vec<String>,
    /// Number of connections that get something other than HTTP.
    rude_connections: usize,
}

type Judge = dyn Fn(&Recorded) -> Answer + Send + Sync;
type AnswerBody = UnsyncBoxBody<Bytes, io::Error>;

// === impl Collector ===

impl Collector {
    /// Gives these responses to the first requests, and accepts all others.
    pub(crate) async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::on(
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            Books { answers: answers.into_iter().collect(), ..Books::default() },
        )
    }

    /// Does not speak HTTP on the first connections.
    pub(crate) async fn rude_at_first(rude_connections: usize) -> Self {
        Self::on(
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            Books { rude_connections, ..Books::default() },
        )
    }

    /// Chooses the response by the request.
    pub(crate) async fn judging(judge: impl Fn(&Recorded) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, Books { judge: Some(Arc::new(judge)), ..Books::default() })
    }

    /// Listens on a given address.
    pub(crate) async fn at(address: SocketAddr) -> Self {
        Self::on(listen_again(address).await, Books::default())
    }

    fn on(listener: TcpListener, books: Books) -> Self {
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { books: Mutex::new(books), came: Notify::new() });
        tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, finished: false }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Removes and returns the next requests, in the order of their arrival.
    pub(crate) async fn take(&self, count: usize) -> Vec<Recorded> {
        let all_there = async {
            loop {
                let came = self.state.came.notified();
                {
                    let mut books = self.state.books();
                    if books.requests.len() >= count {
                        return books.requests.drain(..count).collect();
                    }
                }
                came.await;
            }
        };
        in_time(&format!("the collector gets {count} requests"), all_there).await
    }

    /// Removes and returns all requests that were not taken.
    pub(crate) fn take_rest(&self) -> Vec<Recorded> {
        self.state.books().requests.drain(..).collect()
    }

    /// Forgets the requests so far and lets `change` alter what the judge sees, with no request in between.
    #[cfg(feature = "kafka")]
    pub(crate) fn forget_before(&self, change: impl FnOnce()) {
        let mut books = self.state.books();
        books.requests.clear();
        change();
    }

    /// Takes all requests, returns their number, and forgets the unused responses of a test that prepared more than it
    /// needs.
    pub(crate) fn forget_answers(&self) -> usize {
        self.state.books().answers.clear();
        self.take_rest().len()
    }

    /// Returns the number of requests that were not taken.
    pub(crate) fn waiting(&self) -> usize {
        self.state.books().requests.len()
    }

    /// Checks that the test took all requests, and that every prepared response was given.
    pub(crate) fn finish(mut self) {
        self.finished = true;
        let books = self.state.books();
        assert!(books.requests.is_empty(), "not expected: {:#?}", books.requests);
        assert!(books.strange.is_empty(), "no exports: {:?}", books.strange);
        assert!(books.answers.is_empty(), "answers that were never asked for: {:?}", books.answers);
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if !self.finished && !std::thread::panicking() {
            panic!("the test ended without checking for further requests");
        }
    }
}

impl State {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }
}

// === impl Gate ===

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets one response pass.
    pub(crate) fn let_one_pass(&self) {
        self.0.add_permits(1);
    }

    /// Lets all responses pass from now on.
    pub(crate) fn open(&self) {
        self.0.close();
    }

    async fn pass(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

// === impl Answer ===

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self::Say { status, headers: Vec::new(), body: Bytes::new() }
    }

    pub(crate) fn retry_after(status: u16, value: &str) -> Self {
        Self::Say { status, headers: vec![("retry-after", value.to_owned())], body: Bytes::new() }
    }

    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::typed(status, "application/json", body.to_owned().into_bytes())
    }

    pub(crate) fn typed(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        Self::Say { status, headers: vec![("content-type", content_type.to_owned())], body: body.into() }
    }

    pub(super) async fn into_response(self) -> Result<Response<AnswerBody>, io::Error> {
        let whole = |body: Bytes| Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync();
        match self {
            Self::Say { status, headers, body } => {
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                Ok(response.body(whole(body)).unwrap())
            }
            Self::WaitAt(gate) => {
                gate.pass().await;
                Ok(Response::new(whole(Bytes::from_static(b"{}"))))
            }
            Self::BreakOff => {
                let part = stream::iter([Ok(Frame::data(Bytes::from_static(b"{\"partialSu")))]);
                // The server writes its buffered data while the body has none.
                let end = stream::once(async {
                    tokio::task::yield_now().await;
                    Err(io::Error::other("broken off"))
                });
                Ok(Response::new(StreamBody::new(part.chain(end)).boxed_unsync()))
            }
            Self::Close => Err(io::Error::other("closed")),
        }
    }
}

// === impl Recorded ===

impl Recorded {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().unwrap()
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        let is_rude = {
            let mut books = state.books();
            let is_rude = books.rude_connections > 0;
            books.rude_connections = books.rude_connections.saturating_sub(1);
            is_rude
        };
        let state = Arc::clone(&state);
        tokio::spawn(
            async move { if is_rude { be_rude(&mut stream).await } else { serve(stream, state).await } },
        );
    }
}

/// Sends bytes of another protocol.
async fn be_rude(stream: &mut TcpStream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // The relay may have closed the connection.
    stream.read_u8().await.ok();
    stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await.ok();
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(|request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let Some(request) = record(request).await else { return Err(io::Error::other("cut short")) };
            let answer = {
                let mut books = state.books();
                let prepared = books.answers.pop_front();
                let judged = || books.judge.as_ref().map(|judge| judge(&request));
                let answer = prepared.or_else(judged);
                if request.method != Method::POST || !request.headers.contains_key("content-type") {
                    books.strange.push(format!("{} {}", request.method, request.path));
                }
                books.requests.push_back(request);
                answer
            };
            state.came.notify_waiters();
            answer.unwrap_or_else(|| Answer::json(200, "{}")).into_response().await
        }
    });
    // A response that closes the connection ends it with an error.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

/// Reads a request; `None` for a truncated one.
pub(super) async fn record(request: Request<Incoming>) -> Option<Recorded> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    Some(Recorded { method: head.method, path: head.uri.to_string(), headers: head.headers, body })
}
