//! The form of CircleCI's signatures: the header `circleci-signature`, `v1=<hex>[,v2=…]`.
//!
//! In: the lines of the header. Out: the digests that they claim.
//! Promises: no form of the header panics; at most [`MAX_ELEMENTS`] digests.
//! Leaves to others: replays (CircleCI signs no time, so a repeated event is recognized by its id).
//!
//! Only `v1` exists. Elements of other versions, and elements that are no `version=hex` at all, are ignored. An element
//! may be padded with spaces, its digits may be of either case, and several `v1` elements or several header lines are
//! alternatives.

use http::HeaderValue;
use http::header::GetAll;

use crate::otlp::decode_hex;
use crate::receiver::Unauthorized;
use crate::receiver::webhook::signature::{Digest, Scheme};

/// CircleCI's scheme.
pub(super) const SCHEME: Scheme = Scheme { header: "circleci-signature", missing: MISSING, claims };

/// Maximum number of elements. CircleCI sends one for each version, of which there is one.
const MAX_ELEMENTS: usize = 16;

const MISSING: Unauthorized = Unauthorized("the circleci-signature header is missing");
const UNREADABLE: Unauthorized = Unauthorized("the circleci-signature header has no readable v1 signature");
const TOO_LONG: Unauthorized = Unauthorized("the circleci-signature header has too many elements");

fn claims(lines: GetAll<'_, HeaderValue>) -> Result<Vec<Digest>, Unauthorized> {
    let mut elements = lines.iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    let claims: Vec<Digest> = elements.by_ref().take(MAX_ELEMENTS).filter_map(v1).collect();
    if elements.next().is_some() {
        return Err(TOO_LONG);
    }
    if claims.is_empty() { Err(UNREADABLE) } else { Ok(claims) }
}

fn v1(element: &[u8]) -> Option<Digest> {
    decode_hex(element.trim_ascii().strip_prefix(b"v1=")?)
}

#[cfg(test)]
mod tests;
