use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::budget::Budget;
use crate::server::tests::encoders::{
    gzip, lz4, lz4_checked, raw_deflate, snappy_block, snappy_framed, zlib, zstd,
};

const PLENTY: u64 = 1024 * 1024;

type Encode = fn(&[u8]) -> Vec<u8>;

/// Each coding with its name in the header and an encoder.
const CODINGS: [(&str, Encode); 12] = [
    ("gzip", gzip),
    ("x-gzip", gzip),
    ("GZip", gzip),
    ("deflate", zlib),
    ("deflate", raw_deflate),
    ("zlib", zlib),
    ("lz4", lz4),
    ("LZ4", lz4_checked),
    ("zstd", zstd),
    ("snappy", snappy_framed),
    ("snappy", snappy_block),
    ("x-snappy-framed", snappy_framed),
];

fn headers(values: &[&'static str]) -> HeaderMap {
    values.iter().map(|value| (CONTENT_ENCODING, HeaderValue::from_static(value))).collect()
}

fn undo(header: &'static str, wire: impl Into<Bytes>, max_bytes: u64) -> Result<Bytes, InflateError> {
    let wire = wire.into();
    Codings::from_headers(&headers(&[header])).unwrap().of(&wire).undo(
        wire,
        max_bytes,
        &mut Charge::unlimited(),
    )
}

fn sample() -> Vec<u8> {
    b"{\"resourceSpans\":[]}\n".iter().copied().cycle().take(5000).collect()
}

#[test]
fn undoes_every_coding_under_each_of_its_names() {
    for (name, encode) in CODINGS {
        assert_eq!(undo(name, encode(&sample()), PLENTY).unwrap(), sample(), "{name}");
    }
}

#[test]
fn undoes_stacked_codings_from_the_last_to_the_first() {
    let wire = Bytes::from(zstd(&gzip(&sample())));
    for stacked in [headers(&["gzip, zstd"]), headers(&["gzip", "zstd"]), headers(&["identity ,gzip,, ZSTD"])]
    {
        let codings = Codings::from_headers(&stacked).unwrap();
        assert_eq!(codings.undo(wire.clone(), PLENTY, &mut Charge::unlimited()).unwrap(), sample());
    }
}

#[test]
fn refuses_codings_that_it_does_not_know_and_piles_of_those_that_it_does() {
    assert_eq!(Codings::from_headers(&headers(&["br"])), Err(UnknownCoding::Name));
    assert_eq!(Codings::from_headers(&headers(&["gzip, br"])), Err(UnknownCoding::Name));
    assert_eq!(Codings::from_headers(&headers(&["gzip,gzip,gzip,gzip,gzip"])), Err(UnknownCoding::TooMany));
}

#[test]
fn recognises_what_has_a_magic_number_without_the_header() {
    for encode in [gzip as Encode, zstd, snappy_framed] {
        let wire = Bytes::from(encode(&sample()));
        let codings = Codings::from_headers(&HeaderMap::new()).unwrap().of(&wire);
        assert_eq!(codings.undo(wire.clone(), PLENTY, &mut Charge::unlimited()).unwrap(), sample());
    }
    assert!(Codings::from_headers(&HeaderMap::new()).unwrap().of(&sample()).is_identity());
}

#[test]
fn takes_the_header_at_its_word() {
    let wire = Bytes::from(zstd(&gzip(&sample())));
    assert_eq!(undo("zstd", wire, PLENTY).unwrap(), gzip(&sample()));
    assert!(matches!(
        undo("deflate", sample(), PLENTY),
        Err(InflateError::Corrupt { coding: "deflate", .. })
    ));
}

#[test]
fn a_plain_body_that_is_announced_as_gzip_is_read_as_it_is() {
    for plain in
        [sample(), b"[]".to_vec(), b"\xef\xbb\xbf{}".to_vec(), b"<134>1 - {}".to_vec(), vec![0x0a, 0x00]]
    {
        for name in ["gzip", "GZIP", "identity, x-gzip"] {
            assert_eq!(undo(name, plain.clone(), PLENTY).unwrap(), plain, "{name}");
        }
        assert_eq!(undo("gzip, zstd", zstd(&plain), PLENTY).unwrap(), plain);
    }
    assert!(matches!(undo("gzip", b"\x1f".to_vec(), PLENTY), Err(InflateError::Corrupt { .. })));
    assert!(matches!(undo("gzip", b"\x1f\x8b no".to_vec(), PLENTY), Err(InflateError::Corrupt { .. })));
}

#[test]
fn reads_all_members_of_a_gzip_body_and_all_frames_of_others() {
    let members = [gzip(b"one "), gzip(b"two "), gzip(b"three")].concat();
    assert_eq!(undo("gzip", members, PLENTY).unwrap(), "one two three");

    let members = [lz4(b"one "), lz4_checked(b"two "), lz4(b"three")].concat();
    assert_eq!(undo("lz4", members, PLENTY).unwrap(), "one two three");

    let skippable = b"\x53\x2a\x4d\x18\x03\x00\x00\x00abc".to_vec();
    let frames = [skippable.clone(), zstd(b"one "), skippable.clone(), zstd(b"two"), skippable].concat();
    assert_eq!(undo("zstd", frames, PLENTY).unwrap(), "one two");
}

#[test]
fn a_body_of_exactly_the_limit_passes_and_one_more_byte_does_not() {
    for (name, encode) in CODINGS {
        for size in [1, 1000, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 300_000] {
            let wire = Bytes::from(encode(&vec![b'x'; size]));
            assert_eq!(undo(name, wire.clone(), size as u64).unwrap().len(), size, "{name}");
            let tight = undo(name, wire, size as u64 - 1);
            assert!(matches!(tight, Err(InflateError::TooLarge { .. })), "{name} {size}");
        }
    }
}

#[test]
fn a_bomb_of_any_coding_is_too_large() {
    let zeros = vec![0; 32 * 1024 * 1024];
    for (name, encode) in CODINGS {
        assert!(matches!(undo(name, encode(&zeros), PLENTY), Err(InflateError::TooLarge { .. })), "{name}");
    }
    let nested = gzip(&gzip(&zeros));
    assert!(matches!(undo("gzip, gzip", nested, PLENTY), Err(InflateError::TooLarge { .. })));
}

#[test]
fn an_endless_decoder_is_read_no_further_than_the_limit() {
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += buffer.len() as u64;
            Ok(buffer.len())
        }
    }
    let mut endless = Endless(0);
    let mut charge = Charge::unlimited();
    let mut output = Output { bytes: Vec::new(), max_bytes: PLENTY, charge: &mut charge };
    assert!(matches!(output.read(&mut endless), Err(Failure::TooLarge)));
    assert_eq!(endless.0, PLENTY + 1);
}

