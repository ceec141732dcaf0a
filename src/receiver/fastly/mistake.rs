//! Mistakes: likely causes of rejected lines in a VCL or in the settings of a logging endpoint.
//!
//! In: a [`Rejected`]. Out: a [`Mistake`] with advice, or `None` where a fault has several likely causes.
//! Promises: the advice contains no input; a wrong guess has no consequences, because no decision depends on it.

use memchr::memmem;

use super::super::{Diagnosis, Rejected};
use super::access_log::{AccessLogPreset, recognize};
use crate::event::{RejectCode, Repair};

/// A mistake in a log statement or in the settings of a logging endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Mistake {
    UnescapedQuote,
    CstrEscape,
    LooseBackslash,
    ControlCharacter,
    NullWord,
    UnsetValue,
    TrailingComma,
    MissingComma,
    CutOff,
    TooLong,
    LinePrefix,
    TextBehind,
    ExtraBracket,
    PlainText,
    AccessLog(AccessLogPreset),
    OtherJson,
    Webhook,
    EmptyRequest,
    TraceId,
    SpanId,
}

/// Returns the likely cause of a rejected line, if there is only one.
pub(super) fn mistake(rejected: &Rejected) -> Option<Mistake> {
    let input: &[u8] = &rejected.input;
    let (before, after) = input.split_at(rejected.at.min(input.len()));
    Some(match rejected.code {
        RejectCode::CutOff => Mistake::CutOff,
        RejectCode::TrailingComma => Mistake::TrailingComma,
        RejectCode::ControlCharacter => Mistake::ControlCharacter,
        RejectCode::NoValue if after.starts_with(b"(null)") => Mistake::NullWord,
        RejectCode::NoValue if matches!(after.first(), Some(b',' | b'}' | b']')) => Mistake::UnsetValue,
        RejectCode::NoValue | RejectCode::NoSeparator => separator(before, after)?,
        RejectCode::Escape => backslash(after),
        RejectCode::NoObject => no_object(input),
        RejectCode::TextBefore => Mistake::LinePrefix,
        RejectCode::TextAfter => match input.first() {
            Some(b'}' | b']') => Mistake::ExtraBracket,
            _ => Mistake::TextBehind,
        },
        RejectCode::NoSection => other_json(input),
        RejectCode::NoItems => Mistake::EmptyRequest,
        RejectCode::TraceId => Mistake::TraceId,
        RejectCode::SpanId => Mistake::SpanId,
        RejectCode::TooLong => Mistake::TooLong,
        RejectCode::Other => return None,
    })
}

fn backslash(after: &[u8]) -> Mistake {
    if after.starts_with(b"\\x") { Mistake::CstrEscape } else { Mistake::LooseBackslash }
}

/// Returns the cause of an unexpected character in place of a separator.
fn separator(before: &[u8], after: &[u8]) -> Option<Mistake> {
    let (last, next) = (before.last()?, after.first()?);
    let spaced = last.is_ascii_whitespace();
    let end = *before.trim_ascii_end().last()?;
    match next {
        b'"' | b'{' | b'[' if spaced || matches!(end, b'}' | b']' | b'0'..=b'9') => {
            Some(Mistake::MissingComma)
        }
        // The string before it ended earlier than intended.
        _ if memchr::memchr(b'"', before).is_some() && !matches!(end, b'}' | b']') => {
            Some(Mistake::UnescapedQuote)
        }
        _ => None,
    }
}

fn no_object(input: &[u8]) -> Mistake {
    if memmem::find(input, b"{\"resource").is_some() {
        return Mistake::LinePrefix;
    }
    recognize(input).map_or(Mistake::PlainText, Mistake::AccessLog)
}

fn other_json(input: &[u8]) -> Mistake {
    let has = |key: &[u8]| memmem::find(input, key).is_some();
    if has(b"\"happened_at\"") && has(b"\"type\"") {
        return Mistake::Webhook;
    }
    recognize(input).map_or(Mistake::OtherJson, Mistake::AccessLog)
}

/// Returns the advice for an access log.
fn access_log(preset: AccessLogPreset) -> &'static str {
    macro_rules! advice {
        ($format:literal) => {
            concat!(
                "this is an access log, not OTLP (",
                $format,
                "): set access_logs: {} in the fastly receiver, and the relay converts such lines"
            )
        };
    }
    match preset {
        AccessLogPreset::Auto | AccessLogPreset::None => advice!("a format of its own"),
        AccessLogPreset::Fastly => advice!("Fastly's default JSON, preset fastly"),
        AccessLogPreset::Datadog => advice!("preset datadog"),
        AccessLogPreset::NewRelic => advice!("preset newrelic"),
        AccessLogPreset::BetterStack => advice!("preset betterstack"),
        AccessLogPreset::Coralogix => advice!("preset coralogix"),
        AccessLogPreset::SumoLogic => advice!("preset sumologic"),
        AccessLogPreset::Ncsa => advice!("NCSA's Common or Combined Log Format, preset ncsa"),
    }
}

