//! Bounded decompression of content codings.
//!
//! In: a whole encoded body and the maximum size of the output. Out: the decoded bytes, or an error.
//! Promises: memory grows with the actual output and never with the size that a body claims, and is charged to the budget of all
//! bodies before it grows; truncated input and
//! trailing data are errors, not a shorter body.
//! Leaves to others: the thread on which this runs ([`super::decode`]).

#[cfg(test)]
mod tests;

use std::io::{self, Read};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use crate::budget::{Charge, OverBudget};

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const LZ4_MAGIC: &[u8] = &[0x04, 0x22, 0x4d, 0x18];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Stream identifier chunk at the start of framed snappy.
const SNAPPY_FRAMED_MAGIC: &[u8] = b"\xff\x06\x00\x00sNaPpY";
/// Maximum number of codings per body. Clients use at most two.
const MAX_CODINGS: usize = 4;
/// Binary logarithm of the largest window of a zstd frame: 128 MiB, the default of the `zstd` tool. The window of a
/// single-segment frame is its content. The memory is touched only as data is decoded.
const ZSTD_MAX_WINDOW_LOG: u32 = 27;
const FIRST_CAPACITY_BYTES: u64 = 64 * 1024;

/// Codings of one body, in the order in which they were applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::server) struct Codings(Vec<Coding>);

/// Unsupported coding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::server) enum UnknownCoding {
    #[error("unknown content-encoding; known are gzip, deflate, zlib, zstd, snappy, lz4 and identity")]
    Name,
    #[error("more than {MAX_CODINGS} content-encodings on one body")]
    TooMany,
}

/// Reason that a body could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum InflateError {
    #[error("the body is larger than {max_bytes} bytes after decompression")]
    TooLarge { max_bytes: u64 },
    #[error("the body is not valid {coding}: corrupt or cut short")]
    Corrupt {
        coding: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("too many bytes of bodies in memory")]
    OverBudget(OverBudget),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    /// Deflate with or without the zlib wrapper: clients disagree about the meaning (RFC 9110, section 8.4.1.2).
    Deflate,
    /// LZ4 frame format.
    Lz4,
    Zstd,
    /// Framed or a raw block: clients disagree here too.
    Snappy,
    SnappyFramed,
}

/// Reason that one coding could not be undone.
enum Failure {
    TooLarge,
    Corrupt(io::Error),
    OverBudget(OverBudget),
}

/// Output of one coding, which grows within the limit of a body and the budget of all bodies.
struct Output<'a> {
    bytes: Vec<u8>,
    max_bytes: u64,
    charge: &'a mut Charge,
}

// === impl Codings ===

impl Codings {
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, UnknownCoding> {
        let mut codings = Vec::new();
        for value in headers.get_all(CONTENT_ENCODING) {
            for name in value.as_bytes().split(|byte| *byte == b',') {
                let name = name.trim_ascii();
                if name.is_empty() || name.eq_ignore_ascii_case(b"identity") {
                    continue;
                }
                codings.push(Coding::named(name).ok_or(UnknownCoding::Name)?);
            }
        }
        if codings.len() > MAX_CODINGS {
            return Err(UnknownCoding::TooMany);
        }
        Ok(Self(codings))
    }

    /// Returns the codings by the headers, or, if they name none, by the first bytes of the body.
    pub(super) fn of(self, wire: &[u8]) -> Self {
        if self.0.is_empty() { Self(Coding::sniffed(wire).into_iter().collect()) } else { self }
    }

    pub(super) fn is_identity(&self) -> bool {
        self.0.is_empty()
    }

    /// Undoes the codings in reverse order. `charge` is that of the body, before and after.
    pub(super) fn undo(
        &self,
        wire: Bytes,
        max_bytes: u64,
        charge: &mut Charge,
    ) -> Result<Bytes, InflateError> {
        let mut body = wire;
        for coding in self.0.iter().rev() {
            if *coding == Coding::Gzip && !may_be_gzip(&body) {
                continue;
            }
            let mut output = Output { bytes: Vec::new(), max_bytes, charge };
            coding.undo(&body, &mut output).map_err(|failure| match failure {
                Failure::TooLarge => InflateError::TooLarge { max_bytes },
                Failure::Corrupt(source) => InflateError::Corrupt { coding: coding.as_str(), source },
                Failure::OverBudget(cause) => InflateError::OverBudget(cause),
            })?;
            let mut inflated = output.bytes;
            // The body may be held or queued for long; spare capacity must not be.
            if inflated.capacity() / 2 > inflated.len() {
                inflated.shrink_to_fit();
            }
            body = Bytes::from(inflated);
            charge.set(body.len() as u64);
        }
        Ok(body)
    }
}

