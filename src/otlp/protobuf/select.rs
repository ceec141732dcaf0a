//! Selection of some items of a request in protobuf, as a request of their own.
//!
//! In: a request that [`check`](super::check) accepted, and for each item, by its index, whether to keep it. Out: a
//! request with these items, in their original containers.
//! Promises: kept items and all other fields are byte-identical, unknown ones included; containers that lose all of
//! their items are removed; lengths are rewritten; one pass over the bytes.

use super::wire::{Fields, WireValue};
use super::{LENGTH, delimited, tag};
use crate::event::Signal;

/// Numbers of the nested fields from a request to its items, outermost first; each is one of several.
type FieldPath = [Level];

#[derive(Debug)]
enum Level {
    /// A list, of which empty containers are removed.
    List(u32),
    /// The data of a metric: one of several messages. A metric that has no data points is an item itself.
    Data(&'static [u32]),
}

fn path(signal: Signal) -> &'static FieldPath {
    use Level::{Data, List};
    match signal {
        // Resources, scopes, items.
        Signal::Traces | Signal::Logs => &[List(1), List(2), List(2)],
        Signal::Metrics => &[List(1), List(2), List(2), Data(&[5, 7, 9, 10, 11]), List(1)],
    }
}

struct ProtobufSelection<F> {
    keep: F,
    /// Index of the next item.
    next: u32,
}

/// Returns a request with the items for which `keep` is true; `None` when there are none.
pub(super) fn select(signal: Signal, request: &[u8], keep: impl FnMut(u32) -> bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(request.len());
    let kept = ProtobufSelection { keep, next: 0 }.message(request, path(signal), &mut out)?;
    kept.then_some(out)
}

// === impl ProtobufSelection ===

impl<F: FnMut(u32) -> bool> ProtobufSelection<F> {
    /// Copies what is kept of a message. Returns whether any item is; `None` if the message is not protobuf.
    fn message(&mut self, bytes: &[u8], path: &FieldPath, out: &mut Vec<u8>) -> Option<bool> {
        let (level, deeper) = path.split_first()?;
        let first = self.next;
        let mut kept = false;
        let mut fields = Fields::new(bytes, 0);
        loop {
            let start = fields.at;
            let Some((number, wire)) = fields.read().ok()? else { break };
            match (level, wire) {
                (Level::List(list), WireValue::Length(_)) if *list == number && deeper.is_empty() => {
                    if self.item() {
                        kept = true;
                        out.extend_from_slice(&bytes[start..fields.at]);
                    }
                }
                (Level::List(list), WireValue::Length(content)) if *list == number => {
                    let before = out.len();
                    if self.inner(number, content, deeper, out)? {
                        kept = true;
                    } else {
                        out.truncate(before);
                    }
                }
                (Level::Data(kinds), WireValue::Length(content)) if kinds.contains(&number) => {
                    kept |= self.inner(number, content, deeper, out)?;
                }
                _ => out.extend_from_slice(&bytes[start..fields.at]),
            }
        }
        let is_bare = matches!(level, Level::Data(_)) && self.next == first;
        Some(if is_bare { self.item() } else { kept })
    }

    fn inner(&mut self, number: u32, content: &[u8], path: &FieldPath, out: &mut Vec<u8>) -> Option<bool> {
        tag(number, LENGTH, out);
        delimited(out, |out| self.message(content, path, out))
    }

    fn item(&mut self) -> bool {
        self.next += 1;
        (self.keep)(self.next - 1)
    }
}
