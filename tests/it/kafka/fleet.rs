//! Relays that share a topic, and the collector that all of them export to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::broker::Brokers;
use crate::harness::{Ask, Child, Collector, Reply, SECRET, Samples, eventually, log, names, span_with};

/// Partitions of each test's topic.
pub(super) const PARTITIONS: i32 = 6;

/// A topic with a collector behind it.
pub(super) struct Fleet {
    pub(super) brokers: Arc<Brokers>,
    pub(super) topic: String,
    endpoint: String,
    /// Extra settings of all relays: `key: value` lines.
    settings: String,
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
                session_timeout: 6s
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

/// Waits until nothing is open anywhere, and checks that what all relays accepted is what all of them settled.
pub(super) async fn at_rest(relays: &[&Child]) {
    let sums = eventually("nothing is open in any relay", async || {
        let mut sums = Vec::new();
        for relay in relays {
            let samples = relay.metrics().await;
            if !samples.are_at_rest() || samples.sum("spanrelay_kafka_lag_records", &[]) > 0.0 {
                return None;
            }
            sums.push(samples);
        }
        // A record may be on its way between a front and a worker's statistics.
        let balance: f64 = sums.iter().map(balance).sum();
        (balance == 0.0).then_some(sums)
    })
    .await;
    assert!(!sums.is_empty());
}

/// Returns the number of accepted and recovered items less the settled ones.
fn balance(samples: &Samples) -> f64 {
    let accepted = ["spans", "log_records", "metric_points"]
        .map(|items| samples.sum(&format!("otelcol_receiver_accepted_{items}"), &[]));
    let recovered = samples.sum("spanrelay_recovered_items_total", &[]);
    let settled = samples.sum("spanrelay_settled_items_total", &[]);
    accepted.iter().sum::<f64>() + recovered - settled
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
