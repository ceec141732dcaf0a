//! The story of one request: who sent it, what it holds, whether the queue takes it, what the sender is told.
//!
//! In: headers and bodies from the front door. Out: an [`Answer`]; and for what was taken, [`Work`] for the processor,
//! each piece with the receipt that its queue record waits for.
//! Promises: nothing is acknowledged before the queue has it; a sender that hangs up tears nothing, because the
//! story goes on without it; every line and every item is counted on every path.
//! Leaves to others: status codes (`server/reply.rs`), what bytes mean ([`crate::receiver`]), where they stay
//! ([`crate::queue`]).

mod acceptance;

mod account;

mod declined;

mod feed;

mod rate_limit;

mod seen;

mod watched;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::spawn_blocking;
use tracing::{Instrument, warn};

use self::acceptance::Acceptance;
use self::account::Account;
use self::declined::Limits;
pub(crate) use self::declined::{Cause, Declined};
pub(crate) use self::rate_limit::{RateLimit, Throttled};
use self::seen::Events;
use self::watched::Watched;
use crate::config::Encoding;
use crate::event::{QueueState, SourceKind};
use crate::processor::Work;
use crate::queue::{OfferError, Offered, Progress, Queue, Record, Taken};
use crate::receiver::{Ignored, Reading, Received, Receiver, Rejected, Unauthorized};
use crate::rejected::{RejectedLines, Rejection};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::WebhookOutcome;
use crate::telemetry::traces::OwnSpan;

/// Reading more than this takes so long (about 1 GB/s) that other requests would notice.
const READ_IN_PLACE_BYTES: usize = 128 * 1024;

/// Takes requests for every configured receiver.
pub(crate) struct Relay {
    /// As a whole replaced by a reload, one for one: an index means the same receiver before and after.
    receivers: RwLock<Arc<[Instance]>>,
    queue: Queue,
    /// Needs no bound of its own: every message holds receipts of records that count against the queue's.
    work: UnboundedSender<Vec<Work>>,
    seen: Arc<Events>,
    rejected: Arc<RejectedLines>,
    metrics: Metrics,
    /// Limits of the log lines about requests that were not accepted.
    limits: Limits,
}

/// A configured receiver in the registry.
pub(crate) struct Instance {
    pub(crate) kind: SourceKind,
    pub(crate) receiver: Arc<dyn Receiver>,
    /// Absent: it takes all requests.
    pub(crate) rate_limit: Option<Arc<RateLimit>>,
}

