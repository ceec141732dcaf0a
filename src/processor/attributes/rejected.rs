//! Rejected input: attributes in what of it can be parsed.
//!
//! Input that is not OTLP may be a line of an access log, whose fields would have become attributes. Such fields are removed.

use bytes::Bytes;

use super::Attributes;
use super::pass::{FieldRules, Pass};
use crate::otlp::json::Cursor;
use crate::otlp::{Edits, signal_of};
use crate::receiver::Receiver;

/// Rejected input after the rules were applied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scrubbed {
    pub(crate) text: Bytes,
    /// All of it was parsed. If false, a value that should be removed may be left.
    pub(crate) is_parsed: bool,
}

/// Input that is being scrubbed.
struct Scrubber<'a> {
    rules: &'a Attributes,
    receiver: &'a dyn Receiver,
    input: &'a Bytes,
    /// The input is a part of an OTLP object.
    is_otlp: bool,
    edits: Edits,
    is_parsed: bool,
}

// === impl Attributes ===

impl Attributes {
    /// Applies the rules to input that a receiver rejected: JSON values, with any text between them, and lines that the receiver
    /// can parse. `is_otlp` tells that the input is a part of an OTLP object.
    pub(crate) fn scrub_rejected(&self, input: &Bytes, receiver: &dyn Receiver, is_otlp: bool) -> Scrubbed {
        let (edits, is_parsed) = (Edits::default(), true);
        let mut scrubber = Scrubber { rules: self, receiver, input, is_otlp, edits, is_parsed };
        scrubber.run();
        Scrubbed { text: scrubber.edits.apply(input), is_parsed: scrubber.is_parsed }
    }
}

// === impl Scrubber ===

impl Scrubber<'_> {
    fn run(&mut self) {
        let (mut at, mut begins_line) = (0, true);
        while let Some(byte) = self.input.get(at) {
            match byte {
                b'\n' | b'\r' => (at, begins_line) = (at + 1, true),
                b' ' | b'\t' | b',' => at += 1,
                b'{' | b'[' => (at, begins_line) = (self.json(at), false),
                _ if self.input[at..].starts_with("\u{feff}".as_bytes()) => at += "\u{feff}".len(),
                _ => (at, begins_line) = (self.text(at, begins_line), false),
            }
        }
    }

    /// Returns the start of the value of the member that begins at `at`, if one does.
    fn member(&self, at: usize) -> Option<usize> {
        let mut cursor = Cursor::new(self.input, at);
        cursor.key().ok().map(|_| cursor.at)
    }

    /// Scrubs the JSON value that begins at `at`. Returns its end, or a later offset up to which it was read.
    fn json(&mut self, at: usize) -> usize {
        let rules = self.rules;
        let is_otlp = self.is_otlp || signal_of(&self.input.slice(at..)).is_some();
        let receiver = self.receiver;
        let withholds = |path: &str, is_object: bool| receiver.withholds(path, is_object);
        let fields = if is_otlp { FieldRules::OfAttributes } else { FieldRules::Anywhere(&withholds) };
        let mut pass = Pass::new(rules, self.input, at, Some(fields));
        let end = match pass.value() {
            Ok(()) => pass.cursor.at,
            Err(fault) => {
                self.is_parsed = false;
                // The edits of what was read are made all the same.
                fault.at.max(at + 1)
            }
        };
        self.edits.extend(pass.edits);
        end
    }

    /// Scrubs text that is not JSON. Returns the end of the line, or the start of a JSON value on it.
    fn text(&mut self, at: usize, begins_line: bool) -> usize {
        if let (true, Some(value)) = (self.is_otlp, self.member(at)) {
            return value;
        }
        let rest = &self.input[at..];
        let line = &rest[..memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len())];
        let parsed = std::str::from_utf8(line).ok().filter(|_| begins_line);
        if let Some(withheld) = parsed.and_then(|line| self.receiver.withheld_in(line)) {
            for range in withheld {
                self.edits.replace(at + range.start..at + range.end, "-");
            }
            return at + line.len();
        }
        self.is_parsed = false;
        at + memchr::memchr2(b'{', b'[', line).unwrap_or(line.len())
    }
}
