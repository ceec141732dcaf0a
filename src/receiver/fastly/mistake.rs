//! The mistake in somebody's VCL that is behind a rejected line, where it can be told.
//!
//! In: a [`Rejected`]. Out: a [`Mistake`] with advice, or nothing where the same fault has several likely causes.
//! Promises: nothing of the input is in the advice; a wrong guess costs nobody data, for nothing is decided by it.

use memchr::memmem;

use super::super::Rejected;
use super::access_log::{AccessLogPreset, recognize};
use crate::event::{RejectCode, Repair};

/// What somebody wrote in a log statement, or set on a logging endpoint, that cannot arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Mistake {
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

/// The mistake behind a rejected line, if there is one likely cause.
pub(crate) fn mistake(rejected: &Rejected) -> Option<Mistake> {
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

/// Something stands where a comma or the end of an object belongs.
fn separator(before: &[u8], after: &[u8]) -> Option<Mistake> {
    let (last, next) = (before.last()?, after.first()?);
    let spaced = last.is_ascii_whitespace();
    let end = *before.trim_ascii_end().last()?;
    match next {
        b'"' | b'{' | b'[' if spaced || matches!(end, b'}' | b']' | b'0'..=b'9') => {
            Some(Mistake::MissingComma)
        }
        // The string before it ended earlier than whoever wrote it thought.
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
    /// One word for scripts.
    pub(crate) fn as_str(self) -> &'static str {
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

    /// What to change in the VCL or on the logging endpoint.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::UnescapedQuote => "a quote inside a value ends it: write the value with json.escape()",
            Self::CstrEscape => "\\xHH is not JSON: use json.escape() instead of cstr_escape()",
            Self::LooseBackslash => {
                "a backslash in a value begins an escape: write the value with json.escape()"
            }
            Self::ControlCharacter => {
                "a tab or a line end stands in a value as it is: write the value with json.escape()"
            }
            Self::NullWord => {
                "(null) is a header that is not set: leave the member out with if(), or give it a value of its own"
            }
            Self::UnsetValue => {
                "a variable without a value left nothing between the punctuation: give it one, as in if(x, x, \"0\")"
            }
            Self::TrailingComma => {
                "remove the comma before the closing bracket, or write it with the optional member"
            }
            Self::MissingComma => "two members stand side by side: put a comma between them",
            Self::CutOff => {
                "the line was cut off, as long log lines are: log less in it, or shorten values with substr()"
            }
            Self::TooLong => "log less in one line, or raise server.max_line_size",
            Self::LinePrefix => {
                "something stands before the JSON: set the logging endpoint's message_type to blank (the API's default is \
                 classic)"
            }
            Self::TextBehind => {
                "something is written behind the JSON: end the log statement with its last brace"
            }
            Self::ExtraBracket => "one closing bracket too many: count the braces of the log statement",
            Self::PlainText => {
                "this is text, not OTLP/JSON: some other log statement writes to this endpoint; give it an endpoint of its own"
            }
            Self::AccessLog(preset) => access_log(preset),
            Self::OtherJson => {
                "this is JSON, but not OTLP: replace the endpoint's log format by one that writes resourceSpans or \
                 resourceLogs"
            }
            Self::Webhook => "this is a CircleCI webhook: point it at the path of the circleci receiver",
            Self::EmptyRequest => {
                "there is nothing in it: spans go into resourceSpans[].scopeSpans[].spans, log records into \
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
    /// What to change in the VCL, so that nothing needs mending; nothing where it is not the VCL's doing.
    pub(crate) fn advice(self) -> Option<&'static str> {
        self.mistake().map(Mistake::advice)
    }

    /// The mistake that was mended.
    pub(crate) fn mistake(self) -> Option<Mistake> {
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
