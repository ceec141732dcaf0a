//! `receivers.circleci`

use std::time::Duration;

use bytes::Bytes;
use tracing::info;

use crate::config::declare::section;
use crate::config::kind::{SecretText, Text, Time};
use crate::config::section::Section;
use crate::config::{
    ComponentId, Instances, RateLimitConfig, ReceiverKind, ReceiverPath, ReceiverSection, Resubmit,
    ServerConfig,
};
use crate::receiver::webhook;
use crate::receiver::webhook::signature::sign;

/// CircleCI as a kind of receiver.
pub(crate) const KIND: ReceiverKind =
    ReceiverKind::of::<CircleCiConfig>("circleci", "CircleCI webhooks.", Instances::Named);

const SECRETS: &str = "[\"${env:CIRCLECI_HOOK_SECRET}\"]";

section! {
    /// `receivers.circleci` and `receivers.circleci/NAME`
    pub(crate) struct CircleCiConfig => check {
        /// Component id: `circleci` or `circleci/NAME`.
        id: ComponentId = "circleci".to_owned();
        /// Path of its requests.
        path: ReceiverPath = "/circleci".to_owned();
        /// Signing secrets of the webhook; any of them is accepted. Needed unless `allow_unsigned` is true.
        secrets: Vec<SecretText>, usual(SECRETS), live;
        /// Accepts webhooks without a signature, from anyone who knows the URL.
        allow_unsigned: bool = false, live;
        /// `service.name` of the spans.
        service_name: Text = "circleci".to_owned(), live;
        /// Time to hold the event of a cancelled workflow. CircleCI sends it again for each job that ends later; each replaces the
        /// one before, so that one span is exported. `0s` exports each event at once.
        // In a report, jobs ended less than 40 s after one another.
        cancel_settle: Time = Duration::from_secs(60), live;
        /// Maximum rate of requests. They count before their signature is verified, because it covers the body.
        rate_limit: Option<RateLimitConfig>;
    }
}

// === impl CircleCiConfig ===

impl ReceiverSection for CircleCiConfig {
    fn id(&self) -> &str {
        &self.id
    }

    fn path(&self) -> Option<&str> {
        Some(&self.path)
    }

    fn rate_limit(&self) -> Option<RateLimitConfig> {
        self.rate_limit
    }

    fn announce(&self) {
        info!(receiver = self.id, path = self.path, secrets = self.secrets.len(), "receiver enabled");
    }

    fn risk(&self, _: bool) -> Option<(&'static str, &'static str)> {
        webhook::unsigned_risk(self.allow_unsigned)
    }

    fn resubmit(&self, body: &Bytes) -> Resubmit {
        let signed = |secret: &crate::config::Secret| {
            ("circleci-signature".to_owned(), format!("v1={}", sign(secret.expose().as_bytes(), body)))
        };
        Resubmit { path: self.path.clone(), headers: self.secrets.first().map(signed).into_iter().collect() }
    }

    fn note(&self, server: &ServerConfig) -> Option<String> {
        webhook::timeout_note("CircleCI", server)
    }
}

fn check(circleci: &mut CircleCiConfig, section: &Section<'_>) {
    webhook::check_secrets(&circleci.secrets, circleci.allow_unsigned, SECRETS, section);
}
