//! Routing of requests, and the steps of a request with data.
//!
//! In: the headers of a request and an unread body. Out: the response.
//! Promises: a request is rejected as early as its headers allow; the challenge, the index and `/traceparent` always
//! respond, whatever the load.
//! Left to others: the layers around every request ([`stack`](mod@super::stack)), texts and statuses of responses
//! ([`super::reply`]).

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tracing::Span;

use super::body::{self, BodyLimits, Inbound};
use super::dialect::{Dialect, UnknownMediaType};
use super::head::{self, MalformedHead};
use super::refused::Refused;
use super::reply::{self, Reply};
use crate::config::{Encoding, ServerConfig};
use crate::event::SourceKind;
use crate::receiver::Unauthorized;
use crate::relay::{Answer, Cause, Declined, ReceiverIndex, Relay, Throttled};
use crate::telemetry::Metrics;
use crate::telemetry::traces::{OwnSpan, Traces};

pub(super) const CHALLENGE_PATH: &str = "/.well-known/fastly/logging/challenge";
const TRACEPARENT_PATH: &str = "/traceparent";
const WRONG_PATH: &str = "set the path in the URL of the logging endpoint or webhook to that of a receiver";
/// Maximum size of a webhook. Its signature covers the body, so that the body of an unauthenticated client must be read
/// before it can be rejected. Real webhooks have a few kilobytes.
pub(super) const WEBHOOK_MAX_BYTES: u64 = 1024 * 1024;
/// Inverse of the share of permits that webhooks may take: an unauthenticated client can send them as slowly as
/// `body_timeout` allows, and batches with a token must still be accepted.
const WEBHOOKS_ONE_IN: usize = 2;
const INDEX: &str = concat!("spanrelay ", env!("CARGO_PKG_VERSION"), "\n");

/// Function that returns the line for a workflow id and a job id, or `None` when they are invalid.
pub(crate) type Traceparent = fn(&str, &str) -> Option<String>;

/// State that the routes share with the application.
#[derive(Clone)]
pub(crate) struct RouteState<I> {
    pub(crate) ingest: I,
    /// Response to Fastly's challenge; `None` without a fastly receiver.
    pub(crate) challenge: Option<Challenge>,
    /// `None` without a circleci receiver.
    pub(crate) traceparent: Option<Traceparent>,
    /// Metrics, which count every response, and self-tracing.
    pub(crate) metrics: Metrics,
}

/// Response to Fastly's challenge, which a reload may replace. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Challenge(Arc<RwLock<Bytes>>);

/// Consumer of request bodies: the interface to the relay.
pub(crate) trait Ingest: Send + Sync + 'static {
    /// A configured receiver.
    type Receiver: Copy + Send + Sync + 'static;

    fn receiver_at(&self, path: &str) -> Option<Self::Receiver>;
    fn receiver_of_kind(&self, kind: SourceKind) -> Option<Self::Receiver>;
    fn kind(&self, receiver: Self::Receiver) -> SourceKind;
    fn admit(&self, receiver: Self::Receiver, headers: &HeaderMap) -> Result<(), Unauthorized>;
    fn throttle(&self, receiver: Self::Receiver) -> Result<(), Throttled>;
    /// Returns the configured id of a receiver.
    fn receiver_id(&self, receiver: Self::Receiver) -> String;
    fn verify(&self, receiver: Self::Receiver, headers: &HeaderMap, wire: &[u8]) -> Result<(), Unauthorized>;
    fn receive(
        &self,
        receiver: Self::Receiver,
        encoding: Encoding,
        headers: &HeaderMap,
        body: Bytes,
        span: &OwnSpan,
    ) -> impl Future<Output = Answer> + Send;

    /// Reports a request that reached no receiver, or ended before its receiver read the body.
    fn declined(&self, receiver: Option<Self::Receiver>, declined: Declined);
}

/// The routes, and the state that their requests share.
pub(super) struct Routes<I> {
    state: RouteState<I>,
    limits: BodyLimits,
    request_timeout: Duration,
    /// Permits for requests with data.
    slots: Semaphore,
    /// Permits for webhooks, in addition to one of `slots`.
    webhook_slots: Semaphore,
}

