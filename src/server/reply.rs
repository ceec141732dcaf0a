//! The one table from cause to status.
//!
//! In: a cause, and the [`Dialect`] of the sender. Out: a response, bodies included. Every error body has a reason that
//! the sender can act on: as `reason` in JSON, or for OTLP as the message of a `google.rpc.Status`. None repeats input
//! or names files, addresses or internals.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
    REFERRER_POLICY, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body;
use http_body_util::{Either, Full};
use serde::Serialize;

use super::body::ReadError;
use super::body::inflate::{InflateError, UnknownCoding};
use super::dialect::{Dialect, Otlp, UnknownMediaType};
use super::head::{LengthRequired, MalformedHead};
use crate::receiver::{Rejected, Scope, Unauthorized};
use crate::relay::{Answer, Throttled};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const SAME_ORIGIN: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
/// The version of Prometheus' text format.
const PROMETHEUS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");
/// HTTP wants one with every 401. No registered scheme says "a header or signature that we agreed on".
const CHALLENGE: HeaderValue = HeaderValue::from_static("Custom realm=\"spanrelay\"");
/// After a shed or timed-out request. Load passes in seconds; a batch is not worth holding longer.
const RETRY_AFTER_SECONDS: u64 = 2;
/// Rejected lines that a report describes; the count tells the rest.
const MAX_REPORTED_ERRORS: usize = 20;

/// A response of the relay's own making.
pub(crate) type Reply = Response<Full<Bytes>>;

/// What was made of a batch.
#[derive(Serialize)]
struct Report<'a> {
    accepted: usize,
    rejected: usize,
    errors: Vec<ReportedError<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct ReportedError<'a> {
    line: u32,
    column: u32,
    reason: &'a str,
}

#[derive(Serialize)]
struct Refusal<'a> {
    reason: &'a str,
}

// --- what a relay answers ---

/// The relay's answer to a whole body.
pub(super) fn answer(answer: Answer, dialect: Dialect) -> Reply {
    match (answer, dialect) {
        (Answer::Accepted, Dialect::Own) => empty(StatusCode::NO_CONTENT),
        (Answer::Accepted, Dialect::Otlp(otlp)) => in_otlp(StatusCode::OK, otlp, otlp.success()),
        (Answer::Partial { accepted, rejected }, Dialect::Own) => {
            json(StatusCode::OK, &Report::new(accepted, &rejected, None))
        }
        (Answer::Partial { rejected, .. }, Dialect::Otlp(otlp)) => partial_success(&rejected, otlp),
        (Answer::Unusable { rejected }, Dialect::Own) => {
            let first = rejected.first().map_or("the body holds nothing usable", |first| &first.reason);
            let reason = format!("nothing in the body could be used: {first}");
            json(StatusCode::BAD_REQUEST, &Report::new(0, &rejected, Some(reason)))
        }
        (Answer::Unusable { rejected }, Dialect::Otlp(otlp)) => {
            refuse(StatusCode::BAD_REQUEST, &first_of(&rejected, otlp), dialect)
        }
        (Answer::Ignored(ignored), _) => refuse(StatusCode::ACCEPTED, ignored.as_str(), dialect),
        (Answer::Unavailable { reason, retry_after_seconds }, _) => {
            unavailable(&reason, retry_after_seconds, dialect)
        }
        (Answer::TooLarge { reason }, _) => refuse(StatusCode::PAYLOAD_TOO_LARGE, &reason, dialect),
    }
}

/// Counts the items of the signal that were rejected, of which the first stands for all. Anything else that was not taken
/// is no such item, and a warning.
fn partial_success(rejected: &[Rejected], otlp: Otlp) -> Reply {
    let (items, others): (Vec<_>, Vec<_>) = rejected.iter().partition(|part| part.scope == Scope::Item);
    let mut told = Vec::new();
    if let Some(first) = items.first() {
        told.push(format!("{} {} were rejected: {}", items.len(), otlp.items(), described(first, otlp)));
    }
    let mut reasons = Vec::new();
    for other in others {
        // A section may stand there any number of times.
        if !reasons.contains(&&other.reason) {
            reasons.push(&other.reason);
            told.push(described(other, otlp));
        }
    }
    in_otlp(StatusCode::OK, otlp, otlp.partial_success(items.len(), told.join("; ")))
}

/// The first rejection, which stands for all.
fn first_of(rejected: &[Rejected], otlp: Otlp) -> String {
    rejected
        .first()
        .map_or_else(|| "the body holds nothing usable".to_owned(), |first| described(first, otlp))
}

