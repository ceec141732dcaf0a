//! What the log says about handshakes that fail: the first at once, then once a minute how many there were. Anyone
//! can make them fail, so that a line for each would let anyone fill a disk.

use std::io;
use std::time::Instant;

use rustls::AlertDescription::{BadCertificate, CertificateExpired, CertificateUnknown, UnknownCA};
use tracing::{debug, warn};

use crate::telemetry::LineLimit;
use crate::telemetry::logging::chain;

/// Handshakes that failed since the last line.
#[derive(Debug, Default)]
pub(super) struct Complaints(LineLimit);

// === impl Complaints ===

impl Complaints {
    /// A handshake failed.
    pub(super) fn note(&self, error: &io::Error, now: Instant) {
        let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            // Went away before it said anything, as health checks of load balancers do.
            debug!(error = %chain(error), "connection was lost during the TLS handshake");
            return;
        };
        let advice = advice(cause);
        debug!(error = %cause, advice, "TLS handshake failed");
        if let Some(left_out) = self.0.admit(now) {
            let failures = left_out.and_this_one();
            warn!(failures, error = %cause, advice, "TLS handshakes fail, this is the last of them");
        }
    }
}

fn advice(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidMessage(_) => "does the sender speak plain HTTP to this port?",
        rustls::Error::NoCertificatesPresented => {
            "server.tls.client_ca_file asks senders for a certificate, and this one showed none"
        }
        rustls::Error::InvalidCertificate(_) => {
            "the sender's certificate is not one of server.tls.client_ca_file"
        }
        rustls::Error::AlertReceived(
            UnknownCA | BadCertificate | CertificateUnknown | CertificateExpired,
        ) => "the sender does not trust the certificate of server.tls.cert_file",
        _ => "",
    }
}
