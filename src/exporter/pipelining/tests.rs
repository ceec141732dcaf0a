//! Against a server that says what the test wants, when it wants.

use std::pin::Pin;
use std::task::Waker;
use std::time::Duration;

use futures_util::FutureExt;
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::super::client;
use super::super::tests::config_for;
use super::*;
use crate::otlp::Signal;

/// Only so that a defect fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(30);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
const LAST: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";

type Answered = Result<(u16, Option<String>), Failure>;

struct Bench {
    listener: TcpListener,
    post: Pipelined,
}

/// One connection, seen from the server.
struct Peer {
    tcp: TcpStream,
    read: Vec<u8>,
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens")
}

// === impl Bench ===

impl Bench {
    async fn new(max_pipelined: usize, max_in_flight: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = config_for(&format!("http://{}", listener.local_addr().unwrap()));
        let export = config.of(Signal::Traces);
        let connector = client::connector(Signal::Traces, &export).unwrap();
        let head = Head::new(export.endpoint, &export.headers);
        let post = Pipelined::new(connector, export.endpoint.clone(), head, max_pipelined, max_in_flight);
        Self { listener, post }
    }

    /// Sends a request; the status and the body of its answer, where that came whole.
    fn send(&self, body: &'static str) -> JoinHandle<Answered> {
        let answer = self.post.clone().call(Bytes::from_static(body.as_bytes()).into());
        tokio::spawn(async move {
            let (head, mut body) = answer.await?.into_parts();
            let body = body.frame().await.and_then(Result::ok).map(|frame| frame.into_data().unwrap());
            Ok((head.status.as_u16(), body.map(|body| String::from_utf8(body.to_vec()).unwrap())))
        })
    }

    async fn peer(&self) -> Peer {
        Peer { tcp: in_time(self.listener.accept()).await.unwrap().0, read: Vec::new() }
    }

    /// A connection on which another request may follow, and its first request has been answered.
    async fn proven(&self) -> Peer {
        let first = self.send("first");
        let mut peer = self.peer().await;
        assert_eq!(peer.requests(1).await, ["first"]);
        peer.say(OK).await;
        taken(first).await;
        peer
    }

    async fn all(&self, bodies: &[&'static str]) -> Vec<JoinHandle<Answered>> {
        let mut sent = Vec::new();
        for body in bodies {
            sent.push(self.send(body));
            // In this order.
            tokio::task::yield_now().await;
        }
        sent
    }
}

async fn answered(request: JoinHandle<Answered>) -> Answered {
    in_time(request).await.unwrap()
}

async fn taken(request: JoinHandle<Answered>) {
    let (status, body) = answered(request).await.unwrap();
    assert_eq!((status, body.as_deref()), (200, Some("{}")));
}

async fn all_taken(requests: Vec<JoinHandle<Answered>>) {
    for request in requests {
        taken(request).await;
    }
}

// === impl Peer ===

impl Peer {
    /// The bodies of the next requests. Nothing else may have come with them.
    async fn requests(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        while bodies.len() < count {
            if let Some((end, body)) = whole_request(&self.read) {
                bodies.push(body);
                self.read.drain(..end);
            } else {
                let read = in_time(self.tcp.read_buf(&mut self.read)).await.unwrap();
                assert!(read > 0, "the connection ended behind {bodies:?}");
            }
        }
        assert!(self.read.is_empty(), "more came: {}", String::from_utf8_lossy(&self.read));
        bodies
    }

    async fn say(&mut self, text: &str) {
        self.tcp.write_all(text.as_bytes()).await.unwrap();
    }

    /// Once every task has had its turn, and what they wrote its way.
    async fn has_heard_nothing(&mut self) -> bool {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        self.tcp.read(&mut [0; 1]).now_or_never().is_none()
    }

