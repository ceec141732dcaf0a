//! `processors.attributes`: attributes that are removed, hashed, truncated or renamed.

use super::super::declare::section;
use super::super::kind::{Renames, Text};
use super::super::section::Section;

/// Attributes that a log record gets when it becomes a span event. They are members of the record before.
const OF_EVENTS: [&str; 3] = ["log.body", "log.severity_text", "log.severity_number"];

section! {
    /// `processors.attributes`. A rule names the whole key of an attribute, as it arrives. Rules apply in the order of these keys.
    pub(crate) struct AttributesConfig => check {
        /// Keys of attributes to remove. They apply to resources, scopes, spans, span events, links, log records, metrics, data
        /// points and exemplars, and to the keys of maps in values and log bodies. `log.body`, `log.severity_text` and
        /// `log.severity_number` are the body and the severity of a log record.
        drop: Vec<Text>, sample("[user.email]"), live;
        /// Keys of attributes with an IP address to truncate: IPv4 to 24 bits, IPv6 to 48. A port is removed. An attribute with
        /// any other value is removed.
        truncate_ip: Vec<Text>, sample("[client.address]"), live;
        /// Keys of attributes whose value is replaced by its SHA-256 in hexadecimal, as by the Collector's attributes processor. The
        /// hash has no key: values of a small range, such as addresses, can be guessed from it.
        hash: Vec<Text>, sample("[user.id]"), live;
        /// New keys of attributes: the old one, and the new one. A renamed attribute replaces another one with its new key.
        rename: Renames, sample("{ net.peer.ip: client.address }"), live;
    }
}

// === impl AttributesConfig ===

impl AttributesConfig {
    /// Returns the attributes whose values must not be stored as they are.
    pub(crate) fn withheld(&self) -> impl Iterator<Item = &String> {
        let Self { drop, truncate_ip, hash, rename: _ } = self;
        drop.iter().chain(truncate_ip).chain(hash)
    }

    /// Returns `true` if no attribute changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.withheld().next().is_none() && self.rename.is_empty()
    }
}

fn check(attributes: &mut AttributesConfig, section: &Section<'_>) {
    let AttributesConfig { drop, truncate_ip, hash, rename } = attributes;
    let renamed = || rename.iter().map(|(old, _)| old);
    for key in drop {
        if truncate_ip.iter().chain(&*hash).chain(renamed()).any(|other| other == key) {
            section.note(format!("{key} is in drop, so that its other rules have no effect"));
        }
    }
    for key in renamed().filter(|key| OF_EVENTS.contains(&&***key)) {
        section.note(format!(
            "rename has no effect on {key}, which is a member of a log record and no attribute"
        ));
    }
}
