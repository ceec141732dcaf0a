//! Superseding events: those of a workflow that was cancelled while jobs were running.

use std::time::Duration;

use super::traceparent;
use super::webhook::{WORKFLOW_COMPLETED, Webhook};
use crate::receiver::{Supersede, SupersedeKey};

/// `workflow.status` of a cancelled workflow.
const CANCELED: &str = "canceled";

/// Returns the rule by which an event supersedes others of its workflow. `None` with a `settle` of zero, or for events
/// of another kind.
///
/// The event with the later end wins, because the span has that end; `happened_at` decides between equal ends. The
/// order of arrival does not matter, because CircleCI does not guarantee it.
pub(super) fn supersede(webhook: &Webhook<'_>, receiver: &str, settle: Duration) -> Option<Supersede> {
    let Webhook { event, workflow, happened_at, .. } = webhook;
    if settle.is_zero() || *event != WORKFLOW_COMPLETED {
        return None;
    }
    let (trace_id, _) = traceparent::root_ids(workflow.id.as_deref()?)?;
    let ended = workflow.stopped_at.or(*happened_at).unwrap_or_default();
    Some(Supersede {
        event: *event,
        key: SupersedeKey { receiver: receiver.to_owned(), trace_id },
        rank: (ended, happened_at.unwrap_or_default()),
        hold: settle,
        begins_hold: workflow.status.as_deref() == Some(CANCELED),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::webhook::payload::repair;

    const SETTLE: Duration = Duration::from_secs(60);

    fn of(kind: &str, members: &str, settle: Duration) -> Option<Supersede> {
        let body = format!(
            r#"{{"type":"{kind}","id":"1","happened_at":"2026-03-02T09:00:50Z","workflow":{{"id":"cedf175c-c537-49f8-9b5c-95892f0b2407"{members}}}}}"#
        );
        supersede(&Webhook::read(&repair(body.as_bytes())).unwrap(), "circleci", settle)
    }

    #[test]
    fn only_a_cancelled_workflow_is_held_and_any_later_end_supersedes_it() {
        let kind = "workflow-completed";
        let first = of(kind, r#","status":"canceled","stopped_at":"2026-03-02T09:00:10Z""#, SETTLE).unwrap();
        let later = of(kind, r#","status":"canceled","stopped_at":"2026-03-02T09:00:45Z""#, SETTLE).unwrap();
        let without_end = of(kind, r#","status":"failed","stopped_at":null"#, SETTLE).unwrap();
        assert!(first.key == later.key && first.key == without_end.key);
        assert!(first.rank < later.rank && later.rank < without_end.rank);
        assert_eq!([&first, &later, &without_end].map(|one| one.begins_hold), [true, true, false]);
        assert_eq!(first.hold, SETTLE);
    }

    #[test]
    fn jobs_and_a_settle_of_zero_supersede_nothing() {
        assert_eq!(of("job-completed", r#","status":"canceled""#, SETTLE), None);
        assert_eq!(of("workflow-completed", r#","status":"canceled""#, Duration::ZERO), None);
    }
}
