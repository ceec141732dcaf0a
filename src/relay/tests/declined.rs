//! Log lines and inspector reports of requests whose data was not accepted.

use std::path::Path;

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use super::super::*;
use crate::config::{Config, Environment, LogFormat};
use crate::queue::MemoryQueue;
use crate::receiver::{Limits, RECEIVERS, Withheld};
use crate::telemetry::inspect::page;
use crate::telemetry::logging::tests::Captured;

const YAML: &str = "
    receivers:
      fastly/www: { auth: { values: [token] }, rate_limit: { requests_per_second: 0.001, burst: 1 } }
      circleci/app: { secrets: [secret] }
      github: { allow_unsigned: true }
      otlp: { auth: { values: [token] } }
";

/// Returns a relay whose inspector is in use.
fn relay() -> Relay {
    relay_in(Path::new("nothing-is-written"))
}

/// A relay with this folder for rejected lines.
fn relay_in(directory: &Path) -> Relay {
    let config = Config::from_yaml(YAML, &Environment::empty(), RECEIVERS).unwrap();
    let limits = Limits {
        max_line_bytes: 1 << 20,
        max_body_bytes: 1 << 20,
        keeps_protobuf: [false; 3],
        withheld: Withheld::default(),
    };
    let receivers = config.receivers.iter().flat_map(|section| {
        let rate_limit = section.rate_limit().map(|limit| Arc::new(RateLimit::new(limit)));
        let receivers = receiver::build(section, &limits).into_iter();
        receivers.map(move |receiver| Instance { receiver, rate_limit: rate_limit.clone() })
    });
    let receivers: Vec<Instance> = receivers.collect();
    let metrics = Metrics::new();
    metrics.expect(receivers.iter().map(|one| (one.receiver.id(), one.receiver.source().webhooks())));
    page::data(&metrics, None);
    let queue = Queue::Memory(MemoryQueue::new(1 << 20, metrics.clone()));
    let rejected = Arc::new(RejectedLines::new(directory, 1, Metrics::new()));
    #[expect(clippy::disallowed_methods, reason = "nothing is sent")]
    let (work, _) = tokio::sync::mpsc::unbounded_channel();
    Relay::new(receivers, queue, rejected, work, metrics, Budget::new(u64::MAX))
}

/// Returns the inspector's report of the last request.
fn inspected(relay: &Relay) -> Value {
    let data: Value = serde_json::from_slice(&page::data(&relay.metrics, None)).unwrap();
    data["requests"].as_array().unwrap().last().expect("a request")["request"].clone()
}

