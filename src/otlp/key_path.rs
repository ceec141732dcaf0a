//! Names of the fields of nested objects.

/// Maximum number of keys in a name.
const MAX_KEYS: usize = 4;

/// Maximum length of a key in a name.
const MAX_KEY_BYTES: usize = 256;

/// Keys that lead to a value, outermost first.
#[derive(Debug, Default)]
pub(crate) struct KeyPath(Vec<String>);

// === impl KeyPath ===

impl KeyPath {
    /// Enters the value of a member. A key of more than 256 bytes counts as empty: no rule names it, and each name below it would
    /// repeat it.
    pub(crate) fn enter(&mut self, key: &[u8]) {
        let key = if key.len() > MAX_KEY_BYTES { &b""[..] } else { key };
        self.0.push(String::from_utf8_lossy(key).into_owned());
    }

    pub(crate) fn leave(&mut self) {
        self.0.pop();
    }

    pub(crate) fn keys(&self) -> &[String] {
        &self.0
    }

    /// Returns the names of the innermost value: its key, and its key after up to three of those that lead to it, joined by dots. No
    /// name begins before the key with the number `first`.
    pub(crate) fn names(&self, first: usize) -> impl Iterator<Item = String> {
        let first = first.max(self.0.len().saturating_sub(MAX_KEYS));
        (first..self.0.len()).map(|from| self.0[from..].join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(keys: &[&str]) -> KeyPath {
        let mut path = KeyPath::default();
        keys.iter().for_each(|key| path.enter(key.as_bytes()));
        path
    }

    #[test]
    fn a_value_has_a_name_for_each_of_the_last_four_keys() {
        let mut deep = path(&["a", "b", "c", "d", "e"]);
        assert_eq!(deep.names(0).collect::<Vec<_>>(), ["b.c.d.e", "c.d.e", "d.e", "e"]);
        assert_eq!(deep.names(3).collect::<Vec<_>>(), ["d.e", "e"]);
        deep.leave();
        assert_eq!(deep.names(2).collect::<Vec<_>>(), ["c.d", "d"]);
    }

    #[test]
    fn no_name_repeats_a_key_that_is_too_long() {
        let longest = "k".repeat(MAX_KEY_BYTES);
        assert!(path(&[&longest]).names(0).eq([longest.as_str()]));
        assert_eq!(path(&[&format!("{longest}k"), "a"]).names(0).collect::<Vec<_>>(), [".a", "a"]);
    }
}
