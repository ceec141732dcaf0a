//! Common parts of webhook sources: one signed event becomes spans.
//!
//! A source of webhooks reads its [`payload`], verifies its [`signature`] and builds its spans ([`span`]) with
//! these parts, and adds what is its own: the names of members, the form of the signature header, ids and attributes.

pub(in crate::receiver) mod payload;

pub(in crate::receiver) mod signature;

pub(in crate::receiver) mod span;

pub(in crate::receiver) mod vcs;

use std::time::Duration;

use bytes::Bytes;

use self::payload::Malformed;
use super::{Item, Passage, Reading, Rejected, Scope};
use crate::config::section::Section;
use crate::config::{Secret, ServerConfig};
use crate::event::{RejectCode, Repair};
use crate::otlp::{SpanId, TraceId, Traces};

/// Timeout of the requests of CircleCI and GitHub.
const SENDER_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns `export TRACEPARENT=00-<trace>-<span>-01` and a newline, for a shell: the span becomes the parent of the
/// spans of programs in that shell.
///
/// Version and flags are fixed: otel-cli reads both as decimal numbers and accepts no flags but 01 as sampled.
pub(super) fn traceparent_line(trace: TraceId, span: SpanId) -> String {
    format!("export TRACEPARENT=00-{trace}-{span}-01\n")
}

/// Adds the spans of an event to its reading. `request` is the export request that holds them.
pub(super) fn with_spans(reading: Reading, body: &Bytes, request: Vec<u8>, repairs: Vec<Repair>) -> Reading {
    match Traces::from_canonical(request) {
        Some(traces) => Reading { items: vec![item(traces, repairs)], ..reading },
        // Only a body beyond every limit gets here; its bytes are kept instead of causing a panic.
        None => Reading { rejected: rejected(Malformed::too_large(), body), ..reading },
    }
}

/// Reads an export request that the relay made itself.
pub(super) fn of_spans(request: &Bytes) -> Reading {
    match Traces::from_canonical(request.to_vec()) {
        Some(traces) => Reading { items: vec![item(traces, Vec::new())], ..Reading::default() },
        None => Reading { rejected: rejected(Malformed::too_large(), request), ..Reading::default() },
    }
}

/// Returns the rejection of a whole body.
pub(super) fn rejected(malformed: Malformed, body: &Bytes) -> Vec<Rejected> {
    let Malformed { line, column, reason } = malformed;
    let (code, at) = (RejectCode::Other, 0);
    vec![Rejected { scope: Scope::Unit, line, column, code, at, reason, input: body.clone(), scrubbed: None }]
}

/// Creates an item that is not held, because no log record is attached to a webhook's span.
fn item(traces: Traces, repairs: Vec<Repair>) -> Item {
    Item {
        line: 1,
        traces: Some(traces),
        logs: None,
        metrics: None,
        protobuf: None,
        repairs,
        passage: Passage::Straight,
    }
}

/// Checks the keys that decide which signatures are accepted. `example` is a value of `secrets`.
pub(super) fn check_secrets(secrets: &[Secret], allow_unsigned: bool, example: &str, section: &Section<'_>) {
    if section.is_unset("secrets") && !allow_unsigned {
        section.problem_at(
            "secrets",
            format!(
                "needs the webhook's signing secret, such as secrets: {example}; \
                 or set allow_unsigned: true to accept webhooks from anyone"
            ),
        );
    }
    if !secrets.is_empty() && allow_unsigned {
        section.note(
            "allow_unsigned is true: webhooks without a signature are accepted although secrets are set",
        );
    }
    if secrets.iter().any(|secret| secret.expose().trim() != secret.expose()) {
        section.note("a secret begins or ends with whitespace; is that intended?");
    }
}

/// Returns the risk of accepting unsigned webhooks, as [`ReceiverSection::risk`](crate::config::ReceiverSection::risk) does.
pub(super) fn unsigned_risk(allow_unsigned: bool) -> Option<(&'static str, &'static str)> {
    let what = "accepting unsigned webhooks: allow_unsigned is true";
    allow_unsigned.then_some(("allow_unsigned", what))
}

/// Returns a note if the sender, which is named, stops waiting before the server responds.
pub(super) fn timeout_note(sender: &str, server: &ServerConfig) -> Option<String> {
    let is_late = server.request_timeout >= SENDER_TIMEOUT;
    is_late.then(|| format!("server.request_timeout is not below {sender}'s timeout of 10s"))
}
