//! Routing of requests, and the steps of a request with data.
//!
//! In: the headers of a request and an unread body. Out: the response.
//! Promises: a request is rejected as early as its headers allow; the challenge, the index and `/traceparent` always
//! respond, whatever the load.
//! Left to others: the layers around every request ([`stack`](mod@super::stack)), texts and statuses of responses
//! ([`super::reply`]).

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::body::inflate::Codings;
use super::body::{self, BodyLimits, Inbound};
use super::dialect::{Dialect, UnknownMediaType};
use super::grpc;
use super::head::{self, MalformedHead};
use super::pages::{PageResponse, PageRoute, Pages};
use super::refused::Refused;
use super::reply::{self, Reply};
use crate::budget::{Budget, Charge};
use crate::config::ServerConfig;
use crate::event::Transport;
use crate::grpc::PREFIX_BYTES;
use crate::receiver::Policy;
use crate::relay::{Declined, LimitedCause, ReceiverIndex, Relay, RequestForm};
use crate::telemetry::Metrics;
use crate::telemetry::traces::{OwnSpan, SelfTraces};

const WRONG_PATH: &str = "set the path in the URL of the logging endpoint or webhook to that of a receiver";
/// Maximum size of a webhook. Its signature covers the body, so that the body of an unauthenticated client must be read
/// before it can be rejected. Real webhooks have a few kilobytes.
pub(super) const WEBHOOK_MAX_BYTES: u64 = 1024 * 1024;
/// Inverse of the share of permits, and of bytes in memory, that webhooks may take: an unauthenticated client can send them as
/// slowly as `body_timeout` allows, and batches with a token must still be accepted.
const WEBHOOKS_ONE_IN: usize = 2;
const INDEX: &str = concat!("spanrelay ", env!("CARGO_PKG_VERSION"), "\n");

/// State that the routes share with the application.
#[derive(Clone)]
pub(crate) struct RouteState {
    pub(crate) relay: Arc<Relay>,
    pub(crate) pages: Pages,
    /// Metrics, which count every response, and self-tracing.
    pub(crate) metrics: Metrics,
    /// Bytes of all bodies in memory.
    pub(crate) inflight: Budget,
}

/// The routes, and the state that their requests share.
pub(super) struct Routes {
    state: RouteState,
    limits: BodyLimits,
    /// Limit of a gRPC message.
    max_message_bytes: u64,
    request_timeout: Duration,
    /// Permits for requests with data.
    slots: Semaphore,
    /// Permits for webhooks, in addition to one of `slots`.
    webhook_slots: Semaphore,
    /// Bytes in memory that webhooks may take.
    webhook_inflight: Budget,
}

/// Permits that a request holds while it is in progress.
struct RequestSlot<'a> {
    _any: SemaphorePermit<'a>,
    _webhook: Option<SemaphorePermit<'a>>,
}

/// Destination of a path. Logs show its name instead of the path, which the client chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Index,
    Page(PageRoute),
    /// A receiver at its own path, and how its requests are treated.
    Receiver(ReceiverIndex, Policy),
    Unknown,
}

// === impl Route ===

impl Route {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Page(page) => page.name,
            Self::Receiver(_, policy) => policy.source,
            Self::Unknown => "unknown",
        }
    }
}

// === impl Routes ===

impl Routes {
    pub(super) fn new(state: RouteState, config: &ServerConfig) -> Self {
        let slots = config.max_concurrent_requests.min(Semaphore::MAX_PERMITS);
        let webhook_inflight = state.inflight.part(config.max_inflight_bytes / WEBHOOKS_ONE_IN as u64);
        Self {
            webhook_inflight,
            state,
            limits: BodyLimits { max_bytes: config.max_request_body_size, timeout: config.body_timeout },
            max_message_bytes: config.max_grpc_message_size,
            request_timeout: config.request_timeout,
            slots: Semaphore::new(slots),
            webhook_slots: Semaphore::new((slots / WEBHOOKS_ONE_IN).max(1)),
        }
    }

    /// Returns the destination of a request, whether or not its method is allowed there. A trailing slash is tolerated,
    /// but a path that is configured with one takes precedence.
    pub(super) fn route(&self, method: &Method, path: &str, headers: &HeaderMap) -> Route {
        match (self.route_to(method, path, headers), without_trailing_slash(path)) {
            (Route::Unknown, shorter) if shorter != path => self.route_to(method, shorter, headers),
            (route, _) => route,
        }
    }

    fn route_to(&self, method: &Method, path: &str, headers: &HeaderMap) -> Route {
        let relay = &self.state.relay;
        let receiver = |receiver| Route::Receiver(receiver, relay.policy(receiver));
        match path {
            "/" if *method == Method::POST => relay.receiver_at_root(headers).map_or(Route::Index, receiver),
            "/" => Route::Index,
            path => match self.state.pages.at(path) {
                Some(page) => Route::Page(page),
                None => relay.receiver_at(path).map_or(Route::Unknown, receiver),
            },
        }
    }

    /// Returns the handle of self-tracing.
    pub(super) fn traces(&self) -> &SelfTraces {
        &self.state.metrics.traces
    }

    /// Counts a response.
    pub(super) fn count(&self, route: Route, status: StatusCode) {
        let receiver = match route {
            Route::Receiver(receiver, _) => Some(self.state.relay.receiver_id(receiver)),
            _ => None,
        };
        self.state.metrics.request(receiver.as_deref(), status);
    }

