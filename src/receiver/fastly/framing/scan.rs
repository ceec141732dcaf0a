//! Finds balanced JSON values in arbitrary text, in one pass.
//!
//! In: a body, and the offset to start at. Out: the complete objects of a line, the objects that repair may complete, and
//! the values that span several lines.
//!
//! A quote may open a string, or close one that began before the text was cut off, and the preceding bytes do not decide
//! which. The scanner therefore follows both interpretations: at any offset, one is inside a string and the other is not.
//! Two are enough: JSON has no backslash outside of strings and no line end inside, so that an interpretation is dropped
//! there instead of joining the other one. Every byte is visited once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;

use super::prefix::is_header;
use super::scalar::{WordClass, is_escape, scalar, string_end, word_length};
use super::strand::{Container, RESOURCE_KEYS, Strand};
use crate::otlp::json::plain_prefix;

/// A balanced value in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BalancedValue {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) kind: ValueClass,
}

/// Classes of balanced values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueClass {
    /// A complete object, which has a resource key at its top level.
    Unit,
    /// Any other JSON.
    Other,
    /// An object with a resource key whose brackets match although it is not JSON, and that contains no other such object.
    Broken,
}

/// A single pass over a body that finds values at any offset.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    body: &'a [u8],
    at: usize,
    /// Start of the line that contains `at`, or of the pass if it began on that line.
    line_start: usize,
    outside: Strand,
    /// Buffer of [`Self::value_end`].
    probe: Strand,
    /// The interpretation in which `at` is inside a string. No container is open if that interpretation was dropped.
    inside: Strand,
    string_start: usize,
    /// Offset of the byte that a backslash escapes in [`Self::inside`].
    escaped: Option<usize>,
    /// Complete objects by their starts, without those inside another one.
    units: VecDeque<BalancedValue>,
    /// Other values that span several lines or contain complete objects, by their starts.
    others: BTreeMap<usize, BalancedValue>,
    /// Starts of objects that repair may complete: those with a resource key on the line of their start and nothing broken
    /// before it, and broken values. Objects inside a complete one are left out.
    repairable: BTreeSet<usize>,
    /// Start of the last object with a resource key among its keys.
    last_keyed: usize,
    pub(super) visited: usize,
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
            repairable: BTreeSet::new(),
            last_keyed: 0,
            visited: 0,
        }
    }

    /// Returns whether the pass has visited `offset`.
    pub(super) fn has_passed(&self, offset: usize) -> bool {
        offset < self.at
    }

    /// Scans to `line_end`, the end of the line that contains `from`, and forgets values that start before `from`.
    pub(super) fn scan_line(&mut self, from: usize, line_end: usize) {
        if from >= self.at {
            self.outside.open.clear();
            self.inside.open.clear();
            self.units.clear();
            self.others.clear();
            self.repairable.clear();
            (self.at, self.line_start) = (from, from);
        }
        while self.units.front().is_some_and(|unit| unit.start < from) {
            self.units.pop_front();
        }
        while self.repairable.first().is_some_and(|start| *start < from) {
            self.repairable.pop_first();
        }
        while self.others.first_key_value().is_some_and(|(start, _)| *start < from) {
            self.others.pop_first();
        }
        // Includes the line end, which decides what may continue on the next line.
        let end = self.body.len().min(line_end + 1);
        while self.at < end {
            self.step();
        }
    }

    /// Continues the scan until no container that starts before `offset` is open.
    pub(super) fn close_all_before(&mut self, offset: usize) {
        let is_open = |strand: &Strand| strand.open.front().is_some_and(|open| open.start < offset);
        while self.at < self.body.len() && (is_open(&self.outside) || is_open(&self.inside)) {
            self.step();
        }
    }

    /// Returns the value that starts at `start`, if one was found.
    pub(super) fn value_at(&self, start: usize) -> Option<BalancedValue> {
        let unit = self.units.iter().take_while(|unit| unit.start <= start).find(|unit| unit.start == start);
        unit.or_else(|| self.others.get(&start)).copied()
    }

    /// Returns the start of the first complete object between two offsets.
    pub(super) fn next_unit(&self, after: usize, before: usize) -> Option<usize> {
        self.units.iter().map(|unit| unit.start).find(|start| *start > after).filter(|start| *start < before)
    }

    /// Returns the start of the first object between two offsets that is complete or that repair may complete.
    pub(super) fn next_candidate(&self, after: usize, before: usize) -> Option<usize> {
        let repairable = self.repairable.range(after + 1..).next().copied();
        self.next_unit(after, before).into_iter().chain(repairable).min().filter(|start| *start < before)
    }

    /// Returns the end of the value that starts at `start`, and whether it is strict JSON. There is none if its brackets do not
    /// match before `limit`.
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
                let length =
                    self.skip_text(byte, at).unwrap_or_else(|| self.outside.token(byte, self.body, at));
                self.at += length - 1;
                self.visited += length - 1;
            }
        }
    }

    /// Returns the length of the text at `at` that changes nothing, because no container is open and it opens none.
    fn skip_text(&self, byte: u8, at: usize) -> Option<usize> {
        if !self.outside.open.is_empty() || matches!(byte, b'{' | b'[') {
            return None;
        }
        let rest = &self.body[at + 1..];
        let plain = &rest[..plain_prefix(rest)];
        Some(1 + memchr::memchr2(b'{', b'[', plain).unwrap_or(plain.len()))
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

    /// Ends a string in one interpretation and begins one in the other.
    fn quote(&mut self, at: usize) {
        mem::swap(&mut self.outside, &mut self.inside);
        let key = self.string_start;
        self.string_start = at + 1;
        let Some(start) = self.outside.string(self.body, key, at) else { return };
        self.last_keyed = self.last_keyed.max(start);
        // No unit that repair completes contains another such start: an inner object with this key is complete, and a text
        // with the key in quotes is not repaired. Keys with escapes don't count, because a text may contain them.
        let is_broken = self.outside.open.back().is_some_and(|open| open.is_broken);
        if start >= self.line_start && !is_broken && RESOURCE_KEYS.contains(&&self.body[key..at]) {
            self.repairable.insert(start);
        }
    }

    fn close(&mut self, bracket: u8, at: usize) {
        let Some(closed) = self.outside.close(bracket) else { return };
        let has_lines = closed.start < self.line_start;
        let last_unit = self.units.back().map(|unit| unit.start);
        if has_lines && last_unit.is_some_and(|start| start >= self.line_start) {
            // The last line has a complete object.
            return;
        }
        let contains_unit = last_unit.is_some_and(|start| start > closed.start);
        let is_object = closed.container == Container::Object;
        let kind = match (closed.is_json, closed.has_resource_key) {
            (true, true) => ValueClass::Unit,
            (true, false) if is_object && (has_lines || contains_unit) => ValueClass::Other,
            (true, false) if !is_object && has_lines && !closed.has_object => ValueClass::Other,
            (false, true) if !closed.is_broken && !contains_unit => ValueClass::Unit,
            (false, true) if has_lines && !contains_unit && self.last_keyed <= closed.start => {
                ValueClass::Broken
            }
            _ => return,
        };
        let value = BalancedValue { start: closed.start, end: at + 1, kind };
        if kind != ValueClass::Unit {
            self.others.insert(value.start, value);
            if kind == ValueClass::Broken {
                self.repairable.insert(value.start);
            }
            return;
        }
        while self.units.back().is_some_and(|inner| inner.start > value.start) {
            self.units.pop_back();
        }
        while self.repairable.last().is_some_and(|inner| *inner > value.start) {
            self.repairable.pop_last();
        }
        self.units.push_back(value);
    }

    fn end_line(&mut self, at: usize) {
        self.inside.open.clear();
        self.escaped = None;
        if let Some(unit) = self.units.back().filter(|unit| unit.start >= self.line_start) {
            // A line with a complete object is not joined to preceding lines.
            while self.outside.open.front().is_some_and(|open| open.start < unit.start) {
                self.outside.open.pop_front();
            }
        }
        self.line_start = at + 1;
        if !may_continue(&self.body[self.line_start..]) {
            self.outside.open.clear();
        }
    }
}

/// Returns whether a line may continue a value of the lines before it. Values that are not JSON would otherwise be joined
/// over text.
fn may_continue(line: &[u8]) -> bool {
    let is_blank = |byte: &&u8| **byte <= b' ' && !matches!(byte, b'\n' | b'\r');
    let rest = &line[line.iter().take_while(is_blank).count()..];
    match rest.first() {
        None | Some(b'"' | b'{' | b'}' | b'[' | b']' | b',' | b':' | b'\n' | b'\r') => true,
        Some(_) => scalar(&rest[..word_length(rest)]) != WordClass::None && !is_header(rest),
    }
}
