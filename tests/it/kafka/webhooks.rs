//! Webhooks of one workflow through different fronts make one span.

use super::broker::shared;
use super::fleet::{Complete, Fleet, assigned, delivered, stopped};
use crate::harness::{Ask, Child, Collector, eventually};

/// `workflow-completed` of a workflow that was named `name` when it stopped at this second.
async fn completed(front: &Child, workflow: u32, name: &str, status: &str, second: u32) {
    let body = format!(
        r#"{{"type":"workflow-completed","id":"event-{workflow}-{name}","happened_at":"2026-03-02T09:00:{second:02}Z","workflow":{{"id":"cedf175c-c537-49f8-9b5c-{workflow:012x}","name":"{name}","status":"{status}","created_at":"2026-03-02T09:00:00Z","stopped_at":"2026-03-02T09:00:{second:02}Z"}}}}"#
    );
    assert_eq!(front.ask(Ask::webhook(&body)).await.status, 204, "{}", front.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redeliveries_and_cancellations_through_any_front_make_one_span_each() {
    let Some(brokers) = shared("redeliveries_and_cancellations").await else { return };
    let collector = Collector::start([]).await;
    let fleet = Fleet::new(brokers, &collector, "").await;
    let fronts = [fleet.start("front").await, fleet.start("front").await];
    let workers = [fleet.start("worker").await, fleet.start("worker").await];
    assigned(&[&workers[0], &workers[1]]).await;
    const WORKFLOWS: u32 = 8;
    for workflow in 1..=WORKFLOWS {
        completed(&fronts[0], workflow, "only", "success", 10).await;
        completed(&fronts[1], workflow, "only", "success", 10).await;
        completed(&fronts[0], workflow, "only", "success", 10).await;
    }
    // The one that ended last, although another comes after it.
    for workflow in WORKFLOWS + 1..=2 * WORKFLOWS {
        completed(&fronts[0], workflow, "first", "canceled", 10).await;
        completed(&fronts[1], workflow, "last", "canceled", 30).await;
        completed(&fronts[0], workflow, "second", "canceled", 20).await;
    }
    let names = delivered(&collector, 2 * WORKFLOWS as usize).await;
    let count = |wanted: &str| names.iter().filter(|(_, name)| name == wanted).count();
    assert_eq!((count("workflow: only"), count("workflow: last")), (8, 8), "{names:?}");
    let relays = [&fronts[0], &fronts[1], &workers[0], &workers[1]];
    assert_eq!(fleet.is_balanced(&relays, Complete::BOTH).await as u32, 6 * WORKFLOWS);
    let mut superseded = 0.0;
    for worker in &workers {
        let labels = [("fate", "superseded")];
        superseded += worker.metrics().await.sum("spanrelay_settled_items_total", &labels);
    }
    assert_eq!(superseded, 32.0);
    stopped([fronts, workers].into_iter().flatten().collect()).await;
    collector.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_that_is_held_while_its_worker_restarts_is_superseded_by_a_later_one() {
    let Some(brokers) = shared("a_cancellation_that_is_held").await else { return };
    let collector = Collector::start([]).await;
    let fleet = Fleet::new(brokers, &collector, "receivers.circleci.cancel_settle: 8s").await;
    let relay = fleet.start("both").await;
    assigned(&[&relay]).await;
    completed(&relay, 99, "first", "canceled", 10).await;
    eventually("it is held", async || {
        (relay.metrics().await.sum("otelcol_exporter_queue_size", &[]) > 0.0).then_some(())
    })
    .await;
    stopped(vec![relay]).await;
    assert_eq!(collector.waiting(), 0, "a later event can still supersede it");
    let relay = fleet.start("both").await;
    completed(&relay, 99, "last", "canceled", 20).await;
    let names = delivered(&collector, 1).await;
    assert_eq!(names, [("/v1/traces".to_owned(), "workflow: last".to_owned())]);
    assert_eq!(fleet.is_balanced(&[&relay], Complete::NEITHER).await, 2);
    stopped(vec![relay]).await;
    collector.finish();
}
