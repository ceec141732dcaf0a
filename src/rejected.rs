//! The rejected lines: rejected input, kept for inspection and for `spanrelay replay`.
//!
//! In: input that a receiver could not use or that the downstream will never accept. Out: `rejected.ndjson` in the
//! queue directory, one JSON object per line: `time` (RFC 3339), `receiver`, `line` and `column` where known, `reason`,
//! and the bytes: `input` when they are UTF-8, else `input_base64`; or only their `length`, if they are not kept.
//! Promises: the file never exceeds `queue.rejected_max_size`. An entry is complete, and stays until an operator moves
//! or deletes the file; the next entry then creates a new one. Entries without room, or that the disk does not accept,
//! are counted and logged; processing of the requests continues. Only the owner of the process can read the file.
//! Out of scope: `rejected.1.ndjson`, which older versions wrote.

#[cfg(feature = "kafka")]
mod topic;

#[cfg(feature = "kafka")]
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::event::RejectedState;
use crate::telemetry::{LineLimit, Metrics};

#[cfg(feature = "kafka")]
pub(crate) use topic::{DeadLetter, DeadLetters};

/// `receiver` of input that the downstream rejected.
pub(crate) const DOWNSTREAM: &str = "otlp_http";

const FILE: &str = "rejected.ndjson";
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Size up to which entries are written together, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// The rejected-lines file. Nothing is opened before the first entry.
pub(crate) struct RejectedLines {
    directory: PathBuf,
    max_size_bytes: u64,
    metrics: Metrics,
    /// Limit of log lines about a full file. `failed` limits those about failed writes.
    full: LineLimit,
    failed: LineLimit,
    /// Lock that keeps entries of concurrent calls apart.
    writing: Mutex<()>,
    /// Takes all entries in place of the file.
    #[cfg(feature = "kafka")]
    topic: Option<Box<dyn DeadLetters>>,
}

/// A write that goes on in the background.
pub(crate) type PendingWrite = Option<tokio::task::JoinHandle<()>>;

/// The entries of one call.
struct Appender {
    file: File,
    /// Size of the complete entries in the file.
    size_bytes: u64,
    buffer: Vec<u8>,
    /// Number of entries in the buffer.
    buffered: u64,
}

/// Number of entries that were not kept.
#[derive(Debug, Default)]
struct Discarded {
    no_room: u64,
    failed: u64,
    error: Option<io::Error>,
}

/// Input that was rejected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rejection<'a> {
    /// The id of the receiver, or [`DOWNSTREAM`].
    pub(crate) receiver: &'a str,
    /// Line and column in the request, from 1.
    pub(crate) position: Option<(u32, u32)>,
    pub(crate) reason: &'a str,
    pub(crate) input: Input<'a>,
}

/// The input of a [`Rejection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input<'a> {
    Bytes(&'a [u8]),
    /// The bytes must not be kept; there were this many.
    Withheld(usize),
}

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    time: String,
    pub(crate) receiver: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_base64: Option<String>,
    /// Length of an input whose bytes were not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) length: Option<usize>,
    /// Only the beginning of the input is present. Older versions truncated entries.
    #[serde(default, skip_serializing_if = "is_whole")]
    pub(crate) cut: bool,
}

// === impl RejectedLines ===

impl RejectedLines {
    pub(crate) fn new(directory: &Path, max_size_bytes: u64, metrics: Metrics) -> Self {
        Self {
            directory: directory.to_owned(),
            max_size_bytes,
            metrics,
            full: LineLimit::default(),
            failed: LineLimit::default(),
            writing: Mutex::new(()),
            #[cfg(feature = "kafka")]
            topic: None,
        }
    }

    /// Sends all entries to a topic.
    #[cfg(feature = "kafka")]
    pub(crate) fn in_topic(self, topic: impl DeadLetters + 'static) -> Self {
        Self { topic: Some(Box::new(topic)), ..self }
    }

    /// Returns the size of the file, which is zero before the first entry; `None` if entries go to a topic.
    pub(crate) fn state(&self) -> Option<RejectedState> {
        #[cfg(feature = "kafka")]
        if self.topic.is_some() {
            return None;
        }
        // An operator may move the file at any time, so that a count of the entries would be wrong.
        let kept_bytes = std::fs::metadata(self.directory.join(FILE)).map_or(0, |metadata| metadata.len());
        Some(RejectedState { kept_bytes, capacity_bytes: self.max_size_bytes })
    }

