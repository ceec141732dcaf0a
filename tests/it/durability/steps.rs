//! Lookups of steps, across restarts.

use super::downstream::Mood;
use super::home::{Home, at_rest, recovered, stopped};
use crate::harness::api::{Api, cloud, fixture};
use crate::harness::{Answer, Ask, Child, Gate, Reserved, eventually};

fn settings(address: std::net::SocketAddr) -> String {
    format!("receivers.circleci.api: {{ token: a-token, endpoint: \"http://{address}\" }}")
}

async fn job_ends(relay: &Child) {
    assert_eq!(relay.ask(Ask::webhook(&fixture("request.json"))).await.status, 204);
}

/// Number of spans of the job, of its steps and of the time before it.
const SPANS: usize = 10;

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[tokio::test]
async fn steps_arrive_after_a_kill_between_the_webhook_and_the_api() {
    let reserved = Reserved::on_loopback();
    let mut home = Home::new(Mood::Up, &settings(reserved.address)).await;
    let relay = home.start().await;
    job_ends(&relay).await;
    eventually("the job is delivered", async || {
        (relay.metrics().await.sum("otelcol_exporter_sent_spans", &[]) == 1.0).then_some(())
    })
    .await;
    // Its commit includes the progress.
    let other = fixture("request.json").replace("job-completed", "ping");
    let other = other.replace("31baebba-6803-355a-b8fc-d50b94a6ebc6", "92e0554a-837f-4086-913b-0dc7665d2a84");
    assert_eq!(relay.ask(Ask::webhook(&other)).await.status, 204);
    eventually("the ping is delivered", async || {
        (relay.metrics().await.sum("otelcol_exporter_sent_spans", &[]) == 2.0).then_some(())
    })
    .await;
    relay.kill().await;
    assert_eq!(sorted(home.downstream.taken_names()), ["job: test", "ping"]);

    let api = Api::at(reserved.address, cloud).await;
    let relay = home.start().await;
    at_rest(&relay).await;
    // Nothing of the job itself was left to deliver.
    // The ping may be: the process died just after its delivery.
    let taken = home.downstream.taken_names();
    assert_eq!(taken.iter().filter(|name| *name != "ping").count(), SPANS, "{taken:?}");
    assert_eq!(taken.iter().filter(|name| *name == "job: test").count(), 1, "{taken:?}");
    assert_eq!(api.requests().len(), 2);
    // The event is known, although this process did not accept it.
    job_ends(&relay).await;
    let duplicates = [("event", "job-completed"), ("outcome", "duplicate")];
    let known = relay.metrics().await.sum("spanrelay_webhooks_total", &duplicates);
    assert_eq!(known, 1.0);
    stopped(relay).await;
}

#[tokio::test]
async fn a_kill_before_the_job_is_delivered_loses_neither_the_job_nor_its_steps() {
    let gate = Gate::new();
    let api = Api::with_answers([Answer::WaitAt(gate)], cloud).await;
    let address = api.url().trim_start_matches("http://").parse().unwrap();
    let mut home = Home::new(Mood::Down, &settings(address)).await;
    let relay = home.start().await;
    job_ends(&relay).await;
    api.has_seen(1).await;
    relay.kill().await;
    home.downstream.set(Mood::Up).await;
    let relay = home.start().await;
    at_rest(&relay).await;
    assert_eq!(recovered(&relay).await, 1.0);
    assert_eq!(home.downstream.taken_names().len(), SPANS);
    stopped(relay).await;
}

#[tokio::test]
async fn steps_that_were_found_survive_a_kill() {
    let api = Api::start(cloud).await;
    let address = api.url().trim_start_matches("http://").parse().unwrap();
    let mut home = Home::new(Mood::Down, &settings(address)).await;
    let relay = home.start().await;
    job_ends(&relay).await;
    eventually("the steps are found", async || {
        let found = [("outcome", "found")];
        (relay.metrics().await.sum("spanrelay_step_lookups_total", &found) == 1.0).then_some(())
    })
    .await;
    relay.kill().await;
    api.set(|_| Some(Answer::status(500)));
    home.downstream.set(Mood::Up).await;
    let relay = home.start().await;
    eventually("the steps are delivered", async || {
        (home.downstream.taken_names().len() >= SPANS).then_some(())
    })
    .await;
    stopped(relay).await;
}

#[tokio::test]
async fn a_stop_keeps_pending_lookups_for_the_next_start() {
    let reserved = Reserved::on_loopback();
    let mut home = Home::new(Mood::Up, &settings(reserved.address)).await;
    let relay = home.start().await;
    job_ends(&relay).await;
    eventually("the job is delivered", async || (home.downstream.taken_names().len() == 1).then_some(()))
        .await;
    stopped(relay).await;
    let _api = Api::at(reserved.address, cloud).await;
    let relay = home.start().await;
    at_rest(&relay).await;
    assert_eq!(home.downstream.taken_names().len(), SPANS);
    stopped(relay).await;
}
