//! The naive framer: it splits a body as the rules say, and tries every position.

use std::ops::Range;

use serde::de::IgnoredAny;

use super::recipe::FLAWS;

const BOM: &[u8] = b"\xef\xbb\xbf";

const KEYS: [&str; 6] = [
    "resourceSpans",
    "resourceLogs",
    "resourceMetrics",
    "resource_spans",
    "resource_logs",
    "resource_metrics",
];

/// A part of a body as the naive framer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) range: Range<usize>,
    pub(super) is_unit: bool,
}

pub(super) struct Found {
    pub(super) end: usize,
    pub(super) is_unit: bool,
    is_object: bool,
}

/// Parses the JSON value at the start of a text.
pub(super) fn value_at(text: &[u8]) -> Option<Found> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    let end = values.byte_offset();
    let is_object = text.starts_with(b"{");
    let is_unit = is_object && {
        let keys: std::collections::HashMap<String, IgnoredAny> =
            serde_json::from_slice(&text[..end]).unwrap_or_default();
        KEYS.iter().any(|key| keys.contains_key(*key))
    };
    Some(Found { end, is_unit, is_object })
}

/// Returns the lines without their ends.
pub(super) fn lines(body: &[u8]) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < body.len() {
        let is_end = body[at] == b'\n' || body[at] == b'\r';
        if is_end {
            lines.push(start..at);
            at += usize::from(body[at..].starts_with(b"\r\n"));
            start = at + 1;
        }
        at += 1;
    }
    lines.push(start..body.len());
    lines
}

/// Returns a text without its flaws, and the offsets in the result by those in the text.
pub(super) fn without_flaws(text: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut fixed, mut places) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < text.len() {
        let flaw = FLAWS.iter().find(|(raw, _)| text[at..].starts_with(raw.as_bytes()));
        let length = flaw.map_or(1, |(raw, _)| raw.len());
        places.extend(std::iter::repeat_n(fixed.len(), length));
        fixed.extend_from_slice(flaw.map_or(&text[at..=at], |(_, repaired)| repaired.as_bytes()));
        at += length;
    }
    places.push(fixed.len());
    (fixed, places)
}

/// Splits a body by the rules.
pub(super) fn naive(body: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    let skipped = if body.starts_with(BOM) { BOM.len() } else { 0 };
    let blanks = body[skipped..].iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
    let text = &body[skipped + blanks..];
    if text.starts_with(b"[") && serde_json::from_slice::<IgnoredAny>(text).is_ok() {
        elements(body, skipped + blanks, &mut parts);
        return parts;
    }
    let (fixed, places) = without_flaws(body);
    let mut naive = Naive { body, fixed, places, lines: lines(body), open: [0, 0], frame_end: 0, parts };
    naive.split();
    naive.parts
}

/// Adds the elements of an array, and of nested arrays that start with an object.
fn elements(body: &[u8], open: usize, parts: &mut Vec<Part>) {
    let mut at = open + 1;
    loop {
        match body[at] {
            b']' => return,
            b' ' | b'\t' | b'\r' | b'\n' | b',' => at += 1,
            b'[' if separates(&body[at..]) => {
                elements(body, at, parts);
                at += value_at(&body[at..]).expect("a value that was found before").end;
            }
            _ => {
                let value = value_at(&body[at..]).expect("a value that was found before");
                parts.push(Part { range: at..at + value.end, is_unit: value.is_unit });
                at += value.end;
            }
        }
    }
}

/// A body that is split line by line.
struct Naive<'a> {
    body: &'a [u8],
    /// The body without flaws.
    fixed: Vec<u8>,
    /// Offsets in the body without flaws, by those in the body.
    places: Vec<usize>,
    lines: Vec<Range<usize>>,
    /// Numbers of arrays that were opened on this line, and on earlier ones.
    open: [usize; 2],
    /// End of the last octet-counted frame.
    frame_end: usize,
    parts: Vec<Part>,
}

