//! Tests without sockets: a closure replaces the HTTP client, and time passes only when all tasks wait.

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::{Response, header};
use http_body_util::Full;
use tokio::time::Instant;
use tower::service_fn;
use tracing::Level;

use super::*;
use crate::config::LogFormat;
use crate::telemetry::logging::tests::Captured;

pub(super) type Answer = Result<Response<Full<Bytes>>, std::io::Error>;

pub(super) fn answer(status: u16, body: &'static str) -> Answer {
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    Ok(response.body(Full::from(body)).unwrap())
}

fn throttled(retry_after: &str) -> Answer {
    Ok(Response::builder()
        .status(429)
        .header(header::RETRY_AFTER, retry_after)
        .body(Full::default())
        .unwrap())
}

pub(super) fn config() -> ExporterConfig {
    config_for("http://mock:4318")
}

/// A collector with scripted responses that records the times of its requests.
#[derive(Clone)]
pub(super) struct Script {
    answers: Arc<Mutex<std::vec::IntoIter<Answer>>>,
    asked: Arc<Mutex<Vec<Instant>>>,
}

impl tower::Service<Bytes> for Script {
    type Response = Response<Full<Bytes>>;
    type Error = std::io::Error;
    type Future = std::future::Ready<Answer>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _body: Bytes) -> Self::Future {
        self.asked.lock().unwrap().push(Instant::now());
        let answer = self.answers.lock().unwrap().next();
        std::future::ready(answer.expect("the script has an answer for every request"))
    }
}

pub(super) fn script(answers: impl IntoIterator<Item = Answer>) -> (Script, Arc<Mutex<Vec<Instant>>>) {
    let answers: Vec<_> = answers.into_iter().collect();
    let asked = Arc::new(Mutex::new(Vec::new()));
    (Script { answers: Arc::new(Mutex::new(answers.into_iter())), asked: Arc::clone(&asked) }, asked)
}

