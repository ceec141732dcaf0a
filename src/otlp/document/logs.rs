//! The log records of one line: exported as logs, as events of spans, or as events of carrier spans.

use std::fmt::{self, Write as _};
use std::ops::Range;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::super::json::{Cursor, Fault};
use super::super::members::member_ranges;
use super::super::splice::{Edits, Removals};
use super::super::walk::{Few, RecordSite, event_edits, spilled_bytes};
use super::super::{SpanId, TraceId};
use super::traces::unsigned;
use super::{ExportRequest, SpanEvent};

/// Name of an event whose log record has none and whose body is not a string.
const NAMELESS: &str = "\"log\"";

/// The log records of one line. The text is canonical, with all edits made.
#[derive(Debug, Clone)]
pub struct Logs {
    text: Bytes,
    /// Range of the list of resources, brackets included.
    list: Range<usize>,
    records: Few<RecordSite>,
    /// Time of arrival in Unix nanoseconds, for records without a time; zero if unknown.
    arrival: u64,
}

/// The members of a log record that an event is made of, as written in the text.
#[derive(Debug, Default)]
struct RecordMembers<'a> {
    time: u64,
    observed: u64,
    arrival: u64,
    event_name: Option<&'a str>,
    body: Option<&'a str>,
    severity_number: Option<&'a str>,
    severity_text: Option<&'a str>,
    /// The attributes, without the brackets.
    attributes: Option<&'a str>,
    dropped_attributes: Option<&'a str>,
}

// === impl Logs ===

impl Logs {
    pub(super) fn new(text: Bytes, list: Range<usize>, records: Few<RecordSite>) -> Self {
        Self { text, list, records, arrival: 0 }
    }

    pub(super) fn arrival(&self) -> u64 {
        self.arrival
    }

    /// Sets the time of arrival, in Unix nanoseconds: the time of events whose log records have none.
    pub(crate) fn set_arrival(&mut self, arrival: u64) {
        self.arrival = arrival;
    }

