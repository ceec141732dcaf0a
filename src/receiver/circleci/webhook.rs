//! The webhook as CircleCI documents it, read with nothing taken for granted.
//!
//! In:  the body as [`Repaired`] text. Out: a [`Webhook`] that borrows from it, or where and why it is no JSON object.
//! Promises: every JSON object is a webhook; what is missing, empty or of another type in it is `None`.
//! Leaves to others: which ids a span needs ([`spans`](super::spans)).
//!
//! Source of the format: circleci.com/docs/reference/outbound-webhooks-reference, and captured payloads.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::members::{Member, integer, members, text, time};
use super::repair::Repaired;
use super::vcs::Vcs;
use crate::event::WebhookEvent;

/// Longer ones are no event ids: it is a UUID, and the relay remembers those that it has seen.
const MAX_EVENT_ID_BYTES: usize = 256;

/// One event. All times are Unix nanoseconds and not zero.
#[derive(Debug)]
pub(super) struct Webhook<'a> {
    pub(super) event: WebhookEvent,
    /// Of the event: the same in every redelivery.
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) happened_at: Option<u64>,
    /// Of the webhook that the project has configured.
    pub(super) webhook_id: Option<Cow<'a, str>>,
    pub(super) organization: Organization<'a>,
    pub(super) project: Project<'a>,
    pub(super) pipeline: Pipeline<'a>,
    pub(super) workflow: Workflow<'a>,
    /// Nothing but `None` except in `job-completed`.
    pub(super) job: Job<'a>,
}

#[derive(Debug)]
pub(super) struct Organization<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) name: Option<Cow<'a, str>>,
}

#[derive(Debug)]
pub(super) struct Project<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) name: Option<Cow<'a, str>>,
    /// Opaque: nothing can be derived from its parts.
    pub(super) slug: Option<Cow<'a, str>>,
}

#[derive(Debug)]
pub(super) struct Pipeline<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) number: Option<i64>,
    /// May be hours or weeks before the workflow: reruns, approvals, schedules.
    pub(super) created_at: Option<u64>,
    pub(super) trigger_type: Option<Cow<'a, str>>,
    pub(super) vcs: Vcs<'a>,
}

#[derive(Debug)]
pub(super) struct Workflow<'a> {
    /// A new one in every rerun.
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) created_at: Option<u64>,
    pub(super) stopped_at: Option<u64>,
    pub(super) url: Option<Cow<'a, str>>,
    /// An open set of words. Absent in `job-completed`.
    pub(super) status: Option<Cow<'a, str>>,
}

#[derive(Debug)]
pub(super) struct Job<'a> {
    /// What `$CIRCLE_WORKFLOW_JOB_ID` is inside the job.
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) number: Option<i64>,
    /// An open set of words.
    pub(super) status: Option<Cow<'a, str>>,
    pub(super) started_at: Option<u64>,
    pub(super) stopped_at: Option<u64>,
}

/// Why a body is no webhook. Nothing of the body is repeated in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// 1 is the first.
    pub(super) line: u32,
    /// In bytes; 1 is the first of the line.
    pub(super) column: u32,
    pub(super) reason: String,
}

// === impl Webhook ===

impl<'a> Webhook<'a> {
    pub(super) fn read(repaired: &'a Repaired<'_>) -> Result<Self, Malformed> {
        let text = &*repaired.text;
        let json: &RawValue =
            serde_json::from_str(text).map_err(|error| Malformed::json(repaired, &error))?;
        if !json.get().starts_with('{') {
            let blanks = text.len() - text.trim_start_matches([' ', '\t', '\r', '\n']).len();
            return Err(Malformed::at(repaired, blanks, "the body is JSON, but not an object".to_owned()));
        }
        Ok(Self::of(json))
    }

    fn of(json: &'a RawValue) -> Self {
        let [kind, id, happened_at, webhook, organization, project, pipeline, workflow, job] = members(
            Some(json),
            [
                "type",
                "id",
                "happened_at",
                "webhook",
                "organization",
                "project",
                "pipeline",
                "workflow",
                "job",
            ],
        );
        let [webhook_id] = members(webhook, ["id"]);
        Self {
            event: event(kind),
            id: text(id).filter(|id| id.len() <= MAX_EVENT_ID_BYTES),
            happened_at: time(happened_at),
            webhook_id: text(webhook_id),
            organization: Organization::of(organization),
            project: Project::of(project),
            pipeline: Pipeline::of(pipeline),
            workflow: Workflow::of(workflow),
            job: Job::of(job),
        }
    }
}

fn event(kind: Member<'_>) -> WebhookEvent {
    match text(kind).as_deref() {
        Some("workflow-completed") => WebhookEvent::WorkflowCompleted,
        Some("job-completed") => WebhookEvent::JobCompleted,
        Some("ping") => WebhookEvent::Ping,
        _ => WebhookEvent::Unknown,
    }
}

// === impl Organization ===

impl<'a> Organization<'a> {
    fn of(organization: Member<'a>) -> Self {
        let [id, name] = members(organization, ["id", "name"]);
        Self { id: text(id), name: text(name) }
    }
}

