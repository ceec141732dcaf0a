//! `receivers`: the enabled sources and how their requests are authenticated.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use serde_json::json;

use super::super::declare::{Key, Keys as _, Shape, section};
use super::super::field::Field;
use super::super::kind::{Count, Kind, SecretText, Text, Time, text_schema, value};
use super::super::secret::Secret;
use super::super::section::Section;
use super::super::tree::Tree;

/// First segments of the relay's own paths.
const RESERVED: [&str; 3] = [".well-known", "traceparent", "v1"];

/// Allowed rate limits: from one request per hour to more than one machine can handle.
const REQUESTS_PER_SECOND: RangeInclusive<f64> = 0.0003..=1_000_000.0;

/// Length of a SHA-256 in hexadecimal, to detect ids that were hashed by hand.
const SHA256_HEX: usize = 64;

/// `receivers`, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ReceiversConfig {
    pub(crate) fastly: Vec<FastlyConfig>,
    pub(crate) circleci: Vec<CircleCiConfig>,
    pub(crate) otlp: Option<OtlpConfig>,
}

section! {
    /// `receivers.fastly` and `receivers.fastly/NAME`
    pub(crate) struct FastlyConfig => check_fastly {
        /// Component id: `fastly` or `fastly/NAME`.
        id: ComponentId = "fastly".to_owned();
        /// Path of its requests.
        path: ReceiverPath = "/fastly".to_owned();
        /// Services whose logs are accepted, for the response to Fastly's challenge: service ids, or `"*"` for any Fastly
        /// customer's; then set `auth`. The relay hashes the ids itself. An empty list is an error, because Fastly would send
        /// nothing.
        service_ids: Vec<ServiceId> = vec!["*".to_owned()], live;
        /// Token that requests must have. Without `auth` anyone can send.
        auth: Option<AuthConfig>, live;
        /// Repairs lines that are not valid JSON but have only one meaning, such as a trailing comma; `false` rejects them.
        repair: bool = true, live;
        /// Maximum rate of requests. More are rejected with 429 before their bodies are read. Without `rate_limit` there is no
        /// limit.
        rate_limit: Option<RateLimitConfig>;
    }
}

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

impl Copy for RateLimitConfig {}

section! {
    /// `receivers.circleci` and `receivers.circleci/NAME`
    pub(crate) struct CircleCiConfig => check_circleci {
        /// Component id: `circleci` or `circleci/NAME`.
        id: ComponentId = "circleci".to_owned();
        /// Path of its requests.
        path: ReceiverPath = "/circleci".to_owned();
        /// Signing secrets of the webhook; any of them is accepted. Needed unless `allow_unsigned` is true.
        secrets: Vec<SecretText>, usual("[\"${env:CIRCLECI_HOOK_SECRET}\"]"), live;
        /// Accepts webhooks without a signature, from anyone who knows the URL.
        allow_unsigned: bool = false, live;
        /// `service.name` of the spans.
        service_name: Text = "circleci".to_owned(), live;
        /// Time to hold the event of a cancelled workflow. CircleCI sends it again for each job that ends later; each replaces the
        /// one before, so that one span is exported. `0s` exports each event at once.
        // In a report, jobs ended less than 40 s after one another.
        cancel_settle: Time = Duration::from_secs(60), live;
        /// Maximum rate of requests. They count before their signature is verified, because it covers the body.
        rate_limit: Option<RateLimitConfig>;
    }
}

section! {
    /// `receivers.otlp`. It has no named instances, because OTLP/HTTP defines its paths.
    pub(crate) struct OtlpConfig {
        /// Token that requests must have. Without `auth` anyone can send.
        auth: Option<AuthConfig>, live;
        /// Maximum rate of requests, on all three paths together.
        rate_limit: Option<RateLimitConfig>;
    }
}

/// Component id of a receiver, which is the key of its section.
pub(crate) struct ComponentId;

/// Path of a receiver's requests, by default its id.
pub(crate) struct ReceiverPath;

/// Id of a Fastly service, or `*`.
pub(crate) struct ServiceId;

