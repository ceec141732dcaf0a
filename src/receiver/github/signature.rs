//! The form of GitHub's signatures: the header `x-hub-signature-256: sha256=<64 hexadecimal digits>`.
//!
//! In: the lines of the header. Out: the digest that it claims.
//! Promises: no form of the header panics; a header with several lines is refused, because a proxy could read another one.
//!
//! GitHub also sends `x-hub-signature`, an HMAC-SHA1 for old clients, which proves nothing here.

use http::HeaderValue;
use http::header::GetAll;

use crate::otlp::decode_hex;
use crate::receiver::Unauthorized;
use crate::receiver::webhook::signature::{Digest, Scheme};

/// GitHub's scheme.
pub(super) const SCHEME: Scheme = Scheme { header: "x-hub-signature-256", missing: MISSING, claims };

const MISSING: Unauthorized = Unauthorized("the x-hub-signature-256 header is missing");
const REPEATED: Unauthorized = Unauthorized("the x-hub-signature-256 header is present more than once");
const UNREADABLE: Unauthorized =
    Unauthorized("the x-hub-signature-256 header is not sha256= and 64 hexadecimal digits");

fn claims(lines: GetAll<'_, HeaderValue>) -> Result<Vec<Digest>, Unauthorized> {
    let mut lines = lines.iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Err(REPEATED) };
    let digits = line.as_bytes().strip_prefix(b"sha256=").ok_or(UNREADABLE)?;
    decode_hex(digits).map(|digest| vec![digest]).ok_or(UNREADABLE)
}

#[cfg(test)]
mod tests;
