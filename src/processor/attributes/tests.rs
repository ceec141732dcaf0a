//! Rules in documents and in rejected input. The oracles in `oracle` build new values and share no code with the pass.

mod oracle;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::event::Signal;
use crate::otlp::protobuf::encode;
use crate::receiver::Withheld;
use crate::receiver::fastly::{AccessLogsConfig, Fastly, FastlyConfig};

/// Keys of attributes, two of which need an escape, and members of log records.
const KEYS: [&str; 10] = [
    "client.address",
    "user.id",
    "a",
    "b",
    "é",
    "quote\"d",
    "log.body",
    "log.severity_text",
    "log.severity_number",
    "a.key.that.is.longer.than.sixty.three.bytes.so.that.it.shares.its.bit.with.others",
];

/// Texts, some of which are addresses.
const TEXTS: [&str; 8] = [
    "198.51.100.7",
    "203.0.113.9:80",
    "2001:db8:1:2::7",
    "::ffff:192.0.2.1",
    "",
    "secret \"x\" é",
    "198.51.100.7, 2001:db8:1:2::7",
    "4cf0",
];

fn rules() -> impl Strategy<Value = AttributesConfig> {
    let keys = || proptest::sample::subsequence(&KEYS[..], 0..4);
    let renames =
        proptest::collection::vec((0..KEYS.len(), proptest::sample::select(vec!["a", "b", "new"])), 0..3);
    (keys(), keys(), keys(), renames).prop_map(|(drop, truncate_ip, hash, renames)| {
        let owned = |keys: Vec<&str>| keys.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let mut rename: Vec<(String, String)> = Vec::new();
        for (old, new) in renames {
            if KEYS[old] != new && rename.iter().all(|(other, _)| *other != KEYS[old]) {
                rename.push((KEYS[old].to_owned(), new.to_owned()));
            }
        }
        AttributesConfig { drop: owned(drop), truncate_ip: owned(truncate_ip), hash: owned(hash), rename }
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let text = || proptest::sample::select(&TEXTS[..]);
    let leaf = prop_oneof![
        4 => text().prop_map(|text| json!({ "stringValue": text })),
        1 => any::<i64>().prop_map(|number| json!({ "intValue": number.to_string() })),
        1 => any::<bool>().prop_map(|value| json!({ "boolValue": value })),
        1 => (-1000..1000_i32).prop_map(|number| json!({ "doubleValue": f64::from(number) / 8.0 })),
        1 => Just(json!({ "bytesValue": "AQI=" })),
        1 => proptest::collection::vec(text(), 0..3).prop_map(|texts| {
            let values: Vec<Value> = texts.into_iter().map(|text| json!({ "stringValue": text })).collect();
            json!({ "arrayValue": { "values": values } })
        }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3)
                .prop_map(|values| json!({ "arrayValue": { "values": values } })),
            pairs(inner).prop_map(|values| json!({ "kvlistValue": { "values": values } })),
        ]
    })
}

/// Generates a list of attributes, whose keys are unique.
fn pairs(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    proptest::collection::vec((proptest::sample::select(&KEYS[..]), value), 0..5).prop_map(|pairs| {
        let mut list: Vec<Value> = Vec::new();
        for (key, value) in pairs {
            if list.iter().all(|other| other["key"] != key) {
                list.push(json!({ "key": key, "value": value }));
            }
        }
        Value::Array(list)
    })
}

fn attributes() -> impl Strategy<Value = Value> {
    pairs(any_value())
}

