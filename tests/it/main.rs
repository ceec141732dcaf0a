//! Outer tests: what users rely on, over real sockets, with a real relay and a collector that records what it receives.
//!
//! Every test opens its own house (a relay and a collector on free ports) and closes it at the end. Closing waits until
//! nothing is queued, checks that every accepted item has exactly one outcome, and that the collector received nothing
//! that the test did not take.
#![allow(clippy::unwrap_used, reason = "a test that is surprised has failed")]
#![allow(clippy::string_slice, reason = "a slice that is none fails the test, and should")]
#![allow(clippy::disallowed_methods, reason = "a test may read a whole body and ask what time it is")]

mod harness;

mod front_door;

mod limits;

mod proxy;

mod fastly;

mod span_events;

mod circleci;

mod steps;

mod github;

mod privacy;

mod delivery;

mod shutdown;

mod durability;

mod config;

mod cli;

mod golden;

mod grpc;

mod properties;

#[cfg(feature = "kafka")]
mod kafka;

mod inspect;

mod inspect_page;

mod inspect_problems;

mod inspect_use;

mod inspect_looks;

mod monitoring;

mod broken_setups;

mod reload;

mod self_telemetry;

mod secrets;

mod tls;

mod deploy;

mod docs;

mod edges;

mod tidy;

mod stack;
