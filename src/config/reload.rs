//! Configuration changes that apply while the relay runs.
//!
//! In: the configuration in use and the reloaded one. Out: the one to use from now on, and the changed keys that need a
//! restart. Promises: receivers keep their number, ids and paths, so that a request in progress finds its receiver.

use super::{Config, ReceiversConfig};

/// Outcome of a reload.
#[derive(Debug)]
pub(crate) struct Reloaded {
    pub(crate) config: Config,
    /// Changed keys that need a restart; their old values stay in use.
    pub(crate) needs_restart: Vec<String>,
}

// === impl Config ===

impl Config {
    /// Returns this configuration with the receivers' secrets, tokens, service ids and other settings of `new`.
    pub(crate) fn reloaded(&self, new: &Self) -> Reloaded {
        let mut config = self.clone();
        if self.receivers.ids_and_paths() == new.receivers.ids_and_paths() {
            let old = std::mem::replace(&mut config.receivers, new.receivers.clone());
            config.receivers.keep_limits_of(&old);
        }
        let needs_restart = changed_keys(&config, new);
        Reloaded { config, needs_restart }
    }
}

// === impl ReceiversConfig ===

impl ReceiversConfig {
    /// Returns id and path of every receiver.
    fn ids_and_paths(&self) -> Vec<(&str, &str)> {
        let fastly = self.fastly.iter().map(|fastly| (fastly.id.as_str(), fastly.path.as_str()));
        let circleci = self.circleci.iter().map(|circleci| (circleci.id.as_str(), circleci.path.as_str()));
        fastly.chain(circleci).chain(self.otlp.iter().map(|_| ("otlp", ""))).collect()
    }

    /// Keeps the rate limits of `old`, because new ones would lose their counts.
    fn keep_limits_of(&mut self, old: &Self) {
        for (new, old) in self.fastly.iter_mut().zip(&old.fastly) {
            new.rate_limit = old.rate_limit;
        }
        for (new, old) in self.circleci.iter_mut().zip(&old.circleci) {
            new.rate_limit = old.rate_limit;
        }
        if let (Some(new), Some(old)) = (&mut self.otlp, &old.otlp) {
            new.rate_limit = old.rate_limit;
        }
    }
}

/// Returns the keys in which two configurations differ, dotted from the root.
fn changed_keys(one: &Config, other: &Config) -> Vec<String> {
    if one == other {
        return Vec::new();
    }
    let (before, after) = (lines_with_keys(&one.to_yaml()), lines_with_keys(&other.to_yaml()));
    let differs = |line: &&(String, String), others: &[(String, String)]| !others.contains(line);
    let mut keys: Vec<String> = before
        .iter()
        .filter(|line| differs(line, &after))
        .chain(after.iter().filter(|line| differs(line, &before)))
        .map(|(key, _)| key.clone())
        .collect();
    // Header values are not printed, so the comparison below misses them.
    let headers = |config: &Config| (config.exporter.headers.clone(), config.exporter.signal_headers.clone());
    if headers(one) != headers(other) {
        keys.push("exporters.otlp_http.headers".to_owned());
    }
    let own_headers = |config: &Config| config.telemetry.traces.as_ref().map(|traces| traces.headers.clone());
    if own_headers(one) != own_headers(other) {
        keys.push("telemetry.traces.headers".to_owned());
    }
    keys.sort();
    keys.dedup();
    // A new section stands for all of its keys.
    let sections = keys.clone();
    keys.retain(|key| {
        !sections
            .iter()
            .any(|section| key.strip_prefix(section.as_str()).is_some_and(|rest| rest.starts_with('.')))
    });
    keys
}

/// Returns every line of a printed configuration with its key, dotted from the root.
fn lines_with_keys(yaml: &str) -> Vec<(String, String)> {
    let mut path: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    for line in yaml.lines() {
        let text = line.trim_start();
        let depth = (line.len() - text.len()) / 2;
        let Some((key, value)) = text.split_once(':') else { continue };
        path.truncate(depth);
        path.push(key.trim_matches('"'));
        lines.push((path.join("."), value.to_owned()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    fn config(yaml: &str) -> Config {
        Config::from_yaml(yaml, &Environment::empty()).unwrap()
    }

    const OLD: &str = "
receivers:
  fastly: { service_ids: [old], auth: { header: authorization, values: [old] } }
  circleci: { secrets: [old] }
";

    #[test]
    fn secrets_tokens_and_service_ids_change_without_a_restart() {
        let new = config(&OLD.replace("old", "new"));
        let Reloaded { config, needs_restart } = config(OLD).reloaded(&new);
        assert_eq!(config, new);
        assert!(needs_restart.is_empty(), "{needs_restart:?}");
    }

    #[test]
    fn changes_that_need_a_restart_are_named_and_not_applied() {
        let old = config(OLD);
        let changed = format!(
            "{}exporters: {{ otlp_http: {{ timeout: 3s, headers: {{ x-key: secret }} }} }}\nqueue: {{ max_size: 2GiB }}\n",
            OLD.replace("secrets: [old]", "secrets: [new]")
        );
        let Reloaded { config, needs_restart } = old.reloaded(&self::config(&changed));
        assert_eq!(
            needs_restart,
            ["exporters.otlp_http.headers", "exporters.otlp_http.timeout", "queue.max_size"]
        );
        assert_eq!(config.exporter, old.exporter);
        assert_eq!(config.queue, old.queue);
        assert_ne!(config.receivers, old.receivers, "the rest is reloaded all the same");
    }

    #[test]
    fn receivers_are_not_added_removed_or_moved_and_keep_their_limits() {
        let old = config(OLD);
        for (changed, key) in [
            (
                OLD.replace("service_ids: [old]", "path: /elsewhere, service_ids: [old]"),
                "receivers.fastly.path",
            ),
            (format!("{OLD}  otlp: {{}}\n"), "receivers.otlp"),
            (OLD.replace("  circleci:", "  circleci/app:"), "receivers.circleci"),
        ] {
            let Reloaded { config, needs_restart } = old.reloaded(&self::config(&changed));
            assert_eq!(config, old);
            assert!(needs_restart.iter().any(|named| named == key), "{needs_restart:?}");
        }
    }

    #[test]
    fn a_changed_header_is_named_although_its_value_is_not_printed() {
        let with = |value: &str| {
            config(&format!("{OLD}exporters: {{ otlp_http: {{ headers: {{ x-key: {value} }} }} }}\n"))
        };
        assert_eq!(with("a").reloaded(&with("b")).needs_restart, ["exporters.otlp_http.headers"]);
    }

    #[test]
    fn self_tracing_changes_need_a_restart() {
        let with = |traces: &str| config(&format!("{OLD}telemetry: {{ {traces} }}\n"));
        let on = with("traces: { endpoint: 'http://t:4318/v1/traces', headers: { x-key: a } }");
        let other = with("traces: { endpoint: 'http://t:4318/v1/traces', headers: { x-key: b } }");
        let Reloaded { config, needs_restart } = with("").reloaded(&on);
        assert_eq!((config.telemetry.traces, needs_restart[0].as_str()), (None, "telemetry.traces"));
        assert_eq!(on.reloaded(&with("")).needs_restart[0], "telemetry.traces");
        assert_eq!(on.reloaded(&other).needs_restart, ["telemetry.traces.headers"]);
        assert_eq!(on.reloaded(&other).config, on);
    }
}
