//! Selection of some items of a request, as a request of their own.
//!
//! In: a canonical document or request, and for each item, by its index in the text, whether to keep it. Out: a valid
//! request with these items, in their original containers: resource, scope, and for data points the metric. A metric
//! without data points is an item itself.
//! Promises: kept items are byte-identical; containers that lose all of their items are removed; one pass over the
//! text.

use std::ops::Range;

use bytes::Bytes;

use super::super::json::{Cursor, Fault};
use super::super::splice::{Edits, Removals};
use super::export_request::JsonRequest;
use super::{ExportRequest, Logs, Metrics, Traces, read_line};
use crate::event::Signal;

/// Keys of the nested values from a request to its items, outermost first; each is one of several.
pub(super) type Path = [&'static [&'static [u8]]];

pub(super) fn path(signal: Signal) -> &'static Path {
    match signal {
        Signal::Traces => &[&[b"resourceSpans"], &[b"scopeSpans"], &[b"spans"]],
        Signal::Logs => &[&[b"resourceLogs"], &[b"scopeLogs"], &[b"logRecords"]],
        Signal::Metrics => {
            &[&[b"resourceMetrics"], &[b"scopeMetrics"], &[b"metrics"], DATA, &[b"dataPoints"]]
        }
    }
}

/// Members of a metric that hold data points.
const DATA: &[&[u8]] = &[b"gauge", b"sum", b"histogram", b"exponentialHistogram", b"summary"];

struct Selection<F> {
    keep: F,
    /// Index of the next item.
    next: u32,
    edits: Edits,
}

// === impl Selection ===

impl<F: FnMut(u32) -> bool> Selection<F> {
    /// Reads an object whose items are at the end of the path. Returns whether any of them is kept.
    fn object(&mut self, cursor: &mut Cursor<'_>, path: &Path) -> Result<bool, Fault> {
        let Some((names, deeper)) = path.split_first() else {
            cursor.skip_value()?;
            return Ok(self.item());
        };
        let first = self.next;
        let mut kept = false;
        cursor.object(|cursor, _, key| {
            match cursor.peek() {
                Some(b'[') if names.contains(&key.raw(cursor.bytes())) => {
                    kept |= self.list(cursor, deeper)?;
                }
                Some(b'{') if names.contains(&key.raw(cursor.bytes())) => {
                    kept |= self.object(cursor, deeper)?;
                }
                _ => cursor.skip_value()?,
            }
            Ok(())
        })?;
        // A metric without data points.
        Ok(if *names == DATA && self.next == first { self.item() } else { kept })
    }

    fn item(&mut self) -> bool {
        self.next += 1;
        (self.keep)(self.next - 1)
    }

    fn list(&mut self, cursor: &mut Cursor<'_>, path: &Path) -> Result<bool, Fault> {
        let mut removals = Removals::default();
        let mut kept = false;
        cursor.array(|cursor, start| {
            let checkpoint = self.edits.len();
            if self.object(cursor, path)? {
                kept = true;
                removals.keep(start..cursor.at, &mut self.edits);
            } else {
                self.edits.truncate(checkpoint);
                removals.remove(start..cursor.at);
            }
            Ok(())
        })?;
        removals.finish(&mut self.edits);
        Ok(kept)
    }
}

// === impl JsonRequest ===

impl JsonRequest {
    /// Returns the text of a request with the items for which `keep` is true, and the range of its list, brackets included;
    /// `None` when there are none.
    pub(super) fn select(
        &self,
        signal: Signal,
        keep: impl FnMut(u32) -> bool,
    ) -> Option<(Bytes, Range<usize>)> {
        let mut selection = Selection { keep, next: 0, edits: Edits::default() };
        // The text was read before, so that this cannot fail.
        let kept = selection.object(&mut Cursor::new(&self.json, self.start()), path(signal)).ok()?;
        if !kept {
            return None;
        }
        let list = selection.edits.range_after(&self.list());
        Some((selection.edits.apply(&self.json), list))
    }

    /// Returns the offset of the opening brace.
    pub(super) fn start(&self) -> usize {
        self.json.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0)
    }

    /// Returns the range of the list, brackets included.
    fn list(&self) -> Range<usize> {
        self.elements.start - 1..self.elements.end + 1
    }
}

// === impl Traces ===

impl Traces {
    /// Returns the spans for which `keep` is true, with the events that were attached to them; `None` when there are
    /// none.
    pub(crate) fn select(self, keep: &dyn Fn(u32) -> bool) -> Option<Self> {
        read_line(&selected(&self.into_request(), Signal::Traces, keep)?).ok()?.traces
    }
}

// === impl Logs ===

impl Logs {
    /// Returns the log records for which `keep` is true; `None` when there are none.
    pub(crate) fn select(self, keep: &dyn Fn(u32) -> bool) -> Option<Self> {
        let arrival = self.arrival();
        let request = self.into_request(|_| true)?;
        let mut logs = read_line(&selected(&request, Signal::Logs, keep)?).ok()?.logs?;
        logs.set_arrival(arrival);
        Some(logs)
    }
}

// === impl Metrics ===

impl Metrics {
    /// Returns the data points for which `keep` is true; `None` when there are none.
    pub(crate) fn select(self, keep: &dyn Fn(u32) -> bool) -> Option<Self> {
        read_line(&selected(&self.into_request(), Signal::Metrics, keep)?).ok()?.metrics
    }
}

