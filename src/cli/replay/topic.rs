//! `spanrelay replay --from-topic`: the entries of the dead-letter topic.
//!
//! In: batches of entries. Out: a report for each batch. Promises: a batch is committed once all of it was sent, so that an
//! interrupted run is repeated from its last batch; what is rejected again is in the topic again, for the next run.

use std::process::ExitCode;

use super::super::http::reachable;
use super::entries::Entries;
use super::report::ReplayReport;
use super::{ReplayArgs, replay_on_a_runtime};
use crate::config::{Config, Sources};
use crate::queue::{DeadLetterEntry, DeadLetterReader};
use crate::receiver::RECEIVERS;
use crate::rejected::Entry;

/// Runs the command and returns the exit code of the process.
pub(super) fn run(args: ReplayArgs) -> ExitCode {
    let to = args.to;
    let config = match Config::load(&Sources::from(args.sources), RECEIVERS) {
        Ok(loaded) => loaded.config,
        Err(problems) => {
            super::super::print_error(problems);
            return ExitCode::FAILURE;
        }
    };
    let address = to.unwrap_or_else(|| reachable(config.server.endpoint));
    let mut is_complete = true;
    let replayed = each_batch(&config, |lines| {
        let report = replay_on_a_runtime(Entries::new(lines), config.clone(), address)?;
        super::super::print(&report.text("dead-letter topic", address));
        is_complete &= report.is_complete();
        Ok(report)
    });
    if let Err(error) = replayed {
        super::super::print_error(format_args!("spanrelay: {error}"));
        return ExitCode::FAILURE;
    }
    if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Replays one batch after the other until one of them was not sent.
fn each_batch(
    config: &Config,
    mut replay: impl FnMut(&[u8]) -> Result<ReplayReport, Box<dyn std::error::Error>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let Some(kafka) = config.queue.shared() else {
        return Err("queue.storage is not kafka, so that there is no dead-letter topic".into());
    };
    let mut reader = DeadLetterReader::open(kafka)?;
    let mut batch = reader.next_batch()?;
    // An empty topic has a report, too.
    loop {
        let report = replay(&lines(&batch))?;
        if batch.is_empty() || !report.is_sent() {
            return Ok(());
        }
        reader.commit()?;
        batch = reader.next_batch()?;
        if batch.is_empty() {
            return Ok(());
        }
    }
}

fn lines(batch: &[DeadLetterEntry]) -> Vec<u8> {
    batch.iter().flat_map(|(headers, value)| Entry::line_of_dead_letter(headers, value)).collect()
}
