//! Index of held spans, or of held log records, by trace id and span id.
//!
//! In: the locations of spans or records when they are first held. Out: the oldest location with the same ids, or all
//! of them.
//! Promises: no operation takes longer because more is held. Several locations under one key (of a sender that repeats
//! a span, or logs a thousand times about one) form a list that is only consumed from its front.
//! Left to others: the spans and records themselves, which [`HeldDocuments`] finds.
//!
//! The table stores no ids. A slot has 32 bits of their hash, and a slot with the same bits is compared with the ids of
//! its document, which is in memory anyway. Slots of released documents are not looked for: they match nothing, and
//! disappear together when the table is full and is built again. So a release reads none of the index.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::arrivals::Position;
use super::steps::AccessCount;
use crate::otlp::{SpanId, TraceId};

/// Memory that the first location under a key takes, in bytes, at most: a table that is built again is filled to
/// [`FILL`], and the number of its buckets is a power of two of which seven eighths are used.
pub(super) const KEY_BYTES: usize = (size_of::<IndexSlot>() + 1) * 2 * FILL.1 * 8 / (FILL.0 * 7);
/// Additional memory that a key with more than one location takes.
const REST_BYTES: usize = (size_of::<(SpanKey, VecDeque<Location>)>() + 1) * 16 / 7;
/// Memory that every further location under the same key takes.
const LOCATION_BYTES: usize = 2 * size_of::<Location>();

/// Part of a table's capacity that a new table uses at most. The rest is for keys that arrive until it is built again.
const FILL: (usize, usize) = (3, 4);

/// Number of keys or locations below which storage is not worth freeing.
const KEPT: usize = 1024;

/// The ids that a span and its log records share.
pub(super) type SpanKey = (TraceId, SpanId);

/// Location of one held span or one held record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    /// Position of the document.
    pub(super) position: Position,
    /// Index of the span or record in that document.
    pub(super) element: u32,
}

/// The held documents.
pub(super) trait HeldDocuments {
    /// Returns the ids at a location; `None` if its document is no longer held.
    fn key(&self, location: Location) -> Option<SpanKey>;

    fn is_held(&self, position: Position) -> bool;
}

/// Locations by ids, in the order of arrival.
#[derive(Debug)]
pub(super) struct SpanIndex {
    /// The first location under each key, and locations of released documents.
    slots: HashTable<IndexSlot>,
    /// Number of slots whose documents are held.
    live: usize,
    hasher: RandomState,
    /// The locations after the first, where there are any. Their key has a slot.
    rest: HashMap<SpanKey, VecDeque<Location>>,
    /// Number of locations that are not the first under their key.
    further: usize,
    pub(super) steps: AccessCount,
}

/// A location with a part of the hash of its ids, without padding.
#[derive(Debug, Clone, Copy)]
struct IndexSlot {
    print: u32,
    element: u32,
    position: Position,
}

/// The locations under one key.
#[derive(Debug)]
pub(super) struct Locations {
    first: Location,
    rest: VecDeque<Location>,
}

// === impl SpanIndex ===

impl SpanIndex {
    pub(super) fn new() -> Self {
        Self {
            slots: HashTable::new(),
            live: 0,
            hasher: RandomState::new(),
            rest: HashMap::new(),
            further: 0,
            steps: AccessCount::default(),
        }
    }

    /// Adds a location, whose document must be held.
    pub(super) fn add(&mut self, key: SpanKey, location: Location, held: &impl HeldDocuments) {
        self.steps.step();
        let print = self.print(&key);
        let mut has_released = false;
        let is_of_key = |slot: &IndexSlot| {
            let found = (slot.print == print).then(|| held.key(slot.location()));
            has_released |= found == Some(None);
            found == Some(Some(key))
        };
        if self.slots.find(spread(print), is_of_key).is_some() {
            self.rest.entry(key).or_default().push_back(location);
            self.further += 1;
            return;
        }
        self.live += 1;
        if has_released && let Some(slot) = self.released_slot(print, held) {
            *slot = IndexSlot::new(print, location);
            return;
        }
        if self.slots.len() == self.slots.capacity() {
            self.build_again(held);
        }
        self.slots.insert_unique(spread(print), IndexSlot::new(print, location), IndexSlot::hash);
    }

