//! Limits of one body, each exceeded. Where a missing limit would only be noticed by the time that it takes, a test
//! without it takes minutes instead of moments.

use super::*;
use crate::otlp::json::MAX_DEPTH;

const MIB: usize = 1024 * 1024;

fn read_long_lines(body: String) -> Reading {
    Fastly::new(&config(), MIB).read(&Bytes::from(body))
}

/// Returns a line with the span `a` that has these attributes.
fn with_attributes(attributes: &str) -> String {
    span("a").replace(r#""name""#, &format!(r#""attributes":[{attributes}],"name""#))
}

fn spans(elements: &[&str]) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, elements.join(","))
}

#[test]
fn lines_are_limited_only_in_bytes() {
    let reading = read(format!("{}\n", r#"{"resourceSpans":[]}"#).repeat(150_000));
    assert_eq!((reading.items.len(), reading.rejected.len()), (150_000, 0));

    let reading = read(format!("{}{}\n", "x\n".repeat(150_000), span("a")));
    assert_eq!(Rejected::units(&reading.rejected), 150_000);
    assert_eq!(names(reading), named(&[(150_001, "a")]));
}

/// Junk of several kinds with good lines in between, against a count of its lines.
#[test]
fn very_many_rejected_lines_take_no_multiple_of_their_size_and_are_kept_and_counted() {
    let junk = ["x", "{}", "{\"a\":1,}", "]", "\\", "12", "{\"resourceSpans\":[{]}"];
    let mut body = String::new();
    let mut expected = Vec::new();
    for number in 0..60_000 {
        if number % 20_000 == 15_000 {
            body.push_str(&format!("{}\n", span("good")));
        } else {
            let line = junk[number * number % junk.len()];
            body.push_str(&format!("{line}\n"));
            expected.push(line);
        }
    }
    let bytes = Bytes::from(body.clone());
    let reading = Fastly::new(&config(), MIB).read(&bytes);
    assert_eq!(reading.items.len(), 3);
    assert_eq!(Rejected::units(&reading.rejected), expected.len());
    let kept = reading.rejected.iter().flat_map(|entry| entry.input.split(|byte| *byte == b'\n'));
    assert!(kept.eq(expected.iter().map(|line| line.as_bytes())), "every line is kept once, in order");
    let first_lines = reading.rejected.iter().map(|entry| {
        let line = body.lines().nth(entry.line as usize - 1).unwrap();
        (line.as_bytes().to_vec(), entry.input.split(|byte| *byte == b'\n').next().unwrap().to_vec())
    });
    assert!(first_lines.skip(9_990).all(|(line, first)| line == first));
    // One entry after another line that was accepted, or after 64 KiB.
    assert!(reading.rejected.len() < 10_010, "{}", reading.rejected.len());
}

#[test]
fn the_cost_of_rejected_spans_is_linear_in_their_line() {
    let reading = read_long_lines(spans(&vec!["{}"; MIB / 4]));
    // The first stands for the unit.
    let counts = [Rejected::units(&reading.rejected), Rejected::items(&reading.rejected)];
    assert_eq!(counts, [1, MIB / 4 - 1]);
    let columns: Vec<u32> = reading.rejected.iter().map(|rejected| rejected.column).collect();
    assert!(columns[..10_000].is_sorted_by(|one, next| next - one == 3), "each is named by its own place");
    assert!(columns.len() < 10_020, "{}", columns.len());
}

#[test]
fn the_cost_of_objects_in_one_line_is_linear_in_its_length() {
    let objects = 150_000;
    let line = vec![span(&"x".repeat(50)); objects].join(",");
    let reading = read_long_lines(format!("[{line}]"));
    assert_eq!((reading.items.len(), reading.rejected.len()), (objects, 0));
}

#[test]
fn the_cost_of_nested_line_starts_is_linear_in_their_length() {
    let filler = format!(r#"{{"resourceS":[{}0"#, "0,".repeat(500));
    let body = vec![filler; 500].join(",");
    let reading = Fastly::new(&config(), MIB / 16).read(&body.clone().into());
    assert_eq!(reading.rejected.len(), 1);
    assert_eq!(reading.rejected[0].input, body);
}

#[test]
fn unterminated_objects_affect_neither_repairable_nor_good_units() {
    let repairable = span("repaired").replace("}]}", ",}]}");
    let open = vec![r#"{"resourceSpans":[{"a":"b"#; 20_000].join("},");
    let reading = read_long_lines(format!("[{repairable},{open}}},{repairable},{}]", span("good")));
    assert_eq!(Rejected::units(&reading.rejected), 20_000);
    assert_eq!(names(reading), named(&[(1, "repaired"), (1, "repaired"), (1, "good")]));
}

#[test]
fn the_cost_of_attributes_is_linear_in_their_bytes() {
    const COUNT: usize = 20_000;
    let list = |one: fn(usize) -> String| with_attributes(&(0..COUNT).map(one).collect::<Vec<_>>().join(","));
    let lines = [
        list(|n| format!(r#"{{"key":"{n}","value":{{"intValue":"1"}}}}"#)),
        // The same key many times, each time with an edit; and keys whose hash is not secret.
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
fn values_may_be_nested_up_to_the_limit() {
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
