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
    #[error("holds no private key")]
    NoKey,
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
    if found.is_empty() { Err(PemError::NoCertificate) } else { Ok(found) }
}

/// Parses the first private key in the content of a file.
pub(crate) fn private_key(content: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(content).map_err(|error| match error {
        _ if ENCRYPTED.iter().any(|mark| memmem::find(content, mark).is_some()) => PemError::EncryptedKey,
        pem::Error::NoItemsFound => PemError::NoKey,
        _ => PemError::Malformed,
    })
}

#[cfg(test)]
pub(crate) mod tests;