/// Generates a document of a signal with attributes in every place of it.
fn document() -> impl Strategy<Value = (Signal, Value)> {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";
    let lists = proptest::collection::vec(attributes(), 6);
    (lists, any_value(), 0..5_usize).prop_map(|(lists, body, kind)| {
        let [resource, scope, a, b, c, d] = <[Value; 6]>::try_from(lists).unwrap();
        let wrapped = |names: [&str; 3], item: Value| {
            json!({ names[0]: [{
                "resource": { "attributes": resource },
                names[1]: [{ "scope": { "name": "s", "attributes": scope }, names[2]: [item] }],
            }] })
        };
        let point = json!({ "asInt": "1", "attributes": b, "exemplars": [{ "asInt": "2", "filteredAttributes": c }] });
        let metric = |data: Value| {
            let mut metric = json!({ "name": "m", "metadata": a });
            metric.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
            (Signal::Metrics, wrapped(["resourceMetrics", "scopeMetrics", "metrics"], metric))
        };
        match kind {
            0 => {
                let span = json!({
                    "traceId": TRACE, "spanId": SPAN, "name": "n", "attributes": a,
                    "events": [{ "timeUnixNano": "1", "name": "e", "attributes": b }, { "name": "f", "attributes": d }],
                    "links": [{ "traceId": TRACE, "spanId": SPAN, "attributes": c }],
                });
                (Signal::Traces, wrapped(["resourceSpans", "scopeSpans", "spans"], span))
            }
            1 => {
                let record = json!({
                    "timeUnixNano": "1", "severityNumber": 9, "severityText": "INFO", "body": body, "attributes": a,
                });
                (Signal::Logs, wrapped(["resourceLogs", "scopeLogs", "logRecords"], record))
            }
            2 => metric(json!({ "gauge": { "dataPoints": [point] } })),
            3 => metric(json!({ "histogram": { "dataPoints": [{ "count": "1", "attributes": b }, { "attributes": d }] } })),
            _ => metric(json!({ "summary": { "dataPoints": [{ "count": "1", "attributes": c }] } })),
        }
    })
}

/// Writes a value with some characters of keys and texts as escapes, and white space where it is allowed.
fn written(value: &Value, seed: &mut u64) -> String {
    let mut chance = |one_in: u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33).is_multiple_of(one_in)
    };
    match value {
        Value::Array(values) => {
            let blank = if chance(4) { " \n" } else { "" };
            let values: Vec<String> = values.iter().map(|value| written(value, seed)).collect();
            format!("[{blank}{}{blank}]", values.join(&format!("{blank},")))
        }
        Value::Object(members) => {
            let blank = if chance(4) { " " } else { "" };
            let members = members.iter().map(|(name, value)| {
                let value = match (&**name, value) {
                    ("key" | "stringValue", Value::String(text)) => literal(text, seed),
                    _ => written(value, seed),
                };
                format!("{blank}\"{name}\"{blank}:{value}")
            });
            let members: Vec<String> = members.collect();
            format!("{{{}{blank}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

fn literal(text: &str, seed: &mut u64) -> String {
    let mut literal = String::from("\"");
    for c in text.chars() {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            c if (*seed >> 33).is_multiple_of(9) => literal.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => literal.push(c),
        }
    }
    literal + "\""
}

fn scrubbed(config: &AttributesConfig, text: &str) -> Bytes {
    Attributes::new(config).scrub(&Bytes::copy_from_slice(text.as_bytes()))
}

fn config(drop: &[&str], truncate_ip: &[&str], hash: &[&str], rename: &[(&str, &str)]) -> AttributesConfig {
    let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
    AttributesConfig {
        drop: owned(drop),
        truncate_ip: owned(truncate_ip),
        hash: owned(hash),
        rename: rename.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned())).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_document_is_scrubbed_as_the_oracle_does_by_values((signal, document) in document(), rules in rules(), seed: u64) {
        let text = Bytes::from(written(&document, &mut seed.clone()));
        let result = Attributes::new(&rules).scrub(&text);
        let value: Value = serde_json::from_slice(&result).unwrap();
        let expected = oracle::json(&document, &rules);
        prop_assert_eq!(&value, &expected, "{} {}", signal, String::from_utf8_lossy(&text));
        if expected == document {
            prop_assert_eq!(result.as_ptr(), text.as_ptr(), "a text without changes is not copied");
        }
    }

    #[test]
    fn any_document_is_scrubbed_as_the_oracle_does_in_protobuf((signal, document) in document(), rules in rules(), seed: u64) {
        let text = Bytes::from(written(&document, &mut seed.clone()));
        let before = encode(signal, &text).unwrap();
        let after = encode(signal, &Attributes::new(&rules).scrub(&text)).unwrap();
        prop_assert_eq!(oracle::decoded(signal, &after), oracle::protobuf(signal, &before, &rules));
    }

    #[test]
    fn a_rejected_document_is_scrubbed_as_an_accepted_one((_, document) in document(), rules in rules(), seed: u64) {
        let text = Bytes::from(written(&document, &mut seed.clone()));
        let attributes = Attributes::new(&rules);
        let Scrubbed { text: rejected, is_parsed } = attributes.scrub_rejected(&text, &fastly(&rules), false);
        prop_assert!(is_parsed);
        prop_assert_eq!(rejected, attributes.scrub(&text));
    }

    #[test]
    fn no_rejected_input_causes_a_panic_or_grows_without_rules(
        pieces in proptest::collection::vec(proptest::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"key\"", "\"value\"", "\"a\"", "\"client_ip\"", "1", "null", " ", "\n", "x", "\u{feff}",
            "{\"key\":\"a\",\"value\":{\"stringValue\":\"v\"}}", "{\"client_ip\":\"1.2.3.4\"}", "\\", "\"", "é",
        ]), 0..24),
        rules in rules(),
    ) {
        let input = Bytes::from(pieces.concat());
        let receiver = fastly(&rules);
        let scrubbed = Attributes::new(&rules).scrub_rejected(&input, &receiver, false);
        // What was scrubbed is not scrubbed again, unless a value is hashed or a key is renamed.
        if rules.hash.is_empty() && rules.rename.is_empty() && scrubbed.is_parsed {
            let again = Attributes::new(&rules).scrub_rejected(&scrubbed.text, &receiver, false);
            prop_assert_eq!(again, scrubbed);
        }
        let none = AttributesConfig::default();
        prop_assert_eq!(Attributes::new(&none).scrub_rejected(&input, &fastly(&none), false).text, input);
    }
}

