//! Seeds of the targets: the fixtures, some inputs that no fixture has, and earlier findings.
//!
//! In: the name of a target. Out: reproducible inputs, and words that mutations insert.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use spanrelay::internals::{
    ExportRequest, KeptHeaders, Record, Signal, encode_frame, protobuf, read_request,
};

use super::messages;

/// One line for each signal, with every field of the signal.
const RICH: [(Signal, &str); 3] = [
    (
        Signal::Traces,
        r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a\n\u00e9\ud83d\ude00"}}],"droppedAttributesCount":1,"entityRefs":[{"schemaUrl":"u","type":"t","idKeys":["a"],"descriptionKeys":[]}]},"schemaUrl":"u","scopeSpans":[{"scope":{"name":"n","version":"v","attributes":[],"droppedAttributesCount":1},"schemaUrl":"w","spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","traceState":"a=b","parentSpanId":"0102030405060708","name":"x","kind":2,"startTimeUnixNano":"18446744073709551615","endTimeUnixNano":5,"flags":257,"someday":{"a":[null]},"attributes":[{"key":"i","value":{"intValue":"-9223372036854775808"}},{"key":"d","value":{"doubleValue":-1.5e-3}},{"key":"n","value":{"doubleValue":"NaN"}},{"key":"b","value":{"boolValue":false}},{"key":"y","value":{"bytesValue":"aGk="}},{"key":"e","value":{}},{"key":"a","value":{"arrayValue":{"values":[{"intValue":0},{}]}}},{"key":"k","value":{"kvlistValue":{"values":[{"key":"k","value":{"stringValue":""}}]}}}],"droppedAttributesCount":2,"events":[{"timeUnixNano":"7","name":"ev","attributes":[{"key":"k"}],"droppedAttributesCount":3}],"droppedEventsCount":3,"links":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203332","traceState":"c=d","attributes":[],"droppedAttributesCount":4,"flags":1}],"droppedLinksCount":4,"status":{"code":2,"message":"m"}}]}]}]}"#,
    ),
    (
        Signal::Logs,
        r#"{"resourceLogs":[{"resource":{},"schemaUrl":"u","scopeLogs":[{"scope":{"name":"n"},"schemaUrl":"w","logRecords":[{"timeUnixNano":"1","observedTimeUnixNano":"2","severityNumber":9,"severityText":"INFO","body":{"kvlistValue":{"values":[{"key":"a","value":{"boolValue":true}}]}},"attributes":[{"key":"log.body","value":{"stringValue":"own"}},{"key":"a","value":{"doubleValue":1}}],"droppedAttributesCount":1,"flags":1,"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","eventName":"e"},{"observedTimeUnixNano":3,"body":{"stringValue":"a body"}}]}]}]}"#,
    ),
    (
        Signal::Metrics,
        r#"{"resourceMetrics":[{"resource":{},"schemaUrl":"u","scopeMetrics":[{"scope":{},"schemaUrl":"w","metrics":[{"name":"g","description":"d","unit":"1","metadata":[{"key":"m"}],"gauge":{"dataPoints":[{"startTimeUnixNano":"1","timeUnixNano":"2","asDouble":0.5,"attributes":[{"key":"a","value":{"intValue":"1"}}],"exemplars":[{"timeUnixNano":"3","asInt":"4","spanId":"b7ad6b7169203331","traceId":"0af7651916cd43dd8448eb211c80319c","filteredAttributes":[{"key":"f"}]}],"flags":1}]}},{"name":"s","sum":{"dataPoints":[{"asInt":"-5"}],"aggregationTemporality":2,"isMonotonic":true}},{"name":"h","histogram":{"dataPoints":[{"count":"2","sum":3.5,"bucketCounts":["1","1"],"explicitBounds":[0.5],"min":1,"max":2.5}],"aggregationTemporality":1}},{"name":"x","exponentialHistogram":{"dataPoints":[{"count":"2","sum":1,"scale":-1,"zeroCount":"1","positive":{"offset":1,"bucketCounts":["1"]},"negative":{"offset":-1,"bucketCounts":[1]},"min":1,"max":1,"zeroThreshold":0.1}],"aggregationTemporality":2}},{"name":"q","summary":{"dataPoints":[{"count":"1","sum":2,"quantileValues":[{"quantile":0.5,"value":2}]}]}}]}]}]}"#,
    ),
];

