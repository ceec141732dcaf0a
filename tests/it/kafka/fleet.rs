//! Relays that share a topic, and the collector that all of them export to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::broker::Brokers;
use crate::harness::{
    Ask, Child, Collector, Reply, SECRET, Samples, eventually, items_in, log, names, span_with,
};

/// Partitions of each test's topic.
pub(super) const PARTITIONS: i32 = 6;

/// Session timeout of all relays.
pub(super) const SESSION_SECONDS: u64 = 6;

/// Time in which brokers answer a test.
const ANSWER: Duration = Duration::from_secs(30);

/// Environment variable with the value of `queue.kafka.group_protocol` of all relays.
const PROTOCOL: &str = "SPANRELAY_KAFKA_PROTOCOL";

/// Sides of a fleet whose counters are complete: every process of that side still runs, and every write or commit was answered.
/// The counters of a process are gone with it; what was not answered in time may have succeeded all the same.
#[derive(Clone, Copy)]
pub(super) struct Complete {
    fronts: bool,
    workers: bool,
}

impl Complete {
    pub(super) const BOTH: Self = Self { fronts: true, workers: true };
    pub(super) const WORKERS: Self = Self { fronts: false, workers: true };
    pub(super) const NEITHER: Self = Self { fronts: false, workers: false };
}

/// A topic with a collector behind it.
pub(super) struct Fleet {
    pub(super) brokers: Arc<Brokers>,
    pub(super) topic: String,
    endpoint: String,
    /// Extra settings of all relays: `key: value` lines.
    settings: String,
}

/// Returns the value of `queue.kafka.group_protocol`.
pub(super) fn protocol() -> String {
    std::env::var(PROTOCOL).unwrap_or_else(|_| "classic".to_owned())
}

/// Returns the trace id of the span with this number.
pub(super) fn trace(number: u64) -> String {
    format!("{number:032x}")
}

/// A line with the only span of a trace.
pub(super) fn span_of(number: u64) -> String {
    span_with(&trace(number), number, &format!("\"name\":\"span-{number}\""))
}

/// A line with a log event about that span.
pub(super) fn event_of(number: u64) -> String {
    log(number, &format!("event-{number}")).replace(crate::harness::TRACE, &trace(number))
}

// === impl Fleet ===

impl Fleet {
    /// A topic of the test's own.
    pub(super) async fn new(brokers: Arc<Brokers>, collector: &Collector, settings: &str) -> Self {
        let fleet = Self::without_topic(brokers, &collector.url(), settings);
        fleet.brokers.create_topic(&fleet.topic, PARTITIONS, &[]).await;
        fleet
    }

    pub(super) fn without_topic(brokers: Arc<Brokers>, endpoint: &str, settings: &str) -> Self {
        static TOPICS: AtomicU32 = AtomicU32::new(0);
        let number = TOPICS.fetch_add(1, Ordering::Relaxed);
        let (topic, settings) = (format!("spanrelay-{number}"), settings.to_owned());
        Self { brokers, topic, endpoint: endpoint.to_owned(), settings }
    }

    /// The configuration of a relay with this role.
    pub(super) fn configuration(&self, role: &str) -> String {
        let Self { brokers, topic, endpoint, .. } = self;
        let protocol = protocol();
        format!(
            "
            server: {{ endpoint: 127.0.0.1:0 }}
            receivers:
              fastly:
              circleci: {{ secrets: [{SECRET}], cancel_settle: 2s }}
              otlp:
            processors: {{ span_events: {{ wait: 3s }} }}
            queue:
              storage: kafka
              kafka:
                brokers: [{}]
                topic: {topic}
                group_id: {topic}
                session_timeout: {SESSION_SECONDS}s
                group_protocol: {protocol}
                role: {role}
            exporters:
              otlp_http:
                endpoint: {endpoint}
                retry_on_failure: {{ initial_interval: 10ms, max_interval: 100ms }}
            telemetry: {{ endpoint: 127.0.0.1:0 }}
            ",
            brokers.addresses()
        )
    }

    /// Changes the settings of relays that start later; the topic stays the same.
    pub(super) fn with_settings(self, settings: &str) -> Self {
        Self { settings: settings.to_owned(), ..self }
    }

    pub(super) fn arguments(&self) -> Vec<String> {
        let lines = self.settings.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.flat_map(|line| ["--set".to_owned(), line.replacen(": ", "=", 1)]).collect()
    }

    /// Starts a relay and waits until it is ready.
    pub(super) async fn start(&self, role: &str) -> Child {
        let arguments = self.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let relay = Child::start(&self.configuration(role), &arguments).await;
        eventually("the relay is ready", async || {
            (relay.telemetry("/readyz").await.status == 200).then_some(())
        })
        .await;
        relay
    }

