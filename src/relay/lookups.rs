//! Lookups: further spans of an event, which its sender's API has.
//!
//! In: accepted records, on arrival and when they are read again. Out: a [`PendingLookup`] for each event that its receiver has a
//! lookup for; then the spans that were found, as a record of their own.
//! Promises: a record whose lookup is pending stays in the queue, so that the lookup is repeated after a restart; the spans are
//! stored before that record may leave. Nothing else waits for a lookup: neither the response nor the event's own span.
//! Left to others: the requests (steps).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use super::acceptance::{self, Acceptance, BodyForm};
use super::keep::Kept;
use super::observer::{RequestReport, counts};
use super::{Answer, ReceiverIndex, Relay, now};
use crate::config::Encoding;
use crate::event::{KeptHeaders, Signal, Transport, WebhookEvent};
use crate::queue::{OfferError, Offered, Progress, Record, RecordHold, Taken};
use crate::receiver::{Lookup, Received};

/// Name of the result of a lookup in the inspector.
const FOUND: WebhookEvent = WebhookEvent::new("steps");

/// A lookup that is due. Dropping it leaves its record in the queue.
#[derive(Debug)]
pub(crate) struct PendingLookup {
    index: ReceiverIndex,
    event: Bytes,
    /// Time since the event arrived.
    age: Duration,
    hold: RecordHold,
}

impl Relay {
    /// Passes the lookups of accepted events to a channel. Without one, nothing is looked up.
    pub(crate) fn with_lookups(self, lookups: UnboundedSender<PendingLookup>) -> Self {
        Self { lookups: Some(lookups), ..self }
    }

    /// Begins the lookup for a record, if its receiver has one. Must be called before the record is sealed.
    pub(super) fn begin_lookup(
        &self,
        index: ReceiverIndex,
        taken: &Taken,
        event: &Bytes,
        received: SystemTime,
    ) {
        let Some(lookups) = &self.lookups else { return };
        if self.receiver(index).lookup(event).is_none() {
            return;
        }
        // If the clock was set back, no time has passed.
        let age = now().duration_since(received).unwrap_or_default();
        // After the receiver has stopped, the record stays in the queue.
        drop(lookups.send(PendingLookup { index, event: event.clone(), age, hold: taken.hold() }));
    }

    /// Returns a new attempt of a lookup, with the current settings of its receiver.
    pub(crate) fn lookup(&self, pending: &PendingLookup) -> Option<Lookup> {
        self.receiver(pending.index).lookup(&pending.event)
    }

    /// Accepts the spans that a lookup has found, and ends it. Returns the number of spans.
    pub(crate) async fn finish_lookup(
        self: &Arc<Self>,
        pending: PendingLookup,
        request: Bytes,
    ) -> Result<u32, (PendingLookup, OfferError)> {
        let (index, received) = (pending.index, now());
        let receiver = self.receiver(index);
        let parameters = receiver.lookup_parameters();
        let reading = receiver.read_as(&request, &parameters, &KeptHeaders::default());
        let (body, mut reading, form) = match self.privacy() {
            None => (Kept::from(request), reading, BodyForm::AsSent(parameters)),
            Some(privacy) => {
                let found = Received { kept: request.clone(), parameters, reading };
                let private = privacy.scrub(&*receiver, Encoding::Json, &request, found);
                (private.body, private.reading, BodyForm::Converted(private.units))
            }
        };
        reading.event = Some(FOUND);
        let acceptance = Acceptance::new(form, &reading);
        let [spans, ..] = acceptance::count(&reading.items);
        if spans == 0 {
            self.keep_rejected(index, received, &body, &reading).await;
            pending.end();
            return Ok(0);
        }
        // Not a request: only the inspector shows it as one.
        let shown = (&body.bytes, body.bytes.len());
        let report = RequestReport::begin(&self.metrics.inspector, &*receiver, shown, &reading);
        let mut charge = self.inflight.charge();
        charge.set(body.bytes.len() as u64);
        let record = Record {
            receiver: Arc::from(receiver.id()),
            received,
            reading: acceptance.encode(),
            headers: KeptHeaders::default(),
            body: body.bytes,
        };
        let offered = match self.queue.offer(record).await {
            Ok(offered) => offered,
            Err(refusal) => return Err((pending, refusal)),
        };
        self.metrics.accepted([receiver.id(), Transport::Http.as_str()], Signal::Traces, spans);
        if let Some(mut report) = report {
            report.queued(offered.record());
            report.finish(counts(&reading), &Answer::Accepted);
        }
        if let Offered::Live(mut taken) = offered {
            taken.caused_by(pending.hold.cause());
            taken.keep(charge);
            taken.resume(Progress::new(acceptance.fingerprint));
            let work = self.work_of(index, &mut taken, received, &mut reading);
            self.send_work(taken, work);
        }
        pending.end();
        Ok(spans)
    }
}

// === impl PendingLookup ===

impl PendingLookup {
    /// Returns the size of the event that it keeps in memory, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        self.event.len()
    }

    /// Returns the time between the arrival of the event and the beginning of the lookup.
    pub(crate) fn age(&self) -> Duration {
        self.age
    }

    /// Returns the receiver of the event.
    pub(crate) fn receiver(&self) -> ReceiverIndex {
        self.index
    }

    /// Ends the lookup, with or without a result: its record may leave the queue.
    pub(crate) fn end(self) {
        self.hold.release();
    }
}
