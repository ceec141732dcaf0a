//! Declaration of the configuration: each key once, with its documentation, its kind and its default.
//!
//! In: the `section!` declarations. Out: for each section a struct with its defaults, and [`Keys`]: reading, printing,
//! reloading, and the description that the schema, the example and the reference are generated from. Leaves to others:
//! what one value looks like ([`Kind`]), and checks across keys, which a section names after `=>`.

use std::marker::PhantomData;

use serde_json::Value;

use super::field::Field;
use super::kind::Kind;
use super::section::Section;
use super::tree::Tree;

/// A declared section.
pub(crate) trait Keys: Clone + Default + PartialEq {
    /// Name of the type.
    const NAME: &'static str;

    /// Reads every key of `section` and checks the result.
    fn read_keys(&mut self, section: &mut Section<'_>);

    fn to_tree(&self) -> Tree;

    /// Replaces the values of the keys that reload without a restart.
    fn reload(&mut self, new: &Self);

    /// Describes the keys, whose defaults are the values of `default`.
    fn describe(default: &Self) -> Vec<Key>;
}

/// Keys of a section that stand among those of the section around it.
pub(crate) struct Flat<S>(PhantomData<S>);

/// Description of one key.
#[derive(Clone)]
pub(crate) struct Key {
    pub(super) name: &'static str,
    /// One paragraph.
    pub(super) doc: String,
    pub(super) shape: Shape,
    /// Default in printed form; absent if there is no fixed one.
    pub(super) default: Tree,
    /// Value for the example, if there is no fixed default.
    pub(super) sample: &'static str,
    pub(super) presence: Presence,
    pub(super) is_live: bool,
    /// Set if further instances are named `KEY/NAME`.
    pub(super) is_named: bool,
}

/// Presence of a key in its section.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Optional,
    /// Optional, but most configurations have it, and so has the example.
    Usual,
    Required,
}

/// Form of a key's value.
#[derive(Clone)]
pub(crate) enum Shape {
    /// No key: the value is derived from others.
    Derived,
    /// The sections of the receivers, which are not known to the declaration.
    Receivers,
    /// A value with this JSON Schema.
    Value(Value),
    Section {
        /// Name of the type; a section can occur several times.
        name: &'static str,
        keys: Vec<Key>,
    },
}

// === impl Flat ===

impl<S: Keys> Kind for Flat<S> {
    type Value = S;

    fn read(_: &Field<'_>) -> Option<S> {
        None
    }

    fn read_key(section: &mut Section<'_>, _: &'static str, target: &mut S) {
        target.read_keys(section);
    }

    fn to_tree(keys: &S) -> Tree {
        keys.to_tree()
    }

    fn entries(_: &'static str, keys: &S) -> Vec<(String, Tree)> {
        match keys.to_tree() {
            Tree::Section(entries) => entries,
            _ => Vec::new(),
        }
    }

    fn shape() -> Shape {
        Shape::Derived
    }

    fn describe(_: &'static str, _: &str, default: &S) -> Vec<Key> {
        S::describe(default)
    }

    fn reload(old: &mut S, new: &S) {
        old.reload(new);
    }
}

// === impl Key ===

impl Key {
    /// Creates a key; `doc` is its doc comment.
    pub(crate) fn new(name: &'static str, doc: &str, shape: Shape, default: Tree) -> Self {
        let doc = doc.split_whitespace().collect::<Vec<_>>().join(" ");
        let presence = if default.is_absent() { Presence::Optional } else { Presence::Usual };
        Self { name, doc, shape, default, sample: "", presence, is_live: false, is_named: false }
    }

    /// Marks a key without a fixed default; the example shows `sample`, commented out.
    pub(crate) fn sample(self, sample: &'static str) -> Self {
        Self { sample, default: Tree::Absent, presence: Presence::Optional, ..self }
    }

    /// Marks a key without a fixed default that most configurations have; the example shows `sample`.
    pub(crate) fn usual(self, sample: &'static str) -> Self {
        Self { presence: Presence::Usual, ..self.sample(sample) }
    }

    /// Marks a key that its section needs; the example shows `sample`.
    pub(crate) fn required(self, sample: &'static str) -> Self {
        Self { presence: Presence::Required, ..self.sample(sample) }
    }

