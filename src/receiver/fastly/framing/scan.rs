//! Finds balanced JSON values in text of which nothing is known, in one pass.
//!
//! In: a body, and the offset to start at. Out: the complete objects on a line, and the values that take several lines.
//!
//! A quote may open a string or close one that was cut off earlier; nothing before it decides which. So the scanner
//! follows both readings: one is outside of strings, the other inside. There are never more than two, because readings
//! that are in the same state differ only in what they opened before, and a reading is given up where the two could meet:
//! JSON has no backslash outside of strings, and no string contains a line end. Every byte is visited once.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use super::scalar::{Scalar, is_escape, scalar, string_end, word_length};
use crate::otlp::json::Text;

/// Open containers that are remembered. An outer one that holds more levels than these is no value; a unit cannot be
/// nested half as deep.
const MAX_OPEN: usize = 512;

pub(in super::super) const RESOURCE_KEYS: [&[u8]; 6] = [
    b"resourceSpans",
    b"resourceLogs",
    b"resourceMetrics",
    b"resource_spans",
    b"resource_logs",
    b"resource_metrics",
];

/// Longest key that is compared after its escapes were replaced: six bytes for each character.
const MAX_ESCAPED_KEY: usize = 6 * 16;

/// A balanced value in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) kind: Kind,
}

/// Classes of balanced values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A complete object: one with a resource key at its top level.
    Unit,
    /// JSON of any other form.
    Other,
    /// An object with a resource key whose brackets match although it is not JSON, and that holds no other such object.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

/// The token that the grammar allows next in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Key,
    Colon,
    Value,
    /// A value, or the end: a comma before the end of an array is left to repair.
    Element,
    Separator,
}

/// A container that is open.
#[derive(Debug, Clone, Copy)]
struct Open {
    start: usize,
    container: Container,
    expect: Expect,
    /// Not JSON, but for what repair replaces in place.
    is_broken: bool,
    /// JSON to the letter.
    is_json: bool,
    has_resource_key: bool,
    has_object: bool,
    /// The last token was a comma, which repair removes at the end.
    follows_comma: bool,
}

/// Containers that are open in one reading, outermost first.
#[derive(Debug, Default)]
struct Strand {
    open: VecDeque<Open>,
}

/// A pass over a body that finds values wherever they begin.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    body: &'a [u8],
    at: usize,
    /// Start of the line that contains `at`, or where the pass began on that line.
    line_start: usize,
    outside: Strand,
    /// Room for [`Self::value_end`].
    probe: Strand,
    /// The reading in which `at` is inside a string; it has no open container when there is no such reading.
    inside: Strand,
    string_start: usize,
    /// A byte that a backslash escapes, for the reading inside a string.
    escaped: Option<usize>,
    /// Complete objects in the order of their starts, none inside another.
    units: VecDeque<Value>,
    /// Other values that take several lines or hold complete objects, by their starts.
    others: BTreeMap<usize, Value>,
    /// Start of the last object with a resource key, complete or not.
    last_keyed: usize,
    visited: usize,
}

// === impl Scanner ===

