//! The log: segments to which commits are appended, each with one write and one sync.
//!
//! In: [`CommitBatch`]es from the writer. Out: frames in the newest segment, and an [`SegmentIndex`] of the positions of records.
//!
//! No suitable crate exists: okaywal 0.3 and yaque 0.6 (2023) and commitlog 0.2 (2021) are unmaintained, and none of
//! them can skip damage or store acknowledgements. redb, SQLite and fjall, measured with records of one line, write 15,
//! 9 and 3 times the size of the data; fjall does not give the disk space back after an outage.
//!
//! # Promises
//!
//! - A commit that failed is not part of the log: the segment ends before it, and nothing more is appended to that
//!   segment. A failed sync is never repeated.
//! - A segment is removed when neither it nor an older segment has open records. So the frame that settles a record is
//!   never removed before the record.
//! - When more than half of the files, and more than [`SLACK_SEGMENTS`] segments, hold nothing to deliver, the open
//!   records of the oldest segment are moved to the newest. So the files take at most twice the size of the open
//!   records (which `queue.max_size` limits) plus [`SLACK_SEGMENTS`] + 2 segments. A queue of `max_size` has about
//!   [`SEGMENTS`] segments.
//! - A part of each segment is reserved for acknowledgements, so that deliveries can be stored on a full disk.

use std::io;
use std::sync::{Arc, Mutex};

use super::files::{Files, LogFile};
use super::frame::{self, FrameKind};
use super::index::{self, SegmentIndex};
use super::record::Encoded;
use super::recovery::{Recovered, end_segment};
use super::segment::{self, Name, Placed, SEGMENT_HEADER_BYTES, SegmentHeader, Window};
use crate::config::Sync;

/// Number of segments of a full queue, subject to the size limits of a segment.
const SEGMENTS: u64 = 64;
const SMALLEST_SEGMENT_BYTES: u64 = 256 * 1024;
const LARGEST_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Smallest segment that is begun on a nearly full disk.
const LEAST_SEGMENT_BYTES: u64 = 64 * 1024;
/// Inverse of the share of a segment that is reserved for acknowledgements.
const ACKNOWLEDGEMENT_PART: u64 = 16;
/// Number of unused segments that are tolerated.
const SLACK_SEGMENTS: u64 = 4;
/// Number of segments above which the oldest are emptied, too: every start begins a segment, however little is in it.
const MOST_SEGMENTS: usize = 192;
/// Bytes of records that are moved at a time, between the commits of senders.
const MOVE_BYTES: u64 = 1024 * 1024;
/// Frames below this size are joined into one write.
const JOIN_BYTES: usize = 1024 * 1024;
/// Capacity of the join buffer that is kept after a commit.
const KEEP_BUFFER_BYTES: usize = 256 * 1024;

/// The reason why an operation on the log failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error("the disk is full")]
    DiskFull,
    #[error("{0}")]
    Io(String),
    /// A commit failed, and no new segment has been begun since.
    #[error("the queue is not open")]
    NotOpen,
}

/// Content of one commit.
#[derive(Debug, Default)]
pub(super) struct CommitBatch {
    /// New or moved records with their ids.
    pub(super) records: Vec<(u64, Encoded)>,
    pub(super) progress: Vec<(u64, Vec<u8>)>,
    /// Ids and stored sizes of settled records.
    pub(super) done: Vec<(u64, u64)>,
    /// Adds a mark, which proves that the previous commit was confirmed.
    pub(super) mark: bool,
}

/// The writing side of the log.
pub(super) struct Log {
    files: Arc<dyn Files>,
    sync: Sync,
    index: Arc<Mutex<SegmentIndex>>,
    segment_bytes: u64,
    active: Option<Active>,
    /// The newest segment and its end; its last commit may have failed.
    last: Option<(Name, u64)>,
    /// File of a segment that failed or is full.
    retired: Option<Box<dyn LogFile>>,
    last_number: u64,
    /// Number in the name of the file that says which segment is the newest.
    newest: Option<u64>,
    moving: Option<Moving>,
    buffer: Vec<u8>,
}

/// The segment that commits are appended to.
struct Active {
    name: Name,
    file: Box<dyn LogFile>,
    allocated_bytes: u64,
    end: u64,
    synced: bool,
}

/// Progress of moving the records of the oldest segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moving {
    number: u64,
    offset: u64,
    finished: bool,
}

// === impl LogError ===

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io(error.to_string()),
        }
    }
}

