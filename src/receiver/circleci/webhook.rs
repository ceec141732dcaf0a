//! The webhook as CircleCI documents it, without assumptions.
//!
//! In: the body as [`RepairedPayload`] text. Out: a [`Webhook`] that borrows from it, or the position and the reason why it is
//! not a JSON object.
//! Promises: every JSON object is a webhook; members that are missing, empty or of another type are `None`.
//! Left to others: the ids that a span needs ([`spans`](super::spans)).
//!
//! Source of the format: circleci.com/docs/reference/outbound-webhooks-reference, and captured payloads.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::vcs;
use crate::event::WebhookEvent;
use crate::receiver::webhook::payload::{
    self, Malformed, Member, RepairedPayload, event_id, integer, members, text, time,
};
use crate::receiver::webhook::vcs::Vcs;

pub(super) const WORKFLOW_COMPLETED: WebhookEvent = WebhookEvent::new("workflow-completed");
pub(super) const JOB_COMPLETED: WebhookEvent = WebhookEvent::new("job-completed");
pub(super) const PING: WebhookEvent = WebhookEvent::new("ping");

/// Events that become spans.
pub(super) const EVENTS: &[WebhookEvent] = &[WORKFLOW_COMPLETED, JOB_COMPLETED, PING];

/// One event. All times are Unix nanoseconds and not zero.
#[derive(Debug)]
pub(super) struct Webhook<'a> {
    pub(super) event: WebhookEvent,
    /// Id of the event, equal in every redelivery.
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) happened_at: Option<u64>,
    /// Id of the webhook in the project's configuration.
    pub(super) webhook_id: Option<Cow<'a, str>>,
    pub(super) organization: Organization<'a>,
    pub(super) project: Project<'a>,
    pub(super) pipeline: Pipeline<'a>,
    pub(super) workflow: Workflow<'a>,
    /// All members are `None` except in `job-completed`.
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
    /// Opaque: its parts have no defined meaning.
    pub(super) slug: Option<Cow<'a, str>>,
}

#[derive(Debug)]
pub(super) struct Pipeline<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) number: Option<i64>,
    /// Time of creation, possibly hours or weeks before the workflow: reruns, approvals, schedules.
    pub(super) created_at: Option<u64>,
    pub(super) trigger_type: Option<Cow<'a, str>>,
    pub(super) vcs: Vcs<'a>,
}

#[derive(Debug)]
pub(super) struct Workflow<'a> {
    /// Id of the workflow; every rerun has a new one.
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
    /// Value of `$CIRCLE_WORKFLOW_JOB_ID` inside the job.
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) number: Option<i64>,
    /// An open set of words.
    pub(super) status: Option<Cow<'a, str>>,
    pub(super) started_at: Option<u64>,
    pub(super) stopped_at: Option<u64>,
}

// === impl Webhook ===

impl<'a> Webhook<'a> {
    pub(super) fn read(repaired: &'a RepairedPayload<'_>) -> Result<Self, Malformed> {
        payload::object(repaired).map(Self::of)
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
            id: event_id(id),
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

/// Recognises a webhook: one JSON object with an event type and the members of every event.
pub(super) fn recognizes(body: &[u8]) -> bool {
    let Ok(json) = serde_json::from_slice(body) else { return false };
    let [kind, webhook, happened_at] = members(Some(json), ["type", "webhook", "happened_at"]);
    kind.is_some() && (webhook.is_some() || happened_at.is_some())
}

fn event(kind: Member<'_>) -> WebhookEvent {
    match text(kind).as_deref() {
        Some("workflow-completed") => WORKFLOW_COMPLETED,
        Some("job-completed") => JOB_COMPLETED,
        Some("ping") => PING,
        _ => WebhookEvent::UNKNOWN,
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
            vcs: vcs::read(vcs, trigger_parameters),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::webhook::payload::repair;

    #[test]
    fn every_object_is_a_webhook_with_any_members() {
        for body in ["{}", r#"{"type":7,"id":[],"job":"x"}"#, r#"{"type":"ping","type":"job-reopened"}"#] {
            assert_eq!(
                Webhook::read(&repair(body.as_bytes())).unwrap().event,
                WebhookEvent::UNKNOWN,
                "{body}"
            );
        }
    }
}
