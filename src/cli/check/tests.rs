use std::path::Path;

use bytes::Bytes;
use clap::Parser;
use serde_json::{Value, json};

use super::findings::{CheckReport, Outgoing};
use super::offline::{Offline, relay_offline};
use super::{CheckArgs, Format, check, document, text};
use crate::config::terminal::{Charset, Colour, Terminal};
use crate::event::{RejectCode, Repair, Signal};
use crate::receiver::{Ignored, Item, Passage, Reading, Rejected, Scope, Source, circleci, fastly};

fn terminal(columns: usize) -> Terminal {
    Terminal { columns, colour: Colour::None, charset: Charset::Unicode }
}

fn item(line: u32, repairs: &[Repair]) -> Item {
    Item {
        line,
        traces: None,
        logs: None,
        metrics: None,
        protobuf: None,
        repairs: repairs.to_vec(),
        passage: Passage::Joined,
    }
}

fn rejected(line: u32, column: u32, reason: &str) -> Rejected {
    let (code, reason) = (RejectCode::Other, reason.to_owned());
    Rejected { scope: Scope::Unit, line, column, code, at: 0, reason, input: Bytes::new(), scrubbed: None }
}

fn outgoing(signal: Signal, json: &str) -> Outgoing {
    Outgoing { signal, json: Bytes::copy_from_slice(json.as_bytes()) }
}

fn report(reading: Reading, outgoing: Vec<Outgoing>) -> CheckReport {
    CheckReport::new(&fastly::SOURCE, Offline::new(reading, |_| None, |_| outgoing))
}

fn as_text(report: &CheckReport, body: &str, columns: usize) -> String {
    let mut out = Vec::new();
    text::write(report, &Bytes::copy_from_slice(body.as_bytes()), &terminal(columns), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn as_json(report: &CheckReport) -> Value {
    let mut out = Vec::new();
    document::write(report, &mut out).unwrap();
    assert_eq!(out.pop(), Some(b'\n'));
    serde_json::from_slice(&out).unwrap()
}

/// Lines 1 to 3 and 5 are accepted, 6 is repaired, a part of 5 is rejected, 8 is rejected completely.
fn mixed() -> CheckReport {
    let reading = Reading {
        items: vec![
            item(1, &[]),
            item(2, &[]),
            item(3, &[]),
            item(5, &[]),
            item(6, &[Repair::TrailingComma, Repair::HexEscape]),
        ],
        rejected: vec![
            Rejected { scope: Scope::Item, ..rejected(5, 4, "span id has 3 digits") },
            rejected(8, 13, "cut off inside a string"),
        ],
        ..Reading::default()
    };
    let span = json!({"resourceSpans": [{"scopeSpans": [{"spans": [{
        "traceId": "aa", "spanId": "1", "name": "GET /", "startTimeUnixNano": "1767225600000000000",
        "endTimeUnixNano": "1767225600005000000",
        "events": [{"name": "miss", "timeUnixNano": "1767225600001000000"}]}]}]}]});
    let logs = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [
        {"body": {"stringValue": "late"}, "spanId": "b7ad6b7169203331"},
        {"eventName": "start", "body": {"stringValue": "x"}},
        {"body": {"intValue": 3}}]}]}]});
    report(
        reading,
        vec![
            outgoing(Signal::Traces, &span.to_string()),
            outgoing(Signal::Logs, &logs.to_string()),
            outgoing(Signal::Metrics, r#"{"resourceMetrics":[]}"#),
        ],
    )
}

