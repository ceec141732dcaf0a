//! A downstream that is replaced, redirects, or does not end its responses: no data is lost or sent twice.

use std::net::{Ipv6Addr, ToSocketAddrs};

use super::downstream::{Downstream, Mood};
use super::home::{Home, Protocol, at_rest, batch, stopped};
use crate::harness::{Answer, Collector, House, eventually, names, span};

#[tokio::test]
async fn a_new_server_with_the_same_name_gets_the_rest() {
    let mut addresses = ("localhost", 0).to_socket_addrs().unwrap();
    if !addresses.any(|address| address.is_ipv6()) {
        eprintln!("SKIPPED a_new_server_behind_the_same_name_…: localhost has no second address here");
        return;
    }
    let mut home = Home::new(Mood::Up, "").await;
    let port = home.downstream.address().port();
    let relay = home.start_with(&format!("exporters.otlp_http.endpoint: http://localhost:{port}")).await;
    batch(&relay, span(1, "to the old one")).await;
    at_rest(&relay).await;
    // The old server closes its connections; the name resolves to the new one.
    home.downstream.set(Mood::Down).await;
    batch(&relay, span(2, "to nobody at first")).await;
    eventually("it has been tried", async || {
        let samples = relay.metrics().await;
        (samples.sum("spanrelay_export_requests_total", &[("outcome", "retryable")]) > 0.0).then_some(())
    })
    .await;
    let new = Downstream::start_at((Ipv6Addr::LOCALHOST, port).into(), Mood::Up).await;
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names(), ["to the old one"]);
    assert_eq!(new.taken_names(), ["to nobody at first"]);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_loses_nothing() {
    let elsewhere = Collector::start([]).await;
    let moved = |status: u16| Answer::Say {
        status,
        headers: vec![("location", format!("{}/v1/traces", elsewhere.url()))],
        body: bytes::Bytes::new(),
    };
    let house = House::with_answers("", [moved(301), moved(302), moved(307), moved(308)]).await;
    house.batch(span(1, "stays")).await;
    for request in house.left(5).await {
        assert_eq!(names(&request), ["stays"]);
    }
    house.close().await;
    elsewhere.finish();
}

#[tokio::test]
async fn a_response_that_never_ends_counts_by_its_status() {
    for exporter in Protocol::ALL {
        let home = Home::new(Mood::HangsInItsAnswer, "exporters.otlp_http.timeout: 500ms").await;
        let mut home = home.by(exporter);
        let relay = home.start().await;
        batch(&relay, span(1, "taken")).await;
        let samples = at_rest(&relay).await;
        assert_eq!(samples.sum("otelcol_exporter_sent_spans", &[]), 1.0);
        stopped(relay).await;
        assert_eq!(home.downstream.taken_names(), ["taken"], "{exporter:?}");
    }
}

#[tokio::test]
async fn a_downstream_that_closed_all_connections_gets_everything_when_it_recovers() {
    for exporter in Protocol::ALL {
        let mut home = Home::new(Mood::Closes, "").await.by(exporter);
        let relay = home.start().await;
        for id in 1..=20 {
            batch(&relay, span(id, &format!("{id:02}"))).await;
        }
        home.downstream.has_seen(30).await;
        home.downstream.set(Mood::Up).await;
        at_rest(&relay).await;
        stopped(relay).await;
        let mut taken = home.downstream.taken_names();
        taken.sort();
        assert_eq!(taken, (1..=20).map(|id| format!("{id:02}")).collect::<Vec<_>>(), "{exporter:?}");
    }
}
