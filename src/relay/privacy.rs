//! Privacy: `processors.attributes` and `queue.keep_unparsed`, applied before anything is stored.
//!
//! In: what a receiver read of a body. Out: the same without the values that must not be stored, and the form of it that the
//! queue keeps.
//! Promises: the body as it was sent is not kept; input that cannot be scrubbed is not kept either, unless the operator
//! says so.

use bytes::Bytes;

use super::converted::{self, Units};
use super::keep::Kept;
use crate::config::{Config, Encoding};
use crate::processor::{Attributes, Scrubbed};
use crate::receiver::{Diagnosis, Item, Reading, Received, Receiver, Rejected, Scope, Scrubbing};

/// The rules.
pub(crate) struct Privacy {
    attributes: Attributes,
    keep_unparsed: bool,
    /// Values are removed or replaced, and not only renamed.
    withholds: bool,
}

/// A body that was read and scrubbed.
pub(super) struct Private {
    pub(super) body: Kept,
    pub(super) units: Units,
    pub(super) reading: Reading,
}

// === impl Privacy ===

impl Privacy {
    /// Returns the rules of a configuration; `None` if they change nothing.
    pub(crate) fn new(config: &Config) -> Option<Self> {
        let (attributes, keep_unparsed) = (&config.processors.attributes, config.queue.keep_unparsed);
        let withholds = attributes.withheld().next().is_some();
        let is_active = !attributes.is_empty() || !keep_unparsed;
        is_active.then(|| Self { attributes: Attributes::new(attributes), keep_unparsed, withholds })
    }

    /// Scrubs what was read of a body.
    pub(super) fn scrub(
        &self,
        receiver: &dyn Receiver,
        encoding: Encoding,
        body: &Bytes,
        received: Received,
    ) -> Private {
        let Received { kept, parameters: _, mut reading } = received;
        if encoding == Encoding::Protobuf && reading.items.is_empty() {
            self.withhold_protobuf(body, &mut reading);
        }
        self.scrub_rejected(receiver, &mut reading.rejected);
        // The members of an ignored event have other names than the attributes, so that they cannot be told apart.
        let is_withheld = reading.ignored.is_some() && self.withholds;
        let withheld = is_withheld.then_some(body.len());
        if reading.ignored.is_some() || reading.items.is_empty() {
            let is_kept = reading.ignored.is_some() && !is_withheld;
            let bytes = if is_kept { kept } else { Bytes::new() };
            let body = Kept { bytes, withheld, event: Bytes::new() };
            return Private { body, units: Units::default(), reading };
        }
        let is_event = receiver.source().webhooks().is_some();
        let event = if is_event { body.clone() } else { Bytes::new() };
        let documents =
            |item: &mut Item| converted::documents(item).map(|document| self.scrub_document(document));
        let (bytes, units, reading) = converted::convert(receiver.id(), reading, documents);
        Private { body: Kept { bytes, withheld, event }, units, reading }
    }

    /// Scrubs items of a record that was stored before the rules were set.
    pub(super) fn scrub_items(&self, items: &mut [Item]) {
        for item in items {
            let documents = converted::documents(item).map(|document| self.scrub_document(document));
            converted::replace(item, documents);
        }
    }

    /// Scrubs rejected input, or withholds its bytes.
    pub(super) fn scrub_rejected(&self, receiver: &dyn Receiver, rejected: &mut [Rejected]) {
        for part in rejected.iter_mut().filter(|part| part.scrubbed.is_none()) {
            let diagnosis = part.diagnose(receiver);
            let is_otlp = matches!(part.scope, Scope::Item | Scope::Items { .. } | Scope::Section);
            let Scrubbed { text, is_parsed } = self.attributes.scrub_rejected(&part.input, receiver, is_otlp);
            // As above: an event that can be parsed cannot be scrubbed.
            let is_foreign = is_parsed && self.withholds && receiver.source().webhooks().is_some();
            let is_withheld = is_foreign || (!is_parsed && !self.keep_unparsed);
            part.withhold(diagnosis, if is_withheld { None } else { Some(text) });
        }
    }

    /// Scrubs a body as a whole, for the rejected lines. `None` if its bytes must not be kept.
    pub(super) fn scrub_whole(&self, receiver: &dyn Receiver, body: &Bytes) -> Option<Bytes> {
        let Scrubbed { text, is_parsed } = self.attributes.scrub_rejected(body, receiver, false);
        // A stored request that is not JSON was accepted as protobuf, so that it can be parsed, but not scrubbed.
        let is_protobuf = receiver.signal().is_some() && !is_parsed;
        let is_foreign = is_protobuf || receiver.source().webhooks().is_some();
        (!(is_foreign && self.withholds) && (is_parsed || self.keep_unparsed)).then_some(text)
    }

    /// Handles the rejection of a whole protobuf body, whose bytes are not those of a text.
    fn withhold_protobuf(&self, body: &Bytes, reading: &mut Reading) {
        let is_kept = if reading.is_foreign { !self.withholds } else { self.keep_unparsed };
        for part in reading.rejected.iter_mut().filter(|part| part.input.as_ptr() == body.as_ptr()) {
            let input = is_kept.then(|| part.input.clone());
            part.withhold(None, input);
        }
    }

    fn scrub_document(&self, document: Option<Bytes>) -> Option<Bytes> {
        document.map(|document| self.attributes.scrub(&document))
    }
}

// === impl Rejected ===

impl Rejected {
    /// Replaces the input by its scrubbed form; `None` if its bytes must not be kept.
    fn withhold(&mut self, diagnosis: Option<Diagnosis>, text: Option<Bytes>) {
        let withheld = if text.is_none() { Some(self.input.len()) } else { None };
        let text = text.unwrap_or_default();
        let is_changed = text != self.input;
        self.scrubbed = Some(Scrubbing { diagnosis, withheld, is_changed });
        self.input = text;
    }
}
