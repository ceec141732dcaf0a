//! Delivery: exports in the order of arrival, each signal in its own lane with a limited number of workers.
//!
//! In: [`Export`]s from the channel. Out: [`Batch`]es (of one export with `delivery: single`) for the sending service.
//! Promises: exports of a signal start in the order in which they arrived; a signal whose endpoint is down does not
//! delay the others; when the channel closes, everything is sent; on stop, everything is dropped unsettled. Leaves to
//! others: the bound on memory, which is the queue's.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};
use tracing::error;

use super::Export;
use super::batch::{Batch, Batcher};
use crate::event::Signal;

/// Distributes batches to workers. A worker lives as long as its lane has work, so that under load none is spawned.
pub(super) struct Delivery<S> {
    sender: S,
    batcher: Option<Batcher>,
    lanes: [Arc<Lane>; Signal::ALL.len()],
    workers: JoinSet<()>,
}

/// Waiting batches of one signal, and the number of its workers.
struct Lane {
    max_workers: usize,
    state: Mutex<LaneState>,
}

#[derive(Default)]
struct LaneState {
    waiting: VecDeque<Batch>,
    workers: usize,
}

/// Permit of a worker in its lane, returned on drop, even if the worker panics.
struct WorkerPermit(Arc<Lane>);

// === impl Delivery ===

impl<S> Delivery<S>
where
    S: Service<Batch, Response = Option<[Batch; 2]>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Future<Output = Result<Option<[Batch; 2]>, Infallible>> + Send,
{
    /// Creates the delivery. Without a batcher every export is sent in its own request.
    pub(super) fn new(sender: S, batcher: Option<Batcher>, max_in_flight: usize) -> Self {
        let lanes = Signal::ALL.map(|_| Arc::new(Lane::new(max_in_flight)));
        Self { sender, batcher, lanes, workers: JoinSet::new() }
    }

    /// Runs until the channel is closed and everything has been sent, or until `stop` is cancelled: then attempts in flight
    /// are abandoned, and no receipt is settled after this returns.
    pub(super) async fn run(mut self, mut exports: UnboundedReceiver<Vec<Export>>, stop: CancellationToken) {
        if stop.run_until_cancelled(self.deliver_all(&mut exports)).await.is_none() {
            self.workers.shutdown().await;
        }
    }

    async fn deliver_all(&mut self, exports: &mut UnboundedReceiver<Vec<Export>>) {
        while self.step(exports).await.is_continue() {}

        let mut ready = Vec::new();
        if let Some(batcher) = &mut self.batcher {
            batcher.flush(|batch| ready.push(batch));
        }
        self.enqueue(ready);
        while let Some(ended) = self.workers.join_next().await {
            self.reap(ended);
        }
    }

    async fn step(&mut self, exports: &mut UnboundedReceiver<Vec<Export>>) -> ControlFlow<()> {
        let due = self.batcher.as_ref().and_then(Batcher::due);
        let mut ready = Vec::new();
        tokio::select! {
            Some(ended) = self.workers.join_next() => self.reap(ended),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            arrived = exports.recv() => match arrived {
                Some(arrived) => self.accept(arrived, &mut ready),
                None => return ControlFlow::Break(()),
            }
        }
        if let Some(batcher) = &mut self.batcher {
            batcher.take_due(Instant::now(), |batch| ready.push(batch));
        }
        self.enqueue(ready);
        ControlFlow::Continue(())
    }

    fn accept(&mut self, arrived: Vec<Export>, ready: &mut Vec<Batch>) {
        match &mut self.batcher {
            None => ready.extend(arrived.into_iter().map(Batch::single)),
            Some(batcher) => {
                let now = Instant::now();
                arrived.into_iter().for_each(|export| batcher.add(export, now, |batch| ready.push(batch)));
            }
        }
    }

    /// Puts batches into their lanes, all batches of a signal at once, because its workers use the same lock.
    fn enqueue(&mut self, batches: Vec<Batch>) {
        let mut batches = batches.into_iter().peekable();
        while let Some(signal) = batches.peek().map(Batch::signal) {
            let lane = Arc::clone(&self.lanes[signal as usize]);
            let of_signal = std::iter::from_fn(|| batches.next_if(|batch| batch.signal() == signal));
            lane.state().waiting.extend(of_signal);
            self.spawn_workers(&lane);
        }
    }

    /// Spawns workers while there are waiting batches and free permits.
    fn spawn_workers(&mut self, lane: &Arc<Lane>) {
        while let Some(first) = lane.claim_batch() {
            self.workers.spawn(run_worker(WorkerPermit(Arc::clone(lane)), self.sender.clone(), first));
        }
    }

    fn reap(&mut self, ended: Result<(), JoinError>) {
        if let Err(error) = ended {
            // Its receipts are not settled, so the queue keeps the data.
            error!(%error, "export worker panicked; its export stays in the queue until the next start");
        }
        // A batch that arrived while the last worker was ending has no worker yet.
        for lane in self.lanes.clone() {
            self.spawn_workers(&lane);
        }
    }
}

/// Sends batches until the lane is empty.
async fn run_worker<S>(permit: WorkerPermit, mut sender: S, first: Batch)
where
    S: Service<Batch, Response = Option<[Batch; 2]>, Error = Infallible>,
{
    let mut next = Some(first);
    // Halves of a rejected batch, which are sent before the next batch of the lane.
    let mut halves = Vec::new();
    while let Some(batch) = next {
        let Ok(ready) = sender.ready().await;
        let Ok(split) = ready.call(batch).await;
        halves.extend(split.into_iter().flatten().rev());
        next = halves.pop().or_else(|| permit.0.state().waiting.pop_front());
    }
}

// === impl Lane ===

impl Lane {
    fn new(max_workers: usize) -> Self {
        Self { max_workers: max_workers.max(1), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the first waiting batch for a new worker, if the lane may have one more.
    fn claim_batch(&self) -> Option<Batch> {
        let mut state = self.state();
        if state.workers >= self.max_workers {
            return None;
        }
        let first = state.waiting.pop_front()?;
        state.workers += 1;
        Some(first)
    }
}

// === impl WorkerPermit ===

impl Drop for WorkerPermit {
    fn drop(&mut self) {
        self.0.state().workers -= 1;
    }
}
