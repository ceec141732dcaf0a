use proptest::strategy::Strategy as _;
use serde_json::{Value, json};

use super::super::super::{Reading, Receiver};
use super::super::{Fastly, FastlyConfig};
use super::*;
use crate::otlp::ExportRequest;

/// One line in each format, in the order of [`PRESETS`].
const LINES: &str = include_str!("../../../../proto-fixtures/fastly/access-logs.txt");

const PRESETS: [AccessLogPreset; 7] = [
    AccessLogPreset::Fastly,
    AccessLogPreset::Datadog,
    AccessLogPreset::NewRelic,
    AccessLogPreset::BetterStack,
    AccessLogPreset::Coralogix,
    AccessLogPreset::SumoLogic,
    AccessLogPreset::Ncsa,
];

const SPAN: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0123456789abcdef0123456789abcdef","spanId":"0123456789abcdef","name":"n"}]}]}]}"#;

fn line_of(preset: AccessLogPreset) -> &'static str {
    LINES.lines().nth(PRESETS.iter().position(|other| *other == preset).unwrap()).unwrap()
}

fn read_as(form: AccessLogForm, body: &str) -> Reading {
    read_with(AccessLogsConfig { r#as: form, ..AccessLogsConfig::default() }, body.as_bytes())
}

fn read_with(access_logs: AccessLogsConfig, body: &[u8]) -> Reading {
    let config = FastlyConfig { access_logs: Some(access_logs), ..FastlyConfig::default() };
    Fastly::new(&config, 1 << 20).read(&bytes::Bytes::copy_from_slice(body))
}

fn request(request: ExportRequest) -> Value {
    serde_json::from_slice(&request.into_json()).unwrap()
}

/// Returns the log records of a body, one for each line.
fn records(body: &str) -> Vec<Value> {
    let reading = read_as(AccessLogForm::Logs, body);
    assert_eq!(reading.rejected, []);
    reading
        .items
        .into_iter()
        .map(|item| {
            let logs = request(item.logs.unwrap().into_request(|_| true).unwrap());
            assert_eq!(
                attributes(&logs["resourceLogs"][0]["resource"]),
                json!({"service.name": {"stringValue": "fastly"}})
            );
            logs["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0].clone()
        })
        .collect()
}

fn spans(reading: Reading) -> Vec<Value> {
    assert_eq!(reading.rejected, []);
    reading
        .items
        .into_iter()
        .map(|item| {
            request(item.traces.unwrap().into_request())["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
                .clone()
        })
        .collect()
}

fn attributes(of: &Value) -> Value {
    let pair = |pair: &Value| (pair["key"].as_str().unwrap().to_owned(), pair["value"].clone());
    of["attributes"].as_array().unwrap().iter().map(pair).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn every_format_has_method_path_status_client_host_and_time() {
    for (preset, line) in PRESETS.into_iter().zip(LINES.lines()) {
        let time = match preset {
            AccessLogPreset::NewRelic | AccessLogPreset::Coralogix => "1795860672123000000",
            _ => "1795860672000000000",
        };
        let body = [line; 3].join("\n");
        assert_eq!(recognize(line.as_bytes()), Some(preset));
        for record in records(&body) {
            let found = attributes(&record);
            let status = if preset == AccessLogPreset::Datadog { "503" } else { "200" };
            for (key, value) in [
                ("http.request.method", json!({"stringValue": "GET"})),
                ("url.path", json!({"stringValue": "/a/b"})),
                ("url.query", json!({"stringValue": "c=d&e=%20"})),
                ("http.response.status_code", json!({"intValue": status})),
                ("client.address", json!({"stringValue": "192.0.2.7"})),
                ("server.address", json!({"stringValue": "www.example.com"})),
            ] {
                assert_eq!(found[key], value, "{key} of {preset:?}");
            }
            assert_eq!(record["timeUnixNano"], time, "{preset:?}");
            assert_eq!(record["body"]["stringValue"], format!("GET /a/b {status}"));
        }
    }
}

#[test]
fn a_record_has_the_fields_of_the_line_and_nothing_else() {
    let [record] = &records(line_of(AccessLogPreset::Fastly))[..] else { panic!() };
    let text = |text| json!({"stringValue": text});
    let expected = json!({
        "client.address": text("192.0.2.7"),
        "geo_country": text("germany"),
        "geo_city": text("berlin"),
        "server.address": text("www.example.com"),
        "url.path": text("/a/b"),
        "url.query": text("c=d&e=%20"),
        "http.request.method": text("GET"),
        "network.protocol.version": text("1.1"),
        "http.request.header.referer": {"arrayValue": {"values": [text("https://example.com/")]}},
        "user_agent.original": text("curl/8 \"x\""),
        "response_state": text("HIT-CLUSTER"),
        "http.response.status_code": {"intValue": "200"},
        "response_body_size": {"intValue": "2326"},
        "fastly_server": text("cache-fra1"),
        "fastly_is_edge": {"boolValue": true},
    });
    assert_eq!(attributes(record), expected);
    let keys: Vec<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["attributes", "body", "timeUnixNano"]);
}

/// Returns the line that Fastly makes of the format to paste.
fn pasted() -> String {
    let format = include_str!("../../../../config/fastly/access-log.format").trim_end();
    let values = [
        (r#"strftime(\{"%Y-%m-%dT%H:%M:%S"\}, time.start)"#, "2026-11-28T10:11:12"),
        ("time.start.usec_frac", "000250"),
        ("time.elapsed.usec", "1500"),
        ("req.service_id", "abc"),
        ("json.escape(req.http.Fastly-Client-IP)", "192.0.2.7"),
        (
            "json.escape(if(req.http.Fastly-Orig-Host, req.http.Fastly-Orig-Host, req.http.Host))",
            "www.example.com",
        ),
        ("json.escape(req.url)", "/a/b?c=d"),
        ("json.escape(req.method)", "GET"),
        ("json.escape(req.proto)", "HTTP/2"),
        ("json.escape(req.http.referer)", ""),
        ("json.escape(req.http.User-Agent)", "curl/8"),
        ("json.escape(req.http.traceparent)", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"),
        ("json.escape(fastly_info.state)", "HIT"),
        ("resp.status", "200"),
        ("resp.body_bytes_written", "12"),
        ("json.escape(server.identity)", "cache-fra1"),
        (r#"if(fastly.ff.visits_this_service == 0, "true", "false")"#, "true"),
    ];
    values.iter().fold(format.to_owned(), |line, (vcl, value)| line.replace(&format!("%{{{vcl}}}V"), value))
}

#[test]
fn the_format_to_paste_is_recognized_and_each_of_its_fields_has_its_meaning() {
    let line = pasted();
    assert_eq!(recognize(line.as_bytes()), Some(AccessLogPreset::Fastly), "{line}");
    let span = spans(read_as(AccessLogForm::Spans, &line)).remove(0);
    let members = ["traceId", "parentSpanId", "startTimeUnixNano", "endTimeUnixNano"].map(|key| &span[key]);
    assert_eq!(
        members,
        [
            "0123456789abcdef0123456789abcdef",
            "0123456789abcdef",
            "1795860672000250000",
            "1795860672001750000"
        ]
    );
    let text = |text| json!({"stringValue": text});
    let expected = json!({
        "time_elapsed": {"intValue": "1500"},
        "service_id": text("abc"),
        "client.address": text("192.0.2.7"),
        "server.address": text("www.example.com"),
        "url.path": text("/a/b"),
        "url.query": text("c=d"),
        "http.request.method": text("GET"),
        "network.protocol.version": text("2"),
        "user_agent.original": text("curl/8"),
        "response_state": text("HIT"),
        "http.response.status_code": {"intValue": "200"},
        "response_body_size": {"intValue": "12"},
        "fastly_server": text("cache-fra1"),
        "fastly_is_edge": {"boolValue": true},
    });
    assert_eq!(attributes(&span), expected);
}

#[test]
fn otlp_and_access_logs_may_be_mixed_in_one_body() {
    let fastly = line_of(AccessLogPreset::Fastly);
    let datadog = line_of(AccessLogPreset::Datadog);
    let new_relic = line_of(AccessLogPreset::NewRelic);
    let ncsa = line_of(AccessLogPreset::Ncsa);
    let prefix = "<134>2026-11-28T10:11:12Z cache-fra1 spanrelay[1]: ";
    let with_brace = ncsa.replace("/a/b", "/{a}");
    let body = format!(
        "{SPAN}\n{prefix}{with_brace}\r\n{fastly}{SPAN} {datadog}\rjunk\n[{new_relic},{SPAN}]\n{SPAN}\n"
    );
    let reading = read_as(AccessLogForm::Logs, &body);
    let are_logs: Vec<bool> = reading.items.iter().map(|item| item.logs.is_some()).collect();
    assert_eq!(are_logs, [false, true, true, false, true, true, false, false]);
    assert_eq!(reading.rejected.iter().map(|rejected| rejected.line).collect::<Vec<_>>(), [4]);
}

#[test]
fn otlp_in_text_after_a_syslog_header_is_read_as_without_access_logs() {
    let text = r#"192.0.2.7 - - [28/Nov/2026:10:11:12 +0000] "GET /{a} HTTP/1.1" 200 1 "-" ""#;
    let line = format!("<134>2026-11-28T10:11:12Z cache-fra1 spanrelay[1]: {text}{SPAN}\"");
    let reading = read_as(AccessLogForm::Logs, &line);
    assert!(reading.items.iter().all(|item| item.logs.is_none()) && reading.items.len() == 1);
    assert_eq!(read_as(AccessLogForm::Logs, &line.replace("resourceSpans", "x")).items.len(), 1);
}

#[test]
fn pretty_printed_lines_and_arrays_are_read() {
    let fastly = line_of(AccessLogPreset::Fastly);
    let ncsa = line_of(AccessLogPreset::Ncsa);
    let pretty = serde_json::to_string_pretty(
        &serde_json::from_str::<Value>(line_of(AccessLogPreset::Datadog)).unwrap(),
    )
    .unwrap();
    let body = format!("[\n{pretty},\n{fastly}\n]");
    assert_eq!(read_as(AccessLogForm::Logs, &body).items.len(), 2);
    assert_eq!(read_as(AccessLogForm::Logs, &format!("{pretty}\n{ncsa}\n{pretty}")).items.len(), 3);
}

#[test]
fn lines_are_repaired_like_otlp() {
    let line = line_of(AccessLogPreset::Fastly).replace("berlin", "be\\x72lin\\v").replace("true}", "true,}");
    let reading = read_as(AccessLogForm::Logs, &line);
    assert_eq!(reading.items[0].repairs.len(), 2, "{:?}", reading.items[0].repairs);
    let bytes =
        [&line_of(AccessLogPreset::Ncsa).as_bytes()[..line_of(AccessLogPreset::Ncsa).len() - 1], b"\xff\""]
            .concat();
    let reading = read_with(AccessLogsConfig::default(), &bytes);
    assert_eq!(reading.items[0].repairs, [crate::event::Repair::InvalidUtf8]);
}

#[test]
fn a_span_has_the_trace_and_parent_of_its_traceparent() {
    let line = line_of(AccessLogPreset::Fastly).replace(
        "\"geo_city\"",
        "\"traceparent\":\"00-0123456789abcdef0123456789abcdef-0123456789abcdef-01\",\"geo_city\"",
    );
    let [span] = &spans(read_as(AccessLogForm::Spans, &line))[..] else { panic!() };
    assert_eq!(span["traceId"], "0123456789abcdef0123456789abcdef");
    assert_eq!(span["parentSpanId"], "0123456789abcdef");
    assert_eq!((&span["name"], &span["kind"]), (&json!("GET"), &json!(2)));
    assert_eq!(attributes(span).get("traceparent"), None);
}

#[test]
fn a_repeated_line_makes_the_same_span_and_another_line_another() {
    let ncsa = line_of(AccessLogPreset::Ncsa);
    let ids = |line: &str| {
        let span = spans(read_as(AccessLogForm::Spans, line)).remove(0);
        (span["traceId"].clone(), span["spanId"].clone())
    };
    assert_eq!(ids(line_of(AccessLogPreset::Ncsa)), ids(&format!("{ncsa}\r\n")));
    assert_ne!(
        ids(line_of(AccessLogPreset::Ncsa)),
        ids(&line_of(AccessLogPreset::Ncsa).replace("192.0.2.7", "192.0.2.8"))
    );
}

#[test]
fn a_span_ends_after_the_duration_of_the_line_and_shows_the_servers_errors() {
    let [span] = &spans(read_as(AccessLogForm::Spans, line_of(AccessLogPreset::Datadog)))[..] else {
        panic!()
    };
    assert_eq!(span["startTimeUnixNano"], "1795860672000000000");
    assert_eq!(span["endTimeUnixNano"], "1795860673500000000");
    assert_eq!(span["status"], json!({"code": 2}));
    assert_eq!(attributes(span)["error.type"], json!({"stringValue": "503"}));
    let [span] = &spans(read_as(AccessLogForm::Spans, line_of(AccessLogPreset::Ncsa)))[..] else { panic!() };
    assert_eq!(span["endTimeUnixNano"], span["startTimeUnixNano"]);
    assert_eq!(span.get("status"), None);
}

#[test]
fn the_request_time_of_datadogs_formats_is_in_the_unit_that_fits_the_end() {
    for (time, end, nanos) in [
        ("250", "12", 250_000_000),
        ("2500", "14", 2_500_000_000),
        ("2500", "15", 2_500_000_000),
        ("2500", "12", 2_500_000),
        ("2500000", "14", 2_500_000_000),
    ] {
        let line = line_of(AccessLogPreset::Datadog).replace("1500", time);
        let line = line.replace("10:11:13UTC", &format!("10:11:{end}UTC"));
        let span = spans(read_as(AccessLogForm::Spans, &line)).remove(0);
        let expected = 1_795_860_672_000_000_000_u64 + nanos;
        assert_eq!(span["endTimeUnixNano"], expected.to_string(), "{time} until {end}");
    }
}

#[test]
fn a_log_record_keeps_the_end_and_the_duration() {
    let [record] = &records(line_of(AccessLogPreset::SumoLogic))[..] else { panic!() };
    let found = attributes(record);
    assert_eq!(found["time_end"], json!({"stringValue": "2026-11-28T10:11:12Z"}));
    assert_eq!(found["time_elapsed"], json!({"intValue": "1500"}));
}

#[test]
fn both_is_a_span_and_a_log_record_of_its_trace() {
    let mut reading = read_as(AccessLogForm::Both, line_of(AccessLogPreset::NewRelic));
    let logs = request(reading.items[0].logs.take().unwrap().into_request(|_| true).unwrap());
    let record = &logs["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
    let [span] = &spans(reading)[..] else { panic!() };
    assert_eq!(record["traceId"], span["traceId"]);
    assert_eq!(record.get("spanId"), None);
}

#[test]
fn a_span_needs_a_time() {
    let reading = read_as(AccessLogForm::Spans, r#"{"request_method":"GET","url":"/"}"#);
    assert!(reading.rejected[0].reason.contains("without a time"), "{:?}", reading.rejected);
    assert_eq!(records(r#"{"request_method":"GET","url":"/"}"#).len(), 1);
}

#[test]
fn custom_fields_are_read_by_the_map() {
    let pairs =
        [("timestamp", "t.at"), ("http.request.method", "verb"), ("url.path", "u"), ("tenant", "who")];
    let map = pairs.map(|(name, own)| (name.to_owned(), own.to_owned())).into();
    let config = AccessLogsConfig { preset: AccessLogPreset::None, map, ..AccessLogsConfig::default() };
    let line = r#"{"t":{"at":1795860672.5},"verb":"PUT","u":"/x?y","who":7,"status":"201"}"#;
    let mut reading = read_with(config, line.as_bytes());
    let logs = request(reading.items.remove(0).logs.unwrap().into_request(|_| true).unwrap());
    let record = &logs["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
    assert_eq!(record["timeUnixNano"], "1795860672500000000");
    let expected = json!({
        "http.request.method": {"stringValue": "PUT"},
        "url.path": {"stringValue": "/x"},
        "url.query": {"stringValue": "y"},
        "tenant": {"intValue": "7"},
        "status": {"stringValue": "201"},
    });
    assert_eq!(attributes(record), expected);
}

#[test]
fn the_first_field_of_an_attribute_counts_and_those_of_the_map_before_all() {
    let line = r#"{"client_ip":"192.0.2.7","from":"192.0.2.8","request":"GET http://a/ HTTP/2","host":"b","request_protocol":"HTTP/1.1","referer":"r","request_referer":"s"}"#;
    let text = |text| json!({"stringValue": text});
    let [record] = &records(line)[..] else { panic!() };
    let found = attributes(record);
    for (key, value) in [("client.address", "192.0.2.7"), ("server.address", "a"), ("host", "b")] {
        assert_eq!(found[key], text(value), "{key}");
    }
    for (key, value) in
        [("network.protocol.version", "2"), ("request_protocol", "HTTP/1.1"), ("request_referer", "s")]
    {
        assert_eq!(found[key], text(value), "{key}");
    }
    let map = vec![("client.address".to_owned(), "from".to_owned())];
    let mut reading = read_with(AccessLogsConfig { map, ..AccessLogsConfig::default() }, line.as_bytes());
    assert_eq!(reading.items[0].repairs, []);
    let logs = request(reading.items.remove(0).logs.unwrap().into_request(|_| true).unwrap());
    let found = attributes(&logs["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]);
    assert_eq!((&found["client.address"], &found["client_ip"]), (&text("192.0.2.8"), &text("192.0.2.7")));
}

#[test]
fn urls_ports_and_request_lines_are_split() {
    let [record] =
        &records(r#"{"request":"GET https://u:p@a.example:8443/p?q HTTP/2.0","status":"HIT"}"#)[..]
    else {
        panic!()
    };
    let text = |text| json!({"stringValue": text});
    let expected = json!({
        "url.scheme": text("https"),
        "server.address": text("a.example"),
        "server.port": {"intValue": "8443"},
        "url.path": text("/p"),
        "url.query": text("q"),
        "network.protocol.version": text("2"),
        "http.request.method": text("GET"),
        "status": text("HIT"),
    });
    assert_eq!(attributes(record), expected);
}

#[test]
fn fields_of_ncsa_that_are_invalid_have_a_name_of_their_own() {
    let line = r#"192.0.2.7 - - [yesterday] "\x16\x03\x01" 099 1"#;
    let [record] = &records(line)[..] else { panic!() };
    let text = |text| json!({"stringValue": text});
    let expected = json!({
        "client.address": text("192.0.2.7"),
        "time": text("yesterday"),
        "request": text("\\x16\\x03\\x01"),
        "status": text("099"),
        "http.response.body.size": {"intValue": "1"},
    });
    assert_eq!(attributes(record), expected);
    let withheld = Withheld::new(["url.path".to_owned()].iter());
    let json = convert(line, &AccessLogsConfig::default(), &withheld).unwrap().json;
    assert!(!json.contains("x16") && json.contains("yesterday"), "{json}");
}

#[test]
fn other_lines_are_rejected_with_the_reason() {
    for (line, reason) in [
        (r#"{"a":1,"b":"x"}"#, "no field holds a method"),
        ("plain text", "neither a JSON object nor"),
        (r#"{"resourceSpans":1,"url":"/"}"#, "resourceSpans"),
        (r#"{"url":"/""#, "ends too early"),
    ] {
        let reading = read_as(AccessLogForm::Logs, line);
        assert_eq!(reading.items.len(), 0, "{line}");
        assert!(reading.rejected[0].reason.contains(reason), "{line}: {}", reading.rejected[0].reason);
    }
    let config = AccessLogsConfig { preset: AccessLogPreset::Ncsa, ..AccessLogsConfig::default() };
    assert_eq!(read_with(config, line_of(AccessLogPreset::Fastly).as_bytes()).items.len(), 0);
}

#[test]
fn any_text_is_read_or_rejected_but_never_both() {
    for line in [
        line_of(AccessLogPreset::Fastly),
        line_of(AccessLogPreset::Datadog),
        line_of(AccessLogPreset::Ncsa),
        line_of(AccessLogPreset::Coralogix),
    ] {
        for end in 0..=line.len() {
            let line = line.get(..end).unwrap();
            let reading = read_as(AccessLogForm::Both, line);
            let units = reading.items.len() + reading.rejected.len();
            assert_eq!(units, usize::from(end > 0), "{line}");
        }
    }
}

#[test]
fn settings_are_decoded_from_their_bytes() {
    let config = AccessLogsConfig {
        r#as: AccessLogForm::Both,
        preset: AccessLogPreset::SumoLogic,
        map: vec![("a".to_owned(), "b".to_owned())],
        service_name: "x".to_owned(),
    };
    assert_eq!(AccessLogsConfig::decode(&config.encode()), Some(config));
    assert_eq!(AccessLogsConfig::decode(b"x"), None);
}

/// Returns the attributes of a flat object without known names, as a reader of plain JSON sees them.
fn naive(line: &Value) -> Value {
    let value = |value: &Value| match value {
        Value::String(text) => json!({"stringValue": text}),
        Value::Bool(value) => json!({"boolValue": value}),
        Value::Number(number) if number.is_i64() => json!({"intValue": number.to_string()}),
        number => json!({"doubleValue": number}),
    };
    line.as_object()
        .unwrap()
        .iter()
        .map(|(key, field)| (key.clone(), value(field)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

proptest::proptest! {
    #[test]
    fn fields_without_a_convention_keep_name_and_value(
        fields in proptest::collection::btree_map(
            r#"x[a-z_"\\é]{0,6}"#,
            proptest::prop_oneof![
                proptest::arbitrary::any::<String>().prop_filter("stands for no value", |text| text != "(null)").prop_map(Value::from),
                proptest::arbitrary::any::<bool>().prop_map(Value::from),
                proptest::arbitrary::any::<i64>().prop_map(Value::from),
                proptest::arbitrary::any::<i32>()
                    .prop_map(|number| f64::from(number) / 4.0)
                    .prop_filter("whole numbers are integers", |number| number.fract() != 0.0)
                    .prop_map(Value::from),
            ],
            0..8,
        ),
    ) {
        let own: Value = fields.clone().into_iter().collect::<serde_json::Map<_, _>>().into();
        let mut line = own.clone();
        line["url"] = "/".into();
        let mut found = attributes(&records(&line.to_string())[0]);
        found.as_object_mut().unwrap().remove("url.path");
        proptest::prop_assert_eq!(found, naive(&own));
    }
}

#[test]
fn a_field_with_a_rule_is_left_out_with_everything_in_it() {
    let rules = ["client.address", "user.email", "host"].map(str::to_owned);
    let withheld = Withheld::new(rules.iter());
    for field in [
        r#""client_ip":{"v4":"secret"}"#,
        r#""from":{"a":["secret"]}"#,
        r#""user.email":{"a":"secret"}"#,
        r#""user":{"email":{"a":{"b":"secret"}}}"#,
        r#""user":[{"email":"secret"}]"#,
        r#""hops":[1,{"x":{"client_ip":"secret"}}]"#,
        // By its own name, although its attribute has another one.
        r#""host":"secret""#,
    ] {
        let line = format!(
            r#"{{"timestamp":"2026-11-28T10:11:12Z","request_method":"GET",{field},"kept":[{{"a":1}}]}}"#
        );
        for form in [AccessLogForm::Logs, AccessLogForm::Spans, AccessLogForm::Both] {
            let map = vec![("client.address".to_owned(), "from".to_owned())];
            let config = AccessLogsConfig { r#as: form, map, ..AccessLogsConfig::default() };
            let json = convert(&line, &config, &withheld).unwrap().json;
            assert!(!json.contains("secret"), "{json}");
            assert!(json.contains(r#""kept""#) && json.contains(r#""stringValue":"GET""#), "{json}");
        }
    }
}
