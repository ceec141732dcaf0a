//! Logs: structured, on stderr, with nothing in them that a sender or an operator keeps secret.
//!
//! In: the `telemetry.logs` configuration. Out: one subscriber for the process.
//! Leaves to others: what is worth a line. Bodies, header values and signatures never are.

use std::error::Error;
use std::fmt;
use std::io::IsTerminal;
use std::panic::{self, PanicHookInfo};

use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber, error};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt as lines};

use crate::config::{LogFormat, LogsConfig};

/// Crates below this one whose `info` is about their insides.
const NOISY: [&str; 6] = ["h2", "hyper", "hyper_util", "hyper_rustls", "rustls", "tower"];

/// Starts the logs of the process. A second call changes nothing.
pub(crate) fn init(config: &LogsConfig) {
    let subscriber = subscriber(config, std::io::stderr, Destination::of_stderr());
    // The only error is that there is one already.
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        tracing::debug!("logs are already started");
    }
}

/// From now on a panic is a log line that says where. What it says is shown only where the program's text says it:
/// a message that was put together at run time can hold a piece of somebody's data.
pub(crate) fn log_panics() {
    panic::set_hook(Box::new(log_panic));
}

/// An error and all its causes, as one line.
pub(crate) fn chain<'a>(error: &'a (dyn Error + 'static)) -> Chain<'a> {
    Chain(error)
}

/// Shows an error with all its causes, each once.
#[derive(Debug)]
pub(crate) struct Chain<'a>(&'a (dyn Error + 'static));

/// Who reads the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destination {
    Terminal,
    File,
}

// === impl Destination ===

impl Destination {
    fn of_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Terminal } else { Self::File }
    }
}

// === impl Chain ===

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.to_string();
        f.write_str(&shown)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            // Some errors repeat their cause in their own words.
            if !shown.ends_with(&text) {
                write!(f, ": {text}")?;
                shown = text;
            }
            next = cause.source();
        }
        Ok(())
    }
}

fn subscriber<W>(config: &LogsConfig, writer: W, to: Destination) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let mut layer = lines::layer().with_writer(writer);
    // On a terminal the default stands: colours, unless NO_COLOR says otherwise.
    if to == Destination::File {
        layer = layer.with_ansi(false);
    }
    let layer = match config.format {
        LogFormat::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => layer.boxed(),
    };
    Registry::default().with(layer.with_filter(filter(config.level)))
}

fn filter(level: Level) -> Targets {
    // Their trace shows frames, and with them what is in them.
    let below = if level >= Level::DEBUG { Level::DEBUG } else { level.min(Level::WARN) };
    Targets::new()
        .with_default(LevelFilter::from_level(level))
        .with_targets(NOISY.map(|target| (target, LevelFilter::from_level(below))))
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("not shown");
    error!(location, message, "panicked");
}
