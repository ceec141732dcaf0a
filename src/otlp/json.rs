//! Cursor over JSON text that checks the grammar (RFC 8259) and returns positions.
//!
//! The cursor builds no values: strings and numbers are returned as ranges of the text, everything else is skipped. The
//! text must be valid UTF-8; callers check that once, for the whole body.

use std::borrow::Cow;

use crate::event::RejectCode;

/// Maximum nesting depth, so that no input can exhaust the stack. The deepest path of OTLP itself is 17; the rest is
/// for nested attribute values.
pub(crate) const MAX_DEPTH: u32 = 128;

/// Position and reason of a fault in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Offset of the offending byte; the length of the text when the text ends too early.
    pub at: usize,
    pub(crate) kind: FaultKind,
    pub(crate) code: RejectCode,
    /// Reason for the sender.
    pub reason: Cow<'static, str>,
}

/// Kind of a fault, which determines whether repair is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Not JSON; repair may be possible.
    Syntax,
    /// Valid JSON so far, but truncated.
    Truncated,
    /// Valid JSON, but not OTLP.
    Shape,
}

/// Contents of a string literal, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// The literal contains a backslash.
    pub(crate) escaped: bool,
}

/// Position in a text.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    pub(crate) at: usize,
    depth: u32,
}

// === impl Fault ===

impl Fault {
    pub(crate) fn shape(at: usize, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { at, kind: FaultKind::Shape, code: RejectCode::Other, reason: reason.into() }
    }

    /// Returns the fault with a code.
    pub(crate) fn coded(self, code: RejectCode) -> Self {
        Self { code, ..self }
    }

    /// Returns whether a repair of the text could remove the fault.
    pub(crate) fn is_syntax(&self) -> bool {
        self.kind == FaultKind::Syntax
    }

    fn syntax(at: usize, reason: &'static str) -> Self {
        Self { at, kind: FaultKind::Syntax, code: RejectCode::Other, reason: Cow::Borrowed(reason) }
    }
}

// === impl Text ===

impl Text {
    /// Returns the literal as written, with its escapes.
    pub(crate) fn raw(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start..self.end]
    }

    /// Returns the string that the literal represents.
    pub(crate) fn unescaped(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        let raw = self.raw(bytes);
        if !self.escaped {
            return Cow::Borrowed(raw);
        }
        // serde_json combines surrogate pairs; the quotes around the range are part of the text.
        match serde_json::from_slice::<String>(&bytes[self.start - 1..=self.end]) {
            Ok(string) => Cow::Owned(string.into_bytes()),
            Err(_) => Cow::Borrowed(raw),
        }
    }
}

