use bytes::Bytes;

use super::*;
use crate::receiver::Receiver;
use crate::receiver::fastly::Fastly;
use crate::receiver::fastly::FastlyConfig;

/// Returns the cause of the only rejection of this line, with `repair: false`, so that repairable mistakes are
/// included.
fn behind(line: &str) -> Option<Mistake> {
    let config = FastlyConfig { repair: false, ..FastlyConfig::default() };
    let reading = Fastly::new(&config, 2000).read(&Bytes::copy_from_slice(line.as_bytes()));
    assert_eq!(reading.rejected.len(), 1, "{line}: {reading:?}");
    mistake(&reading.rejected[0])
}

/// Returns a line of one span, with this list of attributes and this trace id.
fn span(trace: &str, attributes: &str) -> String {
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{trace}","spanId":"00f067aa0ba902b7","name":"n","attributes":[{attributes}]}}]}}]}}]}}"#
    )
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[test]
fn mistakes_in_the_log_statement_are_named() {
    let value = |value: &str| span(TRACE, &format!(r#"{{"key":"k","value":{value}}}"#));
    for (line, expected) in [
        (value(r#"{"stringValue":"say "hi" now"}"#), Mistake::UnescapedQuote),
        (value(r#"{"stringValue":"caf\xC3\xA9"}"#), Mistake::CstrEscape),
        (value(r#"{"stringValue":"C:\dir"}"#), Mistake::LooseBackslash),
        (value("{\"stringValue\":\"a\tb\"}"), Mistake::ControlCharacter),
        (value(r#"{"intValue":(null)}"#), Mistake::NullWord),
        (value(r#"{"intValue":}"#), Mistake::UnsetValue),
        (value(r#"{"intValue":"1",}"#), Mistake::TrailingComma),
        (value(r#"{"intValue":"1"} "x":1"#), Mistake::MissingComma),
        (span("(null)", ""), Mistake::TraceId),
        (span("00000000000000000000000000000000", ""), Mistake::TraceId),
        (span(TRACE, "").replace("00f067aa0ba902b7", ""), Mistake::SpanId),
    ] {
        assert_eq!(behind(&line), Some(expected), "{line}");
    }
}

/// The column counts from the start of the line on which the fault is. That is neither the start of a unit of several
/// lines, nor that of the second unit on a line.
#[test]
fn names_what_was_written_wherever_the_unit_stands() {
    let value = |value: &str| span(TRACE, &format!(r#"{{"key":"k","value":{value}}}"#));
    for (line, expected) in [
        (value(r#"{"intValue":(null)}"#), Mistake::NullWord),
        (value(r#"{"intValue":}"#), Mistake::UnsetValue),
        (value(r#"{"intValue":"1"} "x":1"#), Mistake::MissingComma),
        (value(r#"{"stringValue":"caf\xC3\xA9"}"#), Mistake::CstrEscape),
        (value(r#"{"stringValue":"C:\dir"}"#), Mistake::LooseBackslash),
        (span("(null)", ""), Mistake::TraceId),
    ] {
        let pretty =
            line.replacen("[{", "[\n  {\n    ", 3).replacen("\"attributes\"", "\n\n\"attributes\"", 1);
        let good = span(TRACE, "");
        for body in [&line, &pretty, &format!("{good} {line}"), &format!("{good}\n  {pretty}\n{good}")] {
            assert_eq!(behind(body), Some(expected), "{body}");
        }
    }
}

#[test]
fn mistakes_in_the_endpoint_settings_are_named() {
    let line = span(TRACE, "");
    for (line, expected) in [
        (line.split_at(line.len() - 30).0.to_owned(), Mistake::CutOff),
        (format!("2026-11-23T10:00:00Z cache-fra1 otlp[1]: {line}"), Mistake::LinePrefix),
        (format!("{line} done"), Mistake::TextBehind),
        (format!("{line}}}"), Mistake::ExtraBracket),
        (span(TRACE, &" ".repeat(3000)), Mistake::TooLong),
        ("backend fetch failed, restarting".to_owned(), Mistake::PlainText),
        (
            r#"192.0.2.7 "-" "-" [23/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 42"#.to_owned(),
            Mistake::AccessLog(AccessLogPreset::Ncsa),
        ),
        (
            r#"{"ddsource":"fastly","http":{"method":"GET","url":"/"}}"#.to_owned(),
            Mistake::AccessLog(AccessLogPreset::Datadog),
        ),
        (r#"{"level":"info","message":"hello"}"#.to_owned(), Mistake::OtherJson),
        (r#"{"type":"ping","id":"1","happened_at":"2026","webhook":{}}"#.to_owned(), Mistake::Webhook),
        (r#"{"resourceSpans":[{"scopeSpan":[]}]}"#.to_owned(), Mistake::EmptyRequest),
    ] {
        assert_eq!(behind(&line), Some(expected), "{line}");
    }
}

#[test]
fn every_mistake_has_its_own_word_and_advice() {
    let mut words = std::collections::HashSet::new();
    for mistake in [
        Mistake::UnescapedQuote,
        Mistake::CstrEscape,
        Mistake::LooseBackslash,
        Mistake::ControlCharacter,
        Mistake::NullWord,
        Mistake::UnsetValue,
        Mistake::TrailingComma,
        Mistake::MissingComma,
        Mistake::CutOff,
        Mistake::TooLong,
        Mistake::LinePrefix,
        Mistake::TextBehind,
        Mistake::ExtraBracket,
        Mistake::PlainText,
        Mistake::AccessLog(AccessLogPreset::Fastly),
        Mistake::OtherJson,
        Mistake::Webhook,
        Mistake::EmptyRequest,
        Mistake::TraceId,
        Mistake::SpanId,
    ] {
        assert!(words.insert(mistake.as_str()), "{mistake:?}");
        assert!(mistake.advice().len() > 20 && !mistake.advice().contains("  "), "{mistake:?}");
    }
}

#[test]
fn a_repaired_mistake_is_named_like_an_unrepaired_one() {
    let value = |value: &str| span(TRACE, &format!(r#"{{"key":"k","value":{value}}}"#));
    for (line, repair) in [
        (value(r#"{"stringValue":"caf\xC3\xA9"}"#), Repair::HexEscape),
        (value(r#"{"stringValue":"C:\dir"}"#), Repair::LooseBackslash),
        (value("{\"stringValue\":\"a\tb\"}"), Repair::ControlCharacter),
    ] {
        assert_eq!(repair.mistake(), behind(&line), "{line}");
    }
    assert_eq!(Repair::InvalidUtf8.mistake(), None, "the VCL cannot help it");
}
