//! Configuration: any text, variables and `--set`s.
//!
//! The input is a file. Lines at its start of the form `#env NAME=VALUE` and `#set KEY=VALUE`, which are comments in
//! YAML, set variables and overrides. A loaded configuration is printed without its secrets and loads again unchanged;
//! an error repeats no value of a variable.

use std::collections::BTreeMap;

use spanrelay::RECEIVERS;
use spanrelay::config::{Config, ConfigError, Environment, Sources};

/// Replaces `@secret` in values of variables; no fuzzer writes it by chance.
const MARKER: &str = "k7Qz0vWm3xYt9LrB";

/// Checks the text of a file, with variables and overrides.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut variables = BTreeMap::new();
    let mut set = Vec::new();
    for line in text.lines().take_while(|line| line.starts_with('#')) {
        if let Some((name, value)) = line.strip_prefix("#env ").and_then(|rest| rest.split_once('=')) {
            // That variable names a file to read.
            if name != "SPANRELAY_CONFIG" {
                variables.insert(name.to_owned(), value.replace("@secret", MARKER));
            }
        }
        set.extend(line.strip_prefix("#set ").map(str::to_owned));
    }
    let environment: Environment = variables.into_iter().collect();

    check(Config::from_yaml(text, &environment, RECEIVERS));
    let sources = Sources { files: Vec::new(), set, environment };
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
            assert!(!said.trim().is_empty(), "an error without a message");
            assert!(!said.contains(MARKER), "an error repeats a variable: {said}");
            return;
        }
    };
    let printed = config.to_yaml();
    let again = Config::from_yaml(&printed, &Environment::empty(), RECEIVERS)
        .unwrap_or_else(|problems| panic!("the printed configuration does not load: {problems}\n{printed}"));
    assert_eq!(again.to_yaml(), printed, "the printed configuration loads differently");
}
