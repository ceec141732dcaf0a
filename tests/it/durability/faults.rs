//! Temporary faults of the destination: nothing is lost, duplicated, split or rejected, and the rate of attempts is
//! limited.

use std::time::{Duration, Instant};

use super::downstream::Mood;
use super::home::{Home, Protocol, at_rest, batch, stopped};
use crate::harness::{Ask, Child, eventually, request_of, span};

/// Responses that blame the destination.
const OF_THE_DESTINATION: [Mood; 12] = [
    Mood::Status(301),
    Mood::Status(302),
    Mood::Status(307),
    Mood::Status(401),
    Mood::Status(403),
    Mood::Status(404),
    Mood::Status(405),
    Mood::Status(407),
    Mood::Status(415),
    Mood::Status(418),
    Mood::Status(451),
    Mood::SpeaksTls,
];
/// Responses that require a retry.
const RETRYABLE: [Mood; 7] = [
    Mood::Status(429),
    Mood::Status(500),
    Mood::Status(501),
    Mood::Status(502),
    Mood::Status(503),
    Mood::Status(504),
    Mood::Status(505),
];
/// Codes of gRPC that blame the destination.
const CODES_OF_THE_DESTINATION: [Mood; 6] =
    [Mood::Code(5), Mood::Code(6), Mood::Code(7), Mood::Code(9), Mood::Code(12), Mood::Code(16)];
/// Codes of gRPC that require a retry.
const RETRYABLE_CODES: [Mood; 9] = [
    Mood::Code(1),
    Mood::Code(2),
    Mood::Code(4),
    Mood::Code(8),
    Mood::Code(10),
    Mood::Code(11),
    Mood::Code(13),
    Mood::Code(14),
    Mood::Code(15),
];
const MAX_IN_FLIGHT: usize = 4;
const MAX_INTERVAL: Duration = Duration::from_millis(25);
/// Number of spans per fault.
const SPANS: u64 = 12;
const SINGLE: &str = "exporters.otlp_http.delivery: single";
const BATCHES: &str = "exporters.otlp_http.delivery: batch
    exporters.otlp_http.batch: {max_events: 4, timeout: 10ms}";

async fn home(mood: Mood, settings: &str) -> Home {
    let interval = MAX_INTERVAL.as_millis();
    let common = format!(
        "exporters.otlp_http.max_in_flight: {MAX_IN_FLIGHT}
        exporters.otlp_http.retry_on_failure: {{initial_interval: 1ms, max_interval: {interval}ms}}"
    );
    Home::new(mood, &format!("{common}\n{settings}")).await
}

async fn is_blocked(relay: &Child) -> bool {
    relay.metrics().await.sum("spanrelay_exporter_blocked", &[("signal", "traces")]) == 1.0
}

fn named(mood: Mood) -> Vec<String> {
    (1..=SPANS).map(|number| format!("{mood:?} {number:02}")).collect()
}

async fn send(relay: &Child, mood: Mood) {
    let lines: Vec<String> = named(mood).iter().zip(1..).map(|(name, id)| span(id, name)).collect();
    batch(relay, request_of(&lines)).await;
}

/// Sorts the requests that were delivered.
fn sorted(mut requests: Vec<Vec<String>>) -> Vec<Vec<String>> {
    requests.sort();
    requests
}

async fn every_fault_costs_nothing(delivery: &str, exporter: Protocol) {
    let mut home = home(Mood::Up, delivery).await.by(exporter);
    let relay = home.start().await;
    let (mut refused_before, mut taken_before) = (0, 0);
    let codes = CODES_OF_THE_DESTINATION.into_iter().chain(RETRYABLE_CODES);
    let codes = codes.filter(|_| exporter == Protocol::Grpc);
    for mood in OF_THE_DESTINATION.into_iter().chain(RETRYABLE).chain(codes) {
        let is_of_destination =
            OF_THE_DESTINATION.contains(&mood) || CODES_OF_THE_DESTINATION.contains(&mood);
        home.downstream.set(mood).await;
        let began = Instant::now();
        send(&relay, mood).await;
        home.downstream.has_refused(refused_before + MAX_IN_FLIGHT + 3).await;
        if is_of_destination {
            eventually("the gauge says so", async || is_blocked(&relay).await.then_some(())).await;
        }
        home.downstream.set(Mood::Up).await;
        at_rest(&relay).await;
        let lasted = began.elapsed();
        assert!(!is_blocked(&relay).await, "{mood:?}");

        let refused = home.downstream.refused().split_off(refused_before);
        let taken: Vec<Vec<String>> =
            home.downstream.taken().into_iter().skip(taken_before).map(|taken| taken.names).collect();
        (refused_before, taken_before) = (refused_before + refused.len(), taken_before + taken.len());
        if is_of_destination {
            let probes = lasted.as_millis() / MAX_INTERVAL.as_millis() + 1;
            assert!(refused.len() as u128 <= MAX_IN_FLIGHT as u128 + probes, "{mood:?}: {}", refused.len());
        }
        let mut names = taken.concat();
        names.sort();
        assert_eq!(names, named(mood), "each span once");
        let taken = sorted(taken);
        assert!(
            refused.iter().all(|names| names.is_empty() || taken.contains(names)),
            "nothing is split: {refused:?} {taken:?}"
        );
    }
    assert_eq!(home.rejected(), [""; 0], "nothing is rejected");
    let line = relay.logged("export blocked by downstream response").await;
    let section = if exporter == Protocol::Grpc { "exporters.otlp_grpc." } else { "exporters.otlp_http." };
    assert!(line["remedy"].as_str().unwrap().contains(section), "{line}");
    stopped(relay).await;
}

