//! Ids of spans, derived from CircleCI's UUIDs, and the line that passes them to a running job.
//!
//! In: UUIDs as CircleCI writes them. Out: trace and span ids, and the `TRACEPARENT` of a job.
//! Promises: a pure function of the UUIDs, so that a redelivered event, a restarted relay and the job itself agree; a
//! UUID that would result in an invalid id (all zero, or its first eight bytes zero) has no ids; the line contains only
//! hexadecimal digits of the parsed UUIDs, because a shell executes it.
//!
//! The mapping is circleci-hook's, for users with an existing `TRACEPARENT` setup: the trace id is the workflow's UUID,
//! the span id is the first eight bytes of the UUID of the workflow or the job.

use uuid::Uuid;

use crate::otlp::{SpanId, TraceId};
use crate::receiver::webhook::traceparent_line;

/// The ids of a job's span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JobIds {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    /// Id of the workflow's span.
    pub(super) parent: SpanId,
}

/// Returns the line for programs inside the job. `None` when either id is not a UUID with valid ids.
pub(crate) fn traceparent(workflow: &str, job: &str) -> Option<String> {
    let JobIds { trace, span, .. } = job_ids(workflow, job)?;
    Some(traceparent_line(trace, span))
}

/// Returns the trace id of a workflow's UUID, and the id of its root span.
pub(super) fn root_ids(uuid: &str) -> Option<(TraceId, SpanId)> {
    let uuid = parse(uuid)?.into_bytes();
    let (first, _) = uuid.split_first_chunk().expect("a UUID has 16 bytes");
    Some((TraceId::new(uuid)?, SpanId::new(*first)?))
}

/// Returns the ids of a job. A job that would be its own parent has none.
pub(super) fn job_ids(workflow: &str, job: &str) -> Option<JobIds> {
    let (trace, parent) = root_ids(workflow)?;
    let (_, span) = root_ids(job)?;
    (span != parent).then_some(JobIds { trace, span, parent })
}

/// Parses 32 hexadecimal digits of either case, with hyphens in the usual positions or without any. The crate would
/// also accept braces and `urn:uuid:`; CircleCI writes neither.
pub(super) fn parse(uuid: &str) -> Option<Uuid> {
    matches!(uuid.len(), 32 | 36).then(|| Uuid::try_parse(uuid).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKFLOW: &str = "cedf175c-c537-49f8-9b5c-95892f0b2407";
    const JOB: &str = "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34";
    const LINE: &str = "export TRACEPARENT=00-cedf175cc53749f89b5c95892f0b2407-3f6a7c4a0bb6463a-01\n";

    #[test]
    fn matches_the_line_of_circleci_hook() {
        assert_eq!(traceparent(WORKFLOW, JOB).as_deref(), Some(LINE));
    }

    #[test]
    fn accepts_upper_case_and_missing_hyphens_and_writes_lower_case() {
        assert_eq!(traceparent(&WORKFLOW.to_uppercase(), &JOB.to_uppercase()).as_deref(), Some(LINE));
        assert_eq!(traceparent(&WORKFLOW.replace('-', ""), &JOB.replace('-', "")).as_deref(), Some(LINE));
    }

    #[test]
    fn rejects_everything_but_uuids_with_valid_ids() {
        for bad in [
            "",
            "x",
            "00000000-0000-0000-0000-000000000000",
            "00000000000000000000000000000000",
            "00000000-0000-0000-9b5c-95892f0b2407",
            "cedf175c-c537-49f8-9b5c-95892f0b240",
            "cedf175c-c537-49f8-9b5c-95892f0b24077",
            "cedf175cc-537-49f8-9b5c-95892f0b2407",
            "gedf175c-c537-49f8-9b5c-95892f0b2407",
            "{cedf175c-c537-49f8-9b5c-95892f0b2407}",
            "{cedf175cc53749f89b5c95892f0b2407}",
            "urn:uuid:cedf175c-c537-49f8-9b5c-95892f0b2407",
            "$(touch /tmp/x)-c537-49f8-9b5c-95892f0b24",
            "cedf175c-c537-49f8-9b5c-95892f0b2407\n",
            "cedf175c-c537-49f8-9b5c-95892f0b2é",
        ] {
            assert_eq!(traceparent(bad, JOB), None, "{bad}");
            assert_eq!(traceparent(WORKFLOW, bad), None, "{bad}");
        }
    }

    #[test]
    fn a_job_is_never_its_own_parent() {
        assert_eq!(traceparent(WORKFLOW, WORKFLOW), None);
    }

    proptest::proptest! {
        #[test]
        fn echoes_nothing(workflow in ".{0,40}", job in ".{0,40}") {
            proptest::prop_assert_eq!(traceparent(&workflow, JOB), None);
            proptest::prop_assert_eq!(traceparent(WORKFLOW, &job), None);
        }

        #[test]
        fn any_two_uuids_give_a_line_of_the_fixed_form(workflow in 1u128 << 64.., job in 1u128 << 64..) {
            proptest::prop_assume!(workflow >> 64 != job >> 64);
            let line = traceparent(&Uuid::from_u128(workflow).to_string(), &format!("{job:032x}")).unwrap();
            let expected = format!("export TRACEPARENT=00-{workflow:032x}-{:016x}-01\n", job >> 64);
            proptest::prop_assert_eq!(line, expected);
        }
    }
}
