//! The certificate files that a configuration names: can they be used, and have they changed since the start?
//!
//! In: a configuration. Out: what a start would say of the files, without one; and the keys of those on the way out
//! whose content is another one by now. Leaves to others: `server.tls`, whose files are read again while the relay runs.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::config::{Config, TlsClientConfig};
use crate::exporter::{self, Aside};
use crate::server::Tls;
use crate::telemetry::logging::chain;

/// What is wrong with files, each with the key that names it; read by the code that a start reads them with.
pub(crate) fn unusable_files(config: &Config) -> Vec<String> {
    let server = config.server.tls.as_ref().and_then(|tls| Tls::load(tls).err());
    let own_traces = config.telemetry.traces.as_ref().and_then(|traces| Aside::new(traces).err());
    let mut problems: Vec<String> = server.iter().map(|error| chain(error).to_string()).collect();
    problems.extend(exporter::tls_problems(&config.exporter).iter().map(|error| chain(error).to_string()));
    problems.extend(own_traces.iter().map(|error| chain(error).to_string()));
    problems
}

/// The files of connections that go out, as they were at the start.
#[derive(Debug)]
pub(super) struct FilesDownstream(Vec<File>);

#[derive(Debug)]
struct File {
    key: String,
    path: PathBuf,
    /// Of its content; nothing where it could not be read.
    digest: Option<[u8; 32]>,
}

// === impl FilesDownstream ===

impl FilesDownstream {
    /// Reads them all.
    pub(super) fn read(config: &Config) -> Self {
        let signals = &config.exporter.signals;
        let sections = [
            ("exporters.otlp_http", Some(&config.exporter.tls)),
            ("exporters.otlp_http.traces", Some(&signals.traces.tls)),
            ("exporters.otlp_http.logs", Some(&signals.logs.tls)),
            ("exporters.otlp_http.metrics", Some(&signals.metrics.tls)),
            ("telemetry.traces", config.telemetry.traces.as_ref().map(|traces| &traces.tls)),
        ];
        let named = sections.into_iter().filter_map(|(section, tls)| Some((section, tls?)));
        Self(named.flat_map(|(section, tls)| files_of(section, tls)).collect())
    }

    /// The keys of those that hold something else now. Reads them all.
    pub(super) fn changed(&self) -> Vec<&str> {
        let changed = self.0.iter().filter(|file| digest(&file.path) != file.digest);
        changed.map(|file| file.key.as_str()).collect()
    }
}

fn files_of(section: &str, tls: &TlsClientConfig) -> Vec<File> {
    let TlsClientConfig { ca_file, cert_file, key_file } = tls;
    let files = [("ca_file", ca_file), ("cert_file", cert_file), ("key_file", key_file)];
    let named = files.into_iter().filter_map(|(name, path)| Some((name, path.as_ref()?)));
    named
        .map(|(name, path)| File {
            key: format!("{section}.tls.{name}"),
            path: path.clone(),
            digest: digest(path),
        })
        .collect()
}

fn digest(path: &Path) -> Option<[u8; 32]> {
    std::fs::read(path).ok().map(|content| Sha256::digest(content).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::pem::tests::pki::{Authority, Validity};

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
        Config::from_yaml(&yaml, &Environment::empty()).unwrap()
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
    fn every_file_that_cannot_be_used_is_named_with_its_key() {
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
    fn a_file_on_the_way_out_that_holds_something_else_is_named() {
        let directory = tempfile::tempdir().unwrap();
        install(directory.path());
        let files = FilesDownstream::read(&config(directory.path()));
        assert_eq!(files.changed(), [""; 0]);
        std::fs::write(directory.path().join("logs.pem"), "another").unwrap();
        std::fs::remove_file(directory.path().join("own.pem")).unwrap();
        let changed = ["exporters.otlp_http.logs.tls.cert_file", "telemetry.traces.tls.ca_file"];
        assert_eq!(files.changed(), changed);
        install(directory.path());
        assert!(files.changed().contains(&"exporters.otlp_http.tls.ca_file"), "another authority");
    }
}
