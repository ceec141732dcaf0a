//! Kinds of values: how the value of a key is read, printed and described.
//!
//! A kind is a type. It is the type of the value itself where that says everything (`bool`), and a marker where a number or
//! a text has rules of its own ([`Size`], [`Positive`]).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use serde_json::{Value, json};

use super::declare::{Key, Keys, Shape, choice};
use super::endpoint::Endpoint;
use super::field::{Field, MAX_COUNT};
use super::secret::Secret;
use super::section::Section;
use super::tree::Tree;
use super::units::{DURATION_PATTERN, SIZE_PATTERN, format_duration, format_size};

/// Headers that the relay sets itself.
const OWN_HEADERS: [HeaderName; 8] =
    [CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// Limit of a table of names: settings that a body was read by are stored with it.
const MAX_NAMES_BYTES: usize = 16 * 1024;

/// Reader, printer and description of the values of a key.
pub(crate) trait Kind {
    type Value: Clone;

    /// Set for kinds of which `key:` without a value is an empty one, and not an absent one.
    const IS_SECTION: bool = false;

    /// Reads a value. Returns `None` if it is invalid, with a problem recorded.
    fn read(field: &Field<'_>) -> Option<Self::Value>;

    /// Reads the value at `name`; an absent or invalid one leaves `target` unchanged.
    fn read_key(section: &mut Section<'_>, name: &'static str, target: &mut Self::Value) {
        section.set(name, target, Self::read);
    }

    fn to_tree(value: &Self::Value) -> Tree;

    /// Returns what the printed section of the key has.
    fn entries(name: &'static str, value: &Self::Value) -> Vec<(String, Tree)> {
        vec![(name.to_owned(), Self::to_tree(value))]
    }

    fn shape() -> Shape;

    /// Describes the key at `name`. `doc` is its doc comment.
    fn describe(name: &'static str, doc: &str, default: &Self::Value) -> Vec<Key> {
        vec![Key::new(name, doc, Self::shape(), Self::to_tree(default))]
    }

    /// Replaces the parts of a section that reload without a restart.
    fn reload(_old: &mut Self::Value, _new: &Self::Value) {}
}

/// Returns the shape of a value with this schema, which may also come from a variable or be absent.
pub(crate) fn value(schema: Value) -> Shape {
    Shape::Value(json!({ "anyOf": [schema, { "$ref": "#/$defs/variable" }] }))
}

/// Returns the schema of text. YAML's numbers and booleans are text, too, where a key holds text.
pub(super) fn text_schema() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

/// Implements [`Kind`] for a kind whose values have one reader, one printed form and one schema, and declares the kind if it
/// has a doc comment.
macro_rules! kind {
    ($(#[doc = $doc:literal])+ $kind:ident: $($rest:tt)*) => {
        $(#[doc = $doc])+
        pub(crate) struct $kind;
        $crate::config::kind::kind!($kind: $($rest)*);
    };
    ($kind:ty: $value:ty, $read:expr, $print:expr, $schema:expr) => {
        impl $crate::config::kind::Kind for $kind {
            type Value = $value;

            fn read(field: &$crate::config::field::Field<'_>) -> Option<$value> {
                $read(field)
            }

            fn to_tree(value: &$value) -> $crate::config::tree::Tree {
                $print(value)
            }

            fn shape() -> $crate::config::declare::Shape {
                $crate::config::kind::value($schema)
            }
        }
    };
}

/// Implements [`Kind`] for a value that no key sets: it is derived from others, and not printed.
macro_rules! derived {
    ($kind:ty) => {
        impl $crate::config::kind::Kind for $kind {
            type Value = Self;

            fn read(_: &$crate::config::field::Field<'_>) -> Option<Self> {
                None
            }

            fn read_key(_: &mut $crate::config::section::Section<'_>, _: &'static str, _: &mut Self) {}

            fn to_tree(_: &Self) -> $crate::config::tree::Tree {
                $crate::config::tree::Tree::Absent
            }

            fn shape() -> $crate::config::declare::Shape {
                $crate::config::declare::Shape::Derived
            }
        }
    };
}

pub(super) use derived;
pub(crate) use kind;

// === impl Kind ===

kind!(bool: bool, Field::boolean, plain, json!({ "type": "boolean" }));
kind!(SocketAddr: SocketAddr, Field::socket_address, text, json!({ "type": "string", "pattern": ":[0-9]+$" }));
kind!(HeaderName: HeaderName, header_name, text, json!({ "type": "string" }));
kind! {
    /// Text that is not empty.
    Text: String, Field::string, text, text_schema()
}
kind! {
    /// Text that is never repeated.
    SecretText: Secret, Field::secret, secret, text_schema()
}
kind! {
    /// Path of a file or directory.
    File: PathBuf, Field::file, |file: &PathBuf| text(&file.display()), text_schema()
}
kind! {
    /// Size in bytes, at least 1.
    Size: u64, Field::size, |size: &u64| plain(&format_size(*size)),
    json!({ "type": ["string", "integer"], "minimum": 1, "pattern": SIZE_PATTERN })
}
kind! {
    /// Whole number, at least 1.
    Count: usize, Field::count, plain, json!({ "type": "integer", "minimum": 1, "maximum": MAX_COUNT })
}
kind! {
    /// Whole number, at least 1, or `auto` (`None`) for one that the relay computes.
    CountOrAuto: Option<usize>, Field::count_or_auto,
    |count: &Option<usize>| count.map_or_else(|| plain(&"auto"), |count| plain(&count)),
    json!({ "anyOf": [{ "enum": ["auto"] }, { "type": "integer", "minimum": 1, "maximum": MAX_COUNT }] })
}
kind! {
    /// Duration, at least zero.
    Time: Duration, Field::duration, duration,
    json!({ "type": ["string", "integer"], "minimum": 0, "maximum": 0, "pattern": DURATION_PATTERN })
}
kind! {
    /// Duration above zero.
    Positive: Duration, Field::positive_duration, duration, json!({ "type": "string", "pattern": DURATION_PATTERN })
}
kind! {
    /// Number from 0 to 1.
    Fraction: f64, |field: &Field<'_>| field.number(0.0..=1.0), plain,
    json!({ "type": "number", "minimum": 0, "maximum": 1 })
}
kind! {
    /// Number from 1 to 100: a larger backoff multiplier would make retries pointless.
    Multiplier: f64, |field: &Field<'_>| field.number(1.0..=100.0), plain,
    json!({ "type": "number", "minimum": 1, "maximum": 100 })
}
kind! {
    /// URL of a downstream, without its user name and password.
    Url: Uri, |field: &Field<'_>| endpoint(field).map(|endpoint| endpoint.uri), text,
    json!({ "type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://" })
}
kind! {
    /// Header names and values; values are marked sensitive.
    Headers: HeaderMap, |field: &Field<'_>| Some(headers(Section::of(field.clone()))), table,
    json!({ "type": "object", "additionalProperties": text_schema() })
}

kind! {
    /// Names, and what each of them is called elsewhere.
    Renames: Vec<(String, String)>, |field: &Field<'_>| Some(renames(Section::of(field.clone()))),
    |names: &Vec<(String, String)>| {
        Tree::Table(names.iter().map(|(name, other)| (name.clone(), Tree::Text(other.clone()))).collect())
    },
    json!({ "type": "object", "additionalProperties": { "type": "string" } })
}

const LEVELS: &[(&str, tracing::Level)] = &[
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];

choice!(@kind tracing::Level, LEVELS);

impl<S: Keys> Kind for S {
    type Value = Self;

    const IS_SECTION: bool = true;

    fn read(field: &Field<'_>) -> Option<Self> {
        let mut value = Self::default();
        let mut section = Section::of(field.clone());
        value.read_keys(&mut section);
        section.finish();
        Some(value)
    }

    fn read_key(section: &mut Section<'_>, name: &'static str, target: &mut Self) {
        let mut section = section.section(name);
        target.read_keys(&mut section);
        section.finish();
    }

    fn to_tree(value: &Self) -> Tree {
        value.to_tree()
    }

    fn shape() -> Shape {
        Shape::Section { name: Self::NAME, keys: <Self as Keys>::describe(&Self::default()) }
    }

    fn reload(old: &mut Self, new: &Self) {
        Keys::reload(old, new);
    }
}

impl<K: Kind> Kind for Option<K> {
    type Value = Option<K::Value>;

    const IS_SECTION: bool = K::IS_SECTION;

    fn read(field: &Field<'_>) -> Option<Self::Value> {
        K::read(field).map(Some)
    }

    /// Reads the value. A section without a value is an empty one: it was meant to enable something.
    fn read_key(section: &mut Section<'_>, name: &'static str, target: &mut Self::Value) {
        let field = if K::IS_SECTION { section.given(name) } else { section.field(name) };
        if let Some(value) = field.and_then(|field| K::read(&field)) {
            *target = Some(value);
        }
    }

    fn to_tree(value: &Self::Value) -> Tree {
        value.as_ref().map_or(Tree::Absent, K::to_tree)
    }

    fn shape() -> Shape {
        K::shape()
    }

    fn reload(old: &mut Self::Value, new: &Self::Value) {
        if let (Some(old), Some(new)) = (old, new) {
            K::reload(old, new);
        }
    }
}

impl<K: Kind> Kind for Vec<K> {
    type Value = Vec<K::Value>;

    fn read(field: &Field<'_>) -> Option<Self::Value> {
        field.list(K::read)
    }

    fn to_tree(value: &Self::Value) -> Tree {
        Tree::List(value.iter().map(K::to_tree).collect())
    }

    fn shape() -> Shape {
        let Shape::Value(items) = K::shape() else { return Shape::Derived };
        value(json!({ "type": "array", "items": items }))
    }
}

/// Prints a value that YAML reads as it is.
pub(crate) fn plain(value: &impl ToString) -> Tree {
    Tree::Plain(value.to_string())
}

/// Prints a value in quotes.
pub(crate) fn text(value: &impl ToString) -> Tree {
    Tree::Text(value.to_string())
}

fn duration(value: &Duration) -> Tree {
    Tree::Plain(format_duration(*value))
}

pub(super) fn secret(value: &Secret) -> Tree {
    Tree::Secret(value.expose().into())
}

fn table(headers: &HeaderMap) -> Tree {
    let entry = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.to_string(), Tree::Secret(value.as_bytes().into()))
    };
    Tree::Table(headers.iter().map(entry).collect())
}

/// Reads a URL of a downstream.
pub(super) fn endpoint(field: &Field<'_>) -> Option<Endpoint> {
    let url = field.text()?;
    match Endpoint::parse(url) {
        Ok(endpoint) => Some(endpoint),
        Err(what) => {
            // A URL with a user contains a password.
            let shown = if url.contains('@') { field.hidden().shown() } else { field.shown() };
            field.problem(format!("{shown} {what}"));
            None
        }
    }
}

fn header_name(field: &Field<'_>) -> Option<HeaderName> {
    let name = field.text()?.parse().ok();
    if name.is_none() {
        field.problem(format!("{} is not a valid header name", field.shown()));
    }
    name
}

/// Reads header names and values. Neither is repeated in a problem: a typo may have turned the value into a name.
fn headers(section: Section<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (entry, field) in section.entries() {
        let Ok(name) = entry.key.parse::<HeaderName>() else {
            section.problem_by(entry, "contains a key that is not a valid header name");
            continue;
        };
        if OWN_HEADERS.contains(&name) {
            field.problem("the relay sets this header itself");
            continue;
        }
        let Some(text) = field.hidden().text() else { continue };
        let Ok(mut value) = HeaderValue::from_str(text) else {
            field.problem("invalid header value: it contains a line break or another control character");
            continue;
        };
        value.set_sensitive(true);
        if headers.insert(name, value).is_some() {
            field.problem("duplicate header; header names are case-insensitive");
        }
    }
    headers
}

/// Reads pairs of names. JSON must hold them without an escape.
fn renames(section: Section<'_>) -> Vec<(String, String)> {
    let is_name = |text: &str| {
        !text.is_empty() && !text.contains(|c: char| c.is_control() || matches!(c, '"' | '\\' | ' '))
    };
    let mut names = Vec::new();
    for (entry, field) in section.entries() {
        if !is_name(&entry.key) {
            section.problem_by(
                entry,
                "contains a key that is not a name: it is empty, or has a quote, a blank or a backslash",
            );
        } else if let Some(other) = field.text() {
            if is_name(other) {
                names.push((entry.key.clone(), other.to_owned()));
            } else {
                field.problem(format!(
                    "{} is not a name: it has a quote, a blank or a backslash",
                    field.shown()
                ));
            }
        }
    }
    if names.iter().map(|(name, other)| name.len() + other.len()).sum::<usize>() > MAX_NAMES_BYTES {
        section.missing(format!("has more than {MAX_NAMES_BYTES} bytes of names"));
    }
    names
}

/// Adds the `authorization` header from an endpoint's URL to `own`, unless it or `common` has one.
pub(super) fn authorize(own: &mut HeaderMap, authorization: Option<&str>, common: &HeaderMap) {
    if let Some(authorization) = authorization
        && !own.contains_key(&AUTHORIZATION)
        && !common.contains_key(&AUTHORIZATION)
        && let Ok(mut value) = HeaderValue::from_str(authorization)
    {
        value.set_sensitive(true);
        own.insert(AUTHORIZATION, value);
    }
}
