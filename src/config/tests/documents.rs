//! Generated documents: the example file and the table of keys in the reference.
//!
//! `UPDATE=1 cargo test --lib config::tests::documents` writes them; without it the tests fail where they differ.

use std::collections::HashMap;
use std::path::Path;

use super::super::declare::{Key, Presence, Shape};
use super::super::generate::keys;
use super::*;

/// Maximum width of comments in the example.
const WIDTH: usize = 118;

/// Beginning of the example.
const HEAD: &str = "\
# Every key of spanrelay with its default. Keys without a default are commented out as `#key:`.
#
#   CIRCLECI_HOOK_SECRET=… GITHUB_WEBHOOK_SECRET=… spanrelay validate --config config/spanrelay.example.yaml
#
# Only `receivers` is required: a file with `receivers: { fastly: }` and nothing else is complete.
#
# ${env:NAME} and ${env:NAME:-default} in a value are replaced with an environment variable; one that is not set and has
# no default is an error, and so is $NAME without braces. ${file:PATH} is replaced with the text of a file. $$ is a literal
# $. Durations: 500ms 3s 5m 1h 1m30s. Sizes: 1024 64KiB 100MiB 1GiB 500MB. A key without a value counts as absent. Unknown
# keys are errors.
#
# Generated from src/config/sections.
";

/// Marks around the generated part of the reference.
const BEGIN: &str = "<!-- Generated from src/config/sections; see CONTRIBUTING.md. -->\n";
const END: &str = "<!-- End of the generated part. -->\n";

#[test]
fn the_example_is_current() {
    let mut seen = Vec::new();
    let sections = keys(RECEIVERS).into_iter().map(|key| example(vec![key], true, &mut seen).join("\n"));
    let text: Vec<String> = sections.collect();
    compare("config/spanrelay.example.yaml", |_| format!("{HEAD}\n{}\n", text.join("\n\n")));
}

#[test]
fn the_reference_is_current() {
    let mut text = String::new();
    let mut seen = HashMap::new();
    for key in keys(RECEIVERS) {
        reference(key, "", &mut seen, &mut text);
    }
    compare("docs/configuration.md", |old| {
        let (before, rest) = old.split_once(BEGIN).expect("the reference has a generated part");
        let (_, after) = rest.split_once(END).expect("the generated part has an end");
        format!("{before}{BEGIN}{text}\n{END}{after}")
    });
}

/// Compares a file with what it should be, or writes it.
fn compare(file: &str, generate: impl FnOnce(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let old = std::fs::read_to_string(&path).unwrap();
    let new = generate(&old);
    if Environment::of_process().get_os("UPDATE").is_some() {
        std::fs::write(&path, new).unwrap();
    } else {
        let differing = new.lines().zip(old.lines()).find(|(new, old)| new != old);
        let advice = "run UPDATE=1 cargo test --lib config::tests::documents";
        assert!(new == old, "{file} is not current; {advice}: {differing:?}");
    }
}

/// Returns the lines of a section. Sections in `seen` are not documented again.
fn example(keys: Vec<Key>, with_docs: bool, seen: &mut Vec<&'static str>) -> Vec<String> {
    let mut lines = Vec::new();
    for key in keys {
        let is_commented = key.presence == Presence::Optional;
        let mut block = Vec::new();
        match key.shape {
            Shape::Derived | Shape::Receivers => continue,
            Shape::Value(_) => {
                let value = if key.sample.is_empty() { key.default.inline() } else { key.sample.to_owned() };
                block.push(format!("{}: {value}", key.name));
            }
            Shape::Section { name, keys } => {
                let is_new = !seen.contains(&name);
                seen.push(name);
                block.push(format!("{}:", key.name));
                let inner = example(keys, with_docs && is_new, seen);
                block.extend(inner.into_iter().map(|line| format!("  {line}")));
            }
        }
        if with_docs {
            lines.extend(wrapped(&key.doc));
        }
        lines.extend(block.into_iter().map(|line| if is_commented { format!("#{line}") } else { line }));
    }
    lines
}

/// Returns a text as lines of a comment.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec!["#".to_owned()];
    for word in text.split(' ') {
        let line = lines.last_mut().unwrap();
        if line.chars().count() + 1 + word.chars().count() > WIDTH - 8 {
            lines.push(format!("# {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines
}

/// Writes the tables of a key's section, or of the sections in it.
fn reference(key: Key, above: &str, seen: &mut HashMap<&'static str, String>, text: &mut String) {
    let path = if above.is_empty() { key.name.to_owned() } else { format!("{above}.{}", key.name) };
    let Shape::Section { keys, .. } = key.shape else { panic!("{path} is not a section") };
    text.push_str(&format!("\n### `{path}`\n\n{}\n", key.doc));
    let is_group =
        |key: &Key| matches!(key.shape, Shape::Section { .. }) && key.presence != Presence::Optional;
    if keys.iter().all(is_group) {
        keys.into_iter().for_each(|key| reference(key, &path, seen, text));
        return;
    }
    text.push_str("\n| key | default | meaning |\n|---|---|---|\n");
    rows(keys, "", &path, seen, text);
}

/// Writes a row for each key, and for the keys of sections in it.
fn rows(
    keys: Vec<Key>,
    prefix: &str,
    table: &str,
    seen: &mut HashMap<&'static str, String>,
    text: &mut String,
) {
    for key in keys {
        let name = format!("{prefix}{}", key.name);
        let reload = if key.is_live { " Reloads without a restart." } else { "" };
        let meaning = format!("{}{reload}", key.doc);
        match key.shape {
            Shape::Derived | Shape::Receivers => {}
            Shape::Value(_) => {
                let default = match key.default.inline() {
                    default if !default.is_empty() => format!("`{default}`"),
                    _ if key.presence == Presence::Required => "required".to_owned(),
                    _ => String::new(),
                };
                text.push_str(&format!("| `{name}` | {default} | {meaning} |\n"));
            }
            Shape::Section { name: of, keys } => {
                let first = seen.get(of).map_or(String::new(), |first| format!(" Keys as for `{first}`."));
                text.push_str(&format!("| `{name}` | | {meaning}{first} |\n"));
                if first.is_empty() {
                    seen.insert(of, format!("{table}.{name}"));
                    rows(keys, &format!("{name}."), table, seen, text);
                }
            }
        }
    }
}
