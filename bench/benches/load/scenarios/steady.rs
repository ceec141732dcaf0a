//! Loads at a constant rate: memory, held spans and outages.

use std::thread;
use std::time::{Duration, Instant};

use super::super::batch::{Batch, Shape};
use super::super::contest::{Effort, accepted_and_refused, column};
use super::super::contestant::Who;
use super::super::generator::{Load, Pace};
use super::super::sink::Sink;
use super::super::table::{Column, Latency, Round, Target};
use super::{BATCH, DURABLE, LINES, MIB, Outcome};

/// Warm-up of a steady load.
const SETTLING: Duration = Duration::from_secs(2);
/// Duration of the measurement after it.
const WINDOW: Duration = Duration::from_secs(5);

/// Measures ten thousand lines per second, each held for ten seconds.
pub(super) fn held(_: Effort, outcome: &mut Outcome) {
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
pub(super) fn growth(_: Effort, outcome: &mut Outcome) {
    const RATE: u32 = 50_000;
    let of = |name, wait| steady(name, wait, &steadily(Shape::Short, RATE, wait));
    let (few, few_at_the_end) = of("spanrelay, wait: 20ms", Duration::from_millis(20));
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
    outcome.value_at_most(
        "resident memory per held span without attributes",
        350.0,
        "bytes",
        (at_the_end.resident - few_at_the_end.resident) / (at_the_end.held_spans - few_at_the_end.held_spans),
        format!("{:.0} MiB, {:.0} MiB", at_the_end.resident / MIB, few_at_the_end.resident / MIB),
    );
    outcome.show("growth: 50,000 short lines a second, held for a thousand times as long", &[many, few]);
}

/// Measures the memory of an idle relay, and the peak while it handles one large body.
pub(super) fn memory(_: Effort, outcome: &mut Outcome) {
    const BODY_BYTES: u64 = 95 << 20;
    let one = Batch::new(Shape::Canonical, 1).body_bytes();
    let batch = Batch::new(Shape::Canonical, BODY_BYTES / one);
    let body = batch.body_bytes() as f64;
    let load = Load {
        batch,
        connections: 1,
        pace: Pace::PerSecond(1.0),
        sending: Duration::from_millis(100),
        held: Duration::ZERO,
    };
    let relay = Who::relay(&[DURABLE, BATCH].concat()).start("spanrelay, disk");
    thread::sleep(SETTLING);
    let idle = relay.process().resident() as f64;
    outcome.value_at_most("resident memory when idle", 12.0, "MiB", idle / MIB, String::new());
    let run = relay.run(&load);
    let peak = relay.process().peak_resident() as f64;
    outcome.value_at_most(
        "peak resident memory for a body of 95 MiB, in bodies",
        2.2,
        "bodies",
        peak / body,
        format!("{:.0} MiB, afterwards {:.0} MiB", peak / MIB, run.resident as f64 / MIB),
    );
    let counts = relay.end();
    if !counts.are_right() || accepted_and_refused(&run).0 != 1 {
        outcome.wrong.push(format!("memory: {counts:?}, {:?}", run.sent.answers));
    }
}

/// Measures the memory of a relay whose downstream is away, and whether everything is delivered afterwards.
pub(super) fn outage(_: Effort, outcome: &mut Outcome) {
    const OUTAGE: Duration = Duration::from_secs(180);
    let sink = Sink::closed();
    let retry = ["exporters.otlp_http.retry_on_failure.max_interval=1s"];
    let relay = Who::relay(&[DURABLE, BATCH, &retry].concat()).start_before("spanrelay, disk", sink.clone());
    let load = Load {
        batch: Batch::new(Shape::Canonical, 100),
        connections: 4,
        pace: Pace::PerSecond(2_000.0),
        sending: OUTAGE,
        held: Duration::ZERO,
    };
    let (run, resident) = thread::scope(|scope| {
        let load = scope.spawn(|| relay.run(&load));
        thread::sleep(OUTAGE);
        let resident = relay.process().resident() as f64;
        sink.listen();
        (load.join().expect("the load does not panic"), resident)
    });
    outcome.value_at_most(
        "resident memory after an outage of three minutes at 2,000 lines/s",
        96.0,
        "MiB",
        resident / MIB,
        format!("after delivery {:.0} MiB", run.resident as f64 / MIB),
    );
    let counts = relay.end();
    if !counts.are_right() {
        outcome.wrong.push(format!("outage: {counts:?}"));
    }
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
            written: 0.0,
            latency: None,
        };
        (round, steady, load.join().expect("the load does not panic"))
    });
    round.latency = Latency::of(&contestant.sink.tally().latencies());
    let posts = accepted_and_refused(&run);
    (column(contestant, vec![round], posts), steady)
}
