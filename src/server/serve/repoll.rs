//! Polls a future again at once when it wakes itself.
//!
//! A connection wakes its own task for each body: the service that reads the body runs in that task, and asks the connection
//! for the next part. The runtime treats such a wake-up like a yield: it queues the task and wakes another worker thread, which
//! takes it over. For a small request that takes longer than reading it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Number of further polls in a row, after which other tasks have their turn.
const MAX_FURTHER_POLLS: usize = 4;

/// State between polls, in which a wake-up is passed to the task.
const IDLE: u8 = 0;
/// State during a poll.
const POLLING: u8 = 1;
/// State of a poll during which the future was woken.
const WOKEN: u8 = 2;

/// Poller of one future.
pub(super) struct Repoll {
    wakes: Arc<Wakes>,
    waker: Waker,
}

/// Receiver of the wake-ups of the future.
struct Wakes {
    state: AtomicU8,
    task: AtomicWaker,
}

// === impl Repoll ===

impl Repoll {
    pub(super) fn new() -> Self {
        let wakes = Arc::new(Wakes { state: AtomicU8::new(IDLE), task: AtomicWaker::new() });
        Self { waker: Waker::from(Arc::clone(&wakes)), wakes }
    }

    /// Polls the future, always the same one, until it neither is ready nor has woken itself.
    pub(super) fn poll<F: Future>(&self, mut future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Before the first poll: from its end on, a wake-up must reach the task.
        self.wakes.task.register(cx.waker());
        for _ in 0..=MAX_FURTHER_POLLS {
            self.wakes.state.store(POLLING, Ordering::SeqCst);
            let polled = future.as_mut().poll(&mut Context::from_waker(&self.waker));
            if polled.is_ready() || self.wakes.state.swap(IDLE, Ordering::SeqCst) == POLLING {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

// === impl Wakes ===

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let before = self.state.compare_exchange(POLLING, WOKEN, Ordering::SeqCst, Ordering::SeqCst);
        if before == Err(IDLE) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Task that counts its wake-ups.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls once a future that wakes itself in its first polls; returns its result, polls, and wake-ups of the task.
    fn polled(self_wakes: usize, then: Poll<()>) -> (Poll<()>, usize, usize) {
        let (repoll, task) = (Repoll::new(), Arc::new(Task::default()));
        let mut polls = 0;
        let mut future = pin!(poll_fn(|cx| {
            polls += 1;
            if polls > self_wakes {
                return then;
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        let result = repoll.poll(future.as_mut(), &mut Context::from_waker(&Waker::from(Arc::clone(&task))));
        (result, polls, task.0.load(Ordering::SeqCst))
    }

    #[test]
    fn a_future_that_wakes_itself_is_polled_again_without_waking_the_task() {
        assert_eq!(polled(0, Poll::Pending), (Poll::Pending, 1, 0));
        assert_eq!(polled(1, Poll::Pending), (Poll::Pending, 2, 0));
        assert_eq!(polled(2, Poll::Ready(())), (Poll::Ready(()), 3, 0));
    }

    #[test]
    fn a_future_that_goes_on_waking_itself_lets_other_tasks_have_their_turn() {
        let polls = 1 + MAX_FURTHER_POLLS;
        assert_eq!(polled(usize::MAX, Poll::Pending), (Poll::Pending, polls, 1));
    }

    #[test]
    fn a_wake_up_between_polls_wakes_the_task() {
        let (repoll, task) = (Repoll::new(), Arc::new(Task::default()));
        let mut kept = None;
        let mut future = pin!(poll_fn(|cx| {
            kept = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        let waker = Waker::from(Arc::clone(&task));
        assert!(repoll.poll(future.as_mut(), &mut Context::from_waker(&waker)).is_pending());
        kept.expect("it was polled").wake();
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
    }

    /// Wakes the future on another thread at many moments of its polls.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_up_of_another_thread_is_lost() {
        const ROUNDS: usize = 20_000;
        let signals = Arc::new(tokio::sync::Semaphore::new(0));
        let (back, mut answers) = tokio::sync::mpsc::channel(1);
        let theirs = Arc::clone(&signals);
        let echo = tokio::spawn(async move {
            let repoll = Repoll::new();
            let mut future = pin!(async {
                for _ in 0..ROUNDS {
                    theirs.acquire().await.unwrap().forget();
                    back.send(()).await.unwrap();
                }
            });
            poll_fn(|cx| repoll.poll(future.as_mut(), cx)).await;
        });
        for _ in 0..ROUNDS {
            signals.add_permits(1);
            answers.recv().await.unwrap();
        }
        echo.await.unwrap();
    }
}
