//! Scenarios: each produces a table and checks targets.

mod formats;
mod steady;

use std::time::Duration;

use self::formats::{access_logs, grpc};
use self::steady::{growth, held, memory, outage};
use super::batch::{Batch, Shape};
use super::contest::{Effort, Entry};
use super::contestant::{BROKERS, Who};
use super::floor::Floor;
use super::generator::{Load, Pace};
use super::peers;
use super::table::{self, Column, Ratio, Round, Target};

/// Number of spans per batch, as Fastly posts every few seconds.
const LINES: u64 = 1_000;

const MIB: f64 = 1_048_576.0;

/// Result of one scenario.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) targets: Vec<Target>,
    /// Faults of relays that lost, duplicated or misattached anything.
    pub(crate) wrong: Vec<String>,
}

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: fn(Effort, &mut Outcome),
}

pub(crate) const ALL: &[Scenario] = &[
    Scenario { name: "single", run: single },
    Scenario { name: "batch", run: batch },
    Scenario { name: "events", run: events },
    Scenario { name: "faults", run: faults },
    Scenario { name: "webhooks", run: webhooks },
    Scenario { name: "disk", run: disk },
    Scenario { name: "kafka", run: kafka },
    Scenario { name: "written", run: written },
    Scenario { name: "collector", run: collector },
    Scenario { name: "protobuf", run: protobuf },
    Scenario { name: "grpc", run: grpc },
    Scenario { name: "access_logs", run: access_logs },
    Scenario { name: "sizes", run: sizes },
    Scenario { name: "latency", run: latency },
    Scenario { name: "held", run: held },
    Scenario { name: "growth", run: growth },
    Scenario { name: "memory", run: memory },
    Scenario { name: "outage", run: outage },
];

const SINGLE: &[&str] = &["exporters.otlp_http.delivery=single"];
const BATCH: &[&str] = &["exporters.otlp_http.delivery=batch"];
const DURABLE: &[&str] = &["queue.storage=disk", "queue.sync=always"];

/// CPU times per line or request, in microseconds, measured on one machine on 2026-11-28. The peers are not available
/// from a package registry, so that a ratio to one of them is derived from the ratio to a baseline.
mod known {
    /// Baseline that posts each line, bodies of 1,000 lines.
    pub(super) const BARE: f64 = 13.7;
    /// Baseline that posts each line, posts of one line.
    pub(super) const BARE_ONE_LINE: f64 = 27.1;
    /// Baseline that validates and posts each body, bodies of 1,000 lines.
    pub(super) const VALIDATE: f64 = 2.2;
    /// Collector with the `webhook_event` receiver and the `otlpjson` connector, single requests.
    pub(super) const COLLECTOR_SINGLE: f64 = 90.8;
    /// Collector with the `webhook_event` receiver and the `otlpjson` connector, batches.
    pub(super) const COLLECTOR_BATCH: f64 = 22.0;
    /// circleci-hook, webhooks at 500 per second.
    pub(super) const CIRCLECI_HOOK: f64 = 136.0;
}

// === impl Outcome ===

impl Outcome {
    fn show(&mut self, title: &str, columns: &[Column]) {
        table::print(title, columns);
        for column in columns.iter().filter(|column| column.is_relay) {
            // No event about a good span may be exported as a log.
            if !column.counts.are_right() || column.logs > 0 {
                self.wrong
                    .push(format!("{title}, {}: {:?}, {} logs", column.name, column.counts, column.logs));
            }
        }
    }

    fn at_most(&mut self, measure: &str, most: f64, column: &Column, to: &Column) {
        let ratio = column.ratio(to, |round| round.cost);
        let cost = |column: &Column| column.median(|round| round.cost);
        self.ratio_at_most(
            measure,
            most,
            ratio,
            format!("{:.2} us against {:.2} us", cost(column), cost(to)),
        );
    }

    /// Compares with a peer that costs `factor` times as much as the baseline.
    fn derived(&mut self, measure: &str, most: f64, column: &Column, baseline: &Column, factor: f64) {
        let ratio = column.ratio(baseline, |round| round.cost).divided_by(factor);
        let cost = |column: &Column| column.median(|round| round.cost);
        let absolute = format!("{:.2} us against {factor:.2} times {:.2} us", cost(column), cost(baseline));
        self.ratio_at_most(&format!("{measure}, derived"), most, ratio, absolute);
    }

