//! Splits a body into objects, whatever separates them.
//!
//! A body is lines of one object each; or an array of objects; or objects one after another; or one object over
//! many lines; and a line may have a syslog prefix. All of it is one loop: find where the next object starts, read
//! it, go on behind it. What cannot be read is rejected up to where the next object can start.

pub(super) mod bounds;
mod halves;
mod place;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use memchr::memmem;

use self::bounds::Bounds;
use self::place::Place;
use super::super::{Item, Passage, Reading, Rejected, Repair};
use super::repair::mend;
use crate::otlp::json::{Cursor, Fault, FaultKind};
use crate::otlp::{Line, LineReader};

/// How often in one body a line that ends too early may be read on into the lines behind it. One is enough for
/// what senders do, and every try can cost the rest of the body.
const MAX_CONTINUATIONS: u32 = 16;

/// What the operator decides about lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) repair: Mending,
    pub(super) max_line_bytes: usize,
}

/// `receivers.fastly.repair`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mending {
    Off,
    Unambiguous,
}

/// Reads a decoded body: a large one on two cores, if it can be read so.
pub(super) fn read(body: &Bytes, settings: &Settings) -> Reading {
    let in_two = (body.len() >= halves::FROM_BYTES).then(|| halves::read(body, settings)).flatten();
    in_two.unwrap_or_else(|| Splitter::read(body, settings).reading)
}

const BOM: &[u8] = b"\xef\xbb\xbf";

struct Splitter<'a> {
    body: &'a Bytes,
    settings: &'a Settings,
    utf8: bool,
    at: usize,
    /// The end of the line that was looked at last, and from where: a body may be one line of a thousand objects.
    known_line_end: Option<(usize, usize)>,
    bounds: Bounds,
    /// Of the line or object that is being read.
    place: Place,
    /// Behind a `[` that no `]` has closed.
    in_array: bool,
    continuations: u32,
    lines: LineReader,
    reading: Reading,
}

/// An object that was read, and how much of the body it took.
struct Taken {
    line: Line,
    repairs: Vec<Repair>,
    bytes: usize,
}

// === impl Splitter ===

impl<'a> Splitter<'a> {
    /// At the end of a body.
    fn read(body: &'a Bytes, settings: &'a Settings) -> Self {
        let mut splitter = Self {
            body,
            settings,
            // Once for all lines; only in a body with a fault somewhere does every line have to be asked.
            utf8: std::str::from_utf8(body).is_ok(),
            at: if body.starts_with(BOM) { BOM.len() } else { 0 },
            known_line_end: None,
            bounds: Bounds::new(body.len(), settings.max_line_bytes),
            place: Place::start(),
            in_array: false,
            continuations: 0,
            lines: LineReader::default(),
            reading: Reading::default(),
        };
        while splitter.next_object() {}
        splitter
    }

    /// Reads the next object, or rejects what stands in its place. False at the end of the body.
    fn next_object(&mut self) -> bool {
        match self.body.get(self.at) {
            None => return false,
            Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
            Some(b'[') if !self.in_array => {
                self.in_array = true;
                self.at += 1;
            }
            Some(b']') if self.in_array => {
                self.in_array = false;
                self.at += 1;
            }
            // Between the elements of an array, and behind the lines of those who forgot that theirs is none.
            Some(b',') => self.at += 1,
            Some(first) => {
                if let Some(reason) = self.bounds.exceeded() {
                    self.reject_all_the_rest(reason);
                    return false;
                }
                if *first == b'{' {
                    self.object(self.at);
                    return true;
                }
                let (start, end) = (self.at, self.line_end(self.at));
                match syslog_prefix(&self.body[start..end]) {
                    Some(length) => self.object(start + length),
                    None => self.reject(start, start, &Fault::shape(0, "not a JSON object")),
                }
            }
        }
        true
    }

    /// Reads the object at `start`; the line that it stands in begins at or before `self.at`.
    fn object(&mut self, start: usize) {
        let end = self.line_end(start);
        let limit = end.min(start.saturating_add(self.settings.max_line_bytes));
        match self.take(start, limit) {
            Ok(taken) => self.accept(start, taken),
            Err(fault) if fault.kind == FaultKind::Truncated && limit < end => {
                let reason = format!("longer than max_line_size ({} bytes)", self.settings.max_line_bytes);
                self.reject(self.at, start, &Fault::shape(limit - start, reason));
            }
            Err(fault) => match self.take_over_lines(start, end, &fault) {
                Some(taken) => self.accept(start, taken),
                None => self.reject(self.at, start, &fault),
            },
        }
    }

