//! `receivers.otlp`

use bytes::Bytes;
use tracing::info;

use crate::config::declare::section;
use crate::config::{
    AuthConfig, Instances, RateLimitConfig, ReceiverCommon, ReceiverKind, ReceiverSection, Resubmit,
};
use crate::event::Signal;
use crate::otlp::signal_of;

/// OTLP as a kind of receiver.
pub(crate) const KIND: ReceiverKind = ReceiverKind::of::<OtlpConfig>(
    OtlpConfig::ID,
    "OTLP/HTTP, JSON and protobuf, on `/v1/traces`, `/v1/logs` and `/v1/metrics`. Passed through unchanged: nothing is held, \
     and logs stay logs. There can be only one instance.",
    Instances::One("OTLP defines the paths, so there is only one `otlp`"),
);

section! {
    /// `receivers.otlp`. It has no named instances, because OTLP/HTTP defines its paths.
    pub(crate) struct OtlpConfig {
        /// Token that requests must have. Without `auth` anyone can send.
        auth: Option<AuthConfig>, live;
        /// Maximum rate of requests, on all three paths together.
        rate_limit: Option<RateLimitConfig>;
    }
}

// === impl OtlpConfig ===

impl OtlpConfig {
    /// Component id.
    pub(crate) const ID: &'static str = "otlp";
}

impl ReceiverSection for OtlpConfig {
    fn common(&self) -> ReceiverCommon<'_> {
        ReceiverCommon { id: Self::ID, path: None, rate_limit: self.rate_limit }
    }

    fn announce(&self) {
        info!(receiver = Self::ID, path = "/v1/*", token = self.auth.is_some(), "receiver enabled");
    }

    fn risk(&self, is_open: bool) -> Option<(&'static str, &'static str)> {
        let what = "no authentication: anyone who can reach this port can send telemetry";
        (is_open && self.auth.is_none()).then_some(("auth", what))
    }

    fn resubmit(&self, body: &Bytes) -> Resubmit {
        let signal = signal_of(body).unwrap_or(Signal::Traces);
        let mut headers: Vec<_> = self.auth.iter().filter_map(AuthConfig::token).collect();
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
        Resubmit { path: format!("/v1/{signal}"), headers }
    }
}
