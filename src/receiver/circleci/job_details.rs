//! A finished job as CircleCI's API describes it, without assumptions.
//!
//! In: the body of a response, as text. Out: [`JobDetails`] that borrow from it, or `None` if the body is no description of a
//! job.
//! Promises: members that are missing, empty or of another type are absent; at most [`MAX_STEPS`] steps are read.
//! Left to others: spans ([`steps`](super::steps)), and which of the APIs to ask ([`lookup`](super::lookup)).
//!
//! | API | source of the format |
//! |---|---|
//! | v3, `/api/v3/jobs/{id}` | circleci.com/docs/api/v3, and the wire types of CircleCI's own command line client |
//! | v1.1, `/api/v1.1/project/…/{number}` | "Single Job" in CircleCI's API reference |
//! | v2, `/api/v2/project/…/job/{number}` | circleci.com/docs/api/v2; it has no steps, but the time of queueing |

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::receiver::webhook::payload::{Member, flag, integer, list, members, text, time};

/// Maximum number of steps that are read of one job, over all of its parallel executions.
pub(super) const MAX_STEPS: usize = 10_000;

/// Details of one job. All times are Unix nanoseconds and not zero.
#[derive(Debug, Default)]
pub(super) struct JobDetails<'a> {
    pub(super) queued_at: Option<u64>,
    pub(super) started_at: Option<u64>,
    pub(super) ended_at: Option<u64>,
    /// The job and all of its steps have ended.
    pub(super) is_final: bool,
    pub(super) steps: Vec<Step<'a>>,
}

/// One step of one parallel execution.
#[derive(Debug)]
pub(super) struct Step<'a> {
    /// Index of the parallel execution.
    pub(super) execution: i64,
    /// CircleCI's number of the step, which leaves gaps.
    pub(super) number: Option<i64>,
    /// Number of the automatic rerun; zero or absent in the first run.
    pub(super) rerun: Option<i64>,
    pub(super) name: Option<Cow<'a, str>>,
    /// CircleCI's type of the step: `run`, `checkout`, `test`, …
    pub(super) kind: Option<Cow<'a, str>>,
    /// An open set of words, which the APIs choose differently.
    pub(super) outcome: Option<Cow<'a, str>>,
    pub(super) exit_code: Option<i64>,
    pub(super) is_background: Option<bool>,
    /// Text of the command, which may contain secrets.
    pub(super) command: Option<Cow<'a, str>>,
    pub(super) started_at: Option<u64>,
    pub(super) ended_at: Option<u64>,
}

/// Reads a response of API v3.
pub(super) fn v3<'a>(body: &'a RawValue) -> Option<JobDetails<'a>> {
    let [data] = members(Some(body), ["data"]);
    let [attributes] = members(data, ["attributes"]);
    let attributes: Member<'a> = attributes.filter(|attributes| attributes.get().starts_with('{'));
    attributes?;
    let [phase, queued_at, started_at, ended_at, executions] =
        members(attributes, ["phase", "queued_at", "started_at", "ended_at", "parallel_executions"]);
    let mut is_final = has_ended(phase);
    let mut steps = Vec::new();
    for (index, execution) in (0..).zip(list(executions)) {
        let [of_execution] = members(Some(execution), ["steps"]);
        for step in list(of_execution).into_iter().take(MAX_STEPS - steps.len()) {
            let [phase] = members(Some(step), ["phase"]);
            is_final &= has_ended(phase);
            steps.push(Step::of_v3(index, step));
        }
    }
    Some(JobDetails {
        queued_at: time(queued_at),
        started_at: time(started_at),
        ended_at: time(ended_at),
        is_final,
        steps,
    })
}

/// Reads a response of API v1.1.
pub(super) fn v1_1(body: &RawValue) -> Option<JobDetails<'_>> {
    let [lifecycle, queued_at, started_at, ended_at, steps_of_all, build] =
        members(Some(body), ["lifecycle", "queued_at", "start_time", "stop_time", "steps", "build_num"]);
    lifecycle.or(steps_of_all).or(build)?;
    let mut is_final = text(lifecycle).is_none_or(|word| matches!(&*word, "finished" | "not_run"));
    let mut steps = Vec::new();
    for group in list(steps_of_all) {
        let [name, actions] = members(Some(group), ["name", "actions"]);
        for action in list(actions).into_iter().take(MAX_STEPS - steps.len()) {
            let [status] = members(Some(action), ["status"]);
            is_final &= !text(status).is_some_and(|word| is_in_progress(&word));
            steps.push(Step::of_v1_1(name, action));
        }
    }
    Some(JobDetails {
        queued_at: time(queued_at),
        started_at: time(started_at),
        ended_at: time(ended_at),
        is_final,
        steps,
    })
}

/// Reads the time of queueing from a response of API v2.
pub(super) fn v2_queued_at(body: &RawValue) -> Option<u64> {
    let [queued_at] = members(Some(body), ["queued_at"]);
    time(queued_at)
}

/// Returns `true` for the phase of what has ended, and where none is given.
fn has_ended(phase: Member<'_>) -> bool {
    text(phase).is_none_or(|phase| phase == "ended")
}

fn is_in_progress(status: &str) -> bool {
    matches!(status, "running" | "queued" | "scheduled" | "not_running")
}

// === impl Step ===

impl<'a> Step<'a> {
    fn of_v3(execution: i64, step: &'a RawValue) -> Self {
        let [name, kind, number, outcome, exit_code, command, started_at, ended_at] = members(
            Some(step),
            ["name", "type", "num", "outcome", "exit_code", "command", "started_at", "ended_at"],
        );
        let [background] = members(Some(step), ["background"]);
        Self {
            execution,
            number: integer(number),
            rerun: None,
            name: text(name),
            kind: text(kind),
            outcome: text(outcome),
            exit_code: integer(exit_code),
            is_background: flag(background),
            command: text(command),
            started_at: time(started_at),
            ended_at: time(ended_at),
        }
    }

    /// Reads an action. `group` is the name of its step, for actions without one.
    fn of_v1_1(group: Member<'a>, action: &'a RawValue) -> Self {
        let [name, kind, index, number, rerun, status, exit_code] = members(
            Some(action),
            ["name", "type", "index", "step", "auto_rerun_number", "status", "exit_code"],
        );
        let [command, background, started_at, ended_at] =
            members(Some(action), ["bash_command", "background", "start_time", "end_time"]);
        let flags = ["infrastructure_fail", "timedout", "failed"];
        let raised = flags.into_iter().zip(members(Some(action), flags));
        let mut raised = raised.filter(|(_, member)| flag(*member) == Some(true));
        Self {
            execution: integer(index).unwrap_or_default(),
            number: integer(number),
            rerun: integer(rerun),
            name: text(name).or_else(|| text(group)),
            kind: text(kind),
            outcome: text(status).or_else(|| raised.next().map(|(word, _)| Cow::Borrowed(word))),
            exit_code: integer(exit_code),
            is_background: flag(background),
            command: text(command),
            started_at: time(started_at),
            ended_at: time(ended_at),
        }
    }
}
