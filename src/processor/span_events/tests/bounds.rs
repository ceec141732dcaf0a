//! What waiting costs: memory within its bound, and work that does not grow with what is held.

use super::super::entry::{WaitingLogs, WaitingSpans};
use super::bench::{Bench, Line, config, log, plain_log, span};
use crate::config::{SpanEventsConfig, Unmatched};
use crate::event::Signal;

fn bounded(max_held_bytes: usize) -> SpanEventsConfig {
    SpanEventsConfig { max_held_bytes: max_held_bytes as u64, ..config() }
}

/// What holding this line costs, in bytes.
fn cost(line: &Line) -> usize {
    let bench = Bench::new(&config());
    let taken = bench.take();
    let spans = line.traces().map(|traces| {
        WaitingSpans::new(traces, taken.part(Signal::Traces, 0..1), bench.at(0)).bytes_to_hold()
    });
    let logs = line
        .logs()
        .map(|logs| WaitingLogs::new(logs, taken.part(Signal::Logs, 0..1), bench.at(0)).bytes_to_hold());
    spans.unwrap_or(0) + logs.unwrap_or(0)
}

fn fat_span(trace: u8) -> Line {
    let mut line = span(trace, 1);
    line.spans[0].1 = "x".repeat(10_000);
    line
}

#[test]
fn what_a_line_is_said_to_cost_is_what_is_counted_while_it_is_held() {
    for line in [span(1, 1), span(1, 1).and(span(1, 2)), log(1, 1, "a"), log(1, 1, "a").and(plain_log("b"))] {
        let mut bench = Bench::new(&config());
        let cost = cost(&line);
        bench.accept(0, [line.clone()]);
        assert_eq!(bench.processor.held_bytes(), cost, "{line:?}");
    }
}

#[test]
fn the_oldest_leave_first_and_at_once_with_the_events_they_have() {
    let mut bench = Bench::new(&bounded(3 * cost(&span(1, 1)) + 2 * cost(&log(1, 1, "hit"))));
    bench.accept(0, [span(1, 1), log(1, 1, "hit")]);
    bench.accept(1, [span(2, 1)]);
    assert_eq!(bench.accept(2, [span(3, 1)]), [""; 0]);
    assert_eq!(bench.accept(3, [span(4, 1), span(5, 1)]), ["traces 1/1[hit]"]);
    assert_eq!(bench.accept(4, [span(6, 1)]), ["traces 2/1[]"]);
}

#[test]
fn logs_that_are_driven_out_go_the_unmatched_way() {
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
fn a_request_is_matched_before_anything_of_it_is_driven_out() {
    let mut bench = Bench::new(&bounded(cost(&span(1, 1))));
    let lines = [span(1, 1), span(2, 1), log(1, 1, "a"), log(2, 1, "b")];
    assert_eq!(bench.accept(0, lines), ["traces 1/1[a]", "traces 2/1[b]"]);
}

#[test]
fn spans_larger_than_the_bound_pass_through_with_their_events_and_drive_nothing_out() {
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
fn logs_larger_than_the_bound_pass_through_when_they_have_met_their_request() {
    let mut bench = Bench::new(&bounded(10_000));
    let logs = (0..100).map(|_| log(9, 9, "stray")).fold(log(1, 1, "hit"), Line::and);
    let left = bench.accept(0, [logs, span(1, 1)]);
    assert_eq!(left, [format!("logs {}", vec!["stray"; 100].join(" "))]);
    assert_eq!(bench.expire(10), ["traces 1/1[hit]"]);
}

#[test]
fn a_span_that_passed_through_leaves_no_trace_behind_an_older_one_with_the_same_ids() {
    let mut bench = Bench::new(&bounded(2 * cost(&span(1, 1))));
    bench.accept(0, [span(1, 1)]);
    bench.accept(1, [fat_span(1)]);
    assert_eq!(bench.expire(10), ["traces 1/1[]"]);
    assert_eq!(bench.processor.held_bytes(), 0);
    assert_eq!(bench.accept(11, [log(1, 1, "late")]), [""; 0]);
    assert_eq!(bench.flush(), ["logs late"]);
}

#[test]
fn events_count_as_held_until_their_span_leaves() {
    let mut bench = Bench::new(&bounded(20_000));
    bench.accept(0, [span(1, 1)]);
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
fn a_bound_of_zero_holds_nothing() {
    let mut bench = Bench::new(&bounded(0));
    let lines = [log(1, 1, "hit"), span(1, 1), log(9, 9, "stray")];
    assert_eq!(bench.accept(0, lines), ["logs stray", "traces 1/1[hit]"]);
    assert_eq!(bench.processor.held_bytes(), 0);
}

#[test]
fn an_endless_wait_is_no_overflow() {
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

/// How often a held place is touched for each of `count` spans or records, from arrival until all is delivered.
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
fn many_lines_of_one_span_cost_no_more_each_than_few() {
    assert_flat(|bench, count| {
        bench.accept(0, (0..count).map(|_| span(1, 1)));
        bench.accept(1, (0..count).map(|_| log(1, 1, "hit")));
    });
}

#[test]
fn many_logs_of_one_span_cost_no_more_each_than_few() {
    assert_flat(|bench, count| {
        bench.accept(0, (0..count).map(|_| log(1, 1, "hit")));
        bench.accept(1, [span(1, 1)]);
        bench.accept(2, (0..count).map(|_| log(1, 1, "hit")));
    });
}

#[test]
fn many_logs_whose_span_never_comes_cost_no_more_each_than_few() {
    assert_flat(|bench, count| {
        bench.accept(0, (0..count).map(|_| log(9, 9, "stray")));
    });
}

#[test]
fn many_spans_and_records_with_one_key_in_one_line_cost_no_more_each_than_few() {
    assert_flat(|bench, count| {
        let spans = Line { spans: vec![((1, 1), "again".into()); count], ..Line::default() };
        let records = Line { records: vec![(Some((2, 2)), "stray".into()); count], ..Line::default() };
        bench.accept(0, [spans]);
        bench.accept(1, [records]);
    });
}

#[test]
fn many_lines_that_pass_through_behind_an_older_one_cost_no_more_each_than_few() {
    assert_flat(|bench, count| {
        bench.accept(0, [span(1, 1)]);
        bench.processor.max_held_bytes = 1_000;
        let fat = Line { spans: vec![((1, 1), "again".into()); 4], ..Line::default() };
        assert!(cost(&fat) > 1_000 && cost(&span(1, 1)) < 1_000);
        bench.accept(1, (0..count / 4).map(|_| fat.clone()));
    });
}

#[test]
fn what_arrives_costs_the_same_however_much_is_held() {
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