/// Returns the text of a selection, from its opening brace on.
fn selected(request: &ExportRequest, signal: Signal, keep: &dyn Fn(u32) -> bool) -> Option<Bytes> {
    request.select(signal, keep)?.with_json(|selected| Some(selected.json.slice(selected.start()..)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::otlp::SpanEvent;
    use proptest::prelude::*;

    /// Numbers of resources, scopes (for metrics also metrics) and items in each container.
    type Shape = Vec<Vec<Vec<usize>>>;

    fn shapes() -> impl Strategy<Value = Shape> {
        let list = proptest::collection::vec(0_usize..4, 1..4);
        proptest::collection::vec(proptest::collection::vec(list, 1..3), 1..4)
    }

    fn item(signal: Signal, number: u32) -> Value {
        match signal {
            Signal::Traces => {
                json!({"traceId": format!("{:032x}", number + 1), "spanId": format!("{:016x}", number + 1),
                "name": "a ] b } \\\" c", "unknown": [{"spans": [1, 2]}]})
            }
            Signal::Logs => {
                json!({"timeUnixNano": number.to_string(), "body": {"stringValue": "[{\"logRecords\""}})
            }
            Signal::Metrics => json!({"timeUnixNano": number.to_string(), "asInt": "1"}),
        }
    }

    /// Returns a request of this shape, and the same with only the chosen items, built by removing from the model.
    fn request(signal: Signal, shape: &Shape, keep: impl Fn(u32) -> bool) -> (Value, u32) {
        let mut next = 0;
        let mut chosen = |count: usize| -> Vec<u32> {
            let numbers = next..next + count as u32;
            next = numbers.end;
            numbers.filter(|number| keep(*number)).collect()
        };
        let mut resources = Vec::new();
        for (resource, scopes) in shape.iter().enumerate() {
            let mut kept_scopes = Vec::new();
            for (scope, lists) in scopes.iter().enumerate() {
                let content: Vec<Value> = match signal {
                    Signal::Metrics => {
                        let kinds = ["gauge", "sum", "histogram"];
                        let metric = |(index, count): (usize, &usize)| {
                            // One without data points is an item itself.
                            let chosen = chosen((*count).max(1));
                            let points: Vec<Value> =
                                chosen.iter().take(*count).map(|number| item(signal, *number)).collect();
                            let mut metric =
                                json!({"name": index.to_string(), "unit": "1", "dataPoints": [{}]});
                            if *count > 0 || index % 2 == 0 {
                                metric[kinds[index % 3]] =
                                    json!({"dataPoints": points, "aggregationTemporality": 2});
                            }
                            (!chosen.is_empty()).then_some(metric)
                        };
                        lists.iter().enumerate().filter_map(metric).collect()
                    }
                    _ => chosen(lists.iter().sum()).into_iter().map(|number| item(signal, number)).collect(),
                };
                if !content.is_empty() {
                    let key = ["spans", "logRecords", "metrics"][signal as usize];
                    kept_scopes
                        .push(json!({"scope": {"name": scope.to_string()}, key: content, "schemaUrl": "s"}));
                }
            }
            if !kept_scopes.is_empty() {
                let key = ["scopeSpans", "scopeLogs", "scopeMetrics"][signal as usize];
                let service = json!({"attributes": [{"key": "service.name", "value": {"stringValue": resource.to_string()}}]});
                resources.push(json!({"resource": service, key: kept_scopes, "unknown": {"spans": [{}]}}));
            }
        }
        let key = ["resourceSpans", "resourceLogs", "resourceMetrics"][signal as usize];
        (json!({ key: resources }), next)
    }

    fn parse(signal: Signal, json: &Value) -> ExportRequest {
        ExportRequest::parse(signal, serde_json::to_vec_pretty(json).unwrap().into()).unwrap()
    }

    proptest! {
        #[test]
        fn a_selection_is_the_request_without_the_other_items(shape in shapes(), seed: u64, signal in 0_usize..3) {
            let signal = Signal::ALL[signal];
            let keep = |item: u32| seed >> (item % 64) & 1 == 1;
            let (whole, items) = request(signal, &shape, |_| true);
            let (expected, _) = request(signal, &shape, keep);
            let selected = parse(signal, &whole).select(signal, keep);
            prop_assert_eq!(selected.is_some(), (0..items).any(keep));
            if let Some(selected) = selected {
                prop_assert_eq!(serde_json::from_slice::<Value>(&selected.json()).unwrap(), expected);
                let inner = selected.elements();
                let list: Value = serde_json::from_slice(&[b"[", &inner[..], b"]"].concat()).unwrap();
                prop_assert!(list.is_array());
            }
        }
    }

    #[test]
    fn a_selection_of_a_document_keeps_bytes_and_attached_events() {
        let text = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[
            {"traceId":"00000000000000000000000000000001","spanId":"0000000000000001","x": 1.50},
            {"traceId":"00000000000000000000000000000001","spanId":"0000000000000002","x":18446744073709551616}]}]}]}"#;
        let mut traces = Traces::from_canonical(text.to_vec()).unwrap();
        traces.attach(1, SpanEvent { time_unix_nano: 1, json: Bytes::from_static(br#"{"name":"e"}"#) });
        assert!(traces.clone().select(&|_| false).is_none());
        let second = traces.clone().select(&|index| index == 1).unwrap();
        assert_eq!(second.span_count(), 1);
        let json = String::from_utf8(second.into_json().to_vec()).unwrap();
        assert!(json.contains(r#""x":18446744073709551616,"events":[{"name":"e"}]}"#), "{json}");
        assert!(!json.contains("1.50"), "{json}");
        let both = traces.select(&|_| true).unwrap();
        assert_eq!(both.span_count(), 2);
    }
}