    /// Reads the object at `start` from the bytes up to `limit`, mending it if need be.
    fn take(&mut self, start: usize, limit: usize) -> Result<Taken, Fault> {
        let text = self.body.slice(start..limit);
        let read = self.lines.read(&text);
        self.bounds.went_over(read.as_ref().map_or_else(|fault| fault.at, |line| line.end));
        let fault = match read {
            Ok(line) if self.utf8 || std::str::from_utf8(&text[..line.end]).is_ok() => {
                let bytes = line.end;
                return Ok(Taken { repairs: Vec::new(), bytes, line });
            }
            Ok(_) => Fault::shape(invalid_utf8_at(&text), "invalid UTF-8"),
            // Its shape does not get better by mending its syntax.
            Err(fault) if !fault.is_syntax() => return Err(fault),
            Err(fault) => fault,
        };
        if self.settings.repair == Mending::Off || !self.bounds.allow_mending() {
            return Err(fault);
        }
        let mended = mend(&text);
        self.bounds.went_over(mended.as_ref().map_or_else(|gone_over| *gone_over, |mended| mended.consumed));
        let Ok(mut mended) = mended else { return Err(fault) };
        match self.lines.read(&Bytes::from(std::mem::take(&mut mended.text))) {
            // With quotes guessed, everything else has to be as expected.
            Ok(line) if line.has_strangers && mended.repairs.contains(&Repair::UnescapedQuote) => Err(fault),
            Ok(mut line) => {
                mended.restore(&text, &mut line.dropped);
                Ok(Taken { line, bytes: mended.consumed, repairs: mended.repairs })
            }
            Err(_) => Err(fault),
        }
    }

    /// Reads an object that ends too early at the end of its line together with the lines behind it: so it is
    /// when it was printed for people to read.
    fn take_over_lines(&mut self, start: usize, line_end: usize, fault: &Fault) -> Option<Taken> {
        let cut_off = fault.kind == FaultKind::Truncated;
        if !cut_off || line_end == self.body.len() || self.continuations == MAX_CONTINUATIONS {
            return None;
        }
        self.continuations += 1;
        let limit = self.body.len().min(start.saturating_add(self.settings.max_line_bytes));
        // Where another line begins, this one was cut off.
        let limit =
            next_line_of_its_own(&self.body[line_end..limit]).map_or(limit, |offset| line_end + offset);
        self.take(start, limit).ok()
    }

    fn accept(&mut self, start: usize, taken: Taken) {
        self.place.advance(self.body, start);
        let Taken { line, mut repairs, bytes } = taken;
        repairs.extend(line.repairs.iter().copied());
        repairs.sort_unstable();
        repairs.dedup();
        let number = self.place.line();
        let (spans, records) = (line.traces.as_ref(), line.logs.as_ref());
        let spans = spans.map_or(0, |traces| traces.spans().len());
        let records = records.map_or(0, |logs| logs.records().len());
        self.bounds.noted(spans + records + line.dropped.len());
        let lost = !line.dropped.is_empty();
        let mut place = self.place;
        for dropped in line.dropped {
            // In the order of the text, which is gone over once for all of them.
            place.advance(self.body, start + dropped.at.min(bytes));
            self.note_rejected(place, dropped.reason.into_owned(), dropped.text);
        }
        let empty = line.traces.is_none() && line.logs.is_none() && line.metrics.is_none();
        if !lost || !empty {
            self.reading.items.push(Item {
                line: number,
                traces: line.traces,
                logs: line.logs,
                metrics: line.metrics,
                repairs,
                passage: Passage::Joined,
            });
        }
        self.at = start + bytes;
        self.reject_rest_of_line();
    }

