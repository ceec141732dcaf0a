//! Bodies of good units, units with flaws, and junk, from the choices that the bytes of an input represent.

use super::MAX_PIECES;

/// Sequence of choices that the bytes of an input represent.
pub(super) struct Recipe<'a> {
    choices: std::slice::Iter<'a, u8>,
    /// Number of the next unit, so that units differ.
    unit: u64,
}

const CLASSIC: &str = "<134>2026-03-05T09:14:07Z cache-osl6528 edge-otel[41203]: ";
const LOGPLEX: &str = "370 <134>1 2026-03-05T09:14:07+00:00 edge vcl otel - - ";
const LOGGLY: &str = "<134>1 2026-03-05T09:14:07Z - - - - [0f0e0d0c@41058 tag=\"edge\"] ";

/// Members of spans that repair replaces, and what it makes of them. Repair accepts the last one on a single line only: an
/// object over several lines is joined only where its quotes match.
pub(super) const FLAWS: [(&str, &str); 8] = [
    (r#""name":"W/"e7" x""#, r#""name":"W/\"e7\" x""#),
    (
        r#""name":""Chromium";v="124", "Brand";v="9"""#,
        r#""name":"\"Chromium\";v=\"124\", \"Brand\";v=\"9\"""#,
    ),
    (r#""name":"x={"q":"b"}""#, r#""name":"x={\"q\":\"b\"}""#),
    ("\"name\":\"tab\there\"", r#""name":"tab\there""#),
    (r#""name":"\x41\v""#, r#""name":"A\u000b""#),
    (r#""c":[1,]"#, r#""c":[1]"#),
    (r#""d":NaN"#, r#""d":"NaN""#),
    (r#""name":"5.1" tablet""#, r#""name":"5.1\" tablet""#),
];

/// Lines of nothing but brackets and commas.
const BRACKETS: [&str; 10] = ["]", "],", "[", "[]", "[[", "[ ] ]", "],[", "[,]", "[\n]", "[\n[\n1,\n2]\n]"];

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

/// Text on the line of a unit.
const TEXTS: [&str; 8] = [" xx ", "[x", "]", "x ]", "\"", "\\", "{\"a\":1}", "{\"a\" \"b\""];

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
        match self.next(16) {
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
            13 => body.extend_from_slice(BRACKETS[self.next(BRACKETS.len())].as_bytes()),
            14 => self.mixed(body, units),
            _ => body.extend_from_slice(JUNK[self.next(JUNK.len())].as_bytes()),
        }
    }

    /// Returns the next unit, with one of these flaws or with none.
    fn text_of(&mut self, flaws: &[(&str, &str)]) -> String {
        self.unit += 1;
        let number = self.unit;
        let flaw = match self.next(3) {
            0 => Some(flaws[self.next(flaws.len())].0),
            _ => None,
        };
        let names =
            ["GET /", "a {b}", "[x] \\\"q\\\" \\\\", "{\\\"resourceSpans\\\":[]}", "é ☃", "}]}", "a, b", ""];
        let member = match flaw {
            Some(member) => member.to_owned(),
            None => format!("\"name\":\"{}\"", names[self.next(names.len())]),
        };
        let span = format!("{{\"traceId\":\"{number:032x}\",\"spanId\":\"{number:016x}\",{member}}}");
        let scopes = format!("[{{\"scopeSpans\":[{{\"spans\":[{span}]}}]}}]");
        match self.next(4) {
            0 => format!("{{ \"resourceSpans\":{scopes}}}"),
            1 => format!("{{\"x\":{number},\"resourceSpans\":{scopes}}}"),
            _ => format!("{{\"resourceSpans\":{scopes}}}"),
        }
    }

    fn text(&mut self) -> String {
        self.text_of(&FLAWS)
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
        let text = self.text_of(&FLAWS[..FLAWS.len() - 1]);
        let flaw = FLAWS.iter().map(|(raw, _)| *raw).find(|raw| text.contains(raw));
        let without = text.replace(flaw.unwrap_or("\n"), r#""name":"?""#);
        let value: serde_json::Value =
            serde_json::from_str(&without).expect("units are JSON without their flaws");
        let text = serde_json::to_string_pretty(&value).expect("units are JSON");
        let text = text.replace(r#""name": "?""#, flaw.unwrap_or_default());
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

    /// Appends octet-counted frames without line ends, of units and of text. Some are truncated, some have a wrong count.
    fn frames(&mut self, body: &mut Vec<u8>, units: &mut Vec<Vec<u8>>) {
        for _ in 0..=self.next(6) {
            let text = ["hello", "a [b], \"c", "}", "<7>5 <7>", "x 5 <7>1 y", "say {", "["][self.next(7)];
            match self.next(7) {
                0 => body.extend_from_slice(counted_frame(text, 0).as_bytes()),
                1 => {
                    let error = [1, 9, 60, 400][self.next(4)];
                    body.extend_from_slice(counted_frame(text, error).as_bytes());
                }
                2 => {
                    let frame = counted_frame(&self.text(), 0);
                    let end = self.cut_length(&frame).max("123 <134>1 ".len());
                    body.extend_from_slice(&frame.as_bytes()[..end]);
                }
                3 => {
                    let mut junk = Vec::new();
                    self.cut(&mut junk);
                    let junk = String::from_utf8(junk).expect("it is cut between characters");
                    body.extend_from_slice(counted_frame(&junk, 0).as_bytes());
                }
                4 | 5 => {
                    let unit = self.text();
                    let after = ["", "", " ", " x", " <7>y"][self.next(5)];
                    body.extend_from_slice(counted_frame(&[&unit, after].concat(), 0).as_bytes());
                    units.push(unit.into_bytes());
                }
                _ => {
                    body.extend_from_slice(LOGPLEX.as_bytes());
                    self.unit(body, units);
                }
            }
        }
    }

    /// Appends units, truncated units and text on one line, in any order.
    fn mixed(&mut self, body: &mut Vec<u8>, units: &mut Vec<Vec<u8>>) {
        for _ in 0..=self.next(6) {
            let before = ["", "", "", " ", ", ", "\t", CLASSIC, LOGPLEX][self.next(8)];
            body.extend_from_slice(before.as_bytes());
            match self.next(7) {
                0 => self.cut(body),
                2 => self.pretty(body, units),
                1 => body.extend_from_slice(TEXTS[self.next(TEXTS.len())].as_bytes()),
                _ => self.unit(body, units),
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
            self.unit(body, units);
        }
        let close = ["}", "end of block }", "]}", "} done"][self.next(4)];
        body.extend_from_slice([line_end, close].concat().as_bytes());
    }

    /// Appends a truncated unit.
    fn cut(&mut self, body: &mut Vec<u8>) {
        let text = self.text();
        let end = self.cut_length(&text);
        let before = ["", CLASSIC, LOGPLEX, "\u{feff}"][self.next(4)];
        body.extend_from_slice(before.as_bytes());
        body.extend_from_slice(&text.as_bytes()[..end]);
    }

    fn cut_length(&mut self, text: &str) -> usize {
        let end = 1 + (self.next(256) * (text.len() - 1)) / 256;
        (1..=end).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(1)
    }
}

/// Returns an octet-counted frame whose count is too large by `error`.
fn counted_frame(text: &str, error: usize) -> String {
    let frame = format!("<134>1 - edge vcl - - - {text}");
    format!("{} {frame}", frame.len() + error)
}
