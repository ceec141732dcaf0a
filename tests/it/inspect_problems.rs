//! Problems on the inspector's page: when data does not flow, it says since when, why, what to do, and how much is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;

use crate::harness::browser::{Browser, DESK, PHONE};
use crate::harness::{
    Answer, Ask, Collector, Gate, House, Relay, Reserved, eventually, nobody_listens_at, span,
};
use crate::inspect::{data, told};
use crate::inspect_page::look;

/// A downstream whose status a test changes while it runs.
pub(crate) struct Downstream(Arc<AtomicU16>);

// === impl Downstream ===

impl Downstream {
    pub(crate) async fn with_status(status: u16) -> (Self, Collector) {
        let current = Arc::new(AtomicU16::new(status));
        let shared = Arc::clone(&current);
        let collector = Collector::judging(move |_| match shared.load(Ordering::SeqCst) {
            200 => Answer::json(200, "{}"),
            status => Answer::json(status, r#"{"message":"no token"}"#),
        });
        (Self(current), collector.await)
    }

    pub(crate) fn set_status(&self, status: u16) {
        self.0.store(status, Ordering::SeqCst);
    }
}

fn flow<'a>(data: &'a Value, signal: &str) -> &'a Value {
    data["flow"].as_array().unwrap().iter().find(|flow| flow["signal"] == signal).unwrap()
}

#[tokio::test]
async fn a_block_that_began_before_the_page_was_opened_has_its_time_and_remedy() {
    let (downstream, collector) = Downstream::with_status(401).await;
    let house = House::before(collector, "").await;
    house.batch(span(1, "blocked")).await;
    house.awaits_metric("spanrelay_exporter_blocked", &[("signal", "traces")], 1.0).await;
    let opened = data(&house, 0).await;
    let blocked = told(&house, |data| flow(data, "traces")["obstacle"]["remedy"].is_string()).await;
    let obstacle = &flow(&blocked, "traces")["obstacle"];
    assert!(obstacle["since_ms"].as_u64() <= opened["now_ms"].as_u64(), "{obstacle}");
    assert!(obstacle["reason"].as_str().unwrap().contains("401"), "{obstacle}");
    assert!(obstacle["remedy"].as_str().unwrap().contains("exporters.otlp_http.headers"), "{obstacle}");
    assert_eq!(flow(&blocked, "traces")["last_success_ms"], Value::Null);
    assert_eq!(flow(&blocked, "logs")["obstacle"], Value::Null, "a signal of its own");

    downstream.set_status(200);
    let fixed = told(&house, |data| flow(data, "traces")["last_success_ms"].is_u64()).await;
    assert!(flow(&fixed, "traces")["last_success_ms"].as_u64() >= obstacle["since_ms"].as_u64());
    told(&house, |data| flow(data, "traces")["obstacle"].is_null()).await;
    house.at_rest().await;
    house.collector.take_rest();
    house.close().await;
}

#[tokio::test]
async fn an_outage_keeps_its_beginning_until_the_downstream_responds() {
    let (downstream, collector) = Downstream::with_status(503).await;
    let house = House::before(collector, "").await;
    house.batch(span(1, "retried")).await;
    let first = told(&house, |data| flow(data, "traces")["obstacle"].is_object()).await;
    let obstacle = &flow(&first, "traces")["obstacle"];
    assert_eq!(obstacle["remedy"], Value::Null, "the relay retries by itself");
    let attempts = house.metric("spanrelay_export_requests_total", &[]).await;
    eventually("further attempts", async || {
        (house.metric("spanrelay_export_requests_total", &[]).await > attempts + 2.0).then_some(())
    })
    .await;
    let later = data(&house, 0).await;
    let later = flow(&later, "traces")["obstacle"]["since_ms"].as_i64().unwrap();
    // Both are computed from a duration and the time of the poll.
    assert!((later - obstacle["since_ms"].as_i64().unwrap()).abs() <= 2, "{later} {obstacle}");
    downstream.set_status(200);
    told(&house, |data| flow(data, "traces")["obstacle"].is_null()).await;
    house.at_rest().await;
    house.collector.take_rest();
    house.close().await;
}

