//! Snapshot of the environment, read once.
//!
//! In: the variables of the process, or those of a test. Out: values by name.
//! Promises: nothing else in the program reads variables of the process, and `Debug` of an [`Environment`] shows names
//! only, because values may be secrets.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

/// A snapshot of environment variables.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
}

/// State of one variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable<'a> {
    Unset,
    Text(&'a str),
    NotUtf8,
}

// === impl Environment ===

impl Environment {
    /// Reads the variables of this process, except those whose names are not UTF-8: no configuration can reference them.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn of_process() -> Self {
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
        Self { variables }
    }

    /// Creates an environment without variables.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Iterates over all variables, ordered by name; the value is `None` if it is not UTF-8.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.to_str()))
    }

    pub(super) fn get(&self, name: &str) -> Variable<'_> {
        match self.variables.get(name).map(|value| value.to_str()) {
            None => Variable::Unset,
            Some(Some(text)) => Variable::Text(text),
            Some(None) => Variable::NotUtf8,
        }
    }

    /// Returns the socket of the service manager, if the process is a service of type `notify`.
    pub(crate) fn notify_socket(&self) -> Option<&OsStr> {
        self.get_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())
    }

    /// Returns the raw value, for file names, which need not be UTF-8.
    pub(crate) fn get_os(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(name).map(OsString::as_os_str)
    }
}

impl<K: Into<String>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_no_values() {
        let environment: Environment = [("TOKEN", "hunter2")].into_iter().collect();
        let shown = format!("{environment:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn distinguishes_unset_from_empty_variables() {
        let environment: Environment = [("EMPTY", "")].into_iter().collect();
        assert_eq!(environment.get("EMPTY"), Variable::Text(""));
        assert_eq!(environment.get("ABSENT"), Variable::Unset);
    }

    #[cfg(unix)]
    #[test]
    fn distinguishes_values_that_are_not_utf8() {
        use std::os::unix::ffi::OsStringExt;
        let environment: Environment = [("BYTES", OsString::from_vec(vec![0xff]))].into_iter().collect();
        assert_eq!(environment.get("BYTES"), Variable::NotUtf8);
    }
}
