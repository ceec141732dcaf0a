//! Attribute lists: keys are unique, and of two attributes with one key the last stays.

use std::collections::HashMap;
use std::ops::Range;

use super::super::json::{Fault, Text};
use super::super::schema::Message;
use super::super::splice::Removals;
use super::{Stop, Walker};

/// Attributes of one list; eight times what SDKs allow by default. Whoever may write into a line may add some, and
/// each costs everyone behind the relay more than it costs here.
pub(crate) const MAX_ATTRIBUTES: usize = 1024;

/// From here on keys are looked up by hash; below, comparing them one by one is faster.
const FEW: usize = 40;

/// One attribute of a list that is being read.
#[derive(Debug, Clone)]
pub(super) struct AttributeKey {
    /// Length and first and last bytes of the key: what differs in it differs.
    print: u64,
    key: Range<usize>,
    element: Range<usize>,
    stays: Stays,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stays {
    Yes,
    No,
}

// === impl Walker ===

impl Walker<'_> {
    /// Reads a list of attributes; the cursor stands on the first element. Returns how many stay.
    pub(super) fn attributes(&mut self, message: &'static Message) -> Result<u32, Stop> {
        // This list may be inside an attribute of another one.
        let outer_key = self.attribute_key.take();
        let base = self.keys.len();
        let checkpoint = self.found.edits.len();
        let mut gone = 0;
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        loop {
            let start = self.cursor.at;
            let element_checkpoint = self.found.edits.len();
            let stays = self.attribute(message)?;
            let key = self.attribute_key.take().unwrap_or(Text { start, end: start, escaped: false });
            let attribute = AttributeKey {
                print: fingerprint(key.raw(self.cursor.bytes())),
                key: key.start..key.end,
                element: start..self.cursor.at,
                stays,
            };
            if stays == Stays::No {
                self.found.edits.truncate(element_checkpoint);
                gone += 1;
            } else if let Some(twin) = self.twin_of(&attribute, base, &mut places) {
                self.keys[twin].stays = Stays::No;
                gone += 1;
                let element = self.keys[twin].element.clone();
                self.found.edits.forget_inside(checkpoint, element);
            }
            self.keys.push(attribute);
            if self.keys.len() - base > MAX_ATTRIBUTES {
                let reason = format!("more than {MAX_ATTRIBUTES} attributes in one list");
                return Err(Fault::shape(start, reason).into());
            }
            if self.cursor.closes(b']', "expected ',' or ']' after a value")? {
                break;
            }
        }
        self.cursor.leave();
        let count = self.keys.len() - base;
        if gone > 0 {
            let mut removals = Removals::default();
            for attribute in &self.keys[base..] {
                match attribute.stays {
                    Stays::Yes => removals.keep(attribute.element.clone(), &mut self.found.edits),
                    Stays::No => removals.remove(attribute.element.clone()),
                }
            }
            removals.finish(&mut self.found.edits);
        }
        self.keys.truncate(base);
        self.attribute_key = outer_key;
        Ok(u32::try_from(count - gone).unwrap_or(u32::MAX))
    }

    fn attribute(&mut self, message: &'static Message) -> Result<Stays, Stop> {
        match self.cursor.peek() {
            Some(b'{') => {
                self.message(message)?;
                Ok(Stays::Yes)
            }
            Some(b'n') => {
                self.cursor.word("null")?;
                Ok(Stays::No)
            }
            _ => Err(self.wrong_type("an attribute must be an object").into()),
        }
    }

    /// The earlier attribute of this list that has the same key.
    fn twin_of(
        &self,
        attribute: &AttributeKey,
        base: usize,
        places: &mut HashMap<Vec<u8>, usize>,
    ) -> Option<usize> {
        let bytes = self.cursor.bytes();
        let key = &bytes[attribute.key.clone()];
        let earlier = &self.keys[base..];
        if earlier.len() < FEW {
            return earlier
                .iter()
                .position(|other| {
                    other.print == attribute.print
                        && other.stays == Stays::Yes
                        && &bytes[other.key.clone()] == key
                })
                .map(|place| base + place);
        }
        if places.is_empty() {
            let kept = earlier.iter().enumerate().filter(|(_, other)| other.stays == Stays::Yes);
            places.extend(kept.map(|(place, other)| (bytes[other.key.clone()].to_vec(), base + place)));
        }
        places.insert(key.to_vec(), self.keys.len())
    }
}

/// Cheap to compute and nearly always different for different keys.
fn fingerprint(key: &[u8]) -> u64 {
    let word = |bytes: &[u8]| bytes.iter().fold(0_u64, |word, &byte| word << 8 | u64::from(byte));
    let head = key.first_chunk::<8>().map_or_else(|| word(key), |chunk| u64::from_le_bytes(*chunk));
    let tail = key.last_chunk::<8>().map_or(0, |chunk| u64::from_le_bytes(*chunk));
    (head ^ tail.rotate_left(29)).wrapping_add(key.len() as u64)
}
