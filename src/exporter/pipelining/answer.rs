//! Answers as they come off a connection, one after another, cut anywhere.
//!
//! In: bytes. Out: heads and bodies in turn, each as soon as it is there. Promises: keeps at most
//! [`MAX_HEAD_BYTES`] of a head and [`MAX_RESPONSE_BYTES`] of a body; whatever is not HTTP/1.1 is [`Strange`], never a
//! guess about where the next answer begins. Leaves to others: which request an answer is for.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use httparse::{EMPTY_HEADER, Status};

use super::super::response::MAX_RESPONSE_BYTES;

/// As hyper's client has it.
const MAX_HEADERS: usize = 100;
/// Far beyond any answer to an export.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Of the line before a chunk: the size, and extensions that nobody sends.
const MAX_CHUNK_LINE_BYTES: usize = 1024;

/// The beginning of an answer.
#[derive(Debug)]
pub(super) struct AnswerHead {
    pub(super) response: Response<()>,
    /// Whether another answer may follow on the connection.
    pub(super) persists: bool,
}

/// It is no HTTP/1.1, or an answer that no export is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Strange;

/// What is still to come of the answer that is being read.
#[derive(Debug)]
pub(super) struct Answers {
    left: Left,
    /// What has come of a body whose length is not known before.
    body: BytesMut,
}

/// Of a body.
#[derive(Debug, Clone, Copy)]
enum Left {
    Sized(usize),
    ChunkLine,
    /// So many bytes, and the end of the line behind them.
    Chunk(usize),
    Trailers,
    UntilClosed,
    /// Too long, or so long and also so long. The status counts all the same.
    Unreadable,
}

// === impl Answers ===

impl Answers {
    pub(super) fn new() -> Self {
        Self { left: Left::Sized(0), body: BytesMut::new() }
    }

    /// Takes the next head out of `input`, if it is all there. The body comes next.
    pub(super) fn head(&mut self, input: &mut BytesMut) -> Result<Option<AnswerHead>, Strange> {
        loop {
            let Some((response, length)) = read_head(input)? else { return Ok(None) };
            input.advance(length);
            // That would be the end of HTTP, and was not asked for.
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Err(Strange);
            }
            // It announces another head.
            if response.status().is_informational() {
                continue;
            }
            self.left = body_of(&response);
            let persists = persists(&response) && !matches!(self.left, Left::UntilClosed);
            return Ok(Some(AnswerHead { response, persists }));
        }
    }

    /// Takes the body of the last head out of `input`, if it is all there.
    pub(super) fn body(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, Strange> {
        loop {
            match self.left {
                Left::Sized(length) if input.len() < length => return Ok(None),
                Left::Sized(length) => return Ok(Some(input.split_to(length).freeze())),
                Left::ChunkLine => {
                    let Some(size) = chunk_size(input)? else { return Ok(None) };
                    self.has_room_for(size)?;
                    self.left = if size == 0 { Left::Trailers } else { Left::Chunk(size) };
                }
                Left::Chunk(size) if input.len() < size + 2 => return Ok(None),
                Left::Chunk(size) => {
                    self.body.extend_from_slice(&input[..size]);
                    if input[size..size + 2] != *b"\r\n" {
                        return Err(Strange);
                    }
                    input.advance(size + 2);
                    self.left = Left::ChunkLine;
                }
                Left::Trailers => {
                    let Some(line) = memchr::memchr(b'\n', input) else {
                        return if input.len() > MAX_HEAD_BYTES { Err(Strange) } else { Ok(None) };
                    };
                    let is_last = matches!(&input[..line], b"" | b"\r");
                    input.advance(line + 1);
                    if is_last {
                        return Ok(Some(self.body.split().freeze()));
                    }
                }
                Left::Unreadable => return Err(Strange),
                Left::UntilClosed => {
                    self.has_room_for(input.len())?;
                    self.body.unsplit(input.split());
                    return Ok(None);
                }
            }
        }
    }

    /// The connection has ended: the body that ended with it.
    pub(super) fn closed(&mut self) -> Option<Bytes> {
        matches!(self.left, Left::UntilClosed).then(|| self.body.split().freeze())
    }

    fn has_room_for(&self, bytes: usize) -> Result<(), Strange> {
        if bytes > MAX_RESPONSE_BYTES - self.body.len() { Err(Strange) } else { Ok(()) }
    }
}

