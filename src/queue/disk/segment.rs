//! Segments: the files of the log.
//!
//! A segment is named `segment-<number>-<marker>.log`, number in decimal, marker in hexadecimal digits. It begins with
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `spanrlay` |
//! | 8 | 4 | version of this layout, [`VERSION`] |
//! | 12 | 4 | CRC-32 of bytes 0 to 12: so that a newer version is recognised whatever follows |
//! | 16 | 8 | number |
//! | 24 | 8 | marker |
//! | 32 | 8 | first unused id when the segment was begun |
//! | 40 | 8 | number of the previous segment, zero for none |
//! | 48 | 8 | end of the previous segment; bytes after it are not part of the log |
//! | 56 | 8 | allocated size of the file; a shorter file that was not closed was truncated |
//! | 64 | 4 | CRC-32 of bytes 16 to 64 |
//!
//! Integers are little-endian. [Frames](super::frame) follow without gaps, then zeros. A file gets its name only when
//! its header is durable, so that a segment without a readable header is damaged.

use std::io;

use super::files::{Files, LogFile};
use super::frame::{self, FrameKind, HEADER_BYTES, Header, IdRun, u32_at, u64_at};

const MAGIC: &[u8; 8] = b"spanrlay";
/// Version of the layout of segments and frames. Increment it when either layout changes.
pub(super) const VERSION: u32 = 1;
/// Length of the header of a segment.
pub(super) const SEGMENT_HEADER_BYTES: u64 = 68;
/// Bytes that are read at a time.
const CHUNK_BYTES: u64 = 256 * 1024;
/// Bytes that are read at a time when looking for a single record.
const SMALL_CHUNK_BYTES: u64 = 4 * 1024;
const MARKER_BYTES: u64 = 8;

/// Header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) name: Name,
    pub(super) first_id: u64,
    pub(super) previous: u64,
    pub(super) previous_end: u64,
    pub(super) allocated_bytes: u64,
}

/// The name of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) number: u64,
    pub(super) marker: u64,
}

/// The state of a segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    Good(SegmentHeader),
    Newer,
    /// The header is that of another segment: the file was renamed or copied.
    Misnamed(Name),
    Damaged,
}

/// Knowledge about the end of a segment before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KnownEnd {
    /// The next segment states the end. All commits before it were confirmed.
    At(u64),
    /// There is a newer segment, which does not state the end. All of this one was confirmed.
    Sealed,
    /// The log ends somewhere in this segment.
    Newest,
}

/// Position of a record in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) id: u64,
    pub(super) offset: u64,
    pub(super) payload_bytes: u64,
}

/// A stretch of a segment that holds no valid frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) start: u64,
    pub(super) end: u64,
    /// The bytes were confirmed to senders, so that they are damaged rather than left by an interrupted write.
    pub(super) confirmed: bool,
}

/// Contents of a segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SegmentScan {
    frames: u64,
    pub(super) records: Vec<Placed>,
    pub(super) done: Vec<IdRun>,
    pub(super) progress: Vec<(u64, Vec<u8>)>,
    pub(super) stretches: Vec<Stretch>,
    /// End of the last valid frame, or of the confirmed bytes.
    pub(super) end: u64,
    pub(super) closed: bool,
    /// Start of the last frame that begins a commit.
    last_commit: u64,
}

/// Reader of a file in chunks.
pub(super) struct Window<'a> {
    file: &'a dyn LogFile,
    size: u64,
    chunk_bytes: u64,
    start: u64,
    chunk: Vec<u8>,
}

// === impl Name ===

impl Name {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (number, marker) = name.strip_prefix("segment-")?.strip_suffix(".log")?.split_once('-')?;
        let parsed = Self { number: number.parse().ok()?, marker: u64::from_str_radix(marker, 16).ok()? };
        (parsed.file_name() == name).then_some(parsed)
    }

    /// Returns the file name of a segment that is part of the log.
    pub(super) fn file_name(self) -> String {
        format!("segment-{:010}-{:016x}.log", self.number, self.marker)
    }

    /// Returns the file name of a segment in preparation.
    pub(super) fn draft_name(self) -> String {
        format!("segment-{:010}{NEW_SUFFIX}", self.number)
    }
}

