//! Excerpts of lines around a column, with values masked if they are hidden.
//!
//! In: a line as received, which need not be JSON. Out: text of bounded length without invisible or control characters.
//! Promises: with hidden values only punctuation, whitespace, OTLP's own field names and the names of attributes are shown;
//! every other character is a dot, so that the position of the error and the structure around it remain visible.

use std::ops::Range;

use super::view::{ExcerptView, Values};

/// Number of bytes shown before the column.
const BEFORE: usize = 120;
/// Number of bytes shown from the column on.
const AFTER: usize = 80;
/// Maximum length of the name of an attribute, in bytes; a longer one is masked.
const MAX_NAME: usize = 128;
/// Placeholder for a masked character.
const DOT: char = '•';

/// Words of OTLP/JSON and JSON, which are never masked.
const WORDS: [&str; 48] = [
    "resourceSpans",
    "resourceLogs",
    "resourceMetrics",
    "resource",
    "scopeSpans",
    "scopeLogs",
    "scopeMetrics",
    "scope",
    "instrumentationLibrarySpans",
    "instrumentationLibraryLogs",
    "instrumentationLibrary",
    "spans",
    "logRecords",
    "logs",
    "metrics",
    "traceId",
    "spanId",
    "parentSpanId",
    "traceState",
    "name",
    "kind",
    "startTimeUnixNano",
    "endTimeUnixNano",
    "timeUnixNano",
    "observedTimeUnixNano",
    "severityNumber",
    "severityText",
    "body",
    "eventName",
    "status",
    "code",
    "message",
    "events",
    "links",
    "flags",
    "attributes",
    "key",
    "value",
    "stringValue",
    "intValue",
    "doubleValue",
    "boolValue",
    "arrayValue",
    "kvlistValue",
    "bytesValue",
    "null",
    "true",
    "false",
];

/// Returns the text around a column, which counts bytes from 1.
pub(super) fn excerpt(line: &[u8], column: u32, values: Values) -> ExcerptView {
    let place = (column.max(1) as usize - 1).min(line.len());
    let (before, after) = line.split_at(place);
    let start = before.len().saturating_sub(BEFORE);
    let end = after.len().min(AFTER);
    let shown = |part: Range<usize>| match values {
        Values::Shown => visible(&line[part]),
        Values::Hidden => masked(line, part),
    };
    // Drop a character that was cut in half.
    let broken = if start > 0 { continuation_bytes(&before[start..]) } else { 0 };
    let after_shown = shown(place..place + end);
    let mut rest = after_shown.chars();
    let at = rest.next().map(String::from).unwrap_or_default();
    ExcerptView {
        before: shown(start + broken..place),
        at,
        after: rest.collect(),
        cut_before: start > 0,
        cut_after: end < after.len(),
    }
}

/// Replaces invisible and control characters by visible ones.
pub(super) fn visible(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.extend(chunk.valid().chars().map(|c| match c {
            // Unicode's control pictures.
            '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
            '\x7f' => '\u{2421}',
            '\u{80}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' => '\u{fffd}',
            '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' => '\u{fffd}',
            c => c,
        }));
        if !chunk.invalid().is_empty() {
            text.push('\u{fffd}');
        }
    }
    text
}

/// Returns a part of a line without its values.
fn masked(line: &[u8], part: Range<usize>) -> String {
    let mut text = String::new();
    let mut from = part.start;
    for name in attribute_names(line, &part) {
        let (start, end) = (name.start.max(from), name.end.min(part.end));
        text.push_str(&without_values(&line[from..start]));
        text.push_str(&visible(&line[start..end]));
        from = end;
    }
    text + &without_values(&line[from..part.end])
}

