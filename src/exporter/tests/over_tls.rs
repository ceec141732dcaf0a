//! Tests against a recording collector with TLS.

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::collector::{Answer, Collector};
use super::*;
use crate::pem::tests::pki::{Authority, Validity};
use crate::telemetry::logging::chain;

/// A certificate authority, its certificate for `localhost`, and the files for a configuration.
struct Pki {
    directory: tempfile::TempDir,
    server: rustls::ServerConfig,
}

/// Reaction of a downstream to clients without a certificate.
#[derive(Clone, Copy)]
enum Unauthenticated {
    Served,
    Rejected,
}

// === impl Pki ===

impl Pki {
    fn new() -> Self {
        Self::with(Validity::Now, Unauthenticated::Served)
    }

    fn with(validity: Validity, unauthenticated: Unauthenticated) -> Self {
        Self::speaking(rustls::ALL_VERSIONS, validity, unauthenticated)
    }

    fn speaking(
        versions: &[&'static rustls::SupportedProtocolVersion],
        validity: Validity,
        unauthenticated: Unauthenticated,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(&directory.path().to_string_lossy());
        let server = authority.issue(&["localhost"], validity);
        let client = authority.issue(&["relay"], Validity::Now);
        let files =
            [("ca.pem", &authority.pem), ("cert.pem", &client.cert_pem), ("key.pem", &client.key_pem)];
        for (file, pem) in files {
            std::fs::write(directory.path().join(file), pem).unwrap();
        }

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der).unwrap();
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let verifier = match unauthenticated {
            Unauthenticated::Served => verifier.allow_unauthenticated(),
            Unauthenticated::Rejected => verifier,
        };
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![server.cert.clone()], server.key())
            .unwrap();
        Self { directory, server: config }
    }

    fn file(&self, name: &str) -> Option<std::path::PathBuf> {
        Some(self.directory.path().join(name))
    }

    /// Starts a collector, with a configuration that trusts the authority and has no client certificate.
    async fn collector(&self) -> (Collector, ExporterConfig) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let acceptor = TlsAcceptor::from(Arc::new(self.server.clone()));
        let mut config = config_for(&base);
        config.settings.tls.ca_file = self.file("ca.pem");
        (Collector::on(listener, Some(acceptor), |_, _| Answer::ok()), config)
    }
}

#[tokio::test]
async fn delivers_over_tls_with_a_private_authority_and_a_client_certificate() {
    let pki = Pki::with(Validity::Now, Unauthenticated::Rejected);
    let (collector, mut config) = pki.collector().await;
    let said = failure_of(&config).await;
    assert!(said.starts_with("TLS with localhost:") && said.contains("set tls.cert_file"), "{said}");

    (config.settings.tls.cert_file, config.settings.tls.key_file) =
        (pki.file("cert.pem"), pki.file("key.pem"));
    let rig = Rig::start(&config);
    (0..20).for_each(|_| rig.traces("a"));
    assert_eq!(drained(rig).await.sent_spans(), 20);
    assert_eq!(collector.bodies(), vec![spans("a"); 20]);
}

#[tokio::test]
async fn delivers_to_a_downstream_with_only_one_version_of_tls() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let pki = Pki::speaking(&[version], Validity::Now, Unauthenticated::Rejected);
        let (collector, mut config) = pki.collector().await;
        (config.settings.tls.cert_file, config.settings.tls.key_file) =
            (pki.file("cert.pem"), pki.file("key.pem"));
        let rig = Rig::start(&config);
        rig.traces("a");
        assert_eq!(drained(rig).await.sent_spans(), 1, "{version:?}");
        assert_eq!(collector.bodies(), [spans("a")]);
    }
}

#[tokio::test]
async fn describes_tls_failures_of_a_downstream() {
    let pki = Pki::new();
    let (_collector, config) = pki.collector().await;
    let mut wrong_authority = config.clone();
    let other = Pki::new();
    wrong_authority.settings.tls.ca_file = other.file("ca.pem");
    let said = failure_of(&wrong_authority).await;
    assert!(said.contains("certificate") && said.contains("tls.ca_file"), "{said}");

    let expired = Pki::with(Validity::Over, Unauthenticated::Served);
    let (_expired, of_expired) = expired.collector().await;
    let said = failure_of(&of_expired).await;
    assert!(said.starts_with("TLS with localhost:") && said.contains("expired"), "{said}");

    let mut wrong_name = config.clone();
    wrong_name.traces_endpoint =
        config.traces_endpoint.to_string().replace("localhost", "127.0.0.1").parse().unwrap();
    let said = failure_of(&wrong_name).await;
    assert!(said.starts_with("TLS with 127.0.0.1:") && said.contains("not valid for name"), "{said}");

    let plain = Collector::start(|_, _| Answer::ok()).await;
    let mut tls_to_plain = config;
    tls_to_plain.traces_endpoint = format!("https://localhost:{}/", plain.address.port()).parse().unwrap();
    let said = failure_of(&tls_to_plain).await;
    assert!(said.starts_with("TLS with localhost:") && said.contains("http://"), "{said}");
}

