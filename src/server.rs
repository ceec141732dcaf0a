//! The front port: sockets become requests, requests become responses.
//!
//! In: a bound listener, a [`Doors`] and the `server` configuration. Out: calls of the relay, one per request body.
//! Promises: every request gets exactly one answer within the configured times; every body is bounded as sent and
//! as inflated; what is refused is read to its end within bounds, so that the sender sees why.
//! Leaves to others: who may come in, what a body means and where it is kept (the relay).

pub(crate) mod serve;

pub(crate) mod stack;

mod tls;

mod routes;

mod head;

mod body;

mod refused;

mod dialect;

pub(crate) mod reply;

mod admin;

mod own_span;

#[cfg(test)]
mod tests;

pub(crate) use admin::Admin;
pub(crate) use routes::{Challenge, Doors};
pub(crate) use serve::{Shutdown, Terms, serve};
pub(crate) use stack::stack;
pub(crate) use tls::{Tls, TlsError};
