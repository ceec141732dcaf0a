//! Two halves say what the whole does.

use proptest::prelude::*;

use super::*;
use crate::internals::bench::lines as bench;

const SETTINGS: Settings = Settings { repair: Mending::Unambiguous, max_line_bytes: 1 << 20 };

fn in_one(body: &Bytes) -> Reading {
    Splitter::read(body, &SETTINGS).reading
}

/// Both as text, which shows all that is in them.
fn assert_same(body: &Bytes, in_two: &Reading) {
    let text = String::from_utf8_lossy(body);
    assert!(format!("{in_two:?}") == format!("{:?}", in_one(body)), "read otherwise in two: {text}");
}

fn lines(count: u64, line: fn(u64) -> String) -> Bytes {
    bench::body((0..count).map(line))
}

#[test]
fn good_lines_are_read_in_two_halves_as_in_one() {
    for body in [lines(100, bench::canonical), lines(101, bench::legacy), lines(100, bench::broken)] {
        let in_two = halves::read(&body, &SETTINGS).expect("it has a middle");
        assert_eq!(in_two.items.last().unwrap().line as usize, in_two.items.len());
        assert_same(&body, &in_two);
    }
}

#[test]
fn a_body_is_read_in_two_halves_when_it_is_large() {
    let body = lines(3_000, bench::canonical);
    assert!(body.len() > halves::FROM_BYTES);
    assert_same(&body, &read(&body, &SETTINGS));
}

#[test]
fn what_reaches_across_the_middle_is_read_in_one() {
    let line = bench::canonical(1);
    let array = Bytes::from(format!("[{}]", vec![line.clone(); 9].join(",\n")));
    assert!(halves::read(&array, &SETTINGS).is_none());
    let without_middle = Bytes::from(vec![line.clone(); 9].concat());
    assert!(halves::read(&without_middle, &SETTINGS).is_none());
    let short = format!("{line}\n{}", "{\"resourceSpans\":[]}\n".repeat(bounds::MAX_LINES));
    assert!(halves::read(&Bytes::from(short), &SETTINGS).is_none());
}

/// What senders write, and what is wrong with it.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let line = bench::canonical(7);
    let cut_off: String = line.chars().take(line.len() / 2).collect();
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&line).unwrap());
    let text = |text: &str| Just(text.as_bytes().to_vec());
    prop_oneof![
        4 => text(&line),
        2 => text(&bench::legacy(3)),
        1 => text(&bench::log(7)),
        1 => text(&bench::broken(5)),
        1 => text(&cut_off),
        1 => text(&pretty.unwrap()),
        1 => text(&format!("{line}{line}")),
        1 => text("["),
        1 => text("]"),
        1 => text(","),
        1 => text("{\"resourceLogs\":["),
        1 => text("<134>1 "),
        1 => text("\r"),
        1 => text("x"),
        1 => Just(b"{\"resourceSpans\":[{\"x\":\"\xff\"}]}".to_vec()),
        6 => text("\n"),
        1 => text("\n{\"resourceSpans\":[]}\n"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_is_read_in_two_halves_is_what_is_read_in_one(pieces in proptest::collection::vec(piece(), 1..24)) {
        let body = Bytes::from(pieces.concat());
        if let Some(in_two) = halves::read(&body, &SETTINGS) {
            assert_same(&body, &in_two);
        }
    }
}
