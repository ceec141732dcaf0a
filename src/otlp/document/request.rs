//! One whole body as the export request of one signal.
//!
//! In: a body, and the signal of its path. Out: a [`Request`]: a line of which one section is used, and which may be
//! empty, because empty requests are valid.
//!
//! Promises:
//! - Invalid UTF-8 and unpaired surrogates are replaced by U+FFFD anywhere in the body, including keys and unknown
//!   fields: a Collector accepts both.
//! - Content of other signals, and a body without a request, is reported.

use bytes::Bytes;

use super::super::json::{Cursor, Fault};
use super::super::members::member_ranges;
use super::super::merge::is_empty_value;
use super::super::schema::LINE;
use super::super::splice::{Edits, Origins, Removals};
use super::super::walk::{Walk, signal_of_key};
use super::{DroppedSpan, Line, Walked, has_no_items, read};
use crate::event::{RejectCode, Repair, Signal};
use crate::otlp::decode_hex;

/// Contents of an export request.
#[derive(Debug)]
pub struct Request {
    pub line: Line,
    /// The repaired body, without the content of other signals.
    pub(crate) text: Bytes,
    /// Sections of other signals.
    pub(crate) sections: Vec<DroppedSpan>,
    /// Set where the body has content, but none for its signal.
    pub(crate) mismatch: Option<Mismatch>,
}

/// The reason why a body with content has none for its signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// There is no section of the signal.
    NoSection,
    /// All content is in unknown members and in sections of other signals.
    OtherContent,
}

/// A body as valid text.
struct ValidText {
    text: Bytes,
    repairs: Vec<Repair>,
    origins: Origins,
}

/// Members of a request that belong to other signals.
struct Foreign {
    /// The request without those members.
    own: Bytes,
    origins: Origins,
    sections: Vec<DroppedSpan>,
}

/// Reads a body that holds one request of this signal and nothing else.
pub fn read_request(signal: Signal, body: &Bytes) -> Result<Request, Fault> {
    let ValidText { text, repairs, origins } = repaired(body);
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

/// Returns the signal of a request, by the key of its section; `None` when it has none.
pub fn signal_of(body: &Bytes) -> Option<Signal> {
    let members = member_ranges(body, whitespace(body)).ok()?;
    members.into_iter().find_map(|(key, _)| signal_of_key(body, key))
}

/// Returns the name of the section of a signal's requests.
fn section_of(signal: Signal) -> &'static str {
    LINE.fields[signal as usize].name
}

/// Replaces invalid text by U+FFFD.
fn repaired(body: &Bytes) -> ValidText {
    let mut repaired = ValidText { text: body.clone(), repairs: Vec::new(), origins: Origins::default() };
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

/// Returns the text with `\\ufffd` in place of escaped unpaired surrogates; `None` when there are none.
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

/// Reads the object at the start of the text, which only white space may follow.
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
    // The content of other signals may be what makes it unreadable.
    let Ok(members) = member_ranges(given, 0) else {
        return Err(outcome.map_or_else(|fault| fault, |_| Fault::shape(0, "not a JSON object")));
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
        return Err(Fault::shape(rest, "trailing data after the request"));
    }
    Ok(())
}

fn has_others(walk: &Walk, signal: Signal) -> bool {
    Signal::ALL.iter().any(|other| *other != signal && walk.sections[*other as usize])
}

/// Returns the length of the white space at the start of the text.
fn whitespace(text: &[u8]) -> usize {
    let mut cursor = Cursor::new(text, 0);
    cursor.skip_whitespace();
    cursor.at
}

// === impl Request ===

impl Request {
    /// Creates a request. A body without members needs no section.
    fn new(
        walked: Walked,
        text: Bytes,
        sections: Vec<DroppedSpan>,
        has_section: bool,
    ) -> Result<Self, Fault> {
        let Walked { walk, dropped, .. } = &walked;
        let is_empty = has_no_items(walk) && dropped.is_empty();
        // Data points of a kind that the schema does not know are unknown members of a metric without any.
        let is_unknown =
            walk.has_unknown && (is_empty || walk.points > 0 && walk.points == walk.bare_metrics);
        let mismatch = match has_section {
            false => Some(Mismatch::NoSection),
            true => (is_unknown || is_empty && !sections.is_empty()).then_some(Mismatch::OtherContent),
        };
        Ok(Self { line: Line::new(walked)?, text, sections, mismatch })
    }
}

// === impl Mismatch ===

impl Mismatch {
    /// Returns the reason for the response.
    pub(crate) fn reason(self, signal: Signal) -> String {
        match self {
            Self::NoSection => format!("no {} in a request for {signal}", section_of(signal)),
            Self::OtherContent => {
                format!("only content that does not belong in a request for {signal}")
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
                    if !is_empty_value(value.strip_prefix(b":").unwrap_or(value)) {
                        sections.push(DroppedSpan {
                            at: range.start,
                            code: RejectCode::Other,
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
