//! Set of mostly consecutive ids.

use std::collections::BTreeMap;
use std::ops::Range;

/// Set of disjoint ranges that do not touch.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Ranges {
    /// Ends of the ranges, by their starts.
    ranges: BTreeMap<u64, u64>,
}

// === impl Ranges ===

impl Ranges {
    pub(super) fn contains(&self, id: u64) -> bool {
        self.ranges.range(..=id).next_back().is_some_and(|(_, end)| id < *end)
    }

    pub(super) fn insert(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        // Merge every range that overlaps or touches.
        while let Some((&before, &before_end)) = self.ranges.range(..=end).next_back() {
            if before_end < start {
                break;
            }
            (start, end) = (start.min(before), end.max(before_end));
            self.ranges.remove(&before);
        }
        self.ranges.insert(start, end);
    }

    /// Removes everything below `from` and the range that covers it, and returns the first id from there on that is not in
    /// the set.
    #[cfg(any(test, feature = "kafka"))]
    pub(super) fn take_until_gap(&mut self, from: u64) -> u64 {
        if self.ranges.first_key_value().is_none_or(|(start, _)| *start > from) {
            return from;
        }
        let mut rest = self.ranges.split_off(&from.saturating_add(1));
        std::mem::swap(&mut self.ranges, &mut rest);
        let covering = rest.into_values().next_back();
        covering.map_or(from, |end| end.max(from))
    }

    #[cfg(any(test, feature = "kafka"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|(start, end)| *start..*end)
    }

    /// Returns the ranges in ascending order.
    pub(super) fn into_vec(self) -> Vec<Range<u64>> {
        self.ranges.into_iter().map(|(start, end)| start..end).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_are_a_set_of_ids(inserts in proptest::collection::vec((0_u64..60, 0_u64..8), 0..40), from in 0_u64..70) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (start, len) in inserts {
                ranges.insert(start..start + len);
                model.extend(start..start + len);
            }
            for id in 0..70 {
                prop_assert_eq!(ranges.contains(id), model.contains(&id));
            }
            let mut rest = ranges.clone();
            let gap = (from..).find(|id| !model.contains(id)).unwrap();
            prop_assert_eq!(rest.take_until_gap(from), gap);
            prop_assert!(rest.iter().flatten().eq(model.iter().copied().filter(|id| *id > gap)));
            let ranges = ranges.into_vec();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert_eq!(ranges.into_iter().flatten().collect::<BTreeSet<_>>(), model);
        }
    }
}
