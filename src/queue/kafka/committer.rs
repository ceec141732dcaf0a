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

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::reader::Callbacks;

/// The thread that commits. Dropping it waits for the commit that is on its way.
pub(super) struct Committer {
    /// Present until the thread is to end.
    lists: Option<Sender<TopicPartitionList>>,
    results: Receiver<KafkaResult<()>>,
    thread: Option<JoinHandle<()>>,
    is_busy: bool,
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
