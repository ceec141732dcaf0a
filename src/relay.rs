//! Relay: processes one request from the reading of its body to the response.
//!
//! In: headers and bodies from the server. Out: an [`Answer`]; and for accepted requests, [`Work`] for the processor,
//! with the receipts of its items.
//! Promises: nothing is acknowledged before the queue has accepted it; a client that disconnects interrupts nothing,
//! because processing continues without it; every unit and every item is counted on every path.
//! Left to others: status codes (`server/reply.rs`), the meaning of bytes ([`crate::receiver`]), storage
//! ([`crate::queue`]).

mod acceptance;

mod answer;

mod converted;

mod declined;

mod feed;

mod keep;

mod lookups;

mod privacy;

mod rate_limit;

mod seen;

mod story;

mod observer;

#[cfg(feature = "kafka")]
mod shared;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::spawn_blocking;
use tracing::{Instrument, warn};

use self::acceptance::{Acceptance, BodyForm};
pub(crate) use self::answer::Answer;
use self::declined::LineLimits;
pub(crate) use self::declined::{Declined, LimitedCause};
use self::keep::Kept;
pub(crate) use self::lookups::PendingLookup;
use self::observer::RequestObserver;
pub(crate) use self::privacy::Privacy;
use self::privacy::Private;
pub(crate) use self::rate_limit::{RateLimit, Throttled};
use self::seen::Events;
use self::story::Story;
use crate::budget::{Budget, Charge, ChargedBody};
use crate::config::Encoding;
use crate::event::{KeptHeaders, QueueState, Transport};
use crate::processor::Work;
use crate::queue::{Offered, Progress, Queue, Record, Taken};
use crate::receiver::{self, Policy, Reading, Received, Receiver, Unauthorized};
use crate::rejected::RejectedLines;
use crate::telemetry::Metrics;
use crate::telemetry::traces::OwnSpan;

/// Largest body that is read in place: reading more takes so long (at about 1 GB/s) that it would delay other requests.
const READ_IN_PLACE_BYTES: usize = 128 * 1024;

/// Accepts requests for every configured receiver.
pub(crate) struct Relay {
    /// Replaced as a whole by a reload, with receivers in the same order: an index identifies the same receiver before
    /// and after.
    receivers: RwLock<Arc<[Instance]>>,
    queue: Queue,
    /// Unbounded, because every message holds receipts, whose records count against the limit of the queue.
    work: UnboundedSender<Vec<Work>>,
    seen: Arc<Events>,
    rejected: Arc<RejectedLines>,
    metrics: Metrics,
    inflight: Budget,
    /// `None` if bodies are kept as they are. Replaced by a reload.
    privacy: RwLock<Option<Arc<Privacy>>>,
    /// Limits of log lines about requests that were not accepted.
    limits: LineLimits,
    /// Unbounded like `work`: every message holds a record.
    lookups: Option<UnboundedSender<PendingLookup>>,
}

/// A configured receiver in the registry.
pub(crate) struct Instance {
    pub(crate) receiver: Arc<dyn Receiver>,
    /// `None` accepts all requests.
    pub(crate) rate_limit: Option<Arc<RateLimit>>,
}

/// A body that was read, with the parameters of the reading, the time of arrival, and the span of the request.
struct Arrival {
    index: ReceiverIndex,
    transport: Transport,
    received: SystemTime,
    form: BodyForm,
    headers: KeptHeaders,
    body: Kept,
    /// Charge of the body.
    charge: Charge,
    span: OwnSpan,
}

/// Encoding and transport of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestForm {
    pub(crate) encoding: Encoding,
    pub(crate) transport: Transport,
}

/// A configured receiver, by its index in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReceiverIndex(usize);

// === impl Relay ===

impl Relay {
    pub(crate) fn new(
        receivers: Vec<Instance>,
        queue: Queue,
        rejected: Arc<RejectedLines>,
        work: UnboundedSender<Vec<Work>>,
        metrics: Metrics,
        inflight: Budget,
    ) -> Self {
        let limits = LineLimits::new(receivers.iter().map(|instance| instance.receiver.id()));
        let receivers = RwLock::new(receivers.into());
        let (seen, privacy, lookups) = (Arc::default(), RwLock::default(), None);
        Self { receivers, queue, work, seen, rejected, metrics, inflight, privacy, limits, lookups }
    }

    /// Returns the receiver at this path.
    pub(crate) fn receiver_at(&self, path: &str) -> Option<ReceiverIndex> {
        self.registry().iter().position(|instance| instance.receiver.path() == path).map(ReceiverIndex)
    }

