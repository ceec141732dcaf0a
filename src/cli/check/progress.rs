//! Progress of a long input.
//!
//! Out: one line on standard error that replaces itself, and is cleared before anything else is written there.
//! Promises: nothing is written unless standard error is a terminal, nor for short input.

use std::io::{self, IsTerminal, Read, Stderr, Write};

/// Size of input below which no progress is shown, and interval of updates.
const STEP_BYTES: u64 = 8 << 20;

/// Returns to the start of the line and clears it.
const CLEAR: &str = "\r\x1b[K";

/// Writer of the progress.
pub(super) struct ProgressLine<W: Write> {
    /// `None` where nobody would read it.
    out: Option<W>,
    is_shown: bool,
}

/// A reader that reports its progress.
pub(super) struct Told<'a, R, W: Write> {
    reader: R,
    progress: &'a mut ProgressLine<W>,
    bytes: u64,
}

// === impl ProgressLine ===

impl ProgressLine<Stderr> {
    pub(super) fn on_stderr() -> Self {
        let stderr = io::stderr();
        Self { out: stderr.is_terminal().then_some(stderr), is_shown: false }
    }
}

impl<W: Write> ProgressLine<W> {
    pub(super) fn reading<R: Read>(&mut self, reader: R) -> Told<'_, R, W> {
        Told { reader, progress: self, bytes: 0 }
    }

    /// Shows the current step and the size of its input.
    pub(super) fn doing(&mut self, what: &str, input_bytes: usize) {
        if input_bytes as u64 >= STEP_BYTES {
            self.show(&format!("{what} {} MiB", input_bytes >> 20));
        }
    }

    /// Clears the line for further output.
    pub(super) fn done(&mut self) {
        if self.is_shown {
            self.is_shown = false;
            self.write(CLEAR);
        }
    }

    fn show(&mut self, text: &str) {
        self.is_shown = self.out.is_some();
        self.write(&format!("{CLEAR}{text}"));
    }

    /// Ignores errors: standard error may be closed.
    fn write(&mut self, text: &str) {
        if let Some(out) = &mut self.out {
            out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
        }
    }
}

impl<W: Write> Drop for ProgressLine<W> {
    fn drop(&mut self) {
        self.done();
    }
}

// === impl Told ===

impl<R: Read, W: Write> Read for Told<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let before = self.bytes / STEP_BYTES;
        self.bytes += read as u64;
        if self.bytes / STEP_BYTES > before {
            self.progress.show(&format!("reading {} MiB", self.bytes >> 20));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: u64) -> String {
        let mut out = Vec::new();
        let mut progress = ProgressLine { out: Some(&mut out), is_shown: false };
        io::copy(&mut progress.reading(io::repeat(b'x').take(bytes)), &mut io::sink()).unwrap();
        progress.doing("checking", usize::try_from(bytes).unwrap());
        progress.done();
        drop(progress);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_progress_is_shown_for_short_input() {
        assert_eq!(told(STEP_BYTES - 1), "");
    }

    #[test]
    fn progress_of_long_input_is_shown_in_steps_and_cleared() {
        let told = told(2 * STEP_BYTES);
        let lines: Vec<&str> = told.split(CLEAR).collect();
        assert_eq!(lines, ["", "reading 8 MiB", "reading 16 MiB", "checking 16 MiB", ""]);
    }

    #[test]
    fn nothing_is_written_without_a_terminal() {
        let mut progress = ProgressLine::<Vec<u8>> { out: None, is_shown: false };
        progress.doing("checking", usize::MAX);
        assert!(!progress.is_shown);
    }
}
