//! One map of the configuration, whose keys are asked for one by one.
//!
//! Asking for a key is what makes it known: there is no second table of keys to keep in step. What nobody asked for is
//! reported when the section ends, with the nearest key that exists.

use super::field::{Field, Findings};
use super::problem::Origin;
use super::yaml::{Entry, Node, Value};

/// How many letters may differ before a key is no likely slip of another.
const MAX_DISTANCE: usize = 3;

/// A map, or nothing where one may be: then every key in it is absent.
#[derive(Debug)]
pub(super) struct Section<'a> {
    findings: &'a Findings,
    path: String,
    origin: &'a Origin,
    entries: &'a [Entry],
    known: Vec<&'static str>,
    /// There should be a map and is not, which is on record: nothing more can be said about what is missing.
    broken: bool,
}

// === impl Section ===

impl<'a> Section<'a> {
    pub(super) fn root(findings: &'a Findings, root: &'a Node) -> Self {
        Self::of(Field::new(findings, String::new(), &root.origin, root))
    }

    /// The map that `field` holds. Anything else but nothing is a problem.
    pub(super) fn of(field: Field<'a>) -> Self {
        let (entries, broken) = match &field.node.value {
            Value::Map(entries) => (entries.as_slice(), false),
            Value::Null => (&[] as &[Entry], false),
            Value::Broken => (&[] as &[Entry], true),
            Value::Scalar(_) => {
                field.problem("expected a map of keys, found one value");
                (&[] as &[Entry], true)
            }
            Value::List(_) => {
                field.problem("expected a map of keys, found a list");
                (&[] as &[Entry], true)
            }
        };
        let Field { findings, origin, path, .. } = field;
        Self { findings, path, origin, entries, known: Vec::new(), broken }
    }

    /// The value at `name`, unless it is absent or `null`, which means the same.
    pub(super) fn field(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.given(name).filter(|field| !matches!(field.node.value, Value::Null))
    }

    /// The value at `name`, `null` included: for keys that mean something by being there.
    pub(super) fn given(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.know(name);
        self.entries.iter().find(|entry| entry.key == name).map(|entry| self.at(entry))
    }

    /// Reads the value at `name` into `target`; what is absent or wrong leaves it as it is.
    pub(super) fn set<T>(
        &mut self,
        name: &'static str,
        target: &mut T,
        read: impl FnOnce(&Field<'a>) -> Option<T>,
    ) {
        if let Some(value) = self.field(name).and_then(|field| read(&field)) {
            *target = value;
        }
    }

    /// The section at `name`, empty when it is absent.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'a> {
        match self.given(name) {
            Some(field) => Section::of(field),
            None => Section {
                findings: self.findings,
                path: self.path_of(name),
                origin: self.origin,
                entries: &[],
                known: Vec::new(),
                broken: self.broken,
            },
        }
    }

    /// Every key and its value, for maps whose keys are the operator's.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a Entry, Field<'a>)> {
        self.entries.iter().map(|entry| (entry, self.at(entry)))
    }

    /// A key that exists although the map's keys are partly the operator's.
    pub(super) fn know(&mut self, name: &'static str) {
        if !self.known.contains(&name) {
            self.known.push(name);
            self.findings.known(self.path_of(name));
        }
    }

    /// A problem with the value at `name`, which may be the default.
    pub(super) fn problem_at(&self, name: &str, what: impl Into<String>) {
        let field = self.entries.iter().find(|entry| entry.key == name).map(|entry| self.at(entry));
        let origin = field.map_or(self.origin, |field| field.origin);
        self.findings.problem(origin, &self.path_of(name), what);
    }

    /// A problem with the value at `name` within the map at `entry`, which may be the default.
    pub(super) fn problem_in(&self, entry: &'a Entry, name: &str, what: impl Into<String>) {
        let path = format!("{}.{name}", self.path_of(&entry.key));
        let origin = entry.node.get(name).map_or(&entry.origin, |node| &node.origin);
        self.findings.problem(origin, &path, what);
    }

    /// A problem with the section because of `entry`, whose key is not to be repeated.
    pub(super) fn problem_by(&self, entry: &Entry, what: impl Into<String>) {
        self.findings.problem(&entry.origin, &self.path, what);
    }

    /// A problem with what the section lacks.
    pub(super) fn lacks(&self, what: impl Into<String>) {
        if !self.broken {
            self.findings.problem(self.origin, &self.path, what);
        }
    }

    pub(super) fn note(&self, what: impl AsRef<str>) {
        self.findings.note(format!("{}: {}", self.path, what.as_ref()));
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        for entry in self.entries {
            let key = entry.key.as_str();
            if !self.known.contains(&key) {
                self.unknown(entry, "key");
            }
        }
    }

    /// Reports `entry` as a `kind` that does not exist.
    pub(super) fn unknown(&self, entry: &Entry, kind: &str) {
        let nearest = self.known.iter().min_by_key(|known| strsim::osa_distance(known, &entry.key));
        let likely = nearest.filter(|known| is_slip(&entry.key, known));
        let meant = likely.map_or_else(String::new, |known| format!("did you mean \"{known}\"? "));
        let allowed = self.known.join(", ");
        let what = format!("unknown {kind}; {meant}allowed here: {allowed}");
        self.findings.problem(&entry.origin, &self.path_of(&entry.key), what);
    }

    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn at(&self, entry: &'a Entry) -> Field<'a> {
        Field::new(self.findings, self.path_of(&entry.key), &entry.origin, &entry.node)
    }
}

/// Whether `key` looks like `known` mistyped: few letters differ, or one begins with the other.
fn is_slip(key: &str, known: &str) -> bool {
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
    fn a_slip_is_near_and_another_word_is_not() {
        for (key, known) in [
            ("pth", "path"),
            ("endpont", "endpoint"),
            ("otlphttp", "otlp_http"),
            ("max-line-size", "max_line_size"),
            ("secret", "secrets"),
            ("compress", "compression"),
            ("service_id", "service_ids"),
        ] {
            assert!(is_slip(key, known), "{key} {known}");
        }
        for (key, known) in [("service", "queue"), ("abc", "tls"), ("x", "path"), ("pipelines", "processors")]
        {
            assert!(!is_slip(key, known), "{key} {known}");
        }
    }
}
