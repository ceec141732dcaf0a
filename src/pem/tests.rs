//! Valid and invalid files.

pub(crate) mod pki;

use super::*;
use crate::telemetry::logging::chain;

fn key_pem() -> String {
    rcgen::KeyPair::generate().unwrap().serialize_pem()
}

fn said<T: std::fmt::Debug>(result: Result<T, PemError>) -> String {
    chain(&result.unwrap_err()).to_string()
}

#[test]
fn a_file_can_contain_text_and_other_sections() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let both = format!("Subject: me\n{}\n{}", key_pem(), certified.cert.pem());
    assert_eq!(certificates(both.as_bytes()).unwrap(), [certified.cert.der().clone()]);
    private_key(both.as_bytes()).unwrap();
}

#[test]
fn each_kind_of_invalid_file_has_its_own_error() {
    assert!(said(certificates_in(Path::new("/nowhere/cert.pem"))).starts_with("cannot be read: "));
    assert!(said(certificates(key_pem().as_bytes())).contains("cert_file and key_file swapped?"));
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    assert!(said(private_key(certified.cert.pem().as_bytes())).contains("cert_file and key_file swapped?"));
    assert!(said(certificates(certified.cert.der())).contains("is binary (DER)"));
    assert!(said(private_key(&certified.signing_key.serialize_der())).contains("is binary (DER)"));
    assert_eq!(said(certificates(b"")), "holds no certificate");
    assert_eq!(said(private_key(b"hello")), "holds no private key");
    for mark in ["BEGIN ENCRYPTED PRIVATE KEY", "BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nx: "] {
        let encrypted = format!("-----{mark}-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
        assert!(said(private_key(encrypted.as_bytes())).contains("encrypted"), "{mark}");
    }
}

#[test]
fn a_key_that_was_pasted_into_one_line_is_not_repeated() {
    let one_line = key_pem().replace('\n', "\\n");
    let secret = one_line.split("\\n").nth(1).unwrap();
    let error = private_key(one_line.as_bytes()).unwrap_err();
    let said = format!("{} {error:?}", chain(&error));
    assert!(said.contains("not valid PEM") && !said.contains(secret), "{said}");
    // The parser's own error contains it.
    let bytes = format!("{:?}", secret.as_bytes());
    assert!(!said.contains(bytes.trim_matches(['[', ']'])), "{said}");
}

#[test]
fn the_end_of_validity_is_read_in_both_forms_of_a_date() {
    for (year, month, day, expected) in [
        (1999, 12, 31, "1999-12-31T00:00:00Z"),
        (2024, 2, 29, "2024-02-29T00:00:00Z"),
        (2049, 12, 31, "2049-12-31T00:00:00Z"),
        (2050, 1, 1, "2050-01-01T00:00:00Z"),
        (9999, 12, 30, "9999-12-30T00:00:00Z"),
    ] {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, month, day);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let end = end_of_validity(certificate.der()).unwrap();
        assert_eq!(jiff::Timestamp::from_second(end).unwrap().to_string(), expected);
        for length in 0..certificate.der().len() {
            let cut = CertificateDer::from(certificate.der()[..length].to_vec());
            assert_eq!(end_of_validity(&cut), None, "cut at {length}");
        }
    }
}
