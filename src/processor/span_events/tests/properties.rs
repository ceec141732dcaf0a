//! Property: every span and record is exported exactly once, whatever the order, the times and the limits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::bench::{Bench, Ids, Line, config, events_of, ids_of, spans_of};
use crate::config::{SpanEventsConfig, Unmatched};
use crate::event::{Settled, Signal};
use crate::exporter::Export;

/// Requests, each with the second of its arrival. Every span and every record has a unique name.
type Story = Vec<(u64, Vec<Line>)>;

/// Exported spans and records, by name.
#[derive(Debug, Default)]
struct Left {
    /// Names of each line's spans, in the order in which the lines were exported.
    lines: Vec<Vec<String>>,
    /// Names of records, each with the name of its span.
    attached: BTreeMap<String, String>,
    carried: BTreeSet<String>,
    /// Names of the records in each request for `/v1/logs`.
    logs: Vec<Vec<String>>,
}

fn ids() -> impl Strategy<Value = Ids> {
    (1..=2_u8, 1..=3_u8)
}

fn line() -> impl Strategy<Value = (Vec<Ids>, Vec<Option<Ids>>)> {
    (vec(ids(), 0..3), vec(prop::option::weighted(0.85, ids()), 0..4))
}

fn story() -> impl Strategy<Value = Story> {
    vec((0..7_u64, vec(line(), 0..4)), 0..8).prop_map(|requests| {
        let (mut now, mut named) = (0, 0);
        let mut name = |letter| {
            named += 1;
            format!("{letter}{named}")
        };
        let mut named_line = |(spans, records): (Vec<Ids>, Vec<Option<Ids>>)| Line {
            spans: spans.into_iter().map(|ids| (ids, name('s'))).collect(),
            records: records.into_iter().map(|ids| (ids, name('r'))).collect(),
            ..Line::default()
        };
        let mut at = |gap: u64| {
            now += gap;
            now
        };
        requests
            .into_iter()
            .map(|(gap, lines)| (at(gap), lines.into_iter().map(&mut named_line).collect()))
            .collect()
    })
}

fn any_config() -> impl Strategy<Value = SpanEventsConfig> {
    let unmatched =
        prop_oneof![Just(Unmatched::ForwardLog), Just(Unmatched::CarrierSpan), Just(Unmatched::Drop)];
    (prop_oneof![Just(0), 1..15_u64], unmatched, any::<bool>()).prop_map(|(wait, unmatched, keep_logs)| {
        SpanEventsConfig { wait: Duration::from_secs(wait), unmatched, keep_logs, ..config() }
    })
}

// === what must come out ===

/// Returns the span of every record that has one when nothing is evicted: the oldest that is held when the record
/// arrives, or else the first that arrives while the record is held.
fn meetings(story: &Story, wait: u64) -> BTreeMap<String, String> {
    let mut met = BTreeMap::new();
    for (request, (came, lines)) in story.iter().enumerate() {
        for (ids, record) in lines.iter().flat_map(|line| &line.records) {
            let meets = |other: usize, other_came: u64| other == request || other_came.abs_diff(*came) < wait;
            let span = story
                .iter()
                .enumerate()
                .filter(|(other, (other_came, _))| meets(*other, *other_came))
                .flat_map(|(_, (_, lines))| lines.iter().flat_map(|line| &line.spans))
                .find(|(span, _)| Some(*span) == *ids);
            met.extend(span.map(|(_, span)| (record.clone(), span.clone())));
        }
    }
    met
}

fn lines(story: &Story) -> impl Iterator<Item = &Line> {
    story.iter().flat_map(|(_, lines)| lines)
}

fn names<T>(named: &[(T, String)]) -> Vec<String> {
    named.iter().map(|(_, name)| name.clone()).collect()
}

// === what came out ===

