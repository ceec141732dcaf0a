//! One connection: requests go out as they come, answers come back in the same order.
//!
//! In: requests, at most so many without an answer. Out: for each, its answer or why there is none. Promises: what has
//! come together leaves in one write; each answer goes to the request that it is for; a request that nobody can have
//! looked at comes back as [`Failure::NotSent`]. Leaves to others: which connection a request takes, and whether one
//! without an answer is sent again.
//!
//! The states of a connection:
//!
//! - *new*: one request at a time, until the first answer has shown that another may follow. A server that closes after
//!   each would otherwise see the same requests again and again (RFC 9112, section 9.3.2).
//! - *proven*: as many without an answer as allowed.
//! - *leaving*: nobody sends it requests any more; it ends with its last answer, or when nobody waits for that.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http::Response;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::super::client::IDLE_TIMEOUT;
use super::super::slices::{Gather, Slices};
use super::answer::{AnswerHead, Answers, Strange};
use super::body::AnswerBody;
use super::{Failure, Head};

/// Room for what is read at once: a few dozen answers.
const READ_BYTES: usize = 8 * 1024;

/// One request.
pub(super) struct Job {
    pub(super) body: Slices,
    pub(super) reply: Reply,
}

pub(super) type Reply = oneshot::Sender<Result<Response<AnswerBody>, Failure>>;

pub(super) struct Connection<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    wire: Wire,
    jobs: mpsc::Receiver<Job>,
}

/// What is on the wire, in both directions.
struct Wire {
    head: Head,
    max_unanswered: usize,
    /// Whether an answer has shown that another may follow.
    proven: bool,
    /// Whether an answer has said that it is the last one. Its body may be still to come.
    last: bool,
    /// Whether the other side takes nothing more. Answers that it gave before may still come.
    deaf: bool,
    out: Slices,
    /// What was written may still lie in a buffer, of TLS.
    unflushed: bool,
    input: BytesMut,
    answers: Answers,
    unanswered: VecDeque<Reply>,
    /// Waits for the rest of a body whose head has been handed on.
    body: Option<oneshot::Sender<Bytes>>,
}

/// Why the connection is over.
enum End {
    /// Nothing that was written will be looked at any more: the last answer said so, or nothing was under way.
    Orderly,
    Failed(Failure),
}

// === impl Connection ===

impl<S> Connection<S>
where
    S: AsyncRead + AsyncWrite,
{
    pub(super) fn new(stream: S, head: Head, max_unanswered: usize, jobs: mpsc::Receiver<Job>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { reader, writer, wire: Wire::new(head, max_unanswered), jobs }
    }

    /// Runs until the connection is over; whoever still waits then is told.
    pub(super) async fn run(mut self) {
        let end = self.serve().await;
        let Self { mut jobs, wire, .. } = self;
        let (written, not_written) = match end {
            // The server has promised to look at nothing behind its last answer (RFC 9112, section 9.6).
            End::Orderly => (Failure::NotSent, Failure::NotSent),
            End::Failed(failure) if wire.proven => (failure, Failure::NotSent),
            // To try another connection at once would be to try for ever.
            End::Failed(failure) => (failure.clone(), failure),
        };
        // First: by the time that a request looks for another connection, this one takes none.
        refuse_all(&mut jobs, &not_written);
        for reply in wire.unanswered {
            let _nobody_waits = reply.send(Err(written.clone()));
        }
    }

    async fn serve(&mut self) -> End {
        let Self { reader, writer, wire, jobs } = self;
        let mut taken = Vec::with_capacity(wire.max_unanswered);
        let mut leaving = false;
        loop {
            let is_idle = wire.is_idle();
            if is_idle && (leaving || wire.deaf) {
                return End::Orderly;
            }
            let room = if leaving { 0 } else { wire.room() };
            wire.input.reserve(READ_BYTES);
            tokio::select! {
                biased;
                // First: an answer may be the last one, and then nothing more is to be written.
                read = reader.read_buf(&mut wire.input) => {
                    let end = match read {
                        Ok(0) => Some(wire.closed()),
                        Ok(_) => wire.read(),
                        Err(error) => Some(wire.broken(error)),
                    };
                    if let Some(end) = end {
                        return end;
                    }
                }
                written = write(writer, &mut wire.out, &mut wire.unflushed), if wire.has_to_write() => {
                    if written.is_err() {
                        wire.stop_writing();
                    }
                }
                count = jobs.recv_many(&mut taken, room), if room > 0 => {
                    leaving = count == 0;
                    wire.put(taken.drain(..));
                }
                () = abandoned(&mut wire.body, &mut wire.unanswered, leaving) => {
                    return End::Failed(Failure::Closed);
                }
                // Nothing is asked of the clock before it is polled.
                () = async { tokio::time::sleep(IDLE_TIMEOUT).await }, if is_idle => return End::Orderly,
            }
        }
    }
}

/// Writes a part of it.
async fn write<W>(writer: &mut W, out: &mut Slices, unflushed: &mut bool) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    if out.has_remaining() {
        *unflushed = true;
        return match writer.write_buf(out).await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            _ => Ok(()),
        };
    }
    writer.flush().await?;
    *unflushed = false;
    Ok(())
}