    /// Returns the receiver of a `POST` to the root: the first one of the source that the headers name.
    pub(crate) fn receiver_at_root(&self, headers: &HeaderMap) -> Option<ReceiverIndex> {
        let source = receiver::at_root(headers)?.name();
        let is_of_it = |instance: &Instance| instance.receiver.source().name() == source;
        self.registry().iter().position(is_of_it).map(ReceiverIndex)
    }

    /// Returns the policy by which the server treats the requests of a receiver.
    pub(crate) fn policy(&self, receiver: ReceiverIndex) -> Policy {
        Policy::of(&*self.receiver(receiver))
    }

    /// Checks by the headers alone whether a request may send data.
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

    /// Verifies the signature of a body over the bytes as they were received.
    pub(crate) fn verify(
        &self,
        index: ReceiverIndex,
        headers: &HeaderMap,
        wire: &[u8],
    ) -> Result<(), Unauthorized> {
        let receiver = self.receiver(index);
        receiver.verify(headers, wire).inspect_err(|refusal| self.unauthorized(index, &*receiver, *refusal))
    }

    /// Returns the configured id of a receiver, which labels its metrics.
    pub(crate) fn receiver_id(&self, index: ReceiverIndex) -> String {
        self.receiver(index).id().to_owned()
    }

    /// Reads the decoded body and offers it to the queue. Continues to the end even when the caller is dropped because
    /// the client disconnects. Log lines carry the id of the request.
    pub(crate) async fn receive(
        self: &Arc<Self>,
        receiver: ReceiverIndex,
        form: RequestForm,
        headers: &HeaderMap,
        body: ChargedBody,
        span: &OwnSpan,
    ) -> Answer {
        let headers = receiver::kept_headers(&*self.receiver(receiver), headers);
        let story = Arc::clone(self).take(receiver, form, headers, body, span.clone());
        Story::new(story.in_current_span()).await
    }

    async fn take(
        self: Arc<Self>,
        index: ReceiverIndex,
        RequestForm { encoding, transport }: RequestForm,
        headers: KeptHeaders,
        ChargedBody { bytes: body, mut charge }: ChargedBody,
        span: OwnSpan,
    ) -> Answer {
        let received = now();
        let size_bytes = body.len();
        let privacy = self.privacy();
        // All from the same receiver, because a reload may replace it in between.
        let read = move |receiver: &dyn Receiver, body: &Bytes| {
            let received = receiver.receive(body, encoding, &headers);
            let Some(privacy) = privacy else {
                let Received { kept, parameters, reading } = received;
                return (Kept::from(kept), reading, BodyForm::AsSent(parameters), headers);
            };
            let Private { body, units, reading } = privacy.scrub(receiver, encoding, body, received);
            (body, reading, BodyForm::Converted(units), KeptHeaders::default())
        };
        let (body, reading, form, headers) = self.read_in_place_or_blocking(index, body, read).await;
        charge.set(body.bytes.len() as u64);
        let receiver = self.receiver(index);
        let arrival = Arrival { index, transport, received, form, headers, body, charge, span };
        let mut observer = RequestObserver::begin(&self, &*receiver, &arrival, &reading, size_bytes);
        let answer = self.settle(arrival, reading, &mut observer).await;
        observer.finish(&answer);
        answer
    }