#[test]
fn a_snappy_block_that_claims_too_much_is_refused_before_anything_is_allocated_for_it() {
    // The length, as a varint, is the first thing in a block: this one claims 4 GiB - 1 and holds nothing.
    let claims = b"\xff\xff\xff\xff\x0f".to_vec();
    assert!(matches!(undo("snappy", claims, PLENTY), Err(InflateError::TooLarge { .. })));
}

#[test]
fn a_zstd_frame_that_asks_for_a_huge_window_is_refused() {
    // Magic, descriptor without content size, window of 2 GiB, an empty last block.
    let huge = b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00".to_vec();
    assert!(matches!(undo("zstd", huge, PLENTY), Err(InflateError::Corrupt { .. })));
    let modest = b"\x28\xb5\x2f\xfd\x00\x58\x01\x00\x00".to_vec();
    assert_eq!(undo("zstd", modest, PLENTY).unwrap(), "");
}

#[test]
fn takes_a_large_zstd_frame_of_one_segment() {
    let plain = vec![b'x'; 12 * 1024 * 1024];
    let mut encoder = ::zstd::bulk::Compressor::new(1).unwrap();
    encoder.set_parameter(::zstd::zstd_safe::CParameter::WindowLog(24)).unwrap();
    let wire = encoder.compress(&plain).unwrap();
    assert_eq!(undo("zstd", wire, 16 * PLENTY).unwrap().len(), plain.len());
}

