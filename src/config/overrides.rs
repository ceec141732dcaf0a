//! Overrides single keys from the command line: `--set KEY=VALUE`.
//!
//! The key is dotted (`exporters.otlp_http.timeout`); names of instances contain no dots, so `receivers.fastly/www.path`
//! is unambiguous. The value is text, a YAML flow list or mapping (`["a", "b"]`), or empty for the default.

use super::env::Environment;
use super::interpolate::{Interpolated, interpolate};
use super::problem::{Problem, ValueOrigin};
use super::yaml::{self, Node, YamlValue};

/// Writes `argument` into the tree.
pub(super) fn apply(root: &mut Node, argument: &str, environment: &Environment, found: &mut Interpolated) {
    if let Err(problem) = write(root, argument, environment, found) {
        found.problems.push(problem);
    }
}

/// Removes the value that `argument` replaces, if there is one.
pub(super) fn clear(root: &mut Node, argument: &str) {
    let Some((key, _)) = argument.split_once('=') else { return };
    let mut place = root;
    for key in key.split('.').map(str::trim) {
        let YamlValue::Map(entries) = &mut place.value else { return };
        let Some(entry) = entries.iter_mut().find(|entry| entry.key == key) else { return };
        place = &mut entry.node;
    }
    place.value = YamlValue::Null;
}

fn write(
    root: &mut Node,
    argument: &str,
    environment: &Environment,
    found: &mut Interpolated,
) -> Result<(), Problem> {
    let Some((key, value)) = argument.split_once('=') else {
        // Not repeated: the argument may be a secret without its key.
        return Err(Problem::new(
            &ValueOrigin::Set,
            "",
            "write KEY=VALUE, such as exporters.otlp_http.timeout=3s",
        ));
    };
    let path: Vec<&str> = key.split('.').map(str::trim).collect();
    if path.iter().any(|key| key.is_empty()) {
        return Err(Problem::new(&ValueOrigin::Set, key, "the key must be a list of names joined by dots"));
    }
    let mut node = read(value);
    interpolate(&mut node, key, environment, found);
    root.put(&path, node).map_err(|depth| {
        let parent = path.iter().take(depth).copied().collect::<Vec<_>>().join(".");
        Problem::new(&ValueOrigin::Set, key, format!("{parent} is not a mapping"))
    })
}

/// Reads the value. Text that only looks like a list, a mapping or quoted text, such as `[::]:3000`, is plain text.
fn read(value: &str) -> Node {
    if value.starts_with(['[', '{', '"', '\'']) {
        let mut problems = Vec::new();
        if let Some(mut node) = yaml::parse(value, &mut problems)
            && problems.is_empty()
        {
            mark(&mut node);
            return node;
        }
    }
    match value {
        "" | "~" | "null" => Node::null(ValueOrigin::Set),
        text => Node::text(text, ValueOrigin::Set),
    }
}

/// Replaces line numbers, which mean nothing within a command line argument, by `--set`.
fn mark(node: &mut Node) {
    node.origin = ValueOrigin::Set;
    match &mut node.value {
        YamlValue::List(items) => items.iter_mut().for_each(mark),
        YamlValue::Map(entries) => {
            for entry in entries {
                entry.origin = ValueOrigin::Set;
                mark(&mut entry.node);
            }
        }
        YamlValue::Scalar(_) | YamlValue::Null | YamlValue::Broken => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(root: &mut Node, argument: &str) -> Result<(), Problem> {
        let environment = [("HOST", "collector")].into_iter().collect();
        let mut found = Interpolated::default();
        super::apply(root, argument, &environment, &mut found);
        found.problems.pop().map_or(Ok(()), Err)
    }

    fn tree(text: &str) -> Node {
        yaml::parse(text, &mut Vec::new()).unwrap()
    }

    fn text_at<'a>(root: &'a Node, path: &[&str]) -> &'a str {
        let node = path.iter().fold(root, |node, key| node.get(key).unwrap());
        let YamlValue::Scalar(scalar) = &node.value else { panic!("not text: {node:?}") };
        &scalar.text
    }

    #[test]
    fn replaces_a_value_and_creates_missing_mappings() {
        let mut root = tree("server:\n  endpoint: a\nreceivers:\n");
        apply(&mut root, "server.endpoint=b=c").unwrap();
        apply(&mut root, "receivers.fastly/www.path=/x").unwrap();
        assert_eq!(text_at(&root, &["server", "endpoint"]), "b=c");
        assert_eq!(text_at(&root, &["receivers", "fastly/www", "path"]), "/x");
    }

    #[test]
    fn a_value_may_be_a_list_in_one_line() {
        let mut root = tree("a: 1\n");
        apply(&mut root, "receivers.fastly.service_ids=[\"x\", y]").unwrap();
        let node = root.get("receivers").unwrap().get("fastly").unwrap().get("service_ids").unwrap();
        assert!(matches!(&node.value, YamlValue::List(items) if items.len() == 2));
        assert_eq!(node.origin, ValueOrigin::Set);
    }

    #[test]
    fn an_address_in_brackets_is_text() {
        let mut root = tree("a: 1\n");
        apply(&mut root, "server.endpoint=[::]:3000").unwrap();
        assert_eq!(text_at(&root, &["server", "endpoint"]), "[::]:3000");
    }

    #[test]
    fn variables_are_replaced_in_a_value() {
        let mut root = tree("a: 1\n");
        apply(&mut root, "a=http://${env:HOST}").unwrap();
        assert_eq!(text_at(&root, &["a"]), "http://collector");
        assert!(apply(&mut root, "a=${env:ABSENT}").unwrap_err().what.contains("ABSENT is not set"));
    }

    #[test]
    fn a_colon_in_a_value_is_text_too() {
        let mut root = tree("a: 1\n");
        apply(&mut root, "a=b: c # d").unwrap();
        assert_eq!(text_at(&root, &["a"]), "b: c # d");
    }

    #[test]
    fn an_invalid_argument_is_explained() {
        let mut root = tree("a: 1\n");
        assert!(apply(&mut root, "hunter2").unwrap_err().what.starts_with("write KEY=VALUE"));
        assert!(apply(&mut root, "a..b=1").unwrap_err().what.contains("joined by dots"));
        assert_eq!(apply(&mut root, "a.b.c=1").unwrap_err().what, "a is not a mapping");
    }
}
