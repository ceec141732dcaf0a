//! Sender of one entry.
//!
//! In: an entry. Out: the result of its last attempt. Promises: requests are retried while the queue is full or the receiver throttles;
//! once the relay is unreachable, no further entry waits for it.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use ::http::{Method, StatusCode};
use serde_json::Value;

use super::super::http::{Client, HttpError, HttpReply};
use super::plan::{RelayPost, Resubmission, plan};
use crate::app::wall_clock;
use crate::config::Config;
use crate::exporter::{ExporterError, Resender, Resent};
use crate::rejected::Entry;

/// Maximum number of attempts for one entry.
const MAX_ATTEMPTS: usize = 10;
/// Longest pause between two attempts. An entry with a longer Retry-After is not sent.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Sends entries to the relay and to the downstream.
pub(super) struct EntrySender {
    config: Config,
    relay: Client,
    downstream: Resender,
    /// The reason why the relay is unreachable.
    unreachable: OnceLock<String>,
}

// === impl EntrySender ===

impl EntrySender {
    pub(super) fn new(config: Config, address: SocketAddr) -> Result<Self, ExporterError> {
        let downstream = Resender::new(&config.exporters.otlp_http, wall_clock)?;
        Ok(Self { config, relay: Client::new(address), downstream, unreachable: OnceLock::new() })
    }

    pub(super) async fn send(&self, entry: Result<Entry, String>) -> Resent {
        let resubmission = match entry.and_then(|entry| plan(&self.config, &entry)) {
            Ok(resubmission) => resubmission,
            Err(reason) => return Resent::failed(reason),
        };
        let mut attempts = 0;
        loop {
            let resent = match &resubmission {
                Resubmission::Relay(post) => self.to_relay(post).await,
                Resubmission::Downstream(signal, json) => self.downstream.send(*signal, json.clone()).await,
            };
            attempts += 1;
            match resent {
                Resent::Failed { retry_after: Some(pause), .. }
                    if attempts < MAX_ATTEMPTS && pause <= MAX_PAUSE =>
                {
                    tokio::time::sleep(pause).await;
                }
                resent => return resent,
            }
        }
    }

    async fn to_relay(&self, RelayPost { path, headers, body }: &RelayPost) -> Resent {
        if let Some(reason) = self.unreachable.get() {
            return Resent::failed(reason.clone());
        }
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        match self.relay.send(Method::POST, path, &headers, body.clone()).await {
            Ok(reply) => after_reply(path, &reply),
            Err(error) => {
                let reason = error.to_string();
                if matches!(error, HttpError::Unreachable { .. } | HttpError::TimedOut { .. }) {
                    self.unreachable.get_or_init(|| reason.clone());
                }
                Resent::failed(reason)
            }
        }
    }
}

/// Returns the result of an attempt from the relay's response.
fn after_reply(path: &str, reply: &HttpReply) -> Resent {
    let body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let reason = text(&body["reason"]).or_else(|| text(&body["message"]));
    let refusal = || format!("{path}: {}: {}", reply.status, reason.unwrap_or("no reason given"));
    match reply.status {
        StatusCode::OK | StatusCode::NO_CONTENT => match rejected_part(&body) {
            Some(reason) => Resent::Rejected(reason),
            None => Resent::Accepted,
        },
        StatusCode::BAD_REQUEST | StatusCode::ACCEPTED => {
            let part = rejected_part(&body).or_else(|| reason.map(str::to_owned));
            Resent::Rejected(part.unwrap_or_else(refusal))
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let pause = reply.retry_after.unwrap_or(Duration::from_secs(1));
            Resent::Failed { reason: refusal(), retry_after: Some(pause), remedy: None }
        }
        _ => Resent::failed(refusal()),
    }
}

/// Returns the reason why some of the entry was rejected, from the relay's report or from OTLP's `partialSuccess`.
fn rejected_part(body: &Value) -> Option<String> {
    let first = text(&body["errors"][0]["reason"]);
    let counted = body["rejected"].as_u64().filter(|&rejected| rejected > 0);
    let partial = text(&body["partialSuccess"]["errorMessage"]);
    match (counted, partial) {
        (Some(_), _) => Some(first.or_else(|| text(&body["reason"])).unwrap_or("no reason given").to_owned()),
        (None, partial) => partial.map(str::to_owned),
    }
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(status: u16, body: &str) -> Resent {
        let retry_after = Some(Duration::from_secs(7));
        let reply =
            HttpReply { status: StatusCode::from_u16(status).unwrap(), retry_after, body: body.to_owned() };
        after_reply("/fastly", &reply)
    }

    #[test]
    fn only_completely_accepted_entries_are_accepted() {
        for (status, body) in [(204, ""), (200, "{}"), (200, r#"{"partialSuccess":{}}"#)] {
            assert_eq!(after(status, body), Resent::Accepted, "{status} {body}");
        }
        for (status, body, reason) in [
            (200, r#"{"accepted":2,"rejected":1,"errors":[{"line":1,"column":1,"reason":"cut"}]}"#, "cut"),
            (200, r#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"bad id"}}"#, "bad id"),
            (200, r#"{"partialSuccess":{"errorMessage":"not OTLP"}}"#, "not OTLP"),
            (
                400,
                r#"{"reason":"none","accepted":0,"rejected":1,"errors":[{"reason":"not JSON"}]}"#,
                "not JSON",
            ),
            (400, r#"{"reason":"not JSON"}"#, "not JSON"),
            (202, r#"{"reason":"unknown event type"}"#, "unknown event type"),
        ] {
            assert_eq!(after(status, body), Resent::Rejected(reason.to_owned()), "{status} {body}");
        }
    }

    #[test]
    fn other_responses_are_not_sent_or_retried() {
        let refused = Resent::failed("/fastly: 401 Unauthorized: no token".to_owned());
        assert_eq!(after(401, r#"{"reason":"no token"}"#), refused);
        let full = Resent::Failed {
            reason: "/fastly: 503 Service Unavailable: queue full".to_owned(),
            retry_after: Some(Duration::from_secs(7)),
            remedy: None,
        };
        assert_eq!(after(503, r#"{"reason":"queue full"}"#), full);
    }
}
