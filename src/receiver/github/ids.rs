//! Ids of spans, computed from GitHub's ids, and the line that passes them to a running job.
//!
//! In: the ids of runs and jobs, attempts and step numbers. Out: trace and span ids, and the `TRACEPARENT` of a job.
//! Promises: equal ids give equal results in every release; the line contains only digits that were computed, because a
//! shell executes it.
//!
//! Each span has a name, and its id is the first 8 bytes of the name's SHA-256. The trace id is the first 16 bytes of the
//! SHA-256 of the run's name.
//!
//! | span | name |
//! |---|---|
//! | run | `github/{run_id}/{run_attempt}` |
//! | job | `github/{run_id}/{run_attempt}/{job_id}` |
//! | time in the queue | `github/{run_id}/{run_attempt}/{job_id}/queued` |
//! | step | `github/{run_id}/{run_attempt}/{job_id}/{step_number}` |
//! | ping | `github/ping/{delivery_id}` |

use std::fmt;

use sha2::{Digest, Sha256};

use crate::otlp::{SpanId, TraceId};
use crate::receiver::webhook::traceparent_line;

/// Ids of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
}

/// An attempt of a workflow run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunId {
    pub(super) id: Number,
    pub(super) attempt: Number,
}

/// A job of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JobId {
    pub(super) run: RunId,
    pub(super) id: Number,
}

/// An id or a number that counts from 1, as GitHub uses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(i64);

/// Returns the line for what runs inside a job, from `{run_id}/{run_attempt}/{job_id}`.
pub(super) fn traceparent(ids: &str) -> Option<String> {
    let mut parts = ids.split('/').map(Number::parse);
    let (run, attempt, job) = (parts.next()??, parts.next()??, parts.next()??);
    let job = JobId { run: RunId { id: run, attempt }, id: job };
    let Ids { trace, span } = job.ids()?;
    parts.next().is_none().then(|| traceparent_line(trace, span))
}

/// Returns the ids of a ping, from the id of its delivery or of its webhook.
pub(super) fn of_ping(id: impl fmt::Display) -> Option<Ids> {
    root(&format!("github/ping/{id}"))
}

/// Returns the ids of the root span with this name.
fn root(name: &str) -> Option<Ids> {
    Some(Ids { trace: TraceId::new(*Sha256::digest(name).first_chunk()?)?, span: span(name)? })
}

/// Returns the id of the span with this name.
fn span(name: &str) -> Option<SpanId> {
    SpanId::new(*Sha256::digest(name).first_chunk()?)
}

// === impl RunId ===

impl RunId {
    pub(super) fn ids(self) -> Option<Ids> {
        root(&self.to_string())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "github/{}/{}", self.id, self.attempt)
    }
}

// === impl JobId ===

impl JobId {
    pub(super) fn ids(self) -> Option<Ids> {
        self.ids_of(&self.to_string())
    }

    /// Returns the ids of the job's time in the queue.
    pub(super) fn queued(self) -> Option<Ids> {
        self.ids_of(&format!("{self}/queued"))
    }

    /// Returns the ids of a step.
    pub(super) fn step(self, number: impl fmt::Display) -> Option<Ids> {
        self.ids_of(&format!("{self}/{number}"))
    }

    fn ids_of(self, name: &str) -> Option<Ids> {
        Some(Ids { trace: self.run.ids()?.trace, span: span(name)? })
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.run, self.id)
    }
}

// === impl Number ===

impl Number {
    pub(super) const ONE: Self = Self(1);

    /// Returns the number, if it counts from 1.
    pub(super) fn new(number: i64) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }

    /// Reads a number in the only form in which GitHub writes it.
    fn parse(written: &str) -> Option<Self> {
        let number = Self::new(written.parse().ok()?)?;
        (number.to_string() == written).then_some(number)
    }

    pub(super) fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agrees_with_what_sha256sum_prints() {
        // printf github/9000000001/2/31 | sha256sum, and so on.
        let line = traceparent("9000000001/2/31").unwrap();
        assert_eq!(line, "export TRACEPARENT=00-c0937d8925cd5ffff416783ccb187806-e33be765717f97ed-01\n");
    }

    #[test]
    fn only_three_numbers_as_github_writes_them_make_a_line() {
        for bad in [
            "",
            "1",
            "1/1",
            "1/1/",
            "/1/1/1",
            "1/1/1/",
            "1/1/1/1",
            "0/1/1",
            "1/0/1",
            "1/1/0",
            "01/1/1",
            "+1/1/1",
            "-1/1/1",
            "1.0/1/1",
            " 1/1/1",
            "1/1/1 ",
            "1/1/1\n",
            "1//1",
            "a/1/1",
            "1/1/0x1",
            "٣/1/1",
            "9223372036854775808/1/1",
            "$(id)/1/1",
            "1/1/%31",
        ] {
            assert_eq!(traceparent(bad), None, "{bad:?}");
        }
        assert!(traceparent("9223372036854775807/1/1").is_some());
    }

    #[test]
    fn every_span_of_a_trace_has_an_id_of_its_own() {
        let number = |number| Number::new(number).unwrap();
        let mut ids = Vec::new();
        for (run, attempt, job) in [(1, 1, 1), (1, 1, 11), (1, 11, 1), (11, 1, 1), (1, 2, 1)] {
            let run = RunId { id: number(run), attempt: number(attempt) };
            let job = JobId { run, id: number(job) };
            assert_eq!(job.ids().unwrap().trace, run.ids().unwrap().trace);
            ids.extend([job.ids(), job.queued(), job.step(1), job.step(2)].map(|ids| ids.unwrap().span));
            ids.push(run.ids().unwrap().span);
        }
        ids.sort_by_key(ToString::to_string);
        // Two of the jobs belong to one run.
        ids.dedup();
        assert_eq!(ids.len(), 5 * 5 - 1);
    }

    proptest! {
        #[test]
        fn a_line_repeats_nothing_of_its_path(ids in ".{0,60}") {
            prop_assert_eq!(traceparent(&ids), None);
        }

        #[test]
        fn any_numbers_give_a_line_of_the_fixed_form(run in 1i64.., attempt in 1i64.., job in 1i64..) {
            let line = traceparent(&format!("{run}/{attempt}/{job}")).unwrap();
            let (trace, span) = line.strip_prefix("export TRACEPARENT=00-").unwrap().split_once('-').unwrap();
            let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            prop_assert!(trace.len() == 32 && is_hex(trace));
            let span = span.strip_suffix("-01\n").unwrap();
            prop_assert!(span.len() == 16 && is_hex(span));
        }
    }
}
