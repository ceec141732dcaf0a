//! The events of a cancelled workflow, across restarts.

use super::downstream::Mood;
use super::home::{Home, at_rest, recovered, stopped};
use crate::harness::{Ask, Child, eventually};

const WORKFLOW: &str = "cedf175c-c537-49f8-9b5c-95892f0b2407";

/// Posts `workflow-completed` of a cancelled workflow named `name` that stopped at this second.
async fn cancelled(relay: &Child, name: &str, second: u32) {
    let body = format!(
        r#"{{"type":"workflow-completed","id":"event-{name}","happened_at":"2026-03-02T09:00:{second:02}Z","workflow":{{"id":"{WORKFLOW}","name":"{name}","status":"canceled","created_at":"2026-03-02T09:00:00Z","stopped_at":"2026-03-02T09:00:{second:02}Z"}}}}"#
    );
    assert_eq!(relay.ask(Ask::webhook(&body)).await.status, 204);
}

async fn superseded(relay: &Child) -> f64 {
    let labels = [("event", "workflow-completed"), ("outcome", "superseded")];
    relay.metrics().await.sum("spanrelay_webhooks_total", &labels)
}

#[tokio::test]
async fn events_before_and_after_a_restart_result_in_one_span() {
    const HELD: &str = "receivers.circleci.cancel_settle: 1h";
    let mut home = Home::new(Mood::Up, "").await;
    let relay = home.start_with(HELD).await;
    cancelled(&relay, "first", 10).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names(), [""; 0], "a later event can still supersede it");

    let relay = home.start_with(HELD).await;
    eventually("it is read again", async || (recovered(&relay).await == 1.0).then_some(())).await;
    // The one that ended last, although another arrives after it.
    cancelled(&relay, "third", 30).await;
    cancelled(&relay, "second", 20).await;
    eventually("two are superseded", async || (superseded(&relay).await == 2.0).then_some(())).await;
    stopped(relay).await;

    let relay = home.start_with("receivers.circleci.cancel_settle: 1ms").await;
    at_rest(&relay).await;
    stopped(relay).await;
    assert_eq!(home.downstream.taken_names(), ["workflow: third"]);
}

#[tokio::test]
async fn a_redelivery_of_a_held_event_is_a_duplicate_after_a_restart() {
    const HELD: &str = "receivers.circleci.cancel_settle: 1h";
    let mut home = Home::new(Mood::Up, "").await;
    let relay = home.start_with(HELD).await;
    cancelled(&relay, "only", 10).await;
    stopped(relay).await;
    let relay = home.start_with(HELD).await;
    eventually("it is read again", async || (recovered(&relay).await == 1.0).then_some(())).await;
    cancelled(&relay, "only", 10).await;
    let duplicates = [("event", "workflow-completed"), ("outcome", "duplicate")];
    assert_eq!(relay.metrics().await.sum("spanrelay_webhooks_total", &duplicates), 1.0);
    assert_eq!(superseded(&relay).await, 0.0);
    stopped(relay).await;
}
