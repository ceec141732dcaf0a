use http::{HeaderMap, HeaderName};

use super::*;
use crate::config::Secret;
use crate::receiver::webhook::signature::{NO_SECRET, Verifier, WRONG, sign};

/// `allow_unsigned` of a receiver.
#[derive(PartialEq, Eq)]
enum Unsigned {
    Refused,
    Accepted,
}

const FOO: &str = "773ba44693c7553d6ee20f61ea5d2757a9a4f4a44d2841ae4e95b52e4cd62db4";

fn verifier(secrets: &[&str], unsigned: Unsigned) -> Verifier {
    let secrets: Vec<Secret> = secrets.iter().map(|&secret| Secret::new(secret)).collect();
    Verifier::new(&SCHEME, &secrets, unsigned == Unsigned::Accepted)
}

fn headers(lines: &[&[u8]]) -> HeaderMap {
    lines
        .iter()
        .map(|line| (HeaderName::from_static(SCHEME.header), HeaderValue::from_bytes(line).unwrap()))
        .collect()
}

/// Verifies the body `foo` with these header lines, for a receiver with the secret `secret`.
fn foo(lines: &[&str]) -> Result<(), Unauthorized> {
    let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
    verifier(&["secret"], Unsigned::Refused).verify(&headers(&lines), b"foo")
}

fn signature(secret: &str, body: &[u8]) -> String {
    sign(secret.as_bytes(), body)
}

#[test]
fn matches_the_documented_vectors() {
    for (body, secret, v1) in [
        ("hello world", "secret", "734cc62f32841568f45715aeb9f4d7891324e6d948e4c6c60c0621cdac48623a"),
        ("lalala", "another-secret", "daa220016c8f29a8b214fbfc3671aeec2145cfb1e6790184ffb38b6d0425fa00"),
        (
            "an-important-request-payload",
            "hunter123",
            "9be2242094a9a8c00c64306f382a7f9d691de910b4a266f67bd314ef18ac49fa",
        ),
        ("foo", "secret", FOO),
    ] {
        let headers = headers(&[format!("v1={v1}").as_bytes()]);
        assert_eq!(
            verifier(&[secret], Unsigned::Refused).verify(&headers, body.as_bytes()),
            Ok(()),
            "{body}"
        );
    }
    assert_eq!(foo(&["v1=not-a-valid-signature"]), Err(UNREADABLE));
}

#[test]
fn rejects_a_wrong_secret_and_a_changed_body() {
    let headers = headers(&[format!("v1={FOO}").as_bytes()]);
    assert_eq!(verifier(&["Secret"], Unsigned::Refused).verify(&headers, b"foo"), Err(WRONG));
    assert_eq!(verifier(&["secret"], Unsigned::Refused).verify(&headers, b"foo\n"), Err(WRONG));
    assert_eq!(verifier(&["secret"], Unsigned::Refused).verify(&headers, b""), Err(WRONG));
}

#[test]
fn rejects_a_missing_header_and_a_list_without_a_readable_v1() {
    assert_eq!(foo(&[]), Err(MISSING));
    let odd = FOO.strip_prefix('7').unwrap();
    for list in [
        "".to_owned(),
        ",".to_owned(),
        ",,,=,".to_owned(),
        "=".to_owned(),
        "v1".to_owned(),
        "v1=".to_owned(),
        FOO.to_owned(),
        format!("={FOO}"),
        format!("v2={FOO}"),
        format!("v10={FOO}"),
        format!("V1={FOO}"),
        format!("v1 = {FOO}"),
        format!("v1=0x{FOO}"),
        format!("v1={odd}"),
        format!("v1={FOO}00"),
        format!("v1={FOO}="),
        format!("v1=\"{FOO}\""),
        format!("v1=g{odd}"),
        format!("sha256={FOO}"),
    ] {
        assert_eq!(foo(&[&list]), Err(UNREADABLE), "{list}");
    }
}

#[test]
fn finds_the_v1_among_other_and_broken_elements() {
    let upper = FOO.to_uppercase();
    let other = signature("other", b"foo");
    for list in [
        format!("v1={FOO}"),
        format!("v1={upper}"),
        format!("v1={FOO},v2=abc,v3="),
        format!("v2=00, v1={FOO}"),
        format!(" \tv1={FOO}\t , "),
        format!("nonsense,,=,v1=zz,v1={FOO}"),
        format!("v1={other},v1={FOO}"),
        format!("v1={FOO},v1={FOO}"),
    ] {
        assert_eq!(foo(&[&list]), Ok(()), "{list}");
    }
    assert_eq!(foo(&[&format!("v1={other},v1={other}")]), Err(WRONG));
}