/// Input that senders write and that is not canonical, one case per line.
const ODD: &[&str] = &[
    r#"{"resourceSpans":[{"instrumentationLibrarySpans":[{"instrumentationLibrary":{"name":"l"},"spans":[{"traceId":"0AF7651916CD43DD8448EB211C80319C","spanId":"B7AD6B7169203331","parentSpanId":"","kind":"SPAN_KIND_SERVER","startTimeUnixNano":1655990400123457000,"endTimeUnixNano":"1.5e18","attributes":[{"key":"a","value":{"intValue":1.5}},{"key":"a","value":{"intValue":"2"}}],"status":{"code":"1"},"flags":"256"}]}],"scopeSpans":null}]}"#,
    r#"{"resource_spans":[{"scope_spans":[{"spans":[{"trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331","parent_span_id":"b7ad6b7169203331","name":7,"links":[{"traceId":"","spanId":"0"}],"events":[]},{"traceId":"00000000000000000000000000000000","spanId":"x"}]}]}]}"#,
    r#"{"resourceLogs":[{"instrumentationLibraryLogs":[{"logs":[{"body":{"stringValue":"say "hi" to me"},"severityNumber":"SEVERITY_NUMBER_INFO","traceId":(null),"spanId":"(null)"},]}]}]}"#,
    "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"0af7651916cd43dd8448eb211c80319c\",\"spanId\":\"b7ad6b7169203331\",\"name\":\"a\tb\\x41\\u{e9}\\q\\ud800\"}]}]}]}",
    r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","attributes":[{"key":"b","value":{"bytesValue":{"0":104,"1":105}}},{"key":"c","value":{"bytesValue":"-_8"}},{"key":"d","value":{"doubleValue":NaN}}]}]}]}],"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"of it"},"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331"}]}]}]}"#,
];

const SIGNATURES: &[&str] = &[
    "v1=@1\n\nfoo",
    "v1=@2\n\n{\"id\":\"a\"}",
    "v1=@3\n\nfoo",
    "v2=@1, v1=@2 ,v3=\n\nfoo",
    "v1=@3\nv1=@1\n\n",
    "v1=@1,,,,,,,,,,,,,,,,\n\nfoo",
    "v1=@1@2\n\nfoo",
    "=,v1,v1=,@1\n\nfoo",
    "v1=773ba44693c7553d6ee20f61ea5d2757a9a4f4a44d2841ae4e95b52e4cd62db4\n\nfoo",
];

const CONFIGURATIONS: &[&str] = &[
    "#env TOKEN=@secret\n#env PORT=8080\n#set exporters.otlp_http.timeout=3s\nreceivers:\n  fastly/www: {path: /www, auth: {header: x-token, values: [\"${env:TOKEN}\"]}, rate_limit: {requests_per_second: 1.5, burst: 2}}\n  circleci: {secrets: [\"${env:TOKEN}\", \"${env:OLD:-none}\"]}\n  otlp:\n",
    "#env CIRCLECI_HOOK_SECRET=@secret\n#env OTEL_EXPORTER_OTLP_HEADERS=authorization=@secret,x=y%20z\n#env OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://example.com/x\n#env CIRCLECI_OTLP_X_TEAM=@secret\n#env FASTLY_SERVICE_IDS=a, b\n",
    "a: &a [1, *a]\nb: |\n  text $$ ${env:X\nreceivers: {fastly: null, fastly: ~}\n",
    "receivers: {fastly: }\nexporters: {otlp_http: {endpoint: \"http://h:1/p\", headers: {a: \"\\u00e9$$\"}, tls: {ca_file: \"a\\\"b\"}, traces: {encoding: protobuf, headers: {b: c}}}}\nqueue: {directory: 'it''s $$HOME', max_size: 3MiB}\nprocessors: {span_events: {wait: 1m30s}}\ntelemetry: {traces: {endpoint: \"http://h:1\", sampling_ratio: 0.25}}\n",
];

/// Returns the seeds of a target, earlier findings last.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    let mut seeds = match target {
        "access_log" => [access_logs(), bodies("fastly")].concat(),
        "body" => [bodies("fastly"), vec![ODD.join("\n").into_bytes(), texts(ODD).join(&b',')]].concat(),
        "framing" => [lines(), recipes()].concat(),
        "line" => lines(),
        "signature" => texts(SIGNATURES),
        "webhook" => bodies("circleci"),
        "github" => github_events(),
        "steps" => responses(),
        "protobuf" => requests(),
        "queue_record" => records(),
        "config" => [texts(CONFIGURATIONS), files(&root().join("config"), "yaml")].concat(),
        other => panic!("there is no target {other}"),
    };
    // The same limit as `-max_len` of libFuzzer.
    seeds.retain(|seed| seed.len() <= MAX_BYTES);
    seeds.extend(findings(target));
    seeds
}

