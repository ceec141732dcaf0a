//! The span of an event.
//!
//! In: a [`Webhook`]. Out: the export request with its span, unless the event lacks the ids that the span needs.
//! Promises: ids are a pure function of CircleCI's UUIDs; the end is never before the start; an event that lacks
//! anything else still results in a span.
//! Left to others: the attributes of the span ([`attributes`]), its JSON form ([`span`]).
//!
//! The spans of jobs and workflows are each made from their own event and in any order, because the id of the parent is
//! known without the parent's event. A backend may show a missing root until the workflow has ended.

use std::borrow::Cow;
use std::slice;

use super::attributes;
use super::traceparent::{self, JobIds};
use super::webhook::{JOB_COMPLETED, PING, WORKFLOW_COMPLETED, Webhook};
use crate::receiver::Withheld;
use crate::receiver::webhook::span::{self, ErrorStatus, Span, SpanKind, Times};

/// Name of the instrumentation scope.
pub(super) const SCOPE: &str = "spanrelay/circleci";

/// Returns the export request with the event's span. `None` when the event has no id, or when the UUIDs that its kind
/// needs are missing or result in invalid ids.
pub(super) fn export_request(
    webhook: &Webhook<'_>,
    service_name: &str,
    withheld: &Withheld,
) -> Option<Vec<u8>> {
    let event_id = webhook.id.as_deref()?;
    let mut span = match webhook.event {
        WORKFLOW_COMPLETED => workflow(webhook)?,
        JOB_COMPLETED => job(webhook)?,
        PING => ping(event_id, webhook)?,
        _ => return None,
    };
    span::withhold_names(slice::from_mut(&mut span), withheld);
    Some(span::export_request(SCOPE, service_name, &[span]))
}

fn workflow<'a>(webhook: &'a Webhook<'a>) -> Option<Span<'a>> {
    let workflow = &webhook.workflow;
    let (trace_id, span_id) = traceparent::root_ids(workflow.id.as_deref()?)?;
    let times = times(workflow.created_at, workflow.stopped_at, webhook);
    let mut attributes = attributes::of_event("workflow", webhook);
    attributes::add_workflow(&mut attributes, workflow);
    attributes::add_workflow_result(&mut attributes, workflow);
    Some(Span {
        trace_id,
        span_id,
        parent_span_id: None,
        name: name("workflow", workflow.name.as_deref()),
        kind: SpanKind::Server,
        times,
        attributes,
        status: status(workflow.status.as_deref()),
    })
}

fn job<'a>(webhook: &'a Webhook<'a>) -> Option<Span<'a>> {
    let job = &webhook.job;
    let JobIds { trace, span, parent } =
        traceparent::job_ids(webhook.workflow.id.as_deref()?, job.id.as_deref()?)?;
    let times = times(job.started_at, job.stopped_at, webhook);
    let mut attributes = attributes::of_event("job", webhook);
    attributes::add_workflow(&mut attributes, &webhook.workflow);
    attributes::add_job(&mut attributes, job);
    Some(Span {
        trace_id: trace,
        span_id: span,
        parent_span_id: Some(parent),
        name: name("job", job.name.as_deref()),
        kind: SpanKind::Internal,
        times,
        attributes,
        status: status(job.status.as_deref()),
    })
}

fn ping<'a>(event_id: &str, webhook: &'a Webhook<'a>) -> Option<Span<'a>> {
    let (trace_id, span_id) = traceparent::root_ids(event_id)?;
    let times = times(webhook.happened_at, webhook.happened_at, webhook);
    Some(Span {
        trace_id,
        span_id,
        parent_span_id: None,
        name: Cow::Borrowed("ping"),
        kind: SpanKind::Internal,
        times,
        attributes: attributes::of_event("ping", webhook),
        status: None,
    })
}

fn name(kind: &'static str, name: Option<&str>) -> Cow<'static, str> {
    name.map_or(Cow::Borrowed(kind), |name| Cow::Owned(format!("{kind}: {name}")))
}

fn status(status: Option<&str>) -> Option<ErrorStatus> {
    status.filter(|status| attributes::is_error(status)).map(|_| ErrorStatus)
}

/// Returns the times of a span. A job that did not start has no duration; without an end, the span ends when the event
/// happened.
///
/// An event with neither gets any other time that it has, so that its span is near its trace rather than in 1970, where
/// nobody would find it. Without any time they stay zero, OTLP's "unknown", because the receiver has no clock.
fn times(started: Option<u64>, stopped: Option<u64>, webhook: &Webhook<'_>) -> Times {
    let end = stopped
        .or(webhook.happened_at)
        .or(started)
        .or(webhook.workflow.stopped_at)
        .or(webhook.workflow.created_at)
        .or(webhook.pipeline.created_at)
        .unwrap_or_default();
    Times::new(started.unwrap_or(end), end)
}

#[cfg(test)]
mod tests;
