//! `receivers`: the enabled sources and how their requests are authenticated.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::super::field::Field;
use super::super::section::Section;
use super::super::{
    AuthConfig, CircleCiConfig, FastlyConfig, OtlpConfig, RateLimitConfig, ReceiversConfig, ServerConfig,
};

/// First segments of the relay's own paths.
const RESERVED: [&str; 3] = [".well-known", "traceparent", "v1"];

/// Timeout of CircleCI's webhook requests.
const CIRCLECI_TIMEOUT: Duration = Duration::from_secs(10);

/// Allowed rate limits: from one request per hour to more than one machine can handle.
const REQUESTS_PER_SECOND: RangeInclusive<f64> = 0.0003..=1_000_000.0;

/// Length of a SHA-256 in hexadecimal, to detect ids that were hashed by hand.
const SHA256_HEX: usize = 64;

pub(super) fn read(mut section: Section<'_>, server: &ServerConfig) -> ReceiversConfig {
    section.know("fastly");
    section.know("circleci");
    section.know("otlp");
    let mut receivers = ReceiversConfig::default();
    let mut paths: Vec<(String, String)> = Vec::new();
    let mut mentioned = false;
    for (entry, field) in section.entries() {
        mentioned = true;
        let id = entry.key.as_str();
        let (kind, name) = id.split_once('/').map_or((id, None), |(kind, name)| (kind, Some(name)));
        if name.is_some_and(|name| !is_name(name)) {
            field.problem("the name after the slash must consist of letters, digits, - and _");
            continue;
        }
        let path = match kind {
            "fastly" => {
                receivers.fastly.push(fastly(id, Section::of(field)));
                receivers.fastly.last().map(|receiver| &receiver.path)
            }
            "circleci" => {
                receivers.circleci.push(circleci(id, Section::of(field)));
                receivers.circleci.last().map(|receiver| &receiver.path)
            }
            "otlp" if name.is_some() => {
                field.problem(
                    "named instances are not supported: OTLP defines the paths, so there is only one `otlp`",
                );
                continue;
            }
            "otlp" => {
                receivers.otlp = Some(otlp(Section::of(field)));
                continue;
            }
            _ => {
                section.unknown(entry, "receiver");
                continue;
            }
        };
        let Some(path) = path else { continue };
        // A trailing slash is tolerated in requests, so that it tells no paths apart.
        let same = |taken: &String| taken.trim_end_matches('/') == path.trim_end_matches('/');
        match paths.iter().find(|(_, taken)| same(taken)) {
            Some((other, _)) => {
                let what = format!("receivers.{other} already uses {path}; each receiver needs its own path");
                section.problem_in(entry, "path", what);
            }
            None => paths.push((id.to_owned(), path.clone())),
        }
    }
    if !mentioned {
        section.missing("no receiver is enabled; configure at least one, such as `fastly:` or `circleci:`");
    }
    if !receivers.circleci.is_empty() && server.request_timeout >= CIRCLECI_TIMEOUT {
        section.note("server.request_timeout is not below CircleCI's timeout of 10s");
    }
    receivers
}

fn fastly(id: &str, mut section: Section<'_>) -> FastlyConfig {
    let mut fastly = FastlyConfig::new(id);
    section.set("path", &mut fastly.path, path);
    section.set("service_ids", &mut fastly.service_ids, service_ids);
    let auth_is_given = section.given("auth").is_some();
    let auth = auth(section.section("auth"), auth_is_given);
    section.set("repair", &mut fastly.repair, Field::boolean);
    fastly.rate_limit = rate_limit(&mut section);
    section.finish();
    fastly.auth = auth;
    fastly
}

