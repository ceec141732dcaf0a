//! Times of exports, the requests of a line, and their receipts.

use super::bench::{Bench, config, describe, log, plain_log, points, span};
use crate::config::SpanEventsConfig;
use crate::event::{Settled, Signal};

/// A receipt with its outcome.
type Share = (String, Settled);

#[test]
fn a_line_of_several_spans_is_one_request_after_its_wait() {
    let mut bench = Bench::new(&config());
    assert_eq!(bench.accept(0, [span(1, 1).and(span(1, 2)).and(span(2, 1))]), [""; 0]);
    assert_eq!(bench.expire(9), [""; 0]);
    assert_eq!(bench.expire(10), ["traces 1/1[] 1/2[] 2/1[]"]);
}

#[test]
fn later_lines_and_events_do_not_extend_the_wait() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1)]);
    bench.accept(4, [span(1, 2)]);
    bench.accept(9, [log(1, 1, "hit"), span(1, 1)]);
    assert_eq!(bench.processor.next_deadline(), Some(bench.at(10)));
    assert_eq!(bench.expire(10), ["traces 1/1[hit]"]);
    assert_eq!(bench.processor.next_deadline(), Some(bench.at(14)));
    assert_eq!(bench.expire(14), ["traces 1/2[]"]);
    assert_eq!(bench.processor.next_deadline(), Some(bench.at(19)));
}

#[test]
fn lines_are_exported_in_the_order_of_arrival() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(3, 1), span(1, 1)]);
    bench.accept(1, [span(2, 1)]);
    assert_eq!(bench.expire(60), ["traces 3/1[]", "traces 1/1[]", "traces 2/1[]"]);
}

#[test]
fn a_deadline_is_checked_at_the_next_call() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1)]);
    assert_eq!(bench.accept(12, [span(2, 1)]), ["traces 1/1[]"]);
}

#[test]
fn metrics_are_exported_at_once() {
    let mut bench = Bench::new(&config());
    assert_eq!(bench.accept(0, [points().and(span(1, 1)), points()]), ["metrics request count"; 2]);
    assert_eq!(bench.expire(10), ["traces 1/1[]"]);
    bench.deliver();
    assert_eq!(bench.settled(Signal::Metrics, Settled::Delivered), 2);
}

#[test]
fn a_straight_line_is_exported_at_once_and_matched_with_nothing() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1)]);
    let straight = span(2, 2).and(log(1, 1, "a")).and(log(2, 2, "b")).and(plain_log("c")).straight();
    assert_eq!(bench.accept(1, [straight]), ["traces 2/2[]", "logs a b c"]);
    assert_eq!(bench.accept(2, [log(2, 2, "late")]), [""; 0]);
    assert_eq!(bench.expire(60), ["traces 1/1[]", "logs late"]);
    bench.deliver();
    assert_eq!(bench.kept_requests(), 0);
    assert_eq!(bench.settled(Signal::Logs, Settled::Delivered), 4);
    assert_eq!(bench.counted("forwarded"), 1, "a straight line is not held for spans");
}

#[test]
fn a_line_of_logs_is_a_request_only_for_records_that_were_not_attached() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1), log(1, 1, "hit")]);
    assert_eq!(bench.accept(1, [log(1, 1, "miss").and(plain_log("text"))]), ["logs text"]);
    bench.accept(2, [log(1, 1, "pass").and(log(9, 9, "stray"))]);
    assert_eq!(bench.expire(12), ["traces 1/1[hit miss pass]", "logs stray"]);
}

#[test]
fn logs_without_ids_are_forwarded_at_once() {
    let mut bench = Bench::new(&config());
    assert_eq!(bench.accept(0, [plain_log("a").and(plain_log("b")), plain_log("c")]), ["logs a b", "logs c"]);
    assert_eq!(bench.processor.held_bytes(), 0);
    assert_eq!(bench.counted("forwarded"), 0, "records without ids are not log events");
}

#[test]
fn logs_of_one_line_with_and_without_ids_are_one_request_in_order() {
    let mut bench = Bench::new(&config());
    let line =
        plain_log("a").and(log(9, 1, "b")).and(log(1, 1, "hit")).and(plain_log("c")).and(log(9, 2, "d"));
    bench.accept(0, [span(1, 1), line]);
    assert_eq!(bench.expire(10), ["traces 1/1[hit]", "logs a b c d"]);
    assert_eq!(bench.counted("forwarded"), 2);
}

