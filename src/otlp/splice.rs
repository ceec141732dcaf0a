//! Edits at byte ranges of a text, whose other bytes stay unchanged.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

/// Replacement of `range`; an insertion where the range is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    range: Range<usize>,
    with: With,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum With {
    Text(Cow<'static, str>),
    /// The replaced text itself, in double quotes.
    Quotes,
}

/// Edits of one text. They do not overlap; insertions at the same position keep their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Edits(Vec<Edit>);

/// Mapping from offsets in a text to offsets in the input that it was made from.
#[derive(Debug, Default)]
pub(crate) struct Origins(Vec<(usize, usize)>);

/// Deletions of children of a container, with their commas, in the order of the text.
///
/// Kept and removed children form runs. A run of removed children before a kept one is deleted up to the start of that
/// one; a run at the end is deleted from the end of the last kept child.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    run_start: Option<usize>,
    run_end: usize,
    last_kept_end: Option<usize>,
}

// === impl Edits ===

impl Edits {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn replace(&mut self, range: Range<usize>, with: impl Into<Cow<'static, str>>) {
        self.0.push(Edit { range, with: With::Text(with.into()) });
    }

    /// Puts double quotes around `range`, which must not be empty.
    pub(crate) fn quote(&mut self, range: Range<usize>) {
        self.0.push(Edit { range, with: With::Quotes });
    }

    pub(crate) fn insert(&mut self, at: usize, with: impl Into<Cow<'static, str>>) {
        self.replace(at..at, with);
    }

    pub(crate) fn delete(&mut self, range: Range<usize>) {
        self.replace(range, "");
    }

    /// Adds the edits of another part of the same text.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Drops all edits after the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Drops those of the edits after the first `len` whose range is `unwanted`.
    pub(crate) fn forget(&mut self, len: usize, unwanted: impl Fn(&Range<usize>) -> bool) {
        let mut kept = len;
        for index in len..self.0.len() {
            if !unwanted(&self.0[index].range) {
                self.0.swap(kept, index);
                kept += 1;
            }
        }
        self.0.truncate(kept);
    }

    /// Returns the ranges of the text that change.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = &Range<usize>> {
        self.0.iter().map(|edit| &edit.range)
    }

    /// Returns the memory that the edits take, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.0.capacity() * size_of::<Edit>() + self.0.iter().map(Edit::own_bytes).sum::<usize>()
    }

    /// Returns a range of the text after all edits. Each edit must be entirely inside or outside the range.
    pub(crate) fn range_after(&self, range: &Range<usize>) -> Range<usize> {
        self.offset_after(range.start)..self.offset_after(range.end)
    }

    fn offset_after(&self, at: usize) -> usize {
        let before = self.0.iter().filter(|edit| edit.range.end <= at);
        // Added first, because an edit may remove more than was before it.
        let (added, removed) =
            before.fold((0, 0), |(added, removed), edit| (added + edit.len(), removed + edit.range.len()));
        at + added - removed
    }

    /// Returns the text with all edits made: the text itself when there are none.
    pub(crate) fn apply(mut self, text: &Bytes) -> Bytes {
        if self.0.is_empty() {
            return text.clone();
        }
        // Nearly always sorted already. The sort is stable because of insertions at the same position.
        self.0.sort_by_key(|edit| (edit.range.start, edit.range.end));
        let gone: usize = self.0.iter().map(|edit| edit.range.len()).sum();
        let come: usize = self.0.iter().map(Edit::len).sum();
        // The exact size, so that no capacity is wasted while the text is queued for export.
        let mut out = Vec::with_capacity(text.len() - gone + come);
        let mut from = 0;
        for edit in &self.0 {
            debug_assert!(edit.range.start >= from, "edits overlap: {:?}", self.0);
            out.extend_from_slice(&text[from..edit.range.start]);
            match &edit.with {
                With::Text(with) => out.extend_from_slice(with.as_bytes()),
                With::Quotes => {
                    out.push(b'"');
                    out.extend_from_slice(&text[edit.range.clone()]);
                    out.push(b'"');
                }
            }
            from = edit.range.end;
        }
        out.extend_from_slice(&text[from..]);
        out.into()
    }
}

