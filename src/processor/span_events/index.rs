//! Index of held spans, or of held log records, by trace id and span id.
//!
//! In: the locations of spans or records when they are first held. Out: the oldest location with the same ids, or all
//! of them.
//! Promises: no operation takes longer because more is held. Several locations under one key (of a sender that repeats
//! a span, or logs a thousand times about one) form a list that is only consumed from its front.
//! Left to others: the spans and records themselves.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use super::arrivals::Position;
use super::steps::Steps;
use crate::otlp::{SpanId, TraceId};

/// Memory that the first location under a key takes, in bytes. The table doubles when seven eighths of it are full.
pub(super) const KEY_BYTES: usize = (size_of::<(Key, Location)>() + 1) * 16 / 7;
/// Additional memory that a key with more than one location takes.
const REST_BYTES: usize = (size_of::<(Key, VecDeque<Location>)>() + 1) * 16 / 7;
/// Memory that every further location under the same key takes.
const LOCATION_BYTES: usize = 2 * size_of::<Location>();

/// Number of keys or locations below which storage is not worth freeing.
const KEPT: usize = 1024;

/// The ids that a span and its log records share.
pub(super) type Key = (TraceId, SpanId);

/// Location of one held span or one held record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    /// Position of the document.
    pub(super) position: Position,
    /// Index of the span or record in that document.
    pub(super) element: usize,
}

/// Locations by ids, in the order of arrival.
#[derive(Debug)]
pub(super) struct Index {
    /// The first location under each key. Most keys have no other.
    keys: HashMap<Key, Location>,
    /// The locations after the first, where there are any.
    rest: HashMap<Key, VecDeque<Location>>,
    /// Number of locations that are not the first under their key.
    further: usize,
    pub(super) steps: Steps,
}

/// The locations under one key.
#[derive(Debug)]
pub(super) struct Locations {
    first: Location,
    rest: VecDeque<Location>,
}

// === impl Index ===

impl Index {
    pub(super) fn new() -> Self {
        Self { keys: HashMap::new(), rest: HashMap::new(), further: 0, steps: Steps::default() }
    }

    pub(super) fn add(&mut self, key: Key, location: Location) {
        self.steps.step();
        match self.keys.entry(key) {
            Entry::Vacant(first) => drop(first.insert(location)),
            Entry::Occupied(_) => {
                self.rest.entry(key).or_default().push_back(location);
                self.further += 1;
            }
        }
    }

    /// Returns the oldest location under this key.
    pub(super) fn first(&self, key: &Key) -> Option<Location> {
        self.steps.step();
        self.keys.get(key).copied()
    }

    /// Removes and returns all locations under this key, oldest first.
    pub(super) fn take(&mut self, key: &Key) -> Option<Locations> {
        self.steps.step();
        if self.keys.is_empty() {
            return None;
        }
        let first = self.keys.remove(key)?;
        let rest = if self.rest.is_empty() { None } else { self.rest.remove(key) };
        let rest = rest.unwrap_or_default();
        self.further -= rest.len();
        self.shrink();
        Some(Locations { first, rest })
    }

    /// Drops the oldest locations under this key whose documents are no longer held, up to the first that is held. A
    /// location after that one is dropped later, so that every location is dropped once and none is searched for.
    pub(super) fn forget(&mut self, key: &Key, is_held: impl Fn(Position) -> bool) {
        self.steps.step();
        let Entry::Occupied(mut first) = self.keys.entry(*key) else { return };
        if is_held(first.get().position) {
            return;
        }
        match self.rest.entry(*key) {
            Entry::Vacant(_) => {
                self.steps.step();
                first.remove();
            }
            Entry::Occupied(mut rest) => {
                let locations = rest.get_mut();
                let mut next = None;
                while let Some(location) = locations.pop_front() {
                    self.steps.step();
                    self.further -= 1;
                    if is_held(location.position) {
                        next = Some(location);
                        break;
                    }
                }
                if locations.capacity() > KEPT && locations.len() < locations.capacity() / 8 {
                    locations.shrink_to(locations.len() * 2);
                }
                if locations.is_empty() {
                    rest.remove();
                }
                match next {
                    Some(location) => drop(first.insert(location)),
                    None => drop(first.remove()),
                }
            }
        }
        self.shrink();
    }

