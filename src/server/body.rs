//! Bounded reading and decompression of request bodies.
//!
//! In: a body on the wire. Out: its bytes in one buffer, or an error.
//! Promises: never more than the limit in memory, as sent and after decompression, and all of it charged to the budget of all
//! bodies; a large body that arrives in one
//! frame is not copied. The body of a request that is rejected unread is drained in the background, within bounds, so
//! that a client that reads only after writing everything receives the status instead of a reset.
//! Leaves to others: the meaning of the bytes; the status of a failure ([`super::reply`]).

pub(super) mod inflate;

#[cfg(test)]
mod tests;

use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::{HeaderMap, Request};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::debug;

use super::serve::Busy;
use crate::budget::{Charge, ChargedBody, OverBudget};
use inflate::{Codings, InflateError};

/// Maximum number of bytes drained of a rejected body; beyond it the connection is closed.
const DRAIN_MAX_BYTES: u64 = 256 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum initial allocation for a declared length.
const FIRST_CAPACITY_BYTES: u64 = 256 * 1024;
/// Factor by which the allocation may exceed the bytes received so far. Unwritten capacity costs address space but no
/// memory, and each growth copies the received bytes.
const TRUST: u64 = 16;
/// Maximum size of bodies that are copied. A frame from hyper is a slice of its read buffer (8 KiB, up to 64 KiB on a
/// busy connection) and would keep all of it in memory while the body is held or queued.
const OWN_MEMORY_BYTES: usize = 32 * 1024;
/// Maximum size of encoded bodies that are decompressed on the async thread at first.
const INLINE_WIRE_BYTES: usize = 16 * 1024;
/// Decompressed size beyond which a blocking thread takes over: a fraction of a millisecond of work.
const INLINE_INFLATED_BYTES: u64 = 256 * 1024;

/// A request body that has not been read yet. Dropping it drains it.
#[derive(Debug)]
pub(super) struct Inbound<B: Body<Data = Bytes> + Unpin + Send + 'static = Incoming> {
    /// `None` once the body has been read to its end.
    body: Option<B>,
    /// `true` if the client sent `Expect: 100-continue`; a rejected body need not be drained then.
    holds_back: bool,
    /// Guard that keeps the connection busy while the body exists.
    busy: Option<Arc<Busy>>,
}

/// Maximum size and duration of a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub(super) max_bytes: u64,
    pub(super) timeout: Duration,
}

/// Reason that a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the body is larger than {max_bytes} bytes")]
    TooLarge { max_bytes: u64 },
    #[error("the body did not end within {} s", .timeout.as_secs_f64())]
    TooSlow { timeout: Duration },
    #[error("the body was cut short")]
    CutShort,
    #[error("too many bytes of bodies in memory")]
    OverBudget(OverBudget),
}

impl From<OverBudget> for ReadError {
    fn from(cause: OverBudget) -> Self {
        Self::OverBudget(cause)
    }
}

/// Received frames, joined into one buffer.
#[derive(Debug, Default)]
struct Pieces {
    /// The frame, if there is only one so far.
    first: Bytes,
    /// All frames, if there are several.
    joined: Vec<u8>,
}

// === impl Inbound ===

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Inbound<B> {
    /// Wraps the body of a request. Must happen before any layer that can reject the request.
    pub(super) fn wrap(request: Request<B>) -> Request<Self> {
        let (mut parts, body) = request.into_parts();
        let holds_back = parts
            .headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let busy = parts.extensions.remove();
        Request::from_parts(parts, Self { body: Some(body), holds_back, busy })
    }

    /// Rejects a body whose declared length is too large.
    pub(super) fn check_declared_length(&self, limits: BodyLimits) -> Result<(), ReadError> {
        let declared = self.body.as_ref().map_or(0, |body| body.size_hint().lower());
        if declared > limits.max_bytes {
            return Err(ReadError::TooLarge { max_bytes: limits.max_bytes });
        }
        Ok(())
    }

    /// Reads the whole body, and charges it.
    pub(super) async fn read(mut self, limits: BodyLimits, charge: &mut Charge) -> Result<Bytes, ReadError> {
        self.check_declared_length(limits)?;
        let Some(body) = self.body.as_mut() else { return Ok(Bytes::new()) };
        // Only what came is charged: a declared length costs the client nothing.
        charge.check(body.size_hint().lower())?;
        self.holds_back = false;
        let all = timeout(limits.timeout, collect(body, limits.max_bytes, charge))
            .await
            .unwrap_or(Err(ReadError::TooSlow { timeout: limits.timeout }))?;
        self.body = None;
        Ok(all)
    }
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Drop for Inbound<B> {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if body.is_end_stream() || self.holds_back {
            return;
        }
        let busy = self.busy.take();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if timeout(DRAIN_TIMEOUT, drain(body)).await.is_err() {
                    debug!("stopped draining a rejected body");
                }
                drop(busy);
            });
        }
    }
}

