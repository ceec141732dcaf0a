//! The server over TLS: accepted clients, versions of HTTP, and rejected clients that do not block others.

use std::io;
use std::path::Path;

use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::config::{LogFormat, TlsServerConfig};
use crate::pem::tests::pki::{Authority, Issued, Validity};
use crate::server::tls::Tls;

/// An authority, the relay's certificate files from it, and a running server.
struct SecureHouse {
    house: House,
    authority: Authority,
    directory: TempDir,
}

/// A client with its TLS settings.
struct Sender<'a> {
    trusts: &'a Authority,
    certificate: Option<&'a Issued>,
    versions: &'static [&'static SupportedProtocolVersion],
    alpn: &'static [&'static [u8]],
}

/// Client certificates that the server requires.
#[derive(Clone, Copy, PartialEq)]
enum Asks {
    Nobody,
    Everybody,
}

const EACH_VERSION: [&[&SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];
const BOTH_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

// === impl SecureHouse ===

impl SecureHouse {
    async fn open(asks: Asks, config: ServerConfig) -> Self {
        let authority = Authority::new("ours");
        let directory = tempfile::tempdir().unwrap();
        install(directory.path(), &authority.issue(&["localhost"], Validity::Now));
        std::fs::write(directory.path().join("ca.pem"), &authority.pem).unwrap();
        let paths = TlsServerConfig {
            cert_file: directory.path().join("cert.pem"),
            key_file: directory.path().join("key.pem"),
            client_ca_file: (asks == Asks::Everybody).then(|| directory.path().join("ca.pem")),
        };
        let tls = Arc::new(Tls::checked_every(Duration::ZERO, &paths).unwrap());
        let terms = Terms { tls: Some(tls), ..Terms::plain(config.header_timeout, 64) };
        let house = Setup { terms, ..Setup::new(Script::default(), config) }.open().await;
        Self { house, authority, directory }
    }

    fn sender(&self) -> Sender<'_> {
        Sender {
            trusts: &self.authority,
            certificate: None,
            versions: BOTH_VERSIONS,
            alpn: &[b"h2", b"http/1.1"],
        }
    }
}

fn install(directory: &Path, issued: &Issued) {
    std::fs::write(directory.join("cert.pem"), &issued.cert_pem).unwrap();
    std::fs::write(directory.join("key.pem"), &issued.key_pem).unwrap();
}

// === impl Sender ===

impl Sender<'_> {
    /// Connects and completes the handshake; in TLS 1.3 the client does not know yet whether its certificate was
    /// accepted.
    async fn connect(&self, house: &House) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusts.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.certificate {
            None => builder.with_no_client_auth(),
            Some(issued) => builder.with_client_auth_cert(vec![issued.cert.clone()], issued.key()).unwrap(),
        };
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let tcp = TcpStream::connect(house.addr).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }

    /// Posts a batch, and returns the status or the error of the connection.
    async fn post(&self, house: &House) -> io::Result<u16> {
        let mut stream = self.connect(house).await?;
        stream.write_all(post("/fastly", "{}").as_bytes()).await?;
        // Not read to the end, because the connection is kept alive.
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        Ok(std::str::from_utf8(&status[9..]).unwrap().parse().unwrap())
    }

    async fn shown_certificate(&self, house: &House) -> CertificateDer<'static> {
        let stream = self.connect(house).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

#[tokio::test]
async fn speaks_tls_1_2_and_1_3() {
    let secure = SecureHouse::open(Asks::Nobody, config()).await;
    for versions in EACH_VERSION {
        let sender = Sender { versions, alpn: &[], ..secure.sender() };
        assert_eq!(sender.post(&secure.house).await.unwrap(), 204, "{versions:?}");
    }
}

#[tokio::test]
async fn http_2_and_http_1_are_agreed_on_in_the_handshake() {
    let secure = SecureHouse::open(Asks::Nobody, config()).await;
    let stream = secure.sender().connect(&secure.house).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let body = Bytes::from(vec![b'x'; MIB]);
    let request = Request::post("https://localhost/fastly").body(Full::new(body.clone())).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), 204);
    assert_eq!(secure.house.taken(), [("/fastly", body)]);

    let old = Sender { alpn: &[b"http/1.1"], ..secure.sender() };
    let stream = old.connect(&secure.house).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut client = Client(stream);
    // Twice, because the connection is kept alive.
    for _ in 0..2 {
        client.write(post("/fastly", "{}")).await;
        assert_eq!(client.read().await.status, 204);
    }
}

