//! Several requests made of one: each item goes to the request of its group.
//!
//! In: a canonical request, and the group of each item in the order of the text. Out: for each group a valid request with
//! its items, in copies of the resources and scopes that they were in. Promises: an item is the same bytes; the cost is
//! linear in input and output, and the output is bounded by the caller.

use std::ops::Range;

use bytes::Bytes;

use super::super::json::{Cursor, Fault};
use super::ExportRequest;
use super::export_request::JsonRequest;
use super::select::{Path, path};
use crate::event::Signal;

/// Containers of items, outermost first: the request, a resource, a scope.
const CONTAINERS: usize = 3;

struct Division<'a> {
    text: &'a [u8],
    path: &'static Path,
    groups: &'a [u32],
    /// Index of the next item.
    next: usize,
    outputs: Vec<DividedOutput>,
    /// Groups whose output has the container open, by the container's depth.
    open: [Vec<u32>; CONTAINERS],
    /// Texts before the first item of the containers that are being read.
    before: [Range<usize>; CONTAINERS],
    budget: usize,
}

#[derive(Debug, Clone, Default)]
struct DividedOutput {
    json: Vec<u8>,
    /// Number of open containers.
    depth: usize,
}

/// The reason to stop early.
struct Stopped;

// === impl ExportRequest ===

impl ExportRequest {
    /// Divides the request of spans or log records by `groups`, which has the group of each item: numbers without gaps from
    /// 0. Returns `None` if the requests would take more than `max_bytes` together.
    pub(crate) fn divide(&self, signal: Signal, groups: &[u32], max_bytes: usize) -> Option<Vec<Bytes>> {
        self.with_json(|request| request.divide(signal, groups, max_bytes))
    }
}

// === impl JsonRequest ===

impl JsonRequest {
    fn divide(&self, signal: Signal, groups: &[u32], max_bytes: usize) -> Option<Vec<Bytes>> {
        let count = groups.iter().max().map_or(0, |last| *last as usize + 1);
        let mut division = Division {
            text: &self.json,
            path: path(signal),
            groups,
            next: 0,
            outputs: vec![DividedOutput::default(); count],
            open: Default::default(),
            before: [const { 0..0 }; CONTAINERS],
            budget: max_bytes,
        };
        // The text was read before, so that only the budget can stop it.
        division.container(&mut Cursor::new(&self.json, self.start()), 0).ok()?;
        Some(division.outputs.into_iter().map(|output| output.json.into()).collect())
    }
}

// === impl Division ===

impl Division<'_> {
    /// Steps over a container and copies its items.
    fn container(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Stopped> {
        let start = cursor.at;
        let mut list_end = None;
        let read = cursor.object(|cursor, _, key| {
            if !self.path[depth].contains(&key.raw(cursor.bytes())) || cursor.peek() != Some(b'[') {
                return cursor.skip_value();
            }
            self.before[depth] = start..cursor.at + 1;
            cursor.array(|cursor, _| {
                let element = self.element(cursor, depth);
                element.map_err(|_: Stopped| Fault::shape(cursor.at, "stopped"))
            })?;
            list_end = Some(cursor.at - 1);
            Ok(())
        });
        read.map_err(|_| Stopped)?;
        let Some(list_end) = list_end else { return Ok(()) };
        for group in std::mem::take(&mut self.open[depth]) {
            self.copy(group, list_end..cursor.at)?;
            self.outputs[group as usize].depth = depth;
        }
        Ok(())
    }

    fn element(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Stopped> {
        if depth + 1 < CONTAINERS {
            return self.container(cursor, depth + 1);
        }
        let start = cursor.at;
        cursor.skip_value().map_err(|_| Stopped)?;
        let group = *self.groups.get(self.next).ok_or(Stopped)?;
        self.next += 1;
        self.item(group, start..cursor.at)
    }

    fn item(&mut self, group: u32, item: Range<usize>) -> Result<(), Stopped> {
        let depth = self.outputs[group as usize].depth;
        if depth > 0 {
            self.budget = self.budget.checked_sub(1).ok_or(Stopped)?;
            self.outputs[group as usize].json.push(b',');
        }
        for opened in depth..CONTAINERS {
            self.open[opened].push(group);
            self.copy(group, self.before[opened].clone())?;
        }
        self.outputs[group as usize].depth = CONTAINERS;
        self.copy(group, item)
    }

    fn copy(&mut self, group: u32, range: Range<usize>) -> Result<(), Stopped> {
        self.budget = self.budget.checked_sub(range.len()).ok_or(Stopped)?;
        self.outputs[group as usize].json.extend_from_slice(&self.text[range]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Resources of scopes of spans; each span has the number of its group.
    fn requests() -> impl Strategy<Value = Vec<Vec<Vec<u32>>>> {
        let scopes = proptest::collection::vec(proptest::collection::vec(0_u32..4, 0..4), 0..3);
        proptest::collection::vec(scopes, 0..4)
    }

    fn request(resources: &[Vec<Vec<u32>>], keep: impl Fn(u32) -> bool) -> Value {
        let mut number = 0;
        let resources = resources.iter().enumerate().filter_map(|(index, scopes)| {
            let scopes: Vec<Value> = scopes
                .iter()
                .enumerate()
                .filter_map(|(scope, spans)| {
                    let spans: Vec<Value> = spans
                        .iter()
                        .filter_map(|group| {
                            number += 1;
                            keep(*group).then(|| json!({ "name": format!("{number}"), "group": group }))
                        })
                        .collect();
                    (!spans.is_empty()).then(|| json!({ "scope": scope, "spans": spans, "schemaUrl": "s" }))
                })
                .collect();
            (!scopes.is_empty()).then(|| json!({ "resource": index, "scopeSpans": scopes, "x": [{}] }))
        });
        json!({ "a": [1, { "spans": [] }], "resourceSpans": resources.collect::<Vec<_>>(), "b": {} })
    }

    proptest! {
        #[test]
        fn each_group_gets_what_a_selection_of_its_items_gives(resources in requests(), pretty: bool) {
            // Groups are numbered in the order in which they appear.
            let mut known = Vec::new();
            let resources: Vec<Vec<Vec<u32>>> = resources
                .into_iter()
                .map(|scopes| scopes.into_iter().map(|spans| spans.into_iter().map(|group| {
                    let number = known.iter().position(|one| *one == group).unwrap_or_else(|| {
                        known.push(group);
                        known.len() - 1
                    });
                    u32::try_from(number).unwrap()
                }).collect()).collect())
                .collect();
            let groups: Vec<u32> = resources.iter().flatten().flatten().copied().collect();
            let whole = request(&resources, |_| true);
            let text = match pretty {
                true => serde_json::to_vec_pretty(&whole).unwrap(),
                false => serde_json::to_vec(&whole).unwrap(),
            };
            let whole = ExportRequest::parse(Signal::Traces, text.into()).unwrap();
            let divided = whole.divide(Signal::Traces, &groups, usize::MAX).unwrap();
            prop_assert_eq!(divided.len(), known.len());
            for (group, json) in divided.iter().enumerate() {
                let divided: Value = serde_json::from_slice(json).unwrap();
                prop_assert_eq!(divided, request(&resources, |of| of as usize == group));
            }
            let bytes: usize = divided.iter().map(Bytes::len).sum();
            prop_assert!(whole.divide(Signal::Traces, &groups, bytes).is_some());
            prop_assert!(bytes == 0 || whole.divide(Signal::Traces, &groups, bytes - 1).is_none());
        }
    }
}
