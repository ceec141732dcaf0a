//! One whole body as the export request of one signal.
//!
//! In: a body, and the signal of the path that it came to. Out: a [`Request`]. It is a line in which one of the sections
//! counts, and which may hold nothing: empty requests are valid.
//!
//! Promises:
//! - Invalid UTF-8 and halves of surrogate pairs are replaced by U+FFFD anywhere in the body, in keys and unknown fields,
//!   too: a Collector accepts both.
//! - What belongs to another signal, and a body that holds no request at all, is reported.

use bytes::Bytes;

use super::super::json::{Cursor, Fault};
use super::super::members::member_ranges;
use super::super::schema::LINE;
use super::super::splice::{Edits, Origins, Removals};
use super::super::twins::is_hollow;
use super::super::walk::{Walk, signal_of_key};
use super::{DroppedSpan, Line, Walked, holds_nothing, read};
use crate::event::{Repair, Signal};
use crate::otlp::decode_hex;

/// What an export request holds.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) line: Line,
    /// The body, repaired, without what belongs to other signals.
    pub(crate) text: Bytes,
    /// Sections of other signals.
    pub(crate) sections: Vec<DroppedSpan>,
    /// Set where the body has content, but none for its signal.
    pub(crate) mismatch: Option<Mismatch>,
}

/// The reason that a body with content holds nothing for its signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// There is no section of the signal.
    NoSection,
    /// All content is in unknown members and in sections of other signals.
    OtherContent,
}

/// A body that is text.
struct Repaired {
    text: Bytes,
    repairs: Vec<Repair>,
    origins: Origins,
}

/// The members of a request that its own signal has nothing to do with.
struct Foreign {
    /// The request without them.
    own: Bytes,
    origins: Origins,
    sections: Vec<DroppedSpan>,
}

/// Reads a body that holds one request of this signal and nothing else.
pub(crate) fn read_request(signal: Signal, body: &Bytes) -> Result<Request, Fault> {
    let Repaired { text, repairs, origins } = repaired(body);
    let start = whitespace(&text);
    let mut request = read_object(signal, &text.slice(start..))
        .map_err(|fault| Fault { at: origins.of(start + fault.at), ..fault })?;
    for span in request.line.dropped.iter_mut().chain(&mut request.sections) {
        span.at = origins.of(start + span.at);
        span.range = origins.of_range(&(start + span.range.start..start + span.range.end));
        span.text = body.slice(span.range.clone());
    }
    request.line.repairs.extend(repairs);
    if request.text.len() == text.len() - start {
        request.text = text;
    }
    Ok(request)
}

/// The signal of a request, by the key of its section; nothing when it has none.
pub(crate) fn signal_of(body: &Bytes) -> Option<Signal> {
    let members = member_ranges(body, whitespace(body)).ok()?;
    members.into_iter().find_map(|(key, _)| signal_of_key(body, key))
}

/// The name of the section of a signal's requests.
fn section_of(signal: Signal) -> &'static str {
    LINE.fields[signal as usize].name
}

/// Replaces what is no text by U+FFFD.
fn repaired(body: &Bytes) -> Repaired {
    let mut repaired = Repaired { text: body.clone(), repairs: Vec::new(), origins: Origins::default() };
    if std::str::from_utf8(body).is_err() {
        let mut text = Vec::with_capacity(body.len());
        let mut at = 0;
        for chunk in body.utf8_chunks() {
            repaired.origins.note(text.len(), at);
            text.extend_from_slice(chunk.valid().as_bytes());
            if !chunk.invalid().is_empty() {
                text.extend_from_slice("\u{fffd}".as_bytes());
            }
            at += chunk.valid().len() + chunk.invalid().len();
        }
        repaired.text = text.into();
        repaired.repairs.push(Repair::InvalidUtf8);
    }
    if let Some(text) = without_lone_surrogates(&repaired.text) {
        repaired.text = text.into();
        repaired.repairs.push(Repair::LoneSurrogate);
    }
    repaired
}

/// The text with `\ufffd` in the place of escapes that are half of a surrogate pair; nothing when there are none.
fn without_lone_surrogates(text: &[u8]) -> Option<Vec<u8>> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        decode_hex::<2>(digits).map(u16::from_be_bytes)
    };
    let mut repaired: Option<Vec<u8>> = None;
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'\\', text.get(from..)?).map(|offset| from + offset) {
        from = match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at + 12,
            (Some(0xd800..=0xdfff), _) => {
                repaired.get_or_insert_with(|| text.to_vec())[at..at + 6].copy_from_slice(b"\\ufffd");
                at + 6
            }
            _ => at + 2,
        };
    }
    repaired
}

