//! Reads the units of a body, and repairs those that need it.
//!
//! In: a body. Out: a [`Reading`]: an item for every accepted unit, and a rejected entry for everything else.
//! Promises: every unit is accepted or rejected, once. A canonical unit is not copied. Lines, columns and kept bytes are
//! those of the body, also after a repair.
//! Leaves to others: finding units ([`super::framing`]), repairing one ([`super::repair`]), access logs
//! ([`super::access_log`]), and the meaning of a unit ([`LineReader`]).

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::mem;
use std::ops::Range;

use bytes::Bytes;

use super::super::{Item, Passage, Reading, Rejected, Scope, Withheld};
use super::access_log::{AccessLogsConfig, convert};
use super::framing::{Frame, FrameShape, Frames, LineStart};
use super::repair;
use crate::event::{RejectCode, Repair};
use crate::otlp::json::{Fault, FaultKind};
use crate::otlp::{Line, LineReader};

/// Maximum number of rejected units and items of a body with an entry of their own. Later ones share entries where they
/// follow each other, so that a body of very short lines does not take a multiple of its size in memory.
const MAX_OWN_ENTRIES: usize = 10_000;
/// Maximum length of the input of a shared entry.
const MAX_SHARED_BYTES: usize = 64 * 1024;

/// Settings of a receiver for reading.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) repair: bool,
    /// Maximum length of one unit.
    pub(super) max_line_bytes: usize,
    /// Set if lines that are not OTLP may be access logs.
    pub(super) access_logs: Option<AccessLogsConfig>,
    /// Attributes of access logs whose values are in no other place.
    pub(super) withheld: Withheld,
}

/// Reads a decoded body.
pub(super) fn read(body: &Bytes, settings: &Settings) -> Reading {
    let mut frames = Frames::new(body);
    let mut reader = Reader {
        body,
        settings,
        is_utf8: std::str::from_utf8(body).is_ok(),
        lines: LineReader::default(),
        reading: Reading::default(),
        last_rejected: 0,
        accepted_before: 0,
    };
    while let Some(frame) = frames.next() {
        reader.frame(&mut frames, frame);
    }
    reader.reading
}

struct Reader<'a> {
    body: &'a Bytes,
    settings: &'a Settings,
    /// Result of one check of the whole body. If false, each unit is checked.
    is_utf8: bool,
    lines: LineReader,
    reading: Reading,
    /// Offset of the input of the last rejected entry.
    last_rejected: usize,
    /// Number of items that were accepted before it.
    accepted_before: usize,
}

/// A unit that was read.
struct Unit {
    line: Line,
    /// Length of the unit in the body.
    length: usize,
    repairs: Vec<Repair>,
}

// === impl Reader ===

