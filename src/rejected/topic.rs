//! Rejected input in a dead-letter topic, for relays that share a queue.

use std::time::SystemTime;

use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::{Input, Rejection};

/// A topic for rejected input.
pub(crate) trait DeadLetters: Send + Sync {
    /// Writes entries in the background; completes when each is acknowledged, or is kept elsewhere.
    fn keep(&self, time: SystemTime, entries: Vec<DeadLetter>) -> JoinHandle<()>;
}

/// An entry that outlives its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    receiver: String,
    position: Option<(u32, u32)>,
    reason: String,
    pub(crate) input: Vec<u8>,
    /// Length of an input whose bytes are not kept.
    withheld: Option<usize>,
}

// === impl DeadLetter ===

impl DeadLetter {
    /// Returns the members of an entry of the file, without the input, as headers.
    pub(crate) fn headers(&self, time: SystemTime) -> Vec<(&'static str, String)> {
        let time = Timestamp::try_from(time).unwrap_or_default().to_string();
        let mut headers =
            vec![("time", time), ("receiver", self.receiver.clone()), ("reason", self.reason.clone())];
        if let Some((line, column)) = self.position {
            headers.extend([("line", line.to_string()), ("column", column.to_string())]);
        }
        headers.extend(self.withheld.map(|length| ("length", length.to_string())));
        headers
    }

    pub(crate) fn as_rejection(&self) -> Rejection<'_> {
        let Self { receiver, position, reason, input, withheld } = self;
        let input = withheld.map_or(Input::Bytes(input), Input::Withheld);
        Rejection { receiver, position: *position, reason, input }
    }
}

impl From<Rejection<'_>> for DeadLetter {
    fn from(rejection: Rejection<'_>) -> Self {
        let Rejection { receiver, position, reason, input } = rejection;
        let (input, withheld) = match input {
            Input::Bytes(input) => (input.to_owned(), None),
            Input::Withheld(length) => (Vec::new(), Some(length)),
        };
        Self { receiver: receiver.to_owned(), position, reason: reason.to_owned(), input, withheld }
    }
}
