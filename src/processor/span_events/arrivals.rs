//! Sequence of values in the order of arrival, with removal from any position at a constant cost.
//!
//! In: values, in the order of their arrival. Out: the same values, by [`Position`] or oldest first.
//! Promises: a position is never reused, so that an outdated one finds nothing rather than another value.
//! Left to others: when a value is removed.

use std::collections::VecDeque;

use super::steps::AccessCount;

/// Number of slots below which storage is not worth freeing.
const KEPT: usize = 1024;

/// Arrival order of a value among all values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position(u64);

/// Values in the order of their arrival.
#[derive(Debug)]
pub(super) struct Arrivals<T> {
    /// Position of the first slot.
    first: u64,
    /// Slots of the values. A value that was removed from the middle leaves an empty slot until all values before it
    /// are removed, too. The first slot is never empty.
    slots: VecDeque<Option<T>>,
    /// Number of empty slots.
    empty: usize,
    pub(super) steps: AccessCount,
}

// === impl Arrivals ===

impl<T> Arrivals<T> {
    /// Memory that one slot takes, in bytes: the storage doubles when it grows, so that up to half of it is spare.
    pub(super) const SLOT_BYTES: usize = 2 * size_of::<Option<T>>();

    pub(super) fn new() -> Self {
        Self { first: 0, slots: VecDeque::new(), empty: 0, steps: AccessCount::default() }
    }

    pub(super) fn push(&mut self, value: T) -> Position {
        let position = Position(self.first + self.slots.len() as u64);
        self.slots.push_back(Some(value));
        position
    }

    pub(super) fn holds(&self, position: Position) -> bool {
        // Without empty slots, which is usual, no memory is read.
        self.slot(position).is_some_and(|slot| match self.empty {
            0 => slot < self.slots.len(),
            _ => self.slots.get(slot).is_some_and(Option::is_some),
        })
    }

    pub(super) fn get(&self, position: Position) -> Option<&T> {
        self.slots.get(self.slot(position)?)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, position: Position) -> Option<&mut T> {
        let slot = self.slot(position)?;
        self.slots.get_mut(slot)?.as_mut()
    }

    pub(super) fn take(&mut self, position: Position) -> Option<T> {
        let slot = self.slot(position)?;
        let value = self.slots.get_mut(slot)?.take()?;
        self.empty += 1;
        self.close_up();
        Some(value)
    }

    pub(super) fn oldest(&self) -> Option<&T> {
        self.slots.front()?.as_ref()
    }

    pub(super) fn take_oldest(&mut self) -> Option<(Position, T)> {
        let position = Position(self.first);
        self.take(position).map(|value| (position, value))
    }

    /// Returns the memory that the slots take, in bytes, including empty ones.
    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * Self::SLOT_BYTES
    }

    fn slot(&self, position: Position) -> Option<usize> {
        self.steps.step();
        position.0.checked_sub(self.first).and_then(|slot| usize::try_from(slot).ok())
    }

    /// Drops empty slots from the front. Every slot is dropped once, so that the amortised cost is constant.
    fn close_up(&mut self) {
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
            self.empty -= 1;
            self.steps.step();
        }
        // Frees storage after a burst.
        if self.slots.capacity() > KEPT && self.slots.len() < self.slots.capacity() / 8 {
            self.slots.shrink_to(self.slots.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_oldest_first_and_removed_ones_are_skipped() {
        let mut line = Arrivals::new();
        let [_, second, third] = ["a", "b", "c"].map(|value| line.push(value));
        assert_eq!(line.take(second), Some("b"));
        assert_eq!(line.oldest(), Some(&"a"));
        assert_eq!(line.take_oldest().map(|(_, value)| value), Some("a"));
        assert_eq!(line.oldest(), Some(&"c"));
        assert_eq!(line.take(third), Some("c"));
        assert_eq!(line.take_oldest(), None);
        assert_eq!(line.bytes(), 0);
    }

    #[test]
    fn an_outdated_position_finds_nothing() {
        let mut line = Arrivals::new();
        let [first, second, third] = [1, 2, 3].map(|value| line.push(value));
        assert_eq!((line.take(second), line.take(first)), (Some(2), Some(1)));
        let later = line.push(4);
        for gone in [first, second] {
            assert!(!line.holds(gone));
            assert_eq!(line.get_mut(gone), None);
            assert_eq!(line.take(gone), None);
        }
        assert_eq!((line.take(third), line.take(later)), (Some(3), Some(4)));
    }

    #[test]
    fn storage_of_a_burst_is_freed() {
        let mut line = Arrivals::new();
        for value in 0..100_000 {
            line.push(value);
        }
        while line.take_oldest().is_some() {}
        assert!(line.slots.capacity() <= KEPT, "{}", line.slots.capacity());
    }
}
