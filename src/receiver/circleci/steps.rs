//! Spans of the steps of a job, and of the time before it started.
//!
//! In: the event of the job and its [`JobDetails`]. Out: the export request with the spans, unless there are none.
//! Promises: equal input makes equal spans, each with an id of its own; no span ends before it starts; without `commands`, nothing
//! of a command is exported, nor a name that CircleCI made of one.
//! Left to others: the span of the job itself ([`spans`](super::spans)), the ids ([`step_ids`](super::step_ids)).
//!
//! Steps are children of the job's span. The times before it are spans next to it, children of the workflow's span, because a
//! child would lie outside its parent:
//!
//! | span | start | end |
//! |---|---|---|
//! | `waiting: {job}` | creation of the workflow | the job was queued, or else started |
//! | `queued: {job}` | the job was queued | it started |

use std::borrow::Cow;

use super::attributes;
use super::job_details::{JobDetails, Step};
use super::spans::SCOPE;
use super::step_ids::StepIds;
use super::traceparent::{self, JobIds};
use super::webhook::Webhook;
use crate::receiver::Withheld;
use crate::receiver::webhook::span::{self, ErrorStatus, Span, SpanAttributes, SpanKind, Times};

/// Maximum length of a name that each step repeats. Without a bound, the steps of a small response could repeat a large one.
const MAX_REPEATED_BYTES: usize = 256;
/// Maximum length of a step's name, which can be the whole text of a script.
const MAX_NAME_BYTES: usize = 1024;

/// Attributes whose values can be in the name of a span, too.
const TYPE: &str = "com.circleci.step.type";
const COMMAND: &str = "com.circleci.step.command";

/// Returns the request that exports the spans. `None` if there are none.
pub(super) fn export_request(
    webhook: &Webhook<'_>,
    details: &JobDetails<'_>,
    (service_name, withheld): (&str, &Withheld),
    commands: bool,
) -> Option<Vec<u8>> {
    let job = webhook.job.id.as_deref()?;
    let ids = traceparent::job_ids(webhook.workflow.id.as_deref()?, job)?;
    let mut own_ids = StepIds::new(traceparent::parse(job)?);
    let end = webhook.job.stopped_at.or(details.ended_at).or(webhook.happened_at);
    let mut spans = before_the_job(webhook, details, ids, &own_ids);
    for step in &details.steps {
        let Some(span_id) = own_ids.next(step) else { continue };
        let mut attributes = of_job("step", webhook);
        add_step(&mut attributes, step, commands);
        let ended_at = step.ended_at.or(step.started_at).or(end).unwrap_or_default();
        spans.push(Span {
            trace_id: ids.trace,
            span_id,
            parent_span_id: Some(ids.span),
            name: name(step, commands, withheld),
            kind: SpanKind::Internal,
            times: Times::new(step.started_at.unwrap_or(ended_at), ended_at),
            attributes,
            status: error(step).map(|_| ErrorStatus),
        });
    }
    span::withhold_names(&mut spans, withheld);
    (!spans.is_empty()).then(|| span::export_request(SCOPE, service_name, &spans))
}

/// Returns the spans of the times before the job started, where both of their ends are known.
fn before_the_job<'a>(
    webhook: &'a Webhook<'a>,
    details: &JobDetails<'_>,
    ids: JobIds,
    own_ids: &StepIds,
) -> Vec<Span<'a>> {
    let Some(started_at) = webhook.job.started_at.or(details.started_at) else { return Vec::new() };
    let queued_at = details.queued_at.filter(|queued_at| *queued_at <= started_at);
    let times = [
        ("waiting", webhook.workflow.created_at, queued_at.unwrap_or(started_at)),
        ("queued", queued_at, started_at),
    ];
    let known = times
        .into_iter()
        .filter_map(|(what, start, end)| Some((what, start.filter(|start| *start < end)?, end)));
    let span = |(what, start, end)| {
        Some(Span {
            trace_id: ids.trace,
            span_id: own_ids.named(what)?,
            parent_span_id: Some(ids.parent),
            // As in the attributes, without which a rule would not apply to the name.
            name: repeated(&webhook.job.name)
                .map_or(Cow::Borrowed(what), |job| Cow::Owned(format!("{what}: {job}"))),
            kind: SpanKind::Internal,
            times: Times::new(start, end),
            attributes: of_job(what, webhook),
            status: None,
        })
    };
    known.filter_map(span).collect()
}

