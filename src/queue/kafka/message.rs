//! Records of the topic, in the terms of the relay.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rdkafka::message::{Header, OwnedHeaders};

use crate::event::Signal;

const RECEIVER: &str = "spanrelay.receiver";
const SIGNAL: &str = "spanrelay.signal";
const RECEIVED: &str = "spanrelay.received_unix_nano";
const EVENT_ID: &str = "spanrelay.event_id";
const BYPASSES: &str = "spanrelay.bypasses_matching";
const SUPERSEDE: &str = "spanrelay.supersede";

/// Header of an empty record that shows whether the topic can be written.
const PROBE: &str = "spanrelay.probe";

/// Size of a record's overhead in a batch, at most: lengths, offsets, and the header of a batch of one.
const OVERHEAD: usize = 128;

/// One record to be written: the items of one unit that have the same trace and signal.
#[derive(Debug)]
pub(crate) struct TopicMessage {
    /// Trace id in hexadecimal, which decides the partition; `None` for items without one.
    pub(crate) key: Option<String>,
    pub(crate) headers: Arc<EncodedHeaders>,
    /// OTLP/JSON request.
    pub(crate) value: Bytes,
}

/// Headers as they are written. Most messages of a body share them.
#[derive(Debug)]
pub(crate) struct EncodedHeaders {
    pub(super) encoded: OwnedHeaders,
    /// Time of arrival, the timestamp of the record. In milliseconds since 1970.
    pub(super) timestamp: i64,
    size: usize,
}

/// Headers of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Headers {
    /// Id of the receiver that accepted it.
    pub(crate) receiver: String,
    pub(crate) signal: Signal,
    pub(crate) received: SystemTime,
    /// The sender's own id of the event.
    pub(crate) event_id: Option<String>,
    /// Spans and log records in it are not matched with others.
    pub(crate) bypasses_matching: bool,
    /// Text of the receiver about how the event replaces others.
    pub(crate) supersede: Option<String>,
}

// === impl TopicMessage ===

impl TopicMessage {
    /// Returns an upper bound of the size that counts against `max_message_bytes`.
    pub(crate) fn size(&self) -> usize {
        self.value.len() + self.key.as_ref().map_or(0, String::len) + self.headers.size + OVERHEAD
    }
}

// === impl Headers ===

impl Headers {
    fn pairs(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        let received = self.received.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut pairs = vec![
            (RECEIVER, Cow::from(&self.receiver)),
            (SIGNAL, self.signal.as_str().into()),
            (RECEIVED, received.to_string().into()),
        ];
        pairs.extend(self.event_id.as_ref().map(|id| (EVENT_ID, id.into())));
        pairs.extend(self.bypasses_matching.then(|| (BYPASSES, "true".into())));
        pairs.extend(self.supersede.as_ref().map(|supersede| (SUPERSEDE, supersede.into())));
        pairs
    }

    pub(crate) fn encode(&self) -> EncodedHeaders {
        let pairs = self.pairs();
        EncodedHeaders {
            encoded: owned_headers(pairs.iter().map(|(key, value)| (*key, value.as_bytes()))),
            timestamp: millis(self.received),
            size: pairs.iter().map(|(key, value)| key.len() + value.len() + 8).sum(),
        }
    }

    /// Reads headers; `None` for a record that no relay wrote.
    pub(super) fn decode(headers: Option<&impl rdkafka::message::Headers>) -> Option<Self> {
        readable(|| Self::decode_known(headers?))
    }

    fn decode_known(headers: &impl rdkafka::message::Headers) -> Option<Self> {
        let (mut receiver, mut signal, mut nanos) = (None, None, None);
        let (mut event_id, mut bypasses, mut supersede) = (None, None, None);
        for header in headers.iter() {
            let known = match header.key {
                RECEIVER => &mut receiver,
                SIGNAL => &mut signal,
                RECEIVED => &mut nanos,
                EVENT_ID => &mut event_id,
                BYPASSES => &mut bypasses,
                SUPERSEDE => &mut supersede,
                _ => continue,
            };
            let text = header.value.and_then(|value| str::from_utf8(value).ok());
            *known = known.or(text);
        }
        let (signal, nanos) = (signal?, nanos?.parse().ok()?);
        Some(Self {
            receiver: receiver?.to_owned(),
            signal: Signal::ALL.into_iter().find(|known| known.as_str() == signal)?,
            received: UNIX_EPOCH.checked_add(Duration::from_nanos(nanos))?,
            event_id: event_id.map(str::to_owned),
            bypasses_matching: bypasses == Some("true"),
            supersede: supersede.map(str::to_owned),
        })
    }
}

pub(super) fn probe_headers() -> OwnedHeaders {
    owned_headers([(PROBE, &b"true"[..])].into_iter())
}

pub(super) fn is_probe(headers: Option<&impl rdkafka::message::Headers>) -> bool {
    readable(|| headers?.iter().find(|header| header.key == PROBE)).is_some()
}

/// Returns what was read of headers; `None` if one has a key that is not UTF-8, at which rust-rdkafka 0.39 panics. Such a record must
/// not end the thread that reads its partition.
pub(super) fn readable<T>(read: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok().flatten()
}

pub(super) fn owned_headers<'a>(pairs: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(pairs.len());
    pairs.fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// Returns a time as milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers with a key that is not UTF-8, as the library shows them.
    struct Foreign;

    impl rdkafka::message::Headers for Foreign {
        fn count(&self) -> usize {
            1
        }

        fn try_get(&self, _: usize) -> Option<Header<'_, &[u8]>> {
            panic!("the key is not UTF-8");
        }
    }

    #[test]
    fn headers_that_the_library_cannot_read_are_those_of_no_relay() {
        assert_eq!(Headers::decode(Some(&Foreign)), None);
        assert!(!is_probe(Some(&Foreign)));
    }

    #[test]
    fn headers_come_back_as_they_were_written() {
        let whole = Headers {
            receiver: "circleci/app".to_owned(),
            signal: Signal::Traces,
            received: UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789),
            event_id: Some("id \u{e9}".to_owned()),
            bypasses_matching: true,
            supersede: Some("1 2".to_owned()),
        };
        let least = Headers { event_id: None, bypasses_matching: false, supersede: None, ..whole.clone() };
        for headers in [whole, least] {
            let encoded = headers.encode();
            assert_eq!(Headers::decode(Some(&encoded.encoded)), Some(headers.clone()));
            assert_eq!(encoded.timestamp, 1_700_000_000_123);
        }
        assert_eq!(Headers::decode(Some(&OwnedHeaders::new())), None);
        assert_eq!(Headers::decode(None::<&OwnedHeaders>), None);
        assert!(is_probe(Some(&probe_headers())) && !is_probe(Some(&OwnedHeaders::new())));
    }
}
