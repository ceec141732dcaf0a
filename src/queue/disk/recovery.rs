//! Recovery at the start: one pass over the segments, newest first.
//!
//! The pass starts with the newest segment because the frames that settle a record come after the record. So when a
//! record is read, it is known whether it is open, and only ranges of ids have to be kept in memory.
//!
//! Damage costs only the frames that it touches. Each damaged stretch that had been confirmed is copied to a file of
//! its own, counted, logged, and covered with a [void frame](super::frame::FrameKind::Void), so that the next start skips
//! it. What an interrupted write left at the end of the newest segment was never confirmed and is cut off.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use tracing::{error, warn};

use super::files::{Files, LogFile};
use super::frame::{self, FrameKind, HEADER_BYTES, Header};
use super::index::SegmentIndex;
use super::open::OpenError;
use super::record;
use super::segment::{
    self, Beginning, KnownEnd, NEW_SUFFIX, Name, Placed, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentScan,
    Stretch, Window,
};
use crate::config::Sync;
use crate::queue::ranges::Ranges;
use crate::telemetry::Metrics;

/// File name of the store of version 0.1.
const VERSION_1_STORE: &str = "queue.redb";

/// State that an earlier process left.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) index: SegmentIndex,
    /// Records that are not settled.
    pub(super) ids: Ranges,
    /// Total stored size of those records.
    pub(super) bytes: u64,
    /// Time of arrival of the oldest of those records.
    pub(super) since: Option<SystemTime>,
    pub(super) next_id: u64,
    /// The newest segment and its end.
    pub(super) last: Option<(Name, u64)>,
    /// Highest number of any segment, including removed ones.
    pub(super) last_number: u64,
    /// Number in the name of the file that says which segment is the newest.
    pub(super) newest: Option<u64>,
}

/// More ids than a segment has.
const IDS_OF_A_SEGMENT: u64 = 1 << 32;

/// State of the pass.
struct Recovery<'a> {
    files: &'a dyn Files,
    sync: Sync,
    metrics: &'a Metrics,
    found: Recovered,
    settled: Ranges,
    /// Header of the segment that was read before this one, which comes after it in the log.
    successor: Option<SegmentHeader>,
    is_newest_missing: bool,
}

/// Reads all segments and repairs damaged ones.
pub(super) fn recover(
    files: &dyn Files,
    directory: &Path,
    sync: Sync,
    metrics: &Metrics,
) -> Result<Recovered, OpenError> {
    let unreadable = |name: &str, error: &io::Error| OpenError::Store {
        file: directory.join(name),
        reason: error.to_string(),
    };
    let names = files.names().map_err(|error| unreadable("", &error))?;
    if names.iter().any(|name| name == VERSION_1_STORE) {
        return Err(OpenError::VersionOne { file: directory.join(VERSION_1_STORE) });
    }
    let mut segments = Vec::new();
    let mut misnamed = Vec::new();
    // All headers are checked before anything is changed.
    for name in names.iter().filter_map(|name| Name::parse(name)) {
        let beginning = segment::open(files, name).and_then(|file| Beginning::read(&*file, name));
        match beginning.map_err(|error| unreadable(&name.file_name(), &error))? {
            Beginning::Newer => return Err(OpenError::Newer { file: directory.join(name.file_name()) }),
            Beginning::Misnamed(own) => misnamed.push((name, own)),
            Beginning::Good(_) | Beginning::Damaged => segments.push(name),
        }
    }
    if !misnamed.is_empty() {
        restore_names(files, metrics, misnamed, &mut segments).map_err(|error| unreadable("", &error))?;
    }
    segments.sort_unstable();
    for name in names.iter().filter(|name| name.starts_with("segment-") && name.ends_with(NEW_SUFFIX)) {
        // A file with this suffix was never part of the log; if it stays, it is replaced later.
        files.remove(name).unwrap_or_default();
    }
    let last_number = segments.last().map_or(0, |name| name.number);
    let newest = segment::newest_of(&names);
    let missing_newest = newest.filter(|newest| *newest > last_number);
    if let Some(segment) = missing_newest {
        missing(segment, metrics);
    }
    let last_number = missing_newest.unwrap_or(last_number);
    let (found, settled) = (Recovered { last_number, newest, ..Recovered::default() }, Ranges::default());
    let is_newest_missing = missing_newest.is_some();
    let mut recovery = Recovery { files, sync, metrics, found, settled, successor: None, is_newest_missing };
    for name in segments.into_iter().rev() {
        recovery.read(name).map_err(|error| unreadable(&name.file_name(), &error))?;
    }
    if is_newest_missing {
        // The file may be put back.
        recovery.found.next_id += IDS_OF_A_SEGMENT;
    }
    Ok(recovery.found)
}