impl Naive<'_> {
    fn split(&mut self) {
        let mut at = 0;
        for number in 0..self.lines.len() {
            let line = self.lines[number].clone();
            self.open = [0, self.open[0] + self.open[1]];
            if at <= line.start {
                at = line.start;
                at += if self.body[at..].starts_with(BOM) { BOM.len() } else { 0 };
                if is_bare(&self.body[at..line.end]) {
                    at = self.brackets(number, at);
                }
            }
            while at < line.end {
                at = self.part(number, at);
            }
        }
    }

    fn push(&mut self, range: Range<usize>, is_unit: bool) -> usize {
        let end = range.end;
        self.parts.push(Part { range, is_unit });
        end
    }

    /// Adds a line of nothing but brackets and commas, unless its brackets belong to arrays, and returns its end.
    fn brackets(&mut self, number: usize, mut at: usize) -> usize {
        let end = self.lines[number].end;
        let is_last = is_bare(&self.body[end..]);
        while at < end {
            match self.body[at] {
                b']' => match self.open.iter_mut().find(|open| **open > 0) {
                    Some(open) => *open -= 1,
                    None => return self.push(at..end, false),
                },
                b'[' => match self.joined(number, at) {
                    Some(list) if !is_bare(&self.body[at..list.end]) => {
                        return self.push(at..list.end, false);
                    }
                    None if is_last && !is_closed(&self.body[at..end]) => return self.push(at..end, false),
                    _ => self.open[0] += 1,
                },
                _ => {}
            }
            at += 1;
        }
        end
    }

    /// Adds the part at `at` of a line, and returns its end.
    fn part(&mut self, number: usize, at: usize) -> usize {
        let line = self.lines[number].clone();
        let rest = &self.body[at..line.end];
        if b" \t,".contains(&rest[0]) {
            return at + 1;
        }
        if rest[0] == b']' && (self.open[0] > 0 || separates(rest)) {
            if let Some(open) = self.open.iter_mut().find(|open| **open > 0) {
                *open -= 1;
            }
            return at + 1;
        }
        if let Some(length) = frame_length(rest) {
            self.frame_end = at + length;
        }
        let limit = if at < self.frame_end { self.frame_end } else { line.end };
        let next = self.body[limit..].iter().find(|byte| !b" \t\r\n".contains(byte));
        let goes_on = at >= self.frame_end && next == Some(&b'{');
        let (prefix, brackets) = prefix(&self.body[at..limit], goes_on);
        let start = at + prefix;
        self.open[0] += brackets;
        if start == line.end {
            return start;
        }
        let value = value_at(&self.body[start..line.end]).filter(|value| value.is_object);
        if let Some(value) = value {
            return self.push(start..start + value.end, value.is_unit);
        }
        if let Some(unit) = self.repairable(start, limit) {
            return self.push(start..unit.end, true);
        }
        if self.body[start] == b'['
            && separates(&self.body[start..line.end])
            && self.joined(number, start).is_none()
        {
            self.open[0] += 1;
            return start + 1;
        }
        let may_join = limit == line.end && self.unit(start + 1, line.end).is_none();
        if let Some(value) = self.joined(number, start).filter(|_| may_join) {
            return self.push(start..value.end, value.is_unit);
        }
        let is_start = |at: &usize| {
            self.unit_at(*at, limit).is_some()
                || self.has_key(*at, limit)
                || may_join && self.joined(number, *at).is_some_and(|value| value.is_unit)
        };
        let mut braces = (start + 1..limit).filter(|at| self.body[*at] == b'{');
        let next = braces.find(is_start).unwrap_or(limit);
        let end = match balanced(&self.body[start..next]) {
            Some(length) if may_end(&self.body[start + length..next]) => start + length,
            _ => next,
        };
        self.push(at..end, false)
    }

    /// Returns the first unit, complete or with a flaw, that starts and ends between two offsets of a line.
    fn unit(&self, start: usize, end: usize) -> Option<usize> {
        (start..end).find(|at| self.unit_at(*at, end).is_some())
    }

    fn unit_at(&self, at: usize, end: usize) -> Option<Found> {
        if self.body[at] != b'{' {
            return None;
        }
        value_at(&self.body[at..end]).filter(|value| value.is_unit).or_else(|| self.repairable(at, end))
    }

    /// Returns the unit with a flaw that starts at one offset and ends before another.
    fn repairable(&self, start: usize, end: usize) -> Option<Found> {
        let from = self.places[start];
        let value = value_at(&self.fixed[from..self.places[end]]).filter(|value| value.is_unit)?;
        let is_end = |at: &usize| self.places[*at] == from + value.end;
        let end = (start..=end).find(is_end).expect("a unit ends outside of flaws");
        Some(Found { end, ..value })
    }

    /// Returns whether an object starts at `at` that has one of the keys of a unit after sound members, before `end`.
    fn has_key(&self, at: usize, end: usize) -> bool {
        let skipped = |text: &'_ [u8], more: u8| {
            text.iter().take_while(|byte| **byte <= b' ' || **byte == more).count()
        };
        let mut rest = &self.body[at + 1..end];
        loop {
            rest = &rest[skipped(rest, b',')..];
            if KEYS.iter().any(|key| rest.starts_with(format!("\"{key}\"").as_bytes())) {
                return true;
            }
            let Some(key) = value_at(rest).filter(|_| rest.starts_with(b"\"")) else { return false };
            rest = &rest[key.end..];
            rest = &rest[skipped(rest, b':')..];
            let Some(value) = value_at(rest) else { return false };
            rest = &rest[value.end..];
        }
    }

    /// Returns the value of several lines at `start`, if none of its lines has a unit.
    fn joined(&self, number: usize, start: usize) -> Option<Found> {
        let end = self.body.len();
        let found = value_at(&self.body[start..]).map(|value| Found { end: start + value.end, ..value });
        let value = found.or_else(|| self.repairable(start, end))?;
        let has_object = memchr::memchr(b'{', &self.body[start..value.end]).is_some();
        let is_list = self.body[start] == b'[' && !has_object;
        if !(value.is_object || is_list) || value.end <= self.lines[number].end {
            return None;
        }
        let mut lines = self.lines[number..].iter().take_while(|line| line.start < value.end);
        let is_alone = lines.all(|line| self.unit(line.start.max(start), line.end.min(value.end)).is_none());
        is_alone.then_some(value)
    }
}