fn described(rejected: &Rejected, otlp: Otlp) -> String {
    let Rejected { column, reason, .. } = rejected;
    if otlp.has_places() { format!("{reason} (at byte {column})") } else { reason.clone() }
}

// --- why a request does not get so far ---

/// The sender is not who it must be.
pub(super) fn unauthorized(cause: Unauthorized, dialect: Dialect) -> Reply {
    let mut reply = refuse(StatusCode::UNAUTHORIZED, cause.0, dialect);
    reply.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
    reply
}

/// The receiver has taken as many requests as it may.
pub(super) fn throttled(cause: Throttled, dialect: Dialect) -> Reply {
    later(StatusCode::TOO_MANY_REQUESTS, &cause.to_string(), cause.retry_after_seconds, dialect)
}

/// The head of the request is ambiguous.
pub(super) fn malformed_head(cause: MalformedHead, version: Version, dialect: Dialect) -> Reply {
    closing(refuse(StatusCode::BAD_REQUEST, &cause.to_string(), dialect), version)
}

/// The status of the response that hyper writes by itself when it cannot parse a request, if it writes one.
pub(super) fn status_of_unparsed(error: &hyper::Error) -> Option<StatusCode> {
    if error.is_parse_too_large() {
        return Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    error.is_parse().then_some(StatusCode::BAD_REQUEST)
}

/// HTTP/1 does not say where the body ends: what follows the head may be one, so the connection ends with the response.
pub(super) fn length_required(cause: LengthRequired, version: Version, dialect: Dialect) -> Reply {
    closing(refuse(StatusCode::LENGTH_REQUIRED, &cause.to_string(), dialect), version)
}

/// The body is encoded in an unknown way.
pub(super) fn unknown_coding(cause: UnknownCoding, dialect: Dialect) -> Reply {
    refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, &cause.to_string(), dialect)
}

/// The body is of an unknown type. So is what the sender would understand: it gets this service's own words.
pub(super) fn unknown_media_type(cause: UnknownMediaType) -> Reply {
    refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, &cause.to_string(), Dialect::Own)
}

/// The body could not be read.
pub(super) fn unread(cause: ReadError, version: Version, dialect: Dialect) -> Reply {
    let status = match cause {
        ReadError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        ReadError::TooSlow { .. } | ReadError::CutShort => StatusCode::REQUEST_TIMEOUT,
    };
    let reply = refuse(status, &cause.to_string(), dialect);
    // The rest of such a body may still come.
    if status == StatusCode::REQUEST_TIMEOUT { closing(reply, version) } else { reply }
}

/// The body could not be decoded.
pub(super) fn undecodable(cause: &InflateError, dialect: Dialect) -> Reply {
    let status = match cause {
        InflateError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        InflateError::Corrupt { .. } => StatusCode::BAD_REQUEST,
    };
    refuse(status, &cause.to_string(), dialect)
}

/// As many requests are in progress as there may be.
pub(super) fn overloaded(dialect: Dialect) -> Reply {
    unavailable("too many concurrent requests; retry later", RETRY_AFTER_SECONDS, dialect)
}

/// The answer took longer than a sender waits.
pub(super) fn too_late(dialect: Dialect) -> Reply {
    unavailable("the request could not be answered in time, send it again", RETRY_AFTER_SECONDS, dialect)
}

/// Nothing is there.
pub(super) fn not_found() -> Reply {
    refuse(
        StatusCode::NOT_FOUND,
        "no receiver at this path; see the paths in the receivers' configuration",
        Dialect::Own,
    )
}

/// Nothing is there, on the telemetry endpoint.
pub(crate) fn not_found_in_telemetry() -> Reply {
    let reason = "not found; available: /inspect, /metrics, /healthz, /readyz";
    refuse(StatusCode::NOT_FOUND, reason, Dialect::Own)
}

/// Something is there, for other methods.
pub(crate) fn method_not_allowed(allowed: &'static str) -> Reply {
    let reason = "method not allowed; the Allow header lists those that are";
    let mut reply = refuse(StatusCode::METHOD_NOT_ALLOWED, reason, Dialect::Own);
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    reply
}

/// A defect of this program.
pub(super) fn panicked() -> Reply {
    let reason = "internal error, the request may be sent again";
    refuse(StatusCode::INTERNAL_SERVER_ERROR, reason, Dialect::Own)
}

/// The path or the ids in it are not what `/traceparent` is about.
pub(super) fn not_a_traceparent() -> Reply {
    empty(StatusCode::BAD_REQUEST)
}

// --- what GET routes say ---

