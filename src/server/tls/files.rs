//! The files of `server.tls`, and the TLS configuration built from them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, InconsistentKeys, RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use tracing::warn;

use crate::config::TlsServerConfig;
use crate::pem::{self, PemError};

/// ALPN protocols, by preference.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A name that no certificate contains: verifying it makes rustls list the names that a certificate does contain.
const NOBODY: &str = "spanrelay.invalid";

/// Digest of all files together.
pub(super) type FilesDigest = [u8; 32];

/// Reason that TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerTlsError {
    #[error("server.tls.{key}: {}", path.display())]
    File {
        key: &'static str,
        path: PathBuf,
        #[source]
        source: PemError,
    },
    #[error(
        "server.tls.key_file: {} is not the key of the first certificate in {}, which must be the relay's own",
        key_file.display(), cert_file.display()
    )]
    Mismatch { cert_file: PathBuf, key_file: PathBuf },
    #[error("server.tls: the certificate in {} cannot be used with the key in {}", cert_file.display(), key_file.display())]
    Unusable {
        cert_file: PathBuf,
        key_file: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("server.tls.client_ca_file: {} holds no usable authority", path.display())]
    NoAuthority {
        path: PathBuf,
        #[source]
        source: VerifierBuilderError,
    },
    #[error("server.tls: TLS cannot be set up")]
    Provider(#[source] rustls::Error),
}

/// Content of the files at one time.
pub(super) struct TlsFiles {
    certificates: Vec<u8>,
    key: Vec<u8>,
    authorities: Option<Vec<u8>>,
}

// === impl TlsFiles ===

impl TlsFiles {
    pub(super) fn read(paths: &TlsServerConfig) -> Result<Self, ServerTlsError> {
        let read = |key, path: &Path| std::fs::read(path).map_err(|error| file(key, path)(error.into()));
        Ok(Self {
            certificates: read("cert_file", &paths.cert_file)?,
            key: read("key_file", &paths.key_file)?,
            authorities: match &paths.client_ca_file {
                Some(path) => Some(read("client_ca_file", path)?),
                None => None,
            },
        })
    }

    /// Returns a digest of the content. Modification times would miss a symbolic link that changes to a file of equal age.
    pub(super) fn digest(&self) -> FilesDigest {
        let mut digest = Sha256::new();
        for content in [Some(&self.certificates), Some(&self.key), self.authorities.as_ref()] {
            let content = content.map_or(&[] as &[u8], Vec::as_slice);
            digest.update((content.len() as u64).to_le_bytes());
            digest.update(content);
        }
        digest.finalize().into()
    }

    /// Builds the TLS configuration; `paths` are for messages.
    pub(super) fn to_config(&self, paths: &TlsServerConfig) -> Result<ServerConfig, ServerTlsError> {
        let TlsServerConfig { cert_file, key_file, client_ca_file } = paths;
        let chain = pem::certificates(&self.certificates).map_err(file("cert_file", cert_file))?;
        let key = pem::private_key(&self.key).map_err(file("key_file", key_file))?;
        // Explicit, so that the process-wide default provider does not matter.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(ServerTlsError::Provider)?;
        let builder = match (&self.authorities, client_ca_file) {
            (Some(content), Some(path)) => {
                let roots = Arc::new(roots(content, path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|source| ServerTlsError::NoAuthority { path: path.clone(), source })?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        warn_without_names(&chain, cert_file);
        let mut config = builder.with_single_cert(chain, key).map_err(|source| {
            let (cert_file, key_file) = (cert_file.clone(), key_file.clone());
            match source {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    ServerTlsError::Mismatch { cert_file, key_file }
                }
                source => ServerTlsError::Unusable { cert_file, key_file, source },
            }
        })?;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        Ok(config)
    }
}

/// Parses all authorities. An invalid one is an error, because silently skipping it would remove a trusted authority.
fn roots(content: &[u8], path: &Path) -> Result<RootCertStore, ServerTlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(content).map_err(file("client_ca_file", path))? {
        if roots.add(certificate).is_err() {
            return Err(file("client_ca_file", path)(PemError::Malformed));
        }
    }
    Ok(roots)
}

fn file(key: &'static str, path: &Path) -> impl FnOnce(PemError) -> ServerTlsError {
    let path = path.to_owned();
    move |source| ServerTlsError::File { key, path, source }
}

/// Warns about a certificate without subject alternative names: clients no longer look for the host name in the subject.
fn warn_without_names(chain: &[CertificateDer<'static>], cert_file: &Path) {
    if chain.first().is_some_and(|own| !has_names(own)) {
        warn!(
            cert_file = %cert_file.display(),
            "the certificate of server.tls names no host; without subject alternative names clients will reject it"
        );
    }
}

fn has_names(certificate: &CertificateDer<'_>) -> bool {
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return true };
    let nobody = ServerName::try_from(NOBODY).expect("it is a host name");
    match verify_server_name(&parsed, &nobody) {
        Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        })) => !presented.is_empty(),
        _ => true,
    }
}
