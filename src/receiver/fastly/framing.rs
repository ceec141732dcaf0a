//! Finds the units of a body: where each one starts, and which bytes belong to it alone.
//!
//! In: a body. Out: a [`Frame`] for every unit, and for every piece of text that is none, in the order of the body.
//! Promises, for any bytes and in time that is linear in their number:
//! - A body that is one JSON array has the array's elements as units. Arrays in arrays are entered.
//! - Otherwise each line (LF, CRLF, CR) is looked at by itself first. It may begin with a byte order mark and a syslog
//!   prefix, and hold several values; commas and square brackets around objects separate them and belong to no unit.
//! - A complete object is never part of anything else's frame, whatever is before or after it.
//! - Lines are joined only to a balanced value that is not complete without them, and never across a line with a complete
//!   object. Where the value is no JSON, no object in it has a resource key: that one may be repairable by itself.
//! - An octet-counted syslog frame without an object is text of its own, although the next frame is on the same line.
//!
//! An object is *complete* when it has a resource key (`resourceSpans`, `resourceLogs`, `resourceMetrics`, or these in snake
//! case) among the keys of its top level, at any place, and is JSON but for what repair replaces without looking
//! further: escapes and control characters in strings, trailing commas, `(null)`, `NaN` and `Infinity`. What an object that is
//! JSON holds belongs to that object: a complete object inside other JSON is not taken out of it. An object with a
//! resource key that is not JSON although its brackets match is one frame too, so that repair sees the whole of it.
//! Anything else is text, and ends where its line ends or the next complete object starts.
//!
//! Most lines are one object. Where a line starts with a brace, the frame is [`Shape::Untried`]: reading the object finds
//! its end, and only when that fails is the line scanned ([`Frames::inspect`]).
//!
//! Leaves to others: what a unit means and whether it can be repaired ([`super::reading`]).

mod prefix;
mod scalar;
mod scan;

#[cfg(test)]
mod tests;

use self::prefix::{prefix_length, text_frame_length};
use self::scalar::scalar_length;
use self::scan::{Kind, Scanner, Value};

pub(super) use self::scan::RESOURCE_KEYS;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// A part of a body with an outcome of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Start of the frame, a syslog prefix included.
    pub(super) from: usize,
    /// Start of its value.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) shape: Shape,
    pub(super) line: LineStart,
}

/// What is known of the content of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// An object starts here and may end before the frame does. The caller reads it and then calls [`Frames::resume`], or
    /// [`Frames::inspect`] when it cannot be read.
    Untried,
    /// One balanced value.
    Balanced,
    /// An object that does not end where its brackets say, and what follows it in the frame.
    Open,
    /// No object.
    Text,
    /// No object, before a complete one on the same line.
    Leading,
    /// No object, after one on the same line.
    Trailing,
}

/// Number of a line, from 1, and the offset of its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineStart {
    pub(super) number: u32,
    pub(super) offset: usize,
}

/// Frames of a body.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    body: &'a [u8],
    at: usize,
    line: LineStart,
    /// Offset up to which lines were counted.
    counted: usize,
    /// End of the line, or of the body where the whole of it is one array.
    end: usize,
    is_array: bool,
    /// Brackets that were passed on this line and are open.
    open_arrays: usize,
    /// End of a run of brackets and blanks, and whether they separate objects.
    brackets: (usize, bool),
    /// An object ended earlier on this line.
    follows_object: bool,
    scanner: Scanner<'a>,
}

// === impl LineStart ===

impl LineStart {
    /// Returns the start of the line that contains `to`; `from` is on this line and not after `to`.
    pub(super) fn advance(mut self, body: &[u8], from: usize, to: usize) -> Self {
        for end in memchr::memchr2_iter(b'\n', b'\r', &body[from..to]) {
            let next = from + end + 1;
            // CRLF is one line end.
            if body[next - 1] == b'\n' || body.get(next) != Some(&b'\n') {
                self = self.next(next);
            }
        }
        self
    }

    /// Returns the column of `at`, in bytes from 1.
    pub(super) fn column(self, at: usize) -> u32 {
        u32::try_from(at - self.offset + 1).unwrap_or(u32::MAX)
    }

    fn next(self, offset: usize) -> Self {
        Self { number: self.number.saturating_add(1), offset }
    }
}

// === impl Frames ===