/// Reads the requests, and fails for anything that is duplicated or on the wrong span.
fn read(exports: &[Export], story: &Story) -> Result<Left, TestCaseError> {
    let wanted: BTreeMap<&str, Option<Ids>> =
        lines(story).flat_map(|line| &line.records).map(|(ids, name)| (name.as_str(), *ids)).collect();
    let mut left = Left::default();
    for export in exports {
        let json: Value = serde_json::from_slice(&export.request.json()).unwrap();
        if export.signal == Signal::Logs {
            let records = super::bench::describe(export);
            left.logs.push(records.split(' ').skip(1).map(str::to_owned).collect());
            continue;
        }
        let spans = spans_of(&json);
        prop_assert_eq!(export.items as usize, spans.len());
        let is_carrier = spans.iter().any(|span| span["parentSpanId"].is_string());
        if !is_carrier {
            left.lines.push(spans.iter().map(|span| span["name"].as_str().unwrap().to_owned()).collect());
        }
        for span in spans {
            let events = events_of(span);
            prop_assert!(!is_carrier || events.len() == 1);
            for event in events {
                let ids = ids_of(span, if is_carrier { "parentSpanId" } else { "spanId" });
                prop_assert_eq!(wanted.get(event.as_str()), Some(&Some(ids)), "{} on a foreign span", event);
                let name = span["name"].as_str().unwrap().to_owned();
                let again = match is_carrier {
                    true => !left.carried.insert(event.clone()),
                    false => left.attached.insert(event.clone(), name).is_some(),
                };
                prop_assert!(!again, "{} is two events", event);
            }
        }
    }
    Ok(left)
}

/// Checks that every span was exported once with its line, and every record in exactly one way.
fn check_conservation(story: &Story, left: &Left, config: &SpanEventsConfig) -> Result<(), TestCaseError> {
    let mut came: Vec<Vec<String>> =
        lines(story).map(|line| names(&line.spans)).filter(|spans| !spans.is_empty()).collect();
    let mut went = left.lines.clone();
    came.sort();
    went.sort();
    prop_assert_eq!(came, went, "every line with spans is exported once, as one request");

    let mut logs: BTreeMap<&str, usize> = BTreeMap::new();
    for record in left.logs.iter().flatten() {
        *logs.entry(record).or_default() += 1;
    }
    for (ids, record) in lines(story).flat_map(|line| &line.records) {
        let is_event = [left.attached.contains_key(record), left.carried.contains(record)];
        let as_log = logs.get(record.as_str()).copied().unwrap_or(0);
        let expected = match (ids, is_event) {
            (None, [false, false]) => 1,
            (Some(_), [true, false]) => usize::from(config.keep_logs),
            (Some(_), [false, true]) => {
                prop_assert_eq!(config.unmatched, Unmatched::CarrierSpan);
                usize::from(config.keep_logs)
            }
            (Some(_), [false, false]) => {
                prop_assert_ne!(config.unmatched, Unmatched::CarrierSpan, "{} is lost", record);
                usize::from(config.unmatched == Unmatched::ForwardLog)
            }
            _ => return Err(TestCaseError::fail(format!("{record} is attached and carried"))),
        };
        prop_assert_eq!(as_log, expected, "{} as a log", record);
    }
    for request in &left.logs {
        let of_one_line = lines(story).map(|line| names(&line.records)).any(|line| {
            let mut rest = line.iter();
            request.iter().all(|record| rest.any(|other| other == record))
        });
        prop_assert!(of_one_line, "{:?} are not from one line in its order", request);
    }
    Ok(())
}

