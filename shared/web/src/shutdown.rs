//! The signals that end a process, and the hangup that does not.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that SIGTERM or SIGINT cancels. From this call on, SIGHUP, which a closed terminal sends, does not end the
/// process. Needs a tokio runtime.
///
/// # Errors
/// If the operating system refuses the handlers.
pub fn on_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let token = CancellationToken::new();
    let shutdown = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => tracing::info!("a hangup stops nothing"),
            }
        }
        tracing::info!("shutting down");
        shutdown.cancel();
    });
    Ok(token)
}