fn lines(captured: &Captured) -> Vec<Value> {
    captured.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn declined(cause: LimitedCause) -> Declined {
    Declined { cause, reason: "a reason".to_owned(), request: None, key: None, remedy: None }
}

#[tokio::test]
async fn an_unauthorized_request_is_reported_with_the_key_of_its_own_receiver() {
    let (captured, _guard) = Captured::start(tracing::Level::WARN, LogFormat::Json);
    let relay = relay();
    for (path, reason, key) in [
        ("/fastly/www", "the header with the token is missing", "receivers.fastly/www.auth"),
        ("/v1/logs", "the header with the token is missing", "receivers.otlp.auth"),
        ("/circleci/app", "the circleci-signature header is missing", "receivers.circleci/app.secrets"),
    ] {
        let (receiver, nothing) = (relay.receiver_at(path).unwrap(), HeaderMap::new());
        let refused = relay.admit(receiver, &nothing).and_then(|()| relay.verify(receiver, &nothing, b"{}"));
        assert!(refused.is_err(), "{path}");
        let line = lines(&captured).pop().unwrap();
        assert_eq!((&line["cause"], &line["reason"]), (&"unauthorized".into(), &reason.into()));
        assert!(line["remedy"].as_str().unwrap().contains(key), "{line}");
        let request = inspected(&relay);
        assert_eq!((&request["outcome"], &request["reason"]), (&"unauthorized".into(), &reason.into()));
        assert!(request["advice"].as_str().unwrap().contains(key), "{request}");
    }
}

#[tokio::test]
async fn a_duplicate_token_header_is_rejected() {
    let relay = relay();
    let mut headers = HeaderMap::new();
    for (token, accepted) in [("token", true), ("token", false), ("wrong", false)] {
        headers.append("authorization", token.parse().unwrap());
        assert_eq!(relay.admit(ReceiverIndex(0), &headers).is_ok(), accepted, "{headers:?}");
    }
}

#[tokio::test]
async fn every_cause_of_every_receiver_has_its_own_log_line_per_minute() {
    let (captured, _guard) = Captured::start(tracing::Level::WARN, LogFormat::Json);
    let relay = relay();
    let (www, circleci) = (Some(ReceiverIndex(0)), Some(ReceiverIndex(1)));
    let causes = [
        LimitedCause::UnknownPath,
        LimitedCause::Overloaded,
        LimitedCause::TooLarge,
        LimitedCause::CutShort,
        LimitedCause::QueueFull,
    ];
    for _ in 0..50 {
        for receiver in [www, circleci, None] {
            causes.into_iter().for_each(|cause| relay.declined(receiver, declined(cause)));
        }
    }
    let lines = lines(&captured);
    assert_eq!(lines.len(), 3 * causes.len(), "{lines:#?}");
    for receiver in ["fastly/www", "circleci/app"] {
        let of_it: Vec<_> = lines.iter().filter(|line| line["receiver"] == receiver).collect();
        let told: Vec<_> = of_it.iter().map(|line| line["cause"].as_str().unwrap()).collect();
        assert_eq!(told, ["unknown_path", "overloaded", "too_large", "cut_short", "queue_full"]);
    }
    let text = String::from_utf8(relay.metrics.render()).unwrap();
    for receiver in ["fastly/www", "circleci/app"] {
        let series = format!("spanrelay_overloaded_requests_total{{receiver=\"{receiver}\"}} 50");
        assert!(text.contains(&series), "{series}\n{text}");
    }
}

#[tokio::test]
async fn at_debug_the_log_has_every_rejected_request() {
    let (captured, _guard) = Captured::start(tracing::Level::DEBUG, LogFormat::Json);
    let relay = relay();
    for _ in 0..3 {
        relay.declined(None, declined(LimitedCause::UnknownPath));
    }
    let levels: Vec<_> = lines(&captured).iter().map(|line| line["level"].clone()).collect();
    assert_eq!(levels, ["WARN", "DEBUG", "DEBUG"]);
}

#[tokio::test]
async fn the_rate_limit_is_logged_counted_and_shown_with_its_key() {
    let (captured, _guard) = Captured::start(tracing::Level::WARN, LogFormat::Json);
    let relay = relay();
    let www = ReceiverIndex(0);
    assert_eq!(relay.throttle(www), Ok(()));
    for _ in 0..3 {
        relay.throttle(www).expect_err("there is one token");
    }
    let key = "receivers.fastly/www.rate_limit";
    let lines = lines(&captured);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!((&lines[0]["cause"], &lines[0]["key"]), (&"throttled".into(), &key.into()));
    assert!(lines[0]["remedy"].as_str().unwrap().contains(key), "{lines:#?}");
    assert!(inspected(&relay)["advice"].as_str().unwrap().contains(key));
    let text = String::from_utf8(relay.metrics.render()).unwrap();
    for series in [
        "spanrelay_throttled_requests_total{receiver=\"fastly/www\"} 3",
        "spanrelay_throttled_requests_total{receiver=\"otlp\"} 0",
    ] {
        assert!(text.contains(series), "{series}\n{text}");
    }
}

#[tokio::test]
async fn text_chosen_by_a_client_is_shown_by_the_inspector_and_not_logged() {
    let (captured, _guard) = Captured::start(tracing::Level::DEBUG, LogFormat::Json);
    let relay = relay();
    let request = Some("POST /their/path".to_owned());
    relay.declined(None, Declined { request, ..declined(LimitedCause::UnknownPath) });
    assert_eq!(inspected(&relay)["reason"], "POST /their/path: a reason");
    assert!(!captured.text().contains("their"), "{}", captured.text());
}

#[tokio::test]
async fn an_ignored_event_is_a_warning_unless_it_is_part_of_every_run() {
    let (captured, _guard) = Captured::start(tracing::Level::DEBUG, LogFormat::Json);
    let directory = tempfile::tempdir().unwrap();
    let relay = Arc::new(relay_in(directory.path()));
    let github = relay.receiver_at("/github").unwrap();
    for (kind, level) in [("workflow_job", "DEBUG"), ("push", "WARN")] {
        let headers = [(HeaderName::from_static("x-github-event"), HeaderValue::from_static(kind))];
        let (headers, body) = (headers.into_iter().collect(), Bytes::from_static(b"{\"action\":\"queued\"}"));
        let answer = relay.receive(github, Encoding::Json.into(), &headers, body.into(), &OwnSpan::Off).await;
        assert!(matches!(answer, Answer::Ignored(_)), "{answer:?}");
        let lines = lines(&captured);
        let ignored: Vec<&Value> = lines.iter().filter(|line| line["message"] == "webhook ignored").collect();
        assert_eq!(ignored.last().unwrap()["level"], level, "{kind}");
    }
}
