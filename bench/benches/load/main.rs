//! The relay under load, compared with minimal baselines and the Collector, with every line counted:
//!
//! ```sh
//! cargo bench -p spanrelay-bench --bench load [-- [--rounds N] [--seconds N] [--check] [SCENARIO]...]
//! ```
//!
//! Each contestant is a separate process that exports to its own sink; they alternate with the same bytes, so that the
//! ratios within a round are meaningful. The bench fails if the relay lost, duplicated or misattached anything, never
//! because of times. `--check` measures nothing; it verifies that the sink detects such faults.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]
#![allow(
    clippy::disallowed_methods,
    reason = "what it starts it finds by the environment, and it reads whole bodies of its own"
)]

mod batch;

mod tally;

mod sink;

mod generator;

mod grpc;

mod process;

mod contestant;

mod floor;

mod peers;

mod contest;

mod table;

mod scenarios;

mod check;

use std::process::ExitCode;
use std::time::Duration;

use self::contest::Effort;
use self::floor::Floor;
use self::scenarios::{ALL, Outcome};

/// Allocator of the program, which the baselines share.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut effort = Effort { rounds: 3, sending: Duration::from_secs(3) };
    let mut names = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            // Passed by cargo.
            "--bench" => {}
            "--role" => {
                let (name, downstream) = (value(), value());
                let floor = Floor::ALL.into_iter().find(|floor| floor.name() == name).expect("it is a floor");
                floor.run(downstream.parse().expect("it is an address"));
            }
            "--check" => return verdict(&check::check()),
            "--rounds" => effort.rounds = value().parse().expect("rounds are a number"),
            "--seconds" => {
                effort.sending = Duration::from_secs_f64(value().parse().expect("seconds are a number"))
            }
            name => names.push(name.to_owned()),
        }
    }
    let known: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        println!("there is no scenario {unknown}; there are: {}", known.join(" "));
        return ExitCode::from(2);
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "{} rounds of {:?} each. {processors} processors, load average before it began: {}",
        effort.rounds,
        effort.sending,
        load.split(' ').next().unwrap_or_default()
    );
    let mut outcome = Outcome::default();
    for scenario in
        ALL.iter().filter(|scenario| names.is_empty() || names.iter().any(|name| name == scenario.name))
    {
        (scenario.run)(effort, &mut outcome);
    }
    table::print_targets(&outcome.targets);
    verdict(&outcome.wrong)
}

fn verdict(wrong: &[String]) -> ExitCode {
    if wrong.is_empty() {
        println!("\nEvery line that a relay took arrived once, and every event on its span.");
        return ExitCode::SUCCESS;
    }
    println!("\nWrong:\n{}", wrong.join("\n"));
    ExitCode::FAILURE
}
