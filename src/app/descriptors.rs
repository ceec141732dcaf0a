//! File descriptors: the limit of the process, and how many connections it allows.
//!
//! In: the configuration. Out: the number of connections of the front door. Promises: what the relay itself needs (telemetry
//! endpoint, exporter, step lookups, queue) is reserved, so that no number of connections can stop it.

use std::collections::BTreeSet;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Config;
use crate::event::Signal;
use crate::receiver::CircleCiConfig;
use crate::steps::MAX_IN_FLIGHT;

/// Maximum number of connections of the telemetry endpoint.
pub(super) const TELEMETRY_CONNECTIONS: usize = 32;
/// Descriptors for listeners, standard streams, the runtime, the queue's files, certificates, self-traces and name resolution.
const OTHER: usize = 48;
/// Maximum of `max_connections: auto`. Far above the default of `max_concurrent_requests`, so that a shed request still receives
/// its 503; idle connections take about 25 KiB each.
const MAX_CONNECTIONS: usize = 8192;

/// Raises the limit on open files as far as the process may, and returns the number of connections of the front door.
pub(super) fn max_connections(config: &Config) -> usize {
    let limit = raised_limit();
    let reserve = reserve(config);
    let max_connections = config.server.max_connections.unwrap_or_else(|| automatic(limit, reserve));
    if max_connections.saturating_add(reserve) > limit {
        warn!(
            key = "server.max_connections",
            max_connections,
            reserve,
            open_files_limit = limit,
            remedy = "raise the limit on open files (LimitNOFILE= in a systemd unit, ulimit -n), or lower server.max_connections",
            "limit on open files is low"
        );
    }
    max_connections
}

/// Returns the number of connections that a limit on open files allows. A limit below the reserve leaves a few connections.
fn automatic(limit: usize, reserve: usize) -> usize {
    limit.saturating_sub(reserve).max(limit / 8).clamp(1, MAX_CONNECTIONS)
}

/// Returns the number of descriptors that the relay needs for itself.
fn reserve(config: &Config) -> usize {
    let exporter = &config.exporters.otlp_http;
    let hosts: BTreeSet<_> = Signal::ALL
        .into_iter()
        .filter_map(|signal| Some(exporter.of(signal).endpoint.authority()?.as_str()))
        .collect();
    let apis = config.receivers.all::<CircleCiConfig>().into_iter().filter(|receiver| receiver.api.is_some());
    // The pool keeps idle connections to each host.
    TELEMETRY_CONNECTIONS
        + hosts.len() * exporter.settings.max_in_flight
        + apis.count() * MAX_IN_FLIGHT
        + OTHER
}

/// Raises the soft limit on open files to the hard one, and returns it.
fn raised_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = match raised.map_err(io::Error::from) {
        Ok(()) => maximum,
        Err(error) => {
            warn!(%error, "cannot raise the limit on open files");
            current
        }
    };
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::receiver::RECEIVERS;

    fn config(yaml: &str) -> Config {
        Config::from_yaml(&format!("receivers: {{ fastly: }}\n{yaml}"), &Environment::empty(), RECEIVERS)
            .unwrap()
    }

    #[test]
    fn the_reserve_covers_the_connections_to_every_downstream_host() {
        let one = reserve(&config(""));
        let more =
            "exporters: { otlp_http: { max_in_flight: 100, logs_endpoint: 'http://other:4318/v1/logs' } }";
        assert_eq!(one, TELEMETRY_CONNECTIONS + 32 + OTHER);
        assert_eq!(reserve(&config(more)), TELEMETRY_CONNECTIONS + 200 + OTHER);
    }

    #[test]
    fn automatic_connections_and_the_reserve_fit_into_the_limit() {
        let reserve = reserve(&config(""));
        assert_eq!(automatic(128, reserve), 16);
        assert_eq!(automatic(usize::MAX, reserve), MAX_CONNECTIONS);
        for limit in [200, 256, 1024, 4096, 65536] {
            let connections = automatic(limit, reserve);
            assert!(connections >= 1 && connections + reserve <= limit, "{limit}: {connections}");
        }
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let limit = raised_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert_eq!(maximum.map_or(usize::MAX, |maximum| maximum as usize), limit);
    }
}
