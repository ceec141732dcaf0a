//! `spanrelay completions`: prints the completion script of a shell.
//!
//! In: the definitions of the arguments. Out: a script on standard output, which packages install and users source.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;

const EXAMPLES: &str = "\
For the running bash:
  source <(spanrelay completions bash)
For every zsh, in a folder of its $fpath:
  spanrelay completions zsh > \"${fpath[1]}/_spanrelay\"";

/// Arguments of `spanrelay completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CompletionsArgs {
    /// Shell that runs the script
    shell: Shell,
}

/// Runs the command and returns the exit code of the process.
pub(super) fn run(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "spanrelay", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}
