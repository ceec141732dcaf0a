//! Rate-limited logging of failed handshakes: the first of each cause at once, then one line a minute with their number.
//! Anyone can cause failures, so a line for each would let anyone fill a disk.

use std::io;
use std::time::Instant;

use rustls::AlertDescription::{BadCertificate, CertificateExpired, CertificateUnknown, UnknownCA};
use tracing::{debug, warn};

use crate::telemetry::LineLimit;
use crate::telemetry::logging::chain;

/// Failed handshakes since the last line, by cause, so that one client's failures never hide another's.
#[derive(Debug, Default)]
pub(super) struct Complaints([LineLimit; HandshakeFault::COUNT]);

/// Cause of a failed handshake, as far as an operator can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HandshakeFault {
    /// The client does not speak TLS.
    NoTls,
    NoCertificate,
    UnknownCertificate,
    /// The client does not trust the relay's certificate.
    Distrust,
    Other,
}

// === impl Complaints ===

impl Complaints {
    /// Records a failed handshake.
    pub(super) fn note(&self, error: &io::Error, now: Instant) {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            // Closed without sending anything, as health checks of load balancers do.
            debug!(error = %chain(error), "connection lost during the TLS handshake");
            return;
        };
        let cause = HandshakeFault::of(error);
        let remedy = cause.remedy();
        debug!(%error, remedy, "TLS handshake failed");
        if let Some(suppressed) = self.0[cause as usize].admit(now) {
            let failures = suppressed.and_this_one();
            warn!(failures, last_error = %error, remedy, "TLS handshakes failing");
        }
    }
}

// === impl HandshakeFault ===

impl HandshakeFault {
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
    fn each_cause_is_logged_once_a_minute_independently() {
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
