use serde_json::{Value, json};

use super::*;
use crate::otlp::document::read_line;

const IDS: &str = r#""traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331""#;

fn merged(text: &str) -> Value {
    let merged = merge(text.as_bytes()).unwrap_or_else(|fault| panic!("{fault:?} in {text}"));
    assert_eq!(merged.consumed, text.len());
    serde_json::from_slice(&merged.text).unwrap_or_else(|error| panic!("{error} of {text}"))
}

#[test]
fn lists_with_the_same_key_are_concatenated_at_every_level() {
    let text = r#"{"resourceSpans":[{"schemaUrl":"1"}, {"schemaUrl":"2","scopeSpans":[{"spans":[{"name":"a","links":[1]}],"x":1,"spans":[]}],"scopeSpans":[{"spans":[{"name":"b"}],"spans":[{"name":"c","events":[1],"events":[2,3]}],"spans":[{"name":"d"}]}]}],"y":2,"resourceSpans":[{"schemaUrl":"3"}]}"#;
    assert_eq!(
        merged(text),
        json!({"y": 2, "resourceSpans": [{"schemaUrl": "1"}, {"schemaUrl": "2", "scopeSpans": [
            {"spans": [{"name": "a", "links": [1]}], "x": 1},
            {"spans": [{"name": "b"}, {"name": "c", "events": [1, 2, 3]}, {"name": "d"}]},
        ]}, {"schemaUrl": "3"}]})
    );
}

