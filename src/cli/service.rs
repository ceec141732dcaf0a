//! Notifies the service manager (systemd, `Type=notify`) that the relay has started, and that it stops.
//!
//! In: the environment, in which `NOTIFY_SOCKET` names the socket of the service manager. Out: one datagram for each state.
//! Without the variable nothing is sent. Promises: never blocks; a failure is logged and changes nothing else.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

use tracing::warn;

use crate::config::Environment;

/// State of the service, as `sd_notify(3)` names it.
#[derive(Debug, Clone, Copy)]
pub(super) enum ServiceState {
    Ready,
    Stopping,
}

// === impl ServiceState ===

impl ServiceState {
    /// Notifies the service manager, if there is one.
    pub(super) fn notify(self, environment: &Environment) {
        let Some(socket) = environment.notify_socket() else { return };
        if let Err(error) = self.send(socket) {
            warn!(%error, "cannot notify the service manager");
        }
    }

    fn send(self, socket: &OsStr) -> io::Result<()> {
        let state: &[u8] = match self {
            Self::Ready => b"READY=1",
            Self::Stopping => b"STOPPING=1",
        };
        let sender = UnixDatagram::unbound()?;
        sender.set_nonblocking(true)?;
        #[cfg(target_os = "linux")]
        if let Some(name) = socket.as_bytes().strip_prefix(b"@") {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            sender.send_to_addr(state, &address)?;
            return Ok(());
        }
        sender.send_to(state, socket)?;
        Ok(())
    }
}
