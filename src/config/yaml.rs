//! Parses YAML into a small tree with the origin of every value.
//!
//! In: the text of a file. Out: one [`Node`]; keys in the order of the file, scalars as text, because the key decides
//! their type (a number, a duration).
//! Promises: reports valid YAML that an operator cannot have meant (duplicate keys, two documents); bounds depth and
//! size, aliases included.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::problem::{Problem, ValueOrigin};

/// Maximum depth: far above any configuration, a bound for recursion over the tree.
const MAX_DEPTH: usize = 32;

/// Maximum number of nodes: far above any configuration, a bound for aliases that multiply.
const MAX_NODES: usize = 20_000;

/// A value and its origin.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) origin: ValueOrigin,
    pub(super) value: YamlValue,
}

#[derive(Debug, Clone)]
pub(super) enum YamlValue {
    /// No value: `key:`, `~` or `null`.
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<MappingEntry>),
    /// Invalid value whose problem is recorded already.
    Broken,
}

/// A scalar value.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Set if some of the text came from an environment variable or a file of its own, so that messages never repeat it.
    pub(super) from_environment: bool,
}

/// One key of a mapping and its value.
#[derive(Debug, Clone)]
pub(super) struct MappingEntry {
    pub(super) key: String,
    /// Origin of the key.
    pub(super) origin: ValueOrigin,
    pub(super) node: Node,
}

/// Tree under construction, innermost collection last.
struct Builder<'p> {
    problems: &'p mut Vec<Problem>,
    open: Vec<OpenCollection>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

/// A collection whose end has not been read yet.
struct OpenCollection {
    origin: ValueOrigin,
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Map { entries: Vec<MappingEntry>, key: Option<(String, ValueOrigin)> },
}

/// Parsing stopped; the problem is recorded already.
struct ParseStop;

/// Parses the only document of `text`. Returns `None` if there is none, or if it is invalid, with a problem recorded.
pub(super) fn parse(text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    let mut builder = Builder { problems, open: Vec::new(), root: None, anchors: HashMap::new(), nodes: 0 };
    for event in Parser::new_from_str(text) {
        let taken = match event {
            Ok((event, span)) => builder.handle(event, span),
            Err(error) => Err(builder.syntax(text, &error)),
        };
        if taken.is_err() {
            return None;
        }
    }
    builder.root
}

// === impl Node ===

impl Node {
    pub(super) fn text(text: impl Into<String>, origin: ValueOrigin) -> Self {
        let from_environment = matches!(origin, ValueOrigin::Variable(_));
        Self { origin, value: YamlValue::Scalar(Scalar { text: text.into(), from_environment }) }
    }

    pub(super) fn null(origin: ValueOrigin) -> Self {
        Self { origin, value: YamlValue::Null }
    }

