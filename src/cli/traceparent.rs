//! `spanrelay traceparent`: prints the response of the `/traceparent` route for jobs that cannot reach the relay.
//!
//! Promises: standard output holds that line or nothing, because a shell executes it.

use std::process::ExitCode;

use super::USAGE;
use crate::receiver::circleci;

const EXAMPLE: &str = "\
In a step of a CircleCI job:
  eval \"$(spanrelay traceparent \"$CIRCLE_WORKFLOW_ID\" \"$CIRCLE_WORKFLOW_JOB_ID\")\"";

/// Arguments of `spanrelay traceparent`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct TraceparentArgs {
    /// UUID of the workflow
    #[arg(value_name = "WORKFLOW_ID")]
    workflow: String,
    /// UUID of the job
    #[arg(value_name = "JOB_ID")]
    job: String,
}

/// Runs the command and returns the exit code of the process.
pub(super) fn run(args: &TraceparentArgs) -> ExitCode {
    match circleci::traceparent(&args.workflow, &args.job) {
        Some(line) => super::print(&line),
        None => {
            super::print_error(
                "spanrelay traceparent: WORKFLOW_ID and JOB_ID must be two different UUIDs and not all zero",
            );
            ExitCode::from(USAGE)
        }
    }
}
