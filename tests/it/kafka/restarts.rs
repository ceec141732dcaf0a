//! Relays that come and go: nothing accepted is lost, and an orderly restart repeats nothing.

use super::broker::shared;
use super::fleet::{
    Complete, Fleet, SESSION_SECONDS, assigned, delivered, post, protocol, settled, span_of, stopped,
};
use super::ledger::{Load, Pace, Strength, Verdict};
use super::scale::either;
use crate::harness::random::{Random, seed};
use crate::harness::{Child, Collector, any_moment_within, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_all_relays_loses_nothing_repeats_nothing_and_joins_everything() {
    let Some(brokers) = shared("a_rolling_restart_of_all_relays").await else { return };
    let collector = Collector::start([]).await;
    let fleet = Fleet::new(brokers, &collector, "exporters.otlp_http.delivery: batch").await;
    let mut fronts = vec![fleet.start("front").await, fleet.start("front").await];
    let mut workers = vec![fleet.start("worker").await, fleet.start("worker").await];
    assigned(&workers.iter().collect::<Vec<_>>()).await;
    let addresses: Vec<_> = fronts.iter().map(|front| front.address).collect();
    let pace = Pace::LinesPerSecond(either(500, 2000));
    let mut load = Load::start(&addresses, Strength { senders: 2, pairs: 10, pace });
    let between = either(50, 5000);
    load.more(&collector, 2 * between).await;
    for index in 0..2 {
        let fresh = fleet.start("worker").await;
        stopped(vec![std::mem::replace(&mut workers[index], fresh)]).await;
        load.more(&collector, between).await;
        // The balancer learns of the new front before the old one ends.
        let fresh = fleet.start("front").await;
        load.replace(fronts[index].address, fresh.address);
        let old = std::mem::replace(&mut fronts[index], fresh);
        load.more(&collector, between).await;
        stopped(vec![old]).await;
        load.more(&collector, between).await;
    }
    let verdict = load.judge(&collector).await;
    eprintln!("{verdict}");
    let Verdict { sent, joined, repeated, refused, lost, delivered, .. } = verdict;
    assert_eq!((lost, repeated, refused), (Vec::new(), 0, 0));
    assert_eq!(joined, sent);
    let relays: Vec<Child> = fronts.into_iter().chain(workers).collect();
    let items = fleet.is_balanced(&relays.iter().collect::<Vec<_>>(), Complete::NEITHER).await;
    assert_eq!(
        (items as u64, items as u64),
        (2 * sent, delivered),
        "each item is written and delivered once"
    );
    stopped(relays).await;
    assert!(collector.take_rest().is_empty(), "an orderly end delivers nothing twice");
    collector.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_while_its_group_waits_for_one_that_died_repeats_nothing() {
    let Some(brokers) = shared("a_worker_that_stops_while_its_group_waits").await else { return };
    let collector = Collector::start([]).await;
    let fleet = Fleet::new(brokers, &collector, "").await;
    let front = fleet.start("front").await;
    let (stopping, dying) = (fleet.start("worker").await, fleet.start("worker").await);
    eventually("both have partitions", async || {
        let owned =
            async |worker: &Child| worker.metrics().await.sum("spanrelay_kafka_assigned_partitions", &[]);
        (owned(&stopping).await > 0.0 && owned(&dying).await > 0.0).then_some(())
    })
    .await;
    let spans: Vec<String> = (1..=60).map(span_of).collect();
    post(&front, &spans).await;
    dying.kill().await;
    // When it joins, the other has to join again, and the brokers read no commit of it from then on until the session of the dead
    // member ends. The spans are held for longer than it takes to begin.
    let fresh = fleet.start("worker").await;
    eventually("it delivers spans", async || (settled(&stopping.metrics().await) > 0.0).then_some(())).await;
    stopped(vec![stopping]).await;
    let mut names = delivered(&collector, spans.len()).await;
    fleet.is_balanced(&[&front, &fresh], Complete::NEITHER).await;
    stopped(vec![front, fresh]).await;
    assert!(collector.take_rest().is_empty(), "nothing is delivered twice");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), spans.len());
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
    let pace = Pace::LinesPerSecond(either(500, 2000));
    let mut load = Load::start(&addresses, Strength { senders: 2, pairs: 10, pace });
    let mut random = Random::new(seed());
    let (mut turn, mut killed_workers) = (Vec::new(), 0);
    for _ in 0..either(4, 20) {
        load.more(&collector, either(50, 5000)).await;
        any_moment_within(random.millis_below(300)).await;
        if turn.is_empty() {
            turn = vec![0, 1, 2, 3];
        }
        let victim = turn.remove(usize::try_from(random.below(turn.len() as u64)).unwrap());
        if victim < 2 {
            killed_workers += 1;
            let fresh = fleet.start("worker").await;
            std::mem::replace(&mut workers[victim], fresh).kill().await;
        } else {
            let fresh = fleet.start("front").await;
            let old = std::mem::replace(&mut fronts[victim - 2], fresh);
            let address = old.address;
            old.kill().await;
            load.replace(address, fronts[victim - 2].address);
        }
    }
    load.more(&collector, 50).await;
    let verdict = load.judge(&collector).await;
    let relays: Vec<Child> = fronts.into_iter().chain(workers).collect();
    let items = fleet.is_balanced(&relays.iter().collect::<Vec<_>>(), Complete::NEITHER).await as u64;
    eprintln!("{verdict}, {items} items in the topic");
    assert_eq!(verdict.lost, Vec::<String>::new());
    // What fronts that were killed had written, and their senders sent again, is in the topic twice. The rest is what workers had
    // delivered and not committed. In a short load a worker may be killed while it catches up with several seconds.
    let a_second = verdict.sent / verdict.took.as_secs().max(1);
    let each = match protocol().as_str() {
        // One that is killed after another could not commit since the rebalance began that waits for the first.
        "classic" => SESSION_SECONDS * a_second,
        _ => a_second,
    };
    let most = either(u64::MAX, killed_workers * each);
    assert!(verdict.delivered - items <= most, "{} of at most {most}", verdict.delivered - items);
    let parted = verdict.sent - verdict.joined;
    assert!(parted * 1000 <= verdict.sent, "{parted} of {} are not joined", verdict.sent);
    stopped(relays).await;
    collector.take_rest();
    collector.finish();
}