#[tokio::test]
async fn the_banner_names_the_obstacle_and_the_remedy_and_goes_when_data_flows() {
    let Some(browser) = Browser::open("the_banner", DESK).await else { return };
    let (downstream, collector) = Downstream::with_status(401).await;
    let house = House::before(collector, "").await;
    look(&browser, &house).await;
    assert_eq!(browser.value("document.querySelector('#banner').hidden").await, true);
    house.batch(span(1, "blocked")).await;
    browser
        .until("document.querySelector('#banner').innerText.includes('kept in the queue, the oldest')")
        .await;
    let banner = browser.text("#banner").await;
    for part in [
        "Traces are not exported",
        &house.collector.url(),
        "401",
        "authentication required: set exporters.otlp_http.headers",
        "What to do: authentication",
        "since ",
        "no success since the start",
    ] {
        assert!(banner.contains(part), "{part}\n{banner}");
    }
    assert!(!banner.contains("Logs"), "{banner}");
    // Nodes stay, so that a screen reader does not repeat what has not changed.
    browser.value("(window.node = document.querySelector('#banner h3').firstChild) !== null").await;
    // At least a second later, so that the page was drawn again.
    browser
        .until("/oldest [1-9]\\d* (s|min)/.test(document.querySelector('[data-way=queue]').innerText)")
        .await;
    assert_eq!(browser.value("window.node === document.querySelector('#banner h3').firstChild").await, true);

    downstream.set_status(200);
    browser.until("document.querySelector('#banner').hidden").await;
    browser.until("document.querySelector('[data-way=downstream]').innerText.includes('last success')").await;
    house.at_rest().await;
    house.collector.take_rest();
    browser.close().await;
    house.close().await;
}

#[tokio::test]
async fn a_downstream_that_is_away_gets_a_banner_when_retries_do_not_succeed_soon() {
    let Some(browser) = Browser::open("a_downstream_that_is_away", PHONE).await else { return };
    let (downstream, collector) = Downstream::with_status(503).await;
    let house = House::before(collector, "").await;
    look(&browser, &house).await;
    house.batch(span(1, "retried")).await;
    browser.until("document.querySelector('#banner').innerText.includes('Traces are not exported')").await;
    let banner = browser.text("#banner").await;
    assert!(banner.contains("503") && banner.contains("The relay retries."), "{banner}");
    downstream.set_status(200);
    browser.until("document.querySelector('#banner').hidden").await;
    house.at_rest().await;
    house.collector.take_rest();
    browser.close().await;
    house.close().await;
}

#[tokio::test]
async fn a_full_queue_has_a_banner_of_its_own() {
    let Some(browser) = Browser::open("a_full_queue", DESK).await else { return };
    let gate = Gate::new();
    let collector = Collector::start([Answer::WaitAt(gate.clone())]).await;
    let house = House::before(collector, "queue.max_size: 64KiB").await;
    look(&browser, &house).await;
    let large = span(1, &"x".repeat(40_000));
    house.batch(large.clone()).await;
    assert_eq!(house.ask(Ask::post("/fastly", large)).await.status, 503);
    browser.until("document.querySelector('#banner').innerText.includes('No data is accepted')").await;
    let banner = browser.text("#banner").await;
    assert!(banner.contains("The queue is full.") && banner.contains("raise queue.max_size"), "{banner}");
    gate.open();
    browser.until("document.querySelector('#banner').hidden").await;
    house.left(1).await;
    browser.close().await;
    house.close().await;
}

#[tokio::test]
async fn the_page_dims_while_the_relay_is_gone_and_recovers_with_it() {
    let Some(browser) = Browser::open("the_page_dims", DESK).await else { return };
    let house = House::open("").await;
    look(&browser, &house).await;
    let opacity = "getComputedStyle(document.querySelector('#requests')).opacity";
    assert_eq!(browser.value(opacity).await, "1");
    let telemetry = house.relay.telemetry;
    house.close().await;
    nobody_listens_at(telemetry).await;
    browser.until("document.querySelector('#state').dataset.state === 'lost'").await;
    let banner = browser.text("#banner").await;
    assert!(banner.contains("The relay does not respond") && banner.contains("since "), "{banner}");
    assert!(browser.value(opacity).await.as_str().unwrap().parse::<f64>().unwrap() < 0.6);

    let reserved = Reserved::at(telemetry);
    let collector = Collector::start([]).await;
    let settings = format!("telemetry.endpoint: {telemetry}");
    let relay = Relay::start(&House::configuration(&collector.url()), &settings).await;
    let again = House { relay, collector };
    drop(reserved);
    browser.until("document.querySelector('#state').dataset.state === 'live'").await;
    browser.until("document.querySelector('#banner').hidden").await;
    assert_eq!(browser.value(opacity).await, "1");
    browser.close().await;
    again.close().await;
}

#[tokio::test]
async fn the_size_of_rejected_input_is_shown_and_follows_the_file() {
    let Some(browser) = Browser::open("the_size_of_rejected_input", DESK).await else { return };
    let house = House::open("").await;
    look(&browser, &house).await;
    browser
        .until("document.querySelector('[data-way=rejected]')?.innerText.includes('0 B of 1.00 GiB')")
        .await;
    assert_eq!(house.ask(Ask::post("/fastly", "x".repeat(3000))).await.status, 400);
    let told = told(&house, |data| data["rejected"]["bytes"].as_u64() > Some(3000)).await;
    assert_eq!(told["rejected"]["discarded"], 0);
    browser
        .until("document.querySelector('[data-way=rejected]').innerText.includes('KiB of 1.00 GiB')")
        .await;
    browser.close().await;
    house.close().await;
}
