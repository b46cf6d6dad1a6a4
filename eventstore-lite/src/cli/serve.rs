//! No subcommand: starts the server and stops it at SIGTERM or SIGINT, or when a client says so.

use anyhow::Result;
use clap::CommandFactory;
use clap::error::ErrorKind;
use tokio::signal::unix::{SignalKind, signal};

use super::Arguments;
use crate::Server;
use crate::options::Options;

/// Ends as for an option that does not exist.
fn refuse(error: &anyhow::Error) -> ! {
    let mut command = Arguments::command();
    let error = command.error(ErrorKind::ValueValidation, format!("{error:#}"));
    error.exit()
}

pub(super) async fn run(options: Options) -> Result<()> {
    telemetry::init("eventstore-lite")?;
    let config = options.config(|name| std::env::var_os(name));
    let config = config.unwrap_or_else(|error| refuse(&error));
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let server = Server::serve(config).await?;
    tracing::info!(address = %server.address(), "listening");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = server.told_to_stop() => {}
    }
    tracing::info!("stopping");
    server.shutdown().await;
    Ok(())
}
