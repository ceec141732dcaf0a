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
    watch.ended(ExportEnd::Delivered);
}

#[test]
fn values_are_hidden_by_default() {
    let inspector = Inspector::new();
    inspector.look();
    assert_eq!(inspector.watching().unwrap().values(), Values::Hidden);
}
