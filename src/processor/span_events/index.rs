//! Which of the waiting spans, or log records, have a given trace id and span id.
//!
//! In: the places of spans or records as they begin to wait. Out: the oldest with the same ids, or all of them.
//! Promises: nothing here takes longer because more is held. Many places under one key (a sender that repeats a
//! span, or logs a thousand times about one) are a list of their own, which is only ever worked off from its front.
//! Leaves to others: the spans and records themselves.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use super::arrivals::Position;
use super::steps::Steps;
use crate::otlp::{SpanId, TraceId};

/// What the first place under a key costs, in bytes. The table doubles when seven eighths of it are full.
pub(super) const KEY_BYTES: usize = (size_of::<(Key, Place)>() + 1) * 16 / 7;
/// What a key with more than one place costs beside that.
const CROWD_BYTES: usize = (size_of::<(Key, VecDeque<Place>)>() + 1) * 16 / 7;
/// What every further place under the same key costs.
const PLACE_BYTES: usize = 2 * size_of::<Place>();

/// Storage for fewer keys or places than this is not worth giving back.
const KEPT: usize = 1024;

/// What a span and its log records have in common.
pub(super) type Key = (TraceId, SpanId);

/// One span of a waiting line, or one record of waiting logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The document's.
    pub(super) position: Position,
    /// Which of the spans or records of that document.
    pub(super) element: usize,
}

/// Places by their ids, in the order of arrival.
#[derive(Debug)]
pub(super) struct Index {
    /// The first place under each key. Most keys have no other.
    keys: HashMap<Key, Place>,
    /// The places behind the first, where there are any.
    rest: HashMap<Key, VecDeque<Place>>,
    /// Places that are not the first under their key.
    behind: usize,
    pub(super) steps: Steps,
}

/// The places under one key.
#[derive(Debug)]
pub(super) struct Places {
    first: Place,
    rest: VecDeque<Place>,
}

// === impl Index ===

impl Index {
    pub(super) fn new() -> Self {
        Self { keys: HashMap::new(), rest: HashMap::new(), behind: 0, steps: Steps::default() }
    }

    pub(super) fn add(&mut self, key: Key, place: Place) {
        self.steps.step();
        match self.keys.entry(key) {
            Entry::Vacant(first) => drop(first.insert(place)),
            Entry::Occupied(_) => {
                self.rest.entry(key).or_default().push_back(place);
                self.behind += 1;
            }
        }
    }

    /// The oldest place under this key.
    pub(super) fn first(&self, key: &Key) -> Option<Place> {
        self.steps.step();
        self.keys.get(key).copied()
    }

    /// Takes all places under this key away, oldest first.
    pub(super) fn take(&mut self, key: &Key) -> Option<Places> {
        self.steps.step();
        if self.keys.is_empty() {
            return None;
        }
        let first = self.keys.remove(key)?;
        let rest = if self.rest.is_empty() { None } else { self.rest.remove(key) };
        let rest = rest.unwrap_or_default();
        self.behind -= rest.len();
        self.give_back();
        Some(Places { first, rest })
    }

    /// A document with this key has left: drops the oldest places of documents that are not held any more, up to
    /// the first that is. A place behind that one waits for its turn, so every place is dropped once and none is
    /// searched for.
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
                let places = rest.get_mut();
                let mut next = None;
                while let Some(place) = places.pop_front() {
                    self.steps.step();
                    self.behind -= 1;
                    if is_held(place.position) {
                        next = Some(place);
                        break;
                    }
                }
                if places.capacity() > KEPT && places.len() < places.capacity() / 8 {
                    places.shrink_to(places.len() * 2);
                }
                if places.is_empty() {
                    rest.remove();
                }
                match next {
                    Some(place) => drop(first.insert(place)),
                    None => drop(first.remove()),
                }
            }
        }
        self.give_back();
    }

    /// What all this costs, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.keys.len() * KEY_BYTES + self.rest.len() * CROWD_BYTES + self.behind * PLACE_BYTES
    }

    /// After a burst: frees what it took.
    fn give_back(&mut self) {
        if self.keys.capacity() > KEPT && self.keys.len() < self.keys.capacity() / 8 {
            self.keys.shrink_to(self.keys.len() * 2);
        }
        if self.rest.capacity() > KEPT && self.rest.len() < self.rest.capacity() / 8 {
            self.rest.shrink_to(self.rest.len() * 2);
        }
    }
}

// === impl Places ===

impl IntoIterator for Places {
    type Item = Place;
    type IntoIter = std::iter::Chain<std::iter::Once<Place>, std::collections::vec_deque::IntoIter<Place>>;

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
    fn the_oldest_place_of_a_document_that_is_held_comes_first() {
        let (mut arrivals, positions) = positions(3);
        let mut index = Index::new();
        for &position in &positions {
            index.add(key(1), Place { position, element: 0 });
        }
        // The middle one leaves first: its place stays behind the first, which is still held.
        for gone in [1, 0] {
            arrivals.take(positions[gone]);
            index.forget(&key(1), |position| arrivals.holds(position));
        }
        assert_eq!(index.first(&key(1)), Some(Place { position: positions[2], element: 0 }));
        arrivals.take(positions[2]);
        index.forget(&key(1), |position| arrivals.holds(position));
        assert_eq!(index.first(&key(1)), None);
        assert_eq!(index.bytes(), 0);
    }

    #[test]
    fn taken_places_come_in_the_order_of_arrival_and_cost_nothing_any_more() {
        let (_, positions) = positions(5);
        let mut index = Index::new();
        for &position in &positions {
            index.add(key(1), Place { position, element: 7 });
        }
        assert_eq!(index.bytes(), KEY_BYTES + CROWD_BYTES + 4 * PLACE_BYTES);
        let taken: Vec<Position> =
            index.take(&key(1)).unwrap().into_iter().map(|place| place.position).collect();
        assert_eq!(taken, positions);
        assert_eq!(index.bytes(), 0);
    }

    #[test]
    fn every_place_under_one_key_is_dropped_once_whatever_the_order_in_which_they_leave() {
        const PLACES: usize = 10_000;
        let (mut arrivals, positions) = positions(PLACES);
        let mut index = Index::new();
        for &position in &positions {
            index.add(key(1), Place { position, element: 0 });
        }
        // Odd ones leave from the middle, then all others in order.
        let order =
            (0..PLACES).filter(|place| place % 2 == 1).chain((0..PLACES).filter(|place| place % 2 == 0));
        let asked = std::cell::Cell::new(0);
        for gone in order {
            arrivals.take(positions[gone]);
            index.forget(&key(1), |position| {
                asked.set(asked.get() + 1);
                arrivals.holds(position)
            });
        }
        assert_eq!(index.bytes(), 0);
        assert!(asked.get() <= 2 * PLACES, "{} questions for {PLACES} places", asked.get());
    }

    #[test]
    fn the_table_of_a_burst_is_given_back() {
        let (_, positions) = positions(1);
        let mut index = Index::new();
        for number in 1..=50_000 {
            index.add(key(number), Place { position: positions[0], element: 0 });
        }
        for number in 1..=50_000 {
            index.forget(&key(number), |_| false);
        }
        assert!(index.keys.capacity() <= 2 * KEPT, "{}", index.keys.capacity());
    }
}
