//! Stored records of the queue: a written record is read, and a damaged one is never read as a different one.
//!
//! The input is used twice: as stored bytes, and as the contents of a record (a byte for the length of the receiver's
//! id, eight for the time, two for the damage, then the id and the body).

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use spanrelay::internals::{KeptHeaders, Record, decode_frame, encode_frame};

/// Checks the input as stored bytes, and as the contents of a record.
pub fn queue_record(input: &[u8]) {
    read(input);
    if let Some(record) = made_of(input) {
        write(&record, usize::from(input[9]) << 8 | usize::from(input[10]));
    }
}

/// Checks that a readable record is written and read unchanged.
fn read(stored: &[u8]) {
    let Some(record) = decode_frame(stored) else { return };
    let again = encode_frame(&record).expect("a decoded record is encoded");
    assert_eq!(decode_frame(&again).expect("an encoded record is decoded"), record);
}

fn made_of(input: &[u8]) -> Option<Record> {
    let (&id_length, rest) = input.split_first()?;
    let (nanoseconds, rest) = rest.split_first_chunk::<8>()?;
    let (_, rest) = rest.split_first_chunk::<2>()?;
    let (id, body) = rest.split_at_checked(usize::from(id_length))?;
    Some(Record {
        receiver: Arc::from(std::str::from_utf8(id).ok()?),
        received: UNIX_EPOCH + Duration::from_nanos(u64::from_le_bytes(*nanoseconds)),
        reading: Bytes::new(),
        headers: KeptHeaders::default(),
        body: Bytes::copy_from_slice(body),
    })
}

fn write(record: &Record, damage: usize) {
    let stored = encode_frame(record).expect("every record can be written");
    assert_eq!(&decode_frame(&stored).expect("an encoded record is decoded"), record);

    let place = damage % stored.len();
    assert!(decode_frame(&stored[..place]).is_none(), "a truncated record is decoded");
    let mut changed = stored.clone();
    changed[place] ^= 1 << (damage % 8);
    if let Some(read) = decode_frame(&changed) {
        // Not every bit of a frame's header is significant.
        assert_eq!(&read, record, "a changed bit results in another record");
    }
    let twice = [&stored[..], &stored[..]].concat();
    if let Some(read) = decode_frame(&twice) {
        assert!(read.body.starts_with(&record.body), "a record is read past its end");
    }
}
