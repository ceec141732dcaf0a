//! Export request: as JSON, with the range of the elements that can be merged into a list with others, or as the protobuf
//! that a sender wrote.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::event::Signal;
use crate::otlp::protobuf::ProtobufRequest;

/// A complete OTLP export request of one signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRequest(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Json(JsonRequest),
    Protobuf(ProtobufRequest),
}

/// A request as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct JsonRequest {
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
        Self(Form::Json(JsonRequest { json, elements: list.start + 1..list.end - 1 }))
    }

    /// Returns the whole request in the form that it has.
    pub fn bytes(&self) -> &Bytes {
        match &self.0 {
            Form::Json(request) => &request.json,
            Form::Protobuf(request) => request.bytes(),
        }
    }

    /// Returns the request if it is protobuf.
    pub(crate) fn protobuf(&self) -> Option<&ProtobufRequest> {
        match &self.0 {
            Form::Json(_) => None,
            Form::Protobuf(request) => Some(request),
        }
    }

    /// Returns the whole request as JSON.
    pub(crate) fn json(&self) -> Cow<'_, Bytes> {
        match &self.0 {
            Form::Json(request) => Cow::Borrowed(&request.json),
            Form::Protobuf(request) => Cow::Owned(request.to_json().into()),
        }
    }

    /// Returns the whole request as JSON.
    pub fn into_json(self) -> Bytes {
        self.json().into_owned()
    }

    /// Returns the size of what the request adds to a merged one, approximately.
    pub(crate) fn elements_bytes(&self) -> usize {
        match &self.0 {
            // Possibly with white space around the elements.
            Form::Json(request) => request.elements.len(),
            Form::Protobuf(request) => request.bytes().len(),
        }
    }

    /// Returns the text between the brackets of the list in JSON, without white space around it: empty when the list is
    /// empty. The rest of the request has no meaning in OTLP.
    pub(crate) fn elements(&self) -> Bytes {
        self.with_json(JsonRequest::elements)
    }

    /// Returns a request with the items for which `keep` is true; `None` when there are none.
    pub fn select(&self, signal: Signal, keep: impl FnMut(u32) -> bool) -> Option<Self> {
        match &self.0 {
            Form::Json(request) => request.select(signal, keep).map(|(json, list)| Self::new(json, list)),
            Form::Protobuf(request) => request.select(keep).map(Self::from),
        }
    }

    /// Calls `read` with the request as JSON.
    pub(super) fn with_json<R>(&self, read: impl FnOnce(&JsonRequest) -> R) -> R {
        match &self.0 {
            Form::Json(request) => read(request),
            Form::Protobuf(request) => {
                let json = Bytes::from(request.to_json());
                read(&JsonRequest::parse(request.signal(), json).unwrap_or_default())
            }
        }
    }
}

impl From<ProtobufRequest> for ExportRequest {
    fn from(request: ProtobufRequest) -> Self {
        Self(Form::Protobuf(request))
    }
}

// === impl JsonRequest ===

impl JsonRequest {
    /// Finds the list of a request.
    fn parse(signal: Signal, json: Bytes) -> Option<Self> {
        let members = super::top_level(&json).ok()?;
        let (_, member) = members.into_iter().find(|(of, _)| *of == Some(signal))?;
        let open = member.start + memchr::memchr(b'[', &json[member.clone()])?;
        Some(Self { json, elements: open + 1..member.end - 1 })
    }

    fn elements(&self) -> Bytes {
        self.json.slice_ref(self.json[self.elements.clone()].trim_ascii())
    }
}
