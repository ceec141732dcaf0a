//! `spanrelay demo`: runs sample requests through a relay and a small collector, in one process, in a few seconds.
//!
//! In:  nothing. Out: the requests, the relay's responses, and the traces that the collector received.
//! Promises: everything shown was posted over HTTP to an ordinary relay; nothing leaves the machine and nothing stays
//! on it.
//! Leaves to others: everything that a relay does ([`crate::app::App`]), drawing ([`super::waterfall`]).

mod script;

mod relay;

mod collector;

mod output;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use ::http::{Method, StatusCode};
use bytes::Bytes;
use jiff::Timestamp;

use crate::cli::http::{Client, HttpError, HttpReply};
use crate::config::terminal::Terminal;
use collector::Collector;
use relay::{DemoRelay, RelayError};
use script::Script;

/// Arguments of `spanrelay demo`, which has none.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {}

/// Timeout for the arrival of the traces: many times what they need on a busy machine.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(15);
/// Exit code that shells report for a process that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Reason that the demonstration did not complete.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    #[error(transparent)]
    DemoRelay(#[from] RelayError),
    #[error("the built-in collector cannot start: {0}")]
    Collector(io::Error),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the relay responded to {request} with {status} instead of {expected}: {body}")]
    Response { request: &'static str, status: StatusCode, expected: StatusCode, body: String },
    #[error("the collector did not receive within {} s: {}", timeout.as_secs(), missing.join(", "))]
    Missing { missing: Vec<String>, timeout: Duration },
    #[error("interrupted")]
    Interrupted,
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Runs the command and returns the exit code of the process. Must not be called from async code: it creates its own
/// runtime.
pub(crate) fn run(_args: &DemoArgs, terminal: &Terminal) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&DemoError::Runtime(error)),
    };
    match runtime.block_on(demonstrate(terminal, &mut io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader closed the pipe (`| head`).
        Err(DemoError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(DemoError::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => fail(&error),
    }
}

fn fail(error: &DemoError) -> ExitCode {
    super::print_error(format_args!("spanrelay demo: {error}"));
    ExitCode::FAILURE
}

/// Starts collector and relay, runs the script, and cleans up however the script ended.
async fn demonstrate(terminal: &Terminal, out: &mut impl Write) -> Result<(), DemoError> {
    let collector = Collector::start().await.map_err(DemoError::Collector)?;
    let demo_relay = DemoRelay::bind(collector.address()).await?;
    let relay = Client::new(demo_relay.address());
    output::opening(demo_relay.address(), collector.address(), terminal, out)?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let script = async {
        let run = run_script(&relay, &collector, ARRIVAL_TIMEOUT, terminal, out).await;
        drop(stop);
        run
    };
    let both = async { tokio::join!(script, demo_relay.run_until(async { drop(stopped.await) })).0 };
    tokio::select! {
        run = both => run,
        // The default handler would end the process before the temporary directory is removed.
        Ok(()) = tokio::signal::ctrl_c() => Err(DemoError::Interrupted),
    }
}

async fn run_script(
    relay: &Client,
    collector: &Collector,
    timeout: Duration,
    terminal: &Terminal,
    out: &mut impl Write,
) -> Result<(), DemoError> {
    let script = Script::ending_at(Timestamp::now());
    challenge(relay, terminal, out).await?;
    batch(relay, &script, terminal, out).await?;
    webhooks(relay, &script, terminal, out).await?;

    let received = collector.wait_for(|kept| script.missing(&kept.requests).is_empty(), timeout).await;
    output::received(&received, terminal, out)?;
    let missing = script.missing(&received);
    if !missing.is_empty() {
        return Err(DemoError::Missing { missing, timeout });
    }
    output::next_steps(terminal, out)?;
    Ok(())
}

async fn challenge(relay: &Client, terminal: &Terminal, out: &mut impl Write) -> Result<(), DemoError> {
    const PATH: &str = "/.well-known/fastly/logging/challenge";
    let reply = relay.send(Method::GET, PATH, &[], Bytes::new()).await?;
    output::challenge(PATH, &reply, terminal, out)?;
    expect("the challenge", reply, StatusCode::OK).map(drop)
}

async fn batch(
    relay: &Client,
    script: &Script,
    terminal: &Terminal,
    out: &mut impl Write,
) -> Result<(), DemoError> {
    // Fastly's default; users can configure any content type.
    let headers = [("content-type", "text/plain")];
    let reply = relay.send(Method::POST, relay::FASTLY_PATH, &headers, script.batch.clone()).await?;
    output::batch(&script.batch, &reply, terminal, out)?;
    expect("the Fastly batch", reply, StatusCode::OK).map(drop)
}

async fn webhooks(
    relay: &Client,
    script: &Script,
    terminal: &Terminal,
    out: &mut impl Write,
) -> Result<(), DemoError> {
    output::webhooks(script.webhooks.len(), terminal, out)?;
    for webhook in &script.webhooks {
        let headers = [
            ("content-type", "application/json"),
            ("circleci-event-type", webhook.event.as_str()),
            ("circleci-signature", webhook.signature.as_str()),
        ];
        let reply = relay.send(Method::POST, relay::CIRCLECI_PATH, &headers, webhook.body.clone()).await?;
        output::webhook(webhook, &reply, terminal, out)?;
        expect("a webhook", reply, StatusCode::NO_CONTENT)?;
    }
    Ok(())
}

fn expect(request: &'static str, reply: HttpReply, expected: StatusCode) -> Result<HttpReply, DemoError> {
    if reply.status == expected {
        Ok(reply)
    } else {
        let HttpReply { status, body, .. } = reply;
        Err(DemoError::Response { request, status, expected, body })
    }
}

#[cfg(test)]
mod tests;
