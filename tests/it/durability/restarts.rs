//! Data that a process finds from an earlier one.

use super::downstream::Mood;
use super::home::{Home, at_rest, batch, recovered, stopped};
use super::load::job;
use crate::github;
use crate::harness::{Ask, Child, SECRET, eventually, log, request_of, span};

/// Exports one request after the other, in order.
const ONE_AT_A_TIME: &str = "exporters.otlp_http.max_in_flight: 1";

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[tokio::test]
async fn undelivered_data_is_exported_after_kills_oldest_first() {
    let mut home = Home::new(Mood::Down, ONE_AT_A_TIME).await;
    let mut sent = Vec::new();
    for process in 1..=3 {
        let relay = home.start().await;
        for id in 1..=10 {
            let name = format!("{process} {id:02}");
            batch(&relay, span(process * 100 + id, &name)).await;
            sent.push(name);
        }
        relay.kill().await;
    }
    home.downstream.set(Mood::Up).await;
    let relay = home.start().await;
    let samples = at_rest(&relay).await;
    assert_eq!(home.downstream.taken_names(), sent);
    assert_eq!(samples.sum("spanrelay_recovered_items_total", &[("signal", "traces")]), 30.0);
    assert_eq!(
        samples.sum("otelcol_receiver_accepted_spans", &[]),
        0.0,
        "they were accepted and counted before"
    );
    assert_eq!(samples.sum("otelcol_exporter_sent_spans", &[]), 30.0);
    assert_eq!(samples.sum("spanrelay_lines_total", &[]), 0.0);
    stopped(relay).await;
}

#[tokio::test]
async fn a_held_span_and_its_log_match_after_a_kill() {
    let mut home = Home::new(Mood::Up, "processors.span_events.wait: 1h").await;
    let relay = home.start().await;
    batch(&relay, span(1, "both before")).await;
    batch(&relay, log(1, "first")).await;
    batch(&relay, log(2, "second")).await;
    batch(&relay, span(3, "span before")).await;
    relay.kill().await;

    let relay = home.start().await;
    eventually("all of it is read again", async || (recovered(&relay).await == 4.0).then_some(())).await;
    batch(&relay, span(2, "log before")).await;
    batch(&relay, log(3, "third")).await;
    assert_eq!(home.downstream.taken_names(), [""; 0], "they wait");
    stopped(relay).await;
    let taken = sorted(home.downstream.taken_names());
    assert_eq!(taken, ["both before: first", "log before: second", "span before: third"]);
}

/// Starts a relay with requests of which the downstream withholds a part; the rest is delivered, and recorded as such.
async fn half_delivered(home: &mut Home) -> Child {
    let relay = home.start().await;
    let lines = [span(1, "a"), span(2, "held b"), log(2, "second"), log(1, "first"), log(3, "stray")];
    batch(&relay, request_of(&lines)).await;
    eventually("the others are delivered", async || {
        let settled = relay.metrics().await.sum("spanrelay_settled_items_total", &[]);
        (settled == 3.0).then_some(())
    })
    .await;
    // Its commit includes the progress.
    batch(&relay, span(4, "held c")).await;
    assert_eq!(sorted(home.downstream.taken_names()), ["a: first", "log stray"]);
    relay
}

async fn only_the_rest_is_delivered(mut home: Home) {
    home.downstream.set(Mood::Up).await;
    let relay = home.start().await;
    at_rest(&relay).await;
    assert_eq!(recovered(&relay).await, 3.0);
    stopped(relay).await;
    let taken = sorted(home.downstream.taken_names());
    assert_eq!(taken, ["a: first", "held b: second", "held c", "log stray"]);
}

#[tokio::test]
async fn a_drained_relay_delivers_nothing_twice_of_a_half_delivered_request() {
    let mut home = Home::new(Mood::Withholds("held"), "exporters.otlp_http.timeout: 1h").await;
    let relay = half_delivered(&mut home).await;
    stopped(relay).await;
    only_the_rest_is_delivered(home).await;
}

#[tokio::test]
async fn a_killed_relay_delivers_nothing_twice_that_was_recorded() {
    let mut home = Home::new(Mood::Withholds("held"), "exporters.otlp_http.timeout: 1h").await;
    let relay = half_delivered(&mut home).await;
    relay.kill().await;
    only_the_rest_is_delivered(home).await;
}

