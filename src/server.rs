//! The server: sockets become requests, requests become responses.
//!
//! In: a bound listener, a [`RouteState`] and the `server` configuration. Out: calls of the relay, one per request body.
//! Promises: every request gets exactly one response within the configured times; every body is limited as sent and as
//! decompressed; a rejected body is drained within limits, so that the client sees the response.
//! Left to others: authentication, the meaning of a body, and its storage (the relay).

pub(crate) mod serve;

pub(crate) mod stack;

mod tls;

mod routes;

mod pages;

mod head;

mod body;

mod refused;

mod dialect;

mod grpc;

pub(crate) mod reply;

mod admin;

mod own_span;

mod request_id;

#[cfg(test)]
mod tests;

pub(crate) use admin::Admin;
pub(crate) use pages::Pages;
pub(crate) use routes::RouteState;
pub(crate) use serve::{Shutdown, Terms, serve};
pub(crate) use stack::stack;
pub(crate) use tls::{ServerTlsError, Tls};