// === impl Cursor ===

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, depth: 0 }
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the next byte, if there is one.
    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub(crate) fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Consumes one expected byte.
    #[inline]
    pub(crate) fn expect(&mut self, byte: u8, otherwise: &'static str) -> Result<(), Fault> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.unexpected(otherwise))
        }
    }

    /// Returns the fault for anything but `expected`, a phrase that begins with that word.
    #[cold]
    pub(crate) fn unexpected(&self, expected: &'static str) -> Fault {
        match self.at >= self.bytes.len() {
            true => self.truncated(expected),
            false => Fault::syntax(self.at, expected).coded(RejectCode::NoSeparator),
        }
    }

    /// Returns the fault for anything in the place of a value. `expected` is as in [`unexpected`](Self::unexpected).
    #[cold]
    pub(crate) fn no_value(&self, expected: &'static str) -> Fault {
        let fault = self.unexpected(expected);
        if fault.kind == FaultKind::Truncated { fault } else { fault.coded(RejectCode::NoValue) }
    }

    #[cold]
    fn truncated(&self, expected: &'static str) -> Fault {
        let reason = format!("the line ends too early, {expected}").into();
        Fault { at: self.bytes.len(), kind: FaultKind::Truncated, code: RejectCode::CutOff, reason }
    }

    /// Enters a container; every success is paired with a [`leave`](Self::leave).
    #[inline]
    pub(crate) fn enter(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::shape(self.at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Reads a string literal.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Result<Text, Fault> {
        self.expect(b'"', "expected '\"' at the start of a string")?;
        let start = self.at;
        self.at += plain_prefix(&self.bytes[start..]);
        if self.peek() == Some(b'"') {
            let end = self.at;
            self.at += 1;
            return Ok(Text { start, end, escaped: false });
        }
        self.rest_of_string(start)
    }

    /// Reads the rest of a string from its first special byte.
    #[inline(never)]
    fn rest_of_string(&mut self, start: usize) -> Result<Text, Fault> {
        let mut escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let text = Text { start, end: self.at, escaped };
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                None => return Err(self.truncated("expected '\"' at the end of a string")),
                Some(_) => {
                    return Err(Fault::syntax(self.at, "control character inside a string")
                        .coded(RejectCode::ControlCharacter));
                }
            }
            self.at += plain_prefix(&self.bytes[self.at..]);
        }
    }

    /// Returns whether `levels` more containers can be entered here.
    #[inline]
    pub(crate) fn has_room_below(&self, levels: u32) -> bool {
        self.depth + levels <= MAX_DEPTH
    }

    #[cold]
    fn escape(&mut self) -> Result<(), Fault> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                let unit = self.code_unit(start)?;
                match unit {
                    0xd800..=0xdbff => {
                        let low = self.at;
                        let paired = self.bytes[low..].starts_with(b"\\u")
                            && matches!(
                                {
                                    self.at += 1;
                                    self.code_unit(low)
                                },
                                Ok(0xdc00..=0xdfff)
                            );
                        if !paired {
                            return Err(Fault::syntax(start, "half of a surrogate pair in a \\u escape"));
                        }
                        Ok(())
                    }
                    0xdc00..=0xdfff => Err(Fault::syntax(start, "half of a surrogate pair in a \\u escape")),
                    _ => Ok(()),
                }
            }
            None => Err(self.truncated("expected the rest of an escape")),
            Some(_) => {
                Err(Fault::syntax(start, "backslash that begins no JSON escape").coded(RejectCode::Escape))
            }
        }
    }

    /// Reads the four digits of a `\\u` escape; the cursor is at the `u`.
    fn code_unit(&mut self, escape_start: usize) -> Result<u16, Fault> {
        let digits = self.bytes.get(self.at + 1..self.at + 5);
        let digits = digits.ok_or_else(|| self.truncated("expected the rest of an escape"))?;
        let unit = super::decode_hex::<2>(digits).ok_or_else(|| {
            Fault::syntax(escape_start, "\\u escape without four hexadecimal digits")
                .coded(RejectCode::Escape)
        })?;
        self.at += 5;
        Ok(u16::from_be_bytes(unit))
    }

    /// Reads a number literal and returns its range.
    pub(crate) fn number(&mut self) -> Result<(usize, usize), Fault> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.skip_digits(),
            _ => return Err(self.no_value("expected a value")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.some_digits()?;
        }
        if let Some(b'0'..=b'9') = self.peek() {
            return Err(Fault::syntax(start, "number with a leading zero"));
        }
        Ok((start, self.at))
    }

    fn some_digits(&mut self) -> Result<(), Fault> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.no_value("expected a digit"));
        }
        self.skip_digits();
        Ok(())
    }

    #[inline]
    fn skip_digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }

    /// Consumes `true`, `false` or `null`.
    pub(crate) fn word(&mut self, word: &'static str) -> Result<(), Fault> {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else if word.as_bytes().starts_with(rest) {
            self.at = self.bytes.len();
            Err(self.unexpected("expected the rest of a word"))
        } else {
            Err(self.no_value("expected a value"))
        }
    }

    /// Checks and skips any value.
    pub(crate) fn skip_value(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => self.object(|cursor, _, _| cursor.skip_value()),
            Some(b'[') => self.array(|cursor, _| cursor.skip_value()),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.number().map(drop),
        }
    }

    /// Reads an object. For each member, calls `member` with the start of the member and its key; `member` must consume
    /// the value.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, usize, Text) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.expect(b'{', "expected '{' at the start of an object")?;
        self.enter()?;
        self.skip_whitespace();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                let start = self.at;
                let key = self.key()?;
                member(self, start, key)?;
                if self.closes(b'}', "expected ',' or '}' after a value")? {
                    break;
                }
            }
        }
        self.leave();
        Ok(())
    }

    /// Reads an array. For each element, calls `element` with its start; `element` must consume the element.
    pub(crate) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self, usize) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.expect(b'[', "expected '[' at the start of an array")?;
        self.enter()?;
        self.skip_whitespace();
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                let start = self.at;
                element(self, start)?;
                if self.closes(b']', "expected ',' or ']' after a value")? {
                    break;
                }
            }
        }
        self.leave();
        Ok(())
    }

    /// Reads a key and its colon, and the white space up to the value.
    #[inline(always)]
    pub(crate) fn key(&mut self) -> Result<Text, Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("expected '\"' at the start of a key"));
        }
        let key = self.string()?;
        self.skip_whitespace();
        self.expect(b':', "expected ':' after a key")?;
        self.skip_whitespace();
        Ok(key)
    }

    /// Reads the separator after a value. Returns true at the end of the container, false before the next child.
    #[inline(always)]
    pub(crate) fn closes(&mut self, closing: u8, otherwise: &'static str) -> Result<bool, Fault> {
        self.skip_whitespace();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.skip_whitespace();
                if self.peek() == Some(closing) {
                    return Err(Fault::syntax(self.at, "trailing comma").coded(RejectCode::TrailingComma));
                }
                Ok(false)
            }
            Some(byte) if byte == closing => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.unexpected(otherwise)),
        }
    }
}

