//! OTLP/HTTP: export requests that are passed through.
//!
//! In: headers and a decoded body, JSON or protobuf. Out: one [`Item`] for a request with content, which goes
//! [straight](Passage::Straight) to the exporter; a [`Rejected`] for an invalid body, and for each span without valid
//! ids and each section of another signal.
//!
//! Promises: a request is accepted completely or not at all, except for such parts; canonical JSON is not copied, and
//! neither is protobuf that needs no change and is exported as protobuf. What must be changed in protobuf is changed in it.
//!
//! **The queue keeps a request as it is exported.** Protobuf that stays protobuf is kept as the sender wrote it, and the
//! parameters of the record state the form and the signal, which its bytes do not. All other requests are kept as JSON, with only
//! the section of their path, which identifies the signal: decoding protobuf before it is queued costs no more than later.

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
use crate::otlp::{
    DroppedSpan, Line, Metrics, Mismatch, ProtobufRequest, ReadProtobuf, Request, read_request, signal_of,
};

/// Maximum ratio of a protobuf request's JSON to the largest body. Real requests grow by a factor of two to five.
const MAX_GROWTH: usize = 8;

/// A request counts as one line, even if it is written in several.
const REQUEST: u32 = 1;

/// OTLP as a source.
pub(crate) const SOURCE: Source = Source {
    kind: config::KIND,
    build: |section, limits| {
        let Some(config) = source::section(section) else { return Vec::new() };
        let receiver = |signal| {
            let receiver = Otlp::new(config, signal, limits.max_body_bytes);
            Arc::new(receiver.keeping_protobuf(limits.keeps_protobuf[signal as usize])) as Arc<dyn Receiver>
        };
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
    /// Requests in protobuf are not decoded, because they are exported as protobuf.
    keeps_protobuf: bool,
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
            keeps_protobuf: false,
        }
    }

    /// Sets whether requests in protobuf stay protobuf, because they are exported as protobuf.
    pub(crate) fn keeping_protobuf(self, keeps_protobuf: bool) -> Self {
        Self { keeps_protobuf, ..self }
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

    /// Reads a kept request in the form that the parameters state.
    fn read_as(&self, body: &Bytes, parameters: &[u8], _headers: &KeptHeaders) -> Reading {
        let Some(signal) = signal_of_parameters(parameters) else { return self.read(body) };
        // It was accepted, so that no limit applies.
        let received = as_protobuf(signal, body).unwrap_or_else(|| decoded(signal, body, usize::MAX));
        let mut reading = received.reading;
        if !self.keeps_protobuf {
            reading.items.iter_mut().for_each(Item::decode);
        }
        reading
    }

    fn receive(&self, body: &Bytes, encoding: Encoding, _headers: &KeptHeaders) -> Received {
        match encoding {
            Encoding::Json => read(self.signal, body),
            Encoding::Protobuf => self
                .keeps_protobuf
                .then(|| as_protobuf(self.signal, body))
                .flatten()
                .unwrap_or_else(|| decoded(self.signal, body, self.max_json_bytes)),
        }
    }
}

// === impl Item ===

impl Item {
    /// Replaces a request in protobuf by the same data in a document.
    fn decode(&mut self) {
        let Some(request) = self.protobuf.take() else { return };
        let read = read(request.signal(), &request.to_json().into());
        for Self { traces, logs, metrics, .. } in read.reading.items {
            (self.traces, self.logs, self.metrics) = (traces, logs, metrics);
        }
    }
}

/// Returns the parameters of a request that is kept as protobuf.
fn protobuf_parameters(signal: Signal) -> &'static [u8] {
    match signal {
        Signal::Traces => b"protobuf traces",
        Signal::Logs => b"protobuf logs",
        Signal::Metrics => b"protobuf metrics",
    }
}

/// Returns the signal of a request that is kept as protobuf.
fn signal_of_parameters(parameters: &[u8]) -> Option<Signal> {
    Signal::ALL.into_iter().find(|signal| protobuf_parameters(*signal) == parameters)
}

