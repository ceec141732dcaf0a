//! Acceptance: how a body was read when it was accepted, stored with its record so that reading it again gives the same
//! items.
//!
//! In: a receiver's parameters and its reading. Out: the bytes that the queue stores. Promises: a change of settings
//! does not change how a stored body is read; a different reading, as by a later version, is recognised by its
//! fingerprint.
//!
//! | what | bytes |
//! |---|---|
//! | [`VERSION`], or [`CONVERTED`] for a converted body | 1 |
//! | length of the receiver's parameters, little-endian; one byte in version 1, four for a converted body | 2 |
//! | the receiver's parameters, or the units of a converted body | n |
//! | [`fingerprint`] of the reading, little-endian | 8 |
//! | spans, log records, data points, each little-endian | 12 |
//! | lines of which nothing was accepted, as [`Runs`] | n |

use bytes::{Buf, Bytes};

use super::converted::Units;
use crate::event::Signal;
use crate::queue::Runs;
use crate::receiver::{Item, Reading, Rejected, Scope};

const VERSION: u8 = 2;
const CONVERTED: u8 = 3;
/// Number of runs of rejected lines that are stored. Lines beyond them may be written to the rejected lines twice, and
/// only when a later version reads the body differently.
const MAX_RUNS: usize = 1000;

/// Description of how a body was read when it was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acceptance {
    pub(super) form: BodyForm,
    pub(super) fingerprint: u64,
    /// Number of items of each signal.
    pub(super) items: [u32; Signal::ALL.len()],
    rejected_lines: Runs,
}

/// Form of a stored body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BodyForm {
    /// The form that the receiver keeps; the receiver had these parameters.
    AsSent(Bytes),
    Converted(Units),
}

// === impl BodyForm ===

impl Default for BodyForm {
    fn default() -> Self {
        Self::AsSent(Bytes::new())
    }
}

// === impl Acceptance ===

impl Acceptance {
    pub(super) fn new(form: BodyForm, reading: &Reading) -> Self {
        let items = count(&reading.items);
        if let BodyForm::Converted(_) = form {
            // What was rejected is not in the body.
            let fingerprint = fingerprint(&reading.items, &[]);
            return Self { form, fingerprint, items, rejected_lines: Runs::default() };
        }
        let mut rejected_lines = Runs::default();
        let mut kept = reading.items.iter().map(|item| item.line).peekable();
        for Rejected { line, scope, .. } in &reading.rejected {
            while kept.next_if(|kept| kept < line).is_some() {}
            if kept.peek() != Some(line) {
                rejected_lines.insert(*line..line.saturating_add(1));
            }
            if let Scope::Units { last_line, .. } = scope {
                // Something may be accepted on the last line.
                rejected_lines.insert(line.saturating_add(1)..*last_line);
            }
        }
        rejected_lines.truncate(MAX_RUNS);
        Self { form, fingerprint: fingerprint(&reading.items, &reading.rejected), items, rejected_lines }
    }

    /// Returns whether nothing of the line was accepted: its bytes are in the rejected lines already.
    pub(super) fn rejected(&self, line: u32) -> bool {
        self.rejected_lines.contains(line)
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match &self.form {
            BodyForm::AsSent(parameters) => {
                let parameters = u16::try_from(parameters.len()).map_or(&[][..], |_| parameters);
                out.push(VERSION);
                out.extend_from_slice(&(parameters.len() as u16).to_le_bytes());
                out.extend_from_slice(parameters);
            }
            BodyForm::Converted(units) => {
                out.push(CONVERTED);
                out.extend_from_slice(
                    &u32::try_from(units.as_bytes().len()).unwrap_or(u32::MAX).to_le_bytes(),
                );
                out.extend_from_slice(units.as_bytes());
            }
        }
        out.extend_from_slice(&self.fingerprint.to_le_bytes());
        self.items.iter().for_each(|items| out.extend_from_slice(&items.to_le_bytes()));
        self.rejected_lines.encode(&mut out);
        out.into()
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else.
    pub(super) fn decode(mut bytes: Bytes) -> Option<Self> {
        let version = bytes.try_get_u8().ok()?;
        let len = match version {
            1 => u32::from(bytes.try_get_u8().ok()?),
            VERSION => u32::from(bytes.try_get_u16_le().ok()?),
            CONVERTED => bytes.try_get_u32_le().ok()?,
            _ => return None,
        };
        if len as usize > bytes.len() {
            return None;
        }
        let parameters = bytes.split_to(len as usize);
        let form = match version {
            CONVERTED => BodyForm::Converted(Units::from_bytes(parameters)),
            _ => BodyForm::AsSent(parameters),
        };
        let fingerprint = bytes.try_get_u64_le().ok()?;
        let mut items = [0; Signal::ALL.len()];
        for items in &mut items {
            *items = bytes.try_get_u32_le().ok()?;
        }
        let mut rest = &bytes[..];
        let rejected_lines = Runs::decode(&mut rest)?;
        rest.is_empty().then_some(Self { form, fingerprint, items, rejected_lines })
    }
}

/// Returns a hash that distinguishes readings of one body: FNV-1a over the lines, and the items in each.
pub(super) fn fingerprint(items: &[Item], rejected: &[Rejected]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |numbers: &[u32]| {
        for number in numbers {
            hash = (hash ^ u64::from(*number)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for item in items {
        add(&[item.line]);
        add(&item.counts());
    }
    for rejected in rejected {
        add(&[rejected.line, rejected.column, u32::MAX]);
        if let Scope::Units { count, .. } | Scope::Items { count } = rejected.scope {
            add(&[count]);
        }
    }
    hash
}

/// Returns the number of items of each signal.
pub(super) fn count(items: &[Item]) -> [u32; Signal::ALL.len()] {
    items.iter().map(Item::counts).fold([0; Signal::ALL.len()], |sum, counts| {
        std::array::from_fn(|signal| sum[signal].saturating_add(counts[signal]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::Receiver;
    use crate::receiver::fastly::{Fastly, FastlyConfig};

    const SPAN: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"00000000000000000000000000000001","spanId":"0000000000000001"}]}]}]}"#;

    fn acceptance(body: &str) -> Acceptance {
        let receiver = Fastly::new(&FastlyConfig::default(), 1 << 20);
        let reading = receiver.read(&Bytes::copy_from_slice(body.as_bytes()));
        Acceptance::new(BodyForm::AsSent(receiver.parameters()), &reading)
    }

    #[test]
    fn every_truncation_is_detected_and_the_whole_is_decoded() {
        let acceptance = acceptance(&format!("x\n{SPAN}\ny\nz\n"));
        assert_eq!(acceptance.items, [1, 0, 0]);
        assert_eq!([1, 2, 3, 4, 5].map(|line| acceptance.rejected(line)), [true, false, true, true, false]);
        let bytes = acceptance.encode();
        for end in 0..bytes.len() {
            assert_eq!(Acceptance::decode(bytes.slice(..end)), None);
        }
        assert_eq!(Acceptance::decode(bytes), Some(acceptance));
    }

    #[test]
    fn readings_with_different_items_have_different_fingerprints() {
        let bodies = [
            SPAN.to_owned(),
            format!("{SPAN}\n{SPAN}"),
            format!("\n{SPAN}"),
            format!("x\n{SPAN}"),
            format!("{SPAN}\nx"),
        ];
        let fingerprints = bodies.map(|body| acceptance(&body).fingerprint);
        let distinct: std::collections::HashSet<u64> = fingerprints.into_iter().collect();
        assert_eq!(distinct.len(), 5);
    }
}
