use super::*;

const UNIT: &str = r#"{"resourceSpans":[]}"#;

/// Frames of a body in which only [`UNIT`] can be read.
fn framed(body: &str) -> Vec<&str> {
    let read = |text: &[u8]| text.starts_with(UNIT.as_bytes()).then_some(UNIT.len());
    frames(body.as_bytes(), read).into_iter().map(|range| body.get(range).expect("frames of ASCII")).collect()
}

/// Bytes that framing looks at, which are at most a few times those of the body, and the number of frames.
fn visited(body: &[u8]) -> (usize, usize) {
    let mut frames = Frames::new(body);
    let (mut read, mut count) = (0, 0);
    while let Some(mut frame) = frames.next() {
        if frame.shape == FrameShape::Untried {
            read += frame.end - frame.start;
            frame = frames.inspect(&frame);
        }
        read += frame.end - frame.start;
        count += 1;
    }
    (read + frames.scanner.visited, count)
}

#[test]
fn hostile_bodies_are_framed_in_linear_time() {
    const LENGTH: usize = 1 << 16;
    for piece in [
        "{",
        "[",
        "\"",
        "\\",
        "{\"",
        "[{",
        "[\n",
        "{\n",
        "{}\n",
        "[1,",
        "{\"a\":",
        "{\"a\":[{\"resourceSpans\":[]},",
        "[{\"resourceSpans\":[]}[1,",
        "{\"resourceSpans\":[\n",
        "{\"resourceSpans\":\"GET\n{\"resourceSpans\":[{\"a\":\"",
        "{\"resourceSpans\" 1 {\n}\n",
        "{\"a\":1}",
        "{\"a\" \"b\"}",
        "\"{\"resourceSpans\":[]}",
        "12 <134>{",
        "8 <1>text",
        "60000 <1>",
        "{\"resourceSpans\":\n",
        "<134>[\n",
        "5,[",
        "]{\"resourceSpans\":[{}",
        "{\"resourceSpans\":[1,}",
        "{ \"resourceSpans\"",
        "{\"resourceSpans\":\"5\" b\"}",
        "x{\n\"resourceSpans\":5 6}",
        "]\n[\n",
        "[]\n[[\n",
        "[[]][",
        "9 <1>1 {\"",
        "9 <1>1 xx",
        "9 <134>1 {}",
    ] {
        for end in ["", "}", "]", "\"}]"] {
            let body = [piece.repeat(LENGTH / piece.len()).as_bytes(), end.as_bytes()].concat();
            let (bytes, frames) = visited(&body);
            assert!(bytes <= 12 * body.len(), "{bytes} for {} times {piece:?}, {frames} frames", body.len());
        }
    }
}

#[test]
fn a_line_that_begins_with_a_bracket_is_no_array_for_that() {
    for text in ["[1,2,3]", "[2026-01-01] hello", "[warn] slow", "[x"] {
        assert_eq!(framed(&format!("{text}\n{UNIT}\n{text}\n{UNIT}")), [text, UNIT, text, UNIT], "{text}");
    }
    assert_eq!(framed(&format!("{UNIT} [x\n{UNIT}\n")), [UNIT, "[x", UNIT]);
}

#[test]
fn elements_of_an_array_are_units_whatever_they_are() {
    assert_eq!(framed("[1,2,\"a,b\"]"), ["1", "2", "\"a,b\""]);
    assert_eq!(framed(&format!("[{UNIT},5,[1,2],[{UNIT}],null]\n")), [UNIT, "5", "[1,2]", UNIT, "null"]);
    assert_eq!(framed(&format!("[\n5, 6,\n{UNIT}\n]\n")), ["5", "6", UNIT]);
    assert_eq!(framed(&format!("text\n[{UNIT},5,6]\n")), ["text", UNIT, "5", "6"]);
}

