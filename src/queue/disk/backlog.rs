//! Ids of the records that are only on disk, as ranges, since an outage leaves millions of consecutive ids.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::SystemTime;

/// Set of ids to read, smallest first.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    ranges: VecDeque<Range<u64>>,
    /// Time of arrival of the first record, or a time before that.
    since: Option<SystemTime>,
}

// === impl Backlog ===

impl Backlog {
    pub(super) fn new(ranges: Vec<Range<u64>>, since: Option<SystemTime>) -> Self {
        Self { ranges: ranges.into(), since }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn since(&self) -> Option<SystemTime> {
        self.since.filter(|_| !self.is_empty())
    }

    /// Adds the id of a record that was just written, or was popped. Usually it is larger than all others, but two commits
    /// may report theirs in the opposite order.
    pub(super) fn add(&mut self, id: u64, received: Option<SystemTime>) {
        self.since = self.since().into_iter().chain(received).min();
        let place = self.ranges.partition_point(|range| range.end < id);
        match self.ranges.get_mut(place) {
            Some(range) if range.end == id => range.end += 1,
            Some(range) if range.start == id + 1 => range.start = id,
            _ => self.ranges.insert(place, id..id + 1),
        }
    }

    pub(super) fn pop(&mut self) -> Option<u64> {
        let first = self.ranges.front_mut()?;
        let id = first.start;
        first.start += 1;
        if first.is_empty() {
            self.ranges.pop_front();
        }
        Some(id)
    }

    /// Notes when the record that was popped last was received: the remaining ones arrived after it.
    pub(super) fn popped(&mut self, received: SystemTime) {
        self.since = Some(received);
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        self.ranges.iter().any(|range| range.contains(&id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::UNIX_EPOCH;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_are_popped_smallest_first_and_once(steps in proptest::collection::vec(proptest::option::weighted(0.7, 0_u64..40), 0..80)) {
            let mut backlog = Backlog::default();
            let mut model = BTreeSet::new();
            for step in steps {
                match step {
                    Some(id) if model.insert(id) => backlog.add(id, Some(UNIX_EPOCH)),
                    Some(id) => prop_assert!(backlog.contains(id)),
                    None => prop_assert_eq!(backlog.pop(), model.pop_first()),
                }
                prop_assert_eq!(backlog.is_empty(), model.is_empty());
            }
            while let Some(id) = model.pop_first() {
                prop_assert_eq!(backlog.pop(), Some(id));
            }
        }
    }
}