async fn collect<B: Body<Data = Bytes> + Unpin>(
    body: &mut B,
    max_bytes: u64,
    charge: &mut Charge,
) -> Result<Bytes, ReadError> {
    let declared = body.size_hint().exact().unwrap_or(0);
    let mut pieces = Pieces::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ReadError::CutShort)?;
        // Other frames are trailers, which are ignored.
        let Ok(piece) = frame.into_data() else { continue };
        if pieces.len() + piece.len() as u64 > max_bytes {
            return Err(ReadError::TooLarge { max_bytes });
        }
        charge.grow(piece.len() as u64)?;
        pieces.push(piece, declared);
    }
    Ok(pieces.into_bytes())
}

async fn drain<B: Body<Data = Bytes>>(body: B) {
    let mut body = pin!(body);
    let mut drained_bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        drained_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        if drained_bytes > DRAIN_MAX_BYTES {
            return;
        }
    }
}

// === impl Pieces ===

impl Pieces {
    fn len(&self) -> u64 {
        (self.first.len() + self.joined.len()) as u64
    }

    fn push(&mut self, piece: Bytes, declared_bytes: u64) {
        if self.len() == 0 {
            self.first = piece;
            return;
        }
        if self.joined.is_empty() {
            let first = std::mem::take(&mut self.first);
            self.joined.reserve_exact(first.len() + piece.len());
            self.joined.extend_from_slice(&first);
        }
        self.make_room(piece.len(), declared_bytes);
        self.joined.extend_from_slice(&piece);
    }

    /// Grows the buffer towards the declared length, bounded by the bytes received; the last step fits exactly.
    fn make_room(&mut self, piece_bytes: usize, declared_bytes: u64) {
        let len = self.joined.len();
        if self.joined.capacity() - len >= piece_bytes {
            return;
        }
        let target = if declared_bytes > len as u64 {
            (TRUST * len as u64).max(FIRST_CAPACITY_BYTES).min(declared_bytes)
        } else {
            (2 * len as u64).max(FIRST_CAPACITY_BYTES)
        };
        let target = usize::try_from(target).unwrap_or(usize::MAX);
        self.joined.reserve_exact((target.saturating_sub(len)).max(piece_bytes));
    }

    fn into_bytes(self) -> Bytes {
        if !self.joined.is_empty() {
            return Bytes::from(self.joined);
        }
        if self.first.len() <= OWN_MEMORY_BYTES { Bytes::copy_from_slice(&self.first) } else { self.first }
    }
}

/// Returns the content codings of a body by its headers, before it is read.
pub(super) fn codings(headers: &HeaderMap) -> Result<Codings, inflate::UnknownCoding> {
    Codings::from_headers(headers)
}

/// Decompresses a whole body. `max_bytes` bounds the output of every layer; `charge` is that of the body as sent, and is that of
/// the result afterwards.
pub(super) async fn decode(
    codings: Codings,
    wire: Bytes,
    max_bytes: u64,
    mut charge: Charge,
) -> Result<ChargedBody, InflateError> {
    let codings = codings.of(&wire);
    if codings.is_identity() || wire.is_empty() {
        return Ok(ChargedBody { bytes: wire, charge });
    }
    if wire.len() <= INLINE_WIRE_BYTES {
        let inline_max_bytes = max_bytes.min(INLINE_INFLATED_BYTES);
        match codings.undo(wire.clone(), inline_max_bytes, &mut charge) {
            Err(InflateError::TooLarge { .. }) if inline_max_bytes < max_bytes => {
                charge.set(wire.len() as u64);
            }
            decoded => return Ok(ChargedBody { bytes: decoded?, charge }),
        }
    }
    let decoded = tokio::task::spawn_blocking(move || {
        let bytes = codings.undo(wire, max_bytes, &mut charge)?;
        Ok(ChargedBody { bytes, charge })
    });
    match decoded.await {
        Ok(decoded) => decoded,
        // The panic layer of the stack responds.
        Err(failed) => resume_unwind(failed.into_panic()),
    }
}
