//! A record as it is stored.
//!
//! One zstd frame with its checksum on. Inside, before the body:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version of this layout, [`VERSION`] |
//! | 8 | when it was received, Unix nanoseconds, little-endian |
//! | 2 | length of the receiver's id, little-endian |
//! | n | the receiver's id, UTF-8 |
//! | 2 | length of what says how the body was read, little-endian |
//! | n | how the body was read |
//!
//! Layout 1 ends with the receiver's id.
//!
//! Telemetry is repetitive: the frame is 5 to 10 % of it, and writing less to disk pays for the compression.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::super::Record;

const VERSION: u8 = 2;
const FIXED_BYTES: usize = 13;
/// The fastest of the regular levels: about 1 GB/s.
const LEVEL: i32 = 1;

/// Why a stored record cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("it does not decompress, or its checksum is wrong")]
    Frame(#[source] io::Error),
    #[error("it has layout {0}, of a newer version")]
    Version(u8),
    #[error("its header is damaged")]
    Header,
}

thread_local! {
    /// A context costs more than compressing a small record with it.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// The record as it is stored.
pub(crate) fn encode(record: &Record) -> io::Result<Vec<u8>> {
    let receiver = record.receiver.as_bytes();
    let receiver_len = u16::try_from(receiver.len()).map_err(io::Error::other)?;
    let received = record.received.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let reading_len = u16::try_from(record.reading.len()).map_err(io::Error::other)?;
    let mut plain =
        Vec::with_capacity(FIXED_BYTES + receiver.len() + record.reading.len() + record.body.len());
    plain.push(VERSION);
    plain.extend_from_slice(&u64::try_from(received).unwrap_or(u64::MAX).to_le_bytes());
    plain.extend_from_slice(&receiver_len.to_le_bytes());
    plain.extend_from_slice(receiver);
    plain.extend_from_slice(&reading_len.to_le_bytes());
    plain.extend_from_slice(&record.reading);
    plain.extend_from_slice(&record.body);
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(checking_compressor()?),
        };
        compressor.compress(&plain)
    })
}

fn checking_compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    Ok(compressor)
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(stored: &[u8]) -> Result<Record, RecordError> {
    let mut plain = Bytes::from(zstd::stream::decode_all(stored).map_err(RecordError::Frame)?);
    let version = plain.try_get_u8().map_err(|_| RecordError::Header)?;
    if !(1..=VERSION).contains(&version) {
        return Err(RecordError::Version(version));
    }
    let received = plain.try_get_u64_le().map_err(|_| RecordError::Header)?;
    let receiver = counted(&mut plain)?;
    let receiver = std::str::from_utf8(&receiver).map_err(|_| RecordError::Header)?;
    let reading = if version == 1 { Bytes::new() } else { counted(&mut plain)? };
    Ok(Record {
        receiver: Arc::from(receiver),
        received: UNIX_EPOCH + Duration::from_nanos(received),
        reading,
        body: plain,
    })
}

/// Bytes with their length before them.
fn counted(plain: &mut Bytes) -> Result<Bytes, RecordError> {
    let len = usize::from(plain.try_get_u16_le().map_err(|_| RecordError::Header)?);
    if len > plain.len() {
        return Err(RecordError::Header);
    }
    Ok(plain.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(receiver: &str, nanos: u64, body: Vec<u8>) -> Record {
        Record {
            receiver: Arc::from(receiver),
            received: UNIX_EPOCH + Duration::from_nanos(nanos),
            reading: Bytes::from_static(b"\x01\x00"),
            body: body.into(),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(receiver in "[a-z/é]{0,40}", nanos: u64, body: Vec<u8>) {
            let record = record(&receiver, nanos, body);
            prop_assert_eq!(decode(&encode(&record).unwrap()).unwrap(), record);
        }

        #[test]
        fn a_changed_byte_is_noticed(place: usize, flip in 1_u8..) {
            let mut stored = encode(&record("fastly", 1, b"some body that is long enough".repeat(9))).unwrap();
            let place = place % stored.len();
            stored[place] ^= flip;
            prop_assert!(decode(&stored).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_panic(stored: Vec<u8>) {
            drop(decode(&stored));
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let stored = encode(&record("fastly", 1, vec![7; 500])).unwrap();
        for end in 0..stored.len() {
            decode(&stored[..end]).expect_err("truncated");
        }
    }

    #[test]
    fn a_layout_of_a_newer_version_is_named() {
        let newer = zstd::bulk::compress(&[3, 0, 0], 1).unwrap();
        assert!(matches!(decode(&newer), Err(RecordError::Version(3))));
    }
}