#[test]
fn the_text_has_lines_then_traces_then_a_summary() {
    let body = "{}\n{}\n{}\n\n{}abc\n{},\n\n{\"name\":\"GET\n";
    assert_eq!(
        as_text(&mixed(), body, 50),
        "\
lines 1-5: accepted (4 in all)
line 5, column 4: rejected: span id has 3 digits
    {}abc
       ^
line 6: repaired: removed a trailing comma, rewrote a \\xHH escape
    help: remove the comma before the closing bracket, or write it with the optional member
    help: \\xHH is not JSON: use json.escape() instead of cstr_escape()
line 8, column 13: rejected: cut off inside a string
    {\"name\":\"GET
                ^

trace aa
  1 span, 1 event, 5 ms,
  2026-01-01 00:00:00.000 UTC
       0                                5 ms
GET /  ███████◆█████████████████████████████  5 ms
   ◆ miss  +1 ms

log record late: span b7ad6b7169203331 is not in this input, exported as a log
log record start: names no span, exported as a log
log record log: names no span, exported as a log

fastly: 4 accepted, 1 repaired, 1 rejected, 1 item rejected
1 request to /v1/traces (1 span with 1 event)
1 request to /v1/logs (3 log records)
1 request to /v1/metrics
"
    );
}

#[test]
fn the_json_document_keeps_its_field_names() {
    let document = as_json(&mixed());
    assert_eq!(document["source"], "fastly");
    assert_eq!(
        document["lines"].as_array().unwrap()[3..],
        [
            json!({"line": 5, "outcome": "accepted", "repairs": [], "column": null, "reason": null,
                   "mistake": null, "advice": []}),
            json!({"line": 5, "outcome": "rejected", "repairs": [], "column": 4, "reason": "span id has 3 digits",
                   "mistake": null, "advice": []}),
            json!({"line": 6, "outcome": "repaired", "repairs": ["removed a trailing comma", "rewrote a \\xHH escape"],
                   "column": null, "reason": null, "mistake": "trailing_comma",
                   "advice": ([Repair::TrailingComma, Repair::HexEscape].map(|repair| repair.diagnosis().unwrap().advice))}),
            json!({"line": 8, "outcome": "rejected", "repairs": [], "column": 13, "reason": "cut off inside a string",
                   "mistake": null, "advice": []}),
        ]
    );
    assert_eq!(
        document["summary"],
        json!({"accepted": 4, "repaired": 1, "rejected": 1, "rejected_items": 1, "ignored": 0, "spans": 1, "span_events": 1,
               "log_records": 3, "requests": {"traces": 1, "logs": 1, "metrics": 1}})
    );
    assert_eq!(document["requests"][0]["signal"], "traces");
    assert_eq!(document["requests"][2]["json"], json!({"resourceMetrics": []}));
}

#[test]
fn outgoing_json_is_shown_as_exported() {
    let request = r#"{"b":1655990400123457000123, "a":1.50}"#;
    let report = report(Reading::default(), vec![outgoing(Signal::Metrics, request)]);
    let mut out = Vec::new();
    document::write(&report, &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains(request));
}

#[test]
fn thousands_of_accepted_lines_are_one_line() {
    let reading = Reading {
        items: (1..=9998).map(|line| item(line, &[])).collect(),
        rejected: vec![rejected(9999, 1, "not JSON")],
        ..Reading::default()
    };
    let body = format!("{}hello\n", "{}\n".repeat(9998));
    assert_eq!(
        as_text(&report(reading, Vec::new()), &body, 80),
        "\
lines 1-9998: accepted
line 9999, column 1: rejected: not JSON
    hello
    ^

fastly: 9998 accepted, 1 rejected
"
    );
}

#[test]
fn objects_on_one_line_and_equal_rejections_are_grouped() {
    let reading = Reading {
        items: vec![item(1, &[]), item(1, &[]), item(1, &[])],
        rejected: vec![rejected(2, 1, "not JSON"), rejected(3, 1, "not JSON"), rejected(4, 2, "not JSON")],
        ..Reading::default()
    };
    let text = as_text(&report(reading, Vec::new()), "[]\na\nb\nc\n", 80);
    assert!(
        text.starts_with(
            "\
line 1: accepted (3 in all)
lines 2-3, column 1: rejected: not JSON
    a
    ^
line 4, column 2: rejected: not JSON
    c
     ^
"
        ),
        "{text}"
    );
}

#[test]
fn a_long_list_of_different_rejections_is_truncated_in_text_and_complete_in_json() {
    let rejected = (1..=10_000).map(|line| rejected(line, line, "not JSON")).collect();
    let report = report(Reading { rejected, ..Reading::default() }, Vec::new());
    let body = "x\n".repeat(10_000);
    let text = as_text(&report, &body, 80);
    assert_eq!(text.matches("rejected: not JSON").count(), 100);
    assert!(text.contains("\nand 9900 more (--format json has all of them)\n"), "{text}");
    assert!(text.ends_with("\nfastly: 10000 rejected\n"), "{text}");
    assert_eq!(as_json(&report)["lines"].as_array().unwrap().len(), 10_000);
}

#[test]
fn only_rejected_and_ignored_lines_change_the_exit_code() {
    let accepted = Reading { items: vec![item(1, &[Repair::NullWord])], ..Reading::default() };
    assert!(report(accepted, Vec::new()).all_accepted());
    assert!(report(Reading::default(), Vec::new()).all_accepted());
    let ignored = Reading { ignored: Some(Ignored::UNKNOWN_EVENT_TYPE), ..Reading::default() };
    let ignored = report(ignored, Vec::new());
    assert!(!ignored.all_accepted());
    assert_eq!(as_text(&ignored, "{}", 80), "line 1: ignored: unknown event type\n\nfastly: 1 ignored\n");
    assert!(!mixed().all_accepted());
}

#[test]
fn an_empty_input_is_reported_as_empty() {
    assert_eq!(as_text(&report(Reading::default(), Vec::new()), "", 80), "fastly: empty\n");
}

#[test]
fn reasons_and_excerpts_cannot_control_the_terminal() {
    let reading = Reading { rejected: vec![rejected(1, 3, "bad \u{1b}[2J")], ..Reading::default() };
    let logs = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"eventName": "\u{1b}c", "spanId": "\r"}]}]}]});
    let report = report(reading, vec![outgoing(Signal::Logs, &logs.to_string())]);
    let text = as_text(&report, "\u{1b}]0;\u{7}\u{9b}", 80);
    assert!(text.chars().all(|character| character == '\n' || !character.is_control()), "{text:?}");
    assert!(text.contains("\\u{1b}]0;\\u{7}"), "{text}");
}

