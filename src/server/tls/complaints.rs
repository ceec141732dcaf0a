//! What the log says about handshakes that fail: the first at once, then once a minute how many there were. Anyone
//! can make them fail, so that a line for each would let anyone fill a disk.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::AlertDescription::{BadCertificate, CertificateExpired, CertificateUnknown, UnknownCA};
use tracing::{debug, warn};

use crate::telemetry::logging::chain;

/// Between two lines.
const REMINDER: Duration = Duration::from_secs(60);

/// Handshakes that failed since the last line.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last_line: Option<Instant>,
    untold: u64,
}

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
        if let Some(failures) = self.0.lock().unwrap_or_else(PoisonError::into_inner).count(now) {
            warn!(failures, error = %cause, advice, "TLS handshakes fail, this is the last of them");
        }
    }
}

// === impl State ===

impl State {
    /// How many there are to tell of, if it is time to.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.last_line.is_some_and(|last| now.saturating_duration_since(last) < REMINDER) {
            return None;
        }
        self.last_line = Some(now);
        Some(std::mem::take(&mut self.untold))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_told_at_once_and_the_others_once_a_minute() {
        let mut state = State::default();
        let start = Instant::now();
        assert_eq!(state.count(start), Some(1));
        assert_eq!(state.count(start), None);
        assert_eq!(state.count(start + REMINDER / 2), None);
        assert_eq!(state.count(start + REMINDER), Some(3));
        assert_eq!(state.count(start + REMINDER), None);
    }
}