    /// Returns the response to a request whose self-tracing span is `span`.
    pub(super) async fn reply(&self, route: Route, request: Request<Inbound>, span: &OwnSpan) -> Reply {
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
            Route::Page(page) => self.page(page, &parts),
            Route::Receiver(receiver, policy) => self.receiver(receiver, policy, &parts, body, span).await,
            Route::Unknown => self.not_found(&parts),
        }
    }

    fn malformed(&self, route: Route, parts: &Parts, malformed: MalformedHead) -> Reply {
        let (receiver, dialect) = match route {
            Route::Receiver(receiver, policy) => (Some(receiver), Dialect::of(policy, &parts.headers).ok()),
            _ => (None, None),
        };
        let declined = Declined {
            cause: LimitedCause::MalformedHead,
            reason: malformed.to_string(),
            request: None,
            key: None,
            remedy: None,
        };
        self.state.relay.declined(receiver, declined);
        reply::malformed_head(malformed, parts.version, dialect.unwrap_or(Dialect::Own))
    }

    /// Responds for an unknown path. A client that sends data there has the wrong path in a logging endpoint or a
    /// webhook.
    fn not_found(&self, parts: &Parts) -> Reply {
        if matches!(parts.method, Method::POST | Method::PUT) {
            let declined = Declined {
                cause: LimitedCause::UnknownPath,
                reason: "no receiver has this path".to_owned(),
                request: Some(format!("{} {}", parts.method, parts.uri.path())),
                key: None,
                remedy: Some(WRONG_PATH.into()),
            };
            self.state.relay.declined(None, declined);
        }
        reply::not_found()
    }

    fn page(&self, page: PageRoute, parts: &Parts) -> Reply {
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        match self.state.pages.find(page, without_trailing_slash(parts.uri.path())) {
            PageResponse::Nothing => self.not_found(parts),
            _ if !reads => reply::method_not_allowed("GET, HEAD"),
            PageResponse::Invalid => reply::not_a_traceparent(),
            PageResponse::Text(text) => reply::text(text),
        }
    }

    async fn receiver(
        &self,
        receiver: ReceiverIndex,
        policy: Policy,
        parts: &Parts,
        body: Inbound,
        span: &OwnSpan,
    ) -> Reply {
        match parts.method {
            Method::POST => {}
            Method::PUT if policy.accepts_put() => {}
            _ if policy.accepts_put() => return reply::method_not_allowed("POST, PUT"),
            _ => return reply::method_not_allowed("POST"),
        }
        let spoken = Dialect::of(policy, &parts.headers);
        let dialect = spoken.unwrap_or(Dialect::Own);
        let reply = self.take(receiver, spoken, parts, body, span).await;
        reply.unwrap_or_else(|refused| {
            let is_call = parts.extensions.get::<grpc::Call>().is_some();
            let refused = if is_call { refused.of_call() } else { refused };
            if let Some(declined) = refused.declined() {
                self.state.relay.declined(Some(receiver), declined);
            }
            refused.reply(parts.version, dialect)
        })
    }

    /// Returns the permits for a request, or `None` when all are taken. tower's ConcurrencyLimit with LoadShed would
    /// also reject a request for which there is a permit: when polled for readiness, tokio's semaphore returns pending
    /// as well when the task has used up its budget.
    fn slot(&self, policy: Policy) -> Option<RequestSlot<'_>> {
        let webhook = match policy.is_webhook() {
            true => Some(self.webhook_slots.try_acquire().ok()?),
            false => None,
        };
        Some(RequestSlot { _any: self.slots.try_acquire().ok()?, _webhook: webhook })
    }

    /// Returns an empty charge for the body of a request.
    fn charge(&self, policy: Policy) -> Charge {
        match policy.is_webhook() {
            true => self.webhook_inflight.charge(),
            false => self.state.inflight.charge(),
        }
    }

    fn limits_of(&self, policy: Policy) -> BodyLimits {
        let max_bytes = match policy.is_webhook() {
            true => self.limits.max_bytes.min(WEBHOOK_MAX_BYTES),
            false => self.limits.max_bytes,
        };
        BodyLimits { max_bytes, ..self.limits }
    }

    /// Returns the limits of the body of a gRPC call.
    fn message_limits(&self) -> BodyLimits {
        BodyLimits { max_bytes: self.max_message_bytes + PREFIX_BYTES as u64, ..self.limits }
    }

    /// Handles a request with data. Every rejection is as early as possible.
    async fn take(
        &self,
        receiver: ReceiverIndex,
        spoken: Result<Dialect, UnknownMediaType>,
        parts: &Parts,
        body: Inbound,
        span: &OwnSpan,
    ) -> Result<Reply, Refused> {
        let relay = &self.state.relay;
        let policy = relay.policy(receiver);
        // First: requests that the headers rule out must not take permits.
        relay.admit(receiver, &parts.headers)?;
        head::check_length(parts)?;
        let _slot = self.slot(policy).ok_or(Refused::Overloaded)?;
        relay.throttle(receiver)?;
        let dialect = spoken?;
        let call = parts.extensions.get::<grpc::Call>();
        let limits = if call.is_some() { self.message_limits() } else { self.limits_of(policy) };
        let max_bytes = if call.is_some() { self.max_message_bytes } else { limits.max_bytes };
        let mut codings = body::codings(&parts.headers)?;
        let mut charge = self.charge(policy);
        let mut wire = body.read(limits, &mut charge).await?;
        if call.is_some() {
            let (message, is_compressed) = grpc::message(wire)?;
            wire = message;
            charge.set(wire.len() as u64);
            if !is_compressed {
                codings = Codings::default();
            }
        }
        span.number("http.request.body.size", wire.len());

        let transport = if call.is_some() { Transport::Grpc } else { Transport::Http };
        let form = RequestForm { encoding: dialect.encoding(), transport };
        // From here on the client only waits for the response.
        let answer = async {
            relay.verify(receiver, &parts.headers, &wire)?;
            let body = body::decode(codings, wire, max_bytes, charge).await?;
            let answer = relay.receive(receiver, form, &parts.headers, body, span).await;
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
