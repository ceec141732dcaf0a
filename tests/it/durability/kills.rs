//! `kill -9` at any moment, under load, with every kind of fault downstream: all acknowledged data is delivered.
//!
//! `SPANRELAY_FAULT_ROUNDS=200 cargo test --test it durability::kills` sets the number of rounds; `SPANRELAY_SEED=…`
//! repeats a run, with the seed that the failure has printed.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::NamedTempFile;

use super::downstream::{Downstream, Mood};
use super::home::{Home, Protocol, at_rest, recovered, stopped};
use super::load::Load;
use crate::harness::any_moment_within;
use crate::harness::random::{Random, seed};

/// Kills per test, unless the environment sets another number.
const ROUNDS: u64 = 10;
const SENDERS: usize = 4;

pub(super) const BATCHES: &str =
    "exporters.otlp_http.delivery: batch\nexporters.otlp_http.batch: {max_events: 20, timeout: 20ms}";

const MOODS: [Mood; 10] = [
    Mood::Up,
    Mood::Up,
    Mood::Up,
    Mood::Down,
    Mood::Throttles,
    Mood::Overloaded,
    Mood::Hangs,
    Mood::Closes,
    Mood::HangsInItsAnswer,
    Mood::BreaksOff,
];

fn rounds() -> u64 {
    let given = std::env::var("SPANRELAY_FAULT_ROUNDS").ok();
    given.map_or(ROUNDS, |rounds| rounds.parse().expect("SPANRELAY_FAULT_ROUNDS is a number"))
}

/// Changes the downstream's behaviour at random until `over` is set.
async fn weather(downstream: &Downstream, mut random: Random, over: Arc<AtomicBool>) {
    while !over.load(Ordering::SeqCst) {
        downstream.set(random.of(&MOODS)).await;
        any_moment_within(random.millis_below(150)).await;
    }
    downstream.set(Mood::Up).await;
}

/// Rounds of a start, load and `kill -9`.
async fn kills(home: &mut Home, load: &Load, random: &mut Random) {
    for _ in 0..rounds() {
        if random.one_in(4) {
            killed_while_it_starts(home, random).await;
        }
        let relay = home.start().await;
        load.goes_to(relay.address, 10 + random.below(40));
        any_moment_within(random.millis_below(400)).await;
        relay.kill().await;
    }
}

async fn killed_while_it_starts(home: &mut Home, random: &mut Random) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(home.configuration().as_bytes()).unwrap();
    let mut process = home.launch(file.path());
    any_moment_within(random.millis_below(80)).await;
    process.kill().await.unwrap();
}

async fn loses_nothing(settings: &str, exporter: Protocol) {
    let mut random = Random::new(seed());
    let settings = format!(
        "processors.span_events.wait: 50ms
        exporters.otlp_http.timeout: 60s
        {settings}"
    );
    let mut home = Home::new(Mood::Up, &settings).await.by(exporter);
    let load = Load::start(SENDERS, &mut random);
    let (over, of_weather) = (Arc::new(AtomicBool::new(false)), Random::new(random.below(u64::MAX)));
    {
        // The downstream is part of the home, which the kills need exclusively.
        let downstream = Arc::clone(&home.downstream);
        let bad = tokio::spawn({
            let over = Arc::clone(&over);
            async move { weather(&downstream, of_weather, over).await }
        });
        kills(&mut home, &load, &mut random).await;
        over.store(true, Ordering::SeqCst);
        bad.await.unwrap();
    }
    let relay = home.start().await;
    load.goes_to(relay.address, 20);
    let ledger = load.finish().await;
    at_rest(&relay).await;
    stopped(relay).await;

    let (acknowledged, unanswered) = ledger.counts();
    let taken = home.downstream.taken();
    eprintln!("{acknowledged} acknowledged, {unanswered} unanswered, {} requests taken", taken.len());
    assert!(acknowledged > 100, "there was hardly any load");
    let faults = ledger.judge(&taken, &home.rejected(), home.processes());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));

    let relay = home.start().await;
    assert_eq!(recovered(&relay).await, 0.0, "a clean stop leaves nothing to deliver twice");
    stopped(relay).await;
    assert_eq!(home.downstream.taken().len(), taken.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_id_survives_kills_under_load_and_is_exported_once_per_process() {
    loses_nothing("", Protocol::Http).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_lose_nothing_and_only_their_bad_events_are_rejected() {
    loses_nothing(BATCHES, Protocol::Http).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_grpc_lose_nothing_single_or_in_batches() {
    for settings in ["", BATCHES] {
        loses_nothing(settings, Protocol::Grpc).await;
    }
}
