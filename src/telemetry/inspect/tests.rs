use super::*;
use crate::telemetry::Metrics;

#[test]
fn nobody_is_looking_until_the_data_are_asked_for() {
    let metrics = Metrics::new();
    assert!(metrics.inspector.watching().is_none());
    page::data(&metrics, None);
    assert!(metrics.inspector.watching().is_some());
}

#[test]
fn looking_ends_when_the_page_asks_no_more() {
    let inspector = Inspector::new();
    inspector.look();
    let until = inspector.shared.looking_until.load(Ordering::Relaxed);
    assert!(until >= millis(STILL_LOOKING));
    inspector.shared.looking_until.store(inspector.shared.elapsed_millis(), Ordering::Relaxed);
    assert!(inspector.watching().is_none());
}

#[test]
fn nothing_is_asked_of_reporters_while_nobody_looks() {
    let inspector = Inspector::new();
    let watch = inspector.sending(|| -> std::iter::Empty<_> { panic!("asked for its exports") });
    watch.attempt(Signal::Traces, || panic!("asked for its attempt"));
    watch.ended(ExportEnd::Delivered);
}

#[test]
fn values_are_hidden_where_nothing_was_configured() {
    let inspector = Inspector::new();
    inspector.look();
    assert_eq!(inspector.watching().unwrap().values(), Values::Hidden);
}