#[tokio::test(start_paused = true)]
async fn retries_retryable_statuses_until_delivery() {
    for status in [429, 500, 501, 502, 503, 504, 505, 599] {
        let (post, asked) = script([answer(status, ""), answer(status, "{}"), answer(200, "{}")]);
        let rig = Rig::with_post(&config(), post);
        rig.traces("a");
        let ended = rig.drained().await;
        assert_eq!(asked.lock().unwrap().len(), 3, "{status}");
        assert_eq!(ended.settled_receipts, [(Signal::Traces, Settled::Delivered, 1)], "{status}");
        assert_eq!((ended.sent_spans(), ended.failed_spans()), (1, 0), "counted once, not per attempt");
        assert_eq!(ended.attempts("sent"), 1);
        assert_eq!(ended.attempts("throttled") + ended.attempts("retryable"), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_export_that_is_throttled_several_times_is_delivered_once() {
    let answers = [throttled("1"), answer(503, ""), throttled("1"), answer(200, "")];
    let (post, asked) = script(answers);
    let rig = Rig::with_post(&config(), post);
    rig.traces("a");
    assert_eq!(rig.drained().await.sent_spans(), 1);
    assert_eq!(asked.lock().unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn never_retries_a_permanent_rejection() {
    for status in [400, 413, 422] {
        let (post, asked) = script([answer(status, r#"{"code":3,"message":"bad\nspan"}"#)]);
        let rig = Rig::with_post(&config(), post);
        rig.traces("a");
        let ended = rig.drained().await;
        assert_eq!(asked.lock().unwrap().len(), 1, "{status}");
        assert_eq!(ended.settled_receipts, [(Signal::Traces, Settled::Rejected, 1)]);
        assert_eq!(ended.rejects, [(spans("a"), format!("downstream returned {status}: bad\\nspan"))]);
        assert_eq!((ended.sent_spans(), ended.failed_spans(), ended.attempts("permanent")), (0, 1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_retry_after_says_in_seconds_and_as_a_date() {
    for (retry_after, seconds) in [("7", 7), ("Wed, 21 Oct 2015 07:28:09 GMT", 9), ("86400", 600)] {
        let (post, asked) = script([throttled(retry_after), answer(200, "")]);
        let rig = Rig::with_post(&config(), post);
        rig.traces("a");
        rig.drained().await;
        let asked = asked.lock().unwrap();
        let waited = asked[1].duration_since(asked[0]);
        let most = Duration::from_secs(seconds) + Duration::from_millis(10);
        assert!((Duration::from_secs(seconds)..=most).contains(&waited), "{retry_after}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_times_out_and_is_retried() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&attempts);
    let post = service_fn(move |_: Bytes| {
        let attempt = counter.fetch_add(1, Ordering::Relaxed);
        async move { if attempt < 2 { pending().await } else { answer(200, "") } }
    });
    let began = Instant::now();
    let rig = Rig::with_post(&config(), post);
    rig.traces("a");
    let ended = rig.drained().await;
    assert_eq!((attempts.load(Ordering::Relaxed), ended.sent_spans()), (3, 1));
    assert_eq!(ended.attempts("retryable"), 2);
    assert!(began.elapsed() >= Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn each_signal_has_its_own_timeout() {
    let mut config = config();
    config.logs.settings.timeout = Some(Duration::from_secs(1));
    let attempts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let post = service_fn(move |body: Bytes| {
        let earlier = attempts[usize::from(body == NO_LOGS)].fetch_add(1, Ordering::Relaxed);
        async move { if earlier == 0 { pending().await } else { answer(200, "") } }
    });
    let began = Instant::now();
    let rig = Rig::with_post(&config, post);
    rig.traces("a");
    rig.export(Signal::Logs, NO_LOGS, 1);
    rig.settled(1).await;
    assert_eq!((rig.seen.settled_receipts.borrow()[0].0, began.elapsed().as_secs()), (Signal::Logs, 1));
    rig.settled(2).await;
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn gives_up_only_after_max_elapsed_time_and_rejects_the_data() {
    let mut config = config();
    config.settings.delivery = DeliveryMode::Batch;
    config.settings.retry_on_failure.max_elapsed_time = Duration::from_secs(30);
    let post = service_fn(|_: Bytes| async { answer(503, r#"{"message":"overloaded"}"#) });
    let rig = Rig::with_post(&config, post);
    rig.traces("a");
    rig.traces("b");
    let ended = rig.drained().await;
    let reason = "given up after max_elapsed_time 30s: downstream returned 503: overloaded".to_owned();
    assert_eq!(ended.rejects, [(spans("a"), reason.clone()), (spans("b"), reason)]);
    assert_eq!((ended.count(Settled::Rejected), ended.failed_spans()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn starts_exports_in_the_order_of_their_arrival() {
    let mut config = config();
    config.settings.max_in_flight = 3;
    let order = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&order);
    let post = service_fn(move |body: Bytes| {
        noted.lock().unwrap().push(body);
        async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            answer(200, "")
        }
    });
    let rig = Rig::with_post(&config, post);
    let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    names.iter().for_each(|name| rig.traces(name));
    assert_eq!(rig.drained().await.sent_spans(), 20);
    let expected: Vec<_> = names.iter().map(|name| spans(name)).collect();
    assert_eq!(*order.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_max_in_flight_are_on_the_wire_over_all_signals() {
    let mut config = config();
    config.settings.max_in_flight = 3;
    let (on_the_wire, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let highest = Arc::clone(&peak);
    let post = service_fn(move |_: Bytes| {
        highest.fetch_max(on_the_wire.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let on_the_wire = Arc::clone(&on_the_wire);
        async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            on_the_wire.fetch_sub(1, Ordering::Relaxed);
            answer(200, "")
        }
    });
    let rig = Rig::with_post(&config, post);
    for n in 0..10 {
        rig.traces(&n.to_string());
        rig.export(Signal::Logs, NO_LOGS, 1);
        rig.export(Signal::Metrics, r#"{"resourceMetrics":[]}"#, 1);
    }
    assert_eq!(rig.drained().await.count(Settled::Delivered), 30);
    assert_eq!(peak.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_signal_whose_endpoint_is_down_does_not_delay_the_others() {
    let mut config = config();
    config.settings.max_in_flight = 2;
    let post =
        service_fn(
            |body: Bytes| async move { if body == NO_LOGS { answer(503, "") } else { answer(200, "") } },
        );
    let mut rig = Rig::with_post(&config, post);
    (0..10).for_each(|_| rig.export(Signal::Logs, NO_LOGS, 1));
    (0..10).for_each(|n| rig.traces(&n.to_string()));
    rig.settled(10).await;
    let ended = Ended::new(&rig.seen, &rig.metrics);
    assert!(ended.settled_receipts.iter().all(|(signal, ..)| *signal == Signal::Traces));
    rig.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn a_signal_whose_endpoint_hangs_leaves_slots_to_the_others() {
    let mut config = config();
    config.settings.max_in_flight = 6;
    let hangs = Arc::new(AtomicBool::new(true));
    let is_hanging = Arc::clone(&hangs);
    let post = service_fn(move |body: Bytes| {
        let hangs = body == NO_LOGS && is_hanging.load(Ordering::Relaxed);
        async move { if hangs { pending().await } else { answer(200, "") } }
    });
    let rig = Rig::with_post(&config, post);
    (0..12).for_each(|_| rig.export(Signal::Logs, NO_LOGS, 1));
    tokio::time::sleep(config.settings.timeout + Duration::from_secs(1)).await;
    let began = Instant::now();
    (0..10).for_each(|n| rig.traces(&n.to_string()));
    rig.settled(10).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    hangs.store(false, Ordering::Relaxed);
    assert_eq!(rig.drained().await.count(Settled::Delivered), 22);
}

#[tokio::test(start_paused = true)]
async fn stopping_settles_nothing_in_flight_or_waiting() {
    let post = service_fn(|body: Bytes| async move {
        if body == NO_LOGS { answer(200, "") } else { pending::<Answer>().await }
    });
    let mut config = config();
    config.settings.max_in_flight = 1;
    let mut rig = Rig::with_post(&config, post);
    rig.traces("in flight");
    rig.traces("waiting");
    rig.export(Signal::Logs, NO_LOGS, 1);
    rig.settled(1).await;
    let kept = rig.seen.kept_bytes();
    rig.stopped().await;
    assert_eq!(rig.seen.kept_bytes(), kept);
    assert_eq!(kept, (spans("in flight").len() + spans("waiting").len()) as u64);
    assert_eq!(*rig.seen.settled_receipts.borrow(), [(Signal::Logs, Settled::Delivered, 1)]);
}

#[tokio::test(start_paused = true)]
async fn stopping_settles_neither_pausing_exports_nor_open_batches() {
    for (delivery, batch_timeout, attempts) in [
        (DeliveryMode::Single, Duration::ZERO, 2),
        (DeliveryMode::Batch, Duration::from_secs(1), 1),
        (DeliveryMode::Batch, Duration::from_secs(3600), 0),
    ] {
        let mut config = config();
        (config.settings.delivery, config.settings.batch.timeout) = (delivery, batch_timeout);
        let mut rig = Rig::with_post(&config, service_fn(|_: Bytes| async { throttled("60") }));
        rig.traces("a");
        rig.traces("b");
        let kept = rig.seen.kept_bytes();
        // Virtual time: it passes when all tasks wait.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(Ended::new(&rig.seen, &rig.metrics).attempts("throttled"), attempts);
        rig.stopped().await;
        assert_eq!(
            (rig.seen.kept_bytes(), rig.seen.settled_receipts.borrow().len()),
            (kept, 0),
            "{delivery:?}"
        );
        assert!(rig.seen.rejects.lock().unwrap().is_empty());
        assert!(rig.exports.is_closed(), "what comes later is dropped by its sender, unsettled");
    }
}

#[tokio::test(start_paused = true)]
async fn a_downstream_that_rejects_everything_does_not_fill_the_log() {
    let (captured, _guard) = Captured::start(Level::WARN, LogFormat::Json);
    let refused = || answer(400, r#"{"message":"bad id"}"#);
    let taken_in_part = || answer(200, r#"{"partialSuccess":{"rejectedSpans":1}}"#);
    for answer in [refused as fn() -> Answer, taken_in_part] {
        let rig = Rig::with_post(&config(), service_fn(move |_: Bytes| async move { answer() }));
        (0..100).for_each(|_| rig.traces("a"));
        assert_eq!(rig.drained().await.failed_spans(), 100);
    }
    let log = captured.text();
    assert_eq!(log.matches("export rejected").count(), 10);
    assert_eq!(log.matches("partial success").count(), 10);
    assert!(log.contains("downstream returned 400: bad id") && !log.contains("suppressed"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_its_timeout_and_is_sent_at_once_when_draining() {
    let mut config = config();
    config.settings.delivery = DeliveryMode::Batch;
    let (post, asked) = script([answer(200, ""), answer(200, "")]);
    let rig = Rig::with_post(&config, post);
    let began = Instant::now();
    rig.traces("a");
    rig.traces("b");
    rig.settled(2).await;
    rig.traces("c");
    let ended = rig.drained().await;
    assert_eq!(ended.sent_spans(), 3);
    let asked = asked.lock().unwrap();
    assert!(asked[0].duration_since(began) >= config.settings.batch.timeout);
    assert!(asked[1].duration_since(asked[0]) < config.settings.batch.timeout);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_panics_loses_nothing_and_stops_nobody() {
    let post = service_fn(|body: Bytes| {
        assert!(!body.windows(4).any(|window| window == b"boom"), "a bug in the worker");
        async { answer(200, "") }
    });
    let mut config = config();
    config.settings.max_in_flight = 1;
    let rig = Rig::with_post(&config, post);
    ["a", "boom", "b", "c"].iter().for_each(|name| rig.traces(name));
    rig.settled(3).await;
    let seen = Arc::clone(&rig.seen);
    drop(rig.exports);
    rig.running.await.unwrap();
    assert_eq!(seen.settled_receipts.borrow().len(), 3);
    assert_eq!(rig.seen.kept_bytes(), spans("boom").len() as u64, "its record stays in the queue");
}
