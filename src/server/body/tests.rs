use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;

use super::*;
use crate::budget::Budget;

const LIMITS: BodyLimits = BodyLimits { max_bytes: 1000, timeout: Duration::from_secs(60) };

/// A body of these frames, followed by its end, an error, or nothing.
struct Script {
    frames: VecDeque<Bytes>,
    then: Then,
    declared: Option<u64>,
    read: Arc<AtomicUsize>,
    /// Dropped with the body.
    _alive: Option<oneshot::Sender<()>>,
}

enum Then {
    End,
    Fail,
    Stall,
}

impl Body for Script {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        if let Some(frame) = self.frames.pop_front() {
            self.read.fetch_add(frame.len(), Ordering::SeqCst);
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        match self.then {
            Then::End => Poll::Ready(None),
            Then::Fail => Poll::Ready(Some(Err("cut"))),
            Then::Stall => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.declared.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

fn script(frames: &[&'static [u8]], then: Then) -> Script {
    let frames = frames.iter().map(|frame| Bytes::from_static(frame)).collect();
    Script { frames, then, declared: None, read: Arc::default(), _alive: None }
}

fn inbound(script: Script) -> Inbound<Script> {
    Inbound::wrap(Request::new(script)).into_body()
}

#[tokio::test]
async fn joins_the_frames_of_a_body() {
    let body = script(&[b"one ", b"", b"two ", b"three"], Then::End);
    assert_eq!(inbound(body).read(LIMITS, &mut Charge::unlimited()).await.unwrap(), "one two three");
    assert_eq!(inbound(script(&[], Then::End)).read(LIMITS, &mut Charge::unlimited()).await.unwrap(), "");
}

#[tokio::test]
async fn a_large_body_in_one_frame_is_not_copied() {
    static PIECE: &[u8] = &[b'x'; OWN_MEMORY_BYTES + 1];
    let limits = BodyLimits { max_bytes: u64::MAX, ..LIMITS };
    let read = inbound(script(&[PIECE], Then::End)).read(limits, &mut Charge::unlimited()).await.unwrap();
    assert_eq!(read.as_ptr(), PIECE.as_ptr());
}

#[tokio::test]
async fn a_small_body_does_not_retain_the_read_buffer() {
    let buffer = Bytes::from(vec![b'x'; 400_000]);
    let mut body = script(&[], Then::End);
    body.frames.push_back(buffer.slice(..10));
    let read = inbound(body).read(LIMITS, &mut Charge::unlimited()).await.unwrap();
    assert_eq!(read, "x".repeat(10));
    assert!(buffer.is_unique());
}

#[tokio::test]
async fn a_declared_length_is_allocated_gradually_and_exactly() {
    let mut pieces = Pieces::default();
    let declared = 3 * FIRST_CAPACITY_BYTES;
    pieces.push(Bytes::from_static(b"a"), declared);
    pieces.push(Bytes::from_static(b"b"), declared);
    assert!(pieces.joined.capacity() as u64 <= FIRST_CAPACITY_BYTES);
    for _ in 2..declared {
        pieces.push(Bytes::from_static(b"c"), declared);
    }
    assert_eq!((pieces.len(), pieces.joined.capacity() as u64), (declared, declared));
}

#[tokio::test]
async fn a_body_over_the_limit_is_too_large_with_or_without_a_declared_length() {
    let too_large = Err(ReadError::TooLarge { max_bytes: 1000 });
    let body = script(&[&[b'x'; 600], &[b'x'; 401]], Then::Stall);
    assert_eq!(inbound(body).read(LIMITS, &mut Charge::unlimited()).await, too_large);

    let body = Script { declared: Some(1001), ..script(&[&[b'x'; 600]], Then::Stall) };
    let read = Arc::clone(&body.read);
    let mut inbound = inbound(body);
    inbound.holds_back = true;
    assert_eq!(inbound.read(LIMITS, &mut Charge::unlimited()).await, too_large);
    assert_eq!(read.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_accepted() {
    let body = script(&[&[b'x'; 600], &[b'x'; 400]], Then::End);
    assert_eq!(inbound(body).read(LIMITS, &mut Charge::unlimited()).await.unwrap().len(), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_in_time_is_too_slow() {
    let body = inbound(script(&[b"the first of"], Then::Stall)).read(LIMITS, &mut Charge::unlimited()).await;
    assert_eq!(body, Err(ReadError::TooSlow { timeout: LIMITS.timeout }));
}

#[tokio::test]
async fn a_body_that_fails_is_cut_short() {
    let body = inbound(script(&[b"the first of"], Then::Fail)).read(LIMITS, &mut Charge::unlimited()).await;
    assert_eq!(body, Err(ReadError::CutShort));
}

#[tokio::test]
async fn an_unread_body_is_drained() {
    let (alive, drained) = oneshot::channel();
    let body = Script { _alive: Some(alive), ..script(&[&[b'x'; 600], &[b'x'; 400]], Then::End) };
    let read = Arc::clone(&body.read);
    drop(inbound(body));
    drained.await.unwrap_err();
    assert_eq!(read.load(Ordering::SeqCst), 1000);
}

#[tokio::test(start_paused = true)]
async fn draining_stops_at_its_timeout() {
    let (alive, drained) = oneshot::channel();
    drop(inbound(Script { _alive: Some(alive), ..script(&[b"x"], Then::Stall) }));
    drained.await.unwrap_err();
}

#[tokio::test]
async fn draining_stops_at_its_maximum_size() {
    static MIB: &[u8] = &[0; 1024 * 1024];
    let frames = vec![MIB; 300];
    let (alive, drained) = oneshot::channel();
    let body = Script { _alive: Some(alive), ..script(&frames, Then::End) };
    let read = Arc::clone(&body.read);
    drop(inbound(body));
    drained.await.unwrap_err();
    assert_eq!(read.load(Ordering::SeqCst) as u64, DRAIN_MAX_BYTES + MIB.len() as u64);
}

#[tokio::test]
async fn the_body_of_an_expect_continue_request_is_not_drained() {
    let (alive, gone) = oneshot::channel();
    let body = Script { _alive: Some(alive), ..script(&[b"x"], Then::End) };
    let read = Arc::clone(&body.read);
    let request = Request::builder().header(EXPECT, "100-Continue").body(body).unwrap();
    drop(Inbound::wrap(request));
    gone.await.unwrap_err();
    assert_eq!(read.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_small_body_that_decompresses_to_a_large_one_is_decoded() {
    let plain = vec![b'x'; 4 * INLINE_INFLATED_BYTES as usize];
    let wire = Bytes::from(zstd::stream::encode_all(plain.as_slice(), 1).unwrap());
    assert!(wire.len() < INLINE_WIRE_BYTES);
    let sniffed = codings(&HeaderMap::new()).unwrap();
    assert_eq!(
        decode(sniffed.clone(), wire.clone(), plain.len() as u64, Charge::unlimited()).await.unwrap().bytes,
        plain
    );
    let bomb = decode(sniffed, wire, plain.len() as u64 - 1, Charge::unlimited()).await;
    assert!(matches!(bomb, Err(InflateError::TooLarge { .. })));
}

#[tokio::test]
async fn unencoded_and_empty_bodies_pass_through_without_a_copy() {
    let plain = Bytes::from_static(b"{}");
    let same = decode(codings(&HeaderMap::new()).unwrap(), plain.clone(), 10, Charge::unlimited())
        .await
        .unwrap()
        .bytes;
    assert_eq!(same.as_ptr(), plain.as_ptr());
    let gzip = [(http::header::CONTENT_ENCODING, "gzip".parse().unwrap())].into_iter().collect();
    assert_eq!(
        decode(codings(&gzip).unwrap(), Bytes::new(), 10, Charge::unlimited()).await.unwrap().bytes,
        ""
    );
}

#[test]
fn read_errors_have_actionable_messages() {
    assert_eq!(
        ReadError::TooSlow { timeout: Duration::from_millis(1500) }.to_string(),
        "the body did not end within 1.5 s"
    );
}

// --- the budget of all bodies ---

#[tokio::test]
async fn a_body_is_charged_as_it_comes_and_gives_all_back() {
    let budget = Budget::new(1000);
    let mut charge = budget.charge();
    let body = inbound(script(&[b"one ", b"two"], Then::End)).read(LIMITS, &mut charge).await.unwrap();
    assert_eq!((charge.bytes(), budget.used()), (body.len() as u64, body.len() as u64));
    drop(charge);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_body_that_the_budget_has_no_room_for_is_not_kept() {
    let budget = Budget::new(100);
    let mut other = budget.charge();
    other.grow(90).unwrap();
    let mut charge = budget.charge();
    let frames: [&'static [u8]; 2] = [&[b'x'; 8], &[b'x'; 8]];
    let full = Err(ReadError::OverBudget(OverBudget { never_fits: None }));
    assert_eq!(inbound(script(&frames, Then::End)).read(LIMITS, &mut charge).await, full);
    // A declared length is checked before the first byte is read.
    let declared = Script { declared: Some(16), ..script(&frames, Then::End) };
    let read = Arc::clone(&declared.read);
    let refused = declared_only(declared, &budget).await;
    assert_eq!((refused, read.load(Ordering::SeqCst)), (full, 0));
    drop((charge, other));
    assert_eq!(budget.used(), 0);
}

async fn declared_only(script: Script, budget: &Budget) -> Result<Bytes, ReadError> {
    // As with `Expect: 100-continue`, nothing is drained.
    let mut inbound = inbound(script);
    inbound.holds_back = true;
    inbound.read(LIMITS, &mut budget.charge()).await
}

#[tokio::test]
async fn the_charge_of_a_decoded_body_is_its_size_wherever_it_was_decoded() {
    for size in [1000, 4 * INLINE_INFLATED_BYTES as usize] {
        let wire = Bytes::from(zstd::stream::encode_all(vec![b'x'; size].as_slice(), 1).unwrap());
        let budget = Budget::new(u64::MAX);
        let mut sent = budget.charge();
        sent.grow(wire.len() as u64).unwrap();
        let ChargedBody { bytes: decoded, charge } =
            decode(codings(&HeaderMap::new()).unwrap(), wire, u64::MAX, sent).await.unwrap();
        assert_eq!((decoded.len(), charge.bytes(), budget.used()), (size, size as u64, size as u64));
    }
}
