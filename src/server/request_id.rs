//! Ids of requests: UUIDs of version 4, for the log, the `x-request-id` of the response, and the trace ids of self-traces.
//!
//! In: nothing. Out: an id for each request. Promises: no two requests of a process have the same id, and those of different
//! processes differ with the probability of random UUIDs. Random bytes are read once, because a system call for each request
//! costs more than everything else about its id. Ids identify requests; they are no secrets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderValue, Request};
use tower_http::request_id::{MakeRequestId, RequestId};
use uuid::{Builder, Uuid};

/// Increment of the SplitMix64 generator.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Generator of ids. Clones continue the same sequence.
#[derive(Debug, Clone)]
pub(super) struct RequestIds {
    seeds: (u64, u64),
    count: Arc<AtomicU64>,
}

// === impl RequestIds ===

impl RequestIds {
    pub(super) fn new() -> Self {
        Self { seeds: Uuid::new_v4().as_u64_pair(), count: Arc::default() }
    }

    fn next(&self) -> Uuid {
        let at = self.count.fetch_add(1, Ordering::Relaxed).wrapping_mul(STEP);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&mixed(self.seeds.0.wrapping_add(at)).to_be_bytes());
        bytes[8..].copy_from_slice(&mixed(self.seeds.1.wrapping_add(at)).to_be_bytes());
        Builder::from_random_bytes(bytes).into_uuid()
    }
}

impl MakeRequestId for RequestIds {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        let mut text = Uuid::encode_buffer();
        let id = HeaderValue::from_str(self.next().hyphenated().encode_lower(&mut text)).ok()?;
        Some(RequestId::new(id))
    }
}

/// The output function of SplitMix64, in which every bit of the input affects all bits.
fn mixed(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_distinct_uuids_of_version_4_also_from_clones() {
        let (first, second) = (RequestIds::new(), RequestIds::new());
        let generators = [first.clone(), first, second];
        let ids: Vec<Uuid> =
            generators.iter().flat_map(|ids| (0..1000).map(|_| ids.next()).collect::<Vec<_>>()).collect();
        assert!(ids.iter().all(|id| id.get_version_num() == 4));
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }

    #[test]
    fn the_bits_that_sampling_compares_are_even() {
        let ids = RequestIds::new();
        let below_half = (0..10_000).filter(|_| ids.next().as_bytes()[9] < 128).count();
        // Ten standard deviations of fair coins.
        assert!((4500..5500).contains(&below_half), "{below_half}");
    }
}
