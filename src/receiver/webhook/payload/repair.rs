//! Repairs bytes that make an authentic body invalid JSON although its meaning is clear.
//!
//! In: the decoded body. Out: [`RepairedPayload`] text in which byte order marks are gone, raw control bytes are escaped, and
//! invalid UTF-8 and lone surrogates are U+FFFD.
//! Promises: a body that needs no repair is borrowed unchanged; every offset of the text leads back to the input.
//! Leaves to others: everything else that JSON requires ([`object`](super::object)).

use std::borrow::Cow;
use std::ops::Range;

use crate::event::Repair;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A body as text.
#[derive(Debug)]
pub(in crate::receiver) struct RepairedPayload<'a> {
    /// The input.
    pub(in crate::receiver) body: &'a [u8],
    pub(in crate::receiver) text: Cow<'a, str>,
    /// Kinds of repairs that were made, each once.
    pub(in crate::receiver) repairs: Vec<Repair>,
    shifts: Vec<Shift>,
}

/// The end of a replacement. After it, text and input agree again.
#[derive(Debug)]
struct Shift {
    in_text: usize,
    in_body: usize,
}

/// Copies the body up to each replacement.
struct PayloadWriter<'a> {
    body: &'a [u8],
    text: Vec<u8>,
    copied: usize,
    repairs: Vec<Repair>,
    shifts: Vec<Shift>,
}

/// Position in the grammar, as far as repairs depend on it.
#[derive(Default)]
struct Scan {
    in_string: bool,
    /// The last byte was a backslash that escapes the next one.
    escaped: bool,
}

/// Makes a body readable as JSON if nothing else is wrong with it.
pub(in crate::receiver) fn repair(body: &[u8]) -> RepairedPayload<'_> {
    let mut writer =
        PayloadWriter { body, text: Vec::new(), copied: 0, repairs: Vec::new(), shifts: Vec::new() };
    let mut at = 0;
    let mut scan = Scan::default();
    for chunk in body.utf8_chunks() {
        scan.text(&mut writer, at, chunk.valid().as_bytes());
        at += chunk.valid().len();
        if !chunk.invalid().is_empty() {
            let end = at + chunk.invalid().len();
            // A backslash before it cannot escape it and stands for itself. Between tokens it is dropped, because JSON
            // has no text there.
            let with = match (scan.in_string, scan.escaped) {
                (false, _) => " ",
                (true, false) => "\u{fffd}",
                (true, true) => "\\\u{fffd}",
            };
            writer.replace(at..end, with);
            writer.note(Repair::InvalidUtf8);
            scan.escaped = false;
            at = end;
        }
    }
    writer.finish()
}

// === impl RepairedPayload ===

impl RepairedPayload<'_> {
    /// Returns the offset in the input of an offset in the text.
    pub(in crate::receiver) fn offset_in_body(&self, in_text: usize) -> usize {
        let shift = self.shifts.iter().rev().find(|shift| shift.in_text <= in_text);
        shift.map_or(in_text, |shift| shift.in_body + (in_text - shift.in_text)).min(self.body.len())
    }
}

// === impl Scan ===

impl Scan {
    /// Scans valid UTF-8 that begins at `start` of the body.
    fn text(&mut self, writer: &mut PayloadWriter<'_>, start: usize, text: &[u8]) {
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            let here = start + at;
            let escaped = std::mem::take(&mut self.escaped);
            at += 1;
            match byte {
                b'"' if !escaped => self.in_string = !self.in_string,
                b'\\' if self.in_string => self.escaped = !escaped,
                b'u' if escaped => at += surrogates(writer, start, text, at),
                b'\t' | b'\n' | b'\r' if !self.in_string => {}
                0xef if !self.in_string && text[at - 1..].starts_with(BYTE_ORDER_MARK) => {
                    writer.replace(here..here + BYTE_ORDER_MARK.len(), "");
                    at += BYTE_ORDER_MARK.len() - 1;
                }
                0..0x20 => {
                    let backslash = if escaped { "\\" } else { "" };
                    let with =
                        if self.in_string { format!("{backslash}\\u{byte:04x}") } else { " ".to_owned() };
                    writer.replace(here..here + 1, &with);
                    writer.note(Repair::ControlCharacter);
                }
                _ => {}
            }
        }
    }
}

