//! Lookup of a job's steps in CircleCI's API: which requests to send, and the spans that their responses result in.
//!
//! In: the event of a job, then one response after the other. Out: the next request, or the export request with the spans.
//! Promises: no I/O, so that it is tested without a network; no part of a response is in the result except what
//! [`steps`] exports; the parts of a webhook cannot leave the path of the job that it names.
//! Left to others: sending, retrying and giving up.
//!
//! 1. API v3 by the id of the job. CircleCI Server does not have it: after a 404, API v1.1 by project and number.
//! 2. With steps from v3, which does not have the time of queueing, API v2 for that time. Without it, the spans are made all the same.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::value::RawValue;

use super::config::CircleCiApiConfig;
use super::job_details::{self, JobDetails};
use super::steps;
use super::traceparent;
use super::webhook::{JOB_COMPLETED, Webhook};
use crate::event::ApiOutcome;
use crate::receiver::Withheld;
use crate::receiver::webhook::payload::{self, repair};

/// A lookup in progress.
#[derive(Debug)]
pub struct Lookup {
    /// The event of the job.
    webhook: Bytes,
    service_name: String,
    withheld: Withheld,
    api: CircleCiApiConfig,
    paths: Paths,
    stage: Stage,
}

/// A request of a lookup: a `GET`.
#[derive(Debug)]
pub(crate) struct ApiRequest {
    /// Version of the API, for metrics.
    pub(crate) api: &'static str,
    pub(crate) path: String,
    /// Headers with the token.
    pub(crate) headers: HeaderMap,
}

/// Result of a response.
#[derive(Debug)]
pub(crate) enum Looked {
    /// Another request is to be sent.
    Further(Box<Lookup>),
    Found(FoundSteps),
    Failed,
}

/// Result of a lookup.
#[derive(Debug)]
pub(crate) struct FoundSteps {
    /// Export request with the spans; `None` if there are none.
    pub(crate) request: Option<Bytes>,
    /// The job and its steps have ended.
    pub(crate) is_final: bool,
}

/// Paths of a job in the versions of the API, with a slash first.
#[derive(Debug)]
struct Paths {
    v3: String,
    v1_1: Option<String>,
    v2: Option<String>,
}

#[derive(Debug)]
enum Stage {
    V3,
    V1_1,
    /// Asks v2 for the time of queueing. Holds the response of v3.
    QueuedAt(Bytes),
}

// === impl Lookup ===

impl Lookup {
    /// Starts the lookup for an event. `None` if it is not the event of a job, or has no span.
    pub(super) fn new(event: &Bytes, service_name: &str, api: &CircleCiApiConfig) -> Option<Self> {
        let repaired = repair(event);
        let webhook = Webhook::read(&repaired).ok()?;
        let paths = Paths::of(&webhook)?;
        let (service_name, api) = (service_name.to_owned(), api.clone());
        let withheld = Withheld::default();
        Some(Self { webhook: event.clone(), service_name, withheld, api, paths, stage: Stage::V3 })
    }

    /// Returns the lookup with attributes whose values are in no name of a span.
    pub(super) fn withholding(self, withheld: &Withheld) -> Self {
        Self { withheld: withheld.clone(), ..self }
    }

    /// Returns the settings of the API.
    pub(crate) fn api(&self) -> &CircleCiApiConfig {
        &self.api
    }

    /// Returns the request to send next.
    pub(crate) fn request(&self) -> ApiRequest {
        let Paths { v3, v1_1, v2 } = &self.paths;
        let (api, path, headers) = match &self.stage {
            Stage::V3 => ("v3", Some(v3), self.api.bearer_header()),
            Stage::V1_1 => ("v1.1", v1_1.as_ref(), self.api.token_header()),
            Stage::QueuedAt(_) => ("v2", v2.as_ref(), self.api.token_header()),
        };
        ApiRequest { api, path: path.cloned().unwrap_or_default(), headers }
    }

