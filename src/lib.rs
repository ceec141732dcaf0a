//! spanrelay runs in front of an OpenTelemetry Collector and accepts what a Collector can't ingest: Fastly log batches and
//! webhooks of CI services. It also passes OTLP on. The README describes it for users; this page describes how it is built.
//!
//! # The path of the data
//!
//! ```text
//! socket -> server      one request: admitted by its headers, read within limits, verified, decompressed
//!        -> relay       processing of one request: read, enqueue, pass to the processor, respond
//!           -> receiver   bytes -> items and rejects: no I/O, no clock, no async
//!           -> queue      the body as the sender sent it, on disk; only now the 2xx
//!        -> processor   log events onto their spans, within `wait`; its driver adds the clock and the drain
//!        -> exporter    observe > retry > limit > attempt > timeout > post, a tower stack
//!        -> queue       a record whose receipts are all settled is acknowledged, and its space is freed
//! ```
//!
//! - **A request enters** in `server::routes` (`Routes::take`), inside the tower stack of `server::stack`. A request
//!   that can be rejected by its headers is rejected before its body is read.
//! - **It becomes durable** in [`relay`], where `Relay::take` offers it to the [`queue`]: only code after that call
//!   may respond with a 2xx. Processing runs in the task of the connection, and continues in a task of its own if the client
//!   disconnects. The queue keeps the body (protobuf that is exported as JSON as the equivalent JSON) and not its items: receivers are
//!   pure, and the record states how it was read, so that rereading it after a restart (`Relay::feed`) gives the same items under
//!   any configuration. Items that are already resolved are left out. With `processors.attributes` it keeps the converted
//!   documents instead, without the values that must not be stored (`relay::privacy`).
//! - **With `queue.storage: kafka`** the relay writes each unit to a topic instead, one record for each trace and signal. Workers read
//!   them: each partition has processors of its own (`processor::lanes`), whose clock is the time of the log.
//! - **It is exported** by [`exporter`]: one POST for each line or webhook, or in batches.
//! - **Steps of CircleCI's jobs** are looked up by [`steps`] after the webhook was answered. The webhook's record stays in the queue
//!   until the spans that were found are a record of their own.
//! - **Rejected data** is written to a file by [`rejected`]: input that a receiver rejects, and items that the
//!   downstream rejects.
//!
//! One value accompanies the data all the way: the *receipt* ([`queue::Receipt`]), for a range of a record's items.
//! The receipt passes with the data through processor and exporter, and the outcome settles it: delivered, attached,
//! rejected, dropped. The queue stores which items are resolved. A receipt that is lost (a task panicked, the process stops)
//! settles nothing, so that its items stay in the queue. That also bounds the two channels between relay, processor
//! and exporter: each message in them holds receipts, and their records count against `queue.max_size`.
//!
//! No data model is built. [`otlp`] reads a line once, notes the positions of ids, events and faults, and describes
//! required changes as edits at byte ranges; a line without edits is exported as a slice of the body that contained
//! it. A request in protobuf whose downstream wants protobuf is checked, and exported as the sender wrote it.
//!
//! # Allowed edges
//!
//! A module uses only the modules that its row names. The edges form no cycle; a test compares them with the code.
//!
//! | module | may use | must not know |
//! |---|---|---|
//! | [`event`] | | every other module |
//! | [`pem`] | | every other module |
//! | [`budget`] | | every other module |
//! | [`grpc`] | [`event`] | tasks, sockets, the clock |
//! | [`otlp`] | [`event`] | tasks, sockets, the clock |
//! | [`config`] | [`event`] | the modules that it configures |
//! | [`telemetry`] | [`event`], [`config`] | the modules that it observes |
//! | [`receiver`] | [`otlp`], [`event`], [`config`] (its own section) | tasks, sockets, the clock |
//! | [`queue`] | [`event`], [`config`], [`budget`], [`telemetry`] (metrics, the causes of self-traces), [`otlp`] (Kafka's records) | HTTP, receivers, the exporter |
//! | [`rejected`] | [`event`], [`telemetry`] | records and receipts |
//! | [`exporter`] | [`otlp`], [`event`], [`grpc`], [`config`], [`queue`] (receipts), [`telemetry`], [`pem`] | server, receivers, relay |
//! | [`processor`] | [`otlp`], [`event`], [`config`], [`receiver`] (items, fields of rejected input), [`queue`] (receipts), [`exporter`] (the export request), [`telemetry`] | sockets; the clock, except for its driver |
//! | [`relay`] | [`receiver`], [`queue`], [`rejected`], [`processor`] (its input, attributes), [`otlp`], [`event`], [`config`], [`budget`], [`telemetry`] | sockets, status codes, the exporter |
//! | [`server`] | [`relay`], [`receiver`] (verdicts), [`event`], [`grpc`], [`config`], [`budget`], [`telemetry`], [`pem`] | queue, processor, exporter |
//! | [`steps`] | [`relay`] (lookups), [`receiver`] (their requests), [`exporter`] (the client), [`event`], [`config`], [`budget`], [`telemetry`] | queue, server, the contents of responses |
//! | [`app`] | [`server`], [`relay`], [`receiver`], [`steps`], [`queue`], [`rejected`], [`processor`], [`exporter`], [`event`], [`config`], [`budget`], [`telemetry`], [`pem`] | |
//! | [`cli`] | [`app`], [`config`], [`event`], [`telemetry`]; [`receiver`], [`processor`], [`queue`], [`otlp`], [`rejected`], [`exporter`], [`steps`] (`check`, `demo`, `replay`, `validate`) | |
//!
//! `internals` shows the benchmarks (`bench`) and the fuzz targets (`fuzz`) what they need of private modules. It may use every
//! module, and no module may use it.
//!
//! Some decisions are made in one place only: status codes of responses in `server::reply`, the meaning of the downstream's
//! status codes in `exporter::outcome`, environment variables in `config::env`, the two unbounded channels in `app`, metric
//! names in `telemetry::metrics`. `.clippy.toml` forbids environment variables, unbounded channels and, except in [`relay`]
//! and `app`, the wall clock everywhere else.
//!
//! # Where to start reading
//!
//! Five files, in this order, explain the whole; each begins with its input, its output and its guarantees.
//!
//! 1. `app.rs`: the parts, their wiring, and the order in which they stop
//! 2. `server/routes.rs`: a request from its headers to its response
//! 3. `relay.rs`: what happens before a 2xx
//! 4. `processor/span_events.rs`: which items are held, for how long, and within which limits
//! 5. `exporter.rs`: the export stack, layer by layer
//!
//! # Adding a source
//!
//! A source is a type that implements [`receiver::Receiver`]: it says where its requests come in and which credentials they
//! need (`identity`), and reads the items in a body (`read`). [`receiver::circleci`] is a good example.
//!
//! 1. `receiver/NAME.rs`, and `mod NAME` in `receiver.rs`
//! 2. `receiver/NAME/config.rs`: its section of the configuration, declared with `section!`, from which reading, printing,
//!    reloading, schema, example and reference follow; and its [`config::ReceiverSection`]: start-up log, risks, resubmission
//! 3. a row in `receiver::SOURCES`: a [`receiver::Source`] says how its receivers are built, how its requests are counted,
//!    which requests to `POST /` are its own, which pages it has, and how `spanrelay check` reads its bodies
//! 4. a folder in `proto-fixtures/` with requests as the sender writes them, and the expected exports
//!
//! Nothing else changes. Sources of webhooks share the parts in `receiver::webhook`.

// The documentation is for readers of the code and is built with `--document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]

// Modules in the order in which the data passes through them.
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

mod steps;

mod pem;

mod budget;

mod grpc;

mod telemetry;

#[doc(hidden)]
pub mod internals;

pub use app::{App, StartError};
pub use receiver::RECEIVERS;
