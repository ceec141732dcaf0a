use serde_json::Value;

use super::*;

fn settings() -> Settings {
    Settings { repair: true, max_line_bytes: 4096, access_logs: None, withheld: Withheld::default() }
}

fn read_all(body: &str) -> Reading {
    read(&Bytes::copy_from_slice(body.as_bytes()), &settings())
}

fn span(name: &str, span_id: &str) -> String {
    format!(r#"{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"{span_id}","name":"{name}"}}"#)
}

fn unit(spans: &[String]) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans.join(","))
}

fn good(name: &str) -> String {
    unit(&[span(name, "b7ad6b7169203331")])
}

fn pretty(unit: &str) -> String {
    serde_json::to_string_pretty(&serde_json::from_str::<Value>(unit).unwrap()).unwrap()
}

fn names(reading: &Reading) -> Vec<String> {
    let json = |item: &Item| item.traces.clone().unwrap().into_json();
    let value = |item: &Item| serde_json::from_slice::<Value>(&json(item)).unwrap();
    let name = |value: Value| value["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"].to_string();
    reading.items.iter().map(|item| name(value(item))).collect()
}

/// Line, column and kept bytes of each rejection.
fn rejections(reading: &Reading) -> Vec<(u32, u32, &[u8])> {
    reading.rejected.iter().map(|entry| (entry.line, entry.column, &entry.input[..])).collect()
}

#[test]
fn positions_and_kept_bytes_are_those_of_the_input_even_after_a_repair() {
    let bad = span("b", "12").replace("\"b\"", "\"\t\\x41\"");
    let line = unit(&[span("a\tb", "b7ad6b7169203331"), bad.clone()]);
    let reading = read_all(&format!("\n{line}\n"));
    let column = line.find("\"12\"").unwrap() + 1;
    assert_eq!(rejections(&reading), [(2, u32::try_from(column).unwrap(), bad.as_bytes())]);
    assert_eq!(reading.items.len(), 1);
}

#[test]
fn a_unit_with_rejected_spans_is_counted_once() {
    let (bad, fine) = (span("x", "12"), span("a", "b7ad6b7169203331"));
    for (spans, items, units, entries) in [
        (vec![fine.clone(), bad.clone(), bad.clone()], 1, 0, 2),
        (vec![bad.clone(), bad.clone()], 0, 1, 2),
        (vec![fine], 1, 0, 0),
    ] {
        let reading = read_all(&format!("{}\n{}", unit(&spans), unit(&spans)));
        let counted = (reading.items.len(), Rejected::units(&reading.rejected), reading.rejected.len());
        assert_eq!(counted, (2 * items, 2 * units, 2 * entries), "{spans:?}");
    }
}

#[test]
fn a_repairable_line_between_two_halves_of_another_is_accepted() {
    let open = good("a").strip_suffix('}').unwrap().to_owned();
    for line in [good("W/\"b\" c"), good("W/\"{b\" c")] {
        for close in ["}", "end of block }", "]"] {
            let reading = read_all(&format!("{open}\n{line}\n<134>x: {line}\r{close}"));
            assert_eq!(reading.items.len(), 2, "{line} {close}: {:?}", reading.rejected);
            assert_eq!(reading.rejected.len(), 2, "{line} {close}");
        }
    }
}