fn missing(segment: u64, metrics: &Metrics) {
    error!(segment, "queue segment missing; its records are lost");
    metrics.damaged_file();
}

/// Gives files that hold another segment than their name says the right name, so that nothing in them is lost. Sets those
/// aside whose segment is there already.
fn restore_names(
    files: &dyn Files,
    metrics: &Metrics,
    misnamed: Vec<(Name, Name)>,
    segments: &mut Vec<Name>,
) -> io::Result<()> {
    let mut aside = Vec::new();
    // All of them first: two files may have each other's name.
    for (name, own) in misnamed {
        let set_aside = free_name(files, &name.file_name())?;
        files.rename(&name.file_name(), &set_aside)?;
        aside.push((name.file_name(), own, set_aside));
    }
    for (file, own, set_aside) in aside {
        metrics.damaged_file();
        let segment = own.file_name();
        if segments.contains(&own) {
            error!(file, segment, set_aside, "copy of a queue segment set aside");
        } else {
            files.rename(&set_aside, &segment)?;
            segments.push(own);
            error!(file, segment, "misnamed queue segment renamed to its own name");
        }
    }
    files.sync_directory()
}

/// Returns `NAME.damaged-1`, or the same with the next number that is free.
fn free_name(files: &dyn Files, name: &str) -> io::Result<String> {
    let names = files.names()?;
    let name = |number: u32| format!("{name}.damaged-{number}");
    Ok((1..).map(name).find(|name| !names.contains(name)).expect("there are more numbers than files"))
}

// === impl Recovery ===

impl Recovery<'_> {
    fn read(&mut self, name: Name) -> io::Result<()> {
        let file = segment::open(self.files, name)?;
        let beginning = Beginning::read(&*file, name)?;
        let known = self.known_end(name);
        let scan = SegmentScan::read(&*file, name, beginning, known)?;
        let header = match beginning {
            Beginning::Good(header) => header,
            _ => self.header_in_place_of_a_damaged_one(name, &scan, file.size()?),
        };
        self.note(&*file, &header, &scan)?;
        let repaired = self.repair(&*file, &header, &scan);
        if self.found.last.is_none() {
            self.found.last = Some((name, scan.end));
            // Closing cuts off the bytes after the last frame.
            if !scan.closed && repaired {
                self.close(&*file, &header, &scan);
            }
        }
        self.successor = Some(header);
        Ok(())
    }

    /// Returns what the next segment states about the end of this one.
    fn known_end(&self, name: Name) -> KnownEnd {
        let Some(successor) = self.successor else {
            return if self.is_newest_missing { KnownEnd::Sealed } else { KnownEnd::Newest };
        };
        if successor.previous > name.number {
            missing(successor.previous, self.metrics);
        }
        match successor.previous == name.number {
            true => KnownEnd::At(successor.previous_end),
            false => KnownEnd::Sealed,
        }
    }

    fn header_in_place_of_a_damaged_one(&self, name: Name, scan: &SegmentScan, size: u64) -> SegmentHeader {
        let largest = scan.records.iter().map(|placed| placed.id + 1).max().unwrap_or(0);
        let first_id = self.successor.map_or(largest, |successor| successor.first_id);
        SegmentHeader { name, first_id, previous: 0, previous_end: 0, allocated_bytes: size }
    }

    /// Adds the settled and the open records of a segment.
    fn note(&mut self, file: &dyn LogFile, header: &SegmentHeader, scan: &SegmentScan) -> io::Result<()> {
        let Recovered { index, ids, bytes, since, next_id, .. } = &mut self.found;
        index.add_segment(header.name, header.first_id, scan.end);
        *next_id = header.first_id.max(*next_id);
        for run in &scan.done {
            let end = run.start.saturating_add(u64::from(run.count));
            self.settled.insert(run.start..end);
            *next_id = end.max(*next_id);
        }
        let mut open = Vec::new();
        for placed in scan.records.iter().rev() {
            *next_id = (placed.id + 1).max(*next_id);
            // The newest copy of a record counts.
            if !self.settled.contains(placed.id) && !ids.contains(placed.id) {
                ids.insert(placed.id..placed.id + 1);
                *bytes += placed.payload_bytes;
                open.push(*placed);
            }
        }
        // Smaller ids were received earlier.
        if let Some(oldest) = open.iter().min_by_key(|placed| placed.id) {
            *since = since.take().into_iter().chain(received(file, oldest)?).min();
        }
        for placed in open.into_iter().rev() {
            index.add(header.name.number, placed);
        }
        for (id, progress) in scan.progress.iter().rev() {
            if !self.settled.contains(*id) && index.progress(*id).is_none() {
                index.set_progress(*id, progress.clone());
            }
        }
        Ok(())
    }

    fn report(&self, file: &str, reason: &str, set_aside: io::Result<String>) {
        self.metrics.damaged_file();
        match set_aside {
            Ok(set_aside) => {
                error!(file, reason, set_aside, "damaged part of the queue set aside");
            }
            Err(error) => {
                error!(file, reason, %error, "setting aside a damaged part of the queue failed")
            }
        }
    }

    /// Sets aside and covers damaged stretches. Returns whether all confirmed ones were set aside.
    fn repair(&self, file: &dyn LogFile, header: &SegmentHeader, scan: &SegmentScan) -> bool {
        let (mut kept, mut covered) = (true, Ok(()));
        for stretch in &scan.stretches {
            if stretch.confirmed {
                let aside = self.set_aside(file, header.name, *stretch);
                let set_aside = aside.is_ok();
                let reason = format!("bytes {} to {} hold no valid frame", stretch.start, stretch.end);
                self.report(&header.name.file_name(), &reason, aside);
                if !set_aside {
                    kept = false;
                    continue;
                }
            }
            covered = covered.and_then(|()| cover(file, header, *stretch));
        }
        if !scan.stretches.is_empty()
            && let Err(error) = covered.and_then(|()| file.sync())
        {
            warn!(%error, "covering damage in the queue failed; the next start reports it again");
        }
        kept
    }

    /// Copies the bytes of a stretch to a file of their own.
    fn set_aside(&self, file: &dyn LogFile, name: Name, stretch: Stretch) -> io::Result<String> {
        let aside = free_name(self.files, &name.file_name())?;
        let copy = self.files.create(&aside)?;
        let mut at = 0;
        let end = stretch.end.min(file.size()?);
        Window::new(file, end).each_chunk(stretch.start.min(end), end, |chunk| {
            copy.write_all_at(at, chunk)?;
            at += chunk.len() as u64;
            Ok(())
        })?;
        copy.sync()?;
        self.files.sync_directory()?;
        Ok(aside)
    }

    /// Closes the newest segment where the log ends, because the process that wrote it did not.
    fn close(&self, file: &dyn LogFile, header: &SegmentHeader, scan: &SegmentScan) {
        let closed = match self.sync {
            Sync::Never => Ok(()),
            // The data may be in the page cache only, and the closing frame declares it durable.
            Sync::Always | Sync::Interval => file.sync(),
        };
        if let Err(error) = closed.and_then(|()| end_segment(file, header.name, scan.end)) {
            warn!(segment = header.name.number, %error, "closing the newest queue segment failed");
        }
    }
}

