//! Repair against an oracle that knows what was meant: a line that is canonical, with one character wrong.

mod unknown_members;

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::receiver::fastly::Fastly;
use crate::receiver::fastly::FastlyConfig;
use crate::receiver::{Reading, Receiver};

const IDS: &str = r#""traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331""#;

/// Characters that JSON is built of, outside of strings.
const STRUCTURAL: &[u8] = br#"{}[],:""#;

fn read(line: &[u8]) -> Reading {
    let config = FastlyConfig::default();
    Fastly::new(&config, 1 << 20).read(&Bytes::copy_from_slice(line))
}

/// The requests that leave, as values.
fn forwarded(reading: Reading) -> Vec<Value> {
    let requests = reading.items.into_iter().flat_map(|item| {
        let logs = item.logs.and_then(|logs| logs.into_json(|_| true));
        [item.traces.map(|it| it.into_json()), logs, item.metrics.map(|it| it.into_json())]
    });
    requests.flatten().map(|json| serde_json::from_slice(&json).expect("JSON leaves")).collect()
}

/// Canonical lines of many shapes. Some hold unknown fields, and texts that look like structure.
fn canonical_lines() -> Vec<String> {
    vec![
        format!(
            r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}}]}},"scopeSpans":[{{"scope":{{"name":"n","version":"1"}},"spans":[{{{IDS},"parentSpanId":"00f067aa0ba902b7","traceState":"a=1","name":"GET /page","kind":2,"startTimeUnixNano":"1772700000200000600","endTimeUnixNano":"1772700000245000601","attributes":[{{"key":"http.method","value":{{"stringValue":"GET"}}}},{{"key":"n","value":{{"intValue":"5"}}}},{{"key":"empty","value":{{"stringValue":""}}}},{{"key":"list","value":{{"arrayValue":{{"values":[{{"stringValue":"a"}},{{"stringValue":"b"}},{{"boolValue":true}}]}}}}}},{{"key":"map","value":{{"kvlistValue":{{"values":[{{"key":"x","value":{{"stringValue":"y"}}}},{{"key":"z","value":{{"doubleValue":1.5}}}}]}}}}}}],"events":[{{"timeUnixNano":"1","name":"e","attributes":[{{"key":"k","value":{{"stringValue":"v"}}}}]}}],"links":[{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203332"}}],"status":{{"message":"it broke","code":2}},"flags":1}}],"schemaUrl":"https://example.com/1"}}]}}]}}"#
        ),
        format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"name":"a \"b\", c","someday":"x",{IDS}}},{{{IDS},"attributes":[],"name":", {{x}}","status":{{"code":1,"message":"m"}},"someday":"x"}}]}}]}}]}}"#
        ),
        format!(
            r#"{{"resourceLogs":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}}]}},"scopeLogs":[{{"scope":{{"name":"n"}},"logRecords":[{{"timeUnixNano":"1772700000000000777",{IDS},"eventName":"origin fetch","severityNumber":9,"severityText":"INFO","body":{{"stringValue":"it said"}},"attributes":[{{"key":"a","value":{{"stringValue":"b"}}}}]}},{{"body":{{"kvlistValue":{{"values":[{{"key":"k","value":{{"stringValue":"v"}}}}]}}}},"observedTimeUnixNano":"5","someday":"x"}}]}}]}}]}}"#
        ),
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"requests","unit":"1","sum":{"dataPoints":[{"asInt":"5","timeUnixNano":"7","attributes":[{"key":"a","value":{"stringValue":"b"}}]}],"aggregationTemporality":2,"isMonotonic":true}},{"name":"d","histogram":{"dataPoints":[{"count":"3","sum":1.5,"bucketCounts":["1","2"],"explicitBounds":[0.5]}],"aggregationTemporality":1}}]}]}]}"#.to_owned(),
    ]
}

/// Positions of the structural characters of a line.
fn structure(line: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut in_string = false;
    let mut at = 0;
    while at < line.len() {
        match line[at] {
            b'\\' if in_string => at += 1,
            b'"' => {
                in_string = !in_string;
                found.push(at);
            }
            byte if !in_string && STRUCTURAL.contains(&byte) => found.push(at),
            _ => {}
        }
        at += 1;
    }
    found
}

/// The line with one structural character wrong, in every way there is.
fn mistakes(line: &str) -> Vec<Vec<u8>> {
    let line = line.as_bytes();
    let mut all = Vec::new();
    for at in structure(line) {
        let with = |bytes: &[u8], rest: usize| [&line[..at], bytes, &line[rest..]].concat();
        all.push(with(b"", at + 1));
        for &byte in STRUCTURAL {
            all.push(with(&[byte], at + 1));
            let is_text_start = line[at] == b'"' && byte != b'"';
            if !is_text_start {
                // Before a closing quote or after an opening one it would be part of the text.
                all.push(with(&[byte, line[at]], at + 1));
                all.push(with(&[line[at], byte], at + 1));
            }
        }
    }
    all
}

