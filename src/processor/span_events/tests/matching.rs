//! Which span gets which log event.

use super::bench::{Bench, config, log, span};

#[test]
fn span_and_log_meet_in_one_line() {
    let mut bench = Bench::new(&config());
    assert_eq!(bench.accept(0, [span(1, 1).and(log(1, 1, "hit"))]), [""; 0]);
    assert_eq!(bench.expire(10), ["traces 1/1[hit]"]);
}

#[test]
fn span_and_log_meet_in_one_request_in_either_order() {
    for lines in [[span(1, 1), log(1, 1, "hit")], [log(1, 1, "hit"), span(1, 1)]] {
        let mut bench = Bench::new(&config());
        assert_eq!(bench.accept(0, lines), [""; 0]);
        assert_eq!(bench.expire(10), ["traces 1/1[hit]"]);
        assert_eq!(bench.expire(20), [""; 0]);
    }
}

#[test]
fn span_and_log_meet_over_two_requests_in_either_order() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1), log(2, 2, "miss")]);
    bench.accept(5, [log(1, 1, "hit"), span(2, 2)]);
    assert_eq!(bench.expire(10), ["traces 1/1[hit]"]);
    assert_eq!(bench.expire(15), ["traces 2/2[miss]"]);
}

#[test]
fn both_ids_must_be_the_same() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1).and(span(1, 2)).and(span(2, 1))]);
    bench.accept(1, [log(1, 2, "hit"), log(2, 2, "stray")]);
    assert_eq!(bench.expire(11), ["traces 1/1[] 1/2[hit] 2/1[]", "logs stray"]);
}

#[test]
fn every_record_finds_its_own_span_among_several_resources_and_scopes() {
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
fn a_log_that_came_first_waits_as_long_as_a_span_does() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [log(1, 1, "in time"), log(2, 1, "too early")]);
    bench.accept(9, [span(1, 1)]);
    assert_eq!(bench.accept(10, [span(2, 1)]), ["logs too early"]);
    assert_eq!(bench.expire(20), ["traces 1/1[in time]", "traces 2/1[]"]);
}

#[test]
fn a_log_that_comes_when_its_span_has_left_waits_for_a_redelivery_only() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1)]);
    assert_eq!(
        bench.accept(10, [log(1, 1, "late")]),
        ["traces 1/1[]"],
        "the span does not wait for the call"
    );
    assert_eq!(bench.expire(20), ["logs late"]);
}

#[test]
fn a_span_that_is_held_twice_gets_the_event_once_the_one_that_came_first() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1)]);
    bench.accept(5, [span(1, 1)]);
    bench.accept(6, [log(1, 1, "first")]);
    assert_eq!(bench.expire(10), ["traces 1/1[first]"]);
    bench.accept(12, [log(1, 1, "second")]);
    assert_eq!(bench.expire(15), ["traces 1/1[second]"]);
}

#[test]
fn a_span_that_a_line_names_twice_gets_the_event_once() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [log(1, 1, "before"), span(1, 1).and(span(1, 1)), log(1, 1, "after")]);
    assert_eq!(bench.expire(10), ["traces 1/1[before after] 1/1[]"]);
    bench.accept(11, [log(1, 1, "gone")]);
    assert_eq!(bench.expire(21), ["logs gone"]);
}

#[test]
fn several_events_come_to_one_span_from_several_lines() {
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