/// Suffix of a segment in preparation.
pub(super) const NEW_SUFFIX: &str = ".new";

/// Prefix of the file whose name has the number of the newest segment.
const NEWEST_PREFIX: &str = "newest-";

/// Returns the name of the file that says which segment is the newest.
pub(super) fn newest_name(number: u64) -> String {
    format!("{NEWEST_PREFIX}{number:010}")
}

/// Returns the number of the newest segment, by the names in the directory.
pub(super) fn newest_of(names: &[String]) -> Option<u64> {
    names.iter().filter_map(|name| name.strip_prefix(NEWEST_PREFIX)?.parse().ok()).max()
}

// === impl SegmentHeader ===

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let Name { number, marker } = self.name;
        for field in [number, marker, self.first_id, self.previous, self.previous_end, self.allocated_bytes] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes[16..]).to_le_bytes());
        bytes
    }
}

// === impl Beginning ===

impl Beginning {
    /// Reads the header of a segment and compares it with the segment's name.
    pub(super) fn read(file: &dyn LogFile, name: Name) -> io::Result<Self> {
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        let available = file.size()?.min(SEGMENT_HEADER_BYTES) as usize;
        file.read_exact_at(0, &mut bytes[..available])?;
        if bytes[..8] != *MAGIC || u32_at(&bytes, 12) != crc32fast::hash(&bytes[..12]) {
            return Ok(Self::Damaged);
        }
        if u32_at(&bytes, 8) > VERSION {
            return Ok(Self::Newer);
        }
        let header = SegmentHeader {
            name: Name { number: u64_at(&bytes, 16), marker: u64_at(&bytes, 24) },
            first_id: u64_at(&bytes, 32),
            previous: u64_at(&bytes, 40),
            previous_end: u64_at(&bytes, 48),
            allocated_bytes: u64_at(&bytes, 56),
        };
        Ok(match u32_at(&bytes, 64) == crc32fast::hash(&bytes[16..64]) {
            true if header.name == name => Self::Good(header),
            true => Self::Misnamed(header.name),
            false => Self::Damaged,
        })
    }
}

// === impl Window ===

impl<'a> Window<'a> {
    /// Creates a window on the first `size` bytes of a file.
    pub(super) fn new(file: &'a dyn LogFile, size: u64) -> Self {
        Self { file, size, chunk_bytes: CHUNK_BYTES, start: 0, chunk: Vec::new() }
    }

    /// Reads small chunks, for callers that look for a single record.
    pub(super) fn with_small_chunks(mut self) -> Self {
        self.chunk_bytes = SMALL_CHUNK_BYTES;
        self
    }

    /// Returns the bytes from `offset`, at least `wanted` of them unless the file ends earlier.
    fn from(&mut self, offset: u64, wanted: u64) -> io::Result<&[u8]> {
        let held = self.start..=self.start + self.chunk.len() as u64;
        let end = (offset + wanted).min(self.size).max(offset);
        if !held.contains(&offset) || !held.contains(&end) {
            let bytes = self.size.saturating_sub(offset).min(self.chunk_bytes);
            self.chunk.resize(bytes as usize, 0);
            self.start = offset;
            self.file.read_exact_at(offset, &mut self.chunk)?;
        }
        Ok(self.chunk.get((offset - self.start) as usize..).unwrap_or_default())
    }

    /// Returns the header of the frame at `offset`, if there is one.
    pub(super) fn header(&mut self, offset: u64, marker: u64) -> io::Result<Option<Header>> {
        let bytes = self.from(offset, HEADER_BYTES as u64)?;
        Ok(bytes.first_chunk().and_then(|bytes| Header::decode(bytes, marker)))
    }

