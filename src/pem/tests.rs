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
    assert_eq!(said(certificates(key_pem().as_bytes())), "holds no certificate");
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
