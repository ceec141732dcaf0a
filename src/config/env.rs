//! The environment, read once.
//!
//! In: the variables of the process, or those that a test gives. Out: their values by name.
//! Promises: nothing else in the program asks the process for a variable, and printing an [`Environment`] shows
//! names only, because values may be secrets.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

/// A snapshot of environment variables.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
}

/// What the environment says about one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable<'a> {
    Unset,
    Text(&'a str),
    NotUtf8,
}

// === impl Environment ===

impl Environment {
    /// The variables of this process. Those whose names are not UTF-8 are left out: no configuration can name them.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn of_process() -> Self {
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
        Self { variables }
    }

    /// No variables at all.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Every variable with its value, if that is UTF-8, in the order of the names.
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

    /// The value as the operating system has it: for file names, which need not be UTF-8.
    pub(super) fn get_os(&self, name: &str) -> Option<&OsStr> {
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
    fn printing_an_environment_shows_no_values() {
        let environment: Environment = [("TOKEN", "hunter2")].into_iter().collect();
        let shown = format!("{environment:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn tells_an_unset_variable_from_an_empty_one() {
        let environment: Environment = [("EMPTY", "")].into_iter().collect();
        assert_eq!(environment.get("EMPTY"), Variable::Text(""));
        assert_eq!(environment.get("ABSENT"), Variable::Unset);
    }

    #[cfg(unix)]
    #[test]
    fn keeps_a_value_that_is_not_utf8_apart() {
        use std::os::unix::ffi::OsStringExt;
        let environment: Environment = [("BYTES", OsString::from_vec(vec![0xff]))].into_iter().collect();
        assert_eq!(environment.get("BYTES"), Variable::NotUtf8);
    }
}
