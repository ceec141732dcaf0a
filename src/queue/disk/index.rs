//! Index of the positions of records in the log.
//!
//! An outage leaves millions of records, so that records have no entries of their own: each segment notes the position
//! of one record in every [`STEP_BYTES`], and a reader scans from there, or from where it last stopped. Only records
//! that were moved out of an old segment have an entry each.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::files::{Files, LogFile};
use super::frame::{FrameKind, HEADER_BYTES};
use super::segment::{self, Name, Placed, SEGMENT_HEADER_BYTES, Window};

/// Distance between two noted positions.
const STEP_BYTES: u64 = 64 * 1024;

/// The segments of the log, by number.
#[derive(Debug, Default)]
pub(super) struct SegmentIndex {
    pub(super) segments: BTreeMap<u64, Segment>,
    /// Segment number and offset of records that were moved out of the segment that their id belongs to.
    moved: HashMap<u64, (u64, u64)>,
    /// The last progress of each record that has any.
    progress: HashMap<u64, Vec<u8>>,
}

/// A segment of the log.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: Name,
    /// Lower bound of the ids; smaller ids are in older segments unless they were moved.
    pub(super) first_id: u64,
    pub(super) end: u64,
    /// Number of records that are not settled.
    pub(super) live: u64,
    /// Size of the frames of those records.
    pub(super) live_bytes: u64,
    /// Ids and offsets of some records, ascending.
    places: Vec<(u64, u64)>,
}

/// Position from which to scan for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Start {
    name: Name,
    offset: u64,
    end: u64,
}

/// Reads records while the writer writes others.
pub(super) struct RecordReader {
    files: Arc<dyn Files>,
    index: Arc<Mutex<SegmentIndex>>,
    cursor: Mutex<Option<ReadPosition>>,
}

/// Position after the record that was read last.
struct ReadPosition {
    name: Name,
    file: Box<dyn LogFile>,
    last_id: u64,
    offset: u64,
}

/// The reason why a record could not be read.
#[derive(Debug)]
pub(super) enum RecordReadError {
    /// A later attempt may succeed.
    Unavailable(io::Error),
    Missing,
    /// The record is damaged. Holds its payload where the payload's position is certain.
    Damaged(Option<Vec<u8>>),
}

// === impl SegmentIndex ===

impl SegmentIndex {
    pub(super) fn add_segment(&mut self, name: Name, first_id: u64, end: u64) {
        let segment = Segment { name, first_id, end, live: 0, live_bytes: 0, places: Vec::new() };
        self.segments.insert(name.number, segment);
    }

    /// Notes a record of a segment. A record that was noted in another segment has been moved.
    pub(super) fn add(&mut self, number: u64, placed: Placed) {
        let Some(segment) = self.segments.get(&number) else { return };
        if placed.id < segment.first_id {
            self.remove(placed.id, placed.payload_bytes);
            self.moved.insert(placed.id, (number, placed.offset));
        }
        let Some(segment) = self.segments.get_mut(&number) else { return };
        segment.live += 1;
        segment.live_bytes += frame_bytes(placed.payload_bytes);
        let due = segment.places.last().is_none_or(|(_, offset)| offset + STEP_BYTES <= placed.offset);
        if placed.id >= segment.first_id && due {
            segment.places.push((placed.id, placed.offset));
        }
    }

    /// Removes a settled record.
    pub(super) fn settle(&mut self, id: u64, payload_bytes: u64) {
        self.progress.remove(&id);
        self.remove(id, payload_bytes);
    }

