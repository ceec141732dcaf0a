//! How many requests of a signal are on the wire: as many as its downstream takes well, up to `max_in_flight`.
//!
//! In: when each attempt began, and how it ended. Out: places; an attempt waits for one, in the order of asking.
//! Promises: at least one place for each signal, and over all signals never more than `max_in_flight` that are taken.
//! Leaves to others: what an answer means ([`outcome`](super::outcome)), and how long a refused export pauses.
//!
//! The rule is the one of TCP, additive increase and multiplicative decrease, with what Vector adds to it for HTTP:
//! latency counts too. The [`Level`] of a signal is decided anew at the end of a window of one round trip:
//!
//! - an attempt was refused for now (429, 5xx), or had no answer: half as many
//! - the places were all taken, and latency is well over what it is when they are not: three quarters
//! - the places were all taken: one more; twice as many until the first time that there were too many
//! - they were all taken before anything is known of the latency: down to [`FIRST_LIMIT`], to learn it
//! - they were not all taken: nothing shows that more would be taken, or that fewer would help
//!
//! Attempts that began before the last decision say nothing about it and are left out, so that thirty refusals at once
//! halve once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::outcome::Meaning;
use crate::otlp::Signal;
use crate::telemetry::Metrics;

/// Few enough that the latency is the downstream's own, and enough that one request which hangs does not hold up all.
/// Not the level at the very start: of a downstream that has answered nothing yet, nothing is known that would speak
/// against `max_in_flight`.
const FIRST_LIMIT: usize = 4;
/// A shorter round trip is no time to learn anything in.
const MIN_WINDOW: Duration = Duration::from_millis(20);
/// So much more latency than usual is never taken for overload: a scheduler's whim, a larger batch.
const MIN_SLACK_SECONDS: f64 = 0.050;
/// More than so many times the usual deviation is unusual.
const DEVIATIONS: f64 = 3.0;
/// What a window counts for in the usual latency.
const WEIGHT: f64 = 0.3;

/// The places on the wire for one signal's requests.
pub(super) struct Concurrency {
    signal: Signal,
    /// Over all signals.
    wire: Arc<Semaphore>,
    /// As many permits as the level says, once the debt is paid.
    own: Arc<Semaphore>,
    book: Mutex<Book>,
    metrics: Metrics,
}

/// A place on the wire, until it is dropped.
pub(super) struct Place {
    concurrency: Arc<Concurrency>,
    began: Instant,
    /// The signal's. Absent only while it is dropped.
    own: Option<OwnedSemaphorePermit>,
    _wire: OwnedSemaphorePermit,
}

struct Book {
    level: Level,
    taken: usize,
    /// Permits that are to go as soon as they come back.
    debt: usize,
}

/// How many places there should be.
#[derive(Debug)]
struct Level {
    limit: usize,
    max: usize,
    growth: Growth,
    usual: Option<Latency>,
    window: Window,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// There were never too many.
    Double,
    AddOne,
}

/// In seconds, exponentially weighted.
#[derive(Debug, Clone, Copy)]
struct Latency {
    mean: f64,
    deviation: f64,
}

/// What was learned since the last decision, from attempts that began after it.
#[derive(Debug)]
struct Window {
    began: Instant,
    answered: u32,
    /// Of those that were answered, in seconds.
    latency_sum: f64,
    refused: bool,
    /// All places were taken at some time.
    filled: bool,
}

// === impl Concurrency ===

impl Concurrency {
    /// One for each signal; together they take no more than `max` places.
    pub(super) fn for_all_signals(max: usize, metrics: &Metrics) -> [Arc<Self>; Signal::ALL.len()] {
        let wire = Arc::new(Semaphore::new(max));
        Signal::ALL.map(|signal| {
            let level = Level::new(max, Instant::now());
            metrics.concurrency_limit(signal, level.limit);
            Arc::new(Self {
                signal,
                wire: Arc::clone(&wire),
                own: Arc::new(Semaphore::new(level.limit)),
                book: Mutex::new(Book { level, taken: 0, debt: 0 }),
                metrics: metrics.clone(),
            })
        })
    }

    /// Waits for a place.
    pub(super) async fn place(self: Arc<Self>) -> Place {
        // The signal's own first: whoever waits for that keeps none of the others' from them.
        let own = permit(&self.own).await;
        let wire = permit(&self.wire).await;
        let mut book = self.book();
        book.taken += 1;
        book.level.window.filled |= book.taken >= book.level.limit;
        drop(book);
        Place { concurrency: self, began: Instant::now(), own: Some(own), _wire: wire }
    }

