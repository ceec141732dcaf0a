//! Merges configuration files: later ones win.
//!
//! Mappings are merged key by key; any other value replaces the earlier one as a whole, as in the Collector. A key without a
//! value changes nothing.

use super::problem::{Problem, ValueOrigin};
use super::yaml::{Node, YamlValue};

/// Merges `later` into `node`.
pub(super) fn merge(node: &mut Node, later: Node) {
    match (&mut node.value, later.value) {
        (_, YamlValue::Null) => {}
        (YamlValue::Map(entries), YamlValue::Map(others)) => {
            for other in others {
                let Some(entry) = entries.iter_mut().find(|entry| entry.key == other.key) else {
                    entries.push(other);
                    continue;
                };
                if !matches!(other.node.value, YamlValue::Map(_) | YamlValue::Null) {
                    entry.origin = other.origin;
                }
                merge(&mut entry.node, other.node);
            }
        }
        (value, other) => {
            *value = other;
            node.origin = later.origin;
        }
    }
}

/// Names the file in the origins of a node and of its problems, for files after the first one.
pub(super) fn name_file(file: &str, node: Option<&mut Node>, problems: &mut [Problem]) {
    for problem in problems {
        name_in(file, &mut problem.origin);
    }
    if let Some(node) = node {
        name_below(file, node);
    }
}

fn name_below(file: &str, node: &mut Node) {
    name_in(file, &mut node.origin);
    match &mut node.value {
        YamlValue::List(items) => items.iter_mut().for_each(|item| name_below(file, item)),
        YamlValue::Map(entries) => {
            for entry in entries {
                name_in(file, &mut entry.origin);
                name_below(file, &mut entry.node);
            }
        }
        YamlValue::Scalar(_) | YamlValue::Null | YamlValue::Broken => {}
    }
}

fn name_in(file: &str, origin: &mut ValueOrigin) {
    if let ValueOrigin::Line(line) = origin {
        *origin = ValueOrigin::Further(file.to_owned(), *line);
    }
}