/// Replaces the digits at `digits` if they are half of a surrogate pair. Returns the number of bytes to skip.
fn surrogates(writer: &mut PayloadWriter<'_>, start: usize, text: &[u8], digits: usize) -> usize {
    const DIGITS: usize = 4;
    let unit = |at: usize| -> Option<u16> {
        let digits = text.get(at..at + DIGITS).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let low_follows = || {
        let next = digits + DIGITS;
        text[next..].starts_with(b"\\u") && matches!(unit(next + 2), Some(0xdc00..=0xdfff))
    };
    match unit(digits) {
        None => 0,
        Some(0xd800..=0xdbff) if low_follows() => 2 * DIGITS + 2,
        Some(0xd800..=0xdfff) => {
            let from = start + digits;
            writer.replace(from..from + DIGITS, "fffd");
            writer.note(Repair::LoneSurrogate);
            DIGITS
        }
        Some(_) => DIGITS,
    }
}

// === impl PayloadWriter ===

impl<'a> PayloadWriter<'a> {
    fn replace(&mut self, range: Range<usize>, with: &str) {
        self.text.extend_from_slice(&self.body[self.copied..range.start]);
        self.text.extend_from_slice(with.as_bytes());
        self.copied = range.end;
        self.shifts.push(Shift { in_text: self.text.len(), in_body: range.end });
    }

    fn note(&mut self, repair: Repair) {
        if !self.repairs.contains(&repair) {
            self.repairs.push(repair);
        }
    }

    fn finish(mut self) -> RepairedPayload<'a> {
        let text = if self.copied == 0 {
            String::from_utf8_lossy(self.body)
        } else {
            self.text.extend_from_slice(&self.body[self.copied..]);
            let text = String::from_utf8(self.text).expect("every invalid sequence was replaced");
            Cow::Owned(text)
        };
        RepairedPayload { body: self.body, text, repairs: self.repairs, shifts: self.shifts }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn repaired(body: &[u8]) -> String {
        repair(body).text.into_owned()
    }

    #[test]
    fn a_body_that_needs_no_repair_is_borrowed() {
        for body in [
            &b""[..],
            b"{\n\t\"a\" : \"\\u00e9\\\\u\\ud83d\\ude00\"\r}",
            b"not json",
            "\"\u{7f}é\"".as_bytes(),
        ] {
            let repaired = repair(body);
            assert!(matches!(repaired.text, Cow::Borrowed(text) if text.as_bytes() == body), "{repaired:?}");
            assert!(repaired.repairs.is_empty());
        }
    }

    #[test]
    fn each_fault_is_repaired_at_its_position() {
        for (body, text) in [
            (&b"\xef\xbb\xbf\xef\xbb\xbf{}"[..], "{}"),
            (
                b"\xff{\xef\xbb\xbf\"a\" \xe2\x82:1,\xef\xbb\xbf\"\xef\xbb\xbf\":2}\xff\xef\xbb\xbf",
                " {\"a\"  :1,\"\u{feff}\":2} ",
            ),
            (b"{\"a\":\"x\ty\0\"}\0", "{\"a\":\"x\\u0009y\\u0000\"} "),
            (b"\x0b{\"\x1f\":1}", " {\"\\u001f\":1}"),
            (b"\"a\xffb\xe2\x82\"", "\"a\u{fffd}b\u{fffd}\""),
            (b"\"\xed\xa0\xbd\"", "\"\u{fffd}\u{fffd}\u{fffd}\""),
            (b"\"a\\ud83d b\"", "\"a\\ufffd b\""),
            (b"\"\\uDE00\\ud83d\\ud83d\\ude00\"", "\"\\ufffd\\ufffd\\ud83d\\ude00\""),
            (b"\"\\\\ud83d\"", "\"\\\\ud83d\""),
            (b"\"\\ud83", "\"\\ud83"),
            // The backslash stands for itself: what follows it is no escape.
            (b"\"\\\xff\"", "\"\\\\\u{fffd}\""),
            (b"\"\\\n\"", "\"\\\\\\u000a\""),
        ] {
            assert_eq!(repaired(body), text, "{}", body.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_string_becomes_json_with_the_same_text_except_for_invalid_bytes(
            text in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..0x20, Just(b'u')], 0..40),
        ) {
            let text: Vec<u8> = text.into_iter().filter(|byte| !matches!(byte, b'"' | b'\\')).collect();
            let body = [b"[\"", &text[..], b"\"]"].concat();
            let read: [String; 1] = serde_json::from_str(&repaired(&body)).unwrap();
            prop_assert_eq!(&read[0], &String::from_utf8_lossy(&text));
        }

        #[test]
        fn any_escaped_code_units_are_decoded_like_lossy_utf_16(
            units in prop::collection::vec(prop_oneof![any::<u16>(), 0xd800u16..0xe000], 0..12),
        ) {
            let escapes: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let read: String = serde_json::from_str(&repaired(format!("\"{escapes}\"").as_bytes())).unwrap();
            prop_assert_eq!(read, String::from_utf16_lossy(&units));
        }

        #[test]
        fn an_offset_of_the_text_maps_to_the_same_byte_of_the_input(
            parts in prop::collection::vec(
                prop::sample::select(vec![&b"\xff"[..], b"\t", b"\\ud800", b"@", "é".as_bytes()]),
                0..12,
            ),
        ) {
            let body = [&b"\xef\xbb\xbf\""[..], &parts.concat(), b"\""].concat();
            let repaired = repair(&body);
            for (in_text, _) in repaired.text.match_indices('@') {
                prop_assert_eq!(body[repaired.offset_in_body(in_text)], b'@');
            }
            prop_assert_eq!(repaired.offset_in_body(repaired.text.len()), body.len());
        }
    }
}
