//! SIGHUP and changed files: secrets, tokens and service ids change while connections stay open; an invalid file changes nothing.

use crate::harness::{Answer, Ask, Child, Collector, Connection, House, eventually, names, sign, span};

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
async fn a_rotated_token_of_the_exporter_is_used_without_a_restart_or_a_signal() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&token, "old\n").unwrap();
    // The downstream takes the new token alone.
    let collector = Collector::judging(|request| {
        Answer::status(if request.header("x-token") == "new" { 200 } else { 401 })
    });
    let collector = collector.await;
    let headers = format!(
        "otlp_http:\n                headers: {{ x-token: \"${{file:{}}}\" }}\n",
        token.path().display()
    );
    let configuration = House::configuration(&collector.url()).replacen("otlp_http:\n", &headers, 1);
    let relay = Child::start(&configuration, &[]).await;
    assert_eq!(relay.ask(Ask::post("/fastly", span(1, "kept"))).await.status, 204);
    relay.logged("export blocked by downstream response").await;

    std::fs::write(&token, "new\n").unwrap();
    relay.logged("files of the configuration changed on disk").await;
    relay.logged("exporter headers and certificates reloaded").await;
    relay.logged("export unblocked").await;
    let sent = eventually("it is delivered", async || {
        collector.take_rest().into_iter().find(|request| request.header("x-token") == "new")
    });
    assert_eq!(names(&sent.await), ["kept"]);
    let samples = relay.metrics().await;
    assert_eq!(samples.sum("spanrelay_config_last_reload_successful", &[]), 1.0);

    std::fs::remove_file(token.path()).unwrap();
    relay.logged("configuration not reloaded; keeping the current one").await;
    eventually("the failure is a metric", async || {
        let samples = relay.metrics().await;
        (samples.sum("spanrelay_config_last_reload_successful", &[]) == 0.0).then_some(())
    })
    .await;
    collector.take_rest();
    collector.finish();
}

#[tokio::test]
async fn certificates_of_the_exporter_that_cannot_be_used_leave_the_current_ones() {
    let ca = tempfile::NamedTempFile::new().unwrap();
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(ca.path(), issued.cert.pem()).unwrap();
    let configuration = configuration("old").replace("http://127.0.0.1:9", "https://127.0.0.1:9");
    let tls = format!("otlp_http:\n                tls: {{ ca_file: {} }}\n", ca.path().display());
    let relay = Child::start(&configuration.replacen("otlp_http:\n", &tls, 1), &[]).await;
    std::fs::write(ca.path(), "no certificate").unwrap();
    let warned = relay.logged("new certificates of the exporter are invalid; keeping the current ones").await;
    assert!(warned["error"].as_str().unwrap().contains("tls.ca_file"), "{warned}");
    std::fs::write(ca.path(), issued.cert.pem()).unwrap();
    relay.logged("exporter headers and certificates reloaded").await;
}
