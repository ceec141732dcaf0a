//! SIGTERM with a queue on disk: the process ends in time with exit code 0, and the next one delivers the rest.

use std::time::{Duration, Instant};

use super::downstream::Mood;
use super::home::{Home, at_rest, batch, recovered, stopped};
use crate::harness::random::{Random, seed};
use crate::harness::{Child, Connection, eventually, log, span};

/// Far longer than the drain time of 10 s, so that a stop that hangs fails.
const SURELY_ENDED: Duration = Duration::from_secs(30);

async fn ends_in_time(mut relay: Child) {
    let told = Instant::now();
    relay.signal("TERM").await;
    assert_eq!(relay.ended().await, Some(0), "{}", relay.log());
    assert!(told.elapsed() < SURELY_ENDED, "{:?}", told.elapsed());
}

#[tokio::test]
async fn with_a_hanging_downstream_it_ends_in_time_and_the_next_process_delivers() {
    let mut home = Home::new(Mood::Hangs, "exporters.otlp_http.timeout: 1h").await;
    let relay = home.start().await;
    for id in 1..=50 {
        batch(&relay, span(id, &format!("{id:02}"))).await;
    }
    home.downstream.has_seen(1).await;
    ends_in_time(relay).await;

    home.downstream.set(Mood::Up).await;
    let relay = home.start().await;
    at_rest(&relay).await;
    assert_eq!(recovered(&relay).await, 50.0);
    stopped(relay).await;
    let mut names = home.downstream.taken_names();
    names.sort();
    assert_eq!(names, (1..=50).map(|id| format!("{id:02}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn with_a_downstream_that_is_down_held_spans_are_matched_in_the_next_process() {
    let mut home = Home::new(Mood::Down, "processors.span_events.wait: 1h").await;
    let relay = home.start().await;
    batch(&relay, span(1, "span")).await;
    batch(&relay, log(1, "event")).await;
    ends_in_time(relay).await;
    home.downstream.set(Mood::Up).await;
    let relay = home.start().await;
    eventually("both are read again", async || (recovered(&relay).await == 2.0).then_some(())).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names(), ["span: event"]);
    let relay = home.start().await;
    assert_eq!(recovered(&relay).await, 0.0);
    stopped(relay).await;
}

#[tokio::test]
async fn a_request_in_progress_is_acknowledged_and_kept_while_it_drains() {
    let mut home = Home::new(Mood::Hangs, "").await;
    let relay = home.start().await;
    let line = span(1, "in progress");
    let mut sender = Connection::open(relay.address).await;
    let head = format!("expect: 100-continue\r\ncontent-length: {}\r\n\r\n", line.len());
    sender.write(format!("POST /fastly HTTP/1.1\r\nhost: relay\r\n{head}")).await;
    assert_eq!(sender.read().await.status, 100);
    let idle = Connection::open(relay.address).await;
    relay.signal("TERM").await;
    idle.closes().await;
    sender.write(line).await;
    let reply = sender.read().await;
    assert_eq!((reply.status, reply.header("connection")), (204, Some("close")));
    // Its timeout is cut short by the drain.
    relay.kill().await;

    home.downstream.set(Mood::Up).await;
    let relay = home.start().await;
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names(), ["in progress"]);
}

#[tokio::test]
async fn senders_that_continue_during_the_drain_lose_nothing_acknowledged() {
    let mut random = Random::new(seed());
    let mut home = Home::new(Mood::Up, "processors.span_events.wait: 50ms").await;
    let load = super::load::Load::start(4, &mut random);
    for _ in 0..3 {
        let relay = home.start().await;
        load.goes_to(relay.address, 1000);
        let enough = 5.0 + random.below(100) as f64;
        eventually("the load has begun", async || {
            let taken = relay.metrics().await.sum("spanrelay_lines_total", &[("outcome", "accepted")]);
            (taken >= enough).then_some(())
        })
        .await;
        ends_in_time(relay).await;
    }
    let ledger = load.finish().await;
    let relay = home.start().await;
    at_rest(&relay).await;
    stopped(relay).await;
    let faults = ledger.judge(&home.downstream.taken(), &home.rejected(), home.processes());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
