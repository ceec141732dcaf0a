//! Fastly real-time log streaming: batches of lines that are OTLP/JSON, almost OTLP/JSON, or access logs.
//!
//! In: headers and a decoded body. Out: an [`Item`](super::Item) for every accepted unit, a [`Rejected`] for everything
//! else.
//! Promises: a bad unit never affects another; a canonical unit is not copied.
//! Left to others: the meaning of a unit ([`crate::otlp::LineReader`]).

mod access_log;
mod challenge;
mod config;
mod framing;
mod mistake;
mod reading;
mod repair;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use self::mistake::Mistake;
use super::token::Token;
use super::{
    AtRoot, Check, Credentials, Diagnosis, Identity, Reading, Receiver, Rejected, Requests, Source, Withheld,
    source,
};
use crate::event::KeptHeaders;

pub(crate) use access_log::AccessLogsConfig;
pub(crate) use config::FastlyConfig;
pub use framing::frames;

/// Fastly as a source.
pub(crate) const SOURCE: Source = Source {
    kind: config::KIND,
    build: |section, limits| {
        let config = source::section(section);
        let receiver = |config| {
            let receiver = Fastly::new(config, limits.max_line_bytes).withholding(&limits.withheld);
            Arc::new(receiver) as Arc<dyn Receiver>
        };
        config.map(receiver).into_iter().collect()
    },
    requests: Requests::Batches { put: true },
    at_root: AtRoot::Rest,
    pages: &[challenge::PAGE],
    check: Some(Check {
        receiver: |limits| Box::new(Fastly::new(&FastlyConfig::default(), limits.max_line_bytes)),
        recognizes: None,
    }),
};

/// Version of the layout of [`Fastly::parameters`]: this byte, `repair` as 0 or 1, `max_line_size` as 8 bytes, and
/// `access_logs` if it is set.
const PARAMETERS: u8 = 1;

/// One `receivers.fastly` of the configuration.
pub(crate) struct Fastly {
    identity: Identity,
    settings: reading::Settings,
}

// === impl Fastly ===

impl Fastly {
    /// Creates a receiver; `max_line_bytes` limits one unit.
    pub(crate) fn new(config: &FastlyConfig, max_line_bytes: usize) -> Self {
        Self {
            identity: Identity::new(
                &SOURCE,
                &config.endpoint,
                Credentials::Token(Token::new(config.auth.as_ref())),
            ),
            settings: reading::Settings {
                repair: config.repair,
                max_line_bytes,
                access_logs: config.access_logs.clone(),
                withheld: Withheld::default(),
            },
        }
    }

    /// Returns the receiver with attributes that it must not copy to other places.
    pub(crate) fn withholding(mut self, withheld: &Withheld) -> Self {
        self.settings.withheld = withheld.clone();
        self
    }
}

impl Receiver for Fastly {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn diagnose(&self, rejected: &Rejected) -> Option<Diagnosis> {
        mistake::mistake(rejected).map(Mistake::diagnosis)
    }

    fn withholds(&self, path: &str, is_object: bool) -> bool {
        let map = self.settings.access_logs.as_ref().map(|config| &config.map[..]).unwrap_or_default();
        access_log::withholds(path, is_object, map, &self.settings.withheld)
    }

    fn withheld_in(&self, line: &str) -> Option<Vec<Range<usize>>> {
        access_log::withheld_in(line, &self.settings.withheld)
    }

    fn read(&self, body: &Bytes) -> Reading {
        reading::read(body, &self.settings)
    }

    fn parameters(&self) -> Bytes {
        let reading::Settings { repair, max_line_bytes, access_logs, withheld: _ } = &self.settings;
        let access_logs = access_logs.as_ref().map(AccessLogsConfig::encode).unwrap_or_default();
        [&[PARAMETERS, u8::from(*repair)][..], &(*max_line_bytes as u64).to_le_bytes(), &access_logs]
            .concat()
            .into()
    }

    fn read_as(&self, body: &Bytes, parameters: &[u8], _headers: &KeptHeaders) -> Reading {
        match settings(parameters, &self.settings.withheld) {
            Some(settings) => reading::read(body, &settings),
            None => self.read(body),
        }
    }
}

/// Reads what [`Fastly::parameters`] wrote; `None` for anything else.
fn settings(parameters: &[u8], withheld: &Withheld) -> Option<reading::Settings> {
    let &[PARAMETERS, repair @ (0 | 1), ref rest @ ..] = parameters else { return None };
    let (max_line_bytes, access_logs) = rest.split_first_chunk()?;
    let max_line_bytes = usize::try_from(u64::from_le_bytes(*max_line_bytes)).ok()?;
    let access_logs = match access_logs {
        [] => None,
        settings => Some(AccessLogsConfig::decode(settings)?),
    };
    Some(reading::Settings { repair: repair == 1, max_line_bytes, access_logs, withheld: withheld.clone() })
}

#[cfg(test)]
mod tests;