    /// Finds a slot of a released document. It is used again, so that a key that is repeated has one such slot at most.
    #[cold]
    fn released_slot(&mut self, print: u32, held: &impl HeldDocuments) -> Option<&mut IndexSlot> {
        let is_released = |slot: &IndexSlot| slot.print == print && !held.is_held(slot.position);
        self.slots.find_mut(spread(print), is_released)
    }

    /// Returns the oldest location under this key.
    pub(super) fn first(&self, key: &SpanKey, held: &impl HeldDocuments) -> Option<Location> {
        self.steps.step();
        if self.live == 0 {
            return None;
        }
        self.find(self.print(key), key, held)
    }

    /// Removes and returns all locations under this key, oldest first.
    pub(super) fn take(&mut self, key: &SpanKey, held: &impl HeldDocuments) -> Option<Locations> {
        self.steps.step();
        if self.live == 0 {
            return None;
        }
        let print = self.print(key);
        let is_first =
            |slot: &IndexSlot| slot.print == print && held.key(slot.location()).as_ref() == Some(key);
        let first = self.slots.find_entry(spread(print), is_first).ok()?.remove().0.location();
        self.live -= 1;
        let rest = if self.rest.is_empty() { None } else { self.rest.remove(key) };
        let rest = rest.unwrap_or_default();
        self.further -= rest.len();
        self.shrink(held);
        Some(Locations { first, rest })
    }

    /// Forgets the locations of a document that was just released: the `count` ones that were added and not taken, whose
    /// keys are these.
    pub(super) fn forget(
        &mut self,
        position: Position,
        count: u32,
        keys: impl Iterator<Item = (u32, SpanKey)>,
        held: &impl HeldDocuments,
    ) {
        self.steps.step();
        if self.rest.is_empty() {
            self.live -= count as usize;
        } else {
            keys.for_each(|(element, key)| self.forget_one(&key, Location { position, element }, held));
        }
        self.shrink(held);
    }

    /// Forgets one location under a key that may have several. If it is the first, the next one that is held becomes the
    /// first, and those before it are dropped. Otherwise it is dropped when it comes to the front, so that every location
    /// is dropped once and none is searched for.
    fn forget_one(&mut self, key: &SpanKey, location: Location, held: &impl HeldDocuments) {
        self.steps.step();
        let print = self.print(key);
        let Ok(mut first) =
            self.slots.find_entry(spread(print), |slot| slot.print == print && slot.location() == location)
        else {
            return;
        };
        let mut next = None;
        if let Some(locations) = self.rest.get_mut(key) {
            while let Some(location) = locations.pop_front() {
                self.steps.step();
                self.further -= 1;
                if held.is_held(location.position) {
                    next = Some(location);
                    break;
                }
            }
            if locations.capacity() > KEPT && locations.len() < locations.capacity() / 8 {
                locations.shrink_to(locations.len() * 2);
            }
            if locations.is_empty() {
                self.rest.remove(key);
            }
        }
        match next {
            Some(location) => *first.get_mut() = IndexSlot::new(print, location),
            None => {
                first.remove();
                self.live -= 1;
            }
        }
    }

    /// Returns the memory that the index takes, in bytes, at most.
    pub(super) fn bytes(&self) -> usize {
        self.live * KEY_BYTES + self.rest.len() * REST_BYTES + self.further * LOCATION_BYTES
    }

    fn find(&self, print: u32, key: &SpanKey, held: &impl HeldDocuments) -> Option<Location> {
        let is_first =
            |slot: &IndexSlot| slot.print == print && held.key(slot.location()).as_ref() == Some(key);
        self.slots.find(spread(print), is_first).map(IndexSlot::location)
    }

    /// Returns a part of the hash of a key. The hash is keyed, because senders choose the ids.
    fn print(&self, key: &SpanKey) -> u32 {
        (self.hasher.hash_one(key) >> 32) as u32
    }

