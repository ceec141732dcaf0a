//! Cost of holding: memory stays within its limit, and work does not grow with the amount of held data.

use super::super::entry::{HeldLogs, HeldSpans};
use super::bench::{Bench, Line, config, log, plain_log, span};
use crate::config::{SpanEventsConfig, Unmatched};
use crate::event::Signal;

fn bounded(max_held_bytes: usize) -> SpanEventsConfig {
    SpanEventsConfig { max_held_bytes: max_held_bytes as u64, ..config() }
}

/// Returns the memory that holding this line takes, in bytes.
fn cost(line: &Line) -> usize {
    let bench = Bench::new(&config());
    let taken = bench.take();
    let spans =
        line.traces().map(|traces| HeldSpans::new(traces, taken.part(Signal::Traces, 0..1)).bytes_to_hold());
    let logs = line.logs().map(|logs| HeldLogs::new(logs, taken.part(Signal::Logs, 0..1)).bytes_to_hold());
    spans.unwrap_or(0) + logs.unwrap_or(0)
}

fn fat_span(trace: u8) -> Line {
    let mut line = span(trace, 1);
    line.spans[0].1 = "x".repeat(10_000);
    line
}

#[test]
fn the_predicted_cost_of_a_line_is_counted_while_it_is_held() {
    for line in [span(1, 1), span(1, 1).and(span(1, 2)), log(1, 1, "a"), log(1, 1, "a").and(plain_log("b"))] {
        let mut bench = Bench::new(&config());
        let cost = cost(&line);
        bench.accept(0, [line.clone()]);
        assert_eq!(bench.processor.held_bytes(), cost, "{line:?}");
    }
}

#[test]
fn above_the_limit_the_oldest_are_exported_at_once_with_their_events() {
    let mut bench = Bench::new(&bounded(5 * cost(&span(1, 1)) - 1));
    bench.accept(0, [span(1, 1), log(1, 1, "hit")]);
    bench.accept(1, [span(2, 1)]);
    assert_eq!(bench.accept(2, [span(3, 1)]), [""; 0]);
    assert_eq!(bench.accept(3, [span(4, 1), span(5, 1)]), ["traces 1/1[hit]"]);
    assert_eq!(bench.accept(4, [span(6, 1)]), ["traces 2/1[]"]);
}

#[test]
fn evicted_logs_are_treated_as_unmatched() {
    for (unmatched, leaves) in [
        (Unmatched::ForwardLog, vec!["logs early"]),
        (Unmatched::CarrierSpan, vec!["traces carrier of 9/1[early]"]),
        (Unmatched::Drop, vec![]),
    ] {
        let bound = cost(&span(1, 1)) + cost(&log(9, 1, "early")) - 1;
        let mut bench = Bench::new(&SpanEventsConfig { unmatched, ..bounded(bound) });
        bench.accept(0, [log(9, 1, "early")]);
        assert_eq!(bench.accept(1, [span(1, 1)]), leaves);
        assert_eq!(bench.processor.held_spans(), 1);
    }
}

#[test]
fn a_request_is_matched_before_any_of_it_is_evicted() {
    let mut bench = Bench::new(&bounded(cost(&span(1, 1))));
    let lines = [span(1, 1), span(2, 1), log(1, 1, "a"), log(2, 1, "b")];
    assert_eq!(bench.accept(0, lines), ["traces 1/1[a]", "traces 2/1[b]"]);
}

#[test]
fn spans_above_the_limit_are_exported_with_their_events_and_evict_nothing() {
    let mut bench = Bench::new(&bounded(2 * cost(&span(1, 1)) + cost(&log(2, 1, "late"))));
    bench.accept(0, [span(1, 1)]);
    let left = bench.accept(1, [log(2, 1, "hit"), fat_span(2)]);
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].ends_with("x[hit]"), "{left:?}");
    assert_eq!(bench.processor.held_spans(), 1);
    assert_eq!(bench.accept(2, [log(2, 1, "late")]), [""; 0]);
    assert_eq!(bench.expire(60), ["traces 1/1[]", "logs late"]);
}

#[test]
fn logs_above_the_limit_are_exported_after_matching_their_request() {
    let mut bench = Bench::new(&bounded(10_000));
    let logs = (0..100).map(|_| log(9, 9, "stray")).fold(log(1, 1, "hit"), Line::and);
    let left = bench.accept(0, [logs, span(1, 1)]);
    assert_eq!(left, [format!("logs {}", vec!["stray"; 100].join(" "))]);
    assert_eq!(bench.expire(10), ["traces 1/1[hit]"]);
}

#[test]
fn a_span_above_the_limit_is_forgotten_even_after_an_older_one_with_its_ids() {
    let mut bench = Bench::new(&bounded(2 * cost(&span(1, 1))));
    bench.accept(0, [span(1, 1)]);
    bench.accept(1, [fat_span(1)]);
    assert_eq!(bench.expire(10), ["traces 1/1[]"]);
    assert_eq!(bench.processor.held_bytes(), 0);
    assert_eq!(bench.accept(11, [log(1, 1, "late")]), [""; 0]);
    assert_eq!(bench.flush(), ["logs late"]);
}

