//! What the log says about handshakes that fail: of each cause the first at once, then once a minute how many there
//! were. Anyone can make them fail, so that a line for each would let anyone fill a disk.

use std::io;
use std::time::Instant;

use rustls::AlertDescription::{BadCertificate, CertificateExpired, CertificateUnknown, UnknownCA};
use tracing::{debug, warn};

use crate::telemetry::LineLimit;
use crate::telemetry::logging::chain;

/// Handshakes that failed since the last line, by cause: one sender's trouble must not hide another's.
#[derive(Debug, Default)]
pub(super) struct Complaints([LineLimit; Cause::COUNT]);

/// What an operator can do something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// What came is no TLS.
    NoTls,
    NoCertificate,
    UnknownCertificate,
    /// The sender does not trust ours.
    Distrust,
    Other,
}

// === impl Complaints ===

impl Complaints {
    /// A handshake failed.
    pub(super) fn note(&self, error: &io::Error, now: Instant) {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            // Went away before it said anything, as health checks of load balancers do.
            debug!(error = %chain(error), "connection lost during the TLS handshake");
            return;
        };
        let cause = Cause::of(error);
        let remedy = cause.remedy();
        debug!(%error, remedy, "TLS handshake failed");
        if let Some(suppressed) = self.0[cause as usize].admit(now) {
            let failures = suppressed.and_this_one();
            warn!(failures, last_error = %error, remedy, "TLS handshakes failing");
        }
    }
}

// === impl Cause ===

impl Cause {
    const COUNT: usize = Self::Other as usize + 1;

    fn of(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidMessage(_) => Self::NoTls,
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::InvalidCertificate(_) => Self::UnknownCertificate,
            rustls::Error::AlertReceived(
                UnknownCA | BadCertificate | CertificateUnknown | CertificateExpired,
            ) => Self::Distrust,
            _ => Self::Other,
        }
    }

    fn remedy(self) -> Option<&'static str> {
        match self {
            Self::NoTls => Some("does the sender speak plain HTTP to this port?"),
            Self::NoCertificate => {
                Some("server.tls.client_ca_file asks senders for a certificate, and this one showed none")
            }
            Self::UnknownCertificate => {
                Some("the sender's certificate is not one of server.tls.client_ca_file")
            }
            Self::Distrust => Some("the sender does not trust the certificate of server.tls.cert_file"),
            Self::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::logging::tests::Captured;

    #[test]
    fn each_cause_is_told_once_a_minute_whatever_else_fails() {
        let (captured, _guard) = Captured::start(tracing::Level::WARN, LogFormat::Text);
        let (complaints, now) = (Complaints::default(), Instant::now());
        let failure = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        for _ in 0..3 {
            complaints.note(&failure(rustls::Error::NoCertificatesPresented), now);
            complaints.note(&failure(rustls::Error::AlertReceived(UnknownCA)), now);
            complaints.note(&io::ErrorKind::UnexpectedEof.into(), now);
        }
        let text = captured.text();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("client_ca_file") && text.contains("does not trust"), "{text}");

        let later = now + std::time::Duration::from_secs(60);
        complaints.note(&failure(rustls::Error::NoCertificatesPresented), later);
        assert!(captured.text().lines().last().unwrap().contains("failures=3"), "{}", captured.text());
    }
}