/// Reads a request in protobuf that stays protobuf; `None` for any other.
fn as_protobuf(signal: Signal, body: &Bytes) -> Option<Received> {
    let ReadProtobuf { request, repairs, dropped } = ProtobufRequest::read(signal, body)?;
    let item = Item {
        line: REQUEST,
        traces: None,
        logs: None,
        metrics: None,
        protobuf: Some(request),
        repairs,
        passage: Passage::Straight,
    };
    let rejected = dropped.into_iter().map(|span| rejected_part(span, Scope::Item)).collect();
    let reading = Reading { items: vec![item], rejected, ..Reading::default() };
    Some(Received {
        kept: body.clone(),
        parameters: Bytes::from_static(protobuf_parameters(signal)),
        reading,
    })
}

/// Reads a request in protobuf as the JSON of the same data.
fn decoded(signal: Signal, body: &Bytes, max_json_bytes: usize) -> Received {
    match decode(signal, body, max_json_bytes) {
        Ok(Decoded { is_foreign: true, .. }) => foreign(signal, Mismatch::NoSection, body),
        Ok(Decoded { json, is_repaired, has_unknown, .. }) => {
            let mut received = read(signal, &json.into());
            let Reading { items, rejected, .. } = &mut received.reading;
            let holds_nothing = |item: &Item| item.metrics.as_ref().is_some_and(Metrics::is_bare);
            if has_unknown && items.iter().all(holds_nothing) && rejected.is_empty() {
                return foreign(signal, Mismatch::OtherContent, body);
            }
            if is_repaired {
                items.iter_mut().for_each(|item| item.repairs.push(Repair::InvalidUtf8));
            }
            received
        }
        Err(error) => rejected(body, error.at, error.to_string()),
    }
}

fn read(signal: Signal, body: &Bytes) -> Received {
    match read_request(signal, body) {
        Ok(Request { mismatch: Some(mismatch), .. }) => foreign(signal, mismatch, body),
        Ok(Request { line, text, sections, .. }) => received(text, reading(line, sections)),
        Err(fault) => rejected(body, fault.at, fault.reason.into_owned()),
    }
}

fn reading(line: Line, sections: Vec<DroppedSpan>) -> Reading {
    let Line { traces, logs, metrics, repairs, dropped, .. } = line;
    let mut rejected: Vec<Rejected> =
        dropped.into_iter().map(|span| rejected_part(span, Scope::Item)).collect();
    rejected.extend(sections.into_iter().map(|section| rejected_part(section, Scope::Section)));
    let items = match (&traces, &logs, &metrics) {
        (None, None, None) => Vec::new(),
        _ => vec![Item {
            line: REQUEST,
            traces,
            logs,
            metrics,
            protobuf: None,
            repairs,
            passage: Passage::Straight,
        }],
    };
    if let (true, Some(first)) = (items.is_empty(), rejected.first_mut()) {
        first.scope = Scope::Unit;
    }
    Reading { items, rejected, ..Reading::default() }
}

fn rejected_part(part: DroppedSpan, scope: Scope) -> Rejected {
    let DroppedSpan { at, code, reason, range, text } = part;
    let offset = at.saturating_sub(range.start);
    Rejected { scope, code, at: offset, ..rejection(at, reason.into_owned(), text) }
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
    received(body.clone(), Reading { rejected, ..Reading::default() })
}

/// Returns the reading of a body that is kept as JSON.
fn received(kept: Bytes, reading: Reading) -> Received {
    Received { kept, parameters: Bytes::new(), reading }
}

fn rejection(at: usize, reason: String, input: Bytes) -> Rejected {
    let column = u32::try_from(at + 1).unwrap_or(u32::MAX);
    Rejected {
        scope: Scope::Unit,
        line: REQUEST,
        column,
        code: RejectCode::Other,
        at,
        reason,
        input,
        scrubbed: None,
    }
}

#[cfg(test)]
mod tests;
