//! The server over real sockets, with a relay whose receivers read what the test says.

mod bodies;
mod bound;
mod connections;
pub(super) mod encoders;
mod floods;
mod otlp;
mod routes;
mod tls;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Pages, RouteState, Shutdown, Terms, serve, stack};
use crate::budget::Budget;
use crate::config::{Config, Environment, RateLimitConfig, ReceiversConfig, ServerConfig};
use crate::otlp::LineReader;
use crate::processor::Work;
use crate::queue::{MemoryQueue, Queue};
use crate::receiver::{
    Identity, Item, Limits, Page, PageText, Passage, RECEIVERS, Reading, Receiver, Unauthorized, build,
};
use crate::rejected::RejectedLines;
use crate::relay::{Instance, RateLimit, Relay};
use crate::telemetry::Metrics;
use crate::telemetry::logging::tests::Captured;

const MIB: usize = 1024 * 1024;
/// Longer than any test takes: a test that waits this long fails.
const AGES: Duration = Duration::from_secs(3600);

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

/// A relay whose receivers read what it says, whatever the body. Webhooks that are `forged` do not verify.
struct Script {
    /// Configuration of the receivers; `AUTH` becomes the token `yes` if `asks_authorization` is set.
    receivers: &'static str,
    asks_authorization: bool,
    /// Number of requests after which requests are throttled.
    tokens: usize,
    /// Bytes that the queue holds.
    queue_bytes: u64,
    /// Result of reading any body. By default there is nothing in it, which is a success.
    reading: Box<dyn Fn() -> Reading + Send + Sync>,
}

/// A receiver that reads what the script says.
struct Scripted {
    inner: Arc<dyn Receiver>,
    script: Arc<Script>,
    taken: Taken,
}

/// Paths of receivers, and the bodies that they read.
type Taken = Arc<Mutex<Vec<(&'static str, Bytes)>>>;

/// A running server.
struct House {
    addr: SocketAddr,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
    taken: Taken,
    metrics: Metrics,
    /// Work that the relay accepted, which stays in the queue.
    _accepted: UnboundedReceiver<Vec<Work>>,
    _directory: TempDir,
}

/// A gate at which requests wait, and which reports their arrival. Dropping it lets all of them pass.
#[derive(Default)]
struct Gate {
    entered: Arc<Notify>,
    open: Arc<Notify>,
    gone: CancellationToken,
}

/// One response, as received.
#[derive(Debug)]
struct Seen {
    status: u16,
    head: String,
    body: String,
}

struct Client<S = TcpStream>(S);

// === impl Script ===

impl Default for Script {
    fn default() -> Self {
        Self {
            receivers: "{circleci: {allow_unsigned: true}, fastly: {AUTH}, fastly/www: {path: /www, AUTH}}",
            asks_authorization: false,
            tokens: usize::MAX,
            queue_bytes: MIB as u64,
            reading: Box::new(Reading::default),
        }
    }
}

impl Script {
    fn reading(reading: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        Self { reading: Box::new(reading), ..Self::default() }
    }

    /// Requests wait while they are read: the connection itself does with a small body, a blocking thread with a [`large`] one.
    fn waiting_at(gate: &Gate) -> Self {
        let (entered, open, gone) = (Arc::clone(&gate.entered), Arc::clone(&gate.open), gate.gone.clone());
        Self::reading(move || {
            let mut opens = std::pin::pin!(open.notified());
            // Registered first: the gate may be opened at once.
            opens.as_mut().enable();
            entered.notify_one();
            let opens = gone.run_until_cancelled(opens);
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(opens));
            Reading::default()
        })
    }

    /// Returns the receivers, which share one rate limit.
    fn instances(self, taken: &Taken) -> Vec<Instance> {
        let limit = RateLimitConfig { requests_per_second: 1.0 / 7.0, burst: self.tokens };
        let rate_limit = (self.tokens < usize::MAX).then(|| Arc::new(RateLimit::new(limit)));
        let auth = if self.asks_authorization { "auth: {values: [yes]}" } else { "" };
        let yaml = format!("receivers: {}", self.receivers.replace("AUTH", auth));
        let config = Config::from_yaml(&yaml, &Environment::empty(), RECEIVERS).unwrap();
        let limits = Limits::of(&config.server, &config.processors);
        let script = Arc::new(self);
        let receivers = config.receivers.iter().flat_map(|section| build(section, &limits));
        let scripted = |inner| Scripted { inner, script: Arc::clone(&script), taken: Arc::clone(taken) };
        receivers
            .map(|inner| Instance { receiver: Arc::new(scripted(inner)), rate_limit: rate_limit.clone() })
            .collect()
    }
}

