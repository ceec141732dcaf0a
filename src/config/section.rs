//! One mapping of the configuration, read key by key.
//!
//! Reading a key makes it a known key. [`Section::finish`] reports all other keys, each with the nearest known one.

use super::field::{Diagnostics, Field};
use super::problem::ValueOrigin;
use super::receivers::ReceiverKind;
use super::yaml::{MappingEntry, YamlValue};

/// Maximum edit distance at which a key counts as a typo of another.
const MAX_DISTANCE: usize = 3;

/// Keys of the Collector that have another place here: the section, the key, and what to write instead.
const COLLECTOR_KEYS: [(&str, &str, &str); 8] = [
    ("processors", "memory_limiter", "remove it: memory is always bounded, by server.max_inflight_bytes"),
    (
        "processors",
        "batch",
        "write exporters.otlp_http.delivery: batch, and its limits in exporters.otlp_http.batch",
    ),
    (
        "otlp_http",
        "sending_queue",
        "write queue, with max_size in bytes and storage: disk or memory; there is one queue for all",
    ),
    ("otlp", "protocols", "write `otlp: {}`: OTLP is received on server.endpoint"),
    ("otlp", "endpoint", "write server.endpoint: all receivers share it"),
    (
        "",
        "service",
        "remove it: every receiver exports to the exporter; what was below service.telemetry is below telemetry",
    ),
    (
        "",
        "extensions",
        "remove it: health and metrics are on telemetry.endpoint, the queue's storage is queue.directory",
    ),
    ("", "connectors", "remove it: log events are attached to spans by processors.span_events"),
];

/// A mapping; an absent one behaves like an empty one.
pub(crate) struct Section<'a> {
    diagnostics: &'a Diagnostics,
    path: String,
    origin: &'a ValueOrigin,
    entries: &'a [MappingEntry],
    known: Vec<&'static str>,
    /// Set if the value is not a mapping; that problem is recorded already, so missing keys are not reported.
    broken: bool,
}

// === impl Section ===

impl<'a> Section<'a> {
    /// Reads the mapping in `field`. Any other value but null is a problem.
    pub(crate) fn of(field: Field<'a>) -> Self {
        let (entries, broken) = match &field.node.value {
            YamlValue::Map(entries) => (entries.as_slice(), false),
            YamlValue::Null => (&[] as &[MappingEntry], false),
            YamlValue::Broken => (&[] as &[MappingEntry], true),
            YamlValue::Scalar(_) => {
                field.problem("expected a mapping, found a scalar");
                (&[] as &[MappingEntry], true)
            }
            YamlValue::List(_) => {
                field.problem("expected a mapping, found a list");
                (&[] as &[MappingEntry], true)
            }
        };
        let Field { diagnostics, origin, path, .. } = field;
        Self { diagnostics, path, origin, entries, known: Vec::new(), broken }
    }

    /// Returns the value at `name`; `None` if it is absent or `null`, which are equivalent.
    pub(crate) fn field(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.given(name).filter(|field| !matches!(field.node.value, YamlValue::Null))
    }

