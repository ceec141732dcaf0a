//! The `traceparent` header (W3C Trace Context, section 3.2), as far as a link needs it.

use http::HeaderMap;

use super::SpanIds;

/// Returns the client's span. The flags are ignored, because clients do not decide about sampling.
pub(super) fn of(headers: &HeaderMap) -> Option<SpanIds> {
    parse(headers.get("traceparent")?.as_bytes())
}

fn parse(value: &[u8]) -> Option<SpanIds> {
    let mut parts = value.split(|byte| *byte == b'-');
    let version = hex::<1>(parts.next()?)?;
    let (trace, span) = (hex::<16>(parts.next()?)?, hex::<8>(parts.next()?)?);
    hex::<1>(parts.next()?)?;
    // Later versions can have more parts; version 255 is invalid.
    let ends = parts.next().is_none() || version != [0];
    (ends && version != [0xff] && trace != [0; 16] && span != [0; 8]).then_some(SpanIds { trace, span })
}

/// Parses lower-case hex digits; the specification does not allow upper case.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [digit(pair[0])?, digit(pair[1])?];
        *byte = high << 4 | low;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn ids_are_read_with_any_flags_and_in_later_versions() {
        let ids = parse(GOOD.as_bytes()).unwrap();
        assert_eq!((ids.trace[0], ids.trace[15], ids.span[0], ids.span[7]), (0x0a, 0x9c, 0xb7, 0x31));
        assert_eq!(parse(GOOD.replace("-01", "-00").as_bytes()), Some(ids));
        assert_eq!(parse((GOOD.replace("00-0a", "cc-0a") + "-more").as_bytes()), Some(ids));
    }

    #[test]
    fn an_invalid_traceparent_is_ignored() {
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\u{e9}-01",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
