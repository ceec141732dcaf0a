//! Tables of results: one value per contestant and round, and the ratios within a round.

use std::fmt::{self, Display, Formatter, Write as _};
use std::time::Duration;

use super::tally::Counts;

/// Results of one contestant.
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) rounds: Vec<Round>,
    pub(crate) counts: Counts,
    pub(crate) logs: u64,
    /// Number of POSTs without a 2xx response.
    pub(crate) refused: u64,
    /// Number of exports per hundred incoming POSTs.
    pub(crate) requests: u64,
    pub(crate) posts: u64,
    pub(crate) is_relay: bool,
}

/// Results of one round.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Round {
    /// Processor time per line, in microseconds.
    pub(crate) cost: f64,
    pub(crate) lines_per_second: f64,
    /// Resident memory in bytes.
    pub(crate) resident: f64,
    /// Bytes written to the disk per byte of accepted bodies.
    pub(crate) written: f64,
    pub(crate) latency: Option<Latency>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
}

/// Ratios over all rounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratio {
    least: f64,
    pub(crate) median: f64,
    most: f64,
}

/// A documented target and its result.
pub(crate) struct Target {
    pub(crate) measure: String,
    pub(crate) target: String,
    pub(crate) measured: String,
    pub(crate) absolute: String,
    pub(crate) is_met: bool,
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

// === impl Ratio ===

impl Ratio {
    pub(crate) fn of(rounds: impl Iterator<Item = f64> + Clone) -> Self {
        Self {
            least: rounds.clone().fold(f64::INFINITY, f64::min),
            median: median(rounds.clone()),
            most: rounds.fold(0.0, f64::max),
        }
    }

    pub(crate) fn divided_by(self, divisor: f64) -> Self {
        let Self { least, median, most } = self;
        Self { least: least / divisor, median: median / divisor, most: most / divisor }
    }
}

impl Display for Ratio {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { least, median, most } = self;
        if least == most {
            write!(f, "{median:.2}")
        } else {
            write!(f, "{median:.2} ({least:.2} to {most:.2})")
        }
    }
}

// === impl Latency ===

impl Latency {
    /// Computes percentiles of sorted latencies.
    pub(crate) fn of(latencies: &[Duration]) -> Option<Self> {
        let last = latencies.len().checked_sub(1)?;
        let at = |part: f64| latencies[((last as f64) * part).round() as usize];
        Some(Self { p50: at(0.5), p99: at(0.99), p999: at(0.999) })
    }
}

// === impl Column ===

impl Column {
    pub(crate) fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(of))
    }

    /// Computes ratios round by round, because the speed of the machine varies between rounds.
    pub(crate) fn ratio(&self, to: &Self, of: impl Fn(&Round) -> f64) -> Ratio {
        Ratio::of(self.rounds.iter().zip(&to.rounds).map(|(mine, theirs)| of(mine) / of(theirs)))
    }
}

/// Formats the table as Markdown. Ratios are relative to the last column.
pub(crate) fn print(title: &str, columns: &[Column]) {
    let mut out = format!("\n### {title}\n\n");
    out += "| | CPU/line | ratio | lines/s | RSS | p50 / p99 / p99.9 | requests/post | refused | lost | duplicated | misattached | unknown |\n";
    out += "|---|---:|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|\n";
    let last = columns.last().expect("there is a measurement");
    for column in columns {
        let Column { name, counts, refused, requests, posts, .. } = column;
        let latency = |of: fn(&Latency) -> Duration| {
            column.median(|round| {
                round.latency.as_ref().map_or(f64::NAN, |latency| of(latency).as_secs_f64() * 1e3)
            })
        };
        let (p50, p99, p999) = (latency(|of| of.p50), latency(|of| of.p99), latency(|of| of.p999));
        let latency =
            if p50.is_nan() { String::new() } else { format!("{p50:.2} / {p99:.2} / {p999:.2} ms") };
        writeln!(
            out,
            "| {name} | {cost:.2} us | {ratio} | {rate:.0} | {resident:.1} MiB | {latency} | {left:.2} | {refused} | {} | {} | {} | {} |",
            counts.lost,
            counts.duplicates,
            counts.wrong_joins,
            counts.unknown,
            cost = column.median(|round| round.cost),
            ratio = column.ratio(last, |round| round.cost),
            rate = column.median(|round| round.lines_per_second),
            resident = column.median(|round| round.resident) / 1_048_576.0,
            left = *requests as f64 / *posts as f64,
        )
        .expect("a string takes everything");
    }
    println!("{out}");
}

pub(crate) fn print_targets(targets: &[Target]) {
    println!("\n### Targets\n\n| measure | target | measured | | |\n|---|---|---:|---|---|");
    for Target { measure, target, measured, absolute, is_met } in targets {
        let verdict = if *is_met { "met" } else { "missed" };
        println!("| {measure} | {target} | {measured} | {absolute} | {verdict} |");
    }
}
