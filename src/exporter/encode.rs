//! The body of a request: encoded and compressed as the configuration says.
//!
//! In: a complete OTLP/JSON request. Out: the bytes that go over the wire. Done once for an export, however often
//! it is sent.

use std::borrow::Cow;
use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;

use crate::config::{Compression, Encoding, SignalExport};
use crate::otlp::json::Fault;
use crate::otlp::{Signal, protobuf};

/// Level 1 for both: telemetry is repetitive, and what higher levels save on the wire costs more here.
const GZIP_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;
/// Work on more than this is not done on a thread that serves sockets: about a millisecond.
const INLINE_BYTES: usize = 256 * 1024;

/// Turns the JSON of one signal into what is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoder {
    signal: Signal,
    encoding: Encoding,
    compression: Compression,
}

/// Why a request cannot be put on the wire: permanent, it is the data.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    #[error("it cannot be written as protobuf: {reason} at byte {at}")]
    Protobuf { reason: Cow<'static, str>, at: usize },
    #[error("it cannot be compressed")]
    Compress(#[source] io::Error),
}

// === impl Encoder ===

impl Encoder {
    pub(super) fn new(signal: Signal, export: &SignalExport<'_>) -> Self {
        Self { signal, encoding: export.encoding, compression: export.compression }
    }

    /// The body of the request.
    pub(super) async fn body(self, json: Bytes) -> Result<Bytes, EncodeError> {
        if (self.encoding, self.compression) == (Encoding::Json, Compression::None) {
            return Ok(json);
        }
        if json.len() <= INLINE_BYTES {
            return self.encode(json);
        }
        match tokio::task::spawn_blocking(move || self.encode(json)).await {
            Ok(body) => body,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // cancelled: the runtime is going down, and with it whoever waits for this
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn encode(self, json: Bytes) -> Result<Bytes, EncodeError> {
        let plain = match self.encoding {
            Encoding::Json => json,
            Encoding::Protobuf => protobuf::encode(self.signal, &json)?.into(),
        };
        let compressed = match self.compression {
            Compression::None => return Ok(plain),
            Compression::Gzip => gzip(&plain),
            Compression::Zstd => zstd::bulk::compress(&plain, ZSTD_LEVEL),
        };
        compressed.map(Bytes::from).map_err(EncodeError::Compress)
    }
}

// === impl EncodeError ===

impl From<Fault> for EncodeError {
    fn from(fault: Fault) -> Self {
        Self::Protobuf { reason: fault.reason, at: fault.at }
    }
}

fn gzip(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder =
        GzEncoder::new(Vec::with_capacity(plain.len() / 4), flate2::Compression::new(GZIP_LEVEL));
    encoder.write_all(plain)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn encoder(encoding: Encoding, compression: Compression) -> Encoder {
        Encoder { signal: Signal::Traces, encoding, compression }
    }

    #[tokio::test]
    async fn compresses_small_and_large_bodies_without_loss() {
        for size in [0, 1, 2_000, 3 * INLINE_BYTES] {
            let json = Bytes::from("{\"resourceSpans\":[]}".repeat(size / 20 + 1));
            let gzip = encoder(Encoding::Json, Compression::Gzip).body(json.clone()).await.unwrap();
            let mut inflated = Vec::new();
            flate2::read::MultiGzDecoder::new(gzip.as_ref()).read_to_end(&mut inflated).unwrap();
            assert_eq!(inflated, json);

            let zstd = encoder(Encoding::Json, Compression::Zstd).body(json.clone()).await.unwrap();
            assert_eq!(zstd::stream::decode_all(zstd.as_ref()).unwrap(), json);
        }
    }

    #[tokio::test]
    async fn leaves_plain_json_where_it_lies() {
        let json = Bytes::from_static(b"{}");
        let body = encoder(Encoding::Json, Compression::None).body(json.clone()).await.unwrap();
        assert_eq!(body.as_ptr(), json.as_ptr());
    }

    #[tokio::test]
    async fn data_that_has_no_protobuf_form_is_an_error_that_says_where() {
        let refused = encoder(Encoding::Protobuf, Compression::Gzip).body(Bytes::from_static(b"[]")).await;
        let said = refused.unwrap_err().to_string();
        assert!(
            said.starts_with("it cannot be written as protobuf: ") && said.ends_with(" at byte 0"),
            "{said}"
        );
    }
}