    /// Appends the entries, which blocks on disk I/O, or sends them to the topic.
    pub(crate) fn write<'a>(
        &self,
        now: SystemTime,
        rejections: impl IntoIterator<Item = Rejection<'a>>,
    ) -> PendingWrite {
        let mut rejections = rejections.into_iter().peekable();
        rejections.peek()?;
        #[cfg(feature = "kafka")]
        if let Some(topic) = &self.topic {
            return Some(topic.keep(now, rejections.map(Into::into).collect()));
        }
        let discarded = self.append(now, rejections);
        self.report(&discarded);
        None
    }

    fn append<'a>(&self, now: SystemTime, mut rejections: impl Iterator<Item = Rejection<'a>>) -> Discarded {
        let _writing = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut discarded = Discarded::default();
        let mut appender = match self.open() {
            Ok(appender) => appender,
            Err(error) => return discarded.all_failed(error, rejections.count()),
        };
        for rejection in rejections.by_ref() {
            let entry = Entry::new(now, &rejection).to_line();
            if appender.size_with(&entry) > self.max_size_bytes {
                discarded.no_room += 1;
                continue;
            }
            if let Err(error) = appender.push(&entry) {
                discarded.failed += appender.abandon();
                return discarded.all_failed(error, rejections.count());
            }
        }
        if let Err(error) = appender.flush() {
            discarded.failed += appender.abandon();
            return discarded.all_failed(error, 0);
        }
        // Input rejected after its sender got a 2xx exists only here.
        if let Err(error) = appender.file.sync_data() {
            return discarded.all_failed(error, 0);
        }
        discarded
    }

    fn open(&self) -> io::Result<Appender> {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&self.directory)?;
        let path = self.directory.join(FILE);
        let mut file = File::options().read(true).append(true).create(true).mode(FILE_MODE).open(path)?;
        let metadata = file.metadata()?;
        if metadata.permissions().mode() & 0o777 != FILE_MODE {
            // Older versions let others read it.
            file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        }
        let mut appender =
            Appender { size_bytes: metadata.len(), buffer: Vec::new(), buffered: 0, file: file.try_clone()? };
        if metadata.len() == 0 {
            // The file may be new: sync its name in the directory.
            File::open(&self.directory)?.sync_all()?;
        } else if !ends_a_line(&mut file)? {
            // The process was killed in the middle of an entry: end its line, so that only that entry is lost.
            appender.buffer.push(b'\n');
        }
        Ok(appender)
    }

    fn report(&self, discarded: &Discarded) {
        let Discarded { no_room, failed, error } = discarded;
        self.metrics.rejected_discarded.inc_by(no_room + failed);
        let directory = &self.directory;
        let discarded_total = self.metrics.rejected_discarded.get();
        if *no_room > 0
            && let Some(suppressed) = self.full.admit(Instant::now())
        {
            error!(
                ?directory,
                max_size_bytes = self.max_size_bytes,
                discarded = no_room,
                discarded_total,
                suppressed = suppressed.shown(),
                remedy = "move rejected.ndjson away, or raise queue.rejected_max_size",
                "rejected-lines file full"
            );
        }
        if let Some(error) = error
            && let Some(suppressed) = self.failed.admit(Instant::now())
        {
            error!(
                ?directory,
                %error,
                discarded = failed,
                discarded_total,
                suppressed = suppressed.shown(),
                "rejected input could not be kept"
            );
        }
    }
}

// === impl Discarded ===

impl Discarded {
    fn all_failed(self, error: io::Error, entries: usize) -> Self {
        Self { failed: self.failed + entries as u64, error: Some(error), ..self }
    }
}

// === impl Appender ===

impl Appender {
    /// Returns the size of the file including this entry.
    fn size_with(&self, entry: &[u8]) -> u64 {
        self.size_bytes + self.buffer.len() as u64 + entry.len() as u64
    }

    fn push(&mut self, entry: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(entry);
        self.buffered += 1;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.size_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffered = 0;
        Ok(())
    }