    fn ended(&self, began: Instant, took: Duration, outcome: Meaning) {
        let mut book = self.book();
        let before = book.level.limit;
        book.level.ended(began, took, outcome);
        let limit = book.level.limit;
        if limit != before {
            book.settle(&self.own, before);
            self.metrics.concurrency_limit(self.signal, limit);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn permit(of: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(of).acquire_owned().await.expect("the semaphore is never closed")
}

// === impl Place ===

impl Place {
    /// Since when it is taken.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The attempt that it was taken for has ended, after so long.
    pub(super) fn ended(self, outcome: Meaning, took: Duration) {
        self.concurrency.ended(self.began, took, outcome);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut book = self.concurrency.book();
        book.taken -= 1;
        if book.debt > 0 {
            book.debt -= 1;
            self.own.take().into_iter().for_each(OwnedSemaphorePermit::forget);
        }
    }
}

// === impl Book ===

impl Book {
    /// Gives out as many permits as the limit has grown by, or takes them back.
    fn settle(&mut self, own: &Semaphore, before: usize) {
        let limit = self.level.limit;
        if let Some(more) = limit.checked_sub(before) {
            let forgiven = more.min(self.debt);
            self.debt -= forgiven;
            own.add_permits(more - forgiven);
        } else {
            let fewer = before - limit;
            self.debt += fewer - own.forget_permits(fewer);
        }
    }
}

// === impl Level ===

impl Level {
    fn new(max: usize, now: Instant) -> Self {
        let max = max.max(1);
        Self { limit: max, max, growth: Growth::Double, usual: None, window: Window::new(now) }
    }

    /// An attempt has ended.
    fn ended(&mut self, began: Instant, took: Duration, outcome: Meaning) {
        if began < self.window.began {
            return;
        }
        match outcome {
            // Nothing is known about the load of a destination that accepts nothing.
            Meaning::Blocked => return,
            // A response that condemns the data is the response of a downstream that works.
            Meaning::Sent | Meaning::Permanent => {
                self.window.answered += 1;
                self.window.latency_sum += took.as_secs_f64();
            }
            Meaning::Throttled | Meaning::Retryable => self.window.refused = true,
        }
        let now = began + took;
        let round_trip = self.usual.map_or(0.0, |usual| usual.mean);
        if now.duration_since(self.window.began).as_secs_f64() >= round_trip.max(MIN_WINDOW.as_secs_f64()) {
            self.decide();
            self.window = Window::new(now);
        }
    }

    fn decide(&mut self) {
        let latency = self.window.latency();
        if self.window.refused {
            return self.shrink_to(self.limit / 2);
        }
        let Some(latency) = latency else { return };
        if self.usual.is_none() && self.window.filled && self.limit > FIRST_LIMIT {
            self.limit = FIRST_LIMIT;
            return;
        }
        let usual = self.usual.get_or_insert(Latency { mean: latency, deviation: 0.0 });
        let is_high = usual.is_exceeded_by(latency);
        // What is beyond that with many requests on the wire may be the wait behind each other. With one, or with
        // places to spare, it is the downstream's own, and so is whatever is lower.
        if latency < usual.mean || self.limit == 1 || !self.window.filled {
            usual.learn(latency);
        }
        match (self.window.filled, is_high) {
            (false, _) => {}
            (true, true) if self.limit > 1 => self.shrink_to(self.limit * 3 / 4),
            (true, _) => self.grow(),
        }
    }

    fn grow(&mut self) {
        let more = match self.growth {
            Growth::Double => self.limit,
            Growth::AddOne => 1,
        };
        self.limit = self.limit.saturating_add(more).min(self.max);
    }

    fn shrink_to(&mut self, limit: usize) {
        self.growth = Growth::AddOne;
        self.limit = limit.max(1);
    }
}

// === impl Latency ===

impl Latency {
    fn is_exceeded_by(self, latency: f64) -> bool {
        let slack = self.mean.max(DEVIATIONS * self.deviation).max(MIN_SLACK_SECONDS);
        latency > self.mean + slack
    }

    fn learn(&mut self, latency: f64) {
        let difference = latency - self.mean;
        self.mean += WEIGHT * difference;
        self.deviation += WEIGHT * (difference.abs() - self.deviation);
    }
}

// === impl Window ===

impl Window {
    fn new(began: Instant) -> Self {
        Self { began, answered: 0, latency_sum: 0.0, refused: false, filled: false }
    }

    /// On average. Nothing when no attempt was answered.
    fn latency(&self) -> Option<f64> {
        (self.answered > 0).then(|| self.latency_sum / f64::from(self.answered))
    }
}

#[cfg(test)]
mod tests;
