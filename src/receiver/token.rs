//! `auth`: a header that must have one of the configured values.
//!
//! In: the headers of a request. Out: whether its sender may come in. Promises: how long it takes tells nothing of the
//! values.

use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use super::Unauthorized;
use crate::config::{AuthConfig, Secret};

/// What a sender must show, if anything.
pub(super) struct Token(Option<(HeaderName, Vec<Secret>)>);

// === impl Token ===

impl Token {
    pub(super) fn new(config: Option<&AuthConfig>) -> Self {
        Self(config.map(|auth| (auth.header.clone(), auth.values.clone())))
    }

    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        let Some((name, values)) = &self.0 else { return Ok(()) };
        let mut given = headers.get_all(name).iter();
        let token = given.next().ok_or(Unauthorized("the header with the token is missing"))?;
        // A proxy in front may go by another of them than this does.
        if given.next().is_some() {
            return Err(Unauthorized("the header with the token is there more than once"));
        }
        // Over digests, so that neither the place of the first difference nor the length shows in the time.
        let given = Sha256::digest(token.as_bytes());
        let matches = values.iter().fold(false, |matches, value| {
            let difference =
                given.iter().zip(Sha256::digest(value.expose())).fold(0, |sum, (a, b)| sum | (a ^ b));
            matches | (difference == 0)
        });
        if matches { Ok(()) } else { Err(Unauthorized("the token is wrong")) }
    }
}
