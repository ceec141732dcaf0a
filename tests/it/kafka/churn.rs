//! Workers that join and leave under a full load.

use std::time::{Duration, Instant};

use super::broker::shared;
use super::fleet::{Complete, Fleet, assigned, memory, stopped};
use super::ledger::{Load, Pace, Strength};
use super::scale::either;
use crate::harness::{Collector, any_moment_within};

/// Memory of a relay at most: what a worker may hold and what else it needs.
const MOST: f64 = ((64 + 64) << 20) as f64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_join_and_leave_at_full_rate_lose_nothing_and_memory_stays_flat() {
    let Some(brokers) = shared("members_that_join_and_leave").await else { return };
    let collector = Collector::start([]).await;
    let fleet = Fleet::new(brokers, &collector, "exporters.otlp_http.delivery: batch").await;
    let fronts = [fleet.start("front").await, fleet.start("front").await];
    let worker = fleet.start("worker").await;
    assigned(&[&worker]).await;
    let strength = Strength { senders: 4, pairs: 50, pace: Pace::Window(either(2000, 20_000)) };
    let mut load = Load::start(&[fronts[0].address, fronts[1].address], strength);
    let interval = either(Duration::from_secs(2), Duration::from_secs(20));
    let rounds = either(4, 30);
    let mut guest = None;
    let mut peaks = Vec::new();
    for _ in 0..rounds {
        match guest.take() {
            None => guest = Some(fleet.start("worker").await),
            Some(guest) => stopped(vec![guest]).await,
        }
        let began = Instant::now();
        let mut peak = [0.0_f64; 3];
        while began.elapsed() < interval {
            load.note(&collector);
            for (peak, relay) in peak.iter_mut().zip([&fronts[0], &fronts[1], &worker]) {
                *peak = peak.max(memory(relay).await);
            }
            any_moment_within(Duration::from_millis(50)).await;
        }
        peaks.push(peak);
    }
    let verdict = load.judge(&collector).await;
    let mebibytes = |peak: &[f64; 3]| peak.map(|bytes| (bytes / f64::from(1 << 20)).round());
    eprintln!("{verdict}, memory {:?}", peaks.iter().map(mebibytes).collect::<Vec<_>>());
    assert_eq!(verdict.lost, Vec::<String>::new());
    let relays: Vec<_> = fronts.into_iter().chain([worker]).chain(guest).collect();
    fleet.is_balanced(&relays.iter().collect::<Vec<_>>(), Complete::NEITHER).await;
    assert!(peaks.iter().flatten().all(|peak| *peak < MOST), "{peaks:?}");
    stopped(relays).await;
    collector.take_rest();
    collector.finish();
}
