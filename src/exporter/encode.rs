//! The body of a request: encoded and compressed as the configuration says.
//!
//! In: a complete OTLP/JSON request. Out: the bytes that go over the wire. Done once for an export, however often
//! it is sent.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;

use crate::config::{Compression, Encoding, ExporterConfig};
use crate::otlp::{Signal, protobuf};

/// Level 1 for both: telemetry is repetitive, and what higher levels save on the wire costs more here.
const GZIP_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;
/// Work on more than this is not done on a thread that serves sockets: about a millisecond.
const INLINE_BYTES: usize = 256 * 1024;

/// Turns JSON into what is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoder {
    encode: Option<EncodeProtobuf>,
    compression: Compression,
}

/// Writes an OTLP/JSON request as protobuf.
type EncodeProtobuf = fn(Signal, &[u8]) -> Result<Vec<u8>, ProtobufError>;

/// Why a request has no protobuf form.
type ProtobufError = Box<dyn std::error::Error + Send + Sync>;

/// `encoding: protobuf` is not part of this build.
#[derive(Debug, thiserror::Error)]
#[error("exporters.otlp_http: encoding protobuf is not available, use json")]
pub(crate) struct NoProtobuf;

/// Why a request cannot be put on the wire: permanent, it is the data.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    #[error("it cannot be written as protobuf: {0}")]
    Protobuf(ProtobufError),
    #[error("it cannot be compressed")]
    Compress(#[source] io::Error),
}

// === impl Encoder ===

impl Encoder {
    pub(super) fn new(config: &ExporterConfig) -> Result<Self, NoProtobuf> {
        let encode = match config.encoding {
            Encoding::Json => None,
            Encoding::Protobuf => Some(protobuf().ok_or(NoProtobuf)?),
        };
        Ok(Self { encode, compression: config.compression })
    }

    /// The body of the request.
    pub(super) async fn body(self, signal: Signal, json: Bytes) -> Result<Bytes, EncodeError> {
        let nothing_to_do = self.encode.is_none() && self.compression == Compression::None;
        if nothing_to_do {
            return Ok(json);
        }
        if json.len() <= INLINE_BYTES {
            return self.encode(signal, &json);
        }
        match tokio::task::spawn_blocking(move || self.encode(signal, &json)).await {
            Ok(body) => body,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // cancelled: the runtime is going down, and with it whoever waits for this
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn encode(self, signal: Signal, json: &Bytes) -> Result<Bytes, EncodeError> {
        let plain = match self.encode {
            Some(encode) => encode(signal, json).map_err(EncodeError::Protobuf)?.into(),
            None => json.clone(),
        };
        let compressed = match self.compression {
            Compression::None => return Ok(plain),
            Compression::Gzip => gzip(&plain),
            Compression::Zstd => zstd::bulk::compress(&plain, ZSTD_LEVEL),
        };
        compressed.map(Bytes::from).map_err(EncodeError::Compress)
    }
}

/// The one place that knows who writes protobuf.
fn protobuf() -> Option<EncodeProtobuf> {
    Some(|signal, json| protobuf::encode(signal, json).map_err(|fault| fault.reason.into()))
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

    fn encoder(compression: Compression) -> Encoder {
        Encoder { encode: None, compression }
    }

    #[tokio::test]
    async fn compresses_small_and_large_bodies_without_loss() {
        for size in [0, 1, 2_000, 3 * INLINE_BYTES] {
            let json = Bytes::from("{\"resourceSpans\":[]}".repeat(size / 20 + 1));
            let gzip = encoder(Compression::Gzip).body(Signal::Traces, json.clone()).await.unwrap();
            let mut inflated = Vec::new();
            flate2::read::MultiGzDecoder::new(gzip.as_ref()).read_to_end(&mut inflated).unwrap();
            assert_eq!(inflated, json);

            let zstd = encoder(Compression::Zstd).body(Signal::Traces, json.clone()).await.unwrap();
            assert_eq!(zstd::stream::decode_all(zstd.as_ref()).unwrap(), json);
        }
    }

    #[tokio::test]
    async fn leaves_plain_json_where_it_lies() {
        let json = Bytes::from_static(b"{}");
        let body = encoder(Compression::None).body(Signal::Logs, json.clone()).await.unwrap();
        assert_eq!(body.as_ptr(), json.as_ptr());
    }

    #[tokio::test]
    async fn data_that_has_no_protobuf_form_is_an_error_and_not_a_panic() {
        let refuses = Encoder { encode: Some(|_, _| Err("bad id".into())), compression: Compression::Gzip };
        let error = refuses.body(Signal::Traces, Bytes::from_static(b"{}")).await.unwrap_err();
        assert_eq!(error.to_string(), "it cannot be written as protobuf: bad id");
    }
}