/// Withholds one signal while a log record is exported both as an event and as a log, and then stops the relay.
async fn each_half_is_delivered_once(withheld: &'static str, unmatched: &str, [before, after]: [&str; 2]) {
    let settings = format!(
        "exporters.otlp_http.timeout: 1h\nprocessors.span_events.keep_logs: true\nprocessors.span_events.unmatched: {unmatched}"
    );
    let mut home = Home::new(Mood::Withholds(withheld), &settings).await;
    let relay = home.start().await;
    batch(&relay, request_of(&[span(1, "a"), log(1, "event")])).await;
    eventually("the other signal is delivered", async || {
        let samples = relay.metrics().await;
        let sent = ["otelcol_exporter_sent_spans", "otelcol_exporter_sent_log_records"];
        (sent.iter().map(|name| samples.sum(name, &[])).sum::<f64>() == 1.0).then_some(())
    })
    .await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names(), [before]);

    home.downstream.set(Mood::Up).await;
    let relay = home.start().await;
    let samples = at_rest(&relay).await;
    assert_eq!(home.downstream.taken_names(), [before, after], "unmatched: {unmatched}");
    let logs =
        |name: &str, labels: &[(&str, &str)]| samples.sum(name, &[&[("signal", "logs")], labels].concat());
    assert_eq!(logs("spanrelay_recovered_items_total", &[]), 1.0);
    assert_eq!(logs("spanrelay_settled_items_total", &[("fate", "attached")]), 1.0);
    assert_eq!(logs("spanrelay_settled_items_total", &[]), 1.0);
    stopped(relay).await;
}

#[tokio::test]
async fn a_kept_log_delivered_as_an_event_is_exported_as_a_log_after_a_restart() {
    for unmatched in ["forward_log", "drop", "carrier_span"] {
        each_half_is_delivered_once("resourceLogs", unmatched, ["a: event", "log event"]).await;
    }
}

#[tokio::test]
async fn a_kept_log_delivered_as_a_log_is_exported_as_an_event_after_a_restart() {
    for unmatched in ["forward_log", "drop", "carrier_span"] {
        each_half_is_delivered_once("resourceSpans", unmatched, ["log event", "a: event"]).await;
    }
}

#[tokio::test]
async fn data_accepted_with_repair_and_longer_lines_is_delivered_without_them() {
    let mut home = Home::new(Mood::Down, "").await;
    let relay = home.start().await;
    let lines = [span(1, "repaired").replace("}]}]}]}", "},]}]}]}"), span(2, &"x".repeat(3000))];
    batch(&relay, request_of(&lines)).await;
    relay.kill().await;
    home.downstream.set(Mood::Up).await;
    let strict = "server.max_line_size: 1KiB\nreceivers.fastly.repair: false";
    let mut home = home.with_settings(strict);
    let relay = home.start().await;
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names().len(), 2);
    assert_eq!(home.rejected().len(), 0);
}

#[tokio::test]
async fn nothing_is_counted_or_written_to_the_rejected_lines_twice() {
    let mut home = Home::new(Mood::Down, "").await;
    let relay = home.start().await;
    let body = request_of(&[span(1, "good"), "{\"cut".to_owned(), "no JSON".to_owned()]);
    let reply = relay.ask(Ask::post("/fastly", body)).await;
    assert_eq!((reply.status, reply.json()["rejected"].as_u64()), (200, Some(2)));
    let odd = job(1, "odd").replace("job-completed", "job-reopened");
    assert_eq!(relay.ask(Ask::webhook(&odd)).await.status, 202);
    relay.kill().await;
    assert_eq!(home.rejected().len(), 3);

    for _ in 0..2 {
        let relay = home.start().await;
        eventually("it is read again", async || (recovered(&relay).await == 1.0).then_some(())).await;
        let samples = relay.metrics().await;
        assert_eq!(samples.sum("spanrelay_lines_total", &[]), 0.0);
        assert_eq!(samples.sum("spanrelay_webhooks_total", &[]), 0.0);
        relay.kill().await;
    }
    home.downstream.set(Mood::Up).await;
    let relay = home.start().await;
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names(), ["good"]);
    assert_eq!(home.rejected().len(), 3);
}

#[tokio::test]
async fn a_queued_webhook_is_a_duplicate_when_redelivered_after_a_restart() {
    let mut home = Home::new(Mood::Down, "").await;
    let body = job(1, "once");
    let relay = home.start().await;
    assert_eq!(relay.ask(Ask::webhook(&body)).await.status, 204);
    relay.kill().await;

    let relay = home.start().await;
    eventually("it is read again", async || (recovered(&relay).await == 1.0).then_some(())).await;
    assert_eq!(relay.ask(Ask::webhook(&body)).await.status, 204);
    let samples = relay.metrics().await;
    assert_eq!(samples.sum("spanrelay_webhooks_total", &[("outcome", "duplicate")]), 1.0);
    home.downstream.set(Mood::Up).await;
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names(), ["job: once"]);
}

