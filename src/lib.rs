//! spanrelay runs in front of an OpenTelemetry Collector and accepts what a Collector can't ingest: Fastly log batches and
//! CircleCI webhooks. It also passes OTLP on. The README describes it for users; this page describes how it is built.
//!
//! # The way of the data
//!
//! ```text
//! socket -> server      one request: admitted by its headers, read within bounds, verified, inflated
//!        -> relay       the story of one request, on one page: read, offer, hand on, answer
//!           -> receiver   bytes -> items and rejects: no I/O, no clock, no async
//!           -> queue      the body as the sender said it, on disk; only now the 2xx
//!        -> processor   log events onto their spans, within `wait`; its driver adds the clock and the drain
//!        -> exporter    observe > retry > limit > attempt > timeout > post, a tower stack
//!        -> queue       a record whose receipts are all settled is acknowledged, and its space is free
//! ```
//!
//! - **A request enters** in `server::routes` (`Routes::take`), behind the tower stack of `server::stack`. What can be
//!   refused by its headers is refused before its body is read.
//! - **It becomes durable** in [`relay`], where `Relay::take` offers it to the [`queue`]: what stands behind that call may
//!   answer with a 2xx, what stands before it may not. The story runs in a task of its own, so that a sender which hangs
//!   up cannot tear it. What the queue keeps is the body (protobuf as the JSON that it stands for) and not what was made of
//!   it: receivers are pure, and the record says how it was read, so reading it again after a restart (`Relay::feed`)
//!   gives the same items under any configuration. What was resolved of them is left out.
//! - **It leaves** through [`exporter`]: one POST for each line or webhook, or merged ones.
//! - **What cannot go on** is written to a file by [`rejected`]: what a receiver rejects, and what the downstream does.
//!
//! One value goes all the way: the *receipt* ([`queue::Receipt`]), for a range of a record's items. It travels with the data
//! through processor and exporter, and the outcome settles it: delivered, attached, rejected, dropped. The queue stores
//! which items are resolved. A receipt that is lost (a task died, the process stops) settles nothing, so that the
//! items stay in the queue. That also bounds the two channels between relay, processor and exporter: each message in
//! them holds receipts, and their records count against `queue.max_size`.
//!
//! Nothing is parsed into a model. [`otlp`] reads a line once, notes where ids, events and faults are, and writes what
//! must change as edits at byte ranges; a line that needs none leaves as a slice of the body that it came in.
//!
//! # Allowed edges
//!
//! A module uses only the modules that its row names. The edges form no cycle; a test compares them with the code.
//!
//! | module | may use | must not know |
//! |---|---|---|
//! | [`event`] | | every other module |
//! | [`pem`] | | every other module |
//! | [`otlp`] | [`event`] | tasks, sockets, the clock |
//! | [`config`] | [`event`] | the modules that it configures |
//! | [`telemetry`] | [`event`], [`config`] | the modules that it observes |
//! | [`receiver`] | [`otlp`], [`event`], [`config`] (its own section) | tasks, sockets, the clock |
//! | [`queue`] | [`event`], [`config`], [`telemetry`] (metrics, the causes of self-traces) | HTTP, receivers, the exporter |
//! | [`rejected`] | [`telemetry`] | records and receipts |
//! | [`exporter`] | [`otlp`], [`event`], [`config`], [`queue`] (receipts), [`telemetry`], [`pem`] | server, receivers, relay |
//! | [`processor`] | [`otlp`], [`event`], [`config`], [`receiver`] (items), [`queue`] (receipts), [`exporter`] (the export request), [`telemetry`] | sockets; the clock, except for its driver |
//! | [`relay`] | [`receiver`], [`queue`], [`rejected`], [`processor`] (its input), [`otlp`], [`event`], [`config`], [`telemetry`] | sockets, status codes, the exporter |
//! | [`server`] | [`relay`], [`receiver`] (verdicts), [`event`], [`config`], [`telemetry`], [`pem`] | queue, processor, exporter |
//! | [`app`] | [`server`], [`relay`], [`receiver`], [`queue`], [`rejected`], [`processor`], [`exporter`], [`event`], [`config`], [`telemetry`] | |
//! | [`cli`] | [`app`], [`config`], [`event`], [`telemetry`]; [`receiver`], [`processor`], [`queue`], [`otlp`], [`rejected`], [`exporter`] (`check`, `demo`, `replay`) | |
//!
//! `internals` serves fuzz targets and benchmarks. It may use every module, no module may use it, and no release has it.
//!
//! What is decided in one place only: status codes to senders in `server::reply`, the meaning of a downstream's in
//! `exporter::outcome`, the environment in `config::env`, the two unbounded channels in `app`, metric
//! names in `telemetry::metrics`. `.clippy.toml` bans environment, unbounded channels and, but for
//! [`relay`] and `app`, the wall clock everywhere else.
//!
//! # The tour
//!
//! Five files, in this order, tell the whole; each begins with what comes in, what goes out and what it promises.
//!
//! 1. `app.rs`: the parts, how they are wired, and in which order they stop
//! 2. `server/routes.rs`: a request from its head to its reply
//! 3. `relay.rs`: the line before which there is no 2xx
//! 4. `processor/span_events.rs`: who waits for whom, how long, and within which bounds
//! 5. `exporter.rs`: the way out, layer by layer
//!
//! # Adding a source
//!
//! A source is a type that implements [`receiver::Receiver`]: who may come in by the headers (`admit`), is the body
//! authentic (`verify`), what does it hold (`read`). [`receiver::circleci`] is the one to read first.
//!
//! 1. `receiver/NAME.rs`, and `mod NAME` in `receiver.rs`
//! 2. `receiver/NAME/config.rs`: its section of the configuration, declared with `section!`, from which reading, printing,
//!    reloading, schema, example and reference follow; and its [`config::ReceiverSection`]: start-up log, risks, resubmission
//! 3. a row in `event::SourceKind`, an entry in `receiver::RECEIVERS` and an arm in `receiver::build`
//! 4. a folder below `proto-fixtures/` with requests as the sender writes them, and what must leave
//!
//! Server, relay, queue, processor and exporter stay as they are. Requests that are single events rather than lines say so
//! with `takes_webhooks`, and are counted as such.

// The crate's text is for those who read the code: it is built with `--document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]

// The modules stand in the order in which the data passes them.
pub mod config;

mod app;
pub mod cli;

mod server;

mod receiver;

mod relay;

mod queue;

mod rejected;

mod processor;

mod otlp;

mod event;

mod exporter;

mod pem;

mod telemetry;

#[cfg(any(test, feature = "internals"))]
pub mod internals;

pub use app::{App, StartError};
pub use receiver::RECEIVERS;