    /// Returns the header of the frame at `offset`, if the frame is complete and intact.
    pub(super) fn frame(&mut self, offset: u64, marker: u64) -> io::Result<Option<Header>> {
        let Some(header) = self.header(offset, marker)? else { return Ok(None) };
        let end = offset + header.frame_bytes();
        let intact = end <= self.size
            && (header.kind == FrameKind::Void
                || self.crc(offset + HEADER_BYTES as u64, end)? == header.payload_crc);
        Ok(intact.then_some(header))
    }

    fn crc(&mut self, start: u64, end: u64) -> io::Result<u32> {
        let mut crc = crc32fast::Hasher::new();
        self.each_chunk(start, end, |chunk| {
            crc.update(chunk);
            Ok(())
        })?;
        Ok(crc.finalize())
    }

    /// Passes the bytes from `start` to `end` to `each`, chunk by chunk.
    pub(super) fn each_chunk(
        &mut self,
        start: u64,
        end: u64,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut at = start;
        while at < end {
            let chunk = self.from(at, 1)?;
            let bytes = (end - at).min(chunk.len() as u64);
            if bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            each(&chunk[..bytes as usize])?;
            at += bytes;
        }
        Ok(())
    }

    pub(super) fn payload(&mut self, offset: u64, header: &Header) -> io::Result<Vec<u8>> {
        let start = offset + HEADER_BYTES as u64;
        let wanted = u64::from(header.payload_bytes);
        if wanted <= self.chunk_bytes {
            let held = self.from(start, wanted)?.get(..wanted as usize);
            return held.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        }
        let mut payload = vec![0; wanted as usize];
        self.file.read_exact_at(start, &mut payload)?;
        Ok(payload)
    }

    /// Returns the offset of the next valid frame at or after `offset`.
    fn find(&mut self, mut offset: u64, marker: u64) -> io::Result<Option<u64>> {
        let pattern = memchr::memmem::Finder::new(&marker.to_le_bytes()).into_owned();
        while offset + HEADER_BYTES as u64 <= self.size {
            let bytes = self.from(offset, MARKER_BYTES)?;
            match pattern.find(bytes) {
                Some(at) => {
                    offset += at as u64;
                    if self.frame(offset, marker)?.is_some() {
                        return Ok(Some(offset));
                    }
                    offset += 1;
                }
                // The marker may begin at the end of the chunk.
                None => offset += (bytes.len() as u64).saturating_sub(MARKER_BYTES - 1).max(1),
            }
        }
        Ok(None)
    }

    fn is_zero(&mut self, start: u64, end: u64) -> io::Result<bool> {
        let mut zero = true;
        self.each_chunk(start, end, |chunk| {
            zero &= chunk.iter().all(|byte| *byte == 0);
            Ok(())
        })?;
        Ok(zero)
    }
}

// === impl SegmentScan ===

impl SegmentScan {
    /// Reads a segment.
    pub(super) fn read(
        file: &dyn LogFile,
        name: Name,
        beginning: Beginning,
        known: KnownEnd,
    ) -> io::Result<Self> {
        let size = file.size()?;
        let end = if let KnownEnd::At(end) = known { end.min(size) } else { size };
        let mut window = Window::new(file, end);
        let mut scan = Self::default();
        let mut at = SEGMENT_HEADER_BYTES.min(size);
        if beginning == Beginning::Damaged {
            scan.stretches.push(Stretch { start: 0, end: at, confirmed: true });
        }
        while !scan.closed {
            if let Some(header) = window.frame(at, name.marker)? {
                scan.take(at, &header, &mut window)?;
                at += header.frame_bytes();
            } else if let Some(next) = window.find(at + 1, name.marker)? {
                scan.push_stretch(Stretch { start: at, end: next, confirmed: false });
                at = next;
            } else {
                break;
            }
        }
        let last_commit = scan.last_commit;
        for stretch in &mut scan.stretches {
            stretch.confirmed |= known != KnownEnd::Newest || stretch.end <= last_commit;
        }
        scan.end = at;
        if !scan.closed {
            scan.read_rest(&mut window, beginning, known, size)?;
        }
        Ok(scan)
    }

