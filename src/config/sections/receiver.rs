//! Keys that receivers have in common: path, token and rate limit.

use std::ops::RangeInclusive;

use http::HeaderName;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use serde_json::json;

use super::super::declare::{Shape, section};
use super::super::field::Field;
use super::super::kind::{Count, Kind, kind, plain, secret, text_schema, value};
use super::super::receivers::ReceiverCommon;
use super::super::secret::Secret;
use super::super::section::Section;
use super::super::tree::Tree;

/// First segments of the relay's own paths.
const RESERVED: [&str; 3] = [".well-known", "traceparent", "v1"];

/// Allowed rate limits: from one request per hour to more than one machine can handle.
const REQUESTS_PER_SECOND: RangeInclusive<f64> = 0.0003..=1_000_000.0;

section! {
    /// `auth` of a receiver: a header and its allowed values.
    pub(crate) struct AuthConfig => check_auth {
        /// Header that must have one of `values`.
        header: HeaderName = AUTHORIZATION;
        /// Complete header values, such as `"Bearer ${env:TOKEN}"`; several while rotating.
        values: Vec<HeaderSecret>, required("[\"${env:RECEIVER_TOKEN}\"]");
    }
}

section! {
    /// `rate_limit` of a receiver
    pub(crate) struct RateLimitConfig => check_rate_limit {
        /// Number of requests per second.
        requests_per_second: Rate, required("50");
        /// Maximum burst, at least 1; by default the number of requests in one second.
        burst: Count = 1, sample("50");
    }
}

section! {
    /// Keys of all receivers at a path of their own.
    pub(crate) struct ReceiverEndpoint {
        /// Component id: the kind of receiver, or `KIND/NAME`.
        id: ComponentId;
        /// Path of its requests.
        path: ReceiverPath;
        /// Maximum rate of requests. More are rejected with 429 before their bodies are read, and so before a signature is verified.
        /// Without `rate_limit` there is no limit.
        rate_limit: Option<RateLimitConfig>;
    }
}

impl Copy for RateLimitConfig {}

/// Component id of a receiver, which is the key of its section.
pub(crate) struct ComponentId;

/// Path of a receiver's requests, by default its id.
pub(crate) struct ReceiverPath;

kind! {
    /// Secret that is the value of a header, or a part of one.
    HeaderSecret: Secret, header_secret, secret, text_schema()
}

kind! {
    /// Number of requests per second.
    Rate: f64, |field: &Field<'_>| field.number(REQUESTS_PER_SECOND), plain,
    json!({ "type": "number", "minimum": REQUESTS_PER_SECOND.start(), "maximum": REQUESTS_PER_SECOND.end() })
}

// === impl AuthConfig ===

impl AuthConfig {
    /// Returns a header that is accepted.
    pub(crate) fn token(&self) -> Option<(String, String)> {
        let value = self.values.first()?;
        Some((self.header.as_str().to_owned(), value.expose().to_owned()))
    }
}

// === impl ReceiverEndpoint ===

impl ReceiverEndpoint {
    /// Returns the defaults of a kind of receiver.
    pub(crate) fn of(kind: &str) -> Self {
        Self { id: kind.to_owned(), path: format!("/{kind}"), rate_limit: None }
    }

    pub(crate) fn common(&self) -> ReceiverCommon<'_> {
        ReceiverCommon { id: &self.id, path: Some(&self.path), rate_limit: self.rate_limit }
    }
}

// === impl Kind ===

impl Kind for ComponentId {
    type Value = String;

    fn read(_: &Field<'_>) -> Option<String> {
        None
    }

    fn read_key(section: &mut Section<'_>, _: &'static str, target: &mut String) {
        section.name().clone_into(target);
    }

    fn to_tree(_: &String) -> Tree {
        Tree::Absent
    }

    fn shape() -> Shape {
        Shape::Derived
    }
}

impl Kind for ReceiverPath {
    type Value = String;

    fn read(field: &Field<'_>) -> Option<String> {
        path(field)
    }

    fn read_key(section: &mut Section<'_>, name: &'static str, target: &mut String) {
        *target = format!("/{}", section.name());
        section.set(name, target, path);
    }

    fn to_tree(path: &String) -> Tree {
        Tree::Text(path.clone())
    }

    fn shape() -> Shape {
        value(json!({ "type": "string", "pattern": "^/[^/?#]" }))
    }
}

/// Checks `auth`. An absent section means no authentication; an empty one is a problem, since it was meant to enable it.
fn check_auth(_: &mut AuthConfig, section: &Section<'_>) {
    if section.is_unset("values") {
        section.problem_at("values", "needs at least one allowed header value");
    }
}

/// Checks `rate_limit`. An absent section means no limit; an empty one is a problem, since it was meant to set a limit.
fn check_rate_limit(limit: &mut RateLimitConfig, section: &Section<'_>) {
    if section.is_unset("requests_per_second") {
        section.missing("needs requests_per_second, such as 50");
    }
    if section.is_unset("burst") {
        // In range: at most the end of `REQUESTS_PER_SECOND`.
        limit.burst = (limit.requests_per_second.ceil() as usize).max(1);
    }
}

fn header_secret(field: &Field<'_>) -> Option<Secret> {
    let text = field.text()?;
    if text.trim() != text || HeaderValue::from_str(text).is_err() {
        // For example the trailing line break of a secret that was read from a file.
        field.problem("invalid header value: leading or trailing whitespace, or a control character");
        return None;
    }
    field.secret()
}

/// Reads a path that does not belong to the relay itself.
fn path(field: &Field<'_>) -> Option<String> {
    let path = field.text()?;
    let Some(below) = path.strip_prefix('/') else {
        field.problem(format!("{} must begin with /", field.shown()));
        return None;
    };
    let valid = path.parse::<http::uri::PathAndQuery>().is_ok_and(|parsed| parsed.as_str() == path);
    if !valid || path.contains(['?', '#']) {
        field.problem(format!(
            "{} is not a path: it contains a query, a fragment or characters that need escaping",
            field.shown()
        ));
        return None;
    }
    let first = below.split('/').next().unwrap_or_default();
    if below.is_empty() || RESERVED.contains(&first) {
        let reserved = "/, /.well-known/…, /traceparent/… and /v1/…";
        field.problem(format!(
            "{} is reserved for the relay itself, like {reserved}; choose another",
            field.shown()
        ));
        return None;
    }
    Some(path.to_owned())
}
