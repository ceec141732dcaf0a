//! The way of the data without its ends: from bytes through receiver and processor to requests, in one call.

use bytes::Bytes;

use super::Source;
use super::findings::{Finding, Outcome, Outgoing};
use crate::receiver::{Item, Reading};

/// What a relay that had nothing else to do would have made of a body.
#[derive(Debug, Default)]
pub(super) struct Offline {
    pub(super) findings: Vec<Finding>,
    pub(super) outgoing: Vec<Outgoing>,
}

/// Reads the body with the receiver's default settings and puts the log events onto the spans of the same body.
pub(super) fn relay_offline(source: Source, body: &Bytes) -> Offline {
    let reading = read(source, body);
    Offline::new(reading, attach)
}

/// What the receiver makes of the body.
#[allow(unused_variables, clippy::todo)] // until the receivers are there
fn read(source: Source, body: &Bytes) -> Reading {
    todo!()
}

/// What the processor makes of the items, as one request that waits for nothing after it.
#[allow(unused_variables, clippy::todo)] // until the processor is there
fn attach(items: Vec<Item>) -> Vec<Outgoing> {
    todo!()
}

// === impl Offline ===

impl Offline {
    pub(super) fn new(reading: Reading, attach: impl FnOnce(Vec<Item>) -> Vec<Outgoing>) -> Self {
        let Reading { mut items, rejected, ignored, .. } = reading;
        let accepted = items.iter_mut().map(|item| {
            let repairs = std::mem::take(&mut item.repairs);
            let outcome = if repairs.is_empty() { Outcome::Accepted } else { Outcome::Repaired(repairs) };
            Finding { line: item.line, outcome }
        });
        let rejected = rejected.into_iter().map(|part| Finding {
            line: part.line,
            outcome: Outcome::Rejected { column: part.column, reason: part.reason },
        });
        let ignored = ignored.map(|why| Finding { line: 1, outcome: Outcome::Ignored(why) });
        let findings = accepted.chain(rejected).chain(ignored).collect();
        Self { findings, outgoing: attach(items) }
    }
}
