//! Configuration changes that apply while the relay runs.
//!
//! In: the configuration in use and the reloaded one. Out: the one to use from now on, and the changed keys that need a
//! restart. Promises: receivers keep their number, ids and paths, so that a request in progress finds its receiver.

use super::Config;
use super::declare::Keys as _;

/// Outcome of a reload.
#[derive(Debug)]
pub(crate) struct Reloaded {
    pub(crate) config: Config,
    /// Changed keys that need a restart; their old values stay in use.
    pub(crate) needs_restart: Vec<String>,
}

// === impl Config ===

impl Config {
    /// Returns this configuration with the values of `new` that apply while the relay runs.
    pub(crate) fn reloaded(&self, new: &Self) -> Reloaded {
        let mut config = self.clone();
        config.receivers.reload(&new.receivers);
        config.processors.reload(&new.processors);
        config.queue.reload(&new.queue);
        config.exporters.reload(&new.exporters);
        config.telemetry.reload(&new.telemetry);
        let mut needs_restart = Vec::new();
        config.to_tree().differences(&new.to_tree(), "", &mut needs_restart);
        needs_restart.sort();
        Reloaded { config, needs_restart }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::receiver::RECEIVERS;

    fn config(yaml: &str) -> Config {
        Config::from_yaml(yaml, &Environment::empty(), RECEIVERS).unwrap()
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
        assert_eq!(needs_restart, ["exporters.otlp_http.timeout", "queue.max_size"]);
        assert_eq!(config.exporters.otlp_http.settings.timeout, old.exporters.otlp_http.settings.timeout);
        assert_ne!(config.exporters.otlp_http.settings.headers, old.exporters.otlp_http.settings.headers);
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
    fn headers_of_the_exporter_and_of_each_signal_change_without_a_restart() {
        let with = |value: &str| {
            let own = format!("headers: {{ x-key: {value} }}");
            config(&format!("{OLD}exporters: {{ otlp_http: {{ {own}, logs: {{ {own} }} }} }}\n"))
        };
        let new = with("b");
        let Reloaded { config, needs_restart } = with("a").reloaded(&new);
        assert_eq!((config, needs_restart), (new, Vec::new()));
    }

    #[test]
    fn metadata_of_grpc_changes_without_a_restart_too() {
        let with = |value: &str| {
            config(&format!("{OLD}exporters: {{ otlp_grpc: {{ headers: {{ x-key: {value} }} }} }}\n"))
        };
        let new = with("b");
        let Reloaded { config, needs_restart } = with("a").reloaded(&new);
        assert_eq!((config, needs_restart), (new, Vec::new()));
    }

    #[test]
    fn rules_for_attributes_change_without_a_restart() {
        let with = |key: &str, keep: bool| {
            let attributes =
                format!("{{ drop: [{key}], truncate_ip: [{key}], hash: [{key}], rename: {{ {key}: x }} }}");
            config(&format!(
                "{OLD}processors: {{ attributes: {attributes} }}\nqueue: {{ keep_unparsed: {keep} }}\n"
            ))
        };
        let new = with("b", false);
        let Reloaded { config, needs_restart } = with("a", true).reloaded(&new);
        assert_eq!((config, needs_restart), (new, Vec::new()));
    }

    #[test]
    fn self_tracing_changes_need_a_restart_except_those_of_headers() {
        let with = |traces: &str| config(&format!("{OLD}telemetry: {{ {traces} }}\n"));
        let on = with("traces: { endpoint: 'http://t:4318/v1/traces', headers: { x-key: a } }");
        let other = with("traces: { endpoint: 'http://t:4318/v1/traces', headers: { x-key: b } }");
        let Reloaded { config, needs_restart } = with("").reloaded(&on);
        assert_eq!((config.telemetry.traces, needs_restart[0].as_str()), (None, "telemetry.traces"));
        assert_eq!(on.reloaded(&with("")).needs_restart[0], "telemetry.traces");
        let Reloaded { config, needs_restart } = on.reloaded(&other);
        assert_eq!((config, needs_restart), (other, Vec::new()));
    }
}