    /// Returns for every log record, in the order of the text, the ids of the span that it names, if any.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Option<(TraceId, SpanId)>> + '_ {
        self.records.iter().map(|record| record.ids)
    }

    /// Returns the ids of the span that one record names, if any.
    pub(crate) fn ids(&self, record: usize) -> Option<(TraceId, SpanId)> {
        self.records[record].ids
    }

    /// Returns the number of log records.
    pub(crate) fn record_count(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(u32::MAX)
    }

    /// Returns the memory that the records take, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.text.len() + spilled_bytes(&self.records)
    }

    /// Returns the span event for this record.
    pub fn event(&self, record: usize) -> SpanEvent {
        self.event_of(&self.records[record].range)
    }

    fn event_of(&self, range: &Range<usize>) -> SpanEvent {
        let record = self.record(range);
        let json = record.event();
        let json = match record.attributes {
            // The record may itself have attributes with the names that are added here, possibly with escapes.
            Some(attributes) if attributes.contains("\"log.") || attributes.contains("\\u") => {
                match event_edits(json.as_bytes()) {
                    Ok(edits) => edits.apply(&Bytes::from(json)),
                    Err(_) => json.into(),
                }
            }
            _ => json.into(),
        };
        SpanEvent { time_unix_nano: record.event_time(), json }
    }

    /// Returns the export request with the records for which `keep` is true; `None` when there are none.
    pub fn into_request(self, keep: impl Fn(usize) -> bool) -> Option<ExportRequest> {
        let kept = (0..self.records.len()).filter(|&index| keep(index)).count();
        if kept == 0 {
            return None;
        }
        let mut edits = Edits::default();
        if kept < self.records.len() {
            let mut index = 0;
            for list in self.records.chunk_by(|one, other| one.list == other.list) {
                let mut removals = Removals::default();
                for record in list {
                    match keep(index) {
                        true => removals.keep(record.range.clone(), &mut edits),
                        false => removals.remove(record.range.clone()),
                    }
                    index += 1;
                }
                removals.finish(&mut edits);
            }
        }
        let list = edits.range_after(&self.list);
        Some(ExportRequest::new(edits.apply(&self.text), list))
    }

    /// Returns the export request as JSON.
    pub(crate) fn into_json(self, keep: impl Fn(usize) -> bool) -> Option<Bytes> {
        self.into_request(keep).map(ExportRequest::into_json)
    }

    /// Returns a request for `/v1/traces` in which each of the `chosen` records is an event on its own zero-length
    /// span, a child of the span that the record names. Records without ids must not be chosen.
    pub(crate) fn carrier_spans(&self, chosen: impl Fn(usize) -> bool) -> Option<ExportRequest> {
        let mut resource_spans = Vec::new();
        let mut index = 0;
        // The text was read before, so that this cannot fail.
        for resource_logs in elements_of(&self.text, 0, "resourceLogs").ok()? {
            let mut scope_spans = Vec::new();
            for scope_logs in elements_of(&self.text, resource_logs.start, "scopeLogs").ok()? {
                let mut spans = Vec::new();
                while let Some(site) = self.records.get(index).filter(|site| site.range.end <= scope_logs.end)
                {
                    if let (Some(ids), true) = (site.ids, chosen(index)) {
                        spans.push(self.carrier_span(ids, &site.range));
                    }
                    index += 1;
                }
                if !spans.is_empty() {
                    let rest = self.members(scope_logs.start, &["scope", "schemaUrl"])?;
                    scope_spans.push(format!("{{{rest}\"spans\":[{}]}}", spans.join(",")));
                }
            }
            if !scope_spans.is_empty() {
                let rest = self.members(resource_logs.start, &["resource", "schemaUrl"])?;
                resource_spans.push(format!("{{{rest}\"scopeSpans\":[{}]}}", scope_spans.join(",")));
            }
        }
        if resource_spans.is_empty() {
            return None;
        }
        let json = format!("{{\"resourceSpans\":[{}]}}", resource_spans.join(","));
        let list = "{\"resourceSpans\":".len()..json.len() - 1;
        Some(ExportRequest::new(json.into(), list))
    }

    fn carrier_span(&self, (trace_id, parent): (TraceId, SpanId), range: &Range<usize>) -> String {
        let record = self.record(range);
        let time = record.event_time();
        let span_id = carrier_id(&self.text[range.clone()]);
        format!(
            "{{\"traceId\":\"{trace_id}\",\"spanId\":\"{span_id}\",\"parentSpanId\":\"{parent}\",\"name\":{},\
             \"kind\":1,\"startTimeUnixNano\":\"{time}\",\"endTimeUnixNano\":\"{time}\",\"events\":[{}]}}",
            record.event_name(),
            String::from_utf8_lossy(&self.event_of(range).json),
        )
    }

    /// Returns the wanted members of an object, each followed by a comma. Unknown members are left out: they may have a
    /// different meaning for spans.
    fn members(&self, open: usize, wanted: &[&str]) -> Option<String> {
        let text = std::str::from_utf8(&self.text).ok()?;
        let members = member_ranges(&self.text, open).ok()?;
        Some(
            members
                .iter()
                .filter(|(key, _)| wanted.iter().any(|wanted| wanted.as_bytes() == key.raw(&self.text)))
                .filter_map(|(_, range)| text.get(range.clone()))
                .flat_map(|member| [member, ","])
                .collect(),
        )
    }

    fn record(&self, range: &Range<usize>) -> RecordMembers<'_> {
        let mut record = RecordMembers { arrival: self.arrival, ..RecordMembers::default() };
        let mut cursor = Cursor::new(&self.text, range.start);
        // The text was read before, so that this cannot fail.
        let read = cursor.object(|cursor, _, key| {
            let start = cursor.at;
            cursor.skip_value()?;
            let Ok(literal) = std::str::from_utf8(&self.text[start..cursor.at]) else { return Ok(()) };
            match key.raw(&self.text) {
                b"timeUnixNano" => record.time = unsigned(literal.as_bytes()),
                b"observedTimeUnixNano" => record.observed = unsigned(literal.as_bytes()),
                b"eventName" if literal != "\"\"" => record.event_name = Some(literal),
                b"body" => record.body = Some(literal),
                b"severityNumber" if literal != "0" => record.severity_number = Some(literal),
                b"severityText" if literal != "\"\"" => record.severity_text = Some(literal),
                b"attributes" => {
                    record.attributes = literal
                        .strip_prefix('[')
                        .and_then(|rest| rest.strip_suffix(']'))
                        .map(str::trim)
                        .filter(|list| !list.is_empty());
                }
                b"droppedAttributesCount" if literal != "0" => record.dropped_attributes = Some(literal),
                _ => {}
            }
            Ok(())
        });
        debug_assert_eq!(read, Ok(()), "a record was not readable again");
        record
    }
}

// === impl RecordMembers ===

