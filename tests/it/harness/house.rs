//! A house: a relay with a collector downstream, and the checks at the end of every test.

use super::{Answer, Ask, Collector, Connection, Recorded, Relay, Reply, Samples, eventually, names};

/// Secret that signs the webhooks of `proto-fixtures`.
pub(crate) const SECRET: &str = "fixture-secret";

/// A relay and its collector. A test that does not close it fails.
pub(crate) struct House {
    pub(crate) relay: Relay,
    pub(crate) collector: Collector,
}

// === impl House ===

impl House {
    /// Opens a house. `settings` has one `key: value` per line, on top of a configuration with both receivers, a short
    /// retry delay, and `wait: 0s`.
    pub(crate) async fn open(settings: &str) -> Self {
        Self::before(Collector::start([]).await, settings).await
    }

    /// Opens a house with the first responses of the collector; further requests are accepted.
    pub(crate) async fn with_answers(settings: &str, answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::before(Collector::start(answers).await, settings).await
    }

    pub(crate) async fn before(collector: Collector, settings: &str) -> Self {
        let relay = Relay::start(&Self::configuration(&collector.url()), settings).await;
        Self { relay, collector }
    }

    /// Returns the configuration below the settings of a test.
    pub(crate) fn configuration(endpoint: &str) -> String {
        format!(
            "
            server: {{ endpoint: 127.0.0.1:0 }}
            receivers:
              fastly:
              circleci: {{ secrets: [{SECRET}], cancel_settle: 0s }}
            processors: {{ span_events: {{ wait: 0s }} }}
            queue: {{ storage: memory }}
            exporters:
              otlp_http:
                endpoint: {endpoint}
                retry_on_failure: {{ initial_interval: 1ms, max_interval: 5ms }}
            telemetry: {{ endpoint: 127.0.0.1:0 }}
            "
        )
    }

    pub(crate) async fn ask(&self, ask: Ask) -> Reply {
        ask.to(self.relay.address).await
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(self.relay.address).await
    }

    /// Posts a Fastly batch that must be accepted completely.
    pub(crate) async fn batch(&self, body: impl Into<bytes::Bytes>) {
        let reply = self.ask(Ask::post("/fastly", body)).await;
        assert_eq!(reply.status, 204, "{}", reply.text());
    }

    /// Takes the next requests of the collector, in the order of their arrival.
    pub(crate) async fn left(&self, count: usize) -> Vec<Recorded> {
        self.collector.take(count).await
    }

    /// Takes the next request.
    pub(crate) async fn left_one(&self) -> Recorded {
        self.left(1).await.remove(0)
    }

    /// Takes the next requests, sorted by traces, logs and metrics, because signals are exported independently.
    pub(crate) async fn left_by_signal(&self, count: usize) -> Vec<Recorded> {
        let mut left = self.left(count).await;
        let order =
            |path: &str| ["/v1/traces", "/v1/logs", "/v1/metrics"].iter().position(|known| *known == path);
        left.sort_by_key(|request| order(&request.path));
        left
    }

    /// Takes the next requests and returns the sorted names in them, because requests are exported on several
    /// connections.
    pub(crate) async fn left_names(&self, count: usize) -> Vec<String> {
        let mut left: Vec<String> = self.left(count).await.iter().flat_map(names).collect();
        left.sort();
        left
    }

    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.relay.metrics().await.sum(name, labels)
    }

    /// Waits until a metric has this value.
    pub(crate) async fn awaits_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        eventually(&format!("{name} {labels:?} is {value}"), async || {
            (self.metric(name, labels).await == value).then_some(())
        })
        .await;
    }

    /// Waits until nothing is held, queued or in flight, and checks that every accepted item has one outcome.
    pub(crate) async fn at_rest(&self) -> Samples {
        let samples = eventually("nothing is queued", async || {
            let samples = self.relay.metrics().await;
            (samples.sum("otelcol_exporter_queue_size", &[]) == 0.0).then_some(samples)
        })
        .await;
        samples.assert_conserved();
        assert_eq!(samples.sum("spanrelay_held_spans", &[]), 0.0);
        samples
    }

    /// Closes the house, at the end of every test.
    pub(crate) async fn close(self) {
        self.at_rest().await;
        let left = self.drained().await;
        assert!(left.is_empty(), "not expected: {left:#?}");
    }

    /// Drains a relay that still holds data, and returns the exports of the drain.
    pub(crate) async fn drained(self) -> Vec<Recorded> {
        let Self { relay, collector } = self;
        relay.stopped().await;
        let left = collector.take_rest();
        collector.finish();
        left
    }
}
