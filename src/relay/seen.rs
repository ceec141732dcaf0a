//! Events that were taken already, by the sender's id for them.
//!
//! CircleCI may deliver an event more than once and names its id as the way to notice. Bounded in number and in
//! time; what is forgotten is relayed again, with the same span ids.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

const MAX_EVENTS: usize = 10_000;
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Ids that were seen, oldest first.
#[derive(Debug, Default)]
pub(super) struct SeenEvents {
    times: HashMap<EventKey, Instant>,
    order: VecDeque<(EventKey, Instant)>,
}

/// Half a digest: the length of what is kept must not be the sender's to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EventKey([u8; 16]);

// === impl SeenEvents ===

impl SeenEvents {
    /// The same id of another receiver is another event.
    pub(super) fn key(receiver: usize, id: &str) -> EventKey {
        let digest = Sha256::new().chain_update(receiver.to_le_bytes()).chain_update(id).finalize();
        EventKey(*digest.first_chunk().expect("a SHA-256 digest has 32 bytes"))
    }

    pub(super) fn contains(&self, event: EventKey, now: Instant) -> bool {
        self.times.get(&event).is_some_and(|seen| now.saturating_duration_since(*seen) < MAX_AGE)
    }

    pub(super) fn insert(&mut self, event: EventKey, now: Instant) {
        while let Some(&(oldest, seen)) = self.order.front() {
            if self.order.len() < MAX_EVENTS && now.saturating_duration_since(seen) < MAX_AGE {
                break;
            }
            self.order.pop_front();
            // It may have been seen again since.
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
    use super::*;

    #[test]
    fn an_event_is_known_for_a_day_and_to_its_own_receiver_only() {
        let now = Instant::now();
        let mut seen = SeenEvents::default();
        seen.insert(SeenEvents::key(0, "a"), now);
        assert!(seen.contains(SeenEvents::key(0, "a"), now));
        assert!(!seen.contains(SeenEvents::key(1, "a"), now));
        assert!(!seen.contains(SeenEvents::key(0, "b"), now));
        assert!(!seen.contains(SeenEvents::key(0, "a"), now + MAX_AGE));
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
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
