//! Comparison of contestants: each runs once per round, with the same load.

use std::time::Duration;

use super::contestant::{Contestant, Run, Who};
use super::generator::{Load, Pace};
use super::table::{Column, Latency, Round};

const WARM_UP: Duration = Duration::from_secs(1);

/// Duration of a comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// Time of sending per contestant and round.
    pub(crate) sending: Duration,
}

pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) who: Who,
    pub(crate) load: Load,
}

// === impl Effort ===

impl Effort {
    /// Columns in the order of the entries.
    pub(crate) fn contest(self, entries: Vec<Entry>) -> Vec<Column> {
        let mut contestants: Vec<(Contestant, Load)> =
            entries.into_iter().map(|entry| (entry.who.start(entry.name), entry.load)).collect();
        let mut runs: Vec<Vec<Round>> = contestants.iter().map(|_| Vec::new()).collect();
        let mut posts = vec![(0, 0); contestants.len()];
        for round in 0..=self.rounds {
            let mut order: Vec<usize> = (0..contestants.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let (contestant, load) = &mut contestants[index];
                // The first round is a warm-up.
                load.sending = if round == 0 { self.sending.min(WARM_UP) } else { self.sending };
                let (run, latency) = timed(contestant, load);
                let (taken, refused) = accepted_and_refused(&run);
                posts[index].0 += taken;
                posts[index].1 += refused;
                if round > 0 {
                    runs[index].push(measured(load, &run, latency));
                }
            }
        }
        let ended = contestants.into_iter().zip(runs).zip(posts);
        ended.map(|(((contestant, _), rounds), posts)| column(contestant, rounds, posts)).collect()
    }
}

fn timed(contestant: &Contestant, load: &Load) -> (Run, Option<Latency>) {
    let run = contestant.run(load);
    let latencies = contestant.sink.tally().latencies();
    let latency = matches!(load.pace, Pace::PerSecond(_)).then(|| Latency::of(&latencies)).flatten();
    (run, latency)
}

/// Returns the number of accepted and of refused POSTs.
pub(crate) fn accepted_and_refused(run: &Run) -> (u64, u64) {
    let count = |taken: bool| {
        run.sent
            .answers
            .iter()
            .filter(|(status, _)| (200..300).contains(*status) == taken)
            .map(|(_, posts)| posts)
            .sum()
    };
    (count(true), count(false))
}

fn measured(load: &Load, run: &Run, latency: Option<Latency>) -> Round {
    let posts = accepted_and_refused(run).0;
    let lines = (posts * load.batch.lines()) as f64;
    Round {
        cost: run.processor_time.as_secs_f64() * 1e6 / lines,
        lines_per_second: lines / run.sent.took.as_secs_f64(),
        resident: run.resident as f64,
        written: run.written as f64 / (posts * load.batch.body_bytes()) as f64,
        latency,
    }
}

/// Stops a contestant and returns its results.
pub(crate) fn column(contestant: Contestant, rounds: Vec<Round>, (posts, refused): (u64, u64)) -> Column {
    let (name, is_relay) = (contestant.name.clone(), contestant.is_relay());
    let sink = contestant.sink.clone();
    let counts = contestant.end();
    let tally = sink.tally();
    Column { name, rounds, counts, logs: tally.logs(), refused, requests: tally.requests(), posts, is_relay }
}
