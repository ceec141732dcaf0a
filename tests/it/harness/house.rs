//! A relay with a collector behind it, and the checks that every test ends with.

use super::{Answer, Ask, Collector, Connection, Recorded, Relay, Reply, Samples, eventually, names};

/// What the webhooks of `proto-fixtures` are signed with.
pub(crate) const SECRET: &str = "fixture-secret";

/// A relay and its collector. To be closed, or it fails the test.
pub(crate) struct House {
    pub(crate) relay: Relay,
    pub(crate) collector: Collector,
}

// === impl House ===

impl House {
    /// `settings`: one `key: value` per line, on top of a configuration with both receivers, a short retry, and nothing
    /// held.
    pub(crate) async fn open(settings: &str) -> Self {
        Self::before(Collector::start([]).await, settings).await
    }

    /// With the collector's first answers; whatever comes after them is taken.
    pub(crate) async fn with_answers(settings: &str, answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::before(Collector::start(answers).await, settings).await
    }

    pub(crate) async fn before(collector: Collector, settings: &str) -> Self {
        let relay = Relay::start(&Self::configuration(&collector.url()), settings).await;
        Self { relay, collector }
    }

    /// What the settings of a test come on top of.
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

    /// Posts a Fastly batch that must be taken as a whole.
    pub(crate) async fn batch(&self, body: impl Into<bytes::Bytes>) {
        let reply = self.ask(Ask::post("/fastly", body)).await;
        assert_eq!(reply.status, 204, "{}", reply.text());
    }

    /// The next requests that the collector gets, in the order in which they come.
    pub(crate) async fn left(&self, count: usize) -> Vec<Recorded> {
        self.collector.take(count).await
    }

    /// The next one.
    pub(crate) async fn left_one(&self) -> Recorded {
        self.left(1).await.remove(0)
    }

    /// The next ones, traces first, then logs, then metrics: signals do not wait for each other.
    pub(crate) async fn left_by_signal(&self, count: usize) -> Vec<Recorded> {
        let mut left = self.left(count).await;
        let order =
            |path: &str| ["/v1/traces", "/v1/logs", "/v1/metrics"].iter().position(|known| *known == path);
        left.sort_by_key(|request| order(&request.path));
        left
    }

    /// What is in the next ones, in the order of the alphabet: they leave on several connections at once.
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

    /// Waits until nothing is held, queued or under way, and checks that every accepted item has one fate.
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

    /// The end of every test.
    pub(crate) async fn close(self) {
        self.at_rest().await;
        let left = self.drained().await;
        assert!(left.is_empty(), "not expected: {left:#?}");
    }

    /// The end of a test whose relay still holds something: what comes out while it drains.
    pub(crate) async fn drained(self) -> Vec<Recorded> {
        let Self { relay, collector } = self;
        relay.stopped().await;
        let left = collector.take_rest();
        collector.finish();
        left
    }
}