    /// Discards what was written of the buffer, and returns the number of entries in it.
    fn abandon(&mut self) -> u64 {
        // If this fails too, the next entry begins on a line of its own.
        self.file.set_len(self.size_bytes).ok();
        self.buffered
    }
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

// === impl Entry ===

impl Entry {
    fn new(now: SystemTime, rejection: &Rejection<'_>) -> Self {
        let (input, input_base64, length) = match rejection.input {
            Input::Withheld(length) => (None, None, Some(length)),
            Input::Bytes(kept) => match std::str::from_utf8(kept) {
                Ok(text) => (Some(text.to_owned()), None, None),
                Err(_) => (None, Some(STANDARD.encode(kept)), None),
            },
        };
        Self {
            time: Timestamp::try_from(now).unwrap_or_default().to_string(),
            receiver: rejection.receiver.to_owned(),
            line: rejection.position.map(|(line, _)| line),
            column: rejection.position.map(|(_, column)| column),
            reason: rejection.reason.to_owned(),
            input,
            input_base64,
            length,
            cut: false,
        }
    }

    /// Returns the line of an entry that was kept in a topic: its members are the headers, its input is the value.
    #[cfg(feature = "kafka")]
    pub(crate) fn line_of_dead_letter(headers: &BTreeMap<String, String>, input: &[u8]) -> Vec<u8> {
        let text = |name: &str| headers.get(name).cloned().unwrap_or_default();
        let number = |name: &str| headers.get(name).and_then(|number| number.parse().ok());
        let (receiver, reason) = (text("receiver"), text("reason"));
        let position = number("line").zip(number("column"));
        let length = headers.get("length").and_then(|length| length.parse().ok());
        let input = length.map_or(Input::Bytes(input), Input::Withheld);
        let rejection = Rejection { receiver: &receiver, position, reason: &reason, input };
        Self { time: text("time"), ..Self::new(SystemTime::UNIX_EPOCH, &rejection) }.to_line()
    }

    /// Returns the entry as a line of the file.
    fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("texts and numbers always have a JSON form");
        line.push(b'\n');
        line
    }

    /// Returns the bytes that were rejected, if they were kept.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.input, &self.input_base64) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(encoded)) => STANDARD.decode(encoded).ok(),
            (None, None) => None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_whole(cut: &bool) -> bool {
    !cut
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::logging::tests::Captured;

    const NOW: SystemTime = UNIX_EPOCH;

    fn rejection(input: &[u8]) -> Rejection<'_> {
        Rejection {
            receiver: "fastly/www",
            position: Some((4, 812)),
            reason: "the line ends too early",
            input: Input::Bytes(input),
        }
    }

    fn lines_in(directory: &Path, max_size_bytes: u64) -> RejectedLines {
        RejectedLines::new(directory, max_size_bytes, Metrics::new())
    }

    fn read(path: &Path) -> Vec<Entry> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn an_entry_has_time_receiver_position_reason_and_input() {
        let directory = tempfile::tempdir().unwrap();
        let rejected = lines_in(&directory.path().join("made"), 1 << 30);
        rejected.write(NOW + Duration::from_nanos(1_700_000_000_123_456_789), [rejection(b"{\"a\nb")]);
        let text = fs::read_to_string(directory.path().join("made").join(FILE)).unwrap();
        assert_eq!(
            text,
            "{\"time\":\"2023-11-14T22:13:20.123456789Z\",\"receiver\":\"fastly/www\",\"line\":4,\"column\":812,\
             \"reason\":\"the line ends too early\",\"input\":\"{\\\"a\\nb\"}\n"
        );
    }