/// Checks that nothing was settled too early, and that in the end everything is settled once.
fn check_receipts(bench: &mut Bench, story: &Story, left: &Left) -> Result<(), TestCaseError> {
    let spans: usize = lines(story).map(|line| line.spans.len()).sum();
    let records = lines(story).flat_map(|line| &line.records);
    let (with_ids, without): (Vec<_>, Vec<_>) = records.partition(|(ids, _)| ids.is_some());
    let count = |signal, outcome| count_settled(bench, signal, outcome);
    for signal in Signal::ALL {
        for outcome in [Settled::Delivered, Settled::Attached, Settled::Rejected] {
            prop_assert_eq!(count(signal, outcome), 0, "settled before it was delivered");
        }
    }
    let dropped = count(Signal::Logs, Settled::Dropped);
    bench.deliver();
    let count = |signal, outcome| count_settled(bench, signal, outcome);
    prop_assert_eq!(count(Signal::Traces, Settled::Delivered), spans);
    prop_assert_eq!(count(Signal::Logs, Settled::Attached), left.attached.len());
    prop_assert_eq!(count(Signal::Logs, Settled::Dropped), dropped);
    let delivered = with_ids.len() + without.len() - left.attached.len() - dropped;
    prop_assert_eq!(count(Signal::Logs, Settled::Delivered), delivered);
    prop_assert_eq!(bench.kept_requests(), 0);

    let outcomes = ["attached", "forwarded", "carrier", "dropped"].map(|it| bench.counted(it) as usize);
    let forwarded = delivered - without.len() - left.carried.len();
    prop_assert_eq!(outcomes, [left.attached.len(), forwarded, left.carried.len(), dropped]);
    Ok(())
}

fn count_settled(bench: &Bench, signal: Signal, outcome: Settled) -> usize {
    bench.settled(signal, outcome) as usize
}

/// Runs the story; `look` inspects the processor after every request.
fn run_story(
    bench: &mut Bench,
    story: &Story,
    mut look: impl FnMut(&Bench, u64) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    for (now, lines) in story {
        bench.accept(*now, lines.clone());
        look(bench, *now)?;
    }
    bench.flush();
    prop_assert_eq!((bench.processor.held_spans(), bench.processor.held_bytes()), (0, 0));
    prop_assert_eq!(bench.processor.next_deadline(), None);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_match_exactly_the_spans_that_are_held_with_them(story in story(), config in any_config()) {
        let wait = config.wait.as_secs();
        let mut bench = Bench::new(&config);
        run_story(&mut bench, &story, |bench, now| {
            let held = story
                .iter()
                .filter(|(came, _)| *came <= now && now < came + wait)
                .flat_map(|(_, lines)| lines)
                .map(|line| line.spans.len());
            // Later requests of the same second may not have arrived yet.
            prop_assert!(bench.processor.held_spans() <= held.sum());
            if let Some(deadline) = bench.processor.next_deadline() {
                prop_assert!(bench.at(now) < deadline && deadline <= bench.at(now + wait));
            }
            Ok(())
        })?;
        let left = read(&bench.sent, &story)?;
        check_conservation(&story, &left, &config)?;
        prop_assert_eq!(&left.attached, &meetings(&story, wait));
        let came: Vec<Vec<String>> =
            lines(&story).map(|line| names(&line.spans)).filter(|spans| !spans.is_empty()).collect();
        prop_assert_eq!(&left.lines, &came, "lines are exported in the order of arrival");
        check_receipts(&mut bench, &story, &left)?;
    }

    #[test]
    fn nothing_is_lost_or_duplicated_when_the_oldest_are_evicted(
        story in story(),
        config in any_config(),
        max_held_bytes in 0..12_000_u64,
    ) {
        let config = SpanEventsConfig { max_held_bytes, ..config };
        let mut bench = Bench::new(&config);
        run_story(&mut bench, &story, |bench, _| {
            prop_assert!(bench.processor.held_bytes() as u64 <= max_held_bytes);
            Ok(())
        })?;
        let left = read(&bench.sent, &story)?;
        check_conservation(&story, &left, &config)?;
        let possible = meetings(&story, config.wait.as_secs());
        let foreign: Vec<_> = left.attached.keys().filter(|record| !possible.contains_key(*record)).collect();
        prop_assert!(foreign.is_empty(), "{:?} did not meet their spans", foreign);
        check_receipts(&mut bench, &story, &left)?;
    }
}
