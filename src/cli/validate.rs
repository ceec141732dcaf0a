//! `spanrelay validate`: the configuration, without running anything.
//!
//! Out: nothing wrong, and exit code 0; or every problem on standard error, one per line, and 1. Certificate files that
//! it names are read too, as a start would. With `--print` the
//! effective configuration on standard output, without secrets. Notes go to standard error and change nothing.

use std::process::ExitCode;

use super::SourceArgs;
use crate::app::unusable_files;
use crate::config::{Config, Loaded, Sources};

/// Arguments of `spanrelay validate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 the configuration can be used, 1 it has problems, 2 bad usage.")]
pub(super) struct ValidateArgs {
    #[command(flatten)]
    pub(super) sources: SourceArgs,
    /// Print the effective configuration as YAML, secrets redacted
    #[arg(long)]
    pub(super) print: bool,
}

/// Runs the command and answers with the exit code of the process.
pub(super) fn run(args: ValidateArgs) -> ExitCode {
    let sources = Sources::from(args.sources);
    match Config::load(&sources) {
        Ok(Loaded { config, notes }) => {
            for note in notes {
                super::complain(format_args!("note: {note}"));
            }
            let unusable = unusable_files(&config);
            if !unusable.is_empty() {
                super::complain(unusable.join("\n"));
                return ExitCode::FAILURE;
            }
            let text = if args.print { config.to_yaml() } else { "the configuration is valid\n".to_owned() };
            super::print(&text)
        }
        Err(problems) => {
            super::complain(problems);
            ExitCode::FAILURE
        }
    }
}
