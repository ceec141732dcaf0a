//! Valid files, invalid files, and files that change.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::config::LogFormat;
use crate::pem::tests::pki::{Authority, Issued, Validity};
use crate::telemetry::logging::tests::Captured;

/// Directory with the files of a configuration.
struct Pki {
    directory: TempDir,
    authority: Authority,
}

// === impl Pki ===

impl Pki {
    fn new() -> Self {
        let pki = Self { directory: tempfile::tempdir().unwrap(), authority: Authority::new("ours") };
        pki.install(&pki.issue());
        pki.write("ca.pem", &pki.authority.pem);
        pki
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&["localhost"], Validity::Now)
    }

    fn install(&self, issued: &Issued) {
        self.write("cert.pem", &issued.cert_pem);
        self.write("key.pem", &issued.key_pem);
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn paths(&self) -> TlsServerConfig {
        TlsServerConfig {
            cert_file: self.path("cert.pem"),
            key_file: self.path("key.pem"),
            client_ca_file: Some(self.path("ca.pem")),
        }
    }

    fn load(&self) -> Arc<Tls> {
        Arc::new(Tls::load(&self.paths()).unwrap())
    }

    /// Returns the error that prevents the start.
    fn complaint(&self) -> String {
        let error = Tls::load(&self.paths()).err().expect("these files are of no use");
        chain(&error).to_string()
    }
}

fn names(complaint: &str, key: &str, path: &Path) -> bool {
    complaint.starts_with(&format!("server.tls.{key}: {}", path.display()))
}

#[test]
fn each_unusable_file_is_named_with_its_key_and_the_reason() {
    let pem = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    let encrypted = pem("ENCRYPTED PRIVATE KEY");
    let broken = pem("CERTIFICATE").replace("-----END", "");
    let table = [
        ("cert.pem", "cert_file", None, "cannot be read"),
        ("key.pem", "key_file", None, "cannot be read"),
        ("ca.pem", "client_ca_file", None, "cannot be read"),
        ("cert.pem", "cert_file", Some(""), "holds no certificate"),
        ("cert.pem", "cert_file", Some(broken.as_str()), "is not valid PEM"),
        ("key.pem", "key_file", Some("hello"), "holds no private key"),
        ("key.pem", "key_file", Some(encrypted.as_str()), "holds an encrypted private key"),
        ("ca.pem", "client_ca_file", Some("hello"), "holds no certificate"),
        ("ca.pem", "client_ca_file", Some(&pem("CERTIFICATE")), "is not valid PEM"),
    ];
    for (name, key, content, expected) in table {
        let pki = Pki::new();
        match content {
            Some(content) => pki.write(name, content),
            None => std::fs::remove_file(pki.path(name)).unwrap(),
        }
        let said = pki.complaint();
        assert!(names(&said, key, &pki.path(name)) && said.contains(expected), "{name} {content:?}: {said}");
    }
}

#[test]
fn a_key_of_another_certificate_is_rejected_and_both_files_are_named() {
    let pki = Pki::new();
    pki.write("key.pem", &pki.issue().key_pem);
    let said = pki.complaint();
    assert!(names(&said, "key_file", &pki.path("key.pem")), "{said}");
    assert!(said.contains("is not the key of the first certificate in"), "{said}");
    assert!(said.contains(&pki.path("cert.pem").display().to_string()), "{said}");
}

#[test]
fn an_invalid_certificate_or_key_is_rejected() {
    let pki = Pki::new();
    pki.write("cert.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(pki.complaint().starts_with("server.tls: the certificate in "), "{}", pki.complaint());
    let pki = Pki::new();
    pki.write("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    assert!(pki.complaint().contains("cannot be used with the key in "), "{}", pki.complaint());
}

#[test]
fn only_a_certificate_without_a_name_causes_a_warning() {
    for (names, warns) in [(&[][..], true), (&["localhost"], false), (&["127.0.0.1"], false)] {
        let (captured, _guard) = Captured::start(tracing::Level::WARN, LogFormat::Text);
        let pki = Pki::new();
        pki.install(&pki.authority.issue(names, Validity::Now));
        pki.load();
        assert_eq!(captured.text().contains("subject alternative names"), warns, "{names:?}");
    }
}

#[test]
fn http_2_is_preferred_to_http_1() {
    let pki = Pki::new();
    assert_eq!(lock(&pki.load().current).alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
}

#[test]
fn files_are_checked_once_per_interval() {
    let tls = Pki::new().load();
    let loaded = *lock(&tls.checked);
    assert!(!tls.is_check_due(loaded + CHECK_INTERVAL / 2));
    assert!(tls.is_check_due(loaded + CHECK_INTERVAL));
    assert!(!tls.is_check_due(loaded + CHECK_INTERVAL));
    assert!(tls.is_check_due(loaded + 2 * CHECK_INTERVAL));
}

#[tokio::test]
async fn only_changed_files_are_loaded_into_a_new_configuration() {
    let pki = Pki::new();
    let tls = pki.load();
    let before = Arc::clone(&lock(&tls.current));
    assert!(tls.reload().await.is_none());
    assert!(Arc::ptr_eq(&before, &lock(&tls.current)));
    pki.install(&pki.issue());
    assert!(matches!(tls.reload().await, Some(Ok(()))));
    assert!(!Arc::ptr_eq(&before, &lock(&tls.current)));
}

#[tokio::test]
async fn unusable_changed_files_are_logged_once_and_keep_the_current_certificates() {
    let (captured, _guard) = Captured::start(tracing::Level::INFO, LogFormat::Text);
    let pki = Pki::new();
    let tls = pki.load();
    let before = Arc::clone(&lock(&tls.current));
    let next = pki.issue();
    // Half of a change, as between two writes.
    pki.write("cert.pem", &next.cert_pem);
    assert!(matches!(tls.reload().await, Some(Err(ServerTlsError::Mismatch { .. }))));
    assert!(tls.reload().await.is_none());
    std::fs::remove_file(pki.path("key.pem")).unwrap();
    assert!(matches!(tls.reload().await, Some(Err(ServerTlsError::File { key: "key_file", .. }))));
    assert!(tls.reload().await.is_none());
    assert!(Arc::ptr_eq(&before, &lock(&tls.current)));
    assert_eq!(captured.text().matches("keeping the current ones").count(), 2, "{}", captured.text());

    pki.write("key.pem", &next.key_pem);
    assert!(matches!(tls.reload().await, Some(Ok(()))));
    assert!(captured.text().contains("reloaded TLS certificates"), "{}", captured.text());
}
