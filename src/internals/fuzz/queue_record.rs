//! Records of the queue as they are stored: what was written is read, and what is damaged is never read as something
//! else.
//!
//! The input is taken twice: as bytes that are on disk, and as what a record is made of (a byte for the length of the
//! receiver's id, eight for the time, two for the damage, then the id and the body).

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use crate::queue::{Record, decode_frame, encode_frame};

/// What a file may hold, or what a record holds.
pub fn queue_record(input: &[u8]) {
    read(input);
    if let Some(record) = made_of(input) {
        write(&record, usize::from(input[9]) << 8 | usize::from(input[10]));
    }
}

/// What can be read at all is written and read as itself.
fn read(stored: &[u8]) {
    let Ok(record) = decode_frame(stored) else { return };
    let again = encode_frame(&record).expect("what was read can be written");
    assert_eq!(decode_frame(&again).expect("what was written can be read"), record);
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
        body: Bytes::copy_from_slice(body),
    })
}

fn write(record: &Record, damage: usize) {
    let stored = encode_frame(record).expect("every record can be written");
    assert_eq!(&decode_frame(&stored).expect("what was written can be read"), record);

    let place = damage % stored.len();
    decode_frame(&stored[..place]).expect_err("a record that was cut off is read");
    let mut changed = stored.clone();
    changed[place] ^= 1 << (damage % 8);
    if let Ok(read) = decode_frame(&changed) {
        // Not every bit of a frame's header means something.
        assert_eq!(&read, record, "a changed bit makes another record");
    }
    let twice = [&stored[..], &stored[..]].concat();
    if let Ok(read) = decode_frame(&twice) {
        assert!(read.body.starts_with(&record.body), "a record is read from behind its end");
    }
}