/// Longer inputs are slower and find nothing more.
pub const MAX_BYTES: usize = 16 * 1024;

/// Returns fragments that inputs of a target consist of.
pub fn words(target: &str) -> Vec<String> {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    const JSON: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "null",
        "true",
        "false",
        "\"(null)\"",
        "(null)",
        "\"\"",
        "0",
        "-0",
        "\"-0\"",
        "1e400",
        "9007199254740993",
        "18446744073709551616",
        "1.0",
        "1e3",
        "NaN",
        "\"NaN\"",
        "\\u0061",
        "\\ud800",
        "\\x41",
        "\\",
        "\n",
        "\u{1}",
        "\r\n",
        ",}",
        ",]",
        "{}",
        "[]",
        "\"0123456789abcdef\"",
        "é",
    ];
    match target {
        "access_log" | "body" | "framing" | "line" => {
            [texts(JSON), messages::keys().iter().map(|key| format!("\"{key}\":")).collect()].concat()
        }
        "webhook" => [
            texts(JSON),
            texts(&[
                "\"type\":\"ping\"",
                "\"id\":",
                "\"happened_at\":",
                "\"workflow\":",
                "\"job\":",
                "\"pipeline\":",
                "\"status\":\"failed\"",
                "\"name\":",
            ]),
        ]
        .concat(),
        "github" => [
            texts(JSON),
            texts(&[
                "workflow_job\n",
                "\"action\":\"completed\"",
                "\"workflow_job\":",
                "\"workflow_run\":",
                "\"id\":",
                "\"run_id\":",
                "\"run_attempt\":",
                "\"number\":",
                "\"steps\":[",
                "\"conclusion\":\"failure\"",
            ]),
        ]
        .concat(),
        "steps" => [
            texts(JSON),
            texts(&[
                "v1.1 commands bare\n",
                "\n---\n",
                "\"name\":",
                "\"command\":\"make\"",
                "\"bash_command\":\"a b\\nc\"",
                "\"steps\":[",
                "\"actions\":[",
                "\"num\":1,",
                "\"step\":1,",
                "\"index\":1,",
                "\"auto_rerun_number\":1,",
                "\"phase\":\"ended\"",
                "\"outcome\":\"failed\"",
                "\"started_at\":\"2026-03-02T09:00:30.5Z\",",
                "\"queued_at\":\"2026-03-02T09:00:30Z\",",
                "make",
                "…",
                "...",
            ]),
        ]
        .concat(),
        "signature" => texts(&["v1=", "v2=", "@1", "@2", "@3", ",", "\n", "\n\n", " ", "\t", "=", "V1="]),
        "protobuf" => {
            texts(&["\0", "\u{1}", "\n", "\u{12}", "\u{1a}", "\"", "*", "2", ":", "\u{10}", "\u{7f}", "\t"])
        }
        "queue_record" => texts(&["(\u{5}/", "\0", "\u{1}", "fastly", "\u{7f}"]),
        _ => texts(&[
            "#env A=@secret\n",
            "#env PORT=",
            "#set ",
            "${env:A}",
            "${env:",
            ":-",
            "$$",
            "receivers:",
            "  fastly:",
            "  circleci:",
            "exporters:",
            "otlp_http:",
            "{",
            "}",
            "[",
            "]",
            ": ",
            "\n  ",
            "- ",
            "&a",
            "*a",
            "|",
            "<<",
            "\"",
            "'",
            "10s",
            "1MiB",
            "0",
            "-1",
            "true",
            "null",
            "\u{2028}",
            "\t",
        ]),
    }
}

/// Returns the root of the repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Returns the files of a folder in the order of their names; none when the folder does not exist.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn files(folder: &Path, extension: &str) -> Vec<Vec<u8>> {
    let has_extension = |path: &&PathBuf| path.extension().is_some_and(|it| it == extension);
    entries(folder).iter().filter(has_extension).filter_map(|path| fs::read(path).ok()).collect()
}

