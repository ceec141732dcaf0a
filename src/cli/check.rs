//! `spanrelay check`: its arguments; what it does is not merged here yet.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::terminal::Terminal;

/// Arguments of `spanrelay check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Who sent it
    #[arg(long, value_enum)]
    pub(crate) from: Option<Source>,
    /// How to write the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// The body of a request; `-` or nothing is standard input
    pub(crate) file: Option<PathBuf>,
}

/// Whose words the input is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Source {
    Fastly,
    #[value(name = "circleci")]
    CircleCi,
}

/// For whom the result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

pub(crate) fn run(_args: &CheckArgs, _terminal: &Terminal) -> ExitCode {
    super::complain("spanrelay check: not available in this build");
    ExitCode::from(super::USAGE)
}
