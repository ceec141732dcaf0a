//! Bodies that are slow, truncated, too large or encoded.

use super::encoders::{gzip, lz4, snappy_block, snappy_framed, zlib, zstd};
use super::*;
use crate::server::routes::WEBHOOK_MAX_BYTES;

#[tokio::test]
async fn a_slow_body_is_a_408_and_nothing_of_it_is_kept() {
    let short = ServerConfig { body_timeout: Duration::from_millis(20), ..config() };
    let house = House::open(Script::default(), short).await;
    let mut client = house.client().await;
    client.write("POST /fastly HTTP/1.1\r\nhost: relay\r\ncontent-length: 10\r\n\r\n{}").await;
    let seen = client.read().await;
    assert_eq!((seen.status, seen.header("connection")), (408, Some("close")));
    assert_eq!(seen.reason(), "the body did not end within 0.02 s");
    assert!(house.taken().is_empty());
}

#[tokio::test]
async fn a_truncated_body_is_a_408_and_nothing_of_it_is_kept() {
    let house = House::open(Script::default(), config()).await;
    let declared = "POST /fastly HTTP/1.1\r\nhost: relay\r\ncontent-length: 10\r\n\r\n{}";
    let chunked = "POST /fastly HTTP/1.1\r\nhost: relay\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n";
    for request in [declared, chunked] {
        let mut client = house.client().await;
        client.write(request).await;
        client.0.shutdown().await.unwrap();
        let seen = client.read().await;
        assert_eq!((seen.status, seen.reason().as_str()), (408, "the body was cut short"));
        assert!(client.closes().await);
    }
    assert!(house.taken().is_empty());
}

#[tokio::test]
async fn a_body_with_invalid_framing_is_a_408() {
    let house = House::open(Script::default(), config()).await;
    let head = "POST /fastly HTTP/1.1\r\nhost: relay\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(house.ask(format!("{head}no size\r\n")).await.status, 408);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_a_client_that_has_shut_down_writing_gets_its_response() {
    let gate = Gate::default();
    let house = House::open(Script::waiting_at(&gate), config()).await;
    let mut client = house.client().await;
    client.write(post("/fastly", "{}")).await;
    gate.entered.notified().await;
    client.0.shutdown().await.unwrap();
    // By now the server has had every chance to notice.
    assert_eq!(house.ask(get("/")).await.status, 200);
    gate.open.notify_one();
    assert_eq!(client.read().await.status, 204);
    assert!(client.closes().await);
}

#[tokio::test]
async fn a_declared_length_over_the_limit_is_a_413_without_reading() {
    let house = House::open(Script::default(), config()).await;
    let head = format!("POST /fastly HTTP/1.1\r\nhost: relay\r\ncontent-length: {}\r\n\r\n", MIB + 1);
    let seen = house.ask(head).await;
    assert_eq!((seen.status, seen.reason().as_str()), (413, "the body is larger than 1048576 bytes"));
}

#[tokio::test]
async fn webhooks_have_their_own_size_limit() {
    let house =
        House::open(Script::default(), ServerConfig { max_request_body_size: 1 << 30, ..config() }).await;
    let head = |path: &str, bytes: u64| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: relay\r\nexpect: 100-continue\r\ncontent-length: {bytes}\r\n\r\n"
        )
    };
    for (path, bytes, status) in [
        ("/circleci", WEBHOOK_MAX_BYTES, 100),
        ("/circleci", WEBHOOK_MAX_BYTES + 1, 413),
        ("/fastly", WEBHOOK_MAX_BYTES + 1, 100),
    ] {
        let mut client = house.client().await;
        client.write(head(path, bytes)).await;
        assert_eq!(client.read_head().await.status, status, "{path} {bytes}");
    }
    let small = House::open(Script::default(), ServerConfig { max_request_body_size: 10, ..config() }).await;
    assert_eq!(small.ask(post("/circleci", "eleven bytes")).await.status, 413);
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_the_rejection_instead() {
    let house = House::open(Script::default(), config()).await;
    let mut client = house.client().await;
    let head = "POST /fastly HTTP/1.1\r\nhost: relay\r\nexpect: 100-continue\r\n";
    client.write(format!("{head}content-length: {}\r\n\r\n", MIB + 1)).await;
    assert_eq!(client.read().await.status, 413);
    assert!(client.closes().await);

    let mut client = house.client().await;
    client.write(format!("{head}content-length: 2\r\n\r\n")).await;
    assert_eq!(client.read_head().await.status, 100);
    client.write("{}").await;
    assert_eq!(client.read().await.status, 204);
}

