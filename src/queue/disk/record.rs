//! Stored form of a record: the payload of its frame.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version of this layout, [`VERSION`] |
//! | 8 | time of arrival, Unix nanoseconds |
//! | 4 | length of all fields together |
//! | n | fields: a tag (1 byte), a length (4 bytes), a value |
//! | | the rest: the body, uncompressed or as one zstd frame |
//!
//! | tag | value |
//! |---|---|
//! | 1 | id of the receiver, UTF-8 |
//! | 2 | length of the body (8 bytes); present when the body is compressed |
//! | 3 | how the body was read; absent when empty |
//! | 4 | a header that the receiver reads the body by: length of the name (1 byte), name, value; once for each header |
//!
//! Integers are little-endian. Readers skip tags that they do not know, so that later versions can add fields.
//! Small bodies are stored uncompressed: compressing one costs more than writing it.

use std::cell::RefCell;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use zstd::bulk::Compressor;

use super::super::Record;
use super::frame::{FrameKind, HEADER_BYTES, Header, u32_at, u64_at};
use crate::event::KeptHeaders;

const VERSION: u8 = 2;
/// End of the time of arrival.
pub(super) const RECEIVED_END: usize = 9;
const FIXED_BYTES: usize = 13;
const FIELD_HEADER_BYTES: usize = 5;
const RECEIVER: u8 = 1;
const BODY_BYTES: u8 = 2;
const READING: u8 = 3;
const HEADER: u8 = 4;
/// Compression level: the fastest of the regular ones, about 1 GB/s.
const LEVEL: i32 = 1;
/// Smallest body that is compressed.
const COMPRESS_FROM_BYTES: usize = 8 * 1024;
/// Largest ratio of body to compressed size for which memory is reserved on the word of the header alone.
const TRUSTED_RATIO: usize = 64;

/// The reason why a stored record cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the body does not decompress to the stored length")]
    Body(#[source] io::Error),
    #[error("layout {0} of a newer version")]
    Version(u8),
    #[error("the header is damaged")]
    Header,
}

/// The frame of a record, without the fields that only the writer knows.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// Space for the frame header, then the payload.
    bytes: Vec<u8>,
    payload_crc: u32,
}

thread_local! {
    /// Reused, because creating a context costs more than compressing a small record.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

// === impl Encoded ===

impl Encoded {
    /// Wraps a payload that was read from another segment.
    pub(super) fn from_payload(payload: &[u8], payload_crc: u32) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend_from_slice(payload);
        Self { bytes, payload_crc }
    }

    pub(super) fn payload_bytes(&self) -> u64 {
        (self.bytes.len() - HEADER_BYTES) as u64
    }

    pub(super) fn frame_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn received(&self) -> Option<SystemTime> {
        received(self.bytes.get(HEADER_BYTES..)?)
    }

    /// Fills in the header and returns the frame.
    pub(super) fn frame(&mut self, marker: u64, id: u64, first: bool) -> &[u8] {
        let payload_bytes = u32::try_from(self.payload_bytes()).expect("a larger record was not accepted");
        let header =
            Header { kind: FrameKind::Record, first, id, payload_bytes, payload_crc: self.payload_crc };
        self.bytes[..HEADER_BYTES].copy_from_slice(&header.encode(marker));
        &self.bytes
    }
}

/// Encodes a record for the log.
pub(super) fn encode(record: &Record) -> io::Result<Encoded> {
    let compressed = match record.body.len() >= COMPRESS_FROM_BYTES {
        true => Some(compress(&record.body)?).filter(|compressed| compressed.len() < record.body.len()),
        false => None,
    };
    let body = compressed.as_deref().unwrap_or(&record.body);
    let received = record.received.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let header = FIXED_BYTES + 3 * FIELD_HEADER_BYTES + 8 + record.receiver.len() + record.reading.len();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + header + body.len());
    bytes.resize(HEADER_BYTES, 0);
    bytes.push(VERSION);
    bytes.extend_from_slice(&u64::try_from(received).unwrap_or(u64::MAX).to_le_bytes());
    let fields_at = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    push_field(&mut bytes, RECEIVER, record.receiver.as_bytes())?;
    if compressed.is_some() {
        push_field(&mut bytes, BODY_BYTES, &(record.body.len() as u64).to_le_bytes())?;
    }
    if !record.reading.is_empty() {
        push_field(&mut bytes, READING, &record.reading)?;
    }
    for (name, value) in record.headers.iter() {
        let name_bytes = u8::try_from(name.len()).map_err(io::Error::other)?;
        push_field(&mut bytes, HEADER, &[&[name_bytes], name.as_bytes(), value.as_bytes()].concat())?;
    }
    let fields_bytes = u32::try_from(bytes.len() - fields_at - 4).map_err(io::Error::other)?;
    bytes[fields_at..fields_at + 4].copy_from_slice(&fields_bytes.to_le_bytes());
    bytes.extend_from_slice(body);
    let payload_crc = crc32fast::hash(&bytes[HEADER_BYTES..]);
    Ok(Encoded { bytes, payload_crc })
}

