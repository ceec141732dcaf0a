//! Finds the units of a body: where each one starts, and which bytes belong to it alone.
//!
//! In: a body. Out: a [`Frame`] for every unit and for all other text, in the order of the body.
//! Promises, for any bytes and in linear time:
//! - If the body is one JSON array, its elements are the units. Nested arrays are entered.
//! - Otherwise each line (LF, CRLF, CR) is tried by itself first. It may begin with a byte order mark and a syslog prefix, and
//!   contain several values. Commas and the brackets of arrays separate objects and are part of no frame.
//! - A complete object is never part of another frame, whatever precedes or follows it.
//! - Text, and an object that is not complete, end at the latest where their line or octet-counted syslog frame ends, or
//!   where the next object starts that is complete or may be repairable. Repair therefore never sees two objects.
//! - Lines are joined only to one balanced value that none of them completes alone, and never across a line with a complete
//!   object or a line that starts with text. If the value is not JSON, no object inside it has a resource key, because that one may be repairable by itself.
//! - A line of nothing but brackets and commas is part of no frame if its brackets belong to arrays: an array without
//!   elements, the start of an array that continues on a later line, or the end of one that started on an earlier line.
//!   Otherwise it is text.
//!
//! An object is *complete* if it has a resource key (`resourceSpans`, `resourceLogs`, `resourceMetrics`, or these in snake
//! case) anywhere among the keys of its top level, and is JSON except for what repair replaces wherever it stands: escapes and
//! control characters in strings, trailing commas, `(null)`, `NaN` and `Infinity`. An object *may be repairable* if it
//! has such a key, without escapes, on the line of its `{`, and nothing before the key is broken. Objects inside other JSON
//! belong to that JSON and are not extracted.
//!
//! Most lines are one object. If a line starts with a brace, the frame is [`FrameShape::Untried`]: reading the object finds its
//! end, and only if that fails is the line scanned ([`Frames::inspect`]).
//!
//! Leaves to others: what a unit means and whether it can be repaired ([`super::reading`]).

mod prefix;
mod scalar;
mod scan;
mod separators;
mod strand;

#[cfg(test)]
mod tests;

use std::mem;

use self::prefix::{counted_frame_length, prefix_length};
use self::scalar::scalar_length;
use self::scan::{BalancedValue, Scanner, ValueClass};

pub(super) use self::prefix::header_length;
pub(super) use self::strand::RESOURCE_KEYS;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// A part of a body that is accepted or rejected by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Start of the frame, including a syslog prefix.
    pub(super) from: usize,
    /// Start of the value in the frame.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) shape: FrameShape,
    pub(super) line: LineStart,
}

/// Known content of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameShape {
    /// An object that may end before the frame does. The caller reads the object and then calls [`Frames::resume`], or
    /// [`Frames::inspect`] if it can't be read.
    Untried,
    /// One balanced value.
    Balanced,
    /// An object whose brackets don't tell its end, and any text after it.
    Open,
    /// Text without an object on the same line.
    Text,
    /// Text before an object on the same line.
    Leading,
    /// Text after an object on the same line.
    Trailing,
}

/// Number of a line, counted from 1, and the offset of its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineStart {
    pub(super) number: u32,
    pub(super) offset: usize,
}

/// Iterator over the frames of a body.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    body: &'a [u8],
    at: usize,
    line: LineStart,
    /// Offset up to which lines were counted.
    counted: usize,
    /// End of the line, or of the body if it is one array.
    end: usize,
    /// End of the last octet-counted syslog frame with a known end.
    counted_end: usize,
    is_array: bool,
    /// The line has nothing but brackets, commas and blanks.
    is_bare: bool,
    /// Number of arrays that were opened on this line and are open.
    open_arrays: usize,
    /// Number of arrays that were opened on earlier lines and are open.
    outer_arrays: usize,
    /// Last result of [`Self::next_content`].
    content: usize,
    /// Last result of [`Self::next_opening`].
    opening: usize,
    /// An object precedes on this line.
    follows_object: bool,
    scanner: Scanner<'a>,
}

