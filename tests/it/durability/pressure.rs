//! Full queues and disks: requests are rejected before any of their data is accepted, `/readyz` has the reason, and the
//! relay recovers by itself.

use super::downstream::Mood;
use super::home::{Home, at_rest, batch, stopped};
use super::small_disk::SmallDisk;
use crate::harness::random::{Random, seed};
use crate::harness::{Ask, Child, Reply, eventually, span};

/// Posts spans with incompressible digits until one is rejected; returns the number of accepted ones, and the
/// rejection.
async fn fill(relay: &Child, random: &mut Random, digits: usize) -> (u64, Reply) {
    let mut taken = 0;
    loop {
        let reply = relay.ask(Ask::post("/fastly", span(taken + 1, &random.hex(digits)))).await;
        match reply.status {
            204 => taken += 1,
            _ => return (taken, reply),
        }
    }
}

/// Checks for a 503 with a Retry-After in whole seconds and a reason.
fn assert_retry_later(reply: &Reply) {
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!((1..=60).contains(&reply.retry_after()), "{reply:?}");
    reply.reason();
}

async fn assert_not_ready(relay: &Child, why: &str) {
    let ready = relay.telemetry("/readyz").await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(ready.reason().contains(why), "{}", ready.text());
    assert_eq!(relay.telemetry("/healthz").await.status, 200, "the process works");
}

async fn becomes_ready(relay: &Child) {
    eventually("it is ready", async || (relay.telemetry("/readyz").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_full_queue_is_reported_to_senders_and_probes_and_recovers_with_the_downstream() {
    let mut random = Random::new(seed());
    let mut home = Home::new(Mood::Down, "queue.max_size: 64KiB").await;
    let relay = home.start().await;
    assert_eq!(relay.telemetry("/readyz").await.status, 200);
    let (taken, refusal) = fill(&relay, &mut random, 5000).await;
    assert_retry_later(&refusal);
    assert!(taken >= 10, "{taken}");
    assert_not_ready(&relay, "full").await;
    let samples = relay.metrics().await;
    assert_eq!(samples.sum("otelcol_receiver_refused_spans", &[]), 1.0);
    assert_eq!(samples.sum("otelcol_receiver_accepted_spans", &[]), taken as f64);
    assert!(samples.sum("otelcol_exporter_queue_size", &[]) <= 65536.0);
    let one_more = Ask::webhook(&super::load::job(1, &random.hex(10_000)));
    assert_retry_later(&relay.ask(one_more).await);

    // A restart makes no room.
    relay.kill().await;
    let relay = home.start().await;
    assert_retry_later(&fill(&relay, &mut random, 5000).await.1);
    assert_not_ready(&relay, "full").await;

    home.downstream.set(Mood::Up).await;
    becomes_ready(&relay).await;
    at_rest(&relay).await;
    batch(&relay, span(1, "again")).await;
    at_rest(&relay).await;
    stopped(relay).await;
    let names = home.downstream.taken_names();
    assert!(names.contains(&"again".to_owned()));
    assert!(names.len() as u64 > taken);
}

#[tokio::test]
async fn a_disk_filled_by_the_queue_is_emptied_by_deliveries() {
    let mut random = Random::new(seed());
    // The store grows in steps, so that another part of each disk remains.
    for size in ["11m", "12m", "14m", "16m", "19m", "24m"] {
        let name = "a_disk_filled_by_the_queue_is_emptied_by_deliveries";
        let Some(disk) = SmallDisk::mount(name, size) else { return };
        let mut home = Home::at(disk.directory(), Mood::Down, "").await;
        let relay = home.start().await;
        let (taken, refusal) = fill(&relay, &mut random, 400_000).await;
        assert_retry_later(&refusal);
        assert!(taken > 0, "{size}");
        assert_not_ready(&relay, "the disk is full").await;

        home.downstream.set(Mood::Up).await;
        becomes_ready(&relay).await;
        at_rest(&relay).await;
        batch(&relay, span(1, "again")).await;
        at_rest(&relay).await;
        stopped(relay).await;
        let names = home.downstream.taken_names();
        let last = names.last().map(String::as_str);
        assert_eq!((names.len() as u64, last), (taken + 1, Some("again")), "{size}");
    }
}

#[tokio::test]
async fn a_disk_filled_by_others_still_stores_deliveries_and_recovers_with_space() {
    let name = "a_disk_filled_by_others_still_stores_deliveries_and_recovers_with_space";
    let Some(disk) = SmallDisk::mount(name, "24m") else { return };
    let mut random = Random::new(seed());
    let mut home = Home::at(disk.directory(), Mood::Down, "").await;
    let relay = home.start().await;
    for id in 1..=50 {
        batch(&relay, span(id, &format!("before {id}"))).await;
    }
    disk.fill();
    let (taken, refusal) = fill(&relay, &mut random, 400_000).await;
    assert_retry_later(&refusal);
    assert_not_ready(&relay, "the disk is full").await;

    // Accepted data is delivered, and that is stored: a process that is killed now leaves nothing to deliver twice.
    home.downstream.set(Mood::Up).await;
    at_rest(&relay).await;
    assert_eq!(home.downstream.taken_names().len() as u64, 50 + taken);
    disk.free();
    becomes_ready(&relay).await;
    batch(&relay, span(100, "after")).await;
    at_rest(&relay).await;
    relay.kill().await;
    let relay = home.start().await;
    at_rest(&relay).await;
    stopped(relay).await;
    let names = home.downstream.taken_names();
    assert_eq!(names.iter().filter(|name| name.starts_with("before")).count(), 50, "each once");
}

#[tokio::test]
async fn a_start_on_a_full_disk_serves_stored_records() {
    let Some(disk) = SmallDisk::mount("a_start_on_a_full_disk_serves_stored_records", "24m") else { return };
    let mut home = Home::at(disk.directory(), Mood::Down, "").await;
    let relay = home.start().await;
    for id in 1..=20 {
        batch(&relay, span(id, "before")).await;
    }
    relay.kill().await;
    disk.fill();
    home.downstream.set(Mood::Up).await;
    let relay = home.start().await;
    eventually("what waited is delivered", async || {
        (home.downstream.taken_names().len() == 20).then_some(())
    })
    .await;
    disk.free();
    becomes_ready(&relay).await;
    batch(&relay, span(100, "after")).await;
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names().len(), 21);
}
