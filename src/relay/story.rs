//! Story: the processing of a request, which its client cannot interrupt.
//!
//! In: a future. Out: its result, for whoever awaits it. Promises: it runs to its end. While it is awaited, it runs in the
//! task that awaits it, because handing it to another task and back takes longer than reading a small body; if it is
//! dropped before that, because the client has disconnected or a timeout has passed, it continues in a task of its own.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// A future that continues without the task that dropped it.
pub(super) struct Story<T: Send + 'static> {
    /// `None` while it is polled, so that one that panicked is not polled again, and after its end.
    rest: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
}

// === impl Story ===

impl<T: Send + 'static> Story<T> {
    pub(super) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self { rest: Some(Box::pin(future)) }
    }
}

impl<T: Send + 'static> Future for Story<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(mut rest) = self.rest.take() else { return Poll::Pending };
        let polled = rest.as_mut().poll(cx);
        if polled.is_pending() {
            self.rest = Some(rest);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Story<T> {
    fn drop(&mut self) {
        // Without a runtime the process is ending.
        if let Some(rest) = self.rest.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_story_runs_in_the_task_that_awaits_it() {
        let here = tokio::spawn(async {
            let own = tokio::task::id();
            Story::new(async move { tokio::task::id() == own }).await
        });
        assert!(here.await.unwrap());
    }

    #[tokio::test]
    async fn a_story_that_is_dropped_runs_to_its_end() {
        let (go, may_go) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let mut story = Story::new(async move {
            may_go.await.unwrap();
            end.send("the end").unwrap();
        });
        assert!((&mut story).now_or_never().is_none(), "it waits");
        drop(story);
        go.send(()).unwrap();
        assert_eq!(ended.await, Ok("the end"));
    }

    #[tokio::test]
    async fn a_story_that_nobody_awaited_runs_to_its_end() {
        let (end, ended) = oneshot::channel();
        drop(Story::new(async move { end.send("the end").unwrap() }));
        assert_eq!(ended.await, Ok("the end"));
    }

    #[tokio::test]
    async fn a_story_that_panicked_is_not_continued() {
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&polls);
        let mut story: Story<()> = Story::new(std::future::poll_fn(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            panic!("on purpose")
        }));
        catch_unwind(AssertUnwindSafe(|| (&mut story).now_or_never())).unwrap_err();
        drop(story);
        tokio::task::yield_now().await;
        assert_eq!(
            (polls.load(Ordering::Relaxed), Arc::strong_count(&polls)),
            (1, 1),
            "its future is dropped"
        );
    }
}