/// Returns the positions of the names of attributes that overlap a part of a line, in order.
///
/// The line need not be JSON, and a value may contain text that looks like a member. So a name is recognized only by all that
/// OTLP has around it: `{"key":"NAME","value":{"stringValue"`.
fn attribute_names(line: &[u8], part: &Range<usize>) -> Vec<Range<usize>> {
    const KEY: &[u8] = b"\"key\"";
    // A name that ends in the part begins not much earlier.
    let start = part.start.saturating_sub(2 * MAX_NAME);
    let near = &line[start..part.end];
    let keys = memchr::memmem::find_iter(near, KEY).map(|at| start + at);
    let names = keys.filter_map(|at| {
        let mut rest = ExcerptCursor { line, at: at + KEY.len() };
        rest.expect(b":")?;
        rest.expect(b"\"")?;
        let name = rest.name()?;
        rest.expect(b"\"")?;
        rest.expect(b",")?;
        rest.expect(b"\"value\"")?;
        rest.expect(b":")?;
        rest.expect(b"{")?;
        rest.expect(b"\"")?;
        let is_first = line[..at].trim_ascii_end().ends_with(b"{");
        (is_first && rest.is_kind_of_value()).then_some(name)
    });
    names.filter(|name| name.start < part.end && name.end > part.start).collect()
}

/// Reader of the text around the name of an attribute.
struct ExcerptCursor<'a> {
    line: &'a [u8],
    at: usize,
}

// === impl ExcerptCursor ===

impl ExcerptCursor<'_> {
    /// Skips white space and this text; returns `None` if the line continues otherwise.
    fn expect(&mut self, text: &[u8]) -> Option<()> {
        let rest = self.line.get(self.at..)?;
        let blanks = rest.len() - rest.trim_ascii_start().len();
        self.at += blanks + text.len();
        rest[blanks..].starts_with(text).then_some(())
    }

    /// Reads a name, up to the quote after it.
    fn name(&mut self) -> Option<Range<usize>> {
        let rest = self.line.get(self.at..)?;
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(byte);
        let length = rest.iter().take(MAX_NAME + 1).take_while(|byte| is_name(byte)).count();
        let name = self.at..self.at + length;
        self.at = name.end;
        (1..=MAX_NAME).contains(&length).then_some(name)
    }

    fn is_kind_of_value(&self) -> bool {
        const KINDS: [&str; 7] = ["string", "int", "double", "bool", "array", "kvlist", "bytes"];
        let rest = self.line.get(self.at..).unwrap_or_default();
        KINDS
            .iter()
            .any(|kind| rest.strip_prefix(kind.as_bytes()).is_some_and(|rest| rest.starts_with(b"Value\"")))
    }
}

/// Masks every character that may belong to a value.
fn without_values(bytes: &[u8]) -> String {
    let text = visible(bytes);
    let mut masked = String::with_capacity(text.len());
    let mut word = String::new();
    let mut previous = '\0';
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            flush(&mut word, previous, &mut masked);
            masked.push(if is_punctuation(c) { c } else { DOT });
            previous = c;
        }
    }
    flush(&mut word, previous, &mut masked);
    masked
}

/// Appends a finished word: unchanged if it is a word of OTLP, else masked. The letter of an escape is kept.
fn flush(word: &mut String, before: char, masked: &mut String) {
    if WORDS.contains(&word.as_str()) {
        masked.push_str(word);
    } else {
        let is_escape = before == '\\' && word.starts_with(['b', 'f', 'n', 'r', 't', 'u', 'x']);
        let mut letters = word.chars();
        masked.extend(letters.next().map(|letter| if is_escape { letter } else { DOT }));
        masked.extend(letters.map(|_| DOT));
    }
    word.clear();
}

fn is_punctuation(c: char) -> bool {
    matches!(c, '{' | '}' | '[' | ']' | '(' | ')' | '<' | '>' | ':' | ',' | '"' | '\\' | ' ')
        || matches!(c, '\u{2400}'..='\u{2421}' | '\u{fffd}')
}