impl RecordMembers<'_> {
    fn event_time(&self) -> u64 {
        [self.time, self.observed].into_iter().find(|time| *time != 0).unwrap_or(self.arrival)
    }

    /// Returns the body as a string literal, when it is a string that is not empty.
    fn string_body(&self) -> Option<&str> {
        let body = self.body?;
        let members = member_ranges(body.as_bytes(), 0).ok()?;
        let [(key, member)] = &members[..] else { return None };
        if key.raw(body.as_bytes()) != b"stringValue" {
            return None;
        }
        let literal = body.get(key.end + 1..member.end)?.trim_start().strip_prefix(':')?.trim_start();
        (literal != "\"\"").then_some(literal)
    }

    /// Returns the name of the event, as a string literal.
    fn event_name(&self) -> &str {
        self.event_name.or_else(|| self.string_body()).unwrap_or(NAMELESS)
    }

    /// Returns the event as a JSON object.
    fn event(&self) -> String {
        let room = |part: Option<&str>, around: usize| part.map_or(0, |part| part.len() + around);
        let attributes_bytes = room(self.attributes, 0)
            + room(
                self.severity_number,
                "{\"key\":\"log.severity_number\",\"value\":{\"intValue\":\"\"}},".len(),
            )
            + room(self.severity_text, "{\"key\":\"log.severity_text\",\"value\":{\"stringValue\":}},".len())
            + room(self.body, "{\"key\":\"log.body\",\"value\":},".len());
        let frame = "{\"timeUnixNano\":\"18446744073709551615\",\"name\":,\"attributes\":[]}";
        let mut event = String::with_capacity(
            frame.len()
                + self.event_name().len()
                + attributes_bytes
                + room(self.dropped_attributes, ",\"droppedAttributesCount\":".len()),
        );
        event.push('{');
        if self.event_time() != 0 {
            push(&mut event, format_args!("\"timeUnixNano\":\"{}\",", self.event_time()));
        }
        event.push_str("\"name\":");
        event.push_str(self.event_name());
        let mut before = ",\"attributes\":[";
        let mut attribute = |text: fmt::Arguments<'_>| {
            event.push_str(std::mem::replace(&mut before, ","));
            push(&mut event, text);
        };
        if let Some(attributes) = self.attributes {
            attribute(format_args!("{attributes}"));
        }
        if let Some(number) = self.severity_number {
            attribute(format_args!(
                "{{\"key\":\"log.severity_number\",\"value\":{{\"intValue\":\"{number}\"}}}}"
            ));
        }
        if let Some(text) = self.severity_text {
            attribute(format_args!("{{\"key\":\"log.severity_text\",\"value\":{{\"stringValue\":{text}}}}}"));
        }
        let named_by_body = self.event_name.is_none() && self.string_body().is_some();
        if let Some(body) = self.body.filter(|_| !named_by_body && !self.is_empty_body()) {
            attribute(format_args!("{{\"key\":\"log.body\",\"value\":{body}}}"));
        }
        if before == "," {
            event.push(']');
        }
        if let Some(count) = self.dropped_attributes {
            push(&mut event, format_args!(",\"droppedAttributesCount\":{count}"));
        }
        event.push('}');
        event
    }

    /// Returns whether the body is present but empty: `{}` or an empty string.
    fn is_empty_body(&self) -> bool {
        let Some(body) = self.body else { return false };
        match member_ranges(body.as_bytes(), 0).as_deref() {
            Ok([]) => true,
            Ok([(key, _)]) => key.raw(body.as_bytes()) == b"stringValue" && self.string_body().is_none(),
            _ => false,
        }
    }
}

fn push(text: &mut String, more: fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a string takes everything");
}

/// Returns the elements of a list that is a member of the object at `open`.
fn elements_of(text: &[u8], open: usize, list: &str) -> Result<Vec<Range<usize>>, Fault> {
    let mut elements = Vec::new();
    Cursor::new(text, open).object(|cursor, _, key| {
        if key.raw(cursor.bytes()) != list.as_bytes() {
            return cursor.skip_value();
        }
        cursor.array(|cursor, start| {
            cursor.skip_value()?;
            elements.push(start..cursor.at);
            Ok(())
        })
    })?;
    Ok(elements)
}

/// Derives the id of a carrier span from its record, so that a record that is delivered twice makes the same span.
fn carrier_id(record: &[u8]) -> SpanId {
    let digest = Sha256::digest(record);
    let first: [u8; 8] = *digest.first_chunk().expect("a SHA-256 digest has 32 bytes");
    SpanId::new(first).or_else(|| SpanId::new([1; 8])).expect("ones are not zeros")
}