    /// Marks a key that reloads without a restart.
    pub(crate) fn live(self) -> Self {
        Self { is_live: true, ..self }
    }

    /// Marks a section some of whose keys reload without a restart.
    pub(crate) fn partly_live(self) -> Self {
        self
    }

    /// Marks a key with named instances.
    pub(crate) fn named(self) -> Self {
        Self { is_named: true, ..self }
    }
}

/// Returns the name of a key that may be a keyword of Rust, which `r#` marks.
pub(crate) const fn key_name(ident: &'static str) -> &'static str {
    match ident.as_bytes() {
        [b'r', b'#', ..] => ident.split_at(2).1,
        _ => ident,
    }
}

/// Declares a section.
///
/// A key is declared as `name: Kind = default, flag, flag(argument);`. Its field has the type of the kind's values. Without
/// `= default` the default is that of the type. Flags are the methods of [`Key`]. The function after `=>` checks the values
/// that were read, and may complete them.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $visibility:vis struct $section:ident $(=> $check:path)? {
            $(
                $(#[doc = $doc:literal])+
                $key:ident : $kind:ty $(= $default:expr)? $(, $flag:ident $(($argument:expr))?)*;
            )*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        $visibility struct $section {
            $($(#[doc = $doc])+ pub(crate) $key: <$kind as $crate::config::kind::Kind>::Value,)*
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $($key: section!(@default $($default)?),)* }
            }
        }

        impl $crate::config::declare::Keys for $section {
            const NAME: &'static str = stringify!($section);

            fn read_keys(&mut self, section: &mut $crate::config::section::Section<'_>) {
                $(<$kind as $crate::config::kind::Kind>::read_key(section, $crate::config::declare::key_name(stringify!($key)), &mut self.$key);)*
                $($check(self, section);)?
            }

            fn to_tree(&self) -> $crate::config::tree::Tree {
                let mut entries = Vec::new();
                $(entries.extend(<$kind as $crate::config::kind::Kind>::entries($crate::config::declare::key_name(stringify!($key)), &self.$key));)*
                $crate::config::tree::Tree::section(entries)
            }

            fn reload(&mut self, new: &Self) {
                let Self { .. } = new;
                $($(section!(@reload $flag, $kind, self.$key, new.$key);)*)*
            }

            fn describe(default: &Self) -> Vec<$crate::config::declare::Key> {
                let mut keys = Vec::new();
                $(for key in <$kind as $crate::config::kind::Kind>::describe(
                    $crate::config::declare::key_name(stringify!($key)),
                    concat!($($doc, "\n"),+),
                    &default.$key,
                ) {
                    keys.push(key$(.$flag($($argument)?))*);
                })*
                keys
            }
        }
    };
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
    (@reload live, $kind:ty, $old:expr, $new:expr) => { $old.clone_from(&$new) };
    (@reload partly_live, $kind:ty, $old:expr, $new:expr) => {
        <$kind as $crate::config::kind::Kind>::reload(&mut $old, &$new)
    };
    (@reload $flag:ident, $kind:ty, $old:expr, $new:expr) => {};
}

/// Declares an enum of words: the values of a key.
macro_rules! choice {
    (
        $(#[doc = $about:literal])+
        $visibility:vis enum $choice:ident { $($(#[doc = $doc:literal])* $value:ident = $word:literal,)+ }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $visibility enum $choice { $($(#[doc = $doc])* $value,)+ }

        impl $choice {
            const WORDS: &[(&str, Self)] = &[$(($word, Self::$value)),+];
        }

        choice!(@kind $choice, $choice::WORDS);
    };
    (@kind $choice:ty, $words:expr) => {
        impl $crate::config::kind::Kind for $choice {
            type Value = Self;

            fn read(field: &$crate::config::field::Field<'_>) -> Option<Self> {
                field.one_of($words)
            }

            fn to_tree(value: &Self) -> $crate::config::tree::Tree {
                let word = $words.iter().find(|(_, named)| named == value).map_or("", |(word, _)| *word);
                $crate::config::tree::Tree::Plain(word.to_owned())
            }

            fn shape() -> $crate::config::declare::Shape {
                let words: Vec<&str> = $words.iter().map(|(word, _)| *word).collect();
                $crate::config::kind::value(serde_json::json!({ "enum": words }))
            }
        }
    };
}

pub(crate) use {choice, section};
