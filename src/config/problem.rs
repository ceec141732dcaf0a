//! What is wrong with a configuration, and where.
//!
//! Every problem is kept, not only the first, so that one run of `spanrelay validate` is enough to mend a file.
//! A problem never holds a value that may be a secret: whoever words it leaves such values out.

use std::fmt;

/// Why a configuration cannot be used: every problem in it, one per line of its `Display`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// What to call the file in messages.
    file: String,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) origin: Origin,
    /// The key, dotted from the root. Empty when the problem is not about a key.
    pub(super) path: String,
    /// What is wrong and what is allowed.
    pub(super) what: String,
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// The file, at no line in particular.
    File,
    /// A line of the file; 1 is the first.
    Line(usize),
    /// An environment variable that stands for a key.
    Variable(String),
    /// `--set` on the command line.
    Set,
}

// === impl Problem ===

impl Problem {
    pub(super) fn new(origin: &Origin, path: impl Into<String>, what: impl Into<String>) -> Self {
        let mut path = path.into();
        if path.contains(char::is_control) {
            // One problem stays one line, whatever a key holds.
            path = path.escape_debug().to_string();
        }
        Self { origin: origin.clone(), path, what: what.into() }
    }
}

// === impl ConfigError ===

impl ConfigError {
    /// `problems` is not empty; they are shown in the order of the file.
    pub(super) fn new(file: impl Into<String>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        Self { file: file.into(), problems }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { origin, path, what }) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match origin {
                Origin::File => write!(f, "{}: ", self.file)?,
                Origin::Line(line) => write!(f, "{}:{line}: ", self.file)?,
                Origin::Variable(name) => write!(f, "environment variable {name}: ")?,
                Origin::Set => f.write_str("--set: ")?,
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
                Problem::new(&Origin::Set, "queue.sync", "unknown"),
                Problem::new(&Origin::Line(12), "server.tsl", "unknown key"),
                Problem::new(&Origin::Line(3), "queue", "not a map"),
                Problem::new(&Origin::Variable("PORT".into()), "", "not a port"),
                Problem::new(&Origin::File, "", "is empty"),
            ],
        );
        let expected = "relay.yaml: is empty\nrelay.yaml:3: queue: not a map\nrelay.yaml:12: server.tsl: unknown key\n\
                        environment variable PORT: not a port\n--set: queue.sync: unknown";
        assert_eq!(error.to_string(), expected);
    }
}
