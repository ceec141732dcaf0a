//! An export request in protobuf that stays protobuf.

use bytes::Bytes;

use super::super::document::DroppedSpan;
use super::check::{RequestContents, check};
use super::decode::decode;
use super::repair::{RepairedRequest, repair};
use super::select::select;
use crate::event::{Repair, Signal};

/// A complete export request of one signal, in which nothing has to be changed: the bytes of the sender, except for repairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtobufRequest {
    signal: Signal,
    bytes: Bytes,
    items: u32,
}

/// A request that was read, with what was changed.
#[derive(Debug)]
pub(crate) struct ReadProtobuf {
    pub(crate) request: ProtobufRequest,
    pub(crate) repairs: Vec<Repair>,
    /// Spans that were rejected.
    pub(crate) dropped: Vec<DroppedSpan>,
}

// === impl ProtobufRequest ===

impl ProtobufRequest {
    /// Reads a request, and repairs it if necessary; `None` if it must be decoded, because it is invalid, without items, or
    /// encoded in a way that real encoders do not use.
    pub(crate) fn read(signal: Signal, body: &Bytes) -> Option<ReadProtobuf> {
        if let Some(RequestContents { items, .. }) = check(signal, body) {
            let request = Self { signal, bytes: body.clone(), items };
            return Some(ReadProtobuf { request, repairs: Vec::new(), dropped: Vec::new() });
        }
        let RepairedRequest { bytes, repairs, dropped, has_unknown } = repair(signal, body)?;
        // The unknown fields may be in what was left out.
        let RequestContents { items, .. } =
            check(signal, &bytes).filter(|contents| !(contents.is_bare && has_unknown))?;
        Some(ReadProtobuf { request: Self { signal, bytes: bytes.into(), items }, repairs, dropped })
    }

    /// Returns the signal.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// Returns the number of spans, log records or data points; a metric without any counts as one.
    pub fn item_count(&self) -> u32 {
        self.items
    }

    /// Returns the request.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns a request with the items for which `keep` is true; `None` when there are none.
    pub fn select(&self, mut keep: impl FnMut(u32) -> bool) -> Option<Self> {
        let mut items = 0;
        let bytes = select(self.signal, &self.bytes, |item| {
            let is_kept = keep(item);
            items += u32::from(is_kept);
            is_kept
        })?;
        Some(Self { signal: self.signal, bytes: bytes.into(), items })
    }

    /// Returns the same data as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let decoded = decode(self.signal, &self.bytes, usize::MAX);
        debug_assert!(decoded.is_ok(), "a request was not readable again: {decoded:?}");
        decoded.map(|decoded| decoded.json).unwrap_or_default()
    }
}