// === impl Mistake ===

impl Mistake {
    /// Returns the mistake as others see it.
    pub(super) fn diagnosis(self) -> Diagnosis {
        Diagnosis { mistake: self.as_str(), advice: self.advice() }
    }

    /// Returns the cause as one word, for scripts.
    fn as_str(self) -> &'static str {
        match self {
            Self::UnescapedQuote => "unescaped_quote",
            Self::CstrEscape => "cstr_escape",
            Self::LooseBackslash => "loose_backslash",
            Self::ControlCharacter => "control_character",
            Self::NullWord => "null_word",
            Self::UnsetValue => "unset_value",
            Self::TrailingComma => "trailing_comma",
            Self::MissingComma => "missing_comma",
            Self::CutOff => "cut_off",
            Self::TooLong => "too_long",
            Self::LinePrefix => "line_prefix",
            Self::TextBehind => "text_behind",
            Self::ExtraBracket => "extra_bracket",
            Self::PlainText => "plain_text",
            Self::AccessLog(_) => "access_log",
            Self::OtherJson => "other_json",
            Self::Webhook => "webhook",
            Self::EmptyRequest => "empty_request",
            Self::TraceId => "trace_id",
            Self::SpanId => "span_id",
        }
    }

    /// Returns advice about the VCL or the logging endpoint.
    fn advice(self) -> &'static str {
        match self {
            Self::UnescapedQuote => "a quote inside a value ends it: write the value with json.escape()",
            Self::CstrEscape => "\\xHH is not JSON: use json.escape() instead of cstr_escape()",
            Self::LooseBackslash => {
                "a backslash in a value begins an escape: write the value with json.escape()"
            }
            Self::ControlCharacter => {
                "unescaped tab or newline in a value: write the value with json.escape()"
            }
            Self::NullWord => {
                "(null) is an unset header: leave the member out with if(), or write a default value"
            }
            Self::UnsetValue => "an unset variable left no value: give it one, as in if(x, x, \"0\")",
            Self::TrailingComma => {
                "remove the comma before the closing bracket, or write it with the optional member"
            }
            Self::MissingComma => "missing comma between two members: add it",
            Self::CutOff => {
                "the line was truncated, as Fastly does with long lines: log less in it, or shorten values with substr()"
            }
            Self::TooLong => "log less in one line, or raise server.max_line_size",
            Self::LinePrefix => {
                "there is text before the JSON: set the logging endpoint's message_type to blank (the API's default is \
                 classic)"
            }
            Self::TextBehind => "trailing data after the JSON: end the log statement with its last brace",
            Self::ExtraBracket => "extra closing bracket: count the braces of the log statement",
            Self::PlainText => {
                "this is text, not OTLP/JSON: some other log statement writes to this endpoint; give it a separate endpoint"
            }
            Self::AccessLog(preset) => access_log(preset),
            Self::OtherJson => {
                "this is JSON, but not OTLP: replace the endpoint's log format by one that writes resourceSpans or \
                 resourceLogs"
            }
            Self::Webhook => "this is a CircleCI webhook: point it at the path of the circleci receiver",
            Self::EmptyRequest => {
                "it is empty: spans go into resourceSpans[].scopeSpans[].spans, log records into \
                 resourceLogs[].scopeLogs[].logRecords"
            }
            Self::TraceId => {
                "a trace id is 32 hexadecimal digits and not all zero: make one with randomstr(32, \"0123456789abcdef\"), and \
                 make sure that the header it is kept in is set on every path"
            }
            Self::SpanId => {
                "a span id is 16 hexadecimal digits and not all zero: make one with randomstr(16, \"0123456789abcdef\"), and \
                 make sure that the header it is kept in is set on every path"
            }
        }
    }
}

// === impl Repair ===

impl Repair {
    /// Returns the mistake in a VCL that was repaired; `None` where the VCL is not the cause.
    pub(crate) fn diagnosis(self) -> Option<Diagnosis> {
        self.mistake().map(Mistake::diagnosis)
    }

    fn mistake(self) -> Option<Mistake> {
        match self {
            Self::TrailingComma => Some(Mistake::TrailingComma),
            Self::ControlCharacter => Some(Mistake::ControlCharacter),
            Self::HexEscape => Some(Mistake::CstrEscape),
            Self::LooseBackslash => Some(Mistake::LooseBackslash),
            Self::NullWord => Some(Mistake::NullWord),
            Self::UnescapedQuote => Some(Mistake::UnescapedQuote),
            Self::InvalidUtf8
            | Self::LoneSurrogate
            | Self::BareNumberWord
            | Self::ValueType
            | Self::InvalidLink
            | Self::InvalidId
            | Self::RepeatedKey => None,
        }
    }
}

#[cfg(test)]
mod tests;
