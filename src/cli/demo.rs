//! `spanrelay demo`: the whole way once, in one process, in a few seconds.
//!
//! In:  nothing. Out: what was posted, what the relay answered, and the traces that a collector got of it.
//! Promises: what is shown was really posted over HTTP, to a relay like any other; nothing leaves the machine and
//! nothing stays on it.
//! Leaves to others: everything that a relay does ([`crate::app::App`]), drawing ([`super::waterfall`]).

mod script;

mod stage;

mod collector;

mod tell;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use ::http::{Method, StatusCode};
use bytes::Bytes;
use jiff::Timestamp;

use crate::cli::http::{Client, HttpError, Reply};
use crate::config::terminal::Terminal;
use collector::Collector;
use script::Script;
use stage::{Stage, StageError};

/// Arguments of `spanrelay demo`: there are none.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {}

/// How long the traces may take to arrive: many times what they need on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);
/// What shells report for a process that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Why the demonstration could not be shown to its end.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error("the built-in collector cannot start: {0}")]
    Collector(io::Error),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the relay answered {status} to {what}, where {expected} was due: {body}")]
    Answer { what: &'static str, status: StatusCode, expected: StatusCode, body: String },
    #[error("after {} s the collector still had not got {}", patience.as_secs(), missing.join(", "))]
    Missing { missing: Vec<String>, patience: Duration },
    #[error("interrupted")]
    Interrupted,
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Runs the command and answers with the exit code of the process. Must not be called from async code: it brings
/// its own runtime.
pub(crate) fn run(_args: &DemoArgs, terminal: &Terminal) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&DemoError::Runtime(error)),
    };
    match runtime.block_on(demonstrate(terminal, &mut io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough (`| head`).
        Err(DemoError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(DemoError::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => fail(&error),
    }
}

fn fail(error: &DemoError) -> ExitCode {
    super::complain(format_args!("spanrelay demo: {error}"));
    ExitCode::FAILURE
}

/// Sets the stage, plays on it, and clears it however the play ended.
async fn demonstrate(terminal: &Terminal, out: &mut impl Write) -> Result<(), DemoError> {
    let collector = Collector::start().await.map_err(DemoError::Collector)?;
    let stage = Stage::set(collector.address()).await?;
    let relay = Client::new(stage.relay_address());
    tell::opening(stage.relay_address(), collector.address(), terminal, out)?;
    let (curtain, fallen) = tokio::sync::oneshot::channel::<()>();
    let play = async {
        let played = play(&relay, &collector, PATIENCE, terminal, out).await;
        drop(curtain);
        played
    };
    let both = async { tokio::join!(play, stage.run_until(async { drop(fallen.await) })).0 };
    tokio::select! {
        played = both => played,
        // Without it the process would end before the stage is cleared.
        Ok(()) = tokio::signal::ctrl_c() => Err(DemoError::Interrupted),
    }
}

async fn play(
    relay: &Client,
    collector: &Collector,
    patience: Duration,
    terminal: &Terminal,
    out: &mut impl Write,
) -> Result<(), DemoError> {
    let script = Script::ending_at(Timestamp::now());
    challenge(relay, terminal, out).await?;
    batch(relay, &script, terminal, out).await?;
    webhooks(relay, &script, terminal, out).await?;

    let received = collector.wait_for(|kept| script.missing(&kept.requests).is_empty(), patience).await;
    tell::received(&received, terminal, out)?;
    let missing = script.missing(&received);
    if !missing.is_empty() {
        return Err(DemoError::Missing { missing, patience });
    }
    tell::what_next(terminal, out)?;
    Ok(())
}

async fn challenge(relay: &Client, terminal: &Terminal, out: &mut impl Write) -> Result<(), DemoError> {
    const PATH: &str = "/.well-known/fastly/logging/challenge";
    let reply = relay.send(Method::GET, PATH, &[], Bytes::new()).await?;
    tell::challenge(PATH, &reply, terminal, out)?;
    due("the challenge", reply, StatusCode::OK).map(drop)
}

async fn batch(
    relay: &Client,
    script: &Script,
    terminal: &Terminal,
    out: &mut impl Write,
) -> Result<(), DemoError> {
    // Fastly lets its users choose any content type; this is what most of them leave it at.
    let headers = [("content-type", "text/plain")];
    let reply = relay.send(Method::POST, stage::FASTLY_PATH, &headers, script.batch.clone()).await?;
    tell::batch(&script.batch, &reply, terminal, out)?;
    due("the Fastly batch", reply, StatusCode::OK).map(drop)
}

async fn webhooks(
    relay: &Client,
    script: &Script,
    terminal: &Terminal,
    out: &mut impl Write,
) -> Result<(), DemoError> {
    tell::webhooks(script.webhooks.len(), terminal, out)?;
    for webhook in &script.webhooks {
        let headers = [
            ("content-type", "application/json"),
            ("circleci-event-type", webhook.event.as_str()),
            ("circleci-signature", webhook.signature.as_str()),
        ];
        let reply = relay.send(Method::POST, stage::CIRCLECI_PATH, &headers, webhook.body.clone()).await?;
        tell::webhook(webhook, &reply, terminal, out)?;
        due("a webhook", reply, StatusCode::NO_CONTENT)?;
    }
    Ok(())
}

fn due(what: &'static str, reply: Reply, expected: StatusCode) -> Result<Reply, DemoError> {
    if reply.status == expected {
        Ok(reply)
    } else {
        let Reply { status, body, .. } = reply;
        Err(DemoError::Answer { what, status, expected, body })
    }
}

#[cfg(test)]
mod tests;