/// Reads the object that begins at the start of the text, and may be followed by white space only.
fn read_object(signal: Signal, given: &Bytes) -> Result<Request, Fault> {
    let outcome = read(given, &mut Vec::new());
    let is_plain = outcome
        .as_ref()
        .is_ok_and(|walked| walked.walk.sections[signal as usize] && !has_others(&walked.walk, signal));
    if is_plain {
        let walked = outcome?;
        ends_at(given, walked.end)?;
        return Request::new(walked, given.clone(), Vec::new(), true);
    }
    // What belongs to other signals may be why it cannot be read.
    let Ok(members) = member_ranges(given, 0) else {
        return Err(outcome.map_or_else(|fault| fault, |_| Fault::shape(0, "no JSON object")));
    };
    let has_own = members.iter().any(|(key, _)| signal_of_key(given, *key) == Some(signal));
    let Foreign { own, origins, sections } = Foreign::find(signal, given)?;
    let mut walked: Walked =
        read(&own, &mut Vec::new()).map_err(|fault| Fault { at: origins.of(fault.at), ..fault })?;
    for span in &mut walked.dropped {
        span.at = origins.of(span.at);
        span.range = origins.of_range(&span.range);
    }
    ends_at(given, origins.of(walked.end))?;
    Request::new(walked, own, sections, has_own || members.is_empty())
}

/// Checks that only white space follows the request.
fn ends_at(text: &[u8], end: usize) -> Result<(), Fault> {
    let rest = end + whitespace(&text[end..]);
    if rest < text.len() {
        return Err(Fault::shape(rest, "text behind the end of the request"));
    }
    Ok(())
}

fn has_others(walk: &Walk, signal: Signal) -> bool {
    Signal::ALL.iter().any(|other| *other != signal && walk.sections[*other as usize])
}

/// How many bytes of JSON's white space the text begins with.
fn whitespace(text: &[u8]) -> usize {
    let mut cursor = Cursor::new(text, 0);
    cursor.skip_whitespace();
    cursor.at
}

// === impl Request ===

impl Request {
    /// A body without members lacks no section.
    fn new(
        walked: Walked,
        text: Bytes,
        sections: Vec<DroppedSpan>,
        has_section: bool,
    ) -> Result<Self, Fault> {
        let is_empty = holds_nothing(&walked.walk) && walked.dropped.is_empty();
        let has_other_content = walked.walk.has_unknown || !sections.is_empty();
        let mismatch = match has_section {
            false => Some(Mismatch::NoSection),
            true => (is_empty && has_other_content).then_some(Mismatch::OtherContent),
        };
        Ok(Self { line: Line::new(walked)?, text, sections, mismatch })
    }
}

// === impl Mismatch ===

impl Mismatch {
    /// What the sender is told.
    pub(crate) fn reason(self, signal: Signal) -> String {
        match self {
            Self::NoSection => format!("no {} in a request for {signal}", section_of(signal)),
            Self::OtherContent => {
                format!("nothing but content that does not belong in a request for {signal}")
            }
        }
    }
}

// === impl Foreign ===

impl Foreign {
    fn find(signal: Signal, text: &Bytes) -> Result<Self, Fault> {
        let mut edits = Edits::default();
        let mut removals = Removals::default();
        let mut sections = Vec::new();
        for (key, range) in member_ranges(text, 0)? {
            match signal_of_key(text, key) {
                Some(section) if section != signal => {
                    let value = text[key.end + 1..range.end].trim_ascii_start();
                    if !is_hollow(value.strip_prefix(b":").unwrap_or(value)) {
                        sections.push(DroppedSpan {
                            at: range.start,
                            reason: format!(
                                "{section} in a request for {signal}: send them to /v1/{section}"
                            )
                            .into(),
                            text: text.slice(range.clone()),
                            range: range.clone(),
                        });
                    }
                    removals.remove(range);
                }
                _ => removals.keep(range, &mut edits),
            }
        }
        removals.finish(&mut edits);
        let mut origins = Origins::default();
        let mut gone = 0;
        for range in edits.ranges() {
            origins.note(range.start - gone, range.end);
            gone += range.len();
        }
        Ok(Self { own: edits.apply(text), origins, sections })
    }
}