// === impl LineStart ===

impl LineStart {
    /// Returns the start of the line that contains `to`. The offset `from` is on this line and not after `to`.
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
            counted_end: 0,
            is_array: is_array(body, &mut scanner),
            is_bare: false,
            open_arrays: 0,
            outer_arrays: 0,
            content: 0,
            opening: 0,
            follows_object: false,
            scanner,
        };
        frames.enter_line(0);
        frames
    }

    /// Returns the next frame. The following one starts at its end, unless the caller calls [`Self::resume`].
    pub(super) fn next(&mut self) -> Option<Frame> {
        let start = self.next_start()?;
        self.count_lines();
        let frame = match self.body[start] {
            b'{' if self.scanner.has_passed(start) => self.object(self.at, start),
            b'{' => self.frame(self.at, start, self.end, FrameShape::Untried),
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

    /// Returns the frame to use instead of an untried one whose object can't be read.
    pub(super) fn inspect(&mut self, untried: &Frame) -> Frame {
        let frame = self.object(untried.from, untried.start);
        self.go_to(frame.end);
        frame
    }

    /// Returns whether an object that is complete or may be repairable starts in an untried frame after a syslog prefix.
    pub(super) fn has_candidate(&mut self, frame: &Frame) -> bool {
        self.scanner.scan_line(frame.start, frame.end);
        self.scanner.next_candidate(frame.start - 1, frame.end).is_some()
    }

    /// Skips separators, and returns the offset of the next value, after its syslog prefix.
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
        self.leave_line();
        self.end = match self.is_array {
            true => self.body.len(),
            false => line_end(self.body, start).unwrap_or(self.body.len()),
        };
        (self.at, self.counted) = (start, start);
        self.follows_object = false;
        if self.body[start..].starts_with(BOM) {
            self.at += BOM.len();
        }
        self.is_bare = !self.is_array && self.next_content() >= self.end;
    }

    fn leave_line(&mut self) {
        self.outer_arrays += mem::take(&mut self.open_arrays);
        self.is_bare = false;
    }

    /// Moves to `at`, on this line or a later one.
    fn go_to(&mut self, at: usize) {
        self.at = at;
        if at > self.end {
            self.count_lines();
            self.end = line_end(self.body, at).unwrap_or(self.body.len());
            self.leave_line();
        }
    }

    fn count_lines(&mut self) {
        if self.is_array || self.at > self.end {
            self.line = self.line.advance(self.body, self.counted, self.at);
            self.counted = self.at;
        }
    }

    /// Returns the offset of the next opening bracket on this line, `start` included, or the end of the line.
    fn next_opening(&mut self, start: usize) -> usize {
        if start >= self.opening {
            let next = memchr::memchr2(b'{', b'[', &self.body[start..self.end]);
            self.opening = next.map_or(self.end, |offset| start + offset);
        }
        self.opening
    }

    /// Returns the offset after a syslog prefix and the opening brackets that follow it.
    fn skip_prefix(&mut self) -> usize {
        if self.is_array {
            return self.at;
        }
        if let Some(length) = counted_frame_length(&self.body[self.at..self.end]) {
            self.counted_end = self.at + length;
            self.follows_object = false;
        }
        let end = self.limit(self.at);
        let length = prefix_length(&self.body[self.at..end]);
        if length == 0 {
            return self.at;
        }
        let brackets = &self.body[self.at + length..end];
        let brackets = &brackets[..memchr::memchr(b'{', brackets).unwrap_or(brackets.len())];
        let start = self.at + length + brackets.len();
        if start == end {
            // The array continues on the next line, or the brackets are part of a text.
            let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
            let next = self.body[end..].iter().find(|byte| !is_blank(byte));
            if self.at < self.counted_end || next != Some(&b'{') {
                return self.at;
            }
        }
        self.open_arrays += brackets.iter().filter(|byte| **byte == b'[').count();
        start
    }

    /// Returns the latest end of text, or of an object that is not complete, at `start`.
    fn limit(&self, start: usize) -> usize {
        if start < self.counted_end { self.counted_end } else { self.end }
    }

    /// Frames the object at `start`.
    fn object(&mut self, from: usize, start: usize) -> Frame {
        if self.is_array {
            let end = self.scanner.value_end(start, self.end).map_or(self.end, |(end, _)| end);
            return self.frame(from, start, end, FrameShape::Balanced);
        }
        self.scanner.scan_line(start, self.end);
        if let Some(value) = self.scanner.value_at(start).filter(|value| value.kind != ValueClass::Broken) {
            return self.frame(from, start, value.end, FrameShape::Balanced);
        }
        let end = self.limit(start);
        let limit = self.scanner.next_candidate(start, end).unwrap_or(end);
        match self.scanner.value_end(start, limit) {
            Some((end, is_json)) if is_json || self.may_end_at(end, limit) => {
                return self.frame(from, start, end, FrameShape::Balanced);
            }
            _ => {}
        }
        if let Some(value) = self.joined(start) {
            return self.frame(from, start, value.end, FrameShape::Balanced);
        }
        let limit = self.scanner.next_candidate(start, end).unwrap_or(end);
        self.frame(from, start, limit, FrameShape::Open)
    }

    /// Frames the text at `start`, up to the next object that is complete or may be repairable.
    fn text(&mut self, start: usize) -> Frame {
        let end = self.limit(start);
        let may_hold_value = !self.is_array && self.next_opening(start) < end;
        let mut next = None;
        if may_hold_value {
            self.scanner.scan_line(start, self.end);
            next = self.scanner.next_candidate(start, end);
        }
        if let Some(end) = self.element_end(start, next.unwrap_or(end)) {
            return self.frame(start, start, end, FrameShape::Text);
        }
        if may_hold_value {
            if let Some(value) = self.joined(start) {
                return self.frame(start, start, value.end, FrameShape::Text);
            }
            next = self.scanner.next_candidate(start, end);
        }
        let shape = match next {
            _ if self.follows_object => FrameShape::Trailing,
            Some(_) => FrameShape::Leading,
            None => FrameShape::Text,
        };
        self.frame(start, start, next.unwrap_or(end), shape)
    }

    /// Returns the end of an array element that is not an object, if the array continues or ends after it.
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

    /// Returns the value that starts at `start`, on this line, and spans several lines.
    fn joined(&mut self, start: usize) -> Option<BalancedValue> {
        self.scanner.scan_line(start, self.end);
        if self.limit(start) < self.end || self.scanner.next_unit(start, self.end).is_some() {
            return None;
        }
        self.scanner.close_all_before(self.end);
        self.scanner.value_at(start)
    }

    /// Returns whether a value may end at `at`, because nothing or the start of another value follows.
    fn may_end_at(&self, at: usize, limit: usize) -> bool {
        let rest = &self.body[at..limit];
        let next = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b',' | b']'));
        next.is_none_or(|offset| matches!(rest[offset], b'{' | b'[') || prefix_length(&rest[offset..]) > 0)
    }

    fn frame(&self, from: usize, start: usize, end: usize, shape: FrameShape) -> Frame {
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

/// Returns the offset after the line end at `end`.
fn after_line_end(body: &[u8], end: usize) -> usize {
    end + if body[end..].starts_with(b"\r\n") { 2 } else { 1 }
}

/// Splits a body. `read` returns the length of the object at the start of a text, if it can be read.
pub fn frames(body: &[u8], mut read: impl FnMut(&[u8]) -> Option<usize>) -> Vec<std::ops::Range<usize>> {
    let mut frames = Frames::new(body);
    let mut found = Vec::new();
    while let Some(mut frame) = frames.next() {
        if frame.shape == FrameShape::Untried {
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
