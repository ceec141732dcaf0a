//! `spanrelay run`: runs the relay, from loading its configuration to the end of its drain.
//!
//! Promises: an invalid configuration starts nothing, and every problem is on standard error; the first SIGTERM or
//! SIGINT drains, one more than a second later exits at once, even while the relay is still starting; SIGHUP, and a
//! changed file of a secret or certificate, reloads the configuration.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::service::ServiceState;
use super::watch::Watch;
use crate::app::{App, StartError, certificate_paths};
use crate::config::{Config, Environment, Loaded, Sources};
use crate::receiver::RECEIVERS;
use crate::telemetry::logging;

/// Exit code for an invalid configuration: `EX_USAGE` of sysexits.h.
const BAD_CONFIGURATION: u8 = 64;

/// Time after the first signal in which further ones are ignored: supervisors and terminals send several at once.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// Offset that shells add to the number of the signal that ended a process.
const ENDED_BY_SIGNAL: i32 = 128;

/// The signals that end the relay.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// Runs the relay until a signal ends it.
pub(super) fn run(sources: &Sources) -> ExitCode {
    let dumps = without_core_dumps();
    let Loaded { config, notes, files } = match Config::load(sources, RECEIVERS) {
        Ok(loaded) => loaded,
        Err(problems) => {
            super::print_error(problems);
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    logging::init(&config.telemetry.logs);
    logging::log_panics();
    if let Err(error) = dumps {
        warn!(%error, "cannot disable core dumps; a crash would write the secrets in memory and environment to disk");
    }
    for note in notes {
        warn!(note, "configuration note");
    }
    without_huge_pages();
    let runtime = match runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return could_not_start(&error),
    };
    let code = runtime.block_on(serve(config, files, sources.clone()));
    // Threads that are still blocked here have had the whole drain time.
    runtime.shutdown_background();
    code
}

/// Disables core dumps. Runs before any secret is read; the environment is part of a core dump too.
fn without_core_dumps() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum })?)
}

/// Disables transparent huge pages, which would round the memory of each body up to a multiple of 2 MiB. Measured with
/// a hundred held bodies of 2.2 MB: 41 MiB of 310.
#[cfg(target_os = "linux")]
fn without_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        debug!(%error, "cannot disable transparent huge pages; memory use may be higher");
    }
}

#[cfg(not(target_os = "linux"))]
fn without_huge_pages() {}

async fn serve(config: Config, mut files: Vec<PathBuf>, sources: Sources) -> ExitCode {
    let environment = sources.environment.clone();
    files.extend(certificate_paths(&config));
    let watch = Watch::new(files).await;
    let (shutdown, configs) = match (Signals::listen(), signal(SignalKind::hangup())) {
        (Ok(signals), Ok(hangup)) => (signals.shutdown(environment.clone()), reloads(hangup, watch, sources)),
        (Err(error), _) | (_, Err(error)) => return could_not_start(&error),
    };
    let app = match App::bind(config).await {
        Ok(app) => app,
        Err(error) => {
            let code = could_not_start(&error);
            // A setting outside of the configuration file is still a setting.
            return if matches!(error, StartError::Refused(_)) {
                ExitCode::from(BAD_CONFIGURATION)
            } else {
                code
            };
        }
    };
    // The ports are bound and the queue is open: connections are accepted from now on.
    ServiceState::Ready.notify(&environment);
    app.run_reloading(shutdown, configs).await;
    ExitCode::SUCCESS
}

/// Returns a channel that yields the configuration after each SIGHUP, and after a change of one of its files; `None` if it is
/// invalid.
fn reloads(mut hangup: Signal, mut watch: Watch, sources: Sources) -> mpsc::Receiver<Option<Config>> {
    let (reload, configs) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = hangup.recv() => watch.refresh().await,
                () = watch.changed() => info!("files of the configuration changed on disk"),
            }
            let sources = sources.clone();
            let loaded = tokio::task::spawn_blocking(move || Config::load(&sources, RECEIVERS)).await;
            let config = match loaded {
                Ok(Ok(Loaded { config, notes, mut files })) => {
                    for note in notes {
                        warn!(note, "configuration note");
                    }
                    files.extend(certificate_paths(&config));
                    watch.follow(files).await;
                    Some(config)
                }
                Ok(Err(problems)) => {
                    // One line in every log format.
                    let problems = problems.to_string().lines().collect::<Vec<_>>().join("; ");
                    error!(problems, "configuration not reloaded; keeping the current one");
                    None
                }
                Err(failure) => std::panic::resume_unwind(failure.into_panic()),
            };
            if reload.send(config).await.is_err() {
                return;
            }
        }
    });
    configs
}

fn could_not_start(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    error!(error = %logging::chain(error), "could not start");
    ExitCode::FAILURE
}

// === impl Signals ===

impl Signals {
    fn listen() -> io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt })
    }

    /// Completes at the first signal. One that comes later than [`SAME_SIGNAL`] ends the process from then on.
    fn shutdown(mut self, environment: Environment) -> impl Future<Output = ()> {
        let (begin, began) = oneshot::channel();
        tokio::spawn(async move {
            let first = self.next().await;
            info!(signal = name_of(first), "stopping; another signal after a second exits at once");
            ServiceState::Stopping.notify(&environment);
            // The receiver is gone when the relay could not start; the process ends by itself then.
            begin.send(()).ok();
            let same_until = Instant::now() + SAME_SIGNAL;
            let second = loop {
                let signal = self.next().await;
                if Instant::now() > same_until {
                    break signal;
                }
            };
            warn!(signal = name_of(second), "exiting without draining");
            std::process::exit(ENDED_BY_SIGNAL + second.as_raw_value());
        });
        async {
            began.await.ok();
        }
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

fn name_of(kind: SignalKind) -> &'static str {
    if kind == SignalKind::terminate() { "SIGTERM" } else { "SIGINT" }
}
