//! Frames: the contents of a segment after its header.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | marker of the segment: random, and part of its file name |
//! | 8 | 4 | CRC-32 of the marker and of bytes 12 to 32 |
//! | 12 | 4 | CRC-32 of the payload |
//! | 16 | 4 | length of the payload |
//! | 20 | 1 | [`FrameKind`] |
//! | 21 | 1 | 1 in the first frame of a commit, else 0: the commits before it were confirmed |
//! | 22 | 2 | zero |
//! | 24 | 8 | id of the record, zero where the kind has none |
//! | 32 | | payload |
//!
//! Integers are little-endian. A reader that finds damage locates the next frame by its marker. No sender knows the
//! marker, so that no body can contain a frame.

/// Length of a frame without its payload.
pub(super) const HEADER_BYTES: usize = 32;
/// Length of one run in the payload of [`FrameKind::Done`].
const RUN_BYTES: usize = 12;

/// Kind of a frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// A stored record.
    Record = 1,
    /// Ids of settled records, as runs: the first id (8 bytes) and the number of consecutive ids (4 bytes).
    Done = 2,
    /// Progress of a record; replaces earlier progress.
    Progress = 3,
    /// Empty; proves that the previous commit was confirmed.
    Mark = 4,
    /// Empty; the segment was closed here.
    End = 5,
    /// A damaged stretch that was set aside. The payload is not checked.
    Void = 6,
}

/// Header of a frame, without its marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: FrameKind,
    pub(super) first: bool,
    pub(super) id: u64,
    pub(super) payload_bytes: u32,
    pub(super) payload_crc: u32,
}

/// Consecutive ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdRun {
    pub(super) start: u64,
    pub(super) count: u32,
}

// === impl FrameKind ===

impl FrameKind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Record, Self::Done, Self::Progress, Self::Mark, Self::End, Self::Void]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

// === impl Header ===

impl Header {
    pub(super) fn encode(&self, marker: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&marker.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[20] = self.kind as u8;
        bytes[21] = u8::from(self.first);
        bytes[24..].copy_from_slice(&self.id.to_le_bytes());
        let crc = header_crc(&bytes);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Returns `None` when the bytes are not the header of a frame of this segment.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES], marker: u64) -> Option<Self> {
        if u64_at(bytes, 0) != marker || u32_at(bytes, 8) != header_crc(bytes) {
            return None;
        }
        Some(Self {
            kind: FrameKind::of(bytes[20])?,
            first: bytes[21] == 1,
            id: u64_at(bytes, 24),
            payload_bytes: u32_at(bytes, 16),
            payload_crc: u32_at(bytes, 12),
        })
    }

    /// Returns the length of header and payload.
    pub(super) fn frame_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.payload_bytes)
    }
}

fn header_crc(bytes: &[u8; HEADER_BYTES]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..8]);
    crc.update(&bytes[12..]);
    crc.finalize()
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Appends a frame.
pub(super) fn push(buffer: &mut Vec<u8>, marker: u64, kind: FrameKind, id: u64, first: bool, payload: &[u8]) {
    let header = Header {
        kind,
        first,
        id,
        payload_bytes: u32::try_from(payload.len()).expect("small frames are far below 4 GiB"),
        payload_crc: crc32fast::hash(payload),
    };
    buffer.extend_from_slice(&header.encode(marker));
    buffer.extend_from_slice(payload);
}

/// Encodes ids as runs.
pub(super) fn encode_runs(mut ids: Vec<u64>) -> Vec<u8> {
    ids.sort_unstable();
    ids.dedup();
    let runs = ids.chunk_by(|one, next| one + 1 == *next);
    runs.flat_map(|run| {
        let count = u32::try_from(run.len()).expect("a commit settles far fewer records");
        run[0].to_le_bytes().into_iter().chain(count.to_le_bytes())
    })
    .collect()
}

/// Reads what [`encode_runs`] wrote.
pub(super) fn decode_runs(payload: &[u8]) -> impl Iterator<Item = IdRun> {
    payload.chunks_exact(RUN_BYTES).map(|run| IdRun { start: u64_at(run, 0), count: u32_at(run, 8) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Compares a frame with the layout in the module documentation, byte by byte.
    #[test]
    fn a_frame_is_laid_out_as_documented() {
        let mut bytes = Vec::new();
        push(&mut bytes, 0x1122_3344_5566_7788, FrameKind::Done, 0x0102, true, b"xyz");
        assert_eq!(bytes.len(), 35);
        assert_eq!(bytes[..8], [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
        assert_eq!(bytes[8..12], crc32fast::hash(&[&bytes[..8], &bytes[12..32]].concat()).to_le_bytes());
        assert_eq!(bytes[12..16], crc32fast::hash(b"xyz").to_le_bytes());
        assert_eq!(bytes[16..32], [3, 0, 0, 0, 2, 1, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[32..], *b"xyz");
    }

    proptest! {
        #[test]
        fn every_id_is_in_one_run(ids in proptest::collection::btree_set(0_u64..60, 0..40)) {
            let runs = encode_runs(ids.iter().rev().copied().collect());
            let read: Vec<u64> = decode_runs(&runs).flat_map(|run| run.start..run.start + u64::from(run.count)).collect();
            prop_assert_eq!(read, ids.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn a_changed_byte_of_a_header_is_noticed(place in 0..HEADER_BYTES, flip in 1_u8.., id: u64, first: bool) {
            let mut bytes = Vec::new();
            push(&mut bytes, 77, FrameKind::Record, id, first, b"payload");
            let mut header: [u8; HEADER_BYTES] = *bytes.first_chunk().unwrap();
            prop_assert_eq!(Header::decode(&header, 77).unwrap().id, id);
            header[place] ^= flip;
            prop_assert!(Header::decode(&header, 77).is_none());
        }
    }
}
