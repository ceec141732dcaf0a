//! `receivers.github`

use bytes::Bytes;
use tracing::info;

use super::{EVENT, event};
use crate::config::declare::{Flat, section};
use crate::config::kind::{SecretText, Text};
use crate::config::section::Section;
use crate::config::{
    Instances, ReceiverCommon, ReceiverEndpoint, ReceiverKind, ReceiverSection, Resubmit, Secret,
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
        /// Id, path and rate limit.
        endpoint: Flat<ReceiverEndpoint> = ReceiverEndpoint::of("github");
        /// Secrets of the webhook; any of them is accepted. Needed unless `allow_unsigned` is true.
        secrets: Vec<SecretText>, usual("[\"${env:GITHUB_WEBHOOK_SECRET}\"]"), live;
        /// Accepts webhooks without a signature, from anyone who knows the URL.
        allow_unsigned: bool = false, live;
        /// `service.name` of the spans.
        service_name: Text = "github-actions".to_owned(), live;
    }
}

// === impl GithubConfig ===

impl ReceiverSection for GithubConfig {
    fn common(&self) -> ReceiverCommon<'_> {
        self.endpoint.common()
    }

    fn announce(&self) {
        info!(
            receiver = self.endpoint.id,
            path = self.endpoint.path,
            secrets = self.secrets.len(),
            "receiver enabled"
        );
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
        Resubmit { path: self.endpoint.path.clone(), headers }
    }

    fn note(&self, server: &ServerConfig) -> Option<String> {
        webhook::timeout_note("GitHub", server)
    }
}

fn check(github: &mut GithubConfig, section: &Section<'_>) {
    webhook::check_secrets(&github.secrets, github.allow_unsigned, SECRETS, section);
}
