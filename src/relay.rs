//! The story of one request: who sent it, what it holds, whether the queue takes it, what the sender is told.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use crate::receiver::{Ignored, Rejected, Unauthorized};

/// Takes requests for every configured receiver.
pub(crate) struct Relay {}

/// A configured receiver, by its place in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReceiverIndex(usize);

/// What the sender of a request is told. The status code of each is `server/reply.rs`'s business.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All of it was taken (or it was empty, or had been taken before).
    Accepted,
    /// A part was taken.
    Partial { accepted: usize, rejected: Vec<Rejected> },
    /// None of it could be used.
    Unusable { rejected: Vec<Rejected> },
    /// Authentic, and of no use to a relay.
    Ignored(Ignored),
    /// Nothing was taken; the sender may come again after so many seconds.
    Unavailable { reason: String, retry_after_seconds: u64 },
    /// Nothing was taken, and the same request can never be.
    TooLarge { reason: String },
}

#[allow(unused_variables, clippy::todo, dead_code)] // replaced by the real relay
impl Relay {
    /// The receiver that takes requests on this path.
    pub(crate) fn receiver_at(&self, path: &str) -> Option<ReceiverIndex> {
        todo!()
    }

    /// The first configured receiver of a kind (`fastly`, `circleci`), for `POST /`.
    pub(crate) fn receiver_of_kind(&self, kind: &str) -> Option<ReceiverIndex> {
        todo!()
    }

    /// Whether the sender may come in, by its headers alone.
    pub(crate) fn admit(&self, receiver: ReceiverIndex, headers: &HeaderMap) -> Result<(), Unauthorized> {
        todo!()
    }

    /// Whether the body as it came over the wire is authentic.
    pub(crate) fn verify(
        &self,
        receiver: ReceiverIndex,
        headers: &HeaderMap,
        wire: &[u8],
    ) -> Result<(), Unauthorized> {
        todo!()
    }

    /// Reads the decoded body and offers it to the queue. Goes on to the end even when the caller is dropped.
    pub(crate) async fn receive(self: &Arc<Self>, receiver: ReceiverIndex, body: Bytes) -> Answer {
        todo!()
    }

    /// Whether data can be taken now, else why not.
    pub(crate) fn ready(&self) -> Result<(), String> {
        todo!()
    }
}
