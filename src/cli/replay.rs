//! `spanrelay replay`: puts the lines of a rejected-lines file through the relay again.
//!
//! In: a file that the relay wrote, and the relay's configuration. Out: requests to the running relay, each with the
//! token or the signature that its receiver asks for, and a count of what became of them. What is rejected again is in
//! the relay's file again.
//! Leaves to others: the format of the file ([`crate::rejected`]); what an entry means (the receivers).

mod plan;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ::http::{Method, StatusCode};
use serde_json::Value;

use self::plan::{Plan, Post};
use super::SourceArgs;
use super::http::{Client, Reply, reachable};
use crate::config::{Config, Sources};

/// Arguments of `spanrelay replay`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The relay must be running: the configuration says where it listens, and what its receivers ask for.\n\n\
    Exit codes: 0 all of it was accepted, 1 some was not, 2 bad usage or a file that cannot be read."
)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// Where the relay is, when not where its configuration says
    #[arg(long, value_name = "HOST:PORT")]
    to: Option<SocketAddr>,
    /// A rejected-lines file, such as spanrelay-data/rejected.ndjson
    file: PathBuf,
}

/// What became of the entries.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    accepted: usize,
    rejected: usize,
    /// Neither, with the reason.
    failures: Vec<String>,
}

/// Runs the command and answers with the exit code of the process.
pub(super) fn run(args: ReplayArgs) -> ExitCode {
    // An entry that was torn may end in the middle of a character.
    let text = match std::fs::read(&args.file) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            super::print_error(format_args!("spanrelay: cannot read {}: {error}", args.file.display()));
            return ExitCode::from(super::USAGE);
        }
    };
    let config = match Config::load(&Sources::from(args.sources)) {
        Ok(loaded) => loaded.config,
        Err(problems) => {
            super::print_error(problems);
            return ExitCode::FAILURE;
        }
    };
    let address = args.to.unwrap_or_else(|| reachable(config.server.endpoint));
    let plan = Plan::new(&config, &text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(replay(plan, &Client::new(address))),
        Err(error) => {
            super::print_error(format_args!("spanrelay: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = super::print(&outcome.told(&args.file, address));
    if outcome.is_complete() { code } else { ExitCode::FAILURE }
}

async fn replay(plan: Plan, client: &Client) -> Outcome {
    let mut outcome = Outcome { failures: plan.unusable, ..Outcome::default() };
    for Post { path, headers, body, entries } in plan.posts {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        match client.send(Method::POST, &path, &headers, body).await {
            Ok(reply) => outcome.count(&path, entries, &reply),
            Err(error) => outcome.failures.push(error.to_string()),
        }
    }
    outcome
}

// === impl Outcome ===

impl Outcome {
    fn count(&mut self, path: &str, entries: usize, reply: &Reply) {
        // The report counts lines; an entry is one of them.
        let rejected = || {
            let report: Option<Value> = serde_json::from_str(&reply.body).ok();
            let count = report.and_then(|report| usize::try_from(report.get("rejected")?.as_u64()?).ok());
            count.unwrap_or(entries).min(entries)
        };
        match reply.status {
            StatusCode::OK if reply.body.contains("\"rejected\"") => {
                self.rejected += rejected();
                self.accepted += entries - rejected();
            }
            StatusCode::OK | StatusCode::NO_CONTENT => self.accepted += entries,
            StatusCode::BAD_REQUEST | StatusCode::ACCEPTED => self.rejected += entries,
            status => self.failures.push(format!("{path} answered {status}: {}", reply.body)),
        }
    }

    fn is_complete(&self) -> bool {
        self.rejected == 0 && self.failures.is_empty()
    }

    fn told(&self, file: &Path, address: SocketAddr) -> String {
        const MAX_FAILURES: usize = 20;
        let Self { accepted, rejected, failures } = self;
        let mut text = format!(
            "{} to {address}: {accepted} accepted, {rejected} rejected again, {} not replayed\n",
            file.display(),
            failures.len()
        );
        for failure in failures.iter().take(MAX_FAILURES) {
            writeln!(text, "  {failure}").expect("writing to a string cannot fail");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status: StatusCode::from_u16(status).unwrap(), body: body.to_owned() }
    }

    #[test]
    fn every_entry_is_counted_as_what_became_of_it() {
        let mut outcome = Outcome::default();
        outcome.count("/fastly", 3, &reply(204, ""));
        outcome.count("/fastly", 3, &reply(200, r#"{"accepted":2,"rejected":1,"errors":[]}"#));
        outcome.count("/fastly", 2, &reply(400, r#"{"reason":"none","accepted":0,"rejected":2}"#));
        outcome.count("/v1/traces", 1, &reply(200, "{}"));
        assert_eq!(outcome, Outcome { accepted: 6, rejected: 3, failures: Vec::new() });
        outcome.count("/fastly", 3, &reply(503, r#"{"reason":"the queue is full"}"#));
        assert_eq!(
            outcome.failures,
            [r#"/fastly answered 503 Service Unavailable: {"reason":"the queue is full"}"#]
        );
        assert!(!outcome.is_complete());
    }

    #[test]
    fn a_relay_that_listens_everywhere_is_reached_on_this_machine() {
        for (endpoint, expected) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("10.0.0.1:80", "10.0.0.1:80")]
        {
            assert_eq!(reachable(endpoint.parse().unwrap()), expected.parse().unwrap());
        }
    }
}