#[test]
fn a_body_cut_anywhere_is_corrupt_and_never_a_shorter_body() {
    let plain: Vec<u8> = (0..600_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for (name, encode) in CODINGS {
        let wire = Bytes::from(encode(&plain));
        for len in 1..wire.len() {
            // Frames of snappy have no end mark: a stream of none is complete after its identifier.
            if wire.starts_with(SNAPPY_FRAMED_MAGIC) && len == SNAPPY_FRAMED_MAGIC.len() {
                continue;
            }
            let cut = undo(name, wire.slice(..len), PLENTY);
            assert!(matches!(cut, Err(InflateError::Corrupt { .. })), "{name} cut at {len}: {cut:?}");
        }
    }
}

#[test]
fn bytes_after_the_end_are_corrupt() {
    for (name, encode) in CODINGS {
        let mut wire = encode(&sample());
        wire.extend_from_slice(b"and more");
        assert!(matches!(undo(name, wire, PLENTY), Err(InflateError::Corrupt { .. })), "{name}");
    }
}

#[test]
fn a_damaged_checksum_is_corrupt() {
    for (name, encode) in [("gzip", gzip as Encode), ("deflate", zlib), ("snappy", snappy_framed)] {
        let mut wire = encode(&sample());
        // Framed snappy has its checksum behind the identifier and a chunk header, the others at the end.
        let at = if name == "snappy" { SNAPPY_FRAMED_MAGIC.len() + 4 } else { wire.len() - 5 };
        wire[at] ^= 0x55;
        assert!(matches!(undo(name, wire, PLENTY), Err(InflateError::Corrupt { .. })), "{name}");
    }
}

#[test]
fn an_error_names_the_coding_and_repeats_nothing_of_the_body() {
    let error = undo("zstd", "secret words", PLENTY).unwrap_err();
    assert_eq!(error.to_string(), "the body is not valid zstd: corrupt or cut short");
}

proptest! {
    #[test]
    fn what_was_encoded_comes_back(plain in prop::collection::vec(any::<u8>(), 0..20_000)) {
        for (name, encode) in CODINGS {
            prop_assert_eq!(undo(name, encode(&plain), PLENTY).unwrap(), plain.clone());
        }
    }

    #[test]
    fn no_bytes_panic_or_exceed_the_limit(wire in prop::collection::vec(any::<u8>(), 1..400)) {
        for (name, _) in CODINGS {
            if let Ok(body) = undo(name, wire.clone(), 1000) {
                prop_assert!(body.len() <= 1000);
            }
        }
    }
}

/// Twice the result is always enough, because a buffer doubles; less than the result never is.
#[test]
fn the_output_is_charged_before_it_takes_memory_and_exactly_in_the_end() {
    let plain = vec![b'x'; 300_000];
    for (name, encode) in CODINGS {
        let wire = Bytes::from(encode(&plain));
        let within = |capacity: usize| {
            let budget = Budget::new(capacity as u64);
            let mut charge = budget.charge();
            charge.grow(wire.len() as u64).unwrap();
            let codings = Codings::from_headers(&headers(&[name])).unwrap();
            let undone = codings.undo(wire.clone(), PLENTY, &mut charge);
            (undone, charge.bytes(), budget.used())
        };
        let (undone, charged, used) = within(wire.len() + 2 * plain.len());
        assert_eq!(
            (undone.unwrap(), charged, used),
            (Bytes::from(plain.clone()), 300_000, 300_000),
            "{name}"
        );
        let (undone, charged, used) = within(plain.len());
        let never_fits = Some(plain.len() as u64);
        assert!(
            matches!(undone, Err(InflateError::OverBudget(over)) if over == OverBudget { never_fits }),
            "{name}: {undone:?}"
        );
        assert!(charged <= 300_000 && used == charged, "{name}");
    }
}
