//! Framing of Fastly bodies, compared with a naive framer that was written from the rules alone.
//!
//! The naive framer parses every candidate with serde_json, from every brace, and is quadratic. Of JSON and OTLP it
//! knows serde_json's grammar and six keys; of repair it knows one span name with unescaped quotes.
//!
//! The input is checked twice: as it is, where every complete object must be a frame of its own; and as a recipe for a
//! body of good units and junk, where every unit must be accepted once, unaltered, and everything else be rejected as
//! often as the naive framer says.

mod recipe;

use std::ops::Range;

use bytes::Bytes;
use serde::de::IgnoredAny;

use self::recipe::Recipe;
use super::line::fastly;
use crate::receiver::fastly::frames;
use crate::receiver::{Reading, Receiver, Rejected};

/// Longer inputs are checked in part, because the naive framer is quadratic.
const MAX_RAW_BYTES: usize = 1024;

/// Number of fragments in a body.
const MAX_PIECES: usize = 24;

const KEYS: [&str; 6] = [
    "resourceSpans",
    "resourceLogs",
    "resourceMetrics",
    "resource_spans",
    "resource_logs",
    "resource_metrics",
];

/// Name with quotes that must be repaired, and its repaired form.
const QUOTED: [&str; 2] = ["W/\"e7\" x", "W/\\\"e7\\\" x"];

/// Checks any bytes, and the body that they are a recipe for.
pub fn framing(input: &[u8]) {
    check_frames(&input[..input.len().min(MAX_RAW_BYTES)]);
    check_recipe(input);
}

/// A part of a body as the naive framer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    range: Range<usize>,
    is_unit: bool,
}

/// Checks that every complete object is a frame, and that frames neither overlap nor leave gaps.
fn check_frames(body: &[u8]) {
    let found = frames(body, |text| value_at(text).filter(|value| value.is_unit).map(|value| value.end));
    let shown = body.escape_ascii();
    let mut end = 0;
    for frame in &found {
        assert!(
            frame.start >= end && frame.end > frame.start,
            "frames overlap or are empty in {shown}: {found:?}"
        );
        let between = &body[end..frame.start];
        assert!(is_separator(between), "{} is in no frame of {shown}", between.escape_ascii());
        end = frame.end;
    }
    assert!(is_separator(&body[end..]), "the end is in no frame of {shown}");
    for unit in naive(body).into_iter().filter(|part| part.is_unit) {
        let is_frame =
            found.iter().any(|frame| frame.end == unit.range.end && frame.start <= unit.range.start);
        assert!(is_frame, "{} is not a frame of {shown}: {found:?}", body[unit.range].escape_ascii());
    }
}

fn is_separator(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let is_separator = |character| " \t\r\n,[]\u{feff}".contains(character);
    // The prefix of an array whose first object is on the next line is in no frame.
    text.lines().flat_map(|line| line.split('\r')).all(|line| {
        let line = line.trim_matches(is_separator);
        line.is_empty() || line.starts_with('<') || line.starts_with(|first: char| first.is_ascii_digit())
    })
}

fn check_recipe(input: &[u8]) {
    let (body, units) = Recipe::new(input).body();
    let parts = naive(&body);
    let shown = body.escape_ascii();
    let good: Vec<&[u8]> =
        parts.iter().filter(|part| part.is_unit).map(|part| &body[part.range.clone()]).collect();
    assert_eq!(good.len(), units.len(), "the recipe and the naive framer differ about {shown}");
    assert!(
        good.iter().zip(&units).all(|(one, other)| *one == other.as_slice()),
        "different units in {shown}"
    );
    check_reading_of(&body, &parts);
}

/// Checks that the receiver's reading of a body is that of the naive framer.
fn check_reading_of(body: &[u8], parts: &[Part]) {
    let shown = body.escape_ascii();
    let Reading { items, rejected, .. } = fastly(true).read(&Bytes::copy_from_slice(body));
    let line_of = |at: usize| 1 + lines(body).iter().take_while(|line| line.end < at).count();
    let accepted: Vec<(usize, Bytes)> = items
        .into_iter()
        .map(|item| {
            let json = item.traces.expect("all units have spans").into_json();
            let is_repaired = memchr::memmem::find(&json, QUOTED[1].as_bytes()).is_some();
            assert_eq!(!item.repairs.is_empty(), is_repaired, "{:?} in {shown}", item.repairs);
            (item.line as usize, json)
        })
        .collect();
    let (good, bad): (Vec<&Part>, Vec<&Part>) = parts.iter().partition(|part| part.is_unit);
    let good: Vec<(usize, Bytes)> = good
        .into_iter()
        .map(|part| (line_of(part.range.start), Bytes::from(repaired_text(&body[part.range.clone()]))))
        .collect();
    assert!(accepted == good, "accepted of {shown}: {accepted:?} and not {good:?}");
    let kept: Vec<String> = rejected.iter().map(|entry| entry.input.escape_ascii().to_string()).collect();
    assert_eq!(Rejected::units(&rejected), bad.len(), "rejected of {shown}: {kept:?} and not {bad:?}");
}

// The naive framer.

struct Found {
    end: usize,
    is_unit: bool,
    is_object: bool,
}