    /// Behind an object only another one may stand, or the end of the line.
    fn reject_rest_of_line(&mut self) {
        let rest =
            self.body[self.at..].iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b',' | b']'));
        let Some(next) = rest.map(|offset| self.at + offset) else { return };
        if !matches!(self.body[next], b'\n' | b'{' | b'[') {
            self.reject(next, next, &Fault::shape(0, "text behind the end of the object"));
        }
    }

    /// Rejects everything from here on as one piece. It is kept as such, and may be sent again by itself.
    fn reject_all_the_rest(&mut self, reason: String) {
        let start = self.at;
        self.place.advance(self.body, start);
        let input = self.body.slice(start..start + without_blanks_behind(&self.body[start..]).len());
        let lines = input.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
        self.reading.unread_lines = lines.saturating_sub(1);
        self.note_rejected(self.place, reason, input);
        self.at = self.body.len();
    }

    fn note_rejected(&mut self, place: Place, reason: String, input: Bytes) {
        self.reading.rejected.push(Rejected { line: place.line(), column: place.column(), reason, input });
    }

    /// Rejects from `from` to where the next object can start. The fault is relative to `start`.
    fn reject(&mut self, from: usize, start: usize, fault: &Fault) {
        self.place.advance(self.body, from);
        self.bounds.noted(0);
        let resume = self.resume_after(start, fault);
        let mut place = self.place;
        place.advance(self.body, (start + fault.at).min(self.body.len()));
        let rejected = without_blanks_behind(&self.body[from..resume]);
        let rejected = rejected.strip_suffix(b",").unwrap_or(rejected);
        let input = self.body.slice(from..from + rejected.len());
        self.note_rejected(place, fault.reason.clone().into_owned(), input);
        self.at = resume;
    }

    /// Where reading can go on behind something that starts at `start` and has a fault.
    fn resume_after(&mut self, start: usize, fault: &Fault) -> usize {
        let line_end = self.line_end(start);
        if fault.kind == FaultKind::Shape && self.body.get(start) == Some(&b'{') {
            // It is JSON, though not OTLP: it ends where it ends.
            let mut cursor = Cursor::new(&self.body[..line_end], start);
            let skipped = cursor.skip_value();
            self.bounds.went_over(cursor.at - start);
            if skipped.is_ok() {
                return cursor.at;
            }
        }
        let limit = if self.in_array { self.body.len() } else { line_end };
        next_object_behind(&self.body[start..limit]).map_or(limit, |offset| start + offset)
    }

    fn line_end(&mut self, from: usize) -> usize {
        match self.known_line_end {
            Some((asked, end)) if (asked..=end).contains(&from) => end,
            _ => {
                let end =
                    memchr::memchr(b'\n', &self.body[from..]).map_or(self.body.len(), |offset| from + offset);
                self.known_line_end = Some((from, end));
                end
            }
        }
    }
}

/// The length of what a syslog header takes before the object: `<134>…`, with a count of octets before it in
/// Heroku's framing. The message must be an object, whose brace is the first one.
fn syslog_prefix(line: &[u8]) -> Option<usize> {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut rest = line;
    let count = digits(rest);
    if count > 0 && rest.get(count) == Some(&b' ') {
        rest = &rest[count + 1..];
    }
    let priority = digits(rest.strip_prefix(b"<")?);
    if !(1..=3).contains(&priority) || rest.get(priority + 1) != Some(&b'>') {
        return None;
    }
    memchr::memchr(b'{', line)
}

/// Where the next object of a request begins, behind a comma or the end of another object.
fn next_object_behind(text: &[u8]) -> Option<usize> {
    object_starts(text)
        .find(|&start| start > 0 && matches!(text[..start].trim_ascii_end().last(), Some(b',' | b'}')))
}

/// Where a line begins that is an object of its own.
fn next_line_of_its_own(text: &[u8]) -> Option<usize> {
    object_starts(text).find(|&start| {
        text[..start]
            .iter()
            .rposition(|byte| !matches!(byte, b' ' | b'\t'))
            .is_none_or(|last| text[last] == b'\n')
    })
}

/// Wherever a request could begin: `{"resourceSpans"` and its kin.
fn object_starts(text: &[u8]) -> impl Iterator<Item = usize> + '_ {
    memmem::find_iter(text, b"{\"resource")
        .filter(|&start| matches!(text.get(start + 10), Some(b'S' | b'L' | b'M')))
}

/// Without the white space of JSON at its end. Of what else looks like some, a line may consist: it is kept.
fn without_blanks_behind(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    &text[..end.map_or(0, |last| last + 1)]
}

fn invalid_utf8_at(text: &[u8]) -> usize {
    std::str::from_utf8(text).map_or_else(|error| error.valid_up_to(), |_| 0)
}
