//! OTLP/HTTP: export requests that are passed through.
//!
//! In: headers and a decoded body, JSON or protobuf. Out: one [`Item`] for a request with content, which goes
//! [straight](Passage::Straight) to the exporter; a [`Rejected`] for an invalid body, and for each span without valid
//! ids and each section of another signal.
//!
//! Promises: a request is accepted completely or not at all, except for such parts; canonical JSON is not copied.
//!
//! **The queue keeps a request as JSON**, with only the section of its path. Bytes alone do not distinguish JSON from
//! protobuf (the first byte of a protobuf request is a line break, which may also precede a JSON text), and the path is
//! not kept. So protobuf is decoded before it is queued, which costs no more than decoding it later, and the section
//! identifies the signal.

mod config;

use std::sync::Arc;

use bytes::Bytes;

pub(crate) use config::OtlpConfig;

use super::token::Token;
use super::{
    AtRoot, Credentials, Identity, Item, Passage, Reading, Received, Receiver, Rejected, Requests, Scope,
    Source, source,
};
use crate::config::Encoding;
use crate::event::{KeptHeaders, RejectCode, Repair, Signal};
use crate::otlp::protobuf::{Decoded, decode};
use crate::otlp::{DroppedSpan, Line, Metrics, Mismatch, Request, read_request, signal_of};

/// Maximum ratio of a protobuf request's JSON to the largest body. Real requests grow by a factor of two to five.
const MAX_GROWTH: usize = 8;

/// A request counts as one line, even if it is written in several.
const REQUEST: u32 = 1;

/// OTLP as a source.
pub(crate) const SOURCE: Source = Source {
    kind: config::KIND,
    build: |section, limits| {
        let Some(config) = source::section(section) else { return Vec::new() };
        let receiver =
            |signal| Arc::new(Otlp::new(config, signal, limits.max_body_bytes)) as Arc<dyn Receiver>;
        Signal::ALL.map(receiver).into()
    },
    requests: Requests::Batches { put: false },
    at_root: AtRoot::Nothing,
    pages: &[],
    check: None,
};

/// The receiver of one signal of `receivers.otlp`.
pub(crate) struct Otlp {
    signal: Signal,
    identity: Identity,
    max_json_bytes: usize,
}

// === impl Otlp ===

impl Otlp {
    /// Creates a receiver; `max_body_bytes` limits a request as received, whose JSON may be larger.
    pub(crate) fn new(config: &OtlpConfig, signal: Signal, max_body_bytes: usize) -> Self {
        Self {
            signal,
            identity: Identity {
                source: &SOURCE,
                // All signals share it: a kept request can be read by any of them.
                id: OtlpConfig::ID.to_owned(),
                path: format!("/v1/{signal}"),
                signal: Some(signal),
                credentials: Credentials::Token(Token::new(config.auth.as_ref())),
            },
            max_json_bytes: max_body_bytes.saturating_mul(MAX_GROWTH),
        }
    }
}

impl Receiver for Otlp {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Reads a kept request of any signal.
    fn read(&self, body: &Bytes) -> Reading {
        read(signal_of(body).unwrap_or(self.signal), body).reading
    }

    fn receive(&self, body: &Bytes, encoding: Encoding, _headers: &KeptHeaders) -> Received {
        match encoding {
            Encoding::Json => read(self.signal, body),
            Encoding::Protobuf => match decode(self.signal, body, self.max_json_bytes) {
                Ok(Decoded { is_foreign: true, .. }) => foreign(self.signal, Mismatch::NoSection, body),
                Ok(Decoded { json, is_repaired, has_unknown, .. }) => {
                    let mut received = read(self.signal, &json.into());
                    let Reading { items, rejected, .. } = &received.reading;
                    let holds_nothing = |item: &Item| item.metrics.as_ref().is_some_and(Metrics::is_bare);
                    if has_unknown && items.iter().all(holds_nothing) && rejected.is_empty() {
                        return foreign(self.signal, Mismatch::OtherContent, body);
                    }
                    if is_repaired {
                        received
                            .reading
                            .items
                            .iter_mut()
                            .for_each(|item| item.repairs.push(Repair::InvalidUtf8));
                    }
                    received
                }
                Err(error) => rejected(body, error.at, error.to_string()),
            },
        }
    }
}

fn read(signal: Signal, body: &Bytes) -> Received {
    match read_request(signal, body) {
        Ok(Request { mismatch: Some(mismatch), .. }) => foreign(signal, mismatch, body),
        Ok(Request { line, text, sections, .. }) => Received { kept: text, reading: reading(line, sections) },
        Err(fault) => rejected(body, fault.at, fault.reason.into_owned()),
    }
}

fn reading(line: Line, sections: Vec<DroppedSpan>) -> Reading {
    let Line { traces, logs, metrics, repairs, dropped, .. } = line;
    let partial = |scope: Scope| {
        move |part: DroppedSpan| {
            let DroppedSpan { at, code, reason, range, text } = part;
            let offset = at.saturating_sub(range.start);
            Rejected { scope, code, at: offset, ..rejection(at, reason.into_owned(), text) }
        }
    };
    let mut rejected: Vec<Rejected> = dropped.into_iter().map(partial(Scope::Item)).collect();
    rejected.extend(sections.into_iter().map(partial(Scope::Section)));
    let items = match (&traces, &logs, &metrics) {
        (None, None, None) => Vec::new(),
        _ => vec![Item { line: REQUEST, traces, logs, metrics, repairs, passage: Passage::Straight }],
    };
    if let (true, Some(first)) = (items.is_empty(), rejected.first_mut()) {
        first.scope = Scope::Unit;
    }
    Reading { items, rejected, ..Reading::default() }
}

/// Returns the reading of a valid body without content for this signal. An OTLP receiver accepts unknown fields, so
/// that this is a warning for the sender, not a failure.
fn foreign(signal: Signal, mismatch: Mismatch, body: &Bytes) -> Received {
    let mut received = rejected(body, 0, mismatch.reason(signal));
    received.reading.is_foreign = true;
    received
}

/// Returns the reading of a body of which nothing is accepted.
fn rejected(body: &Bytes, at: usize, reason: String) -> Received {
    let rejected = vec![rejection(at, reason, body.clone())];
    Received { kept: body.clone(), reading: Reading { rejected, ..Reading::default() } }
}

fn rejection(at: usize, reason: String, input: Bytes) -> Rejected {
    let column = u32::try_from(at + 1).unwrap_or(u32::MAX);
    Rejected { scope: Scope::Unit, line: REQUEST, column, code: RejectCode::Other, at, reason, input }
}

#[cfg(test)]
mod tests;
