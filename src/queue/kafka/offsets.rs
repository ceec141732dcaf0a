//! Progress of one partition: which of its records are resolved.
//!
//! In: offsets as they are read and resolved, in any order. Out: the offset to commit, and the metadata of the commit:
//! what is resolved above that offset, so that the next owner of the partition skips it.
//! Promises: no offset below the committed one is unresolved; metadata that is truncated or unreadable costs duplicates,
//! never data; decoding accepts any text.
//!
//! The metadata is base64 of:
//!
//! | what | bytes |
//! |---|---|
//! | version | 1 |
//! | how far the partition was read: offsets after the committed one, little-endian | 4 |
//! | resolved records, as [`Runs`] of offsets after the committed one | 1 or more |
//! | for each record of which some items are resolved: offset after the committed one, length of its [`Progress`], both little-endian, and that | 4 + 2 + n |

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use bytes::Buf;

use super::super::ranges::Ranges;
use super::super::{Progress, Runs, Tracker};

const VERSION: u8 = 1;

/// Maximum size of the metadata before base64. A broker accepts 4096 bytes by default (`offset.metadata.max.bytes`).
const MAX_METADATA: usize = 3000;

/// A record that was read and is not resolved.
#[derive(Debug, Default)]
pub(super) struct OpenRecord {
    /// Timestamp of the record, in milliseconds.
    pub(super) time: i64,
    pub(super) bytes: u64,
    /// Progress within the record, once there is some.
    pub(super) tracker: Option<Arc<Tracker>>,
    /// Set once nothing in this process can resolve it any more.
    pub(super) is_released: bool,
}

/// Progress of a partition.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    /// Next offset to be read; `None` before the first record of a group without a commit.
    position: Option<u64>,
    /// All offsets below are resolved.
    low: u64,
    /// Resolved offsets above `low`; some were resolved by an earlier owner and are not read yet.
    resolved: Ranges,
    open: BTreeMap<u64, OpenRecord>,
    /// Progress of records that an earlier owner resolved in part, until they are read.
    partial: BTreeMap<u64, Progress>,
    /// First offset that no earlier owner had read.
    read_to: u64,
}

/// A record that was just read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ArrivedRecord {
    /// An earlier owner resolved it.
    Resolved,
    Unresolved {
        progress: Progress,
        is_redelivered: bool,
    },
}

/// An offset to commit, with its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) offset: i64,
    pub(super) metadata: String,
}

// === impl Offsets ===

impl Offsets {
    /// Begins at a committed offset, with what its metadata says.
    pub(super) fn resume(committed: Option<u64>, metadata: &str) -> Self {
        let Some(low) = committed else { return Self::default() };
        let mut offsets = Self { position: Some(low), low, read_to: low, ..Self::default() };
        // Metadata that another program wrote is no progress.
        offsets.read_metadata(metadata).unwrap_or_default();
        offsets
    }

    /// Next offset to be read.
    pub(super) fn position(&self) -> Option<u64> {
        self.position
    }

    /// First offset that is not resolved.
    pub(super) fn low(&self) -> u64 {
        self.low
    }

    /// Records a record that was read.
    pub(super) fn read(&mut self, offset: u64, open: OpenRecord) -> ArrivedRecord {
        self.skip_to(offset);
        self.position = Some(offset + 1);
        if offset < self.low || self.resolved.contains(offset) {
            return ArrivedRecord::Resolved;
        }
        self.open.insert(offset, open);
        let progress = self.partial.remove(&offset).unwrap_or_default();
        ArrivedRecord::Unresolved { progress, is_redelivered: offset < self.read_to }
    }

    /// Passes over offsets that hold no record, up to this one. Returns the number of those that may have held one.
    pub(super) fn skip_to(&mut self, offset: u64) -> u64 {
        let Some(position) = self.position else {
            (self.low, self.position) = (offset, Some(offset));
            return 0;
        };
        if offset <= position {
            return 0;
        }
        let overlap = |range: Range<u64>| range.end.min(offset).saturating_sub(range.start.max(position));
        let unresolved =
            offset.saturating_sub(position.max(self.low)) - self.resolved.iter().map(overlap).sum::<u64>();
        self.resolved.insert(position..offset);
        self.position = Some(offset);
        self.advance();
        unresolved
    }

    /// Records that a record is resolved. Returns the record, unless it was resolved before.
    pub(super) fn resolve(&mut self, offset: u64) -> Option<OpenRecord> {
        let open = self.open.remove(&offset)?;
        self.resolved.insert(offset..offset + 1);
        self.advance();
        Some(open)
    }

    pub(super) fn open_mut(&mut self, offset: u64) -> Option<&mut OpenRecord> {
        self.open.get_mut(&offset)
    }

