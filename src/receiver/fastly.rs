//! Fastly real-time log streaming: batches of lines that are OTLP/JSON, or nearly.
//!
//! In: headers and a decoded body. Out: an [`Item`](super::Item) for every line that can go on, a
//! [`Rejected`] for every other one.
//! Promises: one bad line never costs another; a line that is canonical already is not copied.
//! Leaves to others: what a line means ([`crate::otlp::LineReader`]).

mod challenge;
mod lines;
mod mistake;
mod repair;

use bytes::Bytes;
use http::HeaderMap;

use super::token::Token;
use super::{Reading, Receiver, Rejected, Unauthorized};
use crate::config::FastlyConfig;

pub(crate) use challenge::challenge;
pub(crate) use mistake::{Mistake, mistake};

/// One `receivers.fastly` of the configuration.
pub(crate) struct Fastly {
    id: String,
    path: String,
    token: Token,
    lines: lines::Settings,
}

// === impl Fastly ===

impl Fastly {
    /// `max_line_bytes` bounds one line, or one object where several stand in a line.
    pub(crate) fn new(config: &FastlyConfig, max_line_bytes: usize) -> Self {
        Self {
            id: config.id.clone(),
            path: config.path.clone(),
            token: Token::new(config.auth.as_ref()),
            lines: lines::Settings {
                repair: if config.repair { lines::Mending::Unambiguous } else { lines::Mending::Off },
                max_line_bytes,
            },
        }
    }
}

impl Receiver for Fastly {
    fn id(&self) -> &str {
        &self.id
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn admit(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        self.token.check(headers)
    }

    fn verify(&self, _headers: &HeaderMap, _wire: &[u8]) -> Result<(), Unauthorized> {
        Ok(())
    }

    fn mistake(&self, rejected: &Rejected) -> Option<Mistake> {
        mistake(rejected)
    }

    fn read(&self, body: &Bytes) -> Reading {
        lines::read(body, &self.lines)
    }
}

#[cfg(test)]
mod tests;
