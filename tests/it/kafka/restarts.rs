//! Relays that come and go: nothing accepted is lost, and an orderly restart repeats nothing.

use std::time::Duration;

use super::broker::shared;
use super::fleet::{Fleet, assigned, stopped};
use super::ledger::{Load, Verdict};
use crate::harness::{Child, Collector, any_moment_within, eventually};

/// Kills per test, where the environment does not say more.
const ROUNDS: usize = 4;

fn rounds() -> usize {
    let given = std::env::var("SPANRELAY_KAFKA_ROUNDS").ok();
    given.map_or(ROUNDS, |rounds| rounds.parse().expect("SPANRELAY_KAFKA_ROUNDS is a number"))
}

/// Waits until the load has sent this many more pairs.
async fn more(load: &Load, pairs: u64) {
    let goal = load.sent() + pairs;
    eventually("the load goes on", async || (load.sent() >= goal).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_all_relays_loses_nothing_repeats_nothing_and_joins_everything() {
    let Some(brokers) = shared("a_rolling_restart_of_all_relays").await else { return };
    let collector = Collector::start([]).await;
    let fleet = Fleet::new(brokers, &collector, "exporters.otlp_http.delivery: batch").await;
    let mut fronts = vec![fleet.start("front").await, fleet.start("front").await];
    let mut workers = vec![fleet.start("worker").await, fleet.start("worker").await];
    assigned(&workers.iter().collect::<Vec<_>>()).await;
    let addresses: Vec<_> = fronts.iter().map(|front| front.address).collect();
    let load = Load::start(&addresses, 2, Duration::from_millis(50));
    more(&load, 100).await;
    for index in 0..2 {
        let fresh = fleet.start("worker").await;
        stopped(vec![std::mem::replace(&mut workers[index], fresh)]).await;
        more(&load, 50).await;
        // The balancer learns of the new front before the old one ends.
        let fresh = fleet.start("front").await;
        load.replace(fronts[index].address, fresh.address);
        let old = std::mem::replace(&mut fronts[index], fresh);
        more(&load, 50).await;
        stopped(vec![old]).await;
        more(&load, 50).await;
    }
    let verdict = load.judge(&collector).await;
    eprintln!("{verdict:?}");
    let Verdict { sent, joined, repeated, refused, lost } = verdict;
    assert_eq!((lost, repeated, refused), (Vec::new(), 0, 0));
    assert_eq!(joined, sent);
    let relays: Vec<Child> = fronts.into_iter().chain(workers).collect();
    stopped(relays).await;
    assert!(collector.take_rest().is_empty(), "an orderly end delivers nothing twice");
    collector.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_got_a_2xx_arrives_however_often_relays_are_killed() {
    let Some(brokers) = shared("what_got_a_2xx_arrives").await else { return };
    let collector = Collector::start([]).await;
    let fleet = Fleet::new(brokers, &collector, "exporters.otlp_http.delivery: batch").await;
    let mut fronts = vec![fleet.start("front").await, fleet.start("front").await];
    let mut workers = vec![fleet.start("worker").await, fleet.start("worker").await];
    let addresses: Vec<_> = fronts.iter().map(|front| front.address).collect();
    let load = Load::start(&addresses, 2, Duration::from_millis(40));
    for round in 0..rounds() {
        more(&load, 50).await;
        any_moment_within(Duration::from_millis(300)).await;
        let index = round / 2 % 2;
        if round % 2 == 0 {
            let fresh = fleet.start("worker").await;
            std::mem::replace(&mut workers[index], fresh).kill().await;
        } else {
            let fresh = fleet.start("front").await;
            let old = std::mem::replace(&mut fronts[index], fresh);
            let address = old.address;
            old.kill().await;
            load.replace(address, fronts[index].address);
        }
    }
    more(&load, 50).await;
    let verdict = load.judge(&collector).await;
    eprintln!("{verdict:?}");
    assert_eq!(verdict.lost, Vec::<String>::new());
    let parted = verdict.sent - verdict.joined;
    assert!(parted * 1000 <= verdict.sent, "{parted} of {} are not joined", verdict.sent);
    let relays: Vec<Child> = fronts.into_iter().chain(workers).collect();
    stopped(relays).await;
    collector.take_rest();
    collector.finish();
}