    /// Records that are not resolved.
    pub(super) fn open(&self) -> impl Iterator<Item = &OpenRecord> {
        self.open.values()
    }

    /// The offset to commit now; `None` if there is none yet.
    pub(super) fn commit(&self) -> Option<Commit> {
        self.position?;
        Some(Commit { offset: i64::try_from(self.low).ok()?, metadata: self.metadata() })
    }

    fn advance(&mut self) {
        self.low = self.resolved.take_until_gap(self.low);
    }

    /// Returns the offset as its distance to the committed one.
    fn distance(&self, offset: u64) -> Option<u32> {
        offset.checked_sub(self.low).and_then(|distance| u32::try_from(distance).ok())
    }

    fn metadata(&self) -> String {
        let read_to = self.position.unwrap_or_default().max(self.read_to);
        if read_to <= self.low && self.open.is_empty() && self.partial.is_empty() {
            return String::new();
        }
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.distance(read_to).unwrap_or(u32::MAX).to_le_bytes());
        let mut runs = Runs::default();
        for range in self.resolved.iter() {
            let (Some(start), Some(end)) = (self.distance(range.start), self.distance(range.end)) else {
                break;
            };
            runs.insert(start..end);
        }
        let mut kept = MAX_METADATA;
        let encoded = loop {
            let mut encoded = Vec::new();
            runs.encode(&mut encoded);
            if encoded.len() + out.len() <= MAX_METADATA {
                break encoded;
            }
            kept /= 2;
            runs.truncate(kept);
        };
        out.extend_from_slice(&encoded);
        let tracked =
            self.open.iter().filter_map(|(offset, open)| Some((*offset, open.tracker.as_ref()?.encode()?)));
        let waiting = self.partial.iter().map(|(offset, progress)| (*offset, progress.encode()));
        for (offset, progress) in tracked.chain(waiting) {
            let (Some(distance), Ok(len)) = (self.distance(offset), u16::try_from(progress.len())) else {
                continue;
            };
            if out.len() + 6 + progress.len() <= MAX_METADATA {
                out.extend_from_slice(&distance.to_le_bytes());
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(&progress);
            }
        }
        BASE64.encode(out)
    }

    /// Returns `None` if the metadata is not valid to its end.
    fn read_metadata(&mut self, metadata: &str) -> Option<()> {
        let bytes = BASE64.decode(metadata).ok()?;
        let mut rest = &bytes[..];
        if rest.try_get_u8().ok()? != VERSION {
            return None;
        }
        let read_to = u64::from(rest.try_get_u32_le().ok()?);
        let runs = Runs::decode(&mut rest)?;
        self.read_to = self.low + read_to;
        for run in runs.iter() {
            self.resolved.insert(self.low + u64::from(run.start)..self.low + u64::from(run.end));
        }
        let low = self.low;
        self.advance();
        while !rest.is_empty() {
            let offset = low + u64::from(rest.try_get_u32_le().ok()?);
            let len = usize::from(rest.try_get_u16_le().ok()?);
            let progress = Progress::decode(rest.get(..len)?)?;
            rest.advance(len);
            if offset >= self.low && !self.resolved.contains(offset) {
                self.partial.insert(offset, progress);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::event::{Settled, Signal};
    use crate::queue::Half;

    /// A step of an owner: reads the next record, resolves one of those that are open, or leaves.
    #[derive(Debug, Clone)]
    enum Step {
        Read { gap: u64 },
        Resolve { index: usize },
        Progress { index: usize },
        HandOver,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Read { gap: 0 }),
            1 => (1_u64..4).prop_map(|gap| Step::Read { gap }),
            4 => any::<usize>().prop_map(|index| Step::Resolve { index }),
            1 => any::<usize>().prop_map(|index| Step::Progress { index }),
            1 => Just(Step::HandOver),
        ];
        proptest::collection::vec(step, 0..120)
    }

    proptest! {
        /// The naive implementation: sets of single offsets.
        #[test]
        fn owners_that_follow_each_other_resolve_each_record_once(steps in steps()) {
            let mut offsets = Offsets::resume(None, "");
            let (mut log, mut resolved, mut partial) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
            let mut next = 0;
            let mut open: Vec<u64> = Vec::new();
            let mut end = 5;
            for step in steps {
                match step {
                    Step::Read { gap } => {
                        if next == log.len() {
                            log.push(end + gap);
                            end += gap + 1;
                        }
                        let offset = log[next];
                        next += 1;
                        match offsets.read(offset, OpenRecord::default()) {
                            ArrivedRecord::Resolved => prop_assert!(resolved.contains(&offset)),
                            ArrivedRecord::Unresolved { progress, .. } => {
                                prop_assert!(!resolved.contains(&offset));
                                prop_assert_eq!(progress != Progress::default(), partial.contains(&offset));
                                if partial.contains(&offset) {
                                    let tracker = Arc::new(Tracker::default());
                                    tracker.resume(progress);
                                    offsets.open_mut(offset).unwrap().tracker = Some(tracker);
                                }
                                open.push(offset);
                            }
                        }
                    }
                    Step::Resolve { index } if !open.is_empty() => {
                        let offset = open.swap_remove(index % open.len());
                        prop_assert!(offsets.resolve(offset).is_some());
                        prop_assert!(offsets.resolve(offset).is_none());
                        resolved.insert(offset);
                    }
                    Step::Progress { index } if !open.is_empty() => {
                        let offset = open[index % open.len()];
                        let tracker = Arc::new(Tracker::default());
                        tracker.settle(Signal::Logs, Half::Log, 1..2, Settled::Delivered);
                        offsets.open_mut(offset).unwrap().tracker = Some(tracker);
                        partial.insert(offset);
                    }
                    Step::HandOver => {
                        let Some(Commit { offset, metadata }) = offsets.commit() else { continue };
                        let offset = u64::try_from(offset).unwrap();
                        prop_assert!(metadata.len() <= 4096);
                        offsets = Offsets::resume(Some(offset), &metadata);
                        open.clear();
                        next = log.iter().position(|one| *one >= offset).unwrap_or(log.len());
                    }
                    _ => {}
                }
                if let Some(Commit { offset, .. }) = offsets.commit() {
                    let lowest = log.iter().copied().find(|offset| !resolved.contains(offset));
                    let offset = u64::try_from(offset).unwrap();
                    prop_assert!(lowest.is_none_or(|lowest| offset <= lowest), "{} {:?}", offset, lowest);
                    if next == log.len() {
                        prop_assert_eq!(offset.max(log[0]), lowest.unwrap_or(end));
                    }
                }
            }
        }

        #[test]
        fn any_metadata_is_read(low in 0_u64..9, metadata: String, bytes: Vec<u8>) {
            for metadata in [metadata, BASE64.encode(bytes)] {
                let offsets = Offsets::resume(Some(low), &metadata);
                prop_assert!(offsets.low() >= low);
            }
        }

        #[test]
        fn truncated_metadata_resolves_nothing_that_was_open(runs in prop_oneof![0_u64..50, 1400_u64..1600, 5000_u64..6000]) {
            let mut offsets = Offsets::resume(Some(7), "");
            for offset in 7..7 + 2 * runs {
                offsets.read(offset, OpenRecord::default());
                if offset % 2 == 0 {
                    offsets.resolve(offset);
                }
            }
            let Commit { offset, metadata } = offsets.commit().unwrap();
            prop_assert!(metadata.len() <= 4096);
            let mut next = Offsets::resume(Some(u64::try_from(offset).unwrap()), &metadata);
            let mut skipped = 0;
            for offset in 7..7 + 2 * runs {
                if next.read(offset, OpenRecord::default()) == ArrivedRecord::Resolved {
                    prop_assert_eq!(offset % 2, 0);
                    skipped += 1;
                }
            }
            prop_assert!(skipped >= runs.min(700), "{} of {}", skipped, runs);
        }
    }

    #[test]
    fn records_that_were_deleted_unread_are_counted() {
        let mut offsets = Offsets::resume(Some(10), "");
        assert_eq!(offsets.skip_to(14), 4);
        offsets.read(14, OpenRecord::default());
        assert_eq!((offsets.low(), offsets.position()), (14, Some(15)));
        offsets.resolve(14);
        assert_eq!(offsets.commit(), Some(Commit { offset: 15, metadata: String::new() }));
    }

    #[test]
    fn what_an_earlier_owner_had_read_is_redelivered() {
        let mut offsets = Offsets::resume(Some(0), "");
        (0..3).for_each(|offset| drop(offsets.read(offset, OpenRecord::default())));
        offsets.resolve(1);
        let Commit { metadata, .. } = offsets.commit().unwrap();
        let mut next = Offsets::resume(Some(0), &metadata);
        let arrivals = (0..4).map(|offset| next.read(offset, OpenRecord::default()));
        let redelivered: Vec<_> = arrivals
            .map(|arrival| match arrival {
                ArrivedRecord::Resolved => None,
                ArrivedRecord::Unresolved { is_redelivered, .. } => Some(is_redelivered),
            })
            .collect();
        assert_eq!(redelivered, [Some(true), None, Some(true), Some(false)]);
    }
}