/// Writes the frame that closes a segment, and frees the unused rest of the file.
pub(super) fn end_segment(file: &dyn LogFile, name: Name, end: u64) -> io::Result<()> {
    let mut bytes = Vec::new();
    frame::push(&mut bytes, name.marker, FrameKind::End, 0, true, &[]);
    file.write_all_at(end, &bytes)?;
    file.sync()?;
    file.set_size(end + bytes.len() as u64)?;
    file.sync()
}

/// Reads the time of arrival of a record.
fn received(file: &dyn LogFile, placed: &Placed) -> io::Result<Option<SystemTime>> {
    let mut beginning = [0; record::RECEIVED_END];
    if placed.payload_bytes < beginning.len() as u64 {
        return Ok(None);
    }
    file.read_exact_at(placed.offset + HEADER_BYTES as u64, &mut beginning)?;
    Ok(record::received(&beginning))
}

/// Covers a stretch, so that later starts skip it.
fn cover(file: &dyn LogFile, header: &SegmentHeader, stretch: Stretch) -> io::Result<()> {
    if file.size()? < stretch.end {
        file.set_size(stretch.end)?;
    }
    let mut start = stretch.start;
    if start == 0 {
        file.write_all_at(0, &header.encode())?;
        start = SEGMENT_HEADER_BYTES;
    }
    let Some(payload_bytes) = stretch.end.saturating_sub(start).checked_sub(HEADER_BYTES as u64) else {
        return Ok(());
    };
    let payload_bytes = u32::try_from(payload_bytes).map_err(io::Error::other)?;
    let void = Header { kind: FrameKind::Void, first: false, id: 0, payload_bytes, payload_crc: 0 };
    file.write_all_at(start, &void.encode(header.name.marker))
}