#[test]
fn events_count_as_held_until_their_span_is_exported() {
    let mut bench = Bench::new(&bounded(20_000));
    bench.accept(0, [span(1, 1), log(1, 1, "hit")]);
    let before = bench.processor.held_bytes();
    bench.accept(1, [log(1, 1, "hit")]);
    let one = bench.processor.held_bytes() - before;
    assert!(one > 0);
    let left: Vec<String> = (0..20_000 / one).flat_map(|_| bench.accept(2, [log(1, 1, "hit")])).collect();
    assert_eq!(left.len(), 2 - usize::from(left.len() == 1), "{left:?}");
    assert!(left[0].starts_with("traces 1/1[hit hit"), "{left:?}");
    bench.flush();
    assert_eq!(bench.processor.held_bytes(), 0);
}

#[test]
fn a_limit_of_zero_holds_nothing() {
    let mut bench = Bench::new(&bounded(0));
    let lines = [log(1, 1, "hit"), span(1, 1), log(9, 9, "stray")];
    assert_eq!(bench.accept(0, lines), ["logs stray", "traces 1/1[hit]"]);
    assert_eq!(bench.processor.held_bytes(), 0);
}

#[test]
fn an_endless_wait_does_not_overflow() {
    let mut bench = Bench::new(&SpanEventsConfig { wait: std::time::Duration::MAX, ..config() });
    bench.accept(0, [span(1, 1)]);
    assert_eq!(bench.expire(1_000_000), [""; 0]);
    assert_eq!(bench.flush(), ["traces 1/1[]"]);
}

// === work: steps are counted, so no machine is too slow for these ===

const MANY: usize = 20_000;

fn unbounded() -> Bench {
    Bench::new(&SpanEventsConfig { max_held_bytes: u64::MAX, ..config() })
}

/// Returns the number of accesses to held data for each of `count` spans or records, until all is delivered.
fn steps_for_each(count: usize, story: impl FnOnce(&mut Bench, usize)) -> f64 {
    let mut bench = unbounded();
    story(&mut bench, count);
    bench.expire(1_000);
    assert_eq!((bench.processor.held_spans(), bench.processor.held_bytes()), (0, 0));
    bench.deliver();
    assert_eq!(bench.kept_requests(), 0);
    bench.processor.hold.steps() as f64 / count as f64
}

fn assert_flat(story: impl Fn(&mut Bench, usize)) {
    let [few, many] = [MANY / 100, MANY].map(|count| steps_for_each(count, &story));
    assert!(many < few * 1.1, "{few} steps for each of {}, {many} of {MANY}", MANY / 100);
    assert!(many < 20.0, "{many} steps for each");
}

#[test]
fn the_cost_of_a_line_does_not_grow_with_the_lines_of_one_span() {
    assert_flat(|bench, count| {
        bench.accept(0, (0..count).map(|_| span(1, 1)));
        bench.accept(1, (0..count).map(|_| log(1, 1, "hit")));
    });
}

#[test]
fn the_cost_of_a_log_does_not_grow_with_the_logs_of_one_span() {
    assert_flat(|bench, count| {
        bench.accept(0, (0..count).map(|_| log(1, 1, "hit")));
        bench.accept(1, [span(1, 1)]);
        bench.accept(2, (0..count).map(|_| log(1, 1, "hit")));
    });
}

#[test]
fn the_cost_of_a_log_does_not_grow_with_the_logs_of_a_missing_span() {
    assert_flat(|bench, count| {
        bench.accept(0, (0..count).map(|_| log(9, 9, "stray")));
    });
}

#[test]
fn the_cost_of_an_item_does_not_grow_with_the_items_of_one_key_in_a_line() {
    assert_flat(|bench, count| {
        let spans = Line { spans: vec![((1, 1), "again".into()); count], ..Line::default() };
        let records = Line { records: vec![(Some((2, 2)), "stray".into()); count], ..Line::default() };
        bench.accept(0, [spans]);
        bench.accept(1, [records]);
    });
}

#[test]
fn the_cost_of_a_line_above_the_limit_does_not_grow_with_such_lines() {
    assert_flat(|bench, count| {
        bench.accept(0, [span(1, 1)]);
        bench.processor.max_held_bytes = 1_000;
        let fat = Line { spans: vec![((1, 1), "again".into()); 4], ..Line::default() };
        assert!(cost(&fat) > 1_000 && cost(&span(1, 1)) < 1_000);
        bench.accept(1, (0..count / 4).map(|_| fat.clone()));
    });
}

#[test]
fn the_cost_of_an_arrival_does_not_grow_with_the_held_data() {
    let [few, many] = [10_u16, 10_000].map(|held| {
        let mut bench = unbounded();
        let ids = (0..held).map(|number| (10 + (number / 200) as u8, 1 + (number % 200) as u8));
        bench.accept(0, ids.flat_map(|(trace, id)| [span(trace, id), log(trace + 100, id, "early")]));
        let before = bench.processor.hold.steps();
        bench.accept(1, [span(1, 1), log(1, 1, "hit"), log(2, 1, "early"), log(10, 1, "hit")]);
        bench.accept(2, [span(2, 1), span(110, 1)]);
        bench.processor.hold.steps() - before
    });
    assert_eq!(few, many);
}
