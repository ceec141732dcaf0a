//! The story of one request: who sent it, what it holds, whether the queue takes it, what the sender is told.
//!
//! In: headers and bodies from the front door. Out: an [`Answer`]; and for what was taken, [`Work`] for the processor,
//! each piece with the receipt that its queue record waits for.
//! Promises: nothing is acknowledged before the queue has it; a sender that hangs up tears nothing, because the
//! story goes on without it; every line and every item is counted on every path.
//! Leaves to others: status codes (`server/reply.rs`), what bytes mean ([`crate::receiver`]), where they stay
//! ([`crate::queue`]).

mod account;

mod seen;

mod watched;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

use self::account::Account;
use self::seen::SeenEvents;
use self::watched::Watched;
use crate::otlp::Signal;
use crate::processor::Work;
use crate::queue::{MemoryQueue, OfferError, QueueState, Record, Taken};
use crate::receiver::{Ignored, Item, Reading, Receiver, Rejected, Unauthorized};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::WebhookOutcome;

/// Reading more than this takes so long (about 1 GB/s) that other requests would notice.
const READ_IN_PLACE_BYTES: usize = 128 * 1024;

/// What a sender is told to wait when the queue is full.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Takes requests for every configured receiver.
pub(crate) struct Relay {
    receivers: Vec<Instance>,
    queue: MemoryQueue,
    /// Needs no bound of its own: every message holds receipts of records that count against the queue's.
    work: UnboundedSender<Vec<Work>>,
    seen: Mutex<SeenEvents>,
    metrics: Metrics,
}

/// A configured receiver in the registry.
pub(crate) struct Instance {
    /// `fastly`, `circleci`: the part of the id before the slash.
    pub(crate) kind: &'static str,
    pub(crate) receiver: Box<dyn Receiver>,
}

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

// === impl Relay ===

impl Relay {
    pub(crate) fn new(
        receivers: Vec<Instance>,
        queue: MemoryQueue,
        work: UnboundedSender<Vec<Work>>,
        metrics: Metrics,
    ) -> Self {
        Self { receivers, queue, work, seen: Mutex::new(SeenEvents::default()), metrics }
    }

    /// The receiver that takes requests on this path.
    pub(crate) fn receiver_at(&self, path: &str) -> Option<ReceiverIndex> {
        self.receivers.iter().position(|instance| instance.receiver.path() == path).map(ReceiverIndex)
    }

    /// The first configured receiver of a kind (`fastly`, `circleci`), for `POST /`.
    pub(crate) fn receiver_of_kind(&self, kind: &str) -> Option<ReceiverIndex> {
        self.receivers.iter().position(|instance| instance.kind == kind).map(ReceiverIndex)
    }