fn circleci(id: &str, mut section: Section<'_>) -> CircleCiConfig {
    let mut circleci = CircleCiConfig::new(id);
    section.set("path", &mut circleci.path, path);
    let given = section.field("secrets");
    let secrets = given.as_ref().and_then(|field| field.hidden().list(Field::secret));
    section.set("allow_unsigned", &mut circleci.allow_unsigned, Field::boolean);
    section.set("service_name", &mut circleci.service_name, Field::string);
    section.set("cancel_settle", &mut circleci.cancel_settle, Field::duration);
    circleci.rate_limit = rate_limit(&mut section);
    circleci.secrets = secrets.unwrap_or_default();
    if given.is_none_or(|field| field.is_empty_list()) && !circleci.allow_unsigned {
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
    section.finish();
    circleci
}

fn otlp(mut section: Section<'_>) -> OtlpConfig {
    let auth_is_given = section.given("auth").is_some();
    let auth = auth(section.section("auth"), auth_is_given);
    let rate_limit = rate_limit(&mut section);
    section.finish();
    OtlpConfig { auth, rate_limit }
}

/// Reads `auth`. An absent section means no authentication; an empty one is a problem, since it was meant to enable it.
fn auth(mut section: Section<'_>, given: bool) -> Option<AuthConfig> {
    let mut header = http::header::AUTHORIZATION;
    section.set("header", &mut header, header_name);
    let field = section.field("values");
    let values = field.as_ref().and_then(|field| field.hidden().list(header_secret));
    if given && field.is_none_or(|field| field.is_empty_list()) {
        section.problem_at("values", "needs at least one allowed header value");
    }
    section.finish();
    given.then(|| AuthConfig { header, values: values.unwrap_or_default() })
}

/// Reads `rate_limit`. An absent section means no limit; an empty one is a problem, since it was meant to set a limit.
fn rate_limit(receiver: &mut Section<'_>) -> Option<RateLimitConfig> {
    let given = receiver.given("rate_limit").is_some();
    let mut section = receiver.section("rate_limit");
    let field = section.field("requests_per_second");
    if given && field.is_none() {
        section.missing("needs requests_per_second, such as 50");
    }
    let requests_per_second = field.and_then(|field| field.number(REQUESTS_PER_SECOND));
    let mut burst = requests_per_second.map_or(1, default_burst);
    section.set("burst", &mut burst, Field::count);
    section.finish();
    Some(RateLimitConfig { requests_per_second: requests_per_second?, burst })
}

/// Returns the number of requests in one second.
fn default_burst(requests_per_second: f64) -> usize {
    // In range: at most the end of `REQUESTS_PER_SECOND`.
    requests_per_second.ceil() as usize
}

/// Reads a secret that is the value of a header.
fn header_secret(field: &Field<'_>) -> Option<super::super::Secret> {
    let text = field.text()?;
    if text.trim() != text || HeaderValue::from_str(text).is_err() {
        // For example the trailing line break of a secret that was read from a file.
        field.problem("invalid header value: leading or trailing whitespace, or a control character");
        return None;
    }
    field.secret()
}

fn header_name(field: &Field<'_>) -> Option<HeaderName> {
    let name = field.text()?.parse().ok();
    if name.is_none() {
        field.problem(format!("{} is not a valid header name", field.shown()));
    }
    name
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

/// Reads the service ids for Fastly's challenge. An empty list is a problem: the challenge would fail and Fastly would
/// send nothing.
fn service_ids(field: &Field<'_>) -> Option<Vec<String>> {
    let ids = field.list(service_id)?;
    if field.is_empty_list() {
        field.problem(
            "is empty, so Fastly's challenge would fail; list service ids, or \"*\" for any service",
        );
    }
    Some(ids)
}

fn service_id(field: &Field<'_>) -> Option<String> {
    let id = field.text()?;
    if id.len() == SHA256_HEX && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        field.problem("looks like a SHA-256; specify the service id itself, the relay hashes it");
        return None;
    }
    if id != "*" && !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        field.problem(format!("{} is not a service id (letters and digits) and not \"*\"", field.shown()));
        return None;
    }
    Some(id.to_owned())
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
