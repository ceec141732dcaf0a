//! Integer types of OTLP, and their ranges.

/// Integer types that OTLP uses; the 64-bit ones are strings in canonical JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Int {
    Uint32,
    Fixed32,
    Sint32,
    Int64,
    Sfixed64,
    Uint64,
    Fixed64,
}

// === impl Int ===

impl Int {
    pub(crate) fn is_64_bit(self) -> bool {
        !matches!(self, Self::Uint32 | Self::Fixed32 | Self::Sint32)
    }

    /// Returns the smallest and the largest value.
    pub(crate) fn range(self) -> (i128, i128) {
        match self {
            Self::Uint32 | Self::Fixed32 => (0, u32::MAX as i128),
            Self::Sint32 => (i32::MIN as i128, i32::MAX as i128),
            Self::Int64 | Self::Sfixed64 => (i64::MIN as i128, i64::MAX as i128),
            Self::Uint64 | Self::Fixed64 => (0, u64::MAX as i128),
        }
    }
}
