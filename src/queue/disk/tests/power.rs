//! Power that goes, and operations that fail, at every single operation of a run that begins, rolls and frees segments.

use super::*;

/// What a run has confirmed, with the number of disk operations before it was.
#[derive(Default)]
struct Run {
    confirmed: Vec<(String, u64)>,
    settled: Vec<String>,
    refused: Vec<String>,
    operations: u64,
}

/// Offers of every size, some of them settled, enough for several segments.
fn run(disk: &Sim) -> Run {
    let mut bench = Bench::on(disk.clone(), |_| {});
    let mut random = Random(11);
    let (mut run, mut held) = (Run::default(), Vec::new());
    for (number, size) in [10, 3000, 150_000, 20, 90_000, 40, 200_000, 9000, 60].into_iter().enumerate() {
        let body = format!("{number}{}", random.text(size));
        match bench.offer(&body) {
            Ok(Offered::Live(taken)) => {
                run.confirmed.push((body.clone(), disk.operations()));
                held.push((body, taken));
            }
            Ok(Offered::Stored) => panic!("there is room in memory"),
            Err(_) => {
                run.refused.push(body);
                bench.wait_until(|queue| queue.state().failure.is_none());
            }
        }
        if number % 3 == 2 && !held.is_empty() {
            let (body, taken) = held.remove(0);
            bench.note_progress(taken.id(), 1);
            taken.seal();
            run.settled.push(body);
        }
    }
    bench.close();
    run.operations = disk.operations();
    run
}

/// What a start finds on the disk.
fn found(disk: Sim) -> Vec<String> {
    let bench = Bench::on(disk, |_| {});
    assert_eq!(bench.damage_reported(), 0, "nothing that was confirmed is damaged");
    bench.stored_bodies()
}

fn check(run: &Run, until: u64, found: &[String], at: &str) {
    for (body, operations) in &run.confirmed {
        let there = found.contains(body) || run.settled.contains(body);
        assert!(there || *operations > until, "{at}: {body:.8} was confirmed and is lost");
    }
    let mut bodies: Vec<&String> = found.iter().collect();
    bodies.dedup();
    assert_eq!(bodies.len(), found.len(), "{at}: a record is there twice");
    for body in found {
        let known = run.confirmed.iter().any(|(confirmed, _)| confirmed == body);
        assert!(known || run.refused.contains(body), "{at}: {body:.8} was invented or altered");
    }
}

#[test]
fn power_loss_at_any_operation_loses_nothing_that_was_confirmed() {
    let operations = run(&Sim::default()).operations;
    assert!(operations > 30, "{operations}");
    for operation in 0..operations {
        for seed in 0..4 {
            let disk = Sim::default();
            disk.lose_power_at(operation, operation * 31 + seed);
            let run = run(&disk);
            // Timing decides which settled records share a commit, and so how many operations there are.
            let Some(after) = disk.taken_after_power_loss() else { continue };
            check(&run, operation, &found(after), &format!("operation {operation}, seed {seed}"));
        }
    }
}

#[test]
fn an_operation_that_fails_costs_nothing_that_was_confirmed_and_passes() {
    let operations = run(&Sim::default()).operations;
    for operation in 0..operations {
        let disk = Sim::default();
        disk.fail_at(operation);
        let run = run(&disk);
        for seed in 0..3 {
            let found = found(disk.after_power_loss(seed));
            let at = format!("operation {operation}");
            check(&run, u64::MAX, &found, &at);
            assert!(!run.refused.iter().any(|body| found.contains(body)), "{at}: a refused record is there");
        }
    }
}

/// Nothing is reported as damage, so the remains of the starts are cleaned up as well.
#[test]
fn power_loss_during_starts_loses_nothing_either() {
    let disk = Sim::default();
    let run = run(&disk);
    let mut random = Random(5);
    for round in 0..60 {
        let disk = disk.after_power_loss(round);
        for _ in 0..3 {
            let starting = disk.after_kill();
            starting.lose_power_at(random.below(12), round);
            Bench::on(starting.clone(), |_| {}).close();
            if let Some(after) = starting.taken_after_power_loss() {
                check(&run, u64::MAX, &found(after), &format!("round {round}"));
            }
        }
    }
}
