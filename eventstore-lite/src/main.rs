//! Starts the server and stops it at SIGTERM or SIGINT, or when a client says so.

mod options;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use eventstore_lite::Server;
use options::Options;
use tokio::signal::unix::{SignalKind, signal};

/// An EventStoreDB-compatible server in one binary. Options are named as the real server's.
#[derive(Parser)]
#[command(version, about, after_help = options::ENVIRONMENT)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

/// Ends as for an option that does not exist.
fn refuse(error: &anyhow::Error) -> ! {
    let mut command = Arguments::command();
    let error = command.error(ErrorKind::ValueValidation, format!("{error:#}"));
    error.exit()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    telemetry::init("eventstore-lite")?;
    let config = Arguments::parse()
        .options
        .config(|name| std::env::var_os(name));
    let config = config.unwrap_or_else(|error| refuse(&error));
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let server = Server::start(config).await?;
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