/// Permits that a request holds while it is in progress.
struct Slot<'a> {
    _any: SemaphorePermit<'a>,
    _webhook: Option<SemaphorePermit<'a>>,
}

/// Destination of a path. Logs show its name instead of the path, which the client chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<R> {
    Index,
    Challenge,
    Traceparent,
    /// A receiver at its own path, and its kind.
    Receiver(R, SourceKind),
    Unknown,
}

// === impl Challenge ===

impl Challenge {
    pub(crate) fn new(text: Bytes) -> Self {
        Self(Arc::new(RwLock::new(text)))
    }

    pub(crate) fn replace(&self, text: Bytes) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn text(&self) -> Bytes {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

// === impl Ingest for the relay ===

impl Ingest for Arc<Relay> {
    type Receiver = ReceiverIndex;

    fn receiver_at(&self, path: &str) -> Option<ReceiverIndex> {
        Relay::receiver_at(self, path)
    }

    fn receiver_of_kind(&self, kind: SourceKind) -> Option<ReceiverIndex> {
        Relay::receiver_of_kind(self, kind)
    }

    fn kind(&self, receiver: ReceiverIndex) -> SourceKind {
        Relay::kind(self, receiver)
    }

    fn admit(&self, receiver: ReceiverIndex, headers: &HeaderMap) -> Result<(), Unauthorized> {
        Relay::admit(self, receiver, headers)
    }

    fn throttle(&self, receiver: ReceiverIndex) -> Result<(), Throttled> {
        Relay::throttle(self, receiver)
    }

    fn receiver_id(&self, receiver: ReceiverIndex) -> String {
        Relay::receiver_id(self, receiver)
    }

    fn verify(&self, receiver: ReceiverIndex, headers: &HeaderMap, wire: &[u8]) -> Result<(), Unauthorized> {
        Relay::verify(self, receiver, headers, wire)
    }

    fn receive(
        &self,
        receiver: ReceiverIndex,
        encoding: Encoding,
        headers: &HeaderMap,
        body: Bytes,
        span: &OwnSpan,
    ) -> impl Future<Output = Answer> + Send {
        Relay::receive(self, receiver, encoding, headers, body, span)
    }

    fn declined(&self, receiver: Option<ReceiverIndex>, declined: Declined) {
        Relay::declined(self, receiver, declined);
    }
}

// === impl Route ===

impl<R> Route<R> {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Challenge => "challenge",
            Self::Traceparent => "traceparent",
            Self::Receiver(_, kind) => kind.as_str(),
            Self::Unknown => "unknown",
        }
    }
}

// === impl Routes ===

impl<I: Ingest> Routes<I> {
    pub(super) fn new(state: RouteState<I>, config: &ServerConfig) -> Self {
        let slots = config.max_concurrent_requests.min(Semaphore::MAX_PERMITS);
        Self {
            state,
            limits: BodyLimits { max_bytes: config.max_request_body_size, timeout: config.body_timeout },
            request_timeout: config.request_timeout,
            slots: Semaphore::new(slots),
            webhook_slots: Semaphore::new((slots / WEBHOOKS_ONE_IN).max(1)),
        }
    }

    /// Returns the destination of a request, whether or not its method is allowed there. A trailing slash is tolerated,
    /// but a path that is configured with one takes precedence.
    pub(super) fn route(&self, method: &Method, path: &str, headers: &HeaderMap) -> Route<I::Receiver> {
        match (self.route_to(method, path, headers), without_trailing_slash(path)) {
            (Route::Unknown, shorter) if shorter != path => self.route_to(method, shorter, headers),
            (route, _) => route,
        }
    }

