//! `queue.storage: kafka` with real brokers: fronts and workers as processes, in front of a collector that records.
//!
//! The brokers are those of Apache Kafka, run with Java from the jars that `.ci/provide kafka` keeps. Without either the tests
//! are skipped, and say so. One broker serves all tests that do not stop it; each test has a topic and a group of its own.

mod broker;

mod churn;

mod fleet;

mod joins;

mod ledger;

mod outages;

mod restarts;

mod scale;

mod sizes;

mod topics;

mod webhooks;

/// Environment variable that makes the tests fail, instead of being skipped, without brokers.
const REQUIRED: &str = "SPANRELAY_REQUIRE_KAFKA";