fn is_bare(text: &[u8]) -> bool {
    text.iter().all(|byte| b" \t\r\n,[]".contains(byte))
}

/// Returns whether the array at the start of a line of brackets ends there.
fn is_closed(text: &[u8]) -> bool {
    let mut depth = 0;
    text.iter().any(|byte| {
        depth += i32::from(*byte == b'[') - i32::from(*byte == b']');
        depth == 0
    })
}

/// Returns the length of the object at the start of a text, by its brackets and quotes alone.
fn balanced(text: &[u8]) -> Option<usize> {
    let (mut open, mut is_in_string, mut at) = (Vec::new(), false, 0);
    while text.starts_with(b"{") && at < text.len() {
        match text[at] {
            b'"' => is_in_string = !is_in_string,
            b'\\' if is_in_string => at += 1,
            b'\\' => return None,
            _ if is_in_string => {}
            bracket @ (b'{' | b'[') => open.push(bracket),
            b'}' if open.pop() != Some(b'{') => return None,
            b']' if open.pop() != Some(b'[') => return None,
            b'}' if open.is_empty() => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Returns whether an object that is not JSON may end before `text`.
fn may_end(text: &[u8]) -> bool {
    let next = text.iter().position(|byte| !b" \t,]".contains(byte)).map(|next| &text[next..]);
    next.is_none_or(|next| b"{[".contains(&next[0]) || prefix(next, true).0 > 0)
}

/// Returns whether brackets are followed by an object or nothing.
fn separates(text: &[u8]) -> bool {
    let next = text.iter().find(|byte| !b" \t\r\n,[]".contains(byte));
    next.is_none_or(|byte| *byte == b'{')
}

/// Returns the length of an octet-counted frame: as its count says if the line ends or another frame starts there, or up to the next
/// frame that starts before a brace.
fn frame_length(line: &[u8]) -> Option<usize> {
    let length = counted(line)?;
    if line.get(length..).is_some_and(|rest| rest.is_empty() || counted(rest).is_some()) {
        return Some(length);
    }
    let text = line.split(|byte| *byte == b'{').next().unwrap_or(line);
    (1..text.len()).find(|at| {
        let header = String::from_utf8_lossy(&line[*at..line.len().min(at + 40)]).into_owned();
        let is_whole =
            header.starts_with(|first: char| first.is_ascii_digit()) && !text[at - 1].is_ascii_digit();
        let version = header.split_once('>').map(|(_, version)| version);
        is_whole
            && counted(&line[*at..]).is_some()
            && version.is_some_and(|version| version.starts_with("1 "))
    })
}

/// Returns the length of an octet-counted frame, according to its count.
fn counted(line: &[u8]) -> Option<usize> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let is_count = space <= 20 && line[..space].iter().all(u8::is_ascii_digit);
    let octets: usize = std::str::from_utf8(&line[..space]).ok()?.parse().ok()?;
    (is_count && has_priority(&line[space + 1..])).then_some(octets.saturating_add(space + 1))
}

fn has_priority(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&text[..text.len().min(5)]).into_owned();
    let priority = text.strip_prefix('<').and_then(|text| text.split_once('>')).map(|(priority, _)| priority);
    priority.is_some_and(|digits| {
        (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Returns the length of a syslog header before an object, or before brackets at the end of a line if the array goes on; and how many
/// brackets it ends with.
fn prefix(line: &[u8], goes_on: bool) -> (usize, usize) {
    if counted(line).is_none() && !has_priority(line) {
        return (0, 0);
    }
    let object = line.iter().position(|byte| *byte == b'{');
    let length = object.unwrap_or(line.len());
    let end = line[..length].iter().rev().take_while(|byte| b" \t[".contains(byte));
    let brackets = end.filter(|byte| **byte == b'[').count();
    match object.is_some() || brackets > 0 && goes_on {
        true => (length, brackets),
        false => (0, 0),
    }
}