    /// Returns the number of items in all records of the topic.
    pub(super) fn items(&self) -> usize {
        tokio::task::block_in_place(|| {
            let mut left = BTreeMap::new();
            let mut list = TopicPartitionList::new();
            for (partition, (first, end)) in (0..).zip(self.brokers.offsets(&self.topic, PARTITIONS)) {
                if first < end {
                    left.insert(partition, end);
                    list.add_partition_offset(&self.topic, partition, Offset::Offset(first)).unwrap();
                }
            }
            let consumer = self.brokers.consumer("reader-of-records");
            consumer.assign(&list).unwrap();
            let mut items = 0;
            while !left.is_empty() {
                let record = consumer.poll(ANSWER).expect("the records are still there").unwrap();
                let value = record.payload().unwrap_or_default();
                // The record of a probe is empty.
                if !value.is_empty() {
                    items += items_in(&serde_json::from_slice(value).unwrap());
                }
                if record.offset() + 1 == left[&record.partition()] {
                    left.remove(&record.partition());
                }
            }
            items
        })
    }

    /// Waits until every record is resolved: the group has committed the end of every partition.
    async fn is_committed(&self) {
        let consumer = self.brokers.consumer(&self.topic);
        eventually("every record is resolved", async || {
            tokio::task::block_in_place(|| {
                let mut list = TopicPartitionList::new();
                (0..PARTITIONS).for_each(|partition| {
                    list.add_partition(&self.topic, partition);
                });
                let committed = consumer.committed_offsets(list, ANSWER).ok()?;
                let is_whole = |(partition, (first, end)): (i32, (i64, i64))| {
                    let known = committed.find_partition(&self.topic, partition).unwrap();
                    first == end || known.offset() == Offset::Offset(end)
                };
                (0..).zip(self.brokers.offsets(&self.topic, PARTITIONS)).all(is_whole).then_some(())
            })
        })
        .await;
    }

    /// Waits until nothing is open, and checks that every item that was accepted has one outcome: what the relays accepted is
    /// in the topic, and what is in the topic is settled. Returns the number of items in the topic, which is the witness for
    /// relays whose counters are gone.
    pub(super) async fn is_balanced(&self, relays: &[&Child], complete: Complete) -> usize {
        self.is_committed().await;
        let all = eventually("nothing is open in any relay", async || {
            let mut all = Vec::new();
            for relay in relays {
                let samples = relay.metrics().await;
                let is_open = samples.sum("spanrelay_kafka_lag_records", &[]) > 0.0;
                if is_open || !samples.are_at_rest() {
                    return None;
                }
                all.push(samples);
            }
            Some(all)
        })
        .await;
        let items = self.items();
        let [accepted, settled] = [accepted, settled].map(|of| all.iter().map(of).sum::<f64>());
        let fits = |sum: f64, is_complete: bool| match is_complete {
            true => sum == items as f64,
            false => sum <= items as f64,
        };
        assert!(
            fits(accepted, complete.fronts) && fits(settled, complete.workers),
            "{items} items in the topic, {accepted} accepted, {settled} settled"
        );
        items
    }
}

/// Returns the resident memory of a relay, in bytes.
pub(super) async fn memory(relay: &Child) -> f64 {
    relay.metrics().await.sum("otelcol_process_memory_rss", &[])
}

/// Posts lines that must be accepted as a whole.
pub(super) async fn post(relay: &Child, lines: &[String]) {
    let reply = try_post(relay, lines).await;
    assert_eq!(reply.status, 204, "{}\n{}", reply.text(), relay.log());
}

pub(super) async fn try_post(relay: &Child, lines: &[String]) -> Reply {
    relay.ask(Ask::post("/fastly", lines.join("\n"))).await
}

/// Waits until these workers own all partitions of the topic.
pub(super) async fn assigned(workers: &[&Child]) {
    eventually("all partitions are assigned", async || {
        let mut owned = 0.0;
        for worker in workers {
            owned += worker.metrics().await.sum("spanrelay_kafka_assigned_partitions", &[]);
        }
        (owned == f64::from(PARTITIONS)).then_some(())
    })
    .await;
}

/// Takes requests until this many spans have arrived; everything that came, by [`names`], and the paths.
pub(super) async fn delivered(collector: &Collector, spans: usize) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let count = |all: &Vec<(String, String)>| all.iter().filter(|(path, _)| path == "/v1/traces").count();
    while count(&all) < spans {
        let request = collector.take(1).await.remove(0);
        all.extend(names(&request).into_iter().map(|name| (request.path.clone(), name)));
    }
    all
}

/// Returns the number of items that a relay has accepted.
pub(super) fn accepted(samples: &Samples) -> f64 {
    let of = |items| samples.sum(&format!("otelcol_receiver_accepted_{items}"), &[]);
    ["spans", "log_records", "metric_points"].map(of).iter().sum()
}

/// Returns the number of items that a relay has settled, and no other will settle again.
pub(super) fn settled(samples: &Samples) -> f64 {
    samples.sum("spanrelay_settled_items_total", &[]) - samples.sum("spanrelay_recovered_items_total", &[])
}

/// Ends relays in order, all at once.
pub(super) async fn stopped(relays: Vec<Child>) {
    for relay in &relays {
        relay.signal("TERM").await;
    }
    for mut relay in relays {
        assert_eq!(relay.ended().await, Some(0), "{}", relay.log());
    }
}
