//! Faults of export requests in protobuf: the reason and the position.

use std::fmt;

use super::super::wire::WireFault;
use crate::otlp::json::MAX_DEPTH;

/// Characters of a path that are shown.
const SHOWN_PATH: usize = 200;

/// The reason why bytes are not an export request, or not an acceptable one, with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    pub(crate) cause: DecodeCause,
    /// Offset of the field that cannot be decoded, in bytes.
    pub at: usize,
    /// Path of the field or of the message around it, in the names of JSON; empty for the request itself.
    pub(super) path: String,
}

/// The reason without its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeCause {
    #[error("not protobuf: {0}")]
    Wire(#[from] WireFault),
    #[error("not OTLP: wrong wire type")]
    WireType,
    #[error("nested too deeply: more than {MAX_DEPTH} levels in JSON")]
    TooDeep,
    #[error("the parts of split messages add up to more than the request itself")]
    TooManyParts,
    #[error("too large: more than {max_json_bytes} bytes as JSON")]
    TooLarge { max_json_bytes: usize },
}

// === impl DecodeError ===

impl DecodeError {
    /// Returns a fault at an offset in a message.
    pub(super) fn new(at: usize, cause: impl Into<DecodeCause>) -> Self {
        Self { cause: cause.into(), at, path: String::new() }
    }

    /// Returns `true` if the request exceeds a limit, so that it may be valid.
    pub fn is_limit(&self) -> bool {
        matches!(self.cause, DecodeCause::TooDeep | DecodeCause::TooManyParts | DecodeCause::TooLarge { .. })
    }

    /// Returns the fault as one of the outer message: in a field, or an element of it, whose content begins at `start`.
    #[cold]
    pub(super) fn inside(self, field: &str, element: Option<usize>, start: usize) -> Self {
        let element = element.map_or_else(String::new, |index| format!("[{index}]"));
        let separator = if self.path.is_empty() { "" } else { "." };
        let path = format!("{field}{element}{separator}{}", self.path);
        Self { at: start + self.at, path, ..self }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, at, path } = self;
        match path.get(..SHOWN_PATH) {
            _ if path.is_empty() => write!(f, "{cause}, at byte {at}"),
            Some(beginning) => write!(f, "{cause}, in {beginning}… at byte {at}"),
            None => write!(f, "{cause}, in {path} at byte {at}"),
        }
    }
}
