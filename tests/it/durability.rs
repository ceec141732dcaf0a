//! Durability: nothing that was acknowledged is lost. The queue is on disk, and the relay is the real program as a process.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "seeds, figures and what was skipped are for whoever runs the tests"
)]

mod cancellations;

mod steps;

mod downstream;

mod calls;

mod home;

mod ledger;

mod load;

mod small_disk;

mod kills;

mod restarts;

mod pressure;

mod starts;

mod drains;

mod faults;

mod successors;

mod replays;

mod leaks;

mod cost;
