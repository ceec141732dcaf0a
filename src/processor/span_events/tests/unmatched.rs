//! Where a log event goes whose span did not come, and what `keep_logs` adds.

use super::bench::{Bench, Line, config, log, plain_log, span};
use crate::config::{SpanEventsConfig, Unmatched};
use crate::event::{Settled, Signal};

fn with(unmatched: Unmatched) -> SpanEventsConfig {
    SpanEventsConfig { unmatched, ..config() }
}

fn keeping(unmatched: Unmatched) -> SpanEventsConfig {
    SpanEventsConfig { keep_logs: true, ..with(unmatched) }
}

/// One record that is attached to a span of another line, one that is not, one that names no span.
fn mixed() -> [Line; 2] {
    [span(1, 1), log(1, 1, "hit").and(log(9, 1, "stray")).and(plain_log("text"))]
}

/// Delivered, attached and dropped log records.
fn log_fates(bench: &Bench) -> [u32; 3] {
    [Settled::Delivered, Settled::Attached, Settled::Dropped].map(|fate| bench.settled(Signal::Logs, fate))
}

#[test]
fn forward_log_sends_what_is_left_as_a_log() {
    let mut bench = Bench::new(&with(Unmatched::ForwardLog));
    bench.accept(0, mixed());
    assert_eq!(bench.expire(10), ["traces 1/1[hit]", "logs stray text"]);
    bench.deliver();
    assert_eq!(log_fates(&bench), [2, 1, 0]);
    assert_eq!((bench.counted("attached"), bench.counted("forwarded")), (1, 1));
    assert_eq!(bench.kept_requests(), 0);
}

#[test]
fn carrier_span_sends_it_on_a_child_of_the_span_that_did_not_come() {
    let mut bench = Bench::new(&with(Unmatched::CarrierSpan));
    bench.accept(0, mixed());
    assert_eq!(bench.expire(10), ["traces 1/1[hit]", "traces carrier of 9/1[stray]", "logs text"]);
    bench.deliver();
    assert_eq!(log_fates(&bench), [2, 1, 0]);
    assert_eq!((bench.counted("carrier"), bench.counted("forwarded")), (1, 0));
    assert_eq!(bench.kept_requests(), 0);
}

#[test]
fn one_line_makes_one_request_of_carrier_spans() {
    let mut bench = Bench::new(&with(Unmatched::CarrierSpan));
    bench.accept(0, [log(9, 1, "a").and(log(8, 2, "b"))]);
    assert_eq!(bench.expire(10), ["traces carrier of 9/1[a] carrier of 8/2[b]"]);
    assert_eq!(bench.kept_requests(), 1, "not before the carriers are delivered");
    bench.deliver();
    assert_eq!(bench.kept_requests(), 0);
}

#[test]
fn drop_settles_it_as_dropped_by_choice_and_counts_it() {
    let mut bench = Bench::new(&with(Unmatched::Drop));
    bench.accept(0, mixed());
    bench.accept(0, [log(9, 9, "alone")]);
    assert_eq!(bench.expire(10), ["traces 1/1[hit]", "logs text"]);
    assert_eq!(log_fates(&bench), [0, 0, 2], "nothing is left to deliver of what was dropped");
    bench.deliver();
    assert_eq!(log_fates(&bench), [1, 1, 2]);
    assert_eq!(bench.counted("dropped"), 2);
    assert_eq!(bench.kept_requests(), 0);
}

#[test]
fn with_keep_logs_the_whole_line_goes_on_as_logs_once() {
    let mut bench = Bench::new(&keeping(Unmatched::ForwardLog));
    bench.accept(0, mixed());
    assert_eq!(bench.expire(10), ["traces 1/1[hit]", "logs hit stray text"]);
    assert_eq!(bench.expire(60), [""; 0]);
    bench.deliver();
    assert_eq!(log_fates(&bench), [2, 1, 0], "every record counts once");
}

#[test]
fn with_keep_logs_a_line_leaves_as_logs_when_its_last_record_is_attached() {
    let mut bench = Bench::new(&keeping(Unmatched::ForwardLog));
    bench.accept(0, [span(1, 1)]);
    assert_eq!(bench.accept(1, [log(1, 1, "hit")]), ["logs hit"]);
}

#[test]
fn with_keep_logs_a_record_is_done_when_both_its_span_and_its_log_are_delivered() {
    for log_first in [true, false] {
        let mut bench = Bench::new(&keeping(Unmatched::ForwardLog));
        bench.accept(0, [span(1, 1).and(log(1, 1, "hit"))]);
        bench.flush();
        if log_first {
            bench.sent.sort_by_key(|export| export.signal != Signal::Logs);
        }
        let last = bench.sent.pop().unwrap();
        bench.deliver();
        assert_eq!(bench.kept_requests(), 1);
        bench.sent.push(last);
        bench.deliver();
        assert_eq!(bench.kept_requests(), 0);
        assert_eq!(log_fates(&bench), [0, 1, 0]);
    }
}

#[test]
fn with_keep_logs_a_carried_record_is_a_log_too() {
    let mut bench = Bench::new(&keeping(Unmatched::CarrierSpan));
    bench.accept(0, mixed());
    assert_eq!(bench.expire(10), ["traces 1/1[hit]", "traces carrier of 9/1[stray]", "logs hit stray text"]);
    bench.deliver();
    assert_eq!(log_fates(&bench), [2, 1, 0]);
    assert_eq!(bench.kept_requests(), 0);
}

#[test]
fn with_keep_logs_what_is_dropped_is_dropped() {
    let mut bench = Bench::new(&keeping(Unmatched::Drop));
    bench.accept(0, mixed());
    assert_eq!(bench.expire(10), ["traces 1/1[hit]", "logs hit text"]);
    bench.deliver();
    assert_eq!(log_fates(&bench), [1, 1, 1]);
    assert_eq!(bench.kept_requests(), 0);
}
