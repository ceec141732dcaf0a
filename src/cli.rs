//! The command line: parses the arguments and runs the command that they name.
//!
//! In: arguments. Out: an exit code. Each command has a module of its own; this module holds their names and what they
//! share. A closed pipe on standard output ends a command quietly instead of with a panic.

mod run;

mod service;

mod watch;

mod validate;

mod traceparent;

mod replay;

mod health;

pub(crate) mod check;

pub(crate) mod demo;

mod completions;

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
use crate::receiver::RECEIVERS;
use check::CheckArgs;
use completions::CompletionsArgs;
use demo::DemoArgs;
use replay::ReplayArgs;
use traceparent::TraceparentArgs;
use validate::ValidateArgs;

/// Version, and the commit where the build knows it.
const VERSION: &str = env!("SPANRELAY_VERSION");

/// Exit code for invalid arguments.
const USAGE: u8 = 2;

const ABOUT: &str = "Relay proxy in front of an OpenTelemetry Collector";

// One line per paragraph, because clap wraps paragraphs to the width of the terminal.
const LONG_ABOUT: &str = "\
Relay proxy in front of an OpenTelemetry Collector. It accepts Fastly real-time log batches and webhooks of CI services, \
attaches log events to the spans that they belong to, and forwards OTLP/HTTP.

Without a command it runs the relay, like `run`. `spanrelay demo` shows the relay at work; it needs no setup.";

const CONFIGURATION_HELP: &str = "\
Without --config, the file named by SPANRELAY_CONFIG is used. Without either, a built-in configuration applies: \
everything on loopback, a Collector at http://localhost:4318, overridden by these environment variables: PORT, \
CIRCLECI_HOOK_SECRET, CIRCLECI_HOOK_SERVICE, CIRCLECI_OTLP_*, FASTLY_SERVICE_IDS, OTEL_HTTP_COLLECTOR_URL and \
OTEL_EXPORTER_OTLP_*.";

const RUN_HELP: &str = "\
SIGTERM and SIGINT drain: requests in progress are finished and held spans are exported. A second signal, more than a second later, exits at once.

Exit codes: 0 drained, 64 invalid configuration, 1 could not start, 2 invalid arguments.";

#[derive(Debug, Parser)]
#[command(name = "spanrelay", version = VERSION, about = ABOUT, long_about = LONG_ABOUT)]
#[command(after_long_help = CONFIGURATION_HELP, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    sources: SourceArgs,
    /// Query the health of the relay that runs with this configuration
    #[arg(long, hide = true)]
    health: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay (default)
    #[command(after_help = RUN_HELP, after_long_help = format!("{CONFIGURATION_HELP}\n\n{RUN_HELP}"))]
    Run(SourceArgs),
    /// Check the configuration and list every problem in it
    #[command(after_long_help = CONFIGURATION_HELP)]
    Validate(ValidateArgs),
    /// Dry-run: show how the relay would handle a request body
    Check(CheckArgs),
    /// Print the `export TRACEPARENT=…` line that parents a job's steps to its span
    Traceparent(TraceparentArgs),
    /// Resubmit rejected input to a running relay, and rejected exports to the downstream
    #[command(after_long_help = CONFIGURATION_HELP)]
    Replay(ReplayArgs),
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    /// Post sample logs and webhooks through a relay and draw the resulting traces
    Demo(DemoArgs),
}

/// Sources of the configuration.
#[derive(Debug, Clone, clap::Args)]
struct SourceArgs {
    /// Configuration file (YAML); several are merged, later ones win
    #[arg(short, long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Override one key, such as exporters.otlp_http.timeout=3s; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Hint for options that precede a subcommand, which clap rejects without one.
const OPTIONS_FOLLOW_COMMAND: &str =
    "tip: put --config and --set after the subcommand, as in: spanrelay validate --set KEY=VALUE";

/// Parses the arguments and runs the command that they name.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are not failures; nor is a closed pipe.
            let code = if error.use_stderr() { USAGE } else { 0 };
            error.print().ok();
            if error.kind() == ErrorKind::ArgumentConflict {
                print_error(OPTIONS_FOLLOW_COMMAND);
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
        Some(Command::Schema) => print(&crate::config::schema(RECEIVERS)),
        Some(Command::Completions(args)) => completions::run(&args),
        Some(Command::Demo(args)) => demo::run(&args, &Terminal::of_stdout()),
    }
}

/// Writes to standard output. A closed pipe is a success, any other error a failure.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            print_error(format_args!("spanrelay: cannot write to standard output: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Writes a line to standard error, and ignores errors: there is nowhere else to report them.
fn print_error(message: impl Display) {
    writeln!(io::stderr(), "{message}").ok();
}

// === impl SourceArgs ===

impl From<SourceArgs> for Sources {
    fn from(SourceArgs { config, set }: SourceArgs) -> Self {
        Self { files: config, set, environment: Environment::of_process() }
    }
}

#[cfg(test)]
mod tests {
    mod manual;

    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["spanrelay"], arguments].concat())
    }

    fn sources_of_run(arguments: &[&str]) -> (Vec<PathBuf>, Vec<String>) {
        let cli = parse(arguments).unwrap_or_else(|error| panic!("{error}"));
        let sources = match cli.command {
            None => cli.sources,
            Some(Command::Run(sources)) => sources,
            Some(other) => panic!("{other:?}"),
        };
        (sources.config, sources.set)
    }

    #[test]
    fn the_argument_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_the_default_command() {
        let arguments = ["--config", "x.yaml", "--set", "a=1", "-c", "y.yaml", "--set", "b=[1, 2]"];
        let expected = (
            vec![PathBuf::from("x.yaml"), PathBuf::from("y.yaml")],
            vec!["a=1".to_owned(), "b=[1, 2]".to_owned()],
        );
        assert_eq!(sources_of_run(&arguments), expected);
        assert_eq!(sources_of_run(&[&["run"], arguments.as_slice()].concat()), expected);
        assert_eq!(sources_of_run(&[]), (Vec::new(), Vec::new()));
    }

    #[test]
    fn validate_accepts_the_same_sources_and_print() {
        let cli = parse(&["validate", "--set", "a=1", "--print", "--config", "x"]).unwrap();
        let Some(Command::Validate(args)) = cli.command else { panic!("not validate") };
        assert!(args.print && args.sources.config.len() == 1 && args.sources.set == ["a=1"]);
    }

    #[test]
    fn unknown_arguments_are_a_usage_error() {
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
    fn every_command_has_help_and_help_is_not_an_error() {
        let commands = ["run", "validate", "check", "traceparent", "replay", "schema", "completions", "demo"];
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