/// Returns the reading of a body with this many good units.
fn accepted(units: u32) -> Reading {
    let line = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331"}]}]}]}"#;
    let item = |line_number| Item {
        line: line_number,
        traces: LineReader::default().read(&Bytes::from(line)).unwrap().traces,
        logs: None,
        metrics: None,
        protobuf: None,
        repairs: Vec::new(),
        passage: Passage::Joined,
    };
    Reading { items: (1..=units).map(item).collect(), ..Reading::default() }
}

// === impl Scripted ===

impl Receiver for Scripted {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }

    fn verify(&self, _: &HeaderMap, wire: &[u8]) -> Result<(), Unauthorized> {
        if wire == b"forged" {
            return Err(Unauthorized("the signature is missing or wrong"));
        }
        Ok(())
    }

    fn read(&self, body: &Bytes) -> Reading {
        self.taken.lock().unwrap().push((self.path().to_owned().leak(), body.clone()));
        (self.script.reading)()
    }
}

// === impl Gate ===

impl Drop for Gate {
    fn drop(&mut self) {
        self.gone.cancel();
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

/// The script of a server's relay, and the rest of its state.
struct Setup {
    script: Script,
    pages: Pages,
    inflight: Budget,
    config: ServerConfig,
    terms: Terms,
    grace: Duration,
}

impl Setup {
    fn new(script: Script, config: ServerConfig) -> Self {
        Self {
            script,
            pages: pages([(&TRACEPARENT, true), (&PROOF, true)]),
            inflight: Budget::new(4 * MIB as u64),
            terms: Terms::plain(config.header_timeout, 64),
            config,
            grace: AGES,
        }
    }

    async fn open(self) -> House {
        let Self { script, pages, inflight, config, terms, grace } = self;
        let listener = TcpListener::bind(config.endpoint).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (metrics, shutdown, directory) =
            (Metrics::new(), CancellationToken::new(), tempfile::tempdir().unwrap());
        let queue = Queue::Memory(MemoryQueue::new(script.queue_bytes, metrics.clone()));
        let rejected = Arc::new(RejectedLines::new(directory.path(), MIB as u64, metrics.clone()));
        #[expect(clippy::disallowed_methods, reason = "the queue bounds it")]
        let (work, accepted) = tokio::sync::mpsc::unbounded_channel();
        let taken = Arc::default();
        let instances = script.instances(&taken);
        let relay = Relay::new(instances, queue, rejected, work, metrics.clone(), inflight.clone());
        let state = RouteState { relay: Arc::new(relay), pages, metrics: metrics.clone(), inflight };
        let terms = Terms { metrics: Some(metrics.clone()), ..terms };
        let service = stack(state, &config);
        let told = Shutdown { token: shutdown.clone(), grace };
        let served = tokio::spawn(serve(listener, service, terms, told));
        House { addr, shutdown, served, taken, metrics, _accepted: accepted, _directory: directory }
    }
}

impl House {
    async fn open(script: Script, config: ServerConfig) -> Self {
        Setup::new(script, config).open().await
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

    /// Returns how many responses with this code were counted for this receiver.
    fn counted(&self, code: u16, receiver: &str) -> Option<u64> {
        self.metric(&format!("spanrelay_requests_total{{code=\"{code}\",receiver=\"{receiver}\"}} "))
    }

    /// Returns how many requests were shed for this receiver.
    fn shed(&self, receiver: &str) -> Option<u64> {
        self.metric(&format!("spanrelay_overloaded_requests_total{{receiver=\"{receiver}\"}} "))
    }

    fn metric(&self, series: &str) -> Option<u64> {
        let text = String::from_utf8(self.metrics.render()).unwrap();
        text.lines().find_map(|line| line.strip_prefix(series)?.parse().ok())
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

/// Returns the log lines about requests that were not accepted.
fn declined(captured: &Captured) -> Vec<Value> {
    let lines = captured.text();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["message"] == "request rejected").collect()
}

/// Returns the causes in log lines about requests that were not accepted.
fn causes(captured: &Captured) -> Vec<String> {
    declined(captured).iter().map(|line| line["cause"].as_str().unwrap().to_owned()).collect()
}

fn get(path: &str) -> String {
    request("GET", path, "")
}

/// Returns a body that is not read in place.
fn large() -> String {
    " ".repeat(MIB / 2)
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