impl<'a> Scanner<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self {
            body,
            at: 0,
            line_start: 0,
            outside: Strand::default(),
            probe: Strand::default(),
            inside: Strand::default(),
            string_start: 0,
            escaped: None,
            units: VecDeque::new(),
            others: BTreeMap::new(),
            last_keyed: 0,
            visited: 0,
        }
    }

    /// Number of bytes that were visited so far.
    #[cfg(test)]
    pub(super) fn visited(&self) -> usize {
        self.visited
    }

    /// Returns whether the pass has covered `offset`.
    pub(super) fn has_passed(&self, offset: usize) -> bool {
        offset < self.at
    }

    /// Makes `from` the first offset of interest and scans to `line_end`, the end of the line that contains it.
    pub(super) fn scan_line(&mut self, from: usize, line_end: usize) {
        if from >= self.at {
            self.outside.open.clear();
            self.inside.open.clear();
            self.units.clear();
            self.others.clear();
            (self.at, self.line_start) = (from, from);
        }
        while self.units.front().is_some_and(|unit| unit.start < from) {
            self.units.pop_front();
        }
        while self.others.first_key_value().is_some_and(|(start, _)| *start < from) {
            self.others.pop_first();
        }
        // The end of the line is part of it: only there is decided what may go on.
        let end = self.body.len().min(line_end + 1);
        while self.at < end {
            self.step();
        }
    }

    /// Scans on until nothing that was opened before `offset` is open.
    pub(super) fn close_all_before(&mut self, offset: usize) {
        let is_open = |strand: &Strand| strand.open.front().is_some_and(|open| open.start < offset);
        while self.at < self.body.len() && (is_open(&self.outside) || is_open(&self.inside)) {
            self.step();
        }
    }

    /// Returns the value that starts at `start`, if one was found.
    pub(super) fn value_at(&self, start: usize) -> Option<Value> {
        let unit = self.units.iter().take_while(|unit| unit.start <= start).find(|unit| unit.start == start);
        unit.or_else(|| self.others.get(&start)).copied()
    }

    /// Returns the start of the first complete object between two offsets.
    pub(super) fn next_unit(&self, after: usize, before: usize) -> Option<usize> {
        self.units.iter().map(|unit| unit.start).find(|start| *start > after).filter(|start| *start < before)
    }

    /// Returns the end of the value that starts at `start` and whether it is JSON; nothing if its brackets do not match
    /// before `limit`.
    pub(super) fn value_end(&mut self, start: usize, limit: usize) -> Option<(usize, bool)> {
        let text = &self.body[..limit];
        let strand = &mut self.probe;
        strand.open.clear();
        let mut at = start;
        while let Some(&byte) = text.get(at) {
            let from = at;
            match byte {
                b'"' => {
                    let (end, is_json) = string_end(text, at + 1)?;
                    strand.string(text, at + 1, end);
                    if !is_json {
                        strand.deviate();
                    }
                    at = end + 1;
                }
                b'}' | b']' => {
                    let closed = strand.close(byte)?;
                    at += 1;
                    if strand.open.is_empty() {
                        return (closed.start == start).then_some((at, closed.is_json));
                    }
                }
                b'\\' => return None,
                _ => at += strand.token(byte, text, at),
            }
            self.visited += at - from;
            if strand.open.is_empty() {
                return None;
            }
        }
        None
    }

    fn step(&mut self) {
        let at = self.at;
        self.at += 1;
        self.visited += 1;
        match self.body[at] {
            b'"' if self.escaped != Some(at) => self.quote(at),
            b'\\' => self.backslash(at),
            b'\n' | b'\r' => self.end_line(at),
            byte @ (b'}' | b']') => self.close(byte, at),
            byte => {
                if byte < b' ' {
                    self.inside.deviate();
                }
                let length = self.outside.token(byte, self.body, at);
                self.at += length - 1;
                self.visited += length - 1;
            }
        }
    }

    fn backslash(&mut self, at: usize) {
        self.outside.open.clear();
        if self.escaped == Some(at) || self.inside.open.is_empty() {
            return;
        }
        self.escaped = Some(at + 1);
        if !is_escape(&self.body[at + 1..]) {
            self.inside.deviate();
        }
    }

    /// Ends the string of one reading and begins one in the other.
    fn quote(&mut self, at: usize) {
        mem::swap(&mut self.outside, &mut self.inside);
        let keyed = self.outside.string(self.body, self.string_start, at);
        self.last_keyed = keyed.map_or(self.last_keyed, |start| start.max(self.last_keyed));
        self.string_start = at + 1;
    }

    fn close(&mut self, bracket: u8, at: usize) {
        let Some(closed) = self.outside.close(bracket) else { return };
        let has_lines = closed.start < self.line_start;
        let last_unit = self.units.back().map(|unit| unit.start);
        if has_lines && last_unit.is_some_and(|start| start >= self.line_start) {
            // Its last line has a complete object.
            return;
        }
        let holds_unit = last_unit.is_some_and(|start| start > closed.start);
        let is_object = closed.container == Container::Object;
        let kind = match (closed.is_json, closed.has_resource_key) {
            (true, true) => Kind::Unit,
            (true, false) if is_object && (has_lines || holds_unit) => Kind::Other,
            (true, false) if !is_object && has_lines && !closed.has_object => Kind::Other,
            (false, true) if !closed.is_broken && !holds_unit => Kind::Unit,
            (false, true) if has_lines && !holds_unit && self.last_keyed <= closed.start => Kind::Broken,
            _ => return,
        };
        let value = Value { start: closed.start, end: at + 1, kind };
        if kind != Kind::Unit {
            self.others.insert(value.start, value);
            return;
        }
        while self.units.back().is_some_and(|inner| inner.start > value.start) {
            self.units.pop_back();
        }
        self.units.push_back(value);
    }

    fn end_line(&mut self, at: usize) {
        self.inside.open.clear();
        self.escaped = None;
        if let Some(unit) = self.units.back().filter(|unit| unit.start >= self.line_start) {
            // A line with a complete object is not part of anything that began before it.
            while self.outside.open.front().is_some_and(|open| open.start < unit.start) {
                self.outside.open.pop_front();
            }
        }
        self.line_start = at + 1;
    }
}

