//! Fastly real-time log streaming: batches of lines that are OTLP/JSON, or nearly.
//!
//! In: headers and a decoded body. Out: an [`Item`](super::Item) for every unit that is accepted, a [`Rejected`] for
//! everything else.
//! Promises: one bad unit never costs another; a unit that is canonical already is not copied.
//! Leaves to others: the meaning of a unit ([`crate::otlp::LineReader`]).

mod challenge;
mod config;
mod framing;
mod mistake;
mod reading;
mod repair;

use bytes::Bytes;
use http::HeaderMap;

use super::token::Token;
use super::{Reading, Receiver, Rejected, Unauthorized};

pub(crate) use challenge::challenge;
pub(crate) use config::{FastlyConfig, KIND};
#[cfg(any(test, feature = "internals"))]
pub(crate) use framing::frames;
pub(crate) use mistake::{Mistake, mistake};

/// Version of the layout of [`Fastly::parameters`]: this byte, `repair` as 0 or 1, `max_line_size` as 8 bytes.
const PARAMETERS: u8 = 1;

/// One `receivers.fastly` of the configuration.
pub(crate) struct Fastly {
    id: String,
    path: String,
    token: Token,
    settings: reading::Settings,
}

// === impl Fastly ===

impl Fastly {
    /// `max_line_bytes` bounds one unit.
    pub(crate) fn new(config: &FastlyConfig, max_line_bytes: usize) -> Self {
        Self {
            id: config.id.clone(),
            path: config.path.clone(),
            token: Token::new(config.auth.as_ref()),
            settings: reading::Settings { repair: config.repair, max_line_bytes },
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
        reading::read(body, &self.settings)
    }

    fn parameters(&self) -> Bytes {
        let reading::Settings { repair, max_line_bytes } = self.settings;
        [&[PARAMETERS, u8::from(repair)][..], &(max_line_bytes as u64).to_le_bytes()].concat().into()
    }

    fn read_as(&self, body: &Bytes, parameters: &[u8]) -> Reading {
        reading::read(body, &settings(parameters).unwrap_or(self.settings))
    }
}

/// Reads what [`Fastly::parameters`] wrote; nothing when it is something else.
fn settings(parameters: &[u8]) -> Option<reading::Settings> {
    let &[PARAMETERS, repair @ (0 | 1), ref max_line_bytes @ ..] = parameters else { return None };
    let max_line_bytes = usize::try_from(u64::from_le_bytes(max_line_bytes.try_into().ok()?)).ok()?;
    Some(reading::Settings { repair: repair == 1, max_line_bytes })
}

#[cfg(test)]
mod tests;