// === impl CommitBatch ===

impl CommitBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.progress.is_empty() && self.done.is_empty() && !self.mark
    }

    /// Returns an upper bound of the space that the batch takes in the log.
    fn frame_bytes(&self) -> u64 {
        let records: u64 = self.records.iter().map(|(_, record)| record.frame_bytes()).sum();
        let progress: usize = self.progress.iter().map(|(_, bytes)| frame::HEADER_BYTES + bytes.len()).sum();
        let done = 12 * self.done.len() + 2 * frame::HEADER_BYTES;
        records + (progress + done) as u64
    }
}

// === impl Log ===

impl Log {
    /// Continues after the recovered segments. Nothing is written until the first [`Log::roll`].
    pub(super) fn new(files: Arc<dyn Files>, sync: Sync, max_size: u64, recovered: Recovered) -> Self {
        Self {
            files,
            sync,
            index: Arc::new(Mutex::new(recovered.index)),
            segment_bytes: (max_size / SEGMENTS).clamp(SMALLEST_SEGMENT_BYTES, LARGEST_SEGMENT_BYTES),
            active: None,
            last: recovered.last,
            retired: None,
            last_number: recovered.last_number,
            newest: recovered.newest,
            moving: None,
            buffer: Vec::new(),
        }
    }

    pub(super) fn index(&self) -> Arc<Mutex<SegmentIndex>> {
        Arc::clone(&self.index)
    }

    pub(super) fn is_open(&self) -> bool {
        self.active.is_some()
    }

