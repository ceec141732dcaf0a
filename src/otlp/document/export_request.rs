//! A document on its way out: the text, and where in it the elements are that can stand in a list with others.

use std::ops::Range;

use bytes::Bytes;

/// A complete OTLP/JSON export request of one signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExportRequest {
    pub(super) json: Bytes,
    /// Of its one list, without the brackets.
    pub(super) elements: Range<usize>,
}

// === impl ExportRequest ===

impl ExportRequest {
    /// `list` is where the list stands, brackets included.
    pub(super) fn new(json: Bytes, list: Range<usize>) -> Self {
        debug_assert!(
            json.get(list.start) == Some(&b'[') && json[..list.end].ends_with(b"]"),
            "no list at {list:?}: {json:?}"
        );
        Self { json, elements: list.start + 1..list.end - 1 }
    }

    /// Finds the list of a request that a test wrote itself.
    #[cfg(test)]
    pub(crate) fn parse(signal: crate::event::Signal, json: Bytes) -> Option<Self> {
        let members = super::top_level(&json).ok()?;
        let (_, member) = members.into_iter().find(|(of, _)| *of == Some(signal))?;
        let open = member.start + memchr::memchr(b'[', &json[member.clone()])?;
        Some(Self::new(json, open..member.end))
    }

    /// The whole request.
    pub(crate) fn json(&self) -> &Bytes {
        &self.json
    }

    /// The whole request.
    pub(crate) fn into_json(self) -> Bytes {
        self.json
    }

    /// How many bytes [`elements`](Self::elements) are, or some white space more.
    pub(crate) fn elements_bytes(&self) -> usize {
        self.elements.len()
    }

    /// What stands between the brackets of its list: a slice, without white space around it. Empty when the list is.
    /// What else is in the request means nothing in OTLP.
    pub(crate) fn elements(&self) -> Bytes {
        self.json.slice_ref(self.json[self.elements.clone()].trim_ascii())
    }
}
