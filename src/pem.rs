//! Reads certificates and private keys from PEM files.
//!
//! In: a file or its content. Out: certificates or a key, or an error.
//! Promises: no error repeats a file's content, because it may be a private key. The parser's own errors do, if a key
//! was pasted into one line.
//! Leaves to others: the configuration key of the file; whether certificate and key match (rustls).

use std::io;
use std::path::Path;

use memchr::memmem;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Prefixes of encrypted keys: PKCS #8, and OpenSSL's older format.
const ENCRYPTED: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];

/// Reason that a file is unusable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PemError {
    #[error("cannot be read")]
    Read(#[from] io::Error),
    #[error("is not valid PEM; are its line breaks intact?")]
    Malformed,
    #[error("holds no certificate")]
    NoCertificate,
    #[error("holds a private key and no certificate; are cert_file and key_file swapped?")]
    KeyInstead,
    #[error("holds no private key")]
    NoKey,
    #[error("holds a certificate and no private key; are cert_file and key_file swapped?")]
    CertificateInstead,
    #[error(
        "is binary (DER) and not PEM; convert it, for example with `openssl x509 -inform der -in FILE -out PEM`, or `openssl pkey` for a key"
    )]
    Der,
    #[error(
        "holds an encrypted private key; decrypt it, for example with `openssl pkey -in KEY -out DECRYPTED`"
    )]
    EncryptedKey,
}

/// Reads all certificates in a file, in order; at least one.
pub(crate) fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    certificates(&std::fs::read(path)?)
}

/// Reads the first private key in a file.
pub(crate) fn private_key_in(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    private_key(&std::fs::read(path)?)
}

/// Parses all certificates in the content of a file, in order; at least one.
pub(crate) fn certificates(content: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(content).collect();
    let found = found.map_err(|_| PemError::Malformed)?;
    match found.is_empty() {
        false => Ok(found),
        true if is_der(content) => Err(PemError::Der),
        true if holds(content, b" PRIVATE KEY-----") => Err(PemError::KeyInstead),
        true => Err(PemError::NoCertificate),
    }
}

/// Parses the first private key in the content of a file.
pub(crate) fn private_key(content: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(content).map_err(|error| match error {
        _ if ENCRYPTED.iter().any(|mark| holds(content, mark)) => PemError::EncryptedKey,
        _ if is_der(content) => PemError::Der,
        pem::Error::NoItemsFound if holds(content, b"-----BEGIN CERTIFICATE-----") => {
            PemError::CertificateInstead
        }
        pem::Error::NoItemsFound => PemError::NoKey,
        _ => PemError::Malformed,
    })
}

fn holds(content: &[u8], mark: &[u8]) -> bool {
    memmem::find(content, mark).is_some()
}

/// Returns `true` for what begins as DER does: a sequence whose length has one to three bytes. No text does.
fn is_der(content: &[u8]) -> bool {
    matches!(content, [SEQUENCE, 0x81..=0x83, ..])
}

// --- validity ---

/// Tags of DER (X.690) that a certificate (RFC 5280, section 4.1) has before the end of its validity.
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// Elements of DER, one after the other.
struct Elements<'a>(&'a [u8]);

/// Returns the end of a certificate's validity in Unix time.
pub(crate) fn end_of_validity(certificate: &CertificateDer<'_>) -> Option<i64> {
    let mut fields = Elements(certificate).open(SEQUENCE)?.open(SEQUENCE)?;
    if fields.0.first() == Some(&VERSION) {
        fields.next()?;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        fields.next()?;
    }
    let mut validity = fields.open(SEQUENCE)?;
    validity.next()?;
    let (tag, text) = validity.next()?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let time = jiff::civil::DateTime::new(year, two(0)?, two(2)?, two(4)?, two(6)?, two(8)?, 0).ok()?;
    Some(jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?.as_second())
}

// === impl Elements ===

impl<'a> Elements<'a> {
    /// Returns the tag and the content of the next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&short, rest) = rest.split_first()?;
        let (length, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(short - 0x80))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// Returns the elements inside the next one, which must have this tag.
    fn open(&mut self, tag: u8) -> Option<Self> {
        let (found, content) = self.next()?;
        (found == tag).then_some(Self(content))
    }
}

#[cfg(test)]
pub(crate) mod tests;