    fn remove(&mut self, id: u64, payload_bytes: u64) {
        let Some(number) = self.segment_of(id) else { return };
        self.moved.remove(&id);
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.live = segment.live.saturating_sub(1);
            segment.live_bytes = segment.live_bytes.saturating_sub(frame_bytes(payload_bytes));
        }
    }

    /// Returns the number of the segment that holds a record.
    pub(super) fn segment_of(&self, id: u64) -> Option<u64> {
        if let Some((number, _)) = self.moved.get(&id) {
            return Some(*number);
        }
        self.segments.values().rev().find(|segment| segment.first_id <= id).map(|segment| segment.name.number)
    }

    pub(super) fn set_progress(&mut self, id: u64, progress: Vec<u8>) {
        self.progress.insert(id, progress);
    }

    pub(super) fn progress(&self, id: u64) -> Option<Vec<u8>> {
        self.progress.get(&id).cloned()
    }

    /// Returns the bytes of all segments that belong to no unsettled record.
    pub(super) fn waste_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.end.saturating_sub(segment.live_bytes)).sum()
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.live_bytes).sum()
    }

    fn start(&self, id: u64) -> Option<Start> {
        let segment = self.segments.get(&self.segment_of(id)?)?;
        let offset = match self.moved.get(&id) {
            Some((_, offset)) => *offset,
            None => {
                let after = segment.places.partition_point(|(placed, _)| *placed <= id);
                after.checked_sub(1).map_or(SEGMENT_HEADER_BYTES, |at| segment.places[at].1)
            }
        };
        Some(Start { name: segment.name, offset, end: segment.end })
    }
}

fn frame_bytes(payload_bytes: u64) -> u64 {
    HEADER_BYTES as u64 + payload_bytes
}

pub(super) fn lock(index: &Mutex<SegmentIndex>) -> MutexGuard<'_, SegmentIndex> {
    index.lock().expect("nothing panics while it holds the lock")
}

// === impl RecordReader ===

impl RecordReader {
    pub(super) fn new(files: Arc<dyn Files>, index: Arc<Mutex<SegmentIndex>>) -> Self {
        Self { files, index, cursor: Mutex::new(None) }
    }

    /// Reads a stored record.
    pub(super) fn read(&self, id: u64) -> Result<Vec<u8>, RecordReadError> {
        let start = lock(&self.index).start(id).ok_or(RecordReadError::Missing)?;
        let mut cursor = self.cursor(start, id).map_err(RecordReadError::Unavailable)?;
        let mut window = Window::new(&*cursor.file, start.end).with_small_chunks();
        let mut at = cursor.offset;
        loop {
            let header = window.header(at, start.name.marker).map_err(RecordReadError::Unavailable)?;
            let Some(header) = header else {
                return Err(if at >= start.end {
                    RecordReadError::Missing
                } else {
                    RecordReadError::Damaged(None)
                });
            };
            if header.kind == FrameKind::Record && header.id == id {
                let payload = window.payload(at, &header).map_err(RecordReadError::Unavailable)?;
                if crc32fast::hash(&payload) != header.payload_crc {
                    return Err(RecordReadError::Damaged(Some(payload)));
                }
                cursor.offset = at + header.frame_bytes();
                cursor.last_id = id;
                *self.lock() = Some(cursor);
                return Ok(payload);
            }
            at += header.frame_bytes();
        }
    }

    /// Returns the progress of a record that is about to be returned.
    pub(super) fn progress(&self, id: u64) -> Option<Vec<u8>> {
        lock(&self.index).progress(id)
    }

    /// Continues from the position of the last read, if the record comes after it in the same segment.
    fn cursor(&self, start: Start, id: u64) -> io::Result<ReadPosition> {
        match self.lock().take().filter(|cursor| cursor.name == start.name) {
            Some(cursor) if cursor.last_id < id && cursor.offset > start.offset => Ok(cursor),
            Some(cursor) => Ok(ReadPosition { offset: start.offset, ..cursor }),
            None => {
                let file = segment::open(&*self.files, start.name)?;
                Ok(ReadPosition { name: start.name, file, last_id: 0, offset: start.offset })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<ReadPosition>> {
        self.cursor.lock().expect("nothing panics while it holds the lock")
    }
}
