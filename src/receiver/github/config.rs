//! `receivers.github`

use bytes::Bytes;
use tracing::info;

use super::{EVENT, event};
use crate::config::declare::section;
use crate::config::kind::{SecretText, Text};
use crate::config::section::Section;
use crate::config::{
    ComponentId, Instances, RateLimitConfig, ReceiverKind, ReceiverPath, ReceiverSection, Resubmit, Secret,
    ServerConfig,
};
use crate::receiver::webhook;
use crate::receiver::webhook::signature::sign;

/// GitHub as a kind of receiver.
pub(super) const KIND: ReceiverKind =
    ReceiverKind::of::<GithubConfig>("github", "GitHub Actions webhooks.", Instances::Named);

const SECRETS: &str = "[\"${env:GITHUB_WEBHOOK_SECRET}\"]";

section! {
    /// `receivers.github` and `receivers.github/NAME`
    pub(crate) struct GithubConfig => check {
        /// Component id: `github` or `github/NAME`.
        id: ComponentId = "github".to_owned();
        /// Path of its requests.
        path: ReceiverPath = "/github".to_owned();
        /// Secrets of the webhook; any of them is accepted. Needed unless `allow_unsigned` is true.
        secrets: Vec<SecretText>, usual("[\"${env:GITHUB_WEBHOOK_SECRET}\"]"), live;
        /// Accepts webhooks without a signature, from anyone who knows the URL.
        allow_unsigned: bool = false, live;
        /// `service.name` of the spans.
        service_name: Text = "github-actions".to_owned(), live;
        /// Maximum rate of requests. They count before their signature is verified, because it covers the body.
        rate_limit: Option<RateLimitConfig>;
    }
}

// === impl GithubConfig ===

impl ReceiverSection for GithubConfig {
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

    /// Signs the body again, and names the type of the event as its members tell it. Without an id, the request is no
    /// redelivery.
    fn resubmit(&self, body: &Bytes) -> Resubmit {
        let signed = |secret: &Secret| {
            let signature = format!("sha256={}", sign(secret.expose().as_bytes(), body));
            ("x-hub-signature-256".to_owned(), signature)
        };
        let kind = event::type_of(body).map(|kind| (EVENT.to_owned(), kind.to_owned()));
        let headers = self.secrets.first().map(signed).into_iter().chain(kind).collect();
        Resubmit { path: self.path.clone(), headers }
    }

    fn note(&self, server: &ServerConfig) -> Option<String> {
        webhook::timeout_note("GitHub", server)
    }
}

fn check(github: &mut GithubConfig, section: &Section<'_>) {
    webhook::check_secrets(&github.secrets, github.allow_unsigned, SECRETS, section);
}
