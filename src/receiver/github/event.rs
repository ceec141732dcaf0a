//! Reads events as GitHub documents them, with nothing taken for granted.
//!
//! In: the type of an event and its JSON object. Out: an [`Event`] that borrows from it.
//! Promises: every object is an event; a member that is missing, empty or of another type is `None`; nothing about a person
//! is read, so that no name and no e-mail address is exported.
//!
//! Source of the format: docs.github.com/en/webhooks/webhook-events-and-payloads (`workflow_run`, `workflow_job`, `ping`), and
//! the payloads in octokit/webhooks.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::ids::{JobId, Number, RunId};
use crate::event::WebhookEvent;
use crate::receiver::webhook::payload::{
    self, Malformed, Member, integer, list, members, repair, text, time,
};
use crate::receiver::webhook::vcs::{Head, Vcs, repository_url};

const WORKFLOW_RUN: WebhookEvent = WebhookEvent::new("workflow_run");
const WORKFLOW_JOB: WebhookEvent = WebhookEvent::new("workflow_job");
const PING: WebhookEvent = WebhookEvent::new("ping");

/// Events that become spans.
pub(super) const EVENTS: &[WebhookEvent] = &[WORKFLOW_RUN, WORKFLOW_JOB, PING];

/// Maximum number of steps that become spans. GitHub allows fewer in a job; without a bound, a small body could become an
/// export of any size.
const MAX_STEPS: usize = 1000;

/// One event. All times are Unix nanoseconds and not zero.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub(super) repository: Option<Cow<'a, str>>,
    pub(super) vcs: Vcs<'a>,
    pub(super) content: Subject<'a>,
}

/// Subject of an event.
#[derive(Debug)]
pub(super) enum Subject<'a> {
    Run(WorkflowRun<'a>),
    Job(WorkflowJob<'a>),
    Ping(Ping<'a>),
    /// A run or a job that is queued or in progress.
    Unfinished,
}

/// An attempt of a workflow run.
#[derive(Debug)]
pub(super) struct WorkflowRun<'a> {
    pub(super) id: Option<RunId>,
    /// Name of the workflow.
    pub(super) name: Option<Cow<'a, str>>,
    /// Number of the run among those of its workflow.
    pub(super) number: Option<i64>,
    /// Event that triggered the run.
    pub(super) trigger: Option<Cow<'a, str>>,
    pub(super) path: Option<Cow<'a, str>>,
    pub(super) url: Option<Cow<'a, str>>,
    /// Result. An open set of words.
    pub(super) conclusion: Option<Cow<'a, str>>,
    pub(super) started_at: Option<u64>,
    pub(super) ended_at: Option<u64>,
}

/// A job of an attempt.
#[derive(Debug)]
pub(super) struct WorkflowJob<'a> {
    pub(super) id: Option<JobId>,
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) workflow: Option<Cow<'a, str>>,
    pub(super) url: Option<Cow<'a, str>>,
    /// Result. An open set of words.
    pub(super) conclusion: Option<Cow<'a, str>>,
    pub(super) created_at: Option<u64>,
    pub(super) started_at: Option<u64>,
    pub(super) ended_at: Option<u64>,
    pub(super) runner: Runner<'a>,
    pub(super) steps: Vec<WorkflowStep<'a>>,
}

/// Machine that ran a job.
#[derive(Debug)]
pub(super) struct Runner<'a> {
    pub(super) id: Option<Number>,
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) group: Option<Cow<'a, str>>,
}

/// A step of a job.
#[derive(Debug)]
pub(super) struct WorkflowStep<'a> {
    pub(super) number: Option<Number>,
    pub(super) name: Option<Cow<'a, str>>,
    /// Result. An open set of words.
    pub(super) conclusion: Option<Cow<'a, str>>,
    pub(super) started_at: Option<u64>,
    pub(super) ended_at: Option<u64>,
}

/// A test of the webhook.
#[derive(Debug)]
pub(super) struct Ping<'a> {
    /// Id of the delivery, or of the webhook.
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) hook: Option<i64>,
    /// Time of the webhook's last change; the payload has no other time.
    pub(super) at: Option<u64>,
}

/// Returns the kind of event that the header names.
pub(super) fn kind(header: Option<&str>) -> WebhookEvent {
    let known = EVENTS.iter().find(|event| Some(event.as_str()) == header);
    known.copied().unwrap_or(WebhookEvent::UNKNOWN)
}

/// Returns the type of an event, as its members tell it.
pub(super) fn type_of(body: &[u8]) -> Option<&'static str> {
    let repaired = repair(body);
    let object = payload::object(&repaired).ok()?;
    let [run, job, zen, hook] = members(Some(object), ["workflow_run", "workflow_job", "zen", "hook"]);
    let kind = match (run, job, zen.and(hook)) {
        (Some(_), _, _) => WORKFLOW_RUN,
        (_, Some(_), _) => WORKFLOW_JOB,
        (_, _, Some(_)) => PING,
        (None, None, None) => return None,
    };
    Some(kind.as_str())
}

/// Explains the most likely reason that a body is not JSON: GitHub offers forms as a content type, too.
pub(super) fn explained(malformed: Malformed, body: &[u8]) -> Malformed {
    if !body.starts_with(b"payload=") {
        return malformed;
    }
    let reason = "the body is a form: set the content type of the webhook to application/json".to_owned();
    Malformed { reason, ..malformed }
}

// === impl Event ===

