//! The server over real sockets, with a fake relay.

mod bodies;
mod bound;
mod connections;
pub(super) mod encoders;
mod floods;
mod otlp;
mod routes;
mod tls;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::routes::Ingest;
use super::{Pages, RouteState, Shutdown, Terms, serve, stack};
use crate::budget::{Budget, ChargedBody};
use crate::config::{Encoding, ReceiversConfig, ServerConfig};
use crate::receiver::{Page, PageText, Policy, Requests, Unauthorized, at_root};
use crate::relay::{Answer, Cause, Declined, Throttled};
use crate::telemetry::Metrics;
use crate::telemetry::traces::OwnSpan;

const MIB: usize = 1024 * 1024;
/// Longer than any test takes: a test that waits this long fails.
const AGES: Duration = Duration::from_secs(3600);

const FASTLY: Policy = Policy { source: "fastly", requests: Requests::Batches { put: true }, otlp: None };
const CIRCLECI: Policy = Policy { source: "circleci", requests: Requests::Webhooks(&[]), otlp: None };

const TRACEPARENT: Page = Page {
    name: "traceparent",
    path: "/traceparent",
    template: "/traceparent/{workflow}/{job}",
    text: PageText::Shell(|ids| Some(format!("export TRACEPARENT={}\n", ids.strip_prefix("w/")?))),
};

