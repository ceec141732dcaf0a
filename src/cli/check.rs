//! `spanrelay check`: how the relay would handle these bytes, without a server and without a collector.
//!
//! In: a file or standard input, as a sender would post it.
//! Out: line by line accepted, repaired or rejected; the resulting traces; or all of it as one JSON document.
//! Exit code: 0 all accepted, 1 some not, 2 nothing could be read.
//! Left to others: reading (the receivers) and matching (the processor); this module writes their results.

mod input;

pub(super) mod offline;

mod findings;

mod excerpt;

mod text;

mod document;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::config::terminal::Terminal;
use crate::receiver::{SOURCES, Source};
use findings::CheckReport;

pub(crate) use excerpt::{Excerpt, Lines};

/// Arguments of `spanrelay check`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = JSON_HELP)]
pub(crate) struct CheckArgs {
    /// The source. By default a webhook is recognized by its members, and anything else is a Fastly batch
    #[arg(long, value_parser = source_parser())]
    pub(crate) from: Option<&'static Source>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Body of a request (default, and for `-`: standard input)
    pub(crate) file: Option<PathBuf>,
}

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Lines, excerpts and waterfalls, for people.
    Text,
    /// One JSON document, for scripts.
    Json,
}

const JSON_HELP: &str = "\
Exit code:
  0  every line was accepted, repaired ones too
  1  some were rejected or ignored
  2  usage, or the file cannot be read

JSON document:
  source      the source, as in --from
  lines[]     line     from 1
              outcome  accepted, repaired, rejected or ignored
              repairs  what was repaired, a list
              column   position of a rejection, in bytes from 1, else null
              reason   why it was rejected or ignored, else null
              mistake  its cause in one word, where known, else null; of several
                       repairs the first
              advice   what to change in the VCL or on the logging endpoint, a list
              A unit that lost a span or log record has an entry for the rest too.
  summary     accepted, repaired, rejected, ignored: units, each counted once
              rejected_items: spans and log records rejected from accepted units
              spans, span_events, log_records: what would be exported
              requests: { traces, logs, metrics }
  requests[]  signal   traces, logs or metrics
              json     the OTLP/JSON request that would be exported";

/// Exit code when everything was accepted.
const ALL_ACCEPTED: u8 = 0;
/// Exit code when some input was not accepted.
const SOME_REJECTED: u8 = 1;
/// Exit code when nothing could be read.
const UNREADABLE: u8 = 2;

/// Runs the command and returns the exit code of the process.
pub(crate) fn run(args: &CheckArgs, terminal: &Terminal) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match check(args, terminal, &mut out) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            super::print_error(format_args!("spanrelay check: {error}"));
            ExitCode::from(UNREADABLE)
        }
    }
}

fn check(args: &CheckArgs, terminal: &Terminal, out: &mut impl Write) -> Result<u8, CheckError> {
    let body = input::read(args.file.as_deref())?;
    let source = args.from.unwrap_or_else(|| input::guess(&body));
    let report = CheckReport::new(source, offline::relay_offline(source, &body));
    let written = match args.format {
        Format::Text => text::write(&report, &body, terminal, out),
        Format::Json => document::write(&report, out),
    };
    match written.and_then(|()| out.flush()) {
        Ok(()) => {}
        // The reader has seen enough, as in `| head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => return Err(CheckError::Write(error)),
    }
    Ok(if report.all_accepted() { ALL_ACCEPTED } else { SOME_REJECTED })
}

/// The reason why there is no result.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Input(#[from] input::InputError),
    #[error("cannot write the result: {0}")]
    Write(io::Error),
}

/// Returns the sources that can be checked.
pub(crate) fn sources() -> impl Iterator<Item = &'static Source> {
    SOURCES.iter().filter(|source| source.check.is_some())
}

fn source_parser() -> impl TypedValueParser<Value = &'static Source> {
    PossibleValuesParser::new(sources().map(Source::name)).map(|name| {
        sources().find(|source| source.name() == name).expect("the name is one of the possible values")
    })
}

#[cfg(test)]
mod tests;