/// Parses the JSON value at the start of a text.
fn value_at(text: &[u8]) -> Option<Found> {
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
fn lines(body: &[u8]) -> Vec<Range<usize>> {
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

/// Splits a body by the rules.
fn naive(body: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    let skipped = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let blanks = body[skipped..].iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
    let text = &body[skipped + blanks..];
    if text.starts_with(b"[") && serde_json::from_slice::<IgnoredAny>(text).is_ok() {
        elements(body, skipped + blanks, &mut parts);
        return parts;
    }
    let lines = lines(body);
    let mut at = 0;
    for number in 0..lines.len() {
        let line = &lines[number];
        if at <= line.start {
            at = line.start;
            at += if body[at..].starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        }
        while at < line.end {
            at = part(body, &lines[number..], at, &mut parts);
        }
    }
    parts
}

/// Adds the part at `at` of the first line, and returns its end.
fn part(body: &[u8], lines: &[Range<usize>], at: usize, parts: &mut Vec<Part>) -> usize {
    let line = &lines[0];
    let rest = &body[at..line.end];
    if b" \t,]".contains(&rest[0]) {
        return at + 1;
    }
    if let Some(length) = text_frame(rest) {
        parts.push(Part { range: at..at + length, is_unit: false });
        return at + length;
    }
    let start = at + prefix(rest);
    let value = value_at(&body[start..line.end]).filter(|value| value.is_object);
    if let Some(value) = value {
        parts.push(Part { range: start..start + value.end, is_unit: value.is_unit });
        return start + value.end;
    }
    if let Some(length) = repairable(&body[start..line.end]) {
        parts.push(Part { range: start..start + length, is_unit: true });
        return start + length;
    }
    if body[start] == b'[' && separates(&body[start..line.end]) && !is_joined_list(body, lines, start) {
        return start + 1;
    }
    if let Some(next) = next_unit(body, start, line.end) {
        parts.push(Part { range: at..next, is_unit: false });
        return next;
    }
    if let Some(value) = joined(body, lines, start) {
        parts.push(Part { range: start..value.end, is_unit: value.is_unit });
        return value.end;
    }
    let mut braces = (start + 1..line.end).filter(|next| body[*next] == b'{');
    let is_unit = |next: &usize| joined(body, lines, *next).is_some_and(|value| value.is_unit);
    let end = braces.find(is_unit).unwrap_or(line.end);
    parts.push(Part { range: at..end, is_unit: false });
    end
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

/// Returns whether brackets are followed by an object or nothing.
fn separates(text: &[u8]) -> bool {
    let next = text.iter().find(|byte| !b" \t\r\n,[]".contains(byte));
    next.is_none_or(|byte| *byte == b'{')
}

fn is_joined_list(body: &[u8], lines: &[Range<usize>], start: usize) -> bool {
    let is_at_end = body[start..lines[0].end].iter().all(|byte| b" \t\r\n,[]".contains(byte));
    is_at_end && joined(body, lines, start).is_some()
}

/// Returns the value of several lines at `start`, if none of its lines has a unit.
fn joined(body: &[u8], lines: &[Range<usize>], start: usize) -> Option<Found> {
    let mut value = value_at(&body[start..])?;
    value.end += start;
    let has_object = memchr::memchr(b'{', &body[start..value.end]).is_some();
    if !(value.is_object || body[start] == b'[' && !has_object) || value.end <= lines[0].end {
        return None;
    }
    let alone = lines.iter().take_while(|line| line.start < value.end).all(|line| {
        let (from, to) = (line.start.max(start), line.end.min(value.end));
        first_unit(body, from, to).is_none()
    });
    alone.then_some(value)
}

fn next_unit(body: &[u8], start: usize, end: usize) -> Option<usize> {
    first_unit(body, start + 1, end)
}

/// Returns the first unit that starts and ends between two offsets of a line.
fn first_unit(body: &[u8], start: usize, end: usize) -> Option<usize> {
    (start..end).find(|at| body[*at] == b'{' && value_at(&body[*at..end]).is_some_and(|value| value.is_unit))
}

/// Returns the length of the unit at the start of a line that is one after its quotes are escaped.
fn repairable(line: &[u8]) -> Option<usize> {
    let quoted = memchr::memmem::find(line, QUOTED[0].as_bytes())?;
    let added = QUOTED[1].len() - QUOTED[0].len();
    value_at(&repaired_text(line))
        .filter(|value| value.is_unit && value.end > quoted)
        .map(|value| value.end - added)
}

/// Returns a text with the first of the names that need repair repaired.
fn repaired_text(text: &[u8]) -> Vec<u8> {
    match memchr::memmem::find(text, QUOTED[0].as_bytes()) {
        Some(at) => [&text[..at], QUOTED[1].as_bytes(), &text[at + QUOTED[0].len()..]].concat(),
        None => text.to_vec(),
    }
}

/// Returns the length of an octet-counted frame that holds no object and is directly followed by another frame.
fn text_frame(line: &[u8]) -> Option<usize> {
    let length = counted(line)?;
    let is_followed = line.len() > length && counted(&line[length..]).is_some();
    (is_followed && !line[..length].contains(&b'{')).then_some(length)
}

/// Returns the length of an octet-counted frame, according to its count.
fn counted(line: &[u8]) -> Option<usize> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let is_count = line[..space].iter().all(u8::is_ascii_digit);
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

/// Returns the length of a syslog header.
fn prefix(line: &[u8]) -> usize {
    match line.iter().position(|byte| *byte == b'{') {
        Some(object) if counted(line).is_some() || has_priority(line) => object,
        _ => 0,
    }
}