#[test]
fn a_line_with_one_wrong_character_is_rejected_at_its_place_or_means_what_it_meant() {
    for line in canonical_lines() {
        let meant: Value = serde_json::from_str(&line).expect("a canonical line");
        assert_eq!(forwarded(read(line.as_bytes())), std::slice::from_ref(&meant), "{line}");
        let mut rejected = 0;
        for mistake in mistakes(&line) {
            if serde_json::from_slice::<Value>(&mistake).is_ok() {
                continue;
            }
            let shown = String::from_utf8_lossy(&mistake).into_owned();
            let reading = read(&mistake);
            for rejection in &reading.rejected {
                assert!(rejection.column as usize <= mistake.len() + 1, "{rejection:?}");
            }
            rejected += usize::from(!reading.rejected.is_empty());
            assert!(!reading.items.is_empty() || !reading.rejected.is_empty(), "lost: {shown}");
            for forwarded in forwarded(reading) {
                assert_eq!(forwarded, meant, "other data leave of {shown}");
            }
        }
        assert!(rejected > structure(line.as_bytes()).len());
    }
}

#[test]
fn a_missing_or_doubled_character_is_rejected_with_what_was_expected() {
    let line = |from: &str, to: &str| {
        let line = canonical_lines().remove(0);
        assert!(line.contains(from), "{from}");
        line.replacen(from, to, 1)
    };
    for (from, to, expected) in [
        (r#""GET /page","kind""#, r#""GET /page" "kind""#, "','"),
        (r#""GET /page","kind""#, r#""GET /page","#, "'\"'"),
        (r#""kind":2"#, r#""kind"2"#, "':'"),
        (r#""kind":2,"#, r#""kind":2,,"#, "'\"'"),
        (r#""kind":2"#, r#""kind"":2"#, "':'"),
        (r#""kind":2"#, r#"kind":2"#, "'\"'"),
        (r#""name":"GET /page""#, r#""name":GET /page""#, "'\"'"),
        (r#""name":"GET /page""#, r#""name":"GET /page"#, "','"),
        (r#""attributes":[{"key":"http"#, r#""attributes":{"key":"http"#, "'['"),
        (r#""attributes":[{"key":"http"#, r#""attributes":["key":"http"#, "'{'"),
        (r#""code":2},"#, r#""code":2,"#, "'}'"),
        (r#"]}]}"#, r#"]}]"#, "'}'"),
    ] {
        let mistake = line(from, to);
        let reading = read(mistake.as_bytes());
        assert!(reading.items.is_empty(), "{mistake}");
        let reason = &reading.rejected[0].reason;
        assert!(reason.contains(expected), "{reason:?} of {mistake}");
    }
}

/// Header values as clients and origins send them, with quotes in them.
const HEADERS: &[&str] = &[
    r#""Chromium";v="124", "Google Chrome";v="124", "Not-A.Brand";v="99""#,
    r#""Chromium";v="124", "Not-A.Brand";v="99""#,
    r#""Not_A Brand";v="8", "Chromium";v="120", "Microsoft Edge";v="120""#,
    r#"" Not A;Brand";v="99", "Chromium";v="96""#,
    r#""Chromium";v="124.0.6367.91", "Google Chrome";v="124.0.6367.91", "Not-A.Brand";v="99.0.0.0""#,
    r#""Windows""#,
    r#""macOS""#,
    r#""15.4.1""#,
    r#""""#,
    r#"W/"5f-abc""#,
    r#""33a64df551425fcc55e4d42a148795d9f25f89d4""#,
    r#""abc", W/"def", "ghi""#,
    r#"Mozilla/5.0 (compatible; "Probe" 1.0)"#,
    r#"Probe "beta" (compatible)"#,
    r#"Mozilla/5.0 (Linux; Android 10; 10.1" Tablet) AppleWebKit/537.36"#,
    r#""Mozilla/5.0 (X11; Linux x86_64)""#,
    r#"inline; filename="report.pdf""#,
    r#"attachment; filename="a, b.txt"; filename*=UTF-8''a.txt"#,
    r#"multipart/form-data; boundary="----WebKitFormBoundary7MA4YWxk""#,
    r#"text/html; charset="utf-8""#,
    r#"Basic realm="Members only", charset="UTF-8""#,
    r#"Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", response="8ca5""#,
    r#"Bearer realm="example", error="invalid_token", error_description="The token, it expired""#,
    r#"<https://example.com/page/2>; rel="next", <https://example.com/page/9>; rel="last""#,
    r#"</style.css>; rel="preload"; as="style""#,
    r#"h3=":443"; ma=86400, h3-29=":443"; ma=86400"#,
    r#"private="set-cookie", max-age=60"#,
    r#"for="[2001:db8::1]:4711";proto=http;by=203.0.113.43"#,
    r#"cdn-cache; desc="HIT", edge; dur=1, origin; desc="miss""#,
    r#"a="b"; c="d"; theme="dark""#,
    r#"/search?q="hello world"&page=2"#,
    r#"{"a":"b"}"#,
    r#"say "hi""#,
    r#"say "hi", "there""#,
    r#"5" and 6""#,
    r#"x" y"#,
    r#"a "b": c"#,
    r#"gzip;q="1.0", *;q="0""#,
    r#"permessage-deflate; client_max_window_bits="15""#,
    r#"199 - "Miscellaneous warning" "Wed, 21 Oct 2015 07:28:00 GMT""#,
];

#[test]
fn header_values_with_unescaped_quotes_are_repaired_in_every_free_text() {
    let lines = |header: &str| {
        [
            format!(
                r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{IDS},"attributes":[{{"key":"a","value":{{"stringValue":"{header}"}}}},{{"key":"b","value":{{"arrayValue":{{"values":[{{"stringValue":"{header}"}},{{"stringValue":"c"}}]}}}}}}]}}]}}]}}]}}"#
            ),
            format!(
                r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"name":"{header}","status":{{"message":"{header}"}},{IDS}}}]}}]}}]}}"#
            ),
            format!(
                r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{{"stringValue":"{header}"}},"eventName":"{header}"}}]}}]}}]}}"#
            ),
        ]
    };
    for header in HEADERS {
        for (line, meant) in lines(header).into_iter().zip(lines(&header.replace('"', "\\\""))) {
            let meant: Value = serde_json::from_str(&meant).unwrap();
            let reading = read(line.as_bytes());
            assert_eq!(reading.rejected, [], "{line}");
            assert_eq!(reading.items[0].repairs, [Repair::UnescapedQuote], "{line}");
            assert_eq!(forwarded(reading), [meant], "{line}");
        }
    }
}

