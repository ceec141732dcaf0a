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

/// Version of the layout of [`Fastly::parameters`]: this byte, `repair` as 0 or 1, `max_line_size` as 8 bytes.
const PARAMETERS: u8 = 1;

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

    fn parameters(&self) -> Bytes {
        let lines::Settings { repair, max_line_bytes } = self.lines;
        let repair = u8::from(repair == lines::Mending::Unambiguous);
        [&[PARAMETERS, repair][..], &(max_line_bytes as u64).to_le_bytes()].concat().into()
    }

    fn read_as(&self, body: &Bytes, parameters: &[u8]) -> Reading {
        lines::read(body, &settings(parameters).unwrap_or(self.lines))
    }
}

/// Reads what [`Fastly::parameters`] wrote; nothing when it is something else.
fn settings(parameters: &[u8]) -> Option<lines::Settings> {
    let &[PARAMETERS, repair @ (0 | 1), ref max_line_bytes @ ..] = parameters else { return None };
    Some(lines::Settings {
        repair: if repair == 1 { lines::Mending::Unambiguous } else { lines::Mending::Off },
        max_line_bytes: usize::try_from(u64::from_le_bytes(max_line_bytes.try_into().ok()?)).ok()?,
    })
}

#[cfg(test)]
mod tests;
