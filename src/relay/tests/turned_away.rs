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

#[tokio::test]
async fn of_requests_that_are_too_many_the_log_has_one_line_a_limit_with_its_key() {
    let (captured, _guard) = Captured::start(tracing::Level::WARN, LogFormat::Json);
    let relay = relay();
    let (www, circleci) = (ReceiverIndex(0), ReceiverIndex(1));
    assert_eq!(relay.throttle(www), Ok(()));
    for _ in 0..3 {
        relay.throttle(www).expect_err("there is one token");
        relay.overloaded(www);
        relay.overloaded(circleci);
    }
    let text = captured.text();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines.iter().map(|line| (&line["message"], &line["receiver"], &line["key"])).collect();
    let turned_away = Value::from("request turned away");
    let (www, rate_limit) = (Value::from("fastly/www"), Value::from("receivers.fastly/www.rate_limit"));
    let slots = Value::from("server.max_concurrent_requests");
    assert_eq!(told, [(&turned_away, &www, &rate_limit), (&turned_away, &www, &slots)]);
    for line in &lines {
        assert!(line["advice"].as_str().unwrap().contains(line["key"].as_str().unwrap()), "{line}");
    }

    let text = String::from_utf8(relay.metrics.render()).unwrap();
    for series in [
        "spanrelay_throttled_requests_total{receiver=\"fastly/www\"} 3",
        "spanrelay_throttled_requests_total{receiver=\"otlp\"} 0",
        "spanrelay_overloaded_requests_total{receiver=\"fastly/www\"} 3",
        "spanrelay_overloaded_requests_total{receiver=\"circleci/app\"} 3",
    ] {
        assert!(text.contains(series), "{series}\n{text}");
    }
}

#[tokio::test]
async fn the_inspector_says_which_limit_a_request_ran_into() {
    let relay = relay();
    let www = ReceiverIndex(0);
    assert_eq!(relay.throttle(www), Ok(()));
    relay.throttle(www).expect_err("there is one token");
    let throttled = inspected(&relay);
    assert!(throttled["advice"].as_str().unwrap().contains("receivers.fastly/www.rate_limit"), "{throttled}");
    relay.overloaded(www);
    let overloaded = inspected(&relay);
    assert_eq!(overloaded["outcome"], "turned_away");
    assert!(
        overloaded["advice"].as_str().unwrap().contains("server.max_concurrent_requests"),
        "{overloaded}"
    );
}