/// Returns the end of the plain text that begins at `at`, if the next special byte is a quote.
#[inline(always)]
pub(crate) fn plain_text_end(bytes: &[u8], at: usize) -> Option<usize> {
    let end = at + plain_prefix(bytes.get(at..)?);
    (bytes.get(end) == Some(&b'"')).then_some(end)
}

/// Returns the number of leading bytes that are neither a quote, a backslash nor a control character. Checks eight
/// bytes at a time, because most of a line is inside strings.
#[inline(always)]
pub(crate) fn plain_prefix(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        // The subtraction borrows from a byte's own high bit where the byte is smaller. Of the bytes whose high bit was
        // clear, the first that borrows is one of the three kinds.
        let quote = (word ^ (ONES * 0x22)).wrapping_sub(ONES);
        let backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
        let control = word.wrapping_sub(ONES * 0x20);
        let special = (quote | backslash | control) & !word & HIGHS;
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + plain_prefix_of_few(&bytes[at..])
}

/// Checks the last bytes of the text one at a time.
#[cold]
#[inline(never)]
fn plain_prefix_of_few(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn skip(text: &str) -> Result<usize, Fault> {
        let mut cursor = Cursor::new(text.as_bytes(), 0);
        cursor.skip_value()?;
        Ok(cursor.at)
    }

    #[test]
    fn every_kind_of_value_is_skipped_to_its_end() {
        for text in [
            "{}",
            "[]",
            r#""a""#,
            r#""\u00e9\ud83d\ude00\n\/""#,
            "0",
            "-0",
            "12.5e-3",
            "1E9",
            "true",
            "false",
            "null",
            r#"{"a":[1,{"b":null}],"c":"d"}"#,
            "[ 1 , 2 ]",
            "{ \"a\" : 1 }",
        ] {
            assert_eq!(skip(text), Ok(text.len()), "{text}");
        }
    }

    #[test]
    fn faults_have_the_offset_of_the_byte_and_distinguish_truncation_from_syntax() {
        for (text, at, kind) in [
            (r#"{"a":1,}"#, 7, FaultKind::Syntax),
            ("[1,]", 3, FaultKind::Syntax),
            (r#"{"a" 1}"#, 5, FaultKind::Syntax),
            (r#"{a:1}"#, 1, FaultKind::Syntax),
            ("\"a\tb\"", 2, FaultKind::Syntax),
            (r#""a\x41""#, 2, FaultKind::Syntax),
            (r#""\ud800""#, 1, FaultKind::Syntax),
            (r#""\ude00""#, 1, FaultKind::Syntax),
            (r#""\ud800\u0041""#, 1, FaultKind::Syntax),
            (r#""\u12g4""#, 1, FaultKind::Syntax),
            ("01", 0, FaultKind::Syntax),
            ("+1", 0, FaultKind::Syntax),
            ("NaN", 0, FaultKind::Syntax),
            ("nul", 3, FaultKind::Truncated),
            (r#"{"a":"b"#, 7, FaultKind::Truncated),
            (r#"{"a":"b\"#, 8, FaultKind::Truncated),
            (r#"{"a":"b\u00"#, 11, FaultKind::Truncated),
            (r#"{"a":1"#, 6, FaultKind::Truncated),
            (r#"{"a""#, 4, FaultKind::Truncated),
            ("[1.", 3, FaultKind::Truncated),
            ("", 0, FaultKind::Truncated),
        ] {
            let fault = skip(text).unwrap_err();
            assert_eq!((fault.at, fault.kind), (at, kind), "{text}: {fault:?}");
        }
    }

    #[test]
    fn deep_nesting_is_rejected_before_the_stack_overflows() {
        let fault = skip(&"[".repeat(100_000)).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Shape);
        assert!(skip(&format!("{}{}", "[".repeat(128), "]".repeat(128))).is_ok());
    }

    proptest! {
        #[test]
        fn the_cursor_accepts_what_serde_json_accepts(text in r#"[\[\]{}:,"\\a0-9eE.+\- \tnul]{0,24}"#) {
            let ours = skip(text.trim_matches([' ', '\t'])).is_ok_and(|end| end == text.trim_matches([' ', '\t']).len());
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            // A float beyond the range of a double is valid JSON, but serde_json rejects it.
            let too_large = theirs.as_ref().is_err_and(|error| error.to_string().contains("out of range"));
            prop_assert_eq!(ours, theirs.is_ok() || too_large, "{}", text);
        }

        #[test]
        fn the_plain_prefix_ends_at_the_first_special_byte(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let expected = bytes.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f)).unwrap_or(bytes.len());
            prop_assert_eq!(plain_prefix(&bytes), expected);
        }
    }
}
