//! JSON Schema of the configuration file (draft 2020-12), generated from the declarations.
//!
//! Promises: the schema accepts every file that loads, apart from checks across keys; variables are accepted everywhere,
//! and so are keys without a value. Sections are definitions, named by their types.

use serde_json::{Map, Value, json};

use super::declare::{Key, Keys, Presence, Shape};
use super::tree::Tree;
use super::{Config, ReceiverKind, ReceiversConfig};

/// Returns the schema as indented text.
pub(crate) fn schema(receivers: &[ReceiverKind]) -> String {
    let mut definitions = Map::new();
    definitions.insert(
        "variable".to_owned(),
        json!({ "description": "No value, or one from the environment or a file.", "type": ["string", "null"], "pattern": "\\$\\{(env|file):" }),
    );
    let mut root = object(keys(receivers), &mut definitions);
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root["title"] = "spanrelay configuration".into();
    root["$defs"] = definitions.into();
    format!("{root:#}\n")
}

/// Describes every key, those of the receivers included.
pub(super) fn keys(receivers: &[ReceiverKind]) -> Vec<Key> {
    let mut keys = <Config as Keys>::describe(&Config::default());
    for key in keys.iter_mut().filter(|key| matches!(key.shape, Shape::Receivers)) {
        key.shape = ReceiversConfig::describe(receivers);
    }
    keys
}

fn object(keys: Vec<Key>, definitions: &mut Map<String, Value>) -> Value {
    let (mut properties, mut named, mut required) = (Map::new(), Map::new(), Vec::new());
    for key in keys {
        let (name, presence, is_named) = (key.name, key.presence, key.is_named);
        let Some(property) = property(key, definitions) else { continue };
        if is_named {
            named.insert(format!("^{name}/[A-Za-z0-9_-]+$"), property.clone());
        }
        if presence == Presence::Required {
            required.push(name);
        }
        properties.insert(name.to_owned(), property);
    }
    json!({
        "type": ["object", "null"],
        "properties": properties,
        "patternProperties": named,
        "required": required,
        "additionalProperties": false,
    })
}

/// Returns the schema of one key. `None` if it is derived from others.
fn property(key: Key, definitions: &mut Map<String, Value>) -> Option<Value> {
    let mut property = match key.shape {
        Shape::Derived | Shape::Receivers => return None,
        Shape::Value(schema) => schema,
        Shape::Section { name, keys } => {
            if !definitions.contains_key(name) {
                let definition = object(keys, definitions);
                definitions.insert(name.to_owned(), definition);
            }
            json!({ "$ref": format!("#/$defs/{name}") })
        }
    };
    let reload = if key.is_live { " Reloads without a restart." } else { "" };
    property["description"] = format!("{}{reload}", key.doc).into();
    if !matches!(key.default, Tree::Absent | Tree::Section(_)) {
        property["default"] = of_yaml(&key.default.inline());
    } else if !key.sample.is_empty() {
        property["examples"] = json!([of_yaml(key.sample)]);
    }
    Some(property)
}

/// Returns the JSON value of an inline YAML value, which is JSON, or a plain word.
fn of_yaml(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}