fn checked(source: &'static Source, body: &'static str) -> CheckReport {
    CheckReport::new(source, relay_offline(source, &Bytes::from_static(body.as_bytes())))
}

#[test]
fn log_events_of_a_batch_are_attached_to_their_spans() {
    let batch = include_str!("../demo/fastly.ndjson");
    let report = checked(&fastly::SOURCE, batch);
    let text = as_text(&report, batch, 80);
    assert!(text.starts_with("lines 1-5: accepted\nline 6, column "), "{text}");
    assert!(text.contains("\n└─ shield GET /checkout "), "{text}");
    assert!(text.contains("\n│  ◆ cache miss  +7.9 ms  INFO  fastly.pop=FRA"), "{text}");
    assert!(
        text.ends_with(
            "\nfastly: 5 accepted, 1 rejected\n3 requests to /v1/traces (3 spans with 4 events)\n"
        ),
        "{text}"
    );
    assert!(!report.all_accepted());
}

#[test]
fn a_log_event_without_its_span_is_exported_as_a_log() {
    let logs = include_str!("../demo/fastly.ndjson").lines().next().unwrap();
    let report = checked(&fastly::SOURCE, logs);
    assert_eq!(
        as_text(&report, logs, 80),
        "\
line 1: accepted

log record waf.inspected: span eee19b7ec3c1b174 is not in this input, exported as a log
log record cache miss: span eee19b7ec3c1b174 is not in this input, exported as a log

fastly: 1 accepted
1 request to /v1/logs (2 log records)
"
    );
}

