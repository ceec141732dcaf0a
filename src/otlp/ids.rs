//! Trace and span ids as OTLP/JSON writes them: hexadecimal, read in any case, written in lower case. An id of another
//! length, or all zero, is invalid (OTLP specification, "JSON Protobuf Encoding").

use std::fmt;
use std::hash::{Hash, Hasher};

/// A valid trace id: 16 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TraceId([u8; 16]);

/// A valid span id: 8 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpanId([u8; 8]);

// === impl TraceId ===

impl TraceId {
    /// Returns the id of these bytes, unless all of them are zero.
    pub(crate) fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// Reads exactly 32 hexadecimal digits, without any prefix.
    pub(crate) fn from_hex(hex: &[u8]) -> Option<Self> {
        decode_hex(hex).and_then(Self::new)
    }
}

// The derived implementation would also hash the length, which is constant.
impl Hash for TraceId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

// === impl SpanId ===

impl SpanId {
    /// Returns the id of these bytes, unless all of them are zero.
    pub(crate) fn new(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// Reads exactly 16 hexadecimal digits, without any prefix.
    pub(crate) fn from_hex(hex: &[u8]) -> Option<Self> {
        decode_hex(hex).and_then(Self::new)
    }
}

impl Hash for SpanId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// Decodes exactly `N` bytes from `2 * N` hexadecimal digits of either case.
pub(crate) fn decode_hex<const N: usize>(hex: &[u8]) -> Option<[u8; N]> {
    if hex.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    let mut all = 0;
    let (pairs, _) = hex.as_chunks::<2>();
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (DIGIT[usize::from(*high)], DIGIT[usize::from(*low)]);
        all |= high | low;
        *byte = high << 4 | low;
    }
    // Checked once for all digits.
    (all != NO_DIGIT).then_some(bytes)
}

/// Returns the bytes in lower-case hexadecimal.
pub(crate) fn encode_hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(2 * bytes.len());
    bytes.iter().for_each(|byte| hex.extend(digits_of(*byte).map(char::from)));
    hex
}

const NO_DIGIT: u8 = 0xff;

/// Value of each byte as a hexadecimal digit.
const DIGIT: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value] as usize] = value as u8;
        values[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    values
};

fn write_hex<const N: usize>(f: &mut fmt::Formatter<'_>, bytes: &[u8; N]) -> fmt::Result {
    let digits = bytes.map(digits_of);
    // The digits are ASCII.
    f.write_str(str::from_utf8(digits.as_flattened()).unwrap_or_default())
}

fn digits_of(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [byte >> 4, byte & 15].map(|nibble| DIGITS[usize::from(nibble)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_in_any_case_and_written_in_lower_case() {
        let id = TraceId::from_hex(b"0AF7651916CD43DD8448EB211C80319C").unwrap();
        assert_eq!(id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(SpanId::from_hex(b"B7ad6b7169203331").unwrap().to_string(), "b7ad6b7169203331");
        assert_eq!(encode_hex(&[0, 0xab, 0xff]), "00abff");
    }

    #[test]
    fn ids_with_a_wrong_length_or_digit_a_prefix_or_only_zeros_are_invalid() {
        for bad in [
            "",
            "b7ad6b716920333",
            "b7ad6b71692033311",
            "g7ad6b7169203331",
            "0xad6b7169203331",
            "0000000000000000",
        ] {
            assert_eq!(SpanId::from_hex(bad.as_bytes()), None, "{bad}");
        }
    }
}