// === impl Strand ===

impl Strand {
    /// Takes a token that is neither a string nor the end of a container, and returns its length.
    fn token(&mut self, byte: u8, body: &[u8], at: usize) -> usize {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            0..=b' ' => self.deviate(),
            b'{' => self.open(Container::Object, at),
            b'[' => self.open(Container::Array, at),
            b':' => self.expect(Expect::Colon, Expect::Value),
            b',' => self.comma(),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'+' | b'.' | b'(' | b')' => {
                let word = &body[at..at + word_length(&body[at..])];
                self.value();
                match scalar(word) {
                    Scalar::Json => {}
                    Scalar::Repairable => self.deviate(),
                    Scalar::None => self.fail(),
                }
                return word.len();
            }
            _ => self.fail(),
        }
        1
    }

    fn open(&mut self, container: Container, start: usize) {
        self.value();
        if let (Some(parent), Container::Object) = (self.open.back_mut(), container) {
            parent.has_object = true;
        }
        let expect = if container == Container::Object { Expect::Key } else { Expect::Element };
        let (has_resource_key, has_object) = (false, false);
        let (is_broken, is_json, follows_comma) = (false, true, false);
        self.open.push_back(Open {
            start,
            container,
            expect,
            is_broken,
            is_json,
            has_resource_key,
            has_object,
            follows_comma,
        });
        if self.open.len() > MAX_OPEN {
            self.open.pop_front();
        }
    }

    /// Closes the innermost container. A bracket of the other kind gives up all of them.
    fn close(&mut self, bracket: u8) -> Option<Open> {
        let mut closed = self.open.pop_back()?;
        let wanted = if closed.container == Container::Object { b'}' } else { b']' };
        if bracket != wanted {
            self.open.clear();
            return None;
        }
        let may_end = matches!(closed.expect, Expect::Key | Expect::Element | Expect::Separator);
        closed.is_broken |= !may_end;
        closed.is_json &= may_end && !closed.follows_comma;
        if let Some(parent) = self.open.back_mut() {
            parent.is_broken |= closed.is_broken;
            parent.is_json &= closed.is_json;
            parent.has_object |= closed.has_object;
        }
        Some(closed)
    }

    /// Takes a string, and returns the start of its object if it is a resource key.
    fn string(&mut self, body: &[u8], start: usize, end: usize) -> Option<usize> {
        let top = self.open.back_mut()?;
        if top.expect != Expect::Key {
            self.value();
            return None;
        }
        (top.expect, top.follows_comma) = (Expect::Colon, false);
        let is_resource_key = is_resource_key(body, start, end);
        top.has_resource_key |= is_resource_key && !top.is_broken;
        is_resource_key.then_some(top.start)
    }

    fn value(&mut self) {
        let Some(top) = self.open.back_mut() else { return };
        let is_expected = matches!(top.expect, Expect::Value | Expect::Element);
        (top.expect, top.follows_comma) = (Expect::Separator, false);
        if !is_expected {
            self.fail();
        }
    }

    fn comma(&mut self) {
        let is_object = self.open.back().is_some_and(|open| open.container == Container::Object);
        self.expect(Expect::Separator, if is_object { Expect::Key } else { Expect::Element });
        if let Some(top) = self.open.back_mut() {
            top.follows_comma = true;
        }
    }

    fn expect(&mut self, wanted: Expect, then: Expect) {
        let Some(top) = self.open.back_mut() else { return };
        let is_expected = top.expect == wanted;
        top.expect = then;
        if !is_expected {
            self.fail();
        }
    }

    fn fail(&mut self) {
        self.deviate();
        if let Some(top) = self.open.back_mut() {
            top.is_broken = true;
        }
    }

    fn deviate(&mut self) {
        if let Some(top) = self.open.back_mut() {
            top.is_json = false;
        }
    }
}

fn is_resource_key(body: &[u8], start: usize, end: usize) -> bool {
    let key = &body[start..end];
    if RESOURCE_KEYS.contains(&key) {
        return true;
    }
    let escaped = key.len() <= MAX_ESCAPED_KEY && memchr::memchr(b'\\', key).is_some();
    escaped && RESOURCE_KEYS.contains(&&*Text { start, end, escaped }.unescaped(body))
}
