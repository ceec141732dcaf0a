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
        fn ranges_are_a_set_of_ids(inserts in proptest::collection::vec((0_u64..60, 0_u64..8), 0..40)) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (start, len) in inserts {
                ranges.insert(start..start + len);
                model.extend(start..start + len);
            }
            for id in 0..70 {
                prop_assert_eq!(ranges.contains(id), model.contains(&id));
            }
            let ranges = ranges.into_vec();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert_eq!(ranges.into_iter().flatten().collect::<BTreeSet<_>>(), model);
        }
    }
}
