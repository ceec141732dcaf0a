//! `receivers.fastly`

use bytes::Bytes;
use serde_json::json;
use tracing::info;

use super::access_log::AccessLogsConfig;
use crate::config::declare::{Flat, section};
use crate::config::field::Field;
use crate::config::kind::{kind, text};
use crate::config::section::Section;
use crate::config::{
    AuthConfig, Instances, ReceiverCommon, ReceiverEndpoint, ReceiverKind, ReceiverSection, Resubmit,
    SectionVariable, VariableForm,
};

/// Fastly as a kind of receiver.
pub(crate) const KIND: ReceiverKind =
    ReceiverKind::of::<FastlyConfig>("fastly", "Batches of Fastly's HTTPS log streaming.", Instances::Named)
        .with_variables(&[SERVICE_IDS]);

/// Variable of Fastly's example proxy.
const SERVICE_IDS: SectionVariable =
    SectionVariable { name: "FASTLY_SERVICE_IDS", key: "service_ids", form: VariableForm::List };

/// Length of a SHA-256 in hexadecimal, to detect ids that were hashed by hand.
const SHA256_HEX: usize = 64;

section! {
    /// `receivers.fastly` and `receivers.fastly/NAME`
    pub(crate) struct FastlyConfig => check {
        /// Id, path and rate limit.
        endpoint: Flat<ReceiverEndpoint> = ReceiverEndpoint::of("fastly");
        /// Services whose logs are accepted, for the response to Fastly's challenge: service ids, or `"*"` for any Fastly
        /// customer's; then set `auth`. The relay hashes the ids itself. An empty list is an error, because Fastly would send
        /// nothing.
        service_ids: Vec<ServiceId> = vec!["*".to_owned()], live;
        /// Token that requests must have. Without `auth` anyone can send.
        auth: Option<AuthConfig>, live;
        /// Repairs lines that are not valid JSON but have only one meaning, such as a trailing comma; `false` rejects them.
        repair: bool = true, live;
        /// Reads ordinary access logs too. Without `access_logs` such lines are rejected.
        access_logs: Option<AccessLogsConfig>;
    }
}

kind! {
    /// Id of a Fastly service, or `*`.
    ServiceId: String, service_id, text,
    json!({ "type": ["string", "integer"], "pattern": "^([A-Za-z0-9]+|\\*)$" })
}

// === impl FastlyConfig ===

impl ReceiverSection for FastlyConfig {
    fn common(&self) -> ReceiverCommon<'_> {
        self.endpoint.common()
    }

    fn announce(&self) {
        let (service_ids, token) = (self.service_ids.len(), self.auth.is_some());
        info!(receiver = self.endpoint.id, path = self.endpoint.path, token, service_ids, "receiver enabled");
    }

    fn risk(&self, is_open: bool) -> Option<(&'static str, &'static str)> {
        let what = "no authentication: anyone who can reach this port can send lines";
        (is_open && self.auth.is_none()).then_some(("auth", what))
    }

    fn resubmit(&self, _: &Bytes) -> Resubmit {
        let headers = self.auth.iter().filter_map(AuthConfig::token).collect();
        Resubmit { path: self.endpoint.path.clone(), headers }
    }
}

fn service_id(field: &Field<'_>) -> Option<String> {
    let id = field.text()?;
    if id.len() == SHA256_HEX && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        field.problem("looks like a SHA-256; specify the service id itself, the relay hashes it");
        return None;
    }
    if id != "*" && !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        field.problem(format!("{} is not a service id (letters and digits) and not \"*\"", field.shown()));
        return None;
    }
    Some(id.to_owned())
}

fn check(fastly: &mut FastlyConfig, section: &Section<'_>) {
    if fastly.service_ids.is_empty() && section.is_unset("service_ids") {
        let what = "is empty, so Fastly's challenge would fail; list service ids, or \"*\" for any service";
        section.problem_at("service_ids", what);
    }
}
