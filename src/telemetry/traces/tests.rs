//! Recording of spans, without an endpoint.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::telemetry::Metrics;

const ID: &str = "0192f0c1-6a5b-4c3d-8e2f-00ff00ff00ff";

/// Enabled self-tracing with its finished spans.
struct On {
    traces: SelfTraces,
    spans: mpsc::Receiver<Span>,
    counts: OwnSpanCounts,
}

fn on(sampling_ratio: f64) -> On {
    let (traces, counts) = (SelfTraces::default(), Metrics::new().own_spans());
    let spans = traces.start(sampling_ratio, counts.clone());
    On { traces, spans, counts }
}

impl On {
    fn request(&self) -> OwnSpan {
        self.traces.request(None, &HeaderMap::new(), || "POST /fastly".to_owned())
    }
}

#[test]
fn disabled_self_tracing_records_and_computes_nothing() {
    let traces = SelfTraces::default();
    let request = traces.request(Some(ID), &HeaderMap::new(), || panic!("the name is not needed"));
    assert_eq!(request.cause(), Cause::Unknown);
    assert!(!traces.part_of(&request, "queue offer").is_recorded());
    let attempts = traces.export(|| -> std::iter::Empty<Cause> { panic!("causes are not needed") });
    assert!(!attempts.begin(|| panic!("the name is not needed")).0.is_recorded());
}

#[test]
fn the_configured_fraction_of_whole_traces_is_sampled() {
    let on = on(0.25);
    let requests: Vec<OwnSpan> = (0..2000).map(|_| on.request()).collect();
    let recorded = requests.iter().filter(|request| request.is_recorded()).count();
    // Nine standard deviations.
    assert!((325..=675).contains(&recorded), "{recorded}");
    for request in &requests {
        assert_eq!(on.traces.part_of(request, "queue offer").is_recorded(), request.is_recorded());
        let export = on.traces.export(|| [request.cause()].into_iter());
        assert_eq!(export.begin(String::new).0.is_recorded(), request.is_recorded());
    }
}

#[test]
fn the_trace_has_the_id_of_the_request() {
    let mut on = on(1.0);
    drop(on.traces.request(Some(ID), &HeaderMap::new(), String::new));
    let span = on.spans.try_recv().unwrap();
    assert_eq!(span.trace_id, Uuid::parse_str(ID).unwrap().into_bytes());
}

#[test]
fn a_self_tracing_request_of_any_version_is_not_recorded() {
    let on = on(1.0);
    for (agent, recorded) in [
        (USER_AGENT_OF_OWN, false),
        ("spanrelay/99.0.0-beta (own traces)", false),
        ("spanrelay/0.1.0", true),
        ("curl/8", true),
    ] {
        let headers = HeaderMap::from_iter([(USER_AGENT, agent.parse().unwrap())]);
        let request = on.traces.request(None, &headers, String::new);
        assert_eq!(request.is_recorded(), recorded, "{agent}");
        let export = on.traces.export(|| [request.cause()].into_iter());
        assert_eq!(export.begin(String::new).0.is_recorded(), recorded, "nor what follows from it: {agent}");
    }
}

#[test]
fn exports_of_an_earlier_process_have_a_trace_of_their_own() {
    let mut on = on(1.0);
    drop(on.traces.export(|| [Cause::Unknown].into_iter()).begin(|| "export traces".to_owned()));
    let span = on.spans.try_recv().unwrap();
    assert!(span.parent_span_id.is_empty() && span.links.is_empty());
}

#[test]
fn links_are_bounded_and_dropped_links_are_counted() {
    let mut on = on(1.0);
    let requests: Vec<OwnSpan> = (0..200).map(|_| on.request()).collect();
    let causes = requests.iter().chain(&requests).map(OwnSpan::cause);
    drop(on.traces.export(|| causes).begin(String::new));
    let span = on.spans.try_recv().unwrap();
    assert_eq!((span.links.len(), span.dropped_links_count), (MAX_LINKS, 72));
}

#[test]
fn spans_beyond_the_queue_are_dropped_and_counted() {
    let mut on = on(1.0);
    for _ in 0..MAX_WAITING + 5 {
        drop(on.request());
    }
    assert_eq!(on.counts.dropped.get(), 5);
    let waiting = std::iter::from_fn(|| on.spans.try_recv().ok()).count();
    assert_eq!(waiting, MAX_WAITING);
}

#[test]
fn a_span_ends_explicitly_or_when_the_last_clone_is_dropped() {
    let mut on = on(1.0);
    let span = on.request();
    let other = span.clone();
    drop(span);
    assert!(on.spans.try_recv().is_err(), "a clone still exists");
    other.end();
    other.number("late", 1_u32);
    drop(other);
    let span = on.spans.try_recv().unwrap();
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    assert_eq!(span.attributes.len(), 1);
    assert!(on.spans.try_recv().is_err(), "once");
}

#[test]
fn a_span_dropped_by_a_panic_has_failed() {
    let mut on = on(1.0);
    let request = on.request();
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _request = request;
        panic!("as a handler might");
    }));
    assert!(panicked.is_err());
    let status = on.spans.try_recv().unwrap().status.unwrap();
    assert_eq!((status.code, status.message.as_str()), (2, "panicked"));
}