#[tokio::test]
async fn every_fault_costs_nothing_with_single_requests() {
    every_fault_costs_nothing(SINGLE, Protocol::Http).await;
}

#[tokio::test]
async fn every_fault_costs_nothing_with_batches() {
    every_fault_costs_nothing(BATCHES, Protocol::Http).await;
}

#[tokio::test]
async fn every_fault_costs_nothing_with_single_calls() {
    every_fault_costs_nothing(SINGLE, Protocol::Grpc).await;
}

#[tokio::test]
async fn every_fault_costs_nothing_with_batches_of_calls() {
    every_fault_costs_nothing(BATCHES, Protocol::Grpc).await;
}

#[tokio::test]
async fn a_fault_that_outlives_the_relay_costs_nothing() {
    const UNAUTHENTICATED: Mood = Mood::Code(16);
    let by_http = [Mood::Status(401), Mood::Status(307), Mood::Status(500), Mood::SpeaksTls];
    let by_grpc = [UNAUTHENTICATED, Mood::Code(14), Mood::SpeaksTls];
    let moods = by_http.map(|mood| (Protocol::Http, mood)).into_iter();
    let moods = moods.chain(by_grpc.map(|mood| (Protocol::Grpc, mood)));
    for delivery in [SINGLE, BATCHES] {
        for (exporter, mood) in moods.clone() {
            let mut home = home(mood, delivery).await.by(exporter);
            let relay = home.start().await;
            send(&relay, mood).await;
            home.downstream.has_refused(MAX_IN_FLIGHT).await;
            relay.kill().await;
            let before = home.downstream.refused().len();
            let relay = home.start().await;
            home.downstream.has_refused(before + 2).await;
            match mood {
                // A drain takes its full time when nothing can be delivered, so that one is enough.
                Mood::Status(401) | UNAUTHENTICATED if delivery == BATCHES => stopped(relay).await,
                _ => relay.kill().await,
            }

            home.downstream.set(Mood::Up).await;
            let relay = home.start().await;
            at_rest(&relay).await;
            stopped(relay).await;
            let mut names = home.downstream.taken_names();
            names.sort();
            assert_eq!(names, named(mood));
            assert_eq!(home.rejected(), [""; 0]);
        }
    }
}

#[tokio::test]
async fn a_fault_that_outlasts_the_queue_reaches_the_senders() {
    let mut home = home(Mood::Status(401), "queue.max_size: 64KiB").await;
    let relay = home.start().await;
    let mut accepted = Vec::new();
    let refusal = loop {
        let number = accepted.len() as u64 + 1;
        let name =
            format!("{number:05} {:x}", u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060));
        let reply = relay.ask(Ask::post("/fastly", span(number, &name))).await;
        match reply.status {
            204 => accepted.push(name),
            _ => break reply,
        }
    };
    assert_eq!(refusal.status, 503);
    assert!(refusal.retry_after() >= 1);
    let ready = relay.telemetry("/readyz").await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(ready.reason().contains("full"));

    home.downstream.set(Mood::Up).await;
    at_rest(&relay).await;
    eventually("it is ready", async || (relay.telemetry("/readyz").await.status == 200).then_some(())).await;
    stopped(relay).await;
    let mut names = home.downstream.taken_names();
    names.sort();
    assert_eq!(names, accepted);
    assert_eq!(home.rejected(), [""; 0]);
}