fn push_field(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) -> io::Result<()> {
    bytes.push(tag);
    bytes.extend_from_slice(&u32::try_from(value.len()).map_err(io::Error::other)?.to_le_bytes());
    bytes.extend_from_slice(value);
    Ok(())
}

fn compress(body: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(Compressor::new(LEVEL)?),
        };
        compressor.compress(body)
    })
}

/// Reads the time of arrival from the first [`RECEIVED_END`] bytes of the payload of a record's frame.
pub(super) fn received(payload: &[u8]) -> Option<SystemTime> {
    let known = payload.len() >= RECEIVED_END && payload[0] == VERSION;
    known.then(|| UNIX_EPOCH + Duration::from_nanos(u64_at(payload, 1)))
}

/// Reads the payload of a record's frame.
pub(super) fn decode(payload: &[u8]) -> Result<Record, RecordError> {
    let &version = payload.first().ok_or(RecordError::Header)?;
    if version != VERSION {
        return Err(RecordError::Version(version));
    }
    if payload.len() < FIXED_BYTES {
        return Err(RecordError::Header);
    }
    let received = UNIX_EPOCH + Duration::from_nanos(u64_at(payload, 1));
    let (mut receiver, mut body_bytes, mut reading) = (None, None, Bytes::new());
    let mut headers = KeptHeaders::default();
    let body_at = FIXED_BYTES + u32_at(payload, 9) as usize;
    let mut fields = payload.get(FIXED_BYTES..body_at).ok_or(RecordError::Header)?;
    while !fields.is_empty() {
        let (tag, value, rest) = field(fields).ok_or(RecordError::Header)?;
        match tag {
            RECEIVER => receiver = std::str::from_utf8(value).ok().map(Arc::from),
            BODY_BYTES if value.len() == 8 => body_bytes = Some(u64_at(value, 0)),
            READING => reading = Bytes::copy_from_slice(value),
            HEADER => {
                if let Some((name, value)) = header(value) {
                    headers.keep(name, value);
                }
            }
            _ => {}
        }
        fields = rest;
    }
    let receiver = receiver.ok_or(RecordError::Header)?;
    let body = payload.get(body_at..).unwrap_or_default();
    let body = match body_bytes {
        Some(bytes) => decompress(body, bytes).map_err(RecordError::Body)?.into(),
        None => Bytes::copy_from_slice(body),
    };
    Ok(Record { receiver, received, reading, headers, body })
}

fn field(fields: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, _) = fields.split_first()?;
    let end = FIELD_HEADER_BYTES + u32_at(fields.get(..FIELD_HEADER_BYTES)?, 1) as usize;
    Some((tag, fields.get(FIELD_HEADER_BYTES..end)?, fields.get(end..)?))
}

/// Reads the value of a [`HEADER`] field.
fn header(value: &[u8]) -> Option<(&str, &str)> {
    let (&name_bytes, rest) = value.split_first()?;
    std::str::from_utf8(rest).ok()?.split_at_checked(usize::from(name_bytes))
}