    /// The kind of a receiver: `fastly`, `circleci`.
    pub(crate) fn kind(&self, receiver: ReceiverIndex) -> &'static str {
        self.receivers[receiver.0].kind
    }

    /// Whether the sender may come in, by its headers alone.
    pub(crate) fn admit(&self, receiver: ReceiverIndex, headers: &HeaderMap) -> Result<(), Unauthorized> {
        let receiver = self.receiver(receiver);
        receiver.admit(headers).inspect_err(|refusal| self.turned_away(receiver, *refusal))
    }

    /// Whether the body as it came over the wire is authentic.
    pub(crate) fn verify(
        &self,
        receiver: ReceiverIndex,
        headers: &HeaderMap,
        wire: &[u8],
    ) -> Result<(), Unauthorized> {
        let receiver = self.receiver(receiver);
        receiver.verify(headers, wire).inspect_err(|refusal| self.turned_away(receiver, *refusal))
    }

    /// Whether somebody looks at the inspector.
    pub(crate) fn is_watched(&self) -> bool {
        self.metrics.inspector.watching().is_some()
    }

    /// A request was turned away before its reading, or found no receiver at all; only the inspector is told.
    pub(crate) fn turned_away_at_the_door(
        &self,
        receiver: Option<ReceiverIndex>,
        reason: String,
        advice: Option<&'static str>,
    ) {
        let receiver = receiver.map(|receiver| self.receiver(receiver));
        watched::turned_away(&self.metrics.inspector, receiver, reason, advice);
    }

    /// Reads the decoded body and offers it to the queue. Goes on to the end even when the caller is dropped, as it
    /// is when the sender hangs up.
    pub(crate) async fn receive(self: &Arc<Self>, receiver: ReceiverIndex, body: Bytes) -> Answer {
        let story = tokio::spawn(Arc::clone(self).take(receiver, body));
        match story.await {
            Ok(answer) => answer,
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }

    async fn take(self: Arc<Self>, index: ReceiverIndex, body: Bytes) -> Answer {
        let reading = if body.len() > READ_IN_PLACE_BYTES {
            let (relay, body) = (Arc::clone(&self), body.clone());
            match tokio::task::spawn_blocking(move || relay.receiver(index).read(&body)).await {
                Ok(reading) => reading,
                Err(failure) => std::panic::resume_unwind(failure.into_panic()),
            }
        } else {
            self.receiver(index).read(&body)
        };
        let receiver = self.receiver(index);
        let account = Account::new(&self.metrics, receiver.id(), &reading, body.len());
        let mut watched = Watched::begin(&self.metrics.inspector, receiver, &body, &reading);
        let answer = self.settle(index, body, reading, &account, &mut watched);
        watched.answered(&answer);
        answer
    }

    /// Everything after the reading: duplicates, the queue, the answer.
    fn settle(
        &self,
        index: ReceiverIndex,
        body: Bytes,
        reading: Reading,
        account: &Account<'_>,
        watched: &mut Watched<'_>,
    ) -> Answer {
        let event = reading.event_id.as_deref().map(|id| SeenEvents::key(index.0, id));
        if let Some(reason) = reading.ignored {
            account.webhook(WebhookOutcome::Ignored);
            account.log_ignored(reason);
            return Answer::Ignored(reason);
        }
        if reading.items.is_empty() {
            account.rejected(&reading.rejected);
            return match reading.rejected.is_empty() {
                true => Answer::Accepted,
                false => Answer::Unusable { rejected: reading.rejected },
            };
        }
        if let Some(event) = event
            && self.lock_seen().contains(event, Instant::now())
        {
            account.webhook(WebhookOutcome::Duplicate);
            return Answer::Accepted;
        }
        let receiver = Arc::from(self.receiver(index).id());
        match self.queue.offer(&Record { receiver, body }) {
            Err(refusal) => {
                account.refused(&reading.items);
                account.webhook(WebhookOutcome::Refused);
                warn!(receiver = account.receiver, reason = %refusal, "refused");
                refused(&refusal)
            }
            Ok(taken) => {
                watched.taken(taken.id());
                // Only now: had the queue refused it, the sender would come again with the same id.
                if let Some(event) = event {
                    self.lock_seen().insert(event, Instant::now());
                }
                account.accepted(&reading);
                let accepted = reading.items.len();
                self.hand_on(taken, reading.items);
                match reading.rejected.is_empty() {
                    true => Answer::Accepted,
                    false => Answer::Partial { accepted, rejected: reading.rejected },
                }
            }
        }
    }

    /// Gives every document of the record its receipt and passes them to the processor.
    fn hand_on(&self, taken: Taken, items: Vec<Item>) {
        let work: Vec<Work> = items
            .into_iter()
            .map(|item| Work {
                traces: item.traces.map(|traces| {
                    let receipt = taken.receipt(Signal::Traces, traces.span_count());
                    (traces, receipt)
                }),
                logs: item.logs.map(|logs| {
                    let receipt = taken.receipt(Signal::Logs, logs.record_count());
                    (logs, receipt)
                }),
                metrics: item.metrics.map(|metrics| {
                    let receipt = taken.receipt(Signal::Metrics, metrics.point_count());
                    (metrics, receipt)
                }),
            })
            .collect();
        taken.seal();
        if self.work.send(work).is_err() {
            // The receipts were dropped unsettled: what a queue keeps it still has.
            warn!("taken after the processor had stopped");
        }
    }

    /// Whether data can be taken now, else why not.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let QueueState { kept_bytes, capacity_bytes, .. } = self.queue.state();
        if kept_bytes >= capacity_bytes {
            return Err(format!("the queue is full: {kept_bytes} of {capacity_bytes} bytes are in use"));
        }
        Ok(())
    }

    /// How full the queue is, and for how long.
    pub(crate) fn queue_state(&self) -> QueueState {
        self.queue.state()
    }

    fn receiver(&self, index: ReceiverIndex) -> &dyn Receiver {
        &*self.receivers[index.0].receiver
    }

    fn turned_away(&self, receiver: &dyn Receiver, refusal: Unauthorized) {
        account::turned_away(&self.metrics, receiver, refusal);
        watched::unauthorized(&self.metrics.inspector, receiver, refusal);
    }

    fn lock_seen(&self) -> std::sync::MutexGuard<'_, SeenEvents> {
        self.seen.lock().expect("nothing panics while it holds the lock")
    }
}

fn refused(refusal: &OfferError) -> Answer {
    match refusal {
        OfferError::Full { .. } => Answer::Unavailable {
            reason: "the queue is full; the same request can be sent again".to_owned(),
            retry_after_seconds: RETRY_AFTER_SECONDS,
        },
        OfferError::NeverFits { .. } => Answer::TooLarge {
            reason: "the request is larger than the whole queue (queue.max_size)".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests;
