//! Encodes and compresses the body of a request as configured.
//!
//! In: the requests of a batch, as JSON or as protobuf. Out: the bytes on the wire. Done once for an export, regardless of the number
//! of attempts. A request that is in the downstream's encoding already is neither read nor copied.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::batch::Batch;
use super::compress::Compressors;
use super::slices::Slices;
use crate::config::{Compression, Encoding, SignalExport};
use crate::event::Signal;
use crate::otlp::json::Fault;
use crate::otlp::{ExportRequest, protobuf};

/// Size above which the work, of about a millisecond, is moved off the threads that serve sockets.
const INLINE_BYTES: usize = 256 * 1024;

/// Encoder for the requests of one signal.
#[derive(Debug, Clone)]
pub(super) struct Encoder {
    signal: Signal,
    encoding: Encoding,
    compression: Compression,
    compressors: Arc<Compressors>,
}

/// A body before it is encoded.
#[derive(Debug)]
pub(super) enum Plain {
    /// The body is in the encoding of the downstream.
    Encoded(Slices),
    /// Requests to be encoded as protobuf.
    Mixed(Vec<Piece>),
}

/// One of several requests that are sent as one.
#[derive(Debug)]
pub(super) enum Piece {
    Json(Bytes),
    Protobuf(Bytes),
}

/// Reason that a request cannot be encoded. It is permanent, because the data is at fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    #[error("not encodable as protobuf: {reason} at byte {at}")]
    Protobuf { reason: Cow<'static, str>, at: usize },
    #[error("compression failed")]
    Compress(#[source] io::Error),
}

// === impl Encoder ===

impl Encoder {
    pub(super) fn new(signal: Signal, export: &SignalExport<'_>, compressors: Arc<Compressors>) -> Self {
        Self { signal, encoding: export.encoding, compression: export.compression, compressors }
    }

    /// Returns what the body is made of.
    pub(super) fn plain(&self, batch: &Batch) -> Plain {
        match self.encoding {
            Encoding::Json => Plain::Encoded(batch.json()),
            // In protobuf, concatenated requests are the merged request.
            Encoding::Protobuf if batch.requests().all(|request| request.protobuf().is_some()) => {
                Plain::Encoded(
                    batch.requests().map(|request| request.bytes().clone()).collect::<Vec<_>>().into(),
                )
            }
            Encoding::Protobuf => Plain::Mixed(batch.requests().map(Piece::of).collect()),
        }
    }

    /// Returns what the body of a request in JSON is made of.
    pub(super) fn plain_json(&self, json: Bytes) -> Plain {
        match self.encoding {
            Encoding::Json => Plain::Encoded(json.into()),
            Encoding::Protobuf => Plain::Mixed(vec![Piece::Json(json)]),
        }
    }

    /// Returns the body of the request.
    pub(super) async fn body(self, plain: Plain) -> Result<Slices, EncodeError> {
        let plain_bytes = match plain {
            Plain::Encoded(body) if self.compression == Compression::None => return Ok(body),
            Plain::Encoded(ref body) => body.remaining(),
            Plain::Mixed(ref pieces) => pieces.iter().map(Piece::len).sum(),
        };
        if plain_bytes <= INLINE_BYTES {
            return self.encode(plain);
        }
        match tokio::task::spawn_blocking(move || self.encode(plain)).await {
            Ok(body) => body,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Cancelled: the runtime is shutting down, and drops the task that awaits this.
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn encode(&self, plain: Plain) -> Result<Slices, EncodeError> {
        let plain = match plain {
            Plain::Encoded(body) => body,
            Plain::Mixed(pieces) => {
                let message_bytes = pieces.iter().map(Piece::usual_bytes).sum();
                let mut message = Vec::with_capacity(message_bytes);
                for piece in &pieces {
                    match piece {
                        Piece::Json(json) => protobuf::encode_onto(self.signal, json, &mut message)?,
                        Piece::Protobuf(request) => message.extend_from_slice(request),
                    }
                }
                Bytes::from(message).into()
            }
        };
        let compressed = match self.compression {
            Compression::None => return Ok(plain),
            Compression::Gzip => self.compressors.gzip(&plain),
            Compression::Zstd => self.compressors.zstd(&plain),
        };
        compressed.map(|body| Bytes::from(body).into()).map_err(EncodeError::Compress)
    }
}

// === impl Piece ===

impl Piece {
    fn of(request: &ExportRequest) -> Self {
        let bytes = request.bytes().clone();
        if request.protobuf().is_some() { Self::Protobuf(bytes) } else { Self::Json(bytes) }
    }

    fn len(&self) -> usize {
        let (Self::Json(bytes) | Self::Protobuf(bytes)) = self;
        bytes.len()
    }

    /// Returns the usual length as protobuf.
    fn usual_bytes(&self) -> usize {
        match self {
            Self::Json(json) => protobuf::usual_bytes(json.len()),
            Self::Protobuf(request) => request.len(),
        }
    }
}

// === impl EncodeError ===

impl From<Fault> for EncodeError {
    fn from(fault: Fault) -> Self {
        Self::Protobuf { reason: fault.reason, at: fault.at }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn encoder(encoding: Encoding, compression: Compression) -> Encoder {
        let compressors = Arc::new(Compressors::new());
        Encoder { signal: Signal::Traces, encoding, compression, compressors }
    }

    /// Splits a text into slices of up to `piece_bytes`.
    fn pieces(text: &Bytes, piece_bytes: usize) -> Slices {
        text.chunks(piece_bytes).map(|piece| text.slice_ref(piece)).collect::<Vec<_>>().into()
    }

    fn whole(body: &Slices) -> Vec<u8> {
        body.iter().flat_map(|piece| piece.to_vec()).collect()
    }

    #[tokio::test]
    async fn compresses_small_and_large_bodies_without_loss() {
        for (size, piece_bytes) in [(0, 1), (1, 1), (2_000, 7), (3 * INLINE_BYTES, 1_000)] {
            let json = Bytes::from("{\"resourceSpans\":[]}".repeat(size / 20 + 1));
            let body = pieces(&json, piece_bytes);
            let gzip =
                encoder(Encoding::Json, Compression::Gzip).body(Plain::Encoded(body.clone())).await.unwrap();
            let mut inflated = Vec::new();
            flate2::read::MultiGzDecoder::new(&*whole(&gzip)).read_to_end(&mut inflated).unwrap();
            assert_eq!(inflated, json);

            let zstd = encoder(Encoding::Json, Compression::Zstd).body(Plain::Encoded(body)).await.unwrap();
            assert_eq!(zstd::stream::decode_all(&*whole(&zstd)).unwrap(), json);
        }
    }

    #[tokio::test]
    async fn does_not_copy_plain_json() {
        let json = Bytes::from_static(b"{}");
        let body = encoder(Encoding::Json, Compression::None)
            .body(Plain::Encoded(json.clone().into()))
            .await
            .unwrap();
        assert_eq!(body.chunk().as_ptr(), json.as_ptr());
    }

    #[tokio::test]
    async fn data_that_protobuf_cannot_express_is_an_error_with_its_position() {
        let encoder = encoder(Encoding::Protobuf, Compression::Gzip);
        let plain = encoder.plain_json(Bytes::from_static(b"[]"));
        let result = encoder.body(plain).await;
        let said = result.unwrap_err().to_string();
        assert!(said.starts_with("not encodable as protobuf: ") && said.ends_with(" at byte 0"), "{said}");
    }
}