/// Plain text.
pub(crate) fn text(body: impl Into<Bytes>) -> Reply {
    with_type(StatusCode::OK, TEXT, body.into())
}

/// Metrics, as Prometheus reads them.
pub(crate) fn metrics(exposition: Vec<u8>) -> Reply {
    with_type(StatusCode::OK, PROMETHEUS_TEXT, exposition.into())
}

/// A page that may load nothing but itself, and be shown in no other page.
pub(crate) fn page(html: &'static str, policy: HeaderValue) -> Reply {
    let mut reply = with_type(StatusCode::OK, HTML, Bytes::from_static(html.as_bytes()));
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    private(reply)
}

/// JSON for that page.
pub(crate) fn data(json: Vec<u8>) -> Reply {
    private(with_type(StatusCode::OK, JSON, json.into()))
}

/// Asked under a name that is not this server's own.
pub(crate) fn misdirected() -> Reply {
    refuse(
        StatusCode::MISDIRECTED_REQUEST,
        "this address is for this machine only: ask for it as localhost or by its IP address",
        Dialect::Own,
    )
}

/// What no cache keeps, no other site embeds and no browser guesses at.
fn private(mut reply: Reply) -> Reply {
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(SAME_ORIGIN, HeaderValue::from_static("same-origin"));
    reply
}

/// Not now; `/readyz` is asked again anyway.
pub(crate) fn not_ready(reason: &str) -> Reply {
    refuse(StatusCode::SERVICE_UNAVAILABLE, reason, Dialect::Own)
}

// --- what a method or a route demands of any answer ---

/// The answer without its body where the method is HEAD; its length is still told.
pub(crate) fn for_method<B: Body>(
    method: &Method,
    response: Response<B>,
) -> Response<Either<Full<Bytes>, B>> {
    if *method != Method::HEAD {
        return response.map(Either::Right);
    }
    let length = response.body().size_hint().exact();
    let mut response = response.map(|_| Either::Left(Full::default()));
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// The answer without its body unless it is a success: a shell runs whatever it reads here.
pub(super) fn inert<B: Body>(response: Response<B>) -> Response<Either<Full<Bytes>, B>> {
    if response.status() == StatusCode::OK {
        return response.map(Either::Right);
    }
    let mut response = response.map(|_| Either::Left(Full::default()));
    response.headers_mut().remove(CONTENT_TYPE);
    response
}

/// The last response on an HTTP/1 connection. HTTP/2 has streams and forbids the header.
fn closing(mut reply: Reply, version: Version) -> Reply {
    if version < Version::HTTP_2 {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

fn unavailable(reason: &str, retry_after_seconds: u64, dialect: Dialect) -> Reply {
    later(StatusCode::SERVICE_UNAVAILABLE, reason, retry_after_seconds, dialect)
}

fn later(status: StatusCode, reason: &str, retry_after_seconds: u64, dialect: Dialect) -> Reply {
    let mut reply = refuse(status, reason, dialect);
    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after_seconds));
    reply
}

fn refuse(status: StatusCode, reason: &str, dialect: Dialect) -> Reply {
    match dialect {
        Dialect::Own => json(status, &Refusal { reason }),
        Dialect::Otlp(otlp) => in_otlp(status, otlp, otlp.failure(rpc_code(status), reason)),
    }
}

/// What `google.rpc.Code` calls a failure. Clients go by the status; the code is for people.
fn rpc_code(status: StatusCode) -> i32 {
    const INVALID_ARGUMENT: i32 = 3;
    const UNAVAILABLE: i32 = 14;
    const UNAUTHENTICATED: i32 = 16;
    match status {
        StatusCode::UNAUTHORIZED => UNAUTHENTICATED,
        StatusCode::SERVICE_UNAVAILABLE => UNAVAILABLE,
        _ => INVALID_ARGUMENT,
    }
}

fn in_otlp(status: StatusCode, otlp: Otlp, body: Vec<u8>) -> Reply {
    with_type(status, HeaderValue::from_static(otlp.content_type()), body.into())
}

fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    let body = serde_json::to_vec(body).expect("strings and numbers serialize");
    with_type(status, JSON, body.into())
}

fn with_type(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply
}

// === impl Report ===

impl<'a> Report<'a> {
    fn new(accepted: usize, rejected: &'a [Rejected], reason: Option<String>) -> Self {
        let errors = rejected.iter().take(MAX_REPORTED_ERRORS);
        let errors = errors.map(|error| ReportedError {
            line: error.line,
            column: error.column,
            reason: &error.reason,
        });
        Self { accepted, rejected: Rejected::units(rejected), errors: errors.collect(), reason }
    }
}
