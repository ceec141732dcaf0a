//! Settings of the topic, and who may use it.

use std::sync::Arc;

use super::broker::{Options, PASSWORD, USER, own, shared};
use super::fleet::{
    Complete, Fleet, accepted, assigned, delivered, event_of, post, settled, span_of, stopped,
};
use crate::harness::{Child, Collector, Ended, eventually, spanrelay};

/// Writes a configuration and runs a command with it.
async fn command(name: &str, configuration: &str) -> Ended {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), configuration).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let queue = format!("queue.directory={}", directory.path().display());
    let file = file.path().to_str().unwrap().to_owned();
    let mut arguments = vec![name, "--config", &file, "--set", &queue];
    if name == "validate" {
        arguments.push("--connect");
    }
    Ended::of(&mut spanrelay(&arguments)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compacted_topic_is_refused_and_a_missing_one_is_waited_for() {
    let Some(brokers) = shared("a_compacted_topic_is_refused").await else { return };
    let compacted = Fleet::without_topic(Arc::clone(&brokers), "http://127.0.0.1:9", "");
    brokers.create_topic(&compacted.topic, 1, &[("cleanup.policy", "compact")]).await;
    let ended = command("run", &compacted.configuration("both")).await;
    assert_eq!(ended.code, Some(64), "{}", ended.err);
    assert!(ended.err.contains("cleanup.policy of the topic is compact"), "{}", ended.err);
    let ended = command("validate", &compacted.configuration("both")).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("compact"), "{}", ended.err);

    let missing = Fleet::without_topic(brokers, "http://127.0.0.1:9", "");
    let ended = command("validate", &missing.configuration("both")).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("the topic does not exist"), "{}", ended.err);
    let dead_letters = ["--set", "queue.kafka.dead_letter_topic=absent"];
    let relay = Child::start(&missing.configuration("both"), &dead_letters).await;
    let reply = relay.telemetry("/readyz").await;
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains("the topic does not exist"), "{}", reply.text());
    missing.brokers.create_topic(&missing.topic, 6, &[("retention.ms", "3600000")]).await;
    eventually("the relay is ready", async || (relay.telemetry("/readyz").await.status == 200).then_some(()))
        .await;
    assigned(&[&relay]).await;
    let log = relay.log();
    for setting in ["retention.ms", "min.insync.replicas", "replication.factor"] {
        assert!(log.contains(&format!("\"setting\":\"{setting}\"")), "{setting}: {log}");
    }
    assert!(log.contains("kafka dead-letter topic unavailable"), "{log}");
    stopped(vec![relay]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_to_be_created_is_created() {
    let Some(brokers) = shared("a_topic_that_is_to_be_created").await else { return };
    let collector = Collector::start([]).await;
    let create = "queue.kafka.create_topic: {partitions: 6, replication_factor: 1}";
    let fleet = Fleet::without_topic(brokers, &collector.url(), create);
    let relay = fleet.start("both").await;
    assigned(&[&relay]).await;
    post(&relay, &[event_of(7), span_of(7)]).await;
    assert_eq!(delivered(&collector, 1).await[0].1, "span-7: event-7");
    assert_eq!(fleet.is_balanced(&[&relay], Complete::BOTH).await, 2);
    stopped(vec![relay]).await;
    collector.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_retention_deletes_unread_are_counted_exactly() {
    let Some(brokers) = shared("records_that_retention_deletes_unread").await else { return };
    let collector = Collector::start([]).await;
    let fleet = Fleet::without_topic(brokers, &collector.url(), "");
    fleet.brokers.create_topic(&fleet.topic, 6, &[("segment.bytes", "1048576"), ("segment.ms", "100")]).await;
    let worker = fleet.start("worker").await;
    assigned(&[&worker]).await;
    let front = fleet.start("front").await;
    // Every partition has a committed offset.
    post(&front, &(1..=30).map(span_of).collect::<Vec<_>>()).await;
    delivered(&collector, 30).await;
    assert_eq!(fleet.is_balanced(&[&front, &worker], Complete::BOTH).await, 30);
    stopped(vec![worker]).await;
    post(&front, &(31..=90).map(span_of).collect::<Vec<_>>()).await;
    let written: Vec<i64> = fleet.brokers.offsets(&fleet.topic, 6).iter().map(|(_, end)| *end).collect();
    fleet.brokers.configure_topic(&fleet.topic, &[("retention.ms", "1"), ("segment.ms", "100")]).await;
    eventually("everything is deleted", async || {
        let offsets = fleet.brokers.offsets(&fleet.topic, 6);
        offsets.iter().all(|(first, end)| first == end).then_some(())
    })
    .await;
    fleet.brokers.configure_topic(&fleet.topic, &[]).await;
    assert_eq!(written.iter().sum::<i64>(), 90);
    let worker = fleet.start("worker").await;
    eventually("all 60 are counted", async || {
        (worker.metrics().await.sum("spanrelay_kafka_lost_records_total", &[]) == 60.0).then_some(())
    })
    .await;
    assert!(worker.log().contains("kafka deleted records before they were read"), "{}", worker.log());
    post(&front, &[span_of(91)]).await;
    delivered(&collector, 1).await;
    // What was lost is the rest of what was accepted.
    assert_eq!(fleet.is_balanced(&[&worker], Complete::WORKERS).await, 1);
    let (accepted, settled) = (accepted(&front.metrics().await), settled(&worker.metrics().await));
    assert_eq!((accepted, settled), (91.0, 1.0), "30 were settled before, and 60 are lost");
    stopped(vec![front, worker]).await;
    collector.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_authenticate_with_scram_through_tls_and_a_wrong_password_is_reported() {
    let secure = Options { is_secure: true };
    let Some(brokers) = own("clients_authenticate_with_scram_through_tls", 1, secure).await else { return };
    let collector = Collector::start([]).await;
    let fleet = Fleet::new(Arc::new(brokers), &collector, "").await;
    let with = |password: &str| {
        let certificate = fleet.brokers.certificate();
        let security = format!(
            "tls: {{ ca_file: {} }}\n                auth: {{ sasl: {{ username: {USER}, password: {password} }} }}\n                role: ",
            certificate.display()
        );
        fleet.configuration("both").replace("role: ", &security)
    };
    let relay = Child::start(&with(PASSWORD), &[]).await;
    eventually("the relay is ready", async || (relay.telemetry("/readyz").await.status == 200).then_some(()))
        .await;
    assigned(&[&relay]).await;
    post(&relay, &[span_of(1), event_of(1)]).await;
    assert_eq!(delivered(&collector, 1).await[0].1, "span-1: event-1");
    assert_eq!(fleet.is_balanced(&[&relay], Complete::BOTH).await, 2);
    stopped(vec![relay]).await;

    const WRONG: &str = "not-the-password";
    let ended = command("validate", &with(WRONG)).await;
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("uthentication") && !ended.err.contains(WRONG), "{}", ended.err);
    let relay = Child::start(&with(WRONG), &[]).await;
    let reason = eventually("the reason is known", async || {
        let reply = relay.telemetry("/readyz").await;
        (reply.status == 503 && reply.text().contains("uthentication")).then(|| reply.text())
    })
    .await;
    assert!(!reason.contains(WRONG) && !relay.log().contains(WRONG), "{reason}");
    stopped(vec![relay]).await;
    // `validate --connect` asks the downstream, too.
    collector.take_rest();
    collector.finish();
}