    /// Returns the memory that the index takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.keys.len() * KEY_BYTES + self.rest.len() * REST_BYTES + self.further * LOCATION_BYTES
    }

    /// Frees storage after a burst.
    fn shrink(&mut self) {
        if self.keys.capacity() > KEPT && self.keys.len() < self.keys.capacity() / 8 {
            self.keys.shrink_to(self.keys.len() * 2);
        }
        if self.rest.capacity() > KEPT && self.rest.len() < self.rest.capacity() / 8 {
            self.rest.shrink_to(self.rest.len() * 2);
        }
    }
}

// === impl Locations ===

impl IntoIterator for Locations {
    type Item = Location;
    type IntoIter =
        std::iter::Chain<std::iter::Once<Location>, std::collections::vec_deque::IntoIter<Location>>;

    fn into_iter(self) -> Self::IntoIter {
        std::iter::once(self.first).chain(self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::arrivals::Arrivals;
    use super::*;

    fn key(number: u64) -> Key {
        let span = SpanId::new(number.to_be_bytes()).unwrap();
        (TraceId::new([1; 16]).unwrap(), span)
    }

    fn positions(count: usize) -> (Arrivals<()>, Vec<Position>) {
        let mut arrivals = Arrivals::new();
        let positions = (0..count).map(|_| arrivals.push(())).collect();
        (arrivals, positions)
    }

    #[test]
    fn the_oldest_location_of_a_held_document_comes_first() {
        let (mut arrivals, positions) = positions(3);
        let mut index = Index::new();
        for &position in &positions {
            index.add(key(1), Location { position, element: 0 });
        }
        // The middle one is removed first: its location stays after the first, which is still held.
        for gone in [1, 0] {
            arrivals.take(positions[gone]);
            index.forget(&key(1), |position| arrivals.holds(position));
        }
        assert_eq!(index.first(&key(1)), Some(Location { position: positions[2], element: 0 }));
        arrivals.take(positions[2]);
        index.forget(&key(1), |position| arrivals.holds(position));
        assert_eq!(index.first(&key(1)), None);
        assert_eq!(index.bytes(), 0);
    }

    #[test]
    fn taken_locations_are_in_the_order_of_arrival_and_take_no_memory() {
        let (_, positions) = positions(5);
        let mut index = Index::new();
        for &position in &positions {
            index.add(key(1), Location { position, element: 7 });
        }
        assert_eq!(index.bytes(), KEY_BYTES + REST_BYTES + 4 * LOCATION_BYTES);
        let taken: Vec<Position> =
            index.take(&key(1)).unwrap().into_iter().map(|location| location.position).collect();
        assert_eq!(taken, positions);
        assert_eq!(index.bytes(), 0);
    }

    #[test]
    fn locations_under_one_key_are_dropped_once_in_any_order_of_removal() {
        const LOCATIONS: usize = 10_000;
        let (mut arrivals, positions) = positions(LOCATIONS);
        let mut index = Index::new();
        for &position in &positions {
            index.add(key(1), Location { position, element: 0 });
        }
        // Odd ones are removed from the middle, then all others in order.
        let order = (0..LOCATIONS)
            .filter(|location| location % 2 == 1)
            .chain((0..LOCATIONS).filter(|location| location % 2 == 0));
        let asked = std::cell::Cell::new(0);
        for gone in order {
            arrivals.take(positions[gone]);
            index.forget(&key(1), |position| {
                asked.set(asked.get() + 1);
                arrivals.holds(position)
            });
        }
        assert_eq!(index.bytes(), 0);
        assert!(asked.get() <= 2 * LOCATIONS, "{} questions for {LOCATIONS} locations", asked.get());
    }

    #[test]
    fn the_table_of_a_burst_is_freed() {
        let (_, positions) = positions(1);
        let mut index = Index::new();
        for number in 1..=50_000 {
            index.add(key(number), Location { position: positions[0], element: 0 });
        }
        for number in 1..=50_000 {
            index.forget(&key(number), |_| false);
        }
        assert!(index.keys.capacity() <= 2 * KEPT, "{}", index.keys.capacity());
    }
}
