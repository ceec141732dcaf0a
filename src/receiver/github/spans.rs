//! Makes the spans of an event.
//!
//! In: an [`Event`]. Out: the export request with its spans, unless the event lacks an id that they are made of.
//! Promises: equal events make equal spans; no span ends before it starts; each span has an id of its own.
//!
//! A run and its jobs arrive as events of their own, in any order: the parent of a job is known without the run's event. The
//! time in the queue is a span next to the job's: it ends where the job starts, so that a child would lie outside its parent.

use std::borrow::Cow;
use std::collections::HashSet;

use super::event::{Event, Ping, Subject, WorkflowJob, WorkflowRun, WorkflowStep};
use super::ids::{self, Ids, JobId};
use crate::receiver::Withheld;
use crate::receiver::webhook::span::{self, ErrorStatus, Span, SpanAttributes, SpanKind, Times};

/// Name of the instrumentation scope.
const SCOPE: &str = "spanrelay/github";

/// Maximum length of a name that each step repeats. Without a bound, the steps of a small body could repeat a large one.
const MAX_REPEATED_BYTES: usize = 256;

/// Returns the request that exports the spans of an event.
pub(super) fn export_request(event: &Event<'_>, service_name: &str, withheld: &Withheld) -> Option<Vec<u8>> {
    let mut spans = match &event.content {
        Subject::Run(run) => vec![of_run(event, run)?],
        Subject::Job(job) => of_job(event, job)?,
        Subject::Ping(ping) => vec![of_ping(event, ping)?],
        Subject::Unfinished => return None,
    };
    span::withhold_names(&mut spans, withheld);
    Some(span::export_request(SCOPE, service_name, &spans))
}

fn of_run<'a>(event: &'a Event<'_>, run: &'a WorkflowRun<'_>) -> Option<Span<'a>> {
    let id = run.id?;
    let ids = id.ids()?;
    let conclusion = run.conclusion.as_deref();
    let mut attributes = common("workflow", event);
    attributes.text("github.workflow.path", run.path.as_deref());
    attributes.integer("github.run.number", run.number);
    attributes.integer("github.run.attempt", Some(id.attempt.get()));
    attributes.text("github.run.event", run.trigger.as_deref());
    attributes.text("github.run.conclusion", conclusion);
    attributes.pipeline_run(run.name.as_deref(), Some(id.id.to_string()), run.url.as_deref());
    attributes.pipeline_result(conclusion.map(result));
    attributes.error_type(error(conclusion));
    let end = run.ended_at.or(run.started_at).unwrap_or_default();
    Some(Span {
        trace_id: ids.trace,
        span_id: ids.span,
        parent_span_id: None,
        name: named("workflow", run.name.as_deref()),
        kind: SpanKind::Server,
        times: Times::new(run.started_at.unwrap_or(end), end),
        attributes,
        status: error(conclusion).map(|_| ErrorStatus),
    })
}

/// Returns the spans of a job, of its time in the queue and of its steps.
fn of_job<'a>(event: &'a Event<'_>, job: &'a WorkflowJob<'_>) -> Option<Vec<Span<'a>>> {
    let id = job.id?;
    let (ids, run, queued) = (id.ids()?, id.run.ids()?, id.queued()?);
    let conclusion = job.conclusion.as_deref();
    let steps_end = job.steps.iter().filter_map(|step| step.ended_at).max();
    let end = job.ended_at.or(steps_end).or(job.started_at).or(job.created_at).unwrap_or_default();
    let start = job.started_at.unwrap_or(end);
    let mut attributes = of_task("job", event, job, id);
    attributes.text("cicd.pipeline.task.run.result", conclusion.map(result));
    attributes.text("cicd.pipeline.task.run.url.full", job.url.as_deref());
    attributes.text("cicd.worker.id", job.runner.id.map(|id| id.to_string()));
    attributes.text("cicd.worker.name", job.runner.name.as_deref());
    attributes.text("github.runner.group.name", job.runner.group.as_deref());
    attributes.text("github.job.conclusion", conclusion);
    attributes.error_type(error(conclusion));
    let span = Span {
        trace_id: ids.trace,
        span_id: ids.span,
        parent_span_id: Some(run.span),
        name: named("job", job.name.as_deref()),
        kind: SpanKind::Internal,
        times: Times::new(start, end),
        attributes,
        status: error(conclusion).map(|_| ErrorStatus),
    };
    let waited = job.created_at.filter(|created| *created < start).map(|created| Span {
        trace_id: queued.trace,
        span_id: queued.span,
        parent_span_id: Some(run.span),
        name: named("queued", job.name.as_deref()),
        kind: SpanKind::Internal,
        times: Times::new(created, start),
        attributes: of_task("queued", event, job, id),
        status: None,
    });
    let mut spans = vec![span];
    spans.extend(waited);
    let mut numbers = HashSet::new();
    for (position, step) in (1..).zip(&job.steps) {
        let own = match step.number.filter(|number| numbers.insert(number.get())) {
            Some(number) => id.step(number)?,
            // A step without a number of its own.
            None => id.step(format_args!("@{position}"))?,
        };
        spans.push(Span { parent_span_id: Some(ids.span), ..of_step(job, id, own, step, end) });
    }
    Some(spans)
}

