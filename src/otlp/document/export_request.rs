//! Export request: its text, and the range of the elements that can be merged into a list with others.

use std::ops::Range;

use bytes::Bytes;

/// A complete OTLP/JSON export request of one signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRequest {
    pub(super) json: Bytes,
    /// Range of the elements of its one list, without the brackets.
    pub(super) elements: Range<usize>,
}

// === impl ExportRequest ===

impl ExportRequest {
    /// Creates a request; `list` is the range of its list, brackets included.
    pub(super) fn new(json: Bytes, list: Range<usize>) -> Self {
        debug_assert!(
            json.get(list.start) == Some(&b'[') && json[..list.end].ends_with(b"]"),
            "no list at {list:?}: {json:?}"
        );
        Self { json, elements: list.start + 1..list.end - 1 }
    }

    /// Returns the whole request.
    pub(crate) fn json(&self) -> &Bytes {
        &self.json
    }

    /// Returns the whole request.
    pub fn into_json(self) -> Bytes {
        self.json
    }

    /// Returns the length of [`elements`](Self::elements), possibly including white space around them.
    pub(crate) fn elements_bytes(&self) -> usize {
        self.elements.len()
    }

    /// Returns the text between the brackets of the list: a slice without white space around it, empty when the list is
    /// empty. The rest of the request has no meaning in OTLP.
    pub(crate) fn elements(&self) -> Bytes {
        self.json.slice_ref(self.json[self.elements.clone()].trim_ascii())
    }
}
