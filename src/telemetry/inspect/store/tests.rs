use super::super::view::ContentsView;
use super::*;
use crate::event::RequestOutcome;

fn request(size: usize) -> RequestView {
    RequestView {
        receiver: Some("fastly".to_owned()),
        outcome: RequestOutcome::Accepted,
        reason: Some("x".repeat(size)),
        advice: None,
        size_bytes: 10,
        record: Some(1),
        event: None,
        lines: Vec::new(),
        more_lines: 0,
        counts: Counts { accepted: 2, ..Counts::default() },
    }
}

fn export() -> ExportView {
    ExportView {
        at_ms: 0,
        signal: "traces",
        items: 1,
        size_bytes: 1,
        records: vec![1],
        contents: ContentsView::default(),
    }
}

fn attempt(is_final: bool) -> AttemptView {
    let outcome = if is_final { "sent" } else { "retryable" };
    AttemptView { outcome, is_final, answer: "accepted".to_owned(), took_ms: 1 }
}

fn store_with(requests: usize, size: usize) -> Store {
    let mut store = Store::default();
    for _ in 0..requests {
        let request = request(size);
        store.count(&request);
        store.keep(RequestJson::new(0, &request));
    }
    store
}

#[test]
fn entries_are_bounded_in_number_and_in_bytes_and_counting_continues() {
    let many = store_with(3 * MAX_REQUESTS, 0);
    assert_eq!(many.requests.len(), MAX_REQUESTS);
    assert_eq!(many.receivers["fastly"].requests[&RequestOutcome::Accepted], 3 * MAX_REQUESTS as u64);
    assert_eq!(many.receivers["fastly"].items.accepted, 6 * MAX_REQUESTS as u64);

    let large = store_with(20, 1 << 20);
    assert!(large.requests.len() < 9 && large.request_bytes <= MAX_BYTES);
    let kept: usize = large.requests.iter().map(|kept| kept.request.get().len()).sum();
    assert_eq!(kept, large.request_bytes);

    let mut store = Store::default();
    (0..3 * MAX_EXPORTS as u64).for_each(|key| store.left(ExportKey(key), &export()));
    assert_eq!(store.exports.len(), MAX_EXPORTS);
    for _ in 0..1000 {
        store.attempt(Signal::Traces, &[ExportKey(3 * MAX_EXPORTS as u64 - 1)], 0, &attempt(false));
    }
    let last = store.exports.back().unwrap();
    assert_eq!((last.attempts.len(), last.more_attempts), (MAX_ATTEMPTS, 1000 - MAX_ATTEMPTS as u64));
}

#[test]
fn changes_are_returned_in_parts_without_loss_or_repetition() {
    let mut store = store_with(7, 400_000);
    (0..5).for_each(|key| store.left(ExportKey(key), &export()));
    let (mut since, mut ids) = (0, Vec::new());
    loop {
        let news = store.news(since);
        ids.extend(news.requests.iter().map(|request| request.id));
        ids.extend(news.exports.iter().map(|export| export.id));
        assert!(news.cursor > since, "every answer brings the page on");
        since = news.cursor;
        if !news.more {
            break;
        }
    }
    assert_eq!(ids, (1..=12).collect::<Vec<_>>());
    assert!(store.news(since).requests.is_empty());
    assert!(store.news(u64::MAX).exports.is_empty());
}

#[test]
fn an_export_is_followed_to_its_end_and_returned_again_when_it_changes() {
    let mut store = Store::default();
    let keys = [ExportKey(1)];
    store.left(keys[0], &export());
    let state = |store: &Store| store.exports[0].state;
    assert_eq!(state(&store), ExportState::Queued);
    store.sending(&keys);
    assert_eq!(state(&store), ExportState::Sending);
    store.attempt(Signal::Traces, &keys, 5, &attempt(false));
    assert_eq!((state(&store), store.retries), (ExportState::Retrying, 1));
    let seen = store.news(0).cursor;
    store.attempt(Signal::Traces, &keys, 9, &attempt(true));
    store.ended(&keys, ExportState::Delivered);
    assert_eq!(state(&store), ExportState::Delivered);
    assert_eq!(store.news(seen).exports.len(), 1);
    // Equal content can occur repeatedly.
    store.left(keys[0], &export());
    store.sending(&keys);
    assert_eq!((state(&store), store.exports[1].state), (ExportState::Delivered, ExportState::Sending));
    // Unknown exports are ignored.
    store.ended(&[ExportKey(7)], ExportState::Rejected);
}

#[test]
fn entries_beyond_the_limit_per_second_are_only_counted() {
    let mut store = Store::default();
    let taken = (0..200).filter(|_| store.has_room_for_request(1_500)).count();
    assert_eq!(taken, REQUESTS_PER_SECOND as usize);
    assert_eq!(store.requests_room.left_out, 200 - u64::from(REQUESTS_PER_SECOND));
    assert!(store.has_room_for_request(2_000), "the next second has room again");
}

#[test]
fn records_with_omitted_exports_are_known_within_a_bound() {
    let mut store = Store::default();
    store.leave_out([7, 3, 7]);
    let told = |store: &Store| serde_json::to_value(store.news(u64::MAX).not_followed).unwrap();
    assert_eq!(told(&store), serde_json::json!({"records": [3, 7], "before": 0}));

    // The smallest are dropped first, and `before` covers them.
    store.leave_out(100..100 + MAX_NOT_FOLLOWED as u64);
    assert_eq!(store.not_followed.records.len(), MAX_NOT_FOLLOWED);
    assert_eq!(told(&store)["before"], 8);
    store.leave_out([5]);
    assert_eq!(store.not_followed.records.first(), Some(&100));
}

#[test]
fn a_dropped_export_is_not_followed_any_more() {
    let mut store = Store::default();
    (0..MAX_EXPORTS as u64)
        .for_each(|key| store.left(ExportKey(key), &ExportView { records: vec![key], ..export() }));
    assert!(store.not_followed.records.is_empty());
    store.left(ExportKey(0), &export());
    assert_eq!(store.not_followed.records.first(), Some(&0));
}
