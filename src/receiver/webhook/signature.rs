//! Verifies that a webhook was signed with a configured secret.
//!
//! In: the headers, and the body as received. Out: whether the signature is valid.
//! Promises: HMAC-SHA256 of the raw bytes with any of the configured secrets, compared in constant time.
//! Left to others: the form of the header, which a [`Scheme`] reads.

use hmac::{Hmac, KeyInit, Mac};
use http::header::GetAll;
use http::{HeaderMap, HeaderValue};
use sha2::Sha256;

use crate::config::Secret;
use crate::otlp::encode_hex;
use crate::receiver::Unauthorized;

pub(in crate::receiver) const WRONG: Unauthorized =
    Unauthorized("the signature does not match the body under any configured secret");
pub(in crate::receiver) const NO_SECRET: Unauthorized =
    Unauthorized("this receiver has no secret to check signatures with");

/// HMAC-SHA256 of a body.
pub(in crate::receiver) type Digest = [u8; 32];

/// Form of a source's signatures.
pub(in crate::receiver) struct Scheme {
    /// Name of the header, in lower case.
    pub(in crate::receiver) header: &'static str,
    /// Error for a request without the header.
    pub(in crate::receiver) missing: Unauthorized,
    /// Reads the digests that the lines of the header claim. The verifier compares each, so that the number must be
    /// limited.
    pub(in crate::receiver) claims: fn(GetAll<'_, HeaderValue>) -> Result<Vec<Digest>, Unauthorized>,
}

/// Checks signatures with the secrets of one receiver.
pub(in crate::receiver) struct Verifier {
    scheme: &'static Scheme,
    /// Keyed in advance, so that a request costs only the hash of its body.
    keyed: Vec<Hmac<Sha256>>,
    allow_unsigned: bool,
}

/// Returns the signature of a body, as lower-case hexadecimal.
pub fn sign(secret: &[u8], body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(body);
    encode_hex(&mac.finalize().into_bytes())
}

// === impl Verifier ===

impl Verifier {
    /// Creates a verifier. An empty secret would allow anyone to sign, so that it is ignored.
    pub(in crate::receiver) fn new(
        scheme: &'static Scheme,
        secrets: &[Secret],
        allow_unsigned: bool,
    ) -> Self {
        let keyed = secrets
            .iter()
            .map(|secret| secret.expose().as_bytes())
            .filter(|secret| !secret.is_empty())
            .map(|secret| Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"))
            .collect();
        Self { scheme, keyed, allow_unsigned }
    }

    /// Verifies a body. `allow_unsigned` concerns requests without a signature: with secrets, a signature that is
    /// present must be valid even then. So a webhook's secret can be introduced while unsigned events still arrive, and
    /// a wrong secret is noticed at once. Without any secret, signatures cannot be checked, and either all requests
    /// pass or none.
    pub(in crate::receiver) fn verify(&self, headers: &HeaderMap, wire: &[u8]) -> Result<(), Unauthorized> {
        let unsigned = |refusal| if self.allow_unsigned { Ok(()) } else { Err(refusal) };
        if self.keyed.is_empty() {
            return unsigned(NO_SECRET);
        }
        if !headers.contains_key(self.scheme.header) {
            return unsigned(self.scheme.missing);
        }
        let claims = (self.scheme.claims)(headers.get_all(self.scheme.header))?;
        let genuine = self.keyed.iter().any(|keyed| {
            let signed = keyed.clone().chain_update(wire);
            claims.iter().any(|claim| signed.clone().verify_slice(claim).is_ok())
        });
        if genuine { Ok(()) } else { Err(WRONG) }
    }
}