    /// Waits until the relay has closed it.
    async fn closed(mut self) {
        assert_eq!(in_time(self.tcp.read(&mut [0; 64])).await.unwrap_or(0), 0);
    }
}

/// The length and the body of the first request.
fn whole_request(text: &[u8]) -> Option<(usize, String)> {
    let text = std::str::from_utf8(text).unwrap();
    let (head, rest) = text.split_once("\r\n\r\n")?;
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    let length: usize = head.split_once("content-length: ").unwrap().1.parse().unwrap();
    (rest.len() >= length).then(|| (head.len() + 4 + length, rest.chars().take(length).collect()))
}

#[tokio::test]
async fn requests_follow_each_other_once_an_answer_has_shown_that_they_may() {
    let bench = Bench::new(4, 4).await;
    let mut sent = bench.all(&["a", "b", "c", "d"]).await;
    let mut peer = bench.peer().await;
    assert_eq!(peer.requests(1).await, ["a"]);
    peer.say(OK).await;
    taken(sent.remove(0)).await;
    assert_eq!(peer.requests(3).await, ["b", "c", "d"]);
    peer.say(&OK.repeat(3)).await;
    all_taken(sent).await;
}

#[tokio::test]
async fn each_request_gets_the_answer_that_is_its_own() {
    let bench = Bench::new(8, 8).await;
    let mut peer = bench.proven().await;
    let sent = bench.all(&["a", "b", "c", "d"]).await;
    peer.requests(4).await;
    peer.say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 Bad\r\ncontent-length: 1\r\n\r\na").await;
    peer.say(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
    )
    .await;
    peer.say("HTTP/1.1 429 Slow\r\ncontent-length: 1\r\n\r\nd").await;
    let mut answers = Vec::new();
    for request in sent {
        let (status, body) = answered(request).await.unwrap();
        answers.push((status, body.unwrap()));
    }
    let expected = [(400, "a"), (200, "b"), (204, ""), (429, "d")];
    assert_eq!(answers, expected.map(|(status, body)| (status, body.to_owned())));
}

#[tokio::test]
async fn no_more_wait_on_a_connection_than_may_and_the_others_take_another_one() {
    let bench = Bench::new(2, 4).await;
    let mut first = bench.proven().await;
    let mut sent = bench.all(&["a", "b", "c", "d"]).await;
    let mut second = bench.peer().await;
    assert_eq!(second.requests(1).await, ["b"]);
    second.say(OK).await;
    taken(sent.remove(1)).await;
    assert_eq!(first.requests(2).await, ["a", "c"]);
    assert_eq!(second.requests(1).await, ["d"]);
    first.say(&OK.repeat(2)).await;
    second.say(OK).await;
    all_taken(sent).await;
}

#[tokio::test]
async fn while_more_than_half_of_those_that_may_wait_the_next_ones_gather() {
    let bench = Bench::new(4, 4).await;
    let mut peer = bench.proven().await;
    let mut sent = Vec::new();
    for body in ["a", "b", "c"] {
        sent.push(bench.send(body));
        assert_eq!(peer.requests(1).await, [body]);
    }
    sent.push(bench.send("d"));
    assert!(peer.has_heard_nothing().await, "three are more than half of four");
    peer.say(OK).await;
    assert_eq!(peer.requests(1).await, ["d"]);
    peer.say(&OK.repeat(3)).await;
    all_taken(sent).await;
}

#[tokio::test]
async fn what_is_behind_the_last_answer_of_a_connection_is_sent_again_at_once() {
    for end in [LAST, "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", "HTTP/1.1 200 OK\r\n\r\n{}"] {
        let bench = Bench::new(8, 8).await;
        let mut peer = bench.proven().await;
        let sent = bench.all(&["a", "b", "c"]).await;
        peer.requests(3).await;
        peer.say(end).await;
        peer.tcp.shutdown().await.unwrap();
        let mut next = bench.peer().await;
        // Again one at a time, until it has answered.
        let mut came = next.requests(1).await;
        next.say(OK).await;
        came.extend(next.requests(1).await);
        next.say(OK).await;
        came.sort_unstable();
        assert_eq!(came, ["b", "c"]);
        all_taken(sent).await;
    }
}

#[tokio::test]
async fn a_server_that_closes_after_each_answer_gets_every_request_once() {
    let bench = Bench::new(4, 4).await;
    let mut came = Vec::new();
    let sent = bench.all(&["a", "b", "c", "d"]).await;
    for _ in 0..4 {
        let mut peer = bench.peer().await;
        came.extend(peer.requests(1).await);
        peer.say(LAST).await;
    }
    came.sort_unstable();
    assert_eq!(came, ["a", "b", "c", "d"]);
    all_taken(sent).await;
}

#[tokio::test]
async fn what_may_have_been_looked_at_fails_when_the_connection_ends_and_nothing_else() {
    let bench = Bench::new(8, 8).await;
    let mut peer = bench.proven().await;
    let sent = bench.all(&["a", "b", "c"]).await;
    peer.requests(3).await;
    peer.say(OK).await;
    drop(peer);
    let mut ends = Vec::new();
    for request in sent {
        ends.push(answered(request).await.map(|(status, _)| status));
    }
    assert!(
        matches!(
            ends[..],
            [Ok(200), Err(Failure::Closed | Failure::Io(_)), Err(Failure::Closed | Failure::Io(_))]
        ),
        "{ends:?}"
    );
    let again = bench.send("again");
    let mut peer = bench.peer().await;
    peer.requests(1).await;
    peer.say(OK).await;
    taken(again).await;
}

#[tokio::test]
async fn a_connection_that_never_answered_fails_all_that_chose_it() {
    for said in ["", "\0\0\u{6}\u{4}\0\0\0\0\0", "HTTP/1.1 101 Switching\r\n\r\n"] {
        let bench = Bench::new(4, 4).await;
        let sent = bench.all(&["a", "b", "c"]).await;
        let mut peer = bench.peer().await;
        peer.requests(1).await;
        peer.say(said).await;
        drop(peer);
        for request in sent {
            let end = answered(request).await;
            assert!(
                matches!(end, Err(Failure::Closed | Failure::Strange | Failure::Io(_))),
                "{said:?}: {end:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_address_where_nobody_listens_fails_with_the_reason() {
    let Bench { listener, mut post } = Bench::new(4, 4).await;
    drop(listener);
    let failure = in_time(post.call(Bytes::from_static(b"a").into())).await.unwrap_err();
    let mut cause: Option<&(dyn Error + 'static)> = Some(&failure);
    let mut kinds = Vec::new();
    while let Some(error) = cause {
        kinds.extend(error.downcast_ref::<io::Error>().map(io::Error::kind));
        cause = error.source();
    }
    assert_eq!(kinds, [io::ErrorKind::ConnectionRefused]);
}

#[tokio::test]
async fn an_idle_connection_that_the_server_closed_costs_nothing() {
    for said in ["", "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"] {
        let bench = Bench::new(4, 4).await;
        let mut peer = bench.proven().await;
        peer.say(said).await;
        peer.tcp.shutdown().await.unwrap();
        peer.closed().await;
        let next = bench.send("next");
        let mut peer = bench.peer().await;
        assert_eq!(peer.requests(1).await, ["next"]);
        peer.say(OK).await;
        taken(next).await;
    }
}

#[tokio::test]
async fn a_request_that_is_given_up_leaves_its_answer_to_nobody_and_its_connection_to_those_before() {
    let bench = Bench::new(4, 4).await;
    let mut peer = bench.proven().await;
    let [a, b, c] = <[_; 3]>::try_from(bench.all(&["a", "b", "c"]).await).unwrap();
    peer.requests(3).await;
    a.abort();
    assert!(in_time(a).await.unwrap_err().is_cancelled());
    // Nobody chooses it any more,
    let d = bench.send("d");
    let mut next = bench.peer().await;
    assert_eq!(next.requests(1).await, ["d"]);
    next.say(OK).await;
    taken(d).await;
    // but what was sent on it gets its answers, each its own,
    peer.say("HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n").await;
    peer.say(&OK.repeat(2)).await;
    taken(b).await;
    taken(c).await;
    // and then it ends.
    peer.closed().await;
}

#[tokio::test]
async fn a_connection_on_which_all_requests_are_given_up_ends() {
    let bench = Bench::new(4, 4).await;
    let mut peer = bench.proven().await;
    let sent = bench.all(&["a", "b"]).await;
    peer.requests(2).await;
    sent.iter().for_each(JoinHandle::abort);
    peer.closed().await;
}

#[tokio::test]
async fn a_status_counts_though_its_body_hangs_or_breaks_off() {
    let bench = Bench::new(4, 4).await;
    let mut peer = bench.proven().await;
    let mut post = bench.post.clone();
    let answer = tokio::spawn(post.call(Bytes::from_static(b"a").into()));
    peer.requests(1).await;
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"part").await;
    let answer = in_time(answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    // Whoever gives up on the rest has no use for the connection.
    drop(answer);
    peer.closed().await;

    for head in ["content-length: 5000000", "content-length: 1\r\ncontent-length: 2", "content-length: x"] {
        let mut peer = bench.proven().await;
        let unreadable = bench.send("a");
        peer.requests(1).await;
        peer.say(&format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{{}}")).await;
        assert_eq!(answered(unreadable).await.unwrap(), (200, None), "{head}");
        peer.closed().await;
    }

    let mut peer = bench.proven().await;
    let broken = bench.send("a");
    peer.requests(1).await;
    peer.say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"part").await;
    drop(peer);
    assert_eq!(answered(broken).await.unwrap(), (200, None));
}

/// The other end of a connection that is reset: it takes two writes and fails the third, and only then can it be read what
/// it had answered before.
#[derive(Default)]
struct Reset {
    writes: usize,
    reads: usize,
    reader: Option<Waker>,
}

impl AsyncRead for Reset {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // One answer for the first request, which came alone, and one for the next.
        if self.writes < [1, 3, 3][self.reads] {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.reads += 1;
        if self.reads == 3 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        buffer.put_slice(OK.as_bytes());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Reset {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes += 1;
        self.reader.take().into_iter().for_each(Waker::wake);
        match self.writes {
            1 => Poll::Ready(Ok(bytes.len())),
            2 => Poll::Ready(Ok(bytes.len() - 1)),
            _ => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn an_answer_that_came_before_the_end_counts_though_writing_fails_first() {
    let (jobs, coming) = mpsc::channel(8);
    let send = |body: &'static str| {
        let (reply, answer) = oneshot::channel();
        let body = Bytes::from_static(body.as_bytes()).into();
        assert!(jobs.try_send(Job { body, reply }).is_ok());
        answer
    };
    let head = Head::new(&"http://h/v1/traces".parse().unwrap(), &http::HeaderMap::new());
    let connection = tokio::spawn(Connection::new(Reset::default(), head, 8, coming).run());
    assert_eq!(in_time(send("first")).await.unwrap().unwrap().status(), 200);
    let (taken, lost) = (send("taken"), send("lost"));
    assert_eq!(in_time(taken).await.unwrap().unwrap().status(), 200);
    assert!(matches!(in_time(lost).await.unwrap(), Err(Failure::Io(_))));
    in_time(connection).await.unwrap();
}

#[tokio::test]
async fn a_large_body_and_an_early_answer_to_it_do_not_block_each_other() {
    let bench = Bench::new(4, 4).await;
    let mut peer = bench.proven().await;
    let large = Bytes::from(vec![b'x'; 8 << 20]);
    let mut post = bench.post.clone();
    let early = tokio::spawn(post.call(large.into()));
    let behind = bench.send("behind");
    // Before it has all come.
    in_time(peer.tcp.read_exact(&mut [0; 1000])).await.unwrap();
    peer.say("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(in_time(early).await.unwrap().unwrap().status(), 413);
    let mut next = bench.peer().await;
    assert_eq!(next.requests(1).await, ["behind"]);
    next.say(OK).await;
    taken(behind).await;
}