fn continuation_bytes(bytes: &[u8]) -> usize {
    bytes.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(line: &str, column: u32, values: Values) -> (String, String, String) {
        let ExcerptView { before, at, after, .. } = excerpt(line.as_bytes(), column, values);
        (before, at, after)
    }

    #[test]
    fn masking_keeps_the_structure_and_the_words_of_otlp() {
        let line = r#"{"key":"user.email","value":{"stringValue":"jo "x" \xC3 (null)"}}"#;
        let (before, at, after) = parts(line, 49, Values::Hidden);
        assert_eq!(before, r#"{"key":"user.email","value":{"stringValue":"•• ""#);
        assert_eq!(at, "•");
        assert_eq!(after, r#"" \x•• (null)"}}"#);
    }

    #[test]
    fn the_names_of_attributes_are_shown_wherever_the_excerpt_is_cut() {
        let line = r#"{"key":"a.b","value":{"intValue":"7"}},{"key":"c_d-e","value":{"boolValue":x"#;
        for column in 1..=line.len() {
            let (before, at, after) = parts(line, u32::try_from(column).unwrap(), Values::Hidden);
            let shown = before + &at + &after;
            assert!(shown.contains("\"a.b\"") && shown.contains("\"c_d-e\""), "{column}: {shown}");
            assert!(!shown.contains('7') && !shown.contains('x'), "{column}: {shown}");
        }
        let spaced = r#"{ "key" : "http.url" , "value" : { "intValue":"7"#;
        let long = format!("{}{spaced}", "{".repeat(BEFORE - 14));
        let (before, ..) = parts(&long, u32::try_from(BEFORE + 2).unwrap(), Values::Hidden);
        assert!(before.ends_with(r#"{ "key" : "http"#), "{before}");
    }

    #[test]
    fn text_that_is_only_like_the_name_of_an_attribute_is_masked() {
        for line in [
            // A body that VCL did not escape.
            r#"{"stringValue":"{"key":"hunter"}"#,
            r#"{"stringValue":"{"key":"hunter","value":"hunter"}"#,
            r#"{"stringValue":"{\"key\":\"hunter\",\"value\":{\"stringValue\":\"hunter"#,
            r#"{"key":"hunter"#,
            r#"{"key":"hunter","value":{""#,
            r#"{"key":"hunter hunter","value":{"stringValue":"#,
            r#"{"a":1,"key":"hunter","value":{"stringValue":"#,
            r#"{"name":"hunter","value":{"stringValue":"#,
        ] {
            let (before, at, after) = parts(line, 20, Values::Hidden);
            let shown = before + &at + &after;
            assert!(!shown.contains("hunter"), "{shown}");
        }
        let long = format!(r#"{{"key":"{}","value":{{"stringValue":"#, "h".repeat(MAX_NAME + 1));
        assert!(!parts(&long, 100, Values::Hidden).0.contains('h'));
    }

    #[test]
    fn masking_hides_every_value() {
        for secret in ["hunter2", "4111 1111", "/a/b?c=d", "päss", "日本", "a_b-c.d@e", "stringValueX"] {
            let line = format!(r#"{{"key":"k","value":{{"stringValue":"{secret}"#);
            let ExcerptView { before, at, after, .. } = excerpt(line.as_bytes(), 30, Values::Hidden);
            let shown = format!("{before}{at}{after}");
            let kept = secret.chars().filter(|c| c.is_alphanumeric()).find(|c| {
                shown.replace("stringValue", "").replace("value", "").replace("key", "").contains(*c)
            });
            assert_eq!(kept, None, "{shown}");
        }
    }

    #[test]
    fn shown_values_are_unchanged_except_for_invisible_characters() {
        let (before, at, after) = parts("{\"a\":\"b\tc\u{202e}d\"", 8, Values::Shown);
        assert_eq!((before.as_str(), at.as_str(), after.as_str()), ("{\"a\":\"b", "␉", "c\u{fffd}d\""));
    }

    #[test]
    fn long_lines_are_cut_on_both_sides_between_characters() {
        let line = format!("{}X{}", "ä".repeat(500), "b".repeat(500));
        let cut = excerpt(line.as_bytes(), 1001, Values::Shown);
        assert!(cut.cut_before && cut.cut_after && cut.at == "X");
        assert!(cut.before.chars().all(|c| c == 'ä') && cut.before.len() <= BEFORE);
        let end = excerpt(b"ab", 4_000_000_000, Values::Shown);
        assert_eq!((end.before.as_str(), end.at.as_str(), end.cut_after), ("ab", "", false));
        assert_eq!(excerpt(b"", 0, Values::Hidden).before, "");
    }
}
