//! One value of the configuration, read as the type that its key requires.
//!
//! In: a node of the tree. Out: `Some` typed value, or `None` and a problem that says what is wrong and what is allowed.
//! Promises: text that may be a secret (a hidden field, the value of a variable) is never repeated in a problem.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::problem::{Problem, ValueOrigin};
use super::receivers::ReceiverKind;
use super::secret::Secret;
use super::units;
use super::yaml::{Node, Scalar, YamlValue};

/// Maximum duration: a longer one is surely a typo, and adding one to a clock must not overflow.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Maximum count, and thus the maximum number of permits of a semaphore.
pub(super) const MAX_COUNT: usize = 1_000_000;

/// Maximum size: the largest file offset.
const MAX_SIZE: u64 = i64::MAX as u64;

/// Maximum length of an invalid value that a message repeats, in characters.
const SHOWN: usize = 60;

/// Problems and notes collected while reading a configuration, and what is known outside of it.
pub(super) struct Diagnostics {
    /// Kinds of receivers that can be configured.
    pub(super) receivers: &'static [ReceiverKind],
    problems: RefCell<Vec<Problem>>,
    notes: RefCell<Vec<String>>,
}

/// A value that is present, with its key.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    pub(super) diagnostics: &'a Diagnostics,
    /// Key, dotted from the root.
    pub(super) path: String,
    pub(super) origin: &'a ValueOrigin,
    pub(super) node: &'a Node,
    hidden: bool,
}

// === impl Diagnostics ===

impl Diagnostics {
    pub(super) fn new(receivers: &'static [ReceiverKind]) -> Self {
        Self { receivers, problems: RefCell::default(), notes: RefCell::default() }
    }

    pub(super) fn problem(&self, origin: &ValueOrigin, path: &str, what: impl Into<String>) {
        self.problems.borrow_mut().push(Problem::new(origin, path, what));
    }

    /// Records a note: worth a log line, but not an error.
    pub(super) fn note(&self, what: impl Into<String>) {
        self.notes.borrow_mut().push(what.into());
    }

    /// Returns problems and notes.
    pub(super) fn into_parts(self) -> (Vec<Problem>, Vec<String>) {
        (self.problems.into_inner(), self.notes.into_inner())
    }
}

// === impl Field ===

impl<'a> Field<'a> {
    /// Creates a field; `key` is the position of its key.
    pub(super) fn new(
        diagnostics: &'a Diagnostics,
        path: String,
        key: &'a ValueOrigin,
        node: &'a Node,
    ) -> Self {
        // The line of the key is more useful than the first line of a map's or list's content.
        let origin = match node.value {
            YamlValue::List(_) | YamlValue::Map(_) | YamlValue::Null => key,
            YamlValue::Scalar(_) | YamlValue::Broken => &node.origin,
        };
        Self { diagnostics, path, origin, node, hidden: false }
    }

    /// Returns the field with its value hidden from messages.
    pub(crate) fn hidden(&self) -> Self {
        Self { hidden: true, ..self.clone() }
    }

    pub(crate) fn problem(&self, what: impl Into<String>) {
        self.diagnostics.problem(self.origin, &self.path, what);
    }

