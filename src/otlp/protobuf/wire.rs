//! Wire format of protobuf: a sequence of fields with a number and a type.
//!
//! In: the bytes of one message. Out: its fields, in order, without their meaning.
//! Promises: no bytes cause a panic or an endless loop; nothing is copied. Groups, which OTLP never had, are skipped.

use super::{FIXED32, FIXED64, LENGTH, VARINT};

const START_GROUP: u32 = 3;
const END_GROUP: u32 = 4;

/// Maximum nesting of groups.
const MAX_GROUPS: usize = 64;

/// The reason why bytes are not a sequence of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireFault {
    #[error("the message ends inside a field")]
    CutShort,
    #[error("a varint has more than 64 bits")]
    Overlong,
    #[error("a field has an invalid number or wire type")]
    NoField,
    #[error("a group is not closed correctly, or is nested too deeply")]
    Group,
}

/// Reader of a message's fields.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    /// Offset of the next field.
    pub(super) at: usize,
}

/// The value of a field, by its wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireValue<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    /// Bytes, a string, a message or packed scalars.
    Length(&'a [u8]),
    Group,
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// Starts with the field at `at`.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Returns the number and the value of the next field; `None` at the end.
    pub(super) fn read(&mut self) -> Result<Option<(u32, WireValue<'a>)>, WireFault> {
        if self.is_at_end() {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        let value = match wire_type {
            VARINT => WireValue::Varint(self.varint()?),
            FIXED64 => WireValue::Fixed64(self.fixed()?),
            FIXED32 => WireValue::Fixed32(self.fixed()?),
            LENGTH => WireValue::Length(self.delimited()?),
            START_GROUP => {
                self.skip_group(number)?;
                WireValue::Group
            }
            END_GROUP => return Err(WireFault::Group),
            _ => return Err(WireFault::NoField),
        };
        Ok(Some((number, value)))
    }

    /// Reads a number of up to 64 bits, seven in each byte.
    pub(super) fn varint(&mut self) -> Result<u64, WireFault> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(WireFault::CutShort)?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(WireFault::Overlong)
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], WireFault> {
        let value = *self.bytes[self.at..].first_chunk().ok_or(WireFault::CutShort)?;
        self.at += N;
        Ok(value)
    }

    fn tag(&mut self) -> Result<(u32, u32), WireFault> {
        let tag = u32::try_from(self.varint()?).map_err(|_| WireFault::NoField)?;
        match tag >> 3 {
            0 => Err(WireFault::NoField),
            number => Ok((number, tag & 7)),
        }
    }

    fn delimited(&mut self) -> Result<&'a [u8], WireFault> {
        let length = usize::try_from(self.varint()?).map_err(|_| WireFault::CutShort)?;
        let rest = &self.bytes[self.at..];
        let content = rest.get(..length).ok_or(WireFault::CutShort)?;
        self.at += length;
        Ok(content)
    }

    /// Skips the rest of a group.
    fn skip_group(&mut self, number: u32) -> Result<(), WireFault> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let (number, wire_type) = self.tag()?;
            match wire_type {
                VARINT => drop(self.varint()?),
                FIXED64 => drop(self.fixed::<8>()?),
                FIXED32 => drop(self.fixed::<4>()?),
                LENGTH => drop(self.delimited()?),
                START_GROUP if open.len() < MAX_GROUPS => open.push(number),
                END_GROUP if number == innermost => drop(open.pop()),
                START_GROUP | END_GROUP => return Err(WireFault::Group),
                _ => return Err(WireFault::NoField),
            }
        }
        Ok(())
    }
}
