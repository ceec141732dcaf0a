//! Ids of the spans that the API's description of a job results in.
//!
//! In: the UUID of the job, and which of its spans it is. Out: a span id.
//! Promises: equal input gives equal ids in every release, so that a redelivered event results in the same spans; the id of a step
//! with a number does not depend on the API that described it.
//!
//! Each span has a name, and its id is the first 8 bytes of the name's SHA-256.
//!
//! | span | name |
//! |---|---|
//! | time before the job was queued | `circleci/{job}/waiting` |
//! | time in the queue | `circleci/{job}/queued` |
//! | step | `circleci/{job}/{execution}/{number}` |
//! | step without a number | `circleci/{job}/{execution}/@{position}`, the position in the response, from 1 |
//! | automatic rerun of a step | the name of the step and `/rerun/{rerun}` |
//! | further step with the same name | the name and `/{occurrence}`, from 2 |

use std::collections::HashMap;
use std::fmt::Display;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::job_details::Step;
use crate::otlp::SpanId;

/// Ids of the spans of one job.
#[derive(Debug)]
pub(super) struct StepIds {
    job: Uuid,
    /// Number of steps so far with each name.
    seen: HashMap<String, u32>,
    position: usize,
}

// === impl StepIds ===

impl StepIds {
    pub(super) fn new(job: Uuid) -> Self {
        Self { job, seen: HashMap::new(), position: 0 }
    }

    /// Returns the id of a span of the job that is not a step.
    pub(super) fn named(&self, what: impl Display) -> Option<SpanId> {
        span_id(&format!("circleci/{}/{what}", self.job))
    }

    /// Returns the id of the next step, in the order of the response.
    pub(super) fn next(&mut self, step: &Step<'_>) -> Option<SpanId> {
        self.position += 1;
        let number = match step.number {
            Some(number) => number.to_string(),
            None => format!("@{}", self.position),
        };
        let mut name = format!("{}/{number}", step.execution);
        if let Some(rerun) = step.rerun.filter(|rerun| *rerun != 0) {
            name = format!("{name}/rerun/{rerun}");
        }
        let occurrence = self.seen.entry(name.clone()).or_default();
        *occurrence += 1;
        if *occurrence > 1 {
            name = format!("{name}/{occurrence}");
        }
        self.named(name)
    }
}

fn span_id(name: &str) -> Option<SpanId> {
    SpanId::new(*Sha256::digest(name).first_chunk()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: Uuid = Uuid::from_u128(0x3f6a_7c4a_0bb6_463a_bd0c_3d5e_0b1b_1d34);

    fn step(execution: i64, number: Option<i64>, rerun: Option<i64>) -> Step<'static> {
        Step {
            execution,
            number,
            rerun,
            name: None,
            kind: None,
            outcome: None,
            exit_code: None,
            is_background: None,
            command: None,
            started_at: None,
            ended_at: None,
        }
    }

    #[test]
    fn agrees_with_what_sha256sum_prints() {
        // printf circleci/3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34/0/103 | sha256sum, and so on.
        let mut ids = StepIds::new(JOB);
        assert_eq!(ids.named("queued").unwrap().to_string(), "6b693645da87d6d3");
        assert_eq!(ids.next(&step(0, Some(103), None)).unwrap().to_string(), "75fb25e94f9848cf");
    }

    #[test]
    fn executions_steps_reruns_and_repetitions_have_ids_of_their_own() {
        let mut ids = StepIds::new(JOB);
        let steps = [
            (0, Some(101), None),
            (0, Some(101), Some(1)),
            (0, Some(101), Some(2)),
            (0, Some(101), None),
            (0, Some(101), Some(0)),
            (1, Some(101), None),
            (0, Some(102), None),
            (0, None, None),
            (0, None, None),
        ];
        let made = steps.map(|(execution, number, rerun)| ids.next(&step(execution, number, rerun)));
        let mut all: Vec<String> =
            made.into_iter().chain([ids.named("queued")]).map(|id| id.unwrap().to_string()).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        let mut again = StepIds::new(JOB);
        assert_eq!(again.next(&step(0, Some(101), None)), made[0]);
        let mut of_another_job = StepIds::new(Uuid::from_u128(1));
        assert_ne!(of_another_job.next(&step(0, Some(101), None)), made[0]);
    }
}