#[test]
fn a_webhook_is_read_without_its_signature() {
    let webhook = include_str!("../demo/circleci.ndjson").lines().last().unwrap();
    assert_eq!(
        as_text(&checked(&circleci::SOURCE, webhook), webhook, 72),
        "\
line 1: accepted

trace 7c0d6e2f4b1a4f389a5e2d8b6c1f0e93
  circleci, 1 span, 1 error, 4m 12s, 2025-12-31 23:55:39.482 UTC
                            0                             4m 12s
! workflow: build-and-test  ████████████████████████████████████  4m 12s
   ! error: failed

circleci: 1 accepted
1 request to /v1/traces (1 span)
"
    );
}

#[derive(Debug, clap::Parser)]
struct Command {
    #[command(flatten)]
    check: CheckArgs,
}

fn parsed(arguments: &[&str]) -> Result<CheckArgs, clap::error::ErrorKind> {
    let arguments = ["check"].iter().chain(arguments);
    Command::try_parse_from(arguments).map(|command| command.check).map_err(|error| error.kind())
}

#[test]
fn arguments_are_parsed_as_documented() {
    let args = parsed(&["--from", "circleci", "--format", "json", "batch.ndjson"]).unwrap();
    assert_eq!((args.from.map(Source::name), args.format), (Some("circleci"), Format::Json));
    assert_eq!(args.file.as_deref(), Some(Path::new("batch.ndjson")));
    let args = parsed(&["-"]).unwrap();
    assert_eq!(
        (args.from.map(Source::name), args.format, args.file.as_deref()),
        (None, Format::Text, Some(Path::new("-")))
    );
    assert!(parsed(&[]).unwrap().file.is_none());
    assert_eq!(parsed(&["--from", "otlp"]).unwrap_err(), clap::error::ErrorKind::InvalidValue);
    assert_eq!(parsed(&["a", "b"]).unwrap_err(), clap::error::ErrorKind::UnknownArgument);
}

#[test]
fn the_exit_code_distinguishes_accepted_rejected_and_unreadable() {
    let directory = tempfile::tempdir().unwrap();
    let batch = directory.path().join("batch.ndjson");
    let lines = include_str!("../demo/fastly.ndjson");
    let args = CheckArgs { from: None, format: Format::Json, file: Some(batch.clone()) };

    std::fs::write(&batch, lines).unwrap();
    assert_eq!(check(&args, &terminal(80), &mut Vec::new()).unwrap(), 1);
    std::fs::write(&batch, lines.lines().next().unwrap()).unwrap();
    assert_eq!(check(&args, &terminal(80), &mut Vec::new()).unwrap(), 0);
    std::fs::remove_file(&batch).unwrap();
    assert!(check(&args, &terminal(80), &mut Vec::new()).is_err());
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let batch = directory.path().join("batch.ndjson");
    std::fs::write(&batch, include_str!("../demo/fastly.ndjson")).unwrap();
    for format in [Format::Text, Format::Json] {
        let args = CheckArgs { from: Some(&fastly::SOURCE), format, file: Some(batch.clone()) };
        assert_eq!(check(&args, &terminal(80), &mut Closed).unwrap(), 1);
    }
}

#[test]
fn the_cause_of_a_rejection_is_named_and_its_advice_given_once() {
    let line = r#"{"timestamp":"2026-11-28T10:11:12Z","client_ip":"192.0.2.7","request_method":"GET"}"#;
    let body = Bytes::from(format!("{line}\n{line} x\n{line}\n"));
    let report = CheckReport::new(&fastly::SOURCE, relay_offline(&fastly::SOURCE, &body));
    let text = as_text(&report, std::str::from_utf8(&body).unwrap(), 80);
    assert_eq!(text.matches("help: this is an access log, not OTLP").count(), 1, "{text}");
    let document = as_json(&report);
    assert_eq!(document["lines"][0]["mistake"], "access_log");
    assert!(document["lines"][0]["advice"][0].as_str().unwrap().contains("preset fastly"));
}
