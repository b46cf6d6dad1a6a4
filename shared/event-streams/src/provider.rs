//! The process's TLS provider: the vendor's client installs one with its first connection, even without TLS, and is dead
//! from then on if there already is one. So it goes first, at once and not in the background, and a program that was
//! faster is told.

use std::sync::OnceLock;

use eventstore::{Client, ClientSettings, Error};

use crate::error::ConnectError;

static INSTALLED: OnceLock<bool> = OnceLock::new();

pub(crate) fn install() -> Result<(), ConnectError> {
    if *INSTALLED.get_or_init(install_once) {
        Ok(())
    } else {
        Err(ConnectError::TlsProvider)
    }
}

/// Runs the client's initialisation to its end, on a thread with a runtime of its own since the caller's may not block.
fn install_once() -> bool {
    std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .is_ok_and(|runtime| runtime.block_on(initialised()))
    })
    .join()
    .unwrap_or(false)
}

/// A client that may try only once installs the provider and gives up before it has opened a socket. One that panicked
/// over an installed provider has closed its channel instead.
async fn initialised() -> bool {
    let Ok(settings) = "esdb://localhost?tls=false&maxDiscoverAttempts=1".parse::<ClientSettings>()
    else {
        return false;
    };
    match Client::new(settings) {
        Ok(client) => !matches!(client.server_info().await, Err(Error::ConnectionClosed)),
        Err(_) => false,
    }
}
