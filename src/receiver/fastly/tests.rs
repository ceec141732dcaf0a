mod limits;

use std::collections::BTreeSet;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::config::AuthConfig;
use crate::config::Secret;
use crate::event::Repair;
use crate::receiver::Reading;

const MAX_LINE_BYTES: usize = 4096;

fn fastly() -> Fastly {
    Fastly::new(&config(), MAX_LINE_BYTES)
}

fn config() -> FastlyConfig {
    FastlyConfig::default()
}

fn read(body: impl AsRef<[u8]>) -> Reading {
    fastly().read(&Bytes::copy_from_slice(body.as_ref()))
}

/// A line with one span of this name.
fn span(name: &str) -> String {
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","name":"{name}"}}]}}]}}]}}"#
    )
}

/// Returns the names of the accepted spans, with the lines in which they start.
fn names(reading: Reading) -> Vec<(u32, String)> {
    reading
        .items
        .into_iter()
        .map(|item| {
            let json: Value = serde_json::from_slice(&item.traces.unwrap().into_json()).unwrap();
            let name =
                json["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"].as_str().unwrap().to_owned();
            (item.line, name)
        })
        .collect()
}

fn named(expected: &[(u32, &str)]) -> Vec<(u32, String)> {
    expected.iter().map(|(line, name)| (*line, (*name).to_owned())).collect()
}

/// Returns the only span name of a repaired line, and its repairs.
fn repaired(line: impl AsRef<[u8]>) -> (String, Vec<Repair>) {
    let mut reading = read(line.as_ref());
    assert_eq!(reading.rejected, [], "{}", String::from_utf8_lossy(line.as_ref()));
    let repairs = std::mem::take(&mut reading.items[0].repairs);
    (names(reading).remove(0).1, repairs)
}

/// Returns line, column and reason of every rejection.
fn rejections(reading: &Reading) -> Vec<(u32, u32, &str)> {
    reading
        .rejected
        .iter()
        .map(|rejected| (rejected.line, rejected.column, rejected.reason.as_str()))
        .collect()
}

#[test]
fn lines_may_end_in_any_way_and_may_be_blank() {
    let (a, b) = (span("a"), span("b"));
    for body in [
        format!("{a}\n{b}\n"),
        format!("{a}\n{b}"),
        format!("{a}\r\n{b}\r\n"),
        format!("\u{feff}{a}\n{b}\n"),
        format!("  {a}\t\n {b} "),
        format!("{a},\n{b},\n"),
    ] {
        assert_eq!(names(read(&body)), named(&[(1, "a"), (2, "b")]), "{body}");
    }
    assert_eq!(names(read(format!("\n\n{a}\n \t\n\r\n{b}\n\n"))), named(&[(3, "a"), (6, "b")]));
}

#[test]
fn an_empty_body_has_no_items_and_no_rejects() {
    for body in ["", "\n", " \r\n\t", "\u{feff}", "[]", "[ ]\n"] {
        let reading = read(body);
        assert!(reading.items.is_empty() && reading.rejected.is_empty(), "{body:?}");
    }
}

#[test]
fn an_array_is_read_element_by_element() {
    let (a, b) = (span("a"), span("b"));
    for (body, second) in [
        (format!("[{a},{b}]"), 1),
        (format!("[{a},\n{b}]\n"), 2),
        (format!("[\n {a},\n {b}\n]"), 3),
        (format!("[{a}, {b},]"), 1),
    ] {
        let first = if body.starts_with("[\n") { 2 } else { 1 };
        assert_eq!(names(read(&body)), named(&[(first, "a"), (second, "b")]), "{body}");
    }
}

