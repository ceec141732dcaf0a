//! Bodies of good units and junk, from the choices that the bytes of an input represent.

use super::{MAX_PIECES, QUOTED};

/// Sequence of choices that the bytes of an input represent.
pub(super) struct Recipe<'a> {
    choices: std::slice::Iter<'a, u8>,
    /// Number of the next unit, so that units differ.
    unit: u64,
}

const CLASSIC: &str = "<134>2026-03-05T09:14:07Z cache-osl6528 edge-otel[41203]: ";
const LOGPLEX: &str = "370 <134>1 2026-03-05T09:14:07+00:00 edge vcl otel - - ";
const LOGGLY: &str = "<134>1 2026-03-05T09:14:07Z - - - - [0f0e0d0c@41058 tag=\"edge\"] ";

const JUNK: [&str; 14] = [
    "plain text",
    "[2026-03-05 09:14:07] cache warmed",
    "[1,2,3]",
    "{\"message\":\"other JSON\"}",
    "{\"a\":[",
    "{\"resourceSpans\":[{\"scopeSpans\":[",
    "[{\"x\"",
    "17",
    "\"text\"",
    "\\",
    "{\"a\" \"b\"",
    "<134>no object",
    "GET / \"quoted\" {",
    "\u{c}",
];

impl<'a> Recipe<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { choices: input.iter(), unit: 0 }
    }

    fn next(&mut self, below: usize) -> usize {
        self.choices.next().map_or(0, |choice| *choice as usize % below)
    }

    /// Returns a body, and its units in order.
    pub(super) fn body(mut self) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (mut body, mut units) = (Vec::new(), Vec::new());
        let mut pieces = 0;
        while self.choices.len() > 0 && pieces < MAX_PIECES {
            self.piece(&mut body, &mut units);
            let end = ["\n", "\n", "\r\n", "\r", "\n\n", ",\n"][self.next(6)];
            body.extend_from_slice(end.as_bytes());
            pieces += 1;
        }
        (body, units)
    }

    fn piece(&mut self, body: &mut Vec<u8>, units: &mut Vec<Vec<u8>>) {
        match self.next(13) {
            0 | 1 => {
                let before = ["", "", " ", "\u{feff}", CLASSIC, LOGPLEX, LOGGLY, "\t"][self.next(8)];
                body.extend_from_slice(before.as_bytes());
                self.unit(body, units);
            }
            2 => self.several(body, units),
            3 => self.pretty(body, units),
            4 => self.array(body, units),
            5 => self.pretty_array(body, units),
            6 => self.frames(body, units),
            7 => self.cut(body),
            8 => {
                // A truncated line directly followed by a unit.
                self.cut(body);
                let between = ["", " ", ", ", LOGPLEX][self.next(4)];
                body.extend_from_slice(between.as_bytes());
                self.unit(body, units);
            }
            9 => {
                self.unit(body, units);
                body.extend_from_slice(b" xx ");
                self.unit(body, units);
                body.extend_from_slice(["", " [x", "}", " y"][self.next(4)].as_bytes());
            }
            10 => body
                .extend_from_slice(b"{\n  \"timestamp\": \"t\",\n  \"tags\": [\n    1,\n    \"x\"\n  ]\n}"),
            12 => self.between(body, units),
            _ => body.extend_from_slice(JUNK[self.next(JUNK.len())].as_bytes()),
        }
    }

    fn text(&mut self) -> String {
        self.unit += 1;
        let number = self.unit;
        let names =
            ["GET /", "a {b}", "[x] \\\"q\\\" \\\\", "{\\\"resourceSpans\\\":[]}", "é ☃", "}]}", "a, b", ""];
        let name = names[self.next(names.len())];
        let span =
            format!("{{\"traceId\":\"{number:032x}\",\"spanId\":\"{number:016x}\",\"name\":\"{name}\"}}");
        let scopes = format!("[{{\"scopeSpans\":[{{\"spans\":[{span}]}}]}}]");
        match self.next(4) {
            0 => format!("{{ \"resourceSpans\":{scopes}}}"),
            1 => format!("{{\"x\":{number},\"resourceSpans\":{scopes}}}"),
            _ => format!("{{\"resourceSpans\":{scopes}}}"),
        }
    }

    fn unit(&mut self, body: &mut Vec<u8>, units: &mut Vec<Vec<u8>>) {
        let text = self.text();
        body.extend_from_slice(text.as_bytes());
        units.push(text.into_bytes());
    }

    /// Appends several units on one line.
    fn several(&mut self, body: &mut Vec<u8>, units: &mut Vec<Vec<u8>>) {
        for _ in 0..=self.next(3) {
            self.unit(body, units);
            body.extend_from_slice(["", " ", ",", " , "][self.next(4)].as_bytes());
        }
    }

    fn pretty_text(&mut self) -> String {
        let value: serde_json::Value = serde_json::from_str(&self.text()).expect("units are JSON");
        let text = serde_json::to_string_pretty(&value).expect("units are JSON");
        text.replace('\n', ["\n", "\r\n", "\r"][self.next(3)])
    }

    fn pretty(&mut self, body: &mut Vec<u8>, units: &mut Vec<Vec<u8>>) {
        let text = self.pretty_text();
        body.extend_from_slice(text.as_bytes());
        units.push(text.into_bytes());
    }

    /// Appends an array on one line, with some elements that are not units.
    fn array(&mut self, body: &mut Vec<u8>, units: &mut Vec<Vec<u8>>) {
        body.extend_from_slice(["", CLASSIC, " "][self.next(3)].as_bytes());
        body.push(b'[');
        for _ in 0..=self.next(3) {
            self.unit(body, units);
            body.extend_from_slice([",", ", ", ",{\"a\":1},", ",{\"a\":\"GET,"][self.next(4)].as_bytes());
        }
        self.unit(body, units);
        body.extend_from_slice(["]", "", " ]"][self.next(3)].as_bytes());
    }

    fn pretty_array(&mut self, body: &mut Vec<u8>, units: &mut Vec<Vec<u8>>) {
        let separator = ["\n", "\r\n", "\r"][self.next(3)];
        body.extend_from_slice(b"[");
        body.extend_from_slice(separator.as_bytes());
        for _ in 0..=self.next(3) {
            let bad = ["", "5,", "{\"a\":1},", "{\"resourceSpans\":[{\"a\":\"GET"][self.next(4)];
            if !bad.is_empty() {
                body.extend_from_slice(bad.as_bytes());
                body.extend_from_slice(separator.as_bytes());
            }
            match self.next(2) {
                0 => self.unit(body, units),
                _ => self.pretty(body, units),
            }
            body.extend_from_slice(b",");
            body.extend_from_slice(separator.as_bytes());
        }
        self.unit(body, units);
        body.extend_from_slice(separator.as_bytes());
        body.extend_from_slice(b"]");
    }

    /// Appends octet-counted frames without line ends, of units and of text.
    fn frames(&mut self, body: &mut Vec<u8>, units: &mut Vec<Vec<u8>>) {
        for _ in 0..=self.next(4) {
            let text = ["hello", "a [b], \"c", "}", "<7>5 <7>"][self.next(4)];
            match self.next(4) {
                0 => body.extend_from_slice(counted_frame(text).as_bytes()),
                1 => {
                    let unit = self.text();
                    body.extend_from_slice(counted_frame(&unit).as_bytes());
                    units.push(unit.into_bytes());
                }
                _ => {
                    body.extend_from_slice(LOGPLEX.as_bytes());
                    self.unit(body, units);
                }
            }
        }
    }

    /// Appends units between the lines of a value without its last brace and a line with such a brace.
    fn between(&mut self, body: &mut Vec<u8>, units: &mut Vec<Vec<u8>>) {
        let line_end = ["\n", "\r\n", "\r"][self.next(3)];
        let open = self.text();
        body.extend_from_slice(&open.as_bytes()[..open.len() - 1]);
        for _ in 0..=self.next(3) {
            let before = ["", "[", " , ", "\u{feff}", CLASSIC, LOGPLEX, LOGGLY, "[["][self.next(8)];
            body.extend_from_slice([line_end, before].concat().as_bytes());
            match self.next(3) {
                0 => self.unit(body, units),
                _ => self.repairable(body, units),
            }
        }
        let close = ["}", "end of block }", "]}", "} done"][self.next(4)];
        body.extend_from_slice([line_end, close].concat().as_bytes());
    }

    fn repairable(&mut self, body: &mut Vec<u8>, units: &mut Vec<Vec<u8>>) {
        self.unit += 1;
        let (number, name) = (self.unit, QUOTED[0]);
        let span =
            format!("{{\"traceId\":\"{number:032x}\",\"spanId\":\"{number:016x}\",\"name\":\"{name}\"}}");
        let text = format!("{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{span}]}}]}}]}}");
        body.extend_from_slice(text.as_bytes());
        units.push(text.into_bytes());
    }

    /// Appends a truncated unit.
    fn cut(&mut self, body: &mut Vec<u8>) {
        let text = self.text();
        let end = 1 + (self.next(256) * (text.len() - 1)) / 256;
        let end = (1..=end).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(1);
        let before = ["", CLASSIC, LOGPLEX, "\u{feff}"][self.next(4)];
        body.extend_from_slice(before.as_bytes());
        body.extend_from_slice(&text.as_bytes()[..end]);
    }
}

fn counted_frame(text: &str) -> String {
    let frame = format!("<134>1 - edge vcl - - - {text}");
    format!("{} {frame}", frame.len())
}