    /// Continues with the response to the request: its status and its body, or nothing if there was none.
    pub(crate) fn respond(self, response: Option<(u16, &[u8])>) -> (ApiOutcome, Looked) {
        let outcome = response.map_or(ApiOutcome::Unavailable, |(status, _)| of_status(status));
        let body = response.filter(|_| outcome == ApiOutcome::Complete).map(|(_, body)| body);
        let (outcome, looked) = match self.stage {
            Stage::V3 if outcome == ApiOutcome::NotFound && self.paths.v1_1.is_some() => {
                (outcome, Looked::Further(Box::new(Self { stage: Stage::V1_1, ..self })))
            }
            Stage::V3 | Stage::V1_1 => match body {
                None => (outcome, Looked::Failed),
                Some(body) => self.described(body),
            },
            Stage::QueuedAt(ref details) => {
                let repaired = body.map(repair);
                let queued_at = repaired.as_ref().and_then(|text| payload::object(text).ok());
                let queued_at = queued_at.and_then(job_details::v2_queued_at);
                let unexpected = body.is_some() && queued_at.is_none();
                let outcome = if unexpected { ApiOutcome::Unexpected } else { outcome };
                let found = self.read(details, |details| JobDetails {
                    queued_at: details.queued_at.or(queued_at),
                    ..details
                });
                (outcome, found.map_or(Looked::Failed, |(found, _)| Looked::Found(found)))
            }
        };
        (outcome, looked)
    }

    /// Continues with a description of the job.
    fn described(self, body: &[u8]) -> (ApiOutcome, Looked) {
        let Some((found, has_queued_at)) = self.read(body, |details| details) else {
            return (ApiOutcome::Unexpected, Looked::Failed);
        };
        if !found.is_final {
            return (ApiOutcome::Incomplete, Looked::Found(found));
        }
        let asks_v2 = matches!(self.stage, Stage::V3) && !has_queued_at && self.paths.v2.is_some();
        let looked = if asks_v2 {
            Looked::Further(Box::new(Self { stage: Stage::QueuedAt(Bytes::copy_from_slice(body)), ..self }))
        } else {
            Looked::Found(found)
        };
        (ApiOutcome::Complete, looked)
    }

    /// Reads a description of the job and makes its spans. Returns whether the description has the time of queueing, too. `None` if
    /// it is none.
    fn read<'b>(
        &self,
        body: &'b [u8],
        complete: impl for<'a> FnOnce(JobDetails<'a>) -> JobDetails<'a>,
    ) -> Option<(FoundSteps, bool)> {
        let text = repair(body);
        let object: &RawValue = payload::object(&text).ok()?;
        let details = match self.stage {
            Stage::V1_1 => job_details::v1_1(object)?,
            Stage::V3 | Stage::QueuedAt(_) => job_details::v3(object)?,
        };
        let details = complete(details);
        let repaired = repair(&self.webhook);
        let webhook = Webhook::read(&repaired).ok()?;
        let service = (&*self.service_name, &self.withheld);
        let request = steps::export_request(&webhook, &details, service, self.api.commands);
        let found = FoundSteps { request: request.map(Bytes::from), is_final: details.is_final };
        Some((found, details.queued_at.is_some()))
    }
}

// === impl Paths ===

impl Paths {
    /// Returns the paths of the job of an event.
    fn of(webhook: &Webhook<'_>) -> Option<Self> {
        if webhook.event != JOB_COMPLETED {
            return None;
        }
        let job = webhook.job.id.as_deref()?;
        traceparent::job_ids(webhook.workflow.id.as_deref()?, job)?;
        let number = webhook.job.number.filter(|number| *number > 0);
        let project = webhook.project.slug.as_deref().and_then(project).zip(number);
        Some(Self {
            v3: format!("/api/v3/jobs/{}", traceparent::parse(job)?),
            v1_1: project.as_ref().map(|([vcs, organization, name], number)| {
                // v1.1 does not know the short names.
                let vcs = match vcs.as_str() {
                    "gh" => "github",
                    "bb" => "bitbucket",
                    other => other,
                };
                format!("/api/v1.1/project/{vcs}/{organization}/{name}/{number}")
            }),
            v2: project.as_ref().map(|([vcs, organization, name], number)| {
                format!("/api/v2/project/{vcs}/{organization}/{name}/job/{number}")
            }),
        })
    }
}

/// Returns the segments of a project's slug, encoded for a path. `None` for a slug of another form.
fn project(slug: &str) -> Option<[String; 3]> {
    let mut segments = slug.split('/').map(|segment| {
        let is_name = !matches!(segment, "" | "." | "..");
        is_name.then(|| encoded(segment))
    });
    let found = [segments.next()??, segments.next()??, segments.next()??];
    segments.next().is_none().then_some(found)
}

/// Encodes everything but unreserved characters (RFC 3986, section 2.3).
fn encoded(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Returns what a status says, as long as the body agrees.
fn of_status(status: u16) -> ApiOutcome {
    match status {
        200 => ApiOutcome::Complete,
        401 | 403 | 407 => ApiOutcome::Unauthorized,
        404 => ApiOutcome::NotFound,
        429 => ApiOutcome::Throttled,
        408 | 500..=599 => ApiOutcome::Unavailable,
        _ => ApiOutcome::Unexpected,
    }
}

#[cfg(test)]
mod tests;