/// When nobody waits for what the connection is about to read: for the rest of a body, or, where it takes no more
/// requests, for any answer.
async fn abandoned(
    body: &mut Option<oneshot::Sender<Bytes>>,
    unanswered: &mut VecDeque<Reply>,
    leaving: bool,
) {
    match (body, unanswered.back_mut()) {
        (Some(body), _) => body.closed().await,
        // Those in front of the last one have waited longer.
        (None, Some(last)) if leaving => last.closed().await,
        _ => std::future::pending().await,
    }
}

/// Closes a channel and gives back what is in it.
pub(super) fn refuse_all(jobs: &mut mpsc::Receiver<Job>, failure: &Failure) {
    jobs.close();
    while let Ok(job) = jobs.try_recv() {
        let _nobody_waits = job.reply.send(Err(failure.clone()));
    }
}

// === impl Wire ===

impl Wire {
    fn new(head: Head, max_unanswered: usize) -> Self {
        Self {
            head,
            max_unanswered,
            proven: false,
            last: false,
            deaf: false,
            out: Bytes::new().into(),
            unflushed: false,
            input: BytesMut::new(),
            answers: Answers::new(),
            unanswered: VecDeque::with_capacity(max_unanswered),
            body: None,
        }
    }

    /// How many requests may follow now. None while more than half of those that may are under way: with a request for
    /// each answer that comes, each would be a write of its own again.
    fn room(&self) -> usize {
        if self.deaf || self.out.has_remaining() {
            return 0;
        }
        let allowed = if self.proven { self.max_unanswered } else { 1 };
        let under_way = self.unanswered.len() + usize::from(self.body.is_some());
        if under_way > allowed / 2 { 0 } else { allowed - under_way }
    }

    fn has_to_write(&self) -> bool {
        self.out.has_remaining() || self.unflushed
    }

    fn stop_writing(&mut self) {
        self.deaf = true;
        self.out = Bytes::new().into();
        self.unflushed = false;
    }

    /// Whether all that was asked is answered.
    fn is_even(&self) -> bool {
        self.unanswered.is_empty() && self.body.is_none()
    }

    fn is_idle(&self) -> bool {
        self.is_even() && !self.has_to_write()
    }

    /// Puts requests in a row, to be written together.
    fn put(&mut self, jobs: impl ExactSizeIterator<Item = Job>) {
        let mut gather = Gather::with_capacity(jobs.len());
        for job in jobs {
            // A time-out came before its turn.
            if job.reply.is_closed() {
                continue;
            }
            self.head.write_onto(job.body.remaining(), &mut gather);
            job.body.iter().for_each(|piece| gather.slice(piece));
            self.unanswered.push_back(job.reply);
        }
        self.out = gather.into_slices();
    }

    /// Hands on what has come.
    fn read(&mut self) -> Option<End> {
        loop {
            let read = if self.body.is_some() { self.read_body() } else { self.read_head() };
            match read {
                Ok(true) if self.last && self.body.is_none() => return Some(End::Orderly),
                Ok(true) => {}
                Ok(false) => return None,
                Err(Strange) => return Some(self.failed(Failure::Strange)),
            }
        }
    }

    /// Whether there was one.
    fn read_head(&mut self) -> Result<bool, Strange> {
        let Some(AnswerHead { response, persists }) = self.answers.head(&mut self.input)? else {
            return Ok(false);
        };
        // What nobody asked for: a server that is about to close, or none of HTTP.
        let reply = self.unanswered.pop_front().ok_or(Strange)?;
        self.proven |= persists;
        if !persists {
            self.last = true;
            self.stop_writing();
        }
        let body = self.answers.body(&mut self.input);
        let answer = match &body {
            Ok(Some(whole)) => AnswerBody::whole(whole.clone()),
            Ok(None) => {
                let (sender, rest) = oneshot::channel();
                self.body = Some(sender);
                AnswerBody::coming(rest)
            }
            Err(Strange) => AnswerBody::broken(),
        };
        let _nobody_waits = reply.send(Ok(response.map(|()| answer)));
        body.map(|_| true)
    }

    /// Whether it was all there.
    fn read_body(&mut self) -> Result<bool, Strange> {
        let Some(body) = self.answers.body(&mut self.input)? else { return Ok(false) };
        let _nobody_waits = self.body.take().map(|rest| rest.send(body));
        Ok(true)
    }

    fn closed(&mut self) -> End {
        let ends_now = self.answers.closed().zip(self.body.take());
        ends_now.into_iter().for_each(|(body, rest)| drop(rest.send(body)));
        if self.proven && self.is_even() { End::Orderly } else { self.failed(Failure::Closed) }
    }

    fn broken(&self, error: io::Error) -> End {
        self.failed(Failure::Io(Arc::new(error)))
    }

    fn failed(&self, failure: Failure) -> End {
        // Whatever happens behind the last answer is no news.
        if self.last { End::Orderly } else { End::Failed(failure) }
    }
}