fn fastly(rules: &AttributesConfig) -> Fastly {
    let access_logs = AccessLogsConfig {
        map: vec![("client.address".to_owned(), "from".to_owned())],
        ..AccessLogsConfig::default()
    };
    let config = FastlyConfig { access_logs: Some(access_logs), ..FastlyConfig::default() };
    Fastly::new(&config, 1 << 20).withholding(&Withheld::new(rules.withheld()))
}

fn rejected(rules: &AttributesConfig, input: &str) -> (String, bool) {
    let input = Bytes::copy_from_slice(input.as_bytes());
    let Scrubbed { text, is_parsed } = Attributes::new(rules).scrub_rejected(&input, &fastly(rules), false);
    (String::from_utf8(text.to_vec()).unwrap(), is_parsed)
}

#[test]
fn only_the_attributes_with_a_rule_change() {
    let text = r#"{"attributes":[{"key":"a","value":{"stringValue":"1"}}, {"key":"client\u002eaddress","value":{"stringValue":"198.51.100.7"}} ,{"value":{"intValue":"7"},"key":"user.id"}]}"#;
    let without = r#"{"attributes":[{"key":"a","value":{"stringValue":"1"}}, {"value":{"intValue":"7"},"key":"user.id"}]}"#;
    assert_eq!(scrubbed(&config(&["client.address"], &[], &[], &[]), text), without);
    assert_eq!(
        scrubbed(&config(&[], &["client.address"], &[], &[("client.address", "peer")]), text),
        text.replace("198.51.100.7", "198.51.100.0").replace(r"client\u002eaddress", "peer")
    );
    let hash = "aae89fc0f03e2959ae4d701a80cc3915918c950b159f6abb6c92c1433b1a8534";
    assert_eq!(
        scrubbed(&config(&[], &[], &["user.id"], &[]), text),
        text.replace(r#"{"intValue":"7"}"#, &format!(r#"{{"stringValue":"{hash}"}}"#))
    );
}

#[test]
fn an_address_is_truncated_before_it_is_hashed() {
    let text = r#"[{"key":"ip","value":{"stringValue":"198.51.100.7"}}]"#;
    let both = scrubbed(&config(&[], &["ip"], &["ip"], &[]), text);
    let hashed = scrubbed(&config(&[], &[], &["ip"], &[]), &text.replace(".7", ".0"));
    assert_eq!(both, hashed);
}

#[test]
fn a_renamed_attribute_replaces_others_with_its_new_key() {
    let pair = |key: &str, value: &str| format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#);
    let list = |pairs: &[String]| format!("[{}]", pairs.join(","));
    let rules = config(&[], &[], &[], &[("a", "x"), ("b", "x")]);
    let before = list(&[pair("x", "1"), pair("a", "2"), pair("b", "3"), pair("c", "4")]);
    assert_eq!(scrubbed(&rules, &before), list(&[pair("x", "3"), pair("c", "4")]));
    // Two can swap their keys, and a key that is dropped can be given to another.
    let swap = config(&[], &[], &[], &[("a", "b"), ("b", "a")]);
    let before = list(&[pair("a", "1"), pair("b", "2")]);
    assert_eq!(scrubbed(&swap, &before), list(&[pair("b", "1"), pair("a", "2")]));
    let same = config(&[], &[], &[], &[("a", "a")]);
    assert_eq!(scrubbed(&same, &before), before);
    let given = config(&["b"], &[], &[], &[("a", "b")]);
    assert_eq!(scrubbed(&given, &before), list(&[pair("b", "1")]));
}

#[test]
fn unknown_members_are_scrubbed_too() {
    let pair = r#"{"key":"a","value":{"stringValue":"s"}}"#;
    let text = format!(r#"{{"resourceSpans":[{{"someday":[{pair},1],"other":{pair}}}]}}"#);
    let expected = r#"{"resourceSpans":[{"someday":[1],"other":{"key":"a","value":null}}]}"#;
    assert_eq!(scrubbed(&config(&["a"], &[], &[], &[]), &text), expected);
}

#[test]
fn fields_of_rejected_json_are_removed_by_the_attribute_that_they_would_become() {
    let rules = config(&["client.address", "user_agent.original", "url.path"], &[], &[], &[]);
    for (input, expected) in [
        (r#"{"client_ip":"1.2.3.4","n":1}"#, r#"{"n":1}"#),
        (r#"{"n":1,"request":{"client_ip":"1.2.3.4","x":[]}}"#, r#"{"n":1,"request":{"x":[]}}"#),
        (r#"{"n":1,"client.address":"1.2.3.4"}"#, r#"{"n":1}"#),
        (r#"{"n":1,"client":{"address":"1.2.3.4"}}"#, r#"{"n":1,"client":{}}"#),
        (r#"{"n":1,"cl\u0069ent_ip":"1.2.3.4"}"#, r#"{"n":1}"#),
        (r#"{"from":"1.2.3.4"}"#, "{}"),
        (r#"{"from":{"v4":"1.2.3.4"},"client_ip":{"v6":"::1"},"n":1}"#, r#"{"n":1}"#),
        (r#"{"url":"/secret","user_agent":"secret","n":1}"#, r#"{"n":1}"#),
        (r#"[{"client_ip":"1.2.3.4"}, {"n":1}]"#, r#"[{}, {"n":1}]"#),
        (r#"{"attributes":{"client.address":"1.2.3.4"}}"#, r#"{"attributes":{}}"#),
    ] {
        assert_eq!(rejected(&rules, input), (expected.to_owned(), true), "{input}");
    }
    // Fields of OTLP have other meanings.
    let otlp = r#"{"resourceSpans":[{"url":"/x","from":1}]}"#;
    assert_eq!(rejected(&rules, otlp), (otlp.to_owned(), true));
}

#[test]
fn an_object_in_the_place_of_attributes_loses_the_fields_with_a_rule() {
    let rules = config(&["client.address", "value", "name"], &[], &["user.id"], &[]);
    for (attributes, expected) in [
        (r#"{"client.address":"1.2.3.4","n":1}"#, r#"{"n":1}"#),
        (r#"{"client":{"address":{"stringValue":"1.2.3.4"}},"user.id":{"intValue":7}}"#, r#"{"client":{}}"#),
        // Members of OTLP are none, whatever rules there are.
        (r#"[{"key":"k","value":{"stringValue":"v"}}]"#, r#"[{"key":"k","value":{"stringValue":"v"}}]"#),
    ] {
        let line = |attributes: &str| {
            format!(
                r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"name":"n","attributes":{attributes}}}]}}]}}]}}"#
            )
        };
        assert_eq!(rejected(&rules, &line(attributes)), (line(expected), true), "{attributes}");
    }
}

#[test]
fn an_attribute_with_several_values_is_removed() {
    let twice = r#"[{"key":"a","value":{"stringValue":"s"},"value":{"stringValue":"1.2.3.4"}}]"#;
    for rules in [config(&[], &["a"], &[], &[]), config(&[], &[], &["a"], &[]), config(&["a"], &[], &[], &[])]
    {
        assert_eq!(scrubbed(&rules, twice), "[]");
    }
    assert_eq!(scrubbed(&config(&["b"], &[], &[], &[]), twice), twice);
}

#[test]
fn rejected_lines_in_ncsas_formats_keep_their_other_fields() {
    let rules = config(&["client.address", "user.name"], &[], &[], &[]);
    let line = r#"192.0.2.7 - frank [28/Nov/2026:10:11:12 +0000] "GET /a HTTP/1.1" 200 2326 "-" "curl""#;
    let expected = r#"- - - [28/Nov/2026:10:11:12 +0000] "GET /a HTTP/1.1" 200 2326 "-" "curl""#;
    assert_eq!(rejected(&rules, line), (expected.to_owned(), true));
    assert_eq!(
        rejected(&rules, &format!("{line}\r\n{{\"client_ip\":\"1\"}}\n")),
        (format!("{expected}\r\n{{}}\n"), true)
    );
}

#[test]
fn what_cannot_be_parsed_is_scrubbed_as_far_as_it_can_be_and_reported() {
    let rules = config(&["a"], &[], &[], &[]);
    let pair = r#"{"key":"a","value":{"stringValue":"secret"}}"#;
    for (input, expected) in [
        (
            format!(r#"{{"resourceSpans":[{{"attributes":[{pair},{{"key":"b"}}"#),
            r#"{"resourceSpans":[{"attributes":[{"key":"b"}"#,
        ),
        (format!("text before {{\"x\":[{pair}]}}"), "text before {\"x\":[]}"),
        (format!("{{\"x\":[{pair}]}} text behind"), "{\"x\":[]} text behind"),
        ("plain text".to_owned(), "plain text"),
        ("\"a string\"".to_owned(), "\"a string\""),
    ] {
        assert_eq!(rejected(&rules, &input), (expected.to_owned(), false), "{input}");
    }
}

#[test]
fn a_section_of_another_signal_is_a_member_that_can_be_parsed() {
    let rules = config(&["a"], &[], &[], &[]);
    let section = |pairs: &str| format!(r#""resourceLogs" : [{{"x":[{pairs}]}}]"#);
    let input = Bytes::from(section(r#"{"key":"a","value":{}}"#));
    let Scrubbed { text, is_parsed } = Attributes::new(&rules).scrub_rejected(&input, &fastly(&rules), true);
    assert_eq!((&text[..], is_parsed), (section("").as_bytes(), true));
}

#[test]
fn the_time_for_rejected_input_is_linear() {
    let rules = config(&["a"], &[], &[], &[]);
    for piece in ["{", "[", "{\"a\":", "[1,", "{\"a\":[", "x{", "[{}", "\n{\"", "x\n"] {
        // With quadratic time, this would take minutes.
        let input = piece.repeat(1 << 16);
        assert!(!rejected(&rules, &input).1, "{piece}");
    }
}
