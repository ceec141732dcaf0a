//! Power loss and failures at every disk operation of a run that begins, fills and frees segments.

use super::*;

/// Records that a run confirmed, each with the number of disk operations before its confirmation.
#[derive(Default)]
struct Run {
    confirmed: Vec<(String, u64)>,
    settled: Vec<String>,
    rejected: Vec<String>,
    operations: u64,
}

/// Offers records of every size and settles some, enough for several segments.
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
                run.rejected.push(body);
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

/// Returns the records that a start finds on the disk.
fn found(disk: Sim) -> Vec<String> {
    let bench = Bench::on(disk, |_| {});
    assert_eq!(bench.damage_reported(), 0, "no confirmed data is damaged");
    bench.stored_bodies()
}

fn check(run: &Run, until: u64, found: &[String], at: &str) {
    for (body, operations) in &run.confirmed {
        let there = found.contains(body) || run.settled.contains(body);
        assert!(there || *operations > until, "{at}: {body:.8} was confirmed, and lost");
    }
    let mut bodies: Vec<&String> = found.iter().collect();
    bodies.dedup();
    assert_eq!(bodies.len(), found.len(), "{at}: duplicate record");
    for body in found {
        let known = run.confirmed.iter().any(|(confirmed, _)| confirmed == body);
        assert!(known || run.rejected.contains(body), "{at}: {body:.8} was invented or altered");
    }
}

#[test]
fn power_loss_at_any_operation_loses_no_confirmed_record() {
    let operations = run(&Sim::default()).operations;
    assert!(operations > 30, "{operations}");
    for operation in 0..operations {
        for seed in 0..4 {
            let disk = Sim::default();
            disk.lose_power_at(operation, operation * 31 + seed);
            let run = run(&disk);
            // Timing determines which settled records share a commit, and so the number of operations.
            let Some(after) = disk.taken_after_power_loss() else { continue };
            check(&run, operation, &found(after), &format!("operation {operation}, seed {seed}"));
        }
    }
}

#[test]
fn a_failed_operation_loses_no_confirmed_record_and_the_queue_recovers() {
    let operations = run(&Sim::default()).operations;
    for operation in 0..operations {
        let disk = Sim::default();
        disk.fail_at(operation);
        let run = run(&disk);
        for seed in 0..3 {
            let found = found(disk.after_power_loss(seed));
            let at = format!("operation {operation}");
            check(&run, u64::MAX, &found, &at);
            assert!(
                !run.rejected.iter().any(|body| found.contains(body)),
                "{at}: a rejected record was stored"
            );
        }
    }
}

/// No damage is reported, so that the remains of each start are cleaned up as well.
#[test]
fn power_loss_during_starts_loses_no_confirmed_record() {
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