/// A head and its length.
fn read_head(input: &[u8]) -> Result<Option<(Response<()>, usize)>, Strange> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let length = match parsed.parse(input) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if input.len() <= MAX_HEAD_BYTES => return Ok(None),
        Ok(Status::Partial) | Err(_) => return Err(Strange),
    };
    let mut head = Response::new(());
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Strange)?;
    *head.status_mut() = status;
    *head.version_mut() = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    head.headers_mut().reserve(parsed.headers.len());
    for header in parsed.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| Strange)?;
        let value = HeaderValue::from_bytes(header.value).map_err(|_| Strange)?;
        head.headers_mut().append(name, value);
    }
    Ok(Some((head, length)))
}

/// How long the body of an answer to a POST is (RFC 9112, section 6.3).
fn body_of(head: &Response<()>) -> Left {
    if matches!(head.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Left::Sized(0);
    }
    if head.headers().contains_key(header::TRANSFER_ENCODING) {
        // The last coding; one that is not chunked ends with the connection.
        let last = names(head.headers(), &header::TRANSFER_ENCODING).last().unwrap_or_default();
        return if last.eq_ignore_ascii_case("chunked") { Left::ChunkLine } else { Left::UntilClosed };
    }
    let mut lengths = names(head.headers(), &header::CONTENT_LENGTH);
    let Some(length) = lengths.next() else { return Left::UntilClosed };
    if lengths.any(|other| other != length) || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return Left::Unreadable;
    }
    match length.parse() {
        Ok(length) if length <= MAX_RESPONSE_BYTES => Left::Sized(length),
        _ => Left::Unreadable,
    }
}

fn persists(head: &Response<()>) -> bool {
    let closes =
        names(head.headers(), &header::CONNECTION).any(|option| option.eq_ignore_ascii_case("close"));
    // With both, somebody on the way may have read the body otherwise (RFC 9112, section 6.3).
    let is_ambiguous = head.headers().contains_key(header::TRANSFER_ENCODING)
        && head.headers().contains_key(header::CONTENT_LENGTH);
    head.version() == Version::HTTP_11 && !closes && !is_ambiguous
}

/// The elements of a header that is a list. One that is no text counts as an element that is nothing known.
fn names<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    values.flat_map(|value| value.to_str().unwrap_or("?").split(',')).map(str::trim)
}