impl<'a> Frames<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        let line = LineStart { number: 1, offset: 0 };
        let mut scanner = Scanner::new(body);
        let mut frames = Self {
            body,
            at: 0,
            line,
            counted: 0,
            end: 0,
            is_array: is_array(body, &mut scanner),
            open_arrays: 0,
            brackets: (0, false),
            follows_object: false,
            scanner,
        };
        frames.enter_line(0);
        frames
    }

    /// Returns the next frame. The one after it starts at its end unless the caller says otherwise.
    pub(super) fn next(&mut self) -> Option<Frame> {
        let start = self.next_start()?;
        self.count_lines();
        let frame = match self.body[start] {
            b'{' if self.scanner.has_passed(start) => self.object(self.at, start),
            b'{' => self.frame(self.at, start, self.end, Shape::Untried),
            _ => self.text(start),
        };
        self.go_to(frame.end);
        Some(frame)
    }

    /// Continues at `at`, where the object of the last frame ended.
    pub(super) fn resume(&mut self, at: usize) {
        self.follows_object = true;
        self.go_to(at);
    }

    /// Returns what an untried frame is when its object could not be read.
    pub(super) fn inspect(&mut self, untried: &Frame) -> Frame {
        let frame = self.object(untried.from, untried.start);
        self.go_to(frame.end);
        frame
    }

    /// Number of bytes that were visited by a scan.
    #[cfg(test)]
    fn scanned_bytes(&self) -> usize {
        self.scanner.visited()
    }

    /// Finds the first byte that separates nothing, and returns the offset of the value there, after a syslog prefix.
    fn next_start(&mut self) -> Option<usize> {
        loop {
            self.skip_separators();
            if self.at < self.end {
                let start = self.skip_prefix();
                if start < self.end {
                    return Some(start);
                }
                self.at = start;
            } else if self.end == self.body.len() {
                return None;
            } else {
                let start = after_line_end(self.body, self.end);
                self.line = self.line.next(start);
                self.enter_line(start);
            }
        }
    }

    fn enter_line(&mut self, start: usize) {
        self.end = match self.is_array {
            true => self.body.len(),
            false => line_end(self.body, start).unwrap_or(self.body.len()),
        };
        (self.at, self.counted) = (start, start);
        self.open_arrays = 0;
        self.follows_object = false;
        if self.body[start..].starts_with(BOM) {
            self.at += BOM.len();
        }
    }

    /// Goes to `at`, on this line or on a later one.
    fn go_to(&mut self, at: usize) {
        self.at = at;
        if at > self.end {
            self.count_lines();
            self.end = line_end(self.body, at).unwrap_or(self.body.len());
            self.open_arrays = 0;
        }
    }

    fn count_lines(&mut self) {
        if self.is_array || self.at > self.end {
            self.line = self.line.advance(self.body, self.counted, self.at);
            self.counted = self.at;
        }
    }

    /// Skips blanks, commas, and the brackets of arrays that hold objects.
    fn skip_separators(&mut self) {
        while let Some(&byte) = self.body[..self.end].get(self.at) {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b',' => {}
                b']' if self.open_arrays > 0 => self.open_arrays -= 1,
                b']' if self.separates() => {}
                b'[' if self.separates() => self.open_arrays += 1,
                _ => return,
            }
            self.at += 1;
        }
    }

    /// Returns whether the bracket here is followed by an object or, on this line, by nothing but brackets.
    fn separates(&mut self) -> bool {
        if self.is_array && self.open_arrays == 0 {
            return true;
        }
        if self.at >= self.brackets.0 {
            let rest = &self.body[self.at..self.end];
            let is_content = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'[' | b']' | b',');
            let end = rest.iter().position(is_content).map_or(self.end, |offset| self.at + offset);
            let separates = match self.body[..self.end].get(end) {
                Some(byte) => *byte == b'{',
                None => self.is_array || self.joined(self.at).is_none(),
            };
            self.brackets = (end, separates);
        }
        self.brackets.1
    }

    /// Returns the offset after a syslog prefix and the opening brackets that follow it.
    fn skip_prefix(&mut self) -> usize {
        let line = &self.body[self.at..self.end];
        if self.is_array || text_frame_length(line).is_some() {
            return self.at;
        }
        let prefix = prefix_length(line);
        let mut start = self.at + prefix;
        while prefix > 0 && start < self.end && self.body[start] != b'{' {
            self.open_arrays += usize::from(self.body[start] == b'[');
            start += 1;
        }
        // What looks like a prefix of an array on the next lines is text if there is none.
        let opens_nothing = start == self.end && !self.body[start..].trim_ascii_start().starts_with(b"{");
        if opens_nothing { self.at } else { start }
    }

    /// Frames the object at `start`.
    fn object(&mut self, from: usize, start: usize) -> Frame {
        if self.is_array {
            let end = self.scanner.value_end(start, self.end).map_or(self.end, |(end, _)| end);
            return self.frame(from, start, end, Shape::Balanced);
        }
        self.scanner.scan_line(start, self.end);
        if let Some(value) = self.scanner.value_at(start).filter(|value| value.kind != Kind::Broken) {
            return self.frame(from, start, value.end, Shape::Balanced);
        }
        let mut limit = self.scanner.next_unit(start, self.end).unwrap_or(self.end);
        match self.scanner.value_end(start, limit) {
            Some((end, is_json)) if is_json || self.may_end_at(end, limit) => {
                return self.frame(from, start, end, Shape::Balanced);
            }
            _ => {}
        }
        if limit == self.end {
            if let Some(value) = self.joined(start) {
                return self.frame(from, start, value.end, Shape::Balanced);
            }
            limit = self.scanner.next_unit(start, self.end).unwrap_or(self.end);
        }
        self.frame(from, start, limit, Shape::Open)
    }

    /// Frames what starts with no brace, up to the next complete object.
    fn text(&mut self, start: usize) -> Frame {
        let counted = if self.is_array { None } else { text_frame_length(&self.body[start..self.end]) };
        if let Some(length) = counted {
            return self.frame(start, start, start + length, Shape::Text);
        }
        let may_hold_value =
            !self.is_array && memchr::memchr2(b'{', b'[', &self.body[start..self.end]).is_some();
        let mut next = None;
        if may_hold_value {
            self.scanner.scan_line(start, self.end);
            next = self.scanner.next_unit(start, self.end);
        }
        if let Some(end) = self.element_end(start, next.unwrap_or(self.end)) {
            return self.frame(start, start, end, Shape::Text);
        }
        if may_hold_value && next.is_none() {
            if let Some(value) = self.joined(start) {
                return self.frame(start, start, value.end, Shape::Text);
            }
            next = self.scanner.next_unit(start, self.end);
        }
        let shape = match next {
            _ if self.follows_object => Shape::Trailing,
            Some(_) => Shape::Leading,
            None => Shape::Text,
        };
        self.frame(start, start, next.unwrap_or(self.end), shape)
    }

    /// Returns the end of an array's element that is no object, when the array goes on or ends after it.
    fn element_end(&mut self, start: usize, limit: usize) -> Option<usize> {
        if !self.is_array && self.open_arrays == 0 {
            return None;
        }
        let end = match self.body[start] {
            b'[' => self.scanner.value_end(start, limit)?.0,
            _ => start + scalar_length(&self.body[start..limit])?,
        };
        let next = self.body[end..limit].iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
        matches!(next, Some(b',' | b']')).then_some(end)
    }

    /// Returns the value of several lines that starts at `start`, on this line.
    fn joined(&mut self, start: usize) -> Option<Value> {
        self.scanner.scan_line(start, self.end);
        self.scanner.close_all_before(self.end);
        let value = self.scanner.value_at(start)?;
        let end = line_end(self.body, value.end).unwrap_or(self.body.len());
        (value.kind != Kind::Broken || self.may_end_at(value.end, end)).then_some(value)
    }

    /// Returns whether a value may end at `at`: what follows is nothing, or could be another one.
    fn may_end_at(&self, at: usize, limit: usize) -> bool {
        let rest = &self.body[at..limit];
        let next = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b',' | b']'));
        next.is_none_or(|offset| matches!(rest[offset], b'{' | b'[') || prefix_length(&rest[offset..]) > 0)
    }

    fn frame(&self, from: usize, start: usize, end: usize, shape: Shape) -> Frame {
        Frame { from, start, end, shape, line: self.line }
    }
}

