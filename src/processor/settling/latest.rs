//! Map that holds the highest-ranking value of each key until the value's deadline.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use crate::receiver::{Supersede, SupersedeKey};

/// Held values, by key and by deadline.
pub(super) struct Latest<T> {
    held: HashMap<SupersedeKey, Held<T>>,
    /// Keys in the order of deadline, then of arrival.
    due: BTreeMap<Due, SupersedeKey>,
    bytes: usize,
    count: u64,
}

struct Held<T> {
    rank: (u64, u64),
    due: Due,
    bytes: usize,
    value: T,
}

type Due = (Instant, u64);

/// Result of offering a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OfferResult<T> {
    Held,
    /// No value is held for the key, and this one need not be held.
    Passes(T),
    /// The value with the lower rank of two values for the same key.
    Superseded(T),
}

// === impl Latest ===

impl<T> Latest<T> {
    pub(super) fn new() -> Self {
        Self { held: HashMap::new(), due: BTreeMap::new(), bytes: 0, count: 0 }
    }

    /// Offers a value. Of equal ranks, the later value replaces the earlier one.
    pub(super) fn offer(
        &mut self,
        now: Instant,
        supersede: Supersede,
        bytes: usize,
        value: T,
    ) -> OfferResult<T> {
        let Supersede { key, rank, hold, begins_hold, event: _ } = supersede;
        match self.held.get(&key) {
            Some(held) if held.rank > rank => return OfferResult::Superseded(value),
            None if !begins_hold => return OfferResult::Passes(value),
            _ => {}
        }
        let replaced = self.take(&key);
        let due = (now + hold, self.count);
        self.count += 1;
        self.bytes += bytes;
        self.due.insert(due, key.clone());
        self.held.insert(key, Held { rank, due, bytes, value });
        replaced.map_or(OfferResult::Held, OfferResult::Superseded)
    }

    /// Takes the value with the earliest deadline.
    pub(super) fn take_first(&mut self) -> Option<T> {
        let key = self.due.first_key_value()?.1.clone();
        self.take(&key)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Returns the memory that the values take, as given when they were offered.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self, key: &SupersedeKey) -> Option<T> {
        let Held { due, bytes, value, .. } = self.held.remove(key)?;
        self.due.remove(&due);
        self.bytes -= bytes;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::event::WebhookEvent;
    use crate::otlp::TraceId;

    const SETTLE: Duration = Duration::from_secs(60);

    fn key(workflow: u8) -> SupersedeKey {
        let id = TraceId::from_hex(format!("{:032x}", u32::from(workflow) + 1).as_bytes()).unwrap();
        SupersedeKey { receiver: "circleci".to_owned(), trace_id: id }
    }

    fn supersede(workflow: u8, ended: u64, cancelled: bool) -> Supersede {
        Supersede {
            event: WebhookEvent::new("workflow-completed"),
            key: key(workflow),
            rank: (ended, 0),
            hold: SETTLE,
            begins_hold: cancelled,
        }
    }

    /// An event of the model, identified by its index in the list.
    #[derive(Debug, Clone)]
    struct Event {
        after_seconds: u64,
        workflow: u8,
        ended: u64,
        cancelled: bool,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = (0u64..50, 0u8..3, 0u64..6, any::<bool>()).prop_map(
            |(after_seconds, workflow, ended, cancelled)| Event { after_seconds, workflow, ended, cancelled },
        );
        prop::collection::vec(event, 0..40)
    }

    /// Returns the exported and the superseded events, found by searching a list of held events.
    fn naive(events: &[Event]) -> (Vec<usize>, Vec<usize>) {
        let (mut exported, mut superseded, mut now) = (Vec::new(), Vec::new(), 0);
        let mut held: Vec<(u64, usize)> = Vec::new();
        for (number, event) in events.iter().enumerate() {
            now += event.after_seconds;
            held.sort_unstable();
            let due = held.iter().take_while(|(deadline, _)| *deadline <= now).count();
            exported.extend(held.drain(..due).map(|(_, number)| number));
            let other = held.iter().position(|(_, number)| events[*number].workflow == event.workflow);
            match other {
                None if event.cancelled => held.push((now + SETTLE.as_secs(), number)),
                None => exported.push(number),
                Some(other) if events[held[other].1].ended > event.ended => superseded.push(number),
                Some(other) => {
                    superseded.push(held.remove(other).1);
                    held.push((now + SETTLE.as_secs(), number));
                }
            }
        }
        held.sort_unstable();
        exported.extend(held.into_iter().map(|(_, number)| number));
        (exported, superseded)
    }

    proptest! {
        #[test]
        fn exports_and_supersedes_the_same_events_as_a_list(events in events()) {
            let start = Instant::now();
            let (mut latest, mut now) = (Latest::new(), start);
            let (mut exported, mut superseded) = (Vec::new(), Vec::new());
            for (number, event) in events.iter().enumerate() {
                now += Duration::from_secs(event.after_seconds);
                while latest.next_deadline().is_some_and(|deadline| deadline <= now) {
                    exported.extend(latest.take_first());
                }
                let supersede = supersede(event.workflow, event.ended, event.cancelled);
                match latest.offer(now, supersede, 1, number) {
                    OfferResult::Held => {}
                    OfferResult::Passes(number) => exported.push(number),
                    OfferResult::Superseded(number) => superseded.push(number),
                }
                prop_assert_eq!(latest.bytes(), number + 1 - exported.len() - superseded.len());
            }
            exported.extend(std::iter::from_fn(|| latest.take_first()));
            prop_assert_eq!((latest.bytes(), latest.next_deadline()), (0, None));
            prop_assert_eq!((exported, superseded), naive(&events));
        }
    }

    #[test]
    fn the_event_that_ended_last_is_kept_in_any_order_of_arrival() {
        let now = Instant::now();
        for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
            let mut latest = Latest::new();
            for ended in order {
                latest.offer(now, supersede(0, ended, true), 0, ended);
            }
            assert_eq!((latest.take_first(), latest.take_first()), (Some(3), None), "{order:?}");
        }
    }

    #[test]
    fn an_event_that_was_not_cancelled_passes_unless_another_is_held() {
        let now = Instant::now();
        let mut latest = Latest::new();
        assert_eq!(latest.offer(now, supersede(0, 1, false), 0, 'a'), OfferResult::Passes('a'));
        assert_eq!(latest.offer(now, supersede(0, 1, true), 0, 'b'), OfferResult::Held);
        assert_eq!(latest.offer(now, supersede(1, 1, false), 0, 'c'), OfferResult::Passes('c'));
        assert_eq!(latest.offer(now, supersede(0, 2, false), 0, 'd'), OfferResult::Superseded('b'));
        assert_eq!(latest.take_first(), Some('d'));
    }
}