    fn route_to(&self, method: &Method, path: &str, headers: &HeaderMap) -> Route<I::Receiver> {
        let receiver = |receiver| Route::Receiver(receiver, self.state.ingest.kind(receiver));
        match path {
            "/" if *method == Method::POST => self.receiver_at_root(headers).map_or(Route::Index, receiver),
            "/" if *method == Method::PUT => {
                self.state.ingest.receiver_at("/").map_or(Route::Index, receiver)
            }
            "/" => Route::Index,
            CHALLENGE_PATH if self.state.challenge.is_some() => Route::Challenge,
            path if is_traceparent(path) => Route::Traceparent,
            path => self.state.ingest.receiver_at(path).map_or(Route::Unknown, receiver),
        }
    }

    /// Returns the receiver for `POST /`, where both predecessors accepted everything; only webhooks have these
    /// headers.
    fn receiver_at_root(&self, headers: &HeaderMap) -> Option<I::Receiver> {
        let ingest = &self.state.ingest;
        if headers.contains_key("circleci-signature") || headers.contains_key("circleci-event-type") {
            return ingest.receiver_of_kind(SourceKind::CircleCi);
        }
        ingest.receiver_at("/").or_else(|| ingest.receiver_of_kind(SourceKind::Fastly))
    }

    /// Returns the handle of self-tracing.
    pub(super) fn traces(&self) -> &Traces {
        &self.state.metrics.traces
    }

    /// Counts a response.
    pub(super) fn count(&self, route: Route<I::Receiver>, status: StatusCode) {
        let receiver = match route {
            Route::Receiver(receiver, _) => Some(self.state.ingest.receiver_id(receiver)),
            _ => None,
        };
        self.state.metrics.request(receiver.as_deref(), status);
    }

    /// Returns the response to a request whose self-tracing span is `span`.
    pub(super) async fn reply(
        &self,
        route: Route<I::Receiver>,
        request: Request<Inbound>,
        span: &OwnSpan,
    ) -> Reply {
        let (parts, body) = request.into_parts();
        if let Err(malformed) = head::check_host(parts.version, &parts.headers) {
            return self.malformed(route, &parts, malformed);
        }
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        match route {
            Route::Index if reads => reply::text(INDEX),
            // A receiver for this request would have been found by `route`.
            Route::Index if parts.method == Method::POST => reply::not_found(),
            Route::Index => reply::method_not_allowed("GET, HEAD, POST"),
            Route::Challenge if reads => {
                reply::text(self.state.challenge.as_ref().map(Challenge::text).unwrap_or_default())
            }
            Route::Challenge => reply::method_not_allowed("GET, HEAD"),
            Route::Traceparent => self.traceparent(&parts),
            Route::Receiver(receiver, kind) => self.receiver(receiver, kind, &parts, body, span).await,
            Route::Unknown => self.not_found(&parts),
        }
    }

    fn malformed(&self, route: Route<I::Receiver>, parts: &Parts, malformed: MalformedHead) -> Reply {
        let (receiver, dialect) = match route {
            Route::Receiver(receiver, kind) => (Some(receiver), Dialect::of(kind, &parts.headers).ok()),
            _ => (None, None),
        };
        let declined = Declined {
            cause: Cause::MalformedHead,
            reason: malformed.to_string(),
            request: None,
            key: None,
            remedy: None,
        };
        self.state.ingest.declined(receiver, declined);
        reply::malformed_head(malformed, parts.version, dialect.unwrap_or(Dialect::Own))
    }

    /// Responds for an unknown path. A client that sends data there has the wrong path in a logging endpoint or a
    /// webhook.
    fn not_found(&self, parts: &Parts) -> Reply {
        if matches!(parts.method, Method::POST | Method::PUT) {
            let declined = Declined {
                cause: Cause::UnknownPath,
                reason: "no receiver has this path".to_owned(),
                request: Some(format!("{} {}", parts.method, parts.uri.path())),
                key: None,
                remedy: Some(WRONG_PATH.into()),
            };
            self.state.ingest.declined(None, declined);
        }
        reply::not_found()
    }

