//! Rejected input, kept for people to look at and for `spanrelay replay`.
//!
//! In: what a receiver could not use and what the downstream would never take. Out: `rejected.ndjson` in the queue
//! directory, one JSON object per line: `time` (RFC 3339), `receiver`, `line` and `column` where there are any, `reason`,
//! and the bytes: `input` when they are UTF-8, else `input_base64`.
//! Promises: two files of at most [`MAX_FILE_BYTES`] each, the older one under `rejected.1.ndjson`. A disk that does not
//! take it is logged; the requests themselves go on.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

/// Of one file; a week of a sender with one bad line a second.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Of one entry; what is longer is cut, and says so.
const MAX_INPUT_BYTES: usize = 1024 * 1024;

const FILE: &str = "rejected.ndjson";
const OLDER_FILE: &str = "rejected.1.ndjson";

/// Where entries are written. Nothing is opened before there is a first one.
pub(crate) struct RejectedLines {
    directory: PathBuf,
    max_file_bytes: u64,
    /// One at a time: lines must not be torn.
    writing: Mutex<()>,
}

/// Something that was rejected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rejection<'a> {
    /// The id of the receiver, or `otlp_http` for what the downstream refused.
    pub(crate) receiver: &'a str,
    /// Line and column in the request, from 1.
    pub(crate) place: Option<(u32, u32)>,
    pub(crate) reason: &'a str,
    pub(crate) input: &'a [u8],
}

/// A line of the file.
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
    /// The input was longer than what is kept of it.
    #[serde(default, skip_serializing_if = "is_whole")]
    pub(crate) cut: bool,
}

// === impl RejectedLines ===

impl RejectedLines {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), max_file_bytes: MAX_FILE_BYTES, writing: Mutex::new(()) }
    }

    /// Appends the entries. Blocks on the disk.
    pub(crate) fn write<'a>(&self, now: SystemTime, rejections: impl IntoIterator<Item = Rejection<'a>>) {
        let mut rejections = rejections.into_iter().peekable();
        if rejections.peek().is_none() {
            return;
        }
        if let Err(error) = self.append(now, rejections) {
            warn!(%error, directory = ?self.directory, "rejected input could not be kept");
        }
    }

    fn append<'a>(&self, now: SystemTime, rejections: impl Iterator<Item = Rejection<'a>>) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        fs::create_dir_all(&self.directory)?;
        let (mut file, mut size_bytes) = self.open()?;
        for rejection in rejections {
            let mut line = serde_json::to_vec(&Entry::new(now, &rejection))?;
            line.push(b'\n');
            if size_bytes > 0 && size_bytes + line.len() as u64 > self.max_file_bytes {
                file.flush()?;
                fs::rename(self.directory.join(FILE), self.directory.join(OLDER_FILE))?;
                (file, size_bytes) = self.open()?;
            }
            size_bytes += line.len() as u64;
            file.write_all(&line)?;
        }
        file.flush()
    }

    fn open(&self) -> io::Result<(BufWriter<File>, u64)> {
        let mut file =
            File::options().read(true).append(true).create(true).open(self.directory.join(FILE))?;
        let mut size_bytes = file.metadata()?.len();
        if size_bytes > 0 && !ends_a_line(&mut file)? {
            // The process was killed, or the disk was full, in the middle of an entry: it harms only itself.
            file.write_all(b"\n")?;
            size_bytes += 1;
        }
        Ok((BufWriter::new(file), size_bytes))
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
        let kept = rejection.input.get(..MAX_INPUT_BYTES).unwrap_or(rejection.input);
        let (input, input_base64) = match std::str::from_utf8(kept) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(kept))),
        };
        Self {
            time: Timestamp::try_from(now).unwrap_or_default().to_string(),
            receiver: rejection.receiver.to_owned(),
            line: rejection.place.map(|(line, _)| line),
            column: rejection.place.map(|(_, column)| column),
            reason: rejection.reason.to_owned(),
            input,
            input_base64,
            cut: kept.len() < rejection.input.len(),
        }
    }

    /// The bytes that were rejected.
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
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const NOW: SystemTime = UNIX_EPOCH;

    fn rejection(input: &[u8]) -> Rejection<'_> {
        Rejection { receiver: "fastly/www", place: Some((4, 812)), reason: "the line ends too early", input }
    }

    fn read(path: &Path) -> Vec<Entry> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn an_entry_says_when_who_where_why_and_what() {
        let directory = tempfile::tempdir().unwrap();
        let rejected = RejectedLines::new(&directory.path().join("made"));
        rejected.write(NOW + Duration::from_nanos(1_700_000_000_123_456_789), [rejection(b"{\"a\nb")]);
        let text = fs::read_to_string(directory.path().join("made").join(FILE)).unwrap();
        assert_eq!(
            text,
            "{\"time\":\"2023-11-14T22:13:20.123456789Z\",\"receiver\":\"fastly/www\",\"line\":4,\"column\":812,\
             \"reason\":\"the line ends too early\",\"input\":\"{\\\"a\\nb\"}\n"
        );
    }

    #[test]
    fn any_bytes_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let rejected = RejectedLines::new(directory.path());
        let inputs = [&b"text"[..], b"\xff\x00\n", b"", "é".as_bytes()];
        rejected.write(NOW, inputs.map(rejection));
        let entries = read(&directory.path().join(FILE));
        assert_eq!(entries.iter().map(|entry| entry.bytes().unwrap()).collect::<Vec<_>>(), inputs);
    }

    #[test]
    fn a_long_input_is_cut_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        RejectedLines::new(directory.path()).write(NOW, [rejection(&vec![b'x'; MAX_INPUT_BYTES + 1])]);
        let entries = read(&directory.path().join(FILE));
        assert!(entries[0].cut);
        assert_eq!(entries[0].bytes().unwrap().len(), MAX_INPUT_BYTES);
    }

    #[test]
    fn two_files_of_bounded_size_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let rejected = RejectedLines { max_file_bytes: 1000, ..RejectedLines::new(directory.path()) };
        for number in 0..50 {
            rejected.write(NOW, [rejection(format!("line {number}").as_bytes()), rejection(b"x")]);
        }
        for name in [FILE, OLDER_FILE] {
            assert!(fs::metadata(directory.path().join(name)).unwrap().len() <= 1000);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        let last = read(&directory.path().join(FILE));
        assert_eq!(last[last.len() - 2].bytes().unwrap(), b"line 49");
    }

    #[test]
    fn an_entry_that_was_torn_harms_only_itself() {
        let directory = tempfile::tempdir().unwrap();
        let rejected = RejectedLines::new(directory.path());
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
    fn nothing_is_made_before_there_is_something_to_keep() {
        let directory = tempfile::tempdir().unwrap();
        RejectedLines::new(&directory.path().join("made")).write(NOW, []);
        assert!(!directory.path().join("made").exists());
    }
}
