//! Repair of lines with unknown members at every level, before and after every free text.

#![expect(clippy::string_slice, reason = "a range that splits a character fails the test, as it should")]

use std::ops::Range;

use serde_json::{Deserializer, Value};

use super::*;

/// Unknown members of every kind, some with keys and values that look like structure.
const MEMBERS: &[&str] = &[
    r#""someday":"x""#,
    r#""some_day":5"#,
    r#""":"""#,
    r#""x-y":{"someday":"x"}"#,
    r#""l":["a",{"someday":"x"},[]]"#,
    r#""kinder":null"#,
    r#""a, b":{}"#,
    r#""q\"q" : true"#,
    r#""t":", ""#,
    r#""u":"}],""#,
];

/// A position in an object of a line at which a member can be inserted.
#[derive(Clone, Copy)]
struct Gap {
    at: usize,
    /// The member becomes the first one of the object.
    is_first: bool,
}

/// Lines that together have every message with free text in it or around it.
fn base_lines() -> Vec<String> {
    let spans = |fields: &str| {
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{fields},{IDS}}}]}}]}}]}}"#)
    };
    let logs =
        |fields: &str| format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{fields}}}]}}]}}]}}"#);
    let text = r#"{"key":"k","value":{"stringValue":"v"}}"#;
    vec![
        spans(r#""name":"GET /page","kind":2,"status":{"message":"it broke","code":2}"#),
        spans(r#""status":{"code":1,"message":"m"},"name":"n""#),
        spans(&format!(
            r#""attributes":[{text},{{"value":{{"arrayValue":{{"values":[{{"stringValue":"c"}}]}}}},"key":"d"}}]"#
        )),
        spans(&format!(
            r#""events":[{{"name":"the event","attributes":[{text}]}}],"links":[{{{IDS},"attributes":[{text}]}}]"#
        )),
        logs(r#""body":{"stringValue":"it said"},"eventName":"fetch","severityNumber":9"#),
        logs(&format!(r#""attributes":[{text}],"body":{{"kvlistValue":{{"values":[{text}]}}}}"#)),
        format!(
            r#"{{"resourceLogs":[{{"resource":{{"attributes":[{text}]}},"scopeLogs":[{{"scope":{{"name":"the scope","attributes":[{text}]}},"logRecords":[{{"eventName":"e"}}]}}]}}]}}"#
        ),
    ]
}

/// Every gap of a line that has no escapes.
fn gaps(line: &str) -> Vec<Gap> {
    let mut open = Vec::new();
    let mut found = Vec::new();
    for at in structure(line.as_bytes()) {
        match line.as_bytes()[at] {
            bracket @ (b'{' | b'[') => {
                open.push(bracket);
                if bracket == b'{' {
                    found.push(Gap { at: at + 1, is_first: true });
                }
            }
            byte @ (b'}' | b']' | b',') => {
                let container = if byte == b',' { open.last().copied() } else { open.pop() };
                if container == Some(b'{') {
                    found.push(Gap { at, is_first: false });
                }
            }
            _ => {}
        }
    }
    found
}

fn with_member(line: &str, Gap { at, is_first }: Gap, member: &str) -> String {
    let (before, after) = line.split_at(at);
    if is_first { format!("{before}{member},{after}") } else { format!("{before},{member}{after}") }
}

fn with_member_everywhere(line: &str, member: &str) -> String {
    gaps(line).into_iter().rev().fold(line.to_owned(), |line, gap| with_member(&line, gap, member))
}

/// The line with a comma before every bracket that closes something that isn't empty.
fn with_trailing_commas(line: &str) -> String {
    let is_trailing = |at: &usize| {
        matches!(line.as_bytes()[*at], b'}' | b']') && !line[..*at].trim_end().ends_with(['{', '['])
    };
    structure(line.as_bytes()).into_iter().rev().filter(is_trailing).fold(line.to_owned(), |mut line, at| {
        line.insert(at, ',');
        line
    })
}

/// The line with the character at `at` missing, and with that character doubled.
fn missing_and_doubled(line: &str, at: usize) -> [String; 2] {
    ["".to_owned(), line[at..=at].repeat(2)].map(|with| format!("{}{with}{}", &line[..at], &line[at + 1..]))
}

/// The base line with a member in each gap, one after the other, and in all gaps at once.
fn with_each_member(base: &str) -> Vec<String> {
    let alone = |gap| MEMBERS.iter().map(move |member| with_member(base, gap, member));
    let everywhere = MEMBERS.iter().map(|member| with_member_everywhere(base, member));
    gaps(base).into_iter().flat_map(alone).chain(everywhere).collect()
}

/// Checks that a line is rejected, or that what is exported of it was meant or is JSON in the line itself.
fn assert_no_other_data(line: &str, meant: &Value) {
    let first_value = |at| Deserializer::from_str(&line[at..]).into_iter::<Value>().next();
    let is_in_line = |exported: &Value| {
        line.match_indices('{')
            .any(|(at, _)| matches!(first_value(at), Some(Ok(value)) if value == *exported))
    };
    for exported in forwarded(read(line.as_bytes())) {
        assert!(exported == *meant || is_in_line(&exported), "other data is exported of {line}: {exported}");
    }
}

/// Ranges of the free texts in a line that has no escapes.
fn free_texts(line: &str) -> Vec<Range<usize>> {
    let ends_at_quote = |start: usize| start..start + line[start..].find('"').expect("a closing quote");
    let keys = [r#""stringValue":""#, r#""name":""#, r#""eventName":""#, r#""message":""#];
    let texts =
        keys.iter().flat_map(|key| line.match_indices(key).map(|(at, key)| ends_at_quote(at + key.len())));
    // Names of scopes and span events are not free text.
    let mut texts: Vec<_> =
        texts.filter(|text| !["the scope", "the event"].contains(&&line[text.clone()])).collect();
    texts.sort_by_key(|text| text.start);
    texts
}

/// The base line with this text, as it is and with its quotes escaped.
fn with_text(base: &str, text: &Range<usize>, value: &str) -> [String; 2] {
    let [before, after] = [&base[..text.start], &base[text.end..]];
    [value.to_owned(), value.replace('"', "\\\"")].map(|value| format!("{before}{value}{after}"))
}

#[test]
fn one_wrong_character_never_moves_an_unknown_member_into_a_text() {
    for base in base_lines() {
        for (turn, line) in with_each_member(&base).into_iter().enumerate() {
            let meant: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(forwarded(read(line.as_bytes())), std::slice::from_ref(&meant), "{line}");
            // In each gap, one of the members meets each mistake.
            let places =
                structure(line.as_bytes()).into_iter().skip(turn % MEMBERS.len()).step_by(MEMBERS.len());
            for mistake in places.flat_map(|at| missing_and_doubled(&line, at)) {
                assert_no_other_data(&mistake, &meant);
            }
        }
    }
}

#[test]
fn quotes_are_repaired_unless_an_unknown_member_follows_their_text() {
    let mut headers = HEADERS.iter().cycle();
    for base in base_lines() {
        for text in free_texts(&base) {
            for gap in gaps(&base) {
                let is_next = !gap.is_first
                    && gap.at > text.end
                    && base[text.end + 1..gap.at].bytes().all(|byte| matches!(byte, b'}' | b']'));
                for member in MEMBERS {
                    let header = headers.next().unwrap();
                    let [line, meant] = with_text(&base, &text, header).map(|line| {
                        let at = if gap.at > text.end { gap.at + line.len() - base.len() } else { gap.at };
                        with_member(&line, Gap { at, ..gap }, member)
                    });
                    let meant: &[Value] =
                        if is_next { &[] } else { &[serde_json::from_str(&meant).unwrap()] };
                    assert_eq!(forwarded(read(line.as_bytes())), meant, "{line}");
                }
            }
        }
    }
}

#[test]
fn a_wrong_member_after_a_text_with_quotes_never_becomes_a_part_of_it() {
    let mut turn = 0;
    for base in base_lines() {
        for text in free_texts(&base) {
            for (header, member) in
                HEADERS.iter().flat_map(|header| MEMBERS.iter().map(move |member| (header, member)))
            {
                let [line, meant] = with_text(&base, &text, header).map(|line| {
                    let end = line.len() - (base.len() - text.end) + 1;
                    with_member(&line, Gap { at: end, is_first: false }, member)
                });
                let meant: Value = serde_json::from_str(&meant).unwrap();
                let places = structure(format!(",{member}").as_bytes());
                turn += 1;
                let at = text.start + header.len() + 1 + places[turn % places.len()];
                for mistake in missing_and_doubled(&line, at) {
                    assert_no_other_data(&mistake, &meant);
                }
            }
        }
    }
}

#[test]
fn trailing_commas_and_control_characters_are_repaired_among_unknown_members() {
    for base in base_lines() {
        let marked = free_texts(&base).into_iter().rev().fold(base, |mut line, text| {
            line.insert(text.start, '\u{1}');
            line
        });
        for line in with_each_member(&marked) {
            let meant: Value = serde_json::from_str(&line.replace('\u{1}', "\\u0001")).unwrap();
            let line = with_trailing_commas(&line);
            let reading = read(line.as_bytes());
            assert_eq!(reading.items[0].repairs, [Repair::TrailingComma, Repair::ControlCharacter], "{line}");
            assert_eq!(forwarded(reading), [meant], "{line}");
        }
    }
}