/// Returns the span of a step. `end` is the end of the job, which is also that of a step that never ran.
fn of_step<'a>(
    job: &'a WorkflowJob<'_>,
    id: JobId,
    ids: Ids,
    step: &'a WorkflowStep<'_>,
    end: u64,
) -> Span<'a> {
    let conclusion = step.conclusion.as_deref();
    let mut attributes = SpanAttributes::default();
    attributes.text("github.kind", Some("step"));
    attributes.integer("github.step.number", step.number.map(|number| number.get()));
    attributes.text("github.step.conclusion", conclusion);
    attributes.pipeline_run(repeated(&job.workflow), Some(id.run.id.to_string()), None);
    attributes.task_run(repeated(&job.name), Some(id.id.to_string()), None);
    attributes.error_type(error(conclusion));
    let end = step.ended_at.or(step.started_at).unwrap_or(end);
    Span {
        trace_id: ids.trace,
        span_id: ids.span,
        parent_span_id: None,
        name: Cow::Borrowed(step.name.as_deref().unwrap_or("step")),
        kind: SpanKind::Internal,
        times: Times::new(step.started_at.unwrap_or(end), end),
        attributes,
        status: error(conclusion).map(|_| ErrorStatus),
    }
}

fn of_ping<'a>(event: &'a Event<'_>, ping: &'a Ping<'_>) -> Option<Span<'a>> {
    let ids = ids::of_ping(ping.id.as_deref()?)?;
    let mut attributes = common("ping", event);
    attributes.integer("github.webhook.id", ping.hook);
    let at = ping.at.unwrap_or_default();
    Some(Span {
        trace_id: ids.trace,
        span_id: ids.span,
        parent_span_id: None,
        name: Cow::Borrowed("ping"),
        kind: SpanKind::Internal,
        times: Times::new(at, at),
        attributes,
        status: None,
    })
}

/// Returns the attributes of every kind of event.
fn common<'a>(kind: &'static str, event: &'a Event<'_>) -> SpanAttributes<'a> {
    let mut attributes = SpanAttributes::default();
    attributes.text("github.kind", Some(kind));
    attributes.text("github.repository.full_name", event.repository.as_deref());
    attributes.vcs(&event.vcs);
    attributes
}

/// Returns the attributes of a job and of its time in the queue.
fn of_task<'a>(
    kind: &'static str,
    event: &'a Event<'_>,
    job: &'a WorkflowJob<'_>,
    id: JobId,
) -> SpanAttributes<'a> {
    let mut attributes = common(kind, event);
    attributes.integer("github.run.attempt", Some(id.run.attempt.get()));
    attributes.pipeline_run(job.workflow.as_deref(), Some(id.run.id.to_string()), None);
    attributes.task_run(job.name.as_deref(), Some(id.id.to_string()), None);
    attributes
}

fn named<'a>(kind: &'static str, name: Option<&str>) -> Cow<'a, str> {
    name.map_or(Cow::Borrowed(kind), |name| Cow::Owned(format!("{kind}: {name}")))
}

/// Returns a name that each step repeats, unless it is too long for that.
fn repeated<'a>(name: &'a Option<Cow<'_, str>>) -> Option<&'a str> {
    name.as_deref().filter(|name| name.len() <= MAX_REPEATED_BYTES)
}

/// Returns the conventions' word for a conclusion. Both sets are open, so an unknown word is kept.
fn result(conclusion: &str) -> &str {
    match conclusion {
        "cancelled" => "cancellation",
        "skipped" => "skip",
        "startup_failure" => "error",
        "timed_out" => "timeout",
        other => other,
    }
}

/// Returns the conclusion if it is an error. What was cancelled or skipped did not fail.
fn error(conclusion: Option<&str>) -> Option<&str> {
    conclusion.filter(|word| matches!(*word, "failure" | "startup_failure" | "timed_out"))
}
