//! Feed: rereads records that an earlier process left, and records without room in memory.
//!
//! In: records from the queue, oldest first. Out: [`Work`] for the items that are not resolved.
//! Promises: a record is read as it was when it was accepted, whatever the current configuration; items that were
//! resolved are left out; an item that is no longer readable is kept in the rejected lines and counted as rejected.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use tracing::warn;

use super::acceptance::{self, Acceptance, BodyForm};
use super::{Kept, ReceiverIndex, Relay, converted, now};
use crate::event::{Settled, Signal};
use crate::processor::Work;
use crate::queue::{Origin, Progress, Record, Stored};
use crate::receiver::{Reading, Receiver, Rejected};

/// Reason in the rejected lines when the reading itself gives none.
const UNREADABLE: &str = "accepted by an earlier version and no longer readable";

impl Relay {
    /// Rereads records as the queue returns them. Runs until it is dropped.
    pub(crate) async fn feed(self: Arc<Self>) {
        let mut missing = HashSet::new();
        loop {
            let stored = self.queue.next_stored().await;
            let receiver = &stored.record.receiver;
            match self.registry().iter().position(|one| one.receiver.id() == &**receiver) {
                Some(index) => self.read_again(ReceiverIndex(index), stored).await,
                // The receipts are dropped, so that the record stays for the next start.
                None if missing.insert(Arc::clone(receiver)) => warn!(
                    receiver = &**receiver,
                    remedy = "configure the receiver again and restart to deliver them",
                    "queue holds requests of a receiver that is not configured"
                ),
                None => {}
            }
        }
    }

    async fn read_again(self: &Arc<Self>, index: ReceiverIndex, stored: Stored) {
        let Stored { record, progress, mut taken, origin } = stored;
        let mut charge = self.inflight.charge();
        // It is in memory already, and bounded by the queue.
        charge.set(record.body.len() as u64);
        taken.keep(charge);
        let accepted = Acceptance::decode(record.reading.clone());
        let form = accepted.as_ref().map(|accepted| accepted.form.clone()).unwrap_or_default();
        let (headers, privacy) = (record.headers.clone(), self.privacy());
        let read = move |receiver: &dyn Receiver, body: &Bytes| match form {
            BodyForm::Converted(units) => converted::read(receiver.id(), body, &units),
            BodyForm::AsSent(parameters) => {
                let mut reading = receiver.read_as(body, &parameters, &headers);
                if let Some(privacy) = &privacy {
                    // It was accepted before the rules were set.
                    privacy.scrub_items(&mut reading.items);
                    privacy.scrub_rejected(receiver, &mut reading.rejected);
                }
                reading
            }
        };
        let mut reading = self.read_in_place_or_blocking(index, record.body.clone(), read).await;
        if let Some(id) = &reading.event_id {
            self.seen.insert(index.0, id);
        }
        let fingerprint = acceptance::fingerprint(&reading.items, &reading.rejected);
        if progress.reading == fingerprint {
            taken.resume(progress);
        } else {
            // With another reading, the ordinals would leave out items that were not delivered.
            taken.resume(Progress::new(fingerprint));
            if accepted.as_ref().is_none_or(|accepted| accepted.fingerprint != fingerprint) {
                self.keep_unreadable(index, &record, accepted.as_ref(), &reading, origin).await;
                // Stored with this reading, so that the next process does not keep and count the same items again.
                taken.store_progress();
            }
        }
        if let Some(supersede) = &mut reading.supersede {
            // If the clock was set back, no time has passed.
            let age = now().duration_since(record.received).unwrap_or_default();
            supersede.arrived(age, origin == Origin::EarlierProcess);
        }
        let work = self.work_of(index, &mut taken, record.received, &mut reading);
        if origin == Origin::EarlierProcess {
            let items = work.iter().flat_map(Work::items);
            items.for_each(|(signal, count)| self.metrics.recovered(signal, count));
        }
        self.begin_lookup(index, &taken, &record.body, record.received);
        self.send_work(taken, work);
    }

    /// Returns a stored body for the rejected lines.
    fn kept_whole(&self, index: ReceiverIndex, body: &Bytes, accepted: Option<&Acceptance>) -> Kept {
        let is_converted = accepted.is_some_and(|accepted| matches!(accepted.form, BodyForm::Converted(_)));
        match self.privacy() {
            Some(privacy) if !is_converted => {
                let bytes = privacy.scrub_whole(&*self.receiver(index), body);
                let withheld = if bytes.is_none() { Some(body.len()) } else { None };
                Kept { withheld, ..Kept::from(bytes.unwrap_or_default()) }
            }
            _ => Kept::from(body.clone()),
        }
    }

    /// Keeps and counts items that were accepted and that this version rejects. Records without an [`Acceptance`] are
    /// of a version that did not store it: such a record is known to have lost items only if none is left.
    async fn keep_unreadable(
        self: &Arc<Self>,
        index: ReceiverIndex,
        record: &Record,
        accepted: Option<&Acceptance>,
        reading: &Reading,
        origin: Origin,
    ) {
        let found = acceptance::count(&reading.items);
        let lost = match accepted {
            Some(accepted) => {
                std::array::from_fn(|signal| accepted.items[signal].saturating_sub(found[signal]))
            }
            None => [0; Signal::ALL.len()],
        };
        let is_new = |rejected: &&Rejected| accepted.is_none_or(|accepted| !accepted.rejected(rejected.line));
        let rejected: Vec<Rejected> = reading.rejected.iter().filter(is_new).cloned().collect();
        let none_found = found == [0; Signal::ALL.len()];
        let unexplained = rejected.is_empty() && (none_found || lost != [0; Signal::ALL.len()]);
        let whole = unexplained.then(|| {
            let reason = reading.ignored.map_or(UNREADABLE, |reason| reason.as_str());
            (reason, self.kept_whole(index, &record.body, accepted))
        });
        if accepted.is_some() || none_found {
            self.write_rejected(index, record.received, whole, rejected).await;
        }
        for (signal, items) in Signal::ALL.into_iter().zip(lost).filter(|(_, items)| *items > 0) {
            if origin == Origin::EarlierProcess {
                self.metrics.recovered(signal, items);
            }
            self.metrics.settled(signal, Settled::Rejected, items);
            warn!(receiver = &*record.receiver, %signal, items, "accepted items unreadable, kept in the rejected lines");
        }
    }
}
