//! Values of a configuration in printed form.
//!
//! In: sections and kinds, which print themselves as a [`Tree`]. Out: YAML for `spanrelay validate --print`, and the
//! keys in which two configurations differ. Promises: no secret is printed, although secrets are compared; apart from
//! secrets the YAML loads as the same configuration.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Placeholder for a secret.
pub(crate) const REDACTED: &str = "[redacted]";

/// A printed value. Not `Debug`, because it may contain a secret.
#[derive(Clone, PartialEq)]
pub(crate) enum Tree {
    /// No value; its key is left out.
    Absent,
    /// Text that YAML reads as it is: a number, a word, a duration.
    Plain(String),
    /// Text in quotes.
    Text(String),
    Secret(Vec<u8>),
    List(Vec<Self>),
    /// Mapping with keys chosen by the operator; it changes as a whole.
    Table(Vec<(String, Self)>),
    Section(Vec<(String, Self)>),
}

// === impl Tree ===

impl Tree {
    /// Creates a section from the values of its keys; absent if all of them are.
    pub(crate) fn section(mut keys: Vec<(String, Self)>) -> Self {
        keys.retain(|(_, value)| !value.is_absent());
        if keys.is_empty() { Self::Absent } else { Self::Section(keys) }
    }

    pub(super) fn is_absent(&self) -> bool {
        match self {
            Self::Absent => true,
            Self::Table(entries) => entries.is_empty(),
            _ => false,
        }
    }

    /// Returns the content of a section or table as lines of YAML.
    pub(super) fn to_yaml(&self) -> String {
        let mut text = String::new();
        self.write(0, &mut text);
        text
    }

    fn write(&self, depth: usize, text: &mut String) {
        let (Self::Section(entries) | Self::Table(entries)) = self else { return };
        let indent = depth * 2;
        for (name, value) in entries {
            let inline = value.inline();
            let gap = if inline.is_empty() { "" } else { " " };
            writeln!(text, "{:indent$}{}:{gap}{inline}", "", key(name))
                .expect("writing to a string never fails");
            value.write(depth + 1, text);
        }
    }

    /// Returns a value that fits on the line of its key; empty for sections.
    pub(super) fn inline(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Text(text) => quote(text),
            Self::Secret(_) => quote(REDACTED),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::inline).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Absent | Self::Table(_) | Self::Section(_) => String::new(),
        }
    }

    /// Adds the keys in which two trees differ, dotted from the root. A new section stands for all of its keys.
    pub(super) fn differences(&self, other: &Self, path: &str, found: &mut Vec<String>) {
        if self == other {
            return;
        }
        let (Self::Section(entries), Self::Section(others)) = (self, other) else {
            found.push(path.to_owned());
            return;
        };
        let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for (name, value) in entries {
            let counterpart = others.iter().find(|(other, _)| other == name);
            value.differences(counterpart.map_or(&Self::Absent, |(_, other)| other), &at(name), found);
        }
        let is_new = |name: &str| !entries.iter().any(|(known, _)| known == name);
        found.extend(others.iter().filter(|(name, _)| is_new(name)).map(|(name, _)| at(name)));
    }
}

/// Quotes a key where YAML would misread it. Header names can begin with `*`, `&` or `#`.
fn key(name: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | '.');
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_plain) {
        return name.into();
    }
    // Variables are not replaced in keys, so a `$` is literal.
    quote(name).replace("$$", "$").into()
}

/// Returns a double-quoted YAML scalar without variable references.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '$' => quoted.push_str("$$"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                quoted.push_str(&format!("\\U{:08x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
pub(super) mod tests;
