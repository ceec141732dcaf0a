//! Framing of Fastly bodies, compared with a naive framer that was written from the rules alone.
//!
//! The naive framer parses every candidate with serde_json, from every brace, and is quadratic. Of JSON and OTLP it
//! knows serde_json's grammar and six keys; of repair it knows a table of flaws and their replacements.
//!
//! The input is checked twice: as it is, where every complete object must be a frame of its own; and as a recipe for a
//! body of good units, units with flaws, and junk. Every good unit must be accepted once, unaltered; every unit with a
//! flaw must be accepted once, repaired; and everything else must be rejected as often as the naive framer says.

mod naive;
mod recipe;

use bytes::Bytes;
use spanrelay::internals::{Reading, Rejected, frames};

use self::naive::{Part, lines, naive, value_at, without_flaws};
use self::recipe::Recipe;
use super::receivers::fastly;

/// Longer inputs are checked in part, because the naive framer is quadratic.
const MAX_RAW_BYTES: usize = 1024;

/// Number of fragments in a body.
const MAX_PIECES: usize = 24;

/// Checks any bytes, and the body that they are a recipe for.
pub fn framing(input: &[u8]) {
    check_frames(&input[..input.len().min(MAX_RAW_BYTES)]);
    check_recipe(input);
}

/// Checks that every complete object is a frame, and that frames neither overlap nor leave gaps.
fn check_frames(body: &[u8]) {
    let found = frames(body, |text| value_at(text).filter(|value| value.is_unit).map(|value| value.end));
    let shown = body.escape_ascii();
    let mut end = 0;
    for frame in &found {
        assert!(
            frame.start >= end && frame.end > frame.start,
            "frames overlap or are empty in {shown}: {found:?}"
        );
        let between = &body[end..frame.start];
        assert!(is_separator(between), "{} is in no frame of {shown}", between.escape_ascii());
        end = frame.end;
    }
    assert!(is_separator(&body[end..]), "the end is in no frame of {shown}");
    let is_complete = |part: &Part| part.is_unit && value_at(&body[part.range.clone()]).is_some();
    for unit in naive(body).into_iter().filter(is_complete) {
        let is_frame =
            found.iter().any(|frame| frame.end == unit.range.end && frame.start <= unit.range.start);
        assert!(is_frame, "{} is not a frame of {shown}: {found:?}", body[unit.range].escape_ascii());
    }
}

fn is_separator(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let is_separator = |character| " \t\r\n,[]\u{feff}".contains(character);
    // The prefix of an array whose first object is on the next line is in no frame.
    text.lines().flat_map(|line| line.split('\r')).all(|line| {
        let line = line.trim_matches(is_separator);
        line.is_empty() || line.starts_with('<') || line.starts_with(|first: char| first.is_ascii_digit())
    })
}

fn check_recipe(input: &[u8]) {
    let (body, units) = Recipe::new(input).body();
    let parts = naive(&body);
    let shown = body.escape_ascii();
    let found: Vec<&[u8]> =
        parts.iter().filter(|part| part.is_unit).map(|part| &body[part.range.clone()]).collect();
    assert_eq!(found.len(), units.len(), "the recipe and the naive framer differ about {shown}");
    assert!(
        found.iter().zip(&units).all(|(one, other)| *one == other.as_slice()),
        "different units in {shown}"
    );
    check_reading_of(&body, &parts);
}

/// Checks that the receiver's reading of a body is that of the naive framer.
fn check_reading_of(body: &[u8], parts: &[Part]) {
    let shown = body.escape_ascii();
    let Reading { items, rejected, .. } = fastly("").read(&Bytes::copy_from_slice(body));
    let line_of = |at: usize| 1 + lines(body).iter().take_while(|line| line.end < at).count();
    let (units, others): (Vec<&Part>, Vec<&Part>) = parts.iter().partition(|part| part.is_unit);
    let kept: Vec<String> = rejected.iter().map(|entry| entry.input.escape_ascii().to_string()).collect();
    assert_eq!(items.len(), units.len(), "accepted of {shown}, rejected {kept:?}");
    for (item, part) in items.into_iter().zip(units) {
        let text = &body[part.range.clone()];
        let (fixed, _) = without_flaws(text);
        let unit = text.escape_ascii();
        assert_eq!(item.line as usize, line_of(part.range.start), "the line of {unit} in {shown}");
        assert_eq!(item.repairs.is_empty(), fixed == text, "{:?} of {unit} in {shown}", item.repairs);
        let json = item.traces.expect("all units have spans").into_json();
        match fixed == text {
            true => assert!(json == text, "{} is not {unit} in {shown}", json.escape_ascii()),
            false => assert_eq!(value(&json), value(&fixed), "{unit} in {shown}"),
        }
    }
    assert_eq!(Rejected::units(&rejected), others.len(), "rejected of {shown}: {kept:?} and not {others:?}");
}

fn value(json: &[u8]) -> serde_json::Value {
    serde_json::from_slice(json).expect("units are JSON when their flaws are fixed")
}
