//! Request bodies, read as they come and undone as they were encoded, within bounds.
//!
//! In: a body on the wire. Out: its bytes in one piece, or why not.
//! Promises: never more than the limit in memory, as sent and as inflated; a large body that came in one piece is
//! not copied. What is turned away without being read is drained in the background, within bounds: a sender that
//! reads only after it has written everything still sees its status instead of a reset.
//! Leaves to others: what the bytes mean; which status a failure has ([`super::reply`]).

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
use inflate::{Codings, InflateError};

/// What is read and thrown away of a body that was turned away; then its connection is closed.
const DRAIN_MAX_BYTES: u64 = 256 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// What a declared length is trusted for before anything has come,
const FIRST_CAPACITY_BYTES: u64 = 256 * 1024;
/// and then, in multiples of what has. What is not written to takes addresses and no memory; and each step copies what is
/// there.
const TRUST: u64 = 16;
/// Bodies up to this size get memory of their own. The piece that hyper hands over is a slice of its read buffer
/// (8 KiB, grown to 64 KiB on a busy connection) and keeps all of it for as long as the body is held or queued.
const OWN_MEMORY_BYTES: usize = 32 * 1024;
/// Encoded bodies up to this size are tried where they are ...
const INLINE_WIRE_BYTES: usize = 16 * 1024;
/// ... and given to a blocking thread when they turn out larger than this: a fraction of a millisecond of work.
const INLINE_INFLATED_BYTES: u64 = 256 * 1024;

/// The body of a request that is not read yet. Dropping it unread drains it.
#[derive(Debug)]
pub(super) struct Inbound<B: Body<Data = Bytes> + Unpin + Send + 'static = Incoming> {
    /// Taken when it is read to its end.
    body: Option<B>,
    /// The sender waits for a word before it sends the body; a refusal saves it the trouble.
    holds_back: bool,
    /// While the body lives its connection is not idle.
    busy: Option<Arc<Busy>>,
}

/// How large a body may be and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub(super) max_bytes: u64,
    pub(super) timeout: Duration,
}

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the body is larger than {max_bytes} bytes")]
    TooLarge { max_bytes: u64 },
    #[error("the body did not end within {} s", .timeout.as_secs_f64())]
    TooSlow { timeout: Duration },
    #[error("the body was cut short")]
    CutShort,
}

/// Frames that are joined into one piece.
#[derive(Debug, Default)]
struct Pieces {
    /// The only one so far.
    first: Bytes,
    /// All of them, when there are several.
    joined: Vec<u8>,
}

// === impl Inbound ===

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Inbound<B> {
    /// To be done before anything can turn the request away.
    pub(super) fn wrap(request: Request<B>) -> Request<Self> {
        let (mut parts, body) = request.into_parts();
        let holds_back = parts
            .headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let busy = parts.extensions.remove();
        Request::from_parts(parts, Self { body: Some(body), holds_back, busy })
    }

    /// Whether the declared length alone is too large.
    pub(super) fn check_declared_length(&self, limits: BodyLimits) -> Result<(), ReadError> {
        let declared = self.body.as_ref().map_or(0, |body| body.size_hint().lower());
        if declared > limits.max_bytes {
            return Err(ReadError::TooLarge { max_bytes: limits.max_bytes });
        }
        Ok(())
    }

    /// The whole body.
    pub(super) async fn read(mut self, limits: BodyLimits) -> Result<Bytes, ReadError> {
        self.check_declared_length(limits)?;
        self.holds_back = false;
        let Some(body) = self.body.as_mut() else { return Ok(Bytes::new()) };
        let all = timeout(limits.timeout, collect(body, limits.max_bytes))
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
                    debug!("gave up draining a body that was turned away");
                }
                drop(busy);
            });
        }
    }
}

async fn collect<B: Body<Data = Bytes> + Unpin>(body: &mut B, max_bytes: u64) -> Result<Bytes, ReadError> {
    let declared = body.size_hint().exact().unwrap_or(0);
    let mut pieces = Pieces::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ReadError::CutShort)?;
        // Anything else is trailers, which mean nothing here.
        let Ok(piece) = frame.into_data() else { continue };
        if pieces.len() + piece.len() as u64 > max_bytes {
            return Err(ReadError::TooLarge { max_bytes });
        }
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

    /// Grows to the declared length, but no further than what has come is good for: the last step then fits exactly.
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

/// What a body is encoded with, by its headers. To be known before it is read.
pub(super) fn codings(headers: &HeaderMap) -> Result<Codings, inflate::UnknownCoding> {
    Codings::from_headers(headers)
}

/// Undoes the encoding of a whole body. `max_bytes` bounds what comes out, at every layer.
pub(super) async fn decode(codings: Codings, wire: Bytes, max_bytes: u64) -> Result<Bytes, InflateError> {
    let codings = codings.of(&wire);
    if codings.is_identity() || wire.is_empty() {
        return Ok(wire);
    }
    if wire.len() <= INLINE_WIRE_BYTES {
        let inline_max_bytes = max_bytes.min(INLINE_INFLATED_BYTES);
        match codings.undo(&wire, inline_max_bytes) {
            Err(InflateError::TooLarge { .. }) if inline_max_bytes < max_bytes => {}
            decoded => return decoded,
        }
    }
    match tokio::task::spawn_blocking(move || codings.undo(&wire, max_bytes)).await {
        Ok(decoded) => decoded,
        // The stack's panic layer answers it.
        Err(failed) => resume_unwind(failed.into_panic()),
    }
}