/// Returns the attributes that tell the job of a span.
fn of_job<'a>(kind: &'static str, webhook: &'a Webhook<'a>) -> SpanAttributes<'a> {
    let Webhook { workflow, job, .. } = webhook;
    let mut attributes = SpanAttributes::default();
    attributes.text("circleci.kind", Some(kind));
    attributes.pipeline_run(repeated(&workflow.name), workflow.id.as_deref(), None);
    attributes.task_run(repeated(&job.name), job.id.as_deref(), None);
    attributes.integer("com.circleci.job.number", job.number);
    attributes
}

fn add_step<'a>(attributes: &mut SpanAttributes<'a>, step: &'a Step<'a>, commands: bool) {
    attributes.integer("com.circleci.task.index", Some(step.execution));
    attributes.integer("com.circleci.step.num", step.number);
    attributes.integer("com.circleci.step.rerun", step.rerun.filter(|rerun| *rerun != 0));
    attributes.text(TYPE, step.kind.as_deref());
    attributes.text("com.circleci.step.outcome", step.outcome.as_deref());
    attributes.integer("com.circleci.step.exit_code", step.exit_code);
    attributes.boolean("com.circleci.step.background", step.is_background);
    attributes.text(COMMAND, step.command.as_deref().filter(|_| commands));
    attributes.error_type(error(step));
}

/// Returns the outcome if it is an error. What was cancelled or did not run did not fail.
fn error<'a>(step: &'a Step<'_>) -> Option<&'a str> {
    step.outcome.as_deref().filter(|outcome| attributes::is_error(outcome) || *outcome == "errored")
}

/// Returns the name of a step's span.
///
/// CircleCI names a step without `name` after its command, which may contain a secret. Unless commands are wanted, the span of
/// such a step is named after its type. Neither is in a name if it is withheld.
fn name<'a>(step: &'a Step<'a>, commands: bool, withheld: &Withheld) -> Cow<'a, str> {
    let may_show_command = commands && !withheld.contains(COMMAND);
    let is_hidden = |name: &&str| {
        !may_show_command && step.command.as_deref().is_some_and(|command| is_made_of(name, command))
    };
    let name = step.name.as_deref().filter(|name| !is_hidden(name));
    let kind = step.kind.as_deref().filter(|_| !withheld.contains(TYPE));
    let name = name.or(kind).unwrap_or("step");
    match name.char_indices().find(|(at, letter)| at + letter.len_utf8() > MAX_NAME_BYTES) {
        Some((end, _)) => Cow::Owned(format!("{}…", name.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(name),
    }
}

/// Returns `true` if a name looks like one that CircleCI made of a command: it is the command, one of its lines, or the beginning of
/// either. White space does not matter. A single word that was not cut off must be all of it: it is the name of a program at most.
fn is_made_of(name: &str, command: &str) -> bool {
    let uncut = name.trim_end().trim_end_matches('…');
    let uncut = uncut.strip_suffix("...").unwrap_or(uncut);
    let is_cut = uncut.len() < name.trim_end().len();
    let name: Vec<&str> = uncut.split_whitespace().collect();
    let begins = |text: &str| {
        let mut words = text.split_whitespace();
        let (Some((last, others)), true) = (name.split_last(), name.len() > 1 || is_cut) else {
            return !name.is_empty() && words.eq(name.iter().copied());
        };
        others.iter().all(|word| words.next() == Some(word))
            && words.next().is_some_and(|word| word.starts_with(last))
    };
    // The first line may name the shell.
    let after_first_line = command.split_once('\n').map(|(_, rest)| rest);
    std::iter::once(command).chain(after_first_line).any(begins) || command.lines().any(begins)
}

/// Returns a name that each step repeats, unless it is too long for that.
fn repeated<'a>(name: &'a Option<Cow<'_, str>>) -> Option<&'a str> {
    name.as_deref().filter(|name| name.len() <= MAX_REPEATED_BYTES)
}

#[cfg(test)]
mod tests;