// === impl Coding ===

impl Coding {
    fn named(name: &[u8]) -> Option<Self> {
        const NAMES: [(&[u8], Coding); 8] = [
            (b"gzip", Coding::Gzip),
            (b"x-gzip", Coding::Gzip),
            (b"deflate", Coding::Deflate),
            (b"zlib", Coding::Deflate),
            (b"lz4", Coding::Lz4),
            (b"zstd", Coding::Zstd),
            (b"snappy", Coding::Snappy),
            (b"x-snappy-framed", Coding::SnappyFramed),
        ];
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, coding)| *coding)
    }

    fn sniffed(wire: &[u8]) -> Option<Self> {
        const MAGIC: [(&[u8], Coding); 3] = [
            (GZIP_MAGIC, Coding::Gzip),
            (ZSTD_MAGIC, Coding::Zstd),
            (SNAPPY_FRAMED_MAGIC, Coding::SnappyFramed),
        ];
        MAGIC.iter().find(|(magic, _)| wire.starts_with(magic)).map(|(_, coding)| *coding)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Snappy => "snappy",
            Self::SnappyFramed => "x-snappy-framed",
        }
    }

    fn undo(self, encoded: &[u8], output: &mut Output<'_>) -> Result<(), Failure> {
        match self {
            // A gzip body can have several members; a single-member decoder would silently end after the first.
            Self::Gzip => output.read(MultiGzDecoder::new(encoded)),
            Self::Deflate => deflate(encoded, output),
            Self::Lz4 => lz4(encoded, output),
            Self::Zstd => zstd(encoded, output),
            Self::Snappy if !encoded.starts_with(SNAPPY_FRAMED_MAGIC) => snappy_block(encoded, output),
            Self::Snappy | Self::SnappyFramed => snappy_framed(encoded, output),
        }
    }
}

// === impl Output ===

impl Output<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Doubles the room, up to one byte beyond the limit, and returns the free part.
    fn make_room(&mut self) -> Result<u64, Failure> {
        let (len, full) = (self.len(), self.max_bytes.saturating_add(1));
        let room = len.max(FIRST_CAPACITY_BYTES).min(full - len);
        let spare = self.bytes.capacity() as u64 - len;
        if let Some(more) = room.checked_sub(spare) {
            self.charge.grow(more)?;
            self.bytes.reserve_exact(usize::try_from(room).unwrap_or(usize::MAX));
        }
        Ok(room)
    }

    /// Reads a decoder to its end.
    fn read(&mut self, mut decoder: impl Read) -> Result<(), Failure> {
        loop {
            let room = self.make_room()?;
            let came = decoder.by_ref().take(room).read_to_end(&mut self.bytes)? as u64;
            if self.len() > self.max_bytes {
                return Err(Failure::TooLarge);
            }
            if came < room {
                return Ok(());
            }
        }
    }
}

// === impl Failure ===

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Corrupt(error)
    }
}

impl From<OverBudget> for Failure {
    fn from(cause: OverBudget) -> Self {
        Self::OverBudget(cause)
    }
}

/// Returns `true` if a body announced as gzip can be gzip. Some clients, and proxies that decompress, leave the header on
/// an uncompressed body. Neither text nor an OTLP message begins with this byte.
fn may_be_gzip(body: &[u8]) -> bool {
    body.first().is_none_or(|first| GZIP_MAGIC.starts_with(&[*first]))
}

fn corrupt(what: &'static str) -> Failure {
    Failure::Corrupt(io::Error::new(io::ErrorKind::InvalidData, what))
}

fn zstd(encoded: &[u8], output: &mut Output<'_>) -> Result<(), Failure> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(encoded)?;
    decoder.window_log_max(ZSTD_MAX_WINDOW_LOG)?;
    output.read(decoder)
}

