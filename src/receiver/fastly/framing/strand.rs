//! One interpretation of a text: the containers that are open, and whether their content is JSON so far.

use std::collections::VecDeque;

use super::scalar::{WordClass, scalar, word_length};
use crate::otlp::json::Text;

/// Maximum number of open containers that are remembered. A container with more levels inside is not found as a value; the
/// reader of units allows less than half of these levels.
const MAX_OPEN: usize = 512;

pub(in super::super) const RESOURCE_KEYS: [&[u8]; 6] = [
    b"resourceSpans",
    b"resourceLogs",
    b"resourceMetrics",
    b"resource_spans",
    b"resource_logs",
    b"resource_metrics",
];

/// Length of the longest key that is compared after its escapes were replaced: six bytes for each character.
const MAX_ESCAPED_KEY: usize = 6 * 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Object,
    Array,
}

/// The token that the grammar allows next in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpectedToken {
    Key,
    Colon,
    Value,
    /// A value or the end of the array, because repair removes a comma before the end.
    Element,
    Separator,
}

/// A container that is open, or was just closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenContainer {
    pub(super) start: usize,
    pub(super) container: Container,
    expect: ExpectedToken,
    /// The content is neither JSON nor what repair replaces in place.
    pub(super) is_broken: bool,
    /// The content is strict JSON.
    pub(super) is_json: bool,
    pub(super) has_resource_key: bool,
    pub(super) has_object: bool,
    /// The last token was a comma, which repair removes before the end of a container.
    follows_comma: bool,
}

/// Containers that are open in one interpretation of a text, outermost first.
#[derive(Debug, Default)]
pub(super) struct Strand {
    pub(super) open: VecDeque<OpenContainer>,
}

// === impl Strand ===

impl Strand {
    /// Adds the token at `at`, which is neither a string nor the end of a container, and returns its length.
    pub(super) fn token(&mut self, byte: u8, body: &[u8], at: usize) -> usize {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            0..=b' ' => self.deviate(),
            b'{' => self.open(Container::Object, at),
            b'[' => self.open(Container::Array, at),
            b':' => self.expect(ExpectedToken::Colon, ExpectedToken::Value),
            b',' => self.comma(),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'+' | b'.' | b'(' | b')' => {
                let word = &body[at..at + word_length(&body[at..])];
                self.value();
                match scalar(word) {
                    WordClass::Json => {}
                    WordClass::Repairable => self.deviate(),
                    WordClass::None => self.fail(),
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
        let expect = if container == Container::Object { ExpectedToken::Key } else { ExpectedToken::Element };
        let (has_resource_key, has_object) = (false, false);
        let (is_broken, is_json, follows_comma) = (false, true, false);
        self.open.push_back(OpenContainer {
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

    /// Closes the innermost container, or drops all of them if the bracket is of the other kind.
    pub(super) fn close(&mut self, bracket: u8) -> Option<OpenContainer> {
        let mut closed = self.open.pop_back()?;
        let wanted = if closed.container == Container::Object { b'}' } else { b']' };
        if bracket != wanted {
            self.open.clear();
            return None;
        }
        let may_end =
            matches!(closed.expect, ExpectedToken::Key | ExpectedToken::Element | ExpectedToken::Separator);
        closed.is_broken |= !may_end;
        closed.is_json &= may_end && !closed.follows_comma;
        if let Some(parent) = self.open.back_mut() {
            parent.is_broken |= closed.is_broken;
            parent.is_json &= closed.is_json;
            parent.has_object |= closed.has_object;
        }
        Some(closed)
    }

    /// Adds a string, and returns the start of its object if the string is a resource key there.
    pub(super) fn string(&mut self, body: &[u8], start: usize, end: usize) -> Option<usize> {
        let top = self.open.back_mut()?;
        if top.expect != ExpectedToken::Key {
            self.value();
            return None;
        }
        (top.expect, top.follows_comma) = (ExpectedToken::Colon, false);
        let is_resource_key = is_resource_key(body, start, end);
        top.has_resource_key |= is_resource_key && !top.is_broken;
        is_resource_key.then_some(top.start)
    }

    fn value(&mut self) {
        let Some(top) = self.open.back_mut() else { return };
        let is_expected = matches!(top.expect, ExpectedToken::Value | ExpectedToken::Element);
        (top.expect, top.follows_comma) = (ExpectedToken::Separator, false);
        if !is_expected {
            self.fail();
        }
    }

    fn comma(&mut self) {
        let is_object = self.open.back().is_some_and(|open| open.container == Container::Object);
        self.expect(
            ExpectedToken::Separator,
            if is_object { ExpectedToken::Key } else { ExpectedToken::Element },
        );
        if let Some(top) = self.open.back_mut() {
            top.follows_comma = true;
        }
    }

    /// Adds a token that the grammar allows only where it expects `wanted`.
    fn expect(&mut self, wanted: ExpectedToken, then: ExpectedToken) {
        let Some(top) = self.open.back_mut() else { return };
        let is_expected = top.expect == wanted;
        top.expect = then;
        if !is_expected {
            self.fail();
        }
    }

    /// Notes that the content is neither JSON nor what repair replaces in place.
    fn fail(&mut self) {
        self.deviate();
        if let Some(top) = self.open.back_mut() {
            top.is_broken = true;
        }
    }

    /// Notes that the content is not strict JSON.
    pub(super) fn deviate(&mut self) {
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
