//! Scenarios: each produces a table and checks targets.

use std::thread;
use std::time::{Duration, Instant};

use super::batch::{Batch, Shape};
use super::collector;
use super::contest::{Effort, Entry, accepted_and_refused, column};
use super::contestant::Who;
use super::floor::Floor;
use super::generator::{Load, Pace};
use super::table::{self, Column, Latency, Ratio, Round, Target};

/// Number of spans per batch, as Fastly posts every few seconds.
const LINES: u64 = 1_000;

const MIB: f64 = 1_048_576.0;

/// Warm-up of a steady load.
const SETTLING: Duration = Duration::from_secs(2);
/// Duration of the measurement after it.
const WINDOW: Duration = Duration::from_secs(5);

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
    Scenario { name: "collector", run: collector },
    Scenario { name: "sizes", run: sizes },
    Scenario { name: "latency", run: latency },
    Scenario { name: "held", run: held },
    Scenario { name: "growth", run: growth },
];

const SINGLE: &[&str] = &["exporters.otlp_http.delivery=single"];
const BATCH: &[&str] = &["exporters.otlp_http.delivery=batch"];

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
        self.targets.push(Target {
            measure: measure.to_owned(),
            target: format!("at most {most}"),
            measured: ratio.to_string(),
            absolute: format!(
                "{:.2} us against {:.2} us",
                column.median(|round| round.cost),
                to.median(|round| round.cost)
            ),
            is_met: ratio.median <= most,
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
    let columns =
        effort.contest(vec![relay("spanrelay, single", SINGLE, load()), floor(Floor::Bare, load())]);
    outcome.show("single: batches of 1000 canonical lines, each line leaves on its own", &columns);
    outcome.at_most("single: CPU per line against bare hyper", 1.35, &columns[0], &columns[1]);

    let load = || flat_out(effort, Shape::Canonical, 1, 32);
    let columns =
        effort.contest(vec![relay("spanrelay, single", SINGLE, load()), floor(Floor::Bare, load())]);
    outcome.show("single: posts of one canonical line", &columns);
    outcome.at_most(
        "single, posts of one line: CPU per line against bare hyper",
        1.35,
        &columns[0],
        &columns[1],
    );
}

fn batch(effort: Effort, outcome: &mut Outcome) {
    for (shape, what, most) in [(Shape::Canonical, "canonical", 2.0), (Shape::Legacy, "legacy VCL", 3.0)] {
        let load = || flat_out(effort, shape, LINES, 4);
        let columns =
            effort.contest(vec![relay("spanrelay, batch", BATCH, load()), floor(Floor::Validate, load())]);
        outcome.show(&format!("batch: batches of 1000 {what} lines"), &columns);
        let measure = format!("batch, {what} lines: CPU per line against validate-only");
        outcome.at_most(&measure, most, &columns[0], &columns[1]);
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

fn webhooks(effort: Effort, outcome: &mut Outcome) {
    let load = || flat_out(effort, Shape::Webhook, 1, 32);
    let columns = effort
        .contest(vec![relay("spanrelay, single", SINGLE, load()), relay("spanrelay, batch", BATCH, load())]);
    outcome.show("webhooks: signed, job-completed", &columns);
}

fn disk(effort: Effort, outcome: &mut Outcome) {
    let load = || flat_out(effort, Shape::Canonical, LINES, 4);
    let durable = ["queue.storage=disk", "queue.sync=always"];
    for (name, delivery) in [("batch", BATCH), ("single", SINGLE)] {
        let columns = effort.contest(vec![
            relay("spanrelay, disk, sync always", &[&durable, delivery].concat(), load()),
            relay("spanrelay, memory", delivery, load()),
        ]);
        outcome.show(&format!("disk: batches of 1000 canonical lines, {name}"), &columns);
        let ratio = columns[0].ratio(&columns[1], |round| round.lines_per_second);
        let rate = |column: &Column| column.median(|round| round.lines_per_second);
        outcome.targets.push(Target {
            measure: format!("{name}: lines per second on disk, `sync: always`, against memory"),
            target: "at least 0.7".to_owned(),
            measured: ratio.to_string(),
            absolute: format!("{:.0} against {:.0} lines/s", rate(&columns[0]), rate(&columns[1])),
            is_met: ratio.median >= 0.7,
        });
    }
}

/// Compares with the Collector. It cannot ingest lines, so it receives the same spans as OTLP requests. The relay
/// receives both.
fn collector(effort: Effort, outcome: &mut Outcome) {
    if let Err(why) = collector::provide() {
        println!("\nThere is no Collector to measure: {why}");
        return;
    }
    const BATCHING: &str = "sending_queue: { batch: { flush_timeout: 200ms, min_size: 8192 } }";
    // Otherwise Go keeps only two idle connections and reopens the others repeatedly.
    const KEEPING: &str = "keepalive: { max_idle_conns_per_host: 100 }";
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
            Entry { name: "Collector", who: Who::Collector(""), load: otlp() },
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

/// Measures latencies at half of the relay's maximum rate.
fn latency(effort: Effort, outcome: &mut Outcome) {
    let short = Effort { rounds: 1, ..effort };
    // Data in a batch waits for up to `batch.timeout`, 200 ms.
    for (what, shape, spans, settings, reference, most) in [
        ("single, batches of 10 canonical lines", Shape::Canonical, 10, SINGLE, Some(Floor::Bare), 5.0),
        ("batch, batches of 10 canonical lines", Shape::Canonical, 10, BATCH, Some(Floor::Validate), 205.0),
        ("single, signed webhooks", Shape::Webhook, 1, SINGLE, None, 5.0),
    ] {
        let full = short.contest(vec![relay("spanrelay", settings, flat_out(effort, shape, spans, 32))]);
        let half = full[0].median(|round| round.lines_per_second) / 2.0;
        let load = || Load { pace: Pace::PerSecond(half), ..flat_out(effort, shape, spans, 32) };
        let mut entries = vec![relay("spanrelay", settings, load())];
        entries.extend(reference.map(|reference| floor(reference, load())));
        let columns = effort.contest(entries);
        outcome.show(&format!("latency: {what}, {half:.0} lines/s, half of what it does flat out"), &columns);
        let p99 = columns[0].median(|round| round.latency.unwrap_or_default().p99.as_secs_f64() * 1e3);
        outcome.targets.push(Target {
            measure: format!("{what}: p99 from the first byte in to the request out, at half load"),
            target: format!("under {most} ms"),
            measured: format!("{p99:.2} ms"),
            absolute: format!("{half:.0} lines/s"),
            is_met: p99 < most,
        });
    }
}

/// Measures ten thousand lines per second, each held for ten seconds.
fn held(_: Effort, outcome: &mut Outcome) {
    const WAIT: Duration = Duration::from_secs(10);
    let load = steadily(Shape::Canonical, 10_000, WAIT);
    let (column, steady) = steady("spanrelay, wait: 10s", WAIT, &load);
    outcome.show("held: 10,000 canonical lines a second, `wait: 10s`", &[column]);
    let beyond = (steady.resident - steady.held_bytes) / MIB;
    outcome.targets.push(Target {
        measure: "RSS at 10,000 lines/s and 10 s of held spans, beyond the held bytes".to_owned(),
        target: "at most 32 MiB".to_owned(),
        measured: format!("{beyond:.1} MiB"),
        absolute: format!("{:.1} MiB, held {:.1} MiB", steady.resident / MIB, steady.held_bytes / MIB),
        is_met: beyond <= 32.0,
    });
}

/// Measures memory by hold time at a constant rate.
fn growth(_: Effort, outcome: &mut Outcome) {
    const RATE: u32 = 50_000;
    let of = |name, wait| steady(name, wait, &steadily(Shape::Short, RATE, wait));
    let (few, _) = of("spanrelay, wait: 20ms", Duration::from_millis(20));
    let (many, at_the_end) = of("spanrelay, wait: 20s", Duration::from_secs(20));
    let ratio = many.ratio(&few, |round| round.cost);
    outcome.targets.push(Target {
        measure: "CPU per line with a million held spans, against a thousand".to_owned(),
        target: "at most 1.2".to_owned(),
        measured: format!("{ratio:.2}"),
        absolute: format!(
            "{:.2} us against {:.2} us; {:.0} spans in {:.0} MiB",
            many.rounds[0].cost,
            few.rounds[0].cost,
            at_the_end.held_spans,
            at_the_end.held_bytes / MIB
        ),
        is_met: ratio.median <= 1.2,
    });
    outcome.show("growth: 50,000 short lines a second, held for a thousand times as long", &[many, few]);
}

/// Measurements of a steady state.
struct Steady {
    held_spans: f64,
    held_bytes: f64,
    resident: f64,
}

/// Returns a load at a constant rate that lasts for the hold time, [`WINDOW`] and a margin.
fn steadily(shape: Shape, per_second: u32, wait: Duration) -> Load {
    Load {
        batch: Batch::new(shape, LINES),
        connections: 4,
        pace: Pace::PerSecond(per_second.into()),
        sending: wait + SETTLING + WINDOW + SETTLING,
        held: wait,
    }
}

/// Measures one relay with this hold time, once the number of held spans is stable.
fn steady(name: &str, wait: Duration, load: &Load) -> (Column, Steady) {
    let wait_setting = format!("processors.span_events.wait={}ms", wait.as_millis());
    let room = ["processors.span_events.max_held_bytes=4GiB", "queue.max_size=8GiB", &wait_setting];
    let contestant = Who::relay(&[&room, BATCH].concat()).start(name);
    let metric = |name| contestant.metric(name).expect("the relay has the metric");
    let (mut round, steady, run) = thread::scope(|scope| {
        let load = scope.spawn(|| contestant.run(load));
        thread::sleep(wait + SETTLING);
        let look =
            || (contestant.process().processor_time(), contestant.sink.tally().arrived(), Instant::now());
        let (processor_time, arrived, at) = look();
        thread::sleep(WINDOW);
        let (later_processor_time, later_arrived, later) = look();
        let steady = Steady {
            held_spans: metric("spanrelay_held_spans"),
            held_bytes: metric("spanrelay_held_bytes"),
            resident: contestant.process().resident() as f64,
        };
        let lines = (later_arrived - arrived) as f64;
        let round = Round {
            cost: later_processor_time.since(&processor_time).as_secs_f64() * 1e6 / lines,
            lines_per_second: lines / (later - at).as_secs_f64(),
            resident: steady.resident,
            latency: None,
        };
        (round, steady, load.join().expect("the load does not panic"))
    });
    round.latency = Latency::of(&contestant.sink.tally().latencies());
    let posts = accepted_and_refused(&run);
    (column(contestant, vec![round], posts), steady)
}
