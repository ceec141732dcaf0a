//! The command line: what the program was asked to do.
//!
//! In: arguments. Out: an exit code. Each command is a module of its own; this one knows their names and what they
//! share. Nothing here panics because a reader has gone: writing to a closed pipe ends the command, and quietly.

mod run;

mod validate;

mod traceparent;

mod replay;

mod health;

pub(crate) mod check;

pub(crate) mod demo;

mod waterfall;

mod http;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::config::terminal::Terminal;
use crate::config::{Environment, Sources};
use check::CheckArgs;
use demo::DemoArgs;
use replay::ReplayArgs;
use traceparent::TraceparentArgs;
use validate::ValidateArgs;

/// The arguments are wrong.
const USAGE: u8 = 2;

const ABOUT: &str = "Relay proxy in front of an OpenTelemetry Collector";

// Paragraphs are one line each: the terminal says where they are wrapped.
const LONG_ABOUT: &str = "\
Relay proxy in front of an OpenTelemetry Collector. It takes Fastly real-time log batches and CircleCI webhooks, \
turns log events into span events on the spans that they belong to, and forwards OTLP/HTTP.

Without a command it runs the relay, as `run` does. `spanrelay demo` shows what it does, without any set-up.";

const CONFIGURATION_HELP: &str = "\
Without --config the file is what SPANRELAY_CONFIG names. Without that, a built-in configuration applies: everything \
on loopback, a Collector at http://localhost:4318, and on top of it these environment variables: PORT, \
CIRCLECI_HOOK_SECRET, CIRCLECI_HOOK_SERVICE, CIRCLECI_OTLP_*, FASTLY_SERVICE_IDS, OTEL_HTTP_COLLECTOR_URL and \
OTEL_EXPORTER_OTLP_*.";

const RUN_HELP: &str = "\
SIGTERM and SIGINT drain: requests under way are finished and what is held is delivered. A second signal exits at once.

Exit codes: 0 drained, 64 bad configuration, 1 could not start, 2 bad usage.";

#[derive(Debug, Parser)]
#[command(name = "spanrelay", version, about = ABOUT, long_about = LONG_ABOUT)]
#[command(after_long_help = CONFIGURATION_HELP, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    sources: SourceArgs,
    /// Ask the relay that runs with this configuration whether it takes data
    #[arg(long, hide = true)]
    health: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay; this is what no command does too
    #[command(after_help = RUN_HELP, after_long_help = format!("{CONFIGURATION_HELP}\n\n{RUN_HELP}"))]
    Run(SourceArgs),
    /// Check the configuration and list every problem in it
    #[command(after_long_help = CONFIGURATION_HELP)]
    Validate(ValidateArgs),
    /// Say what the relay would make of a request, without a server or a collector
    Check(CheckArgs),
    /// Print the line that makes a CircleCI job's own spans children of its span
    Traceparent(TraceparentArgs),
    /// Resubmit rejected input: to the relay what it rejected, to the downstream what that refused
    #[command(after_long_help = CONFIGURATION_HELP)]
    Replay(ReplayArgs),
    /// Show what the relay does: post sample logs and webhooks through it, and draw the traces
    Demo(DemoArgs),
}

/// Where the configuration comes from.
#[derive(Debug, Clone, clap::Args)]
struct SourceArgs {
    /// The configuration file, YAML
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override one key, such as exporters.otlp_http.timeout=3s; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// What clap does not say of options that stand before a command.
const BEHIND: &str =
    "tip: put --config and --set behind the command, as in: spanrelay validate --set KEY=VALUE";

/// The program: reads the arguments and runs the command that they name.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no failure. A reader that has gone is none either.
            let code = if error.use_stderr() { USAGE } else { 0 };
            error.print().ok();
            if error.kind() == ErrorKind::ArgumentConflict {
                complain(BEHIND);
            }
            return ExitCode::from(code);
        }
    };
    match cli.command {
        None if cli.health => health::run(&cli.sources.into()),
        None => run::run(&cli.sources.into()),
        Some(Command::Run(sources)) => run::run(&sources.into()),
        Some(Command::Validate(args)) => validate::run(args),
        Some(Command::Check(args)) => check::run(&args, &Terminal::of_stdout()),
        Some(Command::Traceparent(args)) => traceparent::run(&args),
        Some(Command::Replay(args)) => replay::run(args),
        Some(Command::Demo(args)) => demo::run(&args, &Terminal::of_stdout()),
    }
}

/// Writes to standard output. A reader that has gone has seen enough; any other error is one.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!("spanrelay: cannot write to standard output: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Writes a line to standard error. When that is closed, nobody is left to tell.
fn complain(what: impl Display) {
    writeln!(io::stderr(), "{what}").ok();
}

// === impl SourceArgs ===

impl From<SourceArgs> for Sources {
    fn from(SourceArgs { config, set }: SourceArgs) -> Self {
        Self { file: config, set, environment: Environment::of_process() }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["spanrelay"], arguments].concat())
    }

    fn sources_of_run(arguments: &[&str]) -> (Option<PathBuf>, Vec<String>) {
        let cli = parse(arguments).unwrap_or_else(|error| panic!("{error}"));
        let sources = match cli.command {
            None => cli.sources,
            Some(Command::Run(sources)) => sources,
            Some(other) => panic!("{other:?}"),
        };
        (sources.config, sources.set)
    }

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_may_be_left_out() {
        let arguments = ["--config", "x.yaml", "--set", "a=1", "--set", "b=[1, 2]"];
        let expected = (Some(PathBuf::from("x.yaml")), vec!["a=1".to_owned(), "b=[1, 2]".to_owned()]);
        assert_eq!(sources_of_run(&arguments), expected);
        assert_eq!(sources_of_run(&[&["run"], arguments.as_slice()].concat()), expected);
        assert_eq!(sources_of_run(&[]), (None, Vec::new()));
    }

    #[test]
    fn validate_takes_the_same_sources_and_print() {
        let cli = parse(&["validate", "--set", "a=1", "--print", "--config", "x"]).unwrap();
        let Some(Command::Validate(args)) = cli.command else { panic!("not validate") };
        assert!(args.print && args.sources.config.is_some() && args.sources.set == ["a=1"]);
    }

    #[test]
    fn what_is_not_an_argument_is_a_usage_error() {
        for arguments in [
            ["--frobnicate"].as_slice(),
            &["run", "--frobnicate"],
            &["validate", "extra"],
            &["frobnicate"],
            &["traceparent", "only-one"],
            &["check", "--from", "nowhere"],
            &["demo", "extra"],
            &["replay"],
            &["--config"],
            &["--config", "x", "validate"],
            &["--health", "run"],
        ] {
            let error = parse(arguments).expect_err("a usage error");
            assert!(error.use_stderr() && error.exit_code() == i32::from(USAGE), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn every_command_has_help_and_help_is_no_error() {
        let commands = ["run", "validate", "check", "traceparent", "replay", "demo"];
        for arguments in
            commands.iter().map(|command| vec![*command, "--help"]).chain([vec!["--help"], vec!["--version"]])
        {
            let error = parse(&arguments).expect_err("help ends the parsing");
            assert!(!error.use_stderr(), "{arguments:?}: {error}");
        }
        let help = Cli::command().render_help().to_string();
        assert!(commands.iter().all(|command| help.contains(command)), "{help}");
    }
}
