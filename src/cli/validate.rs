//! `spanrelay validate`: checks the configuration without running anything.
//!
//! Out: exit code 0 for a valid configuration; else every problem on standard error, one per line, and exit code 1.
//! Certificate files are read as at a start. `--print` writes the effective configuration to standard output, secrets
//! redacted. `--connect` also tries the brokers of a shared queue. Notes go to standard error; with `--deny-warnings` they fail the validation.

use std::process::ExitCode;

use super::SourceArgs;
use crate::app::unusable_files;
use crate::config::{Config, Loaded, Sources};
use crate::receiver::RECEIVERS;

/// Arguments of `spanrelay validate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 valid configuration, 1 invalid configuration, 2 invalid arguments.")]
pub(super) struct ValidateArgs {
    #[command(flatten)]
    pub(super) sources: SourceArgs,
    /// Print the effective configuration as YAML, secrets redacted
    #[arg(long)]
    pub(super) print: bool,
    /// Fail if there are notes: likely mistakes in a configuration that is valid
    #[arg(long)]
    pub(super) deny_warnings: bool,
    /// Also try the brokers of queue.kafka, with the credentials, and check the topic
    #[arg(long)]
    pub(super) connect: bool,
}

/// Runs the command and returns the exit code of the process.
pub(super) fn run(args: ValidateArgs) -> ExitCode {
    let sources = Sources::from(args.sources);
    match Config::load(&sources, RECEIVERS) {
        Ok(Loaded { config, notes }) => {
            for note in &notes {
                super::print_error(format_args!("note: {note}"));
            }
            let mut unusable = unusable_files(&config);
            if args.connect {
                unusable.extend(unreachable(config.clone()));
            }
            if !unusable.is_empty() {
                super::print_error(unusable.join("\n"));
            }
            if !unusable.is_empty() || (args.deny_warnings && !notes.is_empty()) {
                return ExitCode::FAILURE;
            }
            let text = if args.print { config.to_yaml() } else { "the configuration is valid\n".to_owned() };
            super::print(&text)
        }
        Err(problems) => {
            super::print_error(problems);
            ExitCode::FAILURE
        }
    }
}

/// Returns the reason that the brokers cannot be used.
#[cfg(feature = "kafka")]
fn unreachable(config: Config) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(crate::app::unreachable(&config)),
        Err(error) => Some(error.to_string()),
    }
}

/// A build without Kafka has no brokers to try.
#[cfg(not(feature = "kafka"))]
fn unreachable(_: Config) -> Option<String> {
    None
}