fn snappy_framed(encoded: &[u8], output: &mut Output<'_>) -> Result<(), Failure> {
    // Without this check an empty or foreign stream would be an empty body.
    if !encoded.starts_with(SNAPPY_FRAMED_MAGIC) {
        return Err(corrupt("no stream identifier"));
    }
    output.read(snap::read::FrameDecoder::new(encoded))
}

fn snappy_block(encoded: &[u8], output: &mut Output<'_>) -> Result<(), Failure> {
    // Checked before the decoder allocates the size that the block claims.
    let claimed = snap::raw::decompress_len(encoded).map_err(io::Error::from)? as u64;
    if claimed > output.max_bytes {
        return Err(Failure::TooLarge);
    }
    output.charge.grow(claimed)?;
    output.bytes = snap::raw::Decoder::new().decompress_vec(encoded).map_err(io::Error::from)?;
    Ok(())
}

/// Any number of frames. The decoder takes the end of the input for the end of a frame, so that each is measured first.
fn lz4(mut encoded: &[u8], output: &mut Output<'_>) -> Result<(), Failure> {
    while !encoded.is_empty() {
        let Some(frame) = lz4_frame_len(encoded).and_then(|len| encoded.split_at_checked(len)) else {
            return Err(corrupt("no whole frame"));
        };
        output.read(lz4_flex::frame::FrameDecoder::new(frame.0))?;
        encoded = frame.1;
    }
    Ok(())
}

/// Returns the length of the frame that this begins with, by its header and the sizes of its blocks (LZ4 frame format
/// 1.6). Nothing when it begins with something else or is cut short.
fn lz4_frame_len(encoded: &[u8]) -> Option<usize> {
    const MAGIC_AND_DESCRIPTOR: usize = 4 + 3;
    const CHECKSUM: usize = 4;
    let flags = *encoded.strip_prefix(LZ4_MAGIC)?.first()?;
    let has = |bit: u8| usize::from(flags >> bit & 1);
    let (block_checksum, content_size, content_checksum, dictionary) = (has(4), has(3), has(2), has(0));
    let mut at = MAGIC_AND_DESCRIPTOR + 8 * content_size + 4 * dictionary;
    loop {
        let size = u32::from_le_bytes(*encoded.get(at..)?.first_chunk()?);
        at += size_of::<u32>();
        if size == 0 {
            let end = at + CHECKSUM * content_checksum;
            return (end <= encoded.len()).then_some(end);
        }
        // The highest bit says that the block is stored as it is.
        at += usize::try_from(size & 0x7fff_ffff).ok()? + CHECKSUM * block_checksum;
    }
}

/// Decodes zlib or raw deflate. Requires the end of the stream itself, because flate2's readers accept the end of the
/// input instead.
fn deflate(encoded: &[u8], output: &mut Output<'_>) -> Result<(), Failure> {
    let mut stream = Decompress::new(has_zlib_header(encoded));
    loop {
        if output.bytes.len() == output.bytes.capacity() {
            output.make_room()?;
        }
        // At most the length of a slice.
        let consumed = usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
        let rest = encoded.get(consumed..).unwrap_or_default();
        let before = (stream.total_in(), output.len());
        let status = stream
            .decompress_vec(rest, &mut output.bytes, FlushDecompress::None)
            .map_err(|error| Failure::Corrupt(error.into()))?;
        if output.len() > output.max_bytes {
            return Err(Failure::TooLarge);
        }
        if status == Status::StreamEnd {
            let ended = usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
            return if ended == encoded.len() {
                Ok(())
            } else {
                Err(corrupt("bytes after the end of the stream"))
            };
        }
        if before == (stream.total_in(), output.len()) && output.bytes.len() < output.bytes.capacity() {
            return Err(corrupt("unexpected end of the stream"));
        }
    }
}

/// Returns `true` for a zlib header (RFC 1950): method 8, a window of at most 32 KiB, and a check that makes the first two
/// bytes a multiple of 31.
fn has_zlib_header(encoded: &[u8]) -> bool {
    let [first, second, ..] = encoded else { return false };
    first & 0x0f == 8 && first >> 4 <= 7 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0
}
