//! Export of log events whose span did not arrive, and the effect of `keep_logs`.

use super::bench::{Bench, Line, config, log, plain_log, span};
use crate::config::{SpanEventsConfig, Unmatched};
use crate::event::{Settled, Signal};

fn with(unmatched: Unmatched) -> SpanEventsConfig {
    SpanEventsConfig { unmatched, ..config() }
}

fn keeping(unmatched: Unmatched) -> SpanEventsConfig {
    SpanEventsConfig { keep_logs: true, ..with(unmatched) }
}

/// Returns lines with a record that is attached to a span of another line, one that is not, and one that names no span.
fn mixed() -> [Line; 2] {
    [span(1, 1), log(1, 1, "hit").and(log(9, 1, "stray")).and(plain_log("text"))]
}

/// Returns the numbers of delivered, attached and dropped log records.
fn settled_logs(bench: &Bench) -> [u32; 3] {
    [Settled::Delivered, Settled::Attached, Settled::Dropped]
        .map(|outcome| bench.settled(Signal::Logs, outcome))
}

#[test]
fn forward_log_exports_unmatched_records_as_logs() {
    let mut bench = Bench::new(&with(Unmatched::ForwardLog));
    bench.accept(0, mixed());
    assert_eq!(bench.expire(10), ["traces 1/1[hit]", "logs stray text"]);
    bench.deliver();
    assert_eq!(settled_logs(&bench), [2, 1, 0]);
    assert_eq!((bench.counted("attached"), bench.counted("forwarded")), (1, 1));
    assert_eq!(bench.kept_requests(), 0);
}

#[test]
fn carrier_span_exports_unmatched_records_on_children_of_missing_spans() {
    let mut bench = Bench::new(&with(Unmatched::CarrierSpan));
    bench.accept(0, mixed());
    assert_eq!(bench.expire(10), ["traces 1/1[hit]", "traces carrier of 9/1[stray]", "logs text"]);
    bench.deliver();
    assert_eq!(settled_logs(&bench), [2, 1, 0]);
    assert_eq!((bench.counted("carrier"), bench.counted("forwarded")), (1, 0));
    assert_eq!(bench.kept_requests(), 0);
}

#[test]
fn the_carrier_spans_of_one_line_are_one_request() {
    let mut bench = Bench::new(&with(Unmatched::CarrierSpan));
    bench.accept(0, [log(9, 1, "a").and(log(8, 2, "b"))]);
    assert_eq!(bench.expire(10), ["traces carrier of 9/1[a] carrier of 8/2[b]"]);
    assert_eq!(bench.kept_requests(), 1, "the request stays until the carriers are delivered");
    bench.deliver();
    assert_eq!(bench.kept_requests(), 0);
}

#[test]
fn drop_settles_unmatched_records_as_dropped_and_counts_them() {
    let mut bench = Bench::new(&with(Unmatched::Drop));
    bench.accept(0, mixed());
    bench.accept(0, [log(9, 9, "alone")]);
    assert_eq!(bench.expire(10), ["traces 1/1[hit]", "logs text"]);
    assert_eq!(settled_logs(&bench), [0, 0, 2], "dropped records are settled");
    bench.deliver();
    assert_eq!(settled_logs(&bench), [1, 1, 2]);
    assert_eq!(bench.counted("dropped"), 2);
    assert_eq!(bench.kept_requests(), 0);
}

#[test]
fn with_keep_logs_the_whole_line_is_exported_as_logs_once() {
    let mut bench = Bench::new(&keeping(Unmatched::ForwardLog));
    bench.accept(0, mixed());
    assert_eq!(bench.expire(10), ["traces 1/1[hit]", "logs hit stray text"]);
    assert_eq!(bench.expire(60), [""; 0]);
    bench.deliver();
    assert_eq!(settled_logs(&bench), [2, 1, 0], "every record counts once");
}

#[test]
fn with_keep_logs_a_line_is_exported_as_logs_when_its_last_record_is_attached() {
    let mut bench = Bench::new(&keeping(Unmatched::ForwardLog));
    bench.accept(0, [span(1, 1)]);
    assert_eq!(bench.accept(1, [log(1, 1, "hit")]), ["logs hit"]);
}

#[test]
fn with_keep_logs_a_record_is_resolved_when_its_span_and_its_log_are_delivered() {
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
        assert_eq!(settled_logs(&bench), [0, 1, 0]);
    }
}

#[test]
fn with_keep_logs_a_carried_record_is_exported_as_a_log_too() {
    let mut bench = Bench::new(&keeping(Unmatched::CarrierSpan));
    bench.accept(0, mixed());
    assert_eq!(bench.expire(10), ["traces 1/1[hit]", "traces carrier of 9/1[stray]", "logs hit stray text"]);
    bench.deliver();
    assert_eq!(settled_logs(&bench), [2, 1, 0]);
    assert_eq!(bench.kept_requests(), 0);
}

#[test]
fn with_keep_logs_dropped_records_are_not_exported() {
    let mut bench = Bench::new(&keeping(Unmatched::Drop));
    bench.accept(0, mixed());
    assert_eq!(bench.expire(10), ["traces 1/1[hit]", "logs hit text"]);
    bench.deliver();
    assert_eq!(settled_logs(&bench), [1, 1, 1]);
    assert_eq!(bench.kept_requests(), 0);
}
