//! The body of an answer: there already, as nearly always, or still on its way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::oneshot;

/// Comes in one piece, or breaks off.
#[derive(Debug)]
pub(in crate::exporter) struct AnswerBody {
    whole: Whole,
}

#[derive(Debug)]
enum Whole {
    /// Absent once it was given away.
    Here(Option<Bytes>),
    Coming(oneshot::Receiver<Bytes>),
}

/// The connection ended within it.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(in crate::exporter) struct BrokenOff;

// === impl AnswerBody ===

impl AnswerBody {
    pub(super) fn whole(body: Bytes) -> Self {
        Self { whole: Whole::Here(Some(body)) }
    }

    pub(super) fn coming(rest: oneshot::Receiver<Bytes>) -> Self {
        Self { whole: Whole::Coming(rest) }
    }

    /// One whose rest will not come.
    pub(super) fn broken() -> Self {
        Self::coming(oneshot::channel().1)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let body = match &mut self.whole {
            Whole::Here(body) => body.take().map(Ok),
            Whole::Coming(rest) => Some(ready!(Pin::new(rest).poll(cx)).map_err(|_| BrokenOff)),
        };
        self.whole = Whole::Here(None);
        Poll::Ready(body.map(|body| body.map(Frame::data)))
    }
}