#[test]
fn a_cut_string_costs_only_itself_whatever_the_next_object_begins_with() {
    let cut = r#"{"resourceSpans":[{"name":"GET"#;
    for object in
        [UNIT, r#"{ "resourceSpans":[]}"#, r#"{"x":1,"resourceSpans":[]}"#, r#"{"resource_logs":[]}"#]
    {
        for before in ["", " ", "<134>x: ", "\t"] {
            let body = format!("{cut}\n{before}{object}\n{cut}{object}{object}");
            assert_eq!(
                framed(&body),
                [cut, (before.to_owned() + object).trim(), cut, object, object],
                "{body}"
            );
        }
    }
    assert_eq!(framed(&format!("{cut}\n\u{feff}{UNIT}")), [cut, UNIT]);
}

#[test]
fn lines_are_joined_to_one_balanced_value_only() {
    let pretty = "{\n \"resourceSpans\": [\n ]\n}";
    let other = "{\n \"a\": [\n  1\n ]\n}";
    assert_eq!(
        framed(&format!("{other}\n{pretty}\n{pretty}{pretty}\r{UNIT}")),
        [other, pretty, pretty, pretty, UNIT]
    );
    assert_eq!(framed(&format!("[\n{pretty},\n{other},\nx\n{pretty}\n]\n")), [pretty, other, "x", pretty]);
    // Not across a line that is complete.
    assert_eq!(framed(&format!("{{\"a\":[\n{UNIT},\n{UNIT}\n]}}")), ["{\"a\":[", UNIT, UNIT, "]}"]);
    assert_eq!(framed(&format!("{{\"a\":[\n1,\n{UNIT}]}}")), ["{\"a\":[", "1,", UNIT, "]}"]);
    // Nor where the brackets match by chance.
    assert_eq!(framed(&format!("{{\"x\":{{\"y\":\n{pretty}\n}}")), ["{\"x\":{\"y\":", pretty, "}"]);
}

#[test]
fn a_value_of_several_lines_that_is_no_json_is_one_frame_if_it_has_a_resource_key() {
    let missing_comma = "{\n \"resourceSpans\": [\n {\n \"a\": 1\n \"b\": 2 } ]\n}";
    assert_eq!(framed(&format!("{missing_comma}\n{UNIT}")), [missing_comma, UNIT]);
}

#[test]
fn lines_are_not_joined_over_a_line_that_starts_with_text() {
    let open = r#"{"resourceSpans":[]"#;
    for start in ["<134>", "12 <134>1 - ", "\u{feff}", "x ", "12a"] {
        let body = format!("{open}\n{start}}}\r{UNIT}");
        assert_eq!(framed(&body), [open, format!("{start}}}").trim_start_matches('\u{feff}'), UNIT]);
    }
    for start in ["", " 12 ", "\t\"a\" \"b\"", "null", "\n", "(null)"] {
        let value = format!("{open}\n{start}}}");
        assert_eq!(framed(&format!("{value}\r{UNIT}")), [&value, UNIT]);
    }
}

#[test]
fn lines_are_not_joined_over_an_object_that_may_be_a_unit_when_repaired() {
    let open = r#"{"resourceSpans":[]"#;
    for quoted in [
        r#"{"resourceSpans":[{"a":"W/"b""}]}"#,
        r#"{ "resource_logs" :[{"a":"W/"b""}]}"#,
        r#"{"x":1,"resourceSpans":["W/"b""]}"#,
    ] {
        for before in ["", " ", "\u{feff}", "<134>x: ", "12 <134>x: ", "<134>1 [a b=\"}\"] "] {
            for line_end in ["\n", "\r", "\r\n"] {
                for close in ["}", "end of block }"] {
                    let line = before.to_owned() + quoted;
                    let body = [open, &line, &line, close, UNIT].join(line_end);
                    let line = line.trim_start_matches([' ', '\u{feff}']);
                    assert_eq!(framed(&body), [open, line, line, close, UNIT], "{body}");
                }
            }
        }
        assert_eq!(framed(&format!("[{open}\n[,{quoted}\n}}]")), [open, quoted, "}]"]);
    }
}

#[test]
fn what_other_json_holds_belongs_to_it() {
    let other = format!("{{\"batch\":[{UNIT}]}}");
    assert_eq!(framed(&format!("{other}\n{UNIT}{other} {UNIT}")), [&other, UNIT, &other, UNIT]);
}

#[test]
fn octet_counted_frames_need_no_line_ends() {
    let frame = format!("20 <134>1 - host app - - {UNIT}");
    assert_eq!(framed(&frame.repeat(3)), [&frame, &frame, &frame]);
}

#[test]
fn an_octet_counted_frame_of_text_ends_where_its_count_says() {
    let text = "24 <134>1 - h a - - - hello";
    let unit = format!("39 <134>1 - h a - - - {UNIT}");
    let body = format!("{text}{text}{unit}{text}{unit} {text}{text}\n{unit}");
    assert_eq!(framed(&body), [text, text, &unit, text, &unit, text, text, &unit]);
    // A header in the text is none.
    let text = "31 <134>1 - h a - - - say 5 <7>1 x";
    assert_eq!(framed(&format!("{text}{text}{unit}\n{unit}{text}")), [text, text, &unit, &unit, text]);
}

#[test]
fn an_octet_counted_frame_with_a_wrong_count_ends_where_the_next_one_starts() {
    let unit = format!("39 <134>1 - h a - - - {UNIT}");
    for count in [0, 5, 23, 26, 60, 64, 1000, 1_u64 << 40] {
        let wrong = format!("{count} <134>1 - h a - - - hello");
        assert_eq!(framed(&format!("{wrong}{wrong}{unit}{wrong}")), [&wrong, &wrong, &unit, &wrong]);
        // What was cut off leaves no end either.
        let cut = format!("{count} <134>1 - h a - - - {{\"resourceSpans\":[{{\"a\":\"GET");
        assert_eq!(
            framed(&format!("{cut}{unit}{wrong}{unit}")),
            [&format!("{cut}39 <134>1 - h a - - - "), UNIT, &wrong, &unit]
        );
    }
}

#[test]
fn an_octet_counted_frame_with_an_object_that_was_cut_off_ends_where_its_count_says() {
    let frame = |text: &str| format!("{} <134>1 - h a - - - {text}", text.len() + 19);
    let (unit, text) = (frame(UNIT), frame("hello"));
    for cut in ["{\"resourceSpans\":[{\"a\":\"GET", "{", "say {", "[{\"a\""] {
        let cut = frame(cut);
        let body = format!("{cut}{text}{cut}{unit}{text}{cut}\n{cut}{cut}");
        assert_eq!(framed(&body), [&cut, &text, &cut, &unit, &text, &cut, &cut, &cut]);
    }
}

#[test]
fn text_ends_where_an_object_that_repair_may_complete_starts() {
    let quoted = r#"{"resourceSpans":[{"a":"5" b"}]}"#;
    for cut in
        ["text", "{\"resourceSpans\":[{\"a\":\"", "{\"a\":[", "{\"a\" \"b\"", "[x ", "\"", "\\", "{", "]}"]
    {
        for object in [
            quoted,
            "{ \t\"resource_logs\":[{\"a\":\"5\" b\"}]}",
            r#"{"x":{"y":[null]},"resourceSpans":[{"a":"5" b"}]}"#,
            "{\"resourceSpans\":[cut",
        ] {
            assert_eq!(framed(&format!("{cut}{object}\n{UNIT}")), [cut, object, UNIT]);
            assert_eq!(framed(&format!("{UNIT}{cut}{object}{object}")), [UNIT, cut, object, object]);
        }
    }
    // Not at a key in escaped quotes, and not inside of a complete object.
    let text = r#"{"a":"{\"resourceSpans\":"#;
    assert_eq!(framed(text), [text]);
    let nested = r#"{"x":{"resourceSpans":[]},"resourceSpans":[{"resourceSpans":[]}]}"#;
    assert_eq!(framed(&format!("x {nested}{UNIT}")), ["x ", nested, UNIT]);
    // Nor at an object on the next line that is not whole.
    assert_eq!(framed(&format!("x {{\n\"resourceSpans\":[\n{UNIT}")), ["x {", "\"resourceSpans\":[", UNIT]);
}

#[test]
fn brackets_of_an_array_over_several_lines_are_no_frames_and_others_are() {
    for body in [
        "[\nU,\nU\n]",
        "[\n[\nU\n],\nx\n],",
        "[[\n \nU]\n\n]",
        "[\nU,\nx\n",
        "[U,\nU\n]",
        "x\n[]\n[[],\n[]]",
        "[]\n[]",
    ] {
        let body = body.replace('U', UNIT);
        assert!(framed(&body).iter().all(|frame| [UNIT, "x"].contains(frame)), "{body}: {:?}", framed(&body));
    }
    for (body, frames) in [
        ("[", &["["] as &[&str]),
        ("]", &["]"]),
        (" ],\n, ]", &["],", "]"]),
        ("U\n]\nU", &[UNIT, "]", UNIT]),
        ("[\nU\n]\n]\nU\n[,\n\n", &[UNIT, "]", UNIT, "[,"]),
        ("[U]\n]", &[UNIT, "]"]),
        ("[\nU\n] ]", &[UNIT, "]"]),
        ("x\n[\n[]", &["x", "["]),
        ("x\n[\n1\n]", &["x", "[\n1\n]"]),
    ] {
        assert_eq!(framed(&body.replace('U', UNIT)), frames, "{body}");
    }
}

#[test]
fn lines_end_in_lf_crlf_or_cr() {
    let body = format!("a\rb\r\nc\n\r\n{UNIT}\r");
    let mut frames = Frames::new(body.as_bytes());
    let mut lines = Vec::new();
    while let Some(frame) = frames.next() {
        lines.push(frame.line.number);
    }
    assert_eq!(lines, [1, 2, 3, 5]);
}