// === impl Origins ===

impl Origins {
    /// Notes that from these offsets on, text and input are identical. Offsets in the text must not decrease.
    pub(crate) fn note(&mut self, text: usize, input: usize) {
        while self.0.last().is_some_and(|(noted, _)| *noted > text) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|(from_text, from_input)| text - from_text + from_input != input) {
            self.0.push((text, input));
        }
    }

    /// Returns the offset in the input of the byte at `at` in the text.
    pub(crate) fn of(&self, at: usize) -> usize {
        let next = self.0.partition_point(|(text, _)| *text <= at);
        next.checked_sub(1).map_or(at, |last| {
            let (text, input) = self.0[last];
            input + (at - text)
        })
    }

    /// Returns the range in the input of a value in the text.
    pub(crate) fn of_range(&self, range: &Range<usize>) -> Range<usize> {
        self.of(range.start)..self.of(range.end.saturating_sub(1)) + 1
    }
}

// === impl Edit ===

impl Edit {
    /// Returns the length of the replacement, in bytes.
    fn len(&self) -> usize {
        match &self.with {
            With::Text(with) => with.len(),
            With::Quotes => self.range.len() + 2,
        }
    }

    /// Returns the memory that the edit takes in addition to itself, in bytes.
    fn own_bytes(&self) -> usize {
        match &self.with {
            With::Text(Cow::Owned(with)) => with.capacity(),
            With::Text(Cow::Borrowed(_)) | With::Quotes => 0,
        }
    }
}

// === impl Removals ===

impl Removals {
    /// Keeps the next child.
    pub(crate) fn keep(&mut self, child: Range<usize>, edits: &mut Edits) {
        if let Some(start) = self.run_start.take() {
            edits.delete(start..child.start);
        }
        self.last_kept_end = Some(child.end);
    }

    /// Removes the next child. Edits inside it must not be made.
    pub(crate) fn remove(&mut self, child: Range<usize>) {
        self.run_start.get_or_insert(child.start);
        self.run_end = child.end;
    }

    /// Ends the list of children.
    pub(crate) fn finish(self, edits: &mut Edits) {
        if let Some(start) = self.run_start {
            edits.delete(self.last_kept_end.unwrap_or(start)..self.run_end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_without_edits_is_the_same_memory() {
        let text = Bytes::from_static(b"{}");
        assert_eq!(Edits::default().apply(&text).as_ptr(), text.as_ptr());
    }

    #[test]
    fn edits_are_applied_in_any_order_of_addition() {
        let mut edits = Edits::default();
        edits.replace(4..5, "E");
        edits.insert(2, "<");
        edits.insert(2, ">");
        edits.delete(0..1);
        edits.quote(5..6);
        assert_eq!(edits.apply(&Bytes::from_static(b"abcdef")), "b<>cdE\"f\"");
    }

    proptest! {
        #[test]
        fn removing_any_children_leaves_a_list_of_the_others(keep in proptest::collection::vec(any::<bool>(), 0..8)) {
            let mut text = String::from("[");
            let mut edits = Edits::default();
            let mut removals = Removals::default();
            for (index, &keep) in keep.iter().enumerate() {
                if index > 0 {
                    text.push_str(" , ");
                }
                let start = text.len();
                text.push_str(&index.to_string());
                match keep {
                    true => removals.keep(start..text.len(), &mut edits),
                    false => removals.remove(start..text.len()),
                }
            }
            text.push(']');
            removals.finish(&mut edits);
            let left: Vec<usize> = serde_json::from_slice(&edits.apply(&text.into())).unwrap();
            let expected: Vec<usize> = (0..keep.len()).filter(|&index| keep[index]).collect();
            prop_assert_eq!(left, expected);
        }
    }
}
