//! SIGHUP: secrets, tokens and service ids change while connections stay open; an invalid file changes nothing.

use crate::harness::{Ask, Child, Connection, House, eventually, sign};

const CHALLENGE: &str = "/.well-known/fastly/logging/challenge";

fn configuration(word: &str) -> String {
    House::configuration("http://127.0.0.1:9")
        .replace(
            "fastly:\n",
            &format!(
                "fastly: {{ service_ids: [{word}], auth: {{ header: authorization, values: [{word}] }} }}\n"
            ),
        )
        .replace("secrets: [fixture-secret]", &format!("secrets: [{word}]"))
}

async fn status(relay: &Child, token: &str) -> u16 {
    relay.ask(Ask::post("/fastly", "").with("authorization", token)).await.status
}

async fn signed(relay: &Child, secret: &str) -> u16 {
    let body = r#"{"type":"unknown","id":"1"}"#;
    let ask = Ask::post("/circleci", body).with("circleci-signature", &sign(secret, body.as_bytes()));
    relay.ask(ask).await.status
}

async fn reloaded(relay: &Child, times: usize) {
    eventually("the configuration is reloaded", async || {
        (relay.log().matches("\"configuration reloaded\"").count() == times).then_some(())
    })
    .await;
}

#[tokio::test]
async fn secrets_tokens_and_service_ids_change_and_connections_stay_open() {
    let relay = Child::start(&configuration("old"), &[]).await;
    assert_eq!((status(&relay, "old").await, status(&relay, "new").await), (204, 401));
    assert_eq!((signed(&relay, "old").await, signed(&relay, "new").await), (202, 401));
    let before = relay.ask(Ask::get(CHALLENGE)).await.text();
    // A request in progress, on a connection of its own.
    let mut connection = Connection::open(relay.address).await;
    connection.write("POST /fastly HTTP/1.1\r\nhost: relay\r\nauthorization: old\r\n").await;

    relay.configure(&configuration("new"));
    relay.signal("HUP").await;
    reloaded(&relay, 1).await;

    assert_eq!((status(&relay, "old").await, status(&relay, "new").await), (401, 204));
    assert_eq!((signed(&relay, "old").await, signed(&relay, "new").await), (401, 202));
    assert_ne!(relay.ask(Ask::get(CHALLENGE)).await.text(), before);
    connection.write("x-more: 1\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(connection.read().await.status, 401, "the head was complete after the reload");
    connection
        .write("POST /fastly HTTP/1.1\r\nhost: relay\r\nauthorization: new\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(connection.read().await.status, 204, "and the connection is the same one");
}

#[tokio::test]
async fn a_secret_in_a_file_of_its_own_rotates() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&secret, "old\n").unwrap();
    let reference = format!("${{file:{}}}", secret.path().display());
    let configuration =
        House::configuration("http://127.0.0.1:9").replace("fixture-secret", &format!("\"{reference}\""));
    let relay = Child::start(&configuration, &[]).await;
    assert_eq!((signed(&relay, "old").await, signed(&relay, "new").await), (202, 401));
    std::fs::write(&secret, "new\n").unwrap();
    relay.signal("HUP").await;
    reloaded(&relay, 1).await;
    assert_eq!((signed(&relay, "old").await, signed(&relay, "new").await), (401, 202));
}

#[tokio::test]
async fn an_invalid_file_is_rejected_with_its_problems_and_the_current_one_stays() {
    let relay = Child::start(&configuration("old"), &[]).await;
    relay.configure(&configuration("new").replace("wait: 0s", "wait: soon"));
    relay.signal("HUP").await;
    let refused = relay.logged("configuration not reloaded; keeping the current one").await;
    assert_eq!(refused["level"], "ERROR");
    assert!(refused["problems"].as_str().unwrap().contains("processors.span_events.wait"), "{refused}");
    assert!(!refused.to_string().contains("new"), "no secret of the file is in the log");
    assert_eq!((status(&relay, "old").await, status(&relay, "new").await), (204, 401));

    relay.configure(&configuration("new"));
    relay.signal("HUP").await;
    reloaded(&relay, 1).await;
    assert_eq!(status(&relay, "new").await, 204);
}

#[tokio::test]
async fn a_change_that_needs_a_restart_is_named_and_not_applied() {
    let relay = Child::start(&configuration("old"), &[]).await;
    relay.configure(&configuration("new").replace("wait: 0s", "wait: 7s"));
    relay.signal("HUP").await;
    let warned = relay.logged("changes not applied; restart to apply").await;
    assert_eq!(warned["keys"], "processors.span_events.wait");
    reloaded(&relay, 1).await;
    assert_eq!(status(&relay, "new").await, 204, "the rest is reloaded all the same");
}

#[tokio::test]
async fn changed_certificates_of_the_exporter_are_named() {
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), "before").unwrap();
    // A plain HTTP endpoint reads no file, but the file is named anyway: the endpoint may become HTTPS.
    let tls = format!("otlp_http:\n                tls: {{ ca_file: {} }}\n", ca.path().display());
    let relay = Child::start(&configuration("old").replacen("otlp_http:\n", &tls, 1), &[]).await;
    relay.signal("HUP").await;
    reloaded(&relay, 1).await;
    assert!(!relay.log().contains("needs a restart"), "{}", relay.log());

    std::fs::write(ca.path(), "after").unwrap();
    relay.signal("HUP").await;
    let warned = relay.logged("certificate files changed on disk; restart to apply").await;
    assert_eq!(
        (&warned["level"], &warned["keys"]),
        (&"WARN".into(), &"exporters.otlp_http.tls.ca_file".into())
    );
}
