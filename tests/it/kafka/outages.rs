//! Brokers and downstreams that go away and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::broker::{Options, own, shared};
use super::fleet::{
    Complete, Fleet, assigned, delivered, event_of, memory, post, span_of, stopped, try_post,
};
use super::ledger::{Load, Pace, Strength};
use super::scale::either;
use crate::harness::{Answer, Child, Collector, any_moment_within, eventually, names};

/// Far longer than the drain time of 10 s, so that a stop that hangs fails.
const SURELY_ENDED: Duration = Duration::from_secs(30);

/// Returns status and text of `/readyz`.
async fn readiness(relay: &Child) -> (u16, String) {
    let reply = relay.telemetry("/readyz").await;
    (reply.status, reply.text())
}

async fn becomes_ready(relay: &Child) {
    eventually("the relay is ready again", async || (readiness(relay).await.0 == 200).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_brokers_senders_get_503_and_afterwards_204_without_a_restart() {
    let Some(brokers) = own("without_brokers_senders_get_503", 1, Options::default()).await else {
        return;
    };
    let collector = Collector::start([]).await;
    let fleet = Fleet::new(Arc::new(brokers), &collector, "server.request_timeout: 4s").await;
    let relay = fleet.start("both").await;
    assigned(&[&relay]).await;
    post(&relay, &[span_of(1), event_of(1)]).await;
    assert_eq!(delivered(&collector, 1).await[0].1, "span-1: event-1");
    fleet.brokers.kill(0).await;
    // The first may have to wait for its time to end; it is answered in time all the same.
    let began = Instant::now();
    let reply = try_post(&relay, &[span_of(2)]).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.retry_after() > 0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let (_, reason) = eventually("the relay is not ready", async || {
        let (status, reason) = readiness(&relay).await;
        (status == 503).then_some((status, reason))
    })
    .await;
    assert!(reason.contains("queue"), "{reason}");
    let before = memory(&relay).await;
    let large = vec![span_of(3).replace("span-3", &"x".repeat(100_000)); 20];
    for _ in 0..30 {
        assert_eq!(try_post(&relay, &large).await.status, 503);
    }
    let grown = memory(&relay).await - before;
    assert!(grown < f64::from(32 << 20), "{grown} bytes");
    fleet.brokers.restart(0).await;
    becomes_ready(&relay).await;
    post(&relay, &[span_of(4), event_of(4)]).await;
    // Data that was delivered just before the broker died may be delivered twice, because its commit was lost.
    eventually("it is delivered", async || {
        let requests = collector.take_rest();
        requests.iter().flat_map(names).any(|name| name == "span-4: event-4").then_some(())
    })
    .await;
    assert!(relay.log().matches("kafka unavailable").count() <= 2, "{}", relay.log());
    fleet.is_balanced(&[&relay], Complete::NEITHER).await;
    // A relay ends without brokers, too.
    fleet.brokers.kill(0).await;
    let told = Instant::now();
    stopped(vec![relay]).await;
    assert!(told.elapsed() < SURELY_ENDED, "{:?}", told.elapsed());
    collector.take_rest();
    collector.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_brokers_one_may_be_away_and_two_may_not() {
    let Some(brokers) = own("of_three_brokers_one_may_be_away", 3, Options::default()).await else { return };
    let collector = Collector::start([]).await;
    let fleet = Fleet::new(Arc::new(brokers), &collector, "server.request_timeout: 4s").await;
    let relay = fleet.start("both").await;
    assigned(&[&relay]).await;
    // On a busy machine the replicas of a new topic are not always in sync at once.
    eventually("the brokers accept", async || {
        (try_post(&relay, &[span_of(1), event_of(1)]).await.status == 204).then_some(())
    })
    .await;
    eventually("what they accepted is delivered", async || {
        let requests = collector.take_rest();
        requests.iter().flat_map(names).any(|name| name == "span-1: event-1").then_some(())
    })
    .await;
    fleet.brokers.kill(2).await;
    // While leaders move, a sender may get a 503.
    eventually("one broker less changes nothing", async || {
        (try_post(&relay, &[span_of(2), event_of(2)]).await.status == 204).then_some(())
    })
    .await;
    becomes_ready(&relay).await;
    fleet.brokers.kill(1).await;
    eventually("two brokers less are too many", async || {
        (try_post(&relay, &[span_of(3)]).await.status == 503 && readiness(&relay).await.0 == 503)
            .then_some(())
    })
    .await;
    fleet.brokers.restart(1).await;
    becomes_ready(&relay).await;
    eventually("it is accepted again", async || {
        (try_post(&relay, &[span_of(4), event_of(4)]).await.status == 204).then_some(())
    })
    .await;
    eventually("all that was accepted is delivered", async || {
        let last = collector.take_rest().iter().any(|request| request.text().contains("span-4"));
        last.then_some(())
    })
    .await;
    fleet.brokers.restart(2).await;
    fleet.is_balanced(&[&relay], Complete::NEITHER).await;
    stopped(vec![relay]).await;
    collector.take_rest();
    collector.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_downstream_is_away_memory_is_bounded_and_afterwards_everything_is_joined() {
    let Some(brokers) = shared("while_the_downstream_is_away").await else { return };
    let away = Arc::new(AtomicBool::new(false));
    let is_away = Arc::clone(&away);
    let collector = Collector::judging(move |_| match is_away.load(Ordering::SeqCst) {
        true => Answer::status(503),
        false => Answer::json(200, "{}"),
    })
    .await;
    // A refused request is repeated ten times in a second, or once.
    let interval = either("100ms", "1s");
    let settings = format!(
        "exporters.otlp_http.delivery: batch\nprocessors.span_events.wait: 2s\n\
         exporters.otlp_http.retry_on_failure.max_interval: {interval}"
    );
    let fleet = Fleet::new(brokers, &collector, &settings).await;
    let fronts = [fleet.start("front").await, fleet.start("front").await];
    let worker = fleet.start("worker").await;
    assigned(&[&worker]).await;
    away.store(true, Ordering::SeqCst);
    let strength = Strength { senders: 2, pairs: 10, pace: Pace::LinesPerSecond(either(600, 1000)) };
    let mut load = Load::start(&[fronts[0].address, fronts[1].address], strength);
    // Longer than `wait`, so that all that is held has to be decided by the log.
    let outage = either(Duration::from_secs(6), Duration::from_secs(600));
    let began = Instant::now();
    let mut peaks = [0.0_f64; 3];
    while began.elapsed() < outage {
        collector.take_rest();
        for (peak, relay) in peaks.iter_mut().zip([&fronts[0], &fronts[1], &worker]) {
            *peak = peak.max(memory(relay).await);
        }
        any_moment_within(Duration::from_millis(50)).await;
    }
    let sent_before = load.sent();
    // A request that was refused after this would count as delivered twice.
    collector.forget_before(|| away.store(false, Ordering::SeqCst));
    load.more(&collector, 100).await;
    let verdict = load.judge(&collector).await;
    let mebibytes = peaks.map(|bytes| (bytes / f64::from(1 << 20)).round());
    eprintln!("{verdict}, {sent_before} sent before its end, memory {mebibytes:?}");
    assert!(peaks.iter().all(|peak| *peak < f64::from((64 + 64) << 20)), "{peaks:?}");
    assert_eq!((verdict.lost, verdict.repeated, verdict.refused), (Vec::new(), 0, 0));
    assert_eq!(verdict.joined, verdict.sent);
    let items = fleet.is_balanced(&[&fronts[0], &fronts[1], &worker], Complete::BOTH).await;
    assert_eq!((items as u64, items as u64), (2 * verdict.sent, verdict.delivered));
    stopped(fronts.into_iter().chain([worker]).collect()).await;
    collector.take_rest();
    collector.finish();
}
