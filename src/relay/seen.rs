//! Deduplication of events by the sender's id.
//!
//! CircleCI may deliver an event more than once, and documents its id for detecting that. Ids are bounded in number and
//! age; a forgotten event is relayed again, with the same span ids. An event whose span the downstream rejected is
//! forgotten at once, so that a redelivery is exported again. Of simultaneous deliveries one is offered to the queue,
//! and the others wait for the result.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::sync::Notify;

const MAX_EVENTS: usize = 10_000;
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// State of events, by id.
#[derive(Debug, Default)]
pub(super) struct Events {
    seen: Mutex<SeenEvents>,
    /// Notified when a claim has ended.
    ended: Notify,
}

/// The right to offer an event to the queue. When it is dropped, the event was not accepted, and the next delivery may
/// try.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    events: &'a Events,
    event: EventKey,
}

/// Ids of accepted events, oldest first.
#[derive(Debug, Default)]
struct SeenEvents {
    /// Events that are claimed and undecided.
    claimed: HashSet<EventKey>,
    times: HashMap<EventKey, Instant>,
    order: VecDeque<(EventKey, Instant)>,
}

/// Half a digest, so that the sender does not choose the length of what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct EventKey([u8; 16]);

// === impl Events ===

impl Events {
    /// Claims an event, or returns `None` when it was accepted before. Waits while another delivery of it is undecided.
    pub(super) async fn claim(&self, receiver: usize, id: &str) -> Option<Claim<'_>> {
        let event = SeenEvents::key(receiver, id);
        loop {
            let ended = self.ended.notified();
            {
                let mut seen = self.lock();
                if seen.contains(event, Instant::now()) {
                    return None;
                }
                if seen.claimed.insert(event) {
                    return Some(Claim { events: self, event });
                }
            }
            ended.await;
        }
    }

    /// Adds an event that an earlier process accepted.
    pub(super) fn insert(&self, receiver: usize, id: &str) {
        self.lock().insert(SeenEvents::key(receiver, id), Instant::now());
    }

    /// Removes an event that was accepted and whose span the downstream rejected.
    pub(super) fn forget(&self, receiver: usize, id: &str) {
        self.lock().times.remove(&SeenEvents::key(receiver, id));
    }

    fn lock(&self) -> MutexGuard<'_, SeenEvents> {
        self.seen.lock().expect("nothing panics while it holds the lock")
    }
}

// === impl Claim ===

impl Claim<'_> {
    /// Ends the claim: the queue accepted the event.
    pub(super) fn accepted(self) {
        self.events.lock().insert(self.event, Instant::now());
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.events.lock().claimed.remove(&self.event);
        self.events.ended.notify_waiters();
    }
}

// === impl SeenEvents ===

impl SeenEvents {
    /// Returns the key of an event. The same id of another receiver is another event.
    fn key(receiver: usize, id: &str) -> EventKey {
        let digest = Sha256::new().chain_update(receiver.to_le_bytes()).chain_update(id).finalize();
        EventKey(*digest.first_chunk().expect("a SHA-256 digest has 32 bytes"))
    }

    fn contains(&self, event: EventKey, now: Instant) -> bool {
        self.times.get(&event).is_some_and(|seen| now.saturating_duration_since(*seen) < MAX_AGE)
    }

    fn insert(&mut self, event: EventKey, now: Instant) {
        while let Some(&(oldest, seen)) = self.order.front() {
            if self.order.len() < MAX_EVENTS && now.saturating_duration_since(seen) < MAX_AGE {
                break;
            }
            self.order.pop_front();
            // The event may have been seen again since.
            if self.times.get(&oldest) == Some(&seen) {
                self.times.remove(&oldest);
            }
        }
        self.times.insert(event, now);
        self.order.push_back((event, now));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn an_event_is_known_for_a_day_and_only_to_its_own_receiver() {
        let now = Instant::now();
        let mut seen = SeenEvents::default();
        seen.insert(SeenEvents::key(0, "a"), now);
        assert!(seen.contains(SeenEvents::key(0, "a"), now));
        assert!(!seen.contains(SeenEvents::key(1, "a"), now));
        assert!(!seen.contains(SeenEvents::key(0, "b"), now));
        assert!(!seen.contains(SeenEvents::key(0, "a"), now + MAX_AGE));
    }

    #[tokio::test]
    async fn of_simultaneous_deliveries_one_is_offered_and_the_others_wait() {
        let events = Events::default();
        let first = events.claim(0, "a").await.unwrap();
        let mut second = Box::pin(events.claim(0, "a"));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(events.claim(0, "b").await.is_some() && events.claim(1, "a").await.is_some());
        // The queue was full: the delivery that waited may try.
        drop(first);
        let second = second.await.unwrap();
        let third = events.claim(0, "a");
        second.accepted();
        assert!(third.await.is_none());
        assert!(events.claim(0, "a").await.is_none());
    }

    #[tokio::test]
    async fn an_event_that_was_rejected_downstream_is_accepted_again() {
        let events = Events::default();
        events.claim(0, "a").await.unwrap().accepted();
        events.insert(0, "b");
        events.forget(0, "a");
        assert!(events.claim(0, "b").await.is_none());
        events.claim(0, "a").await.unwrap().accepted();
        assert!(events.claim(0, "a").await.is_none());
    }

    #[test]
    fn memory_is_bounded_for_any_number_of_events() {
        let now = Instant::now();
        let mut seen = SeenEvents::default();
        for id in 0..3 * MAX_EVENTS {
            seen.insert(SeenEvents::key(0, &id.to_string()), now);
        }
        assert!(seen.times.len() <= MAX_EVENTS && seen.order.len() <= MAX_EVENTS);
        assert!(seen.contains(SeenEvents::key(0, &(3 * MAX_EVENTS - 1).to_string()), now));
        assert!(!seen.contains(SeenEvents::key(0, "0"), now));

        seen.insert(SeenEvents::key(0, "later"), now + MAX_AGE);
        assert_eq!(seen.times.len(), 1);
    }
}
