//! Attributes: removed, hashed, truncated and renamed as `processors.attributes` says.
//!
//! In: JSON, which is OTLP or rejected input. Out: the same text, or one with edits at the attributes that have a rule.
//! Promises: a text without such an attribute is the same memory; time is linear; an attribute is found by its shape, an
//! object with `key` and `value`, wherever it is: in maps, bodies and unknown members, too; where a rule cannot be applied to
//! a value, the value is removed.
//! Left to others: when to scrub what (`relay/privacy.rs`).

mod pass;

mod rejected;

mod value;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use bytes::Bytes;

use self::pass::Pass;
pub(crate) use self::rejected::Scrubbed;
use crate::config::AttributesConfig;

/// Members of a log record, and the attributes that an event has in their place.
const OF_RECORDS: [(&str, &str); 3] =
    [("body", "log.body"), ("severityText", "log.severity_text"), ("severityNumber", "log.severity_number")];

/// The rules.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    rules: HashMap<Box<[u8]>, Rule>,
    /// One bit for each length of a key that has a rule; the last one for all longer keys.
    lengths: u64,
}

/// The rule of a key. Its parts apply in this order.
#[derive(Debug, Default)]
struct Rule {
    drop: bool,
    truncate_ip: bool,
    hash: bool,
    new_key: Option<Box<str>>,
    /// Another key is renamed to this one.
    is_new_key: bool,
}

// === impl Attributes ===

impl Attributes {
    pub(crate) fn new(config: &AttributesConfig) -> Self {
        let mut attributes = Self::default();
        let AttributesConfig { drop, truncate_ip, hash, rename } = config;
        drop.iter().for_each(|key| attributes.rule(key).drop = true);
        truncate_ip.iter().for_each(|key| attributes.rule(key).truncate_ip = true);
        hash.iter().for_each(|key| attributes.rule(key).hash = true);
        for (old, new) in rename.iter().filter(|(old, new)| old != new) {
            attributes.rule(old).new_key = Some(new.as_str().into());
            attributes.rule(new).is_new_key = true;
        }
        attributes
    }

    fn rule(&mut self, key: &str) -> &mut Rule {
        self.lengths |= length_bit(key.as_bytes());
        self.rules.entry(key.as_bytes().into()).or_default()
    }

    /// Returns the rule of a key, without escapes.
    #[inline]
    fn get(&self, key: &[u8]) -> Option<&Rule> {
        if self.lengths & length_bit(key) == 0 {
            return None;
        }
        self.rules.get(key)
    }

    /// Returns whether the value of a key must not be kept as it is.
    fn withholds(&self, key: &str) -> bool {
        self.get(key.as_bytes()).is_some_and(Rule::withholds)
    }

    /// Returns a document with the rules applied. Text that is not JSON results in no text.
    pub(crate) fn scrub(&self, document: &Bytes) -> Bytes {
        if self.rules.is_empty() {
            return document.clone();
        }
        let mut pass = Pass::new(self, document, 0, None);
        match pass.value() {
            Ok(()) => pass.edits.apply(document),
            Err(_) => Bytes::new(),
        }
    }
}

// === impl Rule ===

impl Rule {
    fn withholds(&self) -> bool {
        self.drop || self.truncate_ip || self.hash
    }
}

fn length_bit(key: &[u8]) -> u64 {
    1 << key.len().min(63)
}
