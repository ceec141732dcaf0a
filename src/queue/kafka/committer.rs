//! Commits while the worker goes on reading.
//!
//! In: the offsets to commit. Out: the result of each commit. Promise: one commit at a time is on its way.
//!
//! A thread of its own waits for the brokers: librdkafka reports the result of a commit to whoever waits for it, and to a callback
//! that rust-rdkafka 0.39 does not register (its issue 856).

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use tracing::info;

use super::client::reason_of;
use super::reader::{Callbacks, ReaderState, pause};
use crate::otlp::LineReader;

/// Time for the rest of a rebalance after the session of a member that died.
const MARGIN: Duration = Duration::from_secs(2);

/// The thread that commits. Dropping it waits for the commit that is on its way.
pub(super) struct Committer {
    /// Present until the thread is to end.
    lists: Option<Sender<TopicPartitionList>>,
    results: Receiver<KafkaResult<()>>,
    thread: Option<JoinHandle<()>>,
    is_busy: bool,
}

/// Logs a commit that was refused. That alone says nothing about who owns the partitions: a commit that crosses a rebalance is
/// refused, although they stay here. If they go, librdkafka revokes them.
pub(super) fn log_refusal(error: &KafkaError) {
    info!(reason = reason_of(error), "kafka commit refused; the next one repeats it");
}

/// Returns `true` if a commit was refused only because it crossed a rebalance.
pub(super) fn has_crossed_a_rebalance(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::StaleMemberEpoch
        )
    )
}

// === impl Committer ===

impl Committer {
    pub(super) fn start(consumer: Arc<BaseConsumer<Callbacks>>) -> io::Result<Self> {
        let (lists, due) = channel::<TopicPartitionList>();
        let (ended, results) = channel();
        let thread = Builder::new().name("kafka-commit".to_owned()).spawn(move || {
            while let Ok(list) = due.recv() {
                // The reader has ended if it does not receive the result.
                ended.send(consumer.commit(&list, CommitMode::Sync)).ok();
            }
        })?;
        Ok(Self { lists: Some(lists), results, thread: Some(thread), is_busy: false })
    }

    /// Commits what is resolved, when no more will be. A commit that crosses a rebalance is repeated when the rebalance has ended,
    /// which it does at the latest with the session of a member that died. Polls meanwhile, as a rebalance needs it.
    pub(super) fn commit_the_rest(
        mut self,
        consumer: &BaseConsumer<Callbacks>,
        reading: &ReaderState,
        lines: &mut LineReader,
    ) {
        let deadline = Instant::now() + reading.session_timeout + MARGIN;
        let mut is_paused = false;
        // One that is on its way may have less than all.
        let mut is_older = self.is_busy;
        if !is_older {
            reading.commit(&mut self);
        }
        while self.is_busy && Instant::now() < deadline {
            is_paused = pause(consumer, reading, is_paused);
            reading.poll(consumer, lines);
            let Some(result) = self.ended() else { continue };
            let is_repeated = reading.commit_ended(result) || is_older;
            is_older = false;
            if is_repeated {
                reading.commit(&mut self);
            }
        }
    }

    /// Returns `true` while a commit is on its way.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Sends a commit, unless one is on its way.
    pub(super) fn commit(&mut self, list: TopicPartitionList) {
        if let Some(lists) = self.lists.as_ref().filter(|_| !self.is_busy) {
            self.is_busy = lists.send(list).is_ok();
        }
    }

    /// Returns the result of the commit that was on its way, once it has ended.
    pub(super) fn ended(&mut self) -> Option<KafkaResult<()>> {
        let result = self.results.try_recv().ok();
        self.is_busy &= result.is_none();
        result
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        drop(self.lists.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            thread.join().ok();
        }
    }
}
