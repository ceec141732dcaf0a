use serde_json::{Value, json};

use super::*;
use crate::otlp::json::FaultKind;

// Constructors and conversions that only tests need, of the whole program.

impl Metrics {
    /// Reads an export request.
    pub(crate) fn from_canonical(json: Vec<u8>) -> Option<Self> {
        read_line(&json.into()).ok()?.metrics
    }

    /// Returns the export request as JSON.
    pub(crate) fn into_json(self) -> Bytes {
        self.into_request().into_json()
    }
}

impl Logs {
    /// Reads an export request.
    pub(crate) fn from_canonical(json: Vec<u8>) -> Option<Self> {
        read_line(&json.into()).ok()?.logs
    }
}

impl ExportRequest {
    /// Finds the list of a request.
    pub(crate) fn parse(signal: Signal, json: Bytes) -> Option<Self> {
        let members = top_level(&json).ok()?;
        let (_, member) = members.into_iter().find(|(of, _)| *of == Some(signal))?;
        let open = member.start + memchr::memchr(b'[', &json[member.clone()])?;
        Some(Self::new(json, open..member.end))
    }
}

const IDS: &str = r#""traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331""#;

fn line(text: &str) -> Result<Line, Fault> {
    read_line(&Bytes::copy_from_slice(text.as_bytes()))
}

/// Returns the exported traces.
fn traces(text: &str) -> Value {
    let line = line(text).unwrap_or_else(|fault| panic!("{fault:?} in {text}"));
    serde_json::from_slice(&line.traces.expect("spans").into_json()).unwrap()
}

/// Returns a request with one span that has these members in addition to its ids.
fn span_line(members: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{IDS},{members}}}]}}]}}]}}"#)
}

/// Returns the exported span, without its ids.
fn span(members: &str) -> Value {
    let mut span = traces(&span_line(members))["resourceSpans"][0]["scopeSpans"][0]["spans"][0].take();
    let object = span.as_object_mut().unwrap();
    object.remove("traceId").unwrap();
    object.remove("spanId").unwrap();
    span
}

/// Returns the exported value of an attribute with this value.
fn attribute(value: &str) -> Value {
    span(&format!(r#""attributes":[{{"key":"k","value":{value}}}]"#))["attributes"][0]["value"].take()
}

fn span_fault(members: &str) -> Fault {
    line(&span_line(members)).expect_err(members)
}

#[test]
fn a_canonical_line_is_exported_as_a_slice_of_the_input() {
    let text = Bytes::from(format!(
        r#"{{ "resourceSpans" : [{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"a\"\u00e9"}}}}]}},
        "scopeSpans":[{{"scope":{{"name":"n"}},"spans":[{{{IDS},"parentSpanId":"1111111111111111","name":"x","kind":2,
        "startTimeUnixNano":"1655990400123457000","endTimeUnixNano":"18446744073709551615","someday":{{"a":[1,null]}},
        "attributes":[{{"key":"i","value":{{"intValue":"-9223372036854775808"}}}},{{"key":"n","value":{{"intValue":200}}}},
        {{"key":"d","value":{{"doubleValue":"NaN"}}}},{{"key":"e","value":{{"arrayValue":{{}}}}}},{{"key":"b","value":{{"bytesValue":"aGk="}}}}],
        "events":[],"links":[],"status":{{"code":2}},"flags":257}}],"schemaUrl":"u"}}]}}],"extension":1}}"#
    ));
    let leaving = read_line(&text).unwrap().traces.unwrap().into_json();
    assert_eq!(leaving.as_ptr(), text.as_ptr());
    assert_eq!(leaving, text);
}