/// Fastly's challenge.
const PROOF: Page = Page {
    name: "challenge",
    path: "/.well-known/fastly/logging/challenge",
    template: "/.well-known/fastly/logging/challenge",
    text: PageText::Fixed(|_| "*\n".to_owned()),
};

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A relay with the receivers of `paths`, as path and policy. Clients authenticate with `authorization: yes`; bodies that
/// contain `forged` do not verify.
struct Fake {
    paths: Vec<(&'static str, Policy)>,
    asks_authorization: bool,
    /// Number of requests after which requests are throttled.
    tokens: AtomicUsize,
    answer: Box<dyn Fn() -> Answering + Send + Sync>,
    taken: Arc<Mutex<Vec<(&'static str, Bytes)>>>,
    declined: Arc<Mutex<Vec<Declined>>>,
}

/// A running server.
struct House {
    addr: SocketAddr,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
    taken: Arc<Mutex<Vec<(&'static str, Bytes)>>>,
    /// Rejections that were reported to the relay.
    declined: Arc<Mutex<Vec<Declined>>>,
    metrics: Metrics,
}

/// A gate at which requests wait, and which reports their arrival.
#[derive(Clone, Default)]
struct Gate {
    entered: Arc<Notify>,
    open: Arc<Notify>,
}

/// One response, as received.
#[derive(Debug)]
struct Seen {
    status: u16,
    head: String,
    body: String,
}

struct Client<S = TcpStream>(S);

// === impl Fake ===

impl Default for Fake {
    fn default() -> Self {
        Self {
            paths: vec![("/circleci", CIRCLECI), ("/fastly", FASTLY), ("/www", FASTLY)],
            asks_authorization: false,
            tokens: AtomicUsize::new(usize::MAX),
            answer: Box::new(|| Box::pin(async { Answer::Accepted })),
            taken: Arc::default(),
            declined: Arc::default(),
        }
    }
}

impl Fake {
    fn answering(answer: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        let answer = move || -> Answering {
            let answer = Arc::clone(&answer);
            Box::pin(async move { answer() })
        };
        Self { answer: Box::new(answer), ..Self::default() }
    }

    fn waiting_at(gate: &Gate) -> Self {
        let gate = gate.clone();
        let answer = move || -> Answering {
            let gate = gate.clone();
            Box::pin(async move {
                gate.entered.notify_one();
                gate.open.notified().await;
                Answer::Accepted
            })
        };
        Self { answer: Box::new(answer), ..Self::default() }
    }
}

impl Ingest for Fake {
    type Receiver = usize;

    fn receiver_at(&self, path: &str) -> Option<usize> {
        self.paths.iter().position(|(known, _)| *known == path)
    }

    fn receiver_at_root(&self, headers: &HeaderMap) -> Option<usize> {
        let source = at_root(headers)?.name();
        self.paths.iter().position(|(_, policy)| policy.source == source)
    }

    fn policy(&self, receiver: usize) -> Policy {
        self.paths[receiver].1
    }

    fn admit(&self, _: usize, headers: &HeaderMap) -> Result<(), Unauthorized> {
        if self.asks_authorization && headers.get("authorization").is_none_or(|value| value != "yes") {
            return Err(Unauthorized("the authorization header is missing or wrong"));
        }
        Ok(())
    }

    fn throttle(&self, _: usize) -> Result<(), Throttled> {
        let take = |tokens: usize| tokens.checked_sub(1);
        let taken = self.tokens.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        taken.map(drop).map_err(|_| Throttled { retry_after_seconds: 7 })
    }

    fn receiver_id(&self, receiver: usize) -> String {
        self.paths[receiver].0.trim_start_matches('/').to_owned()
    }

    fn declined(&self, _: Option<usize>, declined: Declined) {
        self.declined.lock().unwrap().push(declined);
    }

    fn verify(&self, _: usize, _: &HeaderMap, wire: &[u8]) -> Result<(), Unauthorized> {
        if wire == b"forged" {
            return Err(Unauthorized("the signature is missing or wrong"));
        }
        Ok(())
    }

    async fn receive(
        &self,
        receiver: usize,
        _: Encoding,
        _: &HeaderMap,
        ChargedBody { bytes: body, charge }: ChargedBody,
        _: &OwnSpan,
    ) -> Answer {
        assert_eq!(charge.bytes(), body.len() as u64);
        self.taken.lock().unwrap().push((self.paths[receiver].0, body));
        (self.answer)().await
    }
}

// === impl House ===

fn config() -> ServerConfig {
    ServerConfig {
        endpoint: SocketAddr::from(([127, 0, 0, 1], 0)),
        max_request_body_size: MIB as u64,
        max_grpc_message_size: 4 << 20,
        max_line_size: MIB as u64,
        max_concurrent_requests: 16,
        max_connections: None,
        max_inflight_bytes: 4 * MIB as u64,
        header_timeout: AGES,
        body_timeout: AGES,
        request_timeout: AGES,
        tls: None,
    }
}

/// Pages, each with whether its source is configured.
fn pages<const N: usize>(pages: [(&'static Page, bool); N]) -> Pages {
    Pages::of(pages, &ReceiversConfig::default())
}

fn route_state(ingest: Fake) -> RouteState<Fake> {
    RouteState {
        ingest,
        pages: pages([(&TRACEPARENT, true), (&PROOF, true)]),
        metrics: Metrics::new(),
        inflight: Budget::new(4 * MIB as u64),
    }
}

impl House {
    async fn open(ingest: Fake, config: ServerConfig) -> Self {
        Self::with_state(route_state(ingest), config, AGES).await
    }

    async fn with_state(state: RouteState<Fake>, config: ServerConfig, grace: Duration) -> Self {
        let terms = Terms::plain(config.header_timeout, 64);
        Self::with_terms(state, config, terms, grace).await
    }

    async fn with_terms(
        state: RouteState<Fake>,
        config: ServerConfig,
        terms: Terms,
        grace: Duration,
    ) -> Self {
        let listener = TcpListener::bind(config.endpoint).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let (taken, declined) = (Arc::clone(&state.ingest.taken), Arc::clone(&state.ingest.declined));
        let metrics = state.metrics.clone();
        let terms = Terms { metrics: Some(metrics.clone()), ..terms };
        let service = stack(state, &config);
        let told = Shutdown { token: shutdown.clone(), grace };
        let served = tokio::spawn(serve(listener, service, terms, told));
        Self { addr, shutdown, served, taken, declined, metrics }
    }

    async fn client(&self) -> Client {
        Client(TcpStream::connect(self.addr).await.unwrap())
    }

    /// Sends one request on a connection of its own.
    async fn ask(&self, request: impl AsRef<[u8]>) -> Seen {
        let mut client = self.client().await;
        client.write(request).await;
        client.read().await
    }

    /// Returns the causes of rejections since the last call.
    fn causes(&self) -> Vec<Cause> {
        self.declined.lock().unwrap().drain(..).map(|declined| declined.cause).collect()
    }

    /// Returns how many responses with this code were counted for this receiver.
    fn counted(&self, code: u16, receiver: &str) -> Option<u64> {
        let text = String::from_utf8(self.metrics.render()).unwrap();
        let series = format!("spanrelay_requests_total{{code=\"{code}\",receiver=\"{receiver}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
    }

    fn taken(&self) -> Vec<(&'static str, Bytes)> {
        self.taken.lock().unwrap().clone()
    }
}

// === impl Client ===

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads the next response. Use `read_head` for a response to HEAD.
    async fn read(&mut self) -> Seen {
        let mut seen = self.read_head().await;
        let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        seen.body = String::from_utf8(body).unwrap();
        seen
    }

    async fn read_head(&mut self) -> Seen {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("a response and not the end of the connection"));
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Seen { status, head, body: String::new() }
    }

    /// Waits for the end of the connection, and returns whether nothing was received before it. A reset counts as an
    /// end.
    async fn closes(self) -> bool {
        self.ends().await.is_empty()
    }

    /// Returns the bytes before the end of the connection.
    async fn ends(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest).await {
            Ok(_) => rest,
            Err(_) => Vec::new(),
        }
    }
}

// === impl Seen ===

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn reason(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        body["reason"].as_str().unwrap().to_owned()
    }
}

fn get(path: &str) -> String {
    request("GET", path, "")
}

fn post(path: &str, body: &str) -> String {
    request("POST", path, body)
}

fn request(method: &str, path: &str, body: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: relay\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn post_with(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: relay\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}