#[test]
fn several_header_lines_are_one_list() {
    assert_eq!(foo(&["v2=00", &format!("v1={FOO}")]), Ok(()));
    assert_eq!(foo(&["v2=00", "v3=00"]), Err(UNREADABLE));
}

#[test]
fn a_header_that_is_not_ascii_is_rejected_or_read() {
    let refused = headers(&[b"v1=\xff\xfe\xe2\x82\xac"]);
    assert_eq!(verifier(&["secret"], Unsigned::Refused).verify(&refused, b"foo"), Err(UNREADABLE));
    let read = headers(&[&[b"v2=\xe2\x82\xac,v1=", FOO.as_bytes()].concat()]);
    assert_eq!(verifier(&["secret"], Unsigned::Refused).verify(&read, b"foo"), Ok(()));
}

#[test]
fn the_number_of_elements_is_limited_over_all_lines() {
    let most = vec!["v2=0"; MAX_ELEMENTS - 1].join(",") + &format!(",v1={FOO}");
    assert_eq!(foo(&[&most]), Ok(()));
    assert_eq!(foo(&[&format!("{most},")]), Err(TOO_LONG));
    assert_eq!(foo(&[&most, "v2=0"]), Err(TOO_LONG));
}

#[test]
fn any_of_several_secrets_is_accepted_during_rotation() {
    let rotating = verifier(&["new", "secret"], Unsigned::Refused);
    assert_eq!(rotating.verify(&headers(&[format!("v1={FOO}").as_bytes()]), b"foo"), Ok(()));
    let new = signature("new", b"foo");
    assert_eq!(rotating.verify(&headers(&[format!("v1={new}").as_bytes()]), b"foo"), Ok(()));
    let retired = signature("retired", b"foo");
    assert_eq!(rotating.verify(&headers(&[format!("v1={retired}").as_bytes()]), b"foo"), Err(WRONG));
}

#[test]
fn a_secret_may_be_of_any_length_and_any_letters() {
    for secret in ["s", "schlüssel – 鍵", &"long".repeat(1000)] {
        let header = format!("v1={}", signature(secret, b"foo"));
        let verified = verifier(&[secret], Unsigned::Refused).verify(&headers(&[header.as_bytes()]), b"foo");
        assert_eq!(verified, Ok(()), "{secret}");
    }
}

#[test]
fn without_secrets_requests_pass_only_if_unsigned_ones_are_allowed() {
    let signed_with_nothing = headers(&[format!("v1={}", signature("", b"foo")).as_bytes()]);
    for secrets in [&[][..], &[""]] {
        for headers in [&HeaderMap::new(), &signed_with_nothing] {
            assert_eq!(verifier(secrets, Unsigned::Refused).verify(headers, b"foo"), Err(NO_SECRET));
            assert_eq!(verifier(secrets, Unsigned::Accepted).verify(headers, b"foo"), Ok(()));
        }
    }
}

#[test]
fn even_with_allow_unsigned_a_present_signature_must_be_valid() {
    let both = verifier(&["secret"], Unsigned::Accepted);
    assert_eq!(both.verify(&HeaderMap::new(), b"foo"), Ok(()));
    assert_eq!(both.verify(&headers(&[format!("v1={FOO}").as_bytes()]), b"foo"), Ok(()));
    assert_eq!(both.verify(&headers(&[format!("v1={FOO}").as_bytes()]), b"bar"), Err(WRONG));
    assert_eq!(both.verify(&headers(&[b""]), b"foo"), Err(UNREADABLE));
}

proptest::proptest! {
    #[test]
    fn no_header_panics_or_passes(
        lines in proptest::collection::vec("(v1=)?[ -~\u{80}-\u{ff}]{0,80}(,v1=[0-9a-fA-F]{62,66})?", 0..4),
    ) {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        let verified = verifier(&["secret"], Unsigned::Refused).verify(&headers(&lines), b"foo");
        proptest::prop_assert!(verified.is_err());
    }
}
