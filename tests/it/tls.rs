//! TLS from outside: the real program with certificate files, and with new ones after a SIGHUP.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::{Child, Ended, House, in_time, spanrelay};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "ours");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(authority: &Authority, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.signed_by(&key, authority).unwrap(), key)
}

fn install(directory: &Path, (certificate, key): &(rcgen::Certificate, KeyPair)) {
    fs::write(directory.join("cert.pem"), certificate.pem()).unwrap();
    fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
}

fn configuration(directory: &TempDir) -> String {
    let file = |name: &str| directory.path().join(name).display().to_string();
    let tls = format!(
        "endpoint: 127.0.0.1:0, tls: {{ cert_file: {}, key_file: {}, client_ca_file: {} }}",
        file("cert.pem"),
        file("key.pem"),
        file("ca.pem")
    );
    House::configuration("http://127.0.0.1:9").replacen("endpoint: 127.0.0.1:0", &tls, 1)
}

/// Posts an empty batch; returns the status and the relay's certificate, or `None` if the handshake failed.
async fn post(
    address: SocketAddr,
    trusts: &Authority,
    shows: Option<&(rcgen::Certificate, KeyPair)>,
) -> Option<(String, CertificateDer<'static>)> {
    let mut roots = RootCertStore::empty();
    roots.add(trusts.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shows {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
        }
    };
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    let request =
        "POST /fastly HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some((answer.lines().next()?.to_owned(), shown))
}

#[tokio::test]
async fn the_front_door_requires_client_certificates_and_reloads_its_own_at_a_sighup() {
    let (authority, directory) = (authority(), tempfile::tempdir().unwrap());
    let (first, second) = (issue(&authority, "localhost"), issue(&authority, "localhost"));
    let fastly = issue(&authority, "fastly");
    install(directory.path(), &first);
    fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
    let relay = Child::start(&configuration(&directory), &[]).await;

    let taken = in_time("an answer", post(relay.address, &authority, Some(&fastly))).await;
    let no_content = "HTTP/1.1 204 No Content".to_owned();
    assert_eq!(taken, Some((no_content.clone(), first.0.der().clone())));
    assert_eq!(in_time("an end", post(relay.address, &authority, None)).await, None);

    install(directory.path(), &second);
    relay.signal("HUP").await;
    relay.logged("configuration reloaded").await;
    // The very next connection: the regular check every ten seconds would come later.
    let taken = in_time("an answer", post(relay.address, &authority, Some(&fastly))).await;
    assert_eq!(taken, Some((no_content, second.0.der().clone())));
}

#[tokio::test]
async fn a_relay_with_an_unusable_certificate_does_not_start_and_names_the_reason() {
    let (authority, directory) = (authority(), tempfile::tempdir().unwrap());
    install(directory.path(), &issue(&authority, "localhost"));
    fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
    fs::write(directory.path().join("key.pem"), issue(&authority, "localhost").1.serialize_pem()).unwrap();
    let file = directory.path().join("relay.yaml");
    fs::write(&file, configuration(&directory)).unwrap();
    let ended = Ended::of(&mut spanrelay(&["run", "--config", file.to_str().unwrap()])).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("server.tls.key_file: ") && ended.err.contains("key.pem"), "{}", ended.err);
}