/// Secret that is the value of a header.
pub(crate) struct HeaderSecret;

/// Number of requests per second.
pub(crate) struct Rate;

// === impl ReceiversConfig ===

impl ReceiversConfig {
    /// Returns id and path of every receiver.
    fn ids_and_paths(&self) -> Vec<(&str, &str)> {
        let fastly = self.fastly.iter().map(|fastly| (fastly.id.as_str(), fastly.path.as_str()));
        let circleci = self.circleci.iter().map(|circleci| (circleci.id.as_str(), circleci.path.as_str()));
        fastly.chain(circleci).chain(self.otlp.iter().map(|_| (OtlpConfig::ID, ""))).collect()
    }

    fn path_of(&self, id: &str) -> Option<&str> {
        self.ids_and_paths()
            .into_iter()
            .find(|(known, path)| *known == id && !path.is_empty())
            .map(|(_, path)| path)
    }

    /// Takes over what reloads without a restart, unless receivers were added, removed or moved.
    pub(crate) fn reload(&mut self, new: &Self) {
        if self.ids_and_paths() != new.ids_and_paths() {
            return;
        }
        self.fastly.iter_mut().zip(&new.fastly).for_each(|(fastly, new)| fastly.reload(new));
        self.circleci.iter_mut().zip(&new.circleci).for_each(|(circleci, new)| circleci.reload(new));
        self.otlp.iter_mut().zip(&new.otlp).for_each(|(otlp, new)| otlp.reload(new));
    }
}

impl Kind for ReceiversConfig {
    type Value = Self;

    const IS_SECTION: bool = true;

    fn read(field: &Field<'_>) -> Option<Self> {
        Some(read(Section::of(field.clone())))
    }

    fn read_key(section: &mut Section<'_>, name: &'static str, target: &mut Self) {
        *target = read(section.section(name));
    }

    fn to_tree(receivers: &Self) -> Tree {
        let fastly = receivers.fastly.iter().map(|fastly| (fastly.id.clone(), fastly.to_tree()));
        let circleci = receivers.circleci.iter().map(|circleci| (circleci.id.clone(), circleci.to_tree()));
        let otlp = receivers.otlp.iter().map(|otlp| match otlp.to_tree() {
            Tree::Absent => (OtlpConfig::ID.to_owned(), Tree::Section(Vec::new())),
            tree => (OtlpConfig::ID.to_owned(), tree),
        });
        Tree::Section(fastly.chain(circleci).chain(otlp).collect())
    }

    fn shape() -> Shape {
        let key = |name, doc, shape| Key::new(name, doc, shape, Tree::Absent).usual("");
        let keys = vec![
            key("fastly", "Batches of Fastly's HTTPS log streaming.", FastlyConfig::shape()).named(),
            key("circleci", "CircleCI webhooks.", CircleCiConfig::shape()).named(),
            key(
                OtlpConfig::ID,
                "OTLP/HTTP, JSON and protobuf, on `/v1/traces`, `/v1/logs` and `/v1/metrics`. Passed through unchanged: nothing \
                 is held, and logs stay logs. There can be only one instance.",
                OtlpConfig::shape(),
            ),
        ];
        Shape::Section { name: "ReceiversConfig", keys }
    }
}

// === impl OtlpConfig ===

impl OtlpConfig {
    /// Component id.
    pub(crate) const ID: &'static str = "otlp";
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

impl Kind for ServiceId {
    type Value = String;

    fn read(field: &Field<'_>) -> Option<String> {
        let id = field.text()?;
        if id.len() == SHA256_HEX && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            field.problem("looks like a SHA-256; specify the service id itself, the relay hashes it");
            return None;
        }
        if id != "*" && !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            field
                .problem(format!("{} is not a service id (letters and digits) and not \"*\"", field.shown()));
            return None;
        }
        Some(id.to_owned())
    }

    fn to_tree(id: &String) -> Tree {
        Tree::Text(id.clone())
    }

    fn shape() -> Shape {
        value(json!({ "type": ["string", "integer"], "pattern": "^([A-Za-z0-9]+|\\*)$" }))
    }
}

