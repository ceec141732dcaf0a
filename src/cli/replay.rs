//! `spanrelay replay`: resubmits the entries of a rejected-lines file.
//!
//! In: a file that the relay wrote, and the relay's configuration. Out: one request for each entry, to its original
//! destination, and a report of the outcomes. Input that a receiver rejected goes to the running relay, with the token
//! or signature that the receiver requires; an export that the downstream rejected is complete, and goes to the
//! downstream.
//! Promises: entries share only the connection, so that none can affect another; every entry of the file is in the
//! report, with its line unless it was accepted; an interrupted run lists the rest.
//! Left to others: the format of the file ([`crate::rejected`]), the meaning of an entry (the receivers).

mod entries;

mod plan;

mod report;

mod sender;

#[cfg(feature = "kafka")]
mod topic;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Take};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use self::entries::Entries;
use self::report::ReplayReport;
use self::sender::EntrySender;
use super::SourceArgs;
use super::http::reachable;
use crate::config::{Config, Sources};
use crate::receiver::RECEIVERS;

/// Maximum number of entries in flight.
const CONCURRENCY: usize = 32;

/// Arguments of `spanrelay replay`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Input that a receiver rejected goes to the running relay: the configuration has its address, tokens and secrets. \
    Exports that the downstream rejected go to exporters.otlp_http. Move the file away first: entries that are rejected \
    again are appended to the relay's file. With --from-topic a run begins where the last one ended.\n\n\
    Exit codes: 0 all accepted, 1 some not, 2 bad usage or an unreadable file."
)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// Relay address (default: server.endpoint)
    #[arg(long, value_name = "HOST:PORT")]
    to: Option<SocketAddr>,
    /// Read queue.kafka.dead_letter_topic in place of a file
    #[arg(long, conflicts_with = "file")]
    from_topic: bool,
    /// A rejected-lines file, such as spanrelay-data/rejected.ndjson
    #[arg(required_unless_present = "from_topic")]
    file: Option<PathBuf>,
}

/// Runs the command and returns the exit code of the process.
pub(super) fn run(args: ReplayArgs) -> ExitCode {
    let Some(path) = args.file else { return replay_topic(args) };
    let entries = match open(&path) {
        Ok(file) => Entries::new(BufReader::new(file)),
        Err(error) => {
            super::print_error(format_args!("spanrelay: cannot read {}: {error}", path.display()));
            return ExitCode::from(super::USAGE);
        }
    };
    let config = match Config::load(&Sources::from(args.sources), RECEIVERS) {
        Ok(loaded) => loaded.config,
        Err(problems) => {
            super::print_error(problems);
            return ExitCode::FAILURE;
        }
    };
    let address = args.to.unwrap_or_else(|| reachable(config.server.endpoint));
    let report = match replay_on_a_runtime(entries, config, address) {
        Ok(report) => report,
        Err(error) => {
            super::print_error(format_args!("spanrelay: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = super::print(&report.text(path.display(), address));
    if report.is_complete() { code } else { ExitCode::FAILURE }
}

#[cfg(feature = "kafka")]
fn replay_topic(args: ReplayArgs) -> ExitCode {
    topic::run(args)
}

#[cfg(not(feature = "kafka"))]
fn replay_topic(_: ReplayArgs) -> ExitCode {
    super::print_error("spanrelay: this program was built without Kafka, and has no dead-letter topic");
    ExitCode::FAILURE
}

/// Opens the file with its current length, because the relay may append entries that are rejected again.
fn open(path: &Path) -> io::Result<Take<File>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let limit = if metadata.is_file() { metadata.len() } else { u64::MAX };
    Ok(file.take(limit))
}

fn replay_on_a_runtime(
    entries: Entries<impl BufRead>,
    config: Config,
    address: SocketAddr,
) -> Result<ReplayReport, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let sender = EntrySender::new(config, address)?;
        Ok(replay(entries, &sender).await)
    })
}

/// Sends the entries, several at a time, until the last one or an interrupt.
async fn replay(mut entries: Entries<impl BufRead>, sender: &EntrySender) -> ReplayReport {
    let mut report = ReplayReport::default();
    let mut under_way = BTreeSet::new();
    let mut sending = FuturesUnordered::new();
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        while sending.len() < CONCURRENCY
            && let Some((line, entry)) = entries.next()
        {
            under_way.insert(line);
            sending.push(async move { (line, sender.send(entry).await) });
        }
        tokio::select! {
            sent = sending.next() => match sent {
                Some((line, resent)) => {
                    under_way.remove(&line);
                    report.add(line, resent);
                }
                None => return report,
            },
            Ok(()) = interrupt.as_mut() => {
                report.interrupted(under_way, entries.next_line());
                return report;
            }
        }
    }
}
