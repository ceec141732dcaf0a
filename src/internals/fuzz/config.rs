//! Configuration: any text, variables and `--set`s.
//!
//! The input is a file. Lines at its start that begin with `#env NAME=VALUE` and `#set KEY=VALUE`, which are comments to
//! YAML, give variables and overrides. What is loaded is printed without its secrets and loads as itself; a complaint
//! repeats nothing of what came from a variable.

use std::collections::BTreeMap;

use crate::config::{Config, ConfigError, Environment, Sources};
use crate::receiver::RECEIVERS;

/// Stands in a value of the environment where the input says `@secret`; no fuzzer writes it by chance.
const MARKER: &str = "k7Qz0vWm3xYt9LrB";

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

    check(Config::from_yaml(text, &environment, RECEIVERS));
    let sources = Sources { file: None, set, environment };
    check(Config::load(&sources, RECEIVERS).map(|loaded| {
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
    let again = Config::from_yaml(&printed, &Environment::empty(), RECEIVERS)
        .unwrap_or_else(|problems| panic!("what is printed does not load: {problems}\n{printed}"));
    assert_eq!(again.to_yaml(), printed, "what is printed loads as something else");
}
