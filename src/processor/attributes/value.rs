//! New values of attributes: truncated addresses and hashes.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::Rule;
use crate::otlp::encode_hex;
use crate::otlp::json::{Cursor, Fault, Text};
use crate::otlp::number::integer;

/// Change of a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ValueChange {
    Keep,
    /// The JSON of the new value.
    Replace(String),
    Remove,
}

/// An OTLP value.
#[derive(Debug, Clone, PartialEq)]
enum AttributeValue<'a> {
    Text(Cow<'a, str>),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// The elements of an array.
    List(Vec<Self>),
    /// A value of another type, or none.
    Other,
}

/// Returns the change of an OTLP value, an object with one member.
pub(super) fn change(bytes: &[u8], value: &Range<usize>, rule: &Rule) -> ValueChange {
    apply(read(bytes, value.start).unwrap_or(AttributeValue::Other), rule, |new| format!("{{{new}}}"))
}

/// Returns the change of a string.
pub(super) fn change_text(bytes: &[u8], value: &Range<usize>, rule: &Rule) -> ValueChange {
    let text = Cursor::new(bytes, value.start).string();
    let value = text.map_or(AttributeValue::Other, |text| AttributeValue::Text(unescaped(bytes, text)));
    let bare =
        |new: String| new.strip_prefix("\"stringValue\":").map_or_else(|| "\"\"".to_owned(), str::to_owned);
    apply(value, rule, bare)
}

fn apply(old: AttributeValue<'_>, rule: &Rule, write: impl Fn(String) -> String) -> ValueChange {
    if rule.drop {
        return ValueChange::Remove;
    }
    let mut new = old.clone();
    if rule.truncate_ip {
        let Some(truncated) = truncate(&new) else { return ValueChange::Remove };
        new = truncated;
    }
    if rule.hash {
        new = AttributeValue::Text(hash(&new).into());
    }
    if new == old { ValueChange::Keep } else { ValueChange::Replace(write(new.to_json())) }
}

/// Returns the hash that the Collector's attributes processor makes of a value. Values of other types, and empty texts, have an
/// empty one there.
fn hash(value: &AttributeValue<'_>) -> String {
    let digest = |bytes: &[u8]| encode_hex(&Sha256::digest(bytes));
    match value {
        AttributeValue::Text(text) if text.is_empty() => String::new(),
        AttributeValue::Text(text) => digest(text.as_bytes()),
        AttributeValue::Bool(value) => digest(&[u8::from(*value)]),
        AttributeValue::Int(number) => digest(&number.to_le_bytes()),
        AttributeValue::Double(number) => digest(&number.to_bits().to_le_bytes()),
        AttributeValue::List(_) | AttributeValue::Other => String::new(),
    }
}

/// Returns an address, or a list of addresses, without its last bits; `None` for anything else.
fn truncate<'a>(value: &AttributeValue<'a>) -> Option<AttributeValue<'a>> {
    match value {
        AttributeValue::Text(text) => {
            let addresses: Option<Vec<String>> = text.split(',').map(truncate_address).collect();
            Some(AttributeValue::Text(addresses?.join(", ").into()))
        }
        AttributeValue::List(values) => {
            let is_text = |value: &&AttributeValue<'_>| matches!(value, AttributeValue::Text(_));
            let texts = values.iter().map(|value| Some(value).filter(is_text).and_then(truncate));
            texts.collect::<Option<Vec<_>>>().map(AttributeValue::List)
        }
        _ => None,
    }
}

/// Keeps 24 bits of an IPv4 address and 48 of an IPv6 address. An IPv4 address inside an IPv6 one counts as the former.
fn truncate_address(text: &str) -> Option<String> {
    const NETWORK_V4: u32 = u32::MAX << 8;
    const NETWORK_V6: u128 = u128::MAX << 80;
    let v4 = |address: Ipv4Addr| Ipv4Addr::from_bits(address.to_bits() & NETWORK_V4);
    Some(match address(text.trim())? {
        IpAddr::V4(address) => v4(address).to_string(),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => v4(mapped).to_ipv6_mapped().to_string(),
            None => Ipv6Addr::from_bits(address.to_bits() & NETWORK_V6).to_string(),
        },
    })
}

/// Reads an address, with or without brackets, a zone and a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let without_zone = || bare().split_once('%').map_or_else(bare, |(address, _)| address);
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    text.parse().or_else(|_| with_port()).or_else(|_| without_zone().parse()).ok()
}

/// Reads the value whose object opens at `open`.
fn read(bytes: &[u8], open: usize) -> Result<AttributeValue<'_>, Fault> {
    let mut cursor = Cursor::new(bytes, open);
    object(&mut cursor, true)
}

/// Reads a value. Arrays in arrays are of another type.
fn object<'a>(cursor: &mut Cursor<'a>, may_be_list: bool) -> Result<AttributeValue<'a>, Fault> {
    let mut values = Vec::new();
    cursor.object(|cursor, _, key| {
        let bytes = cursor.bytes();
        let value = match (&*key.unescaped(bytes), cursor.peek()) {
            (b"arrayValue", Some(b'{')) if may_be_list => array(cursor)?,
            (b"stringValue", Some(b'"')) => AttributeValue::Text(unescaped(bytes, cursor.string()?)),
            (name, _) => {
                let from = cursor.at;
                cursor.skip_value()?;
                scalar(name, &bytes[from..cursor.at])
            }
        };
        values.push(value);
        Ok(())
    })?;
    // A value with several members has no meaning.
    Ok(values.pop().filter(|_| values.is_empty()).unwrap_or(AttributeValue::Other))
}