impl<'a> Event<'a> {
    /// Reads an event of one of [`EVENTS`]. `delivery` is the id of the event.
    pub(super) fn read(kind: WebhookEvent, object: &'a RawValue, delivery: Option<&'a str>) -> Self {
        let [action, run, job, workflow, repository] =
            members(Some(object), ["action", "workflow_run", "workflow_job", "workflow", "repository"]);
        let [full_name] = members(repository, ["full_name"]);
        let is_completed = text(action).as_deref() == Some("completed");
        let content = match kind {
            PING => Subject::Ping(Ping::read(object, delivery)),
            _ if !is_completed => Subject::Unfinished,
            WORKFLOW_RUN => Subject::Run(WorkflowRun::read(run, workflow)),
            _ => Subject::Job(WorkflowJob::read(job)),
        };
        Self { repository: text(full_name), vcs: vcs(run.or(job), repository), content }
    }
}

/// Reads repository, branch and commit of a run or a job.
///
/// `head_branch` is the name of a tag in runs for tags, and only some triggers tell which of the two it is.
fn vcs<'a>(of: Member<'a>, repository: Member<'a>) -> Vcs<'a> {
    let [branch, revision, trigger] = members(of, ["head_branch", "head_sha", "event"]);
    let [url, default_branch] = members(repository, ["html_url", "default_branch"]);
    let (name, default_branch, trigger) = (text(branch), text(default_branch), text(trigger));
    let kind = match trigger.as_deref() {
        _ if name.is_some() && name == default_branch => Some("branch"),
        Some("pull_request" | "pull_request_target" | "merge_group" | "schedule") => Some("branch"),
        Some("release") => Some("tag"),
        _ => None,
    };
    Vcs {
        provider: Some(Cow::Borrowed("github")),
        repository_url: text(url).and_then(|url| repository_url(&url)),
        head: name.map(|name| Head { name, kind }),
        revision: text(revision),
    }
}

/// Reads the id of a run. A first attempt may have no number.
fn run_id(id: Member<'_>, attempt: Member<'_>) -> Option<RunId> {
    let attempt = match integer(attempt) {
        Some(attempt) => Number::new(attempt)?,
        None => Number::ONE,
    };
    Some(RunId { id: Number::new(integer(id)?)?, attempt })
}

// === impl WorkflowRun ===

impl<'a> WorkflowRun<'a> {
    fn read(run: Member<'a>, workflow: Member<'a>) -> Self {
        let [id, attempt, name, number, trigger, path] =
            members(run, ["id", "run_attempt", "name", "run_number", "event", "path"]);
        let [url, conclusion, created_at, started_at, ended_at] =
            members(run, ["html_url", "conclusion", "created_at", "run_started_at", "updated_at"]);
        let [workflow_name, workflow_path] = members(workflow, ["name", "path"]);
        Self {
            id: run_id(id, attempt),
            name: text(name).or_else(|| text(workflow_name)),
            number: integer(number),
            trigger: text(trigger),
            path: text(path).or_else(|| text(workflow_path)),
            url: text(url),
            conclusion: text(conclusion),
            // The creation of a run is that of its first attempt.
            started_at: time(started_at).or_else(|| time(created_at)),
            ended_at: time(ended_at),
        }
    }
}

// === impl WorkflowJob ===

impl<'a> WorkflowJob<'a> {
    fn read(job: Member<'a>) -> Self {
        let [id, run, attempt, name, workflow, url, conclusion] =
            members(job, ["id", "run_id", "run_attempt", "name", "workflow_name", "html_url", "conclusion"]);
        let [created_at, started_at, ended_at, steps] =
            members(job, ["created_at", "started_at", "completed_at", "steps"]);
        let [runner, runner_name, runner_group] =
            members(job, ["runner_id", "runner_name", "runner_group_name"]);
        let id = integer(id).and_then(Number::new);
        Self {
            id: run_id(run, attempt).zip(id).map(|(run, id)| JobId { run, id }),
            name: text(name),
            workflow: text(workflow),
            url: text(url),
            conclusion: text(conclusion),
            created_at: time(created_at),
            started_at: time(started_at),
            ended_at: time(ended_at),
            runner: Runner {
                // A job that did not run has the runner 0.
                id: integer(runner).and_then(Number::new),
                name: text(runner_name),
                group: text(runner_group),
            },
            steps: list(steps).into_iter().take(MAX_STEPS).map(WorkflowStep::read).collect(),
        }
    }
}

// === impl WorkflowStep ===

impl<'a> WorkflowStep<'a> {
    fn read(step: &'a RawValue) -> Self {
        let [number, name, conclusion, started_at, ended_at] =
            members(Some(step), ["number", "name", "conclusion", "started_at", "completed_at"]);
        Self {
            number: integer(number).and_then(Number::new),
            name: text(name),
            conclusion: text(conclusion),
            started_at: time(started_at),
            ended_at: time(ended_at),
        }
    }
}

// === impl Ping ===

impl<'a> Ping<'a> {
    fn read(object: &'a RawValue, delivery: Option<&'a str>) -> Self {
        let [hook_id, hook] = members(Some(object), ["hook_id", "hook"]);
        let [created_at, updated_at] = members(hook, ["created_at", "updated_at"]);
        let hook = integer(hook_id);
        Self {
            id: delivery.map(Cow::Borrowed).or_else(|| hook.map(|hook| Cow::Owned(hook.to_string()))),
            hook,
            at: time(updated_at).or_else(|| time(created_at)),
        }
    }
}