#[tokio::test]
async fn a_client_that_writes_everything_before_reading_sees_the_413() {
    let house = House::open(Script::default(), config()).await;
    let body = vec![b'x'; 2 * MIB];
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    let head = b"POST /fastly HTTP/1.1\r\nhost: relay\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunked = [head, chunk.repeat(32), b"0\r\n\r\n".to_vec()].concat();
    for request in [post_with("/fastly", "", &body), chunked] {
        let mut client = house.client().await;
        client.write(request).await;
        assert_eq!(client.read().await.status, 413);
        // All of it was drained, so that the connection can be reused.
        client.write(post("/fastly", "{}")).await;
        assert_eq!(client.read().await.status, 204);
    }
}

#[tokio::test]
async fn every_early_rejection_is_seen_by_a_client_that_writes_first() {
    let house = House::open(Script { asks_authorization: true, ..Script::default() }, config()).await;
    let body = vec![b'x'; 2 * MIB];
    let table = [
        ("/none", "", 404),
        ("/traceparent/w/abc", "", 405),
        ("/fastly", "", 401),
        ("/fastly", "authorization: yes\r\ncontent-encoding: br\r\n", 415),
    ];
    for (path, headers, status) in table {
        let mut client = house.client().await;
        client.write(post_with(path, headers, &body)).await;
        assert_eq!(client.read().await.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_accepted() {
    let house = House::open(Script::default(), config()).await;
    let body: Vec<u8> = (0..MIB).map(|n| (n % 251) as u8).collect();
    assert_eq!(house.ask(post_with("/fastly", "", &body)).await.status, 204);
    assert_eq!(house.taken(), [("/fastly", Bytes::from(body))]);
}

#[tokio::test]
async fn encoded_bodies_are_decoded() {
    let house = House::open(Script::default(), config()).await;
    // Large enough for a blocking thread, and small enough to be kept.
    for plain in [b"{\"resourceSpans\":[]}\n".repeat(40_000), b"{}".to_vec()] {
        let table = [
            ("content-encoding: gzip\r\n", gzip(&plain)),
            ("content-encoding: deflate\r\n", zlib(&plain)),
            ("content-encoding: zstd\r\n", zstd(&plain)),
            ("content-encoding: snappy\r\n", snappy_block(&plain)),
            ("content-encoding: snappy\r\n", snappy_framed(&plain)),
            ("content-encoding: gzip, zstd\r\n", zstd(&gzip(&plain))),
            ("content-encoding: LZ4\r\n", lz4(&plain)),
            ("content-encoding: zlib\r\n", zlib(&plain)),
            ("content-encoding: identity\r\n", plain.clone()),
            ("content-encoding: gzip\r\n", plain.clone()),
            ("content-encoding: gzip\r\ncontent-encoding: zstd\r\n", zstd(&gzip(&plain))),
            ("", gzip(&plain)),
            ("", zstd(&plain)),
            ("", snappy_framed(&plain)),
        ];
        for (headers, wire) in table {
            assert_eq!(house.ask(post_with("/fastly", headers, &wire)).await.status, 204, "{headers}");
            let (_, body) = house.taken.lock().unwrap().pop().unwrap();
            assert_eq!(body, plain, "{headers}");
        }
    }
}

#[tokio::test]
async fn a_body_that_inflates_over_the_limit_is_a_413() {
    let house = House::open(Script::default(), config()).await;
    let zeros = vec![0; 8 * MIB];
    let table = [
        ("gzip", gzip(&zeros)),
        ("deflate", zlib(&zeros)),
        ("zstd", zstd(&zeros)),
        ("snappy", snappy_block(&zeros)),
        ("lz4", lz4(&zeros)),
    ];
    for (coding, wire) in table {
        let headers = format!("content-encoding: {coding}\r\n");
        let seen = house.ask(post_with("/fastly", &headers, &wire)).await;
        assert_eq!(seen.status, 413, "{coding}");
        assert_eq!(seen.reason(), "the body is larger than 1048576 bytes after decompression");
    }
    assert!(house.taken().is_empty());
}

#[tokio::test]
async fn a_corrupt_body_is_a_400_and_an_unknown_encoding_a_415() {
    let house = House::open(Script::default(), config()).await;
    let seen = house.ask(post_with("/fastly", "content-encoding: zstd\r\n", b"{}")).await;
    assert_eq!(
        (seen.status, seen.reason().as_str()),
        (400, "the body is not valid zstd: corrupt or cut short")
    );
    let seen = house.ask(post_with("/fastly", "content-encoding: br\r\n", b"{}")).await;
    assert_eq!((seen.status, seen.reason().contains("br")), (415, false));
    assert!(house.taken().is_empty());
}