    fn take(&mut self, offset: u64, header: &Header, window: &mut Window<'_>) -> io::Result<()> {
        self.frames += 1;
        if header.first {
            self.last_commit = offset;
        }
        match header.kind {
            FrameKind::Record => {
                let payload_bytes = u64::from(header.payload_bytes);
                self.records.push(Placed { id: header.id, offset, payload_bytes });
            }
            FrameKind::Done => self.done.extend(frame::decode_runs(&window.payload(offset, header)?)),
            FrameKind::Progress => self.progress.push((header.id, window.payload(offset, header)?)),
            FrameKind::End => self.closed = true,
            FrameKind::Mark | FrameKind::Void => {}
        }
        Ok(())
    }

    fn push_stretch(&mut self, stretch: Stretch) {
        match self.stretches.last_mut() {
            Some(last) if last.end == stretch.start => {
                last.end = stretch.end;
                last.confirmed |= stretch.confirmed;
            }
            _ => self.stretches.push(stretch),
        }
    }

    /// Classifies the bytes after the last valid frame of a segment that was not closed.
    fn read_rest(
        &mut self,
        window: &mut Window<'_>,
        beginning: Beginning,
        known: KnownEnd,
        size: u64,
    ) -> io::Result<()> {
        let start = self.end;
        self.end = start.max(SEGMENT_HEADER_BYTES);
        if let KnownEnd::At(end) = known {
            if start < end {
                self.push_stretch(Stretch { start, end, confirmed: true });
                self.end = end;
            }
            return Ok(());
        }
        if beginning == Beginning::Damaged && self.frames == 0 {
            self.push_stretch(Stretch { start, end: size, confirmed: true });
            self.end = size.max(SEGMENT_HEADER_BYTES);
            return Ok(());
        }
        let shorter = matches!(beginning, Beginning::Good(header) if size < header.allocated_bytes);
        let cut = known == KnownEnd::Newest && shorter;
        if !cut {
            return Ok(());
        }
        // The zeros that remain are unused space; only other bytes are set aside.
        let end = if window.is_zero(start, size)? { start } else { size };
        // A damaged stretch with missing bytes makes the file shorter, too.
        if start == end && self.stretches.iter().any(|stretch| stretch.confirmed) {
            return Ok(());
        }
        self.push_stretch(Stretch { start, end, confirmed: true });
        Ok(())
    }
}

/// Opens a segment.
pub(super) fn open(files: &dyn Files, name: Name) -> io::Result<Box<dyn LogFile>> {
    files.open(&name.file_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares a header with the layout in the module documentation, byte by byte.
    #[test]
    fn a_header_is_laid_out_as_documented() {
        let header = SegmentHeader {
            name: Name { number: 3, marker: 0xabcd },
            first_id: 5,
            previous: 2,
            previous_end: 7,
            allocated_bytes: 9,
        };
        let bytes = header.encode();
        assert_eq!(bytes.len() as u64, SEGMENT_HEADER_BYTES);
        assert_eq!(bytes[..12], *b"spanrlay\x01\0\0\0");
        assert_eq!(bytes[12..16], crc32fast::hash(&bytes[..12]).to_le_bytes());
        let fields = [3, 0xabcd, 5, 2, 7, 9].map(u64::to_le_bytes).concat();
        assert_eq!(bytes[16..64], fields);
        assert_eq!(bytes[64..], crc32fast::hash(&fields).to_le_bytes());
    }

    #[test]
    fn only_names_as_they_are_written_are_parsed() {
        let name = Name { number: 12, marker: 0xf00 };
        assert_eq!(name.file_name(), "segment-0000000012-0000000000000f00.log");
        assert_eq!(Name::parse(&name.file_name()), Some(name));
        for other in ["segment-12-f00.log", "segment-0000000012.new", "queue.redb", "segment-.log"] {
            assert_eq!(Name::parse(other), None);
        }
    }
}
