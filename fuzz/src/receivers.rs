//! Receivers of the targets, from the text of their configuration.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use spanrelay::RECEIVERS;
use spanrelay::config::{Config, Environment};
use spanrelay::internals::{Receiver, receivers};

/// Receivers that exist, by the text of their configuration. Creating them takes longer than most inputs.
static CREATED: Mutex<BTreeMap<String, Vec<Arc<dyn Receiver>>>> = Mutex::new(BTreeMap::new());

/// Returns a configuration.
pub(crate) fn config(yaml: &str) -> Config {
    Config::from_yaml(yaml, &Environment::empty(), RECEIVERS)
        .unwrap_or_else(|problems| panic!("the configuration of a target is invalid: {problems}"))
}

/// Returns the receivers of a configuration.
pub(crate) fn all(yaml: &str) -> Vec<Arc<dyn Receiver>> {
    // A target that panicked left the map as it was.
    let mut created = CREATED.lock().unwrap_or_else(PoisonError::into_inner);
    if !created.contains_key(yaml) {
        created.insert(yaml.to_owned(), receivers(&config(yaml)));
    }
    created[yaml].clone()
}

/// Returns the receiver of a configuration with one.
pub(crate) fn one(yaml: &str) -> Arc<dyn Receiver> {
    let [receiver] = <[_; 1]>::try_from(all(yaml)).unwrap_or_else(|_| panic!("not one receiver: {yaml}"));
    receiver
}

/// Returns the receiver of Fastly's batches with these keys of its section.
pub(crate) fn fastly(keys: &str) -> Arc<dyn Receiver> {
    // Longer lines have tests of their own.
    one(&format!("server: {{max_line_size: 64KiB}}\nreceivers: {{fastly: {{{keys}}}}}"))
}