#[tokio::test]
async fn an_event_whose_type_is_in_a_header_is_read_again_after_a_kill() {
    let on = format!("receivers.github: {{secrets: [{SECRET}]}}");
    let mut home = Home::new(Mood::Down, &on).await;
    let relay = home.start().await;
    assert_eq!(relay.ask(github::event("workflow_run", "one", &github::run(7))).await.status, 204);
    relay.kill().await;

    let relay = home.start().await;
    eventually("it is read again", async || (recovered(&relay).await == 1.0).then_some(())).await;
    assert_eq!(relay.ask(github::event("workflow_run", "one", &github::run(7))).await.status, 204);
    let samples = relay.metrics().await;
    assert_eq!(samples.sum("spanrelay_webhooks_total", &[("outcome", "duplicate")]), 1.0);
    home.downstream.set(Mood::Up).await;
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names(), ["workflow: CI"]);
    assert_eq!(home.rejected().len(), 0);
}

#[tokio::test]
async fn live_traffic_is_exported_while_the_backlog_waits() {
    let mut home = Home::new(Mood::Down, "").await;
    let relay = home.start().await;
    for id in 1..=20 {
        batch(&relay, span(id, "backlog")).await;
    }
    relay.kill().await;

    home.downstream.set(Mood::Withholds("backlog")).await;
    let relay = home.start().await;
    batch(&relay, span(100, "live")).await;
    eventually("the live span is taken", async || (home.downstream.taken_names() == ["live"]).then_some(()))
        .await;
    home.downstream.set(Mood::Up).await;
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names().len(), 21);
}

#[tokio::test]
async fn requests_of_a_disabled_receiver_stay_until_it_is_enabled_again() {
    let mut home = Home::new(Mood::Down, "").await;
    let relay = home.start().await;
    assert_eq!(relay.ask(Ask::webhook(&job(1, "patient"))).await.status, 204);
    relay.kill().await;
    home.downstream.set(Mood::Up).await;
    let relay = home.start_with("receivers: {fastly: }").await;
    relay.logged("queue holds requests of a receiver that is not configured").await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names(), [""; 0]);
    let relay = home.start().await;
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names(), ["job: patient"]);
}

/// Maximum size of a line, of which each body has one.
const BODY_LINES: u64 = 4;
const LINE_BYTES: usize = 1000 * 1000;
const BODIES: u64 = 100;
/// Maximum memory of the relay: 64 MiB of live records, 1 MiB held; the rest is the program, buffers for reading,
/// compressing and encoding, and the allocator's own.
const MEMORY_BYTES: f64 = 300e6;

#[tokio::test]
async fn an_outage_costs_disk_and_not_memory() {
    let mut home = Home::new(Mood::Down, "processors.span_events: {wait: 1s, max_held_bytes: 1MiB}").await;
    let relay = home.start().await;
    let line = |id: u64| span(id, &format!("{id:04}{}", "x".repeat(LINE_BYTES)));
    let mut memory: f64 = 0.0;
    for number in 0..BODIES {
        let ids = number * BODY_LINES + 1..=(number + 1) * BODY_LINES;
        batch(&relay, request_of(&ids.map(line).collect::<Vec<_>>())).await;
        memory = memory.max(relay.metrics().await.sum("otelcol_process_memory_rss", &[]));
    }
    relay.kill().await;

    let relay = home.start().await;
    home.downstream.set(Mood::Up).await;
    let samples = eventually("the backlog is empty", async || {
        let samples = relay.metrics().await;
        memory = memory.max(samples.sum("otelcol_process_memory_rss", &[]));
        samples.are_at_rest().then_some(samples)
    })
    .await;
    samples.assert_conserved();
    stopped(relay).await;
    let came: Vec<String> =
        home.downstream.taken_names().iter().map(|name| name.chars().take(4).collect()).collect();
    let sent: Vec<String> = (1..=BODIES * BODY_LINES).map(|id| format!("{id:04}")).collect();
    assert_eq!(sorted(came), sent);
    eprintln!(
        "{:.0} MB in memory at most, of {:.0} MB that waited",
        memory / 1e6,
        (BODIES * BODY_LINES) as f64 * LINE_BYTES as f64 / 1e6
    );
    assert!(memory < MEMORY_BYTES, "{memory} bytes");
}