/// Takes the line before a chunk.
fn chunk_size(input: &mut BytesMut) -> Result<Option<usize>, Strange> {
    match httparse::parse_chunk_size(input) {
        Ok(Status::Complete((length, size))) => {
            input.advance(length);
            usize::try_from(size).map(Some).map_err(|_| Strange)
        }
        Ok(Status::Partial) if input.len() <= MAX_CHUNK_LINE_BYTES => Ok(None),
        Ok(Status::Partial) | Err(_) => Err(Strange),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Read = (u16, bool, Option<Vec<u8>>);

    /// All answers in these pieces: status, whether another may follow, and the body if it came whole.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Read>, Strange> {
        let (mut answers, mut input, mut read) = (Answers::new(), BytesMut::new(), Vec::<Read>::new());
        let mut awaits_body = false;
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                if awaits_body {
                    let Some(body) = answers.body(&mut input)? else { break };
                    read.last_mut().expect("its head has come").2 = Some(body.to_vec());
                } else {
                    let Some(head) = answers.head(&mut input)? else { break };
                    read.push((head.response.status().as_u16(), head.persists, None));
                }
                awaits_body = !awaits_body;
            }
        }
        if let Some(body) = answers.closed() {
            read.last_mut().expect("its head has come").2 = Some(body.to_vec());
        }
        Ok(read)
    }

    fn whole(text: &str) -> Result<Vec<Read>, Strange> {
        read([text.as_bytes()])
    }

    fn answer(status: u16, persists: bool, body: &str) -> Read {
        (status, persists, Some(body.as_bytes().to_vec()))
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", answer(200, true, "{}")),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\ncontent-length: 2\r\n\r\n{}",
                answer(200, true, "{}"),
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", answer(204, true, "")),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", answer(304, true, "")),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
                answer(200, true, "abc0123456789"),
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\nx: y\r\nz: 1\r\n\r\n",
                answer(200, true, "a"),
            ),
            ("HTTP/1.1 503 Busy\r\nretry-after: 1\r\n\r\nto the end", answer(503, false, "to the end")),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nto the end",
                answer(200, false, "to the end"),
            ),
        ] {
            assert_eq!(whole(text), Ok(vec![expected]), "{text}");
        }
    }

    #[test]
    fn answers_follow_each_other_and_informational_ones_are_none() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n\
                    content-length: 1\r\n\r\naHTTP/1.1 429 Slow\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(whole(text), Ok(vec![answer(200, true, "a"), answer(429, true, "")]));
    }

    #[test]
    fn nothing_follows_an_answer_that_says_so_or_may_have_been_read_in_two_ways() {
        for head in [
            "HTTP/1.1 200 OK\r\nConnection: Close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nconnection: x, close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ] {
            assert_eq!(whole(head), Ok(vec![answer(200, false, "")]), "{head}");
        }
        let keeps = "HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(whole(keeps), Ok(vec![answer(200, true, "")]));
    }

    #[test]
    fn what_is_no_answer_to_an_export_is_strange() {
        let head = |header: &str| format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n");
        let chunked = head("transfer-encoding: chunked");
        for text in [
            "\0\0\u{6}\u{4}\0\0\0\0\0".to_owned(),
            "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n".to_owned(),
            head("content-length: 1\r\ncontent-length: 2"),
            head("content-length: -1"),
            head("content-length: +1"),
            head("content-length: 99999999999999999999999"),
            head("content-length: 5000000"),
            format!("{chunked}x\r\n"),
            format!("{chunked}1\r\nab\r\n"),
            format!("{chunked}4c4b41\r\n"),
            format!("{chunked}ffffffffffffffff\r\n"),
            format!("{chunked}1;{}", "x".repeat(2000)),
            format!("{chunked}0\r\n{}", "x".repeat(70_000)),
            format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(70_000)),
            format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101)),
            format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(5_000_000)),
        ] {
            let beginning: String = text.chars().take(100).collect();
            assert_eq!(whole(&text), Err(Strange), "{beginning}");
        }
    }

    #[test]
    fn a_body_that_breaks_off_never_comes() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
        ] {
            assert_eq!(whole(text), Ok(vec![(200, true, None)]), "{text}");
        }
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_makes_no_difference(cuts in proptest::collection::vec(0_usize..400, 0..20)) {
            let text = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 100 Continue\r\n\r\n\
                        HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nworld\r\n0\r\nt: 1\r\n\r\n\
                        HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 503 Busy\r\n\r\nthe end";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]);
            prop_assert_eq!(read(pieces), whole(text));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            texts in proptest::collection::vec(
                prop_oneof![
                    Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
                    Just(b"content-length: 3\r\n\r\n".to_vec()),
                    Just(b"transfer-encoding: chunked\r\n\r\n".to_vec()),
                    Just(b"3\r\nabc\r\n0\r\n\r\n".to_vec()),
                    proptest::collection::vec(any::<u8>(), 0..40),
                ],
                0..12,
            ),
        ) {
            let _read_or_strange = read(texts.iter().map(Vec::as_slice));
        }
    }
}