#[test]
fn one_bad_element_does_not_affect_the_array() {
    let (a, b) = (span("a"), span("b"));
    for bad in
        [r#"{"message":"x"}"#, r#"{"resourceSpans":[{"x""#, r#"{"resourceSpans":[}"#, r#"{"a" "b"}"#, "5"]
    {
        let reading = read(format!("[{a},{bad},{b}]"));
        assert_eq!(reading.rejected.len(), 1, "{bad}: {:?}", reading.rejected);
        assert_eq!(reading.rejected[0].input, bad, "{bad}");
        assert_eq!(names(reading), named(&[(1, "a"), (1, "b")]), "{bad}");
    }
}

#[test]
fn an_object_may_span_several_lines() {
    let pretty = |name: &str| {
        serde_json::to_string_pretty(&serde_json::from_str::<Value>(&span(name)).unwrap()).unwrap()
    };
    let lines = u32::try_from(pretty("a").lines().count()).unwrap();
    assert_eq!(names(read(pretty("a"))), named(&[(1, "a")]));
    assert_eq!(
        names(read(format!("{}\n{}\n{}", pretty("a"), span("b"), pretty("c")))),
        named(&[(1, "a"), (lines + 1, "b"), (lines + 2, "c")])
    );
    let dos = pretty("a").replace('\n', "\r\n");
    assert_eq!(names(read(dos)), named(&[(1, "a")]));
}

#[test]
fn objects_may_be_adjacent() {
    assert_eq!(
        names(read(format!("{}{} {}\n{}", span("a"), span("b"), span("c"), span("d")))),
        named(&[(1, "a"), (1, "b"), (1, "c"), (2, "d")])
    );
}

#[test]
fn a_syslog_prefix_is_skipped() {
    let a = span("a");
    for prefix in [
        "<134>2016-07-04T22:37:26Z cache-sjc3128 LogTest[62959]: ",
        r#"<134>1 2016-07-04T22:37:26Z cache-sjc3128 fastly - - [tags tag="x"] "#,
        "1234 <134>1 2016-07-04T22:37:26+00:00 host app - - ",
        "<6>",
    ] {
        assert_eq!(
            names(read(format!("{prefix}{a}\n{prefix}{a}\n"))),
            named(&[(1, "a"), (2, "a")]),
            "{prefix}"
        );
    }
    let reading = read(format!("<134>x: {}", r#"{"a":}"#));
    assert_eq!(rejections(&reading), [(1, 14, "expected a value")]);
}

#[test]
fn one_bad_line_does_not_affect_its_batch() {
    let (a, b) = (span("a"), span("b"));
    for (bad, column, reason) in [
        ("plain text", 1, "not a JSON object"),
        ("INFO: {not a span}", 1, "not a JSON object"),
        ("17", 1, "not a JSON object"),
        (r#"{"message":"hello"}"#, 1, "neither resourceSpans nor resourceLogs nor resourceMetrics"),
        (r#"{"resourceSpans":{}}"#, 18, "resourceSpans must be an array"),
        (r#"{"resourceSpans":[{"scopeSpans":[{"spa"#, 39, "the line ends too early"),
        (r#"{"resourceSpans":["#, 19, "the line ends too early"),
        (r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":"x"}]}]}]}"#, 52, "kind must be an integer"),
        (r#"{"a":"b","c}"#, 13, "the line ends too early"),
        ("<134>no object at all", 1, "not a JSON object"),
        ("{}", 1, "neither resourceSpans"),
        ("\u{0}", 1, "not a JSON object"),
    ] {
        let reading = read(format!("{a}\n{bad}\n{b}\n"));
        let found = rejections(&reading);
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
        assert_eq!((found[0].0, found[0].1), (2, column), "{bad}: {found:?}");
        assert!(found[0].2.starts_with(reason), "{bad}: {found:?}");
        assert_eq!(reading.rejected[0].input, bad, "{bad}");
        assert_eq!(names(reading), named(&[(1, "a"), (3, "b")]), "{bad}");
    }
}

#[test]
fn trailing_data_after_an_object_is_rejected_and_the_object_is_not() {
    let reading = read(format!("{} garbage\n{}", span("a"), span("b")));
    let column = u32::try_from(span("a").len()).unwrap() + 2;
    assert_eq!(rejections(&reading), [(1, column, "trailing data after the object")]);
    assert_eq!(names(reading), named(&[(1, "a"), (2, "b")]));
}

#[test]
fn a_truncated_line_does_not_consume_the_next() {
    let whole = span("b");
    for end in 1..whole.len() {
        let cut = whole.get(..end).expect("ASCII");
        let reading = read(format!("{cut}\n{}\n", span("c")));
        assert_eq!(names(reading), named(&[(2, "c")]), "cut at {end}");
    }
}

#[test]
fn the_cost_of_truncated_lines_is_linear_in_their_length() {
    // Reading each of them to the end of the body would take hours.
    let body = "{\"a\":[\n{\"a\":[1,\n";
    let reading = read(body.repeat(50_000));
    assert_eq!(Rejected::units(&reading.rejected), 100_000);
}

#[test]
fn a_line_longer_than_allowed_is_rejected_and_its_neighbours_are_not() {
    let long = span(&"x".repeat(MAX_LINE_BYTES));
    let reading = read(format!("{}\n{long}\n{}\n", span("a"), span("b")));
    assert_eq!(reading.rejected[0].line, 2);
    assert!(reading.rejected[0].reason.contains("max_line_size"));
    assert_eq!(names(reading), named(&[(1, "a"), (3, "b")]));
    // The limit is for one object: an array of many may be on one line.
    let array = format!("[{}]", vec![span("a"); 100].join(","));
    assert_eq!(read(array).items.len(), 100);
    let reading = read(format!("[{},{long},{}]", span("a"), span("b")));
    assert_eq!(names(reading), named(&[(1, "a"), (1, "b")]));
}

#[test]
fn a_span_with_an_invalid_id_is_rejected_with_its_position() {
    let bad = span("bad").replace("b7ad6b7169203331", "(null)");
    let reading = read(format!("{}\n{bad}\n", span("a")));
    let column = u32::try_from(bad.find("\"(null)").unwrap() + 1).unwrap();
    assert_eq!(rejections(&reading), [(2, column, "spanId is not 16 hexadecimal digits, or all zero")]);
    assert_eq!(names(reading), named(&[(1, "a")]));
}

#[test]
fn reasons_repeat_no_input() {
    for bad in [
        r#"{"resourceSpans":"SECRET"}"#,
        "SECRET",
        r#"{"SECRET":1}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":"SECRET"}]}]}]}"#,
    ] {
        assert!(!read(bad).rejected[0].reason.contains("SECRET"), "{bad}");
    }
}

#[test]
fn trailing_commas_are_removed() {
    let line = span("a").replace("}]}", ",},]}");
    assert_eq!(repaired(line), ("a".to_owned(), vec![Repair::TrailingComma]));
}

#[test]
fn raw_control_characters_are_escaped() {
    assert_eq!(
        repaired(span("a\u{1}\tb\u{7f}")),
        ("a\u{1}\tb\u{7f}".to_owned(), vec![Repair::ControlCharacter])
    );
    assert_eq!(repaired(span("a").replace(":[", ":\u{b}[")).1, [Repair::ControlCharacter]);
}

#[test]
fn hex_escapes_are_decoded() {
    assert_eq!(
        repaired(span(r"caf\xc3\xa9 \x22q\x22 \x5c \x00 \xff \'")),
        ("café \"q\" \\ \0 \u{fffd} '".to_owned(), vec![Repair::HexEscape])
    );
}

#[test]
fn backslashes_that_escape_nothing_are_kept() {
    assert_eq!(
        repaired(span(r"C:\dir \u12 \x1")),
        (r"C:\dir \u12 \x1".to_owned(), vec![Repair::LooseBackslash])
    );
}

#[test]
fn unpaired_surrogates_are_replaced() {
    assert_eq!(
        repaired(span(r"\ud83d\ude00 \ud83d \ude00")),
        ("😀 \u{fffd} \u{fffd}".to_owned(), vec![Repair::LoneSurrogate])
    );
}

#[test]
fn invalid_utf_8_is_replaced_in_its_own_line_only() {
    let mut body = span("fine é").into_bytes();
    body.push(b'\n');
    body.extend(span("bad X").bytes().map(|byte| if byte == b'X' { 0xe9 } else { byte }));
    let reading = read(body);
    let repairs: Vec<_> = reading.items.iter().map(|item| item.repairs.clone()).collect();
    assert_eq!(repairs, [vec![], vec![Repair::InvalidUtf8]]);
    assert_eq!(names(reading), named(&[(1, "fine é"), (2, "bad \u{fffd}")]));
}

#[test]
fn unset_variables_are_absent() {
    let line = span("a")
        .replace(r#""name""#, r#""parentSpanId":(null),"kind":(null),"endTimeUnixNano":"(null)","name""#);
    assert_eq!(repaired(line), ("a".to_owned(), vec![Repair::NullWord]));
    let line = span("a").replace(r#""name""#, r#""parentSpanId":"(null)","name""#);
    assert_eq!(repaired(line).1, [Repair::NullWord]);
}

#[test]
fn quotes_inside_a_string_are_escaped_where_one_reading_is_valid() {
    for name in
        [r#"say "hi" now"#, r#""quoted""#, r#"5" and 6""#, r#"a "b": c"#, r#"Foo "1.0", like"#, r#"x" y"#]
    {
        assert_eq!(repaired(span(name)), (name.to_owned(), vec![Repair::UnescapedQuote]), "{name}");
    }
}

#[test]
fn quotes_that_could_end_the_string_are_never_escaped() {
    let attribute = |value: &str| {
        span("a").replace(
            r#""name""#,
            &format!(r#""attributes":[{{"key":"ua","value":{{"stringValue":"{value}"}}}}],"name""#),
        )
    };
    for value in [r#"a"b","c":"d"#, r#"x"kind"y"#, r#"5""#] {
        let reading = read(attribute(value));
        assert_eq!(reading.items.len(), 0, "{value}");
        assert_eq!(reading.rejected.len(), 1, "{value}");
    }
    assert_eq!(read(attribute(r#"say "hi""#)).items.len(), 1);
}

#[test]
fn without_repair_a_malformed_line_is_rejected_and_legacy_names_are_still_renamed() {
    let fastly = Fastly::new(&FastlyConfig { repair: false, ..config() }, MAX_LINE_BYTES);
    let legacy = span("b").replace("scopeSpans", "instrumentationLibrarySpans");
    let reading = fastly.read(&format!("{}\n{legacy}", span("a").replace("}]}", ",}]}")).into());
    assert_eq!(reading.rejected.len(), 1);
    assert_eq!(names(reading), named(&[(2, "b")]));
}

#[test]
fn the_token_must_be_one_of_the_configured_ones() {
    let values = vec![Secret::new("Bearer one"), Secret::new("Bearer two")];
    let fastly = Fastly::new(
        &FastlyConfig { auth: Some(AuthConfig { header: AUTHORIZATION, values }), ..config() },
        1,
    );
    let headers = |value: &'static [u8]| {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap())])
    };
    assert_eq!(fastly.admit(&headers(b"Bearer one")), Ok(()));
    assert_eq!(fastly.admit(&headers(b"Bearer two")), Ok(()));
    for wrong in [&b"Bearer on"[..], b"Bearer one ", b"bearer one", b"", b"\xff"] {
        fastly.admit(&headers(wrong)).expect_err(&String::from_utf8_lossy(wrong));
    }
    fastly.admit(&HeaderMap::new()).expect_err("no header");
}

/// Generates a part of a body, with the name of its span if it is a good line.
fn piece() -> impl Strategy<Value = (String, Option<String>)> {
    prop_oneof![
        4 => "[a-z]{1,8}".prop_map(|name| (span(&name), Some(name))),
        1 => "[a-z ]{0,20}".prop_map(|text| (text, None)),
        1 => (1usize..100).prop_map(|end| (span("cut").chars().take(end).collect(), None)),
        1 => Just((r#"{"message":"other JSON"}"#.to_owned(), None)),
    ]
}

proptest! {
    #[test]
    fn every_good_line_is_accepted_whatever_is_in_between(pieces in proptest::collection::vec(piece(), 0..12), crlf: bool) {
        let separator = if crlf { "\r\n" } else { "\n" };
        let body: Vec<&str> = pieces.iter().map(|(text, _)| text.as_str()).collect();
        let reading = read(body.join(separator));
        let bad = pieces.iter().filter(|(text, name)| name.is_none() && !text.trim().is_empty()).count();
        prop_assert_eq!(reading.rejected.len(), bad, "{:?}", reading.rejected);
        let expected: Vec<(u32, String)> = pieces
            .iter()
            .zip(1..)
            .filter_map(|((_, name), line)| Some((line, name.clone()?)))
            .collect();
        prop_assert_eq!(names(reading), expected);
    }

    #[test]
    fn any_bytes_are_read_without_panic_and_every_line_of_them_is_accounted_for(
        body in proptest::collection::vec(prop_oneof![
            Just(b"{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{".to_vec()),
            Just(b"\"traceId\":\"0af7651916cd43dd8448eb211c80319c\",\"spanId\":\"b7ad6b7169203331\"".to_vec()),
            Just(b"}]}]}]}".to_vec()),
            Just(b"\n".to_vec()), Just(b"[".to_vec()), Just(b",".to_vec()), Just(b"\"".to_vec()), Just(b"\\x22".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..6),
        ], 0..24).prop_map(|parts| parts.concat())
    ) {
        let reading = read(&body);
        let lines: BTreeSet<u32> = reading.items.iter().map(|item| item.line).chain(reading.rejected.iter().map(|r| r.line)).collect();
        for item in reading.items {
            if let Some(traces) = item.traces {
                prop_assert!(serde_json::from_slice::<Value>(&traces.into_json()).is_ok());
            }
        }
        for rejected in &reading.rejected {
            prop_assert!(rejected.column >= 1);
        }
        let written = body.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| line.iter().any(|byte| !b" \t\r".contains(byte))).count();
        prop_assert!(lines.len() <= written, "{} of {}", lines.len(), written);
    }
}

#[test]
fn a_line_of_unusual_white_space_is_kept_unchanged() {
    let reading = read(format!("{}\n\u{c}\n", span("a")));
    let kept: Vec<&[u8]> = reading.rejected.iter().map(|rejected| &rejected.input[..]).collect();
    assert_eq!(kept, [b"\x0c"]);
}
