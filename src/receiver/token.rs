//! `auth`: a header that must have one of the configured values.
//!
//! In: the headers of a request. Out: whether the request is authorized. Promises: the duration of the check reveals
//! nothing about the values.

use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use super::Unauthorized;
use crate::config::{AuthConfig, Secret};

/// The required header and its valid values; `None` requires nothing.
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
        // A proxy in front may use another one of them.
        if given.next().is_some() {
            return Err(Unauthorized("the header with the token is repeated"));
        }
        // Digests are compared, so that the duration depends neither on the position of the first difference nor on the
        // length.
        let given = Sha256::digest(token.as_bytes());
        let matches = values.iter().fold(false, |matches, value| {
            let difference =
                given.iter().zip(Sha256::digest(value.expose())).fold(0, |sum, (a, b)| sum | (a ^ b));
            matches | (difference == 0)
        });
        if matches { Ok(()) } else { Err(Unauthorized("the token is wrong")) }
    }
}
