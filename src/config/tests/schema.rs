//! The schema accepts what the relay accepts, and rejects what a schema can tell to be wrong.

use serde_json::{Map, Value as Json};

use super::super::tree::tests::EVERYTHING;
use super::super::yaml::{self, Node, YamlValue};
use super::*;

/// Returns YAML as JSON. A number in quotes becomes a number, which no test depends on.
fn json(node: &Node) -> Json {
    match &node.value {
        YamlValue::Null | YamlValue::Broken => Json::Null,
        YamlValue::Scalar(scalar) => {
            serde_json::from_str(&scalar.text).unwrap_or_else(|_| scalar.text.as_str().into())
        }
        YamlValue::List(items) => items.iter().map(json).collect(),
        YamlValue::Map(entries) => {
            entries.iter().map(|entry| (entry.key.clone(), json(&entry.node))).collect::<Map<_, _>>().into()
        }
    }
}

fn is_valid(yaml: &str) -> bool {
    let schema: Json = serde_json::from_str(&schema(RECEIVERS)).unwrap();
    let root = yaml::parse(yaml, &mut Vec::new()).unwrap();
    accepts(&schema, &schema, &json(&root))
}

/// Checks `value` against the keywords that the schema uses.
fn accepts(schema: &Json, root: &Json, value: &Json) -> bool {
    schema.as_object().unwrap().iter().all(|(keyword, rule)| match (keyword.as_str(), value) {
        ("$ref", _) => {
            let path = rule.as_str().unwrap().strip_prefix('#').unwrap();
            accepts(root.pointer(path).unwrap(), root, value)
        }
        ("anyOf", _) => rule.as_array().unwrap().iter().any(|rule| accepts(rule, root, value)),
        ("not", _) => !accepts(rule, root, value),
        ("enum", _) => rule.as_array().unwrap().contains(value),
        ("type", _) => has_type(rule, value),
        ("pattern", Json::String(text)) => regex::Regex::new(rule.as_str().unwrap()).unwrap().is_match(text),
        ("minimum", Json::Number(number)) => number.as_f64() >= rule.as_f64(),
        ("maximum", Json::Number(number)) => number.as_f64() <= rule.as_f64(),
        ("items", Json::Array(items)) => items.iter().all(|item| accepts(rule, root, item)),
        ("required", Json::Object(entries)) => {
            rule.as_array().unwrap().iter().all(|key| entries.contains_key(key.as_str().unwrap()))
        }
        ("additionalProperties", Json::Object(entries)) => {
            entries.iter().all(|(key, value)| match rule_for(schema, key) {
                Some(rule) => accepts(rule, root, value),
                None if rule.is_boolean() => false,
                None => accepts(rule, root, value),
            })
        }
        (
            "pattern"
            | "minimum"
            | "maximum"
            | "items"
            | "required"
            | "additionalProperties"
            | "properties"
            | "patternProperties"
            | "description"
            | "default"
            | "examples"
            | "title"
            | "$schema"
            | "$defs",
            _,
        ) => true,
        (other, _) => panic!("unknown keyword {other}"),
    })
}

fn has_type(rule: &Json, value: &Json) -> bool {
    let is = |name: &Json| match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    };
    rule.as_array().map_or_else(|| is(rule), |names| names.iter().any(is))
}

/// Returns the schema of a known key.
fn rule_for<'a>(schema: &'a Json, key: &str) -> Option<&'a Json> {
    let named = || {
        let patterns = schema.get("patternProperties")?.as_object()?;
        patterns
            .iter()
            .find(|(pattern, _)| regex::Regex::new(pattern).unwrap().is_match(key))
            .map(|(_, rule)| rule)
    };
    schema.get("properties").and_then(|keys| keys.get(key)).or_else(named)
}

#[test]
fn files_that_load_are_valid() {
    for yaml in [
        EXAMPLE,
        &whole_example(),
        EVERYTHING,
        include_str!("../../../config/local.yaml"),
        include_str!("../../../config/deploy/spanrelay.yaml"),
        "receivers: {fastly: , otlp: {}}",
        "receivers: {fastly: }\nserver: {max_concurrent_requests: \"${env:YES}\", max_line_size: 1024}",
        "receivers: {fastly: }\nprocessors: {span_events: {wait: 0, keep_logs: }}\nexporters:",
        "receivers: {circleci/app: {secrets: [12345], service_name: 7}}",
    ] {
        assert!(is_valid(yaml), "{yaml}");
    }
}

#[test]
fn unknown_keys_and_invalid_values_are_not_valid() {
    for yaml in [
        "queue: {}",
        "receivers: {fastly: {pth: /x}}",
        "receivers: {fastly: , oltp: }",
        "receivers: {otlp: , otlp/b: }",
        "receivers: {fastly/a.b: }",
        "receivers: {fastly: {rate_limit: {burst: 3}}}",
        "receivers: {fastly: }\nservice: {}",
        "receivers: {fastly: }\nserver: 3",
        "receivers: {fastly: }\nserver: {endpoint: localhost}",
        "receivers: {fastly: }\nserver: {tls: {cert_file: c}}",
        "receivers: {fastly: }\nqueue: {sync: sometimes}",
        "receivers: {fastly: }\nqueue: {max_size: 1G}",
        "receivers: {fastly: }\nexporters: {otlp_http: {timeout: 10}}",
        "receivers: {fastly: }\nexporters: {otlp_http: {max_in_flight: 0}}",
        "receivers: {fastly: }\nexporters: {otlp_http: {endpoint: 'collector:4318'}}",
        "receivers: {fastly: }\nexporters: {otlp_http: {permanent_status_codes: [400, 503]}}",
        "receivers: {fastly: }\nexporters: {otlp_http: {headers: {a: [b]}}}",
        "receivers: {fastly: }\nprocessors: {span_events: {keep_logs: yes please}}",
    ] {
        assert!(!is_valid(yaml), "{yaml}");
    }
}

#[test]
fn each_key_is_described_and_defaults_are_those_of_the_relay() {
    let schema: Json = serde_json::from_str(&schema(RECEIVERS)).unwrap();
    let server = &schema["$defs"]["ServerConfig"]["properties"];
    assert_eq!(server["max_request_body_size"]["default"], "100MiB");
    assert_eq!(server["max_concurrent_requests"]["default"], 1024);
    assert_eq!(
        schema["$defs"]["FastlyConfig"]["properties"]["service_ids"]["default"],
        serde_json::json!(["*"])
    );
    let described = |section: &Json| {
        let keys = section["properties"].as_object().map(|keys| keys.values().collect::<Vec<_>>());
        keys.unwrap_or_default()
            .iter()
            .all(|key| key["description"].as_str().is_some_and(|text| !text.is_empty()))
    };
    assert!(schema["$defs"].as_object().unwrap().values().all(described));
}
