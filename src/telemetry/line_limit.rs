//! Bounds how often the log repeats itself.
//!
//! In: the time of each line of one kind. Out: whether it is written, and how many were suppressed since the last one
//! that was.
//! Promises: clients and downstreams can cause as many lines as they like without filling a disk. The number of
//! suppressed lines is reported by the next line of the kind, never by a line of its own: until then the metrics
//! have the counts. At `debug` the callers log each of them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(60);

/// A number of lines in each minute.
#[derive(Debug)]
pub(crate) struct LineLimit {
    lines: u32,
    period: Mutex<Period>,
}

#[derive(Debug)]
struct Period {
    began: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

/// Lines that were not written since the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suppressed(u64);

// === impl LineLimit ===

impl LineLimit {
    pub(crate) const fn new(lines: u32) -> Self {
        Self { lines, period: Mutex::new(Period { began: None, lines: 0, suppressed: 0 }) }
    }

    /// Returns the number of lines suppressed since the last one if a line may be written now.
    pub(crate) fn admit(&self, now: Instant) -> Option<Suppressed> {
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
    fn admit(&mut self, lines: u32, now: Instant) -> Option<Suppressed> {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= PERIOD) {
            (self.began, self.lines) = (Some(now), 0);
        }
        if self.lines == lines {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(Suppressed(std::mem::take(&mut self.suppressed)))
    }
}

// === impl Suppressed ===

impl Suppressed {
    /// Returns the count for a log field, which is left out when it would be zero.
    pub(crate) fn shown(self) -> Option<u64> {
        (self.0 > 0).then_some(self.0)
    }

    /// Returns the count with the line that is written now.
    pub(crate) fn and_this_one(self) -> u64 {
        self.0 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_period_reports_how_many_lines_were_suppressed() {
        let (limit, now) = (LineLimit::new(10), Instant::now());
        let admitted: Vec<_> = (0..100).filter_map(|_| limit.admit(now)).collect();
        assert_eq!(admitted, [Suppressed(0); 10]);
        assert_eq!(limit.admit(now + PERIOD), Some(Suppressed(90)));
        assert_eq!(limit.admit(now + PERIOD), Some(Suppressed(0)));
    }

    #[test]
    fn of_one_line_a_minute_the_first_is_written_at_once() {
        let (limit, start) = (LineLimit::default(), Instant::now());
        assert_eq!(limit.admit(start).map(Suppressed::and_this_one), Some(1));
        assert_eq!(limit.admit(start), None);
        assert_eq!(limit.admit(start + PERIOD / 2), None);
        let next = limit.admit(start + PERIOD).expect("a minute has passed");
        assert_eq!((next.shown(), next.and_this_one()), (Some(2), 3));
        assert_eq!(limit.admit(start + PERIOD), None);
    }
}
