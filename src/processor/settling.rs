//! Settling: of several events that make the same span, only the last is exported.
//!
//! CircleCI sends `workflow-completed` when a workflow is cancelled, and again for each job that ends later. In: the
//! work of one accepted request at a time, and the current time. Out: the work to process now. Work is held as long as
//! its [`Supersede`](crate::receiver::Supersede) says, counted from its arrival, and each later event for the same span
//! replaces it; replaced work is resolved as superseded.
//!
//! Promises: of events that are held at the same time, the one with the highest rank is exported, in whatever order
//! they arrived, and no later than its own deadline. Held work takes at most [`MAX_HELD_BYTES`]; beyond that, the work
//! with the earliest deadline is released early. The module reads no clock: the caller passes the time.

mod latest;

use std::time::Instant;

use self::latest::{Latest, OfferResult};
use super::Work;
use crate::config::Storage;
use crate::event::Settled;
use crate::telemetry::Metrics;

/// Limit for held work: enough for thousands of events.
const MAX_HELD_BYTES: usize = 8 * 1024 * 1024;

/// Holds work that a later event may supersede.
pub(crate) struct Settling {
    latest: Latest<Work>,
    /// Held work stays in a queue that the next process reads.
    is_durable: bool,
    telemetry: Metrics,
}

// === impl Settling ===

impl Settling {
    pub(crate) fn new(storage: Storage, telemetry: Metrics) -> Self {
        Self { latest: Latest::new(), is_durable: storage != Storage::Memory, telemetry }
    }

    /// Held work is in a queue that outlives the process.
    #[cfg(feature = "kafka")]
    pub(super) fn durable(telemetry: Metrics) -> Self {
        Self { latest: Latest::new(), is_durable: true, telemetry }
    }

    /// Memory of held work, in bytes.
    #[cfg(feature = "kafka")]
    pub(super) fn held_bytes(&self) -> usize {
        self.latest.bytes()
    }

    /// Returns the work that is due first, before its time.
    #[cfg(feature = "kafka")]
    pub(super) fn release_first(&mut self) -> Option<Work> {
        self.latest.take_first()
    }

    /// Accepts the work of one request and returns the work to process now.
    pub(crate) fn accept(&mut self, now: Instant, request: Vec<Work>) -> Vec<Work> {
        let mut ready = self.expire(now);
        if ready.is_empty() && request.iter().all(|work| work.supersede.is_none()) {
            return request;
        }
        for mut work in request {
            let Some(supersede) = work.supersede.take() else {
                ready.push(work);
                continue;
            };
            let event = supersede.event;
            let bytes = work.held_bytes();
            match self.latest.offer(now, supersede, bytes, work) {
                OfferResult::Held => {}
                OfferResult::Passes(work) => ready.push(work),
                OfferResult::Superseded(work) => {
                    work.settle(Settled::Superseded);
                    self.telemetry.webhook_superseded(event);
                }
            }
        }
        while self.latest.bytes() > MAX_HELD_BYTES
            && let Some(work) = self.latest.take_first()
        {
            ready.push(work);
        }
        ready
    }

    /// Returns the work whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Work> {
        let mut ready = Vec::new();
        while self.latest.next_deadline().is_some_and(|deadline| deadline <= now)
            && let Some(work) = self.latest.take_first()
        {
            ready.push(work);
        }
        ready
    }

    /// Releases everything when the relay drains. Work in a durable queue stays there, where later events still
    /// supersede it; other work is returned.
    pub(crate) fn drain(mut self) -> Vec<Work> {
        if self.is_durable {
            return Vec::new();
        }
        std::iter::from_fn(|| self.latest.take_first()).collect()
    }

    /// Returns the next time at which [`expire`](Self::expire) has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.latest.next_deadline()
    }
}