// === impl Project ===

impl<'a> Project<'a> {
    fn of(project: Member<'a>) -> Self {
        let [id, name, slug] = members(project, ["id", "name", "slug"]);
        Self { id: text(id), name: text(name), slug: text(slug) }
    }
}

// === impl Pipeline ===

impl<'a> Pipeline<'a> {
    fn of(pipeline: Member<'a>) -> Self {
        let [id, number, created_at, trigger, vcs, trigger_parameters] =
            members(pipeline, ["id", "number", "created_at", "trigger", "vcs", "trigger_parameters"]);
        let [trigger_type] = members(trigger, ["type"]);
        Self {
            id: text(id),
            number: integer(number),
            created_at: time(created_at),
            trigger_type: text(trigger_type),
            vcs: Vcs::of(vcs, trigger_parameters),
        }
    }
}

// === impl Workflow ===

impl<'a> Workflow<'a> {
    fn of(workflow: Member<'a>) -> Self {
        let [id, name, created_at, stopped_at, url, status] =
            members(workflow, ["id", "name", "created_at", "stopped_at", "url", "status"]);
        Self {
            id: text(id),
            name: text(name),
            created_at: time(created_at),
            stopped_at: time(stopped_at),
            url: text(url),
            status: text(status),
        }
    }
}

// === impl Job ===

impl<'a> Job<'a> {
    fn of(job: Member<'a>) -> Self {
        let [id, name, number, status, started_at, stopped_at] =
            members(job, ["id", "name", "number", "status", "started_at", "stopped_at"]);
        Self {
            id: text(id),
            name: text(name),
            number: integer(number),
            status: text(status),
            started_at: time(started_at),
            stopped_at: time(stopped_at),
        }
    }
}

// === impl Malformed ===

impl Malformed {
    /// What it says is beyond what an export request can hold.
    pub(super) fn too_large() -> Self {
        Self { line: 1, column: 1, reason: "the event is too large for an export request".to_owned() }
    }

    /// At the byte `offset` of the text; line and column are those of the input.
    fn at(repaired: &Repaired<'_>, offset: usize, reason: String) -> Self {
        let before = &repaired.body[..repaired.offset_in_body(offset)];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        Self {
            line: saturating(memchr::memchr_iter(b'\n', before).count() + 1),
            column: saturating(before.len() - line_start + 1),
            reason,
        }
    }

    fn json(repaired: &Repaired<'_>, error: &serde_json::Error) -> Self {
        let message = error.to_string();
        // The position has fields of its own.
        let what = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
        let lines = repaired.text.split_inclusive('\n').take(error.line().saturating_sub(1));
        let offset = lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1);
        Self::at(repaired, offset, format!("the body is not JSON: {what}"))
    }
}

fn saturating(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::repair::repair;
    use super::*;

    fn malformed(body: &[u8]) -> (u32, u32, String) {
        let Malformed { line, column, reason } = Webhook::read(&repair(body)).unwrap_err();
        (line, column, reason)
    }

    #[test]
    fn what_is_no_json_object_is_told_with_its_place() {
        for (body, line, column, reason) in [
            (&b""[..], 1, 1, "the body is not JSON: EOF while parsing a value"),
            (b"payload=%7B%7D", 1, 1, "the body is not JSON: expected value"),
            (b"{\n \"id\": x}", 2, 8, "the body is not JSON: expected value"),
            (b"{\"id\":\"a\"}\n{}", 2, 1, "the body is not JSON: trailing characters"),
            (b"{\"id\":", 1, 6, "the body is not JSON: EOF while parsing a value"),
            (b"\n\t[{}]", 2, 2, "the body is JSON, but not an object"),
            (b"null", 1, 1, "the body is JSON, but not an object"),
            (b"\"workflow-completed\"", 1, 1, "the body is JSON, but not an object"),
            // Positions are those of the input, not of the repaired text.
            (b"\xef\xbb\xbf{\n\"a\t\xff\\ud800\": x}", 2, 14, "the body is not JSON: expected value"),
            (b"\xff\xfex{}", 1, 3, "the body is not JSON: expected value"),
        ] {
            assert_eq!(malformed(body), (line, column, reason.to_owned()), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn every_object_is_a_webhook_however_little_it_says() {
        for body in ["{}", r#"{"type":7,"id":[],"job":"x"}"#, r#"{"type":"ping","type":"job-reopened"}"#] {
            assert_eq!(
                Webhook::read(&repair(body.as_bytes())).unwrap().event,
                WebhookEvent::Unknown,
                "{body}"
            );
        }
    }

    #[test]
    fn an_endless_event_id_is_none() {
        let body = |length| format!(r#"{{"type":"ping","id":"{}"}}"#, "a".repeat(length));
        assert!(Webhook::read(&repair(body(MAX_EVENT_ID_BYTES).as_bytes())).unwrap().id.is_some());
        assert!(Webhook::read(&repair(body(MAX_EVENT_ID_BYTES + 1).as_bytes())).unwrap().id.is_none());
    }
}
