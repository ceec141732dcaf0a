//! Logs: structured lines on stderr, without secrets of senders or operators.
//!
//! In: the `telemetry.logs` configuration. Out: one subscriber for the process.
//! Left to callers: which events to log. Bodies, header values and signatures are never logged.

use std::error::Error;
use std::fmt;
use std::io::IsTerminal;
use std::panic::{self, PanicHookInfo};
use std::time::Instant;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber, error};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt as lines};

use super::LineLimit;
use crate::config::{LogFormat, LogsConfig};

/// Dependencies whose `info` lines are about their internals.
const NOISY: [&str; 6] = ["h2", "hyper", "hyper_util", "hyper_rustls", "rustls", "tower"];

/// Starts the logs of the process. A second call has no effect.
pub(crate) fn init(config: &LogsConfig) {
    let subscriber = subscriber(config, std::io::stderr, LogTarget::of_stderr());
    // The only error is that a subscriber is already set.
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        tracing::debug!("logs are already started");
    }
}

/// Logs panics from now on, with their location. The message is logged only when it is a constant of the program: a
/// message formatted at run time can contain a sender's data.
pub(crate) fn log_panics() {
    panic::set_hook(Box::new(log_panic));
}

/// Returns an error and all its causes, formatted as one line.
pub(crate) fn chain<'a>(error: &'a (dyn Error + 'static)) -> Chain<'a> {
    Chain(error)
}

/// Formats an error with all its causes, each once.
#[derive(Debug)]
pub(crate) struct Chain<'a>(&'a (dyn Error + 'static));

/// Reader of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogTarget {
    Terminal,
    File,
}

// === impl LogTarget ===

impl LogTarget {
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
            // Some errors include their cause in their own text.
            if !shown.ends_with(&text) {
                write!(f, ": {text}")?;
                shown = text;
            }
            next = cause.source();
        }
        Ok(())
    }
}

fn subscriber<W>(config: &LogsConfig, writer: W, to: LogTarget) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let mut layer = lines::layer().with_writer(writer);
    // On a terminal the default applies: colours, unless NO_COLOR is set.
    if to == LogTarget::File {
        layer = layer.with_ansi(false);
    }
    let layer = match config.format {
        LogFormat::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => layer.boxed(),
    };
    Registry::default().with(layer.with_filter(filter(config.level)))
}

fn filter(level: Level) -> Targets {
    // At `trace` these crates log frames, with their contents.
    let below = if level >= Level::DEBUG { Level::DEBUG } else { level.min(Level::WARN) };
    Targets::new()
        .with_default(LevelFilter::from_level(level))
        .with_targets(NOISY.map(|target| (target, LevelFilter::from_level(below))))
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    // Input that causes a panic may be sent repeatedly.
    static LINES: LineLimit = LineLimit::new(10);
    let Some(suppressed) = LINES.admit(Instant::now()) else { return };
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("not shown");
    error!(location, message, suppressed = suppressed.shown(), "panicked");
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, OnceLock};

    use tracing::subscriber::{DefaultGuard, set_default};
    use tracing::{Dispatch, debug, info, trace, warn};

    use super::*;

    /// Lines that were logged on this thread since the capture started.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn start(level: Level, format: LogFormat) -> (Self, DefaultGuard) {
            // With a single dispatcher, tracing asks only the one of the thread that first reaches a line, and caches
            // for all threads that the line is disabled if that thread has none. With two, it asks both.
            static SECOND: OnceLock<Dispatch> = OnceLock::new();
            SECOND.get_or_init(|| Dispatch::new(Registry::default().with(LevelFilter::OFF)));
            let captured = Self::default();
            let writer = captured.clone();
            let config = LogsConfig { level, format };
            let guard = set_default(subscriber(&config, move || writer.clone(), LogTarget::File));
            (captured, guard)
        }

        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Said {
        said: &'static str,
        #[source]
        source: Option<Box<Said>>,
    }

    fn said(said: &'static str, source: Option<Said>) -> Said {
        Said { said, source: source.map(Box::new) }
    }

    #[test]
    fn a_chain_shows_every_cause_once() {
        let causes = said("could not connect", Some(said("io error: refused", Some(said("refused", None)))));
        assert_eq!(chain(&causes).to_string(), "could not connect: io error: refused");
        let causes = said("could not append", Some(said("disk is full", None)));
        assert_eq!(chain(&causes).to_string(), "could not append: disk is full");
    }

    #[test]
    fn lines_below_the_level_are_hidden() {
        let (captured, _guard) = Captured::start(Level::INFO, LogFormat::Text);
        debug!("hidden");
        info!(lines = 3, "shown");
        assert!(captured.text().ends_with("shown lines=3\n"), "{}", captured.text());
        assert_eq!(captured.text().lines().count(), 1);
    }

    #[test]
    fn json_is_one_object_per_line() {
        let (captured, _guard) = Captured::start(Level::INFO, LogFormat::Json);
        info!(lines = 3, "accepted");
        let line: serde_json::Value = serde_json::from_str(&captured.text()).unwrap();
        assert_eq!((&line["message"], &line["lines"]), (&"accepted".into(), &3.into()));
    }

    #[test]
    fn libraries_log_only_warnings_unless_the_level_is_debug_and_never_trace() {
        let say = || {
            warn!(target: "hyper::proto", "warning");
            info!(target: "rustls", "information");
            debug!(target: "h2::codec", "detail");
            trace!(target: "h2::codec", "frame");
        };
        let words = |level| {
            let (captured, _guard) = Captured::start(level, LogFormat::Text);
            say();
            let text = captured.text();
            text.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(words(Level::ERROR), [""; 0]);
        assert_eq!(words(Level::INFO), ["warning"]);
        assert_eq!(words(Level::TRACE), ["warning", "information", "detail"]);
    }

    #[test]
    fn starting_the_logs_twice_is_not_an_error() {
        let config = LogsConfig { level: Level::ERROR, format: LogFormat::Text };
        init(&config);
        init(&config);
    }
}
