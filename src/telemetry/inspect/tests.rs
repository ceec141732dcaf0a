use super::*;
use crate::telemetry::Metrics;

#[test]
fn reporting_starts_with_the_first_poll() {
    let metrics = Metrics::new();
    assert!(metrics.inspector.watching().is_none());
    page::data(&metrics, None);
    assert!(metrics.inspector.watching().is_some());
}

#[test]
fn reporting_ends_when_polling_stops() {
    let inspector = Inspector::new();
    inspector.look();
    let until = inspector.shared.looking_until.load(Ordering::Relaxed);
    assert!(until >= millis(STILL_LOOKING));
    inspector.shared.looking_until.store(inspector.shared.elapsed_millis(), Ordering::Relaxed);
    assert!(inspector.watching().is_none());
}

#[test]
fn reporters_prepare_nothing_while_no_page_is_open() {
    let inspector = Inspector::new();
    let watch = inspector.sending(|| -> std::iter::Empty<_> { panic!("asked for its exports") });
    watch.attempt(Signal::Traces, || panic!("asked for its attempt"));
    watch.ended(ExportState::Delivered);
}

#[test]
fn values_are_hidden_by_default() {
    let inspector = Inspector::new();
    inspector.look();
    assert_eq!(inspector.watching().unwrap().values(), Values::Hidden);
}

/// Returns the data of a poll.
fn polled(metrics: &Metrics) -> serde_json::Value {
    serde_json::from_slice(&page::data(metrics, None)).unwrap()
}

fn setting() -> Setting {
    Setting {
        values: Values::Hidden,
        wait: Duration::ZERO,
        receivers: Vec::new(),
        downstream: Vec::new(),
        server: "http://127.0.0.1:3000".to_owned(),
        trace_link: None,
    }
}

#[test]
fn counts_begin_again_when_a_page_is_opened_after_a_pause() {
    let metrics = Metrics::new();
    metrics.inspector.configure(setting(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let first = polled(&metrics)["counting_since_ms"].as_u64();
    assert!(first >= Some(1_700_000_000_000), "{first:?}");
    let request = RequestView {
        receiver: Some("fastly".to_owned()),
        outcome: crate::event::RequestOutcome::Empty,
        reason: None,
        advice: None,
        size_bytes: 0,
        record: None,
        event: None,
        lines: Vec::new(),
        more_lines: 0,
        counts: view::Counts::default(),
    };
    metrics.inspector.watching().unwrap().count(&request);
    let again = polled(&metrics);
    assert_eq!(again["counting_since_ms"].as_u64(), first);
    assert_eq!(again["counts"]["fastly"]["requests"]["empty"], 1);

    let shared = &metrics.inspector.shared;
    shared.looking_until.store(shared.elapsed_millis(), Ordering::Relaxed);
    assert_eq!(polled(&metrics)["counts"], serde_json::json!({}));
}

#[test]
fn a_queue_that_accepts_nothing_has_the_time_since_when() {
    let metrics = Metrics::new();
    assert_eq!(polled(&metrics)["queue"], serde_json::Value::Null);
    let is_full = Arc::new(std::sync::atomic::AtomicBool::new(true));
    metrics.observe_queue({
        let is_full = Arc::clone(&is_full);
        move || crate::event::QueueState {
            capacity_bytes: 10,
            full: is_full.load(Ordering::Relaxed),
            ..Default::default()
        }
    });
    let full = polled(&metrics)["queue"].clone();
    assert!(full["is_full"] == true && full["stopped_ms"].is_u64(), "{full}");
    is_full.store(false, Ordering::Relaxed);
    assert_eq!(polled(&metrics)["queue"]["stopped_ms"], serde_json::Value::Null);
}