/// Decompresses exactly `bytes` bytes; any other length is an error.
fn decompress(compressed: &[u8], bytes: u64) -> io::Result<Vec<u8>> {
    let trusted = compressed.len().saturating_mul(TRUSTED_RATIO);
    let mut body = Vec::with_capacity(usize::try_from(bytes).unwrap_or(usize::MAX).min(trusted));
    zstd::stream::read::Decoder::new(compressed)?.take(bytes.saturating_add(1)).read_to_end(&mut body)?;
    match body.len() as u64 == bytes {
        true => Ok(body),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Encodes a record as a frame with a marker of zero, for fuzz targets and tests of the format.
pub fn encode_frame(record: &Record) -> io::Result<Vec<u8>> {
    Ok(encode(record)?.frame(0, 0, false).to_vec())
}

/// Reads what [`encode_frame`] wrote; `None` if it is damaged.
pub fn decode_frame(bytes: &[u8]) -> Option<Record> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let header = Header::decode(header, 0).filter(|header| header.kind == FrameKind::Record)?;
    let payload = rest.get(..header.payload_bytes as usize)?;
    if crc32fast::hash(payload) != header.payload_crc {
        return None;
    }
    decode(payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(receiver: &str, nanos: u64, body: Vec<u8>) -> Record {
        Record {
            receiver: Arc::from(receiver),
            received: UNIX_EPOCH + Duration::from_nanos(nanos),
            reading: Bytes::new(),
            headers: KeptHeaders::default(),
            body: body.into(),
        }
    }

    /// Generates bodies below and above the size from which they are compressed.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![any::<Vec<u8>>(), (any::<u8>(), 0_usize..40_000).prop_map(|(byte, len)| vec![byte; len])]
    }

    proptest! {
        #[test]
        fn a_record_is_decoded_as_it_was_encoded(
            receiver in "[a-z/é]{0,40}",
            nanos: u64,
            reading: Vec<u8>,
            kept in prop::collection::vec(("[a-z-]{0,40}", "\\PC{0,40}"), 0..=KeptHeaders::MAX),
            body in body(),
        ) {
            let mut headers = KeptHeaders::default();
            kept.iter().for_each(|(name, value)| headers.keep(name, value));
            let record = Record { reading: reading.into(), headers, ..record(&receiver, nanos, body) };
            prop_assert_eq!(decode_frame(&encode_frame(&record).unwrap()).unwrap(), record);
        }

        #[test]
        fn a_changed_byte_is_noticed(place: usize, flip in 1_u8.., repeat in 1_usize..600) {
            let mut stored = encode_frame(&record("fastly", 1, b"some body that is long enough".repeat(repeat))).unwrap();
            let place = place % stored.len();
            stored[place] ^= flip;
            prop_assert!(decode_frame(&stored).is_none());
        }

        #[test]
        fn no_bytes_panic(mut payload: Vec<u8>) {
            drop(decode(&payload));
            payload.insert(0, VERSION);
            drop(decode(&payload));
        }

        #[test]
        fn fields_of_later_versions_are_skipped(tag in 5_u8.., value: Vec<u8>) {
            let record = record("fastly", 1, b"body".to_vec());
            let mut payload = encode(&record).unwrap().bytes.split_off(HEADER_BYTES);
            let mut field = Vec::new();
            push_field(&mut field, tag, &value).unwrap();
            let fields_bytes = u32_at(&payload, 9) + u32::try_from(field.len()).unwrap();
            payload[9..13].copy_from_slice(&fields_bytes.to_le_bytes());
            payload.splice(FIXED_BYTES..FIXED_BYTES, field);
            prop_assert_eq!(decode(&payload).unwrap(), record);
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let stored = encode_frame(&record("fastly", 1, vec![7; 500])).unwrap();
        for end in 0..stored.len() {
            assert!(decode_frame(&stored[..end]).is_none(), "truncated at {end}");
        }
    }

    #[test]
    fn a_body_that_decompresses_to_more_than_its_stored_length_is_an_error() {
        let mut payload = encode(&record("f", 1, vec![0; 1 << 20])).unwrap().bytes.split_off(HEADER_BYTES);
        assert!(payload.len() < 1000);
        // After the fixed part: the receiver's field of 6 bytes, then tag and length of the body-length field.
        payload[FIXED_BYTES + 6 + FIELD_HEADER_BYTES] = 1;
        assert!(matches!(decode(&payload), Err(RecordError::Body(_))));
    }

    #[test]
    fn the_error_names_a_layout_of_a_newer_version() {
        assert!(matches!(decode(&[3, 0, 0]), Err(RecordError::Version(3))));
    }

    #[test]
    fn a_record_of_a_version_that_kept_no_headers_is_read() {
        // Version, time, length of the fields; the receiver `f`; how the body was read; the body.
        let fields = [&[RECEIVER, 1, 0, 0, 0, b'f'][..], &[READING, 2, 0, 0, 0, 8, 9]].concat();
        let payload = [&[2, 5, 0, 0, 0, 0, 0, 0, 0, 13, 0, 0, 0][..], &fields, b"body"].concat();
        let expected = Record { reading: Bytes::from_static(&[8, 9]), ..record("f", 5, b"body".to_vec()) };
        assert_eq!(decode(&payload).unwrap(), expected);
    }

    #[test]
    fn a_small_body_is_stored_uncompressed_and_a_large_one_compressed() {
        let small = encode_frame(&record("fastly", 1, vec![b'x'; 2000])).unwrap();
        assert!((2000..2100).contains(&small.len()));
        let large = encode_frame(&record("fastly", 1, vec![b'x'; 20_000])).unwrap();
        assert!(large.len() < 1000);
    }
}