    /// Appends a batch. With `sync` it is on disk when this returns. `next_id` is the first unused id.
    pub(super) fn commit(
        &mut self,
        batch: &mut CommitBatch,
        sync: bool,
        next_id: u64,
    ) -> Result<(), LogError> {
        let bytes = batch.frame_bytes();
        if !self.has_room(bytes, !batch.records.is_empty())? {
            self.roll(bytes, next_id)?;
        }
        let active = self.active.as_mut().ok_or(LogError::NotOpen)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = active.append(batch, &mut buffer).and_then(|placed| {
            if sync && self.sync != Sync::Never {
                active.file.sync()?;
            }
            active.synced = sync;
            Ok(placed)
        });
        buffer.clear();
        buffer.shrink_to(KEEP_BUFFER_BYTES);
        self.buffer = buffer;
        match written {
            Ok(placed) => {
                self.note(batch, &placed);
                Ok(())
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Makes earlier commits durable.
    pub(super) fn sync(&mut self) -> Result<(), LogError> {
        let Some(active) = self.active.as_mut().filter(|active| !active.synced) else { return Ok(()) };
        match active.file.sync() {
            Ok(()) => {
                active.synced = true;
                Ok(())
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    fn has_room(&self, bytes: u64, for_records: bool) -> Result<bool, LogError> {
        let active = self.active.as_ref().ok_or(LogError::NotOpen)?;
        let reserved = match for_records {
            true => active.allocated_bytes / ACKNOWLEDGEMENT_PART,
            // Space for the frame that closes the segment.
            false => frame::HEADER_BYTES as u64,
        };
        Ok(active.end + bytes + reserved <= active.allocated_bytes)
    }

    /// Abandons the segment: how much of the commit is on disk is unknown, so that the segment ends before it.
    fn fail(&mut self, error: io::Error) -> LogError {
        if let Some(active) = self.active.take() {
            self.retired = Some(active.file);
        }
        error.into()
    }

    fn note(&mut self, batch: &CommitBatch, placed: &[Placed]) {
        let Some(active) = &self.active else { return };
        let (number, end) = (active.name.number, active.end);
        let mut index = index::lock(&self.index);
        if let Some(segment) = index.segments.get_mut(&number) {
            segment.end = end;
        }
        self.last = Some((active.name, end));
        for placed in placed {
            index.add(number, *placed);
        }
        for (id, progress) in &batch.progress {
            index.set_progress(*id, progress.clone());
        }
        for (id, payload_bytes) in &batch.done {
            index.settle(*id, *payload_bytes);
        }
    }

    /// Begins a new segment with room for `bytes`, and ends the previous one.
    pub(super) fn roll(&mut self, bytes: u64, next_id: u64) -> Result<(), LogError> {
        if self.sync != Sync::Never {
            // The header of the next segment states the end of this one, which must be durable.
            self.sync()?;
        }
        self.last_number += 1;
        let marker = uuid::Uuid::new_v4().as_u64_pair();
        let name = Name { number: self.last_number, marker: (marker.0 ^ marker.1.rotate_left(32)).max(1) };
        let begun = self.begin(name, bytes, next_id);
        if begun.is_err() {
            // The draft is not part of the log; if it remains, the next start removes it.
            self.files.remove(&name.draft_name()).unwrap_or_default();
        }
        let active = begun?;
        if let Some(before) = self.active.replace(active).map(|active| active.file).or(self.retired.take())
            && let Some((_, end)) = self.last
        {
            // Truncation only frees space, so that its failure is harmless.
            before.set_size(end).unwrap_or_default();
        }
        index::lock(&self.index).add_segment(name, next_id, SEGMENT_HEADER_BYTES);
        self.last = Some((name, SEGMENT_HEADER_BYTES));
        self.note_newest(name.number);
        Ok(())
    }

    /// Names the newest segment in the directory, so that the next start notices when its file is gone. Comes after the
    /// segment is durable; if it fails, only a missing file goes unnoticed.
    fn note_newest(&mut self, number: u64) {
        let name = segment::newest_name(number);
        let noted = match self.newest.take() {
            Some(before) => self.files.rename(&segment::newest_name(before), &name),
            None => self.files.create(&name).map(drop),
        };
        self.newest = noted.is_ok().then_some(number);
    }

    fn begin(&self, name: Name, bytes: u64, first_id: u64) -> io::Result<Active> {
        let least = (SEGMENT_HEADER_BYTES + bytes + bytes / (ACKNOWLEDGEMENT_PART - 1))
            .max(LEAST_SEGMENT_BYTES)
            + frame::HEADER_BYTES as u64;
        let file = self.files.create(&name.draft_name())?;
        let mut allocated_bytes = self.segment_bytes.max(least);
        while let Err(error) = file.allocate(allocated_bytes) {
            if allocated_bytes == least || error.kind() != io::ErrorKind::StorageFull {
                return Err(error);
            }
            file.set_size(0)?;
            allocated_bytes = (allocated_bytes / 2).max(least);
        }
        let (previous, previous_end) = self.last.map_or((0, 0), |(name, end)| (name.number, end));
        let header = SegmentHeader { name, first_id, previous, previous_end, allocated_bytes };
        file.write_all_at(0, &header.encode())?;
        file.sync()?;
        self.files.rename(&name.draft_name(), &name.file_name())?;
        self.files.sync_directory()?;
        Ok(Active { name, file, allocated_bytes, end: SEGMENT_HEADER_BYTES, synced: true })
    }

    /// Removes the oldest segments that have no open records.
    pub(super) fn free_segments(&mut self) -> io::Result<()> {
        while let Some(name) = self.oldest(|segment| segment.live == 0) {
            self.files.remove(&name.file_name())?;
            // One at a time: an older segment must not reappear without the frames that settle its records.
            self.files.sync_directory()?;
            index::lock(&self.index).segments.remove(&name.number);
        }
        Ok(())
    }

    /// Removes all segments. Only for a queue without open records, on a disk without space for a new segment.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.active = None;
        self.retired = None;
        self.last = None;
        if let Some(newest) = self.newest.take() {
            self.files.remove(&segment::newest_name(newest))?;
            self.files.sync_directory()?;
        }
        while let Some(name) = self.oldest(|_| true) {
            self.files.remove(&name.file_name())?;
            self.files.sync_directory()?;
            index::lock(&self.index).segments.remove(&name.number);
        }
        Ok(())
    }

    /// Returns the oldest segment if it is not the active one and `wanted` holds for it.
    fn oldest(&self, wanted: impl Fn(&index::Segment) -> bool) -> Option<Name> {
        let index = index::lock(&self.index);
        let (_, segment) = index.segments.first_key_value()?;
        let active = self.active.as_ref().is_some_and(|active| active.name == segment.name);
        (!active && wanted(segment)).then_some(segment.name)
    }

    /// Returns whether so much of the files is unused that the oldest segment should be emptied.
    pub(super) fn wants_to_move(&self) -> bool {
        let Some(name) = self.oldest(|_| true) else { return false };
        let finished = self.moving.is_some_and(|moving| moving.number == name.number && moving.finished);
        let index = index::lock(&self.index);
        let (waste, live) = (index.waste_bytes(), index.live_bytes());
        let wasted = waste > live.max(SLACK_SEGMENTS * self.segment_bytes);
        !finished && self.is_open() && (wasted || index.segments.len() > MOST_SEGMENTS)
    }

    /// Moves some open records of the oldest segment to the newest. `is_open` returns whether an id is open.
    pub(super) fn move_some(&mut self, is_open: impl Fn(u64) -> bool, next_id: u64) -> Result<(), LogError> {
        let Some(name) = self.oldest(|_| true) else { return Ok(()) };
        let begin = Moving { number: name.number, offset: SEGMENT_HEADER_BYTES, finished: false };
        let mut moving = self.moving.filter(|moving| moving.number == name.number).unwrap_or(begin);
        let mut batch = CommitBatch::default();
        // Damaged records stay where they are until the next start sets them aside.
        moving.finished = self.collect(name, &mut moving.offset, is_open, &mut batch).unwrap_or(true);
        if !batch.is_empty() {
            self.commit(&mut batch, self.sync == Sync::Always, next_id)?;
        }
        self.moving = Some(moving);
        Ok(())
    }

    /// Reads open records from `offset` on. Returns whether the end of the segment was reached.
    fn collect(
        &self,
        name: Name,
        offset: &mut u64,
        is_open: impl Fn(u64) -> bool,
        batch: &mut CommitBatch,
    ) -> io::Result<bool> {
        let index = index::lock(&self.index);
        let end = index.segments.get(&name.number).map_or(0, |segment| segment.end);
        let file = segment::open(&*self.files, name)?;
        let mut window = Window::new(&*file, end);
        let mut bytes = 0;
        while *offset < end {
            if bytes >= MOVE_BYTES {
                return Ok(false);
            }
            let header = window.frame(*offset, name.marker)?.ok_or(io::ErrorKind::InvalidData)?;
            let here = index.segment_of(header.id) == Some(name.number);
            if header.kind == FrameKind::Record && here && is_open(header.id) {
                let payload = window.payload(*offset, &header)?;
                batch.records.push((header.id, Encoded::from_payload(&payload, header.payload_crc)));
                batch.progress.extend(index.progress(header.id).map(|progress| (header.id, progress)));
                bytes += header.frame_bytes();
            }
            *offset += header.frame_bytes();
        }
        Ok(true)
    }

    /// Closes the newest segment.
    pub(super) fn close(&mut self) -> Result<(), LogError> {
        let Some(active) = self.active.take() else { return Ok(()) };
        if self.sync != Sync::Never && !active.synced {
            active.file.sync()?;
        }
        Ok(end_segment(&*active.file, active.name, active.end)?)
    }
}

// === impl Active ===

impl Active {
    /// Appends the frames of a batch and returns the positions of its records. The end moves only when all is written.
    fn append(&mut self, batch: &mut CommitBatch, buffer: &mut Vec<u8>) -> io::Result<Vec<Placed>> {
        let marker = self.name.marker;
        let (mut at, mut first) = (self.end, true);
        let mut placed = Vec::with_capacity(batch.records.len());
        for (id, record) in &mut batch.records {
            let payload_bytes = record.payload_bytes();
            placed.push(Placed { id: *id, offset: at + buffer.len() as u64, payload_bytes });
            let frame = record.frame(marker, *id, std::mem::take(&mut first));
            if frame.len() < JOIN_BYTES {
                buffer.extend_from_slice(frame);
            }
            if buffer.len() >= JOIN_BYTES || frame.len() >= JOIN_BYTES {
                at = self.flush(buffer, at)?;
            }
            if frame.len() >= JOIN_BYTES {
                self.file.write_all_at(at, frame)?;
                at += frame.len() as u64;
            }
        }
        for (id, progress) in &batch.progress {
            frame::push(buffer, marker, FrameKind::Progress, *id, std::mem::take(&mut first), progress);
        }
        if !batch.done.is_empty() {
            let runs = frame::encode_runs(batch.done.iter().map(|(id, _)| *id).collect());
            frame::push(buffer, marker, FrameKind::Done, 0, std::mem::take(&mut first), &runs);
        }
        if batch.mark {
            frame::push(buffer, marker, FrameKind::Mark, 0, std::mem::take(&mut first), &[]);
        }
        self.end = self.flush(buffer, at)?;
        Ok(placed)
    }

    fn flush(&self, buffer: &mut Vec<u8>, at: u64) -> io::Result<u64> {
        if !buffer.is_empty() {
            self.file.write_all_at(at, buffer)?;
        }
        let end = at + buffer.len() as u64;
        buffer.clear();
        Ok(end)
    }
}
