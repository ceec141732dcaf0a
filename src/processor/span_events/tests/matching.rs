//! Matching of log events with spans.

use super::bench::{Bench, config, log, span};

#[test]
fn a_span_and_a_log_match_in_one_line() {
    let mut bench = Bench::new(&config());
    assert_eq!(bench.accept(0, [span(1, 1).and(log(1, 1, "hit"))]), [""; 0]);
    assert_eq!(bench.expire(10), ["traces 1/1[hit]"]);
}

#[test]
fn a_span_and_a_log_match_in_one_request_in_either_order() {
    for lines in [[span(1, 1), log(1, 1, "hit")], [log(1, 1, "hit"), span(1, 1)]] {
        let mut bench = Bench::new(&config());
        assert_eq!(bench.accept(0, lines), [""; 0]);
        assert_eq!(bench.expire(10), ["traces 1/1[hit]"]);
        assert_eq!(bench.expire(20), [""; 0]);
    }
}

#[test]
fn a_span_and_a_log_match_across_requests_in_either_order() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1), log(2, 2, "miss")]);
    bench.accept(5, [log(1, 1, "hit"), span(2, 2)]);
    assert_eq!(bench.expire(10), ["traces 1/1[hit]"]);
    assert_eq!(bench.expire(15), ["traces 2/2[miss]"]);
}

#[test]
fn both_ids_must_match() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1).and(span(1, 2)).and(span(2, 1))]);
    bench.accept(1, [log(1, 2, "hit"), log(2, 2, "stray")]);
    assert_eq!(bench.expire(11), ["traces 1/1[] 1/2[hit] 2/1[]", "logs stray"]);
}

#[test]
fn every_record_matches_its_own_span_among_resources_and_scopes() {
    let mut bench = Bench::new(&config());
    let spans = (1..=9).map(|number| span(1, number)).reduce(|all, one| all.and(one)).unwrap();
    let logs = (1..=9).rev().map(|number| log(1, number, &format!("e{number}")));
    bench.accept(0, [spans]);
    bench.accept(1, [logs.reduce(|all, one| all.and(one)).unwrap()]);
    let each: Vec<String> = (1..=9).map(|number| format!("1/{number}[e{number}]")).collect();
    assert_eq!(bench.expire(10), [format!("traces {}", each.join(" "))]);
}

#[test]
fn edge_and_shield_of_one_request_keep_their_own_events() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1), log(1, 2, "shield hit")]);
    bench.accept(4, [span(1, 2), log(1, 1, "edge miss")]);
    assert_eq!(bench.expire(20), ["traces 1/1[edge miss]", "traces 1/2[shield hit]"]);
}

#[test]
fn a_log_that_arrived_first_is_held_as_long_as_a_span() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [log(1, 1, "in time"), log(2, 1, "too early")]);
    bench.accept(9, [span(1, 1)]);
    assert_eq!(bench.accept(10, [span(2, 1)]), ["logs too early"]);
    assert_eq!(bench.expire(20), ["traces 1/1[in time]", "traces 2/1[]"]);
}

#[test]
fn a_log_after_the_export_of_its_span_is_held_for_a_redelivery() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1)]);
    assert_eq!(bench.accept(10, [log(1, 1, "late")]), ["traces 1/1[]"], "the span is due before the call");
    assert_eq!(bench.expire(20), ["logs late"]);
}

#[test]
fn of_a_span_that_is_held_twice_the_older_one_gets_the_event() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1)]);
    bench.accept(5, [span(1, 1)]);
    bench.accept(6, [log(1, 1, "first")]);
    assert_eq!(bench.expire(10), ["traces 1/1[first]"]);
    bench.accept(12, [log(1, 1, "second")]);
    assert_eq!(bench.expire(15), ["traces 1/1[second]"]);
}

#[test]
fn of_a_span_that_is_twice_in_a_line_the_first_gets_the_event() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [log(1, 1, "before"), span(1, 1).and(span(1, 1)), log(1, 1, "after")]);
    assert_eq!(bench.expire(10), ["traces 1/1[before after] 1/1[]"]);
    bench.accept(11, [log(1, 1, "gone")]);
    assert_eq!(bench.expire(21), ["logs gone"]);
}

#[test]
fn one_span_gets_events_from_several_lines() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [log(1, 1, "a"), log(1, 1, "b").and(log(1, 1, "c"))]);
    bench.accept(1, [span(1, 1)]);
    bench.accept(2, [log(1, 1, "d")]);
    let left = bench.expire(11);
    assert_eq!(left.len(), 1);
    for name in ["a", "b", "c", "d"] {
        assert!(left[0].contains(name), "{name} in {left:?}");
    }
}

#[test]
fn without_a_wait_only_one_request_is_matched_and_nothing_is_held() {
    let mut config = config();
    config.wait = std::time::Duration::ZERO;
    let mut bench = Bench::new(&config);
    let lines = [log(1, 1, "hit"), span(1, 1), span(2, 1), log(3, 1, "stray")];
    assert_eq!(bench.accept(0, lines), ["traces 1/1[hit]", "traces 2/1[]", "logs stray"]);
    assert_eq!(bench.processor.next_deadline(), None);
    assert_eq!((bench.processor.held_spans(), bench.processor.held_bytes()), (0, 0));
    assert_eq!(bench.accept(0, [log(2, 1, "other request")]), ["logs other request"]);
}
