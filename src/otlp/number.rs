//! Integers from decimal literals, exactly: never through a double, which has 53 bits.

/// More digits than any 64-bit number has, with room for trailing zeros after a point.
const MAX_DIGITS: i32 = 38;

/// Returns whether this is an optional minus sign and digits, as canonical JSON writes an integer. A zero has no minus
/// sign: receivers reject one for unsigned types.
pub(crate) fn is_plain_integer(literal: &[u8]) -> bool {
    let is_number = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    match literal.strip_prefix(b"-") {
        Some(digits) => is_number(digits) && digits.iter().any(|digit| *digit != b'0'),
        None => is_number(literal),
    }
}

/// Returns the integer that a decimal literal represents (`12`, `1.0`, `1.5e18`); `None` when it is not integral, not a
/// literal, or longer than any 64-bit number.
pub(crate) fn integer(literal: &[u8]) -> Option<i128> {
    // Nearly every number is a run of digits that fits into a machine word.
    if !literal.is_empty() && literal.len() <= 19 && literal.iter().all(u8::is_ascii_digit) {
        return Some(i128::from(
            literal.iter().fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0')),
        ));
    }
    let (negative, rest) = match literal.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, literal),
    };
    let (mantissa, exponent) = match rest.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(place) => (&rest[..place], exponent(&rest[place + 1..])?),
        None => (rest, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|&byte| byte == b'.') {
        Some(place) => (&mantissa[..place], &mantissa[place + 1..]),
        None => (mantissa, &mantissa[mantissa.len()..]),
    };
    if whole.is_empty() || (mantissa.contains(&b'.') && fraction.is_empty()) {
        return None;
    }
    let mut value = 0_i128;
    let mut scale = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    for digit in whole.iter().chain(fraction) {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    while value != 0 && scale < 0 {
        if value % 10 != 0 {
            return None;
        }
        value /= 10;
        scale += 1;
    }
    if value != 0 {
        if scale > MAX_DIGITS {
            return None;
        }
        value = value.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?;
    }
    Some(if negative { -value } else { value })
}

fn exponent(literal: &[u8]) -> Option<i32> {
    let (negative, digits) = match literal.first()? {
        b'-' => (true, &literal[1..]),
        b'+' => (false, &literal[1..]),
        _ => (false, literal),
    };
    let value: i32 = std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?
        .parse()
        .ok()?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact_in_every_integral_form() {
        for (literal, value) in [
            ("1655990400123457000", 1_655_990_400_123_457_000),
            ("18446744073709551615", i128::from(u64::MAX)),
            ("-9223372036854775808", i128::from(i64::MIN)),
            ("0", 0),
            ("-0", 0),
            ("1.0", 1),
            ("1e3", 1000),
            ("1.5e18", 1_500_000_000_000_000_000),
            ("1.655990400123457E+18", 1_655_990_400_123_457_000),
            ("100e-2", 1),
            ("0e99", 0),
            ("0.0e-5", 0),
        ] {
            assert_eq!(integer(literal.as_bytes()), Some(value), "{literal}");
        }
    }

    #[test]
    fn other_literals_are_not_integers() {
        for literal in [
            "",
            "-",
            "1.5",
            "1e-1",
            "1e40",
            "abc",
            "0x10",
            "+1",
            " 1",
            "1.",
            ".5",
            "1e",
            "1e2147483648",
            "--1",
        ] {
            assert_eq!(integer(literal.as_bytes()), None, "{literal}");
        }
    }
}