#[tokio::test]
async fn a_tls_failure_blocks_the_destination() {
    let (pki, other) = (Pki::new(), Pki::new());
    let (collector, config) = pki.collector().await;
    let mut untrusted = config.clone();
    untrusted.settings.tls.ca_file = other.file("ca.pem");
    let of_yesterday = Pki::with(Validity::Over, Unauthenticated::Served);
    let (_expired, expired) = of_yesterday.collector().await;
    let strict = Pki::with(Validity::Now, Unauthenticated::Rejected);
    let (_strict, without_certificate) = strict.collector().await;
    let plain = Collector::start(|_, _| Answer::ok()).await;
    let mut to_plain = config;
    to_plain.traces_endpoint = format!("https://localhost:{}/", plain.address.port()).parse().unwrap();
    let mut to_tls = config_for(&format!("http://{}", collector.address));
    to_tls.settings.tls = TlsClientConfig::default();
    for config in [untrusted, expired, without_certificate, to_plain, to_tls] {
        let mut rig = Rig::start(&config);
        rig.traces("a");
        rig.blocked().await;
        rig.stopped().await;
        assert_eq!(rig.seen.kept_bytes(), spans("a").len() as u64);
        assert!(rig.seen.rejects.lock().unwrap().is_empty());
    }
    assert!(collector.requests().is_empty() && plain.requests().is_empty());
}

#[tokio::test]
async fn invalid_tls_files_fail_the_start_and_name_their_key() {
    let pki = Pki::new();
    let mut config = config_for("https://localhost:4318");
    let mut error = |adjust: &dyn Fn(&mut TlsClientConfig)| {
        config.settings.tls = TlsClientConfig { ca_file: pki.file("ca.pem"), ..TlsClientConfig::default() };
        adjust(&mut config.settings.tls);
        let sink = Arc::new(Seen::default());
        let error =
            Exporter::new(&config, Metrics::new(), sink, wall_clock).err().expect("it must not start");
        chain(&error).to_string()
    };
    let missing = error(&|tls| tls.ca_file = pki.file("nothing.pem"));
    assert!(missing.contains("tls.ca_file") && missing.contains("nothing.pem"), "{missing}");
    assert!(
        error(&|tls| tls.ca_file = pki.file("key.pem")).contains("holds a private key and no certificate")
    );
    assert!(
        error(&|tls| (tls.cert_file, tls.key_file) = (pki.file("cert.pem"), pki.file("ca.pem")))
            .contains("no private key")
    );
    assert!(error(&|tls| tls.cert_file = pki.file("cert.pem")).contains("tls.key_file is not set"));
    assert!(error(&|tls| tls.key_file = pki.file("key.pem")).contains("tls.cert_file is not set"));
}

#[tokio::test]
async fn reads_no_certificate_without_https() {
    let mut config = config_for("http://localhost:4318");
    config.settings.tls.ca_file = Some("/nowhere/ca.pem".into());
    assert!(Exporter::new(&config, Metrics::new(), Arc::new(Seen::default()), wall_clock).is_ok());
}

#[tokio::test]
async fn each_signal_trusts_its_own_authority() {
    let (common, own) = (Pki::new(), Pki::new());
    let (traces, mut config) = common.collector().await;
    let (logs, of_logs) = own.collector().await;
    config.logs_endpoint = of_logs.logs_endpoint;
    config.logs.settings.tls.ca_file = own.file("ca.pem");
    let rig = Rig::start(&config);
    rig.traces("a");
    rig.export(Signal::Logs, NO_LOGS, 1);
    drained(rig).await;
    assert_eq!((traces.bodies(), logs.bodies()), (vec![spans("a")], vec![NO_LOGS.to_owned()]));

    config.logs.settings.tls.ca_file = None;
    config.traces_endpoint = config.logs_endpoint.clone();
    assert!(failure_of(&config).await.contains("certificate"), "the others do not trust it");
}

#[tokio::test]
async fn signals_with_the_same_tls_share_connections_and_others_do_not() {
    let pki = Pki::new();
    for (client_certificate, connections) in [(None, 1), (Some(("cert.pem", "key.pem")), 2)] {
        let (collector, mut config) = pki.collector().await;
        let own = &mut config.logs.settings.tls;
        (own.cert_file, own.key_file) =
            client_certificate.map_or((None, None), |(cert, key)| (pki.file(cert), pki.file(key)));
        let rig = Rig::start(&config);
        rig.traces("a");
        rig.settled(1).await;
        rig.export(Signal::Logs, NO_LOGS, 1);
        rig.settled(2).await;
        rig.traces("b");
        drained(rig).await;
        assert_eq!((collector.requests().len(), collector.connections()), (3, connections));
    }
}