/// Returns whether the whole body is one JSON array.
fn is_array(body: &[u8], scanner: &mut Scanner<'_>) -> bool {
    let is_content = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let start = if body.starts_with(BOM) { BOM.len() } else { 0 };
    let Some((first, last)) =
        body[start..].iter().position(is_content).zip(body.iter().rposition(is_content))
    else {
        return false;
    };
    let (first, end) = (start + first, last + 1);
    body[first] == b'[' && body[last] == b']' && scanner.value_end(first, end) == Some((end, true))
}

/// Returns the offset of the line end that follows `from`, if there is one.
fn line_end(body: &[u8], from: usize) -> Option<usize> {
    memchr::memchr2(b'\n', b'\r', &body[from..]).map(|offset| from + offset)
}

/// Returns the offset after the line end at `end`, which has two bytes when it is CRLF.
fn after_line_end(body: &[u8], end: usize) -> usize {
    end + if body[end..].starts_with(b"\r\n") { 2 } else { 1 }
}

/// Splits a body, where `read` returns the length of the object at the start of a text if it can be read.
#[cfg(any(test, feature = "internals"))]
pub(crate) fn frames(
    body: &[u8],
    mut read: impl FnMut(&[u8]) -> Option<usize>,
) -> Vec<std::ops::Range<usize>> {
    let mut frames = Frames::new(body);
    let mut found = Vec::new();
    while let Some(mut frame) = frames.next() {
        if frame.shape == Shape::Untried {
            match read(&body[frame.start..frame.end]) {
                Some(length) => {
                    frame.end = frame.start + length;
                    frames.resume(frame.end);
                }
                None => frame = frames.inspect(&frame),
            }
        }
        found.push(frame.from..frame.end);
    }
    found
}