#[test]
fn a_unit_that_needs_repair_is_accepted_after_a_cut_at_any_position_on_its_line() {
    let whole = good("x");
    for (number, quoted) in
        [r#"5" a"#, r#"W/"a" b"#, r#""a", "b""#, r#"{"a":"b"}"#, "a\tb"].into_iter().enumerate()
    {
        let unknown = ["", r#""x":1,"#][number % 2];
        let unit = good(quoted).replacen('{', &format!("{{{unknown}"), 1);
        let alone = read_all(&unit);
        assert_eq!((alone.items.len(), alone.rejected.len()), (1, 0), "{quoted}");
        for cut in (1..whole.len()).map(|end| whole.get(..end).unwrap()) {
            for before in ["", " ", ", ", "<134>x: ", "12 <134>1 - "] {
                let reading = read_all(&format!("{cut}{before}{unit}{}\n", good("b")));
                assert_eq!(names(&reading), [&names(&alone)[0], "\"b\""], "{cut}{before}{quoted}");
                assert_eq!(reading.rejected.len(), 1, "{cut}{before}{quoted}");
            }
        }
    }
}

#[test]
fn brackets_that_belong_to_no_array_are_counted_once() {
    for (body, units, rejected) in [
        ("[", 0, 1),
        ("]", 0, 1),
        ("[]", 0, 0),
        ("[\nU\n]\n", 1, 0),
        ("[\nU,\nU,\n", 2, 0),
        ("U\n]\n", 1, 1),
        ("[U\n],\n[U\n]\n]]\n", 2, 1),
    ] {
        let reading = read_all(&body.replace('U', &good("a")));
        assert_eq!((reading.items.len(), reading.rejected.len()), (units, rejected), "{body:?}");
    }
}

#[test]
fn octet_counted_frames_of_text_are_rejected_one_by_one() {
    let frame = |text: &str| format!("{} <134>1 - h a - - - {text}", text.len() + 19);
    let (text, unit) = (frame("hello"), frame(&good("a")));
    let reading = read_all(&format!("{text}{unit}{text}{text}{unit}{text}"));
    let kept: Vec<&[u8]> = rejections(&reading).into_iter().map(|(_, _, input)| input).collect();
    assert_eq!((reading.items.len(), kept), (2, vec![text.as_bytes(); 4]));
}

#[test]
fn a_bad_element_of_an_array_affects_no_other() {
    let broken = good("x").replacen(':', " ", 1);
    let good_unit = good("x");
    let cut = good_unit.get(..100).unwrap();
    for bad in ["5", r#"{"a":1}"#, &broken, cut, r#"{"resourceSpans":{}}"#, &pretty(r#"{"a":[1,{}]}"#)] {
        for (open, close) in [("[", "]"), ("[\n", "\n]"), ("[", "")] {
            let body = format!("{open}{},\n{bad},\n{}{close}\n", pretty(&good("a")), pretty(&good("b")));
            let reading = read_all(&body);
            assert_eq!(names(&reading), ["\"a\"", "\"b\""], "{body}");
            assert_eq!(reading.rejected.len(), 1, "{body}: {:?}", reading.rejected);
            assert_eq!(reading.rejected[0].input, bad, "{body}");
        }
    }
}

#[test]
fn repair_is_limited_to_one_unit() {
    let cut = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","name":"GET"#;
    for (before, between) in
        [("<134>x: ", "\n"), ("", "\n"), ("", ""), ("", ", "), ("[", "\n["), ("\u{feff}", "\n")]
    {
        let reading = read_all(&format!("{before}{cut}{between}{before}{}\n{}", good("a"), good("b")));
        assert_eq!(names(&reading), ["\"a\"", "\"b\""], "{before:?} {between:?}");
        assert_eq!(reading.rejected.len(), 1, "{before:?} {between:?}: {:?}", reading.rejected);
        assert!(reading.items.iter().all(|item| item.repairs.is_empty()));
    }
}

#[test]
fn a_pretty_printed_object_is_repaired_or_rejected_as_a_whole() {
    let printed = pretty(&good("a"));
    let reading = read_all(&printed.replace("\"a\"", "\"say \"hi\"\"").replace("]\n", "],\n"));
    assert_eq!(names(&reading), [r#""say \"hi\"""#]);
    let broken = printed.replacen("\"a\",\n", "1\n", 1);
    let reading = read_all(&format!("{broken}\n{}", good("b")));
    assert_eq!((names(&reading), reading.rejected.len()), (vec!["\"b\"".to_owned()], 1));
    assert_eq!(reading.rejected[0].input, broken);
    assert!(reading.rejected[0].line > 1, "{:?}", reading.rejected);
}

#[test]
fn other_json_over_several_lines_is_rejected_once_and_can_be_replayed() {
    let other = pretty(r#"{"timestamp":"t","client":{"tags":["x","y"]}}"#);
    let reading = read_all(&format!("{}\n{other}\r\n{}", good("a"), good("b")));
    assert_eq!(rejections(&reading), [(2, 1, other.as_bytes())]);
    assert!(reading.rejected[0].reason.starts_with("neither resourceSpans"), "{:?}", reading.rejected);
    let again = read(&reading.rejected[0].input, &settings());
    assert_eq!(again.rejected[0].input, reading.rejected[0].input);
}

#[test]
fn a_unit_that_is_too_long_is_rejected_once_on_one_line_or_several() {
    let long = good(&"x".repeat(5000));
    for long in [pretty(&long), long.clone(), long + "cut"] {
        let reading = read_all(&format!("{}\n{long}\n[{}]", good("a"), good("b")));
        assert_eq!(names(&reading), ["\"a\"", "\"b\""]);
        assert!(
            reading.rejected[0].reason.starts_with("longer than max_line_size"),
            "{:?}",
            reading.rejected
        );
    }
}

#[test]
fn bodies_of_many_megabytes_are_read_to_their_end() {
    let piece = format!("{}\n[x\n{}\r{{\"a\":[\n{}\n", good("a"), pretty(&good("b")), good("c"));
    let count = (9 << 20) / piece.len();
    let reading = read_all(&piece.repeat(count));
    assert_eq!((reading.items.len(), reading.rejected.len()), (3 * count, 2 * count));
    assert_eq!(reading.items.last().unwrap().line as usize, count * piece.matches(['\n', '\r']).count());
}