    fn scalar(&self, expected: &str) -> Option<&'a Scalar> {
        let found = match &self.node.value {
            YamlValue::Scalar(scalar) => return Some(scalar),
            YamlValue::Broken => return None,
            YamlValue::Null => "nothing",
            YamlValue::List(_) => "a list",
            YamlValue::Map(_) => "a mapping",
        };
        self.problem(format!("expected {expected}, found {found}"));
        None
    }

    /// Formats the value for a message, unless it may be a secret.
    pub(crate) fn shown(&self) -> String {
        match &self.node.value {
            YamlValue::Scalar(scalar) if !self.hidden && !scalar.from_environment => {
                let mut text: String = scalar.text.chars().take(SHOWN).collect();
                if text.len() < scalar.text.len() {
                    text.push('…');
                }
                format!("{text:?}")
            }
            _ => "this value".to_owned(),
        }
    }

    /// Parses the value with `read`.
    fn parsed<T>(&self, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = read(&self.scalar(expected)?.text);
        if value.is_none() {
            self.problem(format!("{} is not {expected}", self.shown()));
        }
        value
    }

    /// Parses text whose problems are recorded already.
    pub(crate) fn parsed_quietly<T, E>(&self, read: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let YamlValue::Scalar(scalar) = &self.node.value else { return None };
        read(&scalar.text).ok()
    }

    /// Returns the value, or records a problem if it is not `allowed`.
    fn within<T>(&self, value: Option<T>, allowed: impl FnOnce(&T) -> bool, rule: &str) -> Option<T> {
        let value = value?;
        if !allowed(&value) {
            self.problem(format!("{} is out of range: it must be {rule}", self.shown()));
            return None;
        }
        Some(value)
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        let text = self.scalar("text")?.text.as_str();
        if text.is_empty() {
            self.problem("is empty");
            return None;
        }
        Some(text)
    }

    pub(crate) fn string(&self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    pub(crate) fn secret(&self) -> Option<Secret> {
        self.text().map(Secret::new)
    }

    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.text().map(PathBuf::from)
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        let scalar = self.scalar("true or false")?;
        let meant = match scalar.text.as_str() {
            "true" | "True" | "TRUE" => return Some(true),
            "false" | "False" | "FALSE" => return Some(false),
            text if ["yes", "on", "y", "1"].iter().any(|word| text.eq_ignore_ascii_case(word)) => {
                "; write true"
            }
            text if ["no", "off", "n", "0"].iter().any(|word| text.eq_ignore_ascii_case(word)) => {
                "; write false"
            }
            _ => "",
        };
        self.problem(format!("{} is not true or false{meant}", self.shown()));
        None
    }

    pub(crate) fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let expected = format!("one of {}", names.join(", "));
        self.parsed(&expected, |text| choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value))
    }

    pub(crate) fn duration(&self) -> Option<Duration> {
        let duration = self.parsed("a duration; write it like 500ms, 3s, 5m or 1h", units::parse_duration);
        self.within(duration, |duration| *duration <= MAX_DURATION, "at most 8760h")
    }

    pub(crate) fn positive_duration(&self) -> Option<Duration> {
        self.within(self.duration(), |duration| !duration.is_zero(), "more than 0s")
    }

    /// Reads a size in bytes, at least one.
    pub(crate) fn size(&self) -> Option<u64> {
        let size = self.parsed("a size; write it like 64KiB, 100MiB, 1GiB, 500MB or 1024", units::parse_size);
        self.within(size, |size| (1..=MAX_SIZE).contains(size), "from 1 to 8 EiB")
    }

    /// Reads a count, at least one.
    pub(crate) fn count(&self) -> Option<usize> {
        let count = self.parsed("a whole number", |text| text.parse().ok());
        self.within(count, |count| (1..=MAX_COUNT).contains(count), &format!("from 1 to {MAX_COUNT}"))
    }

    /// Reads a count, at least one, or `auto`.
    pub(crate) fn count_or_auto(&self) -> Option<Option<usize>> {
        let count = self.parsed("auto or a whole number", |text| match text {
            "auto" => Some(None),
            _ => text.parse().ok().map(Some),
        });
        let allowed = |count: &Option<usize>| count.is_none_or(|count| (1..=MAX_COUNT).contains(&count));
        self.within(count, allowed, &format!("auto, or from 1 to {MAX_COUNT}"))
    }

    /// The status of an HTTP error.
    pub(crate) fn error_status(&self) -> Option<u16> {
        let code = self.parsed("an HTTP status code", |text| text.parse().ok());
        self.within(code, |code| (400..=599).contains(code), "from 400 to 599")
    }

    pub(crate) fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let number = self.parsed("a number", |text| text.parse().ok());
        let rule = format!("from {} to {}", range.start(), range.end());
        self.within(number, |number: &f64| range.contains(number), &rule)
    }

    /// Reads a socket address. `localhost` is the only name accepted: a listening address must not depend on DNS.
    pub(crate) fn socket_address(&self) -> Option<SocketAddr> {
        self.parsed(
            "an IP address and a port; write it like 127.0.0.1:3000, 0.0.0.0:3000 or [::]:3000",
            |text| match text.strip_prefix("localhost:") {
                Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
                None => text.parse().ok(),
            },
        )
    }

    /// Reads each item with `read`. Returns `None` if the value is not a list; invalid items are skipped.
    pub(crate) fn list<T>(&self, read: impl Fn(&Self) -> Option<T>) -> Option<Vec<T>> {
        let YamlValue::List(items) = &self.node.value else {
            let found = match &self.node.value {
                YamlValue::Broken => return None,
                YamlValue::Scalar(_) => "a scalar; write it in [ ]",
                YamlValue::Map(_) => "a mapping",
                YamlValue::Null | YamlValue::List(_) => "nothing",
            };
            self.problem(format!("expected a list, found {found}"));
            return None;
        };
        let fields = items.iter().enumerate().map(|(index, node)| Self {
            diagnostics: self.diagnostics,
            path: format!("{}[{index}]", self.path),
            origin: &node.origin,
            node,
            hidden: self.hidden,
        });
        Some(fields.filter_map(|field| read(&field)).collect())
    }
}