#[test]
fn quotes_outside_of_free_text_are_never_repaired() {
    let line = canonical_lines().remove(0);
    let log = canonical_lines().remove(2);
    for (line, from) in [
        (&line, r#""http.method""#),
        (&line, r#""0af7651916cd43dd8448eb211c80319c""#),
        (&line, r#""a=1""#),
        (&line, r#""https://example.com/1""#),
        (&line, r#""version":"1""#),
        (&line, r#""name":"n""#),
        (&log, r#""INFO""#),
    ] {
        let (quoted, last) = from.split_at(from.len() - 1);
        for (inside, quote) in [(r#" "x" y"#, last), (r#"""#, last), (r#""x""#, last)] {
            let wrong = line.replacen(from, &format!("{quoted}{inside}{quote}"), 1);
            let reading = read(wrong.as_bytes());
            assert!(reading.items.is_empty() && reading.rejected.len() == 1, "{wrong}");
        }
    }
}

#[test]
fn no_repaired_text_holds_a_field_name_next_to_a_quote() {
    let line = canonical_lines().remove(0);
    for inside in [
        r#"a "kind" b"#,
        r#"a "kind b" c"#,
        r#"a "x kind" c"#,
        r#""instrumentationLibrarySpans" x"#,
        r#"a "span_id": b"#,
    ] {
        let wrong = line.replacen("GET /page", inside, 1);
        assert!(read(wrong.as_bytes()).items.is_empty(), "{wrong}");
    }
    assert_eq!(read(line.replacen("GET /page", r#"a "kinder" b"#, 1).as_bytes()).items.len(), 1);
}

#[test]
fn a_position_in_the_repaired_text_is_traced_back_to_the_input() {
    let input = b"{ \"a\":\"\t\t\xff\\x41\\xe4b\" ,\x01 \"c\" : [1,2,] , \"d\":(null), \"e\":\"f\"}";
    let repaired = repair(input).expect("it has one reading");
    for (name, text) in
        [("a", "\"a\""), ("b", "b\""), ("c", "\"c\""), ("2", "2"), ("e", "\"e\""), ("f", "f\"")]
    {
        let place =
            |bytes: &[u8]| bytes.windows(text.len()).position(|it| it == text.as_bytes()).expect(name);
        assert_eq!(repaired.origins.of(place(&repaired.text)), place(input), "{name}");
    }
    assert_eq!(repaired.origins.of(repaired.text.len()), input.len());
}