impl Kind for HeaderSecret {
    type Value = Secret;

    fn read(field: &Field<'_>) -> Option<Secret> {
        let text = field.text()?;
        if text.trim() != text || HeaderValue::from_str(text).is_err() {
            // For example the trailing line break of a secret that was read from a file.
            field.problem("invalid header value: leading or trailing whitespace, or a control character");
            return None;
        }
        field.secret()
    }

    fn to_tree(secret: &Secret) -> Tree {
        SecretText::to_tree(secret)
    }

    fn shape() -> Shape {
        value(text_schema())
    }
}

impl Kind for Rate {
    type Value = f64;

    fn read(field: &Field<'_>) -> Option<f64> {
        field.number(REQUESTS_PER_SECOND)
    }

    fn to_tree(rate: &f64) -> Tree {
        Tree::Plain(rate.to_string())
    }

    fn shape() -> Shape {
        let (least, most) = REQUESTS_PER_SECOND.into_inner();
        value(json!({ "type": "number", "minimum": least, "maximum": most }))
    }
}

/// Reads the receivers in the order of the file.
fn read(mut section: Section<'_>) -> ReceiversConfig {
    section.know("fastly");
    section.know("circleci");
    section.know(OtlpConfig::ID);
    let mut receivers = ReceiversConfig::default();
    let mut paths: Vec<(String, String)> = Vec::new();
    let mut is_empty = true;
    for (entry, field) in section.entries() {
        is_empty = false;
        let id = entry.key.as_str();
        let (kind, name) = id.split_once('/').map_or((id, None), |(kind, name)| (kind, Some(name)));
        if name.is_some_and(|name| !is_name(name)) {
            field.problem("the name after the slash must consist of letters, digits, - and _");
            continue;
        }
        match kind {
            "fastly" => receivers.fastly.extend(FastlyConfig::read(&field)),
            "circleci" => receivers.circleci.extend(CircleCiConfig::read(&field)),
            OtlpConfig::ID if name.is_some() => field.problem(
                "named instances are not supported: OTLP defines the paths, so there is only one `otlp`",
            ),
            OtlpConfig::ID => receivers.otlp = OtlpConfig::read(&field),
            _ => section.unknown(entry, "receiver"),
        }
        let Some(path) = receivers.path_of(id) else { continue };
        // A trailing slash is tolerated in requests, so that it tells no paths apart.
        let same = |taken: &String| taken.trim_end_matches('/') == path.trim_end_matches('/');
        match paths.iter().find(|(_, taken)| same(taken)) {
            Some((other, _)) => {
                let what = format!("receivers.{other} already uses {path}; each receiver needs its own path");
                section.problem_at(&format!("{id}.path"), what);
            }
            None => paths.push((id.to_owned(), path.to_owned())),
        }
    }
    if is_empty {
        section.missing("no receiver is enabled; configure at least one, such as `fastly:` or `circleci:`");
    }
    receivers
}

fn check_fastly(fastly: &mut FastlyConfig, section: &Section<'_>) {
    if fastly.service_ids.is_empty() && section.is_unset("service_ids") {
        let what = "is empty, so Fastly's challenge would fail; list service ids, or \"*\" for any service";
        section.problem_at("service_ids", what);
    }
}

fn check_circleci(circleci: &mut CircleCiConfig, section: &Section<'_>) {
    if section.is_unset("secrets") && !circleci.allow_unsigned {
        section.problem_at(
            "secrets",
            "needs the webhook's signing secret, such as secrets: [\"${env:CIRCLECI_HOOK_SECRET}\"]; \
             or set allow_unsigned: true to accept webhooks from anyone",
        );
    }
    if !circleci.secrets.is_empty() && circleci.allow_unsigned {
        section.note(
            "allow_unsigned is true: webhooks without a signature are accepted although secrets are set",
        );
    }
    if circleci.secrets.iter().any(|secret| secret.expose().trim() != secret.expose()) {
        section.note("a secret begins or ends with whitespace; is that intended?");
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

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
