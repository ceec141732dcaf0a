//! PEM files: certificates and private keys.
//!
//! In: a file, or what it held. Out: certificates or a key, or why there are none.
//! Promises: no error repeats anything of a file's content, for that may be a private key: the errors of the parser
//! below do, when a key was pasted into one line.
//! Leaves to others: which key of the configuration names the file; whether the two fit together (rustls).

use std::io;
use std::path::Path;

use memchr::memmem;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How encrypted keys begin: as PKCS #8, and in OpenSSL's own older form.
const ENCRYPTED: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PemError {
    #[error("cannot be read")]
    Read(#[from] io::Error),
    #[error("is not valid PEM; are its line breaks as they were?")]
    Malformed,
    #[error("holds no certificate")]
    NoCertificate,
    #[error("holds no private key")]
    NoKey,
    #[error("holds an encrypted private key; decrypt it, as with `openssl pkey -in KEY -out DECRYPTED`")]
    EncryptedKey,
}

/// All certificates in a file, in its order: at least one.
pub(crate) fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    certificates(&std::fs::read(path)?)
}

/// The first private key in a file.
pub(crate) fn private_key_in(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    private_key(&std::fs::read(path)?)
}

/// All certificates in the content of a file, in its order: at least one.
pub(crate) fn certificates(content: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(content).collect();
    let found = found.map_err(|_| PemError::Malformed)?;
    if found.is_empty() { Err(PemError::NoCertificate) } else { Ok(found) }
}

/// The first private key in the content of a file.
pub(crate) fn private_key(content: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(content).map_err(|error| match error {
        _ if ENCRYPTED.iter().any(|mark| memmem::find(content, mark).is_some()) => PemError::EncryptedKey,
        pem::Error::NoItemsFound => PemError::NoKey,
        _ => PemError::Malformed,
    })
}

#[cfg(test)]
pub(crate) mod tests;
