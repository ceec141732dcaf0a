//! Attributes of an event's span, in two vocabularies: circleci-hook's, so that existing dashboards keep working, and
//! the semantic conventions' with the names that CircleCI's own exporter uses.
//!
//! In: a [`Webhook`]. Out: [`SpanAttributes`], each key at most once, without absent leaves.
//! Promises: of a commit only its id is exported: no message, no author, no e-mail address.
//!
//! Sources: open-telemetry/semantic-conventions 1.44 (`cicd.*`, `vcs.*`, `error.type`); CircleCI's OpenTelemetry
//! integration page (`com.circleci.*`; below the pipeline, its `cicd.pipeline.*` are the workflow's).

use std::borrow::Cow;

use super::traceparent;
use super::webhook::{Job, Webhook, Workflow};
use crate::receiver::webhook::span::SpanAttributes;

/// Returns the attributes that every kind of event has, where they are present.
pub(super) fn of_event<'a>(kind: &'static str, webhook: &'a Webhook<'a>) -> SpanAttributes<'a> {
    let Webhook { webhook_id, organization, project, pipeline, .. } = webhook;
    let mut attributes = SpanAttributes::default();

    attributes.text("circleci.kind", Some(kind));
    attributes.text("circleci.organization.id", urn(&organization.id));
    attributes.text("circleci.organization.name", organization.name.as_deref());
    attributes.text("circleci.project.id", urn(&project.id));
    attributes.text("circleci.project.name", project.name.as_deref());
    attributes.text("circleci.project.slug", project.slug.as_deref());
    attributes.text("circleci.pipeline.id", urn(&pipeline.id));
    attributes.integer("circleci.pipeline.number", pipeline.number);
    attributes.text("circleci.pipeline.trigger.type", pipeline.trigger_type.as_deref());
    attributes.text("circleci.webhook.id", urn(webhook_id));

    attributes.text("com.circleci.org.id", organization.id.as_deref());
    attributes.text("com.circleci.project.id", project.id.as_deref());
    attributes.text("com.circleci.pipeline.id", pipeline.id.as_deref());
    attributes.integer("com.circleci.pipeline.number", pipeline.number);

    attributes.vcs(&pipeline.vcs);
    attributes
}

/// Adds the attributes about the workflow to the spans of a workflow and of its jobs.
pub(super) fn add_workflow<'a>(attributes: &mut SpanAttributes<'a>, workflow: &'a Workflow<'a>) {
    attributes.text("circleci.workflow.id", urn(&workflow.id));
    attributes.text("circleci.workflow.name", workflow.name.as_deref());
    attributes.text("circleci.workflow.url", workflow.url.as_deref());
    attributes.text("circleci.workflow.status", workflow.status.as_deref());

    let Workflow { name, id, url, .. } = workflow;
    attributes.pipeline_run(name.as_deref(), id.as_deref(), url.as_deref());

    attributes.text("com.circleci.workflow.id", workflow.id.as_deref());
    attributes.text("com.circleci.workflow.name", workflow.name.as_deref());
    attributes.text("com.circleci.workflow.status", workflow.status.as_deref());
}

/// Adds the result of a workflow to its span.
pub(super) fn add_workflow_result<'a>(attributes: &mut SpanAttributes<'a>, workflow: &'a Workflow<'a>) {
    let status = workflow.status.as_deref();
    attributes.pipeline_result(status.map(result));
    attributes.error_type(status.filter(|status| is_error(status)));
}

/// Adds the attributes and the result of a job to its span.
pub(super) fn add_job<'a>(attributes: &mut SpanAttributes<'a>, job: &'a Job<'a>) {
    let status = job.status.as_deref();
    attributes.text("circleci.job.id", urn(&job.id));
    attributes.text("circleci.job.name", job.name.as_deref());
    attributes.integer("circleci.job.number", job.number);
    attributes.text("circleci.job.status", job.status.as_deref());

    attributes.task_run(job.name.as_deref(), job.id.as_deref(), status.map(result));

    attributes.text("com.circleci.job.id", job.id.as_deref());
    attributes.text("com.circleci.job.name", job.name.as_deref());
    attributes.integer("com.circleci.job.number", job.number);
    attributes.text("com.circleci.job.status", job.status.as_deref());

    attributes.error_type(status.filter(|status| is_error(status)));
}

/// Maps a status of CircleCI to the conventions' result. Both sets are open, so that an unknown status is kept.
pub(super) fn result(status: &str) -> &str {
    match status {
        "failed" | "failing" => "failure",
        "error" | "unauthorized" | "infrastructure_fail" => "error",
        "canceled" => "cancellation",
        "timedout" => "timeout",
        "not_run" => "skip",
        other => other,
    }
}

/// Returns whether this is the status of a failure. Cancelled and skipped are not, and `failing` has not ended yet.
pub(super) fn is_error(status: &str) -> bool {
    matches!(status, "failed" | "error" | "unauthorized" | "infrastructure_fail" | "timedout")
}

/// Returns the id in circleci-hook's form. An id that is not a UUID has no URN and is returned unchanged.
fn urn<'a>(id: &'a Option<Cow<'_, str>>) -> Option<Cow<'a, str>> {
    id.as_deref().map(|id| match traceparent::parse(id) {
        Some(uuid) => Cow::Owned(uuid.urn().to_string()),
        None => Cow::Borrowed(id),
    })
}