#[tokio::test]
async fn with_client_ca_file_only_clients_with_its_certificates_are_accepted() {
    let secure = SecureHouse::open(Asks::Everybody, config()).await;
    let other = Authority::new("another");
    let certificates = [
        ("ours", Some(secure.authority.issue(&["fastly"], Validity::Now))),
        ("none", None),
        ("expired", Some(secure.authority.issue(&["fastly"], Validity::Over))),
        ("of another authority", Some(other.issue(&["fastly"], Validity::Now))),
    ];
    for versions in EACH_VERSION {
        for (whose, certificate) in &certificates {
            let sender = Sender { certificate: certificate.as_ref(), versions, alpn: &[], ..secure.sender() };
            let answer = sender.post(&secure.house).await.ok();
            assert_eq!(answer, (*whose == "ours").then_some(204), "{whose} {versions:?}");
        }
    }
    assert_eq!(secure.house.taken().len(), 2);
}

#[tokio::test]
async fn the_log_has_one_reason_for_failing_handshakes() {
    let (captured, _guard) = Captured::start(tracing::Level::WARN, LogFormat::Text);
    let secure = SecureHouse::open(Asks::Everybody, config()).await;
    for _ in 0..3 {
        secure.sender().post(&secure.house).await.unwrap_err();
    }
    let text = captured.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("asks senders for a certificate"), "{text}");
}

#[tokio::test]
async fn plain_http_is_rejected_and_recognised_in_the_log() {
    let (captured, _guard) = Captured::start(tracing::Level::WARN, LogFormat::Text);
    let secure = SecureHouse::open(Asks::Nobody, config()).await;
    let mut plain = secure.house.client().await;
    plain.write(post("/fastly", "{}")).await;
    let mut answer = Vec::new();
    plain.0.read_to_end(&mut answer).await.ok();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert!(secure.house.taken().is_empty());
    assert!(captured.text().contains("plain HTTP"), "{}", captured.text());
}

/// Incomplete handshakes: no bytes, and the beginning of a record.
const UNFINISHED: [&[u8]; 2] = [b"", b"\x16\x03\x01\x02\x00\x01"];

#[tokio::test]
async fn an_incomplete_handshake_blocks_no_other() {
    let secure = SecureHouse::open(Asks::Nobody, config()).await;
    let mut unfinished = Vec::new();
    for beginning in UNFINISHED {
        let mut client = secure.house.client().await;
        client.write(beginning).await;
        unfinished.push(client);
    }
    let sender = Sender { alpn: &[], ..secure.sender() };
    assert_eq!(sender.post(&secure.house).await.unwrap(), 204);
}

#[tokio::test]
async fn a_handshake_and_a_missing_request_time_out() {
    let short = Duration::from_millis(30);
    let secure = SecureHouse::open(Asks::Nobody, ServerConfig { header_timeout: short, ..config() }).await;
    for beginning in UNFINISHED {
        let mut client = secure.house.client().await;
        client.write(beginning).await;
        assert!(client.closes().await);
    }
    // Whether or not the handshake completes in time.
    if let Ok(quiet) = secure.sender().connect(&secure.house).await {
        Client(quiet).ends().await;
    }
}

#[tokio::test]
async fn new_connections_get_changed_certificates_and_open_ones_continue() {
    let secure = SecureHouse::open(Asks::Nobody, config()).await;
    let sender = Sender { alpn: &[], ..secure.sender() };
    let mut open = Client(sender.connect(&secure.house).await.unwrap());
    let before = sender.shown_certificate(&secure.house).await;

    let next = secure.authority.issue(&["localhost"], Validity::Now);
    install(secure.directory.path(), &next);
    let after = sender.shown_certificate(&secure.house).await;
    assert_eq!((after == before, after == next.cert), (false, true));

    std::fs::write(secure.directory.path().join("cert.pem"), "nonsense").unwrap();
    assert_eq!(sender.shown_certificate(&secure.house).await, next.cert);

    open.write(post("/fastly", "{}")).await;
    assert_eq!(open.read().await.status, 204);
}

#[tokio::test]
async fn shutdown_finishes_requests_over_tls_and_drops_handshakes() {
    let secure = SecureHouse::open(Asks::Nobody, config()).await;
    let shaking = secure.house.client().await;
    let sender = Sender { alpn: &[], ..secure.sender() };
    let mut idle = Client(sender.connect(&secure.house).await.unwrap());
    idle.write(post("/fastly", "{}")).await;
    assert_eq!(idle.read().await.status, 204);
    secure.house.shutdown.cancel();
    assert!(shaking.closes().await);
    // With close_notify, so that no client takes it for a truncation attack.
    assert_eq!(idle.0.read(&mut [0]).await.unwrap(), 0);
    secure.house.served.await.unwrap();
}
