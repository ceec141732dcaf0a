//! Validation and change detection of certificate files.
//!
//! In: a configuration. Out: the errors that a start would report about its files; and the content of the exporter's and of
//! self-tracing's files, to detect changes. Leaves to others: reloading them, and the files of `server.tls`.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::config::{Config, TlsClientConfig};
use crate::exporter::{self, SelfTraceExporter};
use crate::server::Tls;
use crate::steps::api_problems;
use crate::telemetry::logging::chain;

/// Returns the problems of all files, each with its key. Uses the code that reads the files at a start.
pub(crate) fn unusable_files(config: &Config) -> Vec<String> {
    let server = config.server.tls.as_ref().and_then(|tls| Tls::load(tls).err());
    let self_tracing =
        config.telemetry.traces.as_ref().and_then(|traces| SelfTraceExporter::new(traces).err());
    let mut problems: Vec<String> = server.iter().map(|error| chain(error).to_string()).collect();
    problems.extend(
        exporter::tls_problems(&config.exporters.otlp_http).iter().map(|error| chain(error).to_string()),
    );
    problems.extend(api_problems(config, super::wall_clock).iter().map(|error| chain(error).to_string()));
    problems.extend(self_tracing.iter().map(|error| chain(error).to_string()));
    problems
}

/// Digests of the files of a client at one time; `None` for one that could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFiles(Vec<(PathBuf, Option<[u8; 32]>)>);

// === impl ClientFiles ===

impl ClientFiles {
    /// Reads the files of the exporter.
    pub(super) fn of_exporter(config: &Config) -> Self {
        let sections = config.exporters.otlp_http.tls_sections();
        Self(sections.into_iter().flat_map(|(_, tls)| files_of(tls)).collect())
    }

    /// Reads the files of self-tracing.
    pub(super) fn of_self_tracing(config: &Config) -> Self {
        Self(config.telemetry.traces.iter().flat_map(|traces| files_of(&traces.tls)).collect())
    }
}

fn files_of(tls: &TlsClientConfig) -> impl Iterator<Item = (PathBuf, Option<[u8; 32]>)> {
    tls.files().map(|(_, path)| (path.to_owned(), digest(path)))
}

fn digest(path: &Path) -> Option<[u8; 32]> {
    std::fs::read(path).ok().map(|content| Sha256::digest(content).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::pem::tests::pki::{Authority, Validity};
    use crate::receiver::RECEIVERS;

    fn config(directory: &Path) -> Config {
        let directory = directory.display();
        let yaml = format!(
            "receivers: {{ fastly: }}
server: {{ tls: {{ cert_file: {directory}/cert.pem, key_file: {directory}/key.pem }} }}
exporters:
  otlp_http:
    endpoint: https://collector.example:4318
    tls: {{ ca_file: {directory}/ca.pem }}
    logs: {{ tls: {{ cert_file: {directory}/logs.pem, key_file: {directory}/key.pem }} }}
telemetry:
  traces: {{ endpoint: 'https://collector.example:4318/v1/traces', tls: {{ ca_file: {directory}/own.pem }} }}
"
        );
        Config::from_yaml(&yaml, &Environment::empty(), RECEIVERS).unwrap()
    }

    fn install(directory: &Path) {
        let authority = Authority::new("ours");
        let issued = authority.issue(&["localhost"], Validity::Now);
        for (file, pem) in [
            ("ca.pem", &authority.pem),
            ("own.pem", &authority.pem),
            ("cert.pem", &issued.cert_pem),
            ("logs.pem", &issued.cert_pem),
            ("key.pem", &issued.key_pem),
        ] {
            std::fs::write(directory.join(file), pem).unwrap();
        }
    }

    #[test]
    fn every_unusable_file_is_named_with_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let problems = unusable_files(&config);
        let keys = [
            ["server.tls.cert_file", "cert.pem"],
            ["exporters.otlp_http: TLS for traces cannot be set up: tls.ca_file", "ca.pem"],
            ["exporters.otlp_http: TLS for logs cannot be set up: tls.ca_file", "ca.pem"],
            ["telemetry.traces.tls: TLS cannot be set up: tls.ca_file", "own.pem"],
        ];
        assert_eq!(problems.len(), keys.len(), "{problems:#?}");
        for (problem, [key, file]) in problems.iter().zip(keys) {
            assert!(problem.starts_with(key) && problem.contains(file), "{problem}");
        }
        install(directory.path());
        assert_eq!(unusable_files(&config), [""; 0]);
    }

    #[test]
    fn changed_files_are_told_by_their_content() {
        let directory = tempfile::tempdir().unwrap();
        install(directory.path());
        let config = config(directory.path());
        let read = || (ClientFiles::of_exporter(&config), ClientFiles::of_self_tracing(&config));
        let before = read();
        assert_eq!(read(), before);
        std::fs::write(directory.path().join("logs.pem"), "another").unwrap();
        let after = read();
        assert_ne!(after.0, before.0);
        assert_eq!(after.1, before.1);
        std::fs::remove_file(directory.path().join("own.pem")).unwrap();
        assert_ne!(read().1, before.1);
    }
}
