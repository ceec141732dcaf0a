//! What the operator is told of senders that are turned away.

use serde_json::Value;

use super::super::*;
use crate::config::{Config, Environment, LogFormat};
use crate::otlp::Signal;
use crate::queue::MemoryQueue;
use crate::receiver::circleci::CircleCi;
use crate::receiver::fastly::Fastly;
use crate::receiver::otlp::Otlp;
use crate::telemetry::inspect::page;
use crate::telemetry::logging::tests::Captured;

const RECEIVERS: &str = "
    receivers:
      fastly/www: { auth: { values: [token] }, rate_limit: { requests_per_second: 0.001, burst: 1 } }
      circleci/app: { secrets: [secret] }
      otlp: { auth: { values: [token] } }
";

/// A relay that somebody looks at.
fn relay() -> Relay {
    let config = Config::from_yaml(RECEIVERS, &Environment::empty()).unwrap();
    let (fastly, circleci) = (&config.receivers.fastly[0], &config.receivers.circleci[0]);
    let otlp = config.receivers.otlp.as_ref().unwrap();
    let limit = fastly.rate_limit.map(|limit| Arc::new(RateLimit::new(limit)));
    let instance = |kind, receiver, rate_limit| Instance { kind, receiver, rate_limit };
    let receivers = vec![
        instance(Kind::Fastly, Arc::new(Fastly::new(fastly, 1 << 20)) as Arc<dyn Receiver>, limit),
        instance(Kind::CircleCi, Arc::new(CircleCi::new(circleci)), None),
        instance(Kind::Otlp(Signal::Logs), Arc::new(Otlp::new(otlp, Signal::Logs, 1 << 20)), None),
    ];
    let metrics = Metrics::new();
    metrics.expect(receivers.iter().map(|instance| (instance.receiver.id(), instance.kind)));
    page::data(&metrics, None);
    let queue = Queue::Memory(MemoryQueue::new(1 << 20, metrics.clone()));
    let rejected = Arc::new(RejectedLines::new(std::path::Path::new("nothing-is-written")));
    #[expect(clippy::disallowed_methods, reason = "nothing is sent")]
    let (work, _) = tokio::sync::mpsc::unbounded_channel();
    Relay::new(receivers, queue, rejected, work, metrics)
}

/// The last request, as the inspector has it.
fn inspected(relay: &Relay) -> Value {
    let data: Value = serde_json::from_slice(&page::data(&relay.metrics, None)).unwrap();
    data["requests"].as_array().unwrap().last().expect("a request")["request"].clone()
}

#[tokio::test]
async fn who_is_not_authorized_is_told_of_with_the_key_of_its_own_receiver() {
    let (captured, _guard) = Captured::start(tracing::Level::WARN, LogFormat::Text);
    let relay = relay();
    for (path, reason, key) in [
        ("/fastly/www", "the header with the token is missing", "receivers.fastly/www.auth"),
        ("/v1/logs", "the header with the token is missing", "receivers.otlp.auth"),
        ("/circleci/app", "the circleci-signature header is missing", "receivers.circleci/app.secrets"),
    ] {
        let (receiver, nothing) = (relay.receiver_at(path).unwrap(), HeaderMap::new());
        let refused = relay.admit(receiver, &nothing).and_then(|()| relay.verify(receiver, &nothing, b"{}"));
        assert!(refused.is_err(), "{path}");
        let text = captured.text();
        let line = text.lines().last().unwrap();
        assert!(line.contains(&format!("reason=\"{reason}\" advice=\"")) && line.contains(key), "{line}");
        let request = inspected(&relay);
        assert_eq!((&request["outcome"], &request["reason"]), (&"unauthorized".into(), &reason.into()));
        assert!(request["advice"].as_str().unwrap().contains(key), "{request}");
    }
}