/// Returns the inputs of earlier findings.
fn findings(target: &str) -> Vec<Vec<u8>> {
    let folder = root().join("fuzz/regressions").join(target);
    entries(&folder).iter().filter_map(|path| fs::read(path).ok()).collect()
}

/// Returns the bodies of a receiver's fixtures.
fn bodies(receiver: &str) -> Vec<Vec<u8>> {
    let cases = entries(&root().join("proto-fixtures").join(receiver));
    let is_request = |path: &&PathBuf| path.file_stem().is_some_and(|stem| stem == "request");
    let files: Vec<PathBuf> = cases.iter().flat_map(|case| entries(case)).collect();
    let bodies: Vec<Vec<u8>> =
        files.iter().filter(is_request).filter_map(|path| fs::read(path).ok()).collect();
    assert!(bodies.len() > 10, "the fixtures of {receiver} are not where they were");
    bodies
}

/// Returns choices for bodies with every kind of fragment.
fn recipes() -> Vec<Vec<u8>> {
    (0..32_u8).map(|seed| (0..=255_u8).map(|choice| choice.wrapping_mul(2 * seed + 7)).collect()).collect()
}

/// Returns the bodies of GitHub's fixtures, each after every type of event.
fn github_events() -> Vec<Vec<u8>> {
    let kinds = ["workflow_run", "workflow_job", "ping", "push"];
    let events = |body: Vec<u8>| kinds.map(|kind| [kind.as_bytes(), b"\n", &body].concat());
    bodies("github").into_iter().flat_map(events).collect()
}

/// Returns the documented responses of CircleCI's API, in each form of the lookup.
fn responses() -> Vec<Vec<u8>> {
    const RESPONSES: [(&str, &str); 2] = [
        ("v3", include_str!("../../proto-fixtures/circleci/github-oauth-job/steps.v3.json")),
        ("v1.1", include_str!("../../proto-fixtures/circleci/github-oauth-job/steps.v1.1.json")),
    ];
    const OF_V2: &str = include_str!("../../proto-fixtures/circleci/github-oauth-job/steps.v2.json");
    let forms = |(api, response)| {
        ["", " commands", " bare", " commands bare"]
            .map(|words| format!("{api}{words}\n{response}\n---\n{OF_V2}").into_bytes())
    };
    RESPONSES.into_iter().flat_map(forms).collect()
}

/// Lines of access logs.
fn access_logs() -> Vec<Vec<u8>> {
    const LINES: &str = include_str!("../../proto-fixtures/fastly/access-logs.txt");
    LINES.lines().map(|line| line.as_bytes().to_vec()).collect()
}

fn lines() -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = RICH.iter().map(|(_, text)| text.as_bytes().to_vec()).collect();
    lines.extend(ODD.iter().map(|text| text.as_bytes().to_vec()));
    for body in bodies("fastly") {
        lines.extend(body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec));
    }
    lines
}

/// Returns every line that is a request of one signal, as JSON and as protobuf, after the byte that identifies the
/// signal.
fn requests() -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    for text in lines().into_iter().map(Bytes::from) {
        for (choice, signal) in (0_u8..).zip(Signal::ALL) {
            let Ok(request) = read_request(signal, &text) else { continue };
            let line = request.line;
            let json = match signal {
                Signal::Traces => line.traces.map(|traces| traces.into_request().into_json()),
                Signal::Logs => {
                    line.logs.and_then(|logs| logs.into_request(|_| true)).map(ExportRequest::into_json)
                }
                Signal::Metrics => line.metrics.map(|metrics| metrics.into_request().into_json()),
            };
            let Some(json) = json else { continue };
            requests.push([&[choice][..], &json].concat());
            requests.extend(protobuf::encode(signal, &json).ok().map(|bytes| [vec![choice], bytes].concat()));
        }
    }
    requests
}

fn records() -> Vec<Vec<u8>> {
    let content = |body: &[u8]| [b"\x06\x00\x00\x00\x01\x02\x03\x04\x05\x00\x07fastly", body].concat();
    let mut records: Vec<Vec<u8>> = bodies("circleci").iter().map(|body| content(body)).collect();
    for body in [Bytes::from_static(b"{}"), Bytes::from(vec![b'x'; 10_000])] {
        let record = Record {
            receiver: Arc::from("fastly"),
            received: UNIX_EPOCH,
            reading: Bytes::from_static(b"\x01"),
            headers: KeptHeaders::default(),
            body,
        };
        records.extend(encode_frame(&record).ok());
    }
    records.push(content(b""));
    records
}
