//! Lines of one kind that the log gets, at most.
//!
//! In: the time of each. Out: whether it is written, and how many were not since the last one that was.
//! Promises: senders and downstreams can cause as much as they like without filling a disk, and nothing is left out in
//! silence for longer than the next line takes to come.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(60);

/// So many lines in a minute.
#[derive(Debug)]
pub(crate) struct LineLimit {
    lines: u32,
    period: Mutex<Period>,
}

#[derive(Debug, Default)]
struct Period {
    began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

/// Lines that were not written since the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeftOut(u64);

// === impl LineLimit ===

impl LineLimit {
    pub(crate) fn new(lines: u32) -> Self {
        Self { lines, period: Mutex::default() }
    }

    /// Whether a line may be written now.
    pub(crate) fn admit(&self, now: Instant) -> Option<LeftOut> {
        self.period.lock().unwrap_or_else(PoisonError::into_inner).admit(self.lines, now)
    }
}

impl Default for LineLimit {
    /// One line in a minute.
    fn default() -> Self {
        Self::new(1)
    }
}

// === impl Period ===

impl Period {
    fn admit(&mut self, lines: u32, now: Instant) -> Option<LeftOut> {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= PERIOD) {
            (self.began, self.lines) = (Some(now), 0);
        }
        if self.lines == lines {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(LeftOut(std::mem::take(&mut self.left_out)))
    }
}

// === impl LeftOut ===

impl LeftOut {
    /// For the log: nothing to say is not said.
    pub(crate) fn shown(self) -> Option<u64> {
        (self.0 > 0).then_some(self.0)
    }

    /// With the one that is written.
    pub(crate) fn and_this_one(self) -> u64 {
        self.0 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_many_lines_were_left_out_when_the_next_period_begins() {
        let (limit, now) = (LineLimit::new(10), Instant::now());
        let admitted: Vec<_> = (0..100).filter_map(|_| limit.admit(now)).collect();
        assert_eq!(admitted, [LeftOut(0); 10]);
        assert_eq!(limit.admit(now + PERIOD), Some(LeftOut(90)));
        assert_eq!(limit.admit(now + PERIOD), Some(LeftOut(0)));
    }

    #[test]
    fn the_first_of_one_line_a_minute_is_told_at_once() {
        let (limit, start) = (LineLimit::default(), Instant::now());
        assert_eq!(limit.admit(start).map(LeftOut::and_this_one), Some(1));
        assert_eq!(limit.admit(start), None);
        assert_eq!(limit.admit(start + PERIOD / 2), None);
        let next = limit.admit(start + PERIOD).expect("a minute has passed");
        assert_eq!((next.shown(), next.and_this_one()), (Some(2), 3));
        assert_eq!(limit.admit(start + PERIOD), None);
    }
}