#[test]
fn names_of_earlier_versions_are_renamed() {
    let text = format!(
        r#"{{"resourceSpans":[{{"instrumentationLibrarySpans":[{{"instrumentationLibrary":{{"name":"l"}},"spans":[{{{IDS}}}]}}]}}]}}"#
    );
    let scope = &traces(&text)["resourceSpans"][0]["scopeSpans"][0];
    assert_eq!(scope["scope"], json!({"name": "l"}));
    assert_eq!(scope["spans"].as_array().unwrap().len(), 1);

    let text = r#"{"resourceLogs":[{"instrumentationLibraryLogs":[{"instrumentationLibrary":{"name":"l"},"logs":[{"body":{"stringValue":"b"}}]}]}]}"#;
    let logs: Value =
        serde_json::from_slice(&line(text).unwrap().logs.unwrap().into_json(|_| true).unwrap()).unwrap();
    assert_eq!(
        logs,
        json!({"resourceLogs": [{"scopeLogs": [{"scope": {"name": "l"}, "logRecords": [{"body": {"stringValue": "b"}}]}]}]})
    );

    let text = r#"{"resourceMetrics":[{"instrumentationLibraryMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"asInt":"1"},{"asInt":"2"}]}}]}]}]}"#;
    let metrics = line(text).unwrap().metrics.unwrap();
    assert_eq!(metrics.point_count(), 2);
    assert!(metrics.into_json().starts_with(br#"{"resourceMetrics":[{"scopeMetrics":"#));
}

#[test]
fn a_metric_without_data_points_is_an_item_also_in_a_line_that_is_divided() {
    let metric = r#""resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"bare"}]}]}]"#;
    let log = r#""resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]"#;
    for text in [format!("{{{metric}}}"), format!("{{{metric},{log}}}")] {
        let metrics = line(&text).unwrap().metrics.unwrap();
        assert_eq!(metrics.point_count(), 1);
        let [all, none] = [true, false].map(|keep| metrics.clone().select(&|_| keep));
        assert_eq!(all.unwrap().into_json(), format!("{{{metric}}}"));
        assert!(none.is_none());
    }
}

#[test]
fn of_an_old_and_a_new_name_the_old_one_is_removed() {
    let good = format!(r#""scopeSpans":[{{"spans":[{{{IDS},"name":"new"}}]}}]"#);
    let old = format!(r#""instrumentationLibrarySpans":[{{"spans":[{{{IDS},"name":"old","kind":null}}]}}]"#);
    for text in [
        format!(r#"{{"resourceSpans":[{{{old},{good}}}]}}"#),
        format!(r#"{{"resourceSpans":[{{{good},{old}}}]}}"#),
        format!(r#"{{"resourceSpans":[{{{good} , {old} , "schemaUrl":"u"}}]}}"#),
    ] {
        let request = traces(&text);
        let resource = request["resourceSpans"][0].as_object().unwrap();
        assert!(!resource.contains_key("instrumentationLibrarySpans"), "{text}");
        assert_eq!(resource["scopeSpans"][0]["spans"][0]["name"], "new", "{text}");
    }
}

#[test]
fn doubles_may_be_words_and_quoted_numbers() {
    for value in [r#"{"doubleValue":"NaN"}"#, r#"{"doubleValue":"-Infinity"}"#, r#"{"doubleValue":"1.5"}"#] {
        assert_eq!(attribute(value), serde_json::from_str::<Value>(value).unwrap());
    }
    assert_eq!(
        span_fault(r#""attributes":[{"key":"k","value":{"doubleValue":"inf"}}]"#).kind,
        FaultKind::Shape
    );
}

#[test]
fn empty_arrays_and_lists_are_kept() {
    for value in [r#"{"arrayValue":{}}"#, r#"{"kvlistValue":{}}"#, r#"{"arrayValue":{"values":[]}}"#, "{}"] {
        assert_eq!(attribute(value), serde_json::from_str::<Value>(value).unwrap());
    }
}

#[test]
fn null_is_the_default_and_its_member_is_removed() {
    assert_eq!(
        span(
            r#""parentSpanId":null,"name":null,"attributes":null,"links":null,"events":null,"kind":null,
               "startTimeUnixNano":null,"endTimeUnixNano":"1","status":{"code":null},"traceState":null"#
        ),
        json!({"endTimeUnixNano": "1", "status": {}})
    );
    assert_eq!(attribute(r#"{"doubleValue":null}"#), json!({}));
    assert_eq!(attribute(r#"{"arrayValue":{"values":null}}"#), json!({"arrayValue": {}}));
    assert_eq!(
        attribute(r#"{"arrayValue":{"values":[null,{"intValue":"1"},null]}}"#),
        json!({"arrayValue": {"values": [{}, {"intValue": "1"}, {}]}})
    );
    assert_eq!(
        span(
            r#""attributes":[null,{"key":"a","value":null},null,{"key":null,"value":{"intValue":"1"}},null]"#
        ),
        json!({"attributes": [{"key": "a"}, {"value": {"intValue": "1"}}]})
    );
    let text = format!(
        r#"{{"resourceLogs":null,"resourceSpans":[null,{{"schemaUrl":null,"resource":null,"scopeSpans":[null,{{"scope":null,"spans":[null,{{{IDS}}},null]}}]}}]}}"#
    );
    let ids = serde_json::from_str::<Value>(&format!("{{{IDS}}}")).unwrap();
    assert_eq!(traces(&text), json!({"resourceSpans": [{"scopeSpans": [{"spans": [ids]}]}]}));
}

#[test]
fn an_attribute_without_a_key_is_kept() {
    assert_eq!(
        span(r#""attributes":[{"value":{"intValue":"1"}}]"#),
        json!({"attributes": [{"value": {"intValue": "1"}}]})
    );
}

#[test]
fn small_numbers_lose_their_quotes() {
    assert_eq!(
        span(r#""kind":"2","flags":"256","droppedAttributesCount":"3","status":{"code":"1"}"#),
        json!({"kind": 2, "flags": 256, "droppedAttributesCount": 3, "status": {"code": 1}})
    );
}

#[test]
fn integral_floats_are_integers() {
    assert_eq!(
        span(
            r#""startTimeUnixNano":1.655990400123457e18,"endTimeUnixNano":"1.5e18","kind":1.0,"flags":"1e2""#
        ),
        json!({"startTimeUnixNano": "1655990400123457000", "endTimeUnixNano": "1500000000000000000", "kind": 1, "flags": 100})
    );
}

#[test]
fn an_integer_attribute_that_is_not_integral_becomes_a_double() {
    assert_eq!(attribute(r#"{"intValue":1.5}"#), json!({"doubleValue": 1.5}));
    assert_eq!(attribute(r#"{"intValue":1e+21}"#), json!({"doubleValue": 1e21}));
    assert_eq!(attribute(r#"{"intValue":2.0}"#), json!({"intValue": 2}));
    assert_eq!(attribute(r#"{"int_value":1.5}"#), json!({"doubleValue": 1.5}));
    assert_eq!(attribute(r#"{"int\u0056alue":1e+21}"#), json!({"doubleValue": 1e21}));
    assert_eq!(
        attribute(r#"{"intValue":18446744073709551616}"#),
        json!({"doubleValue": 18446744073709551616_f64})
    );
    for digits in
        ["18446744073709551617", "-9223372036854775809", "123456789012345678901234567890123456789012345"]
    {
        let value = format!(r#"{{"intValue":{digits}}}"#);
        assert_eq!(attribute(&value), json!({"stringValue": digits}));
        let attribute = format!(r#""attributes":[{{"key":"k","value":{value}}}]"#);
        assert_eq!(line(&span_line(&attribute)).unwrap().repairs, [Repair::ValueType]);
    }
}

#[test]
fn names_of_enums_become_their_numbers() {
    assert_eq!(
        span(r#""kind":"SPAN_KIND_SERVER","status":{"code":"STATUS_CODE_ERROR"}"#),
        json!({"kind": 2, "status": {"code": 2}})
    );
    assert_eq!(span(r#""kind":99"#), json!({"kind": 99}));
}

/// A Collector accepts a number or the complete name.
#[test]
fn other_spellings_of_enums_are_faults_that_name_the_right_one() {
    const NUMBERS: &str = "must be an integer from -2147483648 to 2147483647, or a name such as";
    for (literal, name) in [
        ("server", "SPAN_KIND_SERVER"),
        ("Server", "SPAN_KIND_SERVER"),
        ("KIND_CLIENT", "SPAN_KIND_CLIENT"),
        ("span_kind_consumer", "SPAN_KIND_CONSUMER"),
        ("ent", "SPAN_KIND_INTERNAL"),
        ("X_SPAN_KIND_SERVER", "SPAN_KIND_INTERNAL"),
        ("99999999999", "SPAN_KIND_INTERNAL"),
        ("1.5", "SPAN_KIND_INTERNAL"),
    ] {
        let fault = span_fault(&format!(r#""kind":"{literal}""#));
        let reason = format!("kind {NUMBERS} {name:?}");
        assert_eq!((fault.kind, &*fault.reason), (FaultKind::Shape, &*reason), "{literal}");
    }
    assert_eq!(span_fault(r#""kind":2.5"#).reason, format!("kind {NUMBERS} \"SPAN_KIND_INTERNAL\""));
    assert_eq!(span_fault(r#""kind":1."#).kind, FaultKind::Syntax);
    let fault = span_fault(r#""status":{"code":"ok"}"#);
    assert_eq!(fault.reason, format!("code {NUMBERS} \"STATUS_CODE_OK\""));
    let record = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":"warning"}]}]}]}"#;
    let expected = format!("severityNumber {NUMBERS} \"SEVERITY_NUMBER_TRACE\"");
    assert_eq!(line(record).unwrap_err().reason, expected);
}

#[test]
fn times_that_are_no_unix_nanoseconds_are_faults() {
    for time in ["-1", "\"-1\"", "-1.0", "18446744073709551616", "1.5", "\"2026-11-29T10:00:00Z\""] {
        let fault = span_fault(&format!(r#""endTimeUnixNano":{time}"#));
        let reason = "endTimeUnixNano must be Unix nanoseconds, an integer from 0 to 18446744073709551615";
        assert_eq!((fault.kind, &*fault.reason), (FaultKind::Shape, reason), "{time}");
    }
    assert_eq!(span(r#""endTimeUnixNano":-0"#), json!({"endTimeUnixNano": 0}));
}

#[test]
fn bytes_are_exported_in_the_standard_alphabet_with_padding() {
    for value in [
        r#"{"bytesValue":"-_8="}"#,
        r#"{"bytesValue":"-_8"}"#,
        r#"{"bytesValue":"+/8"}"#,
        r#"{"bytesValue":"+\/8="}"#,
    ] {
        assert_eq!(attribute(value), json!({"bytesValue": "+/8="}), "{value}");
    }
    for value in [r#"{"0":104,"1":105}"#, "[104,105]", r#"{"type":"Buffer","data":[104,105]}"#] {
        assert_eq!(attribute(&format!(r#"{{"bytesValue":{value}}}"#)), json!({"bytesValue": "aGk="}));
    }
    for value in ["[256]", "[\"a\"]", r#"{"data":[1]}"#, r#"{"type":"Buffer"}"#, r#"{"1":1}"#] {
        span_fault(&format!(r#""attributes":[{{"key":"k","value":{{"bytesValue":{value}}}}}]"#));
    }
    assert_eq!(span_fault(r#""attributes":[{"key":"k","value":{"bytesValue":"?"}}]"#).kind, FaultKind::Shape);
}

#[test]
fn a_span_with_an_invalid_id_is_rejected_and_its_neighbours_are_kept() {
    let good = format!(r#"{{{IDS},"name":"good","kind":null}}"#);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    for bad in [
        r#"{"traceId":"0af7651916cd43dd8448eb211c80319","spanId":"b7ad6b7169203331","name":null}"#.to_owned(),
        r#"{"traceId":"00000000000000000000000000000000","spanId":"b7ad6b7169203331"}"#.to_owned(),
        r#"{"traceId":"0x0af7651916cd43dd8448eb211c8031","spanId":"b7ad6b7169203331"}"#.to_owned(),
        r#"{"traceId":null,"spanId":"b7ad6b7169203331"}"#.to_owned(),
        format!(r#"{{"traceId":"{trace}","spanId":"(null)"}}"#),
        format!(r#"{{"traceId":"{trace}","spanId":""}}"#),
        format!(r#"{{"traceId":"{trace}","spanId":17}}"#),
        format!(r#"{{"traceId":"{trace}"}}"#),
        "{}".to_owned(),
    ] {
        for spans in [
            format!("{bad},{good}"),
            format!("{good} , {bad}"),
            format!("{good},{bad},{good}"),
            format!("{bad},{bad},{good}"),
        ] {
            let text = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
            let line = line(&text).unwrap();
            assert_eq!(line.dropped.len(), spans.matches(&bad).count(), "{text}");
            assert_eq!(line.dropped[0].text, bad);
            let request: Value = serde_json::from_slice(&line.traces.unwrap().into_json()).unwrap();
            let left = request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
            assert_eq!(left.len(), spans.matches("good").count(), "{text}");
            assert!(left.iter().all(|span| span["name"] == "good" && span.get("kind").is_none()), "{text}");
        }
    }
}

#[test]
fn a_line_whose_only_span_is_rejected_has_only_the_reason() {
    let line =
        line(r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"x","spanId":"y"}]}]}]}"#).unwrap();
    assert!(line.traces.is_none());
    assert_eq!(line.dropped.len(), 1);
}

#[test]
fn ids_are_exported_in_lower_case() {
    let text = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0AF7651916CD43DD8448EB211C80319C","spanId":"B7AD6B7169203331",
        "parentSpanId":"AAAAAAAAAAAAAAAA","links":[{"traceId":"0AF7651916CD43DD8448EB211C80319C","spanId":"B7AD6B7169203332"}]}]}]}]}"#;
    let span = &traces(text)["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(span["spanId"], "b7ad6b7169203331");
    assert_eq!(span["parentSpanId"], "aaaaaaaaaaaaaaaa");
    assert_eq!(span["links"][0]["spanId"], "b7ad6b7169203332");
}

#[test]
fn a_parent_id_that_is_invalid_or_the_span_s_own_is_removed() {
    for parent in [
        "null",
        r#""""#,
        r#""(null)""#,
        r#""abc""#,
        r#""0000000000000000""#,
        r#""zzzzzzzzzzzzzzzz""#,
        "17",
        "{}",
        r#""b7ad6b7169203331""#,
        r#""B7AD6B7169203331""#,
    ] {
        assert_eq!(span(&format!(r#""parentSpanId":{parent},"name":"n""#)), json!({"name": "n"}), "{parent}");
        assert_eq!(span(&format!(r#""name":"n","parentSpanId":{parent}"#)), json!({"name": "n"}), "{parent}");
    }
    assert_eq!(line(&span_line(r#""parentSpanId":"(null)""#)).unwrap().repairs, [Repair::NullWord]);
    assert_eq!(line(&span_line(r#""parentSpanId":"""#)).unwrap().repairs, []);
}

#[test]
fn any_number_of_spans_may_be_their_own_parents() {
    let members = [
        r#""parentSpanId":"B7AD6B7169203331""#,
        r#""name":null,"parentSpanId":"b7ad6b7169203331","kind":null"#,
        r#""parentSpanId":"b7ad6b7169203331","kind":null"#,
        r#""name":"n","endTimeUnixNano":1655990400123457000,"parentSpanId":"b7ad6b7169203331","events":[{"name":"e"}]"#,
    ];
    let plain = [0, 3].map(|place| format!("{{{IDS},{}}}", members[place]));
    let spans = vec![plain.join(","); 500].join(",");
    let text = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
    let request = traces(&text);
    let left = request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    assert_eq!(left.len(), 1000);
    assert!(left.iter().all(|span| span.get("parentSpanId").is_none()));
    for members in members {
        assert!(span(members).get("parentSpanId").is_none(), "{members}");
        assert!(span(members).get("kind").is_none(), "{members}");
    }
}

#[test]
fn of_two_equal_keys_the_last_is_kept() {
    assert_eq!(span(r#""name":"a","kind":null,"name":"b","name":"c""#), json!({"name": "c"}));
    assert_eq!(attribute(r#"{"stringValue":"a","stringValue":"b"}"#), json!({"stringValue": "b"}));
    let repeated = |members: &str| line(&span_line(members)).unwrap().repairs;
    assert_eq!(repeated(r#""name":"a","name":"b""#), [Repair::RepeatedKey]);
    assert_eq!(repeated(r#""name":"a","name":null,"name":"a","attributes":[],"attributes":[]"#), []);
}

#[test]
fn of_attributes_with_the_same_key_the_last_is_kept() {
    let pair = |key: &str, value: u32| format!(r#"{{"key":"{key}","value":{{"intValue":"{value}"}}}}"#);
    let list = [pair("a", 1), pair("b", 2), pair("a", 3), pair("c", 4), pair("a", 5)].join(" , ");
    let keys = |span: &Value| -> Vec<(String, String)> {
        let attributes = span["attributes"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        attributes.iter().map(|kv| (text(&kv["key"]), text(&kv["value"]["intValue"]))).collect()
    };
    let expected = [("b", "2"), ("c", "4"), ("a", "5")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(keys(&span(&format!(r#""attributes":[{list}]"#))), expected);

    let many: Vec<String> = (0..300).map(|n| pair(&format!("key{}", n % 100), n)).collect();
    let left = keys(&span(&format!(r#""attributes":[{}]"#, many.join(","))));
    assert_eq!(left.len(), 100);
    assert!(left.iter().all(|(_, value)| value.parse::<u32>().unwrap() >= 200));
}

#[test]
fn nested_lists_do_not_affect_the_keys_around_them() {
    let nested = r#"{"key":"a","value":{"kvlistValue":{"values":[{"key":"b","value":{"intValue":"1"}},{"key":"b","value":{"intValue":"2"}}]}}}"#;
    let span = span(&format!(r#""attributes":[{nested},{{"key":"b","value":{{"intValue":"3"}}}}]"#));
    assert_eq!(span["attributes"].as_array().unwrap().len(), 2);
    assert_eq!(
        span["attributes"][0]["value"]["kvlistValue"]["values"],
        json!([{"key": "b", "value": {"intValue": "2"}}])
    );
}

#[test]
fn a_value_of_two_kinds_is_rejected_and_a_null_kind_is_ignored() {
    let fault = span_fault(r#""attributes":[{"key":"k","value":{"stringValue":"a","intValue":"1"}}]"#);
    assert_eq!(fault.kind, FaultKind::Shape);
    assert_eq!(attribute(r#"{"stringValue":null,"intValue":"1"}"#), json!({"intValue": "1"}));
}

#[test]
fn an_array_in_place_of_an_object_is_rejected() {
    for text in [
        "[]",
        "[[]]",
        r#"{"resourceSpans":{}}"#,
        r#"{"resourceSpans":[[]]}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[[]]}]}]}"#,
    ] {
        line(text).expect_err(text);
    }
}

#[test]
fn an_object_without_a_known_signal_is_rejected() {
    for text in ["{}", r#"{"message":"hello"}"#, r#"{"resourceProfiles":[]}"#] {
        assert!(line(text).unwrap_err().reason.contains("resourceSpans"), "{text}");
    }
    let misplaced = format!(r#"{{"resourceSpans":[{{"spans":[{{{IDS}}}]}}]}}"#);
    assert!(line(&misplaced).unwrap_err().reason.contains("scopeSpans"));
    for empty in [
        r#"{"resourceSpans":[]}"#,
        r#"{"resourceLogs":[{}]}"#,
        r#"{"resourceMetrics":[{"scopeMetrics":[]}]}"#,
    ] {
        let line = line(empty).unwrap();
        assert!(line.traces.is_none() && line.logs.is_none() && line.metrics.is_none(), "{empty}");
    }
}

#[test]
fn deep_values_are_read_and_deeper_ones_rejected() {
    let nested = |levels: usize| {
        format!("{}{{}}{}", r#"{"arrayValue":{"values":["#.repeat(levels), "]}}".repeat(levels))
    };
    attribute(&nested(38));
    let fault = span_fault(&format!(r#""attributes":[{{"key":"k","value":{}}}]"#, nested(60)));
    assert!(fault.reason.contains("nested deeper"));
}

#[test]
fn invalid_json_is_a_syntax_fault_at_its_position() {
    for (members, column) in
        [(r#""name":"a","#, 0), ("\"name\":\"a\tb\"", 9), (r#""name":"\ud800""#, 8), (r#""name":(null)"#, 7)]
    {
        let fault = span_fault(members);
        assert!(fault.is_syntax(), "{members}: {fault:?}");
        if column > 0 {
            let text = span_line(members);
            assert_eq!(fault.at, text.find(members).unwrap() + column, "{members}");
        }
    }
}

#[test]
fn numbers_out_of_range_are_rejected() {
    for members in [
        r#""startTimeUnixNano":-1"#,
        r#""startTimeUnixNano":"18446744073709551616""#,
        r#""flags":4294967296"#,
        r#""startTimeUnixNano":true"#,
        r#""endTimeUnixNano":1.5"#,
    ] {
        assert_eq!(span_fault(members).kind, FaultKind::Shape, "{members}");
    }
    assert_eq!(span(r#""startTimeUnixNano":"","endTimeUnixNano":"(null)""#), json!({}));
}

#[test]
fn bare_numbers_beyond_two_to_the_53_are_quoted_and_smaller_ones_are_not() {
    assert_eq!(
        span(
            r#""startTimeUnixNano":1655990400123457000,"endTimeUnixNano":9007199254740993,"attributes":[{"key":"a","value":{"intValue":-9007199254740993}},{"key":"b","value":{"intValue":9007199254740992}}]"#
        ),
        json!({"startTimeUnixNano": "1655990400123457000", "endTimeUnixNano": "9007199254740993", "attributes": [
            {"key": "a", "value": {"intValue": "-9007199254740993"}}, {"key": "b", "value": {"intValue": 9007199254740992_u64}}]})
    );
}

#[test]
fn a_value_of_the_wrong_type_gets_the_type_of_its_field() {
    assert_eq!(attribute(r#"{"stringValue":200}"#), json!({"stringValue": "200"}));
    assert_eq!(attribute(r#"{"stringValue":true}"#), json!({"stringValue": "true"}));
    assert_eq!(attribute(r#"{"boolValue":"true"}"#), json!({"boolValue": true}));
    assert_eq!(line(&span_line(r#""name":5"#)).unwrap().repairs, [Repair::ValueType]);
    assert_eq!(span_fault(r#""name":{}"#).kind, FaultKind::Shape);
}

#[test]
fn snake_case_and_escaped_keys_name_their_fields() {
    assert_eq!(
        span(r#""start_time_unix_nano":"5","na\u006de":"n""#),
        json!({"startTimeUnixNano": "5", "name": "n"})
    );
    assert_eq!(span(r#""parent_span_id":"b7ad6b7169203331""#), json!({}));
}

#[test]
fn a_link_without_valid_ids_is_removed() {
    let span = span(
        r#""links":[{"traceId":"x","spanId":"y"},{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331"}]"#,
    );
    assert_eq!(span["links"].as_array().unwrap().len(), 1);
}

#[test]
fn a_log_record_with_invalid_ids_names_no_span() {
    let text = format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"traceId":"x","spanId":"b7ad6b7169203331"}},{{{IDS}}},{{"spanId":"b7ad6b7169203331"}}]}}]}}]}}"#
    );
    let logs = line(&text).unwrap().logs.unwrap();
    assert_eq!(logs.records().map(|ids| ids.is_some()).collect::<Vec<_>>(), [false, true, false]);
    let json: Value = serde_json::from_slice(&logs.into_json(|_| true).unwrap()).unwrap();
    assert_eq!(
        json["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0],
        json!({"spanId": "b7ad6b7169203331"})
    );
}

#[test]
fn every_signal_of_a_mixed_line_gets_its_own_request() {
    let text = format!(
        r#"{{"resourceLogs":[{{"instrumentationLibraryLogs":[{{"logs":[{{{IDS},"timeUnixNano":1655990400123457000}}]}}]}}],
        "x":1,"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"sum":{{"dataPoints":[{{}}]}}}}]}}]}}],
        "resourceSpans":[{{"instrumentationLibrarySpans":[{{"spans":[{{{IDS}}}]}}]}}]}} {{"next":1}}"#
    );
    let line = line(&text).unwrap();
    assert_eq!(text.get(line.end..), Some(r#" {"next":1}"#));
    let ids = serde_json::from_str::<Value>(&format!("{{{IDS}}}")).unwrap();
    let json = |bytes: Bytes| serde_json::from_slice::<Value>(&bytes).unwrap();
    assert_eq!(
        json(line.traces.unwrap().into_json()),
        json!({"x": 1, "resourceSpans": [{"scopeSpans": [{"spans": [ids]}]}]})
    );
    let logs = json(line.logs.unwrap().into_json(|_| true).unwrap());
    assert_eq!(
        logs["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["timeUnixNano"],
        "1655990400123457000"
    );
    assert_eq!(logs.as_object().unwrap().len(), 2);
    assert_eq!(json(line.metrics.unwrap().into_json()).as_object().unwrap().len(), 2);
}

#[test]
fn a_repeated_key_does_not_move_the_end_of_the_line() {
    let text = span_line(r#""name":"a","name":"b""#) + r#"{"next":1}"#;
    let line = line(&text).unwrap();
    assert_eq!(text.get(line.end..), Some(r#"{"next":1}"#));
}

// Log events

fn log(record: &str) -> Logs {
    line(&format!(r#"{{"resourceLogs":[{{"resource":{{"attributes":[]}},"schemaUrl":"r","scopeLogs":[{{"scope":{{"name":"s"}},"logRecords":[{record}]}}]}}]}}"#))
        .unwrap()
        .logs
        .unwrap()
}

fn event(members: &str) -> Value {
    let event = log(&format!("{{{IDS},{members}}}")).event(0);
    let json: Value = serde_json::from_slice(&event.json).unwrap();
    let time = json["timeUnixNano"].as_str().map_or(0, |time| time.parse().unwrap());
    assert_eq!(time, event.time_unix_nano);
    json
}

#[test]
fn an_event_is_named_by_its_event_name_or_its_text_or_log() {
    let kv = |key: &str, value: Value| json!({"key": key, "value": value});
    assert_eq!(
        event(
            r#""timeUnixNano":"7","observedTimeUnixNano":"9","eventName":"e","body":{"stringValue":"b"},"severityNumber":9,"severityText":"INFO",
            "attributes":[{"key":"a","value":{"intValue":"1"}}],"droppedAttributesCount":2"#
        ),
        json!({"timeUnixNano": "7", "name": "e", "droppedAttributesCount": 2, "attributes": [
            kv("a", json!({"intValue": "1"})), kv("log.severity_number", json!({"intValue": "9"})),
            kv("log.severity_text", json!({"stringValue": "INFO"})), kv("log.body", json!({"stringValue": "b"}))]})
    );
    assert_eq!(
        event(
            r#""timeUnixNano":"0","observedTimeUnixNano":9,"body":{"stringValue":"it \"happened\""},"severityNumber":0,"severityText":"""#
        ),
        json!({"timeUnixNano": "9", "name": "it \"happened\""})
    );
    assert_eq!(
        event(r#""eventName":"","body":{"intValue":"5"}"#),
        json!({"name": "log", "attributes": [kv("log.body", json!({"intValue": "5"}))]})
    );
    assert_eq!(event(r#""body":{"stringValue":""}"#), json!({"name": "log"}));
    assert_eq!(event(r#""body":null"#), json!({"name": "log"}));
}

#[test]
fn an_event_has_every_key_once() {
    let event = event(
        r#""severityText":"new","attributes":[{"key":"log.severity_text","value":{"stringValue":"own"}}]"#,
    );
    assert_eq!(event["attributes"], json!([{"key": "log.severity_text", "value": {"stringValue": "new"}}]));
}

#[test]
fn events_are_attached_to_a_span_in_the_order_of_their_times() {
    let new = |time: u64| SpanEvent {
        time_unix_nano: time,
        json: format!(r#"{{"timeUnixNano":"{time}"}}"#).into(),
    };
    let ids = |members: &str| format!("{{{IDS}{members}}}");
    for (members, expected) in [
        ("", vec![3, 5]),
        (r#","events":[]"#, vec![3, 5]),
        (r#","events":[ ] "#, vec![3, 5]),
        (r#","events":null"#, vec![3, 5]),
        (r#","events":[{"timeUnixNano":"4"}]"#, vec![3, 4, 5]),
        (
            r#","kind":"2","events":[{"name":"x","timeUnixNano":6,"attributes":null},{"timeUnixNano":"1"}],"name":null"#,
            vec![1, 3, 5, 6],
        ),
    ] {
        let text = format!(
            r#"{{"resourceSpans":[{{"instrumentationLibrarySpans":[{{"spans":[{},{}]}}]}}]}}"#,
            ids(""),
            ids(members)
        );
        let mut traces = line(&text).unwrap().traces.unwrap();
        let before = traces.held_bytes();
        traces.attach(1, new(5));
        traces.attach(1, new(3));
        assert!(traces.held_bytes() > before);
        let json: Value =
            serde_json::from_slice(&traces.into_json()).unwrap_or_else(|error| panic!("{error}: {text}"));
        let spans = &json["resourceSpans"][0]["scopeSpans"][0]["spans"];
        let times: Vec<u64> = spans[1]["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["timeUnixNano"].to_string().trim_matches('"').parse().unwrap())
            .collect();
        assert_eq!(times, expected, "{text}");
        assert!(spans[0].get("events").is_none());
    }
}

#[test]
fn only_kept_records_are_exported_as_logs() {
    let logs = log(&format!(r#"{{{IDS}}},{{"body":{{"stringValue":"b"}}}},{{{IDS},"flags":1}}"#));
    let kept = |keep: &[usize]| {
        let json = logs.clone().into_json(|index| keep.contains(&index))?;
        Some(
            serde_json::from_slice::<Value>(&json).unwrap()["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
                .as_array()
                .unwrap()
                .len(),
        )
    };
    assert_eq!(kept(&[]), None);
    assert_eq!(kept(&[1]), Some(1));
    assert_eq!(kept(&[0, 2]), Some(2));
    assert_eq!(kept(&[0, 1, 2]), Some(3));
}

#[test]
fn an_event_without_a_time_gets_the_time_of_arrival() {
    let mut logs = log(&format!(
        r#"{{{IDS}}},{{{IDS},"observedTimeUnixNano":"5"}},{{{IDS},"timeUnixNano":"0","observedTimeUnixNano":0}}"#
    ));
    logs.set_arrival(7);
    let times = [0, 1, 2].map(|record| {
        let event = logs.event(record);
        let json: Value = serde_json::from_slice(&event.json).unwrap();
        (event.time_unix_nano, json["timeUnixNano"].as_str().unwrap().to_owned())
    });
    assert_eq!(times, [(7, "7".to_owned()), (5, "5".to_owned()), (7, "7".to_owned())]);
    let carriers: Value =
        serde_json::from_slice(&logs.carrier_spans(|record| record == 0).unwrap().json()).unwrap();
    assert_eq!(carriers["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["startTimeUnixNano"], "7");
}

#[test]
fn a_body_of_white_space_is_not_empty() {
    let logs = log(&format!(
        r#"{{{IDS},"eventName":"e","body":{{"stringValue":" \t "}}}},{{{IDS},"body":{{"stringValue":" "}}}},{{{IDS},"eventName":"e","body":{{ "stringValue" : "" }}}}"#
    ));
    let event = |record: usize| serde_json::from_slice::<Value>(&logs.event(record).json).unwrap();
    assert_eq!(
        event(0),
        json!({"name": "e", "attributes": [{"key": "log.body", "value": {"stringValue": " \t "}}]})
    );
    assert_eq!(event(1), json!({"name": " "}));
    assert_eq!(event(2), json!({"name": "e"}));
}

#[test]
fn a_log_record_loses_only_its_bad_ids_and_is_reported_as_repaired() {
    for (ids, repairs) in [
        (
            r#""traceId":"0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9","spanId":"b7ad6b7169203331""#,
            &[Repair::InvalidId][..],
        ),
        (r#""traceId":"00000000000000000000000000000000""#, &[Repair::InvalidId]),
        (r#""spanId":17"#, &[Repair::InvalidId]),
        (r#""traceId":"(null)""#, &[Repair::NullWord]),
        (r#""traceId":"","spanId":null"#, &[]),
    ] {
        let text =
            format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{ids},"eventName":"e"}}]}}]}}]}}"#);
        let line = line(&text).unwrap();
        assert_eq!(line.repairs, repairs, "{ids}");
        let logs = line.logs.unwrap();
        assert_eq!(logs.ids(0), None);
        let json: Value = serde_json::from_slice(&logs.into_json(|_| true).unwrap()).unwrap();
        assert_eq!(json["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["eventName"], "e");
    }
}

#[test]
fn a_carrier_span_is_a_zero_length_child_of_the_missing_span() {
    let logs = log(&format!(
        r#"{{{IDS},"timeUnixNano":"7","body":{{"stringValue":"b"}}}},{{"body":{{"stringValue":"c"}}}},{{{IDS}}}"#
    ));
    assert_eq!(logs.carrier_spans(|_| false), None);
    let json: Value =
        serde_json::from_slice(&logs.carrier_spans(|index| index == 0).unwrap().json()).unwrap();
    let span = &json["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(json["resourceSpans"][0]["schemaUrl"], "r");
    assert_eq!(json["resourceSpans"][0]["resource"], json!({"attributes": []}));
    assert_eq!(json["resourceSpans"][0]["scopeSpans"][0]["scope"], json!({"name": "s"}));
    assert_eq!(span["parentSpanId"], "b7ad6b7169203331");
    assert_ne!(span["spanId"], span["parentSpanId"]);
    assert_eq!(
        (&span["name"], &span["startTimeUnixNano"], &span["endTimeUnixNano"]),
        (&json!("b"), &json!("7"), &json!("7"))
    );
    assert_eq!(span["events"], json!([{"timeUnixNano": "7", "name": "b"}]));
    assert_eq!(logs.carrier_spans(|index| index == 0), logs.carrier_spans(|index| index == 0));
    let both: Value =
        serde_json::from_slice(&logs.carrier_spans(|index| index != 1).unwrap().json()).unwrap();
    assert_eq!(both["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().len(), 2);
}

#[test]
fn the_elements_of_a_request_follow_its_edits() {
    let span = format!("{{\"scopeSpans\":[{{\"spans\":[{{{IDS}}}]}}]}}");
    let legacy = format!(
        "{{\"instrumentationLibrarySpans\":[{{\"instrumentationLibrary\":{{}},\"spans\":[{{{IDS},\"name\":null}}]}}]}}"
    );
    let bad = r#"{"scopeSpans":[{"spans":[{"traceId":"x"}]}]}"#;
    let record = format!("{{\"scopeLogs\":[{{\"logs\":[{{{IDS}}},{{\"flags\":null}}]}}]}}");
    let point = r#"{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{"asInt":"1"}]}}]}]}"#;
    let lists = [
        span.clone(),
        format!(" {span} , {legacy}\n"),
        format!("null,{legacy},null"),
        format!("{bad},{span},{bad}"),
    ];
    for (list, around) in lists.iter().flat_map(|list| {
        [("", ""), (" \"resourceLogs\" : null , ", ""), ("\"x\":[1],", ",\"resourceLogs\":null,\"y\":{}")]
            .map(|around| (list, around))
    }) {
        let text = format!("{{{}\"resourceSpans\" : [{list}] {}}}", around.0, around.1);
        for events in 0..2 {
            let mut traces = line(&text).unwrap().traces.unwrap();
            (0..events).for_each(|_| {
                let json = Bytes::from_static(br#"{"name":"e"}"#);
                traces.attach(0, SpanEvent { time_unix_nano: 1, json });
            });
            assert_elements("resourceSpans", &traces.into_request());
        }
    }
    let mixed = format!(
        "{{\"resourceMetrics\":[{point}],\"resourceLogs\":[{record}],\"resourceSpans\":[{legacy},null]}}"
    );
    let line = line(&mixed).unwrap();
    let logs = line.logs.unwrap();
    for keep in [[true, true], [true, false], [false, true]] {
        assert_elements("resourceLogs", &logs.clone().into_request(|index| keep[index]).unwrap());
    }
    assert_elements("resourceSpans", &logs.carrier_spans(|index| index == 0).unwrap());
    assert_elements("resourceSpans", &line.traces.unwrap().into_request());
    assert_elements("resourceMetrics", &line.metrics.unwrap().into_request());
}

fn assert_elements(section: &str, request: &ExportRequest) {
    let json = String::from_utf8(request.json().to_vec()).unwrap();
    let whole: Value = serde_json::from_str(&json).unwrap();
    let elements = String::from_utf8(request.elements().to_vec()).unwrap();
    let list: Value =
        serde_json::from_str(&format!("[{elements}]")).unwrap_or_else(|error| panic!("{error}: {elements}"));
    assert_eq!(list, whole[section], "{json}");
    assert_eq!(elements.trim(), elements);
}

// --- what the fuzz targets ask for ---

#[test]
fn a_zero_is_exported_without_a_minus_sign() {
    assert_eq!(
        span(r#""startTimeUnixNano":"-0","endTimeUnixNano":-0,"flags":-0,"droppedEventsCount":"-0""#),
        json!({"startTimeUnixNano": "0", "endTimeUnixNano": 0, "flags": 0, "droppedEventsCount": 0})
    );
}

#[test]
fn a_number_out_of_the_range_of_doubles_is_rejected() {
    for value in ["{\"doubleValue\":1e400}", "{\"doubleValue\":\"-1e400\"}", "{\"intValue\":1e400}"] {
        let fault = span_fault(&format!("\"attributes\":[{{\"key\":\"k\",\"value\":{value}}}]"));
        assert_eq!(fault.kind, FaultKind::Shape, "{value}");
    }
    let digits = "9".repeat(400);
    let fault = span_fault(&format!(r#""attributes":[{{"key":"k","value":{{"doubleValue":{digits}}}}}]"#));
    assert_eq!(fault.kind, FaultKind::Shape);
    assert_eq!(attribute(r#"{"doubleValue":1e-400}"#), json!({"doubleValue": 0.0}));
}

#[test]
fn escapes_in_ids_numbers_and_words_are_decoded() {
    assert_eq!(
        span(
            r#""parentSpanId":"\u0031111111111111111","startTimeUnixNano":"\u0031","kind":"SPAN_KIND\u005fSERVER",
               "flags":"\u0032","attributes":[{"key":"d","value":{"doubleValue":"N\u0061N"}},{"key":"b","value":{"boolValue":"tru\u0065"}}]"#
        ),
        json!({
            "parentSpanId": "1111111111111111", "startTimeUnixNano": "1", "kind": 2, "flags": 2,
            "attributes": [{"key": "d", "value": {"doubleValue": "NaN"}}, {"key": "b", "value": {"boolValue": true}}]
        })
    );
    let text = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"\u0030af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b716920333\u0031"}]}]}]}"#;
    let ids = &traces(text)["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(*ids, serde_json::from_str::<Value>(&format!("{{{IDS}}}")).unwrap());
}

#[test]
fn an_escaped_key_repeats_the_same_key_without_escapes() {
    let list = |first: &str, last: &str| {
        span(&format!(
            r#""attributes":[{{"key":"{first}","value":{{"intValue":"1"}}}},{{"key":"b"}},{{"key":"{last}","value":{{"intValue":"2"}}}}]"#
        ))
    };
    for (first, last) in [("a", r"\u0061"), (r"\u0061", "a"), (r"\u0061", r"\u0061")] {
        let attributes = list(first, last)["attributes"].take();
        assert_eq!(
            attributes,
            json!([{"key": "b"}, {"key": "a", "value": {"intValue": "2"}}]),
            "{first} and {last}"
        );
    }
}

#[test]
fn a_carrier_span_copies_no_unknown_members() {
    let text = format!(
        r#"{{"resourceLogs":[{{"resource":{{}},"scopeSpans":null,"instrumentationLibrarySpans":[],"scopeLogs":[{{"scope":{{"name":"n"}},"spans":[1],"schemaUrl":"u","logRecords":[{{{IDS}}}]}}]}}]}}"#
    );
    let logs = line(&text).unwrap().logs.unwrap();
    let leaving = logs.carrier_spans(|_| true).unwrap();
    let mut request: Value = serde_json::from_slice(&leaving.json()).unwrap();
    let spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"].take();
    assert_eq!(spans.as_array().unwrap().len(), 1);
    assert_eq!(
        request,
        json!({"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {"name": "n"}, "schemaUrl": "u", "spans": null}]}]})
    );
    assert_eq!(String::from_utf8_lossy(&leaving.json()).matches("\"scopeSpans\"").count(), 1);
}

#[test]
fn a_key_that_is_not_quite_snake_case_is_unknown_and_kept() {
    for key in ["name_", "_name", "na_me", "trace__state", "trace_State", "tracestate_"] {
        assert_eq!(span(&format!("\"{key}\":[1]")), json!({key: [1]}), "{key}");
    }
    assert_eq!(span(r#""trace_state":"a=b""#), json!({"traceState": "a=b"}));
}
