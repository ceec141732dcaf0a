//! Attributes whose values must not be stored as they are.

use std::sync::Arc;

use super::{Diagnosis, Receiver, Rejected};

/// Keys of attributes that are removed, hashed or truncated before anything is stored. A receiver that copies a field to several
/// places copies none of these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Withheld(Arc<[String]>);

/// Result of scrubbing the input of a [`Rejected`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scrubbing {
    /// Likely cause of the rejection, by the input before.
    pub(crate) diagnosis: Option<Diagnosis>,
    /// Length of an input whose bytes are not kept.
    pub(crate) withheld: Option<usize>,
    /// The input differs from what was received, so that the offset of the fault is not one in it.
    pub(crate) is_changed: bool,
}

// === impl Withheld ===

impl Withheld {
    pub(crate) fn new<'a>(keys: impl Iterator<Item = &'a String>) -> Self {
        Self(keys.cloned().collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.0.iter().any(|withheld| withheld == key)
    }

    pub(crate) fn contains_any(&self, keys: &[&str]) -> bool {
        !self.is_empty() && keys.iter().any(|key| self.contains(key))
    }
}

// === impl Rejected ===

impl Rejected {
    /// Returns the likely cause, as far as the receiver can tell.
    pub(crate) fn diagnose(&self, receiver: &dyn Receiver) -> Option<Diagnosis> {
        match self.scrubbed {
            Some(scrubbed) => scrubbed.diagnosis,
            None => receiver.diagnose(self),
        }
    }
}