    #[test]
    fn an_input_whose_bytes_are_withheld_has_its_length_only() {
        let directory = tempfile::tempdir().unwrap();
        let withheld = Rejection { input: Input::Withheld(4711), ..rejection(b"") };
        lines_in(directory.path(), 1 << 30).write(NOW, [withheld]);
        let path = directory.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"time\":\"1970-01-01T00:00:00Z\",\"receiver\":\"fastly/www\",\"line\":4,\"column\":812,\
             \"reason\":\"the line ends too early\",\"length\":4711}\n"
        );
        let [entry] = &read(&path)[..] else { panic!() };
        assert_eq!((entry.bytes(), entry.length), (None, Some(4711)));
    }

    #[test]
    fn any_bytes_are_preserved() {
        let directory = tempfile::tempdir().unwrap();
        let rejected = lines_in(directory.path(), 1 << 30);
        let inputs = [&b"text"[..], b"\xff\x00\n", b"", "é".as_bytes()];
        rejected.write(NOW, inputs.map(rejection));
        let entries = read(&directory.path().join(FILE));
        assert_eq!(entries.iter().map(|entry| entry.bytes().unwrap()).collect::<Vec<_>>(), inputs);
    }

    #[test]
    fn an_entry_of_any_length_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let input = vec![b'x'; (1 << 20) + 1];
        lines_in(directory.path(), 1 << 30).write(NOW, [rejection(&input), rejection(b"next")]);
        let entries = read(&directory.path().join(FILE));
        assert_eq!(
            entries.iter().map(|entry| entry.bytes().unwrap()).collect::<Vec<_>>(),
            [input, b"next".to_vec()]
        );
    }

    #[test]
    fn a_full_file_keeps_its_entries_and_counts_discarded_ones() {
        let (captured, _guard) = Captured::start(tracing::Level::ERROR, LogFormat::Json);
        let directory = tempfile::tempdir().unwrap();
        let older = directory.path().join("rejected.1.ndjson");
        fs::write(&older, "{}\n").unwrap();
        let rejected = lines_in(directory.path(), 1000);
        for number in 0..50 {
            rejected.write(NOW, [rejection(format!("line {number}").as_bytes()), rejection(b"x")]);
        }
        let path = directory.path().join(FILE);
        let entries = read(&path);
        assert!(fs::metadata(&path).unwrap().len() <= 1000);
        assert!(entries.len() > 2);
        assert_eq!(entries[0].bytes().unwrap(), b"line 0", "the oldest entry is kept");
        assert_eq!(rejected.metrics.rejected_discarded.get(), 100 - entries.len() as u64);
        assert_eq!(fs::read_to_string(older).unwrap(), "{}\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        let log = captured.text();
        assert_eq!(log.matches("rejected-lines file full").count(), 1, "{log}");

        // Moving the file makes room.
        fs::rename(&path, directory.path().join("moved.ndjson")).unwrap();
        rejected.write(NOW, [rejection(b"first again")]);
        assert_eq!(read(&path)[0].bytes().unwrap(), b"first again");
    }

    #[test]
    fn only_the_owner_can_read_the_rejected_lines() {
        let directory = tempfile::tempdir().unwrap();
        let (made, path) = (directory.path().join("made"), directory.path().join("made").join(FILE));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        lines_in(&made, 1 << 30).write(NOW, [rejection(b"x")]);
        assert_eq!((mode(&made), mode(&path)), (DIRECTORY_MODE, FILE_MODE));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        lines_in(&made, 1 << 30).write(NOW, [rejection(b"y")]);
        assert_eq!(mode(&path), FILE_MODE);
    }

    #[test]
    fn entries_that_cannot_be_written_are_counted_and_logged() {
        let (captured, _guard) = Captured::start(tracing::Level::ERROR, LogFormat::Json);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let rejected = lines_in(&file, 1 << 30);
        rejected.write(NOW, [rejection(b"a"), rejection(b"b")]);
        rejected.write(NOW, [rejection(b"c")]);
        assert_eq!(rejected.metrics.rejected_discarded.get(), 3);
        assert_eq!(captured.text().matches("rejected input could not be kept").count(), 1);
    }

    #[test]
    fn a_disk_that_fills_up_in_an_entry_leaves_complete_entries() {
        // Every write to it fails, as on a full disk.
        let Ok(full) = File::options().write(true).open("/dev/full") else { return };
        let mut appender = Appender { file: full, size_bytes: 0, buffer: Vec::new(), buffered: 0 };
        appender.push(b"{}\n").unwrap();
        appender.push(b"{}\n").unwrap();
        assert!(appender.flush().is_err());
        assert_eq!(appender.abandon(), 2);
    }

    #[test]
    fn a_torn_entry_affects_no_other_entry() {
        let directory = tempfile::tempdir().unwrap();
        let rejected = lines_in(directory.path(), 1 << 30);
        rejected.write(NOW, [rejection(b"whole"), rejection(b"torn")]);
        let path = directory.path().join(FILE);
        let size_bytes = fs::metadata(&path).unwrap().len();
        File::options().write(true).open(&path).unwrap().set_len(size_bytes - 20).unwrap();
        rejected.write(NOW, [rejection(b"after it")]);
        let text = fs::read_to_string(&path).unwrap();
        let entries: Vec<Entry> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let inputs: Vec<Vec<u8>> = entries.iter().filter_map(Entry::bytes).collect();
        assert_eq!(inputs, [b"whole".to_vec(), b"after it".to_vec()]);
    }

    #[test]
    fn nothing_is_created_before_the_first_entry() {
        let directory = tempfile::tempdir().unwrap();
        lines_in(&directory.path().join("made"), 1 << 30).write(NOW, []);
        assert!(!directory.path().join("made").exists());
    }
}
