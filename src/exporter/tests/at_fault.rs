//! Tests of a destination at fault, in virtual time: waiting exports, probes, and the end of the block.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::time::Instant;
use tower::service_fn;
use tracing::Level;

use super::in_virtual_time::{answer, config, script};
use super::*;
use crate::config::LogFormat;
use crate::telemetry::logging::tests::Captured;

const PROBE: Duration = Duration::from_secs(30);
const AT_FAULT: [u16; 14] = [101, 301, 302, 307, 308, 401, 403, 404, 405, 407, 408, 415, 418, 451];

/// Returns a configuration with the default `max_interval`.
fn slow_config() -> ExporterConfig {
    let mut config = config();
    config.settings.retry_on_failure.max_interval = PROBE;
    config
}

/// Compares durations with the resolution of the timer, one millisecond.
fn is_about(took: Duration, wanted: Duration) -> bool {
    (wanted..wanted + Duration::from_millis(2)).contains(&took)
}

#[tokio::test(start_paused = true)]
async fn sends_one_probe_every_max_interval_and_delivers_everything_once_fixed() {
    for status in AT_FAULT {
        for delivery in [DeliveryMode::Single, DeliveryMode::Batch] {
            let mut config = slow_config();
            config.settings.delivery = delivery;
            config.settings.batch.max_events = 10;
            let fixed = Arc::new(AtomicBool::new(false));
            let asked = Arc::new(Mutex::new(Vec::new()));
            let (is_fixed, noted) = (Arc::clone(&fixed), Arc::clone(&asked));
            let post = service_fn(move |body: Bytes| {
                let is_fixed = is_fixed.load(Ordering::Relaxed);
                noted.lock().unwrap().push((Instant::now(), is_fixed, body));
                async move { answer(if is_fixed { 200 } else { status }, "") }
            });
            let rig = Rig::with_post(&config, post);
            (0..100).for_each(|n| rig.traces(&n.to_string()));
            tokio::time::sleep(10 * PROBE + PROBE / 2).await;
            assert!(Ended::new(&rig.seen, &rig.metrics).blocked(Signal::Traces));
            assert!(!Ended::new(&rig.seen, &rig.metrics).blocked(Signal::Logs));
            fixed.store(true, Ordering::Relaxed);
            rig.settled(100).await;
            let ended = rig.drained().await;
            assert_eq!((ended.count(Settled::Delivered), ended.rejects.len()), (100, 0), "{status}");
            assert!(!ended.blocked(Signal::Traces));

            let mut asked = std::mem::take(&mut *asked.lock().unwrap());
            let sent = asked.split_off(asked.iter().position(|(_, is_fixed, _)| *is_fixed).unwrap());
            assert_eq!(asked.len(), 11, "{status}: the first request and ten probes");
            let times = asked.iter().chain(&sent[..1]).map(|(at, ..)| *at).collect::<Vec<_>>();
            let pauses = times.windows(2).map(|pair| pair[1].duration_since(pair[0]));
            assert!(pauses.clone().all(|pause| is_about(pause, PROBE)), "{:?}", pauses.collect::<Vec<_>>());
            assert!(sent.iter().all(|(at, ..)| at.duration_since(sent[0].0) < PROBE), "promptly");
            let requests = if delivery == DeliveryMode::Single { 100 } else { 10 };
            assert_eq!(sent.len(), requests, "{status}: nothing is split and nothing is sent twice");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_at_the_beginning_of_a_block_are_the_last_until_the_probe() {
    let mut config = slow_config();
    config.settings.max_in_flight = 8;
    let (requests, on_the_wire) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, now) = (Arc::clone(&requests), Arc::clone(&on_the_wire));
    let post = service_fn(move |_: Bytes| {
        let number = counted.fetch_add(1, Ordering::Relaxed);
        let others = now.fetch_add(1, Ordering::Relaxed);
        assert!(number < 8 || others == 0, "a probe is alone");
        let now = Arc::clone(&now);
        async move {
            tokio::time::sleep(Duration::from_millis(number as u64 + 5)).await;
            now.fetch_sub(1, Ordering::Relaxed);
            answer(401, "")
        }
    });
    let mut rig = Rig::with_post(&config, post);
    (0..50_000).for_each(|n| rig.traces(&n.to_string()));
    tokio::time::sleep(PROBE * 4).await;
    assert_eq!(requests.load(Ordering::Relaxed), 8 + 3);
    let kept = rig.seen.kept_bytes();
    rig.stopped().await;
    assert_eq!(
        (rig.seen.kept_bytes(), rig.seen.settled_receipts.borrow().len()),
        (kept, 0),
        "the queue has it all"
    );
    assert!(rig.seen.rejects.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn exports_take_turns_as_the_probe() {
    let post = service_fn(|body: Bytes| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        answer(if body == spans("attack").as_bytes() { 403 } else { 200 }, "")
    });
    let mut config = config();
    config.settings.max_in_flight = 2;
    let mut rig = Rig::with_post(&config, post);
    rig.traces("attack");
    (0..5).for_each(|n| rig.traces(&n.to_string()));
    rig.settled(5).await;
    rig.stopped().await;
    assert!(rig.seen.rejects.lock().unwrap().is_empty());
    assert_eq!(rig.seen.kept_bytes(), spans("attack").len() as u64, "its record stays in the queue");
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_data_is_condemned_ends_the_block() {
    let (post, asked) = script([answer(404, ""), answer(400, ""), answer(200, "")]);
    let rig = Rig::with_post(&slow_config(), post);
    rig.traces("a");
    rig.traces("b");
    let ended = rig.drained().await;
    assert_eq!((ended.count(Settled::Rejected), ended.count(Settled::Delivered)), (1, 1));
    let asked = asked.lock().unwrap();
    assert!(is_about(asked[2].duration_since(asked[0]), PROBE), "the third follows the second at once");
}

#[tokio::test(start_paused = true)]
async fn a_retryable_probe_ends_the_block() {
    for status in [429, 500, 503] {
        let answers = [answer(404, ""), answer(status, ""), answer(200, ""), answer(200, "")];
        let (post, asked) = script(answers);
        let rig = Rig::with_post(&slow_config(), post);
        rig.traces("a");
        rig.traces("b");
        assert_eq!(rig.drained().await.count(Settled::Delivered), 2, "{status}");
        let asked = asked.lock().unwrap();
        assert!(asked[3].duration_since(asked[0]) < PROBE + PROBE / 2, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn time_in_which_the_destination_is_at_fault_does_not_count_towards_max_elapsed_time() {
    let mut config = slow_config();
    config.settings.retry_on_failure.max_elapsed_time = Duration::from_secs(60);
    let answers = [503].into_iter().chain([401; 40]).chain([503, 503, 200]);
    let (post, asked) = script(answers.map(|status| answer(status, "")));
    let rig = Rig::with_post(&config, post);
    rig.traces("a");
    let ended = rig.drained().await;
    assert_eq!((ended.count(Settled::Delivered), ended.rejects.len()), (1, 0));
    assert_eq!(asked.lock().unwrap().len(), 44);
}

#[tokio::test(start_paused = true)]
async fn a_signal_whose_destination_is_at_fault_does_not_delay_the_others() {
    let mut config = slow_config();
    config.settings.max_in_flight = 2;
    let post =
        service_fn(
            |body: Bytes| async move { if body == NO_LOGS { answer(404, "") } else { answer(200, "") } },
        );
    let mut rig = Rig::with_post(&config, post);
    (0..10).for_each(|_| rig.export(Signal::Logs, NO_LOGS, 1));
    (0..10).for_each(|n| rig.traces(&n.to_string()));
    rig.settled(10).await;
    let ended = Ended::new(&rig.seen, &rig.metrics);
    assert!(ended.settled_receipts.iter().all(|(signal, ..)| *signal == Signal::Traces));
    assert!(ended.blocked(Signal::Logs) && !ended.blocked(Signal::Traces));
    rig.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn logs_the_remedy_at_once_and_once_a_minute_and_the_end_of_the_block() {
    for interval in [PROBE, Duration::from_secs(7), Duration::from_secs(600)] {
        let (captured, _guard) = Captured::start(Level::INFO, LogFormat::Json);
        let mut config = slow_config();
        config.settings.retry_on_failure.max_interval = interval;
        config.settings.delivery = DeliveryMode::Batch;
        let fixed = Arc::new(AtomicBool::new(false));
        let is_fixed = Arc::clone(&fixed);
        let post = service_fn(move |_: Bytes| {
            let status = if is_fixed.load(Ordering::Relaxed) { 200 } else { 404 };
            async move { answer(status, "") }
        });
        let rig = Rig::with_post(&config, post);
        (0..8).for_each(|n| rig.traces(&n.to_string()));
        tokio::time::sleep(Duration::from_secs(5 * 60 + 30)).await;
        fixed.store(true, Ordering::Relaxed);
        assert_eq!(rig.drained().await.count(Settled::Delivered), 8);

        let text = captured.text();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (end, blocked) = lines.split_last().unwrap();
        assert!(blocked.len() >= 6, "one at once and one for each of five minutes: {text}");
        for line in blocked {
            assert_eq!(
                (&line["level"], &line["message"]),
                (&"ERROR".into(), &"export blocked by downstream response".into())
            );
            assert_eq!(
                (&line["signal"], &line["endpoint"], &line["status"]),
                (&"traces".into(), &"mock:4318".into(), &404.into())
            );
            let remedy = line["remedy"].as_str().unwrap();
            assert!(remedy.starts_with("the path /v1/traces was not found: check"), "{remedy}");
        }
        let seconds: Vec<u64> =
            blocked.iter().map(|line| line["blocked_seconds"].as_u64().unwrap()).collect();
        assert!(seconds.windows(2).all(|pair| pair[1] - pair[0] >= 60), "{seconds:?}");
        assert_eq!(seconds[..2], [0, 60]);
        assert_eq!(blocked[0]["attempts"], 1);
        assert_eq!((&end["level"], &end["message"]), (&"INFO".into(), &"export unblocked".into()));
    }
}