    fn ratio_at_most(&mut self, measure: &str, most: f64, ratio: Ratio, absolute: String) {
        self.targets.push(Target {
            measure: measure.to_owned(),
            target: format!("at most {most:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
            measured: ratio.to_string(),
            absolute,
            is_met: ratio.median <= most,
        });
    }

    fn value_at_most(&mut self, measure: &str, most: f64, unit: &str, value: f64, absolute: String) {
        self.targets.push(Target {
            measure: measure.to_owned(),
            target: format!("at most {most} {unit}"),
            measured: format!("{value:.1} {unit}"),
            absolute,
            is_met: value <= most,
        });
    }
}

/// Returns a load as fast as possible: `connections` clients, each of which sends its next batch when the window allows.
fn flat_out(effort: Effort, shape: Shape, spans: u64, connections: usize) -> Load {
    // Room for several merged requests, even with small batches.
    let window = (connections as u64 * spans * 2).clamp(4_096, 40_000);
    Load {
        batch: Batch::new(shape, spans),
        connections,
        pace: Pace::FlatOut { window },
        sending: effort.sending,
        held: Duration::ZERO,
    }
}

fn relay(name: &'static str, settings: &[&str], load: Load) -> Entry {
    Entry { name, who: Who::relay(settings), load }
}

fn floor(floor: Floor, load: Load) -> Entry {
    let name = match floor {
        Floor::Bare => "floor: split and post each line",
        Floor::Validate => "floor: validate, one post per batch",
    };
    Entry { name, who: Who::Floor(floor), load }
}

fn single(effort: Effort, outcome: &mut Outcome) {
    let load = || flat_out(effort, Shape::Canonical, LINES, 4);
    let columns = effort.contest(vec![
        relay("spanrelay, memory", SINGLE, load()),
        relay("spanrelay, disk", &[DURABLE, SINGLE].concat(), load()),
        floor(Floor::Bare, load()),
    ]);
    outcome.show("single: batches of 1000 canonical lines, each line is exported on its own", &columns);
    let [memory, disk, bare] = &columns[..] else { unreachable!("there are three") };
    outcome.at_most("single, bodies of 1,000: CPU per line against bare hyper", 0.9, memory, bare);
    let collector = known::COLLECTOR_SINGLE / known::BARE;
    outcome.derived(
        "single, bodies of 1,000, disk: CPU per line against a Collector",
        1.0 / 8.0,
        disk,
        bare,
        collector,
    );

    for (what, pace, most) in
        [("as fast as possible", None, 1.2), ("at 5,000/s", Some(Pace::PerSecond(5_000.0)), 1.3)]
    {
        let load = || paced(flat_out(effort, Shape::Canonical, 1, 32), pace);
        let columns =
            effort.contest(vec![relay("spanrelay, memory", SINGLE, load()), floor(Floor::Bare, load())]);
        outcome.show(&format!("single: posts of one canonical line, {what}"), &columns);
        let measure = format!("single, posts of one line, {what}: CPU per line against bare hyper");
        outcome.at_most(&measure, most, &columns[0], &columns[1]);
    }
}

/// Returns the load at another pace, if there is one.
fn paced(load: Load, pace: Option<Pace>) -> Load {
    Load { pace: pace.unwrap_or(load.pace), ..load }
}

fn batch(effort: Effort, outcome: &mut Outcome) {
    for (shape, what) in [(Shape::Canonical, "canonical"), (Shape::Legacy, "legacy VCL")] {
        let load = || flat_out(effort, shape, LINES, 4);
        let columns = effort.contest(vec![
            relay("spanrelay, memory", BATCH, load()),
            relay("spanrelay, disk", &[DURABLE, BATCH].concat(), load()),
            floor(Floor::Validate, load()),
        ]);
        outcome.show(&format!("batch: batches of 1000 {what} lines"), &columns);
        let [memory, disk, validate] = &columns[..] else { unreachable!("there are three") };
        if shape == Shape::Canonical {
            let collector = known::COLLECTOR_BATCH / known::VALIDATE;
            outcome.derived(
                "batch, bodies of 1,000, disk: CPU per line against a Collector",
                1.0 / 6.0,
                disk,
                validate,
                collector,
            );
        } else {
            for (column, name, most) in [(memory, "memory", 1.6), (disk, "disk", 2.0)] {
                let measure = format!("batch, legacy lines, {name}: CPU per line against validate only");
                outcome.at_most(&measure, most, column, validate);
            }
        }
    }
}

fn events(effort: Effort, outcome: &mut Outcome) {
    for (shape, what) in [(Shape::CanonicalWithEvents, "canonical"), (Shape::LegacyWithEvents, "legacy VCL")]
    {
        let load = || flat_out(effort, shape, LINES / 2, 4);
        let columns = effort.contest(vec![
            relay("spanrelay, single", SINGLE, load()),
            relay("spanrelay, batch", BATCH, load()),
            floor(Floor::Validate, load()),
        ]);
        outcome
            .show(&format!("events: batches of 500 {what} lines, each with a log event behind it"), &columns);
    }
}

fn faults(effort: Effort, outcome: &mut Outcome) {
    for (shape, what) in [
        (Shape::OneBadInAHundred, "canonical lines, one in a hundred cut off"),
        (Shape::OneBrokenInAHundred, "legacy VCL lines, one in a hundred to be repaired"),
    ] {
        let load = || flat_out(effort, shape, LINES, 4);
        let mut entries = vec![relay("spanrelay, batch", BATCH, load())];
        // No baseline can forward lines that need repair.
        if shape == Shape::OneBadInAHundred {
            entries.push(floor(Floor::Validate, load()));
        }
        let columns = effort.contest(entries);
        outcome.show(&format!("faults: batches of 1000 {what}"), &columns);
    }
}

/// Measures signed webhooks at a rate at which most requests wake the process up.
fn webhooks(effort: Effort, outcome: &mut Outcome) {
    let load = || paced(flat_out(effort, Shape::Webhook, 1, 32), Some(Pace::PerSecond(500.0)));
    let line = || flat_out(effort, Shape::Canonical, 1, 32);
    let columns = effort.contest(vec![
        relay("spanrelay, memory", SINGLE, load()),
        relay("spanrelay, disk", &[DURABLE, SINGLE].concat(), load()),
        Entry { name: "floor: posts of one line, as fast as possible", ..floor(Floor::Bare, line()) },
    ]);
    outcome.show("webhooks: signed, job-completed, 500 per second", &columns);
    let [memory, disk, bare] = &columns[..] else { unreachable!("there are three") };
    outcome.at_most("webhooks at 500/s: CPU on disk against memory", 1.4, disk, memory);
    let hook = known::CIRCLECI_HOOK / known::BARE_ONE_LINE;
    for (column, name, most) in [(memory, "memory", 0.9), (disk, "disk", 1.3)] {
        let measure = format!("webhooks at 500/s, {name}: CPU against circleci-hook");
        outcome.derived(&measure, most, column, bare, hook);
    }
}

fn disk(effort: Effort, outcome: &mut Outcome) {
    for (spans, connections, what, most) in [
        (1, 32, "posts of one line", 1.35),
        (10, 32, "bodies of 10", 1.25),
        (LINES, 4, "bodies of 1,000", 1.15),
    ] {
        let load = || flat_out(effort, Shape::Canonical, spans, connections);
        let columns = effort.contest(vec![
            relay("spanrelay, disk", &[DURABLE, SINGLE].concat(), load()),
            relay("spanrelay, memory", SINGLE, load()),
        ]);
        outcome.show(&format!("disk: single, {what}"), &columns);
        let measure = format!("single, {what}: CPU on disk against memory");
        outcome.at_most(&measure, most, &columns[0], &columns[1]);
    }
}

/// Compares a front and a worker that share a topic, together, with one relay and its queue on disk.
fn kafka(effort: Effort, outcome: &mut Outcome) {
    let Ok(brokers) = std::env::var(BROKERS) else {
        println!("\nThere is no Kafka to measure with: run the bench with .ci/with-kafka");
        return;
    };
    let shared = |name, delivery: &[&str], load| {
        let settings = delivery.iter().map(|setting| (*setting).to_owned()).collect();
        Entry { name, who: Who::Shared(brokers.clone(), settings), load }
    };
    for (delivery, how) in [(SINGLE, "single"), (BATCH, "batch")] {
        let load = || flat_out(effort, Shape::Canonical, LINES, 4);
        let columns = effort.contest(vec![
            shared("spanrelay, front and worker", delivery, load()),
            relay("spanrelay, disk", &[DURABLE, delivery].concat(), load()),
        ]);
        outcome.show(&format!("kafka: {how}, batches of 1000 canonical lines"), &columns);
        let measure = format!("{how}, bodies of 1,000: CPU of front and worker against disk");
        outcome.at_most(&measure, 2.5, &columns[0], &columns[1]);
    }
}

/// Measures what the queue writes for each byte that it accepts, by the number of requests that share a commit.
fn written(effort: Effort, outcome: &mut Outcome) {
    for (shape, connections, what, most) in [
        (Shape::Canonical, 16, "posts of one line from 16 connections", 1.2),
        (Shape::Webhook, 4, "webhooks from 4 connections", 2.5),
        (Shape::Canonical, 1, "posts of one line from one connection", 5.0),
    ] {
        let load = flat_out(effort, shape, 1, connections);
        let columns = effort.contest(vec![relay("spanrelay, disk", &[DURABLE, SINGLE].concat(), load)]);
        outcome.show(&format!("written: {what}"), &columns);
        let written = columns[0].median(|round| round.written);
        outcome.value_at_most(
            &format!("{what}: bytes written per byte accepted"),
            most,
            "bytes",
            written,
            String::new(),
        );
    }
}

/// Compares with the Collector. It cannot ingest lines, so it receives the same spans as OTLP requests. The relay
/// receives both.
fn collector(effort: Effort, outcome: &mut Outcome) {
    if !peers::has_collector() {
        return;
    }
    const BATCHING: &str =
        "encoding: json, sending_queue: { batch: { flush_timeout: 200ms, min_size: 8192 } }";
    // Otherwise Go keeps only two idle connections and reopens the others repeatedly.
    const KEEPING: &str = "encoding: json, keepalive: { max_idle_conns_per_host: 100 }";
    for (what, spans, connections, delivery) in [("single", 1, 32, SINGLE), ("batch", LINES, 4, BATCH)] {
        // The Collector rejects requests beyond its queue of a thousand requests, which costs time, too.
        let few =
            |load: Load| if spans == 1 { Load { pace: Pace::FlatOut { window: 500 }, ..load } } else { load };
        let lines = || few(flat_out(effort, Shape::Canonical, spans, connections));
        let otlp = || few(flat_out(effort, Shape::Otlp, spans, connections));
        let columns = effort.contest(vec![
            relay("spanrelay, lines in", delivery, lines()),
            relay("spanrelay, OTLP in", delivery, otlp()),
            Entry { name: "Collector, batching", who: Who::Collector(BATCHING), load: otlp() },
            Entry { name: "Collector, connections kept", who: Who::Collector(KEEPING), load: otlp() },
            Entry { name: "Collector", who: Who::Collector("encoding: json"), load: otlp() },
        ]);
        let spans = if spans == 1 { "one span".to_owned() } else { format!("{spans} spans") };
        outcome.show(&format!("collector, {what}: posts of {spans}; the Collector's are OTLP"), &columns);
        for (relay, how) in columns.iter().zip(["lines", "OTLP"]) {
            let measure = format!("{what}, {how} in: CPU per line against the Collector, OTLP in");
            outcome.at_most(&measure, 0.2, relay, &columns[4]);
        }
        let ratio = columns[0].ratio(&columns[4], |round| round.resident);
        let resident = |column: &Column| column.median(|round| round.resident) / MIB;
        outcome.targets.push(Target {
            measure: format!("{what}: RSS against the Collector"),
            target: "at most 0.25".to_owned(),
            measured: ratio.to_string(),
            absolute: format!("{:.1} MiB against {:.1} MiB", resident(&columns[0]), resident(&columns[4])),
            is_met: ratio.median <= 0.25,
        });
    }
}

/// Compares OTLP as protobuf with OTLP as JSON, with a Collector, and with Rotel.
fn protobuf(effort: Effort, outcome: &mut Outcome) {
    const PROTOBUF: &[&str] =
        &["exporters.otlp_http.encoding=protobuf", "exporters.otlp_http.delivery=batch"];
    let has_collector = peers::has_collector();
    for spans in [100, LINES] {
        let of = |shape| flat_out(effort, shape, spans, 4);
        let mut entries = vec![
            relay("spanrelay, protobuf", PROTOBUF, of(Shape::OtlpProtobuf)),
            relay("spanrelay, JSON", BATCH, of(Shape::Otlp)),
        ];
        if has_collector {
            let who = Who::Collector("encoding: proto");
            entries.push(Entry { name: "Collector, protobuf", who, load: of(Shape::OtlpProtobuf) });
        }
        let columns = effort.contest(entries);
        outcome.show(&format!("protobuf: OTLP in and out, posts of {spans} spans"), &columns);
        let measure = format!("OTLP, posts of {spans} spans: CPU per span as protobuf against");
        outcome.at_most(&format!("{measure} the relay's JSON"), 1.0, &columns[0], &columns[1]);
        if let Some(collector) = columns.get(2) {
            outcome.at_most(&format!("{measure} a Collector"), 1.0 / 3.0, &columns[0], collector);
        }
    }
    if peers::has_rotel() {
        let load = || flat_out(effort, Shape::OtlpProtobuf, 1, 32);
        let gzip = [PROTOBUF, &["exporters.otlp_http.compression=gzip"]].concat();
        let columns = effort.contest(vec![
            relay("spanrelay, protobuf", &gzip, load()),
            Entry { name: "Rotel", who: Who::Rotel, load: load() },
        ]);
        outcome.show("protobuf: OTLP in and out, posts of one span, gzip out", &columns);
        outcome.at_most(
            "OTLP, posts of one span, gzip out: CPU against Rotel",
            0.8,
            &columns[0],
            &columns[1],
        );
    }
}

fn sizes(effort: Effort, outcome: &mut Outcome) {
    for (what, settings, kind) in [("batch", BATCH, Floor::Validate), ("single", SINGLE, Floor::Bare)] {
        let load = |spans: u64| flat_out(effort, Shape::Canonical, spans, if spans < 100 { 32 } else { 4 });
        let columns = effort.contest(vec![
            relay("spanrelay, 10 lines", settings, load(10)),
            relay("spanrelay, 100 lines", settings, load(100)),
            relay("spanrelay, 1000 lines", settings, load(1_000)),
            relay("spanrelay, 10000 lines", settings, load(10_000)),
            Entry { name: "floor, 10 lines", ..floor(kind, load(10)) },
            Entry { name: "floor, 10000 lines", ..floor(kind, load(10_000)) },
        ]);
        outcome.show(&format!("sizes: canonical lines, {what}"), &columns);
        let relays = &columns[..4];
        let spread = Ratio::of((0..effort.rounds).map(|round| {
            let costs = relays.iter().map(|column| column.rounds[round].cost);
            costs.clone().fold(0.0, f64::max) / costs.fold(f64::INFINITY, f64::min)
        }));
        let costs = relays.iter().map(|column| format!("{:.2}", column.median(|round| round.cost)));
        outcome.targets.push(Target {
            measure: format!("{what}: CPU per line, batches of 10 to 10,000 lines, dearest against cheapest"),
            target: "at most 1.2".to_owned(),
            measured: spread.to_string(),
            absolute: format!("{} us", costs.collect::<Vec<_>>().join(", ")),
            is_met: spread.median <= 1.2,
        });
    }
}

/// Measures latencies on disk and in memory, at two shares of the maximum rate on disk.
fn latency(effort: Effort, outcome: &mut Outcome) {
    let short = Effort { rounds: 1, ..effort };
    let durable = [DURABLE, SINGLE].concat();
    let fastest = || flat_out(effort, Shape::Canonical, 10, 32);
    let full = short.contest(vec![relay("spanrelay", &durable, fastest())]);
    let maximum = full[0].median(|round| round.lines_per_second);
    for (share, most) in [(0.5, 3.0), (0.8, 4.0)] {
        let load = || Load { pace: Pace::PerSecond(maximum * share), ..fastest() };
        let columns = effort.contest(vec![
            relay("spanrelay, disk", &durable, load()),
            relay("spanrelay, memory", SINGLE, load()),
            floor(Floor::Bare, load()),
        ]);
        let percent = share * 100.0;
        outcome.show(
            &format!("latency: single, bodies of 10, {percent:.0} % of {maximum:.0} lines/s"),
            &columns,
        );
        let p99 = |round: &Round| round.latency.unwrap_or_default().p99.as_secs_f64() * 1e3;
        let measure = format!("bodies of 10 at {percent:.0} %: p99 from line in to line out on disk");
        let ratio = columns[0].ratio(&columns[1], p99);
        let absolute = format!("{:.2} ms against {:.2} ms", columns[0].median(p99), columns[1].median(p99));
        outcome.ratio_at_most(&format!("{measure} against memory"), most, ratio, absolute);
        outcome.value_at_most(&measure, 10.0, "ms", columns[0].median(p99), String::new());
    }
}
