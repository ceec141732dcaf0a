//! `circleci-signature` headers, compared with a second, naive implementation of the scheme.
//!
//! The input consists of lines of the header up to an empty line, then the body. In a header, `@1` and `@2` are
//! replaced by the signatures under the two configured secrets and `@3` by one under another secret, because no fuzzer
//! finds those.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use spanrelay::internals::{Receiver, sign};

use super::receivers;

/// One secret shorter and one longer than a block of SHA-256.
const SECRETS: [&str; 2] = [
    "a secret",
    "a secret that is longer than one block of SHA-256, and so is hashed before it becomes a key",
];

const OTHER_SECRET: &str = "not configured";

/// Total length of header lines above which they are rejected unread.
const MAX_ELEMENTS: usize = 16;

/// Checks header lines and a body, with and without secrets, with and without `allow_unsigned`.
pub fn signature(input: &[u8]) {
    let (head, body) = match memchr::memmem::find(input, b"\n\n") {
        Some(end) => (&input[..end], &input[end + 2..]),
        None => (input, &b""[..]),
    };
    let lines: Vec<Vec<u8>> =
        head.split(|byte| *byte == b'\n').map(|line| with_signatures(line, body)).collect();
    let mut headers = HeaderMap::new();
    for line in &lines {
        // Lines that no HTTP server would pass on.
        let Ok(value) = HeaderValue::from_bytes(line) else { return };
        headers.append(HeaderName::from_static("circleci-signature"), value);
    }
    let signed = is_signed(&lines, body);
    for allow_unsigned in [false, true] {
        let with_secrets = receiver(&SECRETS, allow_unsigned);
        let verified = with_secrets.verify(&headers, body);
        assert_eq!(verified.is_ok(), signed, "with secrets: {verified:?}");
        let unsigned = with_secrets.verify(&HeaderMap::new(), body);
        assert_eq!(unsigned.is_ok(), allow_unsigned, "without a header: {unsigned:?}");
    }
    let without_secrets = receiver(&[], true).verify(&headers, body);
    assert!(without_secrets.is_ok(), "without secrets: {without_secrets:?}");
    // A signature is valid for these bytes only.
    if signed {
        let longer = Bytes::from([body, b"\n"].concat());
        assert!(receiver(&SECRETS, false).verify(&headers, &longer).is_err(), "another body passes");
    }
}

fn receiver(secrets: &[&str], allow_unsigned: bool) -> Arc<dyn Receiver> {
    receivers::one(&format!(
        "receivers: {{circleci: {{secrets: {secrets:?}, allow_unsigned: {allow_unsigned}}}}}"
    ))
}

/// Replaces the placeholders in a header line by signatures.
fn with_signatures(line: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = line;
    while let Some((&byte, behind)) = rest.split_first() {
        let secret = match (byte, behind.first()) {
            (b'@', Some(b'1')) => Some(SECRETS[0]),
            (b'@', Some(b'2')) => Some(SECRETS[1]),
            (b'@', Some(b'3')) => Some(OTHER_SECRET),
            _ => None,
        };
        match secret {
            Some(secret) => {
                out.extend_from_slice(sign(secret.as_bytes(), body).as_bytes());
                rest = &behind[1..];
            }
            None => {
                out.push(byte);
                rest = behind;
            }
        }
    }
    out
}

/// Returns whether one of the elements is `v1=` and the HMAC of the body, as CircleCI's documentation describes.
fn is_signed(lines: &[Vec<u8>], body: &[u8]) -> bool {
    let list = lines.join(&b',');
    let elements: Vec<&[u8]> = list.split(|byte| *byte == b',').collect();
    let wanted: Vec<String> =
        SECRETS.iter().map(|secret| format!("v1={}", hmac_sha256(secret.as_bytes(), body))).collect();
    let is_wanted = |element: &&[u8]| {
        let element = element.trim_ascii();
        // The version is text, the digits are a number.
        element.starts_with(b"v1=")
            && wanted.iter().any(|wanted| wanted.as_bytes().eq_ignore_ascii_case(element))
    };
    elements.len() <= MAX_ELEMENTS && elements.iter().any(is_wanted)
}

/// Computes an HMAC by RFC 2104, from the hash alone.
fn hmac_sha256(secret: &[u8], message: &[u8]) -> String {
    const BLOCK_BYTES: usize = 64;
    let mut key = [0; BLOCK_BYTES];
    if secret.len() > BLOCK_BYTES {
        key[..32].copy_from_slice(&Sha256::digest(secret));
    } else {
        key[..secret.len()].copy_from_slice(secret);
    }
    let with_pad = |pad: u8, text: &[u8]| {
        Sha256::new().chain_update(key.map(|byte| byte ^ pad)).chain_update(text).finalize()
    };
    let outer = with_pad(0x5c, &with_pad(0x36, message));
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}