    fn traceparent(&self, parts: &Parts) -> Reply {
        let Some(traceparent) = self.state.traceparent else { return reply::not_found() };
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return reply::method_not_allowed("GET, HEAD");
        }
        let path = without_trailing_slash(parts.uri.path());
        let ids = path.strip_prefix(TRACEPARENT_PATH).and_then(|rest| rest.strip_prefix('/'));
        let line =
            ids.and_then(|ids| ids.split_once('/')).and_then(|(workflow, job)| traceparent(workflow, job));
        line.map_or_else(reply::not_a_traceparent, reply::text)
    }

    async fn receiver(
        &self,
        receiver: I::Receiver,
        kind: SourceKind,
        parts: &Parts,
        body: Inbound,
        span: &OwnSpan,
    ) -> Reply {
        match parts.method {
            Method::POST => {}
            Method::PUT if kind == SourceKind::Fastly => {}
            _ if kind == SourceKind::Fastly => return reply::method_not_allowed("POST, PUT"),
            _ => return reply::method_not_allowed("POST"),
        }
        let spoken = Dialect::of(kind, &parts.headers);
        let dialect = spoken.unwrap_or(Dialect::Own);
        let reply = self.take(receiver, spoken, parts, body, span).await;
        reply.unwrap_or_else(|refused| {
            if let Some(declined) = refused.declined() {
                self.state.ingest.declined(Some(receiver), declined);
            }
            refused.reply(parts.version, dialect)
        })
    }

    /// Returns the permits for a request, or `None` when all are taken. tower's ConcurrencyLimit with LoadShed would
    /// also reject a request for which there is a permit: when polled for readiness, tokio's semaphore returns pending
    /// as well when the task has used up its budget.
    fn slot(&self, kind: SourceKind) -> Option<Slot<'_>> {
        let webhook = match kind {
            SourceKind::CircleCi => Some(self.webhook_slots.try_acquire().ok()?),
            SourceKind::Fastly | SourceKind::Otlp(_) => None,
        };
        Some(Slot { _any: self.slots.try_acquire().ok()?, _webhook: webhook })
    }

    fn limits_of(&self, kind: SourceKind) -> BodyLimits {
        let max_bytes = match kind {
            SourceKind::CircleCi => self.limits.max_bytes.min(WEBHOOK_MAX_BYTES),
            SourceKind::Fastly | SourceKind::Otlp(_) => self.limits.max_bytes,
        };
        BodyLimits { max_bytes, ..self.limits }
    }

    /// Handles a request with data. Every rejection is as early as possible.
    async fn take(
        &self,
        receiver: I::Receiver,
        spoken: Result<Dialect, UnknownMediaType>,
        parts: &Parts,
        body: Inbound,
        span: &OwnSpan,
    ) -> Result<Reply, Refused> {
        let ingest = &self.state.ingest;
        let kind = ingest.kind(receiver);
        // First: requests that the headers rule out must not take permits.
        ingest.admit(receiver, &parts.headers)?;
        head::check_length(parts)?;
        let _slot = self.slot(kind).ok_or(Refused::Overloaded)?;
        ingest.throttle(receiver)?;
        let dialect = spoken?;
        let limits = self.limits_of(kind);
        let codings = body::codings(&parts.headers)?;
        let wire = body.read(limits).await?;
        Span::current().record("size_bytes", wire.len());
        span.number("http.request.body.size", wire.len());

        // From here on the client only waits for the response.
        let answer = async {
            ingest.verify(receiver, &parts.headers, &wire)?;
            let decoded = body::decode(codings, wire, limits.max_bytes).await?;
            let answer = ingest.receive(receiver, dialect.encoding(), &parts.headers, decoded, span).await;
            Ok(reply::answer(answer, dialect))
        };
        timeout(self.request_timeout, answer).await.unwrap_or(Err(Refused::TooLate))
    }
}

/// Removes one trailing slash. The root and paths that end with several slashes are returned unchanged.
pub(super) fn without_trailing_slash(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() && !shorter.ends_with('/') => shorter,
        _ => path,
    }
}

/// Returns whether a shell may evaluate the response of this path, even if the path is malformed.
fn is_traceparent(path: &str) -> bool {
    path.strip_prefix(TRACEPARENT_PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