#[test]
fn an_old_name_is_used_where_the_new_one_is_empty() {
    for empty in ["null", "[]", "[ ]", "[null]", "[{}]"] {
        for (old, new) in [
            ("instrumentationLibrarySpans", "scopeSpans"),
            ("scope_spans", "scopeSpans"),
            ("instrumentationLibrarySpans", "scope\\u0053pans"),
        ] {
            let full = format!(r#""{old}":[{{"spans":[{{}}]}}]"#);
            for resource in [format!(r#"{full},"{new}":{empty}"#), format!(r#""{new}":{empty} , {full}"#)] {
                let text = format!(r#"{{"resourceSpans":[{{{resource}}}]}}"#);
                assert!(
                    merge(text.as_bytes()).unwrap().text.ends_with(format!("{full}}}]}}").as_bytes()),
                    "{text}"
                );
            }
        }
    }
    let text = r#"{"resourceLogs":[{"scopeLogs":[{"scope":{},"instrumentationLibrary":{"name":"n"},"logs":[{}],"logRecords":[{},{}]}]}]}"#;
    assert_eq!(
        merged(text),
        json!({"resourceLogs": [{"scopeLogs": [{"instrumentationLibrary": {"name": "n"}, "logRecords": [{}, {}]}]}]})
    );
}

/// Fields with an outdated name, by what surrounds them, with a value that holds something.
const RENAMED: [(&str, &str, &str, &str, &str); 7] = [
    (
        r#"{"resourceSpans":[{"#,
        "scopeSpans",
        "instrumentationLibrarySpans",
        r#"[{"spans":[{"name":"n"}]}]"#,
        "}]}",
    ),
    (
        r#"{"resourceLogs":[{"#,
        "scopeLogs",
        "instrumentationLibraryLogs",
        r#"[{"logRecords":[{"body":{}}]}]"#,
        "}]}",
    ),
    (
        r#"{"resourceMetrics":[{"#,
        "scopeMetrics",
        "instrumentationLibraryMetrics",
        r#"[{"metrics":[{"gauge":{}}]}]"#,
        "}]}",
    ),
    (r#"{"resourceLogs":[{"scopeLogs":[{"#, "logRecords", "logs", r#"[{"body":{}}]"#, "}]}]}"),
    (r#"{"resourceLogs":[{"scopeLogs":[{"#, "scope", "instrumentationLibrary", r#"{"name":"n"}"#, "}]}]}"),
    ("{", "resourceSpans", "resource_spans", r#"[{"scopeSpans":[{"spans":[{"name":"n"}]}]}]"#, "}"),
    ("{", "resourceLogs", "resource_logs", r#"[{"scopeLogs":[{"logRecords":[{"body":{}}]}]}]"#, "}"),
];

/// Returns values of a field without items: empty ones, and containers of items.
fn empty_values(field: &str) -> Vec<String> {
    let items = ["[]", "[ ]", "null", "[null]", "[{}]"];
    let scopes = |key: &str, extra: &str| -> Vec<String> {
        let lists = items.iter().filter(|items| **items != "[{}]");
        lists.map(|items| format!(r#"[{{{extra}"{key}":{items}}},{{}}]"#)).collect()
    };
    let resources = |key: &str, scopes: Vec<String>| -> Vec<String> {
        scopes
            .iter()
            .map(|scopes| format!(r#"[{{"resource":{{"attributes":[]}},"{key}":{scopes}}}]"#))
            .collect()
    };
    let named = r#""scope":{"name":"s","version":""},"schemaUrl":"u","#;
    let deeper = match field {
        "scopeSpans" => [scopes("spans", ""), scopes("spans", named)].concat(),
        "scopeLogs" => [scopes("logRecords", ""), scopes("logs", named)].concat(),
        "scopeMetrics" => [scopes("metrics", r#""x":[{"y":{}}],"#), scopes("metrics", named)].concat(),
        "scope" => ["{}", "null", r#"{"name":""}"#, r#"{ "attributes" : [ {"value":{}} ] }"#]
            .map(str::to_owned)
            .into(),
        "resourceSpans" => resources("scopeSpans", scopes("spans", named)),
        "resourceLogs" => resources("instrumentationLibraryLogs", scopes("logRecords", named)),
        _ => Vec::new(),
    };
    match field {
        "scope" => deeper,
        _ => [items.map(str::to_owned).into(), deeper].concat(),
    }
}

#[test]
fn an_old_name_counts_where_the_new_one_is_empty_at_any_depth() {
    for (before, new, old, full, after) in RENAMED {
        let says = |members: String, expected: &str| {
            let expected: Value = serde_json::from_str(&format!("{before}{expected}{after}")).unwrap();
            assert_eq!(merged(&format!("{before}{members}{after}")), expected, "{members}");
        };
        let (of_new, of_old) = (format!(r#""{new}":{full}"#), format!(r#""{old}":{full}"#));
        for empty in empty_values(new) {
            says(format!(r#""{new}":{empty}, {of_old}"#), &of_old);
            says(format!(r#"{of_old}, "{new}":{empty}"#), &of_old);
            says(format!(r#""{new}":{empty},{of_old},"{new}":{empty}"#), &of_old);
            says(format!(r#""{old}":{empty},{of_new}"#), &of_new);
        }
        let other = full.replace(r#""n""#, r#""other""#);
        says(format!(r#""{old}":{other},{of_new}"#), &of_new);
    }
}

#[test]
fn a_named_scope_counts_more_than_nothing_and_less_than_a_span() {
    let scopes = ["[]", r#"[{"scope":{"name":"s"},"spans":[]}]"#, r#"[{"spans":[{"name":"n"}]}]"#];
    for (old, old_scopes) in scopes.iter().enumerate() {
        for (new, new_scopes) in scopes.iter().enumerate() {
            let text = format!(
                r#"{{"resourceSpans":[{{"instrumentationLibrarySpans":{old_scopes},"scopeSpans":{new_scopes}}}]}}"#
            );
            let key = if new >= old { "scopeSpans" } else { "instrumentationLibrarySpans" };
            let kept: Value = serde_json::from_str(scopes[old.max(new)]).unwrap();
            assert_eq!(merged(&text), json!({"resourceSpans": [{key: kept}]}), "{text}");
        }
    }
}

#[test]
fn the_last_scalar_wins_and_any_value_replaces_null() {
    let span =
        |members: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{members}}}]}}]}}]}}"#);
    for (members, left, dropped) in [
        (r#""name":"a","kind":1,"name":"b""#, r#""kind":1,"name":"b""#, true),
        (r#""name":"a","kind":1,"name":null"#, r#""name":"a","kind":1"#, false),
        (r#""name":"a","kind":1,"name":"a""#, r#""kind":1,"name":"a""#, false),
        (r#""name":null,"name":null"#, r#""name":null"#, false),
    ] {
        let merged = merge(span(members).as_bytes()).unwrap();
        assert_eq!((merged.text, merged.dropped_scalars), (span(left).into(), dropped), "{members}");
    }
}

#[test]
fn different_messages_are_a_fault_at_the_position_of_one_of_them() {
    let text = r#"{"resourceSpans":[{"resource":{"attributes":[1]},"resource":{"attributes":[2]}}]}"#;
    let fault = merge(text.as_bytes()).unwrap_err();
    assert_eq!(
        (fault.at, &*fault.reason),
        (19, "resource occurs twice in one object, with different content")
    );
    let text = text.replace('2', "1");
    assert_eq!(merged(&text), json!({"resourceSpans": [{"resource": {"attributes": [1]}}]}));
}

#[test]
fn a_position_in_the_merged_text_maps_to_the_input() {
    let good = format!("{{{IDS}}}");
    let bad = r#"{"traceId":"x", "spanId":"y", "name":"a", "name":"b"}"#;
    let text = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{bad},{good}], "spans":[{good}] , "spans":[{bad}]}}]}}] }}"#
    );
    let line = read_line(&Bytes::from(text.clone())).unwrap();
    assert_eq!(line.end, text.len());
    let traces = line.traces.unwrap();
    assert_eq!(traces.spans().len(), 2);
    let places: Vec<usize> = text.match_indices(bad).map(|(place, _)| place).collect();
    let dropped: Vec<(usize, &[u8])> = line.dropped.iter().map(|span| (span.at, &span.text[..])).collect();
    assert_eq!(dropped, [(places[0] + 11, bad.as_bytes()), (places[1] + 11, bad.as_bytes())]);
}

#[test]
fn the_cost_of_repeated_keys_is_linear_in_their_text() {
    let spans = vec![format!(r#""spans":[{{{IDS}}}]"#); 20_000].join(",");
    let line =
        read_line(&Bytes::from(format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{{spans}}}]}}]}}"#))).unwrap();
    assert_eq!(line.traces.unwrap().spans().len(), 20_000);
    let names = vec![r#""name":"a""#; 20_000].join(",");
    let text = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{IDS},{names}}}]}}]}}]}}"#);
    assert_eq!(read_line(&Bytes::from(text)).unwrap().traces.unwrap().spans().len(), 1);
}