fn array<'a>(cursor: &mut Cursor<'a>) -> Result<AttributeValue<'a>, Fault> {
    let mut elements = Vec::new();
    cursor.object(|cursor, _, key| match (&*key.unescaped(cursor.bytes()), cursor.peek()) {
        (b"values", Some(b'[')) => cursor.array(|cursor, _| {
            let value = match cursor.peek() {
                Some(b'{') => object(cursor, false)?,
                _ => cursor.skip_value().map(|()| AttributeValue::Other)?,
            };
            elements.push(value);
            Ok(())
        }),
        _ => cursor.skip_value(),
    })?;
    Ok(AttributeValue::List(elements))
}

/// Reads the literal of a number or a boolean, which may be in quotes.
fn scalar(name: &[u8], literal: &[u8]) -> AttributeValue<'static> {
    let bare = literal.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(literal);
    let text = || std::str::from_utf8(bare).ok();
    match name {
        b"boolValue" if bare == b"true" => AttributeValue::Bool(true),
        b"boolValue" if bare == b"false" => AttributeValue::Bool(false),
        b"intValue" => integer(bare)
            .and_then(|number| i64::try_from(number).ok())
            .map_or(AttributeValue::Other, AttributeValue::Int),
        b"doubleValue" => {
            text().and_then(|text| text.parse().ok()).map_or(AttributeValue::Other, AttributeValue::Double)
        }
        _ => AttributeValue::Other,
    }
}

fn unescaped(bytes: &[u8], text: Text) -> Cow<'_, str> {
    match text.unescaped(bytes) {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

// === impl AttributeValue ===

impl AttributeValue<'_> {
    /// Returns the member of the object that holds the value. Only addresses, lists of them and hashes are written.
    fn to_json(&self) -> String {
        match self {
            Self::Text(text) => format!("\"stringValue\":\"{text}\""),
            Self::List(values) => {
                let values: Vec<String> =
                    values.iter().map(|value| format!("{{{}}}", value.to_json())).collect();
                format!("\"arrayValue\":{{\"values\":[{}]}}", values.join(","))
            }
            Self::Bool(_) | Self::Int(_) | Self::Double(_) | Self::Other => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truncated(text: &str) -> Option<String> {
        match truncate(&AttributeValue::Text(text.into()))? {
            AttributeValue::Text(text) => Some(text.into_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_loses_its_host_part_in_any_form() {
        for (address, expected) in [
            ("198.51.100.7", "198.51.100.0"),
            ("198.51.100.0", "198.51.100.0"),
            ("198.51.100.7:8080", "198.51.100.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
            ("2001:DB8::7", "2001:db8::"),
            ("[2001:db8:1:2::7]:443", "2001:db8:1::"),
            ("[2001:db8:1:2::7]", "2001:db8:1::"),
            ("fe80::1%eth0", "fe80::"),
            ("::ffff:198.51.100.7", "::ffff:198.51.100.0"),
            ("::1", "::"),
            (" 198.51.100.7 ", "198.51.100.0"),
            ("198.51.100.7, 203.0.113.9,2001:db8::9", "198.51.100.0, 203.0.113.0, 2001:db8::"),
        ] {
            assert_eq!(truncated(address).as_deref(), Some(expected), "{address}");
        }
    }

    #[test]
    fn what_is_no_address_has_no_truncated_form() {
        for text in [
            "",
            "-",
            "localhost",
            "198.51.100",
            "198.51.100.7/32",
            "198.51.100.7 (proxy)",
            "for=198.51.100.7",
            "198.51.100.7, unknown",
            "198.51.100.07",
            "4294967295",
            "jo@example.com",
        ] {
            assert_eq!(truncated(text), None, "{text}");
        }
        for value in [
            AttributeValue::Int(1),
            AttributeValue::Bool(true),
            AttributeValue::Other,
            AttributeValue::List(vec![AttributeValue::Int(1)]),
        ] {
            assert_eq!(truncate(&value), None);
        }
    }

    #[test]
    fn a_truncated_address_is_not_truncated_again() {
        for address in ["198.51.100.7", "2001:db8:1:2::7", "::ffff:1.2.3.4", "1.2.3.4, ::1"] {
            let once = truncated(address).unwrap();
            assert_eq!(truncated(&once), Some(once.clone()), "{address}");
        }
    }

    #[test]
    fn hashes_are_those_of_the_collector() {
        // Computed with sha256sum of the bytes that the Collector's attributes processor hashes.
        for (value, expected) in [
            (
                AttributeValue::Text("jo".into()),
                "c278ec5a69c34aace42773e41b1163e6ce40c906f2a14f807d39d1b2a1c2dff5",
            ),
            (AttributeValue::Bool(true), "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"),
            (AttributeValue::Bool(false), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (AttributeValue::Int(1), "7c9fa136d4413fa6173637e883b6998d32e1d675f88cddff9dcbcf331820f4b8"),
            (AttributeValue::Double(1.5), "e163f8cb0f7067a7fc78ca859a77f849aea3214f38fb75b884e4a16be725c905"),
            (AttributeValue::Text("".into()), ""),
            (AttributeValue::Other, ""),
        ] {
            assert_eq!(hash(&value), expected, "{value:?}");
        }
    }
}
