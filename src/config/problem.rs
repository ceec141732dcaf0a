//! Problems of a configuration and their positions.
//!
//! Every problem is kept, not only the first, so that one run of `spanrelay validate` is enough to fix a file.
//! A problem never contains a value that may be a secret; its author leaves such values out.

use std::fmt;

/// Every problem of an invalid configuration, one per line of its `Display`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Name of the file in messages.
    file: String,
    problems: Vec<Problem>,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) origin: ValueOrigin,
    /// Key, dotted from the root; empty if the problem is not about a key.
    pub(super) path: String,
    /// Description of the problem and of the allowed values.
    pub(super) what: String,
}

/// Origin of a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ValueOrigin {
    /// The file as a whole.
    File,
    /// Line of the file, from 1; of the first one if there are several.
    Line(usize),
    /// Line of a further file.
    Further(String, usize),
    /// Environment variable that sets a key.
    Variable(String),
    /// `--set` on the command line.
    Set,
}

// === impl Problem ===

impl Problem {
    pub(super) fn new(origin: &ValueOrigin, path: impl Into<String>, what: impl Into<String>) -> Self {
        let mut path = path.into();
        if path.contains(char::is_control) {
            // Keys can contain line breaks; one problem must stay one line.
            path = path.escape_debug().to_string();
        }
        Self { origin: origin.clone(), path, what: what.into() }
    }
}

// === impl ConfigError ===

impl ConfigError {
    /// Creates an error. `problems` must not be empty; they are sorted by line.
    pub(super) fn new(file: impl Into<String>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        Self { file: file.into(), problems }
    }

    /// Returns the problems as a list of objects for programs.
    pub(crate) fn to_json(&self) -> Vec<serde_json::Value> {
        let described = self.problems.iter().map(|Problem { origin, path, what }| {
            let (source, line) = match origin {
                ValueOrigin::File => (self.file.clone(), None),
                ValueOrigin::Line(line) => (self.file.clone(), Some(*line)),
                ValueOrigin::Further(file, line) => (file.clone(), Some(*line)),
                ValueOrigin::Variable(name) => (format!("environment variable {name}"), None),
                ValueOrigin::Set => ("--set".to_owned(), None),
            };
            let key = (!path.is_empty()).then_some(path);
            serde_json::json!({ "source": source, "line": line, "key": key, "message": what })
        });
        described.collect()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { origin, path, what }) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match origin {
                ValueOrigin::File => write!(f, "{}: ", self.file)?,
                ValueOrigin::Line(line) => write!(f, "{}:{line}: ", self.file)?,
                ValueOrigin::Further(file, line) => write!(f, "{file}:{line}: ")?,
                ValueOrigin::Variable(name) => write!(f, "environment variable {name}: ")?,
                ValueOrigin::Set => f.write_str("--set: ")?,
            }
            if !path.is_empty() {
                write!(f, "{path}: ")?;
            }
            f.write_str(what)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_every_problem_on_a_line_of_its_own_in_the_order_of_the_file() {
        let error = ConfigError::new(
            "relay.yaml",
            vec![
                Problem::new(&ValueOrigin::Set, "queue.sync", "unknown"),
                Problem::new(&ValueOrigin::Line(12), "server.tsl", "unknown key"),
                Problem::new(&ValueOrigin::Line(3), "queue", "not a map"),
                Problem::new(&ValueOrigin::Variable("PORT".into()), "", "not a port"),
                Problem::new(&ValueOrigin::File, "", "is empty"),
            ],
        );
        let expected = "relay.yaml: is empty\nrelay.yaml:3: queue: not a map\nrelay.yaml:12: server.tsl: unknown key\n\
                        environment variable PORT: not a port\n--set: queue.sync: unknown";
        assert_eq!(error.to_string(), expected);
    }
}