/// A body that was read, the parameters of the reading, when it came, and the span of the request that it came with.
struct Arrival {
    index: ReceiverIndex,
    received: SystemTime,
    parameters: Bytes,
    body: Bytes,
    span: OwnSpan,
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
        queue: Queue,
        rejected: Arc<RejectedLines>,
        work: UnboundedSender<Vec<Work>>,
        metrics: Metrics,
    ) -> Self {
        let limits = Limits::new(receivers.iter().map(|instance| instance.receiver.id()));
        let receivers = RwLock::new(receivers.into());
        Self { receivers, queue, work, seen: Arc::default(), rejected, metrics, limits }
    }

    /// The receiver that takes requests on this path.
    pub(crate) fn receiver_at(&self, path: &str) -> Option<ReceiverIndex> {
        self.registry().iter().position(|instance| instance.receiver.path() == path).map(ReceiverIndex)
    }

    /// The first configured receiver of a kind, for `POST /`.
    pub(crate) fn receiver_of_kind(&self, kind: SourceKind) -> Option<ReceiverIndex> {
        self.registry().iter().position(|instance| instance.kind == kind).map(ReceiverIndex)
    }

    /// The kind of a receiver.
    pub(crate) fn kind(&self, receiver: ReceiverIndex) -> SourceKind {
        self.registry()[receiver.0].kind
    }

    /// Checks by its headers alone whether a request may send data.
    pub(crate) fn admit(&self, index: ReceiverIndex, headers: &HeaderMap) -> Result<(), Unauthorized> {
        let receiver = self.receiver(index);
        receiver.admit(headers).inspect_err(|refusal| self.unauthorized(index, &*receiver, *refusal))
    }

    /// Checks the receiver's rate limit for a request that was admitted.
    pub(crate) fn throttle(&self, index: ReceiverIndex) -> Result<(), Throttled> {
        let registry = self.registry();
        let Instance { rate_limit, receiver, .. } = &registry[index.0];
        let Some(limit) = rate_limit else { return Ok(()) };
        let taken = limit.take(Instant::now());
        taken.inspect_err(|refusal| self.throttled(index, &**receiver, *refusal))
    }

    /// Verifies the signature of a body over the bytes that came over the wire.
    pub(crate) fn verify(
        &self,
        index: ReceiverIndex,
        headers: &HeaderMap,
        wire: &[u8],
    ) -> Result<(), Unauthorized> {
        let receiver = self.receiver(index);
        receiver.verify(headers, wire).inspect_err(|refusal| self.unauthorized(index, &*receiver, *refusal))
    }

    /// The configured name of a receiver, which labels its metrics.
    pub(crate) fn receiver_id(&self, index: ReceiverIndex) -> String {
        self.receiver(index).id().to_owned()
    }

    /// Reads the decoded body and offers it to the queue. Goes on to the end even when the caller is dropped, as it
    /// is when the sender hangs up. What it logs bears the request's id.
    pub(crate) async fn receive(
        self: &Arc<Self>,
        receiver: ReceiverIndex,
        encoding: Encoding,
        body: Bytes,
        span: &OwnSpan,
    ) -> Answer {
        let story = Arc::clone(self).take(receiver, encoding, body, span.clone());
        let story = tokio::spawn(story.in_current_span());
        match story.await {
            Ok(answer) => answer,
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }

    async fn take(
        self: Arc<Self>,
        index: ReceiverIndex,
        encoding: Encoding,
        body: Bytes,
        span: OwnSpan,
    ) -> Answer {
        let received = now();
        let size_bytes = body.len();
        // Of one receiver: a reload may replace it in between.
        let read = move |receiver: &dyn Receiver, body: &Bytes| {
            (receiver.receive(body, encoding), receiver.parameters())
        };
        let (Received { kept: body, reading }, parameters) = self.in_place_or_aside(index, body, read).await;
        let receiver = self.receiver(index);
        let admit_line = |cause| self.limits.admit(Some(index), cause);
        let account = Account::new(&self.metrics, &admit_line, &*receiver, &reading, size_bytes);
        let mut watched = Watched::begin(&self.metrics.inspector, &*receiver, &body, &reading);
        span.text("spanrelay.receiver", receiver.id());
        span.number("spanrelay.lines.rejected", Rejected::units(&reading.rejected));
        let arrival = Arrival { index, received, parameters, body, span };
        let answer = self.settle(arrival, reading, &account, &mut watched).await;
        watched.answered(&answer);
        answer
    }

    /// Everything after the reading: duplicates, the queue, the answer.
    async fn settle(
        self: &Arc<Self>,
        arrival: Arrival,
        mut reading: Reading,
        account: &Account<'_>,
        watched: &mut Watched<'_>,
    ) -> Answer {
        let Arrival { index, received, parameters, body, span } = arrival;
        if let Some(reason) = reading.ignored {
            self.keep_rejected(index, received, &body, &reading).await;
            account.webhook(WebhookOutcome::Ignored);
            account.log_ignored(reason);
            return Answer::Ignored(reason);
        }
        if reading.items.is_empty() {
            self.keep_rejected(index, received, &body, &reading).await;
            account.rejected(&reading.rejected);
            return match reading.rejected.is_empty() {
                true => Answer::Accepted,
                false if reading.is_foreign => Answer::Partial { accepted: 0, rejected: reading.rejected },
                false => Answer::Unusable { rejected: reading.rejected },
            };
        }
        let claim = match &reading.event_id {
            None => None,
            Some(id) => {
                let Some(claim) = self.seen.claim(index.0, id).await else {
                    account.webhook(WebhookOutcome::Duplicate);
                    return Answer::Accepted;
                };
                Some(claim)
            }
        };
        let acceptance = Acceptance::new(parameters, &reading);
        let record = Record {
            receiver: Arc::from(self.receiver(index).id()),
            received,
            reading: acceptance.encode(),
            body: body.clone(),
        };
        let offer = self.metrics.traces.part_of(&span, "queue offer");
        let offered = self.queue.offer(record).await;
        offer.end();
        match offered {
            Err(refusal) => {
                offer.failed(refusal.kind(), &refusal.to_string());
                account.refused(&reading.items);
                account.webhook(WebhookOutcome::Refused);
                self.log_declined(Some(index), Some(account.receiver), &Declined::by_the_queue(&refusal));
                self.refused(&refusal)
            }
            Ok(offered) => {
                // Only now: had the queue refused it, the sender would come again with the same id.
                if let Some(claim) = claim {
                    claim.taken();
                }
                // And only now, or a sender that is refused would leave the same lines again and again.
                self.keep_rejected(index, received, &body, &reading).await;
                account.accepted(&reading);
                let accepted = reading.items.len();
                span.number("spanrelay.lines.accepted", accepted);
                watched.taken(offered.record());
                if let Offered::Live(mut taken) = offered {
                    taken.caused_by(span.cause());
                    taken.resume(Progress::new(acceptance.fingerprint));
                    let work = self.work_of(index, &mut taken, received, &mut reading);
                    self.hand_on(taken, work);
                }
                match reading.rejected.is_empty() {
                    true => Answer::Accepted,
                    false => Answer::Partial { accepted, rejected: reading.rejected },
                }
            }
        }
    }

    /// Lets a receiver read a body: here, or on a thread for work that takes its time.
    async fn in_place_or_aside<T: Send + 'static>(
        self: &Arc<Self>,
        index: ReceiverIndex,
        body: Bytes,
        read: impl FnOnce(&dyn Receiver, &Bytes) -> T + Send + 'static,
    ) -> T {
        if body.len() <= READ_IN_PLACE_BYTES {
            return read(&*self.receiver(index), &body);
        }
        let relay = Arc::clone(self);
        match spawn_blocking(move || read(&*relay.receiver(index), &body)).await {
            Ok(reading) => reading,
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }

    /// Writes what was rejected to the rejected lines, before the sender gets its response.
    async fn keep_rejected(
        self: &Arc<Self>,
        index: ReceiverIndex,
        received: SystemTime,
        body: &Bytes,
        reading: &Reading,
    ) {
        let whole = reading.ignored.map(|reason| (reason.as_str(), body.clone()));
        self.write_rejected(index, received, whole, reading.rejected.clone()).await;
    }

    /// Writes a whole body with a reason, and parts of one, to the rejected lines.
    async fn write_rejected(
        self: &Arc<Self>,
        index: ReceiverIndex,
        received: SystemTime,
        whole: Option<(&'static str, Bytes)>,
        rejected: Vec<Rejected>,
    ) {
        if whole.is_none() && rejected.is_empty() {
            return;
        }
        let relay = Arc::clone(self);
        let written = spawn_blocking(move || {
            let receiver = relay.receiver(index);
            let receiver = receiver.id();
            let whole =
                whole.iter().map(|(reason, body)| Rejection { receiver, place: None, reason, input: body });
            let parts = rejected.iter().map(|rejected| Rejection {
                receiver,
                place: Some((rejected.line, rejected.column)),
                reason: &rejected.reason,
                input: &rejected.input,
            });
            relay.rejected.write(received, whole.chain(parts));
        });
        if let Err(failure) = written.await {
            std::panic::resume_unwind(failure.into_panic());
        }
    }

    /// Notes what is settled and lets go of the queue's files.
    pub(crate) async fn close(&self) {
        self.queue.close().await;
    }

    /// Makes work of a reading: every document gets its part of the record.
    fn work_of(
        &self,
        index: ReceiverIndex,
        taken: &mut Taken,
        received: SystemTime,
        reading: &mut Reading,
    ) -> Vec<Work> {
        if let Some(id) = reading.event_id.take() {
            let seen = Arc::clone(&self.seen);
            taken.on_rejected(move || seen.forget(index.0, &id));
        }
        reading.items.iter_mut().for_each(|item| item.set_arrival(received));
        let mut work = Work::of(taken, std::mem::take(&mut reading.items));
        work.iter_mut().for_each(|work| work.supersede.clone_from(&reading.supersede));
        work
    }

    /// Passes the items of a record to the processor.
    fn hand_on(&self, taken: Taken, work: Vec<Work>) {
        taken.seal();
        if !work.is_empty() && self.work.send(work).is_err() {
            // The receipts were dropped unsettled: what a queue keeps it still has.
            warn!("taken after the processor had stopped");
        }
    }

    /// Whether data can be taken now, else why not.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let QueueState { kept_bytes, capacity_bytes, failure, full, .. } = self.queue.state();
        if self.work.is_closed() {
            return Err("nothing can leave any more; only a restart helps, the log says why".to_owned());
        }
        if let Some(reason) = failure {
            return Err(format!("the queue cannot write: {reason}"));
        }
        if full || kept_bytes >= capacity_bytes {
            return Err(format!("the queue is full: {kept_bytes} of {capacity_bytes} bytes are in use"));
        }
        Ok(())
    }

    /// How full the queue is, and for how long.
    pub(crate) fn queue_state(&self) -> QueueState {
        self.queue.state()
    }

    /// Puts receivers with new settings in the place of those with the same ids. Requests in progress end with those
    /// that they began with, or go on with the new ones.
    pub(crate) fn replace(&self, receivers: Vec<Instance>) {
        let mut registry = self.receivers.write().unwrap_or_else(PoisonError::into_inner);
        let same = registry.len() == receivers.len()
            && registry.iter().zip(&receivers).all(|(old, new)| old.receiver.id() == new.receiver.id());
        assert!(same, "a reload changes no receiver's place");
        let limits = registry.iter().map(|old| old.rate_limit.clone());
        *registry = receivers
            .into_iter()
            .zip(limits)
            .map(|(new, rate_limit)| Instance { rate_limit, ..new })
            .collect();
    }

    fn registry(&self) -> Arc<[Instance]> {
        Arc::clone(&self.receivers.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn receiver(&self, index: ReceiverIndex) -> Arc<dyn Receiver> {
        Arc::clone(&self.registry()[index.0].receiver)
    }

    fn refused(&self, refusal: &OfferError) -> Answer {
        let reason = match refusal {
            OfferError::Full { .. } => "the queue is full; the same request can be sent again",
            OfferError::Unwritable { .. } => "the queue cannot write now; the same request can be sent again",
            OfferError::NeverFits { .. } => {
                let reason = "the request is larger than the whole queue (queue.max_size)".to_owned();
                return Answer::TooLarge { reason };
            }
        };
        Answer::Unavailable {
            reason: reason.to_owned(),
            retry_after_seconds: self.queue.retry_after_seconds(),
        }
    }
}

/// The one clock of the way in.
#[expect(clippy::disallowed_methods, reason = "here is where the clock is read")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
