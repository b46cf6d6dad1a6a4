//! No subcommand: runs the server until SIGTERM, SIGINT, or a request of a client. SIGHUP reloads the certificate.

use anyhow::Result;
use clap::CommandFactory;
use clap::error::ErrorKind;
use tokio::signal::unix::{SignalKind, signal};

use super::Cli;
use crate::Server;
use crate::options::ServerArgs;

/// Exits like clap does for an invalid option.
fn refuse(error: &anyhow::Error) -> ! {
    let mut command = Cli::command();
    let error = command.error(ErrorKind::ValueValidation, format!("{error:#}"));
    error.exit()
}

pub(super) async fn run(options: ServerArgs) -> Result<()> {
    telemetry::init("eventstore-lite")?;
    let config = options.config(|name| std::env::var_os(name));
    let config = config.unwrap_or_else(|error| refuse(&error));
    let (mut terminate, mut interrupt, mut hangup) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
    );
    let server = Server::serve(config).await?;
    tracing::info!(address = %server.address(), "listening");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = server.stop_requested() => break,
            _ = hangup.recv() => reload_certificate(&server),
        }
    }
    tracing::info!("stopping");
    server.shutdown().await;
    Ok(())
}

fn reload_certificate(server: &Server) {
    match server.reload_certificate() {
        Ok(()) => {
            tracing::info!("a hangup stops nothing; with TLS, the certificate was reloaded");
        }
        Err(error) => {
            let error = format!("{error:#}");
            tracing::error!(
                error,
                "the certificate cannot be used; the one in use remains"
            );
        }
    }
}