    /// Handles a request after its body was read: duplicates, the queue, the response.
    async fn settle(
        self: &Arc<Self>,
        arrival: Arrival,
        mut reading: Reading,
        observer: &mut RequestObserver<'_>,
    ) -> Answer {
        let Arrival { index, received, ref body, .. } = arrival;
        if let Some(reason) = reading.ignored {
            self.keep_rejected(index, received, body, &reading).await;
            return Answer::Ignored(reason);
        }
        if reading.items.is_empty() {
            self.keep_rejected(index, received, body, &reading).await;
            return match reading.rejected.is_empty() {
                true => Answer::Empty,
                false if reading.is_foreign => Answer::Partial { accepted: 0, rejected: reading.rejected },
                false => Answer::Unusable { rejected: reading.rejected },
            };
        }
        #[cfg(feature = "kafka")]
        if let Some(queue) = self.queue.shared() {
            return self.share(queue, arrival, reading, observer).await;
        }
        let Arrival { form, headers, body, charge, span, .. } = arrival;
        let claim = match &reading.event_id {
            None => None,
            Some(id) => {
                let Some(claim) = self.seen.claim(index.0, id).await else { return Answer::Duplicate };
                Some(claim)
            }
        };
        let acceptance = Acceptance::new(form, &reading);
        let record = Record {
            receiver: Arc::from(self.receiver(index).id()),
            received,
            reading: acceptance.encode(),
            headers,
            body: body.bytes.clone(),
        };
        let offer = self.metrics.traces.part_of(&span, "queue offer");
        let offered = self.queue.offer(record).await;
        offer.end();
        match offered {
            Err(refusal) => {
                offer.failed(refusal.kind(), &refusal.to_string());
                self.unavailable(index, &refusal)
            }
            Ok(offered) => {
                // Only now: if the queue had rejected the record, the sender would retry with the same id.
                if let Some(claim) = claim {
                    claim.accepted();
                }
                // Only now: a sender that is rejected and retries would otherwise add the same lines each time.
                self.keep_rejected(index, received, &body, &reading).await;
                let accepted = reading.items.len();
                observer.queued(offered.record());
                if let Offered::Live(mut taken) = offered {
                    taken.caused_by(span.cause());
                    taken.keep(charge);
                    taken.resume(Progress::new(acceptance.fingerprint));
                    let work = self.work_of(index, &mut taken, received, &mut reading);
                    self.begin_lookup(index, &taken, &body.event, received);
                    self.send_work(taken, work);
                }
                match reading.rejected.is_empty() {
                    true => Answer::Accepted,
                    false => Answer::Partial { accepted, rejected: reading.rejected },
                }
            }
        }
    }

    /// Has a receiver read a body, on a blocking thread if the body is large.
    async fn read_in_place_or_blocking<T: Send + 'static>(
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

    /// Notes the memory of held spans and log records, in bytes.
    pub(crate) fn holds(&self, bytes: usize) {
        self.queue.holds(bytes as u64);
    }

    /// Stores what is settled and closes the queue's files.
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
    fn send_work(&self, taken: Taken, work: Vec<Work>) {
        taken.seal();
        if !work.is_empty() && self.work.send(work).is_err() {
            // The receipts are dropped unsettled, so that a durable queue keeps the record.
            warn!("record accepted after the processor stopped");
        }
    }

    /// Returns an error with the reason while data cannot be accepted.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let state = self.queue.state();
        if self.work.is_closed() {
            let reason = "the processor or the exporter has stopped; see the log, then restart the relay";
            return Err(reason.to_owned());
        }
        if let Some(reason) = &state.failure {
            return Err(format!("the queue cannot write: {reason}"));
        }
        if state.is_full() {
            let (kept, capacity) = (state.kept_bytes, state.capacity_bytes);
            return Err(format!("the queue is full: {kept} of {capacity} bytes are in use"));
        }
        Ok(())
    }

    /// Returns the usage of the queue, and the age of its oldest record.
    pub(crate) fn queue_state(&self) -> QueueState {
        self.queue.state()
    }

    /// Replaces receivers by those with the same ids and new settings. Requests in progress finish with either.
    pub(crate) fn replace(&self, receivers: Vec<Instance>) {
        let mut registry = self.receivers.write().unwrap_or_else(PoisonError::into_inner);
        let same = registry.len() == receivers.len()
            && registry.iter().zip(&receivers).all(|(old, new)| old.receiver.id() == new.receiver.id());
        assert!(same, "a reload keeps the order of receivers");
        let limits = registry.iter().map(|old| old.rate_limit.clone());
        *registry = receivers
            .into_iter()
            .zip(limits)
            .map(|(new, rate_limit)| Instance { rate_limit, ..new })
            .collect();
    }

    /// Replaces the rules by which bodies are scrubbed.
    pub(crate) fn set_privacy(&self, privacy: Option<Privacy>) {
        *self.privacy.write().unwrap_or_else(PoisonError::into_inner) = privacy.map(Arc::new);
    }

    /// Returns whether accepted events are in the queue after a restart, as they were sent.
    pub(crate) fn keeps_events(&self) -> bool {
        self.queue.outlives_the_process() && self.privacy().is_none()
    }

    fn privacy(&self) -> Option<Arc<Privacy>> {
        self.privacy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn registry(&self) -> Arc<[Instance]> {
        Arc::clone(&self.receivers.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn receiver(&self, index: ReceiverIndex) -> Arc<dyn Receiver> {
        Arc::clone(&self.registry()[index.0].receiver)
    }
}

/// The only clock before the queue.
#[expect(clippy::disallowed_methods, reason = "the clock is read here only")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
