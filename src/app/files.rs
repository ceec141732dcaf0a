//! The certificate files that a configuration names: can they be used?
//!
//! In: a configuration. Out: what a start would say of the files, without one.

use crate::config::Config;
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

#[cfg(test)]
mod tests {
    use std::path::Path;

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
}