impl Reader<'_> {
    fn frame(&mut self, frames: &mut Frames<'_>, mut frame: Frame) {
        if frame.shape == FrameShape::Untried {
            if let Some(unit) = self.text_with_brace(frames, &frame).or_else(|| self.untried(&frame)) {
                frames.resume(frame.start + unit.length);
                return self.accept(&frame, unit);
            }
            frame = frames.inspect(&frame);
        }
        match frame.shape {
            FrameShape::Text => match self.access_log(&frame) {
                Some(Ok(unit)) => self.accept(&frame, unit),
                Some(Err(fault)) => self.reject(&frame, &fault),
                None => {
                    self.reject(&frame, &Fault::shape(0, "not a JSON object").coded(RejectCode::NoObject));
                }
            },
            FrameShape::Leading => {
                let fault = Fault::shape(0, "not a JSON object, but text before one on its line");
                self.reject(&frame, &fault.coded(RejectCode::TextBefore));
            }
            FrameShape::Trailing => {
                let fault = Fault::shape(0, "trailing data after the object");
                self.reject(&frame, &fault.coded(RejectCode::TextAfter));
            }
            FrameShape::Untried | FrameShape::Balanced | FrameShape::Open => match self.unit(&frame) {
                Ok(unit) => {
                    frames.resume(frame.start + unit.length);
                    self.accept(&frame, unit);
                }
                Err(fault) => match self.access_log(&frame) {
                    Some(Ok(unit)) => {
                        frames.resume(frame.start + unit.length);
                        self.accept(&frame, unit);
                    }
                    Some(Err(other)) if fault.kind == FaultKind::Shape && fault.at == 0 => {
                        self.reject(&frame, &other);
                    }
                    _ => self.reject(&frame, &fault),
                },
            },
        }
    }

    /// Reads the object of an untried frame, if it needs no repair as OTLP. What it is more likely to be is tried first, so that
    /// most lines are read once.
    fn untried(&mut self, frame: &Frame) -> Option<Unit> {
        let is_likely_otlp =
            self.settings.access_logs.is_none() || self.body[frame.start..].starts_with(b"{\"resource");
        if !is_likely_otlp && let Some(Ok(unit)) = self.access_log(frame) {
            return Some(unit);
        }
        match self.read_strictly(frame.start, self.limit(frame)) {
            Ok(line) => Some(Unit { length: line.end, line, repairs: Vec::new() }),
            Err(_) if is_likely_otlp => self.access_log(frame)?.ok(),
            Err(_) => None,
        }
    }

    /// Reads a frame with a syslog header as a line of an access log that is text, and has a brace that is not the start of an object.
    fn text_with_brace(&mut self, frames: &mut Frames<'_>, frame: &Frame) -> Option<Unit> {
        let header = frame.start - frame.from;
        if header == 0 || self.body[frame.from] != b'<' {
            return None;
        }
        let mut unit = self.access_log(&Frame { start: frame.from, ..*frame })?.ok()?;
        unit.length -= header;
        // An object of OTLP is read whatever precedes it.
        (!frames.has_candidate(frame)).then_some(unit)
    }

    /// Reads the content of a frame as a line of an access log, if those are enabled.
    fn access_log(&mut self, frame: &Frame) -> Option<Result<Unit, Fault>> {
        let (config, withheld) = (self.settings.access_logs.as_ref()?, &self.settings.withheld);
        let convert = |text: &str| convert(text, config, withheld);
        let end = self.limit(frame);
        if end < frame.end {
            return None;
        }
        let input = without_trailing_blanks(&self.body[frame.start..end]);
        let (converted, length, repairs) = match std::str::from_utf8(input).map(convert) {
            Ok(Ok(converted)) => {
                let length = converted.length;
                (converted, length, Vec::new())
            }
            Ok(Err(fault)) if !fault.is_syntax() => return Some(Err(fault)),
            _ if !self.settings.repair => return None,
            _ if input.starts_with(b"{") => {
                let repaired = repair::repair(input)?;
                match convert(std::str::from_utf8(&repaired.text).ok()?) {
                    Ok(converted) => (converted, repaired.consumed, repaired.repairs),
                    Err(fault) => return Some(Err(Fault { at: 0, ..fault })),
                }
            }
            _ => match convert(&String::from_utf8_lossy(input)) {
                Ok(converted) => (converted, input.len(), vec![Repair::InvalidUtf8]),
                Err(fault) => return Some(Err(fault)),
            },
        };
        if converted.json.len() > self.settings.max_line_bytes {
            return Some(Err(self.too_long(input.len())));
        }
        let line = self.lines.read(&Bytes::from(converted.json));
        Some(line.map(|mut line| {
            for span in &mut line.dropped {
                // A range of the converted text is none of the input.
                (span.at, span.range) = (0, 0..length);
            }
            Unit { line, length, repairs }
        }))
    }

    /// Returns the end of a frame, within the maximum length of a unit.
    fn limit(&self, frame: &Frame) -> usize {
        frame.end.min(frame.start.saturating_add(self.settings.max_line_bytes))
    }

    /// Reads the unit of a frame, and repairs it if necessary.
    fn unit(&mut self, frame: &Frame) -> Result<Unit, Fault> {
        let limit = self.limit(frame);
        if frame.shape == FrameShape::Balanced && limit < frame.end {
            return Err(self.too_long(limit - frame.start));
        }
        let fault = match self.read_strictly(frame.start, limit) {
            Ok(line) => return Ok(Unit { length: line.end, line, repairs: Vec::new() }),
            Err(fault) => fault,
        };
        let unit =
            if fault.is_syntax() && self.settings.repair { self.repair(frame.start, limit) } else { None };
        unit.ok_or(match fault.kind {
            FaultKind::Truncated if limit < frame.end => self.too_long(limit - frame.start),
            _ => fault,
        })
    }

    fn read_strictly(&mut self, start: usize, limit: usize) -> Result<Line, Fault> {
        let text = self.body.slice(start..limit);
        let line = self.lines.read(&text)?;
        if self.is_utf8 {
            return Ok(line);
        }
        match std::str::from_utf8(&text[..line.end]) {
            Ok(_) => Ok(line),
            Err(error) => {
                let (at, kind, code) = (error.valid_up_to(), FaultKind::Syntax, RejectCode::Other);
                Err(Fault { at, kind, code, reason: "invalid UTF-8".into() })
            }
        }
    }

    fn repair(&mut self, start: usize, limit: usize) -> Option<Unit> {
        let input = self.body.slice(start..limit);
        let mut repaired = repair::repair(&input)?;
        let mut line = self.lines.read(&Bytes::from(mem::take(&mut repaired.text))).ok()?;
        repaired.restore(&input, &mut line.dropped);
        Some(Unit { line, length: repaired.consumed, repairs: repaired.repairs })
    }

    fn too_long(&self, at: usize) -> Fault {
        let reason = format!("longer than max_line_size ({} bytes)", self.settings.max_line_bytes);
        Fault::shape(at, reason).coded(RejectCode::TooLong)
    }

    fn accept(&mut self, frame: &Frame, unit: Unit) {
        let Unit { line, mut repairs, .. } = unit;
        let Line { traces, logs, metrics, repairs: found, dropped, .. } = line;
        repairs.extend(found);
        repairs.sort_unstable();
        repairs.dedup();
        let is_empty = traces.is_none() && logs.is_none() && metrics.is_none();
        // The first rejected span represents a unit of which nothing is left.
        let mut scope = if is_empty { Scope::Unit } else { Scope::Item };
        let is_accepted = !is_empty || dropped.is_empty();
        let mut line = frame.line;
        let mut from = frame.from;
        for span in dropped {
            // Spans are in the order of the text, so that one pass finds all their lines.
            let at = (frame.start + span.at).max(from);
            line = line.advance(self.body, from, at);
            from = at;
            let input = frame.start + span.range.start..frame.start + span.range.end;
            self.note(scope, line, at, (span.code, span.reason), input);
            scope = Scope::Item;
        }
        if is_accepted {
            let line = frame.line.number;
            self.reading.items.push(Item {
                line,
                traces,
                logs,
                metrics,
                protobuf: None,
                repairs,
                passage: Passage::Joined,
            });
        }
    }

    /// Rejects a frame. The position of the fault is relative to the start of its value.
    fn reject(&mut self, frame: &Frame, fault: &Fault) {
        let kept = without_trailing_blanks(&self.body[frame.from..frame.end]);
        let kept = without_trailing_blanks(kept.strip_suffix(b",").unwrap_or(kept));
        let input = frame.from..frame.from + kept.len();
        let at = (frame.start + fault.at).min(self.body.len());
        let line = frame.line.advance(self.body, frame.from, at);
        self.note(Scope::Unit, line, at, (fault.code, fault.reason.clone()), input);
    }

    fn note(
        &mut self,
        scope: Scope,
        line: LineStart,
        at: usize,
        (code, reason): (RejectCode, Cow<'static, str>),
        input: Range<usize>,
    ) {
        if self.reading.rejected.len() >= MAX_OWN_ENTRIES && self.share_entry(scope, line.number, &input) {
            return;
        }
        (self.last_rejected, self.accepted_before) = (input.start, self.reading.items.len());
        let (line, column) = (line.number, line.column(at));
        let at = at.saturating_sub(input.start);
        let (reason, input) = (reason.into_owned(), self.body.slice(input));
        self.reading.rejected.push(Rejected { scope, line, column, code, at, reason, input, scrubbed: None });
    }

    /// Adds a rejection to the last entry, if that has the same scope and nothing was accepted in between.
    fn share_entry(&mut self, scope: Scope, line: u32, input: &Range<usize>) -> bool {
        let Some(last) = self.reading.rejected.last_mut() else { return false };
        let follows = self.accepted_before == self.reading.items.len();
        if !follows || input.end > self.last_rejected + MAX_SHARED_BYTES {
            return false;
        }
        let count = u32::try_from(last.scope.count() + 1).unwrap_or(u32::MAX);
        last.scope = match (last.scope, scope) {
            (Scope::Unit | Scope::Units { .. }, Scope::Unit) => Scope::Units { count, last_line: line },
            (Scope::Item | Scope::Items { .. }, Scope::Item) => Scope::Items { count },
            _ => return false,
        };
        last.input = self.body.slice(self.last_rejected..input.end);
        true
    }
}

/// Removes JSON white space from the end. Other white space is kept, because a line may consist of it.
fn without_trailing_blanks(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    &text[..end.map_or(0, |last| last + 1)]
}