    /// Builds the table again with the slots of held documents. The new one has room for a third more, so that the cost is
    /// a constant for each key that was added.
    #[cold]
    fn build_again(&mut self, held: &impl HeldDocuments) {
        let mut slots = HashTable::with_capacity((self.live + 1) * FILL.1 / FILL.0 + 1);
        for slot in self.slots.drain().filter(|slot| held.is_held(slot.position)) {
            slots.insert_unique(slot.hash(), slot, IndexSlot::hash);
        }
        self.slots = slots;
    }

    /// Frees storage after a burst.
    fn shrink(&mut self, held: &impl HeldDocuments) {
        if self.slots.capacity() > KEPT && self.live < self.slots.capacity() / 8 {
            self.build_again(held);
        }
        if self.rest.capacity() > KEPT && self.rest.len() < self.rest.capacity() / 8 {
            self.rest.shrink_to(self.rest.len() * 2);
        }
    }
}

// === impl IndexSlot ===

impl IndexSlot {
    fn new(print: u32, Location { position, element }: Location) -> Self {
        Self { print, element, position }
    }

    fn location(&self) -> Location {
        Location { position: self.position, element: self.element }
    }

    fn hash(&self) -> u64 {
        spread(self.print)
    }
}

/// Returns a hash for the table, which uses its lowest and its highest bits.
fn spread(print: u32) -> u64 {
    u64::from(print) << 32 | u64::from(print)
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
    use proptest::prelude::*;

    use super::super::arrivals::Arrivals;
    use super::*;

    /// Documents by position, each with the keys of its elements.
    type Documents = Arrivals<Vec<SpanKey>>;

    impl HeldDocuments for Documents {
        fn key(&self, location: Location) -> Option<SpanKey> {
            self.get(location.position)?.get(location.element as usize).copied()
        }

        fn is_held(&self, position: Position) -> bool {
            self.holds(position)
        }
    }

    fn key(number: u64) -> SpanKey {
        let span = SpanId::new(number.to_be_bytes()).unwrap();
        (TraceId::new([1; 16]).unwrap(), span)
    }

    /// Holds a document with one element for each key.
    fn hold(documents: &mut Documents, index: &mut SpanIndex, keys: &[SpanKey]) -> Position {
        let position = documents.push(keys.to_vec());
        for (element, key) in (0..).zip(keys) {
            index.add(*key, Location { position, element }, documents);
        }
        position
    }

    fn release(documents: &mut Documents, index: &mut SpanIndex, position: Position) {
        let keys = documents.take(position).unwrap();
        index.forget(position, keys.len() as u32, (0..).zip(keys), documents);
    }

    #[test]
    fn the_oldest_location_of_a_held_document_comes_first() {
        let (mut documents, mut index) = (Documents::new(), SpanIndex::new());
        let positions = [(); 3].map(|()| hold(&mut documents, &mut index, &[key(1)]));
        // The middle one is released first: its location stays after the first, which is still held.
        for gone in [1, 0] {
            release(&mut documents, &mut index, positions[gone]);
        }
        assert_eq!(index.first(&key(1), &documents), Some(Location { position: positions[2], element: 0 }));
        release(&mut documents, &mut index, positions[2]);
        assert_eq!(index.first(&key(1), &documents), None);
        assert_eq!(index.bytes(), 0);
    }

    #[test]
    fn taken_locations_are_in_the_order_of_arrival_and_take_no_memory() {
        let (mut documents, mut index) = (Documents::new(), SpanIndex::new());
        let positions = [(); 5].map(|()| hold(&mut documents, &mut index, &[key(1)]));
        assert_eq!(index.bytes(), KEY_BYTES + REST_BYTES + 4 * LOCATION_BYTES);
        let taken = index.take(&key(1), &documents).unwrap().into_iter().map(|location| location.position);
        assert_eq!(taken.collect::<Vec<_>>(), positions);
        assert_eq!(index.bytes(), 0);
    }

    #[test]
    fn locations_under_one_key_are_dropped_once_in_any_order_of_removal() {
        const LOCATIONS: usize = 10_000;
        let (mut documents, mut index) = (Documents::new(), SpanIndex::new());
        let positions: Vec<Position> =
            (0..LOCATIONS).map(|_| hold(&mut documents, &mut index, &[key(1)])).collect();
        // Odd ones are released from the middle, then all others in order.
        let order = (0..LOCATIONS)
            .filter(|location| location % 2 == 1)
            .chain((0..LOCATIONS).filter(|location| location % 2 == 0));
        let before = index.steps.count();
        for gone in order {
            release(&mut documents, &mut index, positions[gone]);
        }
        assert_eq!(index.bytes(), 0);
        let steps = index.steps.count() - before;
        assert!(steps <= 3 * LOCATIONS, "{steps} steps for {LOCATIONS} locations");
    }

    #[test]
    fn the_table_of_a_burst_is_freed() {
        let (mut documents, mut index) = (Documents::new(), SpanIndex::new());
        let positions: Vec<Position> =
            (1..=50_000).map(|number| hold(&mut documents, &mut index, &[key(number)])).collect();
        for position in positions {
            release(&mut documents, &mut index, position);
        }
        assert!(index.slots.capacity() <= 2 * KEPT, "{}", index.slots.capacity());
    }

    #[test]
    fn a_key_that_is_held_again_and_again_takes_one_slot() {
        let (mut documents, mut index) = (Documents::new(), SpanIndex::new());
        let others: Vec<SpanKey> = (2..1_000).map(key).collect();
        hold(&mut documents, &mut index, &others);
        for _ in 0..10_000 {
            let position = hold(&mut documents, &mut index, &[key(1)]);
            assert_eq!(index.first(&key(1), &documents), Some(Location { position, element: 0 }));
            release(&mut documents, &mut index, position);
        }
        assert!(index.slots.len() <= others.len() + 1);
    }

    #[test]
    fn a_table_of_held_keys_takes_no_more_than_is_counted_however_many_were_released() {
        let (mut documents, mut index) = (Documents::new(), SpanIndex::new());
        let mut held = VecDeque::new();
        for number in 1..=200_000 {
            held.push_back(hold(&mut documents, &mut index, &[key(number)]));
            if held.len() > 3_000 {
                release(&mut documents, &mut index, held.pop_front().unwrap());
            }
            if number > 3_000 {
                assert!(index.slots.allocation_size() <= index.bytes(), "{number}: {}", index.slots.len());
            }
        }
    }

    proptest! {
        #[test]
        fn finds_the_same_locations_as_a_list(
            steps in proptest::collection::vec((0..4_u8, 1..6_u64, 1..6_u64, 0..8_usize), 0..60),
        ) {
            let (mut documents, mut index) = (Documents::new(), SpanIndex::new());
            // Every location of a held document that was not taken, in the order of arrival.
            let mut model: Vec<(SpanKey, Location)> = Vec::new();
            for (action, one, other, place) in steps {
                match action {
                    0 => {
                        let keys = [key(one), key(other)];
                        let position = hold(&mut documents, &mut index, &keys);
                        model.extend((0..).zip(keys).map(|(element, key)| (key, Location { position, element })));
                    }
                    1 => {
                        let Some((_, Location { position, .. })) = model.get(place).copied() else { continue };
                        documents.take(position);
                        let is_of_it = |(_, location): &&(SpanKey, Location)| location.position == position;
                        let gone: Vec<(u32, SpanKey)> =
                            model.iter().filter(is_of_it).map(|(key, location)| (location.element, *key)).collect();
                        index.forget(position, gone.len() as u32, gone.into_iter(), &documents);
                        model.retain(|entry| !is_of_it(&entry));
                    }
                    2 => {
                        let held = |location: &Location| documents.holds(location.position);
                        let taken: Vec<Location> =
                            index.take(&key(one), &documents).into_iter().flatten().filter(held).collect();
                        let of_key = |(of, _): &&(SpanKey, Location)| *of == key(one);
                        let expected: Vec<Location> =
                            model.iter().filter(of_key).map(|(_, location)| *location).collect();
                        prop_assert_eq!(taken, expected);
                        model.retain(|entry| !of_key(&entry));
                    }
                    _ => index.build_again(&documents),
                }
                for number in 1..6 {
                    let expected = model.iter().find(|(of, _)| *of == key(number)).map(|(_, location)| *location);
                    prop_assert_eq!(index.first(&key(number), &documents), expected);
                }
            }
        }
    }
}
