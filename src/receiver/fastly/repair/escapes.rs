//! Copies the content of strings: plain text, JSON escapes, and escapes of other languages.

use super::Repairer;
use crate::event::Repair;
use crate::otlp::decode_hex;
use crate::otlp::json::plain_prefix;

// === impl Repairer ===

impl Repairer<'_> {
    /// Copies bytes that are neither quote, backslash nor control character, invalid UTF-8 replaced.
    pub(super) fn plain(&mut self) {
        let rest = &self.input[self.at..];
        let length = plain_prefix(rest);
        match std::str::from_utf8(&rest[..length]) {
            Ok(text) => self.out.extend_from_slice(text.as_bytes()),
            Err(_) => self.replace_invalid(&rest[..length]),
        }
        self.at += length;
    }

    fn replace_invalid(&mut self, text: &[u8]) {
        self.out.extend_from_slice(String::from_utf8_lossy(text).as_bytes());
        self.note(Repair::InvalidUtf8);
    }

    /// Copies an escape; the cursor stands on the backslash.
    pub(super) fn escape(&mut self) -> Option<()> {
        match *self.input.get(self.at + 1)? {
            escape @ (b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.out.extend_from_slice(&[b'\\', escape]);
                self.at += 2;
            }
            b'u' => self.unicode_escape(),
            b'x' if self.hex_byte(self.at).is_some() => self.hex_escapes(),
            b'v' => {
                self.at += 2;
                self.escaped('\u{b}');
                self.note(Repair::HexEscape);
            }
            b'\'' => {
                self.out.push(b'\'');
                self.at += 2;
                self.note(Repair::HexEscape);
            }
            _ => self.loose_backslash(),
        }
        Some(())
    }

    /// Copies `\uHHHH`, and replaces half of a surrogate pair.
    fn unicode_escape(&mut self) {
        let unit = |at: usize| {
            let digits = self.input.get(at..at + 6)?.strip_prefix(b"\\u")?;
            decode_hex::<2>(digits).map(u16::from_be_bytes)
        };
        let length = match (unit(self.at), unit(self.at + 6)) {
            (None, _) => return self.loose_backslash(),
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                self.at += 6;
                self.out.extend_from_slice("\u{fffd}".as_bytes());
                return self.note(Repair::LoneSurrogate);
            }
            (Some(_), _) => 6,
        };
        self.out.extend_from_slice(&self.input[self.at..self.at + length]);
        self.at += length;
    }

    /// Decodes the `\xHH` at `at`.
    fn hex_byte(&self, at: usize) -> Option<u8> {
        let digits = self.input.get(at..at + 4)?.strip_prefix(b"\\x")?;
        decode_hex::<1>(digits).map(|[byte]| byte)
    }

    /// Copies a run of `\xHH`, which together are UTF-8, as VCL's `cstr_escape` writes it.
    fn hex_escapes(&mut self) {
        let mut bytes = Vec::new();
        while let Some(byte) = self.hex_byte(self.at) {
            bytes.push(byte);
            self.at += 4;
        }
        self.note(Repair::HexEscape);
        for character in String::from_utf8_lossy(&bytes).chars() {
            self.escaped(character);
        }
    }

    /// Escapes a backslash that begins no escape.
    fn loose_backslash(&mut self) {
        self.out.extend_from_slice(b"\\\\");
        self.at += 1;
        self.note(Repair::LooseBackslash);
    }

    /// Writes a character, as an escape where JSON requires one.
    pub(super) fn escaped(&mut self, character: char) {
        match character {
            '"' | '\\' => self.out.extend_from_slice(&[b'\\', character as u8]),
            '\n' => self.out.extend_from_slice(b"\\n"),
            '\r' => self.out.extend_from_slice(b"\\r"),
            '\t' => self.out.extend_from_slice(b"\\t"),
            '\0'..='\u{1f}' => self.out.extend_from_slice(format!("\\u{:04x}", character as u32).as_bytes()),
            _ => self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}
