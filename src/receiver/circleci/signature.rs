//! Who signed this webhook?
//!
//! In:  the `circleci-signature` header, `v1=<hex>[,v2=…]`, and the body as it came over the wire. Out: yes or no.
//! Promises: HMAC-SHA256 of the raw bytes with any of the configured secrets; compared in constant time; no form of
//! the header panics; the work is one hash per secret and at most [`MAX_ELEMENTS`] comparisons with each.
//! Leaves to others: replays (CircleCI signs no time, so an event is known again by its id).
//!
//! Only `v1` exists. Elements of other versions, and elements that are no `version=hex` at all, count for nothing:
//! they neither prove nor spoil. An element may be padded with spaces, its digits may be of either case, and several
//! `v1` elements or several header lines are alternatives.

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;

use super::CircleCiConfig;
use crate::otlp::{decode_hex, encode_hex};
use crate::receiver::Unauthorized;

const HEADER: &str = "circleci-signature";

/// CircleCI sends one element per version that it knows, and it knows one.
const MAX_ELEMENTS: usize = 16;

const MISSING: Unauthorized = Unauthorized("the circleci-signature header is missing");
const UNREADABLE: Unauthorized = Unauthorized("the circleci-signature header has no readable v1 signature");
const TOO_LONG: Unauthorized = Unauthorized("the circleci-signature header has too many elements");
const WRONG: Unauthorized = Unauthorized("the signature does not match the body under any configured secret");
const NO_SECRET: Unauthorized = Unauthorized("this receiver has no secret to check signatures with");

/// Checks signatures with the secrets of one receiver.
pub(super) struct Verifier {
    /// Already keyed, so that a request costs the hash of its body only.
    keyed: Vec<Hmac<Sha256>>,
    unsigned: Unsigned,
}

/// What becomes of a webhook without a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsigned {
    Refused,
    Accepted,
}

/// The digests that a header claims, in its order.
type Claims = Vec<[u8; 32]>;

/// The signature of a body, as lower-case hexadecimal.
pub(crate) fn sign(secret: &[u8], body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(body);
    encode_hex(&mac.finalize().into_bytes())
}

// === impl Verifier ===

impl Verifier {
    /// An empty secret would let everybody sign, so it counts as none.
    pub(super) fn new(config: &CircleCiConfig) -> Self {
        let keyed = config
            .secrets
            .iter()
            .map(|secret| secret.expose().as_bytes())
            .filter(|secret| !secret.is_empty())
            .map(|secret| Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"))
            .collect();
        let unsigned = if config.allow_unsigned { Unsigned::Accepted } else { Unsigned::Refused };
        Self { keyed, unsigned }
    }

    /// `allow_unsigned` is about requests without a signature: where there are secrets, a signature that is there must
    /// be right even then. So a webhook's secret can be introduced while unsigned events still come, and a wrong
    /// secret shows at once. Without any secret there is nothing to check a signature with, and all or none may pass.
    pub(super) fn verify(&self, headers: &HeaderMap, wire: &[u8]) -> Result<(), Unauthorized> {
        let accepts_unsigned = self.unsigned == Unsigned::Accepted;
        if self.keyed.is_empty() {
            return if accepts_unsigned { Ok(()) } else { Err(NO_SECRET) };
        }
        if !headers.contains_key(HEADER) {
            return if accepts_unsigned { Ok(()) } else { Err(MISSING) };
        }
        let claims = claims(headers)?;
        let genuine = self.keyed.iter().any(|keyed| {
            let signed = keyed.clone().chain_update(wire);
            claims.iter().any(|claim| signed.clone().verify_slice(claim).is_ok())
        });
        if genuine { Ok(()) } else { Err(WRONG) }
    }
}

fn claims(headers: &HeaderMap) -> Result<Claims, Unauthorized> {
    let mut elements =
        headers.get_all(HEADER).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    let claims: Claims = elements.by_ref().take(MAX_ELEMENTS).filter_map(v1).collect();
    if elements.next().is_some() {
        return Err(TOO_LONG);
    }
    if claims.is_empty() { Err(UNREADABLE) } else { Ok(claims) }
}

fn v1(element: &[u8]) -> Option<[u8; 32]> {
    decode_hex(element.trim_ascii().strip_prefix(b"v1=")?)
}

#[cfg(test)]
mod tests;