#[test]
fn logs_are_exported_when_their_last_span_arrives() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [log(1, 1, "a").and(plain_log("text")).and(log(1, 2, "b"))]);
    assert_eq!(bench.accept(1, [span(1, 1)]), [""; 0]);
    assert_eq!(bench.accept(2, [span(1, 2)]), ["logs text"]);
    assert_eq!(bench.expire(12), ["traces 1/1[a]", "traces 1/2[b]"]);
}

#[test]
fn a_flush_exports_everything() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1), log(2, 1, "stray"), log(1, 1, "hit")]);
    bench.accept(1, [span(3, 1)]);
    assert_eq!(bench.flush(), ["traces 1/1[hit]", "logs stray", "traces 3/1[]"]);
    assert_eq!((bench.processor.held_spans(), bench.processor.held_bytes()), (0, 0));
    assert_eq!(bench.processor.next_deadline(), None);
}

#[test]
fn a_record_rejected_as_an_event_and_delivered_as_a_log_is_delivered() {
    for (refused, outcome) in [(Signal::Traces, Settled::Delivered), (Signal::Logs, Settled::Attached)] {
        let mut bench = Bench::new(&SpanEventsConfig { keep_logs: true, ..config() });
        bench.accept(0, [span(1, 1), log(1, 1, "hit")]);
        bench.flush();
        for export in std::mem::take(&mut bench.sent) {
            let is_refused = export.signal == refused;
            export.receipts.into_iter().for_each(|it| match is_refused {
                true => it.receipt.settle(Settled::Rejected),
                false => it.settle(),
            });
        }
        let outcomes = [Settled::Delivered, Settled::Attached, Settled::Rejected]
            .map(|outcome| bench.settled(Signal::Logs, outcome));
        assert_eq!(outcomes.iter().sum::<u32>(), 1, "counted once");
        assert_eq!(bench.settled(Signal::Logs, outcome), 1);
        assert_eq!(bench.kept_requests(), 0);
    }
}

#[test]
fn a_record_is_settled_with_the_request_that_carries_it() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [log(1, 1, "hit").and(log(9, 9, "stray"))]);
    bench.accept(1, [span(1, 1)]);
    bench.expire(60);
    let states: Vec<(String, Vec<Share>)> = bench
        .sent
        .iter()
        .map(|export| {
            let receipts = export.receipts.iter();
            (describe(export), receipts.map(|it| (format!("{:?}", it.receipt), it.outcome)).collect())
        })
        .collect();
    let share = |receipt: &str, outcome| (receipt.to_owned(), outcome);
    let stray = share("Receipt(1 logs from 1 of record 0)", Settled::Delivered);
    let span = share("Receipt(1 traces from 0 of record 1)", Settled::Delivered);
    let hit = share("Receipt(1 logs from 0 of record 0)", Settled::Attached);
    assert_eq!(
        states,
        [("logs stray".to_owned(), vec![stray]), ("traces 1/1[hit]".to_owned(), vec![span, hit])]
    );
    assert_eq!(bench.settled(Signal::Logs, Settled::Attached), 0);
    assert_eq!(
        bench.kept_requests(),
        2,
        "both requests stay in the queue until everything in them is delivered"
    );
    bench.deliver();
    assert_eq!(bench.settled(Signal::Logs, Settled::Attached), 1);
    assert_eq!(bench.kept_requests(), 0);
}

#[test]
fn the_request_of_a_log_stays_in_the_queue_until_its_span_is_delivered() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1)]);
    bench.accept(1, [log(1, 1, "hit")]);
    assert_eq!(bench.kept_requests(), 2);
    bench.flush();
    assert_eq!(bench.kept_requests(), 2);
    bench.deliver();
    assert_eq!(bench.kept_requests(), 0);
}

#[test]
fn the_gauges_show_what_is_held() {
    let mut bench = Bench::new(&config());
    bench.accept(0, [span(1, 1).and(span(1, 2)), span(2, 1), log(9, 9, "stray")]);
    assert_eq!(bench.metric("spanrelay_held_spans"), 3);
    assert_eq!(bench.metric("spanrelay_held_bytes") as usize, bench.processor.held_bytes());
    assert!(bench.processor.held_bytes() > 0);
    bench.expire(10);
    assert_eq!((bench.metric("spanrelay_held_spans"), bench.metric("spanrelay_held_bytes")), (0, 0));
}
