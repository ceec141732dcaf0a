//! What one body may cost, each bound crossed. Where nothing but time would show that a bound is missing, a test
//! without it takes minutes instead of a moment.

use super::super::lines::bounds::MAX_LINES;
use super::*;
use crate::otlp::{MAX_DEPTH, MAX_ITEMS};

const MIB: usize = 1024 * 1024;

fn read_long_lines(body: String) -> Reading {
    Fastly::new(&config(), MIB).read(&Bytes::from(body))
}

/// A line with the span `a`, and this in its list of attributes.
fn with_attributes(attributes: &str) -> String {
    span("a").replace(r#""name""#, &format!(r#""attributes":[{attributes}],"name""#))
}

fn spans(elements: &[&str]) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, elements.join(","))
}

#[test]
fn as_many_lines_as_allowed_are_read_one_by_one_and_the_rest_is_rejected_as_one_piece() {
    let within = "x\n".repeat(MAX_LINES);
    let reading = read(format!("{within} \r\n\n"));
    assert_eq!((reading.rejected.len(), reading.unread_lines), (MAX_LINES, 0));

    let rest = format!("{}\n\nx\n{}", span("a"), span("b"));
    let reading = read(format!("{within}{rest}\n"));
    let last = reading.rejected.last().unwrap();
    assert_eq!((reading.rejected.len(), reading.unread_lines), (MAX_LINES + 1, 2));
    assert_eq!(last.line as usize, MAX_LINES + 1);
    assert!(last.reason.starts_with("more than 100000 lines in one request"), "{}", last.reason);
    // Sent again by itself it is read.
    assert_eq!(last.input, rest);
    assert_eq!(names(read(&last.input)), named(&[(1, "a"), (4, "b")]));
}

#[test]
fn good_lines_count_too() {
    let reading = read(format!("{}\n", r#"{"resourceSpans":[]}"#).repeat(MAX_LINES + 5));
    assert_eq!((reading.items.len(), reading.rejected.len(), reading.unread_lines), (MAX_LINES, 1, 4));
}

#[test]
fn as_many_spans_and_log_records_as_allowed_are_read_and_the_lines_behind_them_are_not() {
    let records = vec!["{}"; MAX_ITEMS / 4];
    let line = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{}]}}]}}]}}"#, records.join(","));
    let lines = vec![line; 5];
    let reading = read_long_lines(lines.join("\n"));
    assert_eq!((reading.items.len(), reading.rejected.len()), (4, 1));
    assert!(reading.rejected[0].reason.starts_with("more than 1000000 spans and log records"));
    assert_eq!(reading.rejected[0].input, lines[4]);
}

#[test]
fn very_many_spans_that_are_rejected_cost_no_more_than_their_line() {
    let reading = read_long_lines(spans(&vec!["{}"; MIB / 4]));
    assert_eq!(reading.rejected.len(), MIB / 4);
    let columns: Vec<u32> = reading.rejected.iter().map(|rejected| rejected.column).collect();
    assert!(columns.is_sorted_by(|one, next| next - one == 3), "each is named by its own place");
}

#[test]
fn very_many_objects_in_one_line_cost_no_more_than_its_length() {
    let objects = MAX_LINES - 1;
    let line = vec![span(&"x".repeat(50)); objects].join(",");
    let reading = read_long_lines(format!("[{line}]"));
    assert_eq!((reading.items.len(), reading.rejected.len()), (objects, 0));
}

#[test]
fn lines_that_look_good_for_long_are_given_up_in_the_end() {
    // Each begins inside the one before, and is as long as a line may be.
    let filler = format!(r#"{{"resourceS":[{}0"#, "0,".repeat(500));
    let reading = Fastly::new(&config(), MIB / 16).read(&vec![filler; 500].join(",").into());
    let last = reading.rejected.last().unwrap();
    assert!(last.reason.starts_with("too many lines that cannot be read"), "{}", last.reason);
}

#[test]
fn strings_without_an_end_cost_their_body_its_repairs_and_not_its_good_lines() {
    let mendable = span("mended").replace("}]}", ",}]}");
    let open = vec![r#"{"resourceSpans":[{"a":"b"#; 20_000].join("},");
    let reading = read_long_lines(format!("[{mendable},{open}}},{mendable},{}]", span("good")));
    assert_eq!(names(reading), named(&[(1, "mended"), (1, "mended"), (1, "good")]));
}

#[test]
fn any_number_of_attributes_costs_no_more_than_their_bytes() {
    const COUNT: usize = 20_000;
    let list = |one: fn(usize) -> String| with_attributes(&(0..COUNT).map(one).collect::<Vec<_>>().join(","));
    let lines = [
        list(|n| format!(r#"{{"key":"{n}","value":{{"intValue":"1"}}}}"#)),
        // The same key again and again, each time with something to be edited; and one whose hash is no secret.
        list(|_| r#"{"key":"a","value":{"int_value":1}}"#.to_owned()),
        list(|n| format!(r#"{{"key":"\u0061{}","value":{{"int_value":1}}}}"#, n % 2)),
    ];
    let reading = read_long_lines(lines.join("\n"));
    assert_eq!((reading.items.len(), reading.rejected.len()), (3, 0));
    let counts = reading.items.into_iter().map(|item| {
        let json: Value = serde_json::from_slice(&item.traces.unwrap().into_json()).unwrap();
        json["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"].as_array().unwrap().len()
    });
    assert_eq!(counts.collect::<Vec<_>>(), [COUNT, 1, 2]);
}

#[test]
fn values_may_be_nested_so_deep_and_no_deeper() {
    let nested = |levels: usize| {
        let (open, close) = (r#"{"arrayValue":{"values":["#, "]}}");
        let value = format!("{}{{}}{}", open.repeat(levels), close.repeat(levels));
        with_attributes(&format!(r#"{{"key":"k","value":{value}}}"#))
    };
    let deep = nested(MAX_DEPTH as usize / 3);
    let reading = read_long_lines(format!("{}\n{deep}\n{}\n", nested(10), span("b")));
    assert_eq!(rejections(&reading).len(), 1);
    assert_eq!(reading.rejected[0].reason, format!("nested deeper than {MAX_DEPTH} levels"));
    assert_eq!(names(reading), named(&[(1, "a"), (3, "b")]));
}
