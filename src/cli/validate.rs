//! `spanrelay validate`: checks the configuration without running anything.
//!
//! Out: exit code 0 for a valid configuration; else every problem, and exit code 1. As text, problems and notes are lines on standard
//! error; with `--format json`, both are one object on standard output. Certificate files are read as at a start. `--connect`
//! sends an empty export request to each endpoint, and tries the APIs of receivers and the brokers of a shared queue. `--print` writes the effective configuration to standard output, secrets
//! redacted. Notes are likely mistakes; with `--deny-warnings` they fail the validation.

use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::SourceArgs;
use crate::app::{unusable_files, wall_clock};
use crate::config::{Config, Loaded, Sources};
use crate::event::Signal;
use crate::exporter::Resender;
use crate::receiver::RECEIVERS;
use crate::steps::{Tried, try_apis};
use crate::telemetry::logging::chain;

/// Arguments of `spanrelay validate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 valid configuration, 1 invalid configuration, 2 invalid arguments.")]
pub(super) struct ValidateArgs {
    #[command(flatten)]
    pub(super) sources: SourceArgs,
    /// Print the effective configuration as YAML, secrets redacted
    #[arg(long, conflicts_with = "format")]
    pub(super) print: bool,
    /// Also send an empty export request to each endpoint of the exporter, and try the brokers of queue.kafka and the token of
    /// receivers.circleci.api
    #[arg(long)]
    pub(super) connect: bool,
    /// Fail if there are notes: likely mistakes in a configuration that is valid
    #[arg(long)]
    pub(super) deny_warnings: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t = ValidateFormat::Text)]
    pub(super) format: ValidateFormat,
}

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ValidateFormat {
    Text,
    Json,
}

/// Result of the validation.
#[derive(Debug, Default)]
struct Findings {
    /// Problems as text, and as objects for programs.
    problems: Vec<(String, Value)>,
    notes: Vec<String>,
}

/// Runs the command and returns the exit code of the process.
pub(super) fn run(args: ValidateArgs) -> ExitCode {
    let ValidateArgs { sources, print, connect, deny_warnings, format } = args;
    let (config, findings) = findings(&Sources::from(sources), connect);
    let is_valid = findings.problems.is_empty() && (!deny_warnings || findings.notes.is_empty());
    let written = match (format, config) {
        (ValidateFormat::Json, _) => super::print(&findings.to_json(is_valid)),
        (ValidateFormat::Text, config) => {
            findings.notes.iter().for_each(|note| super::print_error(format_args!("note: {note}")));
            findings.problems.iter().for_each(|(problem, _)| super::print_error(problem));
            match config {
                Some(config) if is_valid && print => super::print(&config.to_yaml()),
                Some(_) if is_valid => super::print("the configuration is valid\n"),
                _ => ExitCode::FAILURE,
            }
        }
    };
    if is_valid { written } else { ExitCode::FAILURE }
}

fn findings(sources: &Sources, connect: bool) -> (Option<Config>, Findings) {
    let mut findings = Findings::default();
    let config = match Config::load(sources, RECEIVERS) {
        Ok(Loaded { config, notes, .. }) => {
            findings.notes = notes;
            config
        }
        Err(error) => {
            let lines = error.to_string();
            findings.problems = lines.lines().map(str::to_owned).zip(error.to_json()).collect();
            return (None, findings);
        }
    };
    unusable_files(&config).into_iter().for_each(|problem| findings.problem(problem));
    if connect && findings.problems.is_empty() {
        findings.connect(&config);
        findings.try_apis(&config);
        unreachable(config.clone()).into_iter().for_each(|problem| findings.problem(problem));
    }
    (Some(config), findings)
}

// === impl Findings ===

impl Findings {
    fn problem(&mut self, message: String) {
        let described = json!({ "source": null, "line": null, "key": null, "message": message });
        self.problems.push((message, described));
    }

    /// Tries the endpoint of each signal. One that does not accept logs or metrics is only noted, because they may never come.
    fn connect(&mut self, config: &Config) {
        let tried = Resender::new(&config.exporters.otlp_http, wall_clock)
            .map_err(|error| chain(&error).to_string())
            .and_then(|exporter| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| error.to_string())?;
                Ok(Signal::ALL.map(|signal| (signal, runtime.block_on(exporter.probe(signal)))))
            });
        let results = match tried {
            Ok(results) => results,
            Err(problem) => return self.problem(problem),
        };
        let section = config.exporters.otlp_http.protocol.section();
        let traces_fail = results.iter().any(|(signal, result)| *signal == Signal::Traces && result.is_err());
        for (signal, result) in results {
            let Err(reason) = result else { continue };
            let message = format!("{section}: {signal}: {reason}");
            if signal == Signal::Traces || traces_fail {
                self.problem(message);
            } else {
                self.notes.push(message);
            }
        }
    }

    /// Tries the APIs that receivers look up steps in.
    fn try_apis(&mut self, config: &Config) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let tried = match runtime {
            Ok(runtime) => runtime.block_on(try_apis(config, wall_clock)),
            Err(error) => return self.problem(error.to_string()),
        };
        for tried in tried {
            match tried {
                Tried::Works => {}
                Tried::Fails(problem) => self.problem(problem),
                Tried::Unclear(note) => self.notes.push(note),
            }
        }
    }

    fn to_json(&self, is_valid: bool) -> String {
        let problems: Vec<&Value> = self.problems.iter().map(|(_, described)| described).collect();
        format!("{:#}\n", json!({ "valid": is_valid, "problems": problems, "notes": self.notes }))
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
