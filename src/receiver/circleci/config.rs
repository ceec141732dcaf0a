//! `receivers.circleci`

use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tracing::info;

use crate::config::declare::{Flat, section};
use crate::config::kind::{File, Positive, SecretText, Text, Time, Url};
use crate::config::section::Section;
use crate::config::{
    HeaderSecret, Instances, QueueConfig, ReceiverCommon, ReceiverEndpoint, ReceiverKind, ReceiverSection,
    Resubmit, Secret, SectionVariable, ServerConfig, Storage, VariableForm, is_loopback,
};
use crate::receiver::webhook;
use crate::receiver::webhook::signature::sign;

/// CircleCI as a kind of receiver.
pub(crate) const KIND: ReceiverKind =
    ReceiverKind::of::<CircleCiConfig>("circleci", "CircleCI webhooks.", Instances::Named)
        .with_variables(&CIRCLECI_HOOK);

/// Variables of circleci-hook, except for those of its exporter.
const CIRCLECI_HOOK: [SectionVariable; 2] = [
    SectionVariable { name: "CIRCLECI_HOOK_SERVICE", key: "service_name", form: VariableForm::Text },
    // Last: without a secret, the receiver may go.
    SectionVariable { name: "CIRCLECI_HOOK_SECRET", key: "secrets", form: VariableForm::Secret },
];

const SECRETS: &str = "[\"${env:CIRCLECI_HOOK_SECRET}\"]";

section! {
    /// `receivers.circleci` and `receivers.circleci/NAME`
    pub(crate) struct CircleCiConfig => check {
        /// Id, path and rate limit.
        endpoint: Flat<ReceiverEndpoint> = ReceiverEndpoint::of("circleci");
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
        /// Looks up the steps of each job in CircleCI's API, and makes a span of each. Without `api` a job is one span.
        api: Option<CircleCiApiConfig>, partly_live;
    }
}

section! {
    /// `api` of `receivers.circleci`: CircleCI's API, which has the steps of a job. It is asked after the webhook was answered.
    pub(crate) struct CircleCiApiConfig => check_api {
        /// Personal API token of a user who may see the projects.
        token: HeaderSecret = Secret::new(""), required("\"${env:CIRCLECI_TOKEN}\""), live;
        /// Base URL: CircleCI's, or that of your CircleCI Server.
        endpoint: Url = Uri::from_static("https://circleci.com");
        /// Timeout of one request.
        timeout: Positive = Duration::from_secs(10), live;
        /// Exports the text of commands, which may contain secrets. Otherwise a step that CircleCI named after its command is
        /// named after its type, such as `run`.
        commands: bool = false, live;
        /// Trusted authorities for HTTPS, instead of the system's: for a CircleCI Server with a private one.
        ca_file: Option<File>, sample("/etc/spanrelay/circleci-ca.pem");
    }
}

// === impl CircleCiConfig ===

impl ReceiverSection for CircleCiConfig {
    fn common(&self) -> ReceiverCommon<'_> {
        self.endpoint.common()
    }

    fn announce(&self) {
        let (secrets, steps) = (self.secrets.len(), self.api.is_some());
        info!(receiver = self.endpoint.id, path = self.endpoint.path, secrets, steps, "receiver enabled");
    }

    fn risk(&self, _: bool) -> Option<(&'static str, &'static str)> {
        webhook::unsigned_risk(self.allow_unsigned)
    }

    fn resubmit(&self, body: &Bytes) -> Resubmit {
        let signed = |secret: &crate::config::Secret| {
            ("circleci-signature".to_owned(), format!("v1={}", sign(secret.expose().as_bytes(), body)))
        };
        Resubmit {
            path: self.endpoint.path.clone(),
            headers: self.secrets.first().map(signed).into_iter().collect(),
        }
    }

    fn note(&self, server: &ServerConfig) -> Option<String> {
        webhook::timeout_note("CircleCI", server)
    }

    fn unsupported(&self, queue: &QueueConfig) -> Option<(&'static str, &'static str)> {
        let what = "is not supported with queue.storage: kafka, because lookups wait in the relay's own queue; remove api, or use disk";
        (self.api.is_some() && queue.storage == Storage::Kafka).then_some(("api", what))
    }
}

// === impl CircleCiApiConfig ===

impl CircleCiApiConfig {
    /// Returns the header with the token for API v2 and v1.1.
    pub(crate) fn token_header(&self) -> HeaderMap {
        header(HeaderName::from_static("circle-token"), self.token.expose())
    }

    /// Returns the header with the token for API v3.
    pub(super) fn bearer_header(&self) -> HeaderMap {
        header(AUTHORIZATION, &format!("Bearer {}", self.token.expose()))
    }
}

fn header(name: HeaderName, value: &str) -> HeaderMap {
    // The configuration accepts only tokens that are valid in a header.
    let value = HeaderValue::from_str(value).ok().map(|mut value| {
        value.set_sensitive(true);
        value
    });
    value.map(|value| (name, value)).into_iter().collect()
}

fn check(circleci: &mut CircleCiConfig, section: &Section<'_>) {
    webhook::check_secrets(&circleci.secrets, circleci.allow_unsigned, SECRETS, section);
    if circleci.allow_unsigned && circleci.api.is_some() {
        section.note(
            "allow_unsigned is true: anyone who can reach the port can have the relay look up jobs with the token of api",
        );
    }
}

fn check_api(api: &mut CircleCiApiConfig, section: &Section<'_>) {
    if section.is_unset("token") {
        section.missing("needs token, such as token: \"${env:CIRCLECI_TOKEN}\"");
    } else if section.value("token").and_then(|token| token.hidden().text()).is_some_and(str::is_empty) {
        section.problem_at("token", "is empty");
    }
    if api.endpoint.query().is_some() {
        section
            .problem_at("endpoint", "has a query (?), so that no path can be appended; write https://HOST");
    }
    if api.endpoint.path().trim_end_matches('/').ends_with("/api") || api.endpoint.path().contains("/api/v") {
        section.note("endpoint contains /api, which is appended once more; write https://HOST");
    }
    if api.endpoint.scheme() == Some(&Scheme::HTTP) && !is_loopback(&api.endpoint) {
        section.note("endpoint uses http: the token is sent in plaintext");
    }
}