    /// Returns a value that was read before, to look at it again.
    pub(crate) fn value(&self, name: &str) -> Option<Field<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        Some(self.at(entry)).filter(|field| !matches!(field.node.value, YamlValue::Null))
    }

    /// Returns `true` if there is no value at `name`, or an empty list.
    pub(crate) fn is_unset(&self, name: &str) -> bool {
        self.value(name)
            .is_none_or(|field| matches!(&field.node.value, YamlValue::List(items) if items.is_empty()))
    }

    /// Returns the kinds of receivers that can be configured.
    pub(super) fn receivers(&self) -> &'static [ReceiverKind] {
        self.diagnostics.receivers
    }

    /// Returns the last key of the path to this section.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    /// Returns the value at `name`, `null` included, for keys whose presence alone has a meaning.
    pub(crate) fn given(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.know(name);
        self.entries.iter().find(|entry| entry.key == name).map(|entry| self.at(entry))
    }

    /// Reads the value at `name` into `target`; an absent or invalid value leaves it unchanged.
    pub(crate) fn set<T>(
        &mut self,
        name: &'static str,
        target: &mut T,
        read: impl FnOnce(&Field<'a>) -> Option<T>,
    ) {
        if let Some(value) = self.field(name).and_then(|field| read(&field)) {
            *target = value;
        }
    }

    /// Returns the section at `name`, empty if it is absent.
    pub(crate) fn section(&mut self, name: &'static str) -> Section<'a> {
        match self.given(name) {
            Some(field) => Section::of(field),
            None => Section {
                diagnostics: self.diagnostics,
                path: self.path_of(name),
                origin: self.origin,
                entries: &[],
                known: Vec::new(),
                broken: self.broken,
            },
        }
    }

    /// Iterates over keys and values, for mappings with keys chosen by the operator.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a MappingEntry, Field<'a>)> {
        self.entries.iter().map(|entry| (entry, self.at(entry)))
    }

    /// Adds a known key, for mappings with keys partly chosen by the operator.
    pub(crate) fn know(&mut self, name: &'static str) {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
    }

    /// Records a problem with the value at `path` (keys joined by dots), which may be the default.
    pub(crate) fn problem_at(&self, path: &str, what: impl Into<String>) {
        if self.broken {
            return;
        }
        let (mut origin, mut entries) = (self.origin, self.entries);
        for key in path.split('.') {
            let Some(entry) = entries.iter().find(|entry| entry.key == key) else { break };
            origin = self.at(entry).origin;
            entries = if let YamlValue::Map(entries) = &entry.node.value { entries } else { &[] };
        }
        self.diagnostics.problem(origin, &self.path_of(path), what);
    }

    /// Records a problem with the section at `entry` without repeating its key.
    pub(super) fn problem_by(&self, entry: &MappingEntry, what: impl Into<String>) {
        self.diagnostics.problem(&entry.origin, &self.path, what);
    }

    /// Records a problem with something missing in the section.
    pub(crate) fn missing(&self, what: impl Into<String>) {
        if !self.broken {
            self.diagnostics.problem(self.origin, &self.path, what);
        }
    }

    pub(crate) fn note(&self, what: impl AsRef<str>) {
        let gap = if self.path.is_empty() { "" } else { ": " };
        self.diagnostics.note(format!("{}{gap}{}", self.path, what.as_ref()));
    }

    /// Reports unknown keys.
    pub(crate) fn finish(self) {
        for entry in self.entries {
            let key = entry.key.as_str();
            if !self.known.contains(&key) {
                self.unknown(entry, "key");
            }
        }
    }

    /// Reports `entry` as an unknown `kind`.
    pub(super) fn unknown(&self, entry: &MappingEntry, kind: &str) {
        if let Some(advice) = self.advice(&entry.key) {
            let what = format!("unknown key; the Collector has it, spanrelay does not: {advice}");
            self.diagnostics.problem(&entry.origin, &self.path_of(&entry.key), what);
            return;
        }
        let nearest = self.known.iter().min_by_key(|known| strsim::osa_distance(known, &entry.key));
        let likely = nearest.filter(|known| is_typo(&entry.key, known));
        let meant = likely.map_or_else(String::new, |known| format!("did you mean \"{known}\"? "));
        let allowed = self.known.join(", ");
        let what = format!("unknown {kind}; {meant}allowed here: {allowed}");
        self.diagnostics.problem(&entry.origin, &self.path_of(&entry.key), what);
    }

    /// Returns what to write instead of a key of the Collector. Instances (`otlp/app`) count as their kind.
    fn advice(&self, key: &str) -> Option<&'static str> {
        let kind = |name: &str| name.split('/').next().unwrap_or_default().to_owned();
        let (section, key) = (kind(self.name()), kind(key));
        let known = COLLECTOR_KEYS.iter().find(|(parent, name, _)| (*parent, *name) == (&*section, &*key));
        known.map(|(_, _, advice)| *advice)
    }

    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn at(&self, entry: &'a MappingEntry) -> Field<'a> {
        Field::new(self.diagnostics, self.path_of(&entry.key), &entry.origin, &entry.node)
    }
}

/// Returns `true` if `key` looks like a typo of `known`: few letters differ, or one begins with the other.
fn is_typo(key: &str, known: &str) -> bool {
    let distance = strsim::osa_distance(key, known);
    let shorter = key.chars().count().min(known.chars().count());
    distance <= MAX_DISTANCE.min(shorter.div_ceil(3))
        || (shorter >= 4 && (known.starts_with(key) || key.starts_with(known)))
        || known.replace('_', "") == key.replace(['_', '-'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_near_and_another_word_is_not() {
        for (key, known) in [
            ("pth", "path"),
            ("endpont", "endpoint"),
            ("otlphttp", "otlp_http"),
            ("max-line-size", "max_line_size"),
            ("secret", "secrets"),
            ("compress", "compression"),
            ("service_id", "service_ids"),
        ] {
            assert!(is_typo(key, known), "{key} {known}");
        }
        for (key, known) in [("service", "queue"), ("abc", "tls"), ("x", "path"), ("pipelines", "processors")]
        {
            assert!(!is_typo(key, known), "{key} {known}");
        }
    }
}
