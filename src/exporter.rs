//! The way out: export requests become POSTs, and receipts are settled by what the downstream answers.
//!
//! In: [`Export`]s. Out: one OTLP/HTTP request for each, or merged ones with `delivery: batch`.
//! The stack, outermost first: observe > retry > timeout > post. A timeout bounds one attempt, retry bounds them
//! all, observe counts the outcome once.

use bytes::Bytes;

use crate::otlp::Signal;
use crate::queue::{Receipt, Settled};

/// One request that is to leave.
#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) signal: Signal,
    /// A complete OTLP/JSON export request.
    pub(crate) json: Bytes,
    /// Spans, log records or metric points in it.
    pub(crate) items: u32,
    /// What is settled, and how, once the downstream has taken it. When it never will, all of them are rejected.
    pub(crate) receipts: Vec<(Receipt, Settled)>,
}
