//! Fastly real-time log streaming: batches of lines that are OTLP/JSON, or nearly.
//!
//! In: headers and a decoded body. Out: an [`Item`](super::Item) for every line that can go on, a
//! [`Rejected`](super::Rejected) for every other one.
//! Promises: one bad line never costs another; a line that is canonical already is not copied.
//! Leaves to others: what a line means ([`crate::otlp::read_line`]).

mod challenge;
mod lines;
mod mistake;
mod repair;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use super::{Reading, Receiver, Unauthorized};
use crate::config::{FastlyConfig, Secret};

pub(crate) use challenge::challenge;
pub(crate) use mistake::{Mistake, mistake};

/// One `receivers.fastly` of the configuration.
pub(crate) struct Fastly {
    id: String,
    path: String,
    token: Option<(HeaderName, Vec<Secret>)>,
    lines: lines::Settings,
}

// === impl Fastly ===

impl Fastly {
    /// `max_line_bytes` bounds one line, or one object where several stand in a line.
    pub(crate) fn new(config: &FastlyConfig, max_line_bytes: usize) -> Self {
        Self {
            id: config.id.clone(),
            path: config.path.clone(),
            token: config.auth.as_ref().map(|auth| (auth.header.clone(), auth.values.clone())),
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
        let Some((name, values)) = &self.token else { return Ok(()) };
        let given = headers.get(name).ok_or(Unauthorized("the header with the token is missing"))?;
        // Over digests, so that neither the place of the first difference nor the length shows in the time.
        let given = Sha256::digest(given.as_bytes());
        let matches = values.iter().fold(false, |matches, value| {
            let difference =
                given.iter().zip(Sha256::digest(value.expose())).fold(0, |sum, (a, b)| sum | (a ^ b));
            matches | (difference == 0)
        });
        if matches { Ok(()) } else { Err(Unauthorized("the token is wrong")) }
    }

    fn verify(&self, _headers: &HeaderMap, _wire: &[u8]) -> Result<(), Unauthorized> {
        Ok(())
    }

    fn read(&self, body: &Bytes) -> Reading {
        lines::read(body, &self.lines)
    }
}

#[cfg(test)]
mod tests;
