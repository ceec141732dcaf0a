use http::{HeaderMap, HeaderName};

use super::*;
use crate::config::Secret;
use crate::receiver::webhook::signature::{NO_SECRET, Verifier, WRONG, sign};

/// The example in GitHub's documentation of webhook signatures.
const SECRET: &str = "It's a Secret to Everybody";
const BODY: &[u8] = b"Hello, World!";
const DIGEST: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

fn verify(secrets: &[&str], allow_unsigned: bool, lines: &[&[u8]]) -> Result<(), Unauthorized> {
    let secrets: Vec<Secret> = secrets.iter().map(|&secret| Secret::new(secret)).collect();
    let headers: HeaderMap = lines
        .iter()
        .map(|line| (HeaderName::from_static(SCHEME.header), HeaderValue::from_bytes(line).unwrap()))
        .collect();
    Verifier::new(&SCHEME, &secrets, allow_unsigned).verify(&headers, BODY)
}

#[test]
fn agrees_with_the_documented_example_under_any_of_the_secrets() {
    let line = format!("sha256={DIGEST}");
    assert_eq!(verify(&[SECRET], false, &[line.as_bytes()]), Ok(()));
    assert_eq!(verify(&["new", SECRET], false, &[line.as_bytes()]), Ok(()));
    assert_eq!(verify(&["new"], false, &[line.as_bytes()]), Err(WRONG));
    // The digits are a number, so their case does not matter.
    let upper = format!("sha256={}", DIGEST.to_uppercase());
    assert_eq!(verify(&[SECRET], false, &[upper.as_bytes()]), Ok(()));
}

#[test]
fn every_other_form_of_the_header_is_refused() {
    let odd = DIGEST.strip_prefix('7').unwrap();
    for line in [
        String::new(),
        "sha256=".to_owned(),
        DIGEST.to_owned(),
        format!("sha1={DIGEST}"),
        "sha1=0a4d55a8d778e5022fab701977c5d840bbc486d0".to_owned(),
        format!("SHA256={DIGEST}"),
        format!("sha256 ={DIGEST}"),
        format!("sha256= {DIGEST}"),
        format!(" sha256={DIGEST}"),
        format!("sha256={DIGEST} "),
        format!("sha256={odd}"),
        format!("sha256={DIGEST}00"),
        format!("sha256=0x{DIGEST}"),
        format!("sha256=g{odd}"),
        format!("sha256={DIGEST},sha256={DIGEST}"),
        format!("v1={DIGEST}"),
    ] {
        assert_eq!(verify(&[SECRET], false, &[line.as_bytes()]), Err(UNREADABLE), "{line:?}");
        // A signature that is present must be right even where unsigned requests are accepted.
        assert_eq!(verify(&[SECRET], true, &[line.as_bytes()]), Err(UNREADABLE), "{line:?}");
    }
    assert_eq!(verify(&[SECRET], false, &[b"sha256=\xff\xfe"]), Err(UNREADABLE));
}

#[test]
fn two_headers_are_refused_even_if_both_are_right() {
    let right = format!("sha256={DIGEST}");
    for other in [&right, "sha256=00", ""] {
        for lines in [[right.as_bytes(), other.as_bytes()], [other.as_bytes(), right.as_bytes()]] {
            assert_eq!(verify(&[SECRET], false, &lines), Err(REPEATED), "{other}");
        }
    }
}

#[test]
fn unsigned_requests_pass_only_where_they_are_allowed() {
    assert_eq!(verify(&[SECRET], false, &[]), Err(MISSING));
    assert_eq!(verify(&[SECRET], true, &[]), Ok(()));
    let of_nothing = format!("sha256={}", sign(b"", BODY));
    for secrets in [&[][..], &[""]] {
        assert_eq!(verify(secrets, false, &[of_nothing.as_bytes()]), Err(NO_SECRET));
        assert_eq!(verify(secrets, true, &[of_nothing.as_bytes()]), Ok(()));
    }
}

proptest::proptest! {
    #[test]
    fn no_header_panics_or_passes(line in "(sha256=)?[ -~\u{80}-\u{ff}]{0,80}|sha256=[0-9a-fA-F]{62,66}") {
        proptest::prop_assert!(verify(&[SECRET], false, &[line.as_bytes()]).is_err());
    }
}
