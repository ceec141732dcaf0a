//! Configuration: any text, variables and `--set`s.
//!
//! The input is a file. Lines at its start that begin with `#env NAME=VALUE` and `#set KEY=VALUE`, which are comments to
//! YAML, give variables and overrides. What is loaded is printed without its secrets and loads as itself; a complaint
//! repeats nothing of what came from a variable.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue};

use crate::config::{AuthConfig, Config, ConfigError, Environment, Secret, Sources};

/// Stands in a value of the environment where the input says `@secret`; no fuzzer writes it by chance.
const MARKER: &str = "k7Qz0vWm3xYt9LrB";

/// As `Config::to_yaml` has it.
const REDACTED: &str = "[redacted]";

/// The text of a file, with variables and overrides.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut variables = BTreeMap::new();
    let mut set = Vec::new();
    for line in text.lines().take_while(|line| line.starts_with('#')) {
        if let Some((name, value)) = line.strip_prefix("#env ").and_then(|rest| rest.split_once('=')) {
            // That one names a file to read.
            if name != "SPANRELAY_CONFIG" {
                variables.insert(name.to_owned(), value.replace("@secret", MARKER));
            }
        }
        set.extend(line.strip_prefix("#set ").map(str::to_owned));
    }
    let environment: Environment = variables.into_iter().collect();

    check(Config::from_yaml(text, &environment));
    let sources = Sources { file: None, set, environment };
    check(Config::load(&sources).map(|loaded| {
        for note in &loaded.notes {
            assert!(!note.contains(MARKER), "a note repeats a variable: {note}");
        }
        loaded.config
    }));
}

fn check(loaded: Result<Config, ConfigError>) {
    let config = match loaded {
        Ok(config) => config,
        Err(problems) => {
            let said = problems.to_string();
            assert!(!said.trim().is_empty(), "a configuration is refused without a word");
            assert!(!said.contains(MARKER), "a complaint repeats a variable: {said}");
            return;
        }
    };
    let printed = config.to_yaml();
    let redacted = without_secrets(config);
    assert_eq!(redacted.to_yaml(), printed, "what is printed depends on a secret");
    let again = Config::from_yaml(&printed, &Environment::empty())
        .unwrap_or_else(|problems| panic!("what is printed does not load: {problems}\n{printed}"));
    assert_eq!(without_secrets(again), redacted, "what is printed loads as something else:\n{printed}");
}

/// The configuration with another text for each of its secrets.
fn without_secrets(mut config: Config) -> Config {
    let auth = |auth: &mut Option<AuthConfig>| {
        let values = auth.iter_mut().flat_map(|auth| &mut auth.values);
        values.for_each(|secret| *secret = Secret::new(REDACTED));
    };
    let headers = |headers: &mut HeaderMap| {
        headers.values_mut().for_each(|value| *value = HeaderValue::from_static(REDACTED));
    };
    config.receivers.fastly.iter_mut().for_each(|fastly| auth(&mut fastly.auth));
    config.receivers.otlp.iter_mut().for_each(|otlp| auth(&mut otlp.auth));
    let secrets = config.receivers.circleci.iter_mut().flat_map(|circleci| &mut circleci.secrets);
    secrets.for_each(|secret| *secret = Secret::new(REDACTED));
    let exporter = &mut config.exporters.otlp_http;
    headers(&mut exporter.headers);
    headers(&mut exporter.traces.headers);
    headers(&mut exporter.logs.headers);
    headers(&mut exporter.metrics.headers);
    config.telemetry.traces.iter_mut().for_each(|traces| headers(&mut traces.headers));
    config
}
