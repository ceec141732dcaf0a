//! `spanrelay demo`: its arguments; what it does is not merged here yet.

use std::process::ExitCode;

use crate::config::terminal::Terminal;

/// Arguments of `spanrelay demo`: there are none.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {}

pub(crate) fn run(_args: &DemoArgs, _terminal: &Terminal) -> ExitCode {
    super::complain("spanrelay demo: not available in this build");
    ExitCode::FAILURE
}
