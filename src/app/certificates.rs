//! Reports how long the relay's certificates are valid.
//!
//! In: a configuration. Out: a metric for each certificate, and a warning for each that has expired or soon will. Leaves to others:
//! files that cannot be read, which whoever uses them reports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use tracing::warn;

use crate::config::Config;
use crate::pem;
use crate::telemetry::Metrics;

/// Remaining validity from which on a certificate is warned about. Automatic renewal has usually happened by then.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Reads the certificates, reports when they expire and warns about those for which that is soon.
pub(super) fn report(config: &Config, metrics: &Metrics, wall_clock: fn() -> SystemTime) {
    let now = wall_clock().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed();
    let mut ends = BTreeMap::new();
    for (key, path) in certificates(config) {
        let Some(end) = end_of_validity(path) else { continue };
        let at = Timestamp::from_second(end).map_or_else(|_| end.to_string(), |end| end.to_string());
        let file = path.display();
        if end <= now {
            warn!(key, %file, expired = at, "certificate has expired");
        } else if end - now <= SOON.as_secs().cast_signed() {
            warn!(key, %file, expires = at, "certificate expires soon");
        }
        ends.insert(key, end);
    }
    metrics.certificates().set(ends, wall_clock);
}

/// Returns the paths of the files that hold certificates, keys and authorities of the front door, the exporter and self-tracing.
pub(crate) fn certificate_paths(config: &Config) -> Vec<PathBuf> {
    let server = config.server.tls.iter().flat_map(|tls| {
        [Some(&tls.cert_file), Some(&tls.key_file), tls.client_ca_file.as_ref()].into_iter().flatten()
    });
    let exporter = config.exporters.otlp_http.tls_sections().into_iter().map(|(_, tls)| tls);
    let self_tracing = config.telemetry.traces.iter().map(|traces| &traces.tls);
    let clients = exporter.chain(self_tracing).flat_map(|tls| tls.files());
    server.cloned().chain(clients.map(|(_, path)| path.to_owned())).collect()
}

/// Returns the certificate files of the relay's own certificates, by configuration key.
fn certificates(config: &Config) -> impl Iterator<Item = (String, &Path)> {
    let server = config.server.tls.as_ref().map(|tls| ("server".to_owned(), Some(&tls.cert_file)));
    let clients = config.exporters.otlp_http.tls_sections();
    let own = config.telemetry.traces.as_ref().map(|traces| ("telemetry.traces".to_owned(), &traces.tls));
    let clients = clients.into_iter().chain(own).map(|(section, tls)| (section, tls.cert_file.as_ref()));
    server
        .into_iter()
        .chain(clients)
        .filter_map(|(section, file)| Some((format!("{section}.tls.cert_file"), file?.as_path())))
}

fn end_of_validity(path: &Path) -> Option<i64> {
    pem::end_of_validity(pem::certificates_in(path).ok()?.first()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, LogFormat};
    use crate::pem::tests::pki::{Authority, Validity};
    use crate::receiver::RECEIVERS;
    use crate::telemetry::logging::tests::Captured;

    #[test]
    fn an_expired_certificate_is_warned_about_and_every_one_is_a_metric() {
        let (captured, _guard) = Captured::start(tracing::Level::WARN, LogFormat::Text);
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("ours");
        for (name, validity) in [("good", Validity::Now), ("over", Validity::Over)] {
            let issued = authority.issue(&["localhost"], validity);
            std::fs::write(folder.path().join(name), issued.cert_pem).unwrap();
        }
        let at = folder.path().display();
        let yaml = format!(
            "receivers: {{ fastly: }}
server: {{ tls: {{ cert_file: {at}/over, key_file: {at}/key }} }}
exporters: {{ otlp_http: {{ tls: {{ cert_file: {at}/good, key_file: {at}/key }}, logs: {{ tls: {{ cert_file: {at}/absent, key_file: k }} }} }} }}
"
        );
        let config = Config::from_yaml(&yaml, &Environment::empty(), RECEIVERS).unwrap();
        let metrics = Metrics::new();
        // 2020-09-13.
        report(&config, &metrics, || UNIX_EPOCH + Duration::from_secs(1_600_000_000));
        let text = captured.text();
        assert_eq!(text.matches("certificate").count() - text.matches("cert_file").count(), 1, "{text}");
        assert!(text.contains("certificate has expired") && text.contains("2001-01-01T00:00:00Z"), "{text}");
        let rendered = String::from_utf8(metrics.render()).unwrap();
        let series = |key: &str| {
            let name = format!("spanrelay_certificate_expiry_seconds{{key=\"{key}\"}} ");
            rendered.lines().find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok())
        };
        assert!(series("server.tls.cert_file").unwrap() < 0.0);
        assert!(series("exporters.otlp_http.tls.cert_file").unwrap() > 0.0);
        assert_eq!(series("exporters.otlp_http.logs.tls.cert_file"), None);
        // Two weeks before it was over.
        report(&config, &metrics, || UNIX_EPOCH + Duration::from_secs(978_307_200) - SOON);
        assert!(captured.text().contains("certificate expires soon"), "{}", captured.text());
        assert_eq!(certificate_paths(&config).len(), 6);
    }
}