    /// Returns the value at a key of this mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            YamlValue::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            _ => None,
        }
    }

    /// Writes `node` at `path`, replacing an old value and creating missing mappings. The error is the number of keys that
    /// lead to a value that is not a mapping.
    pub(super) fn put(&mut self, path: &[&str], node: Self) -> Result<(), usize> {
        let origin = node.origin.clone();
        let mut place = self;
        for (depth, key) in path.iter().enumerate() {
            if matches!(place.value, YamlValue::Null) {
                place.value = YamlValue::Map(Vec::new());
            }
            let YamlValue::Map(entries) = &mut place.value else { return Err(depth) };
            let at = entries.iter().position(|entry| entry.key == *key).unwrap_or_else(|| {
                let node = Self::null(origin.clone());
                entries.push(MappingEntry { key: (*key).to_owned(), origin: origin.clone(), node });
                entries.len() - 1
            });
            if depth + 1 == path.len() {
                entries[at].origin = origin.clone();
            }
            place = &mut entries[at].node;
        }
        *place = node;
        Ok(())
    }

    /// Removes a key from the mapping at `path`, if there is one.
    pub(super) fn remove(&mut self, path: &[&str], key: &str) {
        let mut place = self;
        for step in path {
            let YamlValue::Map(entries) = &mut place.value else { return };
            let Some(entry) = entries.iter_mut().find(|entry| entry.key == *step) else { return };
            place = &mut entry.node;
        }
        if let YamlValue::Map(entries) = &mut place.value {
            entries.retain(|entry| entry.key != key);
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            YamlValue::List(items) => items.iter().map(Self::count).sum(),
            YamlValue::Map(entries) => entries.iter().map(|entry| entry.node.count()).sum(),
            _ => 0,
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.value {
            YamlValue::List(items) => items.iter().map(Self::depth).max().unwrap_or(0),
            YamlValue::Map(entries) => entries.iter().map(|entry| entry.node.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

// === impl Builder ===

impl Builder<'_> {
    fn handle(&mut self, event: Event<'_>, span: Span) -> Result<(), ParseStop> {
        let origin = ValueOrigin::Line(span.start.line());
        match event {
            Event::DocumentStart(_) if self.root.is_some() => Err(self
                .stop(&origin, "a second document begins here; a configuration must be a single document")),
            Event::Scalar(text, style, anchor, tag) => {
                if tag.is_some_and(|tag| !tag.is_yaml_core_schema()) {
                    return Err(self.stop(&origin, "tags are not supported"));
                }
                self.scalar(text.into_owned(), style, anchor, origin)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(Items::List(Vec::new()), anchor, tag.is_some(), origin)
            }
            Event::MappingStart(anchor, tag) => {
                let items = Items::Map { entries: Vec::new(), key: None };
                self.open(items, anchor, tag.is_some(), origin)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(OpenCollection { origin, anchor, items }) = self.open.pop() else { return Ok(()) };
                let value = match items {
                    Items::List(items) => YamlValue::List(items),
                    Items::Map { entries, .. } => YamlValue::Map(entries),
                };
                self.insert(Node { origin, value }, anchor)
            }
            Event::Alias(anchor) => self.alias(anchor, origin),
            _ => Ok(()),
        }
    }

    fn open(
        &mut self,
        items: Items,
        anchor: usize,
        tagged: bool,
        origin: ValueOrigin,
    ) -> Result<(), ParseStop> {
        if tagged {
            return Err(self.stop(&origin, "tags are not supported"));
        }
        if self.awaits_key() {
            return Err(self.stop(&origin, "a key must be text, not a list or a mapping"));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(self.stop(&origin, "nested too deeply"));
        }
        self.open.push(OpenCollection { origin, anchor, items });
        Ok(())
    }

    fn scalar(
        &mut self,
        text: String,
        style: ScalarStyle,
        anchor: usize,
        origin: ValueOrigin,
    ) -> Result<(), ParseStop> {
        if self.awaits_key() {
            return self.key(text, origin);
        }
        let plain = style == ScalarStyle::Plain;
        let node = if plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
            Node::null(origin)
        } else {
            Node { origin, value: YamlValue::Scalar(Scalar { text, from_environment: false }) }
        };
        self.insert(node, anchor)
    }

    fn key(&mut self, text: String, origin: ValueOrigin) -> Result<(), ParseStop> {
        if text == "<<" {
            return Err(self.stop(&origin, "merge keys (<<) are not supported"));
        }
        if let Some(OpenCollection { items: Items::Map { key, .. }, .. }) = self.open.last_mut() {
            *key = Some((text, origin));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, origin: ValueOrigin) -> Result<(), ParseStop> {
        if self.awaits_key() {
            return Err(self.stop(&origin, "a key must be text, not an alias"));
        }
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(self.stop(&origin, "this alias refers to the value that contains it"));
        };
        self.nodes += node.count();
        if self.open.len() + node.depth() > MAX_DEPTH {
            return Err(self.stop(&origin, "nested too deeply"));
        }
        self.insert(node, 0)
    }

    /// Adds a finished value to the innermost collection.
    fn insert(&mut self, node: Node, anchor: usize) -> Result<(), ParseStop> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.stop(&node.origin, "too many values; do aliases repeat each other?"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.root = Some(node),
            Some(Items::List(items)) => items.push(node),
            Some(Items::Map { entries, key }) => {
                let Some((key, origin)) = key.take() else { return Ok(()) };
                match entries.iter().find(|entry| entry.key == key) {
                    None => entries.push(MappingEntry { key, origin, node }),
                    Some(first) => {
                        let first = first.origin.clone();
                        self.duplicate_key(&key, &origin, &first);
                    }
                }
            }
        }
        Ok(())
    }

    fn duplicate_key(&mut self, key: &str, origin: &ValueOrigin, first: &ValueOrigin) {
        let mut path = self.path();
        path.push(key);
        let path = path.join(".");
        let what = match first {
            ValueOrigin::Line(line) => format!("duplicate key (first on line {line})"),
            _ => "duplicate key".to_owned(),
        };
        self.problems.push(Problem::new(origin, path, what));
    }

    /// Returns the keys that lead to the current position.
    fn path(&self) -> Vec<&str> {
        let keys = self.open.iter().filter_map(|open| match &open.items {
            Items::Map { key: Some((key, _)), .. } => Some(key.as_str()),
            _ => None,
        });
        keys.collect()
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(OpenCollection { items: Items::Map { key: None, .. }, .. }))
    }

    fn stop(&mut self, origin: &ValueOrigin, what: &str) -> ParseStop {
        let path = self.path().join(".");
        self.problems.push(Problem::new(origin, path, what));
        ParseStop
    }

    /// Records a syntax error without the offending text, which may be a secret.
    fn syntax(&mut self, text: &str, error: &ScanError) -> ParseStop {
        let (line, column) = (error.marker().line(), error.marker().col() + 1);
        let what = match first_tab(text).filter(|tab| *tab <= line) {
            Some(tab) => {
                self.problems.push(Problem::new(
                    &ValueOrigin::Line(tab),
                    "",
                    "this line is indented with a tab; YAML requires spaces",
                ));
                return ParseStop;
            }
            // The parser's message describes its own state; the usual causes are these.
            None => format!(
                "not valid YAML at column {column}: {}; look here and at the line above for indentation that differs \
                 from its neighbours', a missing colon or an open quote",
                error.info()
            ),
        };
        self.problems.push(Problem::new(&ValueOrigin::Line(line), "", what));
        ParseStop
    }
}

/// Returns the number of the first line that is indented with a tab, from 1.
fn first_tab(text: &str) -> Option<usize> {
    let indented_by_tab = |line: &str| {
        let content = line.trim_start();
        line.strip_suffix(content).is_some_and(|indent| indent.contains('\t')) && !content.is_empty()
    };
    text.lines().position(indented_by_tab).map(|index| index + 1)
}

#[cfg(test)]
mod tests;
